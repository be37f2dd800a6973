"""What a server makes in the file system: which file is its own, and whose group it has."""

from __future__ import annotations

import grp
import os

from ..address import Address
from ..errors import ListenError


def file_identity(path: str) -> tuple[int, int] | None:
    """Returns device and inode of what a path names itself, or ``None``."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def group_number(address: Address, group: str | int) -> int:
    """Returns the number of a group.

    Raises:
        ListenError: There is none of that name.
    """
    if isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ListenError(f"{address}: there is no group {group!r}") from None
