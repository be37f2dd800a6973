"""Certificates and encrypted pairs for tests; made when they are first asked for, never kept."""

from __future__ import annotations

import functools
from typing import Any

from gevent.event import Event

from edgevent.keymaking import KeyPair, make_authority, make_certificate
from edgevent.tls import TlsOptions
from edgevent.tls_session import TlsSession
from edgevent.transport.base import StreamTransport
from edgevent.transport.secure import TlsTransport

NAMES = ("localhost", "127.0.0.1", "::1")
PATIENCE = 30.0


@functools.cache
def authority() -> KeyPair:
    return make_authority("test authority")


@functools.cache
def server_pair() -> KeyPair:
    return make_certificate(authority(), NAMES, usage="server")


@functools.cache
def client_pair(name: str = "alice") -> KeyPair:
    return make_certificate(authority(), [name], usage="client")


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
