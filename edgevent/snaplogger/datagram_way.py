"""The way to a log server by datagrams: UDP or a Unix socket, one record each."""

from __future__ import annotations

import _socket
import errno
import socket
import time
from typing import Final

from ..address import Address
from ..backoff import Backoff
from ..errors import MessageError
from ..limits import CONNECT_TIMEOUT
from ..signing import Guard
from ..transport.datagram import default_max_bytes
from .entries import Entry, Ledger, fitting
from .way import NEVER, POLLIN, POLLOUT, Way, find_endpoints, new_socket, reason_of

WINDOW: Final = 32
"""So many records wait for their answer at a time, so that a burst does not flood the server."""
_AGAIN: Final = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ENOBUFS)
_ROOM_INTERVAL: Final = 0.02  # a full queue is tried again so often, if nothing else is heard of it
_MOST_BYTES: Final = 65_536


class DatagramWay(Way):
    """A socket that sends a record in each datagram, and again when it is not acknowledged.

    What the kernel says nobody receives counts as no attempt: it is sent again after a pause.

    Args:
        address: The server's.
        ledger: What is to be sent.
        backoff: The pauses while nobody is there.
        guard: What proves the sender.
        max_bytes: The longest datagram; 0 for that of the kind of socket.
        timeout: Seconds to wait for an answer.
        retries: How often a record is sent again before it is lost.
    """

    def __init__(
        self,
        address: Address,
        ledger: Ledger,
        backoff: Backoff,
        guard: Guard,
        *,
        max_bytes: int = 0,
        timeout: float,
        retries: int,
    ) -> None:
        super().__init__(address, ledger, backoff)
        self._guard = guard
        self._max_bytes = max_bytes or default_max_bytes(address)
        self._timeout = timeout
        self._tries = retries + 1
        self._sock: _socket.socket | None = None
        self._is_full = False

    def work(self, ready: int) -> None:
        """Sends and receives, as far as that is possible at once."""
        try:
            if self._sock is None:
                self._open()
            if self._sock is not None:
                self._receive()
                self._send_again()
                self._send()
        except OSError as error:
            for entry in self._ledger.unanswered.values():
                entry.tries = 0
            self._ledger.again()
            self._failed(reason_of(error))
        self._look_ahead()

    def _look_ahead(self) -> None:
        self.due, self.descriptor, self.events = NEVER, -1, POLLIN
        if self._sock is None:
            self.due = self._retry if self._ledger.unsent else NEVER
            return
        self.descriptor = self._sock.fileno()
        if self._ledger.unanswered:
            oldest = min(entry.sent for entry in self._ledger.unanswered.values())
            self.due = oldest + self._timeout
        if self._is_full:
            self.events |= POLLOUT
            self.due = min(self.due, time.monotonic() + _ROOM_INTERVAL)

    def _open(self) -> None:
        if time.monotonic() < self._retry or not self._ledger.unsent:
            return
        failure: OSError = TimeoutError(errno.ETIMEDOUT, f"no address within {CONNECT_TIMEOUT:g} s")
        for endpoint in find_endpoints(self.address):
            sock = new_socket(endpoint.family, socket.SOCK_DGRAM)
            try:
                if endpoint.family == socket.AF_UNIX:
                    sock.bind("")  # man 7 unix, autobind: without a name nobody could answer
                sock.connect(endpoint.sockaddr)
            except OSError as error:
                sock.close()
                failure = error
                continue
            self._sock = sock
            self.trouble = "the server has not acknowledged them"
            return
        raise failure

    # --- sending ----------------------------------------------------------------------------------

    def _send(self) -> None:
        ledger, self._is_full = self._ledger, False
        while ledger.unsent and not self._paused and len(ledger.unanswered) < WINDOW:
            entry = ledger.unsent[0]
            if self._transmit(entry):
                ledger.unsent.popleft()
                ledger.sent(entry, time.monotonic())
            elif self._is_full:
                return

    def _send_again(self) -> None:
        """Sends again what waits too long for its answer, or gives it up."""
        ledger, now = self._ledger, time.monotonic()
        for entry in list(ledger.unanswered.values()):
            if entry.sent + self._timeout > now:
                continue
            if entry.tries >= self._tries:
                self.is_away = True
                text = f"the server has not acknowledged it, sent {entry.tries} times"
                ledger.lose(entry, text)
            elif self._transmit(entry):
                ledger.sent(entry, now)
            elif self._is_full:
                return

    def _transmit(self, entry: Entry) -> bool:
        """Sends a datagram; returns whether it left: the record is lost else, or is to wait."""
        assert self._sock is not None
        try:
            data = fitting(entry, self._max_bytes, self._guard.seal)
        except MessageError as error:
            self._ledger.lose(entry, str(error))
            return False
        try:
            self._sock.send(data, socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno in _AGAIN:
                self._is_full = True
                return False
            if error.errno == errno.EMSGSIZE:
                self._ledger.lose(entry, f"a datagram of {len(data)} bytes: {reason_of(error)}")
                return False
            raise
        if not entry.wants_answer:
            self.is_away = False
        return True

    # --- receiving --------------------------------------------------------------------------------

    def _receive(self) -> None:
        assert self._sock is not None
        while True:
            try:
                data = self._sock.recv(_MOST_BYTES)
            except OSError as error:
                if error.errno not in _AGAIN:
                    raise
                return
            message = self._guard.open(data).message
            if message is not None:
                if self.is_away:
                    self._backoff.reset()
                self.is_away = False
                self._arrived(message)

    def abandon(self) -> None:
        """Closes the socket."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
