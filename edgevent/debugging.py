"""What a communicator tells of its connections, for whoever looks for a mistake."""

from __future__ import annotations

import logging
from typing import Any

from .connection import Connection
from .inspect_alive import describe_alive
from .runtime.turns import Turns

logger = logging.getLogger("edgevent")


class Debugging:
    """The part of :class:`~edgevent.Communicator` that logs; no object by itself."""

    name: str
    traces: bool
    turns: Turns
    _connections: dict[Connection, None]
    _level: int | None
    _show: Any
    _show_level: int

    def show_connections(self, on: bool = True, *, level: int = logging.INFO) -> None:
        """Logs at each wait what is listened to."""
        self._show_level = level
        if on and self._show is None:
            self._show = self.turns.loop.prepare(ref=False)
            self._show.start(self._show_now)
        elif not on and self._show is not None:
            self._show.close()
            self._show = None

    def _show_now(self) -> None:
        names = ", ".join(
            f"{connection.name} ({connection.priority})"
            for connection in sorted(self._connections, key=lambda found: found.priority)
            if connection.enabled
        )
        logger.log(self._show_level, "%s: waiting for: %s", self.name, names or "nothing")

    def log_connections(self, level: int | None = logging.INFO) -> None:
        """Logs at this level, after each removal, what remains; ``None`` ends it."""
        self._level = level

    def debug_connections(self, level: int | None = logging.DEBUG) -> None:
        """Sets the level of both, and traces what is added, removed and received; None ends it."""
        self.traces = level is not None
        self.log_connections(level)
        self.show_connections(self.traces, level=logging.INFO if level is None else level)

    def trace(self, text: str, *arguments: object) -> None:
        """Logs at the level of :meth:`debug_connections`; asked for while ``traces`` is set."""
        if self._level is not None:
            logger.log(self._level, text, *arguments)

    def log_alive(self) -> None:
        """Logs the greenlets, connections, descriptors and memory of this process."""
        for line in describe_alive(self.turns, self._connections):
            logger.info("%s: %s", self.name, line)
