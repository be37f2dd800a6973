"""The outbox of datagrams: what cannot be sent is lost alone, and nothing ends because of it."""

from __future__ import annotations

from typing import Any

from ..errors import ConnectionLostError, connection_lost
from .record_outbox import RecordOutbox


class DatagramOutbox(RecordOutbox):
    """What is to leave, datagram by datagram; its owner is told of one that cannot be sent."""

    __slots__ = ("_lost",)

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._lost: ConnectionLostError | None = None

    def write(self, data: bytes) -> None:
        """Takes what one datagram is to hold. May switch greenlets, when the outbox is full.

        Raises:
            MessageError: The datagram would be too long.
            ConnectionLostError: It could not be sent; the next one may be. Or all was closed.
            QueueFullError: The outbox is full, and the caller may not wait.
        """
        if self.error is not None:
            raise self.error_again()
        datagram = self.as_sent(data)
        if not datagram or (self.is_full and not self._make_room()):
            return
        self._put(datagram)
        if not self._watching:
            self._drain(datagram)
            lost, self._lost = self._lost, None
            if lost is not None:
                raise lost

    def _drain(self, own: bytes | None = None) -> None:
        """Sends until all is out or there is room for no more. Never raises.

        Args:
            own: The datagram whose sender is told by :meth:`write` what becomes of it.
        """
        datagrams: list[bytes] = self._chunks or []
        self._chunks = None
        for index, datagram in enumerate(datagrams):
            try:
                self._transmit(datagram)
            except BlockingIOError:
                self._chunks = datagrams[index:]
                self._watch()
                return
            except OSError as error:
                lost = connection_lost(self._transport.peer, "sending to", error)
                if datagram is own:
                    self._lost = lost
                elif self._owner is not None:
                    self._owner.undeliverable(lost)
            size = len(datagram)
            self.sent_bytes += size
            self.sent_units += 1
            self.size -= size
            self._turns.queued -= size
            if self._watching:
                self._note_progress()
        self._all_left()
