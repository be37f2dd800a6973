"""Log lines about conditions that a peer can repeat as fast as it likes."""

from __future__ import annotations

import logging

from . import limits


class Conditions:
    """Logs each condition once a minute, with the number of times in between.

    Of :data:`~edgevent.limits.LOGGED_PEERS` conditions it is known when they were logged.

    Args:
        logger: Where to.
    """

    __slots__ = ("_logger", "_said")

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        # Of each: when it may be logged again, and how often it was not.
        self._said: dict[str, tuple[float, int]] = {}

    def say(self, now: float, what: str, text: str) -> None:
        """Logs a warning, unless there was one of the same condition within the last minute.

        Args:
            now: The time of a clock that only moves forward, in seconds.
            what: The condition: what is to be told apart from other lines.
            text: The line.
        """
        again, missed = self._said.get(what, (now, 0))
        if now < again:
            self._said[what] = (again, missed + 1)
            return
        if what not in self._said:
            self._make_room(now)
        self._said[what] = (now + limits.LOG_INTERVAL, 0)
        more = f" ({missed} more since the last such line)" if missed else ""
        self._logger.warning("%s%s", text, more)

    def _make_room(self, now: float) -> None:
        if len(self._said) >= limits.LOGGED_PEERS:
            self._said = {what: said for what, said in self._said.items() if now < said[0]}
            if len(self._said) >= limits.LOGGED_PEERS:
                self._said.clear()
