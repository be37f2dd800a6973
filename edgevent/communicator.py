"""The communicator: the set of connections that run together, and their common end."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from gevent.exceptions import LoopExit
from greenlet import getcurrent, greenlet

from . import limits
from .connection import FAILURES, Connection
from .dispatcher import Dispatcher
from .errors import UsageError
from .inspect_alive import describe_alive
from .runtime.clock import SYSTEM_CLOCK, Alarm, Clock
from .runtime.monitor import Monitor
from .runtime.signals import SignalWatch, signal_number
from .runtime.turns import IDLE, Turns
from .timer import Timer

logger = logging.getLogger("edgevent")

_C = TypeVar("_C", bound=Connection)


class _Call:
    """A function from another thread, on its way to a turn."""

    __slots__ = ("arguments", "function", "ticket")

    priority = limits.DEFAULT_PRIORITY

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.ticket = IDLE

    @property
    def name(self) -> str:
        return f"call_threadsafe({getattr(self.function, '__qualname__', self.function)})"

    def run_unit(self, unit: Any) -> None:
        raise NotImplementedError

    def run_turn(self) -> None:
        try:
            self.function(*self.arguments)
        except FAILURES as error:
            logger.error("%s failed", self.name, exc_info=error)


class Communicator:
    """Runs connections: each gets its turns, by priority, until the last is gone or all stop.

    Args:
        dispatcher: The table for message connections that bring none.
        clock: Counts all limits and delays.
        name: For log lines.
        drain_timeout: How many seconds ``stop`` lets handlers end and outboxes empty.
        monitor: Whether a thread watches for handlers that keep the hub busy, and logs the stack.

    It belongs to the thread that makes it. Several may run in one thread, each by a greenlet of
    its own; they share the thread's turns.
    """

    _of_thread = threading.local()

    def __init__(
        self,
        dispatcher: Dispatcher | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        name: str = "communicator",
        drain_timeout: float = limits.DRAIN_TIMEOUT,
        monitor: bool = False,
    ) -> None:
        self.turns = Turns.current()
        self.clock = clock
        self.dispatcher = dispatcher
        self.name = name
        self.drain_timeout = drain_timeout
        self.traces = False
        self._connections: dict[Connection, None] = {}
        self._names: dict[str, Connection] = {}
        self._keepers = 0
        self._runner: greenlet | None = None
        self._result: bool | BaseException | None = None
        self._stopping = False
        self._watches: dict[int, SignalWatch] = {}
        self._calls: deque[_Call] = deque()
        self._wake: Any = self.turns.loop.async_()
        self._alarms: list[Alarm] = []
        self._show: Any = None
        self._level: int | None = None
        self._spent = 0.0
        self._began: tuple[float, float] | None = None
        self._monitor = Monitor(self.turns) if monitor else None
        self.turns.on_failure.append(self._failed)

    @classmethod
    def instance(cls) -> Communicator:
        """Returns the communicator of this thread, made at the first call."""
        found: Communicator | None = getattr(cls._of_thread, "instance", None)
        if found is None or found.turns is not Turns.current():
            found = cls._of_thread.instance = cls()
        return found

    def __enter__(self) -> Communicator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "stopping" if self._stopping else "running" if self.is_running else "idle"
        return f"<Communicator {self.name} {state}, {len(self._connections)} connections>"

    def close(self) -> None:
        """Closes all connections at once and lets go of signals. Idempotent."""
        for connection in tuple(self._connections):
            connection.cut()
        for watch in self._watches.values():
            watch.stop()
        self._watches.clear()
        self._stop_alarms()
        self.show_connections(False)
        self._wake.stop()
        if self._monitor is not None:
            self._monitor.stop()
            self._monitor = None
        if self._failed in self.turns.on_failure:
            self.turns.on_failure.remove(self._failed)

    # --- connections ------------------------------------------------------------------------------

    @property
    def connections(self) -> tuple[Connection, ...]:
        """All connections, in the order in which they were added."""
        return tuple(self._connections)

    def add_connection(self, connection: _C) -> _C:
        """Takes a connection and runs it from now on; returns it.

        Raises:
            UsageError: It is closed, or another communicator has it.
        """
        self.turns.check()
        if connection.is_closed:
            raise UsageError(f"{connection.name} is closed and cannot be added")
        if connection.communicator is self:
            return connection
        if connection.communicator is not None:
            raise UsageError(f"{connection.name} is in another communicator")
        self._give_name(connection)
        self._connections[connection] = None
        self._keepers += connection.keep_running
        connection.attach(self)
        logger.debug("%s: added", connection.name)
        self._log(logging.DEBUG, "%s: %s added", self.name, connection.name)
        connection.call_hook(connection.connection_added)
        if self._stopping:
            connection.drain()
        return connection

    def _give_name(self, connection: Connection) -> None:
        name = connection.name
        if name in self._names:
            number = 2
            while f"{name}#{number}" in self._names:
                number += 1
            connection.name = name = f"{name}#{number}"
        if connection._name:
            self._names[name] = connection

    def remove_connection(self, connection: Connection) -> bool:
        """Lets go of a connection: its queued turns are cancelled, its descriptor stays open.

        Returns:
            Whether it was there.
        """
        if connection not in self._connections:
            return False
        del self._connections[connection]
        if self._names.get(connection.name) is connection:
            del self._names[connection.name]
        self._keepers -= connection.keep_running
        connection.detach()
        logger.debug("%s: removed", connection.name)
        if self._level is not None:
            left = ", ".join(sorted(other.name for other in self._connections)) or "none"
            self._log(self._level, "%s: %s removed, left: %s", self.name, connection.name, left)
        connection.call_hook(connection.connection_removed)
        self._check_end()
        return True

    def changed(self, connection: Connection) -> None:
        """Called by a connection that was enabled or disabled."""
        self._check_end()

    def every(
        self, seconds: float, function: Callable[[], Any], *, keep_running: bool = True
    ) -> Timer:
        """Calls a function in a turn every so many seconds, until the timer is closed."""
        timer = Timer(seconds, lambda timer: function(), keep_running=keep_running)
        return self.add_connection(timer)

    def after(
        self, seconds: float, function: Callable[[], Any], *, keep_running: bool = True
    ) -> Timer:
        """Calls a function in a turn once, after so many seconds, unless the timer is closed."""
        timer = Timer(seconds, lambda timer: function(), once=True, keep_running=keep_running)
        return self.add_connection(timer)

    # --- running ----------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether a greenlet is in :meth:`run`."""
        return self._runner is not None

    @property
    def idle(self) -> float:
        """Seconds that ``run`` has spent without work so far.

        That is the time that passed less the processor time of this thread; time for which the
        kernel gave the processor to others counts as idle.
        """
        if self._began is None:
            return self._spent
        began, used = self._began
        return self._spent + (time.monotonic() - began) - (time.thread_time() - used)

    def run(self) -> bool:
        """Parks the calling greenlet until all is done.

        Returns:
            True when the last connection that keeps it running is gone, or ``stop`` is done; False
            when all that is left is disabled and nothing could ever happen (logged).

        Raises:
            UsageError: It runs already.
            EdgeventError: An internal failure; what a turn raises never comes here.
        """
        current = self.turns.check_wait()
        if self._runner is not None:
            raise UsageError(f"{self.name}.run() was called inside run()")
        self._result = None
        self._runner = current
        self._began = (time.monotonic(), time.thread_time())
        try:
            self._check_end()
            if self._result is None:
                self._park()
        finally:
            self._runner = None
            self._wake.stop()
            began, used = self._began
            self._spent += (time.monotonic() - began) - (time.thread_time() - used)
            self._began = None
            self._stopping = False
        result = self._result
        if isinstance(result, BaseException):
            raise result
        return bool(result)

    def _park(self) -> None:
        try:
            while self._result is None:
                self.turns.hub.switch()
        except LoopExit:
            # No watcher is left that could ever call back. The async watcher that stands for other
            # threads is not referenced while all connections are disabled; see _check_end.
            logger.warning(
                "%s: all connections are disabled, nothing can ever happen: %s",
                self.name,
                ", ".join(connection.name for connection in self._connections),
            )
            self._result = False

    def _check_end(self) -> None:
        """Ends ``run`` when nothing keeps it; lets the loop end when all is disabled."""
        if self._runner is None or self._result is not None:
            return
        if not self._keepers or (self._stopping and not self._connections):
            self._finish(True)
            return
        # Referenced, it keeps the loop alive for signals and other threads, which the loop itself
        # does not count.
        listening = any(connection.enabled for connection in self._connections)
        self._wake.stop()
        self._wake.ref = listening
        self._wake.start(self._take_calls)
        if self._calls:
            self._wake.send()

    def _finish(self, result: bool | BaseException) -> None:
        if self._result is None:
            self._result = result
            self._stop_alarms()
            if self._runner is not None and self._runner is not getcurrent():
                self.turns.loop.run_callback(self._resume)

    def _resume(self) -> None:
        if self._runner is not None:
            self._runner.switch()

    def stop(self, drain_timeout: float | None = None) -> None:
        """Ends all connections, and then ``run``. Does not wait; a second call is harmless.

        Listeners close at once, and nothing more is read. What has been received is handled,
        handlers end, and what was sent leaves, for at most ``drain_timeout`` seconds; then all
        that is left is closed.
        """
        timeout = self.drain_timeout if drain_timeout is None else drain_timeout
        if not self._stopping:
            self._stopping = True
            logger.info("%s: stopping", self.name)
            self._alarms.append(
                self.clock.call_later(limits.STILL_THERE_WARNING, self._name_those_left)
            )
            for connection in tuple(self._connections):
                if connection in self._connections:
                    connection.call_hook(connection.drain)
        if timeout <= 0.0:
            self._cut()
        else:
            self._alarms.append(self.clock.call_later(timeout, self._cut))
        self._check_end()

    def _cut(self) -> None:
        try:
            for connection in tuple(self._connections):
                logger.warning("%s: closed, it did not end in time", connection.name)
                connection.cut()
            self._check_end()
        except BaseException as error:
            self.turns.failed(error)

    def _name_those_left(self) -> None:
        for connection in self._connections:
            logger.warning("%s: still there after stop()", connection.name)

    def _stop_alarms(self) -> None:
        for alarm in self._alarms:
            alarm.stop()
        self._alarms.clear()

    def _failed(self, error: BaseException) -> None:
        self._finish(error)

    def stop_on(self, *signals: str | int) -> None:
        """Stops on any of these signals: the first one drains, the second one stops at once.

        Raises:
            UsageError: There is no such signal, or the thread is not the main one.
        """
        for name in signals:
            number = signal_number(name)
            if number not in self._watches:
                self._watches[number] = SignalWatch(number, self._stop_by_signal)

    def _stop_by_signal(self, number: int) -> None:
        try:
            logger.info("%s: signal %d", self.name, number)
            self.stop(0.0 if self._stopping else None)
        except BaseException as error:
            self.turns.failed(error)

    def call_threadsafe(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Has a function called in a turn of this communicator's thread. Callable from any thread.

        What it raises is logged. A call that comes after ``close`` is never made.
        """
        self._calls.append(_Call(function, arguments))
        self._wake.send()

    def _take_calls(self) -> None:
        try:
            while self._calls:
                self.turns.arrive(self._calls.popleft())
        except BaseException as error:
            self.turns.failed(error)

    # --- debugging --------------------------------------------------------------------------------

    def show_connections(self, on: bool = True) -> None:
        """Logs at each wait what is listened to."""
        if on and self._show is None:
            self._show = self.turns.loop.prepare(ref=False)
            self._show.start(self._show_now)
        elif not on and self._show is not None:
            self._show.close()
            self._show = None

    def _show_now(self) -> None:
        names = ", ".join(
            f"{connection.name} ({connection.priority})"
            for connection in sorted(self._connections, key=lambda found: found.priority)
            if connection.enabled
        )
        logger.info("%s: waiting for: %s", self.name, names or "nothing")

    def log_connections(self, level: int | None = logging.INFO) -> None:
        """Logs at this level, after each removal, what remains; ``None`` ends it."""
        self._level = level

    def debug_connections(self, level: int | None = logging.DEBUG) -> None:
        """Sets the level of both, and traces what is added, removed and received; None ends it."""
        self.traces = level is not None
        self.log_connections(level)
        self.show_connections(self.traces)

    def _log(self, level: int, text: str, *arguments: object) -> None:
        if self.traces or self._level is not None:
            logger.log(self._level or level, text, *arguments)

    def log_alive(self) -> None:
        """Logs the greenlets, connections, descriptors and memory of this process."""
        for line in describe_alive(self.turns, self._connections):
            logger.info("%s: %s", self.name, line)
