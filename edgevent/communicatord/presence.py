"""Who is there: the services of this computer, and the daemons of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ..message import Message
from .reports import OWN_SERVICE
from .station import Station

MAX_KNOWN: Final = 10_000
"""Of so many services it is remembered that they were there, so that messages are held for them."""


class NameTakenError(ValueError):
    """Another peer has registered the name."""


class Presence:
    """Knows the peers by their names.

    Args:
        server: The name of this computer.
        known: The names of services for which messages are held before they first register.
        settling: For so many seconds services of any name may come.
        monotonic: A clock that only moves forward, in seconds.

    Attributes:
        is_linked: Whether there may be links to other computers, where a service may be as well.
    """

    def __init__(
        self,
        server: str,
        known: Iterable[str],
        settling: float,
        monotonic: Callable[[], float],
    ) -> None:
        self.server = server
        self.stations: dict[str, Station] = {}
        self.remotes: dict[str, Station] = {}
        self.known = set(known)
        self.is_linked = False
        self._settled = monotonic() + settling
        self._monotonic = monotonic
        self._been: dict[str, None] = {}  # who was here, in the order in which they came last
        self.on_left: list[Callable[[Station], object]] = []
        self.on_changed: list[Callable[[], object]] = []
        self.stopping = False
        self.generation = 0

    def register(self, station: Station, service: str) -> None:
        """Gives a peer the name of a service. What was held for it waits for ``release``.

        Raises:
            NameTakenError: The name is in use, or the peer has another one.
        """
        if service == OWN_SERVICE:
            raise NameTakenError(f"the name {service} is that of the daemon itself")
        other = self.stations.get(service)
        if other is not None:
            whose = "this connection" if other is station else "another connection"
            raise NameTakenError(f"the name {service} is registered by {whose} already")
        if station.kind != "caller":
            raise NameTakenError(f"this connection is registered as {station.name} already")
        station.became("local", self.server, service)
        self.stations[service] = station
        self._remember(service)
        self.changed()

    def _remember(self, service: str) -> None:
        """Takes note of a name; when there are too many, the oldest that is not in use goes."""
        self._been.pop(service, None)
        if len(self._been) >= MAX_KNOWN:
            oldest = next((one for one in self._been if one not in self.stations), None)
            if oldest is None:
                return
            del self._been[oldest]
        self._been[service] = None

    def may_come(self, service: str) -> bool:
        """Whether a service that is not here was here, or is one of those that are known."""
        return service in self.known or service in self._been

    def waits_for(self, message: Message) -> bool:
        """Whether the service of a message, which is not here, may come to this computer."""
        if self.may_come(message.service):
            return True
        if self._monotonic() >= self._settled:
            return False
        return not self.is_linked or message.server in (".", self.server)

    def connect(self, station: Station, server: str) -> None:
        """Takes note that a peer is the daemon of another computer.

        Raises:
            NameTakenError: The computer has a link already, or has the name of this one.
        """
        if server == self.server or server in self.remotes:
            raise NameTakenError(f"a computer named {server} is there already")
        station.became("remote", server)
        self.remotes[server] = station
        self.changed()

    def remove(self, station: Station) -> bool:
        """Forgets a peer; returns whether it had a name."""
        if station.kind == "local" and self.stations.get(station.service) is station:
            del self.stations[station.service]
        elif station.kind == "remote" and self.remotes.get(station.server) is station:
            del self.remotes[station.server]
        else:
            return False
        for call in self.on_left:
            call(station)
        station.kind = "caller"
        station.forget_ways(-1)
        self.changed()
        return True

    def changed(self) -> None:
        """Forgets the ways that were found: somebody has come or gone, or says more of itself."""
        self.generation += 1
        for call in self.on_changed:
            call()

    def stop(self) -> None:
        """Routes nothing any more."""
        self.stopping = True
        self.generation += 1

    def services(self) -> list[str]:
        """The names of the services of this computer that are registered, sorted."""
        return sorted(self.stations)
