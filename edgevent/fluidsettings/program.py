"""fluid-settings as a program: the settings of all services of all computers."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ..errors import DefinitionError, EdgeventError, NotConnectedError
from ..links.server import Server
from ..message import Message
from ..options import OptionParser
from ..service import Service
from .commands import SettingsCommands
from .definitions import SettingDefinitions
from .http_options import add_http_options, page_from_options
from .listeners import Listeners
from .options import DEFAULT_LISTEN, add_options, folders_of, make_folder, peers_of, tell_of_unused
from .peer import SettingsPeer
from .replication import ASK_INTERVAL, Replication
from .store import Store
from .transfer import export_file, import_file

if TYPE_CHECKING:
    from .web import WebPage

logger = logging.getLogger("edgevent.fluidsettings")

MAX_CONNECTIONS: Final = 4_096
"""So many clients of each listener at most, when nothing else is said."""

_SWEEP_INTERVAL: Final = 60.0
_AT_START: Final = frozenset(
    {
        "database",
        "gossip_timeout",
        "history",
        "http",
        "http_allow_remote",
        "http_host",
        "http_token",
    }
)


class Program:
    """The daemon as a service: options, listeners, timers and the end.

    Args:
        settings: Those of :class:`~edgevent.Service`, such as ``config_folder`` for tests.

    Attributes:
        service: The service.
        store: The settings, once the options are read.
        commands: What clients ask, likewise.
        replication: The other daemons, likewise.
        page: The web page, likewise; ``None`` without ``--http``.
    """

    def __init__(self, **settings: Any) -> None:
        self.store: Store | None = None
        self.commands: SettingsCommands | None = None
        self.replication: Replication | None = None
        self.page: WebPage | None = None
        self.service = service = Service(
            "fluid-settings",
            "Keeps the settings of services, the same on all computers.",
            handler=SettingsPeer,
            communicatord=True,
            **{
                "other_folders": ("/etc/fluid-settings",),
                "variable": "FLUID_SETTINGS_DAEMON",
                "examples": (
                    "fluid-settings",
                    "fluid-settings --definitions=. --database=settings.db",
                    "fluid-settings --listen=tcp://10.0.0.5:4049 --peers=10.0.0.6,10.0.0.7",
                    "fluid-settings --export=-",
                ),
                **settings,
            },
        )
        add_options(service.options)
        add_http_options(service.options)
        service.listen(DEFAULT_LISTEN)
        service.link("*", optional=True)(self._introduce)
        service.on_start(self._start)
        service.on_reload(self._reload)
        service.on("FLUID_SETTINGS_COUNTS")(self._counts)

    # --- the hooks of the service -----------------------------------------------------------------

    def open_store(self, options: argparse.Namespace) -> Store:
        """Opens the file with the definitions that the options name.

        Raises:
            DefinitionError: A definition cannot be used.
            SettingsStoreError: The file cannot be used.
        """
        definitions = SettingDefinitions.load(folders_of(options))
        make_folder(options.database)
        return Store(
            options.database,
            definitions,
            max_history=options.history,
            keep_deletions=options.keep_deletions,
        )

    def _start(self, options: argparse.Namespace) -> None:
        tell_of_unused(options)
        self.store = store = self.open_store(options)
        service = self.service
        listeners = Listeners(store)
        self.commands = commands = SettingsCommands(store, listeners)
        with suppress(NotConnectedError):  # it is off
            link = service.communicatord
            commands.routers.add(link)
            link.on_disconnected(listeners.forget)
        self.replication = replication = Replication(
            store,
            service.communicator,
            my_address=_own_address(service, options),
            routers=commands.routers,
            peer_timeout=options.peer_timeout,
        )
        commands.add_to(service.dispatcher)
        replication.add_to(service.dispatcher)
        replication.set_links(peers_of(options), service.dispatcher)
        every = service.communicator.every
        every(options.gossip_timeout, replication.compare, keep_running=False)
        every(ASK_INTERVAL, replication.ask, keep_running=False)
        every(_SWEEP_INTERVAL, listeners.forget_closed, keep_running=False)
        every(_SWEEP_INTERVAL, store.drop_deletions, keep_running=False)
        self.page = page_from_options(store, options)
        service.communicator.after(0.0, lambda: self._widen(options), keep_running=False)
        text = "fluid-settings: %d settings are defined, %s has the values"
        logger.info(text, len(store.definitions), options.database)
        _tell_of_refused(store)

    def _widen(self, options: argparse.Namespace) -> None:
        """Has listeners take more peers than usual, unless a place says how many."""
        places = (*(options.listen or ()), *options.listeners.values())
        if not any("max_connections" in place.settings for place in places):
            for server in self.service.listeners.values():
                if isinstance(server, Server):
                    server.max_connections = MAX_CONNECTIONS

    def _introduce(self, link: Any) -> None:
        if self.replication is not None:
            self.replication.introduce(link)

    def _reload(self, options: argparse.Namespace, changed: set[str]) -> None:
        if self.store is None or self.replication is None:
            return
        self._widen(options)
        self.replication.set_links(peers_of(options), self.service.dispatcher)
        self.replication.peer_timeout = options.peer_timeout
        self.store.deletions.keep = options.keep_deletions
        try:
            definitions = SettingDefinitions.load(folders_of(options))
        except DefinitionError as error:
            logger.error("fluid-settings: the definitions stay as they were: %s", error)
        else:
            assert self.commands is not None
            self.commands.listeners.redefine(definitions)
            _tell_of_refused(self.store)
        for name in sorted(changed & _AT_START):
            logger.warning("fluid-settings: the new value of %s needs a restart", name)

    def _counts(self, message: Message, peer: Any) -> Message:
        """Tells how much there is, and what was done."""
        assert self.store is not None
        assert self.commands is not None
        assert self.replication is not None
        counts = {
            "definitions": len(self.store.definitions),
            "digest": self.store.digest,
            "listened": len(self.commands.listeners),
            "peers": len(self.replication.peers),
            "told": self.commands.listeners.told,
            **self.store.counts,
            **{f"peers_{name}": count for name, count in self.replication.counts.items()},
            **{name.replace(" ", "_"): count for name, count in self.commands.counts.items()},
        }
        return message.reply("FLUID_SETTINGS_COUNTED", counts)

    # --- the program ------------------------------------------------------------------------------

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Runs the daemon, or exports or imports; gives the exit status."""
        options = self.service.options.parse(argv)
        if options.export or getattr(options, "import"):
            return self._transfer(options)
        try:
            return self.service.main(argv)
        finally:
            if self.page is not None:
                self.page.close()
            if self.store is not None:
                self.store.close()

    def _transfer(self, options: argparse.Namespace) -> int:
        source = getattr(options, "import")
        try:
            self.store = store = self.open_store(options)
            try:
                if source:
                    count = import_file(store, source)
                    print(f"{count} values were taken over", file=sys.stderr)
                if options.export:
                    export_file(store, options.export)
            finally:
                store.close()
        except EdgeventError as error:
            print(f"{self.service.name}: {error}".replace("\n", " "), file=sys.stderr)
            return 2 if isinstance(error, DefinitionError) else 1
        return 0


def _tell_of_refused(store: Store) -> None:
    """Logs that values stand which the definitions, of now, refuse: they are kept, and told."""
    refused = [
        one
        for one in store.entries()
        if one.value is not None
        and (definition := store.definitions.get(one.name)) is not None
        and not definition.takes(one.value)
    ]
    if refused:
        text = "fluid-settings: %d of the values are refused by their definitions, such as %s"
        logger.warning(text, len(refused), refused[0].name)


def _own_address(service: Service, options: argparse.Namespace) -> str:
    for place in options.listen or options.listeners.values():
        if place.address.is_inet:
            return str(place.address.endpoint)
    return DEFAULT_LISTEN.partition("//")[2]


def _parser() -> OptionParser:
    return Program().service.options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the daemon; see :meth:`edgevent.Service.main`."""
    return Program().main(argv)
