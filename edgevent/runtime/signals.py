"""POSIX signals as calls in the hub, never inside the C handler."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import gevent

from ..errors import UsageError


def signal_number(name: str | int) -> int:
    """Returns the number of a signal, given by name (with or without ``SIG``) or number.

    Raises:
        UsageError: There is no such signal, or it cannot be caught.
    """
    try:
        if isinstance(name, str):
            text = name.upper()
            found = signal.Signals[text if text.startswith("SIG") else f"SIG{text}"]
        else:
            found = signal.Signals(name)
    except (KeyError, ValueError):
        raise UsageError(f"{name!r} is no signal: a name such as SIGTERM was expected") from None
    if found in (signal.SIGKILL, signal.SIGSTOP):
        raise UsageError(f"{found.name} cannot be caught")
    return int(found)


class SignalWatch:
    """Calls back in the hub for each delivery of a signal; several that come at once are one.

    Raises:
        UsageError: The thread is not the main one: only there does the loop see signals.
    """

    __slots__ = ("_former", "_number", "_watcher")

    def __init__(self, number: int, callback: Callable[[int], Any]) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise UsageError("signals can be caught in the main thread only")
        self._number = number
        self._former = signal.getsignal(number)
        # Not referenced: a program with nothing but signals to wait for has nothing to wait for.
        self._watcher: Any = gevent.get_hub().loop.signal(number, ref=False)
        self._watcher.start(callback, number)

    def stop(self) -> None:
        """Ends it, and brings the former disposition back. Idempotent."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
            # libev leaves SIG_DFL behind when its last watcher of a signal stops, whatever there
            # was before. None stands for a handler of C, which Python cannot bring back.
            if self._former is not None:
                signal.signal(self._number, self._former)
