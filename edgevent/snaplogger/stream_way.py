"""The way to a log server over a stream: TCP or a Unix socket, plain or by TLS."""

from __future__ import annotations

import _socket
import errno
import os
import socket
import time
from typing import Final

from ..address import Address
from ..backoff import Backoff
from ..errors import EdgeventError, MessageError
from ..framing import LineFramer
from ..limits import CONNECT_TIMEOUT, JOIN_BYTES, MAX_LINE_BYTES, READ_BYTES
from ..message import Message
from ..tls import TlsOptions, check_server_name
from ..tls_session import RECORD_BYTES, TlsSession
from ..transport.stream import set_stream_options
from .entries import Ledger, fitting
from .way import NEVER, POLLIN, POLLOUT, Endpoint, Way, find_endpoints, new_socket, reason_of

_AGAIN: Final = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


class StreamWay(Way):
    """A connection that comes back by itself, as long as there is something to send.

    What waits for an answer when it is lost is sent again, before all else and in its order.

    Args:
        address: The server's.
        ledger: What is to be sent.
        backoff: The pauses after a failure.
        tls: What is asked of TLS; ``None`` for none.
    """

    def __init__(
        self, address: Address, ledger: Ledger, backoff: Backoff, tls: TlsOptions | None
    ) -> None:
        super().__init__(address, ledger, backoff)
        self._tls = tls
        self._sock: _socket.socket | None = None
        self._session: TlsSession | None = None
        self._endpoints: list[Endpoint] = []
        self._is_up = False
        self._since = 0.0  # when the attempt or the connection began
        self._reset()

    def _reset(self) -> None:
        self._out = b""  # bytes for the kernel
        self._framer = LineFramer()

    # --- the work ---------------------------------------------------------------------------------

    def work(self, ready: int) -> None:
        """Connects, sends and receives, as far as that is possible at once."""
        try:
            if self._sock is None:
                self._begin()
            elif not self._is_up:
                self._go_on(ready)
            if self._is_up:
                if ready & ~POLLOUT:
                    self._receive()
                self._send()
        except (OSError, EdgeventError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else str(error)
            self._lost(reason.removeprefix(f"{self.address}: "))
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Says what is to be waited for."""
        self.due = NEVER
        self.descriptor, self.events = -1, POLLIN
        if self._sock is None:
            self.due = self._retry if self._ledger.unsent else NEVER
            return
        self.descriptor = self._sock.fileno()
        if not self._is_up:
            self.due = self._since + CONNECT_TIMEOUT
            if self._session is None or self._out:
                self.events = POLLOUT
        elif self._out:
            self.events |= POLLOUT

    def _lost(self, reason: str) -> None:
        """Ends a connection or an attempt; the next address of a name is tried at once."""
        was_up, others = self._is_up, self._endpoints
        if was_up:
            self._backoff.lost(time.monotonic() - self._since)
            others = []
        self._failed(reason)
        self._ledger.again()
        self._endpoints = others
        if others:
            self._retry = time.monotonic()

    # --- connecting -------------------------------------------------------------------------------

    def _begin(self) -> None:
        now = time.monotonic()
        if now < self._retry or not self._ledger.unsent:
            return
        if not self._endpoints:
            self._endpoints = find_endpoints(self.address)
        endpoint = self._endpoints.pop(0)
        self._sock = new_socket(endpoint.family, socket.SOCK_STREAM)
        self._since = now
        set_stream_options(self._sock)
        code = self._sock.connect_ex(endpoint.sockaddr)
        if code == 0:
            self._connected()
        elif code != errno.EINPROGRESS:  # EAGAIN: a Unix socket whose queue is full
            raise OSError(code, os.strerror(code))

    def _go_on(self, ready: int) -> None:
        assert self._sock is not None
        if self._session is not None:
            self._shake_hands(ready)
        elif ready:
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            if self._sock.getsockname() == self._sock.getpeername():  # see transport.dial
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            self._connected()
        if not self._is_up and time.monotonic() >= self._since + CONNECT_TIMEOUT:
            raise TimeoutError(errno.ETIMEDOUT, f"no connection within {CONNECT_TIMEOUT:g} s")

    def _connected(self) -> None:
        if self._tls is None:
            self._established()
            return
        name = self._tls.server_name or check_server_name(self.address.host or "localhost")
        self._session = TlsSession(
            self._tls,
            str(self.address),
            server_side=False,
            server_name=name,
            session_key=f"{self.address} {name}",
        )
        self._shake_hands(0)

    def _shake_hands(self, ready: int) -> None:
        session = self._session
        assert session is not None
        if ready & ~POLLOUT:
            data = self._read()
            if data is not None:
                if not data:
                    raise session.ended_early()
                session.feed(data)
        try:
            done = session.handshake()
        finally:
            self._out += session.take()
            self._flush()
        if done:
            self._established()

    def _established(self) -> None:
        self._is_up = True
        self._endpoints = []
        self._since = time.monotonic()
        self.is_away = False
        self.trouble = "the server has not acknowledged them"
        if self._session is not None:
            self._take(self._session.decrypt(b""))  # what has come with the end of the handshake

    # --- sending ----------------------------------------------------------------------------------

    def _send(self) -> None:
        """Sends all that the kernel takes, 64 KiB at a time."""
        while True:
            self._flush()
            if self._out:
                return
            self._ledger.have_left()
            if self._paused or not self._ledger.unsent:
                return
            self._fill()

    def _fill(self) -> None:
        ledger, size = self._ledger, 0
        parts: list[bytes] = []
        now = time.monotonic()
        while ledger.unsent and size < JOIN_BYTES:
            entry = ledger.unsent[0]
            try:
                data = fitting(entry, MAX_LINE_BYTES, bytes)
            except MessageError as error:
                ledger.lose(entry, str(error))
                continue
            ledger.unsent.popleft()
            if entry.wants_answer:  # which may come before the last byte has left
                ledger.sent(entry, now)
            else:
                ledger.leaving.append(entry)
            parts += (data, b"\n")
            size += len(data) + 1
        plain = b"".join(parts)
        if self._session is None:
            self._out = plain
            return
        encrypt = self._session.encrypt
        self._out = b"".join(
            encrypt(plain[at : at + RECORD_BYTES]) for at in range(0, len(plain), RECORD_BYTES)
        )

    def _flush(self) -> None:
        assert self._sock is not None
        while self._out:
            try:
                self._out = self._out[self._sock.send(self._out, socket.MSG_NOSIGNAL) :]
            except OSError as error:
                if error.errno not in _AGAIN:
                    raise
                return

    # --- receiving --------------------------------------------------------------------------------

    def _read(self) -> bytes | None:
        assert self._sock is not None
        try:
            return self._sock.recv(READ_BYTES)
        except OSError as error:
            if error.errno not in _AGAIN:
                raise
            return None

    def _receive(self) -> None:
        while (data := self._read()) is not None:
            ended = not data
            session = self._session
            if session is not None and data:
                data = session.decrypt(data)
                ended = session.has_ended or bool(session.failure)
                self._out += session.take()
            self._take(data)
            if ended or self._framer.too_long:
                raise ConnectionResetError(errno.ECONNRESET, "the server has closed the connection")

    def _take(self, data: bytes) -> None:
        for line in self._framer.feed(data):
            try:
                self._arrived(Message.parse(line))
            except MessageError:  # an empty line, or what is no answer to anything
                continue

    # --- the end ----------------------------------------------------------------------------------

    def end(self) -> None:
        """Says the end of TLS, and closes."""
        if self._session is not None and self._is_up:
            try:
                self._session.end()
                self._out += self._session.take()
                self._flush()
            except (OSError, EdgeventError):  # the server is gone, and needs no word
                pass
        self.abandon()

    def abandon(self) -> None:
        """Closes the connection."""
        if self._session is not None:
            self._session.release()
            self._session = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._is_up = False
        self._reset()
