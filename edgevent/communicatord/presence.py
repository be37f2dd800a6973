"""Who is there: the services of this computer, and the daemons of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

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
    """

    def __init__(self, server: str, known: Iterable[str]) -> None:
        self.server = server
        self.stations: dict[str, Station] = {}
        self.remotes: dict[str, Station] = {}
        self.known = set(known)
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
        if len(self.known) < MAX_KNOWN:
            self.known.add(service)
        self.changed()

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
