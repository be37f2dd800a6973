"""Taking over a descriptor that is open already: ``fd:0`` and the like.

``O_NONBLOCK`` belongs to the open file description, which other processes may share (a shell has
the same terminal): where it can, this opens the file anew (man 5 proc, /proc/pid/fd), so that they
see nothing of it. Where it cannot, the flag is set, and taken back at the close and at exit.
"""

from __future__ import annotations

import _socket
import atexit
import errno
import fcntl
import os
import socket
import stat
import struct
from typing import Final

from ..address import Address
from ..errors import ConnectError, UsageError
from .base import StreamTransport, close_quietly
from .fd import GONE, FdTransport, poll_descriptor
from .fifo import Access, FifoTransport
from .stream import SocketTransport

_STANDARD: Final = 2  # the last of the descriptors that programs expect to be open
_TIOCGPTN: Final = 0x80045430  # asm-generic/ioctls.h: the number of a pty, of its master only
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

_borrowed: dict[int, bool] = {}
"""The descriptors whose ``O_NONBLOCK`` is needed, and whether it was set here."""


def adopt(address: Address, access: Access | None) -> StreamTransport:
    """Takes a descriptor over; it is closed with the transport.

    Of 0, 1 and 2, ``/dev/null`` takes the place then.

    Args:
        address: Of scheme ``fd``.
        access: One direction alone, of a file that is open for both.

    Raises:
        ConnectError: There is no such descriptor, or it is no stream.
        UsageError: It is not open for this access.
    """
    number = address.fd
    assert number is not None
    try:
        found, flags = os.fstat(number), fcntl.fcntl(number, fcntl.F_GETFL)
    except OSError as error:
        raise ConnectError(f"{address}: no such descriptor is open", error.errno) from error
    if stat.S_ISDIR(found.st_mode) or flags & os.O_PATH:
        raise ConnectError(f"{address} is no stream, but a folder or the like", errno.EISDIR)
    if stat.S_ISSOCK(found.st_mode):
        if access is not None:
            raise UsageError(f"{address} is a socket, which goes both ways: no access= is possible")
        return _adopt_socket(address, number)
    reads, writes = _directions(address, flags & os.O_ACCMODE, access, stat.S_ISFIFO(found.st_mode))
    return _adopt_file(address, number, found, flags, reads, writes)


def _directions(
    address: Address, mode: int, access: Access | None, is_fifo: bool
) -> tuple[bool, bool]:
    reads, writes = mode != os.O_WRONLY, mode != os.O_RDONLY
    if not (reads if access == "read" else writes if access == "write" else True):
        raise UsageError(f"{address} is not open for access={access!r}")
    if access is not None:
        return access == "read", access == "write"
    # What is written to a FIFO that is open for both would come back.
    return reads, writes and not (is_fifo and reads)


def _adopt_file(
    address: Address, number: int, found: os.stat_result, flags: int, reads: bool, writes: bool
) -> FdTransport:
    is_fifo = stat.S_ISFIFO(found.st_mode)
    # A FIFO that is open for both keeps its own writer, so that it never ends.
    descriptor = _open_anew(number, found.st_mode, flags & os.O_ACCMODE)
    borrows = descriptor is None and not _is_always_ready(found.st_mode)
    if descriptor is None:
        descriptor = number if number > _STANDARD else fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
    elif number > _STANDARD:
        os.close(number)
    os.set_inheritable(descriptor, False)
    if borrows:
        _borrow(descriptor)
    owned: int = descriptor

    def give_back(forked: bool) -> None:
        if borrows:
            _give_back(owned, forked)
        if number <= _STANDARD and not forked:
            _fill_hole(number, found)

    make = FifoTransport if is_fifo else FdTransport
    return make(
        descriptor if reads else -1,
        descriptor if writes else -1,
        peer=str(address),
        fresh=is_fifo and reads,
        watches_readers=is_fifo and not reads,
        on_close=give_back,
    )


def _is_always_ready(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _open_anew(number: int, mode: int, access: int) -> int | None:
    """Opens the same pipe or terminal once more, or returns ``None`` where that is another thing.

    A regular file would lose its position; the master of a pty would be another pty.
    """
    if not (stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and _is_terminal(number))):
        return None
    flags = access | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        descriptor = os.open(f"/proc/self/fd/{number}", flags)
    except OSError:  # no right to, no /proc, or (ENXIO) nobody reads it
        return None
    if stat.S_ISFIFO(mode) and access == os.O_RDONLY and poll_descriptor(number) & GONE:
        # Its writers have left: the former descriptor knows it, the new one would wait for others.
        os.close(descriptor)
        return None
    return descriptor


def _is_terminal(number: int) -> bool:
    if not os.isatty(number):
        return False
    try:
        fcntl.ioctl(number, _TIOCGPTN, struct.pack("I", 0))
    except OSError:
        return True
    return False


def _borrow(descriptor: int) -> None:
    _borrowed[descriptor] = os.get_blocking(descriptor)
    os.set_blocking(descriptor, False)


def _give_back(descriptor: int, forked: bool) -> None:
    if not _borrowed.pop(descriptor, False) or forked:
        return
    os.set_blocking(descriptor, True)
    for other in _borrowed:
        if os.get_blocking(other):  # it has the same file description, and still needs the flag
            os.set_blocking(other, False)
            _borrowed[other] = True


def _give_all_back() -> None:
    for descriptor, was_set_here in _borrowed.items():
        if was_set_here:
            os.set_blocking(descriptor, True)


atexit.register(_give_all_back)


def _fill_hole(number: int, former: os.stat_result) -> None:
    """Puts ``/dev/null`` in the place of a standard descriptor, unless it is another file by now.

    The next file that is opened would else have its number, and get what is printed.
    """
    try:
        if os.path.samestat(os.fstat(number), former):
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            os.dup2(null, number)
            os.close(null)
    except OSError:
        return  # it is closed already, or there is no descriptor left: then it stays


# --- sockets --------------------------------------------------------------------------------------


class _InheritedSocket(SocketTransport):
    """A socket that others may share: each call says that it must not wait, no flag is set."""

    __slots__ = ("_former", "_number")

    def __init__(self, sock: _socket.socket, number: int) -> None:
        super().__init__(sock)
        self._former = os.fstat(sock.fileno())
        self._number = number
        self.receive = lambda size: sock.recv(size, socket.MSG_DONTWAIT)
        self.transmit = lambda data: sock.send(data, socket.MSG_DONTWAIT)

    def abandon(self) -> None:
        """Closes a forked child's copy; the child keeps its standard descriptors."""
        self._number = _STANDARD + 1
        super().abandon()

    def _release(self) -> None:
        super()._release()
        if self._number <= _STANDARD:
            _fill_hole(self._number, self._former)


def _adopt_socket(address: Address, number: int) -> SocketTransport:
    descriptor = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
    sock = _socket.socket(fileno=descriptor)
    try:
        _check_socket(address, sock)
        transport = _InheritedSocket(sock, number)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and not isinstance(error, ConnectError):
            raise ConnectError(f"{address}: {error.strerror}", error.errno) from error
        raise
    if number > _STANDARD:
        close_quietly(number)
    return transport


def _check_socket(address: Address, sock: _socket.socket) -> None:
    if sock.type != socket.SOCK_STREAM or sock.family not in _FAMILIES:
        raise ConnectError(
            f"{address} is a socket of another kind: a stream was expected", errno.ESOCKTNOSUPPORT
        )
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ConnectError(
            f"{address} is a listening socket: a connected one was expected", errno.EINVAL
        )
