"""Connected sockets that keep the boundaries of what is sent: each unit is one record."""

from __future__ import annotations

import _socket
import socket
from typing import Any, Protocol

from .. import limits
from ..errors import MessageError
from .base import StreamTransport
from .stream import SocketTransport


class RecordTransport(StreamTransport, Protocol):
    """A stream transport that keeps records.

    Each ``transmit`` sends one record, whole or not at all; each ``receive`` takes one.
    """

    def pack(self, unit: bytes) -> bytes:
        """Returns the record for a unit; raises :class:`MessageError` when it would be too long."""


class PacketTransport(SocketTransport):
    """A connected Unix socket of type SOCK_SEQPACKET (man 7 unix).

    A record of no bytes cannot be told from the end of the stream, so none is ever sent.
    """

    __slots__ = ()

    keeps_records = True

    def __init__(self, sock: _socket.socket, sockaddr: Any = None) -> None:
        super().__init__(sock, sockaddr)
        self.receive = self._receive

    def _receive(self, size: int) -> bytes:
        # One byte more than is allowed, so that a longer record is noticed, and not cut.
        return self._sock.recv(limits.MAX_UNIX_DATAGRAM_BYTES + 1)

    def pack(self, unit: bytes) -> bytes:
        """Returns the unit as it is."""
        return check_record(unit, limits.MAX_UNIX_DATAGRAM_BYTES)


def check_record(record: bytes, limit: int) -> bytes:
    """Returns a record that is not too long."""
    if len(record) > limit:
        raise MessageError(f"a record of {len(record)} bytes is over the limit of {limit}")
    return record


def connected(sock: _socket.socket, sockaddr: Any = None) -> SocketTransport:
    """Returns the transport for a connected stream or packet socket, which is owned from now on."""
    kind = PacketTransport if sock.type == socket.SOCK_SEQPACKET else SocketTransport
    return kind(sock, sockaddr)
