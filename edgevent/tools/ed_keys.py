"""ed-keys: makes a small authority, certificates signed by it and their keys, and shows them."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Final

from ..certificate import Certificate
from ..errors import CertificateFileError, EdgeventError, OptionError, UsageError
from ..keymaking import KEYS, is_name, make_authority, make_certificate
from ..keypair import KeyPair
from ..option_output import escape_output
from ..options import OptionParser
from .output import output_failed

_AUTHORITY: Final = "ca"
_SERVER_NAMES: Final = ("localhost", "127.0.0.1", "::1")
_DAY: Final = 86_400


class _UnreadError(CertificateFileError):
    """A file that was named cannot be read as a certificate."""


def _parse_time(text: str) -> datetime:
    try:
        # Python 3.10 does not know the "Z".
        when = datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in "zZ" else text)
    except ValueError:
        raise OptionError(
            f"time {text!r}: expected a date such as 2030-12-31 or 2030-12-31T23:59:59Z"
        ) from None
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


def _parse_key(text: str) -> str:
    if text not in KEYS:
        near = difflib.get_close_matches(text, KEYS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise OptionError(f"key {text!r}: expected one of {', '.join(KEYS)}{hint}")
    return text


def _parser() -> OptionParser:
    parser = OptionParser(
        "ed-keys",
        "Make a small authority (ca) and certificates of servers and clients that it has signed,"
        " or show what certificates say. The three commands 'ed-keys ca', 'ed-keys server' and"
        " 'ed-keys client alice' make all that mutual TLS on one machine needs.",
        examples=[
            "ed-keys ca",
            "ed-keys server www.example.com",
            "ed-keys client alice",
            "ed-keys show keys/server.crt",
        ],
    )
    parser.add(
        "words",
        nargs="*",
        metavar="ca|server|client|show NAME|FILE",
        help="what to do, and for whom: ca takes a name, server DNS names and IP addresses"
        " (localhost 127.0.0.1 ::1 by default), client a name, show files",
    )
    parser.add("--folder", default="keys", help="where the files are (default: keys)")
    parser.add("--name", metavar="STEM", help="write STEM.crt and STEM.key, not, say, server.crt")
    parser.add("--days", type=int, help="how long it is valid (default: 365; of a ca 3650)")
    parser.add("--not-before", type=_parse_time, metavar="TIME", help="when that begins, in UTC")
    parser.add("--not-after", type=_parse_time, metavar="TIME", help="when that ends; may be past")
    parser.add("--key", type=_parse_key, default=KEYS[0], help=f"one of {', '.join(KEYS)}")
    parser.add("--both", action="store_true", help="good for a server and for a client")
    parser.add("--force", action="store_true", help="replace files that are there already")
    parser.add("--quiet", action="store_true", help="do not say what was made")
    return parser


def _make_authority(names: list[str], options: argparse.Namespace) -> None:
    if len(names) > 1:
        raise UsageError(f"argument {names[1]!r}: expected one name; one with blanks needs quotes")
    made = make_authority(
        *names,
        days=options.days,
        not_before=options.not_before,
        not_after=options.not_after,
        key=options.key,
    )
    _write(made, options, _AUTHORITY)


def _make_server(names: list[str], options: argparse.Namespace) -> None:
    _make(names or list(_SERVER_NAMES), None, "server", options)


def _make_client(names: list[str], options: argparse.Namespace) -> None:
    if not names:
        raise UsageError("client: expected a name, such as alice")
    # A person's name is a common name and nothing else.
    _make(names if is_name(names[0]) else names[1:], names[0], "client", options)


def _make(
    names: list[str], common_name: str | None, kind: str, options: argparse.Namespace
) -> None:
    authority = _read_authority(options.folder)
    made = make_certificate(
        authority,
        names,
        common_name=common_name,
        usage="both" if options.both else "server" if kind == "server" else "client",
        days=options.days,
        not_before=options.not_before,
        not_after=options.not_after,
        key=options.key,
    )
    _write(made, options, kind)
    if authority.certificate.not_after < made.certificate.not_after:
        when = _date(authority.certificate.not_after)
        print(f"ed-keys: the authority is valid until {when}, which is sooner", file=sys.stderr)


def _read_authority(folder: str) -> KeyPair:
    try:
        authority = KeyPair.read(folder, _AUTHORITY)
    except CertificateFileError as error:
        if os.path.lexists(os.path.join(folder, f"{_AUTHORITY}.crt")):
            raise
        raise CertificateFileError(f"{error}; 'ed-keys ca' makes an authority") from error
    if not authority.certificate.is_authority:
        raise CertificateFileError(f"{folder}/{_AUTHORITY}.crt: the certificate is no authority")
    return authority


def _write(made: KeyPair, options: argparse.Namespace, stem: str) -> None:
    stem = stem if options.name is None else options.name
    certificate, key = made.write(options.folder, stem, force=options.force)
    if not options.quiet:
        facts = made.certificate
        whose = _names(facts) or facts.subject
        print(f"{certificate}: {whose}; valid until {_date(facts.not_after)}")
        print(f"{key}: its private key, {facts.key}")


def _show(names: list[str], options: argparse.Namespace) -> None:
    if not names:
        raise UsageError("show: expected files, such as keys/server.crt")
    failed: list[str] = []
    for path in names:
        try:
            chain = Certificate.read_chain(path)
        except CertificateFileError as error:
            failed.append(str(error))
            continue
        for certificate in chain:
            print(f"{path}:")
            for name, value in _describe(certificate):
                print(f"  {name}: {value}")
    if failed:
        raise _UnreadError("\n".join(failed))


def _describe(facts: Certificate) -> list[tuple[str, str]]:
    days = facts.remaining() / _DAY
    left = f"{days:.0f} days left" if days >= 0 else f"expired {-days:.0f} days ago"
    if facts.not_before > datetime.now(timezone.utc):
        left = "not yet valid"
    return [
        ("subject", facts.subject),
        ("issuer", f"{facts.issuer}{' (itself)' if facts.self_signed else ''}"),
        ("valid from", _date(facts.not_before)),
        ("valid until", f"{_date(facts.not_after)} ({left})"),
        ("names", _names(facts) or "none"),
        ("may sign others", "yes" if facts.is_authority else "no"),
        ("key", facts.key),
        ("serial number", f"{facts.serial_number:x}"),
        ("fingerprint", facts.fingerprint),
    ]


def _names(facts: Certificate) -> str:
    # What stands in a foreign certificate may be anything, escape sequences among them.
    names = [one.encode("unicode_escape").decode() for one in facts.names]
    return ", ".join([*names, *map(str, facts.addresses)])


def _date(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S UTC")


_COMMANDS: Final[dict[str, Callable[[list[str], argparse.Namespace], None]]] = {
    "ca": _make_authority,
    "server": _make_server,
    "client": _make_client,
    "show": _show,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Makes or shows what the command line asks for.

    Returns:
        0 when all was done, 1 when something could not be done, 2 when a file that is to be shown
        cannot be read, and after bad usage.
    """
    options = _parser().parse(argv)
    escape_output()
    try:
        if not options.words:
            raise UsageError(f"expected one of {', '.join(_COMMANDS)}; --help tells more")
        command, *names = options.words
        if command not in _COMMANDS:
            near = difflib.get_close_matches(command, _COMMANDS, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"{command!r}: expected one of {', '.join(_COMMANDS)}{hint}")
        _COMMANDS[command](names, options)
        sys.stdout.flush()
    except EdgeventError as error:
        for line in str(error).splitlines():
            print(f"ed-keys: {line}", file=sys.stderr)
        return 2 if isinstance(error, UsageError | _UnreadError) else 1
    except OSError as error:
        output_failed("ed-keys", error)
        return 1
    return 0
