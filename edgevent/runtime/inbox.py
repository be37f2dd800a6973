"""The inbox: what has come and waits for its turn."""

from __future__ import annotations

from typing import Any, Final

from ..limits import INBOX_BYTES

_KEPT: Final = 256  # so many units that were taken may lie in front of the others


class Inbox:
    """A queue of units with the bytes that they took on the wire.

    Attributes:
        left: How many units wait.
        size: How many bytes they are, about.
        mark: Past so many bytes no more should be read.
    """

    __slots__ = ("_taken", "_units", "left", "mark", "size")

    def __init__(self, mark: int = INBOX_BYTES) -> None:
        self._units: list[Any] = []
        self._taken = 0
        self.left = 0
        self.size = 0
        self.mark = mark

    @property
    def is_full(self) -> bool:
        """Whether no more should be read."""
        return self.size > self.mark

    def put(self, units: list[Any], size: int) -> None:
        """Adds units that were ``size`` bytes on the wire."""
        self._units += units
        self.left += len(units)
        self.size += size

    def peek(self) -> Any:
        """Returns the first unit, which stays."""
        return self._units[self._taken]

    def replace(self, unit: Any) -> None:
        """Puts another unit in place of the first one."""
        self._units[self._taken] = unit

    def take(self) -> Any:
        """Takes the first unit."""
        units = self._units
        unit = units[self._taken]
        self._taken += 1
        self.left -= 1
        if not self.left:
            units.clear()
            self._taken = 0
            self.size = 0
        elif self._taken >= _KEPT and self._taken * 2 >= len(units):
            # In steps of half of it, the cost a unit stays the same however much there is.
            self.size = self.size * self.left // len(units)
            del units[: self._taken]
            self._taken = 0
        return unit

    def clear(self) -> None:
        """Drops everything."""
        self._units.clear()
        self._taken = self.left = self.size = 0
