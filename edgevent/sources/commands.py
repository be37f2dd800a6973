"""The children of one process source: the signals to them, and the wait for their end."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from ..errors import CommandTimeout
from ..runtime.clock import Clock
from ..runtime.signal_names import signal_name
from ..runtime.turns import Turns
from ..runtime.waits import Waiters
from .reaping import ChildEvent, Reaper, has_ended

logger = logging.getLogger("edgevent")


class Commands:
    """One child, or those of a chain.

    Args:
        pids: The children, none of which has been collected.
        group: Whether each leads a process group, and signals go to that.
        on_end: Called in the hub when the last of them has ended.

    Attributes:
        running: Those that have not ended.
        exits: What became of each; ``None`` while it runs.
    """

    __slots__ = ("_group", "_on_end", "_turns", "_waiters", "exits", "pids", "running")

    def __init__(
        self, pids: tuple[int, ...], turns: Turns, *, group: bool, on_end: Callable[[], object]
    ) -> None:
        self.pids = pids
        self.running = dict.fromkeys(pids)
        self.exits: tuple[ChildEvent | None, ...] = (None,) * len(pids)
        self._group = group
        self._on_end = on_end
        self._turns = turns
        self._waiters = Waiters(turns)
        for pid in pids:
            Reaper.current().add(self, pid)

    def child_changed(self, event: ChildEvent) -> None:
        """Called in the hub."""
        if not event.is_end:
            return
        self.running.pop(event.pid, None)
        index = self.pids.index(event.pid)
        self.exits = (*self.exits[:index], event, *self.exits[index + 1 :])
        if not self.running:
            self._waiters.wake()
            self._on_end()

    def send_signal(self, number: int, name: str) -> None:
        """Sends a signal to those that run.

        Args:
            name: Who they are, for a log line.
        """
        for pid in self.running:
            try:
                has_ended(os.P_PID, pid)  # else somebody else has collected it, and its pid is free
                (os.killpg if self._group else os.kill)(pid, number)
            except (ChildProcessError, ProcessLookupError):
                continue
            except PermissionError:
                logger.warning("%s: may not send %s to %d", name, signal_name(number), pid)

    def wait(self, clock: Clock, timeout: float | None, name: str) -> None:
        """Waits until all have ended. Blocks the calling greenlet alone.

        Raises:
            CommandTimeout: One of them runs still.
        """
        if not self.running:
            return
        end = None if timeout is None else clock.now() + timeout
        keeper: Any = self._turns.loop.async_()  # the loop would end: no other watcher keeps it
        keeper.start(int)
        try:
            while self.running:
                left = None if end is None else max(end - clock.now(), 0.0)
                if not self._waiters.wait(clock, left) and self.running:
                    raise CommandTimeout(f"{name}: it still runs after {timeout:g} s")
        finally:
            keeper.close()

    def collect(self) -> None:
        """Waits for those that were killed; blocks the process for a moment."""
        for pid in tuple(self.running):
            Reaper.current().collect(pid)
