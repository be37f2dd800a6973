"""Descriptors that are open already: files, pipes, terminals and sockets, taken over as fd:N."""

from __future__ import annotations

import os
import pty
import sys
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket, subprocess
from network_ground import LONE, PATIENCE, ROOT, Ground, MovedClock, echo, run_program, until

from edgevent import (
    Address,
    AddressError,
    Client,
    ConnectError,
    ConnectionLostError,
    LineConnection,
    ListenError,
    Message,
    MessageConnection,
    PermanentConnection,
    Server,
    SlowConsumerError,
    StreamConnection,
    UsageError,
    connect,
)
from edgevent.testing.clock import settle
from edgevent.testing.exchange import Pull, push
from edgevent.transport import adopt as adopting
from edgevent.transport.dial import dial
from edgevent.transport.fd import FdTransport


def opened(path: Path | str, flags: int = os.O_RDONLY) -> str:
    """Opens a file; gives its address."""
    return f"fd:{os.open(path, flags)}"


class Collector(LineConnection):
    """Keeps the lines that it gets."""

    def __init__(self, address: Any, **settings: Any) -> None:
        super().__init__(address, **settings)
        self.lines: list[bytes] = []
        self.ends = 0

    def process_line(self, line: bytes) -> None:
        self.lines.append(line)

    def process_hup(self) -> None:
        self.ends += 1


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptor of each read."""
    made: list[int] = []
    read = os.read

    def count(descriptor: int, size: int) -> bytes:
        made.append(descriptor)
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", count)
    return made


# --- files ----------------------------------------------------------------------------------------


def test_a_file_is_read_to_its_end_and_no_further(
    ground: Ground, tmp_path: Path, reads: list[int]
) -> None:
    lines = [b"line %d" % n for n in range(50_000)]
    path = tmp_path / "file"
    path.write_bytes(b"\n".join(lines))
    found = ground.communicator.add_connection(Collector(opened(path)))
    until(lambda: found.is_closed)
    assert (found.lines, found.ends) == (lines, 1)
    assert len(reads) == path.stat().st_size // 65536 + 2
    settle()
    assert len(reads) == path.stat().st_size // 65536 + 2


@pytest.mark.parametrize("held_by", ["a receiver that does not come", "disabling"])
def test_a_file_is_not_read_while_nobody_wants_it(
    ground: Ground, tmp_path: Path, reads: list[int], held_by: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000 + b"\n")
    found = Collector(opened(path))
    if held_by == "disabling":
        found.enabled = False
        ground.communicator.add_connection(found)
    loop = gevent.get_hub().loop
    settle()
    before = loop.iteration
    gevent.sleep(0.02)
    assert loop.iteration - before < 20
    assert reads == []
    found.close()


def test_a_file_is_read_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthree\n")
    descriptor = os.open(path, os.O_RDONLY)
    os.lseek(descriptor, 4, os.SEEK_SET)
    with LineConnection(f"fd:{descriptor}") as found:
        assert list(found) == [b"two", b"three"]


def test_a_file_takes_all_that_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first\n")
    with connect(opened(path, os.O_WRONLY | os.O_APPEND)) as stream:
        for _ in range(100):
            stream.write(b"x" * 100_000)
    assert path.read_bytes() == b"first\n" + b"x" * 10_000_000


def test_what_can_only_be_written_to_keeps_no_loop_busy(ground: Ground, tmp_path: Path) -> None:
    found = ground.communicator.add_connection(
        StreamConnection(opened(tmp_path / "file", os.O_WRONLY | os.O_CREAT))
    )
    settle()
    before = gevent.get_hub().loop.iteration
    gevent.sleep(0.02)
    assert gevent.get_hub().loop.iteration - before < 20
    assert found.is_connected


def test_the_null_device_ends_at_once_and_takes_everything() -> None:
    with StreamConnection(opened("/dev/null")) as found:
        assert found.receive_or_end(PATIENCE) == b""
    with connect(opened("/dev/null", os.O_WRONLY)) as stream:
        stream.write(b"x" * 10_000_000)


# --- pipes ----------------------------------------------------------------------------------------


def test_a_pipe_is_read_to_its_end(ground: Ground) -> None:
    reader, writer = os.pipe()
    found = ground.communicator.add_connection(Collector(f"fd:{reader}"))
    os.write(writer, b"one\ntwo\nth")
    until(lambda: len(found.lines) == 2)
    os.write(writer, b"ree")
    os.close(writer)
    until(lambda: found.is_closed)
    assert (found.lines, found.ends) == ([b"one", b"two", b"three"], 1)


def test_a_pipe_whose_writer_has_left_before_is_read_to_its_end() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"one\ntwo")
    os.close(writer)
    with LineConnection(f"fd:{reader}") as found:
        assert list(found) == [b"one", b"two"]


def test_a_fifo_whose_writer_has_left_before_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    reader = os.open(tmp_path / "f", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    writer = os.open(tmp_path / "f", os.O_WRONLY)
    os.write(writer, b"one\ntwo")
    os.close(writer)
    with LineConnection(f"fd:{reader}") as found:
        assert list(found) == [b"one", b"two"]


def test_the_end_of_all_readers_is_the_end_of_a_pipe_that_is_written_to(ground: Ground) -> None:
    reader, writer = os.pipe()
    found = ground.communicator.add_connection(Collector(f"fd:{writer}"))
    found.write_line(b"sent")
    settle()
    assert os.read(reader, 100) == b"sent\n"
    assert found.is_connected
    os.close(reader)
    until(lambda: found.is_closed)
    assert found.ends == 1


def test_a_write_to_a_pipe_without_a_reader_is_an_error() -> None:
    reader, writer = os.pipe()
    with Client(f"fd:{writer}") as client:
        client.send(Message("ONE"))
        os.close(reader)
        settle()  # what is sent at once with it would be joined, and its loss told in the log
        with pytest.raises(ConnectionLostError, match=rf"sending to fd:{writer} failed: Broken"):
            client.send(Message("TWO"))


def test_a_pipe_that_nobody_reads_is_a_slow_consumer(clock: MovedClock) -> None:
    reader, writer = os.pipe()
    found = StreamConnection(f"fd:{writer}", clock=clock)
    sent = gevent.spawn(found.write, b"x" * 100_000)
    sent.get(timeout=PATIENCE)
    clock.advance(11.0)
    with pytest.raises(SlowConsumerError, match=rf"fd:{writer} is a slow consumer"):
        found.write(b"more")
    found.close()
    os.close(reader)


FLOOD = """
import os, sys, threading
from edgevent import LineConnection, LineTooLongError

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

def flood(size):
    reader, writer = os.pipe()
    chunk = b"x" * 65536
    def write():
        try:
            for _ in range(size // len(chunk)):
                os.write(writer, chunk)
            print("all was taken")
        except BrokenPipeError:
            pass
        os.close(writer)
    thread = threading.Thread(target=write)
    found = LineConnection(f"fd:{reader}")
    thread.start()
    try:
        found.receive()
    except LineTooLongError:
        found.close()
    thread.join()

for _ in range(5):
    flood(1 << 20)
before = peak()
flood(int(sys.argv[1]))
print(peak() - before)
"""


@pytest.mark.parametrize(
    "size", [64 << 20, pytest.param(1 << 30, marks=pytest.mark.slow)], ids=["64 MiB", "1 GiB"]
)
def test_a_flood_without_a_newline_is_cut_before_it_costs_memory(size: int) -> None:
    assert int(run_program(FLOOD, size)) < 2 * 64 + 4096


# --- terminals ------------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The master and the slave of a pty that changes nothing on the way."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, slave
    for descriptor in (master, slave):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_both_sides_of_a_terminal_speak(ground: Ground, terminal: tuple[int, int]) -> None:
    master, slave = (dial(Address.parse(f"fd:{number}")) for number in terminal)
    ground.communicator.add_connection(MessageConnection(slave, echo()))
    with StreamConnection(master) as near:
        for text in (b"one", b"two"):
            near.write(b"ECHO text=" + text + b"\n")
            assert near.receive(PATIENCE) == b"ECHOED text=" + text + b"\n"


def test_a_closed_slave_is_the_end_for_its_master(terminal: tuple[int, int]) -> None:
    master = LineConnection(f"fd:{terminal[0]}")
    os.write(terminal[1], b"one\ntwo\n")
    os.close(terminal[1])
    assert list(master) == [b"one", b"two"]
    master.close()


def test_a_closed_master_is_the_end_for_its_slave(
    ground: Ground, terminal: tuple[int, int]
) -> None:
    found = ground.communicator.add_connection(Collector(f"fd:{terminal[1]}"))
    os.write(terminal[0], b"one\n")
    until(lambda: found.lines)
    os.close(terminal[0])
    until(lambda: found.is_closed)
    assert found.ends == 1


def test_much_goes_through_a_terminal_both_ways(terminal: tuple[int, int]) -> None:
    master, slave = (dial(Address.parse(f"fd:{number}")) for number in terminal)
    data = os.urandom(100_000)
    pulls = [Pull(slave), Pull(master)]
    sending = [gevent.spawn(push, side, data) for side in (master, slave)]
    gevent.joinall(sending, raise_error=True)
    for pull in pulls:
        pull.wait_for(data)
    master.close()
    slave.close()


# --- sockets --------------------------------------------------------------------------------------


def test_a_connected_socket_is_taken_over_with_its_peer(ground: Ground) -> None:
    here, there = socket.socketpair()
    ground.communicator.add_connection(MessageConnection(f"fd:{there.detach()}", echo()))
    with Client(f"fd:{here.detach()}") as client:
        assert client.request(Message("ECHO", {"text": "taken"}))["text"] == "taken"
        assert client.credentials is not None
        assert client.credentials.pid == os.getpid()


def test_a_tcp_socket_is_taken_over_with_its_peer(ground: Ground) -> None:
    server = ground.serve(echo())
    sock = ground.dial(server)
    with StreamConnection(f"fd:{os.dup(sock.fileno())}") as found:
        assert found.address == server.addresses[0]
        found.write(b"ECHO text=x\n")
        assert found.receive(PATIENCE) == b"ECHOED text=x\n"


# --- what others share ----------------------------------------------------------------------------


def pipe_ends() -> tuple[int, int]:
    return os.pipe()


def pipe_ends_turned() -> tuple[int, int]:
    reader, writer = os.pipe()
    return writer, reader


def sockets() -> tuple[int, int]:
    one, other = socket.socketpair()
    return one.detach(), other.detach()


def slave_and_master() -> tuple[int, int]:
    master, slave = pty.openpty()
    return slave, master


@pytest.mark.parametrize("make", [pipe_ends, pipe_ends_turned, sockets, slave_and_master])
def test_what_others_share_stays_as_it_was(make: Callable[[], tuple[int, int]]) -> None:
    descriptor, far = make()
    others = os.dup(descriptor)  # of the same file description
    os.set_blocking(others, True)
    found = dial(Address.parse(f"fd:{descriptor}"))
    assert os.get_blocking(others)
    found.close()
    os.close(others)
    os.close(far)


def test_the_flag_of_a_file_that_cannot_be_opened_anew_is_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adopting, "_open_anew", lambda *arguments: None)
    reader, writer = os.pipe()
    others = os.dup(reader)
    first, second = (dial(Address.parse(f"fd:{one}")) for one in (reader, os.dup(others)))
    assert not os.get_blocking(others)
    first.close()
    assert not os.get_blocking(others)  # the second one still needs it
    second.close()
    assert os.get_blocking(others)
    os.set_blocking(others, False)  # by somebody else: it stays
    dial(Address.parse(f"fd:{os.dup(others)}")).close()
    assert not os.get_blocking(others)
    os.close(others)
    os.close(writer)


AT_EXIT = """
import os, sys
from edgevent import StreamConnection
StreamConnection(f"fd:{sys.argv[1]}")
print(os.get_blocking(int(sys.argv[1])))
"""


def test_the_flag_is_taken_back_at_exit(terminal: tuple[int, int]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AT_EXIT, str(terminal[0])],
        pass_fds=[terminal[0]],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.stdout, done.stderr) == (b"False\n", b"")
    assert os.get_blocking(terminal[0])


# --- standard input -------------------------------------------------------------------------------

LINES = (
    LONE
    + """
import os
from edgevent import LineConnection
with LineConnection("fd:0") as lines:
    for line in lines:
        print("got", line.decode(), flush=True)
print("end", os.readlink("/proc/self/fd/0"))
"""
)


def run_lines(command: str, folder: Path) -> str:
    (folder / "lines.py").write_text(LINES)
    done = subprocess.run(
        ["sh", "-c", command.replace("SCRIPT", f"{sys.executable} lines.py")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    return str(done.stdout)


@pytest.mark.parametrize(
    "command",
    [
        "printf 'a\\nb\\nc' | SCRIPT",
        "(echo a; sleep 0.05; echo b; sleep 0.05; echo c) | SCRIPT",
        "printf 'a\\nb\\nc' > file; SCRIPT < file",
        "mkfifo f; printf 'a\\nb\\nc' > f & SCRIPT < f",
        "printf 'x\\na\\nb\\nc' > file; (read x; SCRIPT) < file",
        "SCRIPT <<'END'\na\nb\nc\nEND",
        "printf 'a\\nb\\nc\\n' | SOCAT -t 20 - EXEC:'SCRIPT'",
    ],
)
def test_a_script_gets_the_lines_of_its_input(
    command: str, tmp_path: Path, need_tool: Callable[..., str]
) -> None:
    if "SOCAT" in command:
        command = command.replace("SOCAT", need_tool("socat", package="socat"))
    assert run_lines(command, tmp_path) == "got a\ngot b\ngot c\nend /dev/null\n"


def test_a_script_in_a_terminal_gets_lines_until_control_d(tmp_path: Path) -> None:
    (tmp_path / "lines.py").write_text(LINES)
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "lines.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=slave,
        stdout=subprocess.PIPE,
    ) as script:
        os.close(slave)
        for line, printed in ((b"one\n", b"got one\n"), (b"two\n\x04", b"got two\n")):
            os.write(master, line)
            assert script.stdout.readline() == printed
        assert script.stdout.read() == b"end /dev/null\n"
    os.close(master)


# --- what cannot be taken over --------------------------------------------------------------------


def make_closed() -> int:
    descriptor = os.open("/dev/null", os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def make_socket(kind: int, *, listens: bool = False) -> int:
    sock = socket.socket(socket.AF_INET, kind)
    if listens:
        sock.listen()
    return int(sock.detach())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_closed, ": no such descriptor is open"),
        (lambda: os.open("/", os.O_RDONLY), " is no stream, but a folder or the like"),
        (lambda: os.open("/dev/null", os.O_PATH), " is no stream, but a folder or the like"),
        (
            lambda: make_socket(socket.SOCK_STREAM, listens=True),
            " is a listening socket: a connected one was expected",
        ),
        (
            lambda: make_socket(socket.SOCK_DGRAM),
            " is a socket of another kind: a stream was expected",
        ),
        (
            lambda: make_socket(socket.SOCK_STREAM),
            ": Transport endpoint is not connected",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_named(make: Callable[[], int], reason: str) -> None:
    number = make()
    with pytest.raises(ConnectError) as raised:
        StreamConnection(f"fd:{number}")
    assert str(raised.value) == f"fd:{number}{reason}"
    if make is not make_closed:
        os.close(number)  # it stays the caller's


def test_the_direction_is_the_descriptors_own() -> None:
    reader, writer = os.pipe()
    with pytest.raises(UsageError, match=rf"fd:{reader} is not open for access='write'"):
        StreamConnection(f"fd:{reader}", access="write")
    source, sink = StreamConnection(f"fd:{reader}"), StreamConnection(f"fd:{writer}")
    with pytest.raises(ConnectionLostError, match="this side only reads it"):
        source.write(b"x")
    sink.write(b"sent")
    assert source.receive(PATIENCE) == b"sent"
    sink.close()
    source.close()


def test_a_fifo_that_is_open_for_both_is_read_and_never_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    with LineConnection(opened(tmp_path / "f", os.O_RDWR)) as found:
        for line in (b"one", b"two"):
            with open(tmp_path / "f", "wb", 0) as writer:
                writer.write(line + b"\n")
            assert found.receive(PATIENCE) == line
        with pytest.raises(ConnectionLostError, match="this side only reads it"):
            found.write(b"x")
    with StreamConnection(opened(tmp_path / "f", os.O_RDWR), access="write") as found:
        found.write(b"x")


def test_a_descriptor_is_neither_dialled_again_nor_listened_to() -> None:
    with pytest.raises(AddressError, match=r"an address of scheme tcp, .* was expected"):
        PermanentConnection("fd:0")
    with pytest.raises(ListenError, match="a descriptor has one peer"):
        Server("fd:0")
    here, there = socket.socketpair()
    with here, there, pytest.raises(UsageError, match="is a socket, which goes both ways"):
        StreamConnection(f"fd:{here.fileno()}", access="read")


def test_a_transport_shows_what_it_is() -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    source, sink = FdTransport(reader, -1, peer="fd:7"), FdTransport(-1, writer, peer="fd:8")
    assert repr(source) == "<FdTransport fd:7 open>"
    assert (source.fileno(), sink.fileno()) == (reader, writer)
    sink.shutdown_write()
    sink.shutdown_write()
    assert sink.receive(10) == b""  # nothing can come any more
    assert source.receive(10) == b""
    for one in (source, sink):
        one.close()
        assert one.fileno() == -1
    assert repr(sink) == "<FdTransport fd:8 closed>"
