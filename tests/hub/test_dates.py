"""Timers at dates, many and repeating, on a clock that the test moves."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from gevent.event import Event
from hub_ground import PATIENCE

from edgevent import Communicator, Timer, UsageError
from edgevent.testing.clock import ManualClock, settle

HOUR = 3600.0
START = 1_700_000_000.0  # the date of the clock, when the test begins


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=1000.0, date=START)


class Calls(list[float]):
    """The seconds from the begin, by the clock of the test, at which something was called."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    def __call__(self, *arguments: object) -> None:
        self.append(self.clock.now() - 1000.0)


@pytest.fixture
def calls(clock: ManualClock) -> Calls:
    return Calls(clock)


# --- many -----------------------------------------------------------------------------------------


def test_thousands_of_dates_share_one_alarm(communicator: Communicator, clock: ManualClock) -> None:
    order: list[int] = []
    for number in (n * 7919 % 5000 for n in range(5000)):  # in no order
        timer = Timer(None, lambda _, n=number: order.append(n), date=START + 10.0 + number / 100)
        communicator.add_connection(timer)
    assert len(clock.alarms) == 1
    clock.advance(10.0 + 24.995)
    assert order == list(range(2500))
    assert len(clock.alarms) == 1
    clock.advance(25.0)
    assert order == list(range(5000))
    assert clock.alarms == []


def test_dates_that_are_one_are_called_in_the_order_of_their_setting(
    communicator: Communicator, clock: ManualClock
) -> None:
    order: list[int] = []
    for number in range(100):
        communicator.add_connection(
            Timer(None, lambda _, n=number: order.append(n), date=START + 5.0)
        )
    clock.set_date(START + HOUR)
    clock.advance(0.5)
    assert order == list(range(100))


def test_an_earlier_date_is_met_though_a_later_one_was_set_before(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    for date in (0.3, 0.1, 0.2, 100.0, 0.05):
        communicator.add_connection(Timer(None, calls, date=START + date))
    clock.advance(1.0)
    assert calls == pytest.approx([0.05, 0.1, 0.2, 0.3])


def test_dates_that_were_cancelled_are_forgotten(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    kept = communicator.add_connection(Timer(None, calls, date=START + HOUR))
    for number in range(5000):
        communicator.add_connection(Timer(None, calls, date=START + HOUR + number)).close()
    assert len(communicator.dates) == 1
    soon = communicator.add_connection(Timer(None, calls, date=START + 1.0))
    clock.advance(1.0)
    assert (calls, soon.is_closed) == ([1.0], True)
    kept.close()
    assert clock.alarms == []


def test_nobody_is_woken_for_a_date_that_was_cancelled_behind_others(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    communicator.add_connection(Timer(None, calls, date=START + 1.0))
    communicator.add_connection(Timer(None, calls, date=START + HOUR)).close()
    clock.advance(1.0)
    assert (calls, clock.alarms) == ([1.0], [])


def test_a_date_is_set_anew_while_others_wait(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    timers = [communicator.add_connection(Timer(None, calls, date=START + 9.0)) for _ in range(3)]
    timers[1].timeout_date = START + 2.0
    timers[2].timeout_date = None
    clock.advance(20.0)
    assert calls == [2.0, 9.0]


# --- jumps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [0.0, 0.7, 59.0, HOUR, -0.7, -59.0, -HOUR])
@pytest.mark.parametrize("at", [0.0, 0.01, 0.49, 0.5, 1.3])
def test_a_date_is_met_once_within_a_second_of_any_jump(
    communicator: Communicator, clock: ManualClock, calls: Calls, jump: float, at: float
) -> None:
    timer = communicator.add_connection(Timer(None, calls, date=START + 30.0))
    clock.advance(at)
    clock.set_date(clock.date() + jump)
    clock.advance(1.0)
    clock.advance(3 * HOUR)
    due = max(30.0 - jump, at)
    assert calls == [pytest.approx(due, abs=0.6)]
    assert timer.is_closed


def test_jumps_to_and_fro_call_once(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    communicator.add_connection(Timer(None, calls, date=START + 30.0))
    for jump in (HOUR, -HOUR) * 5:
        clock.set_date(clock.date() + jump)
        clock.advance(1.0)
    clock.advance(HOUR)
    assert len(calls) == 1


def test_delays_do_not_see_a_jump(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    communicator.every(10.0, calls)
    for jump in (HOUR, -2 * HOUR):
        clock.set_date(clock.date() + jump)
        clock.advance(10.0)
    assert calls == [10.0, 20.0]


# --- repeating ------------------------------------------------------------------------------------


def test_a_date_and_a_delay_are_many_dates(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    timer = communicator.add_connection(Timer(10.0, calls, date=START + 3.0))
    clock.advance(34.0)
    assert calls == [3.0, 13.0, 23.0, 33.0]
    assert (timer.timeout_date, timer.is_closed) == (START + 43.0, False)
    timer.close()
    assert clock.alarms == []


def test_dates_before_the_begin_are_skipped(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    communicator.add_connection(Timer(HOUR, calls, date=0.0))  # at every full hour
    clock.advance(3 * HOUR)
    first = HOUR - START % HOUR
    assert calls == [first, first + HOUR, first + 2 * HOUR]


def test_repeated_dates_do_not_drift(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    late: list[float] = []
    timer = Timer(0.1, lambda timer: late.append(clock.date() * 10 % 1), date=START)
    communicator.add_connection(timer)
    clock.advance(300.05)
    assert len(late) == 3001
    assert max(min(part, 1 - part) for part in late) < 1e-4


def test_what_was_missed_is_skipped(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    communicator.add_connection(Timer(10.0, calls, date=START + 10.0))
    clock.advance(15.0)
    clock.lag(42.0)  # the hub was kept busy, over four of them
    clock.advance(10.0)
    assert calls == [10.0, 57.0, 60.0]


def test_one_that_comes_while_a_call_runs_follows_it(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    gate = Event()

    def slow(timer: Timer) -> None:
        calls()
        gate.wait(PATIENCE)

    communicator.add_connection(Timer(10.0, slow, date=START + 10.0))
    clock.advance(45.0)
    gate.set()
    settle()
    clock.advance(10.0)
    assert calls == [10.0, 45.0, 50.0]


def test_a_jump_ahead_is_one_call_and_the_marks_go_on(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    communicator.add_connection(Timer(60.0, calls, date=START + 60.0))
    clock.set_date(START + HOUR + 30.0)
    clock.advance(70.0)
    assert calls == [pytest.approx(0.5), 30.0]


def test_a_jump_back_meets_the_marks_again(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    communicator.add_connection(Timer(60.0, calls, date=START + 60.0))
    single = communicator.add_connection(Timer(None, calls, date=START + 4 * HOUR))
    clock.advance(2 * HOUR + 30.0)
    calls.clear()
    clock.set_date(clock.date() - HOUR)
    clock.advance(100.0)
    assert calls == [2 * HOUR + 60.0, 2 * HOUR + 120.0]
    assert single.timeout_date == START + 4 * HOUR


def test_a_jump_back_before_the_first_mark_waits_for_it(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    communicator.add_connection(Timer(60.0, calls, date=START + 60.0))
    clock.set_date(START - HOUR)
    clock.advance(HOUR + 30.0)
    assert calls == []
    clock.advance(30.0)
    assert calls == [pytest.approx(HOUR + 60.0)]


def test_a_disabled_one_goes_on_at_its_marks(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    timer = communicator.add_connection(Timer(10.0, calls, date=START + 10.0))
    clock.advance(12.0)
    timer.enabled = False
    assert clock.alarms == []
    clock.advance(30.0)
    timer.enabled = True
    clock.advance(10.0)
    assert calls == [10.0, 50.0]


def test_a_date_set_by_the_callback_moves_the_marks(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    def shift(timer: Timer) -> None:
        calls()
        if len(calls) == 1:
            timer.timeout_date = clock.date() + 5.0

    communicator.add_connection(Timer(10.0, shift, date=START + 10.0))
    clock.advance(40.0)
    assert calls == [10.0, 15.0, 25.0, 35.0]


def test_one_call_has_a_delay_or_a_date() -> None:
    with pytest.raises(UsageError, match="one call has a delay or a date, not both"):
        Timer(10.0, print, once=True, date=START)


@pytest.mark.parametrize("settings", [{"date": math.nan}, {"date": math.inf}])
def test_what_is_no_date_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="seconds since 1970 were expected"):
        Timer(10.0, print, **settings)


def test_dates_of_no_one_distance_are_set_one_after_another(
    communicator: Communicator, clock: ManualClock, calls: Calls
) -> None:
    # As a time of day is, where summer time makes days of 23, 24 and 25 hours.
    days = itertools.accumulate((23.0, 24.0, 25.0), initial=START)

    def daily(timer: Timer) -> None:
        calls()
        timer.timeout_date = next(days, None)

    timer = communicator.add_connection(Timer(None, daily, date=next(days)))
    clock.advance(100.0)
    assert (calls, timer.is_closed) == ([0.0, 23.0, 47.0, 72.0], True)
