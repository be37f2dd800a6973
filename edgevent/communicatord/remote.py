"""Streams between daemons: those that were accepted, those that are dialled, and gossip."""

from __future__ import annotations

import logging
from typing import Any, ClassVar, Final, Protocol

from ..address import Address
from ..backoff import Backoff
from ..dispatcher import Dispatcher
from ..errors import ConnectError, ConnectionLostError, MessageError, NetworkError
from ..links.permanent import PermanentConnection
from ..message import Message, parse_text
from ..tls import TlsOptions
from ..transport.base import StreamTransport
from .relay import Relay, RelayedStream
from .reports import OWN_SERVICE
from .station import Station

logger = logging.getLogger("edgevent.communicatord")

MAX_PAUSE: Final = 60.0
"""The longest pause between attempts to reach another daemon that is not there, in seconds."""
GOSSIP_DELAY: Final = 5.0
"""A daemon that is to dial is told after so many seconds that this one is there."""
ANSWER_TIMEOUT: Final = 10.0
"""For so many seconds the answer to CONNECT or GOSSIP is waited for."""
REFUSED_PAUSE: Final = 300.0
"""A daemon that ends, or does not take this one in, is dialled again after so many seconds."""

_FOR_SERVICES: Final = frozenset(("REGISTER", "UNREGISTER"))
_OF_DAEMONS: Final = frozenset(
    (
        "ACCEPT",
        "COMMANDS",
        "CONNECT",
        "DISCONNECT",
        "GOSSIP",
        "LOADAVG",
        "REFUSE",
        "REGISTER_FOR_LOADAVG",
        "ROUTES",
        "UNREGISTER_FROM_LOADAVG",
    )
)
"""What is about the link itself: a service of the other computer may not say it."""


class Manager(Protocol):
    """What the streams need of what keeps them."""

    @property
    def allow_loopback(self) -> bool:
        """Whether links may be on loopback."""

    def located(self, stream: RemoteLink | Gossip) -> bool:
        """A neighbor was reached, by its name if it has one; whether the stream goes on."""

    def linked(self, link: RemoteLink) -> None:
        """A link that was dialled is up: CONNECT is due."""

    def is_needless(self, stream: RemoteLink | Gossip, server: str) -> bool:
        """Ends a stream with a daemon that is linked already; returns whether that is so."""

    def listed(self, station: Station) -> None:
        """A peer has said which commands it takes."""

    def unreachable(self, address: Address) -> None:
        """A daemon could not be reached."""

    def disconnected(self, stream: RemoteStream) -> None:
        """A daemon has taken leave."""


class RemoteStream(RelayedStream):
    """A stream to another daemon, whichever of the two has dialled."""

    __slots__ = ()

    manager: ClassVar[Manager]
    unread = "?"  # a C++ daemon ends when it is told INVALID without a command
    _early: Message | None  # a REGISTER_FOR_LOADAVG that came before the two were connected

    @property
    def may_control(self) -> bool:
        """Whether STOP and the like are obeyed that come over it.

        That is so where this side has checked the certificate of the other one, whichever of the
        two has dialled. A plain link proves nothing, on loopback neither: who listens or dials
        there in a daemon's place may be any user, or a tunnel from elsewhere.
        """
        session = self.tls
        return self._allow_control or (session is not None and session.is_verified)

    def make_station(self) -> Station:
        """Makes what the router is to know of the peer: a daemon that has said nothing yet."""
        station = super().make_station()
        station.introduces = True
        return station

    def take_units(self, units: list[Any]) -> list[Any]:
        """Forwards in the hub what needs no wait, once the two daemons are connected."""
        return super().take_units(units) if self.station.kind == "remote" else units

    def process_unit(self, unit: Any) -> None:
        """Routes one line; before the two are connected, nothing but what is for the daemon."""
        if self.station.kind != "remote":
            try:
                message = parse_text(unit) if isinstance(unit, str) else unit
            except MessageError:
                pass  # which is answered below
            else:
                if not self._is_for_daemon(message):
                    why = "a daemon introduces itself with CONNECT first"
                    self.router.reports.refuse(message, self.station, why)
                    return
        super().process_unit(unit)

    def _is_for_daemon(self, message: Message) -> bool:
        here = ("", ".", "*", self.router.server)
        return message.service in ("", OWN_SERVICE) and message.server in here

    def _quit(self, message: Message) -> None:
        if message.command == "CONNECT":  # which is refused with the reason
            self.dispatch(message)
        elif self.station.kind == "remote":  # QUITTING would end a service that has sent it
            self.router.reports.undelivered(message, self.station, "this daemon ends")
            self.mark_done()
        else:
            super()._quit(message)

    def dispatch(self, message: Message) -> None:
        """Handles what is for the daemon itself."""
        command = message.command
        if command in _FOR_SERVICES:
            why = f"{command} is for the listeners of services, and this one is for daemons"
            self.router.reports.refuse(message, self.station, why)
        elif command in _OF_DAEMONS and not self._is_of_daemon(message):
            why = f"{command} is for the daemon of {self.station.server} itself to say"
            self.router.reports.refuse(message, self.station, why)
        elif command == "REGISTER_FOR_LOADAVG" and self.station.kind == "caller":
            self._early = message  # type: ignore[misc]  # C++ daemons send it before ACCEPT
        else:
            super().dispatch(message)
            if command == "COMMANDS":
                self.manager.listed(self.station)
            elif command == "SHUTDOWN" and self._takes_leave(message):
                self.manager.disconnected(self)

    def _takes_leave(self, message: Message) -> bool:
        """Whether the other daemon ends, and this one, which does not obey it, goes on."""
        is_linked = self.station.kind == "remote" and not self.router.stopping
        return is_linked and self._is_of_daemon(message)

    def _is_of_daemon(self, message: Message) -> bool:
        """Whether the other daemon says it, and not somebody whose messages it passes on."""
        if self.station.kind != "remote":
            return True
        service, server = message.sent_from_service, message.sent_from_server
        if service:
            return service == OWN_SERVICE and server in ("", self.station.server)
        # What is passed on has a target; so has the answer to HELP, which C++ daemons do not sign.
        return not message.service or message.command == "COMMANDS"

    def connected(self) -> None:
        """The two are connected now: what came too early is handled."""
        early = self._early
        self._early = None  # type: ignore[misc]  # its slot is in the classes below
        if early is not None:
            self.dispatch(early)


class RemoteRelay(RemoteStream, Relay):
    """Another daemon that was accepted."""

    __slots__ = ("_early",)

    def __init__(self, address: str | Address | StreamTransport | None, **settings: Any) -> None:
        self._early = None
        super().__init__(address, **settings)
        peer = self._peer_address()
        self.name = f"remote communicator (in): {peer.endpoint if peer else self.address}"
        self.station.label = self.name
        self.station.may_control = self.may_control

    def process_connected(self) -> None:
        """Closes the connection when it is plain and from outside the private networks."""
        self.timeout_delay = ANSWER_TIMEOUT
        peer = self._peer_address()
        if peer is None or peer.is_tls or peer.is_private:
            return
        if not (peer.is_loopback and self.manager.allow_loopback):
            self.router.counts["refused"] += 1
            logger.warning("%s: refused: plain links are for private networks", self.name)
            self.close()

    def process_timeout(self) -> None:
        """Closes the connection of a stranger, who would take a daemon's place."""
        self.timeout_delay = None
        if self.station.kind == "caller":
            why = f"no CONNECT within {ANSWER_TIMEOUT:g} s"
            self.ended(ConnectionLostError(f"{self.name}: {why}"))


class Retry(Backoff):
    """The pauses between attempts to reach one daemon, which may say how long to wait.

    Attributes:
        pause: How long the next pause is, in any case; ``None`` goes on in the usual series.
    """

    __slots__ = ("pause",)

    def __init__(self, **settings: Any) -> None:
        super().__init__(maximum=MAX_PAUSE, **settings)
        self.pause: float | None = None

    def next(self) -> float:
        """Gives the next pause in seconds."""
        pause, self.pause = self.pause, None
        return super().next() if pause is None else pause

    def first(self) -> float:
        """Gives the pause before the first attempt, in seconds."""
        pause, self.pause = self.pause, None
        return super().first() if pause is None else pause


class RemoteLink(RemoteStream, PermanentConnection):
    """Another daemon that is dialled, again and again until this link is closed.

    Args:
        neighbor: Where it is.
        tls: What is asked of TLS, for an address of TLS.
        allow_control: Whether STOP and the like are obeyed that come over it in plain text.
    """

    __slots__ = ("_early", "_stalled_at", "neighbor", "retry", "station")

    def __init__(
        self,
        neighbor: Address,
        dispatcher: Dispatcher,
        tls: TlsOptions | None,
        *,
        allow_control: bool = False,
    ) -> None:
        self._early = None
        self.neighbor = neighbor
        self.retry = Retry()
        super().__init__(
            neighbor,
            dispatcher,
            pauses=self.retry,
            tls=tls if neighbor.is_tls else None,
            name=f"remote communicator (out): {neighbor.endpoint}",
            keep_running=False,
            allow_control=allow_control and not neighbor.is_tls,
        )
        self.station = self.make_station()

    @property
    def peer(self) -> str:
        """The address that it was reached at, as text: a name may lead to several."""
        return "" if self._transport is None else self._transport.peer

    def open(self, transport: StreamTransport) -> None:
        """Takes a transport that was dialled; the router knows the peer anew."""
        super().open(transport)
        self._early = None
        self.station = self.make_station()
        self.station.may_control = self.may_control

    def process_connected(self) -> None:
        """Introduces this daemon."""
        if self.manager.located(self):
            self.expect_introduction(ANSWER_TIMEOUT)
            self.manager.linked(self)

    def process_connection_failed(self, error: ConnectError) -> None:
        """Tells the services that the other daemon cannot be reached."""
        self.manager.unreachable(self.neighbor)

    def process_disconnected(self) -> None:
        """Tells the router that the peer is gone."""
        self.router.remove(self.station)

    def has_ended(self) -> None:
        """Tells the router that the peer is gone."""
        super().has_ended()
        self.router.remove(self.station)

    def dispatch(self, message: Message) -> None:
        """Handles what is for the daemon itself; that CONNECT is not taken ends the connection."""
        if message.command in ("INVALID", "UNKNOWN") and self.station.kind == "caller":
            why = message.get("message", "")[:200]
            self.drop(f"it answered {message.command} {why!a}", REFUSED_PAUSE)
        else:
            super().dispatch(message)

    def drop(self, why: str, pause: float) -> None:
        """Ends the connection that stands, and dials again after so many seconds."""
        self.retry.pause = pause
        self.ended(ConnectionLostError(f"{self.name}: {why}"))

    def dial_now(self) -> None:
        """Dials at once, unless the link is up or is being dialled."""
        if self._transport is None and self._dialler is None and not self._closed:
            self.retry.reset()
            self._dial_after(0.0)


class Gossip(PermanentConnection):
    """Tells a daemon that is to dial that this one is there, until the two are connected.

    Args:
        neighbor: The daemon that is told.
        my_address: What it is told.
        longest: The longest pause between two times, in seconds.
        delay: The pause before the first one.
        tls: What is asked of TLS, for an address of TLS.
        manager: Keeps it.
    """

    __slots__ = ("_manager", "_said", "neighbor")

    def __init__(
        self,
        neighbor: Address,
        my_address: str,
        longest: float,
        delay: float,
        tls: TlsOptions | None,
        manager: Manager,
    ) -> None:
        self.neighbor = neighbor
        self._said = Message("GOSSIP", {"my_address": my_address})
        self._manager = manager
        table = Dispatcher()
        table.on("RECEIVED")(self.received)
        super().__init__(
            neighbor,
            table,
            pauses=_doubled(delay, longest),
            tls=tls if neighbor.is_tls else None,
            name=f"gossip: {neighbor.endpoint}",
            keep_running=False,
        )

    @property
    def peer(self) -> str:
        """The address that it was reached at, as text: a name may lead to several."""
        return "" if self._transport is None else self._transport.peer

    def process_connected(self) -> None:
        """Tells it."""
        if not self._manager.located(self):
            return
        self.expect_introduction(ANSWER_TIMEOUT)
        try:
            self.send(self._said)
        except NetworkError as error:
            logger.debug("%s: %s", self.name, error)  # it ends, which is seen where it does

    def received(self, message: Message, peer: Any) -> None:
        """It has been told; it is told again later, if it has not dialled by then."""
        logger.debug("%s: received", self.name)
        if not self._manager.is_needless(self, message.sent_from_server):
            self.ended(None)

    def finish(self) -> None:
        """That was all for this time."""
        if self._draining:
            self.close()
            return
        self._let_go()
        self._dial_later()

    def process_connection_failed(self, error: ConnectError) -> None:
        """Tells the services that the other daemon cannot be reached."""
        self._manager.unreachable(self.neighbor)


def _doubled(delay: float, longest: float) -> Backoff:
    first = max(delay, 0.01)
    pauses = [-first]
    while first < longest:
        first = min(2 * first, longest)
        pauses.append(first)
    return Backoff(pauses if len(pauses) > 1 else [-longest], jitter=True)
