"""File descriptors that travel over a Unix socket (man 7 unix, SCM_RIGHTS).

The kernel hands descriptors out with the first byte of the data that they were sent with, never
later, and one read takes those of one such ``sendmsg`` at the most. So the order in which they come
says which message they belong to, however the bytes are cut.
"""

from __future__ import annotations

import _socket
import array
import errno
import os
import socket
from collections.abc import Iterable
from typing import Final, Protocol, cast
from weakref import WeakSet

from ..address import Address
from ..errors import DescriptorError, QueueFullError, UsageError
from ..limits import MAX_MESSAGE_FDS
from ..runtime.guards import REGISTRY
from .base import StreamTransport, close_quietly
from .stream import SocketTransport

_ROOM: Final = socket.CMSG_SPACE(MAX_MESSAGE_FDS * array.array("i").itemsize)
_READ_FLAGS: Final = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
_CARRIERS: Final = ("unix", "unixseq", "fd")


class HasFileno(Protocol):
    """An open file, a socket and the like."""

    def fileno(self) -> int:
        """Its descriptor."""


Fds = Iterable[int | HasFileno]
"""Descriptors that are to be passed: numbers, or objects that have one."""


def check_max_fds(max_fds: int) -> int:
    """Returns ``max_fds``, if a message may bring so many descriptors.

    Raises:
        UsageError: It may not.
    """
    if not 0 <= max_fds <= MAX_MESSAGE_FDS:
        raise UsageError(f"max_fds={max_fds}: 0 to {MAX_MESSAGE_FDS} was expected")
    return max_fds


def check_carrier(address: Address, max_fds: int, *, is_encrypted: bool) -> int:
    """Returns ``max_fds``, if messages over this address may bring so many descriptors.

    Raises:
        UsageError: They may not.
    """
    if max_fds and (address.scheme not in _CARRIERS or is_encrypted):
        how = " with TLS" if is_encrypted and not address.is_tls else ""
        raise _no_carrier(f"{address}{how}")
    return check_max_fds(max_fds)


def _no_carrier(where: str) -> UsageError:
    return UsageError(f"{where} cannot carry file descriptors: unix: and unixseq: can")


def fd_numbers(fds: Fds) -> tuple[int, ...]:
    """Returns the numbers of descriptors that are to be passed.

    Raises:
        UsageError: They are more than one message can carry, or one is closed.
    """
    numbers = tuple(fd if isinstance(fd, int) else fd.fileno() for fd in fds)
    if len(numbers) > MAX_MESSAGE_FDS:
        raise UsageError(
            f"{len(numbers)} descriptors: a message carries {MAX_MESSAGE_FDS} at the most"
        )
    if numbers and min(numbers) < 0:
        raise UsageError(f"fds={list(numbers)}: a closed one is among them")
    return numbers


class PassedFds:
    """The descriptors that leave with one message.

    Args:
        transport: What they leave through.
        fds: Those of the caller.

    Raises:
        UsageError: None can be passed over this transport, or not these.
    """

    __slots__ = ("_fds", "_kept", "_sendmsg", "count")

    def __init__(self, transport: StreamTransport, fds: tuple[int, ...]) -> None:
        self._sendmsg = _check_socket(transport).sendmsg
        self._fds = fds
        self._kept = False
        self.count = len(fds)

    def transmit(self, data: bytes | memoryview) -> int:
        """Sends bytes with them; raises ``BlockingIOError`` or another ``OSError``."""
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", self._fds))
        return self._sendmsg((data,), (rights,), socket.MSG_DONTWAIT)

    def check(self, error: OSError) -> None:
        """Raises what an error means, where the connection is not to blame for it.

        Raises:
            UsageError: A descriptor is not open, or is of a kind that cannot be passed.
            QueueFullError: There are too many of them for now.
        """
        why = error.strerror
        if error.errno in (errno.EBADF, errno.EINVAL):
            raise UsageError(f"fds={list(self._fds)} cannot be passed: {why}") from error
        if error.errno in (errno.ETOOMANYREFS, errno.EMFILE, errno.ENFILE):
            text = f"{self.count} descriptors cannot be passed now: {why}"
            raise QueueFullError(text, error.errno) from error

    def keep(self) -> None:
        """Makes copies, so that the caller may close its own; raises as :meth:`check` does."""
        copies: list[int] = []
        try:
            for fd in self._fds:
                copies.append(os.dup(fd))
        except OSError as error:
            for fd in copies:
                close_quietly(fd)
            self.check(error)
            raise
        self._fds = tuple(copies)
        self._kept = True
        REGISTRY.descriptors.add(self)

    def close(self) -> None:
        """Closes the copies. Idempotent."""
        if self._kept:
            self._kept = False
            REGISTRY.descriptors.discard(self)
            for fd in self._fds:
                close_quietly(fd)

    def abandon(self) -> None:
        """Closes a forked child's copies."""
        self.close()


def _check_socket(transport: StreamTransport) -> _socket.socket:
    if isinstance(transport, SocketTransport) and transport.sock.family == socket.AF_UNIX:
        return transport.sock
    raise _no_carrier(transport.peer)


class Descriptors:
    """The descriptors that one message has brought; closed with this object if nobody took them."""

    __slots__ = ("__weakref__", "_fds", "closed")

    def __init__(self, fds: list[int]) -> None:
        self._fds = fds
        self.closed = False

    @property
    def count(self) -> int:
        """How many nobody has taken yet."""
        return len(self._fds)

    def take(self) -> list[int]:
        """Returns them, to be closed by the caller; nothing the next time."""
        fds, self._fds = self._fds, []
        return fds

    def close(self) -> None:
        """Closes those that nobody took."""
        self.closed = self.closed or bool(self._fds)
        for fd in self.take():
            close_quietly(fd)

    def __del__(self) -> None:
        self.close()


class FdReader:
    """Reads bytes and descriptors, and keeps the descriptors in the order in which they came.

    Args:
        max_fds: The most that one message may bring.
    """

    __slots__ = ("_given", "_is_stream", "_recvmsg", "_transport", "_waiting", "max_fds")

    def __init__(self, max_fds: int) -> None:
        self.max_fds = max_fds
        self._waiting: list[int] = []
        self._given: WeakSet[Descriptors] = WeakSet()
        self._transport: SocketTransport | None = None

    def attach(self, transport: StreamTransport) -> None:
        """Reads from a transport from now on.

        Raises:
            UsageError: None can be passed over it.
        """
        self._recvmsg = _check_socket(transport).recvmsg
        self.close()
        self._is_stream = not transport.keeps_records
        self._transport = cast(SocketTransport, transport)
        self._transport.read_with(self.recv)
        REGISTRY.descriptors.add(self)

    def recv(self, size: int) -> bytes:
        """Takes the place of the socket's ``recv``.

        Raises:
            DescriptorError: More came than any message may bring, or some were lost.
        """
        data, control, flags, _ = self._recvmsg(size, _ROOM, _READ_FLAGS)
        waiting = self._waiting
        if control:
            for level, kind, value in control:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds = array.array("i")
                    fds.frombytes(value[: len(value) - len(value) % fds.itemsize])
                    waiting += fds
        if flags & socket.MSG_CTRUNC:
            raise self._failed("some that came were lost: too many open files")
        # Else what is complete now takes its own first; see MessageFds.
        if waiting and (not data or (self._is_stream and b"\n" not in data)):
            self.check(begun=bool(data))
        return data

    def check(self, *, begun: bool) -> None:
        """Looks at what is left when all messages that are complete have taken theirs.

        Args:
            begun: Whether a message has begun, to which it may belong.

        Raises:
            DescriptorError: It can belong to no message.
        """
        count = len(self._waiting)
        if count and not begun:
            raise self._failed(f"{count} came that no message names")
        if count > self.max_fds:
            raise self._failed(f"{count} came for one message, and max_fds is {self.max_fds}")

    def take(self, count: int) -> Descriptors:
        """Returns the next ones, which a message names.

        Raises:
            DescriptorError: So many have not come, or may not.
        """
        waiting = self._waiting
        if count > self.max_fds:
            raise self._failed(f"a message names {count}, and max_fds is {self.max_fds}")
        if not 0 <= count <= len(waiting):
            raise self._failed(f"a message names {count}, and {len(waiting)} came")
        found = Descriptors(waiting[:count])
        del waiting[:count]
        self._given.add(found)
        return found

    def _failed(self, what: str) -> DescriptorError:
        peer = "" if self._transport is None else self._transport.peer
        self.drop()
        return DescriptorError(f"{peer}: file descriptors: {what}")

    def drop(self) -> None:
        """Closes those that no message has taken, and takes no more."""
        waiting, self._waiting = self._waiting, []
        for fd in waiting:
            close_quietly(fd)
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.read_with(None)

    def close(self) -> None:
        """Closes all that nobody took, those of messages that were received as well."""
        self.drop()
        for found in tuple(self._given):
            found.close()
        REGISTRY.descriptors.discard(self)

    def abandon(self) -> None:
        """Closes a forked child's copies."""
        self.close()
