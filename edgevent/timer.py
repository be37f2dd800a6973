"""A timer: a connection that has nothing but its timeouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import limits
from .connection import Connection


class Timer(Connection):
    """Calls a function in a turn, once or again and again.

    Args:
        delay: Seconds between two calls; the first comes after one delay. Calls that were missed
            are skipped, and the others stay on their marks.
        callback: Called with the timer; :meth:`process_timeout` may be overridden instead.
        once: Whether the timer ends with its first call.
        date: The date (seconds since 1970) of one call, in place of ``delay``.
    """

    __slots__ = ("_callback", "_once")

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
        self._callback = callback
        self._once = once
        if delay is not None:
            self._check_delay(delay)
            self._delay = delay  # what the setter does besides needs a communicator
        if date is not None:
            self.timeout_date = date

    def process_timeout(self) -> None:
        """Calls the callback."""
        if self._callback is not None:
            self._callback(self)

    def run_turn(self) -> None:
        """Calls back, and ends a timer that has nothing more to do."""
        try:
            super().run_turn()
        finally:
            if self._once or (self.timeout_delay is None and self.timeout_date is None):
                self.close()
