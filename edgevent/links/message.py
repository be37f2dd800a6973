"""The message layer: dispatching, requests, and what malformed lines get."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterable
from typing import Any, Final

from .. import limits
from ..address import Address
from ..answers import answer_failure, is_senders_mistake
from ..connection import FAILURES, Owner
from ..dispatcher import HANDLED, UNMATCHED, Dispatcher
from ..errors import (
    ConnectionLostError,
    MessageError,
    NetworkError,
    QueueFullError,
    RequestTimeout,
)
from ..framing import Framer, RecordFramer, TextFramer
from ..message import Message, parse_text
from ..runtime.native import get_ident
from ..runtime.outbox import Outbox
from ..transport.base import StreamTransport
from ..transport.rights import Fds, fd_numbers
from ..wire import BLANKS
from .carrying import CarryingStream
from .fds import CarryingMessage, with_count
from .raw import check_line_bytes
from .request import NO_REPLIES, Request, RequestTable, reply_set

logger = logging.getLogger("edgevent")

# What errors quote: parts of the line, which may be secret, or these words of their own.
_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*'|" + r'"(?:[^"\\]|\\.)*"')
_TERMS: Final = (
    "'_' '.' '*' '?' 'parameters' 'name=value' '<server:service ' '[[server:]service/]COMMAND'"
)


@functools.lru_cache(maxsize=1)
def fallback_dispatcher() -> Dispatcher:
    """The table of connections for which nobody brought one: the default commands."""
    return Dispatcher()


def _reason(error: MessageError, shown: str) -> str:
    """Gives an error without what it quotes of a line but the bytes that are shown anyway."""
    text = str(error).removeprefix(f"{error.command}: ")
    return _QUOTED.sub(
        lambda found: found[0] if found[0] in _TERMS or found[0][1:-1] in shown else "...", text
    )


class MessageConnection(CarryingStream):
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
        "_requests",
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
        self._requests: RequestTable | None = None
        self._handling: Message | None = None
        self._inherits = False  # whether the dispatcher is the communicator's
        self._malformed: list[float] | None = None
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
    def is_full(self) -> bool:
        """Whether so much waits for the peer that a sender has to wait too."""
        return self._outbox is not None and self._outbox.is_full

    @property
    def late_answers(self) -> int:
        """How many answers were dropped because nobody waited for them any more."""
        return 0 if self._requests is None else self._requests.late

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
                more than 253.
        """
        turns = self._turns
        if turns.thread != get_ident() or turns.forked:
            turns.check()
        if json or fds:
            self.give(*self.encode_with(message, json, fds))
            return
        line = message.to_line()
        if len(line) > self.max_line_bytes:
            self.check_size(message, line)
        (self._outbox or self.outbox).write(line)

    _dials_anew = False  # whether request_again is to look at the connection first
    takes_note = False
    """Whether :meth:`note_sent` is to be called with what goes to the outbox by another way."""

    def note_sent(self, message: Message) -> None:
        """Takes note of a message that has just been given to the outbox."""

    def request(
        self,
        message: Message,
        reply: str | Iterable[str] | None = None,
        timeout: float = limits.REQUEST_TIMEOUT,
        *,
        serial: bool = True,
        idempotent: bool = False,
        fds: Fds | None = None,
    ) -> Message:
        """Sends a message and waits for its answer. Blocks the calling greenlet alone.

        Args:
            reply: The command, or commands, of the answer; needed for peers that copy no serial.
            timeout: The limit in seconds.
            serial: Whether a ``serial`` is added, which the answer copies.
            idempotent: Whether it may be sent a second time when the connection is lost and comes
                back within the limit.
            fds: File descriptors that go with it, as in :meth:`send`; those of the answer are
                taken with :meth:`take_fds`.

        Raises:
            RequestTimeout: No answer came in time.
            UnknownCommandError: The peer has no handler for the command.
            InvalidMessageError: The peer refused it.
            RemoteError: The peer failed; ``id`` finds the traceback in its log.
            ConnectionLostError: The connection ended before the answer came.
        """
        if idempotent or self._eof or self._dials_anew:
            return self.request_again(message, reply, timeout, serial, idempotent, fds)
        replies = NO_REPLIES if reply is None else reply_set(reply)
        return self.answer(self.ask(message, replies, timeout, serial, fds))

    def request_again(
        self,
        message: Message,
        reply: str | Iterable[str] | None,
        timeout: float,
        serial: bool,
        idempotent: bool,
        fds: Fds | None = None,
    ) -> Message:
        """Asks over a connection that may have to be made anew; this kind cannot make one."""
        return self.answer(self.ask(message, reply_set(reply), timeout, serial, fds))

    def ask(
        self,
        message: Message,
        replies: frozenset[str],
        timeout: float,
        serial: bool,
        fds: Fds | None = None,
    ) -> Request:
        """Sends a request without the wait for its answer; see :meth:`answer`."""
        turns = self._turns
        if turns.thread != get_ident() or turns.forked:
            turns.check()
        numbers: tuple[int, ...] = ()
        if fds and (numbers := fd_numbers(fds)):
            message = with_count(message, len(numbers))
        table = self._requests or self._open_table()
        number = message.get("serial") if serial else None
        if serial and number is None:
            number = table.next_serial()
            line = message.line_with("serial", number)
        else:
            line = message.to_line()
        outbox = self._outbox
        if self._transport is None or outbox is None or self._eof or self._closed:
            self.check_answerable()
        elif outbox.size and outbox.is_full:
            timeout = self._wait_for_room(outbox, message, timeout)
        if self._paused:
            self._read_on()
        request = table.add(message, replies, number, timeout)
        try:
            if len(line) > self.max_line_bytes:
                self.check_size(message, line)
            if numbers:
                self.give(line, numbers)
            else:
                (self._outbox or self.outbox).write(line)
        except BaseException:
            table.remove(request)
            raise
        return request

    def _wait_for_room(self, outbox: Outbox, message: Message, timeout: float) -> float:
        """Waits within a request's limit, which ``send`` does not know; returns what is left."""
        clock = self._use_clock
        end = clock.now() + timeout
        while outbox.is_full and outbox.when_full == "wait" and outbox.error is None:
            if not outbox.wait(max(end - clock.now(), 0.0)):
                text = f"{self.name}: {message.command} could not be sent within {timeout:g} s"
                raise RequestTimeout(text)
        return max(end - clock.now(), 0.0)

    def _read_on(self) -> None:
        """Reads although the inbox is full: the answer may stand behind what is there."""
        if self._inbox.size >= limits.INBOX_HARD_BYTES:
            raise self._inbox_error()
        self._resume_reading()

    def _inbox_filled(self) -> None:
        if self._requests is None or not self._requests.count:
            self._pause_reading()
        elif self._inbox.size >= limits.INBOX_HARD_BYTES:
            self._pause_reading()
            self._requests.fail(self._inbox_error())

    def _inbox_error(self) -> QueueFullError:
        return QueueFullError(
            f"{self.name}: {self._inbox.left} messages that nobody has received came before the"
            " answer"
        )

    def _open_table(self) -> RequestTable:
        self._requests = RequestTable(self._turns, self._use_clock, self._get_name)
        self._filters = True
        return self._requests

    def check_answerable(self) -> None:
        """Raises because no answer can come, though the peer may still be sent to."""
        raise self.end_error()

    def answer(self, request: Request) -> Message:
        """Waits for the answer to what :meth:`ask` has sent."""
        assert self._requests is not None
        return self._requests.wait(request)

    def forget(self, request: Request) -> None:
        """Ends a request for whose answer nobody waits any more; does nothing when it has ended."""
        assert self._requests is not None
        self._requests.abandon(request)

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

    def _get_name(self) -> str:
        return self.name

    def attach(self, communicator: Owner) -> None:
        """Called by the communicator."""
        if self._dispatcher is None or self._inherits:
            self._dispatcher = communicator.dispatcher
            self._inherits = True
        super().attach(communicator)

    def make_framer(self) -> Framer:
        """Messages are lines."""
        return TextFramer(self.max_line_bytes)

    ends_with_newline = True

    def make_record_framer(self) -> Framer:
        """The end of a record is the end of a message; a datagram is one message, in any case."""
        transport = self._transport
        whole = transport is not None and transport.is_datagram
        return RecordFramer(self.max_line_bytes, as_text=True, whole=whole)

    def take_units(self, units: list[Any]) -> list[Any]:
        """Gives answers to the requests that wait for them, at once."""
        if self._fds is not None:
            return self.take_carrying(units)
        table = self._requests
        if table is None:
            return units
        left: list[Any] = []
        take = table.take
        for unit in units:
            try:
                message = parse_text(unit)
            except MessageError:
                left.append(unit)  # its turn says what is wrong with it
            else:
                if not take(message):
                    left.append(message)
        return left

    def handle(self, message: Message) -> None:
        """Handles a message in a turn, as a line that has come."""
        communicator = self._communicator
        if communicator is not None and communicator.traces:
            communicator.trace("%s: received %r", self.name, message)
        self.dispatch(message)
        self._handling = None

    def takes_answer(self, message: Message) -> bool:
        """Gives a message to the request that it answers, if it answers one."""
        return self._requests is not None and self._requests.take(message)

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
        line = text[: 2 * limits.LOGGED_LINE_BYTES].encode("utf-8", "surrogateescape")
        if not text.strip(BLANKS):
            return  # empty lines are ignored
        shown = ascii(line[: limits.LOGGED_LINE_BYTES])[2:-1]
        why = _reason(error, shown)
        logger.warning("%s: dropped a malformed line: %s: %s", self.name, why, shown)
        now = self._use_clock.now()
        kept = [at for at in self._malformed or () if now - at < limits.MALFORMED_INTERVAL]
        kept.append(now)
        self._malformed = kept
        if len(kept) >= limits.MALFORMED_LIMIT:
            self._inbox.clear()
            self.ended(ConnectionLostError(f"{self.name}: {len(kept)} malformed lines in a minute"))

    def incomplete(self, rest: bytes) -> None:
        """Drops a line without its newline: it may be the half of one."""
        shown = ascii(rest[: limits.LOGGED_LINE_BYTES])[2:-1]
        logger.warning("%s: dropped %d bytes without a newline: %s", self.name, len(rest), shown)

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

    def undeliverable(self, error: ConnectionLostError) -> None:
        """Ends the open requests: nobody is there who could answer them."""
        super().undeliverable(error)
        if self._requests is not None:
            self._requests.fail(error)

    def ended(self, error: NetworkError | None) -> None:
        """Ends the open requests too: nothing can answer them any more."""
        super().ended(error)
        self._lose_requests()

    def _lose_requests(self) -> None:
        if self._requests is not None:
            self._requests.lose(self.end_error())

    def has_ended(self) -> None:
        """Ends the open requests."""
        self._lose_requests()
        super().has_ended()
