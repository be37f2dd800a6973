"""Sending one datagram within a limit, when there may be no room for it."""

from __future__ import annotations

import errno
from typing import Any, Final

from greenlet import getcurrent

from ..errors import ConnectionLostError, QueueFullError, connection_lost
from ..limits import DATAGRAM_SEND_TIMEOUT
from ..runtime.clock import SYSTEM_CLOCK, Clock
from ..runtime.turns import Turns, wait
from .datagram import DatagramTransport

_PAUSES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)


def send_within(
    transport: DatagramTransport,
    data: bytes,
    sockaddr: Any = None,
    timeout: float = DATAGRAM_SEND_TIMEOUT,
    *,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Sends a datagram. Blocks the calling greenlet while its receiver's queue is full (Unix).

    Args:
        sockaddr: Where to, as the socket module writes it; by default the transport's target.
        timeout: The limit of the wait in seconds.

    Raises:
        QueueFullError: There was no room within the limit, or the hub has called, which must not
            wait.
        ConnectionLostError: It could not be sent; nobody has the address, for example.
    """
    end: float | None = None
    attempt = 0
    while True:
        try:
            transport.transmit(data, sockaddr)
            return
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise send_error(transport, sockaddr, error) from error
        turns = Turns.current()
        now = clock.now()
        end = now + timeout if end is None else end
        if now >= end or getcurrent() is turns.hub:
            raise QueueFullError(
                f"the queue of {show_target(transport, sockaddr)} is full: no room within"
                f" {timeout:g} s",
                errno.EAGAIN,
            )
        # A write watcher of a socket that is not connected knows nothing of the receiver's queue.
        pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
        attempt += 1
        wait(turns, clock, min(pause, end - now))


def show_target(transport: DatagramTransport, sockaddr: Any) -> str:
    """Returns where a datagram was to go, as text."""
    return transport.peer if sockaddr is None else transport.show(sockaddr)


def send_error(transport: DatagramTransport, sockaddr: Any, error: OSError) -> ConnectionLostError:
    """Turns what a system call said of a datagram into this package's error."""
    return connection_lost(show_target(transport, sockaddr), "sending to", error)
