"""Requests over a stream of messages, and the answers that they wait for."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from .. import limits
from ..connection import Connection
from ..errors import (
    ConnectionLostError,
    MessageError,
    NetworkError,
    QueueFullError,
    RequestTimeout,
    UsageError,
    no_message,
)
from ..message import Message, parse_text
from ..runtime.native import get_ident
from ..runtime.outbox import Outbox
from ..transport.fd import FdTransport
from ..transport.rights import Fds, fd_numbers
from .carrying import CarryingStream
from .fds import with_count
from .request import NEXT, NO_REPLIES, Request, RequestTable, reply_set


def name_of(connection: Connection) -> Callable[[], str]:
    """Returns what gives a connection's name, and does not keep the connection."""
    kept = weakref.ref(connection)

    def name() -> str:
        found = kept()
        return "" if found is None else found.name

    return name


class AskingStream(CarryingStream):
    """The middle of ``MessageConnection``: asks, and waits for answers."""

    __slots__ = ("_requests",)

    _dials_anew = False  # whether request_again is to look at the connection first

    def __init__(self, address: Any, **settings: Any) -> None:
        self._requests: RequestTable | None = None
        super().__init__(address, **settings)

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the peer that a sender has to wait too."""
        return self._outbox is not None and self._outbox.is_full

    @property
    def late_answers(self) -> int:
        """How many answers were dropped because nobody waited for them any more."""
        return 0 if self._requests is None else self._requests.late

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
        number: str | None = NEXT
        try:
            if "serial" in message._layout.index:  # get() costs a call
                number = message["serial"] if serial else None
            elif not serial:
                number = None
        except AttributeError:
            raise no_message(message) from None
        outbox = self._outbox
        if self._transport is None or outbox is None or self._eof or self._closed:
            self.check_answerable()
        elif outbox.size and outbox.is_full:
            timeout = self._wait_for_room(outbox, message, timeout)
        if self._paused:
            self._read_on()
        request = table.add(message, replies, number, timeout)
        try:
            line = message.line_with("serial", request.key) if number is NEXT else message.to_line()
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
        transport = self._transport
        if isinstance(transport, FdTransport) and transport.is_write_only:
            raise UsageError(
                f"{self.name}: no answer can come, {transport.peer} is only written to; send()"
                " needs none"
            )
        self._requests = RequestTable(self._turns, self._use_clock, name_of(self))
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

    # --- in the hub -------------------------------------------------------------------------------

    def take_units(self, units: list[Any]) -> list[Any]:
        """Gives answers to the requests that wait for them, at once."""
        if self._fds is not None:
            return self.take_carrying(units)
        table = self._requests
        if table is None:
            return units
        left: list[Any] = []
        for unit in units:
            try:
                message = parse_text(unit)
            except MessageError:
                left.append(unit)  # its turn says what is wrong with it
            else:
                if not table.take(message):
                    left.append(message)
        return left

    def takes_answer(self, message: Message) -> bool:
        """Gives a message to the request that it answers, if it answers one."""
        return self._requests is not None and self._requests.take(message)

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
