"""A connection that comes back by itself."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from greenlet import greenlet

from .. import limits
from ..address import Address
from ..backoff import Backoff
from ..connection import Owner
from ..dispatcher import Dispatcher
from ..errors import (
    ClosedError,
    ConnectError,
    ConnectionLostError,
    EdgeventError,
    NetworkError,
    NotConnectedError,
    QueueFullError,
)
from ..message import Message
from ..runtime.clock import Alarm
from ..runtime.turns import wait
from ..transport.dial import dial
from .flow import START
from .message import MessageConnection
from .request import Request
from .undelivered import Record, Undelivered

logger = logging.getLogger("edgevent")

_ATTEMPT: Final = 64
_FLUSH: Final = 128
_F = TypeVar("_F", bound=Callable[..., Any])


class PermanentConnection(MessageConnection):
    """A link that dials, and dials again whenever it is lost, until it is closed.

    Args:
        address: Where to; a name is looked up at each attempt, and all its addresses are tried.
        dispatcher: The table for what the peer sends.
        pauses: The delay of the first attempt and the pauses between attempts; see
            :class:`~edgevent.Backoff`.
        connect_timeout: The limit of one attempt, in seconds.
        wait_ready: Whether what was kept leaves only after READY came (or :meth:`set_ready` was
            called), as services need that register first.
        max_kept: The most messages, and
        max_kept_bytes: the most bytes, that are kept while the link is down.

    Attributes:
        undelivered: What was sent and may be lost; see :class:`~edgevent.Undelivered`.
        attempts: How many times it has dialled.
    """

    __slots__ = (
        "_asking",
        "_attempt_alarm",
        "_backoff",
        "_callbacks",
        "_done",
        "_kept",
        "_kept_bytes",
        "_ready",
        "_record",
        "_said",
        "_target",
        "_up_since",
        "_waiters",
        "attempts",
        "connect_timeout",
        "max_kept",
        "max_kept_bytes",
        "undelivered",
        "wait_ready",
    )

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
        super().__init__(None, dispatcher, **settings)
        self._target = Address.parse(address)
        self._backoff = pauses if isinstance(pauses, Backoff) else Backoff(pauses)
        self.connect_timeout = connect_timeout
        self.wait_ready = wait_ready
        self.max_kept = max_kept
        self.max_kept_bytes = max_kept_bytes
        self.undelivered = Undelivered()
        self.attempts = 0
        self._kept: deque[Message] = deque()
        self._kept_bytes = 0
        self._record = Record()
        self._asking = False  # whether what is sent next is a request
        self._ready = False
        self._done = False
        self._up_since: float | None = None
        self._said: float | None = None
        self._attempt_alarm: Alarm | None = None
        self._waiters: list[greenlet] = []
        self._callbacks: dict[str, list[Callable[..., Any]]] = {}

    # --- what users see ---------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where the link goes."""
        return str(self._target)

    @property
    def kept(self) -> int:
        """How many messages are kept until the link is up."""
        return len(self._kept)

    def on_connected(self, function: _F) -> _F:
        """Adds a function of the link, called in a turn when it is up; it may block."""
        return self._on("connected", function)

    def on_connection_failed(self, function: _F) -> _F:
        """Adds a function of the link and the error, called after each attempt that failed."""
        return self._on("failed", function)

    def on_disconnected(self, function: _F) -> _F:
        """Adds a function of the link, called when it is lost."""
        return self._on("disconnected", function)

    def _on(self, what: str, function: _F) -> _F:
        self._callbacks.setdefault(what, []).append(function)
        return function

    def process_connection_failed(self, error: ConnectError) -> None:
        """Called in a turn after each attempt that failed."""

    def process_disconnected(self) -> None:
        """Called in a turn when the link is lost; it will be dialled again."""

    def set_ready(self) -> None:
        """Lets what was kept leave; READY does it by itself."""
        self._ready = True
        self._mark_due(_FLUSH)

    def send(self, message: Message, *, json: bool = False, cache: bool = False) -> None:
        """Sends a message, or keeps it until the link is up.

        Args:
            cache: Whether it is kept, in order, while the link is down.

        Raises:
            NotConnectedError: The link is down, and the message was not to be kept.
            QueueFullError: No more can be kept.
            ClosedError: The link was closed for good.
        """
        self._turns.check()
        if self._closed:
            raise self._is_down()
        line = self.encode(message, json)
        if cache and (self._kept or not self._can_flush()):
            self._keep(message, len(line))
            return
        if not self.is_connected:
            raise self._is_down()
        if self._asking:
            self._asking = False
            self._record.skip(len(line))  # when a request is lost, its caller knows
        else:
            self._record.add(message, len(line), cache)
        self.outbox.write(line)

    def _keep(self, message: Message, size: int) -> None:
        if len(self._kept) >= self.max_kept or self._kept_bytes + size > self.max_kept_bytes:
            raise QueueFullError(
                f"{self.name}: {len(self._kept)} messages of {self._kept_bytes} bytes are kept"
                " already"
            )
        self._kept.append(message)
        self._kept_bytes += size

    def wait_until_up(self, timeout: float) -> None:
        """Waits until the link is up. Blocks the calling greenlet alone.

        Raises:
            NotConnectedError: It was not up within ``timeout`` seconds.
        """
        end = self._use_clock.now() + timeout
        while not self.is_connected:
            left = end - self._use_clock.now()
            if left <= 0.0 or self._closed:
                raise NotConnectedError(f"{self.name} is not connected to {self._target}")
            current = self._turns.check_wait()
            self._waiters.append(current)
            try:
                wait(self._turns, self._use_clock, left)
            finally:
                if current in self._waiters:
                    self._waiters.remove(current)

    def request_again(
        self,
        message: Message,
        reply: str | Iterable[str] | None,
        timeout: float,
        serial: bool,
        idempotent: bool,
    ) -> Message:
        """Waits for the link, and asks again over the next one, if the request is idempotent."""
        if not idempotent:
            return super().request_again(message, reply, timeout, serial, False)
        end = self._use_clock.now() + timeout
        while True:
            self.wait_until_up(end - self._use_clock.now())
            left = max(end - self._use_clock.now(), 0.0)
            try:
                return super().request_again(message, reply, left, serial, False)
            except ConnectionLostError as error:
                logger.info("%s: %s is asked again: %s", self.name, message.command, error)

    def ask(
        self, message: Message, replies: frozenset[str], timeout: float, serial: bool
    ) -> Request:
        """Sends a request; its answer shows that all that was sent before it has arrived."""
        position = self._record.position
        self._asking = True
        try:
            request = super().ask(message, replies, timeout, serial)
        finally:
            self._asking = False
        request.position = position
        return request

    def answer(self, request: Request) -> Message:
        """Waits for the answer to what :meth:`ask` has sent."""
        connection = self._transport
        found = super().answer(request)
        if connection is self._transport:
            self._record.arrived(request.position)
        return found

    def check_answerable(self) -> None:
        """Raises when the link is down."""
        if self._closed or not self.is_connected:
            raise self._is_down()

    def _is_down(self) -> NetworkError:
        if self._closed:
            return ClosedError(f"{self.name} is closed")
        return NotConnectedError(f"{self.name} is not connected to {self._target}")

    def mark_done(self) -> None:
        """Ends the link once what it keeps has left; at once when there is nothing."""
        self._done = True
        self._catch_done()

    def _catch_done(self) -> None:
        if self._done and not self._kept and not self._closed:
            self.close()

    def _state(self) -> str:
        state = "closed" if self._closed else "up" if self.is_connected else "down"
        return f"{state} {self._target}"

    # --- dialling ---------------------------------------------------------------------------------

    def attach(self, communicator: Owner) -> None:
        """Called by the communicator: the first attempt follows."""
        super().attach(communicator)
        self._dial_after(self._backoff.first())

    def _enabled_changed(self, enabled: bool) -> None:
        super()._enabled_changed(enabled)
        if enabled and self._communicator is not None and self._transport is None:
            self._dial_after(0.0)

    def _dial_after(self, pause: float) -> None:
        if self._attempt_alarm is not None:
            self._attempt_alarm.stop()
            self._attempt_alarm = None
        if self._closed or self._communicator is None:
            return
        if pause <= 0.0:
            self._mark_due(_ATTEMPT)
        else:
            self._attempt_alarm = self._use_clock.call_later(pause, self._attempt_due)

    def _attempt_due(self) -> None:
        self._attempt_alarm = None
        self._mark_due(_ATTEMPT)

    def _work(self) -> None:
        if self._due & _ATTEMPT:
            self._due &= ~_ATTEMPT
            if not self.is_connected and not self._closed:
                self._dial()
        if self._due & _FLUSH:
            self._due &= ~_FLUSH
            self._flush_kept()
        super()._work()

    def _dial(self) -> None:
        self.attempts += 1
        try:
            transport = dial(self._target, self.connect_timeout, clock=self._use_clock)
        except EdgeventError as error:
            failure = error if isinstance(error, ConnectError) else ConnectError(str(error))
            self._dial_failed(failure)
            return
        if self._closed or self._communicator is None:
            transport.close()
            return
        self.open(transport)
        self._up_since = self._use_clock.now()
        self._ready = not self.wait_ready
        self._said = None
        logger.info("%s: connected to %s", self.name, self._target)
        if self._enabled:
            self._resume_reading()
        self._due |= START

    def _dial_failed(self, error: ConnectError) -> None:
        if self._closed:
            return
        now = self._use_clock.now()
        if self._said is None or now - self._said >= limits.LOG_INTERVAL:
            self._said = now
            logger.warning("%s: cannot connect: %s", self.name, error)
        self.call_hook(self.process_connection_failed, error)
        for function in self._callbacks.get("failed", ()):
            self.call_hook(function, self, error)
        self._dial_after(self._backoff.next())

    def _begin(self) -> None:
        super()._begin()
        for function in self._callbacks.get("connected", ()):
            self.call_hook(function, self)
        self._flush_kept()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self._turns.loop.run_callback(self._turns.resume, waiter)

    def _can_flush(self) -> bool:
        return self.is_connected and self._ready and not self._due & START

    def _flush_kept(self) -> None:
        """Sends what was kept, in order; what cannot be sent stays."""
        try:
            while self._kept and self.is_connected and self._ready:
                message = self._kept.popleft()
                size = len(bytes(message)) + 1
                self._kept_bytes -= size
                self._record.add(message, size, True)  # from where a loss brings it back
                self.outbox.write(self.encode(message))
        except EdgeventError as error:
            logger.info("%s: kept messages stay: %s", self.name, error)
        self._catch_done()

    def dispatch(self, message: Message) -> None:
        """Takes note of READY on the way."""
        super().dispatch(message)
        if message.command == "READY" and not self._ready:
            self.set_ready()

    # --- the loss ---------------------------------------------------------------------------------

    def finish(self) -> None:
        """The link is lost: its state is put in order, and it is dialled again."""
        if self._draining or (self._done and not self._kept):
            self.close()
            return
        error = self._error
        logger.info("%s: lost the link to %s: %s", self.name, self._target, error or "ended")
        self._let_go()
        self.call_hook(self.process_disconnected)
        for function in self._callbacks.get("disconnected", ()):
            self.call_hook(function, self)
        up_for = self._use_clock.now() - (self._up_since or 0.0)
        self._up_since = None
        self._backoff.lost(up_for)
        self._dial_after(self._backoff.next())

    def _let_go(self) -> None:
        """Gives the transport back, and sorts what it had been given."""
        outbox, transport = self._outbox, self._transport
        handed = 0 if outbox is None else outbox.sent_bytes
        self._outbox = None
        self._transport = None
        if outbox is not None:
            outbox.close(self._error)
        if transport is not None:
            transport.close()
        in_doubt, kept, unsent = self._record.split(handed)
        self.undelivered.in_doubt += in_doubt
        self.undelivered.unsent += unsent
        self.undelivered.overflowed += self._record.overflowed
        self._record.overflowed = 0
        del self.undelivered.in_doubt[: -limits.UNDELIVERED_MESSAGES]
        del self.undelivered.unsent[: -limits.UNDELIVERED_MESSAGES]
        for message in reversed(kept):
            self._kept.appendleft(message)
            self._kept_bytes += len(bytes(message)) + 1
        self._due &= ~START

    def drain(self) -> bool:
        """Ends the link; what it keeps and cannot send is counted in the log."""
        if self._kept and not self._can_flush():
            logger.warning("%s: %d kept messages are lost", self.name, len(self._kept))
            self.undelivered.unsent += self._kept
            self._kept.clear()
        return super().drain()

    def _release(self) -> bool:
        if self._attempt_alarm is not None:
            self._attempt_alarm.stop()
            self._attempt_alarm = None
        return super()._release()
