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

        Each call is made in the hub at its own time, those of one time one after another. Before
        the time goes on, and before this returns, all turns that are ready have run and the sockets
        of this thread are quiet. A handler that waits for something else goes on waiting.

        Raises:
            UsageError: The caller is the hub, which could not wait.
            BaseException: What a call raised, which no call may.
        """
        end = self._now + seconds
        settle()
        while self._alarms and self._alarms[0][0] <= end:
            self._now = max(self._alarms[0][0], self._now)
            self._call_due()
            settle()
        self._now = end

    def lag(self, seconds: float) -> None:
        """Lets time pass as it does while the hub is kept busy: what is due then comes too late."""
        self._now += seconds

    def _call_due(self) -> None:
        """Calls all that is due now in one callback of the hub, as the loop's own timers are."""
        hub = gevent.get_hub()
        caller = getcurrent()
        due: list[ManualAlarm] = []
        while self._alarms and self._alarms[0][0] <= self._now:
            due.append(heapq.heappop(self._alarms)[2])
        raised: list[BaseException] = []
        waits = True

        def call() -> None:
            for alarm in due:
                if alarm.is_set:  # else one before it has stopped it
                    alarm.is_set = False
                    try:
                        alarm.callback(*alarm.arguments)
                    except BaseException as error:
                        raised.append(error)
            if waits:
                caller.switch()

        hub.loop.run_callback(call)
        try:
            hub.switch()
        finally:  # a call may have been to the caller itself, as that of a deadline is
            waits = False
        if raised:
            raise raised[0]


def settle() -> None:
    """Waits until nothing is left to be done in this thread but what waits for something else.

    Raises:
        UsageError: The caller is the hub, or there is always more to be done.
    """
    turns = Turns.current()
    waiting = turns.check_wait()
    quiet = polls = 0

    def found_nothing() -> None:
        nonlocal quiet
        quiet = 0 if turns.ready or turns.granted or turns.joined else quiet + 1
        if quiet == _QUIET_POLLS:
            waiting.switch()

    def begins_a_poll() -> None:
        nonlocal polls
        polls += 1
        if polls == _MOST_POLLS:
            waiting.switch()

    idle, prepare = turns.loop.idle(), turns.loop.prepare()
    idle.start(found_nothing)
    prepare.start(begins_a_poll)
    try:
        turns.hub.switch()
    finally:
        idle.close()
        prepare.close()
    if quiet < _QUIET_POLLS:
        raise UsageError(f"there is still something to do after {_MOST_POLLS} polls")
