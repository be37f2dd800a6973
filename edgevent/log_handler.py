"""What all log handlers have in common: they never switch greenlets, and lose nothing silently.

A handler that switched greenlets inside ``emit`` would mix up records, and would be entered by a
second greenlet. So these use system calls that do not wait, or not for the loop, and a lock of the
system's in place of the one that ``logging`` gives to its handlers, also in a program that gevent
has patched.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import Any, Final

from gevent.monkey import get_original

from . import limits
from .log_record import mended
from .log_text import LineFormatter, escape

_RLock: Final = get_original("_thread", "RLock")
_poll: Final = get_original("select", "poll")
close_descriptor: Final[Callable[[int], None]] = get_original("os", "close")
"""The system's ``close``, in a patched program as well."""

STDERR: Final = 2
_POLLOUT: Final = 4  # <poll.h>; gevent may have taken it out of the module


class RecordHandler(logging.Handler):
    """A handler that counts what it cannot write, says so on the error output, and logs it later.

    Subclasses write one record, or raise ``OSError``. The first loss is told on the error output,
    at most once a minute; the first record that gets through again is followed by one that says how
    many were lost before it, and why.

    Args:
        target: What is written to, for sentences.
        formatter: Makes the line of a record.

    Attributes:
        target: The same.
        lost: How many records were lost.
    """

    def __init__(self, target: str, formatter: LineFormatter) -> None:
        self._native_lock: Any = _RLock()
        super().__init__()
        self.setFormatter(formatter)
        self.target = target
        self.lost = 0
        self._missed = 0  # of them those that nothing was logged of yet
        self._reason = ""
        self._told: float | None = None

    @property
    def lock(self) -> Any:
        """The lock that ``logging`` holds during :meth:`emit`."""
        return self._native_lock

    @lock.setter
    def lock(self, lock: object) -> None:  # type: ignore[override,unused-ignore]
        """Does nothing: ``logging`` and gevent would set one of which gevent knows."""

    def write_record(self, record: logging.LogRecord) -> None:
        """Writes one record, whole or not at all; never switches greenlets.

        Raises:
            OSError: It could not be written.
        """
        raise NotImplementedError

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record, or counts it as lost; never switches greenlets, and raises nothing."""
        try:
            self.write_record(record)
        except Exception as error:
            if not self._mends(record, error):
                return
        if self._missed:
            # Behind it: what is short might get through where no record does, and say so each time.
            self._tell_losses()

    def _mends(self, record: logging.LogRecord, error: Exception) -> bool:
        """Writes a record that cannot be read as it is; returns whether it is written."""
        if not isinstance(error, OSError) or error.errno == errno.EOVERFLOW:  # of localtime(3)
            try:
                self.write_record(mended(record))
            except Exception as again:
                error = again
            else:
                return True
        self._lose(error)
        return False

    def close(self) -> None:
        """Says what was lost, and closes; may be called again."""
        with self._native_lock:
            if self._missed and not self._tell_losses():
                self.complain(f"{self.target}: {_count(self._missed)} lost: {self._reason}")
                self._missed = 0
            self.release_resources()
        super().close()

    def release_resources(self) -> None:
        """Closes what is open; called under the lock, also when nothing is open."""

    def complain(self, text: str) -> None:
        """Writes a line to the error output, if that takes it at once."""
        try:
            if is_writable(STDERR, 0.0):
                os.write(STDERR, f"{escape(text)}\n".encode())
        except OSError:
            pass  # there is nowhere left to say so

    def _tell_losses(self) -> bool:
        text, arguments = "%s: %s lost: %s", (self.target, _count(self._missed), self._reason)
        record = logging.LogRecord(
            "edgevent", logging.WARNING, __file__, 0, text, arguments, None, "_tell_losses"
        )
        try:
            self.write_record(record)
        except Exception:
            return False
        self._missed = 0
        return True

    def _lose(self, error: Exception) -> None:
        self.lost += 1
        self._missed += 1
        self._reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        now = time.monotonic()
        if self._missed == 1 and (self._told is None or now >= self._told + limits.LOG_INTERVAL):
            self._told = now
            self.complain(
                f"{self.target}: {self._reason}: log records are lost, and counted, until this ends"
            )


def _count(missed: int) -> str:
    return "1 log record was" if missed == 1 else f"{missed} log records were"


def is_writable(descriptor: int, timeout: float) -> bool:
    """Tells whether a descriptor takes bytes, after so many seconds at most.

    Blocks the thread for them, and switches no greenlets. What cannot be written to for ever counts
    as writable: the write says why.
    """
    poller = _poll()
    poller.register(descriptor, _POLLOUT)
    return bool(poller.poll(timeout * 1000))
