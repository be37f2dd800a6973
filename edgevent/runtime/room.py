"""The room of an outbox: how full it is, and who waits until there is some again."""

from __future__ import annotations

from typing import Literal, Protocol

from greenlet import getcurrent

from ..errors import ConnectionLostError, NetworkError, QueueFullError
from ..limits import JOIN_BYTES, TOTAL_QUEUED_BYTES
from .clock import Clock
from .turns import Turns
from .waits import Waiters
from .watchers import Watched

WhenFull = Literal["wait", "raise", "drop"]


class Owner(Protocol):
    """The connection that an outbox belongs to."""

    def sending_broke(self, error: NetworkError) -> None:
        """Called once, in the hub or in the sender's greenlet: a write failed, or the peer was too
        slow."""

    def sending_emptied(self) -> None:
        """Called in the hub when what had to wait is out."""

    def undeliverable(self, error: ConnectionLostError) -> None:
        """Called in the hub when a datagram that had to wait could not be sent."""


class Room:
    """The part of an outbox that counts what waits, and lets senders wait.

    Attributes:
        size: How many bytes wait to leave.
        max_bytes: From so many on it is full.
        when_full: What a send does then: ``wait``, ``raise`` or ``drop``.
        dropped: How many were dropped because of that.
        error: Why nothing leaves any more; ``None`` while something does.
    """

    __slots__ = (
        "_in_flight",
        "_progress",
        "_transport",
        "_turns",
        "_waiters",
        "_watching",
        "clock",
        "dropped",
        "error",
        "max_bytes",
        "size",
        "when_full",
    )

    _progress: float  # when the peer has taken something last,
    _in_flight: int  # and what the kernel held for it then
    _transport: Watched
    _turns: Turns
    _waiters: Waiters | None
    _watching: bool  # whether the kernel has not taken everything
    clock: Clock
    dropped: int
    error: NetworkError | None
    max_bytes: int
    size: int
    when_full: WhenFull

    @property
    def waiting(self) -> int:
        """How many greenlets wait for room."""
        return 0 if self._waiters is None else len(self._waiters)

    @property
    def stalled(self) -> float:
        """For how many seconds the peer has taken nothing of what waits; 0.0 when nothing does."""
        return self.clock.now() - self._progress if self._watching and self.size else 0.0

    @property
    def is_full(self) -> bool:
        """Whether a sender has to wait."""
        return self.size >= self._mark()

    def wait(self, timeout: float | None) -> bool:
        """Waits until the outbox has shrunk or broken; returns False when the limit was reached."""
        if self._waiters is None:
            self._waiters = Waiters(self._turns)
        return self._waiters.wait(self.clock, timeout)

    def error_again(self) -> NetworkError:
        """Makes the error anew: one that is raised twice gathers tracebacks."""
        assert self.error is not None
        return type(self.error)(self.error.args[0], self.error.errno)

    def _mark(self) -> int:
        return self.max_bytes if self._turns.queued < TOTAL_QUEUED_BYTES else JOIN_BYTES

    def _make_room(self) -> bool:
        """Waits until there is room; returns whether there is."""
        if not self._may_wait(f"{self.size} bytes"):
            return False
        if not self._watching:
            self._drain()
        while self.size >= self._mark():
            self.wait(None)
            if self.error is not None:
                raise self.error_again()
        return True

    def _may_wait(self, what: str) -> bool:
        if self.when_full == "drop":
            self.dropped += 1
            return False
        if self.when_full == "raise" or getcurrent() is self._turns.hub:
            raise QueueFullError(f"the outbox is full: {what} wait for {self._transport.peer}")
        return True

    def _drain(self) -> None:
        """Writes what waits; the outbox says how."""
        raise NotImplementedError

    def _wake(self) -> None:
        if self._waiters is not None:
            self._waiters.wake()
