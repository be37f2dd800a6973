"""Messages of one connection by their senders: a handler that waits holds up its sender alone.

A connection to a router brings the messages of many. They are handled in the connection's turn, in
the order in which they have come, for as long as no handler waits. The turn of one that does
becomes that of its sender, and the connection goes on in another one: what more comes of this
sender waits here, what comes of others is handled.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import Any, Final

from greenlet import getcurrent

from .. import limits
from ..dispatcher import Dispatcher
from ..errors import MessageError, UsageError
from ..message import Message, parse_text
from ..runtime.turns import IDLE, RUNNING, Worker
from .ending import END
from .fds import weight
from .message import MessageConnection

logger = logging.getLogger("edgevent")

_OBJECT_BYTES: Final = 512  # a message that waits takes so much beside its text, about

_Key = tuple[str, str]


class _LeaveTurn(BaseException):
    """Ends the loop of a turn over the inbox."""


class Sender:
    """One sender whose handler waits, and what has come of it since; its turns are its own.

    Args:
        stream: The connection that brings its messages.
        key: Its server and its service, as messages name them.
        command: What is being handled.
    """

    __slots__ = ("_stream", "command", "key", "size", "ticket", "waiting")

    def __init__(self, stream: SenderStream, key: _Key, command: str) -> None:
        self._stream = stream
        self.key = key
        self.command = command
        self.waiting: deque[tuple[Message, int]] = deque()
        self.size = 0
        self.ticket = RUNNING

    @property
    def name(self) -> str:
        """The name of the connection, and that of the sender."""
        return f"{self._stream.name} for {':'.join(filter(None, self.key)) or 'nobody'}"

    @property
    def priority(self) -> int:
        """The connection's priority."""
        return self._stream.priority

    def run_turn(self) -> None:
        """Handles what waits."""
        try:
            self._stream.handle_waiting(self)
        finally:
            self._stream.sender_ended(self)

    def run_unit(self, unit: Any) -> None:
        """A sender is given no units, and never gets here."""
        raise NotImplementedError

    def turn_waits(self, worker: Worker) -> None:
        """Its further messages wait already."""


class Senders:
    """The senders of a connection whose handlers wait.

    Args:
        max_senders: So many, and
        max_sender_bytes: so many bytes that wait for one of them, are the most; then the connection
            handles no more until there is room, and soon reads no more.

    Attributes:
        size: How many bytes wait, about.
        unit: What is being handled in the connection's own turn, or ``None``.
    """

    __slots__ = ("_crowded", "_found", "max_sender_bytes", "max_senders", "size", "unit")

    def __init__(self, max_senders: int, max_sender_bytes: int) -> None:
        if max_senders < 1:
            raise UsageError(f"max_senders={max_senders}: 1 at least was expected")
        if not 0 <= max_sender_bytes <= limits.INBOX_HARD_BYTES:
            most = limits.INBOX_HARD_BYTES
            raise UsageError(f"max_sender_bytes={max_sender_bytes}: 0 to {most} was expected")
        self.max_senders = max_senders
        self.max_sender_bytes = max_sender_bytes
        self.size = 0
        self.unit: Any = None
        self._found: dict[_Key, Sender] = {}
        self._crowded = 0  # of so many senders too much waits

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Sender]:
        return iter(tuple(self._found.values()))

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return sum(len(sender.waiting) for sender in self._found.values())

    @property
    def is_full(self) -> bool:
        """Whether no more is to be handled now."""
        return (
            len(self._found) >= self.max_senders
            or self._crowded > 0
            or self.size > limits.INBOX_HARD_BYTES
        )

    def add(self, stream: SenderStream, message: Message) -> Sender:
        """Returns the sender of a message whose handler waits, which was none of these so far."""
        key = message.sent_from_server, message.sent_from_service
        sender = self._found[key] = Sender(stream, key, message.command)
        return sender

    def find(self, message: Message) -> Sender | None:
        """Returns the sender of a message, if it is one of these."""
        return self._found.get((message.sent_from_server, message.sent_from_service))

    def put(self, sender: Sender, message: Message, size: int) -> None:
        """Has a message wait."""
        before = sender.size
        sender.waiting.append((message, size))
        sender.size += size
        self.size += size
        self._crowded += before <= self.max_sender_bytes < sender.size

    def take(self, sender: Sender) -> Message:
        """Takes the first message that waits."""
        before = sender.size
        message, size = sender.waiting.popleft()
        sender.size -= size
        self.size -= size
        self._crowded -= sender.size <= self.max_sender_bytes < before
        return message

    def remove(self, sender: Sender) -> None:
        """Forgets a sender, and all that waits."""
        while sender.waiting:
            self.take(sender)
        del self._found[sender.key]


class SenderStream(MessageConnection):
    """A stream of messages of many senders, each of which has its handlers to itself.

    Messages of one sender are handled one after another; those of others meanwhile, when a handler
    waits. All begin in the order in which they have come, but for those that wait for their own
    sender. Hooks of the connection are no handlers: while one waits, so does all else.

    Args:
        max_senders: The most senders whose handlers may wait at a time.
        max_sender_bytes: The most bytes that may wait for the handler of one sender. Past one of
            these limits, or 8 MiB of all senders, the connection takes nothing more, but for
            answers that are awaited, until there is room again.

    Attributes:
        senders: Those whose handlers wait.

    A class that is made of this one has ``senders`` among its ``__slots__``, so that this one can
    stand beside others.
    """

    __slots__ = ()

    senders: Senders

    end_waits_for_handlers = True
    """Whether the end of the stream waits until all handlers have ended; that of ``stop`` does."""

    def __init__(
        self,
        address: Any,
        dispatcher: Dispatcher | None = None,
        *,
        max_senders: int = limits.MAX_SENDERS,
        max_sender_bytes: int = limits.SENDER_BYTES,
        **settings: Any,
    ) -> None:
        senders = Senders(max_senders, max_sender_bytes)
        self.senders = senders  # type: ignore[misc]  # the slot is in the classes made of this one
        super().__init__(address, dispatcher, **settings)

    @property
    def command(self) -> str:
        """The command that is being handled, the first of several, or an empty string."""
        return super().command or next((one.command for one in self.senders), "")

    @property
    def queued_bytes(self) -> tuple[int, int]:
        """How many bytes have come and wait to be handled, and how many wait to leave."""
        waiting, leaving = super().queued_bytes
        return waiting + self.senders.size, leaving

    def _state(self) -> str:
        senders = self.senders
        if not senders:
            return super()._state()
        return (
            f"{super()._state()}, {len(senders)} senders at work, {senders.waiting} messages wait"
        )

    # --- in the connection's turn -----------------------------------------------------------------

    def run_turn(self) -> None:
        """Handles what is due, and what is in the inbox, until a handler takes the turn along."""
        try:
            if self._due:
                self._work()
            if (
                self._inbox.units
                and self._receiver is None
                and not self._closed
                and not self.senders.is_full
                and self._turns.worker is getcurrent()  # no handler can take along a turn that
            ):  # a hook has had wait: the hub looks at each turn once
                self._handle_inbox()
        except _LeaveTurn:
            pass
        finally:
            self._end_own_turn()

    def run_unit(self, unit: Any) -> None:
        """Handles one unit that has come when nothing else was there."""
        try:
            self.process_unit(unit)
        except _LeaveTurn:
            pass
        finally:
            self._end_own_turn()

    def _end_own_turn(self) -> None:
        worker: Any = getcurrent()
        if worker.task is not self:
            return  # it has become a sender's, and this connection may have another one by now
        if self._due or self._inbox.units or self._closed:
            self._end_turn()
        else:
            self.ticket = IDLE

    def process_unit(self, unit: Any) -> None:
        """Handles one message, or has it wait for its sender."""
        senders = self.senders
        if senders:
            unit = self._sort(unit)
            if unit is None:
                return
        worker: Any = getcurrent()
        senders.unit = unit
        try:
            MessageConnection.process_unit(self, unit)  # super() would take twice as long
        finally:
            has_waited, senders.unit = senders.unit is None, None
            if worker.task is not self:
                self.sender_ended(worker.task)
            elif worker.gr_context is not None or worker.links:
                worker.forget()  # what comes next may be of another sender
        if has_waited:
            raise _LeaveTurn

    def _sort(self, unit: Any) -> Message | None:
        """Returns a message that is to be handled now."""
        senders = self.senders
        size = len(unit) if unit.__class__ is str else len(bytes(unit))
        if senders.is_full:  # it was to be handled past the inbox
            self._inbox.put([unit], size)
            return None
        message = MessageConnection.unpack(self, unit)
        if message is None:
            if self._turns.worker is not getcurrent():  # the record of that has waited
                raise _LeaveTurn
            return None
        sender = senders.find(message)
        if sender is None:
            return message
        senders.put(sender, message, size + weight([message]) + _OBJECT_BYTES)
        if senders.is_full:
            raise _LeaveTurn
        return None

    def _is_due(self) -> bool:
        if self._receiver is None and self._inbox.units and self.senders.is_full:
            due = self._due
            if due & END and (self._inbox_comes_first() or self._end_waits()):
                due &= ~END
            return due != 0
        return super()._is_due()

    def _inbox_comes_first(self) -> bool:
        # Handlers that wait for the next link must not keep it from being made.
        waits = self._draining or self.end_waits_for_handlers or not self.senders.is_full
        return waits and super()._inbox_comes_first()

    def _end_waits(self) -> bool:
        waits = bool(self.senders) and (self._draining or self.end_waits_for_handlers)
        return waits or super()._end_waits()

    # --- beside it --------------------------------------------------------------------------------

    def turn_waits(self, worker: Worker) -> None:
        """Called in the hub when the turn waits: that of a handler goes on as its sender's."""
        senders = self.senders
        unit, senders.unit = senders.unit, None
        if unit is None:
            return  # a hook: all else waits for it
        try:
            message = parse_text(unit) if unit.__class__ is str else unit
            worker.task = senders.add(self, message)
            self._handling = None
            self.ticket = IDLE
            self._go_on()
        except MessageError:
            pass  # it is being refused
        except BaseException as error:
            self._turns.failed(error)

    def handle_waiting(self, sender: Sender) -> None:
        """Handles what waits for a sender, within the limits of a turn; called in one."""
        turns, senders, communicator = self._turns, self.senders, self._communicator
        began, count = monotonic(), 0
        while (
            sender.waiting
            and self._enabled
            and not self._closed
            and self._communicator is communicator
        ):
            was_full = senders.is_full
            message = senders.take(sender)
            if was_full:
                self._go_on()
            sender.command = message.command
            MessageConnection.process_unit(self, message)
            count += 1
            spent = monotonic() - began
            if spent > self.processing_time_limit or (
                count >= self.event_limit
                and (turns.ready or turns.granted or spent > limits.SOLE_TURN_TIME)
            ):
                return

    def sender_ended(self, sender: Sender) -> None:
        """Called when a turn of a sender has ended."""
        sender.ticket = IDLE
        if sender.waiting and not self._closed:
            if self._enabled and self._takes_turns():
                self._turns.later(sender)
        else:
            if sender.waiting:
                text = "%s: closed, %d messages were not handled"
                logger.warning(text, sender.name, len(sender.waiting))
            self.senders.remove(sender)
        self._go_on()

    def _go_on(self) -> None:
        """Has the connection read, and handle what has come, as far as it may."""
        if self._closed or not self._enabled or not self._takes_turns():
            return
        if self._paused and not self._inbox.is_full:
            self._resume_reading()
        if self.ticket == IDLE and self._is_due():
            self._turns.later(self)

    def has_ended(self) -> None:
        """Tells what waits for no turn, and never will be handled."""
        for sender in self.senders:
            if sender.ticket == IDLE:
                self.sender_ended(sender)
        super().has_ended()

    def _enabled_changed(self, enabled: bool) -> None:
        super()._enabled_changed(enabled)
        for sender in self.senders:
            if not enabled:
                if sender.ticket != RUNNING:
                    sender.ticket = IDLE  # its entry is passed over
            elif sender.ticket == IDLE:
                self._turns.arrive(sender)
