"""What daemons say to each other: CONNECT, ACCEPT, REFUSE, DISCONNECT, GOSSIP, FORGET, ROUTES.

The commands and their parameters are those of the C++ daemon, but for
ROUTES, which only daemons of this kind tell each other.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Final

from ..address import Address
from ..answers import Peer
from ..defaults import is_obeyed
from ..dispatcher import Dispatcher
from ..errors import AddressError, MessageError
from ..message import Message
from .commands import VERSION
from .departures import Departures
from .links import Links
from .neighbors import parse_neighbor, parse_neighbors, place_of
from .remote import REFUSED_PAUSE, RemoteLink, RemoteRelay, RemoteStream
from .router import NameTakenError

logger = logging.getLogger("edgevent.communicatord")

DOUBT_TIMEOUT: Final = 0.25
"""So long it may take until it is seen that the other side of a link is gone, in seconds."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)


class DaemonCommands:
    """The handlers of what other daemons say.

    Args:
        links: Keeps the links.
        dispatcher: The table, which says who may send FORGET.
    """

    def __init__(self, links: Links, dispatcher: Dispatcher) -> None:
        self._links = links
        self._router = links.router
        self._dispatcher = dispatcher
        self._departures = Departures(links.router)
        for handler in (
            self.connect,
            self.accept,
            self.refuse,
            self.disconnect,
            self.gossip,
            self.forget,
            self.routes,
        ):
            dispatcher.on(handler.__name__.upper())(handler)

    # --- the handshake ----------------------------------------------------------------------------

    def connect(self, message: Message, peer: Peer) -> None:
        """A daemon introduces itself; it is told ACCEPT, or REFUSE."""
        links = self._links
        if not isinstance(peer, RemoteRelay) or peer.station.kind != "caller":
            self._refuse(message, peer, "it is for the listener of daemons, and once")
            return
        if message.integer("version") != VERSION:
            self._refuse(
                message, peer, f"version {message['version'][:32]}: {VERSION} was expected"
            )
            return
        server, address, neighbors = self._introduction(message, peer)
        self._let_leave(server, address)
        if peer.is_closed or peer.station.kind != "caller":
            return  # it has not waited for its former link to end
        taken = server == self._router.server or server in self._router.remotes
        refusal: dict[str, str] | None = None
        if taken:
            refusal = {"conflict": "name"}
        elif len(self._router.remotes) >= links.settings.max_links:
            refusal = {}
        if links.stopping or self._router.stopping:
            refusal = {**(refusal or {}), "shutdown": "true"}
        if refusal is not None:
            why = "the name is taken" if taken else "this daemon ends" if refusal else "too many"
            logger.warning("%s: server %s is refused: %s", peer.name, server, why)
            peer.send(Message("REFUSE", refusal))
            peer.mark_done()
            return
        fields = links.introduction(peer)  # before it is one of those that are heard of
        self._adopt(message, peer, server, address)
        peer.send(Message("ACCEPT", fields))
        peer.send(Message("HELP"))
        links.connected(peer, neighbors)

    def accept(self, message: Message, peer: Peer) -> None:
        """The daemon that was dialled takes this one in."""
        if not isinstance(peer, RemoteLink) or peer.station.kind != "caller":
            self._refuse(message, peer, "it is the answer to CONNECT, and nothing else")
            return
        server, address, neighbors = self._introduction(message, peer)
        links = self._links
        if links.crossings.is_one(peer, server):
            links.crossings.wait(peer, server, lambda: self.accept(message, peer))
            return
        if links.is_needless(peer, server):
            return
        try:
            self._adopt(message, peer, server, address)
        except NameTakenError as error:
            peer.drop(str(error), REFUSED_PAUSE)
            return
        peer.send(Message("HELP"))
        links.connected(peer, neighbors)

    def refuse(self, message: Message, peer: Peer) -> None:
        """The daemon that was dialled does not take this one in now."""
        if not isinstance(peer, RemoteLink) or peer.station.kind != "caller":
            self._refuse(message, peer, "it is the answer to CONNECT, and nothing else")
            return
        if message.get("shutdown") == "true":
            peer.drop("it refuses: it ends", REFUSED_PAUSE)
        elif "conflict" not in message:
            peer.drop("it refuses: it has too many links", REFUSED_PAUSE)
        elif not self._links.is_needless(peer, message.sent_from_server):
            peer.drop("it refuses: it has a server of this name", REFUSED_PAUSE)

    def disconnect(self, message: Message, peer: Peer) -> None:
        """A daemon takes leave."""
        if not isinstance(peer, RemoteStream) or peer.station.kind != "remote":
            self._refuse(message, peer, "it is for daemons that are connected")
            return
        self._links.disconnected(peer)

    def _introduction(
        self, message: Message, peer: RemoteStream
    ) -> tuple[str, Address, list[Address]]:
        """Reads who a daemon says that it is, and whom it knows."""
        server = message["server_name"]
        if not _NAME.fullmatch(server):
            raise _wrong(message, "server_name", f"{server[:64]!a} is no name of a server")
        address = self._address(message, peer)
        neighbors = []
        is_tls = Address.parse(peer.address).is_tls
        for word in re.split(r"[\s,]+", message.get("neighbors", "")):
            try:
                if word:
                    neighbors += parse_neighbors(
                        _with_scheme(word, is_tls), allow_loopback=self._links.allow_loopback
                    )
            except AddressError as error:
                logger.info("%s: one of its neighbors is left out: %s", peer.name, error)
        return server, address, neighbors

    def _address(self, message: Message, peer: RemoteStream) -> Address:
        text = _with_scheme(message["my_address"], Address.parse(peer.address).is_tls)
        try:
            return parse_neighbor(text, allow_loopback=self._links.allow_loopback)
        except AddressError as error:
            raise _wrong(message, "my_address", str(error)) from None

    def _adopt(self, message: Message, peer: RemoteStream, server: str, address: Address) -> None:
        station = peer.station
        station.address = address
        station.services = _names(message, "services")
        station.heard_of = _names(message, "heard_of")
        self._router.connect(station, server)

    def _let_leave(self, server: str, address: Address) -> None:
        """Waits for the end of a link with this name whose daemon has gone, and dials again."""
        other = self._router.remotes.get(server)
        if other is None or self._router.stopping:
            return
        before = other.stream.received_bytes
        self._departures.wait(other, DOUBT_TIMEOUT)
        is_silent = other.stream.received_bytes == before
        # Only then: what is on its way would be lost when the line meets a closed socket.
        if self._router.remotes.get(server) is other and is_silent and self._doubt(server, address):
            self._departures.wait(other, DOUBT_TIMEOUT)

    def _doubt(self, server: str, address: Address) -> bool:
        """A daemon that is connected dials, or gossips: has it begun anew, and the link is dead?

        To a computer that knows nothing of the link, whatever is sent makes it break at once.

        Returns:
            Whether something was sent.
        """
        station = self._router.remotes.get(server) or self._links.linked_with(address)
        if station is None or station.stream.has_left:
            return False  # of a peer that has gone a line would destroy what it has sent before
        return self._links.say(station, Message("HELP"))

    # --- who is there -----------------------------------------------------------------------------

    def gossip(self, message: Message, peer: Peer) -> None:
        """A daemon that this one is to dial says that it is there."""
        links = self._links
        if not isinstance(peer, RemoteRelay):
            self._refuse(message, peer, "it is for the listener of daemons")
            return
        if "my_address" not in message:
            self._refuse(message, peer, "my_address was expected, and nothing else is understood")
            return
        address = self._address(message, peer)
        peer.send(Message("RECEIVED"))
        if links.linked_with(address) is not None:
            self._doubt("", address)
            return
        links.add_neighbors((address,))
        links.reach(address)  # it may be a further address of one that is known
        link = links.dialled.get(place_of(address))
        if link is not None:
            link.dial_now()

    def forget(self, message: Message, peer: Any) -> None:
        """A computer is no neighbor any more."""
        station = getattr(peer, "station", None)
        is_daemon = station is not None and station.kind == "remote"
        if not is_daemon and not is_obeyed(self._dispatcher, message, peer):
            return
        text = message["ip"]
        try:
            address = Address.parse(text, default_port=0)
            count = self._links.forget(address, any_port=not address.port)
        except AddressError as error:
            raise _wrong(message, "ip", str(error)) from None
        logger.info("%s: FORGET %s: %d were known", peer.name, address.host, count)
        if "broadcast_hops" not in message:
            further = Message("FORGET", {"ip": text}, server="*", service="communicatord")
            signed = further.with_sender(self._router.server, "communicatord")
            self._router.to_remotes(signed, station, public=True)

    def routes(self, message: Message, peer: Peer) -> None:
        """A daemon tells what it reaches."""
        if isinstance(peer, RemoteStream) and peer.station.kind == "remote":
            self._links.routes.learn(message, peer.station)
        else:
            self._refuse(message, peer, "it is for daemons that are connected")

    def _refuse(self, message: Message, peer: Any, why: str) -> None:
        reports, station = self._router.reports, getattr(peer, "station", None)
        why = f"{message.command}: {why}"
        if station is not None:
            reports.refuse(message, station, why)
            return
        reports.note_refused(message, peer.name, why)
        if peer.answers_errors:
            peer.send(message.reply("INVALID", {"command": message.command, "message": why}))


def _with_scheme(text: str, is_tls: bool) -> str:
    return f"tls://{text}" if is_tls and "://" not in text else text


def _names(message: Message, parameter: str) -> frozenset[str]:
    names = (name.strip() for name in message.get(parameter, "").split(","))
    return frozenset(name for name in names if _NAME.fullmatch(name))


def _wrong(message: Message, parameter: str, why: str) -> MessageError:
    return MessageError(
        f"{message.command}: {parameter}: {why}", command=message.command, parameter=parameter
    )
