"""Calls from other threads: they wait here until this thread's loop takes them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from . import limits
from .binding import describe
from .connection import FAILURES
from .errors import ForkedError, UsageError
from .runtime.guards import REGISTRY
from .runtime.turns import IDLE, Turns, Worker

logger = logging.getLogger("edgevent")


class Call:
    """A function on its way to a turn; what it raises is logged.

    Args:
        on_end: Called in the turn when the function has returned or failed.
    """

    __slots__ = ("_arguments", "_function", "_on_end", "ticket")

    priority = limits.DEFAULT_PRIORITY

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...] = (),
        on_end: Callable[[], object] | None = None,
    ) -> None:
        self._function = function
        self._arguments = arguments
        self._on_end = on_end
        self.ticket = IDLE

    @property
    def name(self) -> str:
        """The name for log lines."""
        return f"call of {describe(self._function)}"

    def run_unit(self, unit: Any) -> None:
        """Calls have no units and never get here."""
        raise NotImplementedError

    def turn_waits(self, worker: Worker) -> None:
        """Others are not held up by a call."""

    def run_turn(self) -> None:
        """Calls the function; called by a worker."""
        try:
            self._function(*self._arguments)
        except FAILURES as error:
            logger.error("%s failed", self.name, exc_info=error)
        finally:
            if self._on_end is not None:
                self._on_end()


class CallQueue:
    """Takes calls from any thread, and has them made in turns of its own thread.

    Args:
        on_end: Called in the turn after each call.

    Attributes:
        open: How many calls were taken and have not ended.
    """

    def __init__(self, turns: Turns, on_end: Callable[[], object]) -> None:
        self._turns = turns
        self._on_end = on_end
        self._waiting: deque[Call] = deque()
        self._wake: Any = turns.loop.async_()
        self.open = 0

    def put(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Takes a call; it is made once the queue is started. Callable from any thread.

        Raises:
            ForkedError: The calling process was forked from the one that made the queue.
            UsageError: It is no function.
        """
        if self._turns.forked:
            raise ForkedError("this object belongs to the parent of this forked process")
        if not callable(function):
            raise UsageError(f"call_threadsafe: a function was expected, not {function!r}")
        self._waiting.append(Call(function, arguments, self._ended))
        self._wake.send()

    def start(self) -> None:
        """Has calls made from now on. Started, the queue keeps the loop alive."""
        REGISTRY.descriptors.add(self)
        self._wake.start(self._take)
        if self._waiting:  # a signal to a watcher that is not started is lost
            self._wake.send()

    def stop(self) -> None:
        """Leaves calls waiting. Idempotent."""
        REGISTRY.descriptors.discard(self)
        self._wake.stop()

    def abandon(self) -> None:
        """Lets a forked child's loop end, which has nothing to wait for."""
        self._wake.stop()

    def keep_loop(self, keeps: bool) -> None:
        """Says whether the queue, while it is started, keeps the loop alive."""
        if self._wake.ref != keeps:
            self._wake.ref = keeps

    def _take(self) -> None:
        try:
            while self._waiting:
                self.open += 1
                self._turns.arrive(self._waiting.popleft())
        except BaseException as error:
            self._turns.failed(error)

    def _ended(self) -> None:
        self.open -= 1
        self._on_end()
