"""How late the hub is: the lateness of a timer, looked at all the time."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any, Final, NamedTuple

from .turns import Turns

_INTERVAL: Final = 0.1
_KEPT: Final = 600  # so many looks, which are the last minute of a hub that is not late


class Lag(NamedTuple):
    """By how many seconds the hub was late within the last minute.

    Attributes:
        now: At the last look.
        p99: All but one look in a hundred found it no later than that.
        max: The worst look.
    """

    now: float
    p99: float
    max: float


class LagMeter:
    """Sets a timer ten times a second, and keeps by how much the hub called it too late.

    The loop's own timer and the monotonic time: on a clock that a test moves nothing is ever late.
    The timer does not keep the loop. Nothing here switches.
    """

    __slots__ = ("_due", "_late", "_timer", "_turns")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._late: deque[float] = deque(maxlen=_KEPT)
        self._timer: Any = None
        self._due = 0.0

    def start(self) -> None:
        """Begins to look."""
        # A timer of libev that was called does not begin anew with its first delay.
        self._timer = self._turns.loop.timer(_INTERVAL, ref=False)
        self._due = monotonic() + _INTERVAL
        self._timer.start(self._look, update=True)

    def stop(self) -> None:
        """Looks no more; what was found stays."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def _look(self) -> None:
        try:
            self._late.append(max(monotonic() - self._due, 0.0))
            self.start()
        except BaseException as error:  # gevent would stop the timer without a word
            self._turns.failed(error)

    def read(self) -> Lag:
        """Returns what was found; all 0 before the first look."""
        late = sorted(self._late)
        if not late:
            return Lag(0.0, 0.0, 0.0)
        return Lag(self._late[-1], late[(len(late) - 1) * 99 // 100], late[-1])
