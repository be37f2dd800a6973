"""``connect``: a plain blocking stream, for code that speaks a protocol of its own."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from network_ground import PATIENCE, MovedClock, read_all, run_program, until

from edgevent import (
    AddressError,
    ClosedError,
    ConnectError,
    ConnectionLostError,
    LineTooLongError,
    ReceiveTimeout,
    Stream,
    UsageError,
    connect,
    limits,
)
from edgevent.testing.clock import settle

Both = tuple[Stream, socket.socket]


@pytest.fixture(params=["tcp", "unix"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """An address, and what takes the next connection to it."""
    if request.param == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        address = f"unix:{tmp_path}/s"
    else:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    listener.listen()
    taken = []

    def take() -> socket.socket:
        sock, _ = listener.accept()
        sock.settimeout(PATIENCE)
        taken.append(sock)
        return sock

    yield address, take
    for sock in taken:
        sock.close()
    listener.close()


@pytest.fixture
def both(listening: tuple[str, Any], clock: MovedClock) -> Iterator[Both]:
    """A stream on the moved clock, and the peer's socket."""
    address, take = listening
    with connect(address, clock=clock) as stream:
        yield stream, take()


# --- reading ------------------------------------------------------------------------------------


def test_read_gives_what_is_there_and_then_the_end(both: Both) -> None:
    stream, sock = both
    sock.sendall(b"hello world")
    assert stream.read(5) == b"hello"
    assert stream.read() == b" world"
    reading = gevent.spawn(stream.read)
    settle()
    assert not reading.ready()
    sock.sendall(b"!")
    assert reading.get(timeout=PATIENCE) == b"!"
    sock.shutdown(socket.SHUT_WR)
    assert stream.read() == b""
    assert stream.read() == b""


@pytest.mark.parametrize("size", [0, -1])
def test_a_read_of_nothing_is_a_mistake(both: Both, size: int) -> None:
    with pytest.raises(UsageError, match=f"size={size}: at least 1 was expected"):
        both[0].read(size)


def test_read_line_gives_lines_with_their_newlines(both: Both) -> None:
    stream, sock = both
    sock.sendall(b"one\ntwo\r\n\nlast")
    sock.shutdown(socket.SHUT_WR)
    assert [stream.read_line() for _ in range(6)] == [
        b"one\n",
        b"two\r\n",
        b"\n",
        b"last",
        b"",
        b"",
    ]


def test_lines_and_bytes_may_be_mixed(both: Both) -> None:
    stream, sock = both
    sock.sendall(b"5\n12345next\n")
    assert stream.read_line() == b"5\n"
    assert stream.read(5) == b"12345"
    assert stream.read_line() == b"next\n"


def test_a_read_has_a_limit(both: Both, clock: MovedClock) -> None:
    stream, sock = both
    reading = gevent.spawn(stream.read, timeout=2.0)
    settle()
    clock.advance(1.9)
    assert not reading.ready()
    clock.advance(0.2)
    with pytest.raises(ReceiveTimeout):
        reading.get(timeout=PATIENCE)
    sock.sendall(b"late")
    assert stream.read(timeout=2.0) == b"late"


def test_the_limit_of_a_line_is_for_the_whole_line_and_loses_nothing(
    both: Both, clock: MovedClock
) -> None:
    stream, sock = both
    reading = gevent.spawn(stream.read_line, timeout=2.0)
    settle()
    for letter in (b"a", b"b", b"c"):  # each would be in time for a wait of its own
        sock.sendall(letter)
        settle()
        assert not reading.ready()
        clock.advance(0.7)
    with pytest.raises(ReceiveTimeout):
        reading.get(timeout=PATIENCE)
    sock.sendall(b"d\n")
    assert stream.read_line() == b"abcd\n"


@pytest.mark.parametrize("at_once", [True, False])
def test_a_line_over_the_limit_closes_the_stream(listening: tuple[str, Any], at_once: bool) -> None:
    address, take = listening
    with connect(address, max_line_bytes=10) as stream:
        sock = take()
        sock.sendall(b"0123456789\n")
        assert stream.read_line() == b"0123456789\n"
        sock.sendall(b"0123456789x")
        if at_once:
            sock.sendall(b"\n")
            settle()
        with pytest.raises(LineTooLongError, match=r"-\d+: a line over the limit of 10 came"):
            stream.read_line()
        with pytest.raises(ClosedError):
            stream.write(b"x")
        assert read_all(sock) == b""


def test_a_peer_that_resets_is_an_error_after_what_it_has_sent(both: Both) -> None:
    stream, sock = both
    stream.write(b"never read")
    sock.sendall(b"one\n")
    assert stream.read_line() == b"one\n"
    sock.close()  # with bytes unread, so that it is a reset
    for _ in range(2):
        with pytest.raises(ConnectionLostError, match=r"receiving from .* failed: Connection res"):
            stream.read()


# --- writing and closing ------------------------------------------------------------------------


def test_what_is_written_leaves(both: Both) -> None:
    stream, sock = both
    stream.write(b"one\n")
    stream.write(b"two\n")
    stream.close()
    assert read_all(sock) == b"one\ntwo\n"


def test_a_write_that_does_not_fit_waits_until_the_peer_reads(both: Both) -> None:
    stream, sock = both
    data = b"x" * (16 << 20)
    stream.write(data)  # the first may be of any size
    writing = gevent.spawn(stream.write, b"last")
    settle()
    assert not writing.ready()
    received = len(sock.recv(65536))
    while received < len(data) + 4:
        received += len(sock.recv(1 << 20))
    writing.get(timeout=PATIENCE)


def test_close_waits_until_what_was_written_has_left(both: Both) -> None:
    stream, sock = both
    data = b"x" * (16 << 20)
    stream.write(data)
    closing = gevent.spawn(stream.close)
    settle()
    assert not closing.ready()
    assert len(read_all(sock)) == len(data)
    closing.get(timeout=PATIENCE)


def test_close_waits_no_longer_than_its_limit(
    both: Both, clock: MovedClock, logged: Callable[[str], list[str]]
) -> None:
    stream, _ = both
    stream.write(b"x" * (16 << 20))
    closing = gevent.spawn(stream.close)
    settle()
    clock.advance(limits.CLOSE_TIMEOUT - 0.1)
    assert not closing.ready()
    clock.advance(0.2)
    closing.get(timeout=PATIENCE)
    assert len(logged("bytes were not sent")) == 1
    assert clock.pending == 0


def test_close_in_the_hub_does_not_wait(both: Both) -> None:
    stream, sock = both
    stream.write(b"x" * (16 << 20))
    gevent.get_hub().loop.run_callback(stream.close)
    settle()
    with pytest.raises(ClosedError):
        stream.write(b"x")
    assert len(read_all(sock)) == 16 << 20


LEAVE_AT_ONCE = """
import sys
from edgevent import connect
with connect(sys.argv[1]) as stream:
    for _ in range(100):
        stream.write(b"x" * 100_000)
"""


def test_a_program_that_ends_after_its_last_write_loses_nothing(
    listening: tuple[str, Any],
) -> None:
    address, take = listening
    reading = gevent.spawn(lambda: len(read_all(take())))
    run_program(LEAVE_AT_ONCE, address)
    assert reading.get(timeout=PATIENCE) == 10_000_000


def test_a_closed_stream_says_so(both: Both) -> None:
    stream, sock = both
    sock.sendall(b"unread")
    settle()
    stream.close()
    stream.close()
    with pytest.raises(ClosedError, match="closed"):
        stream.write(b"x")
    with pytest.raises(ClosedError, match="closed"):
        stream.read()
    assert "closed" in repr(stream)


def test_a_close_wakes_a_reader(both: Both) -> None:
    stream, _ = both
    reading = gevent.spawn(stream.read)
    settle()
    stream.close()
    with pytest.raises(ClosedError):
        reading.get(timeout=PATIENCE)


def test_a_second_reader_is_a_mistake(both: Both) -> None:
    stream, sock = both
    reading = gevent.spawn(stream.read)
    settle()
    with pytest.raises(UsageError, match="another greenlet is receiving"):
        stream.read()
    sock.sendall(b"x")
    assert reading.get(timeout=PATIENCE) == b"x"


def test_a_write_to_a_peer_that_is_gone_is_an_error(both: Both) -> None:
    stream, sock = both
    sock.close()
    with pytest.raises(ConnectionLostError, match=r"sending to .* failed: "):  # noqa: PT012
        while True:
            stream.write(b"x")
            settle()


def test_a_stream_tells_its_peer(both: Both, listening: tuple[str, Any]) -> None:
    stream, _ = both
    assert stream.address == listening[0]
    assert repr(stream) == f"<Stream {stream._connection!r}>"
    assert listening[0] in repr(stream)


# --- connecting ---------------------------------------------------------------------------------


def test_errors_of_connecting(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match=f"^unix:{tmp_path}/s: No such file or directory$"):
        connect(f"unix:{tmp_path}/s")
    with pytest.raises(AddressError):
        connect("nonsense")


def test_a_stream_that_is_dropped_leaves_no_watcher(listening: tuple[str, Any]) -> None:
    address, take = listening
    stream = connect(address)
    sock = take()
    sock.sendall(b"x")
    assert stream.read() == b"x"
    stream.close()
    del stream
    gc.collect()
    until(lambda: sock.recv(1) == b"")
