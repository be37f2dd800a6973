"""One run of a service: from its options to its end."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from .allow import Allow
from .binding import describe
from .communicator import Communicator
from .connection import FAILURES
from .dispatcher import Dispatcher
from .errors import EdgeventError, OptionError
from .links.handler import Handler
from .option_values import nearest
from .runtime.signal_names import catchable
from .runtime.signals import ReceivedSignal, SignalWatch
from .service_declared import OWN_OPTIONS, Declared, allow_of, changed_options
from .service_links import Links, Timers
from .service_listeners import InheritedSocket, Listeners
from .service_parts import (
    COMMUNICATOR,
    DEFINITIONS,
    PidFiles,
    Rotation,
    Step,
    prepare_communicator,
    prepare_definitions,
)
from .service_places import Place
from .service_sets import PlaceSet
from .systemd import Notifier

if TYPE_CHECKING:
    from .communicatord.client import CommunicatorConnection
    from .logs import Logs
    from .options import OptionParser

logger = logging.getLogger("edgevent.service")

_OF_LOGGING: Final = frozenset({"console", "debug", "log", "no_log", "quiet", "syslog", "trace"})
_METRICS: Final = "metrics"
_TYPING_ERROR: Final = 0.75
_LONG: Final = 3600.0


class ServiceCommunicator(Communicator):
    """A communicator whose service is told before it stops, whoever stops it."""

    before_stop: Callable[[], None] | None = None
    was_stopped = False

    def stop(self, drain_timeout: float | None = None) -> None:
        """Stops, once the service has done what it has to do before."""
        self.was_stopped = True
        before, self.before_stop = self.before_stop, None
        if before is not None and drain_timeout is None:
            before()
        else:
            super().stop(drain_timeout)


class Run:
    """What a service has while it runs.

    Args:
        name: The service's name.
        parser: Reads the options anew.
        declared: What the code has declared.
        dispatcher: Takes the messages.
        handler: What serves the peers of streams in place of the dispatcher alone.
        communicator: Runs everything.
        options: What the parser has read.
        argv: The command line that it has read, for the next time.
        logs: The log.
        notifier: Tells the service manager.
        inherited: The sockets that the service manager has handed over.

    Attributes:
        communicatord: The link to the communicatord, if there is one.
        begins_anew: Whether the program is to be executed anew at the end.
        is_running: Whether everything is open, and the end has not begun.
        options: What the parser has read last.
        quitting: Whether all services go down with this one.
    """

    def __init__(
        self,
        name: str,
        parser: OptionParser,
        declared: Declared,
        dispatcher: Dispatcher,
        handler: Handler,
        communicator: ServiceCommunicator,
        options: argparse.Namespace,
        argv: Sequence[str] | None,
        logs: Logs,
        notifier: Notifier,
        inherited: Sequence[InheritedSocket],
    ) -> None:
        self.name = name
        self.options = options
        self.quitting = False
        self.is_running = self.begins_anew = False
        self.communicator = communicator
        self._parser = parser
        self._declared = declared
        self._dispatcher = dispatcher
        self._argv = argv
        self._logs = logs
        self._notifier = notifier
        self._pid_files = PidFiles()
        self._rotation = Rotation(communicator, logs)
        self._watches: list[SignalWatch] = []
        self._files = parser.files
        self._reload_wanted = self._reloading = self._stopping = False
        self.communicatord: CommunicatorConnection | None = None
        self.listeners = Listeners(communicator, dispatcher, handler, inherited)
        self.links = Links(communicator, dispatcher, declared.functions_of)
        self.timers = Timers(communicator, declared.timers)
        self._metrics: PlaceSet[Any] = PlaceSet(
            "metrics",
            communicator,
            self._make_metrics,
            check=lambda name, place: None,
            retire=lambda former, new: former.close(),
            one_an_address=True,
        )

    # --- the start --------------------------------------------------------------------------------

    def start(self) -> None:
        """Opens everything; may switch greenlets.

        Raises:
            OptionError: The options cannot be used.
            EdgeventError: Something cannot be opened.
        """
        options, declared, communicator = self.options, self._declared, self.communicator
        permits = allow_of(options)
        intervals = declared.choose_timers(options)
        links = declared.choose_links(options)
        if declared.communicatord:
            from .communicatord.client_options import communicator_from_options

            self.communicatord = communicator_from_options(
                options, declared.communicatord, self._dispatcher
            )
        communicator.drain_timeout = options.drain_timeout
        communicator.stop_on("SIGTERM", "SIGINT")
        self._watch("SIGHUP", self.reload)
        self._watch("SIGUSR1", self.log_counters)
        self._watch("SIGUSR2", communicator.log_alive)
        # Behind the signals: who reads the file may send one at once.
        self._pid_files.prepare(options.pid_file).commit()
        if hasattr(options, DEFINITIONS):  # the program has added this group
            from .option_groups import definitions_from_options

            self._dispatcher.definitions = definitions_from_options(options)
        self._dispatcher.permits = permits
        self._tell_of_unknown(permits)
        self._call("start", options)
        places = declared.choose_listeners(options, self.listeners.has_inherited)
        self.listeners.commit(self.listeners.prepare(places))
        self.links.commit(self.links.prepare(links))
        if self.communicatord is not None:
            communicator.add_connection(self.communicatord)
        self._metrics.commit(self._metrics.prepare(_metrics_of(options)))
        self.timers.set(intervals)
        self._rotation.prepare(options).commit()
        if interval := self._notifier.watchdog_interval:
            communicator.every(interval, self._notifier.watchdog, keep_running=False)
            self._notifier.watchdog()
        if communicator.was_stopped:  # by a signal, or by what was called at the start
            return
        communicator.before_stop = self._begin_stop
        if not any(connection.keep_running for connection in communicator.connections):
            logger.warning(
                "%s: there is nothing to do: [listeners], [links] and [timers] name nothing,"
                " and neither does --listen",
                self.name,
            )
        self._notifier.ready(self._status())
        self.is_running = True
        if self._reload_wanted:
            communicator.after(0.0, self.reload, keep_running=False)

    def _make_metrics(self, name: str, place: Place) -> Any:
        from .metrics import MetricsListener  # HTTP, which few services speak

        settings = {**place.settings, "name": name}
        if options := place.tls_options():
            settings["tls"] = options
        return MetricsListener(place.address, **settings)

    def _status(self) -> str:
        where = ", ".join(self.listeners.addresses)
        return f"listening on {where}" if where else "running"

    def _watch(self, name: str, function: Callable[[], None]) -> None:
        """Has a function called in a turn after a signal.

        Unlike a ``SignalSource``, this goes on while the communicator drains: the signal would end
        the process then.
        """

        def received(signal: ReceivedSignal) -> None:
            self.communicator.turns.loop.run_callback(self._signalled, signal, function)

        self._watches.append(SignalWatch(catchable(name), received))

    def _signalled(self, received: ReceivedSignal, function: Callable[[], None]) -> None:
        try:
            logger.info("%s: %s", self.name, received)
            if not (self._stopping or self.communicator.turns.forked):
                self.communicator.after(0.0, function, keep_running=False)
        except BaseException as error:
            self.communicator.turns.failed(error)

    # --- while it runs ----------------------------------------------------------------------------

    def log_counters(self) -> None:
        """Logs what the communicator has counted."""
        from .counters import snapshot

        for line in snapshot(self.communicator).as_text().splitlines():
            logger.info("%s: %s", self.name, line)

    def reload(self) -> None:
        """Reads the configuration again, and applies what can change while the service runs.

        May switch greenlets. A configuration that cannot be used is logged, and nothing changes.
        What comes during the start is done behind it, and what comes during a reload as well.
        """
        self._reload_wanted = True
        if self._reloading or not self.is_running:
            return
        self._reloading = True
        self._notifier.reloading("reading the configuration again")
        wrong = ""
        # The last listener may go before the next one comes.
        keeper = self.communicator.every(_LONG, lambda: None)
        try:
            while self._reload_wanted and not self._stopping:
                self._reload_wanted = False
                try:
                    self._reload_once()
                    wrong = ""
                except EdgeventError as error:
                    wrong = f"the configuration stays as it was: {error}"
                    logger.error("%s: %s", self.name, wrong)
        finally:
            self._reloading = False
            keeper.close()
            if not self._stopping:
                self._notifier.ready(wrong or self._status())

    def _reload_once(self) -> None:
        declared, before = self._declared, self.options
        options = self._parser.read(self._argv)
        if self._files and not self._parser.files:  # an editor may be about to put it there again
            raise OptionError(f"{self._files[-1]} has gone, and there is no other file")
        permits = allow_of(options)
        intervals = declared.choose_timers(options)
        places = declared.choose_listeners(options, self.listeners.has_inherited)
        links = self.links.prepare(declared.choose_links(options))
        steps = [Step(lambda: self.links.commit(links), links.undo)]
        try:
            steps.append(self._pid_files.prepare(options.pid_file))
            steps.append(prepare_definitions(self._dispatcher, options))
            steps.append(prepare_communicator(self.communicatord, before, options))
            steps += [prepare(before, options) for prepare in declared.preparing]
            metrics = self._metrics.prepare(_metrics_of(options))
            steps.append(Step(lambda: self._metrics.commit(metrics), metrics.undo))
            steps.append(self._rotation.prepare(options))
            listeners = self.listeners.prepare(places)
            steps.append(Step(lambda: self.listeners.commit(listeners), listeners.undo))
            if not self._stopping:  # else that has begun while a name was looked up
                self._logs.apply(options)
        except BaseException:
            _undo(steps)
            raise
        if self._stopping:
            _undo(steps)
            return
        # From here on nothing is refused any more.
        self.options, self._files = options, self._parser.files
        changed = changed_options(before, options)
        self._logs.reopen()
        self.communicator.drain_timeout = options.drain_timeout
        for step in reversed(steps):  # listeners first
            step.commit()
        # Behind the definitions: it has the dispatcher forget what it has found by the former ones.
        self._dispatcher.permits = permits
        self._tell_of_unknown(permits)
        timers = self.timers.set(intervals)
        for kind, names in (
            ("listeners", listeners.names),
            ("links", links.names),
            ("timers", timers),
        ):
            if names:
                logger.info("%s: %s changed: %s", self.name, kind, ", ".join(names))
        self._tell_of_restart(changed, steps)
        logger.info(
            "%s: the configuration was read again: %s",
            self.name,
            ", ".join(sorted(changed)) or "nothing changed",
        )
        self._call_safely("reload", options, changed)

    def _tell_of_restart(self, changed: set[str], steps: Sequence[Step]) -> None:
        needing = changed & {name for step in steps for name in step.fixed}
        if not self._declared.hooks.get("reload"):
            needing |= {
                name
                for name in changed - OWN_OPTIONS - _OF_LOGGING
                if not name.startswith(("log_", "logrotate_", COMMUNICATOR))
            }
        for name in sorted(needing):
            logger.warning("%s: the new value of %s needs a restart", self.name, name)

    def _tell_of_unknown(self, permits: Allow | None) -> None:
        """Warns of commands in the allow table that are mistyped: their lines would guard nothing.

        A command that is like no other one may be taken by a pattern, or by the program itself.
        """
        known = self._dispatcher.commands()
        for command in () if permits is None else permits.lines:
            if command not in known and (near := nearest(command, known, _TYPING_ERROR)):
                logger.warning(
                    "%s: section [allow]: this service has no command %s%s",
                    self.name,
                    command,
                    near,
                )

    def choose_restart(self) -> None:
        """Decides, when RESTART has come, what follows the end."""
        chosen = self.options.on_restart
        is_managed = self._notifier.is_active or self.listeners.has_inherited
        self.begins_anew = chosen == "exec" or (chosen == "auto" and not is_managed)

    # --- the end ----------------------------------------------------------------------------------

    def _begin_stop(self) -> None:
        """The communicator is about to stop: this side comes first."""
        self._stopping = True
        self.is_running = False
        if self.begins_anew:
            self._notifier.reloading("beginning anew")
        else:
            self._notifier.stopping("stopping")
        if self._declared.hooks.get("stop"):
            self.communicator.after(0.0, self._stop_hooks)
            self.communicator.after(self.communicator.drain_timeout or 1e-9, self._stop_late)
        else:
            self.communicator.stop()

    def _stop_hooks(self) -> None:
        try:
            self._call_safely("stop", self.quitting)
        finally:
            self.communicator.stop()

    def _stop_late(self) -> None:
        logger.warning("%s: what is to be done before the end takes too long", self.name)
        self.communicator.stop()

    def close(self) -> None:
        """Lets go of everything."""
        self.communicator.close()
        self._call_safely("end")
        for watch in self._watches:
            watch.stop()
        self._watches.clear()
        self.listeners.close(hand_on=self.begins_anew)
        self._dispatcher.permits = None
        self._pid_files.close()

    # --- functions of the user --------------------------------------------------------------------

    def _call(self, kind: str, *arguments: Any) -> None:
        for function in self._declared.hooks.get(kind, ()):
            function(*arguments)

    def _call_safely(self, kind: str, *arguments: Any) -> None:
        for function in self._declared.hooks.get(kind, ()):
            try:
                function(*arguments)
            except FAILURES:
                logger.exception("%s: %s of on_%s failed", self.name, describe(function), kind)

    def ready(self, message: Any) -> None:
        """Calls the functions for READY."""
        self._call("ready", message)


def _undo(steps: Iterable[Step]) -> None:
    for step in steps:
        step.undo()


def _metrics_of(options: argparse.Namespace) -> dict[str, Place]:
    return {_METRICS: options.metrics} if options.metrics else {}
