"""Log lines about conditions that a peer can repeat as fast as it likes."""

from __future__ import annotations

import logging
from typing import Final

from . import limits

MAX_OF_PEER: Final = 20
"""So many conditions of one peer are told apart; all others of it are one."""

_OTHERS: Final = "others"


class Conditions:
    """Logs each condition once a minute, with the number of times in between.

    Of :data:`~edgevent.limits.LOGGED_PEERS` conditions it is known when they were logged.

    Args:
        logger: Where to.
    """

    __slots__ = ("_count", "_logger", "_said")

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        # Of peers, to each condition: when it may be logged again, and how often it was not.
        self._said: dict[str, dict[str, tuple[float, int]]] = {}
        self._count = 0

    def say(
        self,
        now: float,
        what: str,
        text: str,
        *arguments: object,
        peer: str = "",
        level: int = logging.WARNING,
    ) -> bool:
        """Logs a line, unless there was one of the same condition within the last minute.

        Args:
            now: The time of a clock that only moves forward, in seconds.
            what: The condition: what is to be told apart from other lines.
            text: The line, with the places of the arguments.
            peer: Whose condition it is, where it is one's own; a peer that makes up conditions
                leaves room for those of others.
            level: The level of the line.

        Returns:
            Whether it was logged.
        """
        of_peer = self._said.get(peer, {})
        if peer and what not in of_peer and len(of_peer) >= MAX_OF_PEER:
            what = _OTHERS
        again, missed = of_peer.get(what, (now, 0))
        if now < again:
            of_peer[what] = (again, missed + 1)
            return False
        if what not in of_peer:
            self._make_room(now)
            self._count += 1
        self._said.setdefault(peer, {})[what] = (now + limits.LOG_INTERVAL, 0)
        if missed:
            text = f"{text} ({missed} more since the last such line)"
        self._logger.log(level, text, *arguments)
        return True

    def _make_room(self, now: float) -> None:
        if self._count < limits.LOGGED_PEERS:
            return
        kept = {
            peer: {what: said for what, said in of_peer.items() if now < said[0]}
            for peer, of_peer in self._said.items()
        }
        self._said = {peer: of_peer for peer, of_peer in kept.items() if of_peer}
        self._count = sum(map(len, self._said.values()))
        if self._count >= limits.LOGGED_PEERS:
            self._said.clear()
            self._count = 0
