"""TCP and Unix stream sockets: one class."""

from __future__ import annotations

import _socket
import ipaddress
import socket
import struct
from collections.abc import Callable
from typing import Any

from .. import limits
from .base import Credentials, DescriptorTransport, credentials_of, drop_input

_SO_PEERGROUPS = 59  # Linux 4.13, asm-generic/socket.h; Python has no name for it
_GROUP_BYTES = 1024  # the most that Python's getsockopt takes: 256 groups


def show_sockaddr(family: int, sockaddr: Any, kind: int = socket.SOCK_STREAM) -> str:
    """Turns what the socket module calls an address into the text that DESIGN calls one."""
    if family == socket.AF_INET:
        return f"tcp://{sockaddr[0]}:{sockaddr[1]}"
    if family == socket.AF_INET6:
        return f"tcp://[{sockaddr[0]}]:{sockaddr[1]}"
    scheme = "unixseq" if kind == socket.SOCK_SEQPACKET else "unix"
    if isinstance(sockaddr, bytes):
        name = sockaddr.decode("utf-8", "surrogateescape")
        return f"{scheme}:@{name[1:]}" if name.startswith("\0") else f"{scheme}:{name}"
    return f"{scheme}:{sockaddr}"


def printable(text: str) -> str:
    """Gives a text as it may stand in a log line: a peer may bind its socket to any name."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def is_loopback(sockaddr: Any) -> bool:
    """Whether an Internet socket address is one that no other machine can have."""
    address = ipaddress.ip_address(sockaddr[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def set_stream_options(sock: _socket.socket) -> None:
    """Sets what every TCP socket has; accepted ones inherit it from the listening one (Linux)."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        tcp = socket.IPPROTO_TCP
        sock.setsockopt(tcp, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(tcp, socket.TCP_KEEPIDLE, limits.KEEPALIVE_IDLE)
        sock.setsockopt(tcp, socket.TCP_KEEPINTVL, limits.KEEPALIVE_INTERVAL)
        sock.setsockopt(tcp, socket.TCP_KEEPCNT, limits.KEEPALIVE_PROBES)
        sock.setsockopt(tcp, socket.TCP_USER_TIMEOUT, int(limits.TCP_USER_TIMEOUT * 1000))


class SocketTransport(DescriptorTransport):
    """A connected stream socket.

    Args:
        sock: A connected, non-blocking socket; it is owned from now on.
        sockaddr: The address of the other side; asked of the kernel when not given.
    """

    __slots__ = ("_sock", "_sockaddr", "at_end", "receive", "transmit")

    at_end: bool  # whether all that comes was received, and then the end
    receive: Callable[[int], bytes]
    transmit: Callable[[bytes | memoryview], int]

    def __init__(self, sock: _socket.socket, sockaddr: Any = None) -> None:
        self._sockaddr = sock.getpeername() if sockaddr is None else sockaddr
        self._sock = sock
        self.at_end = False
        super().__init__(sock.fileno())
        self.receive = sock.recv
        self.transmit = sock.send

    def __repr__(self) -> str:
        state = "open" if self._descriptor >= 0 else "closed"
        return f"<{type(self).__name__} {self.peer} {state}>"

    @property
    def peer(self) -> str:
        """The other side; an unnamed Unix socket is shown by its process."""
        if self._sock.family == socket.AF_UNIX and not self._sockaddr:
            found = self.credentials
            return f"{self._show('')}pid {found.pid}" if found else self._show("")
        return printable(self._show(self._sockaddr))

    @property
    def sock(self) -> _socket.socket:
        """The socket, for calls that no other transport has."""
        return self._sock

    def read_with(self, recv: Callable[[int], bytes] | None) -> None:
        """Takes what comes by another call than ``recv``, or, for ``None``, by that again."""
        self.receive = recv or self._recv_now

    def _recv_now(self, size: int) -> bytes:
        return self._sock.recv(size, socket.MSG_DONTWAIT)

    def _show(self, sockaddr: Any) -> str:
        return show_sockaddr(self._sock.family, sockaddr, self._sock.type)

    @property
    def local(self) -> str:
        """This side's address, or an empty string when the socket is closed."""
        if self._descriptor < 0:
            return ""
        return self._show(self._sock.getsockname())

    @property
    def is_local(self) -> bool:
        """True for Unix sockets and loopback addresses."""
        return self._sock.family == socket.AF_UNIX or is_loopback(self._sockaddr)

    @property
    def credentials(self) -> Credentials | None:
        """SO_PEERCRED of a Unix socket that is open."""
        if self._sock.family != socket.AF_UNIX or self._descriptor < 0:
            return None
        return credentials_of(self._sock)

    @property
    def groups(self) -> frozenset[int]:
        """The groups of the other side of a Unix socket that is open, as when it connected.

        The group of :attr:`credentials` is among them; for a process of more than 256 groups it is
        the only one.
        """
        found = self.credentials
        if found is None:
            return frozenset()
        try:
            data = self._sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUP_BYTES)
        except OSError:
            data = b""  # too many, or an older kernel
        return frozenset((found.gid, *struct.unpack(f"{len(data) // 4}I", data)))

    def finish(self) -> None:
        """Makes the close that follows one that ends the stream, and does not reset it."""
        if not self.at_end:
            drop_input(self)

    def shutdown_write(self) -> None:
        """Sends the end of the stream, unless the connection is gone already."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # ENOTCONN: the peer has reset it, which is more than an end

    def _release(self) -> None:
        self._sock.close()
