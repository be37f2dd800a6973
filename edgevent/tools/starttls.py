"""How a plain connection to a mail or directory server is made one of TLS: STARTTLS.

SMTP as in RFC 3207 and RFC 5321, IMAP as in RFC 9051 (section 6.2.1; RFC 3501 and 2595 before it),
LDAP as in RFC 4511 (section 4.14).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from ..address import Address
from ..certificate import shown
from ..errors import AddressError, HandshakeError
from ..runtime.clock import Clock
from ..runtime.turns import TIMED_OUT, Turns, wait
from ..transport.base import StreamTransport

PORTS: Final = {"smtp": 25, "imap": 143, "ldap": 389}
"""The protocols that are known, each with the port that is its own."""

_MAX_LINE: Final = 8 * 1024  # bytes; RFC 5321 wants 512, RFC 9051 sets no limit
_MAX_LINES: Final = 100  # of one answer
_MAX_ELEMENT: Final = 64 * 1024  # bytes of one LDAP message
_READ: Final = 4 * 1024

# LDAPMessage 1 with an extendedReq [APPLICATION 23], whose name [0] is 1.3.6.1.4.1.1466.20037.
_START_TLS: Final = b"1.3.6.1.4.1.1466.20037"
_REQUEST: Final = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + _START_TLS
_SEQUENCE, _INTEGER, _ENUMERATED, _RESPONSE = 0x30, 0x02, 0x0A, 0x78
# RFC 4511, section 4.1.9, and appendix A.
_RESULTS: Final = {
    1: "operationsError",
    2: "protocolError",
    8: "strongerAuthRequired",
    12: "unavailableCriticalExtension",
    51: "busy",
    52: "unavailable",
    53: "unwillingToPerform",
    80: "other",
}


def start_tls(transport: StreamTransport, protocol: str, end: float, clock: Clock) -> None:
    """Asks the server for TLS, up to the byte after which it waits for a handshake.

    Blocks the calling greenlet. The transport is left open.

    Args:
        transport: A connection on which nothing was said yet.
        protocol: One of :data:`PORTS`.
        end: Until when, on the clock's monotonic time in seconds.

    Raises:
        HandshakeError: The server has no TLS, refuses it, speaks another protocol, has gone, or
            does not answer in time.
    """
    _PROTOCOLS[protocol](_Talk(transport, end, clock))


class _Talk:
    """What is said in plain text before TLS."""

    def __init__(self, transport: StreamTransport, end: float, clock: Clock) -> None:
        self._transport = transport
        self._end = end
        self._clock = clock
        self._read = b""

    @property
    def name(self) -> str:
        """This side as SMTP wants it: an address literal (RFC 5321, section 4.1.3)."""
        try:
            host = Address.parse(self._transport.local).host.partition("%")[0]
        except AddressError:
            host = ""
        if not host:
            return "localhost"
        return f"[IPv6:{host}]" if ":" in host else f"[{host}]"

    def say(self, data: bytes) -> None:
        while data:
            try:
                data = data[self._transport.transmit(data) :]
            except BlockingIOError:
                self._wait(self._transport.watch_write, self._transport.unwatch_write)
            except OSError as error:
                raise self._broken(error) from error

    def line(self) -> str:
        """Waits for a line, and gives it without its end."""
        while b"\n" not in self._read:
            if len(self._read) > _MAX_LINE:
                raise HandshakeError(f"a line of more than {_MAX_LINE} bytes came before TLS")
            self._more()
        line, _, self._read = self._read.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "backslashreplace")

    def take(self, size: int) -> bytes:
        """Waits for so many bytes."""
        while len(self._read) < size:
            self._more()
        found, self._read = self._read[:size], self._read[size:]
        return found

    def done(self) -> None:
        # Else somebody between the two could put words of theirs into the encrypted part.
        if self._read:
            raise HandshakeError("the server has sent plain text behind its word that TLS begins")

    def _more(self) -> None:
        data: bytes | None = None
        while data is None:
            try:
                data = self._transport.receive(_READ)
            except BlockingIOError:
                self._wait(self._transport.watch_read, self._transport.unwatch_read)
            except OSError as error:
                raise self._broken(error) from error
        if not data:
            raise HandshakeError("the server has ended the connection before TLS")
        self._read += data

    def _wait(
        self,
        watch: Callable[[Callable[[], object]], None],
        unwatch: Callable[[], None],
    ) -> None:
        turns, left = Turns.current(), self._end - self._clock.now()
        watch(turns.check_wait().switch)
        try:
            if left <= 0.0 or wait(turns, self._clock, left) is TIMED_OUT:
                raise HandshakeError("the server did not answer in time", errno.ETIMEDOUT)
        finally:
            unwatch()

    def _broken(self, error: OSError) -> HandshakeError:
        why = error.strerror or str(error)
        return HandshakeError(f"the connection broke before TLS: {why}", error.errno)


# --- SMTP -----------------------------------------------------------------------------------------


def _smtp(talk: _Talk) -> None:
    _smtp_answer(talk, "220")
    talk.say(f"EHLO {talk.name}\r\n".encode())
    offers = [line.upper().split() for line in _smtp_answer(talk, "250")]
    if ["STARTTLS"] not in offers:
        raise HandshakeError("the SMTP server does not offer STARTTLS")
    talk.say(b"STARTTLS\r\n")
    _smtp_answer(talk, "220")
    talk.done()


def _smtp_answer(talk: _Talk, code: str) -> list[str]:
    """Gives the texts of an answer's lines: ``250-text`` for each but the last, ``250 text``."""
    texts = []
    for _ in range(_MAX_LINES):
        line = talk.line()
        if line[:3] != code or line[3:4] not in ("", " ", "-"):
            raise HandshakeError(f"the SMTP server says {shown(line)}, where {code} was expected")
        texts.append(line[4:])
        if line[3:4] != "-":
            return texts
    raise HandshakeError(f"the SMTP server's answer has more than {_MAX_LINES} lines")


# --- IMAP -----------------------------------------------------------------------------------------


def _imap(talk: _Talk) -> None:
    line = talk.line()
    if line.upper().split()[:2] != ["*", "OK"]:
        # "* PREAUTH" is no state in which STARTTLS could be asked for.
        raise HandshakeError(f"the IMAP server says {shown(line)}, where * OK was expected")
    offers: list[str] = []
    for line in _imap_answer(talk, "a1", "CAPABILITY"):
        words = line.upper().split()
        if words[:2] == ["*", "CAPABILITY"]:
            offers += words[2:]
    if "STARTTLS" not in offers:
        raise HandshakeError("the IMAP server does not offer STARTTLS")
    _imap_answer(talk, "a2", "STARTTLS")
    talk.done()


def _imap_answer(talk: _Talk, tag: str, command: str) -> list[str]:
    """Sends a command; gives the lines before the one that says ``OK``."""
    talk.say(f"{tag} {command}\r\n".encode())
    lines: list[str] = []
    for _ in range(_MAX_LINES):
        line = talk.line()
        if line.split()[:1] == [tag]:
            if line.upper().split()[1:2] != ["OK"]:
                text = f"the IMAP server says {shown(line)}, where {tag} OK was expected"
                raise HandshakeError(text)
            return lines
        if not line.startswith("*"):
            raise HandshakeError(f"the IMAP server says {shown(line)}, where {tag} was expected")
        lines.append(line)
    raise HandshakeError(f"the IMAP server's answer has more than {_MAX_LINES} lines")


# --- LDAP -----------------------------------------------------------------------------------------


def _ldap(talk: _Talk) -> None:
    talk.say(_REQUEST)
    tag = talk.take(1)[0]
    if tag != _SEQUENCE:
        raise HandshakeError(f"the server does not speak LDAP: byte {tag:#04x} came, not 0x30")
    message = _Elements(talk.take(_length(talk)))
    try:
        message.next(_INTEGER)
        response = _Elements(message.next(_RESPONSE))
        result = int.from_bytes(response.next(_ENUMERATED), "big")
        response.next()  # matchedDN
        why = response.next().decode("utf-8", "backslashreplace")
    except (ValueError, IndexError) as error:
        raise HandshakeError("the LDAP server's answer is none to StartTLS") from error
    if result:
        name = _RESULTS.get(result, "an error")
        said = f": {shown(why)}" if why else ""
        raise HandshakeError(f"the LDAP server refuses StartTLS with {name} ({result}){said}")
    talk.done()


def _length(talk: _Talk) -> int:
    """Reads a length in BER's definite form, as RFC 4511, section 5.1 demands."""
    size = talk.take(1)[0]
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4:
            raise HandshakeError("the LDAP server's answer has no length")
        size = int.from_bytes(talk.take(count), "big")
    if size > _MAX_ELEMENT:
        raise HandshakeError(f"the LDAP server's answer has {size} bytes: more than {_MAX_ELEMENT}")
    return size


class _Elements:
    """The elements inside one, in BER; raises ``ValueError`` or ``IndexError`` when it is none."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def next(self, expected: int | None = None) -> bytes:
        data = self._data
        tag, size, start = data[0], data[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[2:start], "big")
        if (expected is not None and tag != expected) or start + size > len(data):
            raise ValueError(tag)
        self._data = data[start + size :]
        return data[start : start + size]


_PROTOCOLS: Final[dict[str, Callable[[_Talk], None]]] = {
    "smtp": _smtp,
    "imap": _imap,
    "ldap": _ldap,
}
