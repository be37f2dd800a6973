"""A connected pair in memory, for tests: a transport without a descriptor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent

from .base import Credentials

CAPACITY = 64 * 1024


class _Pipe:
    """One direction: a bounded buffer with an end."""

    __slots__ = ("capacity", "data", "ended", "reader", "writer")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.data = bytearray()
        self.ended = False
        self.reader: MemoryTransport | None = None
        self.writer: MemoryTransport | None = None


class MemoryTransport:
    """One side of a pair; see :func:`memory_pair`."""

    __slots__ = (
        "_incoming",
        "_on_read",
        "_on_write",
        "_outgoing",
        "_poll",
        "_polling",
        "closed",
        "name",
    )

    is_local = True
    keeps_records = False
    is_datagram = False
    credentials: Credentials | None = None

    def __init__(self, name: str, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.name = name
        self.closed = False
        self._incoming, self._outgoing = incoming, outgoing
        incoming.reader = outgoing.writer = self
        self._on_read: Callable[[], object] | None = None
        self._on_write: Callable[[], object] | None = None
        self._poll: Any = gevent.get_hub().loop.timer(0.0)
        self._polling = False

    def __repr__(self) -> str:
        return f"<MemoryTransport {self.name} {'closed' if self.closed else 'open'}>"

    @property
    def peer(self) -> str:
        """The name of the other side."""
        other = self._outgoing.reader
        return f"memory:{other.name if other else ''}"

    @property
    def local(self) -> str:
        """The name of this side."""
        return f"memory:{self.name}"

    def receive(self, size: int) -> bytes:
        """Takes what is there, up to ``size`` bytes."""
        self._check()
        pipe = self._incoming
        if not pipe.data:
            if pipe.ended:
                return b""
            raise BlockingIOError
        data = bytes(pipe.data[:size])
        del pipe.data[:size]
        if pipe.writer is not None:
            pipe.writer._arm()
        return data

    def transmit(self, data: bytes | memoryview) -> int:
        """Puts as much as there is room for."""
        self._check()
        pipe = self._outgoing
        if pipe.reader is None or pipe.ended:
            raise BrokenPipeError(32, "Broken pipe")
        room = pipe.capacity - len(pipe.data)
        if not data:
            return 0
        if room <= 0:
            raise BlockingIOError
        pipe.data += data[:room]
        pipe.reader._arm()
        return min(room, len(data))

    def watch_read(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub while there is something to receive."""
        self._on_read = callback
        self._arm()

    def unwatch_read(self) -> None:
        """Ends it."""
        self._on_read = None

    def watch_write(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub while there is room."""
        self._on_write = callback
        self._arm()

    def unwatch_write(self) -> None:
        """Ends it."""
        self._on_write = None

    @property
    def in_flight(self) -> int:
        """How many bytes the other side has not read."""
        return len(self._outgoing.data)

    def finish(self) -> None:
        """The end of a plain stream needs no mark."""

    def shutdown_write(self) -> None:
        """Ends the outgoing direction."""
        self._outgoing.ended = True
        if self._outgoing.reader is not None:
            self._outgoing.reader._arm()

    def close(self) -> None:
        """Ends both directions. Idempotent."""
        if self.closed:
            return
        self.shutdown_write()
        self.closed = True
        self._on_read = self._on_write = None
        self._poll.close()
        other = self._incoming.writer
        self._incoming.reader = self._outgoing.writer = None
        if other is not None:
            other._arm()

    def _check(self) -> None:
        if self.closed:
            raise OSError(9, "Bad file descriptor")

    def _arm(self) -> None:
        if not self.closed and not self._polling and self._ready():
            self._polling = True
            self._poll.start(self._call)

    def _ready(self) -> bool:
        incoming, outgoing = self._incoming, self._outgoing
        return bool(
            (self._on_read is not None and (incoming.data or incoming.ended))
            or (
                self._on_write is not None
                and (len(outgoing.data) < outgoing.capacity or outgoing.reader is None)
            )
        )

    def _call(self) -> None:
        self._polling = False
        incoming, outgoing = self._incoming, self._outgoing
        if self._on_read is not None and (incoming.data or incoming.ended):
            self._on_read()
        if self._on_write is not None and (
            len(outgoing.data) < outgoing.capacity or outgoing.reader is None
        ):
            self._on_write()
        self._arm()


def memory_pair(capacity: int = CAPACITY) -> tuple[MemoryTransport, MemoryTransport]:
    """Returns two connected transports.

    Args:
        capacity: How many bytes each direction holds before it takes no more.
    """
    there, back = _Pipe(capacity), _Pipe(capacity)
    return MemoryTransport("a", back, there), MemoryTransport("b", there, back)
