"""The inbox: what has come and waits for its turn."""

from __future__ import annotations

from typing import Any

from ..limits import INBOX_BYTES


class Inbox:
    """A queue of units with the bytes that they took on the wire.

    Attributes:
        units: Those that are next, the first of them at the end of the list: a list gives its last
            one away at no cost. Empty only when nothing waits. Who takes one from it without
            :meth:`take`, which costs a call, calls :meth:`advance` when that was the last.
        mark: Past so many bytes no more should be read.
    """

    __slots__ = ("_behind", "_behind_size", "_count", "_size", "mark", "units")

    def __init__(self, mark: int = INBOX_BYTES) -> None:
        self.units: list[Any] = []
        self._count = 0  # so many units were in the list,
        self._size = 0  # and took so many bytes together
        self._behind: list[Any] | None = None  # what has come since, in order
        self._behind_size = 0
        self.mark = mark

    @property
    def left(self) -> int:
        """How many units wait."""
        behind = self._behind
        return len(self.units) + (0 if behind is None else len(behind))

    @property
    def size(self) -> int:
        """How many bytes they are, about."""
        units = self.units
        return self._behind_size + (self._size * len(units) // self._count if units else 0)

    @property
    def is_full(self) -> bool:
        """Whether no more should be read."""
        return self.size > self.mark

    def put(self, units: list[Any], size: int) -> None:
        """Adds units that were ``size`` bytes on the wire. The list is the inbox's from now on."""
        if not units:
            return
        if self._behind is not None:
            self._behind += units
            self._behind_size += size
        elif self.units:
            self._behind = units
            self._behind_size += size
        else:
            units.reverse()
            self.units = units
            self._count = len(units)
            self._size = size

    def weigh(self, size: int) -> None:
        """Adds to the bytes of what waits; :meth:`clear` forgets it, and so does the last unit."""
        self._behind_size += size

    def peek(self) -> Any:
        """Returns the first unit, which stays."""
        return self.units[-1]

    def replace(self, unit: Any) -> None:
        """Puts another unit in place of the first one."""
        self.units[-1] = unit

    def take(self) -> Any:
        """Takes the first unit."""
        units = self.units
        unit = units.pop()
        if not units:
            self.advance()
        return unit

    def advance(self) -> None:
        """Goes on to what is behind the units that were taken."""
        behind = self._behind
        if behind is not None:
            behind.reverse()
            self.units = behind
            self._count = len(behind)
            self._behind = None
        self._size, self._behind_size = self._behind_size if behind else 0, 0

    def clear(self) -> None:
        """Drops everything."""
        self.units.clear()
        self._behind = None
        self._size = self._behind_size = 0
