"""The folders that are watched, and what is known to be in them.

The kernel tells of the entries of a folder from the moment at which it is watched; what was there
before is found by a look into it afterwards. So an entry may be met twice, or be gone again: what
is known decides. What is known is also what the folders are compared with after events were lost.

Everything here runs without a switch of greenlets.
"""

from __future__ import annotations

import errno
import logging
import os
import posixpath
from collections.abc import Callable
from typing import Final, Literal

from ..errors import FileWatchError
from .file_event import CREATED, LOST_SYNC, UPDATED, mask_of
from .file_folders import Folder
from .file_ledger import Ledger, is_folder
from .inotify import (
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_DONT_FOLLOW,
    IN_EXCL_UNLINK,
    IN_MASK_ADD,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    Inotify,
)

logger = logging.getLogger("edgevent")

_AWAY: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_LIMITS: Final = frozenset({errno.ENOSPC, errno.ENOMEM, errno.EMFILE, errno.ENFILE})

SELF: Final = IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_DONT_FOLLOW
ENTRIES: Final = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO
# Without IN_EXCL_UNLINK a temporary file that is open still, but has no name any more, would be
# told of under the name that it had.
NAMES: Final = SELF | ENTRIES | IN_EXCL_UNLINK | IN_MASK_ADD

Need = Literal["must", "should", "may"]


class Tree:
    """All folders that one queue of the kernel's tells of.

    Args:
        matches: Whether an entry of that name is wanted.
        recursive: Whether folders in folders are watched.

    Attributes:
        whole: What inotify is asked for of a folder whose entries are watched.
        missed: Folders that have come, but were not at their place when they were looked for.
        unseen: Those that were watched, and were not at their place when they were looked into.
        is_starting: Whether a limit that is met raises, for nothing is watched yet.
    """

    def __init__(
        self,
        inotify: Inotify,
        ledger: Ledger,
        matches: Callable[[str], object] | None,
        recursive: bool,
    ) -> None:
        self.inotify = inotify
        self.ledger = ledger
        self.report = ledger.report
        self.matches = matches
        self.recursive = recursive
        self.folders: dict[int, Folder] = {}
        self.missed: dict[tuple[Folder, str], None] = {}
        self.unseen: dict[Folder, None] = {}
        self.is_starting = True
        self.whole = NAMES | mask_of(ledger.report.wanted)
        self._told_limit = False
        self._is_away = False  # whether what could not be watched last was not there

    # --- watching ---------------------------------------------------------------------------------

    def watch(self, path: str, mask: int, need: Need = "should", told: str = "") -> Folder | None:
        """Watches a folder, or asks for more of one that is watched; ``None`` when it is not there.

        Args:
            need: Whether it ``must`` be watched, ``should`` be, or ``may`` be.
            told: The path for what is told, when it is another one.

        Raises:
            FileWatchError: While starting, a limit is met, or one that must be watched cannot be.
        """
        try:
            number = self.inotify.add(path, mask, told)
        except FileWatchError as error:
            self._is_away = error.errno in _AWAY
            if not self._is_away:
                self._not_watched(told or path, error, need)
            return None
        folder = self.folders.get(number)
        if folder is None:
            folder = self.folders[number] = Folder(number, path)
        return folder

    def _not_watched(self, path: str, error: FileWatchError, need: Need) -> None:
        is_limit = error.errno in _LIMITS
        if self.is_starting and (is_limit or need == "must"):
            raise error
        level = logging.DEBUG if need == "may" else logging.WARNING
        if is_limit:
            # It is met again with each folder; one line is enough.
            level = logging.DEBUG if self._told_limit else logging.ERROR
            self._told_limit = True
            self.report.tell(path, LOST_SYNC, folder=True)
        logger.log(level, "%s", error)

    def narrow(self, folder: Folder) -> None:
        """Asks for no more of a folder than it is watched for; ends the watch when that is nothing.

        A busy folder on the way to what was missing would wake the program for nothing.
        """
        roles = folder.roles
        if folder.whole or folder.watch < 0:
            return
        if not roles:
            self.release(folder)
        elif not roles.names:
            mask = NAMES if roles.links else SELF
            try:
                number = self.inotify.add(folder.path, mask & ~IN_MASK_ADD)
            except FileWatchError:
                return  # it was moved or deleted, of which the kernel tells
            if number != folder.watch and number not in self.folders:
                self.inotify.remove(number)

    def is_at_its_place(self, folder: Folder) -> bool:
        """Whether its path leads to it; else the kernel is about to tell where it has gone."""
        now = self.watch(folder.path, SELF | IN_MASK_ADD, "may")
        if now is not None and now is not folder:
            self.narrow(now)
        return now is folder

    def release(self, folder: Folder) -> None:
        """Ends the watch of a folder that nothing is watched for any more."""
        if not folder.whole and not folder.roles and folder.watch >= 0:
            if self.folders.get(folder.watch) is folder:
                del self.folders[folder.watch]
            self.inotify.remove(folder.watch)
            folder.watch = -1

    def ended(self, folder: Folder) -> None:
        """Takes note that the kernel has ended a watch."""
        if self.folders.get(folder.watch) is folder:
            del self.folders[folder.watch]
        folder.watch = -1

    def plant(self, folder: Folder, path: str, told: str) -> None:
        """Makes a folder the top of a tree; a scan of it follows."""
        folder.whole = True
        folder.path, folder.told = path, told
        for child in folder.folders.values():
            child.place(folder, child.name)

    def enter(self, parent: Folder, name: str) -> None:
        """Watches a folder that has come into another one, and tells what is in it already."""
        self.missed.pop((parent, name), None)
        child = self._child(parent, name, parent.real(name), None)
        if child is not None:
            self.scan(child, CREATED)

    def retry(self) -> None:
        """Tries again to watch and to look into those that were not at their place.

        What is not found this time, although all that has happened until now was read, is no more;
        of what comes there later, the kernel will tell.
        """
        for parent, name in tuple(self.missed):
            if (parent, name) in self.missed:
                self.enter(parent, name)
        for folder in tuple(self.unseen):
            if self.unseen.pop(folder, True) is None and folder.whole:
                self.scan(folder, CREATED)
        if self.inotify.is_empty:
            for parent, name in tuple(self.missed):
                if not self.ledger.look(parent.real(name)) and self.is_at_its_place(parent):
                    self.ledger.forget(parent, name)  # another one had been taken for it
            self.missed.clear()
            self.unseen.clear()

    def _child(self, parent: Folder, name: str, path: str, seen: set[int] | None) -> Folder | None:
        """Watches a folder in another one.

        Args:
            path: A path to it that the kernel is to take.
            seen: The watches that a comparison has come by already; ``None`` outside of one.
        """
        told = parent.shown(name)
        child = self.watch(path, self.whole, told=told)
        former = parent.folders.get(name)
        if former is not None:
            if former is child:
                return child
            self.drop(former)
        if child is None or (seen is None and child.whole):
            # It has moved on, and its place may have been taken by another one; or one of those
            # that it is in has moved. Of all that the kernel will tell.
            if child is not None or self._is_away:
                self.missed[parent, name] = None
            return None
        if child.whole and seen is not None:
            # It was moved, of which nobody has told; or it was mounted at two places (mount
            # --bind), and is told of at the first one.
            if child.watch in seen or child.parent is None:
                return None
            self.missed[child.parent, child.name] = None
            self.drop(child)
            child = self.watch(path, self.whole, told=told)
            if child is None:
                return None
        child.whole = True
        child.place(parent, name)
        return child

    def scan(self, top: Folder, bits: int) -> None:
        """Compares a folder, and those in it, with what is known; watches those that are new.

        Args:
            bits: What is told of an entry that was not known.
        """
        todo = [top]
        seen = {top.watch}
        while todo:
            folder = todo.pop()
            opened = self._open(folder)
            if opened < 0:
                continue
            try:
                todo += self._scan_one(folder, opened, bits, seen)
            finally:
                os.close(opened)

    def _open(self, folder: Folder) -> int:
        """Opens a folder, if its path leads to it; -1 when it does not.

        What is in it is looked at through the descriptor, whatever becomes of the path meanwhile.
        """
        self.unseen.pop(folder, None)
        try:
            opened = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in _AWAY:
                self.unseen[folder] = None
            else:
                text = f"{folder.told!r} cannot be looked into: {error.strerror}"
                self._not_watched(folder.told, FileWatchError(text, error.errno), "should")
            return -1
        number = self.inotify.add(f"/proc/self/fd/{opened}", IN_MOVE_SELF | IN_MASK_ADD)
        if number != folder.watch:
            self.unseen[folder] = None
            os.close(opened)
            if number not in self.folders:
                self.inotify.remove(number)
            return -1
        return opened

    def _scan_one(self, folder: Folder, opened: int, bits: int, seen: set[int]) -> list[Folder]:
        """Compares one folder; returns those in it."""
        with os.scandir(opened) as found:
            entries = list(found)
        self._compare_entries(folder, entries, bits)
        if not self.recursive:
            return []
        names = [entry.name for entry in entries if is_folder(entry)]
        for name in folder.folders.keys() - set(names):
            self.drop(folder.folders[name])
        children = []
        for name in names:
            child = self._child(folder, name, f"/proc/self/fd/{opened}/{name}", seen)
            if child is not None:
                seen.add(child.watch)
                children.append(child)
        return children

    def _compare_entries(self, folder: Folder, entries: list[os.DirEntry[str]], bits: int) -> None:
        matches = self.matches
        there = set()
        for entry in entries:
            if matches is None or matches(entry.name):
                look = self.ledger.look_in(entry)
                if look is not None:
                    there.add(entry.name)
                    self.ledger.compare(folder, entry.name, look, bits)
        for name in folder.known.keys() - there:
            self.ledger.forget(folder, name)

    def drop(self, top: Folder, tells: bool = True) -> None:
        """Ends the watch of a folder and of those in it, and tells that what is in them is gone."""
        if top.parent is not None:
            del top.parent.folders[top.name]
            top.parent = None
        for folder in reversed(list(top.below())):
            for name in tuple(folder.known):
                if tells:
                    self.ledger.forget(folder, name)
                else:
                    self.ledger.settling.pop((folder, name), None)
            folder.known.clear()
            folder.folders.clear()
            for place in [place for place in self.missed if place[0] is folder]:
                del self.missed[place]
            folder.parent = None
            folder.whole = False
            self.narrow(folder)

    def move(self, child: Folder, parent: Folder, name: str) -> None:
        """Hangs a folder that was renamed to its new place, and tells of what is in it."""
        former = [(folder, folder.told) for folder in child.below()]
        if child.parent is not None:
            del child.parent.folders[child.name]
        child.place(parent, name)
        for folder, told in former:
            for key, known in folder.known.items():
                bits = CREATED if known.folder else CREATED | UPDATED
                self.report.moved(posixpath.join(told, key), folder.shown(key), bits, known.folder)
