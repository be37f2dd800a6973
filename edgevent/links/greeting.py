"""The TLS handshake with an accepted peer, before it has a connection."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..errors import HandshakeError
from ..limits import GOODBYE_TIMEOUT, READ_BYTES
from ..runtime.clock import Alarm, Clock
from ..runtime.turns import IDLE, Turns, Worker
from ..transport.secure import TlsTransport

logger = logging.getLogger("edgevent")


class Greeting:
    """Shakes hands in turns, within a limit; it is no connection yet, and holds no greenlet.

    Args:
        transport: The new transport.
        turns: The turns of the hub.
        clock: Counts the limit.
        timeout: The limit in seconds.
        name: The name for log lines.
        priority: When its turns are granted.
        on_failed: Called with this greeting and the error when there will be no TLS. The transport
            stays open for a moment, until the other side has seen why.
        on_end: Called once, with this greeting, and the transport, which is the caller's from now
            on; or ``None`` when it was closed.
    """

    __slots__ = (
        "_alarm",
        "_clock",
        "_on_end",
        "_on_failed",
        "_transport",
        "_turns",
        "name",
        "priority",
        "ticket",
        "timeout",
    )

    def __init__(
        self,
        transport: TlsTransport,
        turns: Turns,
        clock: Clock,
        timeout: float,
        name: str,
        priority: int,
        on_failed: Callable[[Greeting, HandshakeError], object],
        on_end: Callable[[Greeting, TlsTransport | None], object],
    ) -> None:
        self._transport: TlsTransport | None = transport
        self._turns = turns
        self._clock = clock
        self._on_failed = on_failed
        self._on_end = on_end
        self.name = name
        self.priority = priority
        self.ticket = IDLE
        self.timeout = timeout
        self._alarm: Alarm | None = clock.call_later(timeout, self._too_late)
        self._wait()

    @property
    def peer(self) -> str:
        """The other side's address; an empty string when the greeting has ended."""
        return "" if self._transport is None else self._transport.peer

    def _wait(self) -> None:
        if self._transport is not None:
            below = self._transport.below
            if self._transport.must_write:
                below.watch_write(self._ready)
            else:
                below.watch_read(self._ready)

    def _ready(self) -> None:
        try:
            self._unwatch()
            if self._transport is not None and self.ticket == IDLE:
                self._turns.event(self)
        except BaseException as error:  # gevent would stop the watcher without a word
            self._turns.failed(error)

    def _unwatch(self) -> None:
        if self._transport is not None:
            self._transport.below.unwatch_read()
            self._transport.below.unwatch_write()

    def run_turn(self) -> None:
        """Goes on with the handshake."""
        self.ticket = IDLE
        transport = self._transport
        if transport is None:
            return
        try:
            done = transport.shake_hands()
        except HandshakeError as error:
            self._failed(error)
            return
        except Exception as error:
            self.close()
            self._turns.failed(error)
            return
        if done:
            self._transport = None
            self._stop_alarm()
            self._on_end(self, transport)
        else:
            self._wait()

    def run_unit(self, unit: Any) -> None:
        """A greeting has no units, and never gets here."""
        raise NotImplementedError

    def turn_waits(self, worker: Worker) -> None:
        """A greeting never waits."""

    def _too_late(self) -> None:
        self._alarm = None
        if self._transport is not None:
            self._unwatch()
            self._failed(HandshakeError(f"{self.peer}: no TLS handshake within {self.timeout:g} s"))

    def _failed(self, error: HandshakeError) -> None:
        self._stop_alarm()
        self._on_failed(self, error)
        if self._transport is not None:
            # A close with unread input would send a reset, and the peer would lose the alert that
            # says what was wrong: what it still sends is read and dropped, for a short while.
            below = self._transport.below
            below.shutdown_write()
            self._alarm = self._clock.call_later(GOODBYE_TIMEOUT, self.close)
            below.watch_read(self._drop)

    def _drop(self) -> None:
        try:
            if self._transport is None or self._transport.below.receive(READ_BYTES):
                return
        except BlockingIOError:
            return
        except OSError as error:
            logger.debug("%s: %s", self.name, error)
        self.close()

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None

    def close(self) -> None:
        """Gives everything back. Idempotent."""
        self._stop_alarm()
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
            self._on_end(self, None)
