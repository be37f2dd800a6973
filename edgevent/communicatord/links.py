"""The links of this computer's daemon to those of others: who is dialled, told, and let go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from ..address import Address
from ..communicator import Communicator
from ..dispatcher import Dispatcher
from ..errors import AddressError, ConnectionLostError, NetworkError, OptionError
from ..links.server import Server
from ..message import Message
from ..transport.base import close_quietly
from ..transport.inherited import served_address
from .broadcasting import ROUTES
from .cluster import ClusterWatch
from .crossings import Crossings
from .link_settings import PLAIN_NAME, SECURE_NAME, Claim, LinkSettings, check_plain
from .neighbors import Neighbors, Place, is_named, key_of, parse_neighbor, place_of, written
from .remote import REFUSED_PAUSE, Gossip, RemoteLink, RemoteRelay, RemoteStream
from .reports import OWN_SERVICE
from .router import Router
from .routes import Routes
from .station import Station

logger = logging.getLogger("edgevent.communicatord")

ANNOUNCE_DELAY: Final = 0.02
"""What changes within so many seconds is told to the other daemons together."""

_LIST_ROOM: Final = 20_000  # characters: three such lists fit a line; ROUTES tells the rest


class Links:
    """Keeps the links to other daemons. Of two daemons the one with the greater address dials.

    Args:
        router: Knows who is connected.
        dispatcher: The table of the daemon's own commands.

    Attributes:
        settings: What the configuration says.
        neighbors: The daemons that are known.
        routes: What is behind them.
        cluster: How many of them are connected.
        servers: The listeners for other daemons.
        dialled: The links that this daemon dials.
        gossips: The daemons that are told of this one until they dial.
        crossings: Those of them that wait for the end of another one.
        on_connected: Called with each daemon that is connected.
        stopping: Whether the end has begun.
    """

    def __init__(self, router: Router, dispatcher: Dispatcher) -> None:
        self.router = router
        self.settings = LinkSettings()
        self.neighbors = Neighbors()
        self.routes = Routes(router)
        self.cluster = ClusterWatch(router, lambda: len(self.neighbors))
        self.servers: list[Server] = []
        self.dialled: dict[Place, RemoteLink] = {}
        self.gossips: dict[Place, Gossip] = {}
        self.on_connected: list[Callable[[Station], object]] = []
        self.stopping = False
        self._dispatcher = dispatcher
        self._communicator: Communicator | None = None
        self._plain: Address | None = None
        self._secure: Address | None = None
        self._announces = False
        self._said_goodbye: set[Station] = set()
        shared = {"__slots__": (), "router": router, "manager": self}
        self.relay = type("RemoteRelay", (RemoteRelay,), shared)
        self._link = type("RemoteLink", (RemoteLink,), shared)
        router.on_left.append(self._left)
        self.crossings = Crossings(router)
        router.on_changed.append(self._changed)

    @property
    def allow_loopback(self) -> bool:
        """Whether links may be on loopback."""
        return self.settings.allow_loopback

    @property
    def plain_address(self) -> str:
        """The ``ip:port`` of the plain listener, as others are told; empty without one."""
        return "" if self._plain is None else self._plain.endpoint

    @property
    def secure_address(self) -> str:
        """The ``ip:port`` of the listener with TLS, as others are told; empty without one."""
        return "" if self._secure is None else self._secure.endpoint

    @property
    def my_address(self) -> str:
        """The address that this daemon goes by; empty without a listener."""
        return self.plain_address or self.secure_address

    # --- the start and the end --------------------------------------------------------------------

    def start(
        self,
        communicator: Communicator,
        settings: LinkSettings,
        claim: Claim = lambda name, address: None,
    ) -> None:
        """Opens the listeners, and begins to dial. May switch greenlets.

        Args:
            claim: Gives a socket for a listener, if it is open already.

        Raises:
            ListenError: An address cannot be listened on.
            OptionError: This daemon's own address is none that others reach.
            CertificateFileError: A certificate or key cannot be used.
            UsageError: What TLS needs is missing.
        """
        self.settings, self._communicator = settings, communicator
        loopback = settings.allow_loopback
        self.neighbors = Neighbors(settings.folder, allow_loopback=loopback)
        self.cluster = ClusterWatch(self.router, lambda: len(self.neighbors), settings.folder)
        for listen in (settings.plain, settings.secure):
            if listen is not None:
                self.servers.append(communicator.add_connection(self._listen(listen, claim)))
        self._find_own()
        self.router.is_linked = bool(self.servers)
        own = self._plain or self._secure
        if own is not None:
            self.router.own_address = own.host
            self.neighbors.own = own
        self.neighbors.configured = list(settings.neighbors)
        found = [*self.neighbors.load(), *self.neighbors.add(settings.neighbors)]
        self.neighbors.save()
        for address in found:
            self.reach(address)
        self.cluster.update()

    def _listen(self, address: Address, claim: Claim) -> Server:
        settings = self.settings
        name = SECURE_NAME if address.is_tls else PLAIN_NAME
        socket = claim(name, address)
        try:
            if socket is not None and not address.is_tls:
                found = served_address(address, socket)
                check_plain(found, allow_loopback=settings.allow_loopback)
            return Server(
                address,
                self.relay,
                dispatcher=self._dispatcher,
                name=f"{name} listener",
                backlog=settings.backlog,
                allow_control=settings.allow_control and not address.is_tls,
                max_connections=2 * settings.max_links,  # those that gossip come and go besides
                must_introduce=True,
                tls=settings.tls if address.is_tls else None,
                socket=socket,
            )
        except BaseException:
            if socket is not None:
                close_quietly(socket)
            raise

    def _find_own(self) -> None:
        """Finds the addresses that others are told."""
        stated, loopback = self.settings.my_address, self.settings.allow_loopback
        for server in self.servers:
            listens = Address.parse(server.addresses[0])
            if stated is not None and (listens.is_any or stated.scheme == listens.scheme):
                port = stated.port if stated.scheme == listens.scheme else listens.port
                listens = Address(listens.scheme, stated.host, port or listens.port)
            try:
                listens = parse_neighbor(listens, allow_loopback=loopback)
            except AddressError as error:
                raise OptionError(f"my-address: {error}") from None
            if listens.is_tls:
                self._secure = listens
            else:
                self._plain = listens

    def reload(self, neighbors: Iterable[Address]) -> None:
        """Reads the files of certificates again, and takes further neighbors."""
        if self.settings.tls is not None:
            self.settings.tls.reload()
        if self._communicator is not None:
            self.neighbors.configured += self.neighbors.add(neighbors)
            for address in neighbors:
                self.reach(address)
            self.cluster.update()

    def stop(self, quitting: bool = False) -> None:
        """Takes leave of all other daemons: with SHUTDOWN when they are to end too."""
        if self.stopping:
            return
        self.stopping = True
        for server in self.servers:
            server.close()
        for gossip in tuple(self.gossips.values()):
            gossip.close()
        last = Message("SHUTDOWN" if quitting else "DISCONNECT")
        for station in tuple(self.router.remotes.values()):
            self.say(station, last)
            station.stream.mark_done()
        for link in tuple(self.dialled.values()):
            link.mark_done()

    # --- who is reached ---------------------------------------------------------------------------

    def own_for(self, address: Address) -> Address | None:
        """Gives the address that a daemon with this one is told."""
        chosen = (self._secure, self._plain) if address.is_tls else (self._plain, self._secure)
        return chosen[0] or chosen[1]

    def add_neighbors(self, addresses: Iterable[Address]) -> None:
        """Takes note of further daemons, and reaches for those that are new."""
        for address in self.neighbors.add(addresses):
            self.reach(address)
        self.cluster.update()

    def reach(self, address: Address, delay: float | None = None) -> None:
        """Dials a daemon, or tells it to dial this one, unless they are connected.

        Args:
            delay: Before the first time, in seconds; by default it is dialled at once, or told
                after the time of the settings.
        """
        address = self.neighbors.located_at(address)
        own, communicator = self.own_for(address), self._communicator
        if own is None or communicator is None or self.stopping or self.linked_with(address):
            return
        place, tls = key_of(address), self.settings.tls
        where = self.neighbors.dialled_as(address)
        if is_named(address) or place_of(own) > place:
            if place not in self.dialled:
                link = self._link(
                    where, self._dispatcher, tls, allow_control=self.settings.allow_control
                )
                link.neighbor, link.retry.pause = address, delay
                self.dialled[place] = communicator.add_connection(link)
        elif place not in self.gossips:
            longest = self.settings.max_gossip_pause
            if delay is None:
                delay = min(self.settings.gossip_delay, longest)
            gossip = Gossip(where, written(own), longest, delay, tls, self)
            gossip.neighbor = address
            self.gossips[place] = communicator.add_connection(gossip)

    def linked_with(self, address: Address) -> Station | None:
        """Gives the daemon with this address, if it is connected."""
        place = key_of(address)
        for station in self.router.remotes.values():
            if station.address is not None and place_of(station.address) == place:
                return station
        return None

    def forget(self, address: Address, *, any_port: bool) -> int:
        """Forgets a daemon, or all of one computer; returns how many were known."""
        gone = self.neighbors.remove(address, any_port=any_port)
        for one in gone:
            place, station = key_of(one), self.linked_with(one)
            streams = self.dialled.pop(place, None), self.gossips.pop(place, None)
            if station is not None:
                self._said_goodbye.add(station)
                self.say(station, Message("DISCONNECT"))
                station.stream.mark_done()
            for stream in filter(None, streams):
                stream.close()
        if gone:
            self.cluster.update()
        return len(gone)

    # --- what the streams and the commands tell ---------------------------------------------------

    def say(self, station: Station, message: Message) -> bool:
        """Sends a daemon a message of this one's."""
        return station.send(message.with_sender(self.router.server, OWN_SERVICE))

    def tell_here(self, command: str, **fields: str) -> None:
        """Tells the services of this computer."""
        self.router.broadcast(Message(command, fields, service="."))

    def introduction(self, stream: RemoteStream) -> dict[str, str]:
        """Gives what CONNECT and ACCEPT say of this daemon."""
        address = Address.parse(stream.address)
        own = self.own_for(address)
        configured = [
            one
            for one in self.neighbors.configured
            if one.is_tls == address.is_tls and not is_named(one)
        ]
        here = {*self.router.known, *self.router.stations}
        remote: set[str] = set()
        for station in self.router.remotes.values():
            remote |= station.services
        fields = {
            "heard_of": _listed(sorted(remote - here)),
            "my_address": "" if own is None else written(own),
            "neighbors": _listed(map(written, configured)),
            "server_name": self.router.server,
            "services": _listed(sorted(here)),
        }
        return {name: value for name, value in fields.items() if value}

    def located(self, stream: RemoteLink | Gossip) -> bool:
        """A neighbor was reached: one that has a name goes by the address that this has led to.

        A name may lead elsewhere at each attempt, and who dials depends on the address.

        Returns:
            Whether the stream goes on; else another one has taken its place, or none is needed.
        """
        target = Address.parse(stream.address)
        if not is_named(target):
            return True
        peer = Address.parse(stream.peer)
        found = Address(target.scheme, peer.host, peer.port)
        own, streams = self.own_for(found), self._streams_of(stream)
        former, place = key_of(stream.neighbor), place_of(found)
        assert own is not None
        try:
            parse_neighbor(found, allow_loopback=self.allow_loopback)
        except AddressError as error:
            logger.warning("%s: refused: %s", stream.name, error)
            stream.ended(ConnectionLostError(f"{stream.name}: refused: {error}"))
            return False
        is_known = former != place and (place in self.dialled or place in self.gossips)
        if former != place:
            self.neighbors.located(stream.neighbor, found)
            self.cluster.update()
        is_wrong = isinstance(stream, RemoteLink) != (place_of(own) > place)
        if is_known or is_wrong or self.linked_with(found) is not None:
            streams.pop(former, None)
            stream.close()
            if place != place_of(own):
                self.reach(found)
            return False
        streams[place] = streams.pop(former, stream)
        stream.neighbor = found
        return True

    def _streams_of(self, stream: RemoteLink | Gossip) -> dict[Place, Any]:
        return self.dialled if isinstance(stream, RemoteLink) else self.gossips

    def linked(self, link: RemoteLink) -> None:
        """A link that was dialled is up: it introduces this daemon."""
        fields = {**self.introduction(link), "version": "1"}
        try:
            link.send(Message("CONNECT", dict(sorted(fields.items()))))
        except NetworkError as error:
            logger.debug("%s: %s", link.name, error)  # it ends, which is told where it does

    def connected(self, stream: RemoteStream, neighbors: Iterable[Address]) -> None:
        """Two daemons are connected: the neighbors of the other one become this one's as well."""
        station = stream.station
        assert station.address is not None
        logger.info("%s: connected with server %s", stream.name, station.server)
        place = place_of(station.address)
        if isinstance(stream, RemoteLink):
            dialled = key_of(stream.neighbor)
            other = self.dialled.get(place)
            if other is not None and other is not stream:  # which is needed when this one is lost
                self.dialled.pop(place).close()
                self.neighbors.merge(stream.neighbor, station.address)
            elif dialled != place:  # it has several addresses, and this is the one it goes by
                self.neighbors.located(stream.neighbor, station.address)
                self.dialled[place] = self.dialled.pop(dialled, stream)
                stream.neighbor = station.address
        self.neighbors.goes_by(station.address)
        if (gossip := self.gossips.pop(place, None)) is not None:
            gossip.close()
        self.tell_here("NEW_REMOTE_CONNECTION", server_name=station.server)
        self.add_neighbors((station.address, *(neighbors if self.settings.learns else ())))
        stream.connected()
        for call in self.on_connected:
            call(station)

    def is_needless(self, stream: RemoteLink | Gossip, server: str) -> bool:
        """Ends a stream with a daemon that is linked already, until that link is lost."""
        station = self.router.remotes.get(server)
        if station is None or station.address is None:
            return False
        logger.info("%s: ended: server %s is linked by %s", stream.name, server, station.label)
        streams, key = self._streams_of(stream), key_of(stream.neighbor)
        if streams.get(key) is stream:
            del streams[key]
        stream.close()
        if key != place_of(station.address):
            self.neighbors.merge(stream.neighbor, station.address)
            self.cluster.update()
        return True

    def listed(self, station: Station) -> None:
        """A daemon has said which commands it takes: one like this is told what is reached."""
        self._announce_to(station)

    def unreachable(self, address: Address) -> None:
        """Tells the services that a daemon cannot be reached."""
        self.tell_here("UNREACHABLE", who=written(address))

    def disconnected(self, stream: RemoteStream) -> None:
        """A daemon has taken leave."""
        self._said_goodbye.add(stream.station)
        self.router.remove(stream.station)
        if isinstance(stream, RemoteLink):
            stream.drop("it has taken leave", REFUSED_PAUSE)
        else:
            stream.mark_done()

    def _left(self, station: Station) -> None:
        if station.kind != "remote":
            return
        said_goodbye = station in self._said_goodbye
        self._said_goodbye.discard(station)
        self.routes.forget(station)
        if self.stopping:
            return
        logger.info("server %s is not connected any more", station.server)
        command = "DISCONNECTED" if said_goodbye else "HANGUP"
        self.tell_here(command, server_name=station.server)
        self.cluster.update()
        if (address := station.address) is not None and address in self.neighbors:
            for one in (address, *self.neighbors.further(address)):
                self.reach(one, REFUSED_PAUSE if said_goodbye else None)

    # --- what is behind the neighbors -------------------------------------------------------------

    def _changed(self) -> None:
        communicator = self._communicator
        if self._announces or communicator is None or not self.router.remotes or self.stopping:
            return
        self._announces = True
        communicator.after(ANNOUNCE_DELAY, self._announce, keep_running=False)

    def _announce(self) -> None:
        self._announces = False
        for station in tuple(self.router.remotes.values()):
            self._announce_to(station)

    def _announce_to(self, station: Station) -> None:
        if station.kind == "remote" and station.lists(ROUTES) and not self.stopping:
            for message in self.routes.news_for(station):
                self.say(station, message)


def _listed(words: Iterable[str]) -> str:
    """Puts words together, as many as a list of CONNECT may have."""
    text = ",".join(words)
    return text if len(text) <= _LIST_ROOM else text[: text.rindex(",", 0, _LIST_ROOM)]
