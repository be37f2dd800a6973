"""What sources share whose events come one by one: they wait in order for their turn."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from .. import limits
from ..arguments import check_callable
from ..connection import Connection
from ..runtime.turns import Turns

logger = logging.getLogger("edgevent")


def check_callback(
    callback: object, name: str, takes: tuple[str, ...] = ("event",), *, may_miss: bool
) -> None:
    """Refuses what cannot be called so.

    Args:
        name: The source, for the error.
        takes: What it is called with.
        may_miss: Whether there may be none, because a hook does its work.

    Raises:
        UsageError: It is no function.
    """
    if callback is not None or not may_miss:
        check_callable(callback, name, takes)


class QueuedSource(Connection):
    """A connection that is told of events in the hub, and handles them in turns, in order.

    Args:
        callback: Called in a turn with each event; the class says which hook may be overridden
            instead.
        has_hook: Whether it is.

    Attributes:
        max_events: So many events may wait.
        lost_events: How many came when so many waited, and were dropped.
    """

    __slots__ = ("_callback", "_draining", "_events", "_turns", "lost_events", "max_events")

    def __init__(
        self,
        callback: Callable[[Any], Any] | None,
        *,
        has_hook: bool,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
    ) -> None:
        super().__init__(name=name, priority=priority, keep_running=keep_running)
        check_callback(callback, self.name, may_miss=has_hook)
        self._callback = callback
        self._turns = Turns.current()
        self._events: deque[Any] = deque()
        self._draining = False
        self.max_events = limits.MAX_EVENTS
        self.lost_events = 0

    def handle(self, event: Any) -> None:
        """Handles one event in a turn; what the user's code raises is dealt with there."""
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        """How many events wait for their turn."""
        return len(self._events)

    def _owning_turns(self) -> Turns:
        return self._turns

    def _put(self, event: Any) -> None:
        """Takes an event; called in the hub."""
        if len(self._events) < self.max_events:
            self._events.append(event)
            self._catch_up()
            return
        if not self.lost_events:
            logger.error(
                "%s: more than %d events wait: others are lost", self.name, self.max_events
            )
        self.lost_events += 1

    def _is_due(self) -> bool:
        return self._due != 0 or bool(self._events)

    def _work(self) -> None:
        super()._work()
        turns, events = self._turns, self._events
        began = monotonic()
        count = 0
        while events and self._enabled and not self._closed:
            self.handle(events.popleft())
            count += 1
            passed = monotonic() - began
            if passed > self.processing_time_limit:
                break
            if count >= self.event_limit and (
                turns.ready or turns.granted or passed > limits.SOLE_TURN_TIME
            ):
                break

    def drain(self) -> bool:
        """Takes nothing more; ends when all that has come is handled."""
        if self._events and self._enabled and self._communicator is not None and not self._closed:
            self._draining = True
            self._stop_listening()
            return False
        return super().drain()

    def _stop_listening(self) -> None:
        """Has no more events come."""

    def _end_turn(self) -> None:
        super()._end_turn()
        if self._draining and not self._events and not self._closed:
            self.close()

    def _release(self) -> bool:
        self._stop_listening()
        self._events.clear()
        return True
