"""Addresses that nobody else has, and what a process listens on, as the kernel tells it."""

from __future__ import annotations

import os
import re
import socket as _socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from gevent.monkey import get_original

from ..address import SCHEMES, Address
from ..errors import AddressError, UsageError

make_socket: Final = get_original("socket", "socket")
"""The socket of the system, also in a program that gevent has patched."""

_PORT: Final = re.compile(r"\{port(\w*)\}")
_LISTENS: Final = {"tcp": "0A", "udp": "07"}  # TCP_LISTEN, and TCP_CLOSE: bound, not connected
_ACCEPTS: Final = 0x10000  # SO_ACCEPTCON among the flags of /proc/net/unix
_UNIX: Final = {1: "unix", 2: "unixgram", 5: "unixseq"}  # SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")
_ORDER: Final = sys.byteorder


class Places:
    """Gives away ports and paths, and keeps others from them until it is closed.

    A port is held by a socket that is bound and does not listen: the kernel gives it to nobody
    else, and a server that sets ``SO_REUSEADDR``, as this package's and most others do, can listen
    there (man 7 socket).
    """

    def __init__(self) -> None:
        self._held: list[_socket.socket] = []
        self._named: dict[str, int] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._count = 0

    def port(self) -> int:
        """Returns a port of 127.0.0.1 that is free, for TCP and for UDP."""
        while True:
            sock = make_socket(_socket.AF_INET, _socket.SOCK_STREAM)
            self._held.append(sock)
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", 0))
            port = int(sock.getsockname()[1])
            with make_socket(_socket.AF_INET, _socket.SOCK_DGRAM) as other:
                try:
                    other.bind(("127.0.0.1", port))
                except OSError:  # somebody has it for UDP
                    continue
            return port

    def address(self, scheme: str = "tcp") -> str:
        """Returns an address at which nobody listens.

        Args:
            scheme: Of any kind but ``fd``; of those with a path the path is in a new folder.

        Raises:
            AddressError: There is no such kind.
        """
        if scheme not in SCHEMES or scheme == "fd":
            kinds = ", ".join(one for one in SCHEMES if one != "fd")
            raise AddressError(f"no free address of {scheme!r}: expected one of {kinds}")
        if scheme in ("tcp", "tls", "udp"):
            return f"{scheme}://127.0.0.1:{self.port()}"
        if self._folder is None:
            # pytest's own folders may be too long for a Unix socket (man 7 unix).
            self._folder = tempfile.TemporaryDirectory(prefix="ed-")
        self._count += 1
        return f"{scheme}:{self._folder.name}/{self._count}"

    def named_port(self, name: str = "") -> int:
        """Returns the port of a name: a free one at the first call, then the same."""
        if name not in self._named:
            self._named[name] = self.port()
        return self._named[name]

    def fill(self, text: str) -> str:
        """Puts free ports into a text: ``{port}`` is one, ``{port2}`` or ``{portadmin}`` others."""
        return _PORT.sub(lambda found: str(self.named_port(found[1])), text)

    def close(self) -> None:
        """Lets all of them go. Idempotent."""
        held, self._held = self._held, []
        for sock in held:
            sock.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def bind(address: str) -> _socket.socket:
    """Returns a socket that listens there (or receives datagrams), to be handed to a service.

    Raises:
        UsageError: It is no address of a socket.
    """
    place = Address.parse(address)
    kind = _socket.SOCK_STREAM
    if place.is_datagram:
        kind = _socket.SOCK_DGRAM
    elif place.scheme == "unixseq":
        kind = _socket.SOCK_SEQPACKET
    where: str | tuple[str, int]
    if place.is_inet:
        family = _socket.AF_INET6 if ":" in place.host else _socket.AF_INET
        where = (place.host, place.port)
    elif place.is_unix:
        family, where = _socket.AF_UNIX, place.path
        if place.is_abstract:
            where = "\0" + place.path[1:]
    else:
        raise UsageError(f"{address!r}: expected an address of a socket, such as tcp://127.0.0.1:0")
    sock: _socket.socket = make_socket(family, kind)
    try:
        if place.is_inet and not place.is_datagram:
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        sock.bind(where)
        if not place.is_datagram:
            sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock


def listening_addresses(pid: int) -> list[str]:
    """Returns where a process and its children listen, in the order of their descriptors.

    The kernel does not know of TLS: ``tls:`` is told as ``tcp:``, and ``tls+unix:`` as ``unix:``.

    Args:
        pid: A process of this user, in this network namespace.
    """
    inodes = [inode for one in _family(pid) for inode in _sockets_of(one)]
    if not inodes:
        return []
    there = {**_inet(), **_unix(_link(f"/proc/{pid}/cwd"))}
    return list(dict.fromkeys(there[inode] for inode in inodes if inode in there))


def _family(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            children = Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii")
            for child in children.split():
                yield from _family(int(child))


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # it went away
        return ""


def _sockets_of(pid: int) -> Iterator[str]:
    try:
        descriptors = sorted(map(int, os.listdir(f"/proc/{pid}/fd")))
    except OSError:
        return
    for number in descriptors:
        found = _SOCKET.fullmatch(_link(f"/proc/{pid}/fd/{number}"))
        if found is not None:
            yield found[1]


def _rows(name: str) -> list[list[str]]:
    try:
        text = Path(f"/proc/net/{name}").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # a kernel without IPv6
        return []
    return [line.split(maxsplit=11) for line in text.splitlines()[1:]]


def _inet() -> dict[str, str]:
    """The listening sockets of TCP and UDP by their inode; see proc_pid_net(5)."""
    found = {}
    for scheme, state in _LISTENS.items():
        for suffix, family in (("", _socket.AF_INET), ("6", _socket.AF_INET6)):
            for row in _rows(scheme + suffix):
                if row[3] == state:
                    packed, _, port = row[1].partition(":")
                    # Words of 32 bits, in the order of this machine.
                    words = (packed[at : at + 8] for at in range(0, len(packed), 8))
                    raw = b"".join(int(word, 16).to_bytes(4, _ORDER) for word in words)
                    host = _socket.inet_ntop(family, raw)
                    shown = f"[{host}]" if family == _socket.AF_INET6 else host
                    found[row[9]] = f"{scheme}://{shown}:{int(port, 16)}"
    return found


def _unix(folder: str) -> dict[str, str]:
    """The listening Unix sockets by their inode; a relative path is one from the folder."""
    found = {}
    for row in _rows("unix"):
        if len(row) < 8:  # it has no name
            continue
        kind, path = int(row[4], 16), " ".join(row[7:])
        scheme = _UNIX.get(kind)
        if scheme and (kind == _socket.SOCK_DGRAM or int(row[3], 16) & _ACCEPTS):
            if not path.startswith("@"):
                path = os.path.join(folder, path)
            found[row[6]] = f"{scheme}:{path}"
    return found
