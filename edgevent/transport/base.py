"""What every transport of a byte stream offers, and what those with a descriptor share."""

from __future__ import annotations

import _socket
import fcntl
import logging
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from gevent.monkey import get_original

from ..limits import INBOX_HARD_BYTES, READ_BYTES
from ..runtime.guards import REGISTRY
from ..runtime.watchers import READ, WRITE, io_watcher

logger = logging.getLogger("edgevent")

# gevent's own closes after the next poll: until something else happens, the other end of a pipe
# would not see that this one is gone. Here all watchers have ended before.
_close: Final = get_original("os", "close")

_UCRED: Final = struct.Struct("iII")  # man 7 unix, SO_PEERCRED: struct ucred


class Credentials(NamedTuple):
    """Who is on the other side of a Unix socket, as the kernel noted when it connected."""

    pid: int
    uid: int
    gid: int


def credentials_of(sock: _socket.socket) -> Credentials:
    """Returns SO_PEERCRED of a Unix socket; the process is 0 where the kernel does not tell it."""
    return Credentials(
        *_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    )


class StreamTransport(Protocol):
    """A stream of bytes, non-blocking.

    ``receive`` and ``transmit`` may be methods, or attributes in which a bound method of the socket
    stands: they are called for every message.
    """

    @property
    def receive(self) -> Callable[[int], bytes]:
        """Takes the most bytes to read; returns what is there, ``b""`` at the end of the stream;
        raises ``BlockingIOError`` when nothing is there, or another ``OSError``."""

    @property
    def transmit(self) -> Callable[[bytes | memoryview], int]:
        """Takes bytes; returns how many were taken; raises ``BlockingIOError`` or ``OSError``.

        What was refused with ``BlockingIOError`` is to be offered again before anything else: it
        may have been encrypted already."""

    @property
    def keeps_records(self) -> bool:
        """Whether it keeps the boundaries of what is sent; see :mod:`edgevent.transport.record`."""

    @property
    def is_datagram(self) -> bool:
        """Whether what is sent may be lost, and an error is that of one record, not an end."""

    @property
    def peer(self) -> str:
        """The other side, as text: an address, or what is known instead."""

    @property
    def local(self) -> str:
        """This side, as text."""

    @property
    def is_local(self) -> bool:
        """Whether the other side is a process of this machine, for certain."""

    @property
    def credentials(self) -> Credentials | None:
        """The other side's process and user, where the kernel tells."""

    def watch_read(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub, again and again, while there is something to receive."""

    def unwatch_read(self) -> None:
        """Ends it."""

    def watch_write(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub, again and again, while something can be transmitted."""

    def unwatch_write(self) -> None:
        """Ends it."""

    @property
    def in_flight(self) -> int:
        """How many bytes the kernel has taken and the peer has not; 0 where nothing tells it."""

    def finish(self) -> None:
        """Marks the end of what was sent, where the protocol of the transport has a mark for it;
        raises ``BlockingIOError`` while there is no room for that. An orderly :meth:`close`
        follows it; without it the other side may see a stream that was cut off."""

    def shutdown_write(self) -> None:
        """Lets the other side see the end of the stream; this side can still receive."""

    def close(self) -> None:
        """Releases everything. Idempotent; never raises."""


class DescriptorTransport:
    """The watchers and the end of a transport that has one descriptor.

    Args:
        descriptor: A non-blocking file descriptor; it is owned from now on.
    """

    __slots__ = ("_descriptor", "_reader", "_writer")

    keeps_records = False
    is_datagram = False

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._reader: Any = None
        self._writer: Any = None
        REGISTRY.descriptors.add(self)

    def fileno(self) -> int:
        """The descriptor, or -1 when it is closed."""
        return self._descriptor

    def watch_read(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub while there is something to receive."""
        if self._reader is None:
            self._reader = io_watcher(self._descriptor, READ)
        self._reader.start(callback)

    def unwatch_read(self) -> None:
        """Ends it."""
        if self._reader is not None:
            self._reader.stop()

    def watch_write(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub while something can be transmitted."""
        if self._writer is None:
            self._writer = io_watcher(self._descriptor, WRITE)
        self._writer.start(callback)

    def unwatch_write(self) -> None:
        """Ends it."""
        if self._writer is not None:
            self._writer.stop()

    @property
    def in_flight(self) -> int:
        """How many bytes the kernel has taken and the peer has not; 0 where nothing tells it."""
        return count_in_flight(self._descriptor)

    def finish(self) -> None:
        """The end of a plain stream needs no mark."""

    def close(self) -> None:
        """Ends both watchers, then closes the descriptor. Idempotent."""
        if self._descriptor < 0:
            return
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.close()
        self._reader = self._writer = None
        REGISTRY.descriptors.discard(self)
        descriptor, self._descriptor = self._descriptor, -1
        try:
            self._release()
        except OSError as error:
            text = "descriptor %d was not closed here: %s; somebody else has closed it"
            logger.error(text, descriptor, error.strerror or error)

    def abandon(self) -> None:
        """Closes a forked child's copy of the descriptor; the parent's peer sees nothing."""
        self.close()

    def _release(self) -> None:
        """Closes the descriptor itself."""
        raise NotImplementedError


def count_in_flight(descriptor: int) -> int:
    """Asks the kernel how much of what was written to a descriptor has not been taken.

    Sockets and terminals tell it as TIOCOUTQ (tcp(7) and unix(7) call it SIOCOUTQ), pipes, which
    do not know that, as FIONREAD (pipe(7)). It is 0 for what tells neither, or is closed.
    """
    for request in (termios.TIOCOUTQ, termios.FIONREAD):
        try:
            found = fcntl.ioctl(descriptor, request, bytes(4))
        except (OSError, ValueError):
            continue
        return int.from_bytes(found, sys.byteorder)
    return 0


def drop_input(transport: StreamTransport) -> None:
    """Reads and drops what is there, 8 MiB at the most.

    A socket that is closed with unread input sends a reset (RFC 1122, 4.2.2.13), and what the
    kernel still holds of this side's last words never leaves; a Unix socket's other side sees an
    error in place of the end.
    """
    try:
        for _ in range(INBOX_HARD_BYTES // READ_BYTES):
            if not transport.receive(READ_BYTES):
                return
    except OSError:  # nothing is left, or the other side has gone
        return


def close_quietly(descriptor: int) -> None:
    """Closes a descriptor of which nothing is known but its number.

    On Linux a descriptor is released even when ``close`` reports an error (man 2 close), and the
    error is one of an earlier write that nobody can mend here.
    """
    try:
        _close(descriptor)
    except OSError:
        return
