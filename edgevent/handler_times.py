"""How often handlers ran, how long they took, and how many failed."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Final

from .binding import Bound, describe
from .message import Message

_MOST: Final = 1_000
OTHERS: Final = "others"
"""Counts all entries together for which the table had no room left."""


class HandlerTimes:
    """What the handlers of one entry of a dispatcher have taken.

    Attributes:
        count: How often one ran to its end.
        total: The seconds that they took, their waits included.
        max: The seconds of the longest one.
        errors: How many of them raised.
    """

    __slots__ = ("count", "errors", "max", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.max = 0.0
        self.errors = 0


class HandlerTable:
    """The times of handlers, by the command or pattern for which each was added.

    A peer cannot make it grow: it names entries of dispatchers, not what was sent.

    Attributes:
        rows: The times, in the order in which the entries were first used.
        closed: Whether nobody reads it any more; then a dispatcher may count elsewhere.
    """

    __slots__ = ("closed", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, HandlerTimes] = {}
        self.closed = False

    def timed(self, key: str, handler: Bound) -> Bound:
        """Returns a handler that does the same, and is counted."""
        if key not in self.rows and len(self.rows) >= _MOST:
            key = OTHERS
        times = self.rows.setdefault(key, HandlerTimes())

        def call(message: Message, peer: Any) -> Any:
            began = perf_counter()
            try:
                return handler(message, peer)
            except BaseException:
                times.errors += 1
                raise
            finally:
                spent = perf_counter() - began
                times.count += 1
                times.total += spent
                if spent > times.max:
                    times.max = spent

        call.__qualname__ = describe(handler)
        return call
