"""The clock that tests move, and the wait for a quiet thread."""

from __future__ import annotations

import itertools

import gevent
import pytest
from gevent.event import Event
from hub_ground import PATIENCE, MakeLines

from edgevent import Clock, Communicator, UsageError
from edgevent.runtime.clock import SYSTEM_CLOCK
from edgevent.testing.clock import ManualClock, settle


def test_time_stands_still_until_it_is_moved(clock: ManualClock) -> None:
    assert (clock.now(), clock.date()) == (1000.0, 1_700_000_000.0)
    gevent.sleep(0)
    assert (clock.now(), clock.date()) == (1000.0, 1_700_000_000.0)
    clock.advance(1.5)
    assert (clock.now(), clock.date()) == (1001.5, 1_700_000_001.5)


def test_set_date_moves_the_date_alone(clock: ManualClock) -> None:
    clock.set_date(5.0)
    clock.advance(1.0)
    assert (clock.now(), clock.date()) == (1001.0, 6.0)


def test_calls_come_in_the_order_of_their_time_at_their_time(clock: ManualClock) -> None:
    calls: list[tuple[str, float]] = []
    for name, delay in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("a2", 1.0)):
        clock.call_later(delay, lambda name=name: calls.append((name, clock.now())))
    clock.advance(2.5)
    assert calls == [("a", 1001.0), ("a2", 1001.0), ("b", 1002.0)]
    assert clock.alarms == [0.5]
    clock.advance(0.5)
    assert calls[-1] == ("c", 1003.0)


def test_a_call_may_set_another_within_the_same_move(clock: ManualClock) -> None:
    calls: list[float] = []

    def again() -> None:
        calls.append(clock.now())
        clock.call_later(1.0, again)

    clock.call_later(1.0, again)
    clock.advance(3.5)
    assert calls == [1001.0, 1002.0, 1003.0]


def test_a_stopped_call_is_not_made(clock: ManualClock) -> None:
    calls: list[str] = []
    later = clock.call_later(1.0, calls.append, "later")
    clock.call_later(1.0, later.stop)
    first = clock.call_later(1.0, calls.append, "first")
    first.stop()
    first.stop()
    stopped_by_another = clock.call_later(1.0, calls.append, "stopped by another")
    clock.call_later(0.5, stopped_by_another.stop)
    clock.advance(2.0)
    assert calls == ["later"]
    assert clock.alarms == []


def test_calls_are_made_in_the_hub(clock: ManualClock) -> None:
    where: list[object] = []
    clock.call_later(1.0, lambda: where.append(gevent.getcurrent()))
    clock.advance(1.0)
    assert where == [gevent.get_hub()]


def test_what_a_call_raises_is_raised_by_advance(clock: ManualClock) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    clock.call_later(1.0, fail)
    with pytest.raises(ZeroDivisionError):
        clock.advance(1.0)


def test_a_lag_makes_calls_come_late_all_at_once(clock: ManualClock) -> None:
    calls: list[float] = []
    for delay in (1.0, 2.0):
        clock.call_later(delay, lambda: calls.append(clock.now()))
    clock.lag(5.0)
    assert calls == []
    clock.advance(0.0)
    assert calls == [1005.0, 1005.0]


def test_advance_waits_for_turns_and_for_what_they_send(
    lines: MakeLines, communicator: Communicator, clock: ManualClock
) -> None:
    chain = [lines() for _ in range(20)]
    for left, right in itertools.pairwise(chain):
        left.handle = lambda connection, line, right=right: right.feed(line)
    communicator.after(1.0, lambda: chain[0].feed(b"x"))
    clock.advance(1.0)
    assert chain[-1].lines == [b"x"]


def test_advance_does_not_wait_for_a_handler_that_blocks(
    communicator: Communicator, clock: ManualClock
) -> None:
    gate = Event()
    communicator.after(1.0, lambda: gate.wait(PATIENCE))
    clock.advance(10.0)
    assert len(communicator.connections) == 1
    gate.set()
    settle()
    assert communicator.connections == ()


def test_the_hub_cannot_wait(clock: ManualClock) -> None:
    errors: list[BaseException] = []

    def call() -> None:
        for wait in (settle, lambda: clock.advance(1.0)):
            try:
                wait()
            except UsageError as error:
                errors.append(error)

    gevent.get_hub().loop.run_callback(call)
    settle()
    assert len(errors) == 2


def test_a_thread_that_never_becomes_quiet_is_an_error(lines: MakeLines) -> None:
    connection = lines(lambda connection, line: connection.feed(line))
    connection.feed(b"x")
    with pytest.raises(UsageError, match="still something to do after 10000 polls"):
        settle()


# --- the system's clock ---------------------------------------------------------------------------


def test_the_systems_clock_calls_in_the_hub_and_can_be_stopped() -> None:
    called = Event()
    where: list[object] = []
    never = SYSTEM_CLOCK.call_later(0.001, where.append, "stopped")
    never.stop()
    SYSTEM_CLOCK.call_later(-1.0, lambda: (where.append(gevent.getcurrent()), called.set()))
    assert called.wait(PATIENCE)
    assert where == [gevent.get_hub()]


def test_the_two_clocks_are_of_one_kind(clock: ManualClock) -> None:
    assert isinstance(clock, Clock)
    assert SYSTEM_CLOCK.now() <= SYSTEM_CLOCK.now()
    assert SYSTEM_CLOCK.date() > 1_700_000_000.0
