"""communicatord as a program: one address for all services of a computer."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import Any

from ..dispatcher import Dispatcher
from ..errors import OptionError
from ..message import Message
from ..options import OptionParser
from ..service import Service
from ..service_places import make_socket_folder
from ..transport.base import close_quietly
from .daemon import NO_ADDRESS, Daemon, new_relay
from .link_options import add_link_options, link_settings, make_folder
from .link_settings import PLAIN_NAME, SECURE_NAME, LinkSettings
from .load_average import INTERVAL as LOAD_INTERVAL
from .naming import socket_path
from .options import add_options, known_services, listeners_of, tell_of_unused

logger = logging.getLogger("edgevent.communicatord")

_CLOCK_INTERVAL = 60.0
_HELD_INTERVAL = 60.0


class Program:
    """The daemon as a service: options, listeners, timers and the end.

    Args:
        settings: Those of :class:`~edgevent.Service`, such as ``config_folder`` for tests.

    Attributes:
        service: The service.
        daemon: The daemon, once the options are read.
    """

    def __init__(self, **settings: Any) -> None:
        relay = new_relay()
        self.daemon: Daemon | None = None
        self._relay = relay
        self.service = service = Service(
            "communicatord",
            "Passes messages between the services of this computer, and of others.",
            dispatcher=Dispatcher(control=self),
            handler=relay,
            **{
                "other_folders": ("/etc/communicator",),
                "variable": "COMMUNICATORD",
                "examples": (
                    "communicatord",
                    "communicatord --server-name=snap --local-listen=127.0.0.1:4040",
                    "communicatord --check-config",
                ),
                **settings,
            },
        )
        add_options(service.options)
        add_link_options(service.options)
        service.listen_as(listeners_of)
        service.on_start(self._start)
        service.on_reload(self._reload)
        service.on_stop(self._stop)

    # --- the control object of the dispatcher -----------------------------------------------------

    def stop(self, quitting: bool) -> None:
        """STOP and SHUTDOWN: nothing is routed from now on."""
        if self.daemon is not None:
            self.daemon.stop(quitting)
        self.service.stop(quitting)

    def ready(self, message: Message) -> None:
        """READY is for services; the daemon has nobody to be ready for."""

    def restart(self, message: Message) -> None:
        """RESTART."""
        if self.daemon is not None:
            self.daemon.stop()
        self.service.restart(message)

    def reopen_logs(self) -> None:
        """LOG_ROTATE."""
        self.service.reopen_logs()

    # --- the hooks of the service -----------------------------------------------------------------

    def _start(self, options: argparse.Namespace) -> None:
        tell_of_unused(options)
        self.daemon = daemon = Daemon(
            options.server_name,
            known=known_services(options),
            my_address=options.my_address.endpoint if options.my_address else NO_ADDRESS,
            dispatcher=self.service.dispatcher,
            relay=self._relay,
            stop=self.stop,
            alive_after=options.alive_after,
            clock_command=options.timedate_wait_command,
            trace_group=options.trace_group or "",
            max_held=options.max_held,
            max_held_bytes=options.max_held_bytes,
            held_ttl=options.held_ttl,
            settling=options.settle,
        )
        if options.unix_listen is None:
            make_socket_folder(socket_path())
        every = self.service.communicator.every
        every(daemon.alive.interval, daemon.alive.look, keep_running=False)
        loads = every(LOAD_INTERVAL, daemon.load.look, keep_running=False)
        loads.enabled = False  # an idle daemon sleeps
        daemon.load.on_wanted = lambda wanted: setattr(loads, "enabled", wanted)
        every(_CLOCK_INTERVAL, daemon.clock.look, keep_running=False)
        every(_HELD_INTERVAL, daemon.router.held.drop_expired, keep_running=False)
        self.service.communicator.after(0.0, daemon.clock.look, keep_running=False)
        settings = link_settings(options)
        make_folder(settings)
        self._refuse_unasked(settings)
        daemon.add_links(self.service.communicator, settings, self.service.claim_socket)
        logger.info("communicatord: the services of server %s", options.server_name)

    def _refuse_unasked(self, settings: LinkSettings) -> None:
        """Refuses a socket for other daemons that no option asks for.

        It would become a listener for services, which other computers reach.
        """
        for name, address in ((PLAIN_NAME, settings.plain), (SECURE_NAME, settings.secure)):
            if address is None and (socket := self.service.claim_socket(name)) is not None:
                close_quietly(socket)
                raise OptionError(f"socket {name}: {name}-listen was expected with it")

    def _reload(self, options: argparse.Namespace, changed: set[str]) -> None:
        if self.daemon is not None:
            self.daemon.router.known |= known_services(options)
            self.daemon.links.reload(link_settings(options).neighbors)
        for name in sorted(changed & _AT_START):
            logger.warning("communicatord: the new value of %s needs a restart", name)

    def _stop(self, quitting: bool) -> None:
        if self.daemon is not None:
            self.daemon.stop(quitting)


_AT_START = frozenset(
    {
        "alive_after",
        "allow_link_control",
        "allow_loopback_links",
        "ca",
        "certificate",
        "data_path",
        "fixed_neighbors",
        "held_ttl",
        "max_held",
        "max_gossip_timeout",
        "max_held_bytes",
        "max_links",
        "my_address",
        "private_key",
        "remote_listen",
        "secure_listen",
        "server_name",
        "settle",
        "timedate_wait_command",
        "trace_group",
    }
)


def _parser() -> OptionParser:
    return Program().service.options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the daemon; see :meth:`edgevent.Service.main`."""
    return Program().service.main(argv)
