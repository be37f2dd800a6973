"""What is told of files: the kinds of events, and the event itself."""

from __future__ import annotations

import difflib
import functools
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, cast

from ..errors import UsageError
from .inotify import (
    IN_ACCESS,
    IN_ATTRIB,
    IN_CLOSE_NOWRITE,
    IN_CLOSE_WRITE,
    IN_MODIFY,
    IN_OPEN,
)

FileKind = Literal[
    "attributes",
    "read",
    "write",
    "created",
    "deleted",
    "access",
    "updated",
    "exists",
    "moved",
    "lost_sync",
]

ATTRIBUTES: Final = 0x1
READ: Final = 0x2
WRITE: Final = 0x4
CREATED: Final = 0x8
DELETED: Final = 0x10
ACCESS: Final = 0x20
UPDATED: Final = 0x40
EXISTS: Final = 0x80
MOVED: Final = 0x100
LOST_SYNC: Final = 0x200

KINDS: Final[dict[FileKind, int]] = {
    "attributes": ATTRIBUTES,
    "read": READ,
    "write": WRITE,
    "created": CREATED,
    "deleted": DELETED,
    "access": ACCESS,
    "updated": UPDATED,
    "exists": EXISTS,
    "moved": MOVED,
    "lost_sync": LOST_SYNC,
}
DEFAULT_EVENTS: Final[tuple[FileKind, ...]] = ("created", "updated", "deleted", "moved")

# What inotify says of the content of files. That names come and go is always asked for.
_CONTENT: Final = {
    IN_ATTRIB: ATTRIBUTES,
    IN_ACCESS: READ,
    IN_MODIFY: WRITE,
    IN_OPEN: ACCESS,
    IN_CLOSE_NOWRITE: ACCESS,
    IN_CLOSE_WRITE: ACCESS | UPDATED,
}


@dataclass(frozen=True, slots=True)
class FileEvent:
    """Something that has happened to a file or a folder.

    Attributes:
        path: The full path, below the one that is watched as it was given; the new one of a rename.
        kinds: What has happened, as in :class:`~edgevent.FileWatch`.
        moved_from: The former path, when one event tells of a rename; else empty.
        folder: Whether it is a folder.
        gone: Whether what was watched went away itself.
        unmounted: Whether that was because its file system was unmounted.
    """

    path: str
    kinds: frozenset[FileKind]
    moved_from: str = ""
    folder: bool = False
    gone: bool = False
    unmounted: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    @property
    def lost_sync(self) -> bool:
        """Whether events were lost, and what follows was found by a comparison."""
        return "lost_sync" in self.kinds


@functools.lru_cache(1024)  # of as many combinations
def kinds_of(bits: int) -> frozenset[FileKind]:
    """Returns the names of the bits."""
    return frozenset(name for name, bit in KINDS.items() if bits & bit)


def bits_of(events: FileKind | Iterable[FileKind]) -> int:
    """Returns the bits of one kind or several.

    Raises:
        UsageError: There is no such kind, or none was given.
    """
    bits = 0
    several = isinstance(events, Iterable) and not isinstance(events, str)
    names = cast(Iterable[FileKind], events if several else [events])
    for name in names:
        bit = KINDS.get(name)
        if bit is None:
            near = difflib.get_close_matches(str(name), KINDS, 1)
            expected = repr(near[0]) if near else ", ".join(KINDS)
            raise UsageError(f"{name!r} is no kind of file event: {expected} was expected")
        bits |= bit
    if not bits:
        raise UsageError("no kind of file event was given")
    return bits


def mask_of(bits: int) -> int:
    """Returns what inotify is to be asked for, beside the names that come and go."""
    mask = 0
    for flag, told in _CONTENT.items():
        if told & bits:
            mask |= flag
    return mask


def content_bits(mask: int) -> int:
    """Returns what an event of inotify's says of the content of a file."""
    bits = _CONTENT.get(mask)
    if bits is None:  # one change may be of two kinds: of size and times, say
        bits = 0
        for flag, told in _CONTENT.items():
            if mask & flag:
                bits |= told
    return bits


class Report:
    """Collects what is to be told.

    Args:
        wanted: The bits of the kinds that are; the loss of events and the end of what is watched
            always are.

    Attributes:
        events: What was collected and not taken yet.
    """

    __slots__ = ("events", "wanted")

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.events: list[FileEvent] = []

    def tell(
        self,
        path: str,
        bits: int,
        *,
        folder: bool = False,
        moved_from: str = "",
        gone: bool = False,
        unmounted: bool = False,
    ) -> None:
        """Adds an event, unless it is not wanted."""
        is_end = gone or unmounted
        bits = bits if is_end else bits & (self.wanted | LOST_SYNC)
        if bits or is_end:
            event = FileEvent(path, kinds_of(bits), moved_from, folder, gone, unmounted)
            self.events.append(event)

    def moved(self, former: str, path: str, bits: int, folder: bool) -> None:
        """Tells of a rename: in one event, or in two where renames themselves are not wanted."""
        if self.wanted & MOVED:
            self.tell(path, bits | MOVED, moved_from=former, folder=folder)
        else:
            self.tell(former, DELETED, folder=folder)
            self.tell(path, bits, folder=folder)

    def take(self) -> list[FileEvent]:
        """Returns what was collected."""
        events, self.events = self.events, []
        return events
