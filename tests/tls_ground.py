"""Certificates and encrypted pairs for tests; made when they are first asked for, never kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import gevent
import pytest
from gevent.event import Event
from scripted_peer import scripted_peer

from edgevent import (
    CertificateError,
    ConnectionLostError,
    IdentityError,
    KeyPair,
    make_certificate,
)
from edgevent.testing.certificates import Certificates
from edgevent.tls import TlsOptions
from edgevent.tls_session import TlsSession
from edgevent.transport.base import StreamTransport
from edgevent.transport.secure import TlsTransport

PATIENCE = 30.0


@functools.cache
def _certificates() -> Certificates:
    return Certificates()


def authority(name: str = "test authority") -> KeyPair:
    made = _certificates()
    return made.pair if name == made.name else made.other_authority(name).pair


def middle() -> KeyPair:
    """An authority below the test's."""
    return _certificates().middle_authority()


def server_pair(*names: str, **settings: Any) -> KeyPair:
    return _certificates().server(*names, **settings).pair


def client_pair(name: str = "alice", **settings: Any) -> KeyPair:
    return _certificates().client(name, **settings).pair


def server_options(pair: KeyPair | None = None, **settings: Any) -> TlsOptions:
    """Options of a server, with a certificate of the test's authority by default."""
    found = pair or server_pair()
    settings.setdefault("authorities", authority().certificate_pem)
    return TlsOptions(found.certificate_pem, found.key_pem, **settings)


def client_options(pair: KeyPair | None = None, **settings: Any) -> TlsOptions:
    """Options of a client that trusts the test's authority; without a certificate by default."""
    settings.setdefault("authorities", authority().certificate_pem)
    if pair is None:
        return TlsOptions(**settings)
    return TlsOptions(pair.certificate_pem, pair.key_pem, **settings)


@functools.cache
def usual_options() -> tuple[TlsOptions, TlsOptions]:
    return client_options(), server_options()


def tls_pair(
    client: StreamTransport, server: StreamTransport, **settings: Any
) -> tuple[TlsTransport, TlsTransport]:
    """Shakes hands over two connected transports; gives the client's side first."""
    ours, theirs = usual_options()
    first = TlsTransport(
        client, TlsSession(ours, "the server", server_side=False, server_name="localhost")
    )
    second = TlsTransport(server, TlsSession(theirs, "the client", server_side=True))
    changed = Event()
    left = [first, second]
    while left := [side for side in left if not side.shake_hands()]:
        changed.clear()
        for side in left:
            (side.below.watch_write if side.must_write else side.below.watch_read)(changed.set)
        try:
            assert changed.wait(PATIENCE), "the handshake has stopped"
        finally:
            for side in left:
                side.below.unwatch_read()
                side.below.unwatch_write()
    return first, second


# --- certificates, good and bad -------------------------------------------------------------------

DAY = timedelta(days=1)
NOW = datetime.now(timezone.utc)


class Case(NamedTuple):
    """A certificate that one side shows, and what the other one says of it."""

    name: str
    make: Callable[[], KeyPair | None]
    error: type[CertificateError] | None
    sentence: str = ""

    def __str__(self) -> str:
        return self.name


def _expired(make: Callable[..., KeyPair]) -> KeyPair:
    return make(not_before=NOW - 10 * DAY, not_after=NOW - 5 * DAY)


def _early(make: Callable[..., KeyPair]) -> KeyPair:
    return make(not_before=NOW + 5 * DAY, not_after=NOW + 10 * DAY)


def _shared(make: Callable[..., KeyPair], whose: str, other_use: KeyPair) -> tuple[Case, ...]:
    """What is wrong with a certificate, whoever shows it."""
    at = f"the certificate 'CN={whose}': "
    other = authority("other authority")
    namesake = _certificates().other_authority("test authority").pair
    past, future = _expired(make), _early(make)
    ended = past.certificate.not_after.strftime("%Y-%m-%d %H:%M:%S UTC")
    begins = future.certificate.not_before.strftime("%Y-%m-%d %H:%M:%S UTC")
    unknown = "is not among the trusted authorities"
    return (
        Case("good", make, None),
        Case("of a chain", lambda: make(authority=middle()), None),
        Case("expired", lambda: past, CertificateError, f"{at}it has expired on {ended}"),
        Case("early", lambda: future, CertificateError, f"{at}it is not valid before {begins}"),
        Case(
            "of another authority",
            lambda: make(authority=other),
            CertificateError,
            f"{at}its issuer 'CN=other authority' {unknown}",
        ),
        Case(
            "of a namesake",
            lambda: make(authority=namesake),
            CertificateError,
            f"{at}its issuer 'CN=test authority' {unknown}",
        ),
        Case(
            "self-signed",
            lambda: make(authority=None),
            CertificateError,
            f"{at}it is self-signed, and not trusted",
        ),
        Case(
            "weak key",
            lambda: make(key="rsa:1024", allow_weak=True),
            CertificateError,
            f"{at}its key is too weak",
        ),
        Case(
            "other purpose",
            lambda: other_use,
            CertificateError,
            "it is not made for this purpose",
        ),
    )


@functools.cache
def server_cases() -> tuple[Case, ...]:
    """Certificates of a server that a client dials as ``localhost`` or ``127.0.0.1``."""
    return (
        *_shared(server_pair, "localhost", client_pair("localhost")),
        Case(
            "wrong host",
            lambda: server_pair("a.example", "10.0.0.1"),
            IdentityError,
            "the certificate 'CN=a.example' is of a.example, 10.0.0.1, not of ",
        ),
        Case(
            "wildcard of others",
            lambda: server_pair("*.example.com"),
            IdentityError,
            "the certificate 'CN=*.example.com' is of *.example.com, not of ",
        ),
        Case(
            "common name alone",
            lambda: make_certificate(authority(), common_name="localhost", usage="server"),
            IdentityError,
            "the certificate 'CN=localhost' has no alternative name",
        ),
    )


@functools.cache
def client_cases() -> tuple[Case, ...]:
    """Certificates of a client, for a server that allows the names ``alice`` and ``localhost``."""
    return (
        *_shared(client_pair, "alice", server_pair()),
        Case("none", lambda: None, CertificateError, "the client has sent no certificate"),
        Case(
            "of common name",
            lambda: make_certificate(authority(), common_name="Alice", usage="client"),
            None,
        ),
        Case(
            "not allowed",
            lambda: client_pair("bob"),
            IdentityError,
            "the certificate 'CN=bob' is of bob, who is not allowed here",
        ),
        Case(
            "wildcard",
            lambda: client_pair("*.example.com"),
            IdentityError,
            "the certificate 'CN=*.example.com' is of *.example.com, who is not allowed here",
        ),
    )


def careless(options: TlsOptions, *, server_side: bool) -> TlsOptions:
    """Lets these options use a weak key of their own, as other programs do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgevent.tls._CIPHERS", b"DEFAULT:@SECLEVEL=0")
        options.context(server_side=server_side)
    return options


def only_12(options: TlsOptions, *, server_side: bool) -> TlsOptions:
    """Keeps these options from TLS 1.3."""
    from OpenSSL import SSL

    options.context(server_side=server_side).set_max_proto_version(SSL.TLS1_2_VERSION)
    return options


# --- two sessions, without anything between them --------------------------------------------------


class Talk:
    """Two sessions whose bytes go from one to the other.

    Args:
        client: The options of one, and
        server: of the other.
        size: How many bytes are handed over at a time, of the handshake.

    Attributes:
        errors: What each side's handshake, or the read after it, has raised.
    """

    def __init__(
        self,
        client: TlsOptions | None = None,
        server: TlsOptions | None = None,
        *,
        server_name: str = "localhost",
        key: str = "",
        size: int = 65536,
    ) -> None:
        ours, theirs = usual_options()
        self.client = TlsSession(
            client or ours,
            "tls://server",
            server_side=False,
            server_name=server_name,
            session_key=key,
        )
        self.server = TlsSession(server or theirs, "tls://client", server_side=True)
        self.errors: dict[TlsSession, Exception] = {}
        while self._step(self.client, self.server, size) | self._step(
            self.server, self.client, size
        ):
            pass

    def _step(self, side: TlsSession, other: TlsSession, size: int) -> bool:
        if side not in self.errors and not side.is_ready:
            try:
                side.handshake()
            except Exception as error:
                self._note(side, error)
        data = side.take()
        for at in range(0, len(data), size):
            self.hand_over(data[at : at + size], other)
        return bool(data)

    def hand_over(self, data: bytes, to: TlsSession) -> None:
        """Lets a side have bytes of the other one."""
        if not to.is_ready and to not in self.errors:
            to.feed(data)
            try:
                to.handshake()
            except Exception as error:
                self._note(to, error)
        elif to not in self.errors:
            try:
                assert to.decrypt(data) == b""
            except ConnectionLostError as error:
                self._note(to, error)

    def _note(self, side: TlsSession, error: Exception) -> None:
        error.__cause__ = error.__context__ = None  # their tracebacks hold this talk
        self.errors[side] = error.with_traceback(None)

    @property
    def is_up(self) -> bool:
        """Whether both sides have shaken hands and nothing was wrong."""
        return self.client.is_ready and self.server.is_ready and not self.errors

    def end(self) -> None:
        """Ends both sides in good order."""
        for side in (self.client, self.server):
            side.end()
            side.release()

    def send(self, data: bytes, *, back: bool = False, cuts: Iterable[int] = ()) -> bytes:
        """Sends plain bytes, or sends them back; gives what comes when they are cut so."""
        sender, receiver = (self.server, self.client) if back else (self.client, self.server)
        records = sender.encrypt(data)
        at, found = 0, b""
        for cut in (*cuts, len(records)):
            found += receiver.decrypt(records[at:cut])
            at = cut
        return found


# --- a peer of one client -------------------------------------------------------------------------


class Encrypted:
    """A server of one client, which does what the test says, byte for byte.

    Args:
        client: What dials; it is called in a greenlet of its own with the address and ``tls``.
        tickets: Whether what OpenSSL says after the handshake is sent.
        add: The communicator that the client is added to, if it is one that dials then.
    """

    def __init__(
        self,
        client: Callable[..., Any],
        *,
        tickets: bool = True,
        add: Any = None,
        **settings: Any,
    ) -> None:
        self._peer = scripted_peer()
        address = self._peer.address.replace("tcp:", "tls:")

        def dial() -> Any:
            found = client(address, tls=client_options(), **settings)
            return found if add is None else add.add_connection(found)

        task = gevent.spawn(dial)
        self._peer.accept()
        self.sock = self._peer.sock
        self.session = TlsSession(server_options(), "tls://client", server_side=True)
        while not self.session.handshake():
            self.sock.sendall(self.session.take())
            self.session.feed(self.sock.recv(65536))
        if tickets:
            self.send_tickets()
        self.client: Any = task.get(timeout=PATIENCE)

    def send_tickets(self) -> None:
        self.sock.sendall(self.session.take())

    def read(self) -> bytes:
        """Waits for plain bytes; gives an empty string at the end mark."""
        data = self.session.decrypt(b"")
        while not data and not self.session.has_ended:
            received = self.sock.recv(65536)
            assert received, "the stream was cut off"
            data = self.session.decrypt(received)
        return data

    def drop(self) -> None:
        """Ends the connection, without an end mark."""
        self._peer.close()

    def __enter__(self) -> Encrypted:
        return self

    def __exit__(self, *of_an_error: object) -> None:
        self.client.close()
        self.session.release()
        self._peer.close()
        self._peer.stop_listening()
