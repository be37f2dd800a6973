"""The files that records are written to: many records by one write, each whole or not at all."""

from __future__ import annotations

import logging
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final, Generic, TypeVar

from ..log_handler import close_descriptor

logger = logging.getLogger("edgevent.snaplogger")

_R = TypeVar("_R")

_MODE: Final = 0o640
_WRITE_BYTES: Final = 64 * 1024  # so much is gathered at least, even if others have no room
_FOLDER_MODE: Final = 0o750
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK

MAX_OPEN: Final = 256
"""So many files are open at a time."""
MAX_FILES: Final = 1_000
"""So many files are written to; what would go to another one goes to one more for all the rest."""
KEPT_BYTES: Final = 8 * 1024 * 1024
"""So much waits in memory for disks that take nothing."""
MAX_RECEIPTS: Final = 500_000
"""So many receipts of one file wait at most."""
RETRY_INTERVAL: Final = 1.0
"""Seconds between two tries at a file that took nothing, and between two looks at its path."""


class Settings:
    """What all files have in common; may be changed at any time.

    Args:
        max_bytes: The size at which a file is renamed to ``NAME.1`` and begun anew; 0 for never.
        generations: So many renamed files are kept.
        kept_bytes: So much may wait in memory.
        sync: Whether a file is durable before its records count as written.

    Attributes:
        own_line: Makes the line for a sentence of the daemon's own.
        not_durable: Called when a file is closed and may not be durable, although it should.
        waiting_bytes: How much waits now, for all files together.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 0,
        generations: int = 8,
        kept_bytes: int = KEPT_BYTES,
        sync: bool = False,
    ) -> None:
        self.own_line: Callable[[str], bytes] = _own_line
        self.not_durable: Callable[[], object] = lambda: None
        self.max_bytes = max_bytes
        self.generations = generations
        self.kept_bytes = kept_bytes
        self.sync = sync
        self.waiting_bytes = 0


class RecordFile(Generic[_R]):
    """One file: takes lines, and writes all that it has by one call.

    What the disk does not take waits, as long as there is room for it. When there is none, what
    comes is lost and counted, until all that waits is written; then a line says how many were lost.

    Args:
        path: The file; it and its folders are made when they are needed.
        settings: What all files have in common.

    Attributes:
        path: The same.
        written: How many lines were written.
        lost: How many were lost.
        is_stuck: Whether it took nothing, or not all, at the last try.
    """

    def __init__(self, path: str, settings: Settings) -> None:
        self.path = path
        self._settings = settings
        self._descriptor = -1
        self._size = 0
        self._lines: list[bytes] = []
        self._waiting = 0  # the bytes of them
        self._receipts: deque[tuple[int, _R]] = deque()
        self._added = 0
        self.written = 0
        self.lost = 0
        self._missed = 0  # of them those of which no line tells yet
        self._reason = ""
        self.is_stuck = False
        self._is_torn = False
        self._cannot_rotate = False
        self._retry_at = self._look_at = 0.0
        self.used = 0.0

    def __repr__(self) -> str:
        return f"<RecordFile {self.path}: {len(self._lines)} lines wait>"

    @property
    def is_open(self) -> bool:
        """Whether it has a descriptor."""
        return self._descriptor >= 0

    @property
    def waits(self) -> bool:
        """Whether there is something to write."""
        return bool(self._lines or self._missed)

    @property
    def descriptor(self) -> int:
        """The descriptor, -1 without one."""
        return self._descriptor

    def add(self, line: bytes) -> bool:
        """Takes a line, its newline included; returns False when it is lost."""
        settings, size = self._settings, len(line)
        if self._missed or (
            settings.waiting_bytes + size > settings.kept_bytes and not self._has_room(size)
        ):
            self.lost += 1
            self._missed += 1
            return False
        self._lines.append(line)
        self._added += 1
        self._waiting += size
        settings.waiting_bytes += size
        return True

    def note(self, receipt: _R) -> bool:
        """Has a receipt given back when all lines that were added so far are written.

        Returns:
            Whether it will be; it is not when too many wait.
        """
        has_room = len(self._receipts) < MAX_RECEIPTS
        if has_room:
            self._receipts.append((self._added, receipt))
        return has_room

    def _has_room(self, size: int) -> bool:
        """Whether a line may be taken although there is too much already, perhaps of others."""
        settings = self._settings
        if not self.is_stuck and self._waiting + size > min(_WRITE_BYTES, settings.kept_bytes):
            self.write()
        return not self.is_stuck or settings.waiting_bytes + size <= settings.kept_bytes

    def receipts(self) -> Iterator[_R]:
        """Gives the receipts of all that is written, each once."""
        receipts, written = self._receipts, self.written
        while receipts and receipts[0][0] <= written:
            yield receipts.popleft()[1]

    # --- writing ----------------------------------------------------------------------------------

    def write(self, *, now: bool = False) -> None:
        """Writes what waits, as far as the disk takes it; never raises.

        Args:
            now: Whether a file that took nothing a moment ago is tried, too.
        """
        moment = monotonic()
        if self.is_stuck and not now and moment < self._retry_at:
            return
        self.used = moment
        try:
            if self._descriptor < 0:
                self._open()
            elif moment >= self._look_at or not os.fstat(self._descriptor).st_nlink:
                self._follow(moment)  # at once where it was removed: what it has nobody can read
            self._write_lines()
            if self._missed:
                self._write_losses()
        except (OSError, ValueError) as error:
            self._is_in_trouble(error, moment)
            return
        if self.is_stuck:
            self.is_stuck = False
            logger.warning("%s: it can be written again", self.path)

    def _write_lines(self) -> None:
        lines = self._lines
        if not lines:
            return
        data = lines[0] if len(lines) == 1 else b"".join(lines)
        most = self._settings.max_bytes
        if most and self._size and self._size + len(data) > most:
            self._rotate()
        self._put(data)

    def _write_losses(self) -> None:
        missed, self._missed = self._missed, 0
        why = self._reason or "too much waited for the disk"
        line = self._settings.own_line(f"{say_count(missed)} lost: {why}")
        self._lines.append(line)
        self._added += 1
        self._count(len(line))
        try:
            self._write_lines()
        except OSError:
            if self._lines:  # taken back: it is told when there is room for it
                self._lines.pop()
                self._added -= 1
                self._count(-len(line))
                self._missed = missed
            raise

    def _put(self, data: bytes) -> None:
        """Writes all lines; after an error those that were not written whole go on waiting."""
        total, before = len(data), 0
        if self._is_torn:  # what another program has written behind it cannot be taken back
            os.write(self._descriptor, b"\n")
            self._is_torn = False
        try:
            while before < total:
                # After a part the next call says why it was no more.
                before += os.write(self._descriptor, data[before:] if before else data)
        finally:
            self._size += before
            self._done(before, total)

    def _done(self, count: int, total: int) -> None:
        lines = self._lines
        if count == total:
            self._count(-total)
            self.written += len(lines)
            self._lines = []
            return
        whole = number = 0
        for line in lines:
            if whole + len(line) > count:
                break
            whole += len(line)
            number += 1
        if count > whole:
            self._take_back(count - whole)
        self._count(-whole)
        self.written += number
        self._lines = lines[number:]

    def _count(self, size: int) -> None:
        self._waiting += size
        self._settings.waiting_bytes += size

    def _take_back(self, count: int) -> None:
        """Cuts off the part of a line, unless another program has written since."""
        self._is_torn = True
        try:
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            if os.fstat(self._descriptor).st_size == end:
                os.ftruncate(self._descriptor, end - count)
                self._size -= count
                self._is_torn = False
        except OSError as error:
            logger.error("%s: the part of a record stays: %s", self.path, error.strerror)

    def _is_in_trouble(self, error: Exception, moment: float) -> None:
        self._reason = getattr(error, "strerror", None) or str(error)
        self._retry_at = moment + RETRY_INTERVAL
        if not self.is_stuck:
            self.is_stuck = True
            logger.error(
                "%s: %s: records wait in memory, as long as there is room", self.path, self._reason
            )

    # --- the file ---------------------------------------------------------------------------------

    def _open(self) -> None:
        path = self.path
        changed = [os.path.dirname(os.path.abspath(path))]  # folders with a new name in them
        try:
            descriptor = os.open(path, _FLAGS, _MODE)
        except FileNotFoundError:
            while not os.path.exists(changed[-1]):
                changed.append(os.path.dirname(changed[-1]))
            os.makedirs(changed[0], _FOLDER_MODE, exist_ok=True)
            descriptor = os.open(path, _FLAGS, _MODE)
        status = os.fstat(descriptor)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISCHR(status.st_mode)):
            close_descriptor(descriptor)
            raise ValueError("it is no file")
        self._descriptor = descriptor
        self._size = status.st_size
        self._is_torn = self._size > 0 and not _ends_a_line(path)
        self._look_at = monotonic() + RETRY_INTERVAL
        if self._settings.sync:
            for folder in changed:
                _sync_folder(folder)

    def _follow(self, moment: float) -> None:
        """Leaves a file that was renamed or removed for the one that the path names now."""
        self._look_at = moment + RETRY_INTERVAL
        own = os.fstat(self._descriptor)
        try:
            if os.path.samestat(os.stat(self.path), own):
                self._size = own.st_size  # another program may have cut it
                return
        except FileNotFoundError:
            pass
        self.close()
        self._open()

    def _rotate(self) -> None:
        """Renames the file to ``NAME.1``, that to ``NAME.2`` and so on, and begins it anew."""
        most = self._settings.generations
        try:
            for number in range(most - 1, 0, -1):
                if os.path.lexists(f"{self.path}.{number}"):
                    os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
            if most:
                os.replace(self.path, f"{self.path}.1")
            else:
                os.unlink(self.path)
        except OSError as error:
            if not self._cannot_rotate:
                self._cannot_rotate = True
                logger.error(
                    "%s: it cannot be renamed, and grows on: %s", self.path, error.strerror
                )
            return
        self._cannot_rotate = False
        self.close()
        self._open()

    def close(self) -> None:
        """Closes the descriptor, if there is one; what waits goes on waiting."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                if self._settings.sync:
                    os.fdatasync(descriptor)
            except OSError as error:
                logger.error("%s: not durable, and not acknowledged: %s", self.path, error.strerror)
                self._settings.not_durable()
            finally:
                close_descriptor(descriptor)

    def give_up(self) -> tuple[int, list[_R]]:
        """Counts what waits as lost.

        Returns:
            How many were lost and are not told of in the file, and the receipts that are left.
        """
        count = len(self._lines)
        self._count(-self._waiting)
        self._lines = []
        receipts = [receipt for _, receipt in self._receipts]
        self._receipts.clear()
        self.lost += count
        count, self._missed = count + self._missed, 0
        return count, receipts


def _own_line(text: str) -> bytes:
    return f"{text}\n".encode()


def say_count(number: int) -> str:
    """Says how many records it is about, with the verb that goes with it."""
    return "1 log record was" if number == 1 else f"{number} log records were"


def _ends_a_line(path: str) -> bool:
    """Whether a file ends with a newline; one that cannot be read does."""
    try:
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
    except OSError:
        return True


def _sync_folder(path: str) -> None:
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        close_descriptor(descriptor)
