"""The daemon's side of one stream: a peer's lines go to the router, and lines for it come back."""

from __future__ import annotations

import logging
import select
from typing import Any, ClassVar, Final

from gevent.monkey import get_original
from greenlet import getcurrent

from ..address import Address
from ..answers import is_senders_mistake
from ..errors import (
    AddressError,
    ConnectionLostError,
    LineTooLongError,
    MessageError,
    NetworkError,
)
from ..framing import Framer
from ..links.message import MessageConnection
from ..message import Message, parse_text
from ..runtime.turns import IDLE
from ..transport.base import StreamTransport
from .reports import OWN_SERVICE
from .router import Router
from .shortcut import ForwardingFramer
from .station import Station

logger = logging.getLogger("edgevent.communicatord")

_poll: Final = get_original("select", "poll")  # a patched select.poll would switch greenlets

STALL_TIMEOUT: Final = 0.25
"""A peer that has room for nothing more, and takes nothing for so long, is given nothing new."""


class RelayedStream(MessageConnection):
    """A stream whose lines go to the router: a peer's that was accepted, or that is dialled.

    A class of its own for each daemon names the router.

    Attributes:
        station: What the router knows of the peer.
    """

    __slots__ = ()

    router: ClassVar[Router]
    unread: ClassVar[str] = ""
    """What the answer to a line that is no message names as its command; empty for nothing."""
    station: Station
    _stalled_at: int  # how much the peer had taken when it was found not to read

    def make_station(self) -> Station:
        """Makes what the router is to know of the peer that has just come."""
        self._stalled_at = -1  # type: ignore[misc]  # its slot is in the classes that are used
        self._filters = True
        station = Station(
            self.deliver,
            self.dispatch_own,
            self.name,
            has_room=self.has_room,
            address=self._peer_address(),
        )
        station.stream = self
        return station

    def _peer_address(self) -> Address | None:
        try:
            return Address.parse(self.address) if self.address else None
        except AddressError:
            return None

    def make_framer(self) -> Framer:
        """Lines, but for those that go on as the bytes that came."""
        return ForwardingFramer(self.max_line_bytes, self)

    # --- from the peer ----------------------------------------------------------------------------

    def take_units(self, units: list[Any]) -> list[Any]:
        """Forwards in the hub what needs no wait; the rest, and what follows it, has its turn."""
        if self._inbox.units or self.ticket != IDLE or not self._enabled or self._eof:
            return units
        count = self.router.forward(units, self.station)
        return units[count:] if count else units

    def process_unit(self, unit: Any) -> None:
        """Routes one line; what is for the daemon itself comes back by ``dispatch``."""
        text = ""
        if unit.__class__ is str:
            text = unit
            try:
                message = parse_text(unit)
            except MessageError as error:
                self._refuse_line(unit, error)
                return
        else:
            message = unit
        if self.router.stopping:
            self._quit(message)
            return
        try:
            self.router.route(message, self.station, text)
        except MessageError as error:
            self._refuse_message(message, error)
        self._handling = None

    def quit_soon(self) -> None:
        """Has all that comes from now on dealt with in turns: the daemon ends."""
        self._filters = False

    def _quit(self, message: Message) -> None:
        """The daemon ends: whoever says anything now is told so, and let go."""
        if message.command != "UNREGISTER":
            self.router.counts["quitting"] += 1
            self.router.reports.answer(message, self.station, "QUITTING", {})
        self.mark_done()

    def dispatch_own(self, message: Message) -> None:
        """Handles a message that is for the daemon itself."""
        definition = self.dispatcher.definitions.get(message.command)
        why = None if definition is None else definition.check(message.parameters)
        if why is None:
            self.dispatch(message)
        else:
            self.router.reports.refuse(message, self.station, why)

    def process_message(self, message: Message) -> bool:
        """Answers what is for the daemon itself and has no handler."""
        self.router.reports.unknown_here(message, self.station)
        return True

    def _message_failed(self, message: Message, error: BaseException) -> None:
        if is_senders_mistake(message, error):
            self.router.reports.refuse(message, self.station, str(error))
        else:
            super()._message_failed(message, error)

    def ended(self, error: NetworkError | None) -> None:
        """Takes note that nothing more will come; a line that is too long is answered before."""
        if isinstance(error, LineTooLongError) and not self._eof:
            self.router.counts["too_long"] += 1
            self._answer_unread(f"a line of more than {self.max_line_bytes} bytes")
            self.outbox.flush()
        super().ended(error)

    def _refuse_message(self, message: Message, error: MessageError) -> None:
        self.router.reports.refuse(message, self.station, str(error))

    def _refuse_line(self, text: str, error: MessageError) -> None:
        before = self.malformed_count
        super()._refuse_line(text, error)
        if self.malformed_count > before and not self._eof:
            self.router.counts["malformed"] += 1
            self._answer_unread(f"malformed line: {error}")

    def _answer_unread(self, why: str) -> None:
        fields = {"command": self.unread, "message": why} if self.unread else {"message": why}
        answer = Message("INVALID", fields)
        self.deliver(answer.with_sender(self.router.server, OWN_SERVICE).to_line())

    # --- to the peer ------------------------------------------------------------------------------

    def send(self, message: Message, **settings: Any) -> None:
        """Sends a message of the daemon's own; it goes out under the daemon's name."""
        if not message.sent_from_service:
            message = message.with_sender(self.router.server, OWN_SERVICE)
        super().send(message, **settings)

    def deliver(self, line: bytes) -> bool:
        """Takes a line for the peer; returns whether it will be sent.

        While too much waits for a peer that still reads, the sender's greenlet waits, and so its
        sender alone; for one that has taken nothing for :data:`STALL_TIMEOUT` nobody waits.
        """
        outbox = self._outbox
        if outbox is None or outbox.error is not None:
            return False
        if outbox.size and outbox.is_full and not self._make_room():
            return False
        try:
            outbox.write(line)
        except NetworkError:
            return False  # it ends, which is told where it does
        return True

    @property
    def received_bytes(self) -> int:
        """How much has come from the peer."""
        return self._in_bytes

    @property
    def may_be_asked(self) -> bool:
        """Whether it is a service that has listed ALIVE, and has room for a question."""
        return self.station.kind == "local" and self.station.lists("ALIVE") and self.has_room()

    @property
    def has_left(self) -> bool:
        """Whether the peer sends nothing more, though what it has sent may still be dealt with."""
        if self._eof or self._transport is None:
            return True
        descriptor: int = getattr(self._transport, "fileno", lambda: -1)()
        if descriptor < 0:
            return False
        poller = _poll()
        poller.register(descriptor, select.POLLRDHUP)  # seen before what was sent is read
        return bool(poller.poll(0))

    def give_up(self, why: str) -> None:
        """Closes the connection to a peer that is there no more."""
        self.ended(ConnectionLostError(f"{self.name}: {why}"))

    def has_room(self) -> bool:
        """Whether a line can be delivered without a wait."""
        outbox = self._outbox
        return outbox is not None and outbox.error is None and not outbox.is_full

    def _make_room(self) -> bool:
        outbox = self.outbox
        while outbox.is_full:
            if getcurrent() is self._turns.hub or outbox.error is not None:
                return False
            before = outbox.sent_bytes
            if before == self._stalled_at:
                return False
            if not outbox.wait(STALL_TIMEOUT) and outbox.sent_bytes == before:
                self._stalled_at = before  # type: ignore[misc]
                logger.warning("%s: it does not read, and gets nothing new", self.station.name)
                return False
        return True


class Relay(RelayedStream):
    """A peer that the daemon has accepted."""

    __slots__ = ("_stalled_at", "station")

    def __init__(self, address: str | Address | StreamTransport | None, **settings: Any) -> None:
        super().__init__(address, **settings)
        self.station = self.make_station()

    def has_ended(self) -> None:
        """Tells the router that the peer is gone."""
        super().has_ended()
        self.router.remove(self.station)
