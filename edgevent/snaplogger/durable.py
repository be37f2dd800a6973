"""Makes files durable, many records at a time, in a thread."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

import gevent
from gevent.event import Event

from ..log_handler import close_descriptor
from .log_files import RecordFile

logger = logging.getLogger("edgevent.snaplogger")

_FAILED = "%s: not durable, and not acknowledged: %s"


class Durable:
    """Gives receipts back when the files of their records are durable (man 2 fdatasync).

    While one call is under way, what comes waits for the next one.

    Args:
        done: Called in the hub with the receipts of what is durable.
        failed: Called with those of what may not be.

    Attributes:
        is_in_doubt: Whether a file was closed that may not be durable.
    """

    def __init__(
        self,
        done: Callable[[Iterable[Any]], object],
        failed: Callable[[Iterable[Any]], object],
    ) -> None:
        self._done = done
        self._failed = failed
        self._waiting: dict[RecordFile[Any], list[Any]] = {}
        self._is_busy = False
        self.is_in_doubt = False
        self._idle = Event()
        self._idle.set()

    def add(self, file: RecordFile[Any], receipts: Iterable[Any]) -> None:
        """Has receipts given back when a file is durable as it is now."""
        own = list(receipts)
        if own:
            self._waiting.setdefault(file, []).extend(own)

    def doubt(self) -> None:
        """Takes note that a file could not be made durable when it was closed.

        Nothing that is under way or waits is given back then as if it were.
        """
        self.is_in_doubt = True

    def start(self) -> None:
        """Begins a call for what waits, unless there is one; the next one follows by itself."""
        if self._is_busy:
            return
        waiting, self._waiting = self._waiting, {}
        if self.is_in_doubt:
            self.is_in_doubt = False
            for receipts in waiting.values():
                self._failed(receipts)
            return
        if not waiting:
            return
        jobs = []
        for file, receipts in waiting.items():
            try:
                # The file may be closed meanwhile, which makes it durable, too.
                descriptor = os.dup(file.descriptor) if file.is_open else -1
            except OSError as error:
                logger.error(_FAILED, file.path, error.strerror)
                self._failed(receipts)
            else:
                jobs.append((file.path, descriptor, receipts))
        if not jobs:
            return
        self._is_busy = True
        self._idle.clear()
        result = gevent.get_hub().threadpool.spawn(_sync, [one[1] for one in jobs])
        result.rawlink(lambda found: self._synced(jobs, found.value or []))

    def _synced(self, jobs: list[tuple[str, int, list[Any]]], errors: list[str]) -> None:
        self._is_busy = False
        for (path, _, receipts), error in zip(jobs, errors, strict=True):
            if error:
                logger.error(_FAILED, path, error)
                self._failed(receipts)
            elif self.is_in_doubt:
                self._failed(receipts)
            else:
                self._done(receipts)
        self.start()
        if not self._is_busy:
            self._idle.set()

    def wait(self) -> None:
        """Waits until nothing is under way; switches greenlets."""
        self._idle.wait()


def _sync(descriptors: list[int]) -> list[str]:
    """Runs in a thread of the pool."""
    found = []
    for descriptor in descriptors:
        error = ""
        if descriptor >= 0:
            try:
                os.fdatasync(descriptor)
            except OSError as failure:
                error = failure.strerror or str(failure)
            finally:
                close_descriptor(descriptor)
        found.append(error)
    return found
