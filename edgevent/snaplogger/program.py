"""snaploggerd as a program: the log records of all computers, in files of this one."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from ..answers import Peer
from ..defaults import is_obeyed
from ..errors import MessageError
from ..links.datagram_peer import DatagramPeer
from ..links.message import MessageConnection
from ..log_handler import RecordHandler
from ..log_journal import KEPT, JournalHandler
from ..log_stream import StderrHandler
from ..log_syslog import SyslogHandler
from ..log_text import STANDARD_FORMAT, TIMELESS_FORMAT, LineFormatter
from ..message import Message
from ..options import OptionParser
from ..service import Service
from ..service_places import make_socket_folder
from .collected import Source
from .collector import Collector
from .log_files import RETRY_INTERVAL, Settings
from .log_stream import LateAnswers, LogStream, datagram_source, new_log_stream, stream_source
from .ordering import Ordering
from .protocol import LOG, LOGGER, PAUSE, UNPAUSE
from .sender_limits import Limits
from .server_options import add_options, listeners_of, tell_of_unused
from .store import Store
from .streams import Streams

logger = logging.getLogger("edgevent.snaplogger")

NAME: Final = "snaploggerd"
ROTATION: Final = "127.0.0.1:4988"
"""Where LOG_ROTATE is waited for by datagram, as in C++."""


class Program:
    """The daemon as a service: options, listeners, files and the end.

    Args:
        settings: Those of :class:`~edgevent.Service`, such as ``config_folder`` for tests.

    Attributes:
        service: The service.
        streams: The senders that are connected.
        collector: What takes their records, once the options are read.
        ordering: Puts those that come by datagram in their order.
    """

    def __init__(self, **settings: Any) -> None:
        self.streams = Streams()
        self.collector: Collector | None = None
        self._has_begun = False
        self.service = service = Service(
            NAME,
            "Collects the log records of services, of this computer and of others.",
            handler=new_log_stream(self.streams),
            communicatord=True,
            logrotate_listen=ROTATION,
            **{
                "other_folders": ("/etc/snaploggerd", "/etc/snaplogger"),
                "variable": "SNAPLOGGERD",
                "examples": (
                    "snaploggerd --folder=logs",
                    "snaploggerd --path-template='${source_ip}/${component}.log' --form=json",
                    "snaploggerd --check-config",
                ),
                **settings,
            },
        )
        _register_when_asked(service.options)
        add_options(service.options)
        service.listen_as(listeners_of)
        for name in (LOG, LOGGER):
            service.on(name)(self._log)
        service.on(PAUSE)(self._pause)
        service.on(UNPAUSE)(self._unpause)
        service.on("LOG_STATUS")(self._status)
        service.on_start(self._start)
        service.on_reload(self._reload)
        service.on_stop(self._stop)
        service.on_end(self._end)
        self._late = LateAnswers(self._later)
        self.ordering = Ordering(self._take_in_order)

    # --- the messages -----------------------------------------------------------------------------

    def _log(self, message: Message, peer: Peer) -> None:
        collector = self.collector
        assert collector is not None
        if isinstance(peer, LogStream):
            source = peer.source
        elif isinstance(peer, DatagramPeer):
            source = datagram_source(peer, self._late.to(peer))
            self.ordering.put(message, source, len(str(message)))
            return
        else:
            assert isinstance(peer, MessageConnection)
            source = stream_source(peer, self._late.to(peer))
        try:
            collector.take(message, source)
        except MessageError:
            collector.counts["refused"] += 1
            raise
        if isinstance(peer, LogStream):
            self.streams.look_at(peer)

    def _take_in_order(self, message: Message, source: Source) -> None:
        collector = self.collector
        assert collector is not None
        try:
            collector.take(message, source)
        except MessageError as error:
            collector.counts["refused"] += 1
            logger.warning("%s: refused %s: %s", source.address, message.command, error)
            if source.is_answered:
                collector.refuse(message, source, str(error))

    def _pause(self, message: Message, peer: Peer) -> Message | None:
        return self._tell_all(message, peer, True)

    def _unpause(self, message: Message, peer: Peer) -> Message | None:
        return self._tell_all(message, peer, False)

    def _tell_all(self, message: Message, peer: Peer, is_paused: bool) -> Message | None:
        if not is_obeyed(self.service.dispatcher, message, peer):
            return None
        count = self.streams.pause(is_paused)
        logger.info("%s: %s: %d senders were told", peer.name, message.command, count)
        return message.reply("PAUSED" if is_paused else "UNPAUSED", {"senders": count})

    def _status(self, message: Message, peer: Peer) -> Message | None:
        if self.collector is None or not is_obeyed(self.service.dispatcher, message, peer):
            return None
        counts = {**self.collector.all_counts(), "senders": len(self.streams)}
        return message.reply("LOG_COUNTS", {**counts, "paused": self.streams.is_paused})

    # --- the hooks of the service -----------------------------------------------------------------

    def _start(self, options: argparse.Namespace) -> None:
        tell_of_unused(options)
        self.collector = self.streams.collector = collector = Collector(
            _store_of(options), on_full=self.streams.set_full
        )
        self._apply(options)
        if options.unix_listen is None:
            make_socket_folder(listeners_of(options)["unix"].address.path)
        if (logs := self.service.logs) is not None:
            logs.also_reopened.append(collector.reopen)
        self.service.communicator.every(RETRY_INTERVAL, self._look, keep_running=False)
        self.service.communicator.after(0.0, self._begun, keep_running=False)

    def _begun(self) -> None:
        self._has_begun = True

    def _look(self) -> None:
        self.ordering.look()
        if self.collector is not None:
            self.collector.look()

    def _apply(self, options: argparse.Namespace) -> None:
        collector, dispatcher = self.collector, self.service.dispatcher
        assert collector is not None
        self.ordering.wait = options.order_wait
        collector.level = options.min_severity
        collector.use_limits(
            Limits(options.rate_limit, options.rate_burst, options.quota, options.quota_period)
        )
        collector.use_handlers([_handler_of(name) for name in dict.fromkeys(options.also_to or ())])
        # A table of who may send what is looked at in the turn of each record.
        self.streams.may_pass_by = not (dispatcher.guards(LOG) or dispatcher.guards(LOGGER))

    def _reload(self, options: argparse.Namespace, changed: set[str]) -> None:
        if self.collector is None:
            return
        if changed & _OF_FILES:
            self.collector.exchange(_store_of(options))
        self._apply(options)

    def _stop(self, quitting: bool) -> None:
        self.ordering.release()
        if self.collector is not None:
            self.collector.wait()

    def _end(self) -> None:
        self.ordering.release()
        if self.collector is not None:
            self.collector.close()
            if self._has_begun:
                counts = self.collector.all_counts()
                logger.info("%s: %s", NAME, ", ".join(f"{name} {counts[name]}" for name in counts))

    def _later(self, function: Callable[[], None]) -> None:
        self.service.communicator.after(0.0, function, keep_running=False)


_OF_FILES: Final = frozenset(
    {"folder", "form", "keep_files", "max_file_size", "max_kept", "path_template", "sync"}
)


def _store_of(options: argparse.Namespace) -> Store | None:
    if not options.path_template:
        return None
    settings = Settings(
        max_bytes=options.max_file_size,
        generations=options.keep_files,
        kept_bytes=options.max_kept,
        sync=options.sync,
    )
    return Store(options.folder, options.path_template, options.form, settings)


def _handler_of(target: str) -> RecordHandler:
    if target == "journal":
        return JournalHandler(NAME, LineFormatter("%(message)s", keep=KEPT))
    if target == "syslog":
        return SyslogHandler(NAME, LineFormatter(TIMELESS_FORMAT))
    return StderrHandler(LineFormatter(STANDARD_FORMAT))


def _register_when_asked(parser: OptionParser) -> None:
    for action in parser.actions:
        if action.dest == "communicator_listen":
            action.default = False
            action.help = "where the communicatord is to register with (default: off)"


def _parser() -> OptionParser:
    return Program().service.options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the daemon; see :meth:`edgevent.Service.main`."""
    return Program().service.main(argv)
