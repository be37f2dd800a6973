"""The blocking client: needs no communicator."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from greenlet import getcurrent, greenlet

from .. import limits
from ..address import Address
from ..defaults import default_commands
from ..dispatcher import Dispatcher
from ..errors import (
    ConnectError,
    ConnectionLostError,
    EdgeventError,
    NetworkError,
)
from ..message import Message
from ..runtime.clock import SYSTEM_CLOCK, Clock
from ..runtime.turns import wait
from ..transport.base import StreamTransport
from ..transport.dial import dial
from .message import MessageConnection, fallback_dispatcher

logger = logging.getLogger("edgevent")

_DIAL_PAUSES: Final = (0.02, 0.05, 0.1, 0.2, 0.5)
_ANSWERED: Final = frozenset({"HELP", "ALIVE"})
_ENDING: Final = frozenset({"STOP", "QUITTING"})


class Client(MessageConnection):
    """Connects, asks and waits, in straight-line code.

    Without a dispatcher it answers HELP and ALIVE by itself, STOP and QUITTING end :meth:`run`, and
    all else waits for :meth:`receive`. With one, messages go to its handlers, in turns, while the
    calling greenlet waits in :meth:`run` or anywhere else.

    Args:
        address: Where to.
        dispatcher: The table for what the peer sends of its own accord.
        connect_timeout: The limit of a dial, in seconds.
        wait: Whether it waits, within that limit, until the service is up, and dials anew at the
            next request after a loss.

    Raises:
        ConnectError: Nobody took the connection.
    """

    __slots__ = ("_done", "_runner", "_target", "_wait", "connect_timeout")

    def __init__(
        self,
        address: str | Address,
        dispatcher: Dispatcher | None = None,
        *,
        connect_timeout: float = limits.CONNECT_TIMEOUT,
        wait: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        **settings: Any,
    ) -> None:
        self._target = Address.parse(address)
        self._wait = wait
        self._done = False
        self._runner: greenlet | None = None
        self.connect_timeout = connect_timeout
        super().__init__(None, dispatcher, clock=clock, **settings)
        self._filters = True
        self._connect(connect_timeout)

    # --- what users see ---------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where the client is connected to."""
        return str(self._target)

    def peek(self) -> Message | None:
        """Returns the next message that :meth:`receive` would return now, or ``None``."""
        inbox = self._inbox
        while inbox.left:
            message = self.unpack(inbox.peek())
            if message is not None:
                inbox.replace(message)
                return message
            inbox.take()
        return None

    def run(self) -> None:
        """Waits until :meth:`mark_done`, or until the peer ends the connection.

        Raises:
            ConnectionLostError: The connection broke.
        """
        while not (self._done or self._eof or self._closed):
            self._runner = self._turns.check_wait()
            try:
                wait(self._turns, self._use_clock, None)
            finally:
                self._runner = None
        if self._error is not None:
            raise self.end_error()

    def mark_done(self) -> None:
        """Ends :meth:`run`, with what was sent on its way; the connection stays."""
        self._done = True
        self._end_run()

    def _end_run(self) -> None:
        if self._runner is not None:
            self._turns.loop.run_callback(self._resume_runner)

    def _resume_runner(self) -> None:
        if self._runner is not None:
            self._turns.resume(self._runner)

    def close(self) -> None:
        """Closes, after what was sent has left or the peer was given time for it. Idempotent."""
        if not self._closed and self._transport is not None and self._error is None:
            outbox = self._outbox
            end = self._use_clock.now() + limits.CLOSE_TIMEOUT
            while (
                outbox is not None and self._sends_still() and getcurrent() is not self._turns.hub
            ):
                left = end - self._use_clock.now()
                if left <= 0.0 or not outbox.wait(left):
                    logger.warning("%s: %d bytes were not sent", self.name, outbox.size)
                    break
            self.cut()
            return
        super().close()

    # --- dialling ---------------------------------------------------------------------------------

    def _connect(self, timeout: float) -> None:
        self.open(self._dial(timeout))
        self._resume_reading()

    def _dial(self, timeout: float) -> StreamTransport:
        end = self._use_clock.now() + timeout
        attempt = 0
        while True:
            left = end - self._use_clock.now()
            try:
                return dial(self._target, max(left, 0.0), clock=self._use_clock)
            except ConnectError:
                pause = _DIAL_PAUSES[min(attempt, len(_DIAL_PAUSES) - 1)]
                attempt += 1
                if not self._wait or self._use_clock.now() + pause >= end:
                    raise
                wait(self._turns, self._use_clock, pause)

    def request_again(
        self,
        message: Message,
        reply: str | Iterable[str] | None,
        timeout: float,
        serial: bool,
        idempotent: bool,
    ) -> Message:
        """Dials anew after a loss, with ``wait=True`` or for an idempotent request."""
        end = self._use_clock.now() + timeout
        while True:
            left = max(end - self._use_clock.now(), 0.0)
            if self._eof and not self._closed and (self._wait or idempotent):
                self._reopen(min(left, self.connect_timeout))
                left = max(end - self._use_clock.now(), 0.0)
            try:
                return super().request_again(message, reply, left, serial, idempotent)
            except ConnectionLostError:
                if not idempotent or self._closed or self._use_clock.now() >= end:
                    raise

    def _reopen(self, timeout: float) -> None:
        transport, self._transport = self._transport, None
        if self._outbox is not None:
            self._outbox.close()
        if transport is not None:
            transport.close()
        self._connect(timeout)

    # --- in the hub -------------------------------------------------------------------------------

    def _takes_turns(self) -> bool:
        return self._dispatcher is not None or self._communicator is not None

    def take_units(self, units: list[Any]) -> list[Any]:
        """Without a dispatcher, answers HELP and ALIVE at once."""
        if self._requests is not None:
            units = super().take_units(units)
        if not units or self._takes_turns():
            return units
        left: list[Any] = []
        for unit in units:
            message = self.unpack(unit)
            if message is None:
                continue
            if message.command in _ANSWERED:
                self._answer_default(message)
            elif message.command in _ENDING and self.may_control:
                self.mark_done()
            else:
                left.append(message)
        return left

    def _answer_default(self, message: Message) -> None:
        handler = default_commands(fallback_dispatcher())[message.command]
        answer = handler(message, self)
        try:
            if answer is not None:
                self.send(answer)
        except EdgeventError as error:
            logger.debug("%s: %s was not answered: %s", self.name, message.command, error)

    def ended(self, error: NetworkError | None) -> None:
        """Ends :meth:`run` too."""
        super().ended(error)
        self._end_run()

    def has_ended(self) -> None:
        """Ends :meth:`run` too."""
        super().has_ended()
        self._end_run()
