"""Readiness of foreign descriptors: pipes, terminals, sockets of another library."""

from __future__ import annotations

import os
import pty
import socket
import tty
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from network_ground import Ground, MovedClock, until

from edgevent import ReadyConnection
from edgevent.testing.clock import settle


class Ready(ReadyConnection):
    """Reads what is there, and writes what it was given."""

    def __init__(self, descriptor: Any, **settings: Any) -> None:
        super().__init__(descriptor, **settings)
        self.events: list[bytes] = []
        self.to_write: list[bytes] = []
        self.timeouts = 0

    def process_read(self) -> None:
        try:
            self.events.append(os.read(self.descriptor, 100))
        except OSError as error:
            self.events.append(type(error).__name__.encode())
            self.close()
        else:
            if not self.events[-1]:
                self.close()

    def process_write(self) -> None:
        os.write(self.descriptor, self.to_write.pop(0))
        self.want(write=bool(self.to_write))

    def process_timeout(self) -> None:
        self.timeouts += 1


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue  # the test has closed it


def test_a_pipe_is_read_as_it_fills_and_to_its_end(ground: Ground, pipe: tuple[int, int]) -> None:
    ready = ground.communicator.add_connection(Ready(pipe[0]))
    settle()
    assert ready.events == []
    for data in (b"one", b"two"):
        os.write(pipe[1], data)
        until(lambda expected=data: ready.events[-1:] == [expected])
    os.close(pipe[1])
    until(lambda: ready.is_closed)
    assert ready.events == [b"one", b"two", b""]
    os.fstat(pipe[0])  # the descriptor stays its owner's


def test_what_was_there_before_is_seen(ground: Ground, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"early")
    ready = ground.communicator.add_connection(Ready(pipe[0]))
    until(lambda: ready.events == [b"early"])


def test_a_hook_is_called_again_until_it_has_taken_all(
    ground: Ground, pipe: tuple[int, int]
) -> None:
    os.write(pipe[1], b"x" * 250)
    ready = ground.communicator.add_connection(Ready(pipe[0]))
    until(lambda: len(ready.events) == 3)
    assert [len(data) for data in ready.events] == [100, 100, 50]


def test_a_terminal_is_read_and_its_hang_up_seen(ground: Ground) -> None:
    ours, theirs = pty.openpty()
    try:
        tty.setraw(theirs)
        ready = ground.communicator.add_connection(Ready(ours))
        os.write(theirs, b"typed")
        until(lambda: ready.events == [b"typed"])
    finally:
        os.close(theirs)
    until(lambda: ready.is_closed)
    assert ready.events == [b"typed", b"OSError"]  # EIO is how a terminal ends
    os.close(ours)


def test_writing_is_asked_for_only_while_it_is_wanted(
    ground: Ground, pipe: tuple[int, int]
) -> None:
    ready = ground.communicator.add_connection(Ready(pipe[1], read=False))
    settle()
    ready.to_write += [b"one", b"two"]
    settle()
    assert len(ready.to_write) == 2
    ready.want(write=True)
    until(lambda: not ready.to_write)
    assert os.read(pipe[0], 100) == b"onetwo"
    settle()
    assert ready.handler_errors == 0  # it would have had nothing to write


def test_writing_waits_until_there_is_room(ground: Ground, pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    held = 0
    try:
        while True:
            held += os.write(pipe[1], b"x" * 4096)
    except BlockingIOError:
        pass
    ready = ground.communicator.add_connection(Ready(pipe[1], read=False, write=True))
    ready.to_write.append(b"last")
    settle()
    assert ready.to_write
    os.read(pipe[0], held)
    until(lambda: not ready.to_write)
    assert os.read(pipe[0], 100) == b"last"


def test_both_directions_of_one_socket(ground: Ground) -> None:
    near, far = socket.socketpair()
    with near, far:
        ready = ground.communicator.add_connection(Ready(near, write=True))
        ready.to_write.append(b"question")
        far.sendall(b"answer")
        until(lambda: ready.events and not ready.to_write)
        assert (ready.events, far.recv(100)) == ([b"answer"], b"question")
        ready.close()


def test_a_disabled_one_is_not_looked_at(ground: Ground, pipe: tuple[int, int]) -> None:
    ready = ground.communicator.add_connection(Ready(pipe[0]))
    ready.enabled = False
    os.write(pipe[1], b"x")
    settle()
    assert ready.events == []
    ready.enabled = True
    until(lambda: ready.events == [b"x"])


def test_one_that_is_disabled_by_its_own_hook_stops(ground: Ground, pipe: tuple[int, int]) -> None:
    class Once(Ready):
        def process_read(self) -> None:
            self.events.append(b"called")
            self.enabled = False

    os.write(pipe[1], b"x")
    ready = ground.communicator.add_connection(Once(pipe[0]))
    until(lambda: ready.events)
    settle()
    assert ready.events == [b"called"]


@pytest.mark.parametrize(
    "end",
    [
        ReadyConnection.close,
        lambda ready: ready.communicator.remove_connection(ready),
        lambda ready: setattr(ready, "enabled", False),
    ],
    ids=["close", "remove", "disable"],
)
def test_a_first_hook_that_ends_it_is_the_last(
    ground: Ground, end: Callable[[ReadyConnection], object]
) -> None:
    class Both(Ready):
        def process_read(self) -> None:
            self.events.append(b"read")
            end(self)

        def process_write(self) -> None:
            self.events.append(b"written")
            self.want(write=False)

    near, far = socket.socketpair()
    with near, far:
        ready = Both(near, write=True)
        far.sendall(b"x")
        ground.communicator.add_connection(ready)
        until(lambda: b"read" in ready.events)
        settle()
        assert ready.events in ([b"read"], [b"written", b"read"])
        ready.close()


def test_a_removed_one_can_be_added_again(ground: Ground, pipe: tuple[int, int]) -> None:
    ready = ground.communicator.add_connection(Ready(pipe[0]))
    ground.communicator.remove_connection(ready)
    os.write(pipe[1], b"x")
    settle()
    assert ready.events == []
    ready.want(read=True)
    ground.communicator.add_connection(ready)
    until(lambda: ready.events == [b"x"])


def test_reading_may_be_switched_off_and_on(ground: Ground, pipe: tuple[int, int]) -> None:
    ready = ground.communicator.add_connection(Ready(pipe[0]))
    ready.want(read=False)
    os.write(pipe[1], b"x")
    settle()
    assert ready.events == []
    ready.want(read=True)
    until(lambda: ready.events == [b"x"])


def test_switching_off_holds_for_what_is_ready_already(
    ground: Ground, pipe: tuple[int, int]
) -> None:
    ready = ground.communicator.add_connection(Ready(pipe[0]))
    os.write(pipe[1], b"x")
    ready._is_ready(4)  # as the poll would
    ready.want(read=False)
    settle()
    assert ready.events == []


def test_a_hook_that_raises_is_logged_and_called_again(
    ground: Ground, pipe: tuple[int, int], logged: Callable[[str], list[str]]
) -> None:
    class Clumsy(Ready):
        def process_read(self) -> None:
            super().process_read()
            if self.handler_errors < 2:
                raise LookupError("oops")

    ready = ground.communicator.add_connection(Clumsy(pipe[0]))
    for number in range(3):
        os.write(pipe[1], b"%d" % number)
        until(lambda expected=number + 1: len(ready.events) == expected)
    assert ready.handler_errors == len(logged("process_read failed, id=")) == 2
    assert not ready.is_closed


def test_a_hook_that_raises_may_close_it(ground: Ground, pipe: tuple[int, int]) -> None:
    class Clumsy(Ready):
        def process_read(self) -> None:
            raise LookupError("oops")

    ready = Clumsy(pipe[0], write=True)
    ready.on_handler_error = "close"
    ground.communicator.add_connection(ready)
    os.write(pipe[1], b"x")
    until(lambda: ready.is_closed)
    assert ready.handler_errors == 1


def test_timeouts_work_beside_it(moved: Ground, clock: MovedClock, pipe: tuple[int, int]) -> None:
    ready = moved.communicator.add_connection(Ready(pipe[0]))
    ready.timeout_delay = 1.0
    os.write(pipe[1], b"x")
    clock.advance(3.0)
    assert ready.timeouts == 3
    assert ready.events == [b"x"]
    os.write(pipe[1], b"y")
    until(lambda: ready.events[-1] == b"y")


def test_it_tells_its_descriptor(pipe: tuple[int, int]) -> None:
    with Ready(pipe[0], name="sensor") as ready:
        assert ready.descriptor == pipe[0]
        assert repr(ready) == f"<sensor enabled descriptor {pipe[0]}>"
    assert repr(ready) == f"<sensor closed descriptor {pipe[0]}>"
    ready.close()
