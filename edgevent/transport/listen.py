"""Listening stream sockets."""

from __future__ import annotations

import errno
import fcntl
import grp
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from .. import limits
from ..address import Address
from ..errors import AddressError, ListenError
from ..runtime.clock import SYSTEM_CLOCK
from ..runtime.turns import Turns, wait
from .base import DescriptorTransport, close_quietly
from .resolve import Endpoint, resolve
from .stream import SocketTransport, set_stream_options, show_sockaddr

_LOCK_ATTEMPTS: Final = 100

logger = logging.getLogger("edgevent")


class Listener(DescriptorTransport):
    """A listening socket; made by :func:`listen`."""

    __slots__ = ("_accept", "_identity", "_path", "_sock")

    def __init__(self, sock: socket.SocketType, path: str = "") -> None:
        super().__init__(sock.fileno())
        self._sock = sock
        self._accept: Callable[[], tuple[int, Any]] = sock._accept  # type: ignore[attr-defined]
        self._path = path
        self._identity = _identity(path) if path else None

    def accept(self) -> SocketTransport:
        """Takes one peer; raises ``BlockingIOError`` when none waits, or another ``OSError``.

        The peer's socket has the options of this one (Linux: the listening socket is cloned).
        """
        descriptor, sockaddr = self._accept()
        sock = self._sock
        peer = socket.SocketType(sock.family, sock.type, sock.proto, descriptor)
        peer.setblocking(False)
        return SocketTransport(peer, sockaddr)

    @property
    def local(self) -> str:
        """The address that is listened to, with the port that was chosen."""
        return show_sockaddr(self._sock.family, self._sock.getsockname())

    @property
    def port(self) -> int:
        """The port that is listened to; 0 for Unix sockets."""
        name = self._sock.getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    def _release(self) -> None:
        self._sock.close()
        # Another server may have taken the path over meanwhile: its socket is not ours to remove.
        if self._path and _identity(self._path) == self._identity:
            try:
                os.unlink(self._path)
            except OSError as error:
                logger.warning("%s: not removed: %s", self._path, error.strerror)

    def abandon(self) -> None:
        """Closes a forked child's copy; the path stays, for it is the parent's."""
        self._path = ""
        super().abandon()


def listen(
    address: Address,
    *,
    backlog: int = limits.BACKLOG,
    allow_remote: bool = False,
    mode: int | None = None,
    group: str | int | None = None,
) -> list[Listener]:
    """Listens to all addresses that a stream address stands for.

    Args:
        backlog: How many peers may wait to be accepted.
        allow_remote: Whether addresses that are neither loopback nor private may be listened to.
        mode: The mode of a Unix socket's file; 0600, or 0660 when a group is given.
        group: The group of a Unix socket's file, by name or number.

    Raises:
        ListenError: It names the address and the reason.
    """
    try:
        endpoints = resolve(address, passive=True)
    except AddressError as error:
        raise ListenError(str(error)) from error
    except OSError as error:
        raise ListenError(f"{address}: {error.strerror or error}", error.errno) from error
    listeners: list[Listener] = []
    try:
        for endpoint in endpoints:
            if endpoint.family == socket.AF_UNIX:
                listeners.append(_listen_unix(address, endpoint, backlog, mode, group))
            else:
                port = address.port or (listeners[0].port if listeners else 0)
                listeners.append(_listen_inet(address, endpoint, port, backlog, allow_remote))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _socket(family: int) -> socket.SocketType:
    return socket.SocketType(
        family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )


def _listen_inet(
    address: Address, endpoint: Endpoint, port: int, backlog: int, allow_remote: bool
) -> Listener:
    host = endpoint.sockaddr[0]
    found = Address.parse(f"tcp://[{host}]:0" if ":" in host else f"tcp://{host}:0")
    if not found.is_loopback and not allow_remote:
        if not found.is_private:
            raise ListenError(
                f"{address}: plain text on an address that is neither loopback nor private needs"
                " allow_remote=True"
            )
        logger.info("%s: plain text is accepted from the private network", address)
    try:
        sock = _socket(endpoint.family)
    except OSError as error:
        raise ListenError(f"{address}: {error.strerror}", error.errno) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        set_stream_options(sock)
        sock.bind((host, port, *endpoint.sockaddr[2:]))
        sock.listen(backlog)
        return Listener(sock)
    except OSError as error:
        sock.close()
        raise ListenError(f"{address}: {error.strerror}", error.errno) from error


def _listen_unix(
    address: Address, endpoint: Endpoint, backlog: int, mode: int | None, group: str | int | None
) -> Listener:
    sock = _socket(socket.AF_UNIX)
    path = "" if address.is_abstract else address.path
    try:
        if not path:
            sock.bind(endpoint.sockaddr)
            sock.listen(backlog)
            return Listener(sock)
        with _only_one(path):
            _remove_stale(address, path)
            sock.bind(path)
            try:
                # A bound socket refuses everybody until it listens: mode and group are set first,
                # so there is no moment at which others can connect.
                if group is not None:
                    os.chown(path, -1, _group_number(address, group))
                default = (
                    limits.UNIX_SOCKET_MODE if group is None else limits.UNIX_GROUP_SOCKET_MODE
                )
                os.chmod(path, default if mode is None else mode)
                sock.listen(backlog)
                return Listener(sock, path)
            except BaseException:
                os.unlink(path)
                raise
    except OSError as error:
        sock.close()
        if isinstance(error, ListenError):
            raise
        raise ListenError(f"{address}: {error.strerror}", error.errno) from error


@contextmanager
def _only_one(path: str) -> Iterator[None]:
    """Keeps another server that starts at the same moment from taking ours for a stale socket."""
    try:
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield  # a folder that can be searched but not read cannot be locked
        return
    try:
        for _ in range(_LOCK_ATTEMPTS):  # anybody who can read the folder can hold the lock
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wait(Turns.current(), SYSTEM_CLOCK, 0.01)
            else:
                break
        yield
    finally:
        close_quietly(descriptor)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _remove_stale(address: Address, path: str) -> None:
    """Removes a socket that nobody listens to any more, and nothing else."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(f"{address}: there is something that is no socket", errno.EADDRINUSE)
    probe = _socket(socket.AF_UNIX)
    try:
        code = probe.connect_ex(path)
    finally:
        probe.close()
    if code == errno.ECONNREFUSED:
        os.unlink(path)
    elif code == errno.EACCES:
        raise ListenError(f"{address}: a socket of another user is there", code)
    elif code != errno.ENOENT:  # EAGAIN: its queue is full, so it is alive
        raise ListenError(f"{address}: a live server has it", errno.EADDRINUSE)


def _group_number(address: Address, group: str | int) -> int:
    if isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ListenError(f"{address}: there is no group {group!r}") from None
