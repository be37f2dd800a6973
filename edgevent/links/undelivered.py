"""What a link keeps until it can leave, and what it has sent and cannot show to have arrived."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, overload

from ..limits import UNDELIVERED_BYTES, UNDELIVERED_MESSAGES
from ..message import Message

NEVER: Final = sys.maxsize
"""The position of a message that the kernel cannot have taken whole."""


class Entry:
    """One message on its way: as a line, which takes a tenth of a message's memory.

    Args:
        line: The line.
        keeps: Whether the link is to send it over the next connection when this one is lost.
    """

    __slots__ = ("end", "keeps", "line")

    def __init__(self, line: bytes, keeps: bool = False) -> None:
        self.line = line
        self.keeps = keeps
        self.end = NEVER  # how many bytes the link has sent in all when this message is out

    @property
    def message(self) -> Message:
        """The message."""
        return Message.parse(self.line)


class _Lost(NamedTuple):
    line: bytes
    in_doubt: bool


class Undelivered(Sequence[Message]):
    """The messages that may be lost, oldest first.

    The kernel of this side, the network, and the peer's kernel and program each may hold what was
    sent when a link breaks. All that is known to have arrived is what came before a request that
    was answered, for a peer handles its messages in order.

    Attributes:
        overflowed: How many older ones were forgotten because there were too many.
    """

    def __init__(self) -> None:
        self._found: deque[_Lost] = deque()
        self._bytes = 0
        self.overflowed = 0

    @property
    def in_doubt(self) -> list[Message]:
        """Those that were handed to the kernel: the peer may have had them."""
        return [Message.parse(found.line) for found in self._found if found.in_doubt]

    @property
    def unsent(self) -> list[Message]:
        """Those that were not: the peer cannot have had them."""
        return [Message.parse(found.line) for found in self._found if not found.in_doubt]

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> Message: ...

    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...

    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        if isinstance(index, slice):
            return [Message.parse(found.line) for found in list(self._found)[index]]
        return Message.parse(self._found[index].line)

    def __iter__(self) -> Iterator[Message]:
        for found in tuple(self._found):
            yield Message.parse(found.line)

    def add(self, entries: Iterable[Entry], *, in_doubt: bool) -> None:
        """Takes messages in; called by the link."""
        for entry in entries:
            self._found.append(_Lost(entry.line, in_doubt))
            self._bytes += len(entry.line)
        while self._bytes > UNDELIVERED_BYTES or len(self._found) > UNDELIVERED_MESSAGES:
            self._bytes -= len(self._found.popleft().line)
            self.overflowed += 1

    def clear(self) -> None:
        """Forgets them, once the program has dealt with them."""
        self._found.clear()
        self._bytes = self.overflowed = 0

    def __repr__(self) -> str:
        in_doubt = sum(found.in_doubt for found in self._found)
        return f"<Undelivered {in_doubt} in doubt, {len(self) - in_doubt} unsent>"


class Record:
    """What was sent over one connection and is not known to have arrived."""

    __slots__ = ("_bytes", "_entries", "overflowed")

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self.overflowed = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry, end: int) -> None:
        """Takes note of a message that has just been sent.

        Args:
            end: How many bytes the connection will have sent when it is out.
        """
        entry.end = end
        entries = self._entries
        entries.append(entry)
        self._bytes += len(entry.line)
        while self._bytes > UNDELIVERED_BYTES or len(entries) > UNDELIVERED_MESSAGES:
            self._bytes -= len(entries.popleft().line)
            self.overflowed += 1

    def arrived(self, position: int) -> None:
        """Forgets what was sent up to a position: an answer shows that it has arrived."""
        entries = self._entries
        while entries and entries[0].end <= position:
            self._bytes -= len(entries.popleft().line)

    def split(self, taken: int) -> tuple[list[Entry], list[Entry]]:
        """Tells apart what the kernel had taken when the connection was lost, and begins anew.

        Args:
            taken: How many bytes the kernel had taken.

        Returns:
            Those in doubt, and those unsent, of which the peer has half a line at most.
        """
        in_doubt = [entry for entry in self._entries if entry.end <= taken]
        unsent = [entry for entry in self._entries if entry.end > taken]
        self._entries.clear()
        self._bytes = 0
        return in_doubt, unsent


class Kept:
    """The messages that wait until their link is up, oldest first."""

    __slots__ = ("_entries", "size")

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self.size = 0  # bytes

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Puts a message behind the others."""
        self._entries.append(entry)
        self.size += len(entry.line)

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Puts messages, oldest first, before the others."""
        self._entries.extendleft(reversed(entries))
        self.size += sum(len(entry.line) for entry in entries)

    def take(self) -> Entry:
        """Takes the oldest."""
        entry = self._entries.popleft()
        self.size -= len(entry.line)
        return entry

    def take_all(self) -> list[Entry]:
        """Takes them all, oldest first."""
        entries = list(self._entries)
        self._entries.clear()
        self.size = 0
        return entries
