"""Peers that send nonsense, too much, too little, or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gevent import socket
from network_ground import Ground, MovedClock, read_all, read_lines, run_program, until

from edgevent import Dispatcher, LineConnection, Message, MessageConnection, limits
from edgevent.testing.clock import settle


@pytest.fixture
def heard() -> list[str]:
    """The commands that were dispatched."""
    return []


@pytest.fixture
def service(heard: list[str]) -> Dispatcher:
    """Notes each command, and answers ``OK``."""
    service = Dispatcher()

    @service.otherwise
    def note(message: Message, peer: Any) -> Message:
        heard.append(message.command)
        return Message("OK")

    return service


# --- lines that are no messages -----------------------------------------------------------------

NONSENSE = [
    (b"lower case", "lower case"),
    (b"A b=\xff\xfe;c", r"A b=\xff\xfe;c"),
    (b"=\x1b[2J\x07\r\n"[:-1], r"=\x1b[2J\x07\r"),
    (b"A " + b"x" * 100, "A " + "x" * 30),
    (b'{"command": 5', '{"command": 5'),
]


@pytest.mark.parametrize(("line", "shown"), NONSENSE)
def test_a_malformed_line_is_dropped_and_logged_once_with_its_first_bytes(
    ground: Ground,
    service: Dispatcher,
    heard: list[str],
    logged: Callable[[str], list[str]],
    line: bytes,
    shown: str,
) -> None:
    server = ground.serve(service)
    sock = ground.dial(server)
    sock.sendall(b"ONE\n" + line + b"\nTWO\n")
    assert read_lines(sock, 2) == [b"OK", b"OK"]
    assert heard == ["ONE", "TWO"]
    (said,) = logged("malformed")
    assert re.fullmatch(r"MessageConnection-\d+: dropped a malformed line: .*", said)
    assert said.endswith(f": {shown}")
    assert said.isprintable()
    assert server.peers[0].malformed_count == 1


SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "line",
    [
        f"{'A' * 30} password={SECRET};=5",
        f"{'A' * 30} password={SECRET};x",
        f"{'A' * 30} password=it's;{SECRET}",
        f"{'A' * 60} password=5;{SECRET} ",
        f'{"A" * 30} password="{SECRET}',
        f"{'A' * 30}{SECRET} a=b",
        f"<{'a' * 30}:{SECRET}-{SECRET} A",
        f"{'a' * 30}:{SECRET}-/A",
        f'{{"command": "A", "parameters": {{"password": "{SECRET}", "": ""}}}}',
        f'{{"command": "A",            "parameters": {{"password": "{SECRET}"',
        f"{'A' * 30} {SECRET}",
    ],
)
def test_what_a_malformed_line_holds_is_not_logged(
    ground: Ground, service: Dispatcher, logged: Callable[[str], list[str]], line: str
) -> None:
    sock = ground.dial(ground.serve(service))
    sock.sendall(f"{line}\nTWO\n".encode())
    assert read_lines(sock, 1) == [b"OK"]
    (said,) = logged("malformed")
    assert "unter2" not in said


def test_empty_lines_are_no_mistake(
    ground: Ground, service: Dispatcher, heard: list[str], logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(service)
    sock = ground.dial(server)
    sock.sendall(b"\n \n\r\n\t\nONE\r\n")
    assert read_lines(sock, 1) == [b"OK"]
    assert heard == ["ONE"]
    assert not logged("malformed")
    assert server.peers[0].malformed_count == 0


def test_ten_malformed_lines_within_a_minute_close_the_connection_alone(
    moved: Ground,
    clock: MovedClock,
    service: Dispatcher,
    heard: list[str],
    logged: Callable[[str], list[str]],
) -> None:
    server = moved.serve(service)
    good, bad = moved.dial(server), moved.dial(server)
    for _ in range(9):
        bad.sendall(b"no\n")
        settle()
        clock.advance(6.6)
    bad.sendall(b"ONE\nno\nTWO\n")
    assert read_all(bad) == b"OK\n"
    assert heard == ["ONE"]
    assert len(logged("dropped a malformed line")) == 10
    assert len(logged("closed: ")) == 1
    assert logged("10 malformed lines in a minute")
    good.sendall(b"ONE\n")
    assert read_lines(good, 1) == [b"OK"]
    assert server.counts["lost"] == 1


def test_ten_malformed_lines_in_more_than_a_minute_are_forgiven(
    moved: Ground, clock: MovedClock, service: Dispatcher
) -> None:
    server = moved.serve(service)
    sock = moved.dial(server)
    for _ in range(20):
        sock.sendall(b"no\n")
        settle()
        clock.advance(6.7)
    sock.sendall(b"ONE\n")
    assert read_lines(sock, 1) == [b"OK"]
    assert server.peers[0].malformed_count == 9


def test_a_hundred_malformed_lines_at_once_are_ten_log_lines(
    ground: Ground, service: Dispatcher, heard: list[str], logged: Callable[[str], list[str]]
) -> None:
    sock = ground.dial(ground.serve(service))
    sock.sendall(b"no\n" * 100 + b"ONE\n")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b""
    assert heard == []
    assert len(logged("dropped a malformed line")) == 10


def test_a_receiver_is_told_why_the_connection_ended(ground: Ground) -> None:
    said = []

    def conversation(connection: MessageConnection) -> None:
        try:
            for message in connection:
                said.append(message.command)
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")

    sock = ground.dial(ground.serve(conversation))
    sock.sendall(b"ONE\n" + b"no\n" * 10 + b"TWO\n")
    assert read_all(sock) == b""
    assert said[0] == "ONE"
    assert re.fullmatch(r"ConnectionLostError: .*: 10 malformed lines in a minute", said[1])
    assert len(said) == 2


def test_half_a_line_at_the_end_of_the_stream_is_dropped_with_a_word(
    ground: Ground, service: Dispatcher, heard: list[str], logged: Callable[[str], list[str]]
) -> None:
    sock = ground.dial(ground.serve(service))
    sock.sendall(b"ONE\nTWO a=" + b"\x07" * 100)
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b"OK\n"
    assert heard == ["ONE"]
    (said,) = logged("without a newline")
    assert said.endswith(": dropped 106 bytes without a newline: TWO a=" + r"\x07" * 26)


# --- lines that are too long --------------------------------------------------------------------


@pytest.mark.parametrize("size", [limits.MAX_LINE_BYTES, limits.MAX_LINE_BYTES + 1])
def test_the_longest_line_is_taken_and_a_longer_one_closes_the_connection(
    ground: Ground,
    service: Dispatcher,
    heard: list[str],
    logged: Callable[[str], list[str]],
    size: int,
) -> None:
    server = ground.serve(service)
    good, sock = ground.dial(server), ground.dial(server)
    sock.sendall(b"ONE\n" + b"LONG a=".ljust(size, b"x") + b"\nTWO\n")
    sock.shutdown(socket.SHUT_WR)
    answers = read_all(sock)
    if size == limits.MAX_LINE_BYTES:
        assert (answers, heard) == (b"OK\nOK\nOK\n", ["ONE", "LONG", "TWO"])
        assert not logged("over the limit")
    else:
        assert (answers, heard) == (b"OK\n", ["ONE"])
        assert len(logged("closed: ")) == len(logged("a line over the limit came")) == 1
    good.sendall(b"ONE\n")
    assert read_lines(good, 1) == [b"OK"]


FLOOD = """
import resource, socket, sys
import gevent
from edgevent import Address, Client, Communicator, Dispatcher, Message, Server

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

CLIENT = '''
import socket, sys
size, sent = int(sys.argv[3]), 0
sock = socket.socket(getattr(socket, sys.argv[1]))
sock.connect(eval(sys.argv[2]))
try:
    while sent < size:
        sent += sock.send(b"x" * 65536)
except ConnectionError:
    print("cut")
'''

def flood(size):
    address = Address.parse(server.addresses[0])
    family = "AF_UNIX" if address.is_unix else "AF_INET"
    where = address.path if address.is_unix else (address.host, address.port)
    command = [sys.executable, "-c", CLIENT, family, repr(where), str(size)]
    return gevent.subprocess.check_output(command)

import gevent.subprocess
with Communicator() as communicator:
    server = communicator.add_connection(Server(sys.argv[1], Dispatcher()))
    gevent.spawn(communicator.run)
    for _ in range(20):  # what such a peer costs once and for all
        flood(100_000)
    before = peak()
    assert flood(int(sys.argv[2])) == b"cut\\n"
    print(peak() - before)
"""


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize(
    "size", [64 << 20, pytest.param(1 << 30, marks=pytest.mark.slow)], ids=["64 MiB", "1 GiB"]
)
def test_a_flood_without_a_newline_is_cut_before_it_costs_memory(
    kind: str, size: int, tmp_path: Path
) -> None:
    address = "tcp://127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/s"
    grown = int(run_program(FLOOD, address, size))
    assert grown < 2 * limits.MAX_LINE_BYTES // 1024 + 4096


# --- peers that do not introduce themselves -----------------------------------------------------


def test_a_line_that_was_begun_must_be_completed_in_time(
    moved: Ground,
    clock: MovedClock,
    service: Dispatcher,
    heard: list[str],
    logged: Callable[[str], list[str]],
) -> None:
    server = moved.serve(service)
    sock = moved.dial(server)
    settle()
    clock.advance(60.0)  # it has sent nothing, which is no mistake
    for letter in b"ONE":
        sock.sendall(bytes((letter,)))
        settle()
        clock.advance(3.3)
    assert len(server.peers) == 1
    clock.advance(0.2)
    assert read_all(sock) == b""
    assert heard == []
    assert logged("closed: MessageConnection")[0].endswith("no complete line within 10 s")
    assert server.counts["lost"] == 1


def test_a_line_that_was_completed_in_time_ends_the_limit(
    moved: Ground, clock: MovedClock, service: Dispatcher
) -> None:
    server = moved.serve(service, must_introduce=True)
    sock = moved.dial(server)
    sock.sendall(b"ON")
    settle()
    clock.advance(9.9)
    sock.sendall(b"E\nTW")
    assert read_lines(sock, 1) == [b"OK"]
    clock.advance(600.0)  # only the first line has a limit
    sock.sendall(b"O\n")
    assert read_lines(sock, 1) == [b"OK"]
    assert len(clock.alarms) == 1  # the ground's own


@pytest.mark.parametrize("handler", ["dispatcher", LineConnection, "function"])
def test_a_peer_that_must_introduce_itself_and_is_silent_is_closed(
    moved: Ground, clock: MovedClock, service: Dispatcher, handler: Any
) -> None:
    def conversation(connection: MessageConnection) -> None:
        for message in connection:
            connection.send(message)

    handlers = {"dispatcher": service, "function": conversation}
    server = moved.serve(
        handlers.get(handler, handler), must_introduce=True, introduction_timeout=3.0
    )
    silent, dripping = moved.dial(server), moved.dial(server)
    dripping.sendall(b"O")
    until(lambda: len(server.peers) == 2)
    clock.advance(2.9)
    dripping.sendall(b"N")
    settle()
    assert len(server.peers) == 2
    clock.advance(0.2)
    assert read_all(silent) == b""
    assert read_all(dripping) == b""
    until(lambda: not server.peers)
    assert len(clock.alarms) == 1


def test_a_peer_that_leaves_before_its_limit_leaves_no_alarm(
    moved: Ground, clock: MovedClock, service: Dispatcher
) -> None:
    server = moved.serve(service, must_introduce=True)
    sock = moved.dial(server)
    sock.sendall(b"O")
    until(lambda: server.peers)
    sock.close()
    until(lambda: not server.peers)
    assert len(clock.alarms) == 1


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_peers_that_drip_are_cut_while_others_are_answered(
    moved: Ground, clock: MovedClock, service: Dispatcher, count: int
) -> None:
    server = moved.serve(service, max_connections=2 * count)
    good = moved.dial(server)
    drips = [moved.dial(server) for _ in range(count)]
    for _ in range(10):
        for sock in drips:
            sock.sendall(b"A")
        good.sendall(b"ONE\n")
        assert read_lines(good, 1) == [b"OK"]
        clock.advance(1.0)
    until(lambda: len(server.peers) == 1)
    for sock in drips:
        assert read_all(sock) == b""
    good.sendall(b"ONE\n")
    assert read_lines(good, 1) == [b"OK"]
    assert server.counts["lost"] == count


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"A" * 65_536, b"UNKNOWN command=" + b"A" * 253 + b"..."),
        (b"FAILS_" + b"A" * 65_530, b"INVALID command=FAILS_" + b"A" * 247 + b"...;id=.*"),
    ],
)
def test_a_command_as_long_as_a_line_is_answered(
    ground: Ground, line: bytes, answer: bytes
) -> None:
    service = Dispatcher()

    @service.on("FAILS_*")
    def fail(message: Message, peer: Any) -> None:
        raise ValueError

    sock = ground.dial(ground.serve(service))
    sock.sendall(line + b"\n")
    assert re.fullmatch(answer, read_lines(sock, 1)[0])


@pytest.mark.parametrize("line", [b"<:" + b"S" * 65_530 + b" FOO", b"ADD serial=" + b"S" * 65_525])
def test_an_answer_that_would_not_fit_harms_nobody(
    ground: Ground, logged: Callable[[str], list[str]], line: bytes
) -> None:
    service = Dispatcher()

    @service.on("ADD")
    def add(message: Message, peer: Any, a: int) -> None:
        """Never called."""

    sock = ground.dial(ground.serve(service))
    sock.sendall(line + b"\nFOO\n")
    assert read_lines(sock, 1) == [b"UNKNOWN command=FOO"]
    assert len(logged("is not answered")) == 1
