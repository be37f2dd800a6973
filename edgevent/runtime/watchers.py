"""Watchers of a descriptor, and what a transport must offer to be watched.

A read watcher stays started while the connection wants to read: level-triggered, with the read in
its callback, it needs no system call that fails first. A write watcher runs only while the kernel
has not taken everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import gevent

READ = 1
WRITE = 2


class Watched(Protocol):
    """What an outbox asks of a transport."""

    @property
    def transmit(self) -> Callable[[bytes | memoryview], int]:
        """Takes bytes, returns how many; raises ``BlockingIOError`` or another ``OSError``."""

    @property
    def peer(self) -> str:
        """The other side, as text for log lines."""

    @property
    def in_flight(self) -> int:
        """How many bytes the kernel has taken and the peer has not; 0 where nothing tells it."""

    def finish(self) -> None:
        """Marks the end of what was sent; raises ``BlockingIOError`` or another ``OSError``."""

    def watch_write(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub, again and again, while more can be written."""

    def unwatch_write(self) -> None:
        """Ends it."""


def io_watcher(descriptor: int, events: int) -> Any:
    """Returns a watcher of this thread's loop for a descriptor."""
    return gevent.get_hub().loop.io(descriptor, events)
