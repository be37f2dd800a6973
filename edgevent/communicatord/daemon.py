"""The parts of the daemon, put together: what it listens on makes peers of its router."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from ..answers import refuse
from ..dispatcher import PRIORITY_CALLBACK, Dispatcher, Match
from ..errors import NetworkError
from ..message import Message
from .commands import ServiceCommands
from .relay import Relay
from .reports import OWN_SERVICE
from .router import Router
from .station import Station

logger = logging.getLogger("edgevent.communicatord")

_CONTROL: Final = frozenset(("STOP", "QUITTING", "RESTART", "LOG_ROTATE", "SHUTDOWN", "READY"))


class Daemon:
    """Routes between those that connect to its listeners.

    Args:
        server: The name of this computer.
        known: The names of services for which messages are held before they first register.
        my_address: The address by which other daemons reach this one, ``ip:port``.
        dispatcher: The table of the daemon's own commands; a new one by default.

    Attributes:
        router: Who is there, and where messages go.
        services: What services say to the daemon itself.
        dispatcher: The handler of datagram listeners, and the table of :attr:`relay`.
        relay: The class of the connections of stream listeners.
    """

    def __init__(
        self,
        server: str,
        *,
        known: Iterable[str] = (),
        my_address: str = "127.0.0.1:4042",
        dispatcher: Dispatcher | None = None,
    ) -> None:
        own_address = my_address.rpartition(":")[0].strip("[]")
        self.router = Router(server, known=known, own_address=own_address)
        self.dispatcher = Dispatcher() if dispatcher is None else dispatcher
        self.services = ServiceCommands(self.router, my_address)
        self.services.add_to(self.dispatcher)
        self.dispatcher.add_match(
            Match(
                None,
                self._route_datagram,
                function=self._is_for_others,
                priority=PRIORITY_CALLBACK,
                continues=False,
            )
        )
        self.relay = type("Relay", (Relay,), {"__slots__": (), "router": self.router})

    def _is_for_others(self, message: Message) -> bool:
        # Of streams only what is for the daemon itself comes to the table; see Relay.
        return message.service not in ("", OWN_SERVICE) or message.server not in (
            "",
            ".",
            "*",
            self.router.server,
        )

    def _route_datagram(self, message: Message, peer: Any) -> None:
        if message.command in _CONTROL and not peer.may_control:
            refuse(message, peer, f"{message.command} is not accepted from this peer")
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
