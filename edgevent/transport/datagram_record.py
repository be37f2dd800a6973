"""Datagrams to and from one address, in the form in which the layers above streams take records."""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from ..address import Address
from ..errors import MessageError
from ..limits import CONNECT_TIMEOUT
from ..message import Message
from ..runtime.clock import SYSTEM_CLOCK, Clock
from ..signing import REASONS, Guard
from .base import Credentials
from .datagram import DatagramTransport
from .datagram_open import open_datagrams

logger = logging.getLogger("edgevent")

# What a system call says of an earlier datagram (UDP), or of a server that has gone (Unix).
REFUSED: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN})


class DatagramRecords:
    """A datagram socket with one target, of which each datagram is a record.

    There is no end of what comes. What proves nobody, where that is asked for, is dropped.

    Args:
        transport: A socket that is connected or has a target; it is owned from now on.
        guard: Signs what is sent and judges what comes.

    Attributes:
        counts: How many datagrams were dropped, and why.
    """

    __slots__ = ("_guard", "_inner", "counts")

    keeps_records = True
    is_datagram = True

    def __init__(self, transport: DatagramTransport, guard: Guard) -> None:
        self._inner = transport
        self._guard = guard
        self.counts: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.peer or 'closed'}>"

    def receive(self, size: int) -> bytes:
        """Takes one datagram, whatever size is asked for; raises ``BlockingIOError`` for none."""
        datagram = self._inner.receive()
        data = datagram.data
        if datagram.is_truncated:
            self._drop("truncated", "it is longer than the limit")
        elif self._guard.asks:
            message, _, reason = self._guard.open(data)
            if message is None:
                self._drop(reason, REASONS[reason])
            else:
                data = bytes(message)
        elif not data:  # to the layers above that would be an end
            self._drop("malformed", REASONS["malformed"])
        return data

    def _drop(self, reason: str, text: str) -> None:
        self.counts[reason] += 1
        logger.debug("%s: dropped a datagram: %s", self.peer, text)
        raise BlockingIOError(errno.EAGAIN, "a datagram was dropped")

    def transmit(self, data: bytes | memoryview) -> int:
        """Sends one datagram; raises ``BlockingIOError`` or ``OSError``."""
        inner = self._inner
        try:
            inner.transmit(bytes(data))
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            inner.reconnect()
            inner.transmit(bytes(data))
        return len(data)

    def pack(self, unit: bytes) -> bytes:
        """Returns the datagram for a unit.

        Raises:
            MessageError: It would be too long, or what is to be signed is no message.
        """
        data = self._guard.seal(Message.parse(unit)) if self._guard.asks else unit
        limit = self._inner.max_bytes
        if len(data) > limit:
            raise MessageError(f"a datagram of {len(data)} bytes is over the limit of {limit}")
        return data

    # --- what is known ----------------------------------------------------------------------------

    def fileno(self) -> int:
        """The descriptor, or -1 when it is closed."""
        return self._inner.fileno()

    @property
    def peer(self) -> str:
        """Where it sends to."""
        return self._inner.peer

    @property
    def local(self) -> str:
        """This side's address; empty when closed."""
        return self._inner.local

    @property
    def is_local(self) -> bool:
        """Whether it sends to this machine, and so hears from no other one."""
        return self._inner.is_to_loopback

    @property
    def credentials(self) -> Credentials | None:
        """The kernel tells nothing of who is to receive."""
        return None

    # --- watchers and the end ---------------------------------------------------------------------

    def watch_read(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub while there is a datagram or an error."""
        self._inner.watch_read(callback)

    def unwatch_read(self) -> None:
        """Ends it."""
        self._inner.unwatch_read()

    def watch_write(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub while there is room for a datagram."""
        self._inner.watch_write(callback)

    def unwatch_write(self) -> None:
        """Ends it."""
        self._inner.unwatch_write()

    @property
    def in_flight(self) -> int:
        """How many bytes the kernel has taken and the other side has not."""
        return self._inner.in_flight

    def finish(self) -> None:
        """Datagrams have no end that could be marked."""

    def shutdown_write(self) -> None:
        """Datagrams have no end that could be shown."""

    def close(self) -> None:
        """Closes the socket. Idempotent."""
        self._inner.close()


def dial_datagrams(
    address: Address,
    timeout: float = CONNECT_TIMEOUT,
    *,
    clock: Clock = SYSTEM_CLOCK,
    guard: Guard | None = None,
) -> DatagramRecords:
    """Opens a socket that sends to an address; errors are those of :func:`open_datagrams`."""
    transport = open_datagrams(address, timeout=timeout, clock=clock)
    return DatagramRecords(transport, guard or Guard(name=str(address)))
