"""What a scripted peer speaks on: plain sockets and FIFOs, with nothing of the library between.

They are independent of the streams that are tested, but for the encryption of TLS.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final, Protocol, TypeVar

from gevent import socket

from ..address import Address
from ..errors import ConnectionLostError, UsageError
from ..tls import TlsOptions
from ..tls_session import TlsSession
from ..transport.base import StreamTransport
from ..transport.dial import dial as dial_transport
from ..transport.fifo_listen import FifoListener
from ..transport.listen import listen as listen_transport
from .exchange import can_receive, can_transmit

_T = TypeVar("_T")

READ: Final = 262_144
"""The most bytes that are read at once, and the longest datagram or record."""

_NO_LINGER: Final = struct.pack("ii", 1, 0)  # man 7 socket, SO_LINGER: struct linger


class Wire(Protocol):
    """One connection, or one side of datagrams."""

    keeps_records: bool

    def receive(self, within: float) -> bytes:
        """Returns what comes next; ``b""`` at the end; raises ``TimeoutError``, ``OSError``."""

    def send(self, data: bytes, within: float) -> None:
        """Sends bytes, all of them; raises ``TimeoutError``, ``OSError``."""

    def half_close(self) -> None:
        """Lets the other side see the end, and goes on to receive."""

    def close(self) -> None:
        """Ends it in good order. Idempotent."""

    def cut(self) -> None:
        """Breaks it off: a reset, where there is one, and no end mark of TLS. Idempotent."""


class SocketWire:
    """A stream, or a stream of records (``unixseq:``), over a socket; encrypted if asked for.

    Attributes:
        sock: The socket, of ``gevent.socket``.
        session: The TLS conversation on it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.session: TlsSession | None = None
        self.keeps_records = sock.type == socket.SOCK_SEQPACKET

    def shake_hands(self, session: TlsSession, within: float) -> None:
        """Begins TLS; raises ``HandshakeError``, ``TimeoutError``, ``OSError``."""
        end = monotonic() + within
        try:
            while not session.handshake():
                self._write(session.take(), end - monotonic())
                data = self._read(end - monotonic())
                if not data:
                    raise session.ended_early()
                session.feed(data)
        finally:  # an alert says why not
            with suppress(OSError):
                self._write(session.take(), end - monotonic())
        self.session = session

    def receive(self, within: float) -> bytes:
        """Returns what comes next, decrypted."""
        session = self.session
        if session is None:
            return self._read(within)
        end = monotonic() + within
        data = session.decrypt(b"")
        while not data and not session.has_ended:
            sealed = self._read(end - monotonic())
            if not sealed:
                raise ConnectionLostError("cut off, without the end mark of TLS")
            data = session.decrypt(sealed)
        return data

    def send(self, data: bytes, within: float) -> None:
        """Sends bytes, all of them."""
        session = self.session
        if session is None:
            self._write(data, within)
            return
        for at in range(0, len(data), 16_384):
            self._write(session.encrypt(data[at : at + 16_384]), within)

    def half_close(self) -> None:
        """Lets the other side see the end, and goes on to receive."""
        if self.session is not None:
            self.session.end()
            self._write(self.session.take(), 1.0)
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Ends it in good order. Idempotent."""
        session, self.session = self.session, None
        if session is not None:
            session.end()
            with suppress(OSError):
                self._write(session.take(), 0.1)
            session.release()
        self.sock.close()

    def cut(self) -> None:
        """Breaks it off. Idempotent."""
        session, self.session = self.session, None
        if session is not None:
            session.release()
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.sock.close()

    def _read(self, within: float) -> bytes:
        self.sock.settimeout(max(within, 0.0))
        try:
            return bytes(self.sock.recv(READ))
        except BlockingIOError:
            raise TimeoutError from None

    def _write(self, data: bytes, within: float) -> None:
        self.sock.settimeout(max(within, 0.001))
        self.sock.sendall(data)


class DatagramWire:
    """Datagrams: of a socket that is connected, or of one that answers who has come last."""

    keeps_records = True

    def __init__(self, sock: socket.socket, *, is_connected: bool) -> None:
        self.sock = sock
        self._is_connected = is_connected
        self._sender: Any = None

    def receive(self, within: float) -> bytes:
        """Returns the next datagram."""
        self.sock.settimeout(max(within, 0.0))
        try:
            data, sender = self.sock.recvfrom(READ)
        except BlockingIOError:
            raise TimeoutError from None
        if not self._is_connected:
            self._sender = sender
        return bytes(data) or b"\n"  # an empty datagram is no end

    def send(self, data: bytes, within: float) -> None:
        """Sends a datagram."""
        self.sock.settimeout(max(within, 0.001))
        if self._is_connected:
            self.sock.send(data)
        elif self._sender:
            self.sock.sendto(data, self._sender)
        else:
            raise UsageError("nobody has sent a datagram yet whom this one could answer")

    def half_close(self) -> None:
        """Datagrams have no end."""
        raise UsageError("datagrams have no end that could be shown")

    def close(self) -> None:
        """Closes the socket. Idempotent."""
        self.sock.close()

    cut = close


class TransportWire:
    """A FIFO, or a descriptor, through the library's own transport."""

    keeps_records = False

    def __init__(self, transport: StreamTransport) -> None:
        self._transport = transport

    def receive(self, within: float) -> bytes:
        """Returns what comes next."""
        transport = self._transport
        return _wait(
            lambda: transport.receive(READ), lambda left: can_receive(transport, left), within
        )

    def send(self, data: bytes, within: float) -> None:
        """Sends bytes, all of them."""
        transport, end = self._transport, monotonic() + within
        left = memoryview(data)
        while left:
            piece = left
            taken = _wait(
                lambda: transport.transmit(piece),  # noqa: B023 - called before the next round
                lambda time: can_transmit(transport, time),
                end - monotonic(),
            )
            left = left[taken:]

    def half_close(self) -> None:
        """Lets the other side see the end."""
        self._transport.shutdown_write()

    def close(self) -> None:
        """Ends it in good order. Idempotent."""
        with suppress(OSError):
            self._transport.finish()
        self._transport.close()

    def cut(self) -> None:
        """Breaks it off. Idempotent."""
        self._transport.close()


def _wait(attempt: Callable[[], _T], can_go_on: Callable[[float], bool], within: float) -> _T:
    """Attempts until it does not raise ``BlockingIOError``."""
    end = monotonic() + within
    while True:
        try:
            return attempt()
        except BlockingIOError:
            if not can_go_on(end - monotonic()):
                raise TimeoutError from None


class Entrance:
    """Where a scripted peer lets others in.

    Args:
        address: Of any kind but ``fd:``.
        tls: What is asked of TLS.

    Attributes:
        address: What others dial.
    """

    def __init__(self, address: Address, tls: TlsOptions | None) -> None:
        self._tls = tls
        self._fifo: FifoListener | None = None
        self._sock: socket.socket | None = None
        self._is_datagram = address.is_datagram
        if address.scheme == "fifo":
            (self._fifo,) = listen_transport(address)  # type: ignore[assignment]
            self.address = f"fifo:{address.path}"
            if address.second_path:  # what one side reads from the other one writes to
                self.address = f"fifo:{address.second_path},{address.path}"
            return
        family, kind, where = sockaddr_of(address)
        if address.is_unix and not address.is_abstract:
            _remove_stale(address.path)
        self._sock = socket.socket(family, kind)
        try:
            if not address.is_datagram:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sock.bind(where)
            if not address.is_datagram:
                self._sock.listen(16)
        except BaseException:
            self._sock.close()
            raise
        self.address = str(address)
        if address.is_inet:
            host, port = self._sock.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            self.address = f"{address.scheme}://{shown}:{port}"

    @property
    def is_open(self) -> bool:
        """Whether others may come."""
        return self._fifo is not None or (self._sock is not None and self._sock.fileno() >= 0)

    def accept(self, within: float) -> Wire:
        """Waits for the next one; raises ``TimeoutError``, ``HandshakeError``, ``OSError``."""
        end = monotonic() + within
        if self._fifo is not None:
            fifo = self._fifo
            return TransportWire(_wait(fifo.accept, lambda left: can_receive(fifo, left), within))
        assert self._sock is not None
        if self._is_datagram:
            return DatagramWire(self._sock, is_connected=False)
        self._sock.settimeout(max(within, 0.0))
        try:
            sock, _ = self._sock.accept()
        except BlockingIOError:
            raise TimeoutError from None
        wire = SocketWire(sock)
        if self._tls is not None:
            _begin_tls(wire, self._tls, "tls://client", "", end - monotonic())
        return wire

    def close(self) -> None:
        """Refuses all that come from now on. Idempotent."""
        fifo, self._fifo = self._fifo, None
        if fifo is not None:
            fifo.close()
        if self._sock is not None:
            self._sock.close()


def dial(address: Address, tls: TlsOptions | None, within: float) -> Wire:
    """Connects; raises ``TimeoutError``, ``OSError``, ``HandshakeError``."""
    if address.scheme in ("fifo", "fd"):
        return TransportWire(dial_transport(address, within))
    family, kind, where = sockaddr_of(address)
    end = monotonic() + within
    sock = socket.socket(family, kind)
    try:
        sock.settimeout(within)
        if address.is_datagram and address.is_unix:
            sock.bind("")  # a name of the kernel's choice, for the answers (man 7 unix, autobind)
        sock.connect(where)
        if address.is_datagram:
            return DatagramWire(sock, is_connected=True)
        wire = SocketWire(sock)
        if tls is not None:
            name = tls.server_name or address.host or "localhost"
            _begin_tls(wire, tls, str(address), name, end - monotonic())
        return wire
    except BaseException:
        sock.close()
        raise


def sockaddr_of(address: Address) -> tuple[int, int, Any]:
    """Returns the family, the kind and the address as the socket module takes them."""
    kind = socket.SOCK_STREAM
    if address.is_datagram:
        kind = socket.SOCK_DGRAM
    elif address.scheme == "unixseq":
        kind = socket.SOCK_SEQPACKET
    if address.is_unix:
        path = address.path
        return socket.AF_UNIX, kind, f"\0{path[1:]}" if address.is_abstract else path
    if not address.is_inet:
        raise UsageError(f"{str(address)!r}: nobody can listen there")
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return family, kind, (address.host, address.port)


def _begin_tls(
    wire: SocketWire, options: TlsOptions, peer: str, server_name: str, within: float
) -> None:
    session = TlsSession(options, peer, server_side=not server_name, server_name=server_name)
    try:
        wire.shake_hands(session, within)
    except BaseException:
        session.release()
        wire.close()
        raise


def _remove_stale(path: str) -> None:
    """Removes the socket that an earlier peer has left there."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
