"""A clock that stands still until a test moves it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

import gevent
from greenlet import getcurrent

from ..errors import UsageError
from ..runtime.clock import Alarm, Clock
from ..runtime.turns import Turns

_QUIET_POLLS = 3  # what one poll brings may write to a socket that the next one finds readable
_MOST_POLLS = 10_000


class ManualAlarm:
    """A call that is to come once the clock was moved far enough."""

    __slots__ = ("arguments", "at", "callback", "is_set")

    def __init__(self, at: float, callback: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.at = at
        self.callback = callback
        self.arguments = arguments
        self.is_set = True

    def stop(self) -> None:
        """Cancels the call."""
        self.is_set = False


class ManualClock(Clock):
    """Time that passes only in :meth:`advance`; dates follow it, and jump in :meth:`set_date`.

    Args:
        now: The monotonic time to begin with.
        date: The date to begin with, in seconds since 1970.

    Example:
        >>> clock = ManualClock()
        >>> with Communicator(clock=clock) as communicator:
        ...     communicator.every(60.0, collect)
        ...     clock.advance(180.0)    # collect() has run three times
    """

    __slots__ = ("_alarms", "_date", "_now", "_numbers")

    def __init__(self, now: float = 1000.0, date: float = 1_700_000_000.0) -> None:
        self._now = now
        self._date = date - now
        self._alarms: list[tuple[float, int, ManualAlarm]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        """The monotonic time, in seconds."""
        return self._now

    def date(self) -> float:
        """The date, in seconds since 1970."""
        return self._now + self._date

    def set_date(self, date: float) -> None:
        """Makes the date jump, as an administrator may; intervals are not affected."""
        self._date = date - self._now

    @property
    def alarms(self) -> list[float]:
        """In how many seconds each call that is to come is due, the next one first."""
        return sorted(alarm.at - self._now for _, _, alarm in self._alarms if alarm.is_set)

    def call_later(self, delay: float, callback: Callable[..., Any], *arguments: Any) -> Alarm:
        """Has the hub call ``callback(*arguments)`` once the clock was moved by ``delay``."""
        alarm = ManualAlarm(self._now + max(delay, 0.0), callback, arguments)
        heapq.heappush(self._alarms, (alarm.at, next(self._numbers), alarm))
        return alarm

    def advance(self, seconds: float) -> None:
        """Moves the clock, and makes the calls that are due, in the order of their time.

        Each call is made in the hub at its own time; before the next one, and before this returns,
        all turns that are ready have run and all sockets of this process are quiet. A handler that
        waits for something else goes on waiting.

        Raises:
            UsageError: The caller is the hub, which could not wait.
            BaseException: What a call raised, which no call may.
        """
        end = self._now + seconds
        settle()
        while self._alarms and self._alarms[0][0] <= end:
            at, _, alarm = heapq.heappop(self._alarms)
            if alarm.is_set:
                self._now = max(at, self._now)
                alarm.is_set = False
                _call_in_hub(alarm)
                settle()
        self._now = end


def settle() -> None:
    """Waits until nothing is left to be done in this thread but what waits for something else.

    Raises:
        UsageError: The caller is the hub, or the thread does not become quiet.
    """
    turns = Turns.current()
    turns.check_wait()
    quiet = 0
    for _ in range(_MOST_POLLS):
        gevent.idle()
        if turns.ready or turns.granted or turns.joined:
            quiet = 0
        else:
            quiet += 1
            if quiet == _QUIET_POLLS:
                return
    raise UsageError(f"turns are still ready after {_MOST_POLLS} polls")


def _call_in_hub(alarm: ManualAlarm) -> None:
    hub = gevent.get_hub()
    caller = getcurrent()
    raised: list[BaseException] = []
    waits = True

    def call() -> None:
        try:
            alarm.callback(*alarm.arguments)
        except BaseException as error:
            raised.append(error)
        if waits:
            caller.switch()

    hub.loop.run_callback(call)
    try:
        hub.switch()
    finally:  # the call may have been to the caller itself, as that of a deadline is
        waits = False
    if raised:
        raise raised[0]
