"""``ed-listen --forward``: stands between two peers, hears both, and changes nothing.

Each peer gets a connection of its own to the target. Bytes go on as they come, whatever they are;
an end of one direction ends that direction on the other side, a connection that breaks is broken
on the other side, and who reads slowly slows the one that sends. TLS ends here on either side.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Iterable
from typing import Any, Final

import gevent

from .. import limits
from ..address import Address
from ..connection import Connection
from ..errors import (
    ClosedError,
    ConnectionLostError,
    EdgeventError,
    NetworkError,
    UsageError,
)
from ..links.raw import StreamConnection
from ..links.server import Server
from ..tls import TlsOptions
from ..transport.stream import SocketTransport
from .datagram_forwarding import ForwardedDatagrams
from .hearing import Hearing
from .recording import Direction, Source

logger = logging.getLogger("edgevent")

_FOREVER: Final = 10.0 * 365 * 86400  # seconds: who sits between two peers has no right to give up
_NO_LINGER: Final = struct.pack("ii", 1, 0)  # man 7 socket, SO_LINGER: struct linger


class Cutter:
    """Cuts one direction into lines, for the eyes: the bytes themselves are gone by then.

    Args:
        keeps_records: Whether each piece of data is one record, and is not cut.
        max_line_bytes: From how many bytes on a line is given in pieces.
    """

    def __init__(self, keeps_records: bool, max_line_bytes: int = limits.MAX_LINE_BYTES) -> None:
        self._keeps_records = keeps_records
        self._max_line_bytes = max_line_bytes
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the lines that are complete, each with its newline."""
        if self._keeps_records:
            return [data]
        begin, start = 0, len(self._rest)
        rest = self._rest
        rest += data
        pieces = []
        while (end := rest.find(b"\n", start)) >= 0:
            pieces.append(bytes(rest[begin : end + 1]))
            begin = start = end + 1
        del rest[:begin]
        if len(rest) > self._max_line_bytes:
            pieces.append(self.end())
        return pieces

    def end(self) -> bytes:
        """Returns the line that is not complete."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest


class Target:
    """Where everything goes on to.

    Args:
        address: The address.
        hearing: What is done with what goes through.
        tls: For an address of TLS.
        connect_timeout: The limit of connecting, in seconds.
        max_line_bytes: From how many bytes on a line is shown in pieces.
    """

    def __init__(
        self,
        address: Address,
        hearing: Hearing,
        *,
        tls: TlsOptions | None = None,
        connect_timeout: float = limits.CONNECT_TIMEOUT,
        max_line_bytes: int = limits.MAX_LINE_BYTES,
    ) -> None:
        self.address = address
        self.hearing = hearing
        self.max_line_bytes = max_line_bytes
        self._tls = tls
        self._connect_timeout = connect_timeout

    def dial(self, number: int) -> StreamConnection:
        """Connects; this blocks. Errors are those of a connection that is given an address."""
        return StreamConnection(
            self.address,
            tls=self._tls,
            connect_timeout=self._connect_timeout,
            name=f"#{number} {self.address}",
        )


class ForwardedConnection(StreamConnection):
    """The side of a peer; it has the side of the target."""

    target: Target
    source: Source

    def process_connected(self) -> None:
        """Carries both directions until both have ended, or one is broken."""
        source = self.source
        try:
            other = self.target.dial(source.connection)
        except (EdgeventError, OSError) as error:
            logger.error("%s: cannot be forwarded: %s", self.name, error)
            _break(self)
            return
        for side in (self, other):
            side.outbox.slow_timeout = _FOREVER
            side.outbox.max_bytes = limits.JOIN_BYTES
        logger.info("%s: forwarded to %s", self.name, other.address)
        back = gevent.spawn(self._carry, other, self, "out")
        back.name = f"from {other.address} to {source.peer}"
        try:
            self._carry(self, other, "in")
            back.join()  # no limit: the target may speak for as long as it likes
        finally:
            back.kill()
            self._end_both(other)

    def _end_both(self, other: StreamConnection) -> None:
        if not other.is_closed:
            other.close_within(limits.GOODBYE_TIMEOUT)
        self.close()

    def _carry(self, source: StreamConnection, sink: StreamConnection, way: Direction) -> None:
        cutter = Cutter(source.keeps_records, self.target.max_line_bytes)
        while True:
            try:
                data = source.receive_or_end()
            except NetworkError as error:
                self._hear(way, [cutter.end()])
                if not isinstance(error, ClosedError):
                    logger.info("%s: %s", source.name, error)
                    _break(sink)
                source.close()
                return
            if not data:
                break
            # First shown, then sent: else the answer could be shown before its question.
            self._hear(way, cutter.feed(data))
            try:
                sink.write(data)
            except NetworkError as error:
                # What the sink has said before it went is still on its way, and brings the end.
                logger.info("%s: %s", sink.name, error)
                return
        self._hear(way, [cutter.end()])
        if self.is_stopping:
            self._end_both(sink if sink is not self else source)
        else:
            end_direction(sink)

    def _hear(self, way: Direction, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            if piece:
                self.target.hearing.hear(self.source, way, piece)

    is_stopping = False

    def drain(self) -> bool:
        """The program ends: what has come goes on, and then both sides are closed."""
        self.is_stopping = True
        return super().drain()


def end_direction(sink: StreamConnection) -> None:
    """Lets a side see the end of what it is sent, when all of that has left. Switches greenlets."""
    while sink.outbox.size and sink.outbox.error is None:
        sink.outbox.flush()
        if sink.outbox.size:
            sink.outbox.wait(None)  # no limit: a slow reader is none of this program's business
    transport = sink._transport
    if transport is not None:
        transport.shutdown_write()


def _break(sink: StreamConnection) -> None:
    """Lets a side see that the other one broke: a reset, or TLS without its end mark."""
    transport = sink._transport
    if isinstance(transport, SocketTransport):
        try:
            transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        except OSError:
            pass  # it is gone already
    sink._error = sink._error or ConnectionLostError(f"{sink.address}: the other side is gone")
    sink.cut()


class ForwardingServer(Server):
    """Accepts peers, each of which is connected to the target."""

    target: Target

    def process_accept(self, connection: Any) -> None:
        """Numbers a peer."""
        connection.target = self.target
        connection.source = self.target.hearing.source(self.addresses[0], connection.address)
        connection.name = f"#{connection.source.connection} {connection.address}"


def open_forwarders(
    addresses: Iterable[Address],
    target: Target,
    *,
    allow_remote: bool,
    tls: TlsOptions | None,
) -> list[Connection]:
    """Opens what stands before the target.

    Args:
        allow_remote: Whether plain addresses may be listened to that others can reach.
        tls: For addresses of TLS that are listened to.

    Raises:
        ListenError: It cannot listen at one of them.
        UsageError: An address and the target do not fit together.
        CertificateFileError: A file of TLS cannot be used.
    """
    places = list(addresses)
    for address in places:
        _check_pair(address, target.address)
    opened: list[Connection] = []
    try:
        for address in places:
            opened.append(_open(address, target, allow_remote, tls))
    except BaseException:
        for connection in opened:
            connection.close()
        raise
    return opened


def _open(
    address: Address, target: Target, allow_remote: bool, tls: TlsOptions | None
) -> Connection:
    if address.is_datagram:
        return ForwardedDatagrams(
            address, target.address, target.hearing, allow_remote=allow_remote
        )
    server = ForwardingServer(
        address,
        ForwardedConnection,
        name=str(address),
        allow_remote=allow_remote,
        tls=tls if address.is_tls else None,
    )
    server.target = target
    return server


def _check_pair(address: Address, target: Address) -> None:
    for one in (address, target):
        if one.scheme == "fd":
            raise UsageError(f"{one} has one peer: --forward is for addresses that many dial")
        if one.scheme == "fifo" and not one.second_path:
            raise UsageError(f"{one} goes one way: --forward expects fifo:/in,/out")
    if _kind(address) != _kind(target):
        raise UsageError(
            f"{address} cannot be forwarded to {target}: expected both to be streams, both packets"
            " (unixseq), or both datagrams"
        )


def _kind(address: Address) -> str:
    if address.is_datagram:
        return "datagram"
    return "stream" if address.is_stream else "packet"
