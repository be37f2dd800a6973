"""Waits for the end of a connection whose peer has gone, when that comes again by another one."""

from __future__ import annotations

import logging
from typing import Final

from gevent.event import Event

from .router import Router
from .station import Station

logger = logging.getLogger("edgevent.communicatord")

LEAVE_TIMEOUT: Final = 5.0
"""So long a name is waited for whose peer has gone while its messages are dealt with, in seconds.
"""


class Departures:
    """Knows for whose end somebody waits.

    What a peer has sent before it went is dealt with before its name is free. A client in C++ does
    not try a second time when the name is refused, and a daemon in C++ only after a day.

    Args:
        router: Tells who has left.
    """

    def __init__(self, router: Router) -> None:
        self._awaited: dict[Station, Event] = {}
        router.on_left.append(self._left)

    def wait(self, other: Station, moment: float = 0.0) -> None:
        """Waits for the end of a connection, if its peer has gone. May switch greenlets.

        Args:
            other: The peer of the connection.
            moment: How long it may take until it is seen that the peer has gone, in seconds.
        """
        if other.stream is None:
            return
        ended = self._awaited.setdefault(other, Event())
        if moment and not other.stream.has_left:
            ended.wait(moment)
        if other.stream.has_left and not ended.wait(LEAVE_TIMEOUT):
            logger.warning("%s: its peer has gone, and it does not end", other.label)

    def _left(self, station: Station) -> None:
        if (ended := self._awaited.pop(station, None)) is not None:
            ended.set()
