"""All files of a daemon: which record goes to which of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

from .collected import Collected, own_record
from .line_form import OTHER, LineForm, PathTemplate
from .log_files import MAX_FILES, MAX_OPEN, RecordFile, Settings, say_count

logger = logging.getLogger("edgevent.snaplogger")

_CACHED = 4_096  # so many sets of values are remembered with the file that they lead to


class Store:
    """Gives records to files, and writes these.

    Args:
        folder: The folder of all files.
        template: The path of each below it.
        form: Makes the lines.
        settings: What all files have in common.

    Attributes:
        files: The files by path below the folder.
        folder, template, form, settings: The same.
    """

    def __init__(
        self, folder: str, template: PathTemplate, form: LineForm, settings: Settings
    ) -> None:
        self.folder = os.path.abspath(folder)
        self.template = template
        self.form = form
        self.settings = settings
        settings.own_line = lambda text: form.line(own_record(text))
        self.files: dict[str, RecordFile[Any]] = {}
        self._known: dict[tuple[str, ...], RecordFile[Any]] = {}
        self._waiting: dict[RecordFile[Any], None] = {}
        self._is_over = False

    def file_of(self, entry: Collected) -> RecordFile[Any]:
        """Gives the file that a record goes to; it is opened when it is written to."""
        values = self.template.values(entry)
        file = self._known.get(values)
        if file is None:
            file = self._find(self.template.path(values))
            if len(self._known) >= _CACHED:
                self._known.clear()
            self._known[values] = file
        return file

    def _find(self, path: str) -> RecordFile[Any]:
        file = self.files.get(path)
        if file is None:
            if len(self.files) >= MAX_FILES and path != OTHER:
                if not self._is_over:
                    self._is_over = True
                    logger.warning("more than %d files: %s takes the rest", MAX_FILES, OTHER)
                return self._find(OTHER)
            file = self.files[path] = RecordFile(os.path.join(self.folder, path), self.settings)
        return file

    def add(self, entry: Collected, file: RecordFile[Any]) -> bool:
        """Gives a record to a file; returns False when it is lost."""
        self._waiting[file] = None
        return file.add(self.form.line(entry))

    def write(self, *, now: bool = False) -> Iterator[RecordFile[Any]]:
        """Writes what waits, and gives each file that was tried.

        Args:
            now: Whether files that took nothing a moment ago are tried, too.
        """
        waiting, self._waiting = self._waiting, {}
        for file in waiting:
            if not file.is_open:
                self._limit_open()
            file.write(now=now)
            if file.waits:
                self._waiting[file] = None
            yield file

    def wait_for(self, file: RecordFile[Any]) -> None:
        """Has a file written, and its receipts given back, with the next that are written."""
        self._waiting[file] = None

    def _limit_open(self) -> None:
        if len(self.files) < MAX_OPEN:
            return
        is_open = [file for file in self.files.values() if file.is_open]
        if len(is_open) >= MAX_OPEN:
            min(is_open, key=lambda file: file.used).close()

    def reopen(self) -> None:
        """Leaves all files, which were renamed, for those that their paths name then."""
        for file in self.files.values():
            file.close()

    def counts(self) -> dict[str, int]:
        """Gives how many lines were written, and lost, and how much waits."""
        files = self.files.values()
        return {
            "written": sum(file.written for file in files),
            "lost": sum(file.lost for file in files),
            "waiting_bytes": self.settings.waiting_bytes,
            "files": len(files),
            "stuck_files": sum(file.is_stuck for file in files),
        }

    def close(self) -> list[Any]:
        """Closes all files, tells what of them is lost, and gives the receipts of that."""
        receipts = []
        for file in self.files.values():
            lost, own = file.give_up()
            receipts += own
            if lost:
                logger.error("%s: %s lost at the end", file.path, say_count(lost))
            file.close()
        return receipts
