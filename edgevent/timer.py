"""A timer: a connection that has nothing but its timeouts."""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from typing import Any

from . import limits
from .arguments import check_callable, checks_arguments
from .connection import Connection
from .errors import UsageError
from .timeouts import INFINITY


@checks_arguments
class Timer(Connection):
    """Calls a function in a turn, once or again and again.

    With a delay alone it counts the seconds that pass, whatever happens to the system's date. With
    a date it keeps to that: within half a second of any change of the date it is called if it is
    time, and is not if it is time no more.

    Args:
        delay: Seconds between two calls; the first comes after one delay. Calls that were missed
            are skipped, and the others stay on their marks.
        callback: Called with the timer; :meth:`process_timeout` may be overridden instead.
        once: Whether the timer ends with its first call.
        date: The date (seconds since 1970) of one call, which is never skipped: one that is past is
            made at once. With a delay the date is one of many, each a delay from the next (0.0 and
            3600.0: at every full hour of UTC): those that were missed are skipped, and when the
            system's date is set back, those that come again are met again.

    Raises:
        UsageError: The delay or the date is none, or a timer that is called once has both.
    """

    __slots__ = ("_callback", "_interval", "_mark", "_once", "function")

    def __init__(
        self,
        delay: float | None = None,
        callback: Callable[[Timer], Any] | None = None,
        *,
        once: bool = False,
        date: float | None = None,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
    ) -> None:
        super().__init__(name=name, priority=priority, keep_running=keep_running)
        if callback is not None:
            check_callable(callback, self.name, ("timer",))
        self._callback = callback
        self.function: Callable[[], Any] | None = None  # in place of the callback
        self._once = once
        self._interval: float | None = None
        if delay is not None:
            if type(delay) is not float or not 0.0 < delay < INFINITY:  # else it needs no check
                self._check_delay(delay)
            self._delay = delay  # what the setter does besides needs a communicator
        if date is not None:
            if delay is not None and once:
                raise UsageError(f"{self.name}: one call has a delay or a date, not both")
            self._delay, self._interval = None, delay
            self.timeout_date = date

    def call(self, function: Callable[[], Any]) -> None:
        """Has a function without arguments called in place of the callback."""
        check_callable(function, self.name, ())
        self.function = function

    def _start_date(self) -> None:
        date, communicator = self._date, self._communicator
        if self._interval is not None and date is not None and communicator is not None:
            now = communicator.clock.date()
            if date < now:
                self._date = self._date_after(now)
        super()._start_date()

    def _set_date(self, date: float | None) -> None:
        super()._set_date(date)
        if date is not None:
            self._mark = date

    def _date_after(self, now: float) -> float | None:
        interval = self._interval
        if interval is None:
            return None
        # Counted from the first mark each time: a sum of delays would drift by its rounding.
        count = max(floor((now - self._mark) / interval) + 1, 0)
        while (date := self._mark + count * interval) <= now:
            count += 1
        return date

    def process_timeout(self) -> None:
        """Calls the callback."""
        if self.function is not None:
            self.function()
        elif self._callback is not None:
            self._callback(self)

    def run_turn(self) -> None:
        """Calls back, and ends a timer that has nothing more to do."""
        try:
            super().run_turn()
        finally:
            if self._once or (self.timeout_delay is None and self.timeout_date is None):
                self.close()
