"""Threads of the system, in a patched program too: their start, and how they wait."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable

from .. import limits
from ..errors import ThreadStartError
from ..runtime.native import Lock, allocate_lock, start_new_thread


def start_thread(call: Callable[[], object]) -> None:
    """Starts a thread, for which the end of the program does not wait.

    Args:
        call: What it does; it must not raise.

    Raises:
        ThreadStartError: The system has no more threads for this process.
    """
    try:
        start_new_thread(_traced, (call,))
    except RuntimeError as error:
        raise ThreadStartError(f"a thread could not be started: {error}") from error


def _traced(call: Callable[[], object]) -> None:
    sys.settrace(threading.gettrace())  # as threading does in its own, for debuggers
    sys.setprofile(threading.getprofile())
    call()


class ThreadPool:
    """Starts a thread for each call, up to a number; the calls after that wait, in order.

    No thread is kept when nothing is left to be done.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = allocate_lock()
        self._running = 0
        self._waiting: deque[Callable[[], object]] = deque()

    def call(self, function: Callable[[], object]) -> None:
        """Has a function called in a thread; it must not raise. Does not wait.

        Raises:
            ThreadStartError: The system has no more threads for this process.
        """
        with held(self._lock):
            if self._running >= limits.MAX_THREADS:
                self._waiting.append(function)
                return
            self._running += 1
        try:
            start_thread(lambda: self._work(function))
        except ThreadStartError:
            with held(self._lock):
                self._running -= 1
            raise

    def _work(self, function: Callable[[], object]) -> None:
        while True:
            function()
            with held(self._lock):
                if not self._waiting:
                    self._running -= 1
                    return
                function = self._waiting.popleft()

    def after_fork_in_child(self) -> None:
        """None of the threads is in the child, and the lock may be held by one of them."""
        self._reset()


POOL = ThreadPool()
os.register_at_fork(after_in_child=POOL.after_fork_in_child)


class held:
    """``with held(lock):``, for a lock of :mod:`~edgevent.runtime.native`."""

    __slots__ = ("_lock",)

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *details: object) -> None:
        self._lock.release()


class Gate:
    """Threads that wait for something to change, and look at it when they are woken.

    A ``threading.Condition`` would have greenlets wait in a patched program.

    Args:
        lock: Protects what they look at; held by the caller of every method.
    """

    __slots__ = ("_lock", "_waiting")

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._waiting: dict[Lock, None] = {}

    @property
    def is_waited(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def wait(self, timeout: float | None) -> None:
        """Blocks the calling thread until it is woken or the limit is over.

        The lock is free meanwhile.
        """
        mine = allocate_lock()
        mine.acquire()
        self._waiting[mine] = None
        self._lock.release()
        try:
            mine.acquire(True, -1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        finally:
            self._lock.acquire()
            self._waiting.pop(mine, None)

    def wake(self) -> None:
        """Wakes all that wait now."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            for one in waiting:
                one.release()
