"""The timeouts of a connection: a delay that repeats, and a date.

**How a date is kept.** All dates of a communicator stand in one heap, with one alarm of the loop
for the next of them, and that alarm is never set further ahead than half a second: each time it
looks at the system's date again. So a date is met within half a second of any change of the clock,
whoever changed it and however: ``settimeofday``, a step of NTP, a machine that was suspended or
moved. That was weighed against ``timerfd`` with ``TFD_TIMER_CANCEL_ON_SET`` (timerfd_create(2)),
which wakes nobody until the kernel's clock is set:

- two looks a second cost 0.03 % of a processor (0.3 ms of CPU a second, for one date as for
  10,000), and only while a date is set;
- a ``timerfd`` knows the kernel's clock alone. Under libfaketime, or any other clock that a library
  puts before the program, it would be right by the wrong clock, so the looks would be needed too;
- it is a descriptor a thread, before Python 3.13 by ``ctypes``, and the branch that a clock change
  takes could be tested on no machine whose clock must not be changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final, Protocol

from .errors import UsageError
from .runtime.clock import Alarm, Clock
from .runtime.turns import RUNNING, Turns
from .turn_limits import Keeper, TurnLimits

TIMEOUT: Final = 1
DATE: Final = 2
"""What can be due in a turn because of them."""

_DATE_STEP: Final = 0.5  # a date is looked at so often: see above
_MAX_STALE: Final = 64  # so many cancelled dates may stand among a few others
INFINITY: Final = float("inf")
"""No delay and no date is as long."""


class Timekeeper(Keeper, Protocol):
    """What timeouts ask of the communicator."""

    turns: Turns
    clock: Clock
    dates: Dates


class Timed(TurnLimits):
    """The part of :class:`~edgevent.Connection` that knows of time; no object by itself.

    Its attributes are made by the connection's ``__init__``: there are ten thousand of them in a
    busy server, and timers by the million.
    """

    __slots__ = ("_alarm", "_date", "_date_alarm", "_delay", "_next")

    _alarm: Alarm | None
    _closed: bool
    _communicator: Timekeeper | None
    _date: float | None
    _date_alarm: DateAlarm | None
    _delay: float | None
    _enabled: bool
    _mark_due: Callable[[int], None]
    _next: float
    name: str
    ticket: int

    # --- what users see ---------------------------------------------------------------------------

    @property
    def timeout_delay(self) -> float | None:
        """Seconds between calls of :meth:`process_timeout`; ``None`` for none.

        A call that would come while a turn of the connection still runs is skipped. Disabling
        stops it; enabling begins a whole delay anew.
        """
        return self._delay

    @timeout_delay.setter
    def timeout_delay(self, delay: float | None) -> None:
        if delay is not None:
            self._check_delay(delay)
        self._check_thread()
        self._delay = delay
        self._start_delay()

    @property
    def timeout_date(self) -> float | None:
        """The date (seconds since 1970) of one call of :meth:`process_timeout`.

        It is never skipped: a connection that is busy or disabled then is called afterwards. When
        the system's date is set, the call comes within a second of the jump.
        """
        return self._date

    @timeout_date.setter
    def timeout_date(self, date: float | None) -> None:
        if date is not None and not abs(date) < INFINITY:
            raise UsageError(f"{self.name}: seconds since 1970 were expected: {date!r}")
        self._check_thread()
        self._set_date(date)
        self._start_date()

    # --- alarms -----------------------------------------------------------------------------------

    def _start_delay(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None
        communicator, delay = self._communicator, self._delay
        if delay is not None and communicator is not None and self._enabled and not self._closed:
            clock = communicator.clock
            self._next = clock.now() + delay
            self._alarm = clock.call_later(delay, self._delay_over)

    def _check_delay(self, delay: float) -> None:
        if not isinstance(delay, int | float) or not 0.0 < delay < INFINITY:
            raise UsageError(f"{self.name}: a delay of more than 0 seconds was expected: {delay!r}")

    def _check_thread(self) -> None:
        if self._communicator is not None:
            self._communicator.turns.check()

    def _delay_over(self) -> None:
        communicator, delay = self._communicator, self._delay
        if communicator is None or delay is None or communicator.turns.forked:
            return
        try:
            clock = communicator.clock
            now = clock.now()
            self._next += delay
            if self._next <= now:  # the hub was busy: what was missed is skipped, not made up
                self._next += delay * ((now - self._next) // delay + 1)
            self._alarm = clock.call_later(self._next - now, self._delay_over)
            if self.ticket != RUNNING:
                self._mark_due(TIMEOUT)
        except BaseException as error:
            communicator.turns.failed(error)

    def _set_date(self, date: float | None) -> None:
        self._date = date

    def _date_after(self, now: float) -> float | None:
        """The date of the next call after ``now``, of what is called at several dates."""
        return None

    def _start_date(self) -> None:
        communicator, date = self._communicator, self._date
        if self._date_alarm is not None:
            self._date_alarm.stop()
            self._date_alarm = None
        if date is not None and communicator is not None and self._enabled and not self._closed:
            self._date_alarm = communicator.dates.add(date, self)

    def date_reached(self, now: float) -> None:
        """Called in the hub when the date is reached: a turn follows, now or afterwards."""
        self._date_alarm = None
        self._date = self._date_after(now)
        self._start_date()
        self._mark_due(DATE)

    def date_set_back(self, now: float) -> float | None:
        """Called in the hub when the date has jumped back; returns the date that holds now."""
        earlier = self._date_after(now)
        if earlier is not None:
            self._date = earlier
        return self._date

    def _stop_alarms(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None
        if self._date_alarm is not None:
            self._date_alarm.stop()
            self._date_alarm = None


class DateAlarm:
    """A date in the heap of a communicator."""

    __slots__ = ("date", "dates", "number", "timed")

    def __init__(self, dates: Dates, date: float, number: int, timed: Timed) -> None:
        self.dates = dates
        self.date = date
        self.number = number  # of one date, the first that was set is the first
        self.timed: Timed | None = timed

    def __lt__(self, other: DateAlarm) -> bool:
        if self.date == other.date:
            return self.number < other.number
        return self.date < other.date

    def stop(self) -> None:
        """Cancels it. Idempotent."""
        if self.timed is not None:
            self.timed = None
            self.dates.forget_stopped()


class Dates:
    """The dates of a communicator's connections, and the alarm for the next one."""

    __slots__ = ("_alarm", "_clock", "_heap", "_lead", "_next_look", "_numbers", "_stale", "_turns")

    def __init__(self, clock: Clock, turns: Turns) -> None:
        self._clock = clock
        self._turns = turns
        self._heap: list[DateAlarm] = []
        self._stale = 0  # so many of them were stopped
        self._numbers = itertools.count()
        self._alarm: Alarm | None = None
        self._next_look = 0.0  # by the monotonic clock
        self._lead = 0.0  # of the date before the monotonic clock

    def __len__(self) -> int:
        return len(self._heap) - self._stale

    def add(self, date: float, timed: Timed) -> DateAlarm:
        """Calls ``timed.date_reached`` in the hub when the date is reached."""
        alarm = DateAlarm(self, date, next(self._numbers), timed)
        if not self._heap:
            self._lead = self._clock.date() - self._clock.now()
        heappush(self._heap, alarm)
        if self._heap[0] is alarm:
            self._arm()
        return alarm

    def forget_stopped(self) -> None:
        """Called when one of them was stopped."""
        self._stale += 1
        heap = self._heap
        if self._stale > max(len(heap) // 2, _MAX_STALE):
            self._heap = heap = [alarm for alarm in heap if alarm.timed is not None]
            self._stale = 0
            heapify(heap)
        self._drop_stopped()
        if not self._heap and self._alarm is not None:
            self._alarm.stop()
            self._alarm = None

    def _drop_stopped(self) -> None:
        """Nobody is woken for a date that was stopped."""
        heap = self._heap
        while heap and heap[0].timed is None:
            heappop(heap)
            self._stale -= 1

    def _arm(self) -> None:
        """Sees to it that the next look is neither too late nor too far away."""
        clock, now = self._clock, self._clock.now()
        wait = min(max(self._heap[0].date - clock.date(), 0.0), _DATE_STEP)
        if self._alarm is not None:
            if self._next_look <= now + wait:
                return
            self._alarm.stop()
        self._next_look = now + wait
        self._alarm = clock.call_later(wait, self._look)

    def _look(self) -> None:
        self._alarm = None
        if self._turns.forked:
            return
        try:
            now = self._clock.date()
            self._look_for_a_jump(now)
            while self._heap and self._heap[0].date <= now:
                alarm = heappop(self._heap)
                timed, alarm.timed = alarm.timed, None
                if timed is None:
                    self._stale -= 1
                else:
                    timed.date_reached(now)
            self._drop_stopped()
            if self._heap:
                self._arm()
        except BaseException as error:
            self._turns.failed(error)

    def _look_for_a_jump(self, now: float) -> None:
        lead = now - self._clock.now()
        back, self._lead = self._lead - lead, lead
        if back > _DATE_STEP:
            for alarm in self._heap:
                if alarm.timed is not None and alarm.date > now:
                    alarm.date = alarm.timed.date_set_back(now) or alarm.date
            heapify(self._heap)
