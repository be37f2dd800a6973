"""The options that say what is logged, and where."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from .errors import OptionError
from .log_journal import JOURNAL_SOCKET
from .log_levels import LEVELS, read_level, show_level
from .log_syslog import FACILITIES, SYSLOG_SOCKET, SyslogForm
from .log_text import LineFormatter
from .option_checks import file_problems
from .option_values import nearest
from .options import OptionParser
from .snaplogger.handler_options import LogServer, add_log_server_options, read_log_server

Target = Literal["stderr", "file", "syslog", "journal", "server", "none"]

_TARGETS: Final = ("stderr", "file", "syslog", "journal", "server", "none")
_ALIASES: Final = {"console": "stderr", "journald": "journal"}
_FORMS: Final = ("rfc3164", "rfc5424")
_SHOWN: Final = 100
_MAX_DIGITS: Final = 3
_WIDE: Final = re.compile(rf"%\([^)]*\)[-+ #0.\d]*?\d{{{_MAX_DIGITS + 1}}}", re.ASCII)
_LEVEL_OPTIONS: Final = ("log-level", "log-severity")

_LEVEL: Final = "_level"
_SHORT: Final = {"trace": "trace", "debug": "debug", "quiet": "warning"}


class _StoreLevel(argparse._StoreAction):
    """Notes that this option was the last one that sets the level."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        super().__call__(parser, namespace, values, option_string)
        setattr(namespace, _LEVEL, values)


class _StoreShort(argparse._StoreTrueAction):
    """Notes the same of one that stands for a level."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        super().__call__(parser, namespace, values, option_string)
        setattr(namespace, _LEVEL, LEVELS[_SHORT[self.dest]])


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, and where: the options, read and checked.

    Attributes:
        level: The least level of what is logged.
        loggers: The least level of some loggers, by name.
        targets: Where to, without ``none``.
        file: The path of the file, or an empty string.
        form: The user's format, or an empty string.
        facility: The facility of syslog.
        syslog_form: The form of what syslog gets.
        syslog_socket: Where syslog receives.
        journal_socket: Where the journal receives.
        server: The log server, if there is one.
    """

    level: int
    loggers: Mapping[str, int]
    targets: tuple[Target, ...]
    file: str
    form: str
    facility: str
    syslog_form: SyslogForm
    syslog_socket: str
    journal_socket: str
    server: LogServer | None = None


def add_logging_options(parser: OptionParser) -> None:
    """Adds the options of logging, and the section ``[log]`` of the files.

    Args:
        parser: The program's options.
    """
    parser.add(
        "--log-level",
        "--log-severity",
        type=read_level,
        to_text=show_level,
        action=_StoreLevel,
        default=logging.INFO,
        metavar="SEVERITY",
        help="the least that is logged: trace, debug, information, warning, error and others, or"
        " a number from 0 to 255 as in snaplogger (default: information)",
    )
    parser.add("--debug", action=_StoreShort, help="short for --log-level debug")
    parser.add("--trace", action=_StoreShort, help="short for --log-level trace")
    parser.add("--quiet", action=_StoreShort, help="short for --log-level warning")
    parser.add(
        "--log-to",
        type=_read_targets,
        action="append",
        metavar="TARGET",
        help="stderr, file, syslog, journal, server or none; several with commas, or by several"
        " options (default: the file of --log-file and the server of --log-server, else stderr)",
    )
    parser.add("--log-file", metavar="FILE", help="log to the end of this file")
    parser.add("--console", action="store_true", help="short for --log-to stderr")
    parser.add("--syslog", action="store_true", help="short for --log-to syslog")
    parser.add("--no-log", action="store_true", help="log nothing, whatever else is said")
    parser.add(
        "--log-format",
        type=_read_form,
        metavar="FORMAT",
        help="the form of a line, with fields as %%(asctime)s, %%(severity)s, %%(levelname)s,"
        " %%(name)s, %%(process)d and %%(message)s",
    )
    parser.add(
        "--log-facility",
        choices=tuple(FACILITIES),
        default="daemon",
        metavar="NAME",
        help="the facility for syslog: daemon, user, local0 to local7 and others (default: daemon)",
    )
    parser.add(
        "--log-syslog-form",
        choices=_FORMS,
        default=_FORMS[0],
        help="the form of what syslog gets (default: rfc3164, as the C library has it)",
    )
    parser.add(
        "--log-syslog-socket",
        default=SYSLOG_SOCKET,
        metavar="FILE",
        help=f"where syslog receives (default: {SYSLOG_SOCKET})",
    )
    parser.add(
        "--log-journal-socket",
        default=JOURNAL_SOCKET,
        metavar="FILE",
        help=f"where the journal receives (default: {JOURNAL_SOCKET})",
    )
    add_log_server_options(parser)
    parser.add_section(
        "log",
        _read_logger_level,
        help="the least severity of a logger, such as edgevent.dispatcher=debug",
    )
    parser.add_check(_check)


def read_log_settings(options: argparse.Namespace) -> LogSettings:
    """Reads the options of logging.

    Of ``--log-level``, ``--trace``, ``--debug`` and ``--quiet`` the last one that is given counts,
    or the one that stands in the place that wins.

    Args:
        options: What the parser with these options gave.

    Raises:
        OptionError: They contradict each other.
    """
    return LogSettings(
        level=getattr(options, _LEVEL, options.log_level),
        loggers=dict(options.log or {}),
        targets=_choose_targets(options),
        file=options.log_file or "",
        form=options.log_format or "",
        facility=options.log_facility,
        syslog_form=options.log_syslog_form,
        syslog_socket=options.log_syslog_socket,
        journal_socket=options.log_journal_socket,
        server=read_log_server(options),
    )


def _check(options: argparse.Namespace) -> Iterator[str]:
    settings = read_log_settings(options)
    if "file" in settings.targets:
        yield from file_problems(settings.file, writes=True)


def _choose_targets(options: argparse.Namespace) -> tuple[Target, ...]:
    if options.no_log:
        return ()
    named: list[Target] = [target for targets in options.log_to or () for target in targets]
    if options.console:
        named.append("stderr")
    if options.syslog:
        named.append("syslog")
    if "none" in named:
        others = [one for one in named if one != "none"]
        if others:
            raise OptionError(f"--log-to none and {others[0]} contradict each other")
        return ()
    if options.log_file:
        named.append("file")
    elif "file" in named:
        raise OptionError("--log-to file: expected --log-file FILE beside it")
    if options.log_server is not None:
        named.append("server")
    elif "server" in named:
        raise OptionError("--log-to server: expected --log-server ADDRESS beside it")
    return tuple(dict.fromkeys(named)) or ("stderr",)


def _read_targets(text: str) -> tuple[Target, ...]:
    found = []
    for word in text.split(","):
        name = word.strip().lower()
        name = _ALIASES.get(name, name)
        if name not in _TARGETS:
            hint = nearest(name, _TARGETS)
            raise OptionError(
                f"target {word[:_SHOWN]!r}: expected one of {', '.join(_TARGETS)}{hint}"
            )
        found.append(cast(Target, name))
    return tuple(found)


def _read_form(text: str) -> str:
    if _WIDE.search(text):
        raise OptionError(
            f"format {text[:_SHOWN]!r}: expected widths of {_MAX_DIGITS} digits at most"
        )
    record = logging.LogRecord("name", logging.INFO, __file__, 1, "text", (), None)
    try:
        LineFormatter(text).format(record)
    except (ValueError, TypeError, KeyError) as error:
        raise OptionError(
            f"format {text[:_SHOWN]!r}: expected fields as %(message)s: {error}"
        ) from None
    return text


def _read_logger_level(logger: str, text: str) -> int:
    if logger.replace("_", "-") in _LEVEL_OPTIONS:
        raise OptionError("expected the name of a logger, such as edgevent.dispatcher")
    return read_level(text)
