"""Log lines about conditions that a peer can repeat as fast as it can send."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from ..limits import LOG_INTERVAL

logger = logging.getLogger("edgevent.communicatord")

MAX_CONDITIONS: Final = 1_000
"""Of so many peers and conditions it is known when they were logged."""
MAX_OF_PEER: Final = 20
"""So many conditions of one peer are told apart; all others of it are one."""

_OTHERS: Final = "others"


class Conditions:
    """Logs each condition of each peer once a minute, with the number of times in between.

    Args:
        monotonic: A clock that only moves forward, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        # Of peers, to each condition: when it may be logged again, and how often it was not.
        self._said: dict[str, dict[str, list[float]]] = {}
        self._count = 0

    def say(self, level: int, peer: str, condition: str, text: str, *arguments: object) -> None:
        """Logs a line, unless one of the same peer and condition was logged within a minute.

        Args:
            level: The level of the line.
            peer: Whom it is about; it begins the line.
            condition: What has happened: what is to be told apart from other lines of the peer.
            text: The line, with the places of the arguments.
        """
        now = self._monotonic()
        text = "%s: " + text
        of_peer = self._said.get(peer, {})
        if condition not in of_peer and len(of_peer) >= MAX_OF_PEER:
            condition = _OTHERS
        said = of_peer.get(condition)
        if said is not None and now < said[0]:
            said[1] += 1
            logger.debug(text, peer, *arguments)
            return
        if said is None:
            self._make_room(now)
            said = self._said.setdefault(peer, {})[condition] = [0.0, 0]
            self._count += 1
        elif said[1]:
            text += f" ({int(said[1])} more since the last such line)"
        said[:] = now + LOG_INTERVAL, 0
        logger.log(level, text, peer, *arguments)

    def _make_room(self, now: float) -> None:
        if self._count < MAX_CONDITIONS:
            return
        for peer, of_peer in list(self._said.items()):
            left = {condition: said for condition, said in of_peer.items() if said[0] > now}
            if left:
                self._said[peer] = left
            else:
                del self._said[peer]
        self._count = sum(map(len, self._said.values()))
        if self._count >= MAX_CONDITIONS:
            self._said.clear()
            self._count = 0
