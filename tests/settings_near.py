"""The daemon's parts in the test's own process: the settings, those who ask, and a way to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from network_ground import Ground
from settings_ground import defined

from edgevent import Communicator, Dispatcher, Server
from edgevent.fluidsettings.commands import SettingsCommands
from edgevent.fluidsettings.listeners import Listeners
from edgevent.fluidsettings.peer import SettingsPeer
from edgevent.fluidsettings.store import Store

HELLO = """\
[hello::greeting]
help=What is said to those who come
default=Hello

[hello::pause]
help=How long it rests, in seconds
default=5
validator=integer(1...60)

[hello::name]
help=What it is called

[hello::loud]
validator=boolean
required

[mail::relay::host]
validator=address
"""


class Near:
    """A store, and a server that speaks for it."""

    def __init__(self, ground: Ground, store: Store) -> None:
        self.ground = ground
        self.store = store
        self.listeners = Listeners(store)
        self._dispatcher = Dispatcher()
        SettingsCommands(store, self.listeners).add_to(self._dispatcher)
        self.address = ""
        self.server: Server | None = None

    def serve(self, address: str = "tcp://127.0.0.1:0") -> Server:
        """Listens."""
        made = Server(address, SettingsPeer, dispatcher=self._dispatcher)
        self.server = self.ground.communicator.add_connection(made)
        self.address = self.server.addresses[0]
        return self.server

    def go_away(self) -> None:
        """Ends the listening and all connections, at once."""
        assert self.server is not None
        self.server.close()
        for peer in tuple(self.server.peers):
            peer.close()


@contextmanager
def near(folder: Path, text: str = HELLO) -> Iterator[Near]:
    """Gives one that listens."""
    store = Store(folder / "settings.db", defined(text))
    try:
        with Ground(Communicator()) as ground:
            found = Near(ground, store)
            found.serve()
            yield found
    finally:
        store.close()
