"""Multicast: which groups a socket is in, and how its own datagrams to groups leave.

Man 7 ip (IP_ADD_MEMBERSHIP, IP_MULTICAST_*), man 7 ipv6 (IPV6_ADD_MEMBERSHIP, IPV6_MULTICAST_*).
"""

from __future__ import annotations

import _socket
import errno
import ipaddress
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import UsageError

_IP_MULTICAST_ALL: Final = 49  # man 7 ip; Python has no name for it
_IPV6_MULTICAST_ALL: Final = 29  # linux/in6.h
_MREQN: Final = struct.Struct("4s4si")  # man 7 ip, struct ip_mreqn
_IPV6_MREQ: Final = struct.Struct("16sI")  # man 7 ipv6, struct ipv6_mreq
_IF_INET6: Final = Path("/proc/net/if_inet6")  # address, index, ... of each interface
_MAX_TTL: Final = 255


@dataclass(frozen=True, slots=True)
class Reach:
    """How far datagrams go, and by which way.

    Attributes:
        interface: The interface of multicast, by its name or by an address of it; the kernel
            chooses when it is empty.
        ttl: How many routers may pass a datagram on, 0 to 255; the kernel's default is 1 for
            multicast and 64 for others.
        loop: Whether this machine gets its own multicast, too; the kernel's default is yes.
    """

    interface: str = ""
    ttl: int | None = None
    loop: bool | None = None

    def __post_init__(self) -> None:
        if self.ttl is not None and not 0 <= self.ttl <= _MAX_TTL:
            raise UsageError(f"ttl {self.ttl}: 0 to {_MAX_TTL} was expected")

    def apply(self, sock: _socket.socket) -> None:
        """Sets what a socket's own datagrams are sent with.

        Raises:
            OSError: There is no such interface.
        """
        if sock.family == socket.AF_INET6:
            level, hops, unicast = (
                socket.IPPROTO_IPV6,
                socket.IPV6_MULTICAST_HOPS,
                socket.IPV6_UNICAST_HOPS,
            )
            loop = socket.IPV6_MULTICAST_LOOP
        else:
            level, hops, unicast = socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, socket.IP_TTL
            loop = socket.IP_MULTICAST_LOOP
        if self.ttl is not None:
            sock.setsockopt(level, hops, self.ttl)
            if self.ttl or sock.family == socket.AF_INET6:  # IP_TTL takes 1 to 255
                sock.setsockopt(level, unicast, self.ttl)
        if self.loop is not None:
            sock.setsockopt(level, loop, int(self.loop))
        if self.interface and sock.family == socket.AF_INET6:
            index = interface_index(self.interface)
            sock.setsockopt(level, socket.IPV6_MULTICAST_IF, index)
        elif self.interface:
            sock.setsockopt(level, socket.IP_MULTICAST_IF, _mreqn("0.0.0.0", self.interface))


def join_group(sock: _socket.socket, group: str, interface: str = "") -> None:
    """Has a bound socket receive what is sent to a group, and to no other that is received here.

    Args:
        group: Its address, of the socket's family; ``%interface`` may stand behind it.
        interface: Where it is joined, by name or by an address; the kernel chooses when empty.

    Raises:
        OSError: There is no such interface, or the address is no multicast address.
    """
    group, _, scope = group.partition("%")
    interface = scope or interface
    if sock.family == socket.AF_INET6:
        index = interface_index(interface) if interface else 0
        request = _IPV6_MREQ.pack(socket.inet_pton(socket.AF_INET6, group), index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
    else:
        request = _mreqn(group, interface)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)


def _mreqn(group: str, interface: str) -> bytes:
    address, index = b"\0" * 4, 0
    if _is_numeric(interface):
        address = socket.inet_pton(socket.AF_INET, interface)
    elif interface:
        index = socket.if_nametoindex(interface)
    return _MREQN.pack(socket.inet_pton(socket.AF_INET, group), address, index)


def _is_numeric(interface: str) -> bool:
    try:
        ipaddress.ip_address(interface)
    except ValueError:
        return False
    return True


def interface_index(interface: str) -> int:
    """Returns the number of an interface that is given by its name or by an IPv6 address of it.

    Raises:
        OSError: There is none.
    """
    number = interface.partition("%")[0]
    if not _is_numeric(number):
        return socket.if_nametoindex(interface)
    wanted = ipaddress.ip_address(number).packed.hex()
    for line in _IF_INET6.read_text().splitlines():
        address, index = line.split()[:2]
        if address == wanted:
            return int(index, 16)
    raise OSError(errno.ENODEV, f"no interface has the address {interface}")
