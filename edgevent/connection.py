"""The base of all that a communicator runs: a name, a priority, a switch, timeouts and a turn."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import gevent

from . import limits
from .binding import describe
from .errors import UsageError
from .handler_times import HandlerTable
from .runtime.clock import SYSTEM_CLOCK, Clock
from .runtime.closing import Closing
from .runtime.native import get_ident
from .runtime.traffic import Traffic
from .runtime.turns import IDLE, RUNNING, Turns, Worker
from .timeouts import DATE, TIMEOUT, Dates, Timed

if TYPE_CHECKING:
    from .dispatcher import Dispatcher

logger = logging.getLogger("edgevent")

_numbers = itertools.count(1)

FAILURES: Final = (Exception, gevent.Timeout)
"""What a handler may raise without more than its own turn being lost."""

_DRAINED: Final = 256
"""What can be due in a turn, beside the timeouts; the layers above have bits of their own."""


class Owner(Protocol):
    """What a connection asks of its communicator."""

    turns: Turns
    clock: Clock
    dates: Dates
    dispatcher: Dispatcher | None
    traces: bool

    def trace(self, text: str, *arguments: object) -> None:
        """Logs what is received, while ``traces`` is set."""

    def remove_connection(self, connection: Connection, /) -> bool:
        """Forgets the connection."""

    def changed(self, connection: Connection, /) -> None:
        """Takes note that a connection was enabled or disabled, or can end."""

    def keepers_changed(self, change: int, /) -> None:
        """Takes note that so many connections more keep ``run``."""

    def stop(self, drain_timeout: float | None = None) -> None:
        """Ends all connections, then ``run``."""

    def log_alive(self) -> None:
        """Logs what is alive."""


class Connection(Timed, Closing):
    """Something that a communicator waits for.

    Args:
        name: Unique in the communicator; ``<class>-<number>`` when not given.
        priority: 0 to 255; of the connections that are ready in one pass, the lowest is first.
        keep_running: Whether ``run`` goes on while this connection is there.

    Attributes:
        handler_errors: How many hooks and handlers have raised.
    """

    is_counted = True
    """Whether sums and snapshots count this kind of connection."""

    works_alone = False
    """Whether this kind of connection is listened to without a communicator too."""

    __slots__ = (
        "__weakref__",
        "_closed",
        "_communicator",
        "_due",
        "_enabled",
        "_name",
        "_number",
        "_priority",
        "handler_errors",
        "ticket",
    )

    def __init__(
        self,
        *,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
    ) -> None:
        self._number = next(_numbers)
        self._name = name
        self._communicator: Owner | None = None
        self.ticket = IDLE
        self._enabled = True
        self._closed = False
        self._due = 0
        self._delay = self._date = None
        self._alarm = self._date_alarm = None
        self._next = 0.0
        self._keep_running = bool(keep_running)
        self._event_limit = limits.EVENT_LIMIT
        self._processing_time_limit = limits.PROCESSING_TIME_LIMIT
        self._on_handler_error = "log"
        self.handler_errors = 0
        default = priority == limits.DEFAULT_PRIORITY  # which needs no check
        self._priority = priority if default else _check_priority(priority)

    # --- what users see ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name, unique in the communicator."""
        return self._name or f"{type(self).__name__}-{self._number}"

    @name.setter
    def name(self, name: str) -> None:
        if self._communicator is not None:
            raise UsageError(f"{self.name}: the name is fixed once the connection is added")
        self._name = name

    @property
    def is_named(self) -> bool:
        """Whether somebody gave the connection its name."""
        return self._name != ""

    @property
    def priority(self) -> int:
        """0 to 255; 0 is served first. A change holds from the next turn on."""
        return self._priority

    @priority.setter
    def priority(self, priority: int) -> None:
        self._priority = _check_priority(priority)

    @property
    def communicator(self) -> Any:
        """The :class:`~edgevent.Communicator` that runs the connection, or ``None``."""
        return self._communicator

    @property
    def is_closed(self) -> bool:
        """Whether the connection was closed, by either side."""
        return self._closed

    @property
    def enabled(self) -> bool:
        """Whether the connection is listened to. A disabled one keeps what it has received."""
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        if enabled == self._enabled:
            return
        communicator = self._communicator
        if communicator is None and not self.works_alone:
            self._enabled = enabled
            return
        turns = self._owning_turns()
        assert turns is not None
        turns.check()
        self._enabled = enabled
        self._enabled_changed(enabled)
        if enabled:
            self._start_delay()
            self._start_date()
            self._catch_up()
        else:
            self._cancel_turn()
            self._stop_alarms()
        if communicator is not None:
            communicator.changed(self)

    @property
    def age(self) -> float | None:
        """For how many seconds there has been a transport; ``None`` when there is none."""
        return None

    @property
    def queued_bytes(self) -> tuple[int, int]:
        """How many bytes have come and wait to be handled, and how many wait to leave."""
        return 0, 0

    @property
    def traffic(self) -> Traffic:
        """What has come and left so far, and how many handlers failed, as a new object."""
        total = Traffic()
        self.add_traffic_to(total)
        return total

    def add_traffic_to(self, total: Traffic) -> None:
        """Adds what :attr:`traffic` counts to a sum. Does not switch."""
        total.handler_errors += self.handler_errors

    def count_handlers(self, table: HandlerTable) -> None:
        """Called by the communicator when it measures handlers: those that no dispatcher knows."""

    def mark_done(self) -> None:
        """Ends the connection once what it has to do is done; here at once."""
        self.close()

    def close(self) -> None:
        """Ends the connection and takes it out of its communicator. Idempotent.

        A turn that runs goes on to its end. In a forked child nothing is left to be closed.

        Raises:
            WrongThreadError: The communicator belongs to another thread.
        """
        if not self._closed:
            turns = self._owning_turns()
            if turns is not None:
                if turns.forked:
                    self._closed = True
                    return
                if turns.thread != get_ident():
                    turns.check()
            self._closed = True
            if self._alarm is not None or self._date_alarm is not None:
                self._stop_alarms()
            if self._release():
                self._leave()

    def cut(self) -> None:
        """Closes at once, without a wait for what has not left yet."""
        self.close()

    def _leave(self) -> None:
        if self._communicator is not None:
            self._communicator.remove_connection(self)

    def __repr__(self) -> str:
        return f"<{self.name} {self._state()}>"

    # --- hooks ------------------------------------------------------------------------------------

    def process_timeout(self) -> None:
        """Called in a turn when ``timeout_delay`` has passed or ``timeout_date`` is reached."""

    def process_empty_buffer(self) -> None:
        """Called in a turn when all that had to wait for the peer has left."""

    def process_error(self, error: Exception) -> None:
        """Called in a turn when the connection broke; it is closed afterwards."""

    def process_hup(self) -> None:
        """Called in a turn when the peer has ended the connection; it is closed afterwards."""

    def connection_added(self) -> None:
        """Called when a communicator has taken the connection, by the call that added it."""

    def connection_removed(self) -> None:
        """Called when the communicator has let go of the connection.

        That is by the call that removed or closed it, but in a turn of its own when the end came
        from the hub: the last bytes had left, or the time of ``stop`` was over.
        """

    # --- with the communicator --------------------------------------------------------------------

    @property
    def _clock(self) -> Clock:
        return SYSTEM_CLOCK if self._communicator is None else self._communicator.clock

    def attach(self, communicator: Owner) -> None:
        """Called by the communicator, once."""
        self._communicator = communicator
        if self._delay is not None:
            self._start_delay()
        if self._date is not None:
            self._start_date()
        if self._enabled:
            self._enabled_changed(True)
            if self._is_due():
                self._catch_up()

    def detach(self) -> None:
        """Called by the communicator: cancels turns and timeouts, leaves the rest as it is."""
        if self._enabled and not self._closed:
            self._enabled_changed(False)
        self._communicator = None
        if self.ticket != IDLE:
            self._cancel_turn()
        self._due &= ~TIMEOUT
        if self._alarm is not None or self._date_alarm is not None:
            self._stop_alarms()

    def drain(self) -> bool:
        """Begins to end because of ``stop``: at once, or when the turn that runs has ended.

        Returns:
            Whether the connection has ended already.
        """
        if self.ticket == RUNNING and not self._closed:
            self._enabled_changed(False)
            self._stop_alarms()
            self._due |= _DRAINED
            return False
        self.close()
        return True

    def _owning_turns(self) -> Turns | None:
        """The turns of the thread that the connection belongs to, when it belongs to one."""
        return None if self._communicator is None else self._communicator.turns

    def _enabled_changed(self, enabled: bool) -> None:
        """Starts or stops to listen."""

    def _release(self) -> bool:
        """Gives back what the connection holds; returns whether that is done already."""
        return True

    def _state(self) -> str:
        if self._closed:
            return "closed"
        return "enabled" if self._enabled else "disabled"

    # --- turns ------------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        """Whether there is something to do in a turn."""
        return self._due != 0

    def _catch_up(self) -> None:
        """Gets ready if something is to be done."""
        communicator = self._communicator
        if communicator is not None and self.ticket == IDLE and self._enabled and self._is_due():
            communicator.turns.arrive(self)

    def _cancel_turn(self) -> None:
        if self.ticket != RUNNING:
            self.ticket = IDLE  # its entry is passed over

    def _mark_due(self, what: int) -> None:
        self._due |= what
        self._catch_up()

    def run_turn(self) -> None:
        """Does what is due; called by a worker."""
        try:
            self._work()
        finally:
            self._end_turn()

    def run_unit(self, unit: Any) -> None:
        """Connections without units never get here."""
        raise NotImplementedError

    def turn_waits(self, worker: Worker) -> None:
        """Called in the hub when the turn waits: what else is due waits for it."""

    def _work(self) -> None:
        for what in (TIMEOUT, DATE):
            if self._due & what and not self._closed:
                self._due &= ~what
                self.call_hook(self.process_timeout)

    def _end_turn(self) -> None:
        self.ticket = IDLE
        if self._due & _DRAINED:
            self.close()
            return
        communicator = self._communicator
        if communicator is not None and self._enabled and self._is_due():
            communicator.turns.later(self)

    def call_hook(self, hook: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a hook of the user's; what it raises is logged and counted."""
        try:
            return hook(*arguments)
        except FAILURES as error:
            self.handler_failed(error, describe(hook))
            return None

    def handler_failed(self, error: BaseException, where: str) -> str:
        """Logs and counts a failure of the user's code; returns the id that names it in the log."""
        self.handler_errors += 1
        identifier = secrets.token_hex(4)
        logger.error("%s: %s failed, id=%s", self.name, where, identifier, exc_info=error)
        if self._on_handler_error == "close":
            self.close()
        elif self._on_handler_error == "stop" and self._communicator is not None:
            self._communicator.stop()
        return identifier


def _check_priority(priority: int) -> int:
    if not isinstance(priority, int) or not 0 <= priority <= limits.MAX_PRIORITY:
        raise UsageError(f"{priority!r} is no priority: 0 to {limits.MAX_PRIORITY} was expected")
    return priority
