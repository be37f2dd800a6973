"""Watches, from a thread of its own, for handlers that keep the hub busy."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from time import monotonic

from ..limits import HUB_BUSY_WARNING
from .native import allocate_lock, start_new_thread
from .turns import Task, Turns

logger = logging.getLogger("edgevent")

_INTERVAL = HUB_BUSY_WARNING / 2


class Monitor:
    """Logs, once for each turn that keeps the hub from running for too long, where it stands.

    A real thread, in a patched program too: only one of them can still look while a greenlet does
    not give the hub back.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._end = allocate_lock()
        self._end.acquire()
        self._ended = allocate_lock()
        self._ended.acquire()
        start_new_thread(self._run, ())

    def stop(self) -> None:
        """Ends the thread and waits for its end. To be called once."""
        self._end.release()
        if not self._turns.forked:  # a forked child has no thread but the one that forked
            self._ended.acquire()

    def _run(self) -> None:
        sys.settrace(threading.gettrace())  # as threading does in its own, for debuggers
        try:
            self._watch()
        finally:
            self._ended.release()

    def _running(self) -> tuple[Task | None, float]:
        """What is in a turn now, and since when it has not waited."""
        worker = self._turns.worker
        if worker is not None:
            return worker.task, worker.since
        worker = self._turns.resumed
        if worker is not None:
            return worker.task, worker.resumed
        return None, 0.0

    def _watch(self) -> None:
        named = 0.0
        while not self._end.acquire(timeout=_INTERVAL):
            task, since = self._running()
            if task is not None and since != named and monotonic() - since > HUB_BUSY_WARNING:
                frame = sys._current_frames().get(self._turns.thread)
                stack = "".join(traceback.format_stack(frame)) if frame else ""
                named = since
                logger.warning("%s: its handler keeps the hub busy:\n%s", task.name, stack)
