"""A plain blocking stream, for code that speaks a protocol of its own."""

from __future__ import annotations

import gevent
from greenlet import getcurrent

from .. import limits
from ..address import Address
from ..arguments import checks_arguments
from ..errors import LineTooLongError, UsageError
from ..runtime.clock import SYSTEM_CLOCK, Clock
from ..runtime.closing import Closing
from ..tls import TlsMode, TlsOptions
from ..transport.fifo import Access
from .raw import StreamConnection


class Stream(Closing):
    """Bytes in both directions; every call blocks the calling greenlet alone.

    Made by :func:`connect`.
    """

    __slots__ = ("_connection", "_rest", "max_line_bytes")

    def __init__(
        self, connection: StreamConnection, max_line_bytes: int = limits.MAX_LINE_BYTES
    ) -> None:
        self._connection = connection
        self._rest = bytearray()
        self.max_line_bytes = max_line_bytes

    def __repr__(self) -> str:
        return f"<Stream {self._connection!r}>"

    @property
    def address(self) -> str:
        """The address of the other side, as text."""
        return self._connection.address

    def read(self, size: int = limits.READ_BYTES, timeout: float | None = None) -> bytes:
        """Returns what is there, up to ``size`` bytes, after a wait for the first one.

        Args:
            size: At least 1.
            timeout: The limit in seconds; ``None`` waits for as long as the connection is there.

        Returns:
            The bytes; ``b""`` at the end of the stream.

        Raises:
            ReceiveTimeout: Nothing came in time.
            ConnectionLostError: The connection broke.
            ClosedError: This side has closed it.
        """
        if size < 1:
            raise UsageError(f"size={size}: at least 1 was expected")
        if not self._rest and not self._fill(timeout):
            return b""
        data = bytes(self._rest[:size])
        del self._rest[:size]
        return data

    def read_line(self, timeout: float | None = None) -> bytes:
        r"""Returns the next line with its ``\n``; the last one may have none, ``b""`` is the end.

        Over ``unixseq:`` a line ends with its record at the latest, and may have no ``\n`` either.

        Args:
            timeout: The limit in seconds; what has come of the line by then is kept for the next
                call. ``None`` waits for as long as the connection is there.

        Raises:
            ReceiveTimeout: The line was not complete in time.
            LineTooLongError: It has more than ``max_line_bytes`` bytes, the newline not counted;
                the connection is closed.
            ConnectionLostError: The connection broke.
            ClosedError: This side has closed it.
        """
        rest, clock = self._rest, self._connection._clock
        end = None if timeout is None else clock.now() + timeout
        start = 0
        while (found := rest.find(b"\n", start)) < 0 and len(rest) <= self.max_line_bytes:
            if rest and self._connection.keeps_records:
                break
            start = len(rest)
            if not self._fill(None if end is None else max(end - clock.now(), 0.0)):
                break
        size = len(rest) if found < 0 else found
        if size > self.max_line_bytes:
            name = self._connection.name
            self._connection.cut()
            raise LineTooLongError(f"{name}: a line over the limit of {self.max_line_bytes} came")
        line = bytes(rest[: size + 1])
        del rest[: size + 1]
        return line

    def _fill(self, timeout: float | None) -> bool:
        data = self._connection.receive_or_end(timeout)
        self._rest += data
        return bool(data)

    def write(self, data: bytes) -> None:
        """Sends bytes; blocks while too much waits for the peer.

        Raises:
            ConnectionLostError: The connection broke, or the peer was too slow.
            ClosedError: This side has closed it.
        """
        self._connection.write(data)

    def close(self) -> None:
        """Closes, after what was written has left or the peer was given 5 s for it. Idempotent."""
        connection = self._connection
        if connection._turns.forked or getcurrent() is gevent.get_hub():
            connection.close()
        else:
            connection.close_within(limits.CLOSE_TIMEOUT)


@checks_arguments
def connect(
    address: str | Address,
    *,
    connect_timeout: float = limits.CONNECT_TIMEOUT,
    max_line_bytes: int = limits.MAX_LINE_BYTES,
    tls: TlsOptions | TlsMode | None = None,
    access: Access | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Stream:
    """Connects, and returns a plain blocking stream.

    Raises:
        ConnectError: Nobody took the connection within ``connect_timeout`` seconds.
    """
    connection = StreamConnection(
        address, connect_timeout=connect_timeout, tls=tls, access=access, clock=clock
    )
    return Stream(connection, max_line_bytes)
