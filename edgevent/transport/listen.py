"""Listening stream sockets."""

from __future__ import annotations

import _socket
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from .. import limits
from ..address import Address
from ..errors import AddressError, ListenError
from .base import DescriptorTransport
from .everywhere import bind_everywhere
from .fifo_listen import FifoListener, listen_fifo
from .inherited import Inherited, let_go, take_over
from .record import connected
from .resolve import Endpoint, resolve
from .socket_file import SocketFile, bind_unix, check_has_file, check_is_own
from .stream import SocketTransport, set_stream_options, show_sockaddr

logger = logging.getLogger("edgevent")


class Listener(DescriptorTransport):
    """A listening socket; made by :func:`listen`."""

    __slots__ = ("_accept", "_file", "_sock")

    def __init__(self, sock: _socket.socket, file: SocketFile | None = None) -> None:
        self._sock = sock
        self._accept: Callable[[], tuple[int, Any]] = sock._accept  # type: ignore[attr-defined]
        self._file = file or SocketFile()
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
        return connected(peer, sockaddr)

    @property
    def local(self) -> str:
        """The address that is listened to, with the port that was chosen; empty when closed."""
        if self._descriptor < 0:
            return ""
        return show_sockaddr(self._sock.family, self._sock.getsockname(), self._sock.type)

    @property
    def port(self) -> int:
        """The port that is listened to; 0 for Unix sockets, or when closed."""
        if self._descriptor < 0 or self._sock.family == socket.AF_UNIX:
            return 0
        return int(self._sock.getsockname()[1])

    def _release(self) -> None:
        self._file.remove()
        self._sock.close()

    def abandon(self) -> None:
        """Closes a forked child's copy; the path stays, for it is the parent's."""
        self._file.forget()
        super().abandon()


def listen(
    address: Address,
    *,
    backlog: int = limits.BACKLOG,
    allow_remote: bool = False,
    mode: int | None = None,
    group: str | int | None = None,
    inherited: Inherited | None = None,
) -> Sequence[Listener | FifoListener]:
    """Listens to all addresses that a stream address stands for.

    Args:
        backlog: How many peers may wait to be accepted.
        allow_remote: Whether addresses that are neither loopback nor private may be listened to.
        mode: The mode of a Unix socket's file or a FIFO; 0600, or 0660 when a group is given.
        group: The group of a Unix socket's file or a FIFO, by name or number.
        inherited: A socket that listens there already.

    Raises:
        ListenError: It names the address and the reason.
        UsageError: A mode or a group was given for what has no file, or for another one's.
    """
    if inherited is not None:
        return [_listen_inherited(address, inherited, allow_remote, mode, group)]
    if address.scheme == "fifo":
        return [listen_fifo(address, mode, group)]
    if address.is_datagram:
        raise ListenError(f"{address}: datagrams are served by DatagramServer")
    if address.scheme == "fd":
        raise ListenError(f"{address}: a descriptor has one peer, and a connection takes it over")
    check_has_file(address, mode, group)
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
    return bind_everywhere(
        address, endpoints, lambda endpoint, port: _listen_at(endpoint, port, backlog)
    )


def _new_socket(endpoint: Endpoint) -> _socket.socket:
    kind = endpoint.kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    return _socket.socket(endpoint.family, kind)


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


def _listen_at(endpoint: Endpoint, port: int, backlog: int) -> Listener:
    host = endpoint.sockaddr[0]
    sock = _new_socket(endpoint)
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
    try:
        sock = _new_socket(endpoint)
    except OSError as error:
        raise ListenError(f"{address}: {error.strerror}", error.errno) from error
    try:
        return Listener(sock, bind_unix(sock, address, mode, group, lambda: sock.listen(backlog)))
    except BaseException:
        sock.close()
        raise


def _listen_inherited(
    address: Address,
    inherited: Inherited,
    allow_remote: bool,
    mode: int | None,
    group: str | int | None,
) -> Listener:
    check_is_own(address, mode, group)
    if not address.is_unix:
        _check_reach(address, address.host, allow_remote)
    sock = take_over(inherited, listens=True)
    set_stream_options(sock)
    let_go(inherited)
    return Listener(sock)  # a file is not ours to remove: the socket listens on where it came from
