"""A scripted peer, in both roles and over each kind of address, beside this package's own sides."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from network_ground import PATIENCE, Ground, echo, until

from edgevent import (
    Client,
    ConnectionLostError,
    DatagramServer,
    HandshakeError,
    Message,
    PermanentConnection,
    Server,
    UsageError,
)
from edgevent.testing.certificates import Certificates
from edgevent.testing.expecting import meets, shown
from edgevent.testing.scripted import ScriptedPeer

Make = Callable[..., ScriptedPeer]
Free = Callable[..., str]

STREAMS = ("tcp", "unix", "unixseq", "tls", "tls+unix", "fifo")
DATAGRAMS = ("udp", "unixgram")


def place_of(scheme: str, free_address: Free) -> str:
    if scheme != "fifo":
        return free_address(scheme)
    return f"{free_address(scheme)},{free_address(scheme).removeprefix('fifo:')}"


def swapped(address: str) -> str:
    """What the other side of two FIFOs dials."""
    if not address.startswith("fifo:"):
        return address
    first, second = address.removeprefix("fifo:").split(",")
    return f"fifo:{second},{first}"


def tls_of(scheme: str, certificates: Certificates) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a client and a server ask of TLS."""
    if not scheme.startswith("tls"):
        return {}, {}
    return {"tls": certificates.options()}, {"tls": certificates.server().options()}


def failure(call: Callable[[], object]) -> str:
    with pytest.raises(AssertionError) as caught:
        call()
    return str(caught.value)


@pytest.fixture
def pair(scripted_peer: Make) -> Iterator[tuple[ScriptedPeer, socket.socket]]:
    """A peer that listens, and a plain socket that has connected."""
    peer = scripted_peer(within=PATIENCE)
    port = int(peer.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(PATIENCE)
        peer.accept()
        yield peer, sock


# --- both roles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [*STREAMS, *DATAGRAMS])
def test_it_listens(
    scripted_peer: Make, free_address: Free, certificates: Certificates, scheme: str
) -> None:
    ours, theirs = tls_of(scheme, certificates)
    peer = scripted_peer(place_of(scheme, free_address), **theirs, within=PATIENCE)
    dialling = gevent.spawn(Client, peer.address, **ours)
    if scheme not in (*DATAGRAMS, "fifo"):  # of a FIFO's writers nothing is seen until they write
        peer.accept()
    with dialling.get(timeout=PATIENCE) as client:
        asking = gevent.spawn(client.request, Message("ADD", {"a": 2, "b": 3}))
        add = peer.expect("ADD a=2;b=*")
        peer.send(add.reply("SUM", {"value": add.integer("a") + add.integer("b")}), "NEWS")
        assert asking.get(timeout=PATIENCE)["value"] == "5"
        assert client.receive(PATIENCE).command == "NEWS"
        client.send(Message("LAST"))
        peer.expect("LAST")
    if scheme not in DATAGRAMS:
        assert peer.expect_end() == "closed"


@pytest.mark.parametrize("scheme", [*STREAMS, *DATAGRAMS])
def test_it_dials(
    ground: Ground,
    scripted_peer: Make,
    free_address: Free,
    certificates: Certificates,
    scheme: str,
) -> None:
    ours, theirs = tls_of(scheme, certificates)
    kind: Any = DatagramServer if scheme in DATAGRAMS else Server
    server = kind(place_of(scheme, free_address), echo(), **theirs)
    ground.communicator.add_connection(server)
    peer = scripted_peer(dial=swapped(server.addresses[0]), **ours, within=PATIENCE)
    peer.send("ECHO text=one", Message("ECHO", {"text": "two"}))
    peer.expect("ECHOED text=one")
    peer.expect({"text": "two"})
    peer.send("NONSENSE")
    peer.expect("UNKNOWN", {"command": "NONSENSE"})
    if scheme not in DATAGRAMS:
        peer.close()
        until(lambda: not server.peers)


def test_an_address_of_tls_needs_certificates() -> None:
    with pytest.raises(UsageError, match="tls= is needed"):
        ScriptedPeer("tls://127.0.0.1:0")


def test_a_handshake_that_fails_is_told(scripted_peer: Make, certificates: Certificates) -> None:
    peer = scripted_peer("tls://127.0.0.1:0", tls=certificates.expired().options(), within=PATIENCE)
    dialling = gevent.spawn(Client, peer.address, tls=certificates.options())
    assert "expected somebody to connect, but " in failure(peer.accept)
    with pytest.raises(HandshakeError, match="it has expired on"):
        dialling.get(timeout=PATIENCE)


def test_nobody_there_to_dial_is_an_error(free_address: Free) -> None:
    with pytest.raises(ConnectionRefusedError):
        ScriptedPeer(dial=free_address())


def test_a_program_of_another_process_finds_it(scripted_peer: Make) -> None:
    peer = scripted_peer(within=PATIENCE)
    port = peer.address.rpartition(":")[2]
    program = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))"
    command = [sys.executable, "-S", "-c", program + "; s.sendall(b'HI from=afar\\n')", port]
    subprocess.run(command, check=True, timeout=PATIENCE)  # the test's own greenlets stand still
    peer.expect("HI from=afar")
    peer.expect_end()


# --- what is expected -----------------------------------------------------------------------------

MESSAGE = Message.parse("<here:me there:sums/ADD a=2;b=x y;list=1;ok=true;serial=7")


@pytest.mark.parametrize(
    "wanted",
    [
        "*",
        "ADD",
        "A*",
        "sums/ADD".replace("sums", "there:sums"),
        "*/ADD b=x y",
        "ADD a=2",
        "ADD b=x*;a=2",
        re.compile(r"\bserial=\d"),
        {"a": 2, "ok": True, "b": "x y"},
        {"a": re.compile("[0-9]"), "b": ..., "c": None, "list": str.isdigit},
        lambda message: message.integer("a") == 2,
    ],
)
def test_a_message_is_what_was_expected(wanted: Any) -> None:
    assert meets(MESSAGE, wanted)


@pytest.mark.parametrize(
    ("wanted", "called"),
    [
        ("AD", "'AD'"),
        ("ADD a=3", "'ADD a=3'"),
        ("ADD c=*", "'ADD c=*'"),
        ("others/ADD", "'others/ADD'"),
        (re.compile("^ADD"), "what '^ADD' matches"),
        ({"a": 3, "b": ...}, "a message with a=3, b=anything"),
        ({"a": None}, "a message with a=nothing"),
        ({"c": ...}, "a message with c=anything"),
        ({"b": re.compile("x")}, "a message with b=re.compile('x')"),
        ({"b": str.isdigit}, "a message with b=isdigit"),
        (callable, "what callable takes"),
    ],
)
def test_a_message_is_not_what_was_expected(wanted: Any, called: str) -> None:
    if wanted is callable:
        assert not meets(MESSAGE, lambda message: message.get("c"))
    else:
        assert not meets(MESSAGE, wanted)
    assert shown(wanted) == called


def test_another_message_fails_and_shows_the_conversation(
    pair: tuple[ScriptedPeer, socket.socket],
) -> None:
    peer, sock = pair
    peer.send("HI", b"half")
    assert sock.recv(100) == b"HI\nhalf"
    sock.sendall(b"MOM\n" + b"X" * 300 + b"\n")
    text = failure(lambda: peer.expect("DAD", {"n": 1}))
    assert f"{peer.address}: expected 'DAD' with {{'n': 1}}, but this has come: MOM;" in text
    lines = [line.split(maxsplit=1)[1] for line in text.splitlines()[1:]]
    assert lines == ["** connected", "-> HI", "-> b'half'", "<- MOM"]
    assert "X... (300 characters)" in failure(lambda: peer.expect("DAD"))


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"", "nothing has come within 0.01 s; "),
        (b"HAL", "nothing has come within 0.01 s, but the half of a line: b'HAL'; "),
        (b"no message!\n", "a line has come that is no message: "),
    ],
)
def test_what_does_not_come_fails(
    pair: tuple[ScriptedPeer, socket.socket], sent: bytes, what: str
) -> None:
    peer, sock = pair
    sock.sendall(sent)
    assert what in failure(lambda: peer.expect("DAD", within=0.01 if sent[-1:] != b"\n" else None))


def test_messages_before_it_are_passed_over(pair: tuple[ScriptedPeer, socket.socket]) -> None:
    peer, sock = pair
    sock.sendall(b"ALIVE\nLOAD avg=1\nDONE n=1\nDONE n=2\n")
    peer.expect("DONE n=2", skip=True)


def test_any_line_can_be_read(pair: tuple[ScriptedPeer, socket.socket]) -> None:
    peer, sock = pair
    sock.sendall(b"220 hello, who are you?\n\n\xff\n")
    assert [peer.read_line() for _ in range(3)] == ["220 hello, who are you?", "", "\udcff"]


def test_nothing_is_expected(pair: tuple[ScriptedPeer, socket.socket]) -> None:
    peer, sock = pair
    peer.expect_nothing(within=0.0)
    peer.expect_nothing(within=0.01)
    sock.sendall(b"MOM\nDAD\n")
    assert "expected nothing, but something has come" in failure(
        lambda: peer.expect_nothing(within=PATIENCE)
    )
    assert "expected nothing, but something has come" in failure(peer.expect_nothing)
    peer.expect("MOM")
    peer.expect("DAD")
    sock.close()
    assert "but the connection has ended" in failure(peer.expect_nothing)


def test_nothing_comes_of_what_is_in_this_process(moved: Ground, scripted_peer: Make) -> None:
    server = moved.serve(echo())
    peer = scripted_peer(dial=server.addresses[0])
    peer.expect_nothing(within=0.0)
    peer.send("ECHO text=x")
    assert "-> ECHO text=x" in failure(lambda: peer.expect_nothing(within=0.0))
    peer.expect("ECHOED")


# --- ends -----------------------------------------------------------------------------------------


def test_the_end_is_expected(pair: tuple[ScriptedPeer, socket.socket]) -> None:
    peer, sock = pair
    assert "expected the end, but nothing has come" in failure(lambda: peer.expect_end(within=0.01))
    sock.sendall(b"MOM\n")
    assert "expected the end, but this has come: b'MOM" in failure(peer.expect_end)
    peer.expect("MOM")
    sock.sendall(b"HALF")
    sock.close()
    assert "the connection has ended after b'HALF'" in failure(peer.expect)


@pytest.mark.parametrize(
    ("scheme", "how"),
    [("tcp", "close"), ("tcp", "cut"), ("tls", "close"), ("tls", "cut"), ("tls", "truncate")],
)
def test_it_tells_how_the_other_one_has_ended(
    scripted_peer: Make, certificates: Certificates, scheme: str, how: str
) -> None:
    ours, theirs = tls_of(scheme, certificates)
    peer = scripted_peer(f"{scheme}://127.0.0.1:0", **theirs, within=PATIENCE)
    dialling = gevent.spawn(scripted_peer, dial=peer.address, **ours)
    peer.accept()
    other = dialling.get(timeout=PATIENCE)
    {"close": other.close, "cut": other.cut, "truncate": other.sock.close}[how]()
    assert peer.expect_end() == ("closed" if how == "close" else "cut")


@pytest.mark.parametrize("how", ["close", "cut"])
def test_what_needs_the_other_one_fails_when_it_has_gone(scripted_peer: Make, how: str) -> None:
    peer = scripted_peer(within=PATIENCE)
    other = scripted_peer(dial=peer.address)
    peer.accept()
    getattr(other, how)()
    gone = "the connection has ended" if how == "close" else "the connection was broken off"
    assert gone in failure(peer.expect)
    assert "the other side has gone" in failure(lambda: [peer.send("X" * 10) for _ in range(9)])


def test_it_cuts_a_client_off(scripted_peer: Make) -> None:
    peer = scripted_peer(within=PATIENCE)
    with Client(peer.address) as client:
        peer.accept()
        peer.cut()
        with pytest.raises(ConnectionLostError, match="reset"):
            client.receive(PATIENCE)


def test_after_half_of_the_end_it_listens(pair: tuple[ScriptedPeer, socket.socket]) -> None:
    peer, sock = pair
    peer.half_close()
    assert sock.recv(10) == b""
    sock.sendall(b"ANSWER\n")
    peer.expect("ANSWER")


@pytest.mark.parametrize("scheme", ["tls", "fifo"])
def test_an_end_of_one_direction_is_seen(
    scripted_peer: Make, free_address: Free, certificates: Certificates, scheme: str
) -> None:
    ours, theirs = tls_of(scheme, certificates)
    peer = scripted_peer(place_of(scheme, free_address), **theirs, within=PATIENCE)
    dialling = gevent.spawn(scripted_peer, dial=peer.address, **ours, within=PATIENCE)
    if scheme == "tls":
        peer.accept()
    other = dialling.get(timeout=PATIENCE)
    other.send("LAST")
    peer.expect("LAST")
    peer.send("WORD")
    peer.half_close()
    other.expect("WORD")
    assert other.expect_end() == "closed"


def test_a_link_is_let_in_again_without_a_word(ground: Ground, scripted_peer: Make) -> None:
    peer = scripted_peer(within=PATIENCE)
    link = PermanentConnection(peer.address, pauses="0.01")
    link.on_connected(lambda link: link.send(Message("REGISTER")))
    ground.communicator.add_connection(link)
    for _ in range(3):
        peer.expect("REGISTER")
        peer.close()
    peer.accept()
    link.close()
    peer.expect_nobody(within=0.0)
    peer.expect_nobody(within=0.01)
    peer.expect_nothing(within=0.0)  # nobody says nothing
    peer.stop_listening()
    peer.release()
    with pytest.raises(UsageError, match="this peer has stopped to listen"):
        peer.expect()
    assert "alone" in repr(peer)


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_nobody_is_expected_and_somebody_comes(
    scripted_peer: Make, certificates: Certificates, scheme: str
) -> None:
    _, theirs = tls_of(scheme, certificates)
    peer = scripted_peer(f"{scheme}://127.0.0.1:0", **theirs)
    other = scripted_peer(dial=peer.address.replace("tls:", "tcp:"))
    if scheme == "tls":
        other.send("no TLS")
    assert "expected nobody to connect, but somebody did" in failure(
        lambda: peer.expect_nobody(within=PATIENCE)
    )


def test_nobody_comes(scripted_peer: Make, tmp_path: Path) -> None:
    peer = scripted_peer(f"unix:{tmp_path}/there")
    assert "expected somebody to connect, but nobody did within 0.01 s" in failure(
        lambda: peer.accept(within=0.01)
    )
    peer.stop_listening()
    assert "(nothing)" in failure(
        lambda: scripted_peer(f"unix:{tmp_path}/there").expect(within=0.01)
    )


def test_who_takes_nothing_fails_a_send(scripted_peer: Make) -> None:
    peer = scripted_peer(within=0.05)
    other = scripted_peer(dial=peer.address)
    assert other.sock.getsockname() != peer.address
    text = failure(lambda: peer.send(b"x" * 50_000_000))
    assert "the other side takes nothing for 0.05 s" in text


@pytest.mark.parametrize("scheme", DATAGRAMS)
def test_datagrams_have_no_connection(scripted_peer: Make, free_address: Free, scheme: str) -> None:
    peer = scripted_peer(free_address(scheme))
    with pytest.raises(UsageError, match="nobody has sent a datagram yet"):
        peer.send("HI")
    with pytest.raises(UsageError, match="datagrams have no end"):
        peer.expect_end()
    with pytest.raises(UsageError, match="datagrams have no end"):
        peer.half_close()
    peer.expect_nothing(within=0.0)
    peer.accept()
    peer.cut()
    other = scripted_peer(dial=peer.address)
    other.send(b"")
    assert peer.read_line() == ""
    with pytest.raises(UsageError, match="this peer dials"):
        other.accept()


def test_what_has_no_socket_says_so(scripted_peer: Make, free_address: Free) -> None:
    with pytest.raises(UsageError, match="there is no connection with a socket"):
        scripted_peer(free_address("fifo")).sock  # noqa: B018
    with pytest.raises(UsageError, match="nobody can listen there"):
        scripted_peer("fd:0")


def test_a_place_that_is_taken_is_an_error(scripted_peer: Make, tmp_path: Path) -> None:
    peer = scripted_peer()
    with pytest.raises(OSError, match="in use"):
        scripted_peer(peer.address)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="in use"):
        scripted_peer(f"unix:{tmp_path}/file")
    assert (tmp_path / "file").exists()


def test_a_with_ends_it(free_address: Free) -> None:
    address = free_address()
    for _ in range(2):
        with ScriptedPeer(address) as peer, AbstractPeer(peer):
            peer.expect("HI")


class AbstractPeer(AbstractContextManager[Any]):
    """A second peer, which dials the first one and says HI."""

    def __init__(self, peer: ScriptedPeer) -> None:
        self.other = ScriptedPeer(dial=peer.address)
        self.other.send("HI")

    def __exit__(self, *of_an_error: object) -> None:
        self.other.release()
