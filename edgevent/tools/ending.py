"""The end of a tool by a signal."""

from __future__ import annotations

import signal
from collections.abc import Callable

import gevent


def until_signal(work: Callable[[], object]) -> None:
    """Calls a function, which SIGINT and SIGTERM end at any of its waits.

    It runs in a greenlet of its own, in which they raise ``GreenletExit``; what else it raises is
    for itself to catch.
    """
    working = gevent.spawn(work)
    loop = gevent.get_hub().loop
    watchers = [loop.signal(number, ref=False) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        for watcher in watchers:
            watcher.start(working.kill, gevent.GreenletExit, False)
        working.join()
    finally:
        working.kill()  # of a caller that was killed itself
        for watcher in watchers:
            watcher.close()
