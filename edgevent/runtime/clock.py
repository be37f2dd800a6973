"""The one source of time for limits, delays and dates; tests give one that they move."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import gevent


class Alarm(Protocol):
    """A call that is to come."""

    def stop(self) -> None:
        """Cancels the call; does nothing when it was made already."""


class Clock:
    """Time as this thread's loop sees it.

    Intervals are measured on the monotonic clock, so that a change of the date does not touch
    them; dates are those of the system.
    """

    __slots__ = ()

    now: Callable[[], float] = staticmethod(time.monotonic)
    """Returns the monotonic time, in seconds from some start."""

    date: Callable[[], float] = staticmethod(time.time)
    """Returns the date, in seconds since 1970."""

    def call_later(self, delay: float, callback: Callable[..., Any], *arguments: Any) -> Alarm:
        """Has the hub call ``callback(*arguments)`` once, after ``delay`` seconds.

        The callback runs in the hub: it must not block, and must catch what it raises.
        """
        # A timer of the loop itself: 0.5 us and 150 bytes; spawn_later takes 8 us and 1.2 KiB.
        timer = gevent.get_hub().loop.timer(delay if delay > 0.0 else 0.0)
        # The loop's own time is that of its last poll: counted from there, the delay would be too
        # short by all that the caller has computed since.
        if arguments:
            timer.start(callback, *arguments, update=True)
        else:  # 0.1 us less
            timer.start(callback, update=True)
        alarm: Alarm = timer
        return alarm


SYSTEM_CLOCK = Clock()
"""The clock that is used when no other is given."""
