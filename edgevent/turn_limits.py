"""What a user may set of a connection's turns, checked when it is set and not when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, Protocol, get_args

from .errors import UsageError

OnHandlerError = Literal["log", "close", "stop"]
_POLICIES: Final = get_args(OnHandlerError)


class Keeper(Protocol):
    """What these settings ask of the communicator."""

    def keepers_changed(self, change: int, /) -> None:
        """Takes note that so many connections more keep ``run``."""


class TurnLimits:
    """The settings of :class:`~edgevent.Connection` for its turns; no object by itself.

    A turn reads the attributes with the underscore, which cost no call; they are made by the
    connection's ``__init__``.
    """

    __slots__ = ("_event_limit", "_keep_running", "_on_handler_error", "_processing_time_limit")

    _check_thread: Callable[[], None]
    _communicator: Keeper | None
    _event_limit: int
    _keep_running: bool
    _on_handler_error: OnHandlerError
    _processing_time_limit: float
    name: str

    @property
    def event_limit(self) -> int:
        """The most messages handled in one turn while others wait."""
        return self._event_limit

    @event_limit.setter
    def event_limit(self, limit: int) -> None:
        if not isinstance(limit, int) or limit < 1:
            raise UsageError(f"{self.name}: event_limit={limit!r}: 1 or more was expected")
        self._event_limit = limit

    @property
    def processing_time_limit(self) -> float:
        """Seconds after which a turn ends, looked at between messages."""
        return self._processing_time_limit

    @processing_time_limit.setter
    def processing_time_limit(self, limit: float) -> None:
        if not isinstance(limit, (int, float)) or not limit >= 0.0:
            expected = "0 or more seconds were expected"
            raise UsageError(f"{self.name}: processing_time_limit={limit!r}: {expected}")
        self._processing_time_limit = limit

    @property
    def on_handler_error(self) -> OnHandlerError:
        """What follows when a hook or handler raises, after it was logged.

        Nothing (``log``), this connection is closed (``close``), or the communicator stops
        (``stop``).
        """
        return self._on_handler_error

    @on_handler_error.setter
    def on_handler_error(self, policy: OnHandlerError) -> None:
        if policy not in _POLICIES:
            expected = "'log', 'close' or 'stop' was expected"
            raise UsageError(f"{self.name}: on_handler_error={policy!r}: {expected}")
        self._on_handler_error = policy

    @property
    def keep_running(self) -> bool:
        """Whether ``run`` goes on while the connection is there; a change holds at once."""
        return self._keep_running

    @keep_running.setter
    def keep_running(self, keep_running: bool) -> None:
        change = bool(keep_running) - self._keep_running
        if change and self._communicator is not None:
            self._check_thread()
            self._keep_running = bool(keep_running)
            self._communicator.keepers_changed(change)
        self._keep_running = bool(keep_running)
