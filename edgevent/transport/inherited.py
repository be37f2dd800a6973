"""Sockets that somebody else has made: bound already, and handed over by their descriptors.

A service manager listens before the service runs (man 3 sd_listen_fds), a parent hands a socket to
its child. What such a socket is, the kernel tells (man 7 socket, SO_ACCEPTCONN and the like).
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import logging
import os
import socket
from typing import Any, Final, Protocol

from ..address import Address
from ..errors import AddressError, ListenError, UsageError
from .base import close_quietly

_STANDARD: Final = 2  # the last of the descriptors that programs expect to be open
_KINDS: Final[dict[tuple[bool, int], tuple[str, ...]]] = {
    (False, socket.SOCK_STREAM): ("tcp", "tls"),
    (False, socket.SOCK_DGRAM): ("udp",),
    (True, socket.SOCK_STREAM): ("unix", "tls+unix"),
    (True, socket.SOCK_DGRAM): ("unixgram",),
    (True, socket.SOCK_SEQPACKET): ("unixseq",),
}
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

logger = logging.getLogger("edgevent")


class HasDescriptor(Protocol):
    """A socket of Python's, or anything else that knows its descriptor and can close it."""

    def fileno(self) -> int:
        """The descriptor; negative when it is closed."""

    def close(self) -> None:
        """Closes it."""


Inherited = int | HasDescriptor
"""A socket that is handed over: its descriptor, or an object that has one."""


def duplicate(inherited: Inherited) -> _socket.socket:
    """Returns a socket of our own for one that is handed over, which stays as it is.

    Raises:
        ListenError: There is no such descriptor, or it is no socket.
    """
    number = inherited if isinstance(inherited, int) else inherited.fileno()
    try:
        descriptor = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _STANDARD + 1)
    except (OSError, ValueError, OverflowError) as error:
        code = error.errno if isinstance(error, OSError) else errno.EBADF
        reason = "no such descriptor is open"
        if code not in (errno.EBADF, errno.EINVAL):
            reason = os.strerror(code or 0)
        raise ListenError(f"socket {number}: {reason}", code) from error
    try:
        return _socket.socket(fileno=descriptor)
    except OSError as error:
        close_quietly(descriptor)
        raise ListenError(f"descriptor {number} is no socket", error.errno) from error


def let_go(inherited: Inherited) -> None:
    """Closes what was handed over, of which there is a duplicate now."""
    if not isinstance(inherited, int):
        inherited.close()
    elif inherited > _STANDARD:  # the next file that is opened would have the place of 0, 1 or 2
        close_quietly(inherited)


def bound_address(sock: _socket.socket) -> Address:
    """Returns the address that a socket is bound to.

    Raises:
        ListenError: It is of a kind that no address stands for, or bound to none.
    """
    where = "the socket that was handed over"
    kind = _KINDS.get((sock.family == socket.AF_UNIX, sock.type))
    if kind is None or sock.family not in _FAMILIES:
        raise ListenError(
            f"{where} is of family {int(sock.family)} and type {int(sock.type)}: TCP, UDP or a"
            " Unix socket was expected",
            errno.ESOCKTNOSUPPORT,
        )
    sockaddr: Any = sock.getsockname()
    if not (sockaddr if sock.family == socket.AF_UNIX else sockaddr[1]):
        raise ListenError(f"{where} ({kind[0]}) is bound to no address", errno.EINVAL)
    if sock.family != socket.AF_UNIX:
        return Address(kind[0], host=sockaddr[0], port=sockaddr[1])
    path = os.fsdecode(sockaddr)  # of an abstract name it is bytes
    try:
        return Address(kind[0], path=f"@{path[1:]}" if path[0] == "\0" else path)
    except AddressError as error:
        raise ListenError(f"{where}: {error}") from error


def served_address(
    address: str | Address | None,
    inherited: Inherited | None,
    *,
    default_scheme: str = "tcp",
) -> Address:
    """Returns what a server's address is: the one that it was given, or that of the socket.

    An address that stands beside a socket says what is expected of it: which kind, and whether
    there is TLS. Where the two differ, the socket has it, and that is logged.

    Raises:
        AddressError: The address cannot be read.
        ListenError: The socket is none, of another kind, or bound to nothing.
        UsageError: Neither is given.
    """
    if inherited is None:
        if address is None:
            raise UsageError("an address was expected, or socket= with a descriptor")
        return Address.parse(address, default_scheme=default_scheme)
    sock = duplicate(inherited)
    try:
        found = bound_address(sock)
        kind = _KINDS[sock.family == socket.AF_UNIX, sock.type]
    finally:
        sock.close()
    if address is None:
        return found
    wanted = Address.parse(address, default_scheme=default_scheme)
    if wanted.scheme not in kind:
        text = f"{wanted} was expected, and the socket that was handed over is {found}"
        raise ListenError(text, errno.EPROTOTYPE)
    if wanted.path != found.path or wanted.port not in (0, found.port):
        logger.warning("%s: the socket that was handed over is %s, and has it", wanted, found)
    return Address(wanted.scheme, found.host, found.port, found.path)


def take_over(inherited: Inherited, *, listens: bool) -> _socket.socket:
    """Returns a socket of our own for one that is handed over; it never blocks.

    What is handed over stays open; see :func:`let_go`. ``O_NONBLOCK`` belongs to both, and to all
    other processes that have the socket.

    Args:
        listens: Whether it is to be a listening socket, or one that is bound to get datagrams.

    Raises:
        ListenError: It is not.
    """
    sock = duplicate(inherited)
    try:
        found = bound_address(sock)
        if found.is_datagram == listens:
            expected = "see DatagramServer" if listens else "see Server"
            raise ListenError(f"{found} was handed over: {expected}", errno.EPROTOTYPE)
        if is_connected(sock):
            text = f"{found}: a connected socket was handed over (Accept=yes in its .socket unit?)"
            raise ListenError(text, errno.EISCONN)
        if listens and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ListenError(f"{found}: the socket that was handed over does not listen")
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def is_connected(sock: _socket.socket) -> bool:
    """Whether a socket has one peer."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
