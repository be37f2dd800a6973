"""ed-ping: whether a service answers, and how soon."""

from __future__ import annotations

import argparse
import logging
import re
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

import gevent

from ..address import SCHEMES
from ..communicatord.client_options import add_communicator_options, communicator_address
from ..durations import format_duration
from ..errors import (
    AddressError,
    CertificateFileError,
    EdgeventError,
    OptionError,
    SigningKeyError,
    UsageError,
)
from ..option_output import escape_output
from ..options import OptionParser
from .output import output_failed, parse_count
from .peer_options import Peer, add_peer_options, peer_at, read_peer
from .ping_output import CRITICAL, UNKNOWN, JsonOutput, LineOutput, Output, QuietOutput, judge
from .pinging import Pinger, Statistics, wait_for_service

_NAME: Final = "ed-ping"
_PORT: Final = 4041
_MONITORED: Final = 5
"""How many times a service is asked by --monitor."""
_TARGET: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*|[.?]):[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SCHEMES: Final = frozenset((*SCHEMES, "cd", "cds", "cdu"))
_SILENT: Final = logging.NullHandler()
_BAD_USAGE: Final = (
    AddressError, CertificateFileError, OptionError, SigningKeyError, UsageError,
)  # fmt: skip


def _parser() -> OptionParser:
    parser = OptionParser(
        _NAME,
        "Ask a service whether it is alive, again and again, and show how long each answer took.",
        examples=[
            "ed-ping --count 3 tcp://127.0.0.1:3001",
            "ed-ping --wait 30s unix:hello.sock",
            "ed-ping --monitor --warning 50ms --critical 500ms udp://127.0.0.1:3001",
        ],
    )
    add = parser.add
    add(
        "address",
        metavar="ADDRESS",
        help="where the service is: an address such as tcp://127.0.0.1:3001 or"
        " unix:/run/hello.sock; IP or IP:PORT (see --type); or FILE@NAME: the variable NAME (or"
        " SECTION::NAME) of a file that begins with / or ./;"
        f" port {_PORT} when it says none; or SERVER:SERVICE, by way of the communicatord",
    )
    add(
        "-c",
        "--count",
        type=parse_count,
        metavar="N",
        help=f"ask so many times (default: until SIGINT; with --monitor {_MONITORED})",
    )
    parser.add_duration("-i", "--interval", default="1s", help="from one time to the next")
    parser.add_duration(
        "--timeout",
        default="2s",
        minimum=0.001,
        help="the limit of connecting, and of the wait for each answer",
    )
    add(
        "-q", "--quiet", action="store_true", help="print the statistics alone; with --wait nothing"
    )
    add("--json", action="store_true", help="print an object a line, with times in seconds")
    parser.add_duration(
        "-w",
        "--wait",
        minimum=0.001,
        help="wait so long for the service, until it has answered once",
    )
    add(
        "--monitor",
        action="store_true",
        help="print one line and end with the exit codes of a monitoring plugin: 0 OK, 1 WARNING,"
        " 2 CRITICAL, 3 UNKNOWN",
    )
    parser.add_duration("--warning", help="with --monitor: the longest average that is still OK")
    parser.add_duration("--critical", help="with --monitor: the longest that is not CRITICAL")
    add_peer_options(parser)
    add_communicator_options(parser, tls=False)
    return parser


def _check(options: argparse.Namespace, parser: OptionParser) -> None:
    """Refuses options that have nothing to do with one another."""
    given = {
        name
        for name in ("count", "interval", "json", "quiet", "wait", "monitor", "warning", "critical")
        if getattr(options, name) and parser.source(name) == "command line"
    }
    for one, other in (
        ("wait", "count"),
        ("wait", "interval"),
        ("wait", "monitor"),
        ("wait", "json"),
        ("monitor", "json"),
        ("monitor", "quiet"),
        ("quiet", "json"),
    ):
        if {one, other} <= given:
            raise UsageError(f"--{one} with --{other}: expected one of them")
    for name in ("warning", "critical"):
        if name in given and not options.monitor:
            raise UsageError(f"--{name} is for --monitor")
    warning, critical = options.warning, options.critical
    if warning is not None and critical is not None and critical < warning:
        raise UsageError(
            f"--critical {format_duration(critical)}: expected --warning"
            f" ({format_duration(warning)}) or longer"
        )


def _read_place(options: argparse.Namespace, parser: OptionParser) -> Peer:
    found = _TARGET.fullmatch(options.address)
    if found is None or found[1] in _SCHEMES:
        if parser.source("communicator_listen") == "command line":
            raise UsageError("--communicator-listen is for SERVER:SERVICE")
        return read_peer(options.address, options, parser, default_port=_PORT)
    for name in ("type", "encrypt"):
        if parser.source(name) == "command line":
            raise UsageError(f"--{name} is for an address, not for SERVER:SERVICE")
    daemon = communicator_address(options)
    if daemon is None:
        raise UsageError(f"{options.address}: --communicator-listen is off")
    return peer_at(daemon, options, parser, target=options.address)


# --- the work -------------------------------------------------------------------------------------


def _ping(
    pinger: Pinger, count: int | None, interval: float, output: Output, statistics: Statistics
) -> Exception | None:
    """Asks so many times; returns why it could not go on, if so."""
    try:
        _ask_again(pinger, count, interval, output, statistics)
    except (EdgeventError, OSError) as error:  # raised, the hub would print it, too
        return error
    return None


def _ask_again(
    pinger: Pinger, count: int | None, interval: float, output: Output, statistics: Statistics
) -> None:
    start = time.monotonic()
    while count is None or statistics.sent < count:
        pause = start + statistics.sent * interval - time.monotonic()
        if pause > 0.0:
            gevent.sleep(pause)
        elif statistics.sent:
            start = time.monotonic() - statistics.sent * interval  # what was missed is not made up
        number = statistics.begin()
        try:
            answer = pinger.ping(number)
        except _BAD_USAGE:
            raise
        except EdgeventError as error:
            output.failed(number, error)
        else:
            statistics.add(answer.seconds)
            output.answered(number, answer)


def _run(options: argparse.Namespace, peer: Peer, *, until_signal: bool) -> int:
    statistics = Statistics()
    if options.monitor:
        output: Output = QuietOutput()
    elif options.json:
        output = JsonOutput(peer)
    else:
        output = LineOutput(peer, quiet=options.quiet)
    count = options.count or (_MONITORED if options.monitor else None)
    with Pinger(peer, options.timeout) as pinger:
        # In a greenlet of its own, so that the signal can end any wait of it.
        asking = gevent.spawn(_ping, pinger, count, options.interval, output, statistics)
        watcher = gevent.get_hub().loop.signal(signal.SIGINT, ref=False) if until_signal else None
        try:
            if watcher is not None:
                watcher.start(asking.kill, gevent.GreenletExit, False)
            ended = asking.get()
        finally:
            if watcher is not None:
                watcher.close()
    if isinstance(ended, gevent.GreenletExit):
        statistics.forget_open()
    elif ended is not None:
        raise ended
    if options.monitor:
        code, line = judge(peer, statistics, options.warning, options.critical)
        print(line, flush=True)
        return code
    output.end(statistics)
    return 0 if statistics.answered else 1


def _work(parser: OptionParser, options: argparse.Namespace, *, until_signal: bool) -> int:
    _check(options, parser)
    peer = _read_place(options, parser)
    if options.wait is None:
        return _run(options, peer, until_signal=until_signal)
    answer = wait_for_service(peer, options.timeout, options.wait)
    if not options.quiet:
        LineOutput(peer).answered(1, answer)
    return 0


def _fail(error: EdgeventError, monitored: bool) -> int:
    sentence = f"{error}".replace("\n", " ")
    is_usage = isinstance(error, _BAD_USAGE)
    if monitored:  # its line is read from the standard output
        state, code = ("UNKNOWN", UNKNOWN) if is_usage else ("CRITICAL", CRITICAL)
        print(f"ALIVE {state} - {sentence}".replace("|", "/"))
        return code
    print(f"{_NAME}: {sentence}", file=sys.stderr)
    return 2 if is_usage else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Asks a service whether it is alive.

    Returns:
        0 when it has answered, 1 when it has not, 2 after bad usage; with ``--monitor`` the exit
        code of a monitoring plugin.
    """
    until_signal = argv is None
    if until_signal and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # The hub of gevent would tell of a KeyboardInterrupt in its own words.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.getLogger("edgevent").addHandler(_SILENT)  # what has failed is told here
    parser = _parser()
    escape_output()
    words = sys.argv[1:] if argv is None else argv
    try:
        options = parser.read(words) if "--monitor" in words else parser.parse(words)
    except OptionError as error:
        return _fail(error, True)
    try:
        return _work(parser, options, until_signal=until_signal)
    except EdgeventError as error:
        return _fail(error, options.monitor)
    except OSError as error:
        output_failed(_NAME, error)
        return 1
