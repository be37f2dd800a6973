"""Limits that span several waits."""

from __future__ import annotations

from types import TracebackType

from greenlet import getcurrent

from ..errors import DeadlineError
from .clock import SYSTEM_CLOCK, Alarm, Clock


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
