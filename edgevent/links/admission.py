"""Who may connect to a Unix socket: users and groups."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Iterable

from ..errors import ListenError
from ..transport.base import Credentials
from ..transport.fd import FdTransport
from ..transport.stream import SocketTransport


class Admission:
    """A list of users and of groups; whoever is in one of them is admitted.

    Args:
        users: Names or numbers.
        groups: Names or numbers; all groups of a process count.

    Raises:
        ListenError: There is no such user or group.
    """

    __slots__ = ("_groups", "_users")

    def __init__(self, users: Iterable[str | int], groups: Iterable[str | int]) -> None:
        self._users = frozenset(map(_user, users))
        self._groups = frozenset(map(_group, groups))

    def admits(self, transport: SocketTransport | FdTransport) -> bool:
        """Whether the process on the other side is in one of the lists."""
        found = transport.credentials
        return found is not None and (
            found.uid in self._users or not self._groups.isdisjoint(transport.groups)
        )

    def admits_sender(self, found: Credentials | None) -> bool:
        """Whether the sender of a datagram is: of its groups the kernel tells only one."""
        return found is not None and (found.uid in self._users or found.gid in self._groups)


def _user(name: str | int) -> int:
    if isinstance(name, int):
        return name
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ListenError(f"there is no user {name!r}") from None


def _group(name: str | int) -> int:
    if isinstance(name, int):
        return name
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ListenError(f"there is no group {name!r}") from None
