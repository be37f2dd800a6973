"""What a communicator counts of its connections and handlers."""

from __future__ import annotations

from .connection import Connection
from .dispatcher import Dispatcher
from .handler_times import HandlerTable
from .runtime.lag import Lag, LagMeter
from .runtime.traffic import Traffic
from .runtime.turns import Turns


class Counting:
    """The part of :class:`~edgevent.Communicator` that counts; no object by itself.

    Attributes:
        ended: What those connections had counted that are closed and gone.
        ended_connections: How many they were.
        handler_times: The times of handlers; ``None`` unless ``count_handlers`` was asked for.
    """

    turns: Turns
    ended: Traffic
    ended_connections: int
    handler_times: HandlerTable | None
    _lag: LagMeter | None

    def _set_up_counts(self, count_handlers: bool) -> None:
        self.ended = Traffic()
        self.ended_connections = 0
        self.handler_times = HandlerTable() if count_handlers else None
        self._lag = LagMeter(self.turns) if count_handlers else None

    @property
    def lag(self) -> Lag | None:
        """How late the hub was within the last minute; ``None`` unless that is measured."""
        return None if self._lag is None else self._lag.read()

    def _count_handlers_of(self, connection: Connection) -> None:
        dispatcher = getattr(connection, "dispatcher", None)
        if self.handler_times is not None:
            if isinstance(dispatcher, Dispatcher):
                dispatcher.count_handlers(self.handler_times)
            connection.count_handlers(self.handler_times)

    def _keep_counts_of(self, connection: Connection) -> None:
        if connection.is_counted:
            self.ended_connections += 1
            connection.add_traffic_to(self.ended)

    def _measure_lag(self, on: bool) -> None:
        if self._lag is not None:
            if on:
                self._lag.start()
            else:
                self._lag.stop()

    def _end_counts(self) -> None:
        if self.handler_times is not None:
            self.handler_times.closed = True
