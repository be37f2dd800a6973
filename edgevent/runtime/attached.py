"""File descriptors that wait in an outbox, each for the byte that it leaves with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol


class Passing(Protocol):
    """The descriptors that leave with one message."""

    @property
    def count(self) -> int:
        """How many they are."""

    def transmit(self, data: bytes | memoryview) -> int:
        """Sends bytes with them; returns how many bytes were taken, one at least.

        Raises ``BlockingIOError`` or another ``OSError``; then no descriptor has left."""

    def check(self, error: OSError) -> None:
        """Raises what the error means, unless it means that the connection broke."""

    def keep(self) -> None:
        """Makes copies, so that the caller may close its own."""

    def close(self) -> None:
        """Closes the copies."""


class Attached:
    """Stands between an outbox and its transport while descriptors wait among the bytes.

    Args:
        transmit: Sends bytes alone.

    Attributes:
        count: How many descriptors wait.
    """

    __slots__ = ("_plain", "_sent", "_waiting", "count")

    def __init__(self, transmit: Callable[[bytes | memoryview], int]) -> None:
        self._plain = transmit
        self._sent = 0
        self._waiting: deque[tuple[int, Passing]] = deque()
        self.count = 0

    def add(self, fds: Passing, ahead: int) -> None:
        """Takes descriptors that leave when so many bytes have left."""
        self._waiting.append((self._sent + ahead, fds))
        self.count += fds.count

    def transmit(self, data: bytes | memoryview) -> int:
        """Sends bytes, no more than belong to one message with descriptors."""
        fds: Passing | None = None
        if self._waiting and self._waiting[0][0] == self._sent:
            fds = self._waiting[0][1]
        following = 0 if fds is None else 1
        if len(self._waiting) > following:
            ahead = self._waiting[following][0] - self._sent
            if len(data) > ahead:
                data = memoryview(data)[:ahead]
        sent = self._plain(data) if fds is None else fds.transmit(data)
        self._sent += sent
        if fds is not None:
            self._waiting.popleft()
            self.count -= fds.count
            fds.close()
        return sent

    def close(self) -> None:
        """Closes the descriptors that have not left."""
        while self._waiting:
            self._waiting.popleft()[1].close()
        self.count = 0
