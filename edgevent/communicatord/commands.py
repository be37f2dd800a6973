"""What services say to the daemon itself: who they are, what they know, who else is there."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final

from ..answers import Peer
from ..dispatcher import Dispatcher
from ..message import Message
from .departures import Departures
from .places import ANY_COMMAND
from .reports import OWN_SERVICE, is_passed_on, name_of
from .router import NameTakenError, Router
from .station import MAX_COMMANDS, Station

logger = logging.getLogger("edgevent.communicatord")

VERSION: Final = 1
"""The version of the protocol that REGISTER and CONNECT name."""
MAX_DEPARTED: Final = 1_000
"""Of so many services that are gone it is known when they went."""

MAX_PAGE_BYTES: Final = 32_000
"""About so many bytes of names are in one answer."""

_LINK: Final = "remote communicator"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)
_COMMAND: Final = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)


class ServiceCommands:
    """REGISTER, UNREGISTER, COMMANDS, SERVICE_STATUS, LIST_SERVICES, UNKNOWN and INVALID.

    Args:
        router: Knows who is registered.
        my_address: The address that other daemons reach this one by, which READY tells.
        now: The time of day in seconds of the epoch.
    """

    def __init__(
        self, router: Router, my_address: str, *, now: Callable[[], float] = time.time
    ) -> None:
        self.router = router
        self.my_address = my_address
        self._now = now
        self._departed: dict[str, tuple[int, int]] = {}  # of a service: up since, down since
        router.on_left.append(self._left)
        self._departures = Departures(router)

    def add_to(self, dispatcher: Dispatcher) -> None:
        """Adds the handlers to the table of those who talk to the daemon."""
        for handler in (
            self.register,
            self.unregister,
            self.commands,
            self.service_status,
            self.list_services,
        ):
            dispatcher.on(handler.__name__.upper())(handler)
        dispatcher.on("UNKNOWN")(self.refused)
        dispatcher.on("INVALID")(self.refused)

    # --- the handlers -----------------------------------------------------------------------------

    def register(self, message: Message, peer: Peer) -> None:
        """A peer says which service it is; it is told READY, and gets what was held for it."""
        station = self._station(message, peer)
        if station is None:
            return
        service = message["service"]
        if message.integer("version") != VERSION:
            self.router.reports.refuse_peer(
                message, peer, f"version {message['version']}: this daemon speaks {VERSION}"
            )
        elif not _NAME.fullmatch(service):
            why = "is no name of a service: letters, digits and '_' were expected, no digit first"
            self.router.reports.refuse_peer(message, peer, f"{service[:64]!a} {why}")
        else:
            if not self._let_leave(service, station):
                return
            try:
                self.router.register(station, service)
            except NameTakenError as error:
                self.router.reports.refuse_peer(message, peer, str(error))
                return
            logger.info("%s: registered as %s", peer.name, service)
            self._departed.pop(service, None)
            peer.send(Message("HELP"))
            peer.send(Message("READY", {"my_address": self.my_address}))
            self.router.release(station)  # first: whoever is told may answer at once
            self.tell_status(station, "up")

    def _let_leave(self, service: str, station: Station) -> bool:
        """Waits for the end of a connection with a name whose peer has gone, and comes again.

        Returns:
            Whether the new connection is still there.
        """
        other = self.router.stations.get(service)
        if other is None or other is station:
            return True
        self._departures.wait(other)
        return not station.stream.is_closed

    def unregister(self, message: Message, peer: Any) -> None:
        """A service says that it goes; its connection is closed, whatever name it says.

        The C++ daemon does not look at that either, and a client in C++ waits for the end.
        """
        station = self._station(message, peer)
        if station is None:
            return
        service = message["service"]
        if station.kind != "local" or service != station.service:
            text = "%s: UNREGISTER of %.64a, which it has not registered, ends it"
            logger.warning(text, name_of(peer), service)
        self.router.remove(station)
        peer.mark_done()

    def commands(self, message: Message, peer: Peer) -> None:
        """A peer says which commands it takes; several lists add up."""
        station = self._station(message, peer)
        if station is None:
            return
        words = [word.strip() for word in message["list"].split(",")]
        names = {word for word in words if word == ANY_COMMAND or _COMMAND.fullmatch(word)}
        if len(names) + len(station.commands or ()) > MAX_COMMANDS:
            self.router.reports.refuse_peer(message, peer, f"more than {MAX_COMMANDS} commands")
            return
        wrong = [word for word in words if word and word not in names]
        if wrong:  # a service may list patterns of its own, and is to get all else
            self.router.reports.refuse_peer(message, peer, f"{wrong[0][:64]!a} is no command")
        if names:
            station.add_commands(names)
            self.router.changed()

    def service_status(self, message: Message, peer: Any) -> Message:
        """Tells whether a service is there."""
        service = message["service"]
        station = self.router.stations.get(service)
        if station is not None:
            found = self._status(service, "up", station.up_since)
        elif service in self._departed:
            found = self._status(service, "down", *self._departed[service])
        else:
            found = Message("STATUS", {"cache": "no", "service": service, "status": "unknown"})
        if is_passed_on(message, peer):
            found = found.with_target(message.sent_from_server, message.sent_from_service)
        serial = message.get("serial")
        return found if serial is None else found.with_parameters(serial=serial)

    def list_services(self, message: Message, peer: Peer) -> Message:
        """Names the services of this computer, and those of others that are known.

        They may be more than fit a line: ``next`` is the ``offset`` of the question that goes on.
        """
        here = self.router.services()
        names = [*here, *self.router.ways.services()]
        begin = end = max(message.integer("offset", 0), 0)
        size = 0
        while end < len(names) and size < MAX_PAGE_BYTES:
            size += len(names[end]) + 1
            end += 1
        fields = {"list": ",".join(here[begin:end])}
        if remote := names[max(begin, len(here)) : end]:
            fields["remote"] = ",".join(remote)
        if end < len(names):
            fields["next"] = str(end)
        return message.reply("SERVICES", fields)

    def refused(self, message: Message, peer: Peer) -> None:
        """A peer has not understood what the daemon said; it can say so as often as it likes."""
        about, why = message.get("command", "")[:64], message.get("message", "")[:200]
        condition = f"{message.command} {about}"
        text = "answered %s to %a: %a"
        self.router.conditions.say(
            logging.WARNING, name_of(peer), condition, text, message.command, about, why
        )

    # --- who is there -----------------------------------------------------------------------------

    def _left(self, station: Station) -> None:
        service, since = station.service, station.up_since
        if station.kind == "remote" and not self.router.stopping:
            self._tell_link(station, "down", int(self._now()))
        if station.kind != "local":
            return
        logger.info("%s is not registered any more", service)
        if len(self._departed) >= MAX_DEPARTED:
            del self._departed[next(iter(self._departed))]
        self._departed[service] = (since, int(self._now()))
        if self.router.stopping:
            return  # all go now, which each of them is told
        self.tell(self._status(service, "down", *self._departed[service]))

    def link_is_up(self, station: Station) -> None:
        """Tells all services that have listed STATUS that another daemon is connected."""
        self._tell_link(station, "up")

    def _tell_link(self, station: Station, status: str, down_since: int = 0) -> None:
        # As the C++ daemon has it, the "service" is the name of the connection.
        name = station.label
        if not name.startswith(_LINK) and station.address is not None:
            name = f"{_LINK} (in): {station.address.endpoint}"
        found = self._status(name, status, station.up_since, down_since)
        self.tell(found.with_parameters(server_name=station.server))

    def tell_status(self, station: Station, status: str) -> None:
        """Tells all services that have listed STATUS that one is there."""
        self.tell(self._status(station.service, status, station.up_since))

    def _status(self, service: str, status: str, up_since: int, down_since: int = 0) -> Message:
        fields = {
            "cache": "no",
            "service": service,
            "server_name": self.router.server,
            "status": status,
        }
        if up_since:
            fields["up_since"] = str(up_since)
        if down_since:
            fields["down_since"] = str(down_since)
        return Message("STATUS", fields)

    def tell(self, message: Message) -> None:
        """Gives a message of the daemon's own to all services that have listed it."""
        line = message.with_sender(self.router.server, OWN_SERVICE).to_line()
        for station in tuple(self.router.stations.values()):
            if station.lists(message.command):
                station.deliver(line)

    def _station(self, message: Message, peer: Any) -> Station | None:
        """The peer as the router knows it; over a datagram there is none."""
        station: Station | None = getattr(peer, "station", None)
        if station is None:
            self.router.reports.refuse_peer(
                message, peer, f"{message.command} needs a stream, and came by a datagram"
            )
        return station
