"""The file of the loads of other computers, which services of the C++ library read.

It is ``loadavg.lavg`` of the C++ daemon: ``LAVG``, a version, and for
each computer a ``timespec``, a ``sockaddr_in6`` (ipv6(7); IPv4 is mapped) whose port is always
4040, and the load as a ``float``, all as this machine has them in memory.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ..address import Address
from .neighbors import place_of

FILE_NAME: Final = "loadavg.lavg"

_HEAD: Final = struct.pack("=4sH", b"LAVG", 1)
_RECORD: Final = struct.Struct("=qqH2sI16sIf")
_PORT: Final = (4040).to_bytes(2, "big")
_SECOND: Final = 1_000_000_000


def write_loads(path: Path, loads: Iterable[tuple[Address, float, int]]) -> None:
    """Writes the file; readers see the former one or the new one, whole.

    Args:
        loads: The address of a computer, its load, and when it was so, in nanoseconds of the epoch.

    Raises:
        OSError: It cannot be written.
    """
    data = [_HEAD]
    for address, load, when in loads:
        host, _ = place_of(address)
        seconds, rest = divmod(when, _SECOND)
        data.append(_RECORD.pack(seconds, rest, socket.AF_INET6, _PORT, 0, host, 0, load))
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(b"".join(data))
    os.replace(new, path)
