"""Connected sockets that keep the boundaries of what is sent: each unit is one record."""

from __future__ import annotations

import _socket
import errno
import fcntl
import select
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any, Final, Protocol

from gevent.monkey import get_original

from .. import limits
from ..errors import LineTooLongError, MessageError
from .base import StreamTransport
from .stream import SocketTransport

# One byte more than is allowed, so that a longer record is noticed, and never cut.
_RECORD_ROOM: Final = limits.MAX_UNIX_DATAGRAM_BYTES + 1
_LEAST_RECORD: Final = 1024  # about what the shortest record takes of the kernel's memory

_poll: Final = get_original("select", "poll")


class RecordTransport(StreamTransport, Protocol):
    """A stream transport that keeps records.

    Each ``transmit`` sends one record, whole or not at all; each ``receive`` takes one.
    """

    def pack(self, unit: bytes) -> bytes:
        """Returns the record for a unit; raises :class:`MessageError` when it would be too long."""


class PacketTransport(SocketTransport):
    """A connected Unix socket of type SOCK_SEQPACKET (man 7 unix).

    A record of no bytes looks like the end of the stream to many programs, so none is ever sent;
    one that comes is passed over. ``receive`` takes one record, whatever size it is asked for.
    """

    __slots__ = ("_recv", "_reset")

    keeps_records = True

    def __init__(self, sock: _socket.socket, sockaddr: Any = None) -> None:
        super().__init__(sock, sockaddr)
        self._recv: Callable[[int], bytes] = sock.recv
        self._reset: OSError | None = None
        self.receive = self._receive

    def read_with(self, recv: Callable[[int], bytes] | None) -> None:
        """Takes what comes by another call than ``recv``, or, for ``None``, by that again."""
        self._recv = recv or self._sock.recv

    def _receive(self, size: int) -> bytes:
        try:
            data = self._recv(_RECORD_ROOM)
        except ConnectionResetError as error:
            # The peer has closed with unread input. The kernel tells that before it gives the
            # records that the peer had sent (Linux, __skb_try_recv_datagram); here it comes last.
            self._reset = error
            data = self._recv(_RECORD_ROOM)
        if len(data) == _RECORD_ROOM:
            limit = limits.MAX_UNIX_DATAGRAM_BYTES
            raise LineTooLongError(f"{self.peer}: a record over the limit of {limit} bytes came")
        if data:
            return data
        if not self._has_ended():
            raise BlockingIOError(errno.EAGAIN, "a record of no bytes came")
        reset, self._reset = self._reset, None
        if reset is not None:
            raise reset
        return b""

    def _has_ended(self) -> bool:
        """Whether nothing more will come: the peer sends no more, and only empty records wait."""
        poller = _poll()
        poller.register(self._descriptor, select.POLLRDHUP)
        if not any(found & select.POLLRDHUP for _, found in poller.poll(0)):
            return False
        waiting = struct.unpack("i", fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4)))
        return bool(waiting[0] == 0)

    def pack(self, unit: bytes) -> bytes:
        """Returns the unit as it is."""
        return check_record(unit, limits.MAX_UNIX_DATAGRAM_BYTES)

    def finish(self) -> None:
        """Makes the close that follows one that ends the stream, and does not reset it."""
        left = limits.INBOX_HARD_BYTES
        try:
            while left > 0:
                data = self._sock.recv(_RECORD_ROOM)
                if not data and self._has_ended():
                    return
                left -= max(len(data), _LEAST_RECORD)
        except OSError:  # nothing is left, or the other side has gone
            return

    def _release(self) -> None:
        super()._release()
        self.receive = self._recv  # which refuses; and nothing refers to this object any more


def check_record(record: bytes, limit: int) -> bytes:
    """Returns a record that is not too long."""
    if len(record) > limit:
        raise MessageError(f"a record of {len(record)} bytes is over the limit of {limit}")
    return record


def connected(sock: _socket.socket, sockaddr: Any = None) -> SocketTransport:
    """Returns the transport for a connected stream or packet socket, which is owned from now on."""
    kind = PacketTransport if sock.type == socket.SOCK_SEQPACKET else SocketTransport
    return kind(sock, sockaddr)
