"""What the tests of datagrams share: the kinds of sockets, and plain sockets beside ours."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gevent import socket
from network_ground import PATIENCE, Ground

from edgevent import Address, DatagramServer

KINDS = ("udp4", "udp6", "unix_path", "unix_abstract")
LOCAL_KINDS = KINDS

_names = itertools.count()


def address_of(kind: str, folder: Path) -> str:
    """An address of a kind of socket that nobody has."""
    if kind == "udp4":
        return "udp://127.0.0.1:0"
    if kind == "udp6":
        if not Path("/proc/net/if_inet6").exists():
            pytest.skip("this kernel has no IPv6")
        return "udp://[::1]:0"
    if kind == "unix_path":
        return f"unixgram:{folder / f'd{next(_names)}'}"
    return f"unixgram:@edgevent-{os.getpid()}-{next(_names)}"


def sockaddr_of(address: str) -> tuple[int, Any]:
    """The family and the address as the socket module takes them."""
    found = Address.parse(address)
    if found.is_unix:
        path = found.path
        return socket.AF_UNIX, f"\0{path[1:]}" if found.is_abstract else path
    return (socket.AF_INET6 if ":" in found.host else socket.AF_INET), (found.host, found.port)


@contextmanager
def plain(address: str, *, bound: bool = True) -> Iterator[socket.socket]:
    """A plain socket that is connected to an address, and can be answered."""
    family, sockaddr = sockaddr_of(address)
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        if family == socket.AF_UNIX and bound:
            sock.bind("")
        sock.connect(sockaddr)
        yield sock


def serve(ground: Ground, address: str, *arguments: Any, **settings: Any) -> DatagramServer:
    """Adds a server to the running communicator."""
    server = DatagramServer(address, *arguments, **settings)
    return ground.communicator.add_connection(server)


def ask(sock: socket.socket, line: bytes) -> bytes:
    """Sends a datagram, and waits for one."""
    sock.send(line)
    return bytes(sock.recv(70_000))


def udp(sock: Any) -> str:
    """The address of a UDP socket of the test's own."""
    return f"udp://127.0.0.1:{sock.getsockname()[1]}"
