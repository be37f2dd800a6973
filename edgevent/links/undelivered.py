"""What a link has sent and cannot show to have arrived."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

from ..limits import UNDELIVERED_BYTES, UNDELIVERED_MESSAGES
from ..message import Message


class _Entry(NamedTuple):
    message: Message
    size: int
    end: int  # the number of bytes that the link has sent when this one is out
    cached: bool


class Undelivered(Sequence[Message]):
    """The messages that may be lost, oldest first.

    The kernel of this side, the network, and the peer's kernel and program each may hold what was
    sent when a link breaks. All that is known to have arrived is what came before a request that
    was answered, for a peer handles its messages in order.

    Attributes:
        in_doubt: Those that were handed to the kernel: the peer may have had them.
        unsent: Those that were not: the peer cannot have had them.
        overflowed: How many older ones were forgotten because there were too many.
    """

    def __init__(self) -> None:
        self.in_doubt: list[Message] = []
        self.unsent: list[Message] = []
        self.overflowed = 0

    def __len__(self) -> int:
        return len(self.in_doubt) + len(self.unsent)

    @overload
    def __getitem__(self, index: int) -> Message: ...

    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...

    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        return (self.in_doubt + self.unsent)[index]

    def __iter__(self) -> Iterator[Message]:
        yield from self.in_doubt
        yield from self.unsent

    def clear(self) -> None:
        """Forgets them, once the program has dealt with them."""
        self.in_doubt.clear()
        self.unsent.clear()
        self.overflowed = 0

    def __repr__(self) -> str:
        return f"<Undelivered {len(self.in_doubt)} in doubt, {len(self.unsent)} unsent>"


class Record:
    """What was sent over the present connection and is not known to have arrived."""

    __slots__ = ("_bytes", "_entries", "overflowed", "position")

    def __init__(self) -> None:
        self._entries: deque[_Entry] = deque()
        self._bytes = 0
        self.position = 0  # the number of bytes that were sent so far
        self.overflowed = 0

    def add(self, message: Message, size: int, cached: bool) -> None:
        """Takes note of a message that is sent now."""
        self.position += size
        self._bytes += size
        self._entries.append(_Entry(message, size, self.position, cached))
        while self._bytes > UNDELIVERED_BYTES or len(self._entries) > UNDELIVERED_MESSAGES:
            self._bytes -= self._entries.popleft().size
            self.overflowed += 1

    def skip(self, size: int) -> None:
        """Takes note of bytes that are somebody else's to remember: a request's."""
        self.position += size

    def arrived(self, position: int) -> None:
        """Forgets what was sent up to a position: an answer shows that it has arrived."""
        entries = self._entries
        while entries and entries[0].end <= position:
            self._bytes -= entries.popleft().size

    def split(self, handed: int) -> tuple[list[Message], list[Message], list[Message]]:
        """Tells apart what a lost connection had been given, and begins anew.

        Args:
            handed: How many bytes the kernel had taken.

        Returns:
            Those in doubt, those unsent that are to be kept for the next connection, and those
            unsent that are not.
        """
        in_doubt, kept, unsent = [], [], []
        for entry in self._entries:
            if entry.end <= handed:
                in_doubt.append(entry.message)
            elif entry.cached:
                kept.append(entry.message)  # the peer has half a line of it at most
            else:
                unsent.append(entry.message)
        self._entries.clear()
        self._bytes = self.position = 0
        return in_doubt, kept, unsent
