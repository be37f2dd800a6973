"""The system's own threads, in a program that gevent has patched as well.

A patched ``threading`` takes each greenlet for a thread; a hub belongs to a real one. gevent keeps
what it replaced; where nothing was replaced, these are the plain functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gevent.monkey import get_original


class Lock(Protocol):
    """A lock of ``_thread``."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Takes the lock; returns whether it was free in time."""

    def release(self) -> None:
        """Gives it back."""


get_ident: Callable[[], int] = get_original("_thread", "get_ident")
"""Returns the number of the calling thread."""

allocate_lock: Callable[[], Lock] = get_original("_thread", "allocate_lock")
"""Returns a lock that blocks the whole thread."""

start_new_thread: Callable[..., int] = get_original("_thread", "start_new_thread")
"""Starts a thread: ``start_new_thread(function, arguments)``."""

Local: Any = get_original("_thread", "_local")
"""A class whose attributes each thread has for itself."""
