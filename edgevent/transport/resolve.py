"""From an address to socket addresses. Names are looked up in a thread; the hub goes on."""

from __future__ import annotations

import _socket
import errno
import socket
from typing import Any, Final, NamedTuple

import gevent

from ..address import Address
from ..errors import AddressError, DeadlineError
from ..limits import CONNECT_TIMEOUT
from ..runtime.clock import SYSTEM_CLOCK, Clock
from ..runtime.turns import Turns
from ..runtime.waits import deadline

Family = int

STREAM_SCHEMES: Final = ("tcp", "tls", "unix", "tls+unix", "unixseq")
DATAGRAM_SCHEMES: Final = ("udp", "unixgram")
_UNIX_KINDS: Final = {"unixseq": socket.SOCK_SEQPACKET, "unixgram": socket.SOCK_DGRAM}


class Endpoint(NamedTuple):
    """Where a socket can be bound or connected."""

    family: Family
    sockaddr: Any
    kind: int = socket.SOCK_STREAM


def unix_sockaddr(address: Address) -> str:
    """The form in which the kernel takes a Unix socket's name; abstract ones begin with NUL.

    Raises:
        AddressError: The path is longer than the kernel allows (man 7 unix: 108 bytes).
    """
    if address.path_too_long:
        raise AddressError(
            f"{str(address)!r}: a Unix socket's path of at most 107 bytes was expected"
        )
    return "\0" + address.path[1:] if address.is_abstract else address.path


def resolve(
    address: Address,
    timeout: float = CONNECT_TIMEOUT,
    *,
    passive: bool = False,
    clock: Clock = SYSTEM_CLOCK,
    schemes: tuple[str, ...] = STREAM_SCHEMES,
) -> list[Endpoint]:
    """Returns all socket addresses of an address, in the order of preference.

    May switch greenlets when the host is a name.

    Args:
        timeout: The limit of a look-up in seconds. A resolver that hangs goes on in its thread.
        passive: For listening: an empty host means all addresses.
        schemes: The schemes that are taken; streams, when nothing is said.

    Raises:
        AddressError: The address is of another scheme, or its path is too long.
        OSError: The name cannot be resolved, or not in time (``ETIMEDOUT``).
    """
    if address.scheme not in schemes:
        expected = ", ".join(schemes)
        hint = "; see DatagramServer" if address.is_datagram else ""
        raise AddressError(f"{str(address)!r}: an address of scheme {expected} was expected{hint}")
    if address.is_unix:
        kind = _UNIX_KINDS.get(address.scheme, socket.SOCK_STREAM)
        return [Endpoint(socket.AF_UNIX, unix_sockaddr(address), kind)]
    flags = socket.AI_PASSIVE if passive else 0
    kind = socket.SOCK_DGRAM if address.scheme == "udp" else socket.SOCK_STREAM
    arguments = (address.host or None, address.port, 0, kind, 0)
    found: list[Any]
    try:
        found = _socket.getaddrinfo(*arguments, flags | socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = _look_up(arguments, flags, timeout, clock)
    endpoints = [Endpoint(int(family), sockaddr, kind) for family, _, _, _, sockaddr in found]
    return list(dict.fromkeys(endpoints))


def _look_up(arguments: tuple[Any, ...], flags: int, timeout: float, clock: Clock) -> list[Any]:
    Turns.current().check_wait()
    resolver: Any = gevent.get_hub().resolver
    try:
        with deadline(timeout, clock=clock):
            found: list[Any] = resolver.getaddrinfo(*arguments, flags)
            return found
    except DeadlineError:
        text = f"the name was not resolved within {timeout:g} s"
        raise TimeoutError(errno.ETIMEDOUT, text) from None
