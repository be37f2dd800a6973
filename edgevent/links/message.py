"""The message layer: dispatching, requests, and what malformed lines get."""

from __future__ import annotations

import functools
import logging
from typing import Any

from .. import limits
from ..address import Address
from ..answers import answer_failure, is_senders_mistake
from ..connection import FAILURES, Owner
from ..dispatcher import HANDLED, UNMATCHED, Dispatcher
from ..errors import (
    ConnectionLostError,
    MessageError,
    NetworkError,
    no_message,
)
from ..framing import Framer, RecordFramer, TextFramer
from ..handler_times import HandlerTable
from ..message import Message, parse_text
from ..runtime.native import get_ident
from ..transport.base import StreamTransport
from ..transport.rights import Fds
from ..wire import BLANKS
from .asking import AskingStream
from .fds import CarryingMessage
from .malformed import MalformedLines, reason, show_line
from .raw import check_line_bytes

logger = logging.getLogger("edgevent")


@functools.lru_cache(maxsize=1)
def fallback_dispatcher() -> Dispatcher:
    """The table of connections for which nobody brought one: the default commands."""
    return Dispatcher()


class MessageConnection(AskingStream):
    """A stream of messages.

    A message goes to the request that it answers, else to the dispatcher's matches, else to
    :meth:`process_message`, else to the dispatcher's catch-all, else it is answered ``UNKNOWN``.

    Args:
        address: Where to connect to (this blocks), or a connected transport.
        dispatcher: The table; by default that of the communicator.
        max_line_bytes: The longest line that is taken or sent; a longer one that comes closes the
            connection.
        allow_control: Whether STOP and the like are obeyed although the peer is neither local nor
            authenticated.
        max_fds: The most file descriptors that one message may bring, over a Unix socket; none are
            taken by default.
    """

    __slots__ = (
        "_allow_control",
        "_dispatcher",
        "_handling",
        "_inherits",
        "_malformed",
        "max_line_bytes",
    )

    def __init__(
        self,
        address: str | Address | StreamTransport | None,
        dispatcher: Dispatcher | None = None,
        *,
        max_line_bytes: int = limits.MAX_LINE_BYTES,
        allow_control: bool = False,
        **settings: Any,
    ) -> None:
        self.max_line_bytes = check_line_bytes(max_line_bytes)
        self._dispatcher = dispatcher
        self._allow_control = allow_control
        self._handling: Message | None = None
        self._inherits = False  # whether the dispatcher is the communicator's
        self._malformed: MalformedLines | None = None
        super().__init__(address, **settings)
        if max_line_bytes > limits.MAX_LINE_BYTES:
            self._inbox.mark = 2 * max_line_bytes

    # --- what users see ---------------------------------------------------------------------------

    @property
    def dispatcher(self) -> Dispatcher:
        """The table that says who handles which message."""
        return self._dispatcher or fallback_dispatcher()

    @property
    def command(self) -> str:
        """The command that is being handled, or an empty string."""
        return "" if self._handling is None else self._handling.command

    @property
    def may_control(self) -> bool:
        """Whether the peer's STOP and the like are obeyed: it is local, or proved who it is."""
        transport = self._transport
        return self._allow_control or (
            transport is not None and (transport.is_local or self.authenticated)
        )

    @property
    def answers_errors(self) -> bool:
        """Streams answer what they refuse."""
        return True

    @property
    def malformed_count(self) -> int:
        """How many malformed lines came within the last minute."""
        return len(self._malformed or ())

    def send(self, message: Message, *, json: bool = False, fds: Fds | None = None) -> None:
        """Sends a message. Blocks the calling greenlet while too much waits for the peer.

        Args:
            json: Whether it is written in its JSON form; C++ services read both.
            fds: File descriptors, or objects that have one, that go with it over a Unix socket; the
                caller may close its own afterwards.

        Raises:
            MessageError: The line would be longer than ``max_line_bytes``.
            ConnectionLostError: The connection broke.
            ClosedError: This side has closed it.
            QueueFullError: Too much waits, and the caller is the hub or wants no wait.
            UsageError: The descriptors cannot be passed: over another transport, closed ones, or
                more than 253; or this is no message.
        """
        turns = self._turns
        if turns.thread != get_ident() or turns.forked:
            turns.check()
        if json or fds:
            self.give(*self.encode_with(message, json, fds))
            return
        try:
            line = message._line or message.to_line()
        except AttributeError:
            raise no_message(message) from None
        if len(line) > self.max_line_bytes:
            self.check_size(message, line)
        (self._outbox or self.outbox).write(line)

    takes_note = False
    """Whether :meth:`note_sent` is to be called with what goes to the outbox by another way."""

    def note_sent(self, message: Message) -> None:
        """Takes note of a message that has just been given to the outbox."""

    def dispatch(self, message: Message) -> None:
        """Hands a message on, as if nobody had received it; what its handler raises is answered."""
        self._handling = message
        dispatcher = self._dispatcher or self.dispatcher
        try:
            taken = dispatcher.dispatch(message, self)
            if taken != HANDLED and not self.process_message(message) and taken == UNMATCHED:
                dispatcher.dispatch_otherwise(message, self)
        except FAILURES as error:
            self._message_failed(message, error)

    def process_message(self, message: Message) -> bool:
        """Called in a turn with what the dispatcher's matches did not take.

        Returns:
            True when it is taken here.
        """
        return False

    def stop_requested(self, quitting: bool) -> None:
        """What STOP and QUITTING do by default: the communicator drains and stops."""
        if self._communicator is not None:
            self._communicator.stop()
        else:
            self.mark_done()

    def log_alive(self) -> None:
        """What LEAK does."""
        if self._communicator is not None:
            self._communicator.log_alive()

    # --- inside -----------------------------------------------------------------------------------

    def attach(self, communicator: Owner) -> None:
        """Called by the communicator."""
        if self._dispatcher is None or self._inherits:
            self._dispatcher = communicator.dispatcher
            self._inherits = True
        super().attach(communicator)

    def count_handlers(self, table: HandlerTable) -> None:
        """Called by the communicator: has the times of what is this connection's own counted."""
        super().count_handlers(table)
        if type(self).process_message is not MessageConnection.process_message:
            table.time_method(self, "process_message")

    def make_framer(self) -> Framer:
        """Messages are lines."""
        return TextFramer(self.max_line_bytes)

    ends_with_newline = True

    def make_record_framer(self) -> Framer:
        """The end of a record is the end of a message; a datagram is one message, in any case."""
        transport = self._transport
        whole = transport is not None and transport.is_datagram
        return RecordFramer(self.max_line_bytes, as_text=True, whole=whole)

    def handle(self, message: Message) -> None:
        """Handles a message in a turn, as a line that has come."""
        communicator = self._communicator
        if communicator is not None and communicator.traces:
            communicator.trace("%s: received %r", self.name, message)
        self.dispatch(message)
        self._handling = None

    def process_unit(self, unit: Any) -> None:
        """Parses and dispatches one line."""
        if unit.__class__ is str:
            try:
                message = parse_text(unit)
            except MessageError as error:
                self._refuse_line(unit, error)
                return
        elif unit.__class__ is CarryingMessage:
            self.handle_carrying(unit)
            return
        else:
            message = unit
        communicator = self._communicator
        if communicator is not None and communicator.traces:
            communicator.trace("%s: received %r", self.name, message)
        self.dispatch(message)
        self._handling = None  # an idle connection holds no message

    def unpack(self, unit: Any) -> Message | None:
        """Parses a line that was not parsed in the hub."""
        if unit.__class__ is not str:
            message: Message = unit
            return message
        try:
            return parse_text(unit)
        except MessageError as error:
            self._refuse_line(unit, error)
            return None

    def _refuse_line(self, text: str, error: MessageError) -> None:
        if not text.strip(BLANKS):
            return  # empty lines are ignored
        shown = show_line(text)
        why = reason(error, shown)
        logger.warning("%s: dropped a malformed line: %s: %s", self.name, why, shown)
        if self._malformed is None:
            self._malformed = MalformedLines()
        count = self._malformed.note(self._use_clock.now())
        if count >= limits.MALFORMED_LIMIT:
            self._inbox.clear()
            self.ended(ConnectionLostError(f"{self.name}: {count} malformed lines in a minute"))

    def incomplete(self, rest: bytes) -> None:
        """Drops a line without its newline: it may be the half of one."""
        text = "%s: dropped %d bytes without a newline: %s"
        logger.warning(text, self.name, len(rest), show_line(rest))

    def _message_failed(self, message: Message, error: BaseException) -> None:
        outbox = self._outbox
        if isinstance(error, NetworkError) and (outbox is None or outbox.error is not None):
            # The peer went away before its answer: said where the connection ends.
            logger.debug("%s: %s was not answered: %s", self.name, message.command, error)
            return
        try:
            identifier = ""
            if not is_senders_mistake(message, error):
                identifier = self.handler_failed(error, f"the handler of {message.command}")
            answer_failure(message, self, error, identifier)
        except NetworkError as lost:
            logger.debug("%s: the answer could not be sent: %s", self.name, lost)
