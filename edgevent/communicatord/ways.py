"""The next peer on the way to a service, here or on another computer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from ..message import Message
from .station import Station

MAX_RELAYS: Final = 16
"""A message for one service is passed between daemons so many times at most."""
RELAYS: Final = "relay_hops"
"""The parameter that counts how often one daemon has passed a message on to another."""


class Further(Protocol):
    """What is known of the computers behind the neighbors."""

    def to_server(self, server: str) -> Iterable[Station]:
        """The neighbors over which a computer is reached, the nearest first."""

    def to_service(self, service: str) -> Iterable[Station]:
        """The neighbors over which a service is reached, the nearest first."""

    def services(self) -> Iterable[str]:
        """The names of the services there."""


class Unknown:
    """Nothing is known of them."""

    def to_server(self, server: str) -> Iterable[Station]:
        """None."""
        return ()

    def to_service(self, service: str) -> Iterable[Station]:
        """None."""
        return ()

    def services(self) -> Iterable[str]:
        """None."""
        return ()


class Ways:
    """Finds the next peer. It never sends a message back to where it came from.

    Args:
        server: The name of this computer.
        stations: The services that are registered here, by name.
        remotes: The daemons of the neighbors, by the names of their computers.

    Attributes:
        further: What is known of the computers behind the neighbors.
    """

    def __init__(
        self, server: str, stations: Mapping[str, Station], remotes: Mapping[str, Station]
    ) -> None:
        self._here = ("", ".", "?", server)
        self._stations = stations
        self._remotes = remotes
        self.further: Further = Unknown()

    def find(self, message: Message, source: Station) -> Station | None:
        """Gives the peer that a message for one service goes to next, or ``None``."""
        server, service = message.server, message.service
        if server not in self._here:
            target = self._remotes.get(server)
            if target is None:
                return _other_than(source, self.further.to_server(server))
        else:
            target = self._stations.get(service)
            if target is None and server in ("", "?"):
                return self._remote_of(service, source)
        return None if target is source else target

    def services(self) -> list[str]:
        """The names of the services of other computers, as far as they are known, sorted."""
        found = set(self.further.services())
        for station in self._remotes.values():
            found |= station.services | station.heard_of
        return sorted(found)

    def _remote_of(self, service: str, source: Station) -> Station | None:
        for station in self._remotes.values():
            if service in station.services and station is not source:
                return station
        found = _other_than(source, self.further.to_service(service))
        if found is None:
            behind = (one for one in self._remotes.values() if service in one.heard_of)
            found = _other_than(source, behind)
        return found


def _other_than(source: Station, found: Iterable[Station]) -> Station | None:
    return next((station for station in found if station is not source), None)
