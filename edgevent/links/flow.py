"""The two flows of a connection over a stream of bytes: what comes, what leaves, and the end."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, cast

from greenlet import greenlet

from .. import limits
from ..address import Address
from ..arguments import check_values, refuse_names
from ..connection import Connection, Owner
from ..errors import (
    ClosedError,
    ConnectionLostError,
    LineTooLongError,
    NetworkError,
    UsageError,
    connection_lost,
)
from ..framing import Framer
from ..limits import READ_BYTES
from ..runtime.clock import SYSTEM_CLOCK, Alarm, Clock
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
from .counted import Counted

logger = logging.getLogger("edgevent")

_PEER_WENT: Final = frozenset((errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT))

START: Final = 4
END: Final = 8
EMPTY: Final = 16
"""What can be due in a turn: the begin, the end, and a buffer that has emptied."""


class Flow(Counted):
    """Bytes come in, are cut into units, and wait in the inbox; what is sent leaves by the outbox.

    Who takes the units is said in :mod:`edgevent.links.stream`.
    """

    __slots__ = (
        "_draining",
        "_eof",
        "_error",
        "_filters",
        "_framer",
        "_inbox",
        "_introduction",
        "_outbox",
        "_parked",
        "_paused",
        "_receiver",
        "_server",
        "_turns",
        "_use_clock",
    )

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
        self._paused = True  # whether the transport is not being read
        self._eof = self._draining = False
        self._error: NetworkError | None = None
        self._receiver: greenlet | None = None  # for which all that comes is
        self._parked = False  # whether it waits for that just now
        self._conversation: Callable[[Any], object] | None = None
        self._server: Any = None
        self._introduction: Alarm | bool | None = True  # True: the first unit has come
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

    def has_ended(self) -> None:
        """Called when the connection has given everything back."""
        if self._server is not None:
            self._server.peer_ended(self)

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

    def _pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            if self._transport is not None:
                self._transport.unwatch_read()

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

    def _hand_over(self) -> None:
        """Switches to the greenlet that receives, if it waits."""
        if self._parked and self._receiver is not None:
            self._turns.resume(self._receiver)

    def ended(self, error: NetworkError | None) -> None:
        """Takes note that nothing more will come; the end itself waits for its turn.

        Args:
            error: Why; ``None`` when the peer has ended the stream.
        """
        if self._eof:
            return
        self._eof = True
        self._error = error
        self._pause_reading()
        if self._introduction is not True:
            self._introduced()
        if self._receiver is not None:
            self._turns.loop.run_callback(self._hand_over)
        self._mark_due(END)

    def sending_broke(self, error: NetworkError) -> None:
        """Called by the outbox: nothing leaves any more."""
        if self._closed:
            self._shut()
            return
        if error.errno not in _PEER_WENT:  # the peer may still be there, and never end the stream
            if self._eof and self._error is None:
                self._error = error  # what it was still to be sent is lost, which is to be told
            self.ended(error)
        # Else what the peer has sent before it went is still read and handled: the end comes from
        # the read side. If it has come already, it has waited for what was to be sent.
        self._catch_up()

    def _receiving_broke(self, error: ConnectionLostError) -> None:
        transport = self._transport
        if transport is not None and transport.is_datagram:
            self.undeliverable(error)
        else:
            self.ended(error)

    def undeliverable(self, error: ConnectionLostError) -> None:
        """Called in the hub when a datagram could not be delivered; the next one may be."""
        logger.info("%s: %s", self.name, error)

    def sending_emptied(self) -> None:
        """Called by the outbox: all that had to wait has left."""
        if self._closed:
            self._shut()
        else:
            self._mark_due(EMPTY)

    def expect_introduction(self, timeout: float) -> None:
        """Gives the peer so many seconds to complete its first unit."""
        self._introduction = self._use_clock.call_later(timeout, self._not_introduced, timeout)

    def _introduced(self) -> None:
        alarm, self._introduction = self._introduction, True
        if alarm is not None and not isinstance(alarm, bool):
            alarm.stop()

    def _not_introduced(self, timeout: float) -> None:
        self.ended(ConnectionLostError(f"{self.name}: no complete line within {timeout:g} s"))

    # --- the end ----------------------------------------------------------------------------------

    def end_error(self) -> NetworkError:
        """Makes the error for a call that comes after the end."""
        if (error := self._error) is not None:
            return type(error)(error.args[0], error.errno)
        if self._draining or (self._closed and not self._eof):
            return ClosedError(f"{self.name} is closed")
        return ConnectionLostError(f"{self.name}: the peer has ended the connection")

    def _sends_still(self) -> bool:
        outbox = self._outbox
        if outbox is None or not outbox.size or outbox.error is not None:
            return False
        outbox.flush()
        return outbox.size > 0

    def _release(self) -> bool:
        self._pause_reading()
        if self._introduction is not True:
            self._introduced()
        if self._receiver is not None:
            self._turns.loop.run_callback(self._hand_over)
        if self._error is None and self._outbox is not None and not self._outbox.seal():
            return False  # what was sent before the close leaves first; see sending_emptied
        self._shut()
        return False  # _shut has done the rest

    def close_within(self, timeout: float) -> None:
        """Closes, and waits until what was sent has left; cuts when ``timeout`` seconds are over.

        Blocks the calling greenlet. What was not sent is told in the log.
        """
        outbox, clock = self._outbox, self._use_clock
        pending = 0 if outbox is None else outbox.size
        end = clock.now() + timeout
        try:
            Connection.close(self)
            while self._transport is not None and outbox is not None:
                left = end - clock.now()
                if left <= 0.0 or not outbox.wait(left):
                    self._say_unsent(outbox.size, timeout)
                    return
        finally:
            self.cut()
        lost = None if outbox is None else outbox.error
        if pending and isinstance(lost, ConnectionLostError) and self._error is None:
            text = "%s: up to %d bytes were not sent: %s"
            logger.warning(text, self.name, pending, lost)

    def _say_unsent(self, size: int, timeout: float) -> None:
        if size:
            logger.warning("%s: %d bytes were not sent within %g s", self.name, size, timeout)
        else:
            logger.info("%s: the end could not be marked within %g s", self.name, timeout)

    def cut(self) -> None:
        """Closes at once; what has not left is lost, and then the end has no mark either."""
        self._closed = True
        self._stop_alarms()
        self._pause_reading()
        if self._introduction is not True:
            self._introduced()
        if self._receiver is not None:
            self._turns.loop.run_callback(self._hand_over)
        outbox = self._outbox
        if outbox is not None and not outbox.size and self._error is None:
            outbox.seal()
        self._shut()

    def _shut(self) -> None:
        transport = self._transport
        if transport is not None:
            self._transport = None
            if self._outbox is not None:
                self._outbox.leave()
            transport.close()
            if self._error is not None:
                logger.warning("%s: closed: %s", self.name, self._error)
            elif logger.isEnabledFor(logging.DEBUG):  # to make the name costs more
                logger.debug("%s: closed", self.name)
        self._leave()
        self.has_ended()
