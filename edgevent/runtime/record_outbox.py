"""The outbox of a connection that keeps records: nothing is joined, nothing is cut."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..errors import MessageError
from .outbox import Outbox

logger = logging.getLogger("edgevent")


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
        self._bursts = True  # write_soon writes nothing by itself, which would be no record

    def as_sent(self, data: bytes) -> bytes:
        """Returns the record for a unit, or nothing for no bytes.

        Raises:
            MessageError: It would be too long.
        """
        # An empty line keeps its newline: a record of no bytes would be none.
        if self._drops_newline and len(data) > 1 and data.endswith(b"\n"):
            data = data[:-1]
        return self._pack(data) if data else data

    def write(self, data: bytes) -> None:
        """Takes what one record is to hold. May switch greenlets, when the outbox is full.

        Raises:
            MessageError: The record would be too long.
            ConnectionLostError: The connection broke or was closed, now or before.
            QueueFullError: The outbox is full, and the caller may not wait.
        """
        if self.error is not None:
            raise self.error_again()
        record = self.as_sent(data)
        if not record:
            return
        if not self.size:
            try:
                self._transmit(record)
            except BlockingIOError:
                self._put(record)
                self._watch()
            except OSError as error:
                raise self._broken(error) from error
            else:
                self.sent_bytes += len(record)
                self.sent_units += 1
            return
        if self.is_full and not self._make_room():
            return
        self._put(record)
        if not self._watching:
            self._drain()
            if self.error is not None:
                raise self.error_again()

    def write_soon(self, data: bytes) -> bool:
        """Takes what one record is to hold, but never waits and never raises.

        Returns:
            Whether it was taken; what is too long for a record is not, and told in the log.
        """
        try:
            record = self.as_sent(data)
        except MessageError as error:
            logger.warning("%s: not sent: %s", self._transport.peer, error)
            return False
        return super().write_soon(record) if record else self.error is None

    def _drain(self) -> None:
        """Writes until all is out or the kernel takes no more. Never raises."""
        records, self._chunks = self._chunks or (), None
        for index, record in enumerate(records):
            try:
                self._transmit(record)
            except BlockingIOError:
                self._chunks = list(records[index:])
                self._watch()
                return
            except OSError as error:
                self._broken(error)
                return
            size = len(record)
            self.sent_bytes += size
            self.sent_units += 1
            self.size -= size
            self._turns.queued -= size
            if self._watching:
                self._note_progress()
        self._all_left()
