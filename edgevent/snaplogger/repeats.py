"""Which records senders have sent already."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

REMEMBERED: Final = 1_024
"""So many records of a sender are known again at least, when they come once more."""
REMEMBERED_OF_ALL: Final = 200_000
"""So many of all senders together at most; those who sent nothing for the longest are forgotten."""
MAX_NAME: Final = 128
"""So long a serial, and the text that a sender is known by, may be at most."""


class Repeats:
    """Knows the records of one sender again, by their serials.

    A record is the same when its time and text are, too: a sender that counts from 1 again loses
    none.

    Args:
        sender: The address of the sender, and its instance.

    Attributes:
        sender: The same.
    """

    __slots__ = ("_former", "_recent", "sender")

    def __init__(self, sender: tuple[str, str] = ("", "")) -> None:
        self.sender = sender
        self._recent: dict[str, int] = {}
        self._former: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._recent) + len(self._former)

    def all(self) -> Iterator[tuple[str, int]]:
        """Gives what is remembered, by serial, the oldest first."""
        yield from self._former.items()
        yield from self._recent.items()

    def has(self, serial: str, mark: int) -> bool:
        """Whether a record with this serial and mark was added."""
        found = self._recent.get(serial)
        if found is None:
            found = self._former.get(serial)
        return found == mark

    def add(self, serial: str, mark: int) -> int:
        """Takes note of a record; returns by how many more are remembered."""
        before = len(self)
        if len(self._recent) >= REMEMBERED:
            self._former = self._recent
            self._recent = {}
        self._recent[serial] = mark
        return len(self) - before

    def forget(self, serial: str) -> int:
        """Takes a record that came to nothing for unknown; returns by how many more there are."""
        before = len(self)
        self._recent.pop(serial, None)
        self._former.pop(serial, None)
        return len(self) - before


class AllRepeats:
    """The same for all senders, with a limit for all of them together.

    Attributes:
        count: How many records are remembered.
    """

    def __init__(self, most: int = REMEMBERED_OF_ALL) -> None:
        self.count = 0
        self._most = most
        self._senders: OrderedDict[tuple[str, str], Repeats] = OrderedDict()

    def of(self, sender: tuple[str, str]) -> Repeats:
        """Gives what is remembered of a sender."""
        found = self._senders.get(sender)
        if found is None:
            found = self._senders[sender] = Repeats(sender)
            self.count += 1  # itself is something, too
        else:
            self._senders.move_to_end(sender)
        return found

    def senders(self) -> Iterator[Repeats]:
        """Gives what is remembered of each sender, of those who sent last at the end."""
        yield from self._senders.values()

    def add(self, sender: Repeats, serial: str, mark: int) -> None:
        """Takes note of a record."""
        self.count += sender.add(serial, mark)
        while self.count > self._most and len(self._senders) > 1:
            _, oldest = self._senders.popitem(last=False)
            self.count -= len(oldest) + 1

    def forget(self, sender: Repeats, serial: str) -> None:
        """Takes a record that came to nothing for unknown."""
        self.count += sender.forget(serial)
