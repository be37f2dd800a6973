"""Threads that end: functions that run in a thread, and threads of the user's own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from greenlet import getcurrent

from .. import limits
from ..arguments import checks_arguments
from ..communicator import Communicator
from ..connection import Connection
from ..errors import ClosedError, ThreadStartError, ThreadTimeout, UsageError
from ..runtime.native import allocate_lock
from ..runtime.turns import Turns, Worker
from ..runtime.waits import Waiters
from .doorbell import Doorbell
from .native_threads import POOL, held
from .queued import check_callback

logger = logging.getLogger("edgevent")

_DONE: Final = 4
"""What can be due in a turn besides: the end of the thread."""


@dataclass(frozen=True, slots=True)
class ThreadOutcome:
    """How a thread has ended.

    Attributes:
        result: What its function returned.
        error: What it raised, with its traceback; ``None`` if it returned.
    """

    result: Any = None
    error: BaseException | None = None

    def get(self) -> Any:
        """Returns the result, or raises the error."""
        if self.error is not None:
            raise self.error
        return self.result


@checks_arguments
class ThreadDone(Connection):
    """Tells the loop that a thread has ended, with what it returned or raised; then it is closed.

    The thread is yours. It calls this object in place of its function, or is a
    ``threading.Thread`` that is not started yet, or calls :meth:`finish` or :meth:`fail` as the
    last it does. ``stop`` waits for a thread that has begun, unless ``keep_running`` is false.

    Args:
        work: The function, or the thread; ``None`` when the thread calls :meth:`finish`.
        callback: Called in a turn with the :class:`ThreadOutcome`; :meth:`process_done` may be
            overridden instead. Without either, and without a :meth:`wait`, an error is logged.

    Raises:
        UsageError: The thread was started already, or one of the two cannot be called.

    Example:
        >>> done = communicator.add_connection(ThreadDone(compute, lambda outcome: ...))
        >>> threading.Thread(target=done, args=(1, 2)).start()
    """

    __slots__ = (
        "_bell",
        "_callback",
        "_function",
        "_has_begun",
        "_is_taken",
        "_lock",
        "_outcome",
        "_turns",
        "_waiters",
    )

    def __init__(
        self,
        work: Callable[..., Any] | threading.Thread | None = None,
        callback: Callable[[ThreadOutcome], Any] | None = None,
        *,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
    ) -> None:
        super().__init__(name=name, priority=priority, keep_running=keep_running)
        check_callback(callback, self.name, ("outcome",), may_miss=True)
        self._callback = callback
        self._turns = Turns.current()
        self._waiters = Waiters(self._turns)
        self._bell = Doorbell.current()
        self._lock = allocate_lock()
        self._outcome: ThreadOutcome | None = None
        self._has_begun = False
        self._is_taken = False
        self._function: Callable[..., Any] | None
        if isinstance(work, threading.Thread):
            if work.ident is not None or work.is_alive():
                raise UsageError(
                    f"{self.name}: {work.name} was started already; its end can be told only if"
                    " this is made before"
                )
            self._function = work.run
            work.run = self  # type: ignore[method-assign]
        elif work is None or callable(work):
            self._function = work
        else:
            raise UsageError(f"{self.name}: a function or a thread was expected: {work!r}")

    # --- what users see ---------------------------------------------------------------------------

    @property
    def outcome(self) -> ThreadOutcome | None:
        """How the thread has ended; ``None`` if it has not."""
        return self._outcome

    def process_done(self, outcome: ThreadOutcome) -> None:
        """Called in a turn when the thread has ended; calls the callback."""
        if self._callback is not None:
            self._callback(outcome)
        elif outcome.error is not None and not self._is_taken:
            logger.error("%s: the thread failed", self.name, exc_info=outcome.error)

    def wait(self, timeout: float | None = None) -> Any:
        """Waits for the end of the thread. Blocks the calling greenlet alone.

        Returns:
            What the function returned.

        Raises:
            ThreadTimeout: It has not ended within ``timeout`` seconds.
            ClosedError: This object was closed before.
            BaseException: What the function raised.
        """
        self._turns.check_wait()
        end = None if timeout is None else self._clock.now() + timeout
        holder = object()  # without a communicator, this wait is what keeps the loop
        self._bell.hold(holder)
        try:
            while self._outcome is None:
                if self._closed:
                    raise ClosedError(f"{self.name} is closed")
                left = None if end is None else end - self._clock.now()
                if left is not None and left <= 0.0:
                    raise ThreadTimeout(f"{self.name}: the thread has not ended in {timeout:g} s")
                self._waiters.wait(self._clock, left)
        finally:
            self._bell.release(holder)
        self._is_taken = True
        return self._outcome.get()

    # --- called in the thread ---------------------------------------------------------------------

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Calls the function, in the thread, and tells its end; raises nothing.

        Returns:
            What the function returned, or ``None``.

        Raises:
            UsageError: There is no function.
        """
        if self._function is None:
            raise UsageError(f"{self.name}: there is no function to call; see finish()")
        self._has_begun = True
        try:
            result = self._function(*arguments, **named)
        except BaseException as error:
            self.fail(error)
            return None
        self.finish(result)
        return result

    def finish(self, result: Any = None) -> None:
        """Tells that the thread ends, and its result. Callable from any thread, once.

        Raises:
            UsageError: The end was told already.
        """
        self._end(ThreadOutcome(result))

    def fail(self, error: BaseException) -> None:
        """Tells that the thread ends with an error. Callable from any thread, once.

        Raises:
            UsageError: The end was told already.
        """
        self._end(ThreadOutcome(error=error))

    def begin(self) -> None:
        """Tells that the thread has begun, for one that calls :meth:`finish` by itself."""
        self._has_begun = True

    def _end(self, outcome: ThreadOutcome) -> None:
        with held(self._lock):
            if self._outcome is not None:
                raise UsageError(f"{self.name}: the end of the thread was told already")
            self._outcome = outcome
        if self._closed and outcome.error is not None:
            logger.error("%s: failed after it was closed", self.name, exc_info=outcome.error)
        if not self._closed:
            self._bell.ring(self)

    # --- in the hub -------------------------------------------------------------------------------

    def rung(self) -> None:
        """Takes note of the end."""
        if self._outcome is None:
            return
        if len(self._waiters):
            self._is_taken = True
            self._waiters.wake()
        if not self._closed:
            self._mark_due(_DONE)

    def _owning_turns(self) -> Turns:
        return self._turns

    def _state(self) -> str:
        if self._outcome is None:
            return (
                f"{super()._state()}, the thread has {'begun' if self._has_begun else 'not begun'}"
            )
        return f"{super()._state()}, the thread has ended"

    def _enabled_changed(self, enabled: bool) -> None:
        if enabled:
            self._bell.hold(self)
        else:
            self._bell.release(self)

    def _work(self) -> None:
        if self._due & _DONE:
            self._due &= ~_DONE
            assert self._outcome is not None
            self.call_hook(self.process_done, self._outcome)
            self.close()
            return
        super()._work()

    def drain(self) -> bool:
        """Waits for the end of a thread that has begun."""
        if (
            self._closed
            or not self._enabled
            or not ((self.keep_running and self._has_begun) or self._outcome is not None)
        ):
            return super().drain()
        self._stop_alarms()
        return False

    def _release(self) -> bool:
        self._bell.release(self)
        self._waiters.wake()
        return True


def run_in_thread(
    function: Callable[..., Any],
    *arguments: Any,
    done: Callable[[ThreadOutcome], Any] | None = None,
    communicator: Communicator | None = None,
    name: str = "",
    priority: int = limits.DEFAULT_PRIORITY,
    keep_running: bool = True,
) -> ThreadDone:
    """Runs a function in a thread of the system, so that what blocks there blocks nobody here.

    It runs beside all greenlets: it must not touch connections, but for
    :meth:`Communicator.call_threadsafe`. At most :data:`~edgevent.limits.MAX_THREADS` run at a time
    in a process, others wait in order; the end of the program waits for none. Does not wait.

    Args:
        done: Called in a turn with the :class:`ThreadOutcome`. Without it, use ``wait`` of what is
            returned, or errors are logged.
        communicator: Where the end is told. By default the one whose turn calls, else the only one
            of this thread.
        keep_running: Whether ``run`` goes on until the end of the function.

    Returns:
        The connection; closed before the function has begun, that is never called.

    Raises:
        ThreadStartError: The system has no more threads for this process.
        UsageError: The function cannot be called, or there are several communicators.
    """
    if not callable(function):
        raise UsageError(f"a function to run in a thread was expected: {function!r}")
    owner = _communicator_here() if communicator is None else communicator
    called = ThreadDone(function, done, name=name, priority=priority, keep_running=keep_running)
    called.begin()
    owner.add_connection(called)

    def call() -> None:
        if not called.is_closed:
            called(*arguments)

    try:
        POOL.call(call)
    except ThreadStartError:
        called.close()
        raise
    return called


def _communicator_here() -> Communicator:
    current = getcurrent()
    task: Any = current.task if isinstance(current, Worker) else None
    owner = getattr(task, "communicator", None)
    if isinstance(owner, Communicator):
        return owner
    owners = [getattr(one, "__self__", None) for one in Turns.current().on_failure]
    found = [one for one in owners if isinstance(one, Communicator)]
    found = [one for one in found if one.is_running] or found
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise UsageError(f"communicator= was expected: this thread has several: {names}")
    return found[0] if found else Communicator.instance()
