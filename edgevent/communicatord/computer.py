"""What the daemon tells of the computer and of itself, and how it is ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from ..answers import Peer
from ..counter_values import RESERVED_BYTES
from ..counters import snapshot
from ..defaults import is_obeyed
from ..dispatcher import Dispatcher
from ..message import Message
from .reports import is_passed_on
from .router import Router

logger = logging.getLogger("edgevent.communicatord")


class Cluster(NamedTuple):
    """The state of the computers that belong together.

    Attributes:
        up: Whether a majority of them can be reached.
        complete: Whether all can.
        total: How many they are, this one among them.
    """

    up: bool = True
    complete: bool = True
    total: int = 1

    def messages(self) -> tuple[Message, Message]:
        """Gives the two messages that tell it."""
        fields = {"neighbors_count": self.total}
        return (
            Message(f"CLUSTER_{'UP' if self.up else 'DOWN'}", fields, service="."),
            Message(
                f"CLUSTER_{'COMPLETE' if self.complete else 'INCOMPLETE'}", fields, service="."
            ),
        )


class ComputerCommands:
    """CLUSTER_STATUS, PUBLIC_IP, COUNTERS, QUITTING and SHUTDOWN.

    Args:
        router: Whose counts COUNTERS tells as well.
        dispatcher: The table, of which :meth:`add_to` makes use.
        stop: Ends the daemon; called with whether all others end too.

    Attributes:
        cluster: Gives the state of the cluster; without links to others it is this computer.
        public_ip: The address of the plain listener for other daemons, if there is one.
        secure_ip: The address of the encrypted one.
    """

    def __init__(
        self, router: Router, dispatcher: Dispatcher, stop: Callable[[bool], object]
    ) -> None:
        self.router = router
        self.cluster: Callable[[], Cluster] = Cluster
        self.public_ip = self.secure_ip = ""
        self._dispatcher = dispatcher
        self._stop = stop

    def add_to(self, dispatcher: Dispatcher) -> None:
        """Adds the handlers to a table."""
        for handler in (
            self.cluster_status,
            self.public_ip_,
            self.counters,
            self.quitting,
            self.shutdown,
        ):
            dispatcher.on(handler.__name__.strip("_").upper())(handler)

    def cluster_status(self, message: Message, peer: Any) -> None:
        """Tells whether the cluster is up, and whether it is complete.

        Each of the two goes to those only that know it, as far as they have said; the first one
        answers the request. To a service of another computer both go, for its daemon to decide.
        """
        station = getattr(peer, "station", None)
        far = is_passed_on(message, peer)
        serial = message.get("serial")
        for told in self.cluster().messages():
            if far:
                told = told.with_target(message.sent_from_server, message.sent_from_service)
            elif station is not None and not station.understands(told.command):
                continue
            peer.send(told if serial is None else told.with_parameters(serial=serial))
            serial = None

    def public_ip_(self, message: Message, peer: Peer) -> Message:
        """Tells by which addresses other computers reach this daemon."""
        fields = {"public_ip": self.public_ip, "secure_ip": self.secure_ip}
        found = {name: value for name, value in fields.items() if value}
        return message.reply("SERVER_PUBLIC_IP", found)

    def counters(self, message: Message, peer: Any) -> Message | None:
        """Tells what was counted: the router's counts too, as ``router_NAME``."""
        if not is_obeyed(self._dispatcher, message, peer):
            return None
        counts = {
            **self.router.counts,
            "services": len(self.router.stations),
            "servers": len(self.router.remotes),
            "waiting": len(self.router.held),
        }
        fields = {f"router_{name}": count for name, count in counts.items()}
        head = message.reply("COUNTS").with_parameters(fields)
        limit = getattr(peer, "max_line_bytes", None) or peer.server.max_datagram_bytes
        room = limit - len(head.to_line()) - RESERVED_BYTES
        return head.with_parameters(snapshot(peer.communicator).as_message_parameters(room))

    def quitting(self, message: Message, peer: Peer) -> None:
        """A peer ends, and takes nothing more; as in the C++ daemon that is logged alone."""
        logger.info("%s: QUITTING: it ends", peer.name)

    def shutdown(self, message: Message, peer: Peer) -> None:
        """Ends this daemon and those of the other computers."""
        if is_obeyed(self._dispatcher, message, peer):
            logger.info("%s: SHUTDOWN", peer.name)
            self._stop(True)
