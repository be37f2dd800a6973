"""The load of the computer, for those who share work out (LOADAVG)."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ..address import Address
from ..answers import Peer
from ..dispatcher import Dispatcher
from ..durations import format_timespec
from ..errors import AddressError
from ..message import Message
from .load_file import write_loads
from .neighbors import place_of
from .reports import OWN_SERVICE
from .router import Router
from .station import Station

logger = logging.getLogger("edgevent.communicatord")

LEAST_CHANGE: Final = 0.1
"""A change of the load that is smaller is not told."""
INTERVAL: Final = 1.0
"""How often the load is looked at while somebody wants to know it, in seconds."""
MAX_LOADS: Final = 1_000
"""Of so many other computers the load is kept."""


def read_load(path: str = "/proc/loadavg") -> float:
    """Reads the load of the last minute, for each processor (proc(5)).

    Raises:
        OSError: The file cannot be read.
    """
    return float(Path(path).read_text("ascii").split()[0]) / (os.cpu_count() or 1)


class LoadAverage:
    """REGISTER_FOR_LOADAVG, UNREGISTER_FROM_LOADAVG, LISTEN_LOADAVG, and LOADAVG both ways.

    Args:
        router: Knows the daemons of other computers.
        my_address: The address of this daemon, which goes with each load.
        read: Gives the load.

    Attributes:
        listeners: Who is told, and the load that each was told last.
        on_wanted: Called with whether anybody wants to know the load, when that changes.
        loads: The loads of other computers: by address, the load and when it was so.
        path: The file that they are written to; ``None`` writes none.
    """

    def __init__(
        self, router: Router, my_address: str, *, read: Callable[[], float] = read_load
    ) -> None:
        self.router = router
        self.my_address = my_address
        self.listeners: dict[Station, float | None] = {}
        self.on_wanted: Callable[[bool], object] = lambda wanted: None
        self.loads: dict[str, tuple[float, int]] = {}
        self.path: Path | None = None
        self._read = read
        router.on_left.append(self._left)

    def add_to(self, dispatcher: Dispatcher) -> None:
        """Adds the handlers to a table."""
        for handler in (
            self.register_for_loadavg,
            self.unregister_from_loadavg,
            self.listen_loadavg,
            self.loadavg,
        ):
            dispatcher.on(handler.__name__.upper())(handler)

    def register_for_loadavg(self, message: Message, peer: Any) -> None:
        """A service or a daemon wants to be told the load."""
        station: Station | None = getattr(peer, "station", None)
        if station is None:
            self.router.reports.refuse_peer(
                message, peer, f"{message.command} needs a stream, and came by a datagram"
            )
        elif station.kind == "caller":
            self.router.reports.refuse_peer(
                message, peer, f"{message.command} comes after REGISTER"
            )
        else:
            self.listeners[station] = None
            self.on_wanted(True)

    def unregister_from_loadavg(self, message: Message, peer: Any) -> None:
        """It wants that no more."""
        station: Station | None = getattr(peer, "station", None)
        if station is not None:
            self._left(station)

    def listen_loadavg(self, message: Message, peer: Peer) -> None:
        """A service wants the loads of other computers; their daemons are asked for them."""
        wanted = {one.strip() for one in message["ips"].split(",")}
        question = Message("REGISTER_FOR_LOADAVG").with_sender(self.router.server, OWN_SERVICE)
        for station in self.router.remotes.values():
            if station.address is not None and not wanted.isdisjoint(
                (station.host, station.address.endpoint)
            ):
                station.send(question)

    def loadavg(self, message: Message, peer: Peer) -> None:
        """Keeps the load of another computer."""
        average = float(message["avg"]) if _is_number(message["avg"]) else -1.0
        if average < 0.0:
            self.router.reports.refuse_peer(
                message, peer, f"avg={message['avg'][:32]!a}: a number from 0 was expected"
            )
            return
        when = message.timespec("timestamp")
        try:
            parsed = Address.parse(message["my_address"], default_port=4042)
            place_of(parsed)  # it is numeric
        except AddressError as error:
            self.router.reports.refuse_peer(message, peer, f"my_address: {error}")
            return
        address = parsed.endpoint
        if address not in self.loads and len(self.loads) >= MAX_LOADS:
            del self.loads[next(iter(self.loads))]
        self.loads[address] = average, when
        self._write()

    def _write(self) -> None:
        if self.path is None:
            return
        loads = ((Address.parse(address), *load) for address, load in self.loads.items())
        try:
            write_loads(self.path, loads)
        except OSError as error:
            text, name = "it cannot be written: %s", str(self.path)
            self.router.conditions.say(logging.WARNING, name, "write", text, error.strerror)

    def look(self) -> None:
        """Tells the load to those whom it is new to."""
        if not self.listeners:
            return
        try:
            load = self._read()
        except (OSError, ValueError) as error:
            self.router.conditions.say(logging.WARNING, "load", "read", "cannot be read: %s", error)
            return
        news = Message(
            "LOADAVG",
            {
                "avg": f"{load:.6g}",
                "my_address": self.my_address,
                "timestamp": format_timespec(time.time_ns()),
            },
        ).with_sender(self.router.server, OWN_SERVICE)
        for station, told in tuple(self.listeners.items()):
            if (told is None or abs(load - told) >= LEAST_CHANGE) and station.send(news):
                self.listeners[station] = load

    def _left(self, station: Station) -> None:
        if station in self.listeners:
            del self.listeners[station]
            self.on_wanted(bool(self.listeners))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
