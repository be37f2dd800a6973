"""ed-listen: listens on any address, prints what comes, and answers or forwards it if wanted."""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, TextIO

from .. import limits
from ..address import Address
from ..communicator import Communicator
from ..connection import Connection
from ..durations import format_duration
from ..errors import (
    AddressError,
    CertificateFileError,
    EdgeventError,
    ListenError,
    OptionError,
    UsageError,
)
from ..links.raw import check_line_bytes
from ..option_checks import address_problems, file_problems, is_far
from ..option_groups import add_tls_options, tls_from_options
from ..options import OptionParser
from ..tls import TlsOptions
from .answering import Answerer, Ears, open_listeners
from .forwarding import Target, open_forwarders
from .hearing import Hearing, Printer, say
from .output import parse_count
from .recording import Recorder
from .reply_table import ReplyTable

logger = logging.getLogger("edgevent")

_NAME: Final = "ed-listen"
_STDOUT: Final = 1
_DRAIN_TIMEOUT: Final = 1.0
_OF_TLS: Final = ("certificate", "key", "ca", "minimum_tls", "mutual", "allow_name")
_OF_FORWARD_TLS: Final = ("certificate", "key", "ca", "minimum_tls", "server_name", "no_verify")
_OF_ANSWERS: Final = ("reply", "default_commands", "allow_control")
_BAD_USAGE: Final = (AddressError, CertificateFileError, OptionError, UsageError)


def _parse_line_bytes(text: str) -> int:
    try:
        return check_line_bytes(int(text))
    except ValueError:
        most = limits.MAX_CONFIGURABLE_LINE_BYTES
        raise OptionError(f"value {text!r}: expected a number of bytes, 1 to {most}") from None


def _parser() -> OptionParser:
    parser = OptionParser(
        _NAME,
        "Listen on addresses and print the messages that come; answer them, or forward them.",
        examples=[
            "ed-listen tcp://127.0.0.1:3001 unix:hello.sock",
            "ed-listen --reply answers.conf --count 1 udp://127.0.0.1:4041",
            "ed-listen --forward unix:hello.sock --record hello.jsonl tcp://127.0.0.1:3002",
        ],
    )
    add = parser.add
    add(
        "addresses",
        nargs="+",
        type=Address.parse,
        metavar="ADDRESS",
        help="where to listen: tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT, unix:/PATH,"
        " tls+unix:/PATH, unixgram:/PATH, unixseq:/PATH, fifo:/PATH or fd:N; port 0 is a free one",
    )
    add("--json", action="store_true", help="print an object of JSON for each message")
    add("--time", action="store_true", help="print the time before each message")
    add(
        "--raw", action="store_true", help="print lines that are no messages too, marked with a '!'"
    )
    add("-n", "--count", type=parse_count, metavar="N", help="end after so many messages")
    parser.add_duration("--timeout", minimum=0.01, help="end after that time")
    add("--reply", metavar="FILE", help="answer as this table says: lines of COMMAND = ANSWER")
    add("--default-commands", action="store_true", help="answer HELP and ALIVE")
    add("--allow-control", action="store_true", help="end on the messages STOP and QUITTING")
    add(
        "--forward",
        type=Address.parse,
        metavar="ADDRESS",
        help="stand between each peer and this address, and print both directions",
    )
    add("--record", metavar="FILE", help="write what comes and goes to a new file, for --replay")
    add("--allow-remote", action="store_true", help="listen where others can reach it, unencrypted")
    add(
        "--max-line-bytes",
        type=_parse_line_bytes,
        default=limits.MAX_LINE_BYTES,
        metavar="N",
        help=f"the longest line (default: {limits.MAX_LINE_BYTES})",
    )
    add_tls_options(parser, server_side=True)
    add_tls_options(parser, server_side=False, prefix="forward-")
    add("-v", "--verbose", action="store_true", help="tell of connections too")
    parser.add_check(lambda options: _problems(options, parser))
    return parser


# --- what was asked for ---------------------------------------------------------------------------


def _check_use(parser: OptionParser, options: Sequence[str], fits: bool, why: str) -> None:
    for option in options:
        if not fits and parser.source(option) == "command line":
            raise UsageError(f"--{option.replace('_', '-')} {why}")


def _check(options: argparse.Namespace, parser: OptionParser) -> None:
    target: Address | None = options.forward
    addresses = options.addresses or ()  # --check-config does without them
    listens_tls = any(address.is_tls for address in addresses)
    dials_tls = target is not None and target.is_tls
    why = "is for TLS: expected a tls: address to listen on"
    _check_use(parser, _OF_TLS, listens_tls or not addresses, why)
    why = "is for TLS: expected a tls: address for --forward"
    _check_use(parser, [f"forward_{name}" for name in _OF_FORWARD_TLS], dials_tls, why)
    why = "and --forward contradict each other: the other side answers"
    _check_use(parser, _OF_ANSWERS, target is None, why)
    if listens_tls and not options.certificate:
        raise UsageError("to listen on TLS, --certificate and --key are expected")


def _problems(options: argparse.Namespace, parser: OptionParser) -> Iterator[str]:
    """What ``--check-config`` tells beyond the options themselves."""
    _check(options, parser)
    for address in options.addresses or ():
        yield from address_problems(address, listens=True)
    if options.forward is not None:
        yield from address_problems(options.forward, listens=False)
    if options.record:
        yield from file_problems(options.record, writes=True)
    if options.reply:
        ReplyTable.read(options.reply)


def _tls_of_forward(options: argparse.Namespace) -> TlsOptions | None:
    return tls_from_options(options, server_side=False, prefix="forward-")


# --- the work -------------------------------------------------------------------------------------


class _Listening:
    """One run of the program."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._timed_out = False
        self.communicator = Communicator(drain_timeout=_DRAIN_TIMEOUT)
        self.printer = Printer(_STDOUT, self.communicator.stop)
        self.hearing = Hearing(
            self.printer,
            as_json=options.json,
            shows_time=options.time,
            shows_raw=options.raw,
            both_ways=options.forward is not None,
            count=options.count or 0,
            on_count=self.communicator.stop,
        )

    def open(self) -> list[Connection]:
        """Opens all listeners."""
        options = self._options
        tls = tls_from_options(options, server_side=True)
        for address in options.addresses:
            is_far_off = is_far(address, private=address.is_datagram) and not address.is_tls
            if is_far_off and not options.allow_remote:
                raise ListenError(
                    f"{address} can be reached by others, unencrypted: --allow-remote was expected"
                )
        if options.forward is not None:
            target = Target(
                options.forward,
                self.hearing,
                tls=_tls_of_forward(options) if options.forward.is_tls else None,
                max_line_bytes=options.max_line_bytes,
            )
            return open_forwarders(
                options.addresses, target, allow_remote=options.allow_remote, tls=tls
            )
        answerer = Answerer(
            ReplyTable.read(options.reply) if options.reply else ReplyTable(),
            answers_defaults=options.default_commands,
            on_stop=self.communicator.stop if options.allow_control else None,
        )
        return open_listeners(
            options.addresses,
            Ears(self.hearing, answerer),
            allow_remote=options.allow_remote,
            tls=tls,
            max_line_bytes=options.max_line_bytes,
        )

    def run(self) -> int:
        """Listens until the end, and returns the exit code."""
        with contextlib.ExitStack() as resources:
            communicator = resources.enter_context(self.communicator)
            communicator.stop_on("SIGINT", "SIGTERM")  # before it says that it listens
            opened = [communicator.add_connection(connection) for connection in self.open()]
            if self._options.record:  # no file is made for what could not begin
                self.hearing.recorder = resources.enter_context(Recorder(self._options.record))
            for connection in opened:
                for address in getattr(connection, "addresses", [str(connection.name)]):
                    say(f"listening on {address}")
            if self._options.timeout is not None:
                communicator.after(self._options.timeout, self._time_is_over, keep_running=False)
            communicator.run()
            return self._end()

    def _time_is_over(self) -> None:
        self._timed_out = True
        self.communicator.stop()

    def _end(self) -> int:
        error, hearing, count = self.printer.error, self.hearing, self._options.count
        if error is not None:
            if error.errno == errno.EPIPE:
                return 0  # who reads has what it wanted
            say(f"standard output: {error.strerror}")
            return 1
        counts = hearing.counts
        came = _count(counts["in"], "message")
        if counts["out"]:
            came += f", {counts['out']} back"
        if counts["other"]:
            came += f", {_count(counts['other'], 'line')} that " + (
                "was none" if counts["other"] == 1 else "were none"
            )
        say(f"{came}, {_count(counts['connections'], 'connection')}")
        if self._timed_out and count and not hearing.is_over:
            limit = format_duration(self._options.timeout)
            say(f"fewer than {_count(count, 'message')} came within {limit}")
            return 1
        return 1 if hearing.failed else 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


if TYPE_CHECKING:  # the class of Python 3.10 takes no parameter at run time
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler


class _ToStderr(_StreamHandler):
    """Tells what is logged, a line each."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter(f"{_NAME}: %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:
        """When nobody reads what is told, there is nobody who could be told that."""


@contextlib.contextmanager
def _logging_to_stderr(is_verbose: bool) -> Iterator[None]:
    handler, level, propagate = _ToStderr(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if is_verbose else logging.WARNING)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def main(argv: Sequence[str] | None = None) -> int:
    """Listens where the command line says.

    Returns:
        0 after a signal, the messages that were to come, the time without ``--count``, or the end
        of what was read; 1 when it cannot listen there, fewer messages came in the time, or
        something could not be written; 2 after bad usage.
    """
    if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Before it listens, it ends without words; then the communicator has the signal.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = _parser()
    options = parser.parse(argv)
    with _logging_to_stderr(options.verbose):
        try:
            _check(options, parser)
            return _Listening(options).run()
        except EdgeventError as error:
            say(str(error).replace("\n", " "))
            return 2 if isinstance(error, _BAD_USAGE) else 1
