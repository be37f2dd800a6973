"""What tests do with transports: transmit all, receive all, wait, and end in good order.

All that waits blocks the calling greenlet, for :data:`PATIENCE` seconds at most.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol, TypeVar

from gevent.event import Event

from ..transport.base import StreamTransport
from .clock import settle

PATIENCE: Final = 10.0
"""How many seconds something may take that is to happen at once."""

_MOST_BYTES: Final = 64 * 1024 * 1024  # so much no transport takes while nobody reads


class Closeable(Protocol):
    """What is closed in the end."""

    def close(self) -> None:
        """Closes it."""


_T = TypeVar("_T", bound=Closeable)


class Readable(Protocol):
    """What something can be received from."""

    def watch_read(self, callback: Callable[[], object], /) -> None:
        """Calls back in the hub while there is something to receive."""

    def unwatch_read(self) -> None:
        """Ends it."""


class Writable(Protocol):
    """What something can be transmitted to."""

    def watch_write(self, callback: Callable[[], object], /) -> None:
        """Calls back in the hub while something can be transmitted."""

    def unwatch_write(self) -> None:
        """Ends it."""


def wait_to_receive(transport: Readable, why: str) -> None:
    """Waits until there may be something to receive.

    Args:
        why: What the error says when there is nothing in time.
    """
    assert can_receive(transport, PATIENCE), why


def wait_to_transmit(transport: Writable, why: str) -> None:
    """Waits until there may be room for something to be transmitted."""
    assert can_transmit(transport, PATIENCE), why


def can_receive(transport: Readable, within: float) -> bool:
    """Waits for something to receive; returns whether there is any after so many seconds."""
    return _wait(transport.watch_read, transport.unwatch_read, within)


def can_transmit(transport: Writable, within: float) -> bool:
    """Waits for room for something to be transmitted; returns whether there is any."""
    return _wait(transport.watch_write, transport.unwatch_write, within)


def _wait(
    watch: Callable[[Callable[[], object]], None], unwatch: Callable[[], None], within: float
) -> bool:
    ready = Event()
    watch(ready.set)
    try:
        return bool(ready.wait(max(within, 0.0)))
    finally:
        unwatch()


class Pulling:
    """Receives all that comes, in the hub, until the end.

    Attributes:
        ends: How many times the end was seen.
        error: What ended it in place of an end.
    """

    def __init__(self, transport: StreamTransport, size: int) -> None:
        self.ends = 0
        self.error: OSError | None = None
        self._transport = transport
        self._size = size
        self._changed = Event()
        transport.watch_read(self._readable)

    def took(self, data: bytes) -> None:
        """Called with what was received; empty at the end."""
        raise NotImplementedError

    def so_far(self) -> str:
        """What has come, for an error."""
        raise NotImplementedError

    def _readable(self) -> None:
        try:
            data = self._transport.receive(self._size)
        except BlockingIOError:
            return
        except OSError as error:
            self.error = error
            self._transport.unwatch_read()
        else:
            self.took(data)
            if not data:
                self.ends += 1
                self._transport.unwatch_read()
        self._changed.set()

    def wait(self, until: Callable[[], bool]) -> None:
        """Waits until something holds, which what comes can change."""
        while not until():
            self._changed.clear()
            assert self._changed.wait(PATIENCE), f"nothing came after {self.so_far()}"

    def wait_for_end(self) -> None:
        """Waits for the end."""
        self.wait(lambda: self.has_ended)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return bool(self.ends or self.error)


class Pull(Pulling):
    """Receives bytes.

    Attributes:
        data: What has come.
    """

    def __init__(self, transport: StreamTransport, size: int = 65536) -> None:
        self.data = bytearray()
        super().__init__(transport, size)

    def took(self, data: bytes) -> None:
        """Keeps it."""
        assert len(data) <= self._size
        self.data += data

    def so_far(self) -> str:
        """How much has come."""
        return f"{len(self.data)} bytes"

    def wait_for(self, data: bytes) -> None:
        """Waits for exactly these bytes."""
        self.wait(lambda: len(self.data) >= len(data) or self.has_ended)
        assert bytes(self.data) == data


def push(transport: StreamTransport, data: bytes) -> None:
    """Transmits all of ``data``; waits while the transport takes none."""
    left = memoryview(data)
    while left:
        try:
            left = left[transport.transmit(left) :]
        except BlockingIOError:
            wait_to_transmit(transport, f"no room for {len(left)} bytes")


def fill(transport: StreamTransport) -> tuple[bytes, bytes]:
    """Transmits until the transport takes no more.

    Returns:
        What it took, and what it refused: that is to be offered again before anything else.
    """
    chunk = random.Random(1).randbytes(65536)
    taken = bytearray()
    left = b""
    is_full = False
    while len(taken) < _MOST_BYTES:
        left = left or chunk
        try:
            size = transport.transmit(left)
        except BlockingIOError:
            if is_full:
                return bytes(taken), left
            is_full = True
            settle()  # what stands between the two sides may take some
            continue
        is_full = False
        taken += left[:size]
        left = left[size:]
    raise AssertionError(f"{len(taken)} bytes were taken and nobody read")


def end(transport: StreamTransport) -> None:
    """Closes in good order: the other side sees the end, and not that the stream was cut off."""
    while True:
        try:
            transport.finish()
        except BlockingIOError:
            wait_to_transmit(transport, "no room for the mark of the end")
        else:
            break
    transport.close()


@contextmanager
def open_pair(make: Callable[[], tuple[_T, _T]]) -> Iterator[tuple[_T, _T]]:
    """Two connected transports, closed in the end."""
    a, b = make()
    try:
        yield a, b
    finally:
        a.close()
        b.close()


def error_of(call: Callable[..., object], *arguments: object) -> type[BaseException] | None:
    """Returns the class of the ``OSError`` that a call raises, or ``None``."""
    try:
        call(*arguments)
    except OSError as error:
        return type(error)
    return None
