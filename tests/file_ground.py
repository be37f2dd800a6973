"""What the tests of file events share: a watch, what it has told, and changes at random."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgevent import Communicator, FileEvent, FileWatch
from edgevent.testing.clock import ManualClock

ALL = ("exists", "created", "updated", "deleted", "moved")


class Seen:
    """Watches in a folder of the test's own, and gives what was told as short texts.

    ``created+updated a/b <- c`` is a rename, a folder ends with a slash, one that is no more with
    a word.
    """

    def __init__(self, communicator: Communicator, clock: ManualClock, folder: Path) -> None:
        self.communicator = communicator
        self.clock = clock
        self.folder = folder
        self.events: list[FileEvent] = []

    def watch(self, *paths: str, **settings: Any) -> FileWatch:
        """Adds a watch of paths in the folder."""
        whole = [self.folder / path for path in paths]
        settings = {"callback": self.events.append, **settings}
        return self.communicator.add_connection(FileWatch(whole, **settings))

    def told(self) -> list[str]:
        """What was told since the last call, when nothing more is to come."""
        self.clock.advance(1.0)
        told = [self.text(event) for event in self.events]
        self.events.clear()
        return told

    def text(self, event: FileEvent) -> str:
        """One event in short."""
        words = ["+".join(sorted(event.kinds)), self.short(event.path)]
        words[1] += "/" if event.folder else ""
        words += ["<-", self.short(event.moved_from)] if event.moved_from else []
        words += ["gone"] if event.gone else []
        words += ["unmounted"] if event.unmounted else []
        return " ".join(word for word in words if word)

    def short(self, path: str) -> str:
        """A path, from the folder on."""
        return os.path.relpath(path, self.folder)


def content(root: Path) -> dict[str, bool]:
    """All that is in a folder, each with whether it is a folder."""
    found = {}
    for path, folders, files in os.walk(root):
        found |= {os.path.join(path, name): True for name in folders}
        found |= {os.path.join(path, name): False for name in files}
    return found


class View:
    """What a reader of the events takes to be there, and what does not fit together."""

    def __init__(self) -> None:
        self.paths: dict[str, bool] = {}
        self.updated: set[str] = set()
        self.problems: list[FileEvent] = []

    def take(self, event: FileEvent) -> None:
        """Follows one event."""
        if "moved" in event.kinds:
            if self.paths.pop(event.moved_from, None) is None:
                self.problems.append(event)
            self.paths[event.path] = event.folder
        elif event.kinds & {"created", "exists"}:
            if event.path in self.paths:
                self.problems.append(event)
            self.paths[event.path] = event.folder
        elif "deleted" in event.kinds and self.paths.pop(event.path, None) is None:
            self.problems.append(event)
        if "updated" in event.kinds:
            self.updated.add(event.path)


class Hand:
    """Makes changes at random in a folder, and between it and one outside.

    Args:
        kinds: Which changes: the ``usual`` ones, these ``and exchanges`` of two names, only ``moves
            and exchanges``, or ``moves`` with what makes and removes.

    Attributes:
        written: The files whose content was changed since it was emptied.
    """

    def __init__(self, root: Path, outside: Path, seed: int, kinds: str = "usual") -> None:
        self.root = root
        self.outside = outside
        self.written: set[str] = set()
        self._random = random.Random(seed)
        self._changes = [self._write, self._make, self._deep, self._remove, self._move]
        self._changes += [self._write, self._move, self._take_out, self._bring_in]
        if kinds == "and exchanges":
            self._changes += [self._exchange] * 3
        elif kinds == "moves and exchanges":
            self._changes = [self._move] * 4 + [self._exchange] * 2
        elif kinds == "moves":
            self._changes = [self._move] * 4 + [self._deep, self._make, self._remove]

    def change(self, most: int) -> None:
        """Makes some changes."""
        for _ in range(self._random.randint(1, most)):
            with suppress(OSError):  # a folder into itself, onto a full one ...
                self._random.choice(self._changes)()

    def _any(self) -> str:
        return self._random.choice(sorted(content(self.root)) or [self._place()])

    def _place(self) -> str:
        there = content(self.root)
        folders = [str(self.root), *sorted(path for path in there if there[path])]
        return os.path.join(self._random.choice(folders), self._random.choice("abcd"))

    def _write(self) -> None:
        path = self._place()
        Path(path).write_text(str(self._random.random()))
        self.written.add(path)

    def _make(self) -> None:
        os.mkdir(self._place())

    def _deep(self) -> None:
        folder = os.path.join(self._place(), "a", "b")
        os.makedirs(folder)
        Path(folder, "x").touch()
        self.written.add(os.path.join(folder, "x"))

    def _remove(self) -> None:
        path = self._any()
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    def _move(self) -> None:
        os.rename(self._any(), self._place())

    def _exchange(self) -> None:
        exchange(self._any(), self._any())

    def _take_out(self) -> None:
        os.rename(self._any(), self.outside / str(self._random.random()))

    def _bring_in(self) -> None:
        names = sorted(os.listdir(self.outside))
        if names:
            os.rename(self.outside / self._random.choice(names), self._place())


def exchange(one: str, other: str) -> bool:
    """Exchanges two names (man 2 renameat2); returns whether that was done."""
    paths = os.fsencode(one), os.fsencode(other)
    return not ctypes.CDLL(None).renameat2(-100, paths[0], -100, paths[1], 2)


def flood(folder: Path, count: int) -> None:
    """Causes so many events of the kind ``write``, no two in a row for one file."""
    descriptors = [os.open(folder / name, os.O_WRONLY | os.O_CREAT) for name in ("f0", "f1")]
    for number in range(count):
        os.pwrite(descriptors[number & 1], b"x", 0)
    for descriptor in descriptors:
        os.close(descriptor)
