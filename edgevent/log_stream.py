"""Log records on the error output: a terminal, a file, a pipe, or systemd's journal."""

from __future__ import annotations

import errno
import logging
import os
from typing import Final

from . import limits
from .log_handler import STDERR, RecordHandler, is_writable
from .log_text import LineFormatter

_CHUNK: Final = 4096  # PIPE_BUF: so much a pipe that poll(2) calls writable takes without a wait


class StderrHandler(RecordHandler):
    """Writes records to the error output.

    A reader that takes nothing for half a second loses records from then on until it reads again;
    they are counted, and the log says how many. So a pager that stands still does not stop a
    service. A record that is begun is ended before the next one.

    Args:
        formatter: Makes the line of a record.
        descriptor: Another descriptor, which stays open.
    """

    def __init__(self, formatter: LineFormatter, descriptor: int = STDERR) -> None:
        super().__init__("stderr", formatter)
        self._descriptor = descriptor
        self._rest = b""
        self._stuck = False

    def write_record(self, record: logging.LogRecord) -> None:
        """Writes a record; blocks the thread for half a second at most."""
        line = self.format(record).encode() + b"\n"
        self._put_rest()
        self._rest = line
        try:
            self._put_rest()
        except OSError:
            if len(self._rest) == len(line):
                self._rest = b""
                raise

    def complain(self, text: str) -> None:
        """Says nothing: it would say so where nothing can be said."""

    def release_resources(self) -> None:
        """Ends a record that is begun, if that is possible at once."""
        try:
            self._put_rest()
        except OSError:
            pass

    def _put_rest(self) -> None:
        while self._rest:
            # One wait for all that follows: a reader that stands still has stopped this for long.
            self._stuck = not is_writable(self._descriptor, 0.0 if self._stuck else limits.LOG_WAIT)
            if self._stuck:
                raise BlockingIOError(errno.EAGAIN, "its reader takes nothing")
            self._rest = self._rest[os.write(self._descriptor, self._rest[:_CHUNK]) :]


def reads_journal(descriptor: int = STDERR) -> bool:
    """Tells whether what is written to a descriptor goes to systemd's journal.

    systemd.exec(5): ``JOURNAL_STREAM`` names device and inode of the stream, as the program may
    have been given another one since.
    """
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))
