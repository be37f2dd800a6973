"""The settings of a service: its options for them, and their values before it begins."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .address import Address
from .backoff import Backoff
from .communicator import Communicator
from .dispatcher import Dispatcher
from .errors import OptionError
from .fluidsettings.client import DEFAULT_ADDRESS, SERVICE, TIMEOUT
from .fluidsettings.listening import SettingsListener
from .links.permanent import PermanentConnection
from .service_parts import Step, prepare_communicator

if TYPE_CHECKING:
    from .options import OptionParser

COMMUNICATORD: Final = "communicatord"
"""What ``--fluid-settings`` says for the way through communicatord."""
_SHORTEST: Final = 0.1
_LONGEST: Final = 3600.0
_MAX_PAUSE: Final = 60.0


class ServiceSettings:
    """What ``Service.setting`` has made: the settings, and the link over which their values come.

    Args:
        parser: Gets the options ``--fluid-settings``, ``--fluid-settings-timeout``,
            ``--settings-copy`` and ``[settings]``.
        name: The service's, which stands before the names of settings that have no ``::``.
        communicator: Gives what the link is added to.

    Attributes:
        listener: The settings.
        link: The link, once the service begins.
    """

    def __init__(
        self, parser: OptionParser, name: str, communicator: Callable[[], Communicator]
    ) -> None:
        self.listener = SettingsListener(name)
        self.link: PermanentConnection | None = None
        self._communicator = communicator
        parser.add(
            "--fluid-settings",
            type=_place,
            default=_place(DEFAULT_ADDRESS),
            metavar=f"ADDRESS|{COMMUNICATORD}",
            help=f"where the settings daemon is (default: {DEFAULT_ADDRESS})",
        )
        parser.add_duration(
            "--fluid-settings-timeout",
            default=TIMEOUT,
            minimum=_SHORTEST,
            maximum=_LONGEST,
            help="how long the start waits for the settings",
        )
        parser.add(
            "--settings-copy",
            metavar="FILE",
            help="a copy of the settings, for a start while no settings daemon answers",
        )
        parser.add_section(
            "settings",
            self.listener.read_option,
            help="settings that this computer has, whatever the daemon says",
        )

    def start(self, options: argparse.Namespace) -> None:
        """Asks for the values, and waits for them; may switch greenlets."""
        listener = self.listener
        listener.fix(options.settings)
        listener.copy = options.settings_copy or ""
        place: Address | str = options.fluid_settings
        dispatcher = Dispatcher()
        self.link = link = self._make_link(place, dispatcher, options)
        listener.attach(link, dispatcher, SERVICE if place == COMMUNICATORD else "")
        self._communicator().add_connection(link)
        listener.start(options.fluid_settings_timeout)

    def prepare(self, former: argparse.Namespace, options: argparse.Namespace) -> Step:
        """Prepares what other options change; may switch greenlets when it is committed.

        Whether the daemon is asked directly or by way of communicatord is as at the start.

        Raises:
            EdgeventError: The address of the communicatord, or its TLS, cannot be used.
        """
        link, place = self.link, options.fluid_settings
        assert link is not None
        step = Step()
        if isinstance(place, str) != isinstance(former.fluid_settings, str):
            step = Step(fixed=frozenset(("fluid_settings",)))
        elif isinstance(place, str):
            step = prepare_communicator(link, former, options)
        elif place != former.fluid_settings:
            step = Step(link.prepare_move(place))

        def commit() -> None:
            step.commit()
            self.listener.fix(options.settings)
            self.listener.keep_copy(options.settings_copy or "")

        return Step(commit, fixed=step.fixed)

    def _make_link(
        self, place: Address | str, dispatcher: Dispatcher, options: argparse.Namespace
    ) -> PermanentConnection:
        if isinstance(place, str):
            return self._make_router_link(dispatcher, options)
        return PermanentConnection(
            place,
            dispatcher,
            pauses=Backoff(maximum=_MAX_PAUSE),
            wait_for_listener=place.is_unix or place.is_loopback,
            keep_running=False,
            name="settings",
        )

    def _make_router_link(
        self, dispatcher: Dispatcher, options: argparse.Namespace
    ) -> PermanentConnection:
        from .communicatord.client import CommunicatorConnection
        from .communicatord.client_options import communicator_address, communicator_tls

        address = tls = None
        if hasattr(options, "communicator_listen"):  # else that of this computer
            address = communicator_address(options)
            if address is None:
                raise OptionError(
                    f"--fluid-settings={COMMUNICATORD} with --communicator-listen=off: expected one"
                    " of them"
                )
            tls = communicator_tls(options, address)
        # A name of its own: the service itself is not there before it has its settings.
        return CommunicatorConnection(
            f"{self.listener.namespace.replace('-', '_')}_settings",
            dispatcher,
            address=address,
            tls=tls,
            keep_running=False,
            allow_control=False,
            name="settings",
        )


def _place(text: str) -> Address | str:
    return text if text == COMMUNICATORD else Address.parse(text, default_port=4049)
