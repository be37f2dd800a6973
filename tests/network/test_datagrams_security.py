"""Datagrams: who is heard, who is answered with what, and who is obeyed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from datagram_ground import ask, plain, serve
from network_ground import Ground, MovedClock, echo, until

from edgevent import (
    DatagramClient,
    DatagramPeer,
    DatagramServer,
    ListenError,
    Message,
    SigningKeyError,
    SigningKeys,
    UnknownCommandError,
)
from edgevent.signing import Guard

UDP = "udp://127.0.0.1:0"
KEYS = SigningKeys("a key of 16 bytes", "another key of 16")


# --- who may listen -------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["udp://0.0.0.0:0", "udp://:0", "udp://239.1.1.1:0"])
def test_beyond_loopback_a_code_or_a_key_is_needed(address: str) -> None:
    for settings in ({}, {"secret_code": ""}):
        with pytest.raises(ListenError, match="can be reached by others: secret_code= or auth= "):
            DatagramServer(address, **settings)
    for settings in ({"secret_code": "x"}, {"auth": KEYS}, {"allow_unauthenticated": True}):
        DatagramServer(address, **settings).close()


def test_loopback_needs_neither(tmp_path: Path) -> None:
    for address in (UDP, "udp://127.9.9.9:0", "udp://localhost:0", f"unixgram:{tmp_path}/s"):
        DatagramServer(address).close()


# --- the secret code ------------------------------------------------------------------------------


def test_without_the_code_nothing_is_acted_on_or_answered(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    seen: list[Message] = []

    def handler(message: Message, peer: DatagramPeer) -> Message:
        seen.append(message)
        return message.reply("GOT")

    server = serve(ground, UDP, handler, secret_code="sesame")
    with plain(server.addresses[0]) as sock:
        for line in (b"A", b"A secret_code=", b"A secret_code=sesam", b"HELP secret_code=Sesame"):
            sock.send(line)
        assert ask(sock, b"A secret_code=sesame;serial=4") == b"GOT secret_code=sesame;serial=4"
    assert seen == [Message("A", {"serial": 4})]  # the code itself is nothing for a handler
    assert server.counts == {"received": 5, "no_secret": 1, "wrong_secret": 3}
    assert len(logged("its secret code is wrong")) == 1
    assert logged("sesame") == []


def test_a_client_with_the_code_is_served(ground: Ground) -> None:
    server = serve(ground, UDP, echo(), secret_code="sesame")
    with DatagramClient(server.addresses[0], secret_code="sesame") as client:
        answer = client.request(Message("ECHO", {"text": "x"}))
        assert answer == Message("ECHOED", {"text": "x", "serial": answer["serial"]})
        with pytest.raises(UnknownCommandError):
            client.request(Message("NOSUCH"))
        assert not client.counts["no_secret"]


# --- signatures -----------------------------------------------------------------------------------


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.touch(0o600)
    path.write_text("a key of 16 bytes\n")
    return path


def test_signed_questions_get_signed_answers(ground: Ground, key_file: Path) -> None:
    seen: list[Message] = []
    service = echo()
    service.on("LOOK")(lambda message, peer: seen.append(message) or message.reply("SEEN"))
    server = serve(ground, UDP, service, auth=key_file)
    with DatagramClient(server.addresses[0], auth=str(key_file)) as client:
        answer = client.request(Message("LOOK", {"x": 1}))
    assert answer == Message("SEEN", {"serial": answer["serial"]})
    assert seen == [Message("LOOK", {"x": 1, "serial": answer["serial"]})]


def test_an_answer_that_is_not_signed_is_none(ground: Ground) -> None:
    server = serve(ground, UDP, echo())
    with DatagramClient(server.addresses[0], auth=KEYS) as client:
        client.send(Message("ECHO", {"text": "x"}))
        with pytest.raises(TimeoutError):
            client.request(Message("ECHO", {"text": "y"}), timeout=0.05)
        assert client.counts == {"received": 2, "unsigned": 2}


@pytest.mark.parametrize(
    "count", [pytest.param(10_000, id="commit"), pytest.param(100_000, marks=pytest.mark.slow)]
)
def test_forged_replayed_expired_and_truncated_ones_are_not_acted_on(
    moved: Ground, clock: MovedClock, count: int, logged: Callable[[str], list[str]]
) -> None:
    rng = random.Random(5)
    seen: list[str] = []

    def handler(message: Message, peer: DatagramPeer) -> Message:
        seen.append(message["n"])
        return message.reply("GOT", {"n": message["n"]})

    server = serve(moved, UDP, handler, auth=KEYS)
    mine, stranger = Guard(auth=KEYS, dates=clock), Guard(auth=SigningKeys("k" * 16), dates=clock)

    def good(n: object) -> bytes:
        return mine.seal(Message("DO", {"n": n}))

    with plain(server.addresses[0]) as sock:
        expired = good("expired")
        clock.advance(31.0)
        replayed = good("replayed")
        assert ask(sock, replayed)
        for number in range(count):
            kind = number % 5
            if kind == 0:
                sock.send(stranger.seal(Message("DO", {"n": number})))
            elif kind == 1:
                sock.send(replayed)
            elif kind == 2:
                sock.send(expired)
            elif kind == 3:
                sock.send(good("x" * 2000))
            else:
                data = bytearray(good(number))
                data[rng.randrange(3, len(data))] ^= 1
                sock.send(bytes(data))
            if number % 50 == 49:  # no more than the queue holds
                until(lambda: server.counts["received"] == number + 2)  # noqa: B023
        assert ask(sock, good("last")).startswith(b"GOT auth_nonce=")
    assert seen == ["replayed", "last"]
    counts = server.counts
    for reason in ("forged", "replayed", "expired", "truncated"):
        assert counts[reason] >= count // 5, reason
    assert sum(counts.values()) == 2 * counts["received"] - 2 == 2 * count + 2
    assert len(logged("dropped a datagram")) <= 7  # the clock stood still: once for each reason


def test_keys_are_changed_without_a_break(
    ground: Ground, key_file: Path, logged: Callable[[str], list[str]]
) -> None:
    server = serve(ground, UDP, echo(), auth=key_file)
    question = Message("ECHO", {"text": "x"})
    old, new = SigningKeys("a key of 16 bytes"), SigningKeys("a newer key of 16")
    with (
        DatagramClient(server.addresses[0], auth=old) as first,
        DatagramClient(server.addresses[0], auth=new) as second,
    ):
        with pytest.raises(TimeoutError):
            second.request(question, timeout=0.05)
        key_file.write_text("too short\n")
        assert not server.reload()
        assert len(logged("the keys in use stay: ")) == 1
        assert first.request(question)
        key_file.write_text("a key of 16 bytes\na newer key of 16\n")
        assert server.reload()
        assert first.request(question)
        second.send(question)
        until(lambda: server.counts["forged"] == 1 and server.counts["received"] == 4)
    with DatagramServer(UDP) as unkeyed:
        assert unkeyed.reload()


def test_a_file_of_keys_that_others_can_read_is_refused(key_file: Path) -> None:
    key_file.chmod(0o644)
    for kind in (DatagramServer, DatagramClient):
        with pytest.raises(SigningKeyError, match="mode 0644"):
            kind("udp://127.0.0.1:1", auth=key_file)


# --- from another machine -------------------------------------------------------------------------

# An address of the loopback interface that is no loopback address: as from another machine.
ELSEWHERE = "ip addr add 192.0.2.1/24 dev lo && ip addr add 192.0.2.2/24 dev lo"

PROGRAM = """
import gevent
from gevent import socket
from edgevent import *

service = Dispatcher()

@service.on("ECHO")
def echo(message, peer, size: int):
    return message.reply("E", {"x": "x" * size})

@service.on("MANY")
def many(message, peer):
    for _ in range(100):
        peer.send(Message("E"))
    return message.reply("E")

def start(**settings):
    server = DatagramServer("udp://192.0.2.1:0", service, **settings)
    communicator.add_connection(server)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("192.0.2.2", 0))
    sock.connect(("192.0.2.1", server.port))
    sock.setblocking(False)
    return server, sock

def exchange(server, sock, line):
    before = server.counts["received"]
    sock.send(line)
    while server.counts["received"] == before:
        gevent.sleep(0)
    gevent.sleep(0)
    answers = []
    while True:
        try:
            answers.append(sock.recv(2000))
        except BlockingIOError:
            return answers

communicator = Communicator()
"""

LENGTHS = """
import random
rng = random.Random(7)
server, sock = start(allow_unauthenticated=True)
answered = 0
for _ in range(500):
    line = b"ECHO size=%d;pad=" % rng.randint(0, 300) + b"p" * rng.randint(0, 300)
    answers = exchange(server, sock, line)
    assert sum(map(len, answers)) <= len(line), (line, answers)
    answered += len(answers)
for line in (b"MANY", b"MANY pad=" + b"p" * 40):
    answers = exchange(server, sock, line)
    assert 0 < sum(map(len, answers)) <= len(line), answers
print(answered, server.counts["longer_answer"])
"""


def test_no_answer_is_longer_than_its_question(own_network: Callable[[str, str], str]) -> None:
    answered, refused = own_network(PROGRAM + LENGTHS, ELSEWHERE).split()
    assert int(answered) > 50
    assert int(refused) > 50


RIGHTS = """
LINES = (b"NOSUCH ", b"ECHO ", b"HELP ", b"ECHO size=500;", b"ECHO size=0;pad=" + b"p" * 40 + b";")
for settings, proof in (
    ({"allow_unauthenticated": True}, b""),
    ({"allow_unauthenticated": True, "allow_control": True}, b""),
    ({"secret_code": "sesame"}, b"secret_code=sesame"),
):
    with Communicator() as communicator:
        server, sock = start(**settings)
        runner = gevent.spawn(communicator.run)
        for line in LINES:
            for answer in exchange(server, sock, line + proof):
                print(line.split(b";")[0].decode().strip(), "->", answer.decode())
        exchange(server, sock, b"STOP " + proof)
        print("closed" if server.is_closed else "runs on", server.counts["longer_answer"])
"""


def test_only_who_has_proved_itself_is_obeyed_and_told(
    own_network: Callable[[str, str], str],
) -> None:
    *open_to_all, first, second, third, fourth, fifth, last = own_network(
        PROGRAM + RIGHTS, ELSEWHERE
    ).splitlines()
    assert open_to_all == ["ECHO size=0 -> E x=", "runs on 2", "ECHO size=0 -> E x=", "closed 2"]
    assert first == "NOSUCH -> UNKNOWN command=NOSUCH;secret_code=sesame"
    assert second.startswith("ECHO -> INVALID command=ECHO;message=")
    assert third.startswith("HELP -> COMMANDS list=")
    assert fourth == f"ECHO size=500 -> E secret_code=sesame;x={'x' * 500}"
    assert (fifth, last) == ("ECHO size=0 -> E secret_code=sesame;x=", "closed 0")


# --- reply_to -------------------------------------------------------------------------------------


def test_reply_to_is_honoured_from_loopback_to_loopback(ground: Ground) -> None:
    server = serve(ground, UDP, echo())
    with plain(server.addresses[0]) as sock, plain(server.addresses[0]) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"
        sock.send(f"ECHO text=x;reply_to={where}".encode())
        assert other.recv(100) == b"ECHOED text=x"
        sock.send(f"ECHO text=y;reply_to=udp://{where}".encode())
        assert other.recv(100) == b"ECHOED text=y"


@pytest.mark.parametrize(
    "where",
    [
        "192.0.2.9:5",
        "localhost:5",
        "[::1]:5",
        "127.0.0.1:0",
        "239.1.1.1:5",
        "x",
        "tcp://127.0.0.1:5",
    ],
)
def test_another_reply_to_is_ignored(
    ground: Ground, where: str, logged: Callable[[str], list[str]]
) -> None:
    server = serve(ground, UDP, echo())
    with plain(server.addresses[0]) as sock:
        assert ask(sock, f"ECHO text=x;reply_to={where}".encode()) == b"ECHOED text=x"
    assert server.counts["reply_to"] == 1
    assert len(logged("its reply_to")) == 1


def test_reply_to_works_for_ipv6_and_is_nothing_on_unix_sockets(
    ground: Ground, tmp_path: Path
) -> None:
    unix = serve(ground, f"unixgram:{tmp_path}/s", echo())
    with plain(unix.addresses[0]) as sock:
        assert ask(sock, b"ECHO text=x;reply_to=127.0.0.1:5") == b"ECHOED text=x"
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this kernel has no IPv6")
    server = serve(ground, "udp://[::1]:0", echo())
    with plain(server.addresses[0]) as sock, plain(server.addresses[0]) as other:
        port = other.getsockname()[1]
        sock.send(f"ECHO text=x;reply_to=[::1]:{port}".encode())
        assert other.recv(100) == b"ECHOED text=x"


REPLY_TO = """
other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
other.bind(("192.0.2.2", 0))
other.setblocking(False)
for settings, proof in (
    ({"allow_unauthenticated": True}, b""),
    ({"secret_code": "s"}, b";secret_code=s"),
):
    server, sock = start(**settings)
    for where in (b"192.0.2.2:%d" % other.getsockname()[1], b"127.0.0.1:5"):
        line = b"ECHO size=0;reply_to=" + where + proof
        answers = exchange(server, sock, line)
        try:
            found = other.recv(100)
        except BlockingIOError:
            found = b""
        print(len(answers), found.decode(), server.counts["reply_to"])
"""


def test_from_elsewhere_reply_to_needs_a_proof(own_network: Callable[[str, str], str]) -> None:
    assert own_network(PROGRAM + REPLY_TO, ELSEWHERE).splitlines() == [
        "1  1",
        "1  2",
        "0 E secret_code=s;x= 0",
        "1  1",
    ]
