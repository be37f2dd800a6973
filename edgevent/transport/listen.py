"""Listening stream sockets."""

from __future__ import annotations

import _socket
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
from ..errors import AddressError, ListenError, UsageError
from ..runtime.clock import SYSTEM_CLOCK
from ..runtime.turns import Turns, wait
from .base import DescriptorTransport, close_quietly
from .resolve import Endpoint, resolve
from .stream import SocketTransport, set_stream_options, show_sockaddr

_LOCK_ATTEMPTS: Final = 100
# A machine without IPv6 may still have "::1 localhost" in its hosts file.
_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

logger = logging.getLogger("edgevent")


class Listener(DescriptorTransport):
    """A listening socket; made by :func:`listen`."""

    __slots__ = ("_accept", "_identity", "_path", "_sock")

    def __init__(self, sock: _socket.socket, path: str = "") -> None:
        self._sock = sock
        self._accept: Callable[[], tuple[int, Any]] = sock._accept  # type: ignore[attr-defined]
        self._path = os.path.abspath(path) if path else ""  # the program may change its folder
        self._identity = _identity(self._path)
        super().__init__(sock.fileno())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.local or 'closed'}>"

    def accept(self) -> SocketTransport:
        """Takes one peer; raises ``BlockingIOError`` when none waits, or another ``OSError``.

        The peer's socket has the options of this one (Linux: the listening socket is cloned).
        """
        descriptor, sockaddr = self._accept()
        sock = self._sock
        peer = _socket.socket(sock.family, sock.type, sock.proto, descriptor)
        peer.setblocking(False)
        return SocketTransport(peer, sockaddr)

    @property
    def local(self) -> str:
        """The address that is listened to, with the port that was chosen; empty when closed."""
        if self._descriptor < 0:
            return ""
        return show_sockaddr(self._sock.family, self._sock.getsockname())

    @property
    def port(self) -> int:
        """The port that is listened to; 0 for Unix sockets, or when closed."""
        if self._descriptor < 0 or self._sock.family == socket.AF_UNIX:
            return 0
        return int(self._sock.getsockname()[1])

    def _release(self) -> None:
        # Another server may have the path now: its socket is not ours to remove. Ours is removed
        # before it is closed: after that the next server takes it for a stale one and has the
        # path, perhaps with the same inode number, at any moment.
        if self._path and _identity(self._path) == self._identity:
            try:
                os.unlink(self._path)
            except OSError as error:
                logger.warning("unix:%s: not removed: %s", self._path, error.strerror)
        self._sock.close()

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
        UsageError: A mode or a group was given for what has no file.
    """
    if (mode is not None or group is not None) and (not address.is_unix or address.is_abstract):
        raise UsageError(f"{address} has no file, and so neither mode nor group")
    try:
        endpoints = resolve(address, passive=True)
    except AddressError as error:
        raise ListenError(str(error)) from error
    except OSError as error:
        code = None if isinstance(error, socket.gaierror) else error.errno
        raise ListenError(f"{address}: {error.strerror or error}", code) from error
    if address.is_unix:
        return [_listen_unix(address, endpoints[0], backlog, mode, group)]
    for endpoint in endpoints:
        _check_reach(address, endpoint.sockaddr[0], allow_remote)
    return _listen_inet(address, endpoints, backlog)


def _new_socket(family: int) -> _socket.socket:
    return _socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def _check_reach(address: Address, host: str, allow_remote: bool) -> None:
    found = Address("tcp", host=host)
    if found.is_loopback or allow_remote:
        return
    if not found.is_private:
        raise ListenError(
            f"{address}: plain text on an address that is neither loopback nor private needs"
            " allow_remote=True"
        )
    logger.info("%s: plain text is accepted from the private network", address)


def _listen_inet(address: Address, endpoints: list[Endpoint], backlog: int) -> list[Listener]:
    """Listens to all endpoints of a name that are addresses of this machine, at least to one."""
    listeners: list[Listener] = []
    failure: OSError | None = None
    try:
        for endpoint in endpoints:
            port = address.port or (listeners[0].port if listeners else 0)
            try:
                listeners.append(_listen_at(endpoint, port, backlog))
            except OSError as error:
                failure = error
                if error.errno not in _NOT_HERE:
                    break
                if len(endpoints) > 1:
                    logger.info("%s: %s: %s", address, endpoint.sockaddr[0], error.strerror)
        if failure is not None and (not listeners or failure.errno not in _NOT_HERE):
            raise ListenError(f"{address}: {failure.strerror}", failure.errno) from failure
        return listeners
    except BaseException:
        for listener in listeners:
            listener.close()
        raise


def _listen_at(endpoint: Endpoint, port: int, backlog: int) -> Listener:
    host = endpoint.sockaddr[0]
    sock = _new_socket(endpoint.family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if endpoint.family == socket.AF_INET6 and not host.startswith("::ffff:"):
            # An empty host stands for 0.0.0.0 and ::, which would be the same port twice.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        set_stream_options(sock)
        sock.bind((host, port, *endpoint.sockaddr[2:]))
        sock.listen(backlog)
        return Listener(sock)
    except BaseException:
        sock.close()
        raise


def _listen_unix(
    address: Address, endpoint: Endpoint, backlog: int, mode: int | None, group: str | int | None
) -> Listener:
    if mode is None:
        mode = limits.UNIX_SOCKET_MODE if group is None else limits.UNIX_GROUP_SOCKET_MODE
    number = -1 if group is None else _group_number(address, group)
    try:
        sock = _new_socket(socket.AF_UNIX)
        try:
            if address.is_abstract:
                sock.bind(endpoint.sockaddr)
                sock.listen(backlog)
                return Listener(sock)
            with _only_one(address.path):
                _remove_stale(address, address.path)
                # The file takes the socket's mode (Linux, unix_bind_bsd): nobody passes the check
                # of a connect that ends only when this one listens.
                os.fchmod(sock.fileno(), 0)
                sock.bind(address.path)
                return _open_up(sock, address.path, backlog, mode, number)
        except BaseException:
            sock.close()
            raise
    except ListenError:
        raise
    except OSError as error:
        raise ListenError(f"{address}: {error.strerror}", error.errno) from error


def _open_up(sock: _socket.socket, path: str, backlog: int, mode: int, group: int) -> Listener:
    # The file has mode 0 yet, and a bound socket refuses everybody until it listens: mode and group
    # are set first, so there is no moment at which others can connect.
    try:
        if group >= 0:
            os.chown(path, -1, group, follow_symlinks=False)
        os.chmod(path, mode)
        sock.listen(backlog)
        return Listener(sock, path)
    except BaseException:
        os.unlink(path)
        raise


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
    probe = _new_socket(socket.AF_UNIX)
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
