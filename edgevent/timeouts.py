"""The timeouts of a connection: a delay that repeats, and a date."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from .errors import UsageError
from .runtime.clock import Alarm, Clock
from .runtime.turns import RUNNING, Turns

TIMEOUT: Final = 1
DATE: Final = 2
"""What can be due in a turn because of them."""

_DATE_STEP: Final = 0.5  # a date is looked at so often: the kernel tells nobody that it was set


class Timekeeper(Protocol):
    """What timeouts ask of the communicator."""

    turns: Turns
    clock: Clock


class Timed:
    """The part of :class:`~edgevent.Connection` that knows of time; no object by itself.

    Its attributes are made by the connection's ``__init__``: there are ten thousand of them in a
    busy server, and timers by the million.
    """

    __slots__ = ("_alarm", "_date", "_date_alarm", "_delay", "_next")

    _alarm: Alarm | None
    _closed: bool
    _communicator: Timekeeper | None
    _date: float | None
    _date_alarm: Alarm | None
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
        if date is not None and not abs(date) < float("inf"):
            raise UsageError(f"{self.name}: seconds since 1970 were expected: {date!r}")
        self._check_thread()
        self._date = date
        self._start_date()

    # --- alarms -----------------------------------------------------------------------------------

    def _start_delay(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None
        communicator = self._communicator
        if self._delay is not None and communicator is not None and self._may_alarm():
            clock = communicator.clock
            self._next = clock.now() + self._delay
            self._alarm = clock.call_later(self._delay, self._delay_over)

    def _check_delay(self, delay: float) -> None:
        if not 0.0 < delay < float("inf"):
            raise UsageError(f"{self.name}: a delay of more than 0 seconds was expected: {delay!r}")

    def _check_thread(self) -> None:
        if self._communicator is not None:
            self._communicator.turns.check()

    def _may_alarm(self) -> bool:
        return self._communicator is not None and self._enabled and not self._closed

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

    def _start_date(self) -> None:
        if self._date_alarm is not None:
            self._date_alarm.stop()
            self._date_alarm = None
        communicator = self._communicator
        if self._date is not None and communicator is not None and self._may_alarm():
            clock = communicator.clock
            left = self._date - clock.date()
            self._date_alarm = clock.call_later(min(left, _DATE_STEP), self._look_at_date)

    def _look_at_date(self) -> None:
        communicator, date = self._communicator, self._date
        if communicator is None or date is None or communicator.turns.forked:
            return
        try:
            if communicator.clock.date() < date:
                self._start_date()
            else:
                self._date = None
                self._date_alarm = None
                self._mark_due(DATE)
        except BaseException as error:
            communicator.turns.failed(error)

    def _stop_alarms(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None
        if self._date_alarm is not None:
            self._date_alarm.stop()
            self._date_alarm = None
