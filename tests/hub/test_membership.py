"""Adding and removing connections, their names, and the hooks that tell of it."""

from __future__ import annotations

import os
import select
import socket
from typing import Any

import pytest
from gevent.event import Event
from hub_ground import PATIENCE, Lines, Log, MakeLines

from edgevent import Communicator, Connection, Dispatcher, MessageConnection, Timer, UsageError
from edgevent.testing.clock import ManualClock, settle
from edgevent.transport.memory import memory_pair


def test_add_gives_the_connection_back_and_keeps_the_order(communicator: Communicator) -> None:
    timers = [Timer(1.0) for _ in range(5)]
    assert [communicator.add_connection(timer) for timer in timers] == timers
    assert communicator.connections == tuple(timers)
    assert all(timer.communicator is communicator for timer in timers)


def test_adding_twice_changes_nothing(communicator: Communicator) -> None:
    timer = communicator.every(1.0, lambda: None)
    assert communicator.add_connection(timer) is timer
    assert communicator.connections == (timer,)


def test_a_connection_is_in_one_communicator_only(communicator: Communicator) -> None:
    timer = communicator.every(1.0, lambda: None)
    with Communicator() as other, pytest.raises(UsageError, match="is in another communicator"):
        other.add_connection(timer)


@pytest.mark.parametrize("wrong", [None, Dispatcher(), Timer])
def test_what_is_no_connection_is_refused(communicator: Communicator, wrong: Any) -> None:
    with pytest.raises(UsageError, match=f"a {type(wrong).__name__} is no connection"):
        communicator.add_connection(wrong)


def test_a_closed_connection_is_refused(communicator: Communicator) -> None:
    timer = Timer(1.0, name="old")
    timer.close()
    with pytest.raises(UsageError, match="old is closed and cannot be added"):
        communicator.add_connection(timer)


def test_what_is_done_is_closed_and_gone(communicator: Communicator, clock: ManualClock) -> None:
    timer = communicator.add_connection(Timer(1.0))
    clock.advance(1.0)  # it has no callback: nothing is called
    timer.mark_done()
    assert timer.is_closed
    assert communicator.connections == ()
    with communicator.every(1.0, int) as timer:
        assert communicator.connections == (timer,)
    assert communicator.connections == ()


def test_a_closed_communicator_takes_nothing(log: Log) -> None:
    communicator = Communicator(name="gone")
    communicator.close()
    communicator.close()
    with pytest.raises(UsageError, match="gone is closed"):
        communicator.add_connection(Timer(1.0))
    with pytest.raises(UsageError, match="gone is closed"):
        communicator.run()
    assert "closed" in repr(communicator)


def test_remove_leaves_the_descriptor_open_and_what_came_in_place(
    lines: MakeLines, communicator: Communicator
) -> None:
    connection = lines()
    connection.feed(b"1")
    settle()
    assert communicator.remove_connection(connection)
    assert not communicator.remove_connection(connection)
    connection.feed(b"2")
    settle()
    assert connection.lines == [b"1"]
    assert connection.communicator is None
    connection.write(b"still open")
    assert connection.far.recv(100) == b"still open"
    communicator.add_connection(connection)
    settle()
    assert connection.lines == [b"1", b"2"]


def test_remove_cancels_the_turn_that_is_queued(
    lines: MakeLines, communicator: Communicator
) -> None:
    second = lines(priority=1)
    first = lines(lambda connection, line: communicator.remove_connection(second), priority=0)
    first.feed(b"x")
    second.feed(b"1")
    settle()
    assert (first.lines, second.lines) == ([b"x"], [])


def test_a_handler_may_remove_its_own_connection(
    lines: MakeLines, communicator: Communicator
) -> None:
    def leave(connection: Lines, line: bytes) -> None:
        communicator.remove_connection(connection)

    connection = lines(leave)
    connection.feed(b"1", b"2")
    settle()
    assert connection.lines == [b"1"]
    connection.feed(b"3")
    settle()
    assert select.select([connection.descriptor], [], [], 0)[0]  # nobody has read it
    communicator.add_connection(connection)
    settle()
    assert connection.lines == [b"1", b"2"]
    assert communicator.connections == ()


def test_a_removed_connection_may_go_on_in_another_communicator(
    lines: MakeLines, communicator: Communicator, clock: ManualClock
) -> None:
    calls: list[str] = []
    connection = lines()
    connection.process_timeout = lambda: calls.append("timeout")  # type: ignore[method-assign]
    connection.timeout_delay = 10.0
    clock.advance(9.0)
    communicator.remove_connection(connection)
    with Communicator(clock=clock) as other:
        other.add_connection(connection)
        connection.feed(b"x")
        clock.advance(10.0)
        assert (calls, connection.lines) == (["timeout"], [b"x"])
        other.remove_connection(connection)


def test_removed_and_added_elsewhere_in_its_own_handler_the_rest_is_handled_there(
    lines: MakeLines, communicator: Communicator
) -> None:
    seen: list[tuple[str, bytes]] = []
    with Communicator(name="other") as other:

        def move(connection: Lines, line: bytes) -> None:
            seen.append((connection.communicator.name, line))
            if connection.communicator is communicator:
                communicator.remove_connection(connection)
                other.add_connection(connection)

        lines(move).feed(b"1", b"2")
        settle()
        assert seen == [("communicator", b"1"), ("other", b"2")]


def test_handlers_add_and_close_connections(lines: MakeLines, communicator: Communicator) -> None:
    made: list[Lines] = []

    def grow(connection: Lines, line: bytes) -> None:
        if len(made) < 10:
            made.append(lines(grow))
            made[-1].feed(b"x")
        connection.close()

    lines(grow).feed(b"x")
    settle()
    assert [connection.lines for connection in made] == [[b"x"]] * 10
    assert communicator.connections == ()


def test_closing_a_connection_whose_turn_is_queued_cancels_it(lines: MakeLines) -> None:
    second = lines(priority=1)
    first = lines(lambda connection, line: second.close(), priority=0)
    first.feed(b"x")
    second.feed(b"1")
    settle()
    assert (second.lines, second.is_closed) == ([], True)


def test_a_handler_of_a_closed_connection_runs_on(lines: MakeLines) -> None:
    gate = Event()
    ended: list[bytes] = []

    def handle(connection: Lines, line: bytes) -> None:
        gate.wait(PATIENCE)
        ended.append(line)

    connection = lines(handle)
    connection.feed(b"1", b"2")
    settle()
    connection.close()
    gate.set()
    settle()
    assert ended == [b"1"]


# --- hooks ----------------------------------------------------------------------------------------


class Told(Connection):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def connection_added(self) -> None:
        self.told.append("added")

    def connection_removed(self) -> None:
        self.told.append("removed")


def test_the_hooks_of_adding_and_removing_are_called_once_each(communicator: Communicator) -> None:
    told = communicator.add_connection(Told())
    assert told.told == ["added"]
    told.close()
    told.close()
    assert told.told == ["added", "removed"]


def test_a_connection_may_close_itself_when_it_is_added(communicator: Communicator) -> None:
    class Shy(Told):
        def connection_added(self) -> None:
            self.close()

    shy = communicator.add_connection(Shy())
    assert shy.told == ["removed"]
    assert communicator.connections == ()


def test_a_removal_from_the_hub_is_told_in_a_turn(
    communicator: Communicator, clock: ManualClock
) -> None:
    """The time of ``stop`` is over in the hub, where no hook may block."""
    gate = Event()

    class Slow(MessageConnection):
        told = False

        def process_message(self, message: object) -> bool:
            gate.wait(PATIENCE)
            return True

        def connection_removed(self) -> None:
            settle()  # this waits
            type(self).told = True

    near, far = memory_pair()
    communicator.add_connection(Slow(near))
    far.transmit(b"WAIT\n")
    settle()
    communicator.stop(1.0)
    clock.advance(1.0)
    assert Slow.told
    gate.set()
    settle()
    far.close()


# --- names ----------------------------------------------------------------------------------------


def test_a_name_is_made_of_the_class_and_a_number(communicator: Communicator) -> None:
    first, second = communicator.every(1.0, int), communicator.every(1.0, int)
    numbers = [int(timer.name.removeprefix("Timer-")) for timer in (first, second)]
    assert numbers[1] == numbers[0] + 1


def test_a_name_that_is_taken_gets_a_number(communicator: Communicator) -> None:
    timers = [communicator.add_connection(Timer(1.0, name="clock")) for _ in range(4)]
    assert [timer.name for timer in timers] == ["clock", "clock#2", "clock#3", "clock#4"]
    timers[1].close()
    assert communicator.add_connection(Timer(1.0, name="clock")).name == "clock#2"


def test_a_given_name_is_not_one_that_was_made_up(communicator: Communicator) -> None:
    first = communicator.every(1.0, int)
    second = communicator.add_connection(Timer(1.0, name=first.name))
    assert second.name == f"{first.name}#2"


def test_a_made_up_name_is_not_one_that_was_given(communicator: Communicator) -> None:
    late = Timer(1.0)
    early = communicator.add_connection(Timer(1.0, name=late.name))
    assert communicator.add_connection(late).name == f"{early.name}#2"


def test_names_are_unique_in_each_communicator_alone(communicator: Communicator) -> None:
    communicator.add_connection(Timer(1.0, name="clock"))
    with Communicator() as other:
        assert other.add_connection(Timer(1.0, name="clock")).name == "clock"


def test_a_name_is_fixed_once_the_connection_is_added(communicator: Communicator) -> None:
    timer = Timer(1.0)
    timer.name = "mine"
    communicator.add_connection(timer)
    with pytest.raises(UsageError, match="mine: the name is fixed once"):
        timer.name = "other"
    communicator.remove_connection(timer)
    timer.name = "other"
    assert timer.name == "other"


def test_repr_tells_name_and_state(communicator: Communicator) -> None:
    timer = communicator.add_connection(Timer(1.0, name="clock"))
    assert repr(timer) == "<clock enabled>"
    timer.enabled = False
    assert repr(timer) == "<clock disabled>"
    timer.close()
    assert repr(timer) == "<clock closed>"
    assert repr(communicator) == "<Communicator communicator idle, 0 connections>"


# --- the dispatcher of the communicator -----------------------------------------------------------


def test_connections_that_bring_no_dispatcher_have_the_communicators() -> None:
    theirs, own = Dispatcher(), Dispatcher()
    with Communicator(dispatcher=theirs) as communicator:
        near, far = memory_pair()
        other_near, other_far = memory_pair()
        assert communicator.add_connection(MessageConnection(near)).dispatcher is theirs
        assert communicator.add_connection(MessageConnection(other_near, own)).dispatcher is own
        far.close()
        other_far.close()
        settle()


def test_a_communicator_closes_all_it_has() -> None:
    before = set(os.listdir("/proc/self/fd"))
    with Communicator() as communicator:
        near, far = socket.socketpair()
        communicator.every(1.0, int)
        communicator.add_connection(Lines()).far.close()
        near.close()
        far.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert communicator.connections == ()
