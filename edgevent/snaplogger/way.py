"""How entries get to a log server: what a stream and a datagram socket have in common.

All of this runs in the thread of a sender, on non-blocking sockets of the system's; no greenlet is
switched.
"""

from __future__ import annotations

import _socket
import os
import socket
import time
from typing import Any, Final, NamedTuple

from ..address import Address
from ..backoff import Backoff
from ..errors import MessageError
from ..message import Message
from .entries import Ledger
from .protocol import LOG, LOG_ACKNOWLEDGE, PAUSE, UNPAUSE

POLLIN: Final = 1  # <poll.h>
POLLOUT: Final = 4
NEVER: Final = float("inf")
_REFUSALS: Final = ("INVALID", "UNKNOWN")
_SHOWN: Final = 100


class Endpoint(NamedTuple):
    """Where a socket can be connected."""

    family: int
    sockaddr: Any


def find_endpoints(address: Address) -> list[Endpoint]:
    """Gives the socket addresses of an address; blocks the thread while a name is looked up.

    Raises:
        OSError: The name cannot be resolved.
    """
    if address.is_unix:
        path = address.path
        return [
            Endpoint(socket.AF_UNIX, "\0" + path[1:] if path.startswith("@") else path),
        ]
    kind = socket.SOCK_DGRAM if address.is_datagram else socket.SOCK_STREAM
    host = address.host or "localhost"
    found = _socket.getaddrinfo(host, address.port, 0, kind, 0)
    return [Endpoint(int(family), sockaddr) for family, _, _, _, sockaddr in found]


def new_socket(family: int, kind: int) -> _socket.socket:
    """Opens a socket that no program which is run inherits, and on which nothing waits."""
    return _socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


class Way:
    """A way to a log server; the sender's thread has it work, and polls what it waits for.

    Args:
        address: The server's.
        ledger: What is to be sent.
        backoff: The pauses after a failure.

    Attributes:
        address: The same.
        is_away: Whether the server was not there when it was last tried.
        trouble: Why entries wait, for a sentence.
        descriptor: What is polled; -1 for nothing.
        events: For what.
        due: When it is to work even if nothing happens, as of the monotonic clock.
    """

    def __init__(self, address: Address, ledger: Ledger, backoff: Backoff) -> None:
        self.address = address
        self._ledger = ledger
        self._backoff = backoff
        self._paused = False
        self._retry = time.monotonic() + backoff.first()
        self.is_away = False
        self.trouble = "there is no connection yet"
        self.descriptor = -1
        self.events = POLLIN
        self.due = NEVER

    def work(self, ready: int) -> None:
        """Does all that can be done without a wait.

        Args:
            ready: The events that the descriptor has; 0 for none.
        """
        raise NotImplementedError

    def hurry(self) -> None:
        """Tries a server that is away at once, once more."""
        self._retry = time.monotonic()
        self.is_away = False

    def end(self) -> None:
        """Tells the server that nothing more comes, if that is possible at once, and closes."""
        self.abandon()

    def abandon(self) -> None:
        """Closes what is open, without a word to the server."""
        raise NotImplementedError

    def _failed(self, reason: str) -> None:
        """Takes note that the server is not there; it is tried again after a pause."""
        self.abandon()
        self._paused = False
        self.is_away = True
        self.trouble = reason
        self._retry = time.monotonic() + self._backoff.next()

    def _arrived(self, message: Message) -> None:
        """Takes what the server says."""
        command = message.command
        if command == LOG_ACKNOWLEDGE:
            try:
                self._ledger.answered(message.integer("serial"))
            except MessageError:  # it says nothing then
                return
        elif command in _REFUSALS:
            reason = message.get("message", "")
            if not reason:
                unknown = message.get("command", "") or LOG
                reason = f"the server does not know {unknown[:_SHOWN]}"
            try:
                self._ledger.refused(message.integer("serial"), f"refused: {reason[:_SHOWN]}")
            except MessageError:  # of a server that has no serials: its records never arrive
                self.trouble = reason[:_SHOWN]
        elif command in (PAUSE, UNPAUSE):
            self._paused = command == PAUSE
            self.trouble = "the server has asked for a pause"


def reason_of(error: OSError) -> str:
    """Gives the reason of an error as text."""
    code = error.errno
    return error.strerror or (os.strerror(code) if code else str(error)) or type(error).__name__
