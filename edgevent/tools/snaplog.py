"""snaplog: sends lines to a log server, and tells whether they have arrived."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from ..durations import format_duration
from ..errors import (
    AddressError,
    CertificateFileError,
    EdgeventError,
    OptionError,
    SigningKeyError,
    UsageError,
)
from ..log_levels import LEVELS, read_level, show_level
from ..options import OptionParser
from ..snaplogger.handlers import TcpLogHandler, UdpLogHandler
from ..snaplogger.network_handler import NetworkLogHandler
from ..snaplogger.protocol import ACKNOWLEDGE, DEFAULT_PORT
from .peer_options import add_peer_options, read_peer

_NAME: Final = "snaplog"
_ADDRESS: Final = f"127.0.0.1:{DEFAULT_PORT}"
_COMPONENTS: Final = ("normal", _NAME)
_AT_A_TIME: Final = 1000  # so many lines are read before those have arrived
_LOOK_INTERVAL: Final = 0.1
_BAD_USAGE: Final = (
    AddressError, CertificateFileError, OptionError, SigningKeyError, UsageError,
)  # fmt: skip


class NotArrivedError(EdgeventError):
    """Lines were sent, or were to be, and have not arrived."""


def _parser() -> OptionParser:
    parser = OptionParser(
        _NAME,
        "Send a line, or those of the standard input, to a log server such as snaploggerd.",
        other_folders=["/etc/snaplogger"],
        variable="SNAPLOG",
        examples=[
            'snaplog "the backup has ended"',
            "snaplog --severity warning --component backup --field job=7 disk is nearly full",
            "make 2>&1 | snaplog --address unix:/run/snaplogger/snaploggerd.sock --severity info",
        ],
    )
    add = parser.add
    add("words", nargs="*", metavar="MESSAGE", help="the text (default: the standard input)")
    add("-m", "--message", metavar="TEXT", help="the same as without --message")
    add(
        "-a",
        "--address",
        default=_ADDRESS,
        metavar="ADDRESS",
        help="the server: IP or IP:PORT (see --type), tcp://IP:PORT, tls:, unix:, udp: or"
        f" unixgram: (default: tcp://{_ADDRESS})",
    )
    add(
        "-s",
        "--severity",
        type=read_level,
        to_text=show_level,
        default=LEVELS["error"],
        metavar="SEVERITY",
        help="a name such as debug, information or warning, or a number from 0 to 255"
        " (default: error)",
    )
    add(
        "--component",
        action="append",
        metavar="NAME",
        help=f"what it is about; may be repeated (default: {' and '.join(_COMPONENTS)})",
    )
    add("-c", "--components", nargs="+", metavar="NAME", help="the same, for several")
    add("--field", action="append", metavar="NAME=VALUE", help="a field; may be repeated")
    add("--fields", nargs="+", metavar="NAME=VALUE", help="the same, for several")
    add("-f", "--filename", metavar="FILE", help="the file of the program that it comes from")
    add("--function", metavar="NAME", help="the function in that")
    add("-l", "--line", type=_read_line, default=0, metavar="N", help="the line in that")
    add(
        "--acknowledge",
        choices=ACKNOWLEDGE,
        default="all",
        help="what has to be acknowledged: nothing, lines of error and above, or all (default)",
    )
    parser.add_duration(
        "--timeout", default="5s", minimum=0.01, help="the limit of the wait for that"
    )
    add_peer_options(parser, default_type="tcp")
    return parser


def _read_line(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and len(text) < 10):
        raise OptionError(f"line {text!r}: expected a number from 0 to 999999999")
    return int(text)


# --- what is sent ---------------------------------------------------------------------------------


def _read_lines(options: argparse.Namespace, parser: OptionParser) -> Iterable[str]:
    if options.words:
        if options.message is not None and parser.source("message") == "command line":
            raise UsageError("the message is given twice: as arguments, and by --message")
        return [" ".join(options.words)]
    if options.message is not None:
        return [options.message]
    if sys.stdin is None:
        raise UsageError("expected a message, or a standard input that is open")
    return _input_lines(sys.stdin.fileno())


def _input_lines(descriptor: int) -> Iterator[str]:
    """Gives the lines of the standard input that are not empty, whatever bytes are in them."""
    with open(descriptor, encoding="utf-8", errors="surrogateescape", closefd=False) as file:
        for line in file:
            if text := line.rstrip("\r\n"):
                yield text


def _read_components(options: argparse.Namespace) -> list[str]:
    given = [*(options.component or ()), *(options.components or ())]
    return [name for one in given for name in one.split(",") if name] or list(_COMPONENTS)


def _read_fields(options: argparse.Namespace) -> dict[str, str]:
    fields = {}
    for text in (*(options.field or ()), *(options.fields or ())):
        name, equal, value = text.partition("=")
        if not name or not equal:
            raise UsageError(f"field {text!r}: expected NAME=VALUE")
        fields[name] = value
    return fields


def _maker(options: argparse.Namespace) -> Callable[[str], logging.LogRecord]:
    """Returns what makes the record of a line."""
    extra: dict[str, Any] = dict(_read_fields(options))
    usual = {*vars(logging.makeLogRecord({})), "message", "asctime", "severity", "components"}
    for name in extra:
        if name in usual:
            raise UsageError(f"field {name!r}: this name is that of what every record has")
    extra["components"] = _read_components(options)

    def make(text: str) -> logging.LogRecord:
        record = logging.LogRecord(
            _NAME, options.severity, options.filename or "", options.line, text, None, None
        )
        record.funcName = options.function
        vars(record).update(extra)
        return record

    return make


def _open(options: argparse.Namespace, parser: OptionParser) -> NetworkLogHandler:
    peer = read_peer(
        options.address, options, parser, default_type="tcp", default_port=DEFAULT_PORT
    )
    settings: dict[str, Any] = {
        "acknowledge": options.acknowledge,
        "close_timeout": 0.0,
        "complain": lambda text: None,
        "pauses": "0.1",
    }
    if peer.address.is_datagram:
        return UdpLogHandler(peer.address, secret_code=peer.secret_code, auth=peer.auth, **settings)
    return TcpLogHandler(peer.address, tls=peer.tls, **settings)


# --- the work -------------------------------------------------------------------------------------


def _wait(handler: NetworkLogHandler, timeout: float) -> None:
    """Waits until all lines have arrived.

    Raises:
        NotArrivedError: They have not, or one was lost.
    """
    left = timeout
    while not handler.flush(min(left, _LOOK_INTERVAL)):
        left -= _LOOK_INTERVAL
        if handler.is_away or left <= 0.0:
            limit = "" if handler.is_away else f" within {format_duration(timeout)}"
            count = "1 line has" if handler.waiting == 1 else f"{handler.waiting} lines have"
            raise NotArrivedError(
                f"{handler.target}: {count} not arrived{limit}: {handler.trouble}"
            )


def _send(handler: NetworkLogHandler, records: Iterable[logging.LogRecord], timeout: float) -> None:
    for number, record in enumerate(records, 1):
        handler.handle(record)
        if number % _AT_A_TIME == 0:
            _wait(handler, timeout)
    _wait(handler, timeout)
    if handler.lost:
        count = "1 line was" if handler.lost == 1 else f"{handler.lost} lines were"
        raise NotArrivedError(f"{handler.target}: {count} lost: {handler.last_loss}")


def main(argv: Sequence[str] | None = None) -> int:
    """Sends what the command line asks for.

    Returns:
        0 when all has arrived; 1 when it has not; 2 after bad usage.
    """
    if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = _parser()
    options = parser.parse(argv)
    try:
        make = _maker(options)
        lines = _read_lines(options, parser)
        handler = _open(options, parser)
        try:
            _send(handler, map(make, lines), options.timeout)
        finally:
            handler.close()
    except EdgeventError as error:
        print(f"{_NAME}: {error}".replace("\n", " "), file=sys.stderr)
        return 2 if isinstance(error, _BAD_USAGE) else 1
    except OSError as error:
        print(f"{_NAME}: standard input: {error.strerror}", file=sys.stderr)
        return 1
    return 0
