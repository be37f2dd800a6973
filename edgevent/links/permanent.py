"""A connection that comes back by itself, and keeps what cannot leave yet."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

from .. import limits
from ..address import Address
from ..arguments import checks_arguments
from ..backoff import Backoff
from ..dispatcher import Dispatcher
from ..errors import (
    ConnectionLostError,
    NetworkError,
    NotConnectedError,
    QueueFullError,
    RemoteError,
    UsageError,
    no_message,
)
from ..message import Message
from ..runtime.native import get_ident
from ..runtime.outbox import Outbox
from ..runtime.room import WhenFull
from ..transport.base import StreamTransport
from ..transport.rights import Fds
from .dialled import DialledConnection
from .ending import EMPTY
from .request import Request
from .undelivered import NEVER, Entry, Kept, Record, Undelivered

logger = logging.getLogger("edgevent")

_FLUSH: Final = 128


@checks_arguments
class PermanentConnection(DialledConnection):
    """A link that dials, and dials again whenever it is lost, until it is closed.

    Args:
        address: Where to; a name is looked up at each attempt, and all its addresses are tried.
        dispatcher: The table for what the peer sends.
        pauses: The delay of the first attempt and the pauses between attempts; see
            :class:`~edgevent.Backoff`.
        connect_timeout: The limit of one attempt, in seconds.
        wait_for_listener: Whether a link that is down looks five times a second whether its service
            listens again, and dials within a second then, besides after the pauses. By default
            this is so for loopback and Unix addresses without ``pauses``; of others it cannot be
            seen.
        wait_ready: Whether what was kept leaves only after READY came (or :meth:`set_ready` was
            called), as services need that register first.
        tls: What is asked of TLS; by default all its checks, for an address of TLS.
        access: ``"read"`` opens one FIFO for reading; by default it is written to.
        max_fds: The most file descriptors that one message may bring, over a Unix socket; none are
            taken by default.
        max_kept: The most messages, and
        max_kept_bytes: the most bytes, that are kept while the link is down.

    Raises:
        AddressError: The address is of no stream socket.
        UsageError: ``wait_for_listener`` was asked for, and is not possible.

    Attributes:
        undelivered: What was sent and may be lost; see :class:`~edgevent.Undelivered`.
        attempts: How many times it has dialled.

    What is sent with ``cache=True`` keeps its order. Other messages may leave before it while
    :meth:`on_connected` runs: those that register, for example.
    """

    __slots__ = (
        "_done",
        "_kept",
        "_ready",
        "_record",
        "_when_full",
        "max_kept",
        "max_kept_bytes",
        "undelivered",
        "wait_ready",
    )

    takes_note = True

    def __init__(
        self,
        address: str | Address,
        dispatcher: Dispatcher | None = None,
        *,
        pauses: str | Sequence[float] | Backoff | None = None,
        connect_timeout: float = limits.CONNECT_TIMEOUT,
        wait_ready: bool = False,
        max_kept: int = limits.OFFLINE_MESSAGES,
        max_kept_bytes: int = limits.OFFLINE_BYTES,
        **settings: Any,
    ) -> None:
        super().__init__(
            address, dispatcher, pauses=pauses, connect_timeout=connect_timeout, **settings
        )
        self.wait_ready = wait_ready
        self.max_kept = max_kept
        self.max_kept_bytes = max_kept_bytes
        self.undelivered = Undelivered()
        self._kept = Kept()
        self._record = Record()
        self._ready = False
        self._done = False
        self._when_full: WhenFull = "wait"

    # --- what users see ---------------------------------------------------------------------------

    @property
    def kept(self) -> int:
        """How many messages are kept until the link is up."""
        return len(self._kept)

    @property
    def when_full(self) -> WhenFull:
        """What a send does when too much waits: ``wait``, ``raise`` or ``drop``."""
        return self._when_full

    @when_full.setter
    def when_full(self, when_full: WhenFull) -> None:
        if when_full not in ("wait", "raise", "drop"):
            raise UsageError(f"{when_full!r}: 'wait', 'raise' or 'drop' was expected")
        self._when_full = when_full
        if self._outbox is not None:
            self._outbox.when_full = when_full

    def set_ready(self) -> None:
        """Lets what was kept leave; READY does it by itself."""
        self._turns.check()
        self._ready = True
        self._mark_due(_FLUSH)

    def send(
        self,
        message: Message,
        *,
        json: bool = False,
        cache: bool = False,
        fds: Fds | None = None,
    ) -> None:
        """Sends a message, or keeps it until the link is up.

        Blocks the calling greenlet while the link is up and too much waits for the peer.

        Args:
            json: Whether it is written in its JSON form.
            cache: Whether it is kept, in order, while the link is down.
            fds: File descriptors that go with it over a Unix socket; such a message cannot be kept.

        Raises:
            NotConnectedError: The link is down, and the message was not to be kept.
            ConnectionLostError: The link broke meanwhile, and the message was not to be kept.
            QueueFullError: No more can be kept.
            MessageError: The line would be longer than ``max_line_bytes``.
            ClosedError: The link was closed for good.
            UsageError: The descriptors cannot be passed, or not with a message that may be kept.
        """
        turns = self._turns
        if turns.thread != get_ident() or turns.forked:
            turns.check()
        if json or fds or cache:
            self._send_with(message, json, cache, fds)
            return
        outbox = self._outbox
        if (
            outbox is None
            or (self._eof and not self._draining)
            or self._closed
            or outbox.error is not None
        ):
            raise self.down_error()
        try:
            line = message.to_line()
        except AttributeError:
            raise no_message(message) from None
        if len(line) > self.max_line_bytes:
            self.check_size(message, line)
        dropped = outbox.dropped
        outbox.write(line)
        if outbox.dropped == dropped:
            self._note(outbox, Entry(line))

    def _send_with(self, message: Message, json: bool, cache: bool, fds: Fds | None) -> None:
        if self._closed:
            raise self.down_error()
        line, numbers = self.encode_with(message, json, fds)
        if numbers and cache:
            raise UsageError(f"{message.command}: a message with fds= cannot be kept: cache=True")
        if cache and (self._kept or not self._can_flush()):
            self._keep(line)
            return
        outbox = self._outbox
        if outbox is None or not (self.is_connected or self._draining):
            raise self.down_error()
        dropped = outbox.dropped
        try:
            self.give(line, numbers)
        except NetworkError:
            if not cache or self._closed:
                raise
            self._keep(line)  # it was not taken
        else:
            if outbox.dropped == dropped:
                self._note(outbox, Entry(message.to_line() if numbers else line, cache))

    def take_kept(self) -> list[Message]:
        """Takes what is kept until the link is up, oldest first: the link keeps it no more."""
        return [entry.message for entry in self._kept.take_all()]

    def _keep(self, line: bytes) -> None:
        kept = self._kept
        if len(kept) >= self.max_kept or kept.size + len(line) > self.max_kept_bytes:
            raise QueueFullError(
                f"{self.name}: {len(kept)} messages of {kept.size} bytes are kept already"
            )
        kept.add(Entry(line, keeps=True))

    def note_sent(self, message: Message) -> None:
        """Takes note of a message that went to many."""
        self._note(self.outbox, Entry(message.to_line()))

    def _note(self, outbox: Outbox, entry: Entry) -> None:
        # The outbox is the one that counts the bytes: nothing has switched since it took these.
        end = outbox.sent_bytes + outbox.size
        self._record.add(entry, NEVER if outbox.error is not None else end)

    def mark_done(self) -> None:
        """Ends the link once what it keeps has left; at once when there is nothing."""
        self._turns.check()
        self._done = True
        self._catch_end()

    # --- requests ---------------------------------------------------------------------------------

    def request_again(
        self,
        message: Message,
        reply: str | Iterable[str] | None,
        timeout: float,
        serial: bool,
        idempotent: bool,
        fds: Fds | None = None,
    ) -> Message:
        """Waits for the link, and asks again over the next one, if the request is idempotent."""
        if not idempotent:
            return super().request_again(message, reply, timeout, serial, False, fds)
        end = self._use_clock.now() + timeout
        while True:
            self.wait_until_up(end - self._use_clock.now())
            left = max(end - self._use_clock.now(), 0.0)
            try:
                return super().request_again(message, reply, left, serial, False, fds)
            except (ConnectionLostError, NotConnectedError) as error:
                logger.debug("%s: %s is asked again: %s", self.name, message.command, error)

    def ask(
        self,
        message: Message,
        replies: frozenset[str],
        timeout: float,
        serial: bool,
        fds: Fds | None = None,
    ) -> Request:
        """Sends a request; its answer shows that all that was sent before it has arrived."""
        request = super().ask(message, replies, timeout, serial, fds)
        request.record = self._record
        request.position = self.outbox.sent_bytes + self.outbox.size
        return request

    def answer(self, request: Request) -> Message:
        """Waits for the answer to what :meth:`ask` has sent."""
        try:
            found = super().answer(request)
        except RemoteError:
            self._confirm(request)
            raise
        self._confirm(request)
        if found.command == "READY" and not self._ready:
            self.set_ready()
        return found

    def _confirm(self, request: Request) -> None:
        assert isinstance(request.record, Record)
        request.record.arrived(request.position)

    def check_answerable(self) -> None:
        """Raises because the link is down."""
        raise self.down_error()

    # --- what was kept ----------------------------------------------------------------------------

    def open(self, transport: StreamTransport) -> None:
        """Takes a transport that was dialled."""
        super().open(transport)
        self.outbox.when_full = self._when_full
        self._record = Record()
        self._ready = not self.wait_ready

    def _can_flush(self) -> bool:
        # While the communicator drains, what was kept leaves although nothing is read any more.
        outbox = self._outbox
        return (
            self._begun
            and self._ready
            and (self._draining or not self._eof)
            and outbox is not None
            and outbox.error is None
        )

    def _work(self) -> None:
        if self._due & (_FLUSH | EMPTY):
            self._due &= ~_FLUSH
            self._flush_kept()
        super()._work()

    def _begin(self) -> None:
        try:
            super()._begin()
        finally:
            self._flush_kept()

    def _flush_kept(self) -> None:
        """Sends what was kept, in order, until too much waits: it goes on when that has left.

        It never blocks: a turn that waits for the peer could not handle what the peer sends, and
        the peer may wait for that.
        """
        kept = self._kept
        while kept and self._can_flush() and not self.is_full:
            outbox, entry = self.outbox, kept.take()
            try:
                outbox.write(entry.line)
            except NetworkError:  # it broke just now; the loss follows
                kept.put_back([entry])
                return
            self._note(outbox, entry)
        self._catch_end()

    def _catch_end(self) -> None:
        if (
            (self._done or self._draining)
            and not self._closed
            and not self._kept
            and not (self._draining and self._inbox.units)
            and not self._sends_still()
        ):
            self.close()

    def dispatch(self, message: Message) -> None:
        """Takes note of READY on the way."""
        super().dispatch(message)
        self._look_at(message)

    def unpack(self, unit: Any) -> Message | None:
        """Takes note of READY on the way to a receiver."""
        message = super().unpack(unit)
        if message is not None:
            self._look_at(message)
        return message

    def _look_at(self, message: Message) -> None:
        if not self._ready and message.command == "READY":
            self.set_ready()

    # --- the loss ---------------------------------------------------------------------------------

    def finish(self) -> None:
        """The link is lost; it ends if that was all that it was to do."""
        super().finish()
        if self._done and not self._kept and not self._closed:
            self.close()

    def sort_out(self, outbox: Outbox) -> None:
        """Tells apart what a lost connection had been given; what may be sent again is kept."""
        in_doubt, unsent = self._record.split(outbox.sent_bytes)
        self.undelivered.add(in_doubt, in_doubt=True)
        self.undelivered.add([found for found in unsent if not found.keeps], in_doubt=False)
        self.undelivered.overflowed += self._record.overflowed
        self._record.overflowed = 0
        self._kept.put_back([found for found in unsent if found.keeps])

    def _shut(self) -> None:
        """The end for good: what was not sent is told."""
        outbox = self._outbox
        if outbox is not None:
            broke = isinstance(outbox.error, ConnectionLostError)
            lost = broke or (self._eof and not self._draining)
            in_doubt, unsent = self._record.split(outbox.sent_bytes)
            if lost:
                self.undelivered.add(in_doubt, in_doubt=True)
            self.undelivered.add(unsent, in_doubt=False)
        if self._kept:
            logger.warning("%s: %d kept messages are lost", self.name, len(self._kept))
            self.undelivered.add(self._kept.take_all(), in_doubt=False)
        super()._shut()
