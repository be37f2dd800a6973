"""Log lines about conditions that a peer can repeat as fast as it can send."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..conditions import Conditions

logger = logging.getLogger("edgevent.communicatord")


class PeerConditions:
    """Logs each condition of each peer once a minute; see :class:`~edgevent.conditions.Conditions`.

    Args:
        monotonic: A clock that only moves forward, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._conditions = Conditions(logger)

    def say(self, level: int, peer: str, condition: str, text: str, *arguments: object) -> None:
        """Logs a line, unless one of the same peer and condition was logged within a minute.

        Args:
            level: The level of the line.
            peer: Whom it is about; it begins the line.
            condition: What has happened: what is to be told apart from other lines of the peer.
            text: The line, with the places of the arguments.
        """
        now, text = self._monotonic(), f"%s: {text}"
        said = self._conditions.say(now, condition, text, peer, *arguments, peer=peer, level=level)
        if not said:
            logger.debug(text, peer, *arguments)
