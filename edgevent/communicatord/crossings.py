"""Two daemons that dial each other at once: of their two links one stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ..timer import Timer
from .remote import RemoteLink
from .router import Router
from .station import Station

CROSSING_TIMEOUT: Final = 5.0
"""Of two links with one daemon the other one is to end within so many seconds."""


class _Waiting(NamedTuple):
    server: str
    again: Callable[[], object]
    timer: Timer


class Crossings:
    """Knows the links that wait for the end of another one with the same daemon.

    Daemons that have several addresses may each be the greater one by another of these, and dial
    each other at the same time. Both take the other one's CONNECT, and then have a link too many
    each. The one that was dialled by the daemon with the greater name stays: it waits, and the
    other daemon ends its own.

    Args:
        router: Tells who is linked, and who has left.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._waiting: dict[RemoteLink, _Waiting] = {}
        router.on_left.append(self._left)

    def is_one(self, link: RemoteLink, server: str) -> bool:
        """Whether a daemon that takes this one in has dialled, too, and is to end that link."""
        station = self._router.remotes.get(server)
        if station is None or isinstance(station.stream, RemoteLink) or link in self._waiting:
            return False
        return self._router.server > server

    def wait(self, link: RemoteLink, server: str, again: Callable[[], object]) -> None:
        """Reads nothing from a link until the other one has ended, or that has taken too long.

        Args:
            again: Called then, if the link is still there.
        """
        link.enabled = False
        timer = link.communicator.after(
            CROSSING_TIMEOUT, lambda: self._go_on(link), keep_running=False
        )
        self._waiting[link] = _Waiting(server, again, timer)

    def _left(self, station: Station) -> None:
        for link, found in tuple(self._waiting.items()):
            if found.server == station.server:
                self._go_on(link)

    def _go_on(self, link: RemoteLink) -> None:
        found = self._waiting[link]
        found.timer.close()
        if link.is_connected:
            found.again()
        del self._waiting[link]
        if not link.is_closed:
            link.enabled = True
