"""Opening datagram sockets: to receive at an address, or to send to one."""

from __future__ import annotations

import _socket
import logging
import socket
from collections.abc import Iterable
from typing import Any, Final

from ..address import Address
from ..errors import (
    AddressError,
    ConnectError,
    ConnectTimeoutError,
    ListenError,
)
from ..limits import CONNECT_TIMEOUT
from ..runtime.clock import SYSTEM_CLOCK, Clock
from .datagram import DatagramTransport, default_max_bytes, new_datagram_socket
from .everywhere import bind_everywhere
from .inherited import Inherited, take_over
from .multicast import Reach, join_group
from .resolve import DATAGRAM_SCHEMES, Endpoint, resolve
from .socket_file import bind_unix, check_has_file, check_is_own

logger = logging.getLogger("edgevent")

_ANYWHERE: Final = Reach()


def bind_datagrams(
    address: Address,
    *,
    max_bytes: int = 0,
    reach: Reach = _ANYWHERE,
    groups: Iterable[str] = (),
    mode: int | None = None,
    group: str | int | None = None,
    inherited: Inherited | None = None,
) -> list[DatagramTransport]:
    """Opens a socket for each address of this machine that a datagram address stands for.

    Args:
        max_bytes: The longest datagram that is received; by default that of the kind of socket.
        reach: How datagrams leave, and on which interface groups are joined.
        groups: The multicast groups to join; the address itself is one, if it is multicast.
        mode: The mode of a Unix socket's file; 0600, or 0660 when a group is given.
        group: The group of a Unix socket's file, by name or number.
        inherited: A socket that is bound there already. It is duplicated; :func:`let_go` is to
            follow.

    Raises:
        ListenError: It names the address and the reason.
        UsageError: A mode or a group was given for what has no file, or for another one's.
    """
    max_bytes = max_bytes or default_max_bytes(address)
    if inherited is not None:
        check_is_own(address, mode, group)
        return [_bind_inherited(address, inherited, max_bytes, reach, tuple(groups))]
    check_has_file(address, mode, group)
    try:
        endpoints = resolve(address, passive=True, schemes=DATAGRAM_SCHEMES)
    except AddressError as error:
        raise ListenError(str(error)) from error
    except OSError as error:
        code = None if isinstance(error, socket.gaierror) else error.errno
        raise ListenError(f"{address}: {error.strerror or error}", code) from error
    if address.is_unix:
        return [_bind_unix(address, max_bytes, mode, group)]
    return _bind_inet(address, endpoints, max_bytes, reach, tuple(groups))


def _bind_unix(
    address: Address, max_bytes: int, mode: int | None, group: str | int | None
) -> DatagramTransport:
    try:
        sock = new_datagram_socket(socket.AF_UNIX)
    except OSError as error:
        raise ListenError(f"{address}: {error.strerror}", error.errno) from error
    try:
        file = bind_unix(sock, address, mode, group)
        return DatagramTransport(sock, max_bytes, file=file, asks_sender=True)
    except BaseException:
        sock.close()
        raise


def _bind_inet(
    address: Address,
    endpoints: list[Endpoint],
    max_bytes: int,
    reach: Reach,
    groups: tuple[str, ...],
) -> list[DatagramTransport]:
    joined: set[str] = set()

    def bind(endpoint: Endpoint, port: int) -> DatagramTransport:
        own = [name for name in groups if (":" in name) == (endpoint.family == socket.AF_INET6)]
        transport = _bind_at(endpoint, port, address, max_bytes, reach, own)
        joined.update(own)
        return transport

    transports = bind_everywhere(address, endpoints, bind)
    if left := [name for name in groups if name not in joined]:
        for transport in transports:
            transport.close()
        raise ListenError(f"{address} cannot be in the group {left[0]}: it is of another kind")
    return transports


def _bind_at(
    endpoint: Endpoint,
    port: int,
    address: Address,
    max_bytes: int,
    reach: Reach,
    groups: list[str],
) -> DatagramTransport:
    host = endpoint.sockaddr[0]
    sock = new_datagram_socket(endpoint.family)
    try:
        if endpoint.family == socket.AF_INET6 and not host.startswith("::ffff:"):
            # An empty host stands for 0.0.0.0 and ::, which would be the same port twice.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if address.is_multicast:
            # All programs of this machine that are in the group get each datagram. For other
            # addresses the last one to bind would get all of them: another program's.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            groups = [host, *groups]
        reach.apply(sock)
        sock.bind((host, port, *endpoint.sockaddr[2:]))
        for name in groups:
            join_group(sock, name, reach.interface)
        return DatagramTransport(sock, max_bytes)
    except BaseException:
        sock.close()
        raise


def _bind_inherited(
    address: Address, inherited: Inherited, max_bytes: int, reach: Reach, groups: tuple[str, ...]
) -> DatagramTransport:
    sock = take_over(inherited, listens=False)
    try:
        if address.is_unix:  # its file is not ours to remove
            return DatagramTransport(sock, max_bytes, asks_sender=True)
        reach.apply(sock)
        if address.is_multicast:
            groups = (address.host, *groups)
        for name in groups:
            join_group(sock, name, reach.interface)
        return DatagramTransport(sock, max_bytes)
    except OSError as error:
        sock.close()
        raise ListenError(f"{address}: {error.strerror or error}", error.errno) from error
    except BaseException:
        sock.close()
        raise


def open_datagrams(
    address: Address,
    *,
    max_bytes: int = 0,
    reach: Reach = _ANYWHERE,
    timeout: float = CONNECT_TIMEOUT,
    clock: Clock = SYSTEM_CLOCK,
    answerable: bool = True,
    measures: bool = False,
) -> DatagramTransport:
    """Opens a socket that sends to an address, and receives what comes back.

    It is connected, and gets answers from there alone; but for a broadcast or a multicast address,
    to which anybody may answer. May switch greenlets when the host is a name.

    Args:
        max_bytes: The longest datagram that is received; by default that of the kind of socket.
        reach: How datagrams leave.
        timeout: The limit of the look-up of a name, in seconds.
        answerable: Whether a Unix socket gets an abstract name of the kernel's choice, without
            which nobody could answer it.
        measures: Whether it is connected anyway, so that it knows the way to the address.

    Raises:
        ConnectError: There is no way to the address, or nobody has it (Unix).
        ConnectTimeoutError: The name was not resolved in time.
        AddressError: The address is of no datagram socket.
    """
    try:
        endpoints = resolve(address, timeout, clock=clock, schemes=DATAGRAM_SCHEMES)
    except TimeoutError as error:
        raise ConnectTimeoutError(f"{address}: {error.strerror}", error.errno) from error
    except OSError as error:
        code = None if isinstance(error, socket.gaierror) else error.errno
        raise ConnectError(f"{address}: {error.strerror or error}", code) from error
    failure: OSError | None = None
    max_bytes = max_bytes or default_max_bytes(address)
    for endpoint in endpoints:
        try:
            return _open_to(endpoint, address, max_bytes, reach, answerable, measures)
        except OSError as error:
            failure = error
    assert failure is not None
    raise ConnectError(f"{address}: {failure.strerror}", failure.errno) from failure


def _open_to(
    endpoint: Endpoint,
    address: Address,
    max_bytes: int,
    reach: Reach,
    answerable: bool,
    measures: bool,
) -> DatagramTransport:
    sock = new_datagram_socket(endpoint.family)
    try:
        if endpoint.family != socket.AF_UNIX:
            reach.apply(sock)
        elif answerable:
            sock.bind("")  # man 7 unix, autobind
        if measures:
            if endpoint.family == socket.AF_INET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.connect(endpoint.sockaddr)
        elif address.is_multicast or not _connect(sock, endpoint.sockaddr):
            return DatagramTransport(sock, max_bytes, target=endpoint.sockaddr)
        return DatagramTransport(sock, max_bytes, remote=endpoint.sockaddr)
    except BaseException:
        sock.close()
        raise


def _connect(sock: _socket.socket, sockaddr: Any) -> bool:
    """Connects a socket; returns False, and leaves it as it is, if that is a broadcast address."""
    try:
        sock.connect(sockaddr)
    except PermissionError:
        if sock.family == socket.AF_INET and _is_broadcast(sockaddr):
            return False
        raise
    return True


def _is_broadcast(sockaddr: Any) -> bool:
    # The kernel's routes say it: EACCES without SO_BROADCAST, and none with it (man 7 socket).
    probe = new_datagram_socket(socket.AF_INET)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        return probe.connect_ex(sockaddr) == 0
    finally:
        probe.close()
