"""What becomes of this process's children, as events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import limits
from ..arguments import checks_arguments
from ..connection import Owner
from ..errors import UsageError
from .queued import QueuedSource
from .reaping import ChildEvent, Reaper


@checks_arguments
class ChildWatch(QueuedSource):
    """Says when a child of this process has ended, was killed, was stopped, or goes on.

    It is told of each end once. Of one child it tells from now on, and of its end even if that
    has come already; then the watch ends by itself. A child for which somebody else waits
    (``subprocess.run``, ``os.waitpid``) is that one's: a watch of that very child is told
    ``collected``, a watch of all is told nothing. ``gevent.subprocess`` goes on working beside it.

    While there is one, the loop waits for all children of the process. A ``Popen`` of the standard
    library whose ``wait`` comes later than that says 0: use ``gevent.subprocess`` or
    :class:`~edgevent.Process`.

    Args:
        pid: The child, or ``None`` for all.
        callback: Called with each :class:`~edgevent.ChildEvent`; :meth:`process_child` may be
            overridden instead.

    Raises:
        UsageError: The pid is no child of this process, the callback is none, or the thread is not
            the main one.
    """

    __slots__ = ("_has_ended", "_listens", "_pid")

    def __init__(
        self,
        pid: int | None = None,
        callback: Callable[[ChildEvent], Any] | None = None,
        *,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
    ) -> None:
        overridden = type(self).process_child is not ChildWatch.process_child
        super().__init__(
            callback,
            has_hook=overridden,
            name=name,
            priority=priority,
            keep_running=keep_running,
        )
        if pid is not None and (not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0):
            raise UsageError(
                f"{pid!r} is no process: a pid, or None for all children, was expected"
            )
        self._pid = pid
        self._listens = False
        self._has_ended = False
        self._listen()

    @property
    def pid(self) -> int | None:
        """The child that is watched; ``None`` stands for all."""
        return self._pid

    def process_child(self, event: ChildEvent) -> None:
        """Called in a turn with each event; calls the callback."""
        if self._callback is not None:
            self._callback(event)

    def child_changed(self, event: ChildEvent) -> None:
        """Called in the hub."""
        if self._pid is not None and event.is_end:
            self._listens = False
            self._has_ended = True
        self._put(event)

    def handle(self, event: ChildEvent) -> None:
        """Calls the hook; with the end of its one child the watch ends."""
        self.call_hook(self.process_child, event)
        if self._pid is not None and event.is_end:
            self.close()

    def attach(self, communicator: Owner) -> None:
        """Called by the communicator."""
        try:
            self._listen()
        except UsageError:  # it was removed for a while
            assert self._pid is not None
            self.child_changed(ChildEvent(self._pid, "collected"))
        super().attach(communicator)

    def detach(self) -> None:
        """Called by the communicator: nothing is told while the watch is in none."""
        super().detach()
        self._stop_listening()

    def _listen(self) -> None:
        if not self._listens and not self._has_ended:
            Reaper.current().add(self, self._pid)
            self._listens = True

    def _stop_listening(self) -> None:
        if self._listens:
            self._listens = False
            Reaper.current().remove(self, self._pid)

    def _state(self) -> str:
        children = "all children" if self._pid is None else f"child {self._pid}"
        return f"{super()._state()} {children}"
