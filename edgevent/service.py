"""A daemon in ten lines: options, log, listeners, links, timers, signals and systemd.

What a service listens to, where its links go, how often its timers call, and who may send what is
in its configuration file; what it does stands in the program.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .address import Address
from .arguments import check_callable, checks_arguments
from .binding import Handler as MessageHandler
from .counters import counters
from .dispatcher import PRIORITY_DEFAULT, PRIORITY_LAST, Dispatcher, Match
from .errors import (
    CertificateFileError,
    DefinitionError,
    EdgeventError,
    NotConnectedError,
    OptionError,
    SigningKeyError,
    UsageError,
)
from .links.handler import Handler
from .links.permanent import PermanentConnection
from .message import Message
from .service_declared import (
    Declared,
    DeclaredLink,
    add_communicatord,
    add_service_checks,
    add_service_options,
)
from .service_listeners import AnyServer
from .service_places import Place
from .service_run import Run, ServiceCommunicator
from .service_with_settings import WithSettings
from .systemd import Notifier, inherited_sockets
from .timer import Timer

if TYPE_CHECKING:
    from .communicatord.client import CommunicatorConnection
    from .logs import Logs

logger = logging.getLogger("edgevent.service")

_F = TypeVar("_F", bound=Callable[..., Any])
_H = TypeVar("_H", bound=MessageHandler)

RESTART_STATUS: Final = 75
"""The exit status after RESTART: EX_TEMPFAIL of sysexits(3), ``RestartForceExitStatus=75``."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*", re.ASCII)
_NOTIFIED: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_OF_MANAGER: Final = (*_NOTIFIED, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_MISTAKES: Final = (OptionError, DefinitionError, UsageError)
_CONFIGURATION: Final = (*_MISTAKES, CertificateFileError, SigningKeyError)
"""What of the errors at the start is a mistake in the configuration."""


@checks_arguments
class Service(WithSettings):
    """A service that is driven by its configuration file.

    Args:
        name: Its name, as in ``/etc/edgevent/NAME.conf``.
        description: One sentence for ``--help``.
        dispatcher: The table of its messages; by default a new one. This service is its
            ``control`` object, if it has none.
        handler: What serves the peers of streams in place of the dispatcher alone: a class of
            message connections, or a function of the connection; see :class:`~edgevent.Server`.
        monitor: Whether a thread watches for handlers that keep the process busy.
        communicatord: Whether the service registers with a communicatord, or the name that it
            registers when that is another one; ``--communicator-listen`` says where.
        logrotate_listen: Where LOG_ROTATE is waited for by datagram when nobody says it; with it
            ``--logrotate-listen`` is ``-R`` as well.
        settings: Further settings of :class:`~edgevent.options.OptionParser`: ``config_folder``,
            ``version``, ``other_folders``, ``variable``, ``examples``.

    Raises:
        UsageError: The name is none.

    Attributes:
        options: The parser, to which a program adds options of its own.
        dispatcher: The table of messages.

    Example:
        >>> service = Service("hello", "Adds numbers.")
        >>> @service.on("ADD")
        ... def add(message, peer, a: int, b: int):
        ...     return message.reply("SUM", {"value": a + b})
    """

    def __init__(
        self,
        name: str,
        description: str,
        *,
        dispatcher: Dispatcher | None = None,
        handler: Handler = None,
        monitor: bool = False,
        communicatord: bool | str = False,
        logrotate_listen: str | None = None,
        **settings: Any,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name of a service: letters, digits, '-' and '_'")
        # They need ConfigArgParse, which the name of this class alone does not.
        from .logrotate import add_log_rotation_options
        from .logs import add_logging_options
        from .options import OptionParser

        self.name = name
        self.options = OptionParser(name, description, **settings)
        self._declared = Declared()
        add_service_options(self.options, self._declared)
        add_service_checks(self.options, self._declared)
        add_logging_options(self.options)
        short = ["-R"] if logrotate_listen else []  # as in C++; elsewhere it is the program's own
        add_log_rotation_options(self.options, *short, default=logrotate_listen)
        if communicatord:
            add_communicatord(self.options, self._declared, self.name, communicatord)
        self._values: argparse.Namespace | None = None
        self.dispatcher = Dispatcher(control=self) if dispatcher is None else dispatcher
        if self.dispatcher.control is None:
            self.dispatcher.control = self
        self.dispatcher.add_match(
            Match("COUNTERS", counters, priority=PRIORITY_LAST, tag="service")
        )
        self._handler = handler
        self._monitor = monitor
        self._communicator: ServiceCommunicator | None = None
        self._run: Run | None = None
        self._logs: Logs | None = None
        self._restart = False

    def __repr__(self) -> str:
        return f"<Service {self.name} {'running' if self.is_running else 'stopped'}>"

    # --- what it has ------------------------------------------------------------------------------

    @property
    def communicator(self) -> ServiceCommunicator:
        """What runs everything; of the thread that asks first, and closed by :meth:`main`."""
        if self._communicator is None:
            self._communicator = ServiceCommunicator(
                self.dispatcher, name=self.name, monitor=self._monitor, count_handlers=True
            )
        return self._communicator

    @property
    def values(self) -> argparse.Namespace | None:
        """What the parser has read last; ``None`` before :meth:`main`."""
        return self._values if self._run is None else self._run.options

    @property
    def is_running(self) -> bool:
        """Whether all listeners are open, and the end has not begun."""
        return self._run is not None and self._run.is_running

    @property
    def listeners(self) -> Mapping[str, AnyServer]:
        """The servers by their names in the file, while the service runs."""
        return {} if self._run is None else self._run.listeners.running

    @property
    def links(self) -> Mapping[str, PermanentConnection]:
        """The links by their names in the file; a reload may put another one in a place."""
        return {} if self._run is None else self._run.links.running

    @property
    def communicatord(self) -> CommunicatorConnection:
        """The link to the communicatord, which has the service's name; there before the start.

        Raises:
            NotConnectedError: The service does not run, or ``--communicator-listen`` is ``off``.
            UsageError: The service was made without ``communicatord=``.
        """
        if not self._declared.communicatord:
            raise UsageError(f"{self.name}: Service(..., communicatord=True) was expected")
        found = None if self._run is None else self._run.communicatord
        if found is None:
            why = "the service does not run" if self._run is None else "it is off"
            raise NotConnectedError(f"{self.name}: no communicatord: {why}")
        return found

    @property
    def logs(self) -> Logs | None:
        """The log, from before the hooks of :meth:`on_start` to after those of :meth:`on_end`."""
        return self._logs

    @property
    def timers(self) -> Mapping[str, Timer]:
        """The timers that call, by their names."""
        return {} if self._run is None else self._run.timers.running

    # --- what a program declares ------------------------------------------------------------------

    def on(
        self,
        expression: str | re.Pattern[str] | None,
        *,
        priority: int = PRIORITY_DEFAULT,
        tag: str = "",
    ) -> Callable[[_H], _H]:
        """A decorator: the handler of a message; see :meth:`Dispatcher.on`."""
        return self.dispatcher.on(expression, priority=priority, tag=tag)

    def otherwise(self, handler: _H) -> _H:
        """A decorator: the handler of what nothing else matched."""
        return self.dispatcher.otherwise(handler)

    def timer(self, name: str, interval: str | float | None = None) -> Callable[[_F], _F]:
        """Returns a decorator: the function is called in a turn, again and again.

        Args:
            name: Its name in the section ``[timers]`` of the file, which says how often.
            interval: How often when the file does not say it, in seconds or as text; without it
                the file must.

        Raises:
            DurationError: The interval is none.
            UsageError: There is a function for the timer already, or the name is none.
        """
        seconds = self._declared.interval_of(name, interval)

        def add(function: _F) -> _F:
            self._declared.add_timer(name, function, seconds)
            return function

        return add

    def link(self, name: str, *, optional: bool = False) -> Callable[[_F], _F]:
        """Returns a decorator: the function is called with a link when it is up; it may block.

        The call alone asks for the link: a program that needs no function may leave it at that.

        Args:
            name: Its name in the section ``[links]`` of the file, which says where it goes; or a
                shell pattern of names.
            optional: Whether the file may be without it.
        """
        declared = DeclaredLink(name, optional)
        self._declared.links.append(declared)

        def add(function: _F) -> _F:
            check_callable(function, f"link({name!r})", ("link",))
            declared.functions.append(function)
            return function

        return add

    def listen(self, address: str, *, name: str = "", **settings: Any) -> None:
        """Adds a listener for the case that neither the file nor the command line names one.

        Args:
            address: Where, with settings behind it if any, as in the file.
            name: Its name; ``listen`` by default.
            settings: Those of :class:`~edgevent.Server` or :class:`~edgevent.DatagramServer`.

        Raises:
            OptionError: The address cannot be read.
            UsageError: The name is taken.
        """
        self._declared.add_listener(address, name, settings)

    def listen_as(self, function: Callable[[argparse.Namespace], Mapping[str, Place]]) -> None:
        """Has a program's own options say where it listens, beside the listeners of the file.

        Args:
            function: Called with the options at the start, at each reload and for
                ``--check-config``; gives the places by name.
        """
        self._declared.listeners_of = function

    def claim_socket(self, name: str, address: Address | None = None) -> int | None:
        """Takes a socket that the service manager has handed over, by its name or its address.

        For a server that a function of :meth:`on_start` opens: the descriptor is its own. ``None``
        when there is no such socket. What nobody claims becomes a listener of the service.
        """
        return None if self._run is None else self._run.listeners.claim(name, address)

    def on_start(self, function: _F) -> _F:
        """A decorator: called with the options, before the first listener is opened; may block."""
        self._declared.add_hook("start", function)
        return function

    def on_stop(self, function: _F) -> _F:
        """A decorator: called with ``quitting`` when the service begins to stop.

        Listeners and links are still there. It may block, for ``--drain-timeout`` at most.
        """
        self._declared.add_hook("stop", function)
        return function

    def on_end(self, function: _F) -> _F:
        """A decorator: called at the end, when all connections are closed."""
        self._declared.add_hook("end", function)
        return function

    def on_reload(self, function: _F) -> _F:
        """A decorator: called with the new options, and the names of those that have changed."""
        self._declared.add_hook("reload", function)
        return function

    def on_ready(self, function: _F) -> _F:
        """A decorator: called with READY, which tells that the peer has taken this service in."""
        self._declared.add_hook("ready", function)
        return function

    # --- running ----------------------------------------------------------------------------------

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Runs the service, from the reading of its options to its end.

        Args:
            argv: The command line without the program's name; that of the process by default.

        Returns:
            The exit status: 0 after an orderly end, 1 when it could not run, 2 when it could not
            be configured, 75 after RESTART.

        Raises:
            SystemExit: With status 2 for wrong options, 0 after ``--help`` and the like.
        """
        arguments = sys.argv[1:] if argv is None else list(argv)
        self._values = options = self.options.parse(arguments)
        self._restart = False
        handed = {name: os.environ[name] for name in _OF_MANAGER if name in os.environ}
        try:
            with Notifier.from_environment() as notifier:
                begins_anew = self._run_with(notifier, options, arguments)
        except EdgeventError as error:
            self._say(str(error))
            return 2 if isinstance(error, _CONFIGURATION) else 1
        finally:
            self._run = self._communicator = self._logs = None
        if begins_anew:
            return self._begin_anew(handed)
        return RESTART_STATUS if self._restart else 0

    def _run_with(
        self, notifier: Notifier, options: argparse.Namespace, arguments: Sequence[str]
    ) -> bool:
        """Runs it; returns whether the program is to be executed anew."""
        from .logs import set_up_logging

        inherited = inherited_sockets()
        with set_up_logging(options, self.name) as self._logs:
            self._run = run = Run(
                self.name,
                self.options,
                self._declared,
                self.dispatcher,
                self._handler,
                self.communicator,
                options,
                arguments,
                self._logs,
                notifier,
                inherited,
            )
            try:
                run.start()
                run.communicator.run()
            except EdgeventError as error:
                notifier.status(str(error))
                if "stderr" not in self._logs.settings.targets:  # where main() says it
                    logger.error("%s: %s", self.name, error)
                raise
            finally:
                run.close()
            logger.info("%s: the end", self.name)
        return run.begins_anew

    def _begin_anew(self, handed: Mapping[str, str]) -> int:
        """Executes the program again, with what the service manager had given it."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        try:
            # The working folder is that of the start: a service does not leave it.
            words = [sys.executable, *sys.orig_argv[1:]]
            os.execve(sys.executable, words, {**os.environ, **handed})
        except OSError as error:
            self._say(f"{sys.executable}: it cannot be executed anew: {error.strerror}")
        return 1

    def _say(self, text: str) -> None:
        print(f"{self.name}: {text}".replace("\n", " "), file=sys.stderr)

    def stop(self, quitting: bool = False) -> None:
        """Begins the end: listeners close, handlers end, what was sent leaves. Does not wait.

        STOP, QUITTING, SIGTERM and SIGINT call it.

        Args:
            quitting: Whether all services of the machine go down, and not this one alone.
        """
        if self._run is not None:
            self._run.quitting = quitting
        self.communicator.stop()

    def restart(self, message: Message | None = None) -> None:
        """Ends the service as :meth:`stop` does, to begin anew; RESTART calls it.

        Under a service manager :meth:`main` returns 75, on which the unit has it started again
        (``RestartForceExitStatus=75``); elsewhere the program is executed anew in the same
        process. ``--on-restart`` says which.
        """
        reason = "" if message is None else message.get("reason", "")
        logger.info("%s: restart%s", self.name, f": {reason[:64]!a}" if reason else "")
        self._restart = True
        if self._run is not None:
            self._run.choose_restart()
        self.stop()

    def ready(self, message: Message) -> None:
        """Calls the functions of :meth:`on_ready`; READY calls it."""
        if self._run is not None:
            self._run.ready(message)

    def reload(self) -> None:
        """Reads the configuration again, and applies what can change; SIGHUP calls it.

        May switch greenlets. A configuration that cannot be used is logged, and nothing changes.
        """
        if self._run is not None:
            self._run.reload()

    def reopen_logs(self) -> None:
        """Opens the log files anew; LOG_ROTATE and SIGHUP call it."""
        if self._logs is not None:
            self._logs.reopen()
