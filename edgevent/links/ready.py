"""The readiness layer: a foreign descriptor, of which no byte is touched."""

from __future__ import annotations

from typing import Any, Final

from .. import limits
from ..arguments import checks_arguments
from ..connection import Connection
from ..errors import UsageError
from ..runtime.turns import IDLE, Turns
from ..runtime.watchers import READ, WRITE, io_watcher

_READABLE: Final = 4
_WRITABLE: Final = 8


@checks_arguments
class ReadyConnection(Connection):
    """Says when a descriptor that belongs to somebody else can be read or written.

    The descriptor stays the caller's: it is never read, written or closed here. After each call of
    a hook it is looked at again, so a hook must take what is there.

    Args:
        descriptor: A file descriptor, or an object with ``fileno()``.
        read: Whether :meth:`process_read` is called while it is readable.
        write: Whether :meth:`process_write` is called while it is writable.
    """

    __slots__ = ("_descriptor", "_reader", "_turns", "_wants_read", "_wants_write", "_writer")

    def __init__(
        self,
        descriptor: Any,
        *,
        read: bool = True,
        write: bool = False,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
    ) -> None:
        super().__init__(name=name, priority=priority, keep_running=keep_running)
        if not isinstance(descriptor, int) and not hasattr(descriptor, "fileno"):
            raise UsageError(f"{descriptor!r} is no descriptor: a number or a file was expected")
        self._descriptor: int = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        self._turns = Turns.current()
        self._reader: Any = io_watcher(self._descriptor, READ)
        self._writer: Any = io_watcher(self._descriptor, WRITE)
        self._wants_read = read
        self._wants_write = write

    @property
    def descriptor(self) -> int:
        """The number of the descriptor."""
        return self._descriptor

    def _owning_turns(self) -> Turns:
        return self._turns

    def _state(self) -> str:
        return f"{super()._state()} descriptor {self._descriptor}"

    def process_read(self) -> None:
        """Called in a turn while the descriptor is readable, or at its end."""

    def process_write(self) -> None:
        """Called in a turn while the descriptor is writable."""

    def want(self, *, read: bool | None = None, write: bool | None = None) -> None:
        """Changes what is waited for; ``None`` leaves it."""
        self._wants_read = self._wants_read if read is None else read
        self._wants_write = self._wants_write if write is None else write
        if self._communicator is not None and self.ticket == IDLE:
            self._enabled_changed(self._enabled)

    def _enabled_changed(self, enabled: bool) -> None:
        for wanted, watcher, what in (
            (self._wants_read, self._reader, _READABLE),
            (self._wants_write, self._writer, _WRITABLE),
        ):
            watcher.stop()
            if enabled and wanted and not self._closed:
                watcher.start(self._is_ready, what)

    def _is_ready(self, what: int) -> None:
        # Level-triggered: it would call again and again until the turn has dealt with it.
        (self._reader if what == _READABLE else self._writer).stop()
        self._due |= what
        if self.ticket == IDLE and self._enabled:
            self._turns.event(self)

    def _work(self) -> None:
        due = self._due
        self._due &= ~(_READABLE | _WRITABLE)
        if due & _READABLE and self._wants_read:
            self.call_hook(self.process_read)
        # The first hook may have ended or disabled it.
        if due & _WRITABLE and self._wants_write and self._enabled and self._communicator:
            self.call_hook(self.process_write)
        super()._work()

    def _end_turn(self) -> None:
        super()._end_turn()
        if self._communicator is not None and not self._closed:
            self._enabled_changed(self._enabled)

    def _release(self) -> bool:
        self._reader.close()
        self._writer.close()
        return True
