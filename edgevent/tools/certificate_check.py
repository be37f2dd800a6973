"""Whether certificates are good: that of a server, over the network, or those of a file."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Final

from ..address import Address
from ..certificate import Certificate, shown
from ..durations import format_duration
from ..errors import CertificateError, CertificateFileError, EdgeventError, HandshakeError
from ..runtime.clock import SYSTEM_CLOCK, Clock
from ..runtime.turns import Turns, wait
from ..tls import TlsOptions, check_server_name
from ..tls_verify import Judge
from ..transport.base import drop_input
from ..transport.dial import dial
from ..transport.handshake import secure
from ..transport.secure import TlsTransport, with_tls
from .starttls import start_tls

GOOD: Final = "good"
BAD: Final = "bad"
UNREADABLE: Final = "unreadable"

# Of x509_vfy.h: what this module says itself, of each certificate that counts.
_NOT_YET, _EXPIRED = 9, 10
_FIRST_NOT_VERIFIED: Final = 21
_LAST_WORD_TIMEOUT: Final = 0.25
_PLAIN: Final = {"tls": "tcp", "tls+unix": "unix"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found of one target.

    Attributes:
        target: What was to be looked at, as it was given.
        chain: The certificates that were read, the target's own first; empty if there are none.
        until: The first date on which one of those that count is no longer valid.
        problems: What is wrong, a sentence each.
        error: Why nothing could be read, as a sentence.
    """

    target: str
    chain: tuple[Certificate, ...] = ()
    until: datetime | None = None
    problems: tuple[str, ...] = ()
    error: str = ""

    @property
    def status(self) -> str:
        """``good``, ``bad`` or ``unreadable``."""
        return UNREADABLE if self.error else BAD if self.problems else GOOD


def check_file(target: str, path: str, limit: float) -> Outcome:
    """Looks at the dates of all certificates of a file.

    Args:
        target: What the file was called on the command line.
        path: A file in PEM form, or with one certificate in DER form.
        limit: Each must be valid for longer than that, in seconds.
    """
    try:
        chain = Certificate.read_chain(path)
    except EdgeventError as error:
        return Outcome(target, error=_without(str(error), path))
    return _judge(target, chain, chain, [], limit)


def check_server(
    target: str,
    address: Address,
    options: TlsOptions,
    *,
    limit: float,
    timeout: float,
    starttls: str = "",
    clock: Clock = SYSTEM_CLOCK,
) -> Outcome:
    """Connects to a server, and looks at its certificate. Blocks the calling greenlet.

    Unless the options say ``verify="none"``, the certificate must be trusted, made for the server's
    name, and with all authorities above it valid for longer than the limit. A certificate that is
    not is read and told of all the same.

    Args:
        target: What the server was called on the command line.
        address: Where it is; TLS is spoken whatever the scheme.
        limit: In seconds.
        timeout: The limit for all of it, in seconds.
        starttls: The protocol in which TLS is asked for, or an empty string when it is spoken from
            the first byte on.
    """
    plain = replace(address, scheme=_PLAIN.get(address.scheme, address.scheme))
    secured = with_tls(str(plain))
    try:
        witness = Witness(options, secured, options.server_name or _host(address))
        chain = _connect(plain, options, witness, timeout, starttls, clock)
        counted = chain[:1] if options.verify == "none" else witness.chain
    except CertificateFileError:
        return Outcome(target, error="a certificate came that cannot be read")
    except EdgeventError as error:
        return Outcome(target, error=_without(str(error), str(plain), secured))
    problems = [_without(text, secured) for text in witness.findings]
    return _judge(target, chain, counted, problems, limit)


class Witness(Judge):
    """Judges as the options say, keeps what is wrong, and lets the handshake go on.

    Args:
        options: What is asked of the certificates.
        peer: The server, as text.
        server_name: The name or IP address that its certificate must have.

    Attributes:
        findings: What is wrong beside the dates, a sentence each.
    """

    __slots__ = ("_seen", "findings")

    def __init__(self, options: TlsOptions, peer: str, server_name: str) -> None:
        super().__init__(options, peer, server_side=False, server_name=server_name.rstrip("."))
        self._seen: dict[int, bytes] = {}
        self.findings: list[str] = []

    def __call__(self, certificate: Any, code: int, depth: int, accepted: bool) -> bool:
        """Judges one certificate of the chain that OpenSSL has built."""
        from OpenSSL import crypto

        self._seen[depth] = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        if not super().__call__(certificate, code, depth, accepted):
            why = str(self.take_verdict())
            # OpenSSL tells twice of a chain whose end is missing, of one certificate in two ways.
            is_repeated = code == _FIRST_NOT_VERIFIED and bool(self.findings)
            if accepted or not (code in (_NOT_YET, _EXPIRED) or is_repeated):
                self.findings.append(why)
        return True

    @property
    def chain(self) -> tuple[Certificate, ...]:
        """The certificates that OpenSSL has looked at, the server's own first."""
        return tuple(Certificate.parse(self._seen[depth]) for depth in sorted(self._seen))


def _host(address: Address) -> str:
    return check_server_name(address.host or "localhost")


def _connect(
    address: Address,
    options: TlsOptions,
    witness: Witness,
    timeout: float,
    starttls: str,
    clock: Clock,
) -> tuple[Certificate, ...]:
    end = clock.now() + timeout
    below = dial(address, timeout, clock=clock)
    try:
        if starttls:
            start_tls(below, starttls, end, clock)
    except BaseException:
        below.close()
        raise
    try:
        transport = secure(below, address, options, end - clock.now(), clock, judge=witness)
    except CertificateError as error:
        text = f"{error}; --certificate and --key name another one"
        raise CertificateError(text, error.errno) from error
    except HandshakeError as error:
        if error.errno == errno.ETIMEDOUT:
            text = f"no TLS handshake within {format_duration(timeout)}"
            raise HandshakeError(text, error.errno) from error
        if "handshake failure" not in str(error) or options.certificate is not None:
            raise
        text = f"{error}; it may demand a client's certificate: --certificate and --key"
        raise HandshakeError(text, error.errno) from error
    try:
        return transport.session.peer_chain
    finally:
        _end(transport, clock)


def _end(transport: TlsTransport, clock: Clock) -> None:
    """Says that nothing more comes, and waits a moment for the server's last word.

    A socket that is closed before the session tickets of TLS 1.3 have come answers them with a
    reset, and the server would log a failure.
    """
    turns, below = Turns.current(), transport.below
    try:
        transport.shutdown_write()
        below.watch_read(turns.check_wait().switch)
        try:
            wait(turns, clock, _LAST_WORD_TIMEOUT)
        finally:
            below.unwatch_read()
        drop_input(below)
    finally:
        transport.close()


# --- dates ----------------------------------------------------------------------------------------


def _judge(
    target: str,
    chain: tuple[Certificate, ...],
    counted: tuple[Certificate, ...],
    findings: list[str],
    limit: float,
) -> Outcome:
    now = datetime.now(timezone.utc)
    problems = [
        text for one in counted for text in _date_problems(one, one == chain[0], limit, now)
    ]
    until = min(one.not_after for one in counted)
    if findings and not problems:
        findings = [*findings[:-1], f"{findings[-1]}; it is valid until {in_words(until)}"]
    return Outcome(target, chain, until, (*findings, *problems))


def _date_problems(found: Certificate, is_own: bool, limit: float, now: datetime) -> list[str]:
    whose = "certificate" if is_own or not found.is_authority else "certificate of the authority"
    name = f"the {whose} {shown(found.subject)}"
    left = found.remaining(now)
    if left < 0.0:
        return [f"{name} has expired on {in_words(found.not_after)}, {span(-left)} ago"]
    problems = []
    if found.not_before > now:
        problems.append(f"{name} is not valid before {in_words(found.not_before)}")
    if left <= limit:
        problems.append(
            f"{name} expires on {in_words(found.not_after)}, in {span(left)};"
            f" the limit is {format_duration(limit)}"
        )
    return problems


def in_words(when: datetime) -> str:
    """Writes a date for people."""
    return f"{when.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def span(seconds: float) -> str:
    """Writes a span of time in one unit that suits it, cut to whole ones."""
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}s"
    return f"{int(seconds)} seconds"


def _without(text: str, *names: str) -> str:
    """Takes the name of what was looked at from a sentence: the target's stands before it."""
    for name in names:
        text = text.removeprefix(f"{name}: ")
    return text
