"""Servers over sockets that somebody else has made."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from network_ground import PATIENCE, Ground, ask, echo
from running import EXAMPLES, environment
from tls_ground import client_options, server_options

from edgevent import (
    Address,
    Client,
    DatagramClient,
    DatagramServer,
    ListenError,
    Message,
    Server,
    UsageError,
)

Make = Callable[..., socket.socket]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes sockets that are bound, and listen unless they are for datagrams."""
    made: list[socket.socket] = []

    def call(
        kind: int, where: Any, *, family: int = socket.AF_INET, listens: bool = True
    ) -> socket.socket:
        found = socket.socket(family, kind)
        made.append(found)
        if where is not None:
            found.bind(where)
        if listens and kind != socket.SOCK_DGRAM:
            found.listen()
        return found

    yield call
    for found in made:
        found.close()


def tcp(make: Make) -> socket.socket:
    return make(socket.SOCK_STREAM, ("127.0.0.1", 0))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
@pytest.mark.parametrize("is_abstract", [False, True])
def test_a_unix_socket_is_served_and_its_file_stays(
    ground: Ground, make: Make, tmp_path: Path, kind: int, is_abstract: bool
) -> None:
    path = f"{tmp_path}/here"
    sock = make(kind, f"\0{path}" if is_abstract else path, family=socket.AF_UNIX)
    server = ground.serve(echo(), None, socket=sock)
    scheme = "unix" if kind == socket.SOCK_STREAM else "unixseq"
    assert str(server.address) == f"{scheme}:{'@' if is_abstract else ''}{path}"
    assert server.addresses == [str(server.address)]
    with Client(server.address) as client:
        reply = client.request(Message("ECHO", {"text": "a"}), timeout=PATIENCE)
        assert reply["text"] == "a"
    server.close()
    assert Path(path).exists() != is_abstract


def test_a_tcp_socket_is_served_at_its_port(ground: Ground, make: Make) -> None:
    sock = tcp(make)
    port, descriptor = sock.getsockname()[1], sock.fileno()
    server = ground.serve(echo(), None, socket=sock)
    assert (server.port, sock.fileno()) == (port, -1)
    peer = ground.dial(server)
    ask(peer, "a")
    [accepted] = server.peers
    assert accepted.address == str(Address("tcp", *peer.getsockname()[:2]))
    for number in {descriptor, *(found.fileno() for found in server._listeners)}:
        if number in map(int, os.listdir("/proc/self/fd")):
            assert not os.get_inheritable(number)


def test_a_descriptor_is_closed_with_its_server(ground: Ground, make: Make) -> None:
    sock = tcp(make)
    where = sock.getsockname()
    server = ground.serve(echo(), f"tcp://127.0.0.1:{where[1]}", socket=sock.detach())
    ask(ground.dial(server), "a")
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where)


def test_tls_is_spoken_over_a_socket_when_that_is_asked(ground: Ground, make: Make) -> None:
    sock = tcp(make)
    address = f"tls://127.0.0.1:{sock.getsockname()[1]}"
    server = ground.serve(echo(), address, socket=sock, tls=server_options())
    assert server.addresses == [address]
    with Client(f"tls://localhost:{server.port}", tls=client_options()) as client:
        assert client.request(Message("ECHO", {"text": "a"}), timeout=PATIENCE)["text"] == "a"


def test_an_address_that_differs_is_told(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    sock = tcp(make)
    found = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
    with Server("tcp://127.0.0.1:1", socket=sock) as server:
        assert server.addresses == [found]
    text = f"tcp://127.0.0.1:1: the socket that was handed over is {found}, and has it"
    assert text in caplog.text


@pytest.mark.parametrize("is_unix", [False, True])
def test_datagrams_are_received_at_a_socket(
    ground: Ground, make: Make, tmp_path: Path, is_unix: bool
) -> None:
    path = tmp_path / "grams"
    if is_unix:
        sock = make(socket.SOCK_DGRAM, str(path), family=socket.AF_UNIX)
    else:
        sock = make(socket.SOCK_DGRAM, ("127.0.0.1", 0))
    made = DatagramServer(handler=echo(), socket=sock)
    assert sock.fileno() == -1
    server = ground.communicator.add_connection(made)
    with DatagramClient(server.addresses[0]) as client:
        client.send(Message("ECHO", {"text": "a", "room": "for the answer"}))
        assert client.receive(timeout=PATIENCE)["text"] == "a"
    server.close()
    assert path.exists() == is_unix


def test_a_multicast_group_is_joined(ground: Ground, make: Make) -> None:
    sock = make(socket.SOCK_DGRAM, ("239.255.77.77", 0))
    made = DatagramServer(
        socket=sock, handler=echo(), interface="127.0.0.1", allow_unauthenticated=True
    )
    with made as server:
        assert server.address == Address.parse(server.addresses[0])
        groups = Path("/proc/net/igmp").read_text(encoding="ascii")
        assert "4D4DFFEF" in groups


@pytest.mark.parametrize(
    ("kind", "where", "settings", "sentence"),
    [
        ("datagrams", None, {}, "udp://127.0.0.1:.* was handed over: see DatagramServer"),
        ("deaf", None, {}, "the socket that was handed over does not listen"),
        ("connected", None, {}, "a connected socket was handed over .Accept=yes"),
        ("unbound", None, {}, r"\(tcp\) is bound to no address"),
        ("netlink", None, {}, "of family 16 and type 3: TCP, UDP or a Unix socket was expected"),
        ("tcp", "unix:/run/x", {}, "unix:/run/x was expected, .* over is tcp://127.0.0.1:"),
        ("tcp", "udp://127.0.0.1:1", {}, "udp://127.0.0.1:1 was expected, and"),
        ("everywhere", None, {}, "neither loopback nor private needs allow_remote=True"),
        ("closed", None, {}, "socket -1: no such descriptor is open"),
        ("file", None, {}, "is no socket"),
    ],
)
def test_another_socket_is_refused_and_stays_open(
    make: Make, tmp_path: Path, kind: str, where: str | None, settings: Any, sentence: str
) -> None:
    inherited: Any
    other = None
    if kind == "datagrams":
        inherited = make(socket.SOCK_DGRAM, ("127.0.0.1", 0))
    elif kind == "deaf":
        inherited = make(socket.SOCK_STREAM, ("127.0.0.1", 0), listens=False)
    elif kind == "connected":
        inherited = make(socket.SOCK_STREAM, ("127.0.0.1", 0), listens=False)
        inherited.connect(tcp(make).getsockname())
    elif kind == "unbound":
        inherited = make(socket.SOCK_STREAM, None, listens=False)
    elif kind == "netlink":
        inherited = make(socket.SOCK_RAW, None, family=socket.AF_NETLINK, listens=False)
    elif kind == "everywhere":
        inherited = make(socket.SOCK_STREAM, ("0.0.0.0", 0))
    elif kind == "file":
        inherited = other = (tmp_path / "file").open("w")
    else:
        inherited = tcp(make)
    if kind == "closed":
        inherited.close()
    before = inherited.fileno() if kind != "closed" else -1
    with pytest.raises(ListenError, match=sentence):
        Server(where, socket=inherited, **settings)
    assert (-1 if kind == "closed" else inherited.fileno()) == before
    if other is not None:
        other.close()


def test_a_name_that_no_address_can_have_is_refused(make: Make, tmp_path: Path) -> None:
    sock = make(socket.SOCK_STREAM, f"\0{tmp_path}\0", family=socket.AF_UNIX)
    with pytest.raises(ListenError, match="the socket that was handed over: "):
        Server(socket=sock)
    assert sock.fileno() >= 0


def test_a_listening_socket_is_no_datagram_socket(make: Make) -> None:
    with pytest.raises(UsageError, match="see Server"):
        DatagramServer(socket=tcp(make))


def test_a_datagram_socket_that_all_can_reach_is_refused_and_stays_open(make: Make) -> None:
    sock = make(socket.SOCK_DGRAM, ("0.0.0.0", 0))
    with pytest.raises(ListenError, match="can be reached by others"):
        DatagramServer(socket=sock)
    sock.sendto(b"x", ("127.0.0.1", sock.getsockname()[1]))
    assert sock.recv(10) == b"x"


def test_an_interface_that_is_not_there_is_told_and_the_socket_stays_open(make: Make) -> None:
    sock = make(socket.SOCK_DGRAM, ("127.0.0.1", 0))
    with pytest.raises(ListenError, match=r"udp://127.0.0.1:\d+: .*"):
        DatagramServer(socket=sock, interface="nowhere0")
    with pytest.raises(UsageError, match="ttl 300"):
        DatagramServer(socket=sock, ttl=300)
    assert sock.fileno() >= 0


@pytest.mark.parametrize("server", [Server, DatagramServer])
def test_one_of_address_and_socket_is_needed(server: Any) -> None:
    with pytest.raises(UsageError, match="an address was expected, or socket= with a descriptor"):
        server()


@pytest.mark.parametrize("settings", [{"mode": 0o666}, {"group": 0}])
@pytest.mark.parametrize("server", [Server, DatagramServer])
def test_mode_and_group_are_for_who_has_made_the_file(
    make: Make, tmp_path: Path, settings: Any, server: Any
) -> None:
    kind = socket.SOCK_STREAM if server is Server else socket.SOCK_DGRAM
    sock = make(kind, f"{tmp_path}/here", family=socket.AF_UNIX)
    with pytest.raises(UsageError, match="who made the socket has said its file's mode and group"):
        server(socket=sock, **settings)
    assert sock.fileno() >= 0


def test_standard_input_may_be_the_socket(make: Make, tmp_path: Path) -> None:
    sock = tcp(make)
    program = (
        "from edgevent import *\n"
        "with Communicator() as communicator:\n"
        "    communicator.stop_on('SIGTERM')\n"
        "    communicator.add_connection(Server(socket=0))\n"
        "    communicator.run()\n"
        "import os; os.fstat(0)\n"
    )
    service = subprocess.Popen(
        [sys.executable, "-c", program], stdin=sock, env=environment(tmp_path)
    )
    try:
        with Client(f"tcp://127.0.0.1:{sock.getsockname()[1]}") as client:
            client.request(Message("HELP"), reply="COMMANDS", timeout=PATIENCE)
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=PATIENCE) == 0
    finally:
        service.kill()
        service.wait()


def test_systemd_starts_the_service_at_the_first_connection(
    tmp_path: Path, need_tool: Callable[..., str]
) -> None:
    activate = need_tool("systemd-socket-activate", package="systemd")
    path = tmp_path / "here.sock"
    words = [activate, "-l", str(path), "--fdname=here", *variables(tmp_path)]
    service = subprocess.Popen(
        [*words, sys.executable, str(EXAMPLES / "activated.py")],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with Client(f"unix:{path}", wait=True, connect_timeout=PATIENCE) as client:
            reply = client.request(Message("ADD", {"a": 2, "b": 40}), timeout=PATIENCE)
            assert reply["value"] == "42"
        service.send_signal(signal.SIGTERM)
        printed, said = service.communicate(timeout=PATIENCE)
    finally:
        service.kill()
        service.wait()
    assert (printed, service.returncode) == (f"here listens on unix:{path}\n", 0), said


def variables(folder: Path) -> list[str]:
    """Those that the program gets: systemd-socket-activate clears all but a few."""
    return [f"--setenv={name}={environment(folder)[name]}" for name in ("PYTHONPATH", "HOME")]
