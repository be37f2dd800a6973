"""The communicator: the set of connections that run together, and their common end."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from gevent.exceptions import LoopExit
from greenlet import getcurrent, greenlet

from . import limits
from .arguments import checks_arguments
from .calls import Call, CallQueue
from .connection import Connection
from .counting import Counting
from .debugging import Debugging
from .dispatcher import Dispatcher
from .errors import UsageError
from .runtime.clock import SYSTEM_CLOCK, Alarm, Clock
from .runtime.closing import Closing
from .runtime.monitor import Monitor
from .runtime.native import Local, get_ident
from .runtime.signal_names import catchable
from .runtime.signals import ReceivedSignal, SignalWatch
from .runtime.turns import Turns
from .timeouts import Dates
from .timer import Timer

logger = logging.getLogger("edgevent")

_C = TypeVar("_C", bound=Connection)
_AT_ONCE: Final = 1e-9  # a delay of no time at all would be one that repeats without end
_GIVEN_BY_US: Final = re.compile(r"\w+-\d+")  # what Connection.name makes up


@checks_arguments
class Communicator(Debugging, Counting, Closing):
    """Runs connections: each gets its turns, by priority, until the last is gone or all stop.

    Args:
        dispatcher: The table for message connections that bring none.
        clock: Counts all limits and delays.
        name: For log lines.
        drain_timeout: How many seconds ``stop`` lets handlers end and outboxes empty.
        monitor: Whether a thread watches for handlers that keep the hub busy, and logs the stack.
        count_handlers: Whether the times of handlers and the lateness of the hub are measured; see
            :func:`edgevent.snapshot`. Of a dispatcher that two such communicators share, the first
            one counts all.

    It belongs to the thread that makes it. Several may run in one thread, each by a greenlet of
    its own; they share the thread's turns.
    """

    _of_thread = Local()

    def __init__(
        self,
        dispatcher: Dispatcher | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        name: str = "communicator",
        drain_timeout: float = limits.DRAIN_TIMEOUT,
        monitor: bool = False,
        count_handlers: bool = False,
    ) -> None:
        self.turns = Turns.current()
        self.clock = clock
        self.dates = Dates(clock, self.turns)
        self.dispatcher = dispatcher
        self.name = name
        self.drain_timeout = drain_timeout
        self.traces = False
        self._closed = False
        self._connections: dict[Connection, None] = {}
        self._names: dict[str, Connection] = {}
        self._keepers = 0
        self._listening = 0
        self._runner: greenlet | None = None
        self._result: bool | None = None
        self._failure: BaseException | None = None
        self._stopping = False
        self._watches: dict[int, SignalWatch] = {}
        self._calls = CallQueue(self.turns, self._check_end)
        self._alarms: list[Alarm] = []
        self._show = None
        self._show_level = logging.INFO
        self._level = None
        self._set_up_counts(count_handlers)
        self._spent = 0.0
        self._began: tuple[float, float] | None = None
        self._monitor = Monitor(self.turns) if monitor else None
        self.turns.on_failure.append(self._failed)

    @classmethod
    def instance(cls) -> Communicator:
        """Returns the communicator of this thread, made at the first call."""
        found: Communicator | None = getattr(cls._of_thread, "instance", None)
        if found is None or found._closed or found.turns is not Turns.current():
            found = cls._of_thread.instance = cls()
        return found

    def __repr__(self) -> str:
        if self._closed:
            state = "closed"
        else:
            state = "stopping" if self._stopping else "running" if self.is_running else "idle"
        return f"<Communicator {self.name} {state}, {len(self._connections)} connections>"

    def close(self) -> None:
        """Closes all connections at once, lets go of signals, and ends ``run``. Idempotent.

        In a forked child nothing is left to be closed, and no hook is called.

        Raises:
            WrongThreadError: The communicator belongs to another thread.
        """
        if self._closed:
            return
        if not self.turns.forked:
            self.turns.check()
        self._closed = True
        if not self.turns.forked:
            for connection in tuple(self._connections):
                connection.call_hook(connection.cut)  # of which a class may have its own
        for watch in self._watches.values():
            watch.stop()
        self._watches.clear()
        self._stop_alarms()
        self.show_connections(False)
        self._calls.stop()
        if self._monitor is not None:
            self._monitor.stop()
            self._monitor = None
        self._end_counts()
        self.turns.on_failure.remove(self._failed)
        self._finish(True)

    # --- connections ------------------------------------------------------------------------------

    @property
    def connections(self) -> tuple[Connection, ...]:
        """All connections, in the order in which they were added."""
        return tuple(self._connections)

    def add_connection(self, connection: _C) -> _C:
        """Takes a connection and runs it from now on; returns it.

        Raises:
            UsageError: It is none, or closed, another communicator has it, or this one is closed.
        """
        turns = self.turns
        if turns.thread != get_ident() or turns.forked:
            turns.check()
        if self._closed:
            raise UsageError(f"{self.name} is closed")
        if not isinstance(connection, Connection):
            raise UsageError(f"{self.name}: a {type(connection).__name__} is no connection")
        if connection._closed:
            raise UsageError(f"{connection.name} is closed and cannot be added")
        owner = connection._communicator
        if owner is not None:
            if owner is self:
                return connection
            raise UsageError(f"{connection.name} is in another communicator")
        if connection._name or self._names:
            self._give_name(connection)
        self._connections[connection] = None
        self._keepers += connection._keep_running
        self._listening += connection._enabled
        connection.attach(self)
        if self.handler_times is not None:
            self._count_handlers_of(connection)
        level = self._level if self.traces and self._level is not None else logging.DEBUG
        if logger.isEnabledFor(level):
            logger.log(level, "%s: added to %s", connection.name, self.name)
        if type(connection).connection_added is not Connection.connection_added:
            connection.call_hook(connection.connection_added)
        if self._stopping and connection in self._connections:
            connection.drain()
        elif self._listening == 1:  # else nothing has changed for run
            self._check_end()
        return connection

    def _give_name(self, connection: Connection) -> None:
        name = connection.name
        if self._is_taken(name, connection):
            number = 2
            while self._is_taken(f"{name}#{number}", connection):
                number += 1
            connection.name = name = f"{name}#{number}"
        if connection.is_named:
            self._names[name] = connection

    def _is_taken(self, name: str, connection: Connection) -> bool:
        if name in self._names:
            return True
        # The names that connections make up are no two the same, and are not kept: ten thousand of
        # them would take a megabyte. But somebody may give such a name.
        return (
            connection.is_named
            and _GIVEN_BY_US.fullmatch(name) is not None
            and any(other.name == name for other in self._connections)
        )

    def remove_connection(self, connection: Connection) -> bool:
        """Lets go of a connection: its queued turns are cancelled, its descriptor stays open.

        Returns:
            Whether it was there.
        """
        turns = self.turns
        if turns.thread != get_ident() or turns.forked:
            turns.check()
        if connection not in self._connections:
            return False
        del self._connections[connection]
        if self._names and self._names.get(connection.name) is connection:
            del self._names[connection.name]
        self._keepers -= connection._keep_running
        self._listening -= connection._enabled
        connection.detach()
        if connection._closed:
            self._keep_counts_of(connection)
        if self._level is None:
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug("%s: removed from %s", connection.name, self.name)
        else:
            left = ", ".join(sorted(other.name for other in self._connections)) or "none"
            logger.log(
                self._level, "%s: removed from %s, left: %s", connection.name, self.name, left
            )
        if type(connection).connection_removed is not Connection.connection_removed:
            if getcurrent() is self.turns.hub:
                hook = connection.connection_removed
                self.turns.arrive(Call(connection.call_hook, (hook,)))
            else:
                connection.call_hook(connection.connection_removed)
        if self._stopping or not self._keepers or not self._listening:
            self._check_end()
        return True

    def changed(self, connection: Connection) -> None:
        """Called by a connection that was enabled or disabled."""
        self._listening += 1 if connection.enabled else -1
        self._check_end()

    def keepers_changed(self, change: int) -> None:
        """Called by a connection that keeps ``run`` from now on, or does so no more."""
        self._keepers += change
        self._check_end()

    def every(
        self, seconds: float, function: Callable[[], Any], *, keep_running: bool = True
    ) -> Timer:
        """Calls a function in a turn every so many seconds, until the timer is closed."""
        timer = Timer(seconds, keep_running=keep_running)
        timer.call(function)
        return self.add_connection(timer)

    def after(
        self, seconds: float, function: Callable[[], Any], *, keep_running: bool = True
    ) -> Timer:
        """Calls a function in a turn once, after so many seconds, unless the timer is closed."""
        timer = Timer(seconds or _AT_ONCE, once=True, keep_running=keep_running)
        timer.call(function)
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
        passed = time.monotonic() - began
        return self._spent + max(passed - (time.thread_time() - used), 0.0)

    def run(self) -> bool:
        """Parks the calling greenlet until all is done.

        Returns:
            True when the last connection that keeps it running is gone, or ``stop`` is done; False
            when all that is left is disabled and nothing could ever happen (logged). That is
            noticed in the main greenlet of a thread; elsewhere the main one gets ``LoopExit``
            where it waits.

        Raises:
            UsageError: It runs already, or the communicator is closed.
            ForkedError: A handler has forked, and its turn has ended in the child too.
            Exception: An internal failure, as it was raised; nothing that a hook or handler of the
                user's raises comes here, but what is no ``Exception``.
        """
        current = self.turns.check_wait()
        if self._runner is not None:
            raise UsageError(f"{self.name}.run() was called inside run()")
        if self._closed:
            raise UsageError(f"{self.name} is closed")
        self._result = None
        self._runner = current
        self._began = (time.monotonic(), time.thread_time())
        self._calls.start()
        self._measure_lag(True)
        try:
            self._check_end()
            while self._result is None and self._failure is None:
                self.turns.hub.switch()
        except LoopExit:
            self.turns.check()  # a handler has forked, and did not end the child
            # No watcher is left that could ever call back: the queue for other threads does not
            # keep the loop while all connections are disabled.
            self._result = False
            names = ", ".join(connection.name for connection in self._connections)
            logger.warning("%s: all is disabled, nothing can happen: %s", self.name, names)
        finally:
            self._runner = None
            self._calls.stop()
            self._measure_lag(False)
            self._spent = self.idle
            self._began = None
            self._stopping = False
            self._stop_alarms()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return bool(self._result)

    def _check_end(self) -> None:
        """Ends ``run`` when nothing keeps it; lets the loop end when all is disabled."""
        if self._runner is None or self._result is not None:
            return
        if not (self._connections or self._calls.open if self._stopping else self._keepers):
            self._finish(True)
        self._calls.keep_loop(self._listening > 0)

    def _finish(self, result: bool) -> None:
        if self._runner is not None and self._result is None:
            self._result = result
            self._wake_runner()

    def _wake_runner(self) -> None:
        if self._runner is not getcurrent():
            self.turns.loop.run_callback(self._resume)

    def _resume(self) -> None:
        if self._runner is not None:
            self._runner.switch()

    def _failed(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        if self._runner is not None:
            self._wake_runner()

    def stop(self, drain_timeout: float | None = None) -> None:
        """Ends all connections, and then ``run``. Does not wait; a second call is harmless.

        Listeners close at once, and nothing more is read. What has been received is handled,
        handlers end, and what was sent leaves, for at most ``drain_timeout`` seconds; then all
        that is left is closed. Called before ``run``, it ends that as soon as it begins.
        """
        self.turns.check()
        timeout = self.drain_timeout if drain_timeout is None else drain_timeout
        if not self._stopping:
            self._stopping = True
            logger.info("%s: stopping", self.name)
            for connection in tuple(self._connections):
                if connection in self._connections:
                    connection.call_hook(connection.drain)
            if self._connections and timeout > 0.0:
                self._call_later(limits.STILL_THERE_WARNING, self._name_those_left)
        if timeout <= 0.0:
            self._cut()
        elif self._connections or self._calls.open:
            self._call_later(timeout, self._cut)
        self._check_end()

    def _call_later(self, delay: float, callback: Callable[[], object]) -> None:
        self._alarms.append(self.clock.call_later(delay, callback))

    def _cut(self) -> None:
        try:
            for connection in tuple(self._connections):
                logger.warning("%s: closed, it did not end in time", connection.name)
                connection.cut()
            self._finish(True)
        except BaseException as error:
            self.turns.failed(error)

    def _name_those_left(self) -> None:
        for connection in self._connections:
            logger.warning("%s: still there after stop()", connection.name)

    def _stop_alarms(self) -> None:
        for alarm in self._alarms:
            alarm.stop()
        self._alarms.clear()

    def stop_on(self, *signals: str | int) -> None:
        """Stops on any of these signals: the first one drains, the second one stops at once.

        A signal is given by name or number (see :func:`signal_number`). Two that come before the
        loop's next poll are one. A :class:`SignalSource` may wait for the same signal.

        ``close`` lets go of them and brings back what the signals did before.

        Raises:
            UsageError: There is no such signal, or the thread is not the main one.
        """
        self.turns.check()
        for number in [catchable(one) for one in signals]:  # all, before the first is caught
            if number not in self._watches:
                self._watches[number] = SignalWatch(number, self._signalled)

    def _signalled(self, received: ReceivedSignal) -> None:
        # All sources of the signal are told of it before one of them is ended.
        self.turns.loop.run_callback(self._stop_by_signal, received)

    def _stop_by_signal(self, received: ReceivedSignal) -> None:
        if self._closed or self.turns.forked:
            return
        try:
            logger.info("%s: %s", self.name, received)
            self.stop(0.0 if self._stopping else None)
        except BaseException as error:
            self.turns.failed(error)

    def call_threadsafe(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Has a function called in a turn of this communicator's thread. Callable from any thread.

        It is called while ``run`` goes on; a call that comes at another time waits for the next
        ``run``. What the function raises is logged.

        Raises:
            ForkedError: The calling process was forked from the communicator's.
        """
        self._calls.put(function, arguments)
