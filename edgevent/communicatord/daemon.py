"""The parts of the daemon, put together: what it listens on makes peers of its router."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from ..communicator import Communicator
from ..dispatcher import PRIORITY_CALLBACK, Dispatcher, Match
from ..errors import NetworkError
from ..message import Message
from .alive import SILENCE, AliveQuestions
from .clock_status import ClockStatus
from .commands import ServiceCommands
from .computer import Cluster, ComputerCommands
from .link_settings import Claim, LinkSettings
from .links import Links
from .load_average import LoadAverage
from .load_file import FILE_NAME as LOAD_FILE
from .relay import Relay
from .remote_commands import DaemonCommands
from .reports import OWN_SERVICE
from .router import Router
from .station import CONTROL, Station
from .taps import Taps, watchers
from .traffic import TrafficCommands

logger = logging.getLogger("edgevent.communicatord")

NO_ADDRESS: Final = "127.0.0.1:4042"
"""What services are told while no other daemon can reach this one, as the C++ daemon has it."""


class Daemon:
    """Routes between those that connect to its listeners.

    Args:
        server: The name of this computer.
        known: The names of services for which messages are held before they first register.
        my_address: The address by which other daemons reach this one, ``ip:port``.
        dispatcher: The table of the daemon's own commands; a new one by default.
        relay: A class of its own for the connections of stream listeners; made by default.
        stop: What SHUTDOWN calls, with True.
        alive_after: A service that has sent nothing for so many seconds is asked whether it lives.
        clock_command: Tells whether the clock is right; see :class:`ClockStatus`.
        trace_group: The group that may see what passes, besides this process's user and root.
        limits: ``max_held``, ``max_held_bytes``, ``held_ttl`` and ``settling`` of the router.

    Attributes:
        router: Who is there, and where messages go.
        services: What services say to the daemon itself.
        computer: What the daemon tells of the computer.
        clock: Whether the clock is right.
        load: The load of the computer.
        alive: Asks silent services.
        links: The links to the daemons of other computers.
        taps: Those who see what passes.
        dispatcher: The handler of datagram listeners, and the table of :attr:`relay`.
        relay: The class of the connections of stream listeners.
    """

    def __init__(
        self,
        server: str,
        *,
        known: Iterable[str] = (),
        my_address: str = NO_ADDRESS,
        dispatcher: Dispatcher | None = None,
        relay: type[Relay] | None = None,
        stop: Callable[[bool], object] = lambda quitting: None,
        alive_after: float = SILENCE,
        clock_command: str = "",
        trace_group: str = "",
        **limits: Any,
    ) -> None:
        own_address = my_address.rpartition(":")[0].strip("[]")
        self.router = Router(server, known=known, own_address=own_address, **limits)
        self.dispatcher = Dispatcher() if dispatcher is None else dispatcher
        self.services = ServiceCommands(self.router, my_address)
        self.computer = ComputerCommands(self.router, self.dispatcher, stop)
        self.clock = ClockStatus(self._tell_all, clock_command)
        self.load = LoadAverage(self.router, my_address)
        self.alive = AliveQuestions(self._relays, silence=alive_after)
        may_see = watchers(trace_group)
        self.taps = Taps(self.router, may_see)
        for part in (
            self.services,
            self.computer,
            self.clock,
            self.load,
            self.alive,
            self.taps,
            TrafficCommands(self.router, may_see),
        ):
            part.add_to(self.dispatcher)
        self.dispatcher.add_match(
            Match(
                None,
                self._route_datagram,
                function=self._is_for_others,
                priority=PRIORITY_CALLBACK,
                continues=False,
            )
        )
        self.relay = new_relay() if relay is None else relay
        self.relay.router = self.router
        self.links = Links(self.router, self.dispatcher)
        DaemonCommands(self.links, self.dispatcher)
        self.computer.cluster = self._cluster
        self.links.on_connected += (self._ask_load, self.services.link_is_up)

    def add_links(
        self,
        communicator: Communicator,
        settings: LinkSettings,
        claim: Claim = lambda name, address: None,
    ) -> None:
        """Links this daemon to those of other computers; see :meth:`Links.start`."""
        self.links.start(communicator, settings, claim)
        if settings.folder is not None:
            self.load.path = settings.folder / LOAD_FILE
        if self.links.my_address:
            self.services.my_address = self.load.my_address = self.links.my_address
        self.computer.public_ip = self.links.plain_address
        self.computer.secure_ip = self.links.secure_address

    def _cluster(self) -> Cluster:
        return self.links.cluster.state

    def _ask_load(self, station: Station) -> None:
        self.links.say(station, Message("REGISTER_FOR_LOADAVG"))

    def stop(self, quitting: bool = False) -> None:
        """Routes nothing any more, and tells the services that want to know it that this is so."""
        if self.router.stopping:
            return
        self.links.stop(quitting)
        self.taps.close()
        self.router.stop()
        line = Message("DISCONNECTING").with_sender(self.router.server, OWN_SERVICE).to_line()
        for relay in self._relays():
            relay.quit_soon()
            if relay.station.lists("DISCONNECTING"):
                relay.deliver(line)

    def _relays(self) -> Iterator[Relay]:
        for station in tuple(self.router.stations.values()):
            owner = getattr(station.deliver, "__self__", None)
            if isinstance(owner, Relay):
                yield owner

    def _tell_all(self, message: Message) -> None:
        self.router.broadcast(message.with_target("", "."))

    # --- datagrams --------------------------------------------------------------------------------

    def _is_for_others(self, message: Message) -> bool:
        # Of streams only what is for the daemon itself comes to the table; see Relay.
        return message.service not in ("", OWN_SERVICE) or message.server not in (
            "",
            ".",
            "*",
            self.router.server,
        )

    def _route_datagram(self, message: Message, peer: Any) -> None:
        if message.command in CONTROL and not peer.may_control:
            self.router.reports.refuse_peer(
                message, peer, f"{message.command} is not accepted from this peer"
            )
            return
        if self.router.stopping:
            return

        def deliver(line: bytes) -> bool:
            try:
                peer.write(line[:-1])
            except NetworkError as error:
                logger.info("%s: no answer could be sent: %s", peer.name, error)
                return False
            return True

        def handle(message: Message) -> None:
            self.dispatcher.dispatch(message, peer)

        source = Station(deliver, handle, peer.name, answers=peer.answers_errors)
        self.router.route(message, source)


def new_relay() -> type[Relay]:
    """Makes the class of the connections of one daemon, which names its router."""
    return type("Relay", (Relay,), {"__slots__": ()})
