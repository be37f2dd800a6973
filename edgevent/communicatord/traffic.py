"""What the daemon tells of its services and of itself to those who watch it: LIST_TRAFFIC.

The answer ``TRAFFIC`` holds a page of the peers: ``peers`` is a list in JSON, of which each entry
is as :func:`describe` makes it, and ``next`` is the ``offset`` of the next page, if there is one.
``daemon`` is an object about the daemon itself, on the first page.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, Final

from ..answers import Peer
from ..dispatcher import Dispatcher
from ..message import Message
from ..runtime.traffic import Traffic
from .relay import STALL_TIMEOUT, RelayedStream
from .router import Router
from .station import Station
from .taps import WHO

MAX_PAGE_BYTES: Final = 20_000
"""A page ends with the peer that makes it longer."""
_PAGE_SIZE: Final = os.sysconf("SC_PAGE_SIZE")


def describe(station: Station) -> dict[str, Any]:
    """Says what is known of a service, or of another daemon, that is there.

    Returns:
        ``name``; ``kind``, which is ``local`` or ``remote``; ``server``; ``state``, which is
        ``up``, ``slow`` while it takes nothing of what waits for it, or ``ending``; ``up_since``
        in seconds of the epoch; ``messages_in`` and ``messages_out``: how many of its messages
        went on to others, and how many it was given; ``bytes_in`` and ``bytes_out`` of its
        connection;
        ``queued_in`` and ``queued_out``: bytes that wait for the daemon and for it; ``lag``: for
        how many seconds it has taken nothing of the latter; ``commands``: how many it has listed,
        or ``null``.
    """
    found = {
        "name": station.service or f"{station.server}:*",
        "kind": station.kind,
        "server": station.server,
        "state": "up",
        "up_since": station.up_since,
        "messages_in": station.forwarded,
        "messages_out": station.received,
        "bytes_in": 0,
        "bytes_out": 0,
        "queued_in": 0,
        "queued_out": 0,
        "lag": 0.0,
        "commands": None if station.commands is None else len(station.commands),
    }
    peer = getattr(station.deliver, "__self__", None)
    if not isinstance(peer, RelayedStream):
        return found
    traffic = Traffic()
    peer.add_traffic_to(traffic)
    found["bytes_in"], found["bytes_out"] = traffic.bytes_in, traffic.bytes_out
    found["queued_in"], found["queued_out"] = peer.queued_bytes
    if not peer.is_connected:
        found["state"] = "ending"
        return found
    lag = peer.outbox.stalled
    found["lag"] = round(lag, 3)
    if lag >= STALL_TIMEOUT:
        found["state"] = "slow"
    return found


class TrafficCommands:
    """LIST_TRAFFIC.

    Args:
        router: Knows who is there.
        may_see: Says whether a peer may ask.
        now: The time of day, in seconds of the epoch.
    """

    def __init__(
        self,
        router: Router,
        may_see: Callable[[Peer], bool],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.router = router
        self.may_see = may_see
        self._now = now
        self._began = int(now())

    def add_to(self, dispatcher: Dispatcher) -> None:
        """Adds the handler to a table."""
        dispatcher.on("LIST_TRAFFIC")(self.list_traffic)

    def list_traffic(self, message: Message, peer: Any) -> Message | None:
        """Tells a page of the peers, by kind and name."""
        if not isinstance(peer, RelayedStream) or not self.may_see(peer):
            self.router.reports.refuse_peer(message, peer, WHO)
            return None
        offset = message.integer("offset", 0)
        names = self._names()
        page, size = [], 0
        for name in names[max(offset, 0) :]:
            text = json.dumps(self._describe(name), separators=(",", ":"))
            page.append(text)
            size += len(text)
            if size > MAX_PAGE_BYTES:
                break
        fields = {"peers": f"[{','.join(page)}]"}
        if offset + len(page) < len(names):
            fields["next"] = str(offset + len(page))
        if not offset:
            fields["daemon"] = json.dumps(self._of_daemon(peer), separators=(",", ":"))
        return message.reply("TRAFFIC", fields)

    def _names(self) -> list[tuple[int, str]]:
        """The services, the other daemons, and the services for which messages are held."""
        router = self.router
        away = [one for one in router.held.services() if one not in router.stations]
        return [
            *((0, name) for name in sorted(router.stations)),
            *((1, name) for name in sorted(router.remotes)),
            *((2, name) for name in sorted(away)),
        ]

    def _describe(self, name: tuple[int, str]) -> dict[str, Any]:
        kind, text = name
        if kind == 2:
            held = self.router.held.waiting(text)
            return {"name": text, "kind": "local", "state": "down", "held": held}
        return describe((self.router.remotes if kind else self.router.stations)[text])

    def _of_daemon(self, peer: RelayedStream) -> dict[str, Any]:
        communicator = peer.communicator
        lag = None if communicator is None else communicator.lag
        return {
            "server": self.router.server,
            "pid": os.getpid(),
            "date": round(self._now(), 3),
            "up_since": self._began,
            "cpu_seconds": round(time.process_time(), 3),
            "memory_bytes": _memory_bytes(),
            "lag": None if lag is None else round(lag.p99, 6),
            "held": len(self.router.held),
            "counts": dict(sorted(self.router.counts.items())),
        }


def _memory_bytes() -> int:
    """What the process has in memory: the second number of /proc/self/statm (proc(5))."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_SIZE
    except (OSError, ValueError, IndexError):
        return 0
