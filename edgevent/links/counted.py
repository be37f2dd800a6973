"""What a connection over a stream has brought and taken away, over all its transports."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from ..handler_times import HandlerTable
from ..runtime.inbox import Inbox
from ..runtime.outbox import Outbox
from ..runtime.traffic import Traffic
from .identity import Connected


class Counted(Connected):
    """The part of a flow that counts: once a read and once a write, not once a message."""

    __slots__ = ("_conversation", "_in_bytes", "_in_units", "_out_before", "_since")

    _outbox: Outbox | None
    _inbox: Inbox

    _in_bytes: int
    _in_units: int
    _out_before: tuple[int, int]  # by the outboxes of transports that are gone
    _since: float
    _conversation: Callable[[Any], object] | None

    @property
    def age(self) -> float | None:
        """For how many seconds the transport has been there; ``None`` when there is none."""
        return None if self._transport is None else monotonic() - self._since

    @property
    def queued_bytes(self) -> tuple[int, int]:
        """How many bytes have come and wait to be handled, and how many wait to leave."""
        return self._inbox.size, 0 if self._outbox is None else self._outbox.size

    def add_traffic_to(self, total: Traffic) -> None:
        """Adds what has come and left so far; see :class:`~edgevent.connection.Connection`."""
        super().add_traffic_to(total)
        units, size = self._out_before
        outbox = self._outbox
        if outbox is not None:
            units += outbox.sent_units
            size += outbox.sent_bytes
        total.messages_in += self._in_units
        total.bytes_in += self._in_bytes
        total.messages_out += units
        total.bytes_out += size

    def count_handlers(self, table: HandlerTable) -> None:
        """Called by the communicator: has the times of what is this connection's own counted."""
        if self._conversation is not None:
            self._conversation = table.timed_function(self._conversation)

    def _keep_outbox_counts(self, outbox: Outbox) -> None:
        """To be called before the outbox of a transport that is gone is dropped, once."""
        units, size = self._out_before
        self._out_before = units + outbox.sent_units, size + outbox.sent_bytes
