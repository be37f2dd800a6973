"""What comes to a datagram address: one read watcher, and the turns that take datagrams."""

from __future__ import annotations

import logging
from collections import Counter
from time import monotonic
from typing import Any

from .. import limits
from ..connection import Connection
from ..errors import UsageError
from ..runtime.clock import Alarm
from ..runtime.traffic import Traffic
from ..runtime.turns import IDLE, RUNNING, Turns, Worker
from ..transport.datagram import Datagram, DatagramTransport

logger = logging.getLogger("edgevent")


class _Lane:
    """A further turn of a connection, for a handler that may block while another one does."""

    __slots__ = ("_flow", "ticket")

    def __init__(self, flow: DatagramFlow) -> None:
        self._flow = flow
        self.ticket = IDLE

    @property
    def name(self) -> str:
        """The connection's name."""
        return self._flow.name

    @property
    def priority(self) -> int:
        """The connection's priority."""
        return self._flow.priority

    @property
    def command(self) -> str:
        """What is being handled."""
        return self._flow.command

    def run_turn(self) -> None:
        """Takes what is there."""
        try:
            self._flow.take_all()
        finally:
            self.ticket = IDLE
            self._flow.lane_ended(self)

    def run_unit(self, unit: Any) -> None:
        """Lanes have no units and never get here."""
        raise NotImplementedError

    def turn_waits(self, worker: Worker) -> None:
        """The next datagram takes another lane."""


class DatagramFlow(Connection):
    """Datagrams are taken from the kernel's queue in turns, as many at a time as may be handled.

    None is kept here: what no turn takes stays in the kernel.

    Args:
        concurrency: The most turns at a time.
    """

    __slots__ = (
        "_draining",
        "_free",
        "_in_bytes",
        "_lanes",
        "_out_bytes",
        "_out_datagrams",
        "_pause",
        "_pauses",
        "_said",
        "_transports",
        "_turns",
        "_watching",
        "counts",
    )

    def __init__(
        self,
        *,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
        concurrency: int = 1,
    ) -> None:
        super().__init__(name=name, priority=priority, keep_running=keep_running)
        if not 1 <= concurrency <= limits.MAX_CONCURRENCY:
            most = limits.MAX_CONCURRENCY
            raise UsageError(f"concurrency {concurrency!r}: 1 to {most} was expected")
        self._turns = Turns.current()
        self._transports: tuple[DatagramTransport, ...] = ()
        self._lanes = [_Lane(self) for _ in range(concurrency - 1)]
        self._free = list(self._lanes)
        self._draining = False
        self._in_bytes = self._out_bytes = self._out_datagrams = 0
        self._watching = False
        self._pause: Alarm | None = None
        self._pauses = 0
        self._said: dict[str, tuple[float, int]] = {}
        self.counts: Counter[str] = Counter()

    def take(self, transport: DatagramTransport, datagram: Datagram) -> None:
        """Called in a turn with each datagram."""
        raise NotImplementedError

    # --- what users see ---------------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """The addresses at which it receives, with the ports that were chosen."""
        return [transport.local for transport in self._transports]

    @property
    def port(self) -> int:
        """The port at which it receives; 0 for a Unix socket, or when closed."""
        return self._transports[0].port if self._transports else 0

    @property
    def dropped_by_kernel(self) -> int:
        """How many datagrams the kernel has dropped because its queue was full."""
        return sum(transport.dropped for transport in self._transports)

    @property
    def command(self) -> str:
        """What was handled last."""
        return ""

    def add_traffic_to(self, total: Traffic) -> None:
        """Adds what has come and left so far; see :class:`~edgevent.connection.Connection`."""
        super().add_traffic_to(total)
        total.messages_in += self.counts["received"]
        total.bytes_in += self._in_bytes
        total.messages_out += self._out_datagrams
        total.bytes_out += self._out_bytes

    def _state(self) -> str:
        return " ".join((super()._state(), *self.addresses))

    # --- in the hub -------------------------------------------------------------------------------

    def _owning_turns(self) -> Turns:
        return self._turns

    def _enabled_changed(self, enabled: bool) -> None:
        if self._pause is not None:
            self._pause.stop()
            self._pause = None
        if enabled:
            self._watch()
            return
        self._unwatch()
        for lane in self._lanes:
            if lane.ticket not in (IDLE, RUNNING):
                lane.ticket = IDLE  # its entry is passed over
                self._free.append(lane)

    def _is_listening(self) -> bool:
        return (
            self._enabled
            and not self._closed
            and not self._draining
            and self._communicator is not None
        )

    def _watch(self) -> None:
        if not self._watching and self._pause is None and not self._draining:
            self._watching = True
            for transport in self._transports:
                transport.watch_read(self._readable)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            for transport in self._transports:
                transport.unwatch_read()

    def _readable(self) -> None:
        try:
            turns = self._turns
            if self.ticket == IDLE:
                if turns.is_sole:
                    turns.grant(self, None)
                else:
                    turns.event(self)
            elif self._free:
                turns.event(self._free.pop())
            else:  # as many handlers as may wait do so: the kernel keeps what comes
                self._unwatch()
        except BaseException as error:  # gevent would stop the watcher without a word
            self._turns.failed(error)

    # --- turns ------------------------------------------------------------------------------------

    def run_unit(self, unit: Any) -> None:
        """Takes what is there, when nothing else is to be done."""
        try:
            self.take_all()
        finally:
            self._end_turn()

    def _work(self) -> None:
        super()._work()
        self.take_all()

    def _end_turn(self) -> None:
        super()._end_turn()
        self._settle()

    def lane_ended(self, lane: Any) -> None:
        """Called when a further turn has ended."""
        self._free.append(lane)
        self._settle()

    def _settle(self) -> None:
        if self._draining:
            if not self._is_busy():
                self.close()
        elif not self._watching and self._is_listening():
            self._watch()

    def _is_busy(self) -> bool:
        return self.ticket == RUNNING or any(lane.ticket == RUNNING for lane in self._lanes)

    def take_all(self) -> None:
        """Takes datagrams and handles them, within the limits of a turn; called in one."""
        turns, communicator = self._turns, self._communicator
        limit = self.event_limit
        count, began = 0, monotonic()
        transports = self._transports
        if len(transports) > 1:  # a busy one must not starve the others
            self._transports = transports[1:] + transports[:1]
        for transport in transports:
            while self._is_listening() and self._communicator is communicator:
                try:
                    datagram = transport.receive()
                except BlockingIOError:
                    break
                except OSError as error:
                    self._receiving_failed(error)
                    return
                self.counts["received"] += 1
                self._in_bytes += len(datagram.data)
                self._pauses = 0
                self.take(transport, datagram)
                count += 1
                if count < limit:
                    if monotonic() - began > self.processing_time_limit:
                        return
                elif (
                    turns.ready
                    or turns.granted
                    or (not count & 3 and monotonic() - began > limits.SOLE_TURN_TIME)
                ):
                    return  # the watcher calls again after the next poll

    def _receiving_failed(self, error: OSError) -> None:
        """Leaves datagrams in the kernel's queue for a while; want of memory, as a rule."""
        pause = limits.ACCEPT_PAUSES[min(self._pauses, len(limits.ACCEPT_PAUSES) - 1)]
        self._pauses += 1
        self.tell("receiving", f"cannot receive: {error.strerror}", limits.LOG_INTERVAL)
        self._unwatch()
        self._pause = self._clock.call_later(pause, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        if self._is_listening():
            self._watch()

    # --- what is told -----------------------------------------------------------------------------

    def tell(
        self,
        what: str,
        text: str,
        interval: float = limits.DATAGRAM_LOG_INTERVAL,
        level: int = logging.WARNING,
    ) -> None:
        """Logs a condition, once in an interval; how often it was meanwhile is told with the next.

        Args:
            what: The condition.
            text: What is logged.
            interval: In seconds.
            level: That of the log line.
        """
        before, count = self._said.get(what, (float("-inf"), 0))
        now = self._clock.now()
        if now - before < interval:
            self._said[what] = (before, count + 1)
            return
        self._said[what] = (now, 0)
        more = f" ({count} more since the last line)" if count else ""
        logger.log(level, "%s: %s%s", self.name, text, more)

    # --- the end ----------------------------------------------------------------------------------

    def drain(self) -> bool:
        """Takes no more datagrams; closes when the handlers that run have ended."""
        if not self._closed and self._is_busy():
            self._draining = True
            self._stop_alarms()
            self._enabled_changed(False)
            return False
        self.close()
        return True

    def _release(self) -> bool:
        self._enabled_changed(False)
        for transport in self._transports:
            transport.close()
        self._transports = ()
        return True
