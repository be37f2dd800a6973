"""check-certificate: whether the certificates of servers and files are good, and for how long."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import ipaddress
import logging
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Final

from gevent.pool import Pool

from ..address import SCHEMES, Address
from ..certificate import shown
from ..durations import parse_duration
from ..errors import AddressError, DurationError, EdgeventError, OptionError, UsageError
from ..option_output import escape_output
from ..options import OptionParser
from ..tls import TlsOptions
from .certificate_check import BAD, GOOD, UNREADABLE, Outcome, check_file, check_server
from .certificate_output import Progress, as_json, fields, printable, sentences
from .output import output_failed
from .starttls import PORTS

_NAME: Final = "check-certificate"
_HTTPS: Final = 443
_AT_ONCE: Final = 32
_CODES: Final = {GOOD: 0, BAD: 1, UNREADABLE: 2}
_DAY: Final = 86_400.0
_NUMBER: Final = re.compile(r"\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*", re.ASCII)
_ENDINGS: Final = (".pem", ".crt", ".cer", ".der")
_TLS_SCHEMES: Final = ("tls", "tcp", "tls+unix", "unix")
_SCHEME: Final = re.compile(
    rf"(?:{'|'.join(map(re.escape, (*SCHEMES, 'cd', 'cds', 'cdu')))}):|[a-z][a-z0-9+.-]*:[/@]",
    re.IGNORECASE,
)
_SILENT: Final = logging.NullHandler()

Check = Callable[[], Outcome]


def _parse_limit(text: str) -> float:
    """Reads a duration, in which a number alone is days, as in the C++ tool."""
    try:
        seconds = parse_duration(text)
        if _NUMBER.fullmatch(text):
            seconds = parse_duration(seconds * _DAY)  # which may be more than a float has
    except DurationError:
        seconds = -1.0
    if seconds < 0.0:
        raise DurationError(
            f"limit {shown(text)}: expected days, such as 14, or 36h, 14d or 2 weeks"
        )
    return seconds


def _parse_timeout(text: str) -> float:
    seconds = parse_duration(text)
    if seconds <= 0.0:
        raise DurationError(f"timeout {shown(text)}: expected more than 0")
    return seconds


def _parse_protocol(text: str) -> str:
    if text not in PORTS:
        near = difflib.get_close_matches(text.lower(), PORTS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise OptionError(f"protocol {shown(text)}: expected one of {', '.join(PORTS)}{hint}")
    return text


def _parser() -> OptionParser:
    parser = OptionParser(
        _NAME,
        "Check whether the certificates of TLS servers are trusted, made for the server's name and"
        " valid for longer than a limit, or whether those in files are valid for so long.",
        examples=[
            "check-certificate www.example.com imap.example.com:993 /etc/ssl/server.pem",
            "check-certificate --info --limit 60 www.example.com",
        ],
    )
    parser.add(
        "targets",
        nargs="+",
        metavar="DOMAIN|ADDRESS|FILE",
        help="a server as DOMAIN or DOMAIN:PORT (443 by default), or as an address: tls://,"
        " tcp:// (TLS is spoken), tls+unix: or unix:. What has a slash and no scheme before it, or"
        f" ends in {', '.join(_ENDINGS)}, is a file with certificates",
    )
    parser.add("-i", "--info", action="store_true", help="show what the certificates say")
    parser.add(
        "-l",
        "--limit",
        type=_parse_limit,
        default="14d",
        metavar="DURATION",
        help="how long they must still be valid; a number alone is days (default: 14d)",
    )
    parser.add("--json", action="store_true", help="print one line of JSON for each target")
    parser.add(
        "--starttls",
        type=_parse_protocol,
        metavar="|".join(PORTS),
        help="ask for TLS in this protocol; the port is then"
        f" {', '.join(map(str, PORTS.values()))} by default",
    )
    parser.add("--ca", metavar="FILE|DIR", help="trust these authorities, not the system's")
    parser.add("--server-name", default="", metavar="NAME", help="the name to ask for and to check")
    parser.add("--no-verify", action="store_true", help="look at the date of the certificate alone")
    parser.add("--certificate", metavar="FILE", help="a client's certificate, with its chain")
    parser.add("--key", metavar="FILE", help="its private key (default: the same file)")
    parser.add(
        "--timeout",
        type=_parse_timeout,
        default="10s",
        metavar="DURATION",
        help="how long a server may take (default: 10s)",
    )
    return parser


def _is_file(target: str) -> bool:
    if _SCHEME.match(target):
        return False
    return "/" in target or target.lower().endswith(_ENDINGS)


def _tls_options(options: argparse.Namespace) -> TlsOptions:
    if options.no_verify and options.ca:
        raise UsageError("--ca with --no-verify: expected one of them")
    if options.key and not options.certificate:
        raise UsageError("--key without --certificate: expected both")
    for name in ("ca", "certificate", "key"):
        if getattr(options, name) == "":
            raise UsageError(f"--{name} is empty: expected the name of a file")
    tls = TlsOptions(
        certificate=options.certificate,
        key=options.key or options.certificate,
        authorities=options.ca,
        verify="none" if options.no_verify else "required",
        server_name=options.server_name,
        reuse_sessions=False,
    )
    tls.context(server_side=False)  # files that cannot be used are told before all else
    return tls


def _address(target: str, starttls: str | None) -> Address:
    port = PORTS[starttls] if starttls else _HTTPS
    with contextlib.suppress(ValueError):
        target = f"[{ipaddress.IPv6Address(target)}]"  # alone it needs no brackets
    address = Address.parse(target, default_scheme="tls", default_port=port)
    if address.scheme not in _TLS_SCHEMES:
        expected = ", ".join(_TLS_SCHEMES)
        raise AddressError(f"{address}: expected an address of scheme {expected}")
    if address.is_inet and not address.host:
        raise AddressError(f"{target!r}: expected a host before the port")
    if starttls and _SCHEME.match(target) and address.is_tls:
        plain = str(address).replace("tls+", "", 1).replace("tls:", "tcp:", 1)
        raise AddressError(f"{address} with --starttls: expected {plain}, where TLS is asked for")
    return address


def _checks(options: argparse.Namespace) -> list[Check]:
    """Gives for each target the call that checks it; whatever is wrong with them is told first."""
    checks: list[Check] = []
    tls: TlsOptions | None = None

    def server(target: str, address: Address, tls: TlsOptions) -> Check:
        return lambda: check_server(
            target,
            address,
            tls,
            limit=options.limit,
            timeout=options.timeout,
            starttls=options.starttls or "",
        )

    def file(path: str) -> Check:
        return lambda: check_file(path, path, options.limit)

    for target in options.targets:
        if _is_file(target):
            checks.append(file(target))
        else:
            address = _address(target, options.starttls)
            tls = tls or _tls_options(options)
            checks.append(server(target, address, tls))
    return checks


def _print(outcome: Outcome, options: argparse.Namespace, *, is_first: bool) -> None:
    name = printable(outcome.target)
    told = [printable(text) for text in sentences(outcome)]
    if options.json:
        print(as_json(outcome))
    elif outcome.status != UNREADABLE and options.info:
        if not is_first:
            print()
        for field, value in fields(outcome):
            print(f"{field}: {value}")
        for text in told:
            print(f"status: {text}")
    elif outcome.status != UNREADABLE:
        for text in told:
            print(f"{name}: {text}")
    if outcome.status == UNREADABLE:
        print(f"{_NAME}: {name}: {told[0]}", file=sys.stderr)


def _run(options: argparse.Namespace) -> int:
    checks = _checks(options)
    progress = Progress(len(checks))
    pool = Pool(_AT_ONCE)

    def check(call: Check) -> Outcome:
        try:
            return call()
        finally:
            progress.step()

    # gevent would show where each greenlet was when an interrupt came.
    former = signal.signal(signal.SIGINT, signal.SIG_DFL)
    progress.show()
    worst = 0
    shown = 0
    try:
        for outcome in pool.imap(check, checks):
            progress.clear()
            worst = max(worst, _CODES[outcome.status])
            try:
                _print(outcome, options, is_first=not shown)
                sys.stdout.flush()
            except OSError as error:  # nobody reads on, or nothing can be told
                output_failed(_NAME, error)
                return worst if isinstance(error, BrokenPipeError) else _CODES[UNREADABLE]
            shown += outcome.status != UNREADABLE
            progress.show()
    finally:
        progress.clear()
        pool.kill()
        signal.signal(signal.SIGINT, former)
    return worst


def main(argv: Sequence[str] | None = None) -> int:
    """Checks each target of the command line, several at once, and tells of them in their order.

    Returns:
        0 when all are good, 1 when one is not, 2 when one could not be read, or after bad usage.
    """
    # What is wrong is told here; the library's log would tell it a second time.
    logging.getLogger("edgevent").addHandler(_SILENT)
    escape_output()
    try:
        return _run(_parser().parse(argv))
    except EdgeventError as error:
        print(f"{_NAME}: {printable(str(error))}", file=sys.stderr)
        return 2
