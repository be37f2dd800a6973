"""Daemons of settings that keep each other equal, in the test's own process, over real sockets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from network_ground import Ground, until
from settings_ground import defined

from edgevent import Dispatcher, Server
from edgevent.fluidsettings.names import OLDEST_TIMESTAMP
from edgevent.fluidsettings.peer import SettingsPeer
from edgevent.fluidsettings.replication import Replication
from edgevent.fluidsettings.store import Store
from edgevent.fluidsettings.values import Entry

NAMES = [f"many::name-{number}" for number in range(6)]
DEFINED = "".join(f"[{name}]\nhelp=x\n" for name in NAMES)
DAY = 86_400 * 10**9
START = OLDEST_TIMESTAMP + 1_000 * DAY


class Date:
    """The time of day of one computer, which the test sets; each look takes a nanosecond."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        self.now += 1
        return self.now


class Replica:
    """One of several daemons.

    Args:
        ground: What runs it.
        path: Its file.
        keep_deletions: As of :class:`Store`, in seconds.
    """

    def __init__(self, ground: Ground, path: Path, keep_deletions: float = 0.0) -> None:
        self.date = Date()
        self.store = Store(path, defined(DEFINED), keep_deletions=keep_deletions, now=self.date)
        self._dispatcher = Dispatcher()
        self.replication = Replication(self.store, ground.communicator)
        self.replication.add_to(self._dispatcher)
        server = Server("tcp://127.0.0.1:0", SettingsPeer, dispatcher=self._dispatcher)
        self.server: Server = ground.communicator.add_connection(server)
        self.address = self.server.addresses[0]

    def dial(self, *others: Replica) -> None:
        """Connects to others, and to no others any more."""
        self.replication.set_links([one.address for one in others], self._dispatcher)

    def cut(self) -> None:
        """Breaks all its connections, whichever side has dialled; those it dialled stay away."""
        self.dial()
        for peer in tuple(self.server.peers):
            peer.close()

    def close(self) -> None:
        """Ends it."""
        self.cut()
        self.server.close()
        self.store.close()

    def standing(self) -> list[tuple[str, int, int, str | None]]:
        """What it has; who has set it may differ."""
        return [(e.name, e.priority, e.timestamp, e.value) for e in self.store.entries()]

    def last_changes(self) -> dict[tuple[str, int], str | None]:
        """The last value that the history has of each name and priority."""
        found: dict[tuple[str, int], str | None] = {}
        for name in NAMES:
            for change in self.store.history(name):
                entry: Entry = change.entry
                found.setdefault((entry.name, entry.priority), entry.value)
        return found


def are_equal(replicas: Iterable[Replica]) -> bool:
    """Whether all have the same, and nothing is being written."""
    found = list(replicas)
    return len({one.store.digest for one in found}) == 1 and not any(
        one.store.is_writing for one in found
    )


def become_equal(*replicas: Replica) -> None:
    """Waits until all have the same."""
    until(lambda: are_equal(replicas))
