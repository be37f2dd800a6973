"""Delays, dates and timers, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gevent.event import Event
from hub_ground import PATIENCE, Log, MakeLines

from edgevent import Communicator, Connection, Timer, UsageError
from edgevent.testing.clock import ManualClock, settle


class Counted(Connection):
    """Notes when its timeout is called."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.calls: list[float] = []

    def process_timeout(self) -> None:
        self.calls.append(self.clock.now() - 1000.0)


@pytest.fixture
def counted(communicator: Communicator, clock: ManualClock) -> Counted:
    return communicator.add_connection(Counted(clock))


# --- delays ---------------------------------------------------------------------------------------


def test_a_delay_repeats_on_its_marks(counted: Counted, clock: ManualClock) -> None:
    counted.timeout_delay = 10.0
    clock.advance(35.0)
    assert counted.calls == [10.0, 20.0, 30.0]


def test_a_delay_set_before_the_connection_is_added_counts_from_then_on(
    communicator: Communicator, clock: ManualClock
) -> None:
    connection = Counted(clock)
    connection.timeout_delay = 10.0
    clock.advance(100.0)
    communicator.add_connection(connection)
    clock.advance(10.0)
    assert connection.calls == [110.0]


def test_a_new_delay_begins_at_once_and_none_ends_it(counted: Counted, clock: ManualClock) -> None:
    counted.timeout_delay = 10.0
    clock.advance(5.0)
    counted.timeout_delay = 20.0
    clock.advance(20.0)
    assert counted.calls == [25.0]
    counted.timeout_delay = None
    assert clock.alarms == []
    clock.advance(100.0)
    assert counted.calls == [25.0]


def test_what_comes_too_late_is_called_once_and_then_on_the_marks_again(
    counted: Counted, clock: ManualClock
) -> None:
    counted.timeout_delay = 10.0
    clock.advance(10.0)
    clock.lag(25.0)
    clock.advance(0.0)
    clock.advance(10.0)
    assert counted.calls == [10.0, 35.0, 40.0]


def test_a_handler_may_change_its_own_delay(communicator: Communicator, clock: ManualClock) -> None:
    class Growing(Counted):
        def process_timeout(self) -> None:
            super().process_timeout()
            self.timeout_delay = 10.0 * 2 ** len(self.calls)

    growing = communicator.add_connection(Growing(clock))
    growing.timeout_delay = 10.0
    clock.advance(150.0)
    assert growing.calls == [10.0, 30.0, 70.0, 150.0]


@pytest.mark.parametrize("delay", [0, 0.0, -1.0, float("inf"), float("nan"), "10s"])
def test_a_delay_that_can_never_be_is_refused(counted: Counted, delay: Any) -> None:
    for use in (lambda: setattr(counted, "timeout_delay", delay), lambda: Timer(delay)):
        with pytest.raises(UsageError, match=r"more than 0 seconds was expected|mean 10\.0"):
            use()
    assert counted.timeout_delay is None


def test_what_cannot_be_called_is_refused_at_once(communicator: Communicator) -> None:
    no_function: Any = "tick"
    for use in (
        lambda: communicator.every(1.0, no_function),
        lambda: communicator.after(1.0, no_function),
        lambda: Timer(1.0, no_function),
    ):
        with pytest.raises(UsageError, match=r"Timer-.*: a function of \(.*, not 'tick'"):
            use()
    assert communicator.connections == ()


def test_a_removed_or_closed_connection_has_no_timeout(
    communicator: Communicator, counted: Counted, clock: ManualClock
) -> None:
    counted.timeout_delay = 10.0
    counted.timeout_date = clock.date() + 5.0
    communicator.remove_connection(counted)
    assert clock.alarms == []
    communicator.add_connection(counted)
    assert len(clock.alarms) == 2
    counted.close()
    assert clock.alarms == []
    clock.advance(100.0)
    assert counted.calls == []


def test_a_timeout_due_when_its_connection_is_removed_is_forgotten(
    lines: MakeLines, communicator: Communicator, clock: ManualClock
) -> None:
    gate = Event()
    connection = lines(lambda connection, line: gate.wait(PATIENCE))
    calls: list[str] = []
    connection.process_timeout = lambda: calls.append("called")  # type: ignore[method-assign]
    other = communicator.add_connection(
        Timer(10.0, lambda timer: communicator.remove_connection(connection), priority=0)
    )
    connection.timeout_delay = 10.0
    clock.advance(10.0)
    communicator.add_connection(connection)
    settle()
    assert calls == []
    other.close()


# --- dates ----------------------------------------------------------------------------------------


def test_a_date_is_called_once(counted: Counted, clock: ManualClock) -> None:
    counted.timeout_date = clock.date() + 10.0
    clock.advance(9.0)
    assert counted.calls == []
    clock.advance(1.0)
    assert (counted.calls, counted.timeout_date) == ([10.0], None)
    clock.advance(100.0)
    assert counted.calls == [10.0]
    assert clock.alarms == []


def test_a_date_that_is_past_is_called_at_once(counted: Counted, clock: ManualClock) -> None:
    counted.timeout_date = clock.date() - 3600.0
    clock.advance(0.0)
    assert counted.calls == [0.0]


def test_a_date_is_never_skipped(communicator: Communicator, clock: ManualClock) -> None:
    gate = Event()

    class Slow(Counted):
        def process_timeout(self) -> None:
            super().process_timeout()
            gate.wait(PATIENCE)

    slow = communicator.add_connection(Slow(clock))
    slow.timeout_delay = 10.0
    slow.timeout_date = clock.date() + 15.0
    clock.advance(18.0)
    assert slow.calls == [10.0]
    gate.set()
    settle()
    assert slow.calls == [10.0, 18.0]


def test_a_delay_and_a_date_that_are_due_together_are_two_calls(
    counted: Counted, clock: ManualClock
) -> None:
    counted.timeout_date = clock.date() + 10.0
    counted.timeout_delay = 10.0
    clock.advance(10.0)
    assert counted.calls == [10.0, 10.0]


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_jump_of_the_date_moves_dates_alone(
    counted: Counted, communicator: Communicator, clock: ManualClock, jump: float
) -> None:
    delayed = communicator.add_connection(Counted(clock))
    delayed.timeout_delay = 1000.0
    counted.timeout_date = clock.date() + 1800.0
    clock.advance(10.0)
    clock.set_date(clock.date() + jump)
    clock.advance(1.0)
    assert len(counted.calls) == (1 if jump > 0 else 0)  # within a second of the jump
    clock.advance(6000.0 - 11.0)
    assert len(counted.calls) == 1
    if jump < 0:
        assert counted.calls == [pytest.approx(1800.0 + 3600.0, abs=1.0)]
    assert delayed.calls == [1000.0 * number for number in range(1, 7)]


@pytest.mark.parametrize("date", [float("inf"), float("-inf"), float("nan")])
def test_a_date_that_is_none_is_refused(counted: Counted, date: float) -> None:
    with pytest.raises(UsageError, match="seconds since 1970 were expected"):
        counted.timeout_date = date


# --- timers ---------------------------------------------------------------------------------------


def test_every_calls_until_its_timer_is_closed(
    communicator: Communicator, clock: ManualClock
) -> None:
    calls: list[float] = []
    timer = communicator.every(10.0, lambda: calls.append(clock.now()))
    clock.advance(25.0)
    timer.close()
    clock.advance(25.0)
    assert calls == [1010.0, 1020.0]
    assert communicator.connections == ()


def test_after_calls_once_and_is_gone(communicator: Communicator, clock: ManualClock) -> None:
    calls: list[float] = []
    communicator.after(10.0, lambda: calls.append(clock.now()))
    clock.advance(100.0)
    assert calls == [1010.0]
    assert communicator.connections == ()


def test_after_no_time_calls_in_the_next_turn(
    communicator: Communicator, clock: ManualClock
) -> None:
    calls: list[float] = []
    communicator.after(0, lambda: calls.append(clock.now()))
    assert calls == []
    clock.advance(0.001)
    assert calls == [pytest.approx(1000.0)]


def test_many_timers_are_called_in_the_order_of_their_time(
    communicator: Communicator, clock: ManualClock
) -> None:
    calls: list[int] = []
    for number in range(500):
        communicator.after(1.0 + (number * 7919 % 500), lambda number=number: calls.append(number))
    clock.advance(600.0)
    assert calls == sorted(range(500), key=lambda number: number * 7919 % 500)


def test_a_timer_may_close_itself_or_another(
    communicator: Communicator, clock: ManualClock
) -> None:
    calls: list[str] = []
    other = communicator.every(10.0, lambda: calls.append("other"))

    def collect(timer: Timer) -> None:
        calls.append("collect")
        if len(calls) == 3:
            other.close()
            timer.close()

    communicator.add_connection(Timer(10.0, collect, priority=0))
    clock.advance(100.0)
    assert calls == ["collect", "other", "collect"]


def test_a_timer_with_a_date_ends_after_it(communicator: Communicator, clock: ManualClock) -> None:
    calls: list[float] = []
    timer = Timer(None, lambda timer: calls.append(clock.now()), date=clock.date() + 10.0)
    communicator.add_connection(timer)
    clock.advance(10.5)
    assert (calls, timer.is_closed) == ([1010.0], True)


def test_a_date_given_again_by_the_callback_keeps_the_timer(
    communicator: Communicator, clock: ManualClock
) -> None:
    calls: list[float] = []

    def again(timer: Timer) -> None:
        calls.append(clock.now())
        if len(calls) < 3:
            timer.timeout_date = clock.date() + 10.0

    timer = communicator.add_connection(Timer(None, again, date=clock.date() + 10.0))
    clock.advance(100.0)
    assert (calls, timer.is_closed) == ([1010.0, 1020.0, 1030.0], True)


def test_a_timer_may_be_subclassed(communicator: Communicator, clock: ManualClock) -> None:
    calls: list[float] = []

    class Ticker(Timer):
        def process_timeout(self) -> None:
            calls.append(clock.now())

    communicator.add_connection(Ticker(10.0))
    clock.advance(20.0)
    assert calls == [1010.0, 1020.0]


@pytest.mark.parametrize("once", [False, True])
def test_a_callback_that_fails_is_logged_and_the_timer_goes_on(
    communicator: Communicator, clock: ManualClock, log: Log, once: bool
) -> None:
    def fail(timer: Timer) -> None:
        raise ValueError("no")

    timer = communicator.add_connection(Timer(10.0, fail, once=once))
    clock.advance(30.0)
    assert timer.handler_errors == (1 if once else 3)
    assert timer.is_closed is once
    assert len(log.lines(f"{timer.name}: ")) >= timer.handler_errors


def test_time_goes_by_on_the_systems_clock_too() -> None:
    ticks: list[int] = []
    with Communicator() as communicator:
        communicator.every(0.002, lambda: ticks.append(1) or len(ticks) < 5 or communicator.stop())
        communicator.after(0.001, lambda: ticks.append(2))
        assert communicator.run() is True
    assert ticks[0] == 2
    assert ticks.count(1) == 4


def burn(seconds: float, now: Callable[[], float]) -> None:
    end = now() + seconds
    while now() < end:
        pass


def test_a_delay_is_never_cut_short_by_what_was_computed_before_it() -> None:
    fired: list[float] = []

    with Communicator() as communicator:
        now = communicator.clock.now

        def begin() -> None:
            burn(0.05, now)  # the loop's own time is now so late
            began = now()
            communicator.after(0.04, lambda: fired.append(now() - began))

        communicator.after(0.001, begin)
        assert communicator.run() is True
    assert fired[0] >= 0.04
