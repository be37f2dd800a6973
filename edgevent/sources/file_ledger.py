"""What is known of files and folders, and what is told when a look shows something else."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple, Protocol

from .file_event import ATTRIBUTES, CREATED, DELETED, UPDATED, WRITE, Report


class Look(NamedTuple):
    """What a look at an entry has shown.

    Attributes:
        folder: Whether it is a folder.
        regular: Whether it is a regular file.
        content: A number that changes with the content; 0 while an update is still to be told.
        attributes: A number that changes with mode, owner, group and count of links.
    """

    folder: bool
    regular: bool
    content: int
    attributes: int


class Holder(Protocol):
    """What knows entries by a key: a folder by their names, a path that is watched itself by ''."""

    known: dict[str, Look]

    @property
    def is_lone(self) -> bool:
        """Whether it is a path that is watched itself."""

    def shown(self, key: str) -> str:
        """The path that is told."""

    def real(self, key: str) -> str:
        """The path that is given to the kernel."""


class Ledger:
    """Compares, and writes down what was found.

    Attributes:
        looks: Whether more of an entry has to be known than its name.
        settling: What was found changed by a look, and may still be written: told once it is quiet.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self.settling: dict[tuple[Holder, str], tuple[int, int]] = {}
        self._round = 0
        self.looks = bool(report.wanted & (ATTRIBUTES | UPDATED | WRITE))

    def look(self, path: str) -> Look | None:
        """Looks at what a path names itself; ``None`` when there is nothing."""
        try:
            return _seen(os.lstat(path))
        except OSError:
            return None

    def look_in(self, entry: os.DirEntry[str]) -> Look | None:
        try:
            if self.looks:
                return _seen(entry.stat(follow_symlinks=False))
            return Look(entry.is_dir(follow_symlinks=False), False, 1, 0)
        except OSError:
            return None

    def compare(self, holder: Holder, key: str, look: Look | None, bits: int = CREATED) -> None:
        """Compares what is there with what was known, and tells the difference.

        Args:
            bits: What is told of an entry that was not known.
        """
        known = holder.known.get(key)
        if known is not None and (look is None or look.folder != known.folder):
            self.forget(holder, key)
            known = None
        if look is None:
            return
        if known is None:
            is_new = bits == CREATED and look.regular
            holder.known[key] = look._replace(content=0) if is_new else look
            self.report.tell(holder.shown(key), bits, folder=look.folder)
            if is_new and self.report.wanted & UPDATED:
                self._settles(holder, key, look)
            return
        if not look.folder and look.content != known.content:
            if self.report.wanted & UPDATED:
                self._settles(holder, key, look)
            else:
                self.report.tell(holder.shown(key), WRITE)
                known = look
        if look.attributes != known.attributes:
            self.report.tell(holder.shown(key), ATTRIBUTES, folder=look.folder)
        holder.known[key] = look._replace(content=known.content)

    def arrive(self, holder: Holder, key: str, is_folder: bool, bits: int) -> None:
        """Takes note of an entry that has come, as the kernel tells, unless that is known.

        Args:
            bits: ``CREATED``; with ``UPDATED`` when it was moved here, and so is complete.
        """
        known = holder.known.get(key)
        if known is not None and known.folder != is_folder:
            self.forget(holder, key)
            known = None
        bits = bits & ~UPDATED if is_folder else bits
        if known is not None:
            bits &= ~CREATED
            if not bits:
                return
        look = self.look(holder.real(key)) if self.looks or holder.is_lone else None
        if look is None or look.folder != is_folder:  # it has gone on
            look = Look(is_folder, not is_folder, 0, 0)
        if bits == CREATED and look.regular:
            look = look._replace(content=0)
        holder.known[key] = look
        self.settling.pop((holder, key), None)
        self.report.tell(holder.shown(key), bits, folder=is_folder)

    def forget(self, holder: Holder, key: str, gone: bool = False, unmounted: bool = False) -> None:
        """Tells that an entry is no more, if it was known."""
        known = holder.known.pop(key, None)
        if known is not None:
            self.settling.pop((holder, key), None)
            self.report.tell(
                holder.shown(key), DELETED, folder=known.folder, gone=gone, unmounted=unmounted
            )

    def _settles(self, holder: Holder, key: str, look: Look) -> None:
        self.settling[holder, key] = (look.content, self._round)

    def settle(self) -> None:
        """Tells of those files that have been quiet since the last call but one, or longer."""
        for (holder, key), (content, began) in tuple(self.settling.items()):
            look = self.look(holder.real(key))
            if look is None or look.folder or key not in holder.known:
                del self.settling[holder, key]  # the kernel tells of its end
            elif look.content != content:
                self._settles(holder, key, look)
            elif began < self._round:
                del self.settling[holder, key]
                holder.known[key] = look
                self.report.tell(holder.shown(key), UPDATED)
        self._round += 1


def _seen(found: os.stat_result) -> Look:
    mode = found.st_mode
    # 0 says that an update is still to be told.
    content = hash((found.st_ino, found.st_size, found.st_mtime_ns)) or 1
    attributes = hash((mode, found.st_uid, found.st_gid, found.st_nlink))
    return Look(stat.S_ISDIR(mode), stat.S_ISREG(mode), content, attributes)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, and no link to one."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
