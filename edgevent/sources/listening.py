"""Who listens on an address of this machine: when a service begins to, and when it stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import limits
from ..address import Address
from ..arguments import checks_arguments
from ..connection import Owner
from ..errors import UsageError
from .listening_poll import ListeningPoll, Place, places_of
from .queued import QueuedSource


@dataclass(frozen=True, slots=True)
class ListeningEvent:
    """What a look at an address has shown.

    Attributes:
        address: The address that is watched.
        is_listening: Whether somebody listens there now.
    """

    address: str
    is_listening: bool


@checks_arguments
class ListeningWatch(QueuedSource):
    """Says when a service begins, and when it stops, to listen on an address of this machine.

    The first call tells how it is, at once; others follow when that has changed, within one
    interval. A service that comes and goes between two looks is not seen.

    A listener for all addresses counts for each of its family, one for all of IPv6 for those of
    IPv4 as well, unless it is for IPv6 only: the kernel looks it up as for a connection. A path is
    compared by its file. Only the sockets of this network namespace are seen, and of an address
    that is not this machine's only what listens on all addresses.

    Looks cost time, so a disabled watch makes none; all watches of a thread share one timer and
    one netlink socket (``sock_diag``). A look takes 4 microseconds for each TCP address and 35 for
    all Unix sockets, whatever the number of connections; with ``/proc/net``, which is read where
    netlink is refused, it took 18 ms on a machine with 10,000 connections.

    Args:
        address: Of TCP (with or without TLS), with a numeric host or ``localhost``, or of a Unix
            socket: a path, or an abstract name.
        callback: Called in a turn with each :class:`ListeningEvent`; :meth:`process_listening` may
            be overridden instead.
        interval: Seconds between two looks; a watch with a shorter one makes them come earlier.

    Raises:
        AddressError: Nobody can be seen to listen there: datagrams, FIFOs, other names, port 0.
        UsageError: The interval is none, or there is nothing to call.
    """

    __slots__ = ("_poll", "address", "interval", "is_listening", "places")

    address: str
    interval: float
    is_listening: bool | None
    places: tuple[Place, ...]

    def __init__(
        self,
        address: str | Address,
        callback: Callable[[ListeningEvent], Any] | None = None,
        *,
        interval: float = limits.LISTENING_INTERVAL,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
    ) -> None:
        overridden = type(self).process_listening is not ListeningWatch.process_listening
        super().__init__(
            callback, has_hook=overridden, name=name, priority=priority, keep_running=keep_running
        )
        if not limits.MIN_LISTENING_INTERVAL <= interval < float("inf"):
            raise UsageError(
                f"{self.name}: an interval of {limits.MIN_LISTENING_INTERVAL:g} s or more was"
                f" expected: {interval!r}"
            )
        target = Address.parse(address)
        self.places = places_of(target)
        self.address = str(target)
        self.interval = interval
        self.is_listening = None
        self._poll: ListeningPoll | None = None

    def process_listening(self, event: ListeningEvent) -> None:
        """Called in a turn with what has changed; calls the callback."""
        if self._callback is not None:
            self._callback(event)

    def handle(self, event: ListeningEvent) -> None:
        """Handles one event in a turn."""
        self.call_hook(self.process_listening, event)

    def looked(self, is_listening: bool, wave: list[Callable[[float], None]]) -> None:
        """Called in the hub with what a look has shown."""
        if is_listening != self.is_listening:
            self.is_listening = is_listening
            self._put(ListeningEvent(self.address, is_listening))

    def _state(self) -> str:
        seen = {None: "not looked at", True: "listening", False: "not listening"}
        return f"{super()._state()} {self.address} {seen[self.is_listening]}"

    def attach(self, communicator: Owner) -> None:
        """Called by the communicator: the first look follows."""
        self.is_listening = None
        super().attach(communicator)

    def _enabled_changed(self, enabled: bool) -> None:
        if enabled and self._communicator is not None:
            self._poll = ListeningPoll.of(self._turns, self._communicator.clock)
            self._poll.add(self)
        else:
            self._stop_listening()

    def _stop_listening(self) -> None:
        poll, self._poll = self._poll, None
        if poll is not None:
            poll.remove(self)
