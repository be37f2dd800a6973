"""The outbox of a connection that keeps records: nothing is joined, nothing is cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .outbox import Outbox


class RecordOutbox(Outbox):
    """What is to leave, record by record.

    Args:
        pack: Makes a record of a unit; may refuse it.
        drops_newline: Whether the newline behind a unit is left out of its record.
    """

    __slots__ = ("_drops_newline", "_pack")

    def __init__(
        self,
        *arguments: Any,
        pack: Callable[[bytes], bytes],
        drops_newline: bool,
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, **settings)
        self._pack = pack
        self._drops_newline = drops_newline

    def write(self, data: bytes) -> None:
        """Takes what one record is to hold. May switch greenlets, when the outbox is full.

        Raises:
            MessageError: The record would be too long.
            ConnectionLostError: The connection broke or was closed, now or before.
            QueueFullError: The outbox is full, and the caller may not wait.
        """
        if self.error is not None:
            raise self.error_again()
        if self.is_full and not self._make_room():
            return
        self._put(data)
        if not self._watching:
            self._drain()
            if self.error is not None:
                raise self.error_again()

    def _put(self, data: bytes) -> None:
        record = self._pack(data.removesuffix(b"\n") if self._drops_newline else data)
        if record:
            super()._put(record)

    def _drain(self) -> None:
        """Writes until all is out or the kernel takes no more. Never raises."""
        records, self._chunks = self._chunks or (), None
        for index, record in enumerate(records):
            try:
                self._transmit(record)
            except BlockingIOError:
                self._chunks = [*records[index:], *(self._chunks or ())]
                self._watch()
                return
            except OSError as error:
                self._broken(error)
                return
            size = len(record)
            self.sent_bytes += size
            self.size -= size
            self._turns.queued -= size
            if self._watching:
                self._progress = self.clock.now()
        self._all_left()
