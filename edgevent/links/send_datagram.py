"""One datagram, sent and forgotten; and how long one may be on the way to an address."""

from __future__ import annotations

import os

from .. import limits
from ..address import Address
from ..errors import AddressError, MessageError
from ..message import Message
from ..signing import Guard, SigningKeys
from ..transport.datagram import default_max_bytes
from ..transport.datagram_open import open_datagrams
from ..transport.datagram_send import send_within
from ..transport.multicast import Reach
from ..transport.resolve import DATAGRAM_SCHEMES

Keys = SigningKeys | str | os.PathLike[str] | None
"""Keys of signatures, or the path of their file."""


def datagram_address(address: str | Address) -> Address:
    """Reads an address of datagrams; a bare ``host:port`` is of UDP.

    Raises:
        AddressError: It is another one's.
    """
    found = Address.parse(address, default_scheme="udp")
    if not found.is_datagram:
        expected = " or ".join(DATAGRAM_SCHEMES)
        raise AddressError(f"{str(found)!r}: an address of scheme {expected} was expected")
    return found


def check_datagram(message: Message, data: bytes, limit: int) -> bytes:
    """Returns a datagram that is not too long.

    Raises:
        MessageError: It is.
    """
    if len(data) > limit:
        raise MessageError(
            f"{message.command}: a datagram of {len(data)} bytes is over the limit of {limit}",
            command=message.command,
        )
    return data


def send_datagram(
    address: str | Address,
    message: Message,
    *,
    secret_code: str | None = None,
    auth: Keys = None,
    interface: str = "",
    ttl: int | None = None,
    loop: bool | None = None,
    max_datagram_bytes: int | None = None,
    timeout: float = limits.DATAGRAM_SEND_TIMEOUT,
) -> None:
    """Sends one message as a datagram, to one receiver, to a broadcast address or to a group.

    That it returns says nothing of its arrival, but on a Unix socket. Blocks the calling greenlet
    while a name is looked up, and while the receiver's queue is full (Unix).

    Args:
        address: ``udp://host:port``, ``unixgram:/path`` or ``unixgram:@name``.
        secret_code: The code that the receiver wants.
        auth: The keys to sign with, or the path of their file.
        interface: The interface of multicast, by its name or by an address of it.
        ttl: How many routers may pass it on; the kernel's default is 1 for multicast.
        loop: Whether receivers on this machine get a multicast, too; they do by default.
        max_datagram_bytes: The longest datagram: 1,024 bytes, or 64 KiB on a Unix socket.
        timeout: How long it may wait for a name, and then for room in the receiver's queue, in
            seconds.

    Raises:
        MessageError: The datagram would be too long; nothing was sent.
        ConnectError: The name cannot be resolved, there is no way to the address, or nobody has it
            (Unix).
        ConnectionLostError: It could not be sent.
        QueueFullError: The receiver's queue was full for all that time.
        SigningKeyError: The file of keys cannot be used.
        AddressError: The address cannot be read, or is of no datagram socket.
    """
    where = datagram_address(address)
    limit = max_datagram_bytes or default_max_bytes(where)
    data = check_datagram(message, Guard(secret_code=secret_code, auth=auth).seal(message), limit)
    reach = Reach(interface, ttl, loop)
    transport = open_datagrams(where, reach=reach, timeout=timeout, answerable=False)
    try:
        send_within(transport, data, timeout=timeout)
    finally:
        transport.close()


def path_mtu(address: str | Address) -> int:
    """Returns the longest packet that the way to a UDP address takes, as the kernel knows it now.

    It is that of the first link, unless the kernel has learnt of a narrower one behind it (man 7
    ip, IP_MTU; man 7 ipv6, IPV6_MTU). Nothing is sent. Blocks the calling greenlet while a name is
    looked up.

    Raises:
        ConnectError: The name cannot be resolved, or there is no way to the address.
        AddressError: The address is of no UDP socket.
    """
    return _measure(address)[0]


def largest_payload(address: str | Address) -> int:
    """Returns the longest datagram that reaches an address in one packet, headers not counted.

    A longer one is cut into fragments on the way, and is lost when one of them is. On a Unix socket
    it is the limit of this package. Errors are those of :func:`path_mtu`.
    """
    where = datagram_address(address)
    return limits.MAX_UNIX_DATAGRAM_BYTES if where.is_unix else _measure(where)[1]


def _measure(address: str | Address) -> tuple[int, int]:
    where = datagram_address(address)
    if where.is_unix:
        raise AddressError(f"{str(where)!r}: an address of scheme udp was expected")
    transport = open_datagrams(where, measures=True)
    try:
        return transport.path_mtu, transport.largest_payload
    finally:
        transport.close()
