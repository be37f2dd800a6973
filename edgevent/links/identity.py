"""Who is on the other side of a connection, as far as its transport knows."""

from __future__ import annotations

from ..connection import Connection
from ..tls_session import TlsSession
from ..transport.base import Credentials, StreamTransport
from ..transport.secure import TlsTransport
from ..transport.stream import SocketTransport


class Connected(Connection):
    """A connection that may have a transport."""

    __slots__ = ("_transport",)

    _transport: StreamTransport | None

    @property
    def address(self) -> str:
        """The address of the other side, as text."""
        return "" if self._transport is None else self._transport.peer

    @property
    def local_address(self) -> str:
        """The address of this side, as text."""
        return "" if self._transport is None else self._transport.local

    @property
    def credentials(self) -> Credentials | None:
        """Process, user and group of the other side of a Unix socket; else ``None``."""
        return None if self._transport is None else self._transport.credentials

    @property
    def groups(self) -> frozenset[int]:
        """The groups of the other side's process on a Unix socket; else none."""
        transport = self._transport
        if isinstance(transport, TlsTransport):
            transport = transport.below
        return transport.groups if isinstance(transport, SocketTransport) else frozenset()

    @property
    def is_local(self) -> bool:
        """Whether the other side is a process of this machine, for certain."""
        return self._transport is not None and self._transport.is_local

    @property
    def tls(self) -> TlsSession | None:
        """What is known of TLS, the other side's certificate among it; ``None`` without TLS."""
        transport = self._transport
        return transport.session if isinstance(transport, TlsTransport) else None

    @property
    def authenticated(self) -> bool:
        """Whether the other side has proved who it is.

        On a Unix socket the kernel has; with mutual TLS the client's certificate has.
        """
        session = self.tls
        return self.credentials is not None or (session is not None and session.is_mutual)

    @property
    def keeps_records(self) -> bool:
        """Whether the other side gets each ``write`` as one piece, as over ``unixseq:``."""
        return self._transport is not None and self._transport.keeps_records

    def _state(self) -> str:
        state = super()._state()
        return f"{state} {self.address}" if self._transport is not None else state
