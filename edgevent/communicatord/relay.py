"""The daemon's side of one stream: a peer's lines go to the router, and lines for it come back."""

from __future__ import annotations

import logging
from typing import Any, ClassVar, Final

from greenlet import getcurrent

from ..address import Address
from ..errors import AddressError, MessageError, NetworkError
from ..links.message import MessageConnection
from ..message import Message, parse_text
from ..runtime.turns import IDLE
from ..transport.base import StreamTransport
from .reports import OWN_SERVICE
from .router import Router
from .station import Station

logger = logging.getLogger("edgevent.communicatord")

STALL_TIMEOUT: Final = 0.25
"""A peer that has room for nothing more, and takes nothing for so long, is given nothing new."""


class Relay(MessageConnection):
    """A peer of the daemon. A class of its own for each daemon names the router.

    Attributes:
        station: What the router knows of the peer.
    """

    __slots__ = ("_stalled_at", "station")

    router: ClassVar[Router]

    def __init__(self, address: str | Address | StreamTransport | None, **settings: Any) -> None:
        self._stalled_at = -1  # how much it had taken when it was found not to read
        super().__init__(address, **settings)
        self.station = Station(
            self.deliver,
            self.dispatch,
            self.name,
            has_room=self.has_room,
            address=self._peer_address(),
        )
        self._filters = True

    def _peer_address(self) -> Address | None:
        try:
            return Address.parse(self.address) if self.address else None
        except AddressError:
            return None

    # --- from the peer ----------------------------------------------------------------------------

    def take_units(self, units: list[Any]) -> list[Any]:
        """Forwards in the hub what needs no wait; the rest, and what follows it, has its turn."""
        if self._inbox.left or self.ticket != IDLE or not self._enabled or self._eof:
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
        try:
            self.router.route(message, self.station, text)
        except MessageError as error:
            self._refuse_message(message, error)
        self._handling = None

    def _refuse_message(self, message: Message, error: MessageError) -> None:
        self.router.counts["refused"] += 1
        logger.warning("%s: refused %.64s: %s", self.station.name, message.command, error)
        fields = {"command": message.command, "message": str(error)}
        self.router.reports.answer(message, self.station, "INVALID", fields)

    def _refuse_line(self, text: str, error: MessageError) -> None:
        before = self.malformed_count
        super()._refuse_line(text, error)
        if self.malformed_count > before and not self._eof:
            self.router.counts["malformed"] += 1
            answer = Message("INVALID", {"message": f"malformed line: {error}"})
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
                self._stalled_at = before
                logger.warning("%s: it does not read, and gets nothing new", self.station.name)
                return False
        return True

    # --- the end ----------------------------------------------------------------------------------

    def has_ended(self) -> None:
        """Tells the router that the peer is gone."""
        super().has_ended()
        self.router.remove(self.station)
