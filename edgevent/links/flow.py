"""The two flows of a connection over a stream of bytes: what comes, and what leaves."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any, cast

from .. import limits
from ..address import Address
from ..arguments import check_values, refuse_names
from ..connection import Owner
from ..errors import (
    ClosedError,
    ConnectionLostError,
    LineTooLongError,
    UsageError,
    connection_lost,
)
from ..framing import Framer
from ..limits import READ_BYTES
from ..runtime.clock import SYSTEM_CLOCK, Clock
from ..runtime.datagram_outbox import DatagramOutbox
from ..runtime.inbox import Inbox
from ..runtime.outbox import Outbox
from ..runtime.record_outbox import RecordOutbox
from ..runtime.room import WhenFull
from ..runtime.turns import IDLE, Turns
from ..tls import TlsMode, TlsOptions
from ..transport.base import StreamTransport
from ..transport.dial import dial
from ..transport.fifo import Access
from ..transport.record import RecordTransport
from ..transport.stream import SocketTransport
from .ending import Ending

logger = logging.getLogger("edgevent")


class Flow(Ending):
    """Bytes come in, are cut into units, and wait in the inbox; what is sent leaves by the outbox.

    Who takes the units is said in :mod:`edgevent.links.stream`.
    """

    __slots__ = ("_filters", "_framer", "_inbox", "_outbox")

    def __init__(
        self,
        address: str | Address | StreamTransport | None,
        *,
        connect_timeout: float = limits.CONNECT_TIMEOUT,
        tls: TlsOptions | TlsMode | None = None,
        access: Access | None = None,
        clock: Clock = SYSTEM_CLOCK,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
        **unknown: Any,
    ) -> None:
        if unknown:
            refuse_names(type(self), unknown)
        if address is None or isinstance(address, (str, Address)):  # else a server has checked them
            given = {"connect_timeout": connect_timeout, "name": name, "priority": priority}
            check_values(type(self), Flow.__init__, given)
        super().__init__(name=name, priority=priority, keep_running=keep_running)
        self._turns = Turns.current()
        self._use_clock = clock
        self._transport = None
        self._in_bytes = self._in_units = 0
        self._out_before = (0, 0)
        self._since = 0.0
        self._outbox: Outbox | None = None
        self._framer: Framer | None = None
        self._inbox = Inbox()
        self._filters = False  # whether take_units has something to do
        self._paused = self._introduction = True
        self._eof = self._draining = self._parked = False
        self._error = self._receiver = self._server = self._conversation = None
        if isinstance(address, (str, Address)):
            target = Address.parse(address)
            self.open(dial(target, connect_timeout, clock=clock, tls=tls, access=access))
        elif address is not None:
            if not hasattr(address, "watch_read"):
                Address.parse(cast(str, address))  # which says what was expected
            self.open(address)

    ends_with_newline = False
    """Whether a unit is written with a newline behind it, which a record does not need."""

    # --- for the layers above ---------------------------------------------------------------------

    def make_framer(self) -> Framer:
        """Returns the framer that cuts this layer's units."""
        raise NotImplementedError

    def make_record_framer(self) -> Framer:
        """Returns the framer for a transport that keeps the boundaries of units."""
        return self.make_framer()

    def take_units(self, units: list[Any]) -> list[Any]:
        """Called in the hub with what has come; returns what goes into the inbox."""
        return units

    # --- opening ----------------------------------------------------------------------------------

    def open(self, transport: StreamTransport) -> None:
        """Takes a connected transport; what it brings is read once somebody asks for it."""
        if self._outbox is not None:
            self._keep_outbox_counts(self._outbox)
        self._transport = transport
        self._since = monotonic()
        self._eof, self._error = False, None
        if transport.keeps_records:
            self._framer = self.make_record_framer()
            self._outbox = (DatagramOutbox if transport.is_datagram else RecordOutbox)(
                transport,
                self._turns,
                self,
                clock=self._use_clock,
                pack=cast(RecordTransport, transport).pack,
                drops_newline=self.ends_with_newline,
            )
        else:
            self._framer = self.make_framer()
            self._outbox = Outbox(transport, self._turns, self, clock=self._use_clock)

    def attach(self, communicator: Owner) -> None:
        """Called by the communicator."""
        self._use_clock = communicator.clock
        if self._outbox is not None:
            self._outbox.clock = communicator.clock
        super().attach(communicator)

    @property
    def _clock(self) -> Clock:
        return self._use_clock

    def _owning_turns(self) -> Turns:
        return self._turns

    def _enabled_changed(self, enabled: bool) -> None:
        if enabled:
            self._resume_reading()
        else:
            self._pause_reading()

    def _resume_reading(self) -> None:
        if self._paused and self._transport is not None and not self._eof:
            self._paused = False
            self._transport.watch_read(self._readable)

    # --- what users see ---------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether there is a transport that has not ended."""
        return self._transport is not None and not self._closed and not self._eof

    @property
    def when_full(self) -> WhenFull:
        """What a send does when too much waits: ``wait``, ``raise`` or ``drop``."""
        return self.outbox.when_full

    @when_full.setter
    def when_full(self, when_full: WhenFull) -> None:
        if when_full not in ("wait", "raise", "drop"):
            raise UsageError(f"{when_full!r}: 'wait', 'raise' or 'drop' was expected")
        self.outbox.when_full = when_full

    @property
    def outbox(self) -> Outbox:
        """What is to leave; raises :class:`ClosedError` when there is no connection."""
        if self._outbox is None:
            raise ClosedError(f"{self.name} is not connected")
        return self._outbox

    def write(self, data: bytes) -> None:
        """Sends bytes. Blocks the calling greenlet while too much waits for the peer.

        Raises:
            ConnectionLostError: The connection broke.
            ClosedError: This side has closed it.
            QueueFullError: Too much waits, and the caller is the hub or wants no wait.
            UsageError: These are no bytes.
        """
        self._turns.check()
        if type(data) is not bytes:  # what waits must neither change nor be of another kind
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise UsageError(f"{self.name}: bytes were expected, not a {type(data).__name__}")
            data = bytes(data)
        self.outbox.write(data)

    # --- in the hub -------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            transport, framer = self._transport, self._framer
            if transport is None or framer is None:
                return
            try:
                data = transport.receive(READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._receiving_broke(connection_lost(transport.peer, "receiving from", error))
                return
            if not data:
                if isinstance(transport, SocketTransport):
                    transport.at_end = True
                self.ended(None)
                return
            units, size = framer.feed(data), len(data)
            self._in_bytes += size
            if units:
                self._in_units += len(units)
                self._arrived(units, size)
            elif self._introduction is None:
                self.expect_introduction(self._server.introduction_timeout)
            if framer.too_long:
                self.ended(LineTooLongError(f"{self.name}: a line over the limit came"))
        except BaseException as error:  # gevent would stop the watcher without a word
            self._turns.failed(error)

    def _arrived(self, units: list[Any], size: int) -> None:
        if self._introduction is not True:
            self._introduced()
        turns = self._turns
        if self._filters:
            # What those who are woken send leaves together, after the last one.
            held, turns.holding = turns.holding, True
            try:
                units = self.take_units(units)
            finally:
                turns.holding = held
            if turns.joined and not held:
                turns.flush()
            if not units:
                return
        inbox = self._inbox
        if self._receiver is None and self.ticket == IDLE and self._enabled and self._takes_turns():
            if len(units) == 1 and not inbox.units and not self._due and turns.is_sole:
                turns.grant(self, units[0])
                return
            inbox.put(units, size)
            turns.event(self)
        else:
            inbox.put(units, size)
            if self._receiver is not None:
                self._hand_over()
        if inbox.is_full:
            self._inbox_filled()

    def _inbox_filled(self) -> None:
        self._pause_reading()

    def _takes_turns(self) -> bool:
        return self._communicator is not None

    def _receiving_broke(self, error: ConnectionLostError) -> None:
        transport = self._transport
        if transport is not None and transport.is_datagram:
            self.undeliverable(error)
        else:
            self.ended(error)

    def undeliverable(self, error: ConnectionLostError) -> None:
        """Called in the hub when a datagram could not be delivered; the next one may be."""
        logger.info("%s: %s", self.name, error)
