"""Log records in a file that other programs rotate."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from typing import Final

from .errors import OptionError
from .log_handler import RecordHandler, close_descriptor
from .log_text import LineFormatter

_MODE: Final = 0o640
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_LOOK_INTERVAL: Final = 1.0


class LogFileHandler(RecordHandler):
    """Writes records to the end of a file, each whole or not at all.

    A file that is made gets the mode 0640 whatever the umask is. A file that was renamed or removed
    is left for the one that its path names then, at the next :meth:`reopen`, or after a second by
    itself. A record of which the disk takes only a part is taken back.

    Args:
        path: The file.
        formatter: Makes the line of a record.
        look_interval: Seconds between two looks at the path.

    Raises:
        OptionError: It cannot be opened, or is neither a file nor a character device.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        formatter: LineFormatter,
        *,
        look_interval: float = _LOOK_INTERVAL,
    ) -> None:
        self._path = os.path.abspath(path)  # the program may change its folder
        self._descriptor = _open(self._path)
        super().__init__(f"log file {self._path}", formatter)
        self._look_interval = look_interval
        self._looked = time.monotonic()
        self._is_torn = False
        self._is_deserted = False

    def reopen(self) -> str:
        """Opens the file that the path names now, and leaves the former one.

        Returns:
            An empty string, or a sentence that says why the former one stays.
        """
        with self.lock:
            try:
                descriptor = _open(self._path)
            except OptionError as error:
                return str(error)
            self.release_resources()
            self._descriptor = descriptor
            self._is_torn = self._is_deserted = False
            return ""

    def write_record(self, record: logging.LogRecord) -> None:
        """Writes a record; what waits for the disk makes the thread wait."""
        now = time.monotonic()
        if now >= self._looked + self._look_interval:
            self._looked = now
            self._follow()
        line = self.format(record).encode() + b"\n"
        if self._is_torn:
            line = b"\n" + line
        written = 0
        try:
            while written < len(line):
                # After a part the next call says why it was no more.
                written += os.write(self._descriptor, line[written:])
        except OSError:
            if written:
                self._take_back(written)
            raise
        self._is_torn = False

    def release_resources(self) -> None:
        """Closes the file."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            close_descriptor(descriptor)

    def _take_back(self, count: int) -> None:
        """Cuts off what was written of a record, unless another program has written since."""
        self._is_torn = True
        end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        if os.fstat(self._descriptor).st_size == end:
            os.ftruncate(self._descriptor, end - count)
            self._is_torn = False

    def _follow(self) -> None:
        """Leaves a file that was renamed or removed."""
        try:
            at_path: os.stat_result | None = os.stat(self._path)
        except OSError:
            at_path = None
        if at_path is None or not os.path.samestat(at_path, os.fstat(self._descriptor)):
            reason = self.reopen()
            if reason and not self._is_deserted:
                self._is_deserted = True
                self.complain(f"{reason}: the log goes on in the file that was there before")


def _open(path: str) -> int:
    where = f"log file {path}"
    try:
        try:
            descriptor = os.open(path, _FLAGS)
        except FileNotFoundError:
            descriptor = _create(path)
    except FileNotFoundError:
        raise OptionError(f"{where}: folder {os.path.dirname(path)} does not exist") from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # a FIFO without a reader, or a socket
            raise OptionError(f"{where}: {_EXPECTED}") from None
        raise OptionError(f"{where}: {error.strerror}") from None
    except ValueError:
        raise OptionError(f"log file {path!r}: expected a path without NUL bytes") from None
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        close_descriptor(descriptor)
        raise OptionError(f"{where}: {_EXPECTED}")
    return descriptor


_EXPECTED: Final = "expected a file; --log-to stderr writes to where the error output goes"


def _create(path: str) -> int:
    try:
        descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:  # somebody else was faster, or it is a link to a file to be made
        return os.open(path, _FLAGS | os.O_CREAT, _MODE)
    os.fchmod(descriptor, _MODE)
    return descriptor
