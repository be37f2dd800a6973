"""How often handlers ran, how long they took, and how many failed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
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

    def add(self, spent: float) -> None:
        """Takes note that one has ended, after so many seconds."""
        self.count += 1
        self.total += spent
        if spent > self.max:
            self.max = spent


class HandlerTable:
    """The times of handlers, by the command or pattern for which each was added.

    A function that has a connection for itself, and ``process_message`` of a class of connections,
    stand under their own names. A peer cannot make it grow: it names entries of dispatchers and
    functions, not what was sent.

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
        times = self._row(key)

        def call(message: Message, peer: Any) -> Any:
            began = perf_counter()
            try:
                return handler(message, peer)
            except BaseException:
                times.errors += 1
                raise
            finally:
                times.add(perf_counter() - began)

        call.__qualname__ = describe(handler)
        return call

    def timed_function(self, function: Callable[[Any], object]) -> Callable[[Any], object]:
        """Returns a function of a connection that does the same, and is counted by its name."""
        if isinstance(function, _Timed) and function.table is self:
            return function
        return _Timed(self, function, self._row(describe(function)))

    def time_method(self, owner: Any, name: str) -> None:
        """Has a method of an object, which takes a message, counted by the name of its class.

        One of a class without ``__dict__`` is not.
        """
        method = getattr(type(owner), name)
        attributes = getattr(owner, "__dict__", None)
        if attributes is None or name in attributes:
            return
        timed: Any = self.timed(describe(method), method)
        found = weakref.ref(owner)  # not the object itself, which would be a cycle
        attributes[name] = lambda message: timed(found(), message)

    def _row(self, key: str) -> HandlerTimes:
        if key not in self.rows and len(self.rows) >= _MOST:
            key = OTHERS
        return self.rows.setdefault(key, HandlerTimes())


class _Timed:
    """A function of a connection, and where its times are counted."""

    __slots__ = ("__qualname__", "_function", "_times", "table")

    def __init__(
        self, table: HandlerTable, function: Callable[[Any], object], times: HandlerTimes
    ) -> None:
        self.table = table
        self._function = function
        self._times = times
        self.__qualname__ = describe(function)

    def __call__(self, connection: Any) -> object:
        began = perf_counter()
        try:
            return self._function(connection)
        except BaseException:
            self._times.errors += 1
            raise
        finally:
            self._times.add(perf_counter() - began)
