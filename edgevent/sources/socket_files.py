"""The kernel's tables of sockets as text, proc_net(5): for where netlink is not allowed.

It costs a thousand times more than :mod:`~edgevent.sources.sock_diag`: the kernel writes a line
for each connection of the machine.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from .sock_diag import UnixListener

_FILES: Final[dict[int, str]] = {socket.AF_INET: "tcp", socket.AF_INET6: "tcp6"}
_ACCEPTS: Final = 0x10000  # __SO_ACCEPTCON of linux/net.h


class SocketFiles:
    """The tables under ``/proc/net``, read once for each round of questions.

    What :class:`~edgevent.sources.sock_diag.SocketDiag` tells, but for whether a listener for all
    IPv6 addresses takes those of IPv4: that is taken for true, as it is by default.

    Args:
        folder: Where the tables are.
    """

    is_exact = False

    def __init__(self, folder: str = "/proc/net") -> None:
        self._folder = folder
        self._seen: dict[int, set[tuple[bytes, int]]] = {}

    def close(self) -> None:
        """Forgets what was read."""
        self._seen.clear()

    def tcp_listens(self, family: int, host: bytes, port: int, interface: int = 0) -> bool:
        """Whether somebody listens on this address, or on all; raises ``OSError``."""
        if self._listens(family, host, port) or self._listens(family, bytes(len(host)), port):
            return True
        return family == socket.AF_INET and self._listens(socket.AF_INET6, bytes(16), port)

    def _listens(self, family: int, host: bytes, port: int) -> bool:
        if family not in self._seen:
            self._seen[family] = self._read_tcp(_FILES[family])
        return (host, port) in self._seen[family]

    def _read_tcp(self, name: str) -> set[tuple[bytes, int]]:
        try:
            with open(f"{self._folder}/{name}", encoding="ascii") as file:
                next(file, None)
                lines = [line.split(None, 4) for line in file]
        except FileNotFoundError:  # a kernel without IPv6
            return set()
        return {_read_endpoint(fields[1]) for fields in lines if fields[3] == "0A"}

    def unix_listeners(self) -> list[UnixListener]:
        """All Unix sockets that listen and have a name; raises ``OSError``."""
        with open(f"{self._folder}/unix", "rb") as file:
            next(file, None)
            lines = [line.rstrip(b"\n").split(None, 7) for line in file]
        found = []
        for fields in lines:
            if len(fields) == 8 and int(fields[3], 16) & _ACCEPTS:
                name = fields[7]
                if name.startswith(b"@"):
                    name = b"\0" + name[1:]
                found.append(UnixListener(int(fields[4], 16), name))
        return found


def _read_endpoint(text: str) -> tuple[bytes, int]:
    """Reads ``0100007F:0BB9``: words in the machine's order of bytes, then the port."""
    host, _, port = text.partition(":")
    words = [int(host[at : at + 8], 16) for at in range(0, len(host), 8)]
    return struct.pack(f"={len(words)}I", *words), int(port, 16)
