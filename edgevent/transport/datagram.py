"""UDP and Unix datagram sockets, bound or connected: one class."""

from __future__ import annotations

import _socket
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ..address import Address
from ..limits import MAX_UDP_BYTES, MAX_UNIX_DATAGRAM_BYTES
from .base import Credentials, DescriptorTransport
from .socket_file import SocketFile
from .stream import printable, show_sockaddr

_UCRED: Final = struct.Struct("iII")  # man 7 unix, SCM_CREDENTIALS: struct ucred
# Room for that and nothing more: descriptors that a peer sends along are closed by the kernel.
_CONTROL_BYTES: Final = socket.CMSG_SPACE(_UCRED.size)
_SO_MEMINFO: Final = 55  # Linux 4.12, asm-generic/socket.h; Python has no name for it
_MEMINFO: Final = struct.Struct("9I")  # linux/sock_diag.h, SK_MEMINFO_VARS; the last is the drops
_IP_MTU: Final = 14  # man 7 ip
_IPV6_MTU: Final = 24  # man 7 ipv6
_IP_HEADER_BYTES: Final = 20  # RFC 791, without options
_IPV6_HEADER_BYTES: Final = 40  # RFC 8200
_UDP_HEADER_BYTES: Final = 8  # RFC 768
_LOOPBACK: Final = ("127.", "::ffff:127.")
_MAX_IP_BYTES: Final = 65_535  # the length field of all three has 16 bits


class Datagram(NamedTuple):
    """What one ``receive`` takes.

    Attributes:
        data: The bytes; not all of them when ``is_truncated``.
        sockaddr: The sender, as the socket module writes it; empty for an unbound Unix socket.
        is_truncated: Whether it was longer than the limit.
        credentials: The sender's process, for Unix sockets.
    """

    data: bytes
    sockaddr: Any
    is_truncated: bool
    credentials: Credentials | None


def default_max_bytes(address: Address) -> int:
    """Returns how long a message to or from such an address may be when nothing else is said."""
    return MAX_UNIX_DATAGRAM_BYTES if address.is_unix else MAX_UDP_BYTES


def show_datagram_sockaddr(family: int, sockaddr: Any) -> str:
    """Turns what the socket module calls an address into text, which stays on one line."""
    if family == socket.AF_UNIX and isinstance(sockaddr, str):
        sockaddr = os.fsencode(sockaddr)  # as the kernel gives those of abstract names
    text = show_sockaddr(family, sockaddr)
    if family == socket.AF_UNIX:
        return printable(f"unixgram{text[4:]}")
    return f"udp{text[3:]}"


class DatagramTransport(DescriptorTransport):
    """A datagram socket, non-blocking.

    Args:
        sock: A bound or connected socket; it is owned from now on.
        max_bytes: The longest datagram that is received.
        target: Where :meth:`transmit` sends when it is given no address: ``None`` stands for the
            address that the socket is connected to.
        remote: The address that the socket is connected to, if it is.
        file: The file that the socket is bound to.
        asks_sender: Whether the kernel is to tell the process that sends (Unix).
    """

    __slots__ = ("_file", "_remote", "_sock", "max_bytes", "receive", "target")

    receive: Callable[[], Datagram]
    """Takes one datagram; raises ``BlockingIOError`` when none is there, or another ``OSError``."""

    def __init__(
        self,
        sock: _socket.socket,
        max_bytes: int,
        *,
        target: Any = None,
        remote: Any = None,
        file: SocketFile | None = None,
        asks_sender: bool = False,
    ) -> None:
        self._sock = sock
        self._file = file or SocketFile()
        self.max_bytes = max_bytes
        self.target = target
        self._remote = remote
        if sock.family == socket.AF_UNIX:
            if asks_sender:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self.receive = self._receive_unix
        else:
            self.receive = self._receive_inet
        super().__init__(sock.fileno())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.local or 'closed'}>"

    # --- moving datagrams -------------------------------------------------------------------------

    def _receive_inet(self) -> Datagram:
        # One byte more than is allowed tells a longer one, without the price of recvmsg.
        data, sockaddr = self._sock.recvfrom(self.max_bytes + 1)
        return Datagram(data, sockaddr, len(data) > self.max_bytes, None)

    def _receive_unix(self) -> Datagram:
        data, control, flags, sockaddr = self._sock.recvmsg(self.max_bytes, _CONTROL_BYTES)
        credentials = None
        for level, kind, value in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                credentials = Credentials(*_UCRED.unpack(value[: _UCRED.size]))
        return Datagram(data, sockaddr, bool(flags & socket.MSG_TRUNC), credentials)

    def transmit(self, data: bytes, sockaddr: Any = None) -> None:
        """Sends one datagram, whole or not at all.

        Args:
            sockaddr: Where to; by default to ``target``.

        Raises:
            BlockingIOError: There is no room for it.
            OSError: It cannot be sent; for a connected UDP socket perhaps an earlier one.
        """
        where = self.target if sockaddr is None else sockaddr
        try:
            self._send(data, where)
        except PermissionError:
            self._send_broadcast(data, where)

    def reconnect(self) -> None:
        """Connects to the same address again: another server may have a Unix socket's path now.

        Raises:
            OSError: Nobody has.
        """
        if self._sock.family == socket.AF_UNIX:
            self._sock.connect(self._remote)

    def _send(self, data: bytes, where: Any) -> None:
        if where is None:
            self._sock.send(data)
        else:
            self._sock.sendto(data, where)

    def _send_broadcast(self, data: bytes, where: Any) -> None:
        """Sends again with the permission to broadcast, and takes it back if that was not it.

        The kernel knows from its routes what a broadcast address is, and says EACCES only without
        SO_BROADCAST (man 7 socket); any other EACCES stays.
        """
        sock = self._sock
        if self.may_broadcast:
            self._send(data, where)  # raises it anew
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        try:
            self._send(data, where)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 0)
            raise

    # --- what is known ----------------------------------------------------------------------------

    @property
    def family(self) -> int:
        """The family of its addresses."""
        return self._sock.family

    @property
    def local(self) -> str:
        """This side's address, with the port that was chosen; empty when closed."""
        if self._descriptor < 0:
            return ""
        return self.show(self._sock.getsockname())

    @property
    def peer(self) -> str:
        """Where it sends by default."""
        where = self._remote if self.target is None else self.target
        return "" if where is None else self.show(where)

    @property
    def port(self) -> int:
        """The port that it is bound to; 0 for Unix sockets, or when closed."""
        if self._descriptor < 0 or self._sock.family == socket.AF_UNIX:
            return 0
        return int(self._sock.getsockname()[1])

    @property
    def may_broadcast(self) -> bool:
        """Whether SO_BROADCAST is set."""
        return bool(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))

    @property
    def dropped(self) -> int:
        """How many datagrams the kernel has dropped because this socket's queue was full."""
        if self._descriptor < 0:
            return 0
        data = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(data)[-1]) if len(data) == _MEMINFO.size else 0

    @property
    def path_mtu(self) -> int:
        """The longest packet that the way to the connected address takes, as known now."""
        if self._sock.family == socket.AF_INET6:
            return int(self._sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU))
        return int(self._sock.getsockopt(socket.IPPROTO_IP, _IP_MTU))

    @property
    def largest_payload(self) -> int:
        """The longest datagram that goes that way in one packet."""
        is_6 = self._sock.family == socket.AF_INET6
        header = _IPV6_HEADER_BYTES if is_6 else _IP_HEADER_BYTES
        # A jumbogram (RFC 2675) is never sent; and IPv6 does not count its header as payload.
        most = _MAX_IP_BYTES - (0 if is_6 else header)
        return min(self.path_mtu - header, most) - _UDP_HEADER_BYTES

    def show(self, sockaddr: Any) -> str:
        """Returns an address of this socket's family as text."""
        return show_datagram_sockaddr(self._sock.family, sockaddr)

    def is_local(self, sockaddr: Any) -> bool:
        """Whether no other machine can have that address."""
        # The kernel writes addresses in one way only; to parse each would cost more than to send.
        if self._sock.family == socket.AF_UNIX:
            return True
        host: str = sockaddr[0]
        return host == "::1" or host.startswith(_LOOPBACK)

    @property
    def is_at_loopback(self) -> bool:
        """Whether it is bound where no other machine can send to."""
        return self.is_local(self._sock.getsockname())

    @property
    def is_to_loopback(self) -> bool:
        """Whether what it sends by default goes to this machine."""
        where = self._remote if self.target is None else self.target
        return where is not None and self.is_local(where)

    # --- the end ----------------------------------------------------------------------------------

    def _release(self) -> None:
        self._file.remove()
        self._sock.close()

    def abandon(self) -> None:
        """Closes a forked child's copy; the path stays, for it is the parent's."""
        self._file.forget()
        super().abandon()


def new_datagram_socket(family: int) -> _socket.socket:
    """Makes a socket that is neither bound nor connected."""
    return _socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
