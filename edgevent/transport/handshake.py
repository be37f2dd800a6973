"""The TLS handshake of a client, over a transport that is connected."""

from __future__ import annotations

import errno

from ..address import Address
from ..errors import HandshakeError
from ..runtime.clock import Clock
from ..runtime.turns import TIMED_OUT, Turns, wait
from ..tls import TlsOptions, check_server_name
from ..tls_session import TlsSession
from ..tls_verify import Judge
from .base import StreamTransport, drop_input
from .secure import TlsTransport, with_tls


def secure(
    below: StreamTransport,
    address: Address,
    options: TlsOptions,
    timeout: float,
    clock: Clock,
    *,
    judge: Judge | None = None,
) -> TlsTransport:
    """Shakes hands as a client. Blocks the calling greenlet.

    Args:
        below: A connected transport; it is closed when this fails.
        address: What was dialled: errors name it, and its host is the name that is checked.
        timeout: The limit in seconds.
        judge: Who judges the server's certificates; by default as the options say.

    Raises:
        CertificateError: A certificate is not accepted, by this side or by the other one.
        IdentityError: It is valid, but another one's.
        HandshakeError: They could not agree, or not in time.
    """
    name = options.server_name or check_server_name(address.host or "localhost")
    transport: TlsTransport | None = None
    try:
        session = TlsSession(
            options,
            with_tls(str(address)) if not address.is_tls else str(address),
            server_side=False,
            server_name=name,
            session_key=f"{address} {name}",
            judge=judge,
        )
        transport = TlsTransport(below, session)
        end = clock.now() + timeout
        while not transport.shake_hands():
            if not _wait_for(transport, clock, end - clock.now()):
                text = f"{session.peer}: no TLS handshake within {timeout:.3g} s"
                raise HandshakeError(text, errno.ETIMEDOUT)
        return transport
    except BaseException:
        if transport is None:
            below.close()
        else:
            drop_input(below)  # a close with unread input resets, and takes the alert with it
            transport.close()
        raise


def _wait_for(transport: TlsTransport, clock: Clock, left: float) -> bool:
    turns = Turns.current()
    current, below = turns.check_wait(), transport.below
    if transport.must_write:
        watch, unwatch = below.watch_write, below.unwatch_write
    else:
        watch, unwatch = below.watch_read, below.unwatch_read
    watch(current.switch)
    try:
        return left > 0.0 and wait(turns, clock, left) is not TIMED_OUT
    finally:
        unwatch()
