"""A link with a thread: messages both ways between a communicator and a worker that blocks."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final

from greenlet import getcurrent

from .. import limits
from ..arguments import check_callable, checks_arguments
from ..connection import Owner
from ..dispatcher import Dispatcher
from ..errors import ClosedError, QueueFullError, ThreadStartError, UsageError
from ..links.request import RequestTable, reply_set
from ..message import Message
from ..runtime.native import allocate_lock, get_ident
from ..runtime.turns import Turns
from ..runtime.waits import Waiters
from .doorbell import Doorbell
from .native_threads import Gate, held, start_thread
from .queued import QueuedSource
from .thread_end import InProcess, ThreadEnd, dispatch

logger = logging.getLogger("edgevent")

_END: Final = object()
"""What stands behind the last message of the thread."""


@checks_arguments
class ThreadLink(InProcess, QueuedSource):
    """Messages both ways between this communicator's thread and another one, the worker.

    On this side it is a connection: what the worker sends goes, in turns, to the request that it
    answers, the dispatcher, :meth:`process_message`, the catch-all. The worker has ``link.worker``
    (a :class:`ThreadEnd`) with ``send``, ``receive``, ``request`` and ``run``, and no hub: its
    calls block its thread. Messages are handed over as they are; they never change. In each
    direction they arrive in order, and each arrives or its sender is told. A worker that sends a
    lot and receives nothing, while what it sends is answered, fills both directions: one of the
    senders gets ``QueueFullError`` when its limit is over, and nobody waits for ever.

    When the worker has ended, or raised, :meth:`process_hup` or :meth:`process_error` is called
    behind its last message, and the link is closed. ``stop`` and :meth:`mark_done` let the worker
    receive what was sent before, and wait for its end; ``close`` does not wait.

    Args:
        function: What the worker does: called with ``link.worker`` in a thread of the system,
            which is started when the link is added, and does not keep the program from ending.
            Without it, a thread of your own uses ``link.worker`` and calls its ``close``.
        dispatcher: The table for what the worker sends; by default that of the communicator.
        worker_dispatcher: The table for what the worker handles in ``run``.
        max_messages: So many may wait in each direction; then senders wait.

    Raises:
        UsageError: The function cannot be called, or the limit is none.
    """

    __slots__ = (
        "_arrived",
        "_asking",
        "_bell",
        "_dispatcher",
        "_function",
        "_gate",
        "_given",
        "_handling",
        "_has_told_end",
        "_inherits",
        "_is_rung",
        "_is_stuck",
        "_lock",
        "_requests",
        "_senders",
        "_taken",
        "max_messages",
        "worker",
    )

    def __init__(
        self,
        function: Callable[[ThreadEnd], Any] | None = None,
        dispatcher: Dispatcher | None = None,
        *,
        worker_dispatcher: Dispatcher | None = None,
        max_messages: int = limits.THREAD_MESSAGES,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
    ) -> None:
        super().__init__(
            None, has_hook=True, name=name, priority=priority, keep_running=keep_running
        )
        if function is not None:
            check_callable(function, f"{self.name}: the worker", ("end",))
        if not isinstance(max_messages, int) or max_messages < 1:
            raise UsageError(
                f"{self.name}: max_messages of 1 or more was expected: {max_messages!r}"
            )
        self.max_messages = max_messages
        self.worker = ThreadEnd(self, worker_dispatcher)
        self._function = function
        self._dispatcher = dispatcher
        self._inherits = dispatcher is None
        self._bell = Doorbell.current()
        self._lock = allocate_lock()
        self._gate = Gate(self._lock)  # for workers that wait to send
        self._arrived: deque[Message] = deque()
        self._given = 0  # how many messages the worker has sent,
        self._taken = 0  # and how many of them are handled
        self._asking = 0
        self._is_rung = False
        self._is_stuck = False  # whether a worker waits to send
        self._has_told_end = False
        self._handling: Message | None = None
        self._senders = Waiters(self._turns)
        self._requests: RequestTable | None = None

    # --- what users see ---------------------------------------------------------------------------

    @property
    def dispatcher(self) -> Dispatcher:
        """The table for what the worker sends."""
        if self._dispatcher is None:
            self._dispatcher = Dispatcher()
        return self._dispatcher

    @property
    def turns(self) -> Turns:
        """The turns of the hub that the link belongs to."""
        return self._turns

    @property
    def command(self) -> str:
        """The command that is being handled, or an empty string."""
        return "" if self._handling is None else self._handling.command

    def send(self, message: Message, *, timeout: float = limits.THREAD_SEND_TIMEOUT) -> None:
        """Sends a message to the worker; in the worker's thread, to the communicator.

        While too many wait, the calling greenlet waits alone.

        Raises:
            QueueFullError: There was no room within ``timeout`` seconds, or the caller is the hub.
            ClosedError: The link is closed, or the worker has ended.
        """
        if get_ident() != self._turns.thread:
            self.worker.send(message, timeout=timeout)
            return
        self._turns.check()
        put = self.worker.put
        if put(message):
            return
        end = self._clock.now() + timeout
        waits = self._is_listened_to() and getcurrent() is not self._turns.hub
        while not put(message):
            left = end - self._clock.now()
            if not waits or left <= 0.0:
                raise QueueFullError(f"{self.name}: {self.worker.waiting} messages wait already")
            self._senders.wait(self._clock, left)

    def request(
        self,
        message: Message,
        reply: str | Iterable[str] | None = None,
        timeout: float = limits.REQUEST_TIMEOUT,
    ) -> Message:
        """Asks the worker, and waits for the answer; blocks the calling greenlet alone.

        Args:
            reply: The command, or commands, of an answer that does not copy the serial.
            timeout: The limit in seconds.

        Raises:
            RequestTimeout: No answer came in time.
            ClosedError: The link was closed, or the worker has ended.
            QueueFullError: There was no room for the question within the limit.
            RemoteError: The handler failed; subclasses say that it knows no such command, or
                refused a parameter.
            UsageError: The link is in no communicator, or disabled: no answer could come.
        """
        self._turns.check_wait()
        if not self._closed and not self._is_listened_to():
            raise UsageError(f"{self.name}: only an enabled link in a communicator can ask")
        table = self._requests
        if table is None:
            table = RequestTable(self._turns, self._clock, lambda: self.name)
            self._requests = table
        serial = table.next_serial()
        request = table.add(message, reply_set(reply), serial, timeout)
        with held(self._lock):
            self._asking += 1
            self._gate.wake()  # an answer may stand behind what waits
        try:
            try:
                self.send(message.with_parameters(serial=serial), timeout=timeout)
            except BaseException:
                table.remove(request)
                raise
            return table.wait(request)
        finally:
            self._asking -= 1

    def process_message(self, message: Message) -> bool:
        """Called in a turn with what the dispatcher's matches did not take.

        Returns:
            True when it is taken here.
        """
        return False

    def process_error(self, error: BaseException) -> None:
        """Called in a turn when the worker has raised; logs it with its traceback."""
        logger.error("%s: the thread failed", self.name, exc_info=error)

    def mark_done(self) -> None:
        """Ends the link when the worker has received all, and has ended; see the class."""
        self._turns.check()
        if not self._finish():
            self.close()

    def stop_requested(self, quitting: bool) -> None:
        """What STOP and QUITTING do by default: the communicator drains and stops."""
        if self._communicator is not None:
            self._communicator.stop()

    def log_alive(self) -> None:
        """What LEAK does; callable from any thread."""
        communicator: Any = self._communicator
        if communicator is not None:
            communicator.call_threadsafe(communicator.log_alive)

    def _state(self) -> str:
        return f"{super()._state()}, {self.worker.waiting} to the thread, {self.waiting} from it"

    # --- called in the thread ---------------------------------------------------------------------

    def give(self, message: Message, timeout: float) -> None:
        """Takes a message from the worker; blocks its thread while too many wait."""
        end = monotonic() + timeout
        with held(self._lock):
            while True:
                if self._closed or self.worker.has_ended:
                    raise ClosedError(f"{self.name}: the link is closed")
                self._is_stuck = True  # before the look: the hub looks at it after each message
                if self._given - self._taken < self._limit():
                    break
                left = end - monotonic()
                if left <= 0.0:
                    raise QueueFullError(
                        f"{self.worker.name}: {self._given - self._taken} messages wait already,"
                        f" and none was handled within {timeout:g} s"
                    )
                self._gate.wait(left)
            self._is_stuck = self._gate.is_waited
            self._given += 1
            self._arrived.append(message)
        self.ring()

    def _limit(self) -> int:
        hard = limits.THREAD_MESSAGES_HARD if self._asking else 0
        return max(hard, self.max_messages)

    def ring(self) -> None:
        """Has the hub look here, once for all that comes until then; callable from any thread."""
        with held(self._lock):
            rings, self._is_rung = not self._is_rung, True
        if rings and not self._closed:
            self._bell.ring(self)

    def _run(self) -> None:
        worker = self.worker
        error: BaseException | None = None
        try:
            assert self._function is not None
            self._function(worker)
        except ClosedError as closed:
            error = None if worker.is_finished else closed  # it was told that the link ends
        except BaseException as raised:
            error = raised
        if error is not None and self._closed and not worker.has_ended:
            logger.error("%s: failed after the link was closed", worker.name, exc_info=error)
        worker.close(error)

    # --- in the hub -------------------------------------------------------------------------------

    def rung(self) -> None:
        """Takes what has come, and wakes those who wait for room."""
        with held(self._lock):
            self._is_rung = False
            has_ended = self.worker.has_ended  # before the look: nothing follows then
            arrived, self._arrived = self._arrived, deque()
        if len(self._senders):
            self._senders.wake()
        if self._closed:
            return
        table = self._requests
        for message in arrived:
            if table is not None and table.take(message):
                self._count()
            else:
                self._events.append(message)
        if has_ended and not self._has_told_end:
            self._has_told_end = True
            self._events.append(_END)
            self._lose_requests()
        self._catch_up()

    def _lose_requests(self) -> None:
        if self._requests is not None:
            text = f"{self.name}: the thread has ended, or the link is closed"
            self._requests.lose(ClosedError(text))

    def _count(self) -> None:
        self._taken += 1
        if self._is_stuck and self._given - self._taken <= self.max_messages // 2:
            with held(self._lock):
                self._gate.wake()

    def attach(self, communicator: Owner) -> None:
        """Called by the communicator: starts the thread."""
        if self._inherits:
            self._dispatcher = communicator.dispatcher
        if self._function is not None and not self.worker.is_used:
            try:
                start_thread(self._run)
            except ThreadStartError:
                communicator.remove_connection(self)
                raise
            self.worker.is_used = True
        super().attach(communicator)

    def _is_listened_to(self) -> bool:
        return self._enabled and self._communicator is not None

    def _enabled_changed(self, enabled: bool) -> None:
        if enabled:
            self._bell.hold(self)
        else:
            self._bell.release(self)

    def handle(self, event: Any) -> None:
        """Handles one message in a turn, or the end behind the last one."""
        if event is _END:
            error = self.worker.error
            if error is None:
                self.call_hook(self.process_hup)
            else:
                self.call_hook(self.process_error, error)
            self.close()
            return
        try:
            communicator = self._communicator
            if communicator is not None and communicator.traces:
                communicator.trace("%s: received %r", self.name, event)
            self._handling = event
            dispatch(event, self, self.dispatcher, self.process_message, self.handler_failed)
        finally:
            self._handling = None
            self._count()

    # --- the end ----------------------------------------------------------------------------------

    def drain(self) -> bool:
        """Lets the worker receive what was sent, and waits for its end."""
        if self._enabled and self._communicator is not None and self._finish():
            return False
        return super().drain()

    def _finish(self) -> bool:
        """Sends nothing more; returns whether the end of the worker is yet to come."""
        worker = self.worker
        if self._closed or not (worker.is_used or self._events):
            return False
        worker.finish(cut=False)
        return True

    def _release(self) -> bool:
        self.worker.finish(cut=True)
        with held(self._lock):
            left = self._given - self._taken - (self._handling is not None)
            self._arrived.clear()
            self._gate.wake()
        if left:
            logger.warning("%s: %d messages of the thread are lost", self.name, left)
        if self.worker.error is not None and not self._has_told_end:
            logger.error("%s: the thread failed", self.name, exc_info=self.worker.error)
        self._lose_requests()
        self._bell.release(self)
        self._senders.wake()
        return super()._release()
