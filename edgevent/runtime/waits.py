"""Limits that span several waits, and waits of several greenlets for one thing."""

from __future__ import annotations

from types import TracebackType

from greenlet import getcurrent, greenlet

from ..errors import DeadlineError, UsageError
from .clock import SYSTEM_CLOCK, Alarm, Clock
from .turns import TIMED_OUT, Turns, wait


class _Reached(BaseException):
    """What is thrown into the greenlet: no ``except Exception`` of a handler takes it."""


class deadline:
    """Bounds every wait inside a ``with`` block, whatever it waits for.

    Args:
        seconds: The limit, from the entry into the block.
        clock: The clock that counts them.

    Raises:
        DeadlineError: The limit was reached; raised by the ``with`` statement.

    Example:
        >>> with deadline(3.0):
        ...     client.request(first)
        ...     client.request(second)

    A block that never waits is not interrupted. Blocks may be nested; each has its own error.
    """

    def __init__(self, seconds: float, *, clock: Clock = SYSTEM_CLOCK) -> None:
        if not isinstance(seconds, (int, float)):
            raise UsageError(f"deadline: a number of seconds was expected, not {seconds!r}")
        self.seconds = seconds
        self._clock = clock
        self._alarm: Alarm | None = None
        self._reached: _Reached | None = None

    def __enter__(self) -> deadline:
        self._reached = _Reached()
        self._alarm = self._clock.call_later(self.seconds, getcurrent().throw, self._reached)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._alarm is not None
        self._alarm.stop()
        if error is not None and error is self._reached:
            raise DeadlineError(f"the deadline of {self.seconds:g} s was reached") from None


class Waiters:
    """The greenlets that wait for one thing to change, and look at it when they are woken."""

    __slots__ = ("_turns", "_waiting")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._waiting: dict[greenlet, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, clock: Clock, timeout: float | None) -> bool:
        """Parks the calling greenlet until it is woken; returns False when its limit was first."""
        current = self._turns.check_wait()
        self._waiting[current] = None
        try:
            return wait(self._turns, clock, timeout) is not TIMED_OUT
        finally:
            self._waiting.pop(current, None)

    def wake(self) -> None:
        """Has all that wait now looked after by the hub; does not switch."""
        if self._waiting:
            self._turns.loop.run_callback(self._wake)

    def _wake(self) -> None:
        for waiter in tuple(self._waiting):
            if waiter in self._waiting:  # else its limit came first, and it is somewhere else
                self._turns.resume(waiter)
