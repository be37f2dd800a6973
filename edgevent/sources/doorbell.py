"""How other threads wake this one's hub: one watcher for all sources, however many there are."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from ..runtime.guards import REGISTRY
from ..runtime.native import Local
from ..runtime.turns import Turns


class Rung(Protocol):
    """Who can be rung for."""

    def rung(self) -> None:
        """Called in the hub, once for each ring; it must not block or raise."""


class Doorbell:
    """Rings from any thread, answered in the hub. One ring wakes the loop for all that come then.

    The loop waits for it while somebody holds it.

    Args:
        turns: The turns of the hub.
    """

    _of_thread = Local()

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self._rung: deque[Rung] = deque()
        self._holders: dict[object, None] = {}
        self._wake: Any = turns.loop.async_()

    @classmethod
    def current(cls) -> Doorbell:
        """The one of this thread's hub."""
        found: Doorbell | None = getattr(cls._of_thread, "doorbell", None)
        turns = Turns.current()
        if found is None or found.turns is not turns:
            found = cls._of_thread.doorbell = cls(turns)
        return found

    def hold(self, holder: object) -> None:
        """Answers rings from now on; those that came before are answered too."""
        if not self._holders:
            REGISTRY.descriptors.add(self)
            self._wake.start(self._answer)
            if self._rung:  # a signal to a watcher that is not started is lost
                self._wake.send()
        self._holders[holder] = None

    def release(self, holder: object) -> None:
        """Ends what :meth:`hold` began. Idempotent."""
        if holder in self._holders:
            del self._holders[holder]
            if not self._holders:
                self.abandon()

    def ring(self, target: Rung) -> None:
        """Has ``target.rung()`` called in the hub. Callable from any thread, does not wait."""
        self._rung.append(target)
        try:
            self._wake.send()
        except ValueError:  # the hub was destroyed, with its thread: nobody is there
            self._rung.clear()

    def abandon(self) -> None:
        """Lets a forked child's loop end, which has nothing to wait for."""
        self._holders.clear()
        REGISTRY.descriptors.discard(self)
        self._wake.stop()

    def _answer(self) -> None:
        try:
            # What is rung meanwhile has sent a signal of its own.
            for _ in range(len(self._rung)):
                self._rung.popleft().rung()
        except BaseException as error:
            self.turns.failed(error)
            if self._rung:
                self._wake.send()
