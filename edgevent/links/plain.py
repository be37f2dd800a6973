"""A plain blocking stream, for code that speaks a protocol of its own."""

from __future__ import annotations

from types import TracebackType

from .. import limits
from ..address import Address
from ..errors import LineTooLongError
from ..runtime.clock import SYSTEM_CLOCK, Clock
from .raw import StreamConnection


class Stream:
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

    def read(self, size: int = limits.READ_BYTES, timeout: float | None = None) -> bytes:
        """Returns what is there, up to ``size`` bytes, after a wait for the first one.

        Returns:
            The bytes; ``b""`` at the end of the stream.

        Raises:
            ReceiveTimeout: Nothing came within ``timeout`` seconds.
            ConnectionLostError: The connection broke.
        """
        if not self._rest and not self._fill(timeout):
            return b""
        data = bytes(self._rest[:size])
        del self._rest[:size]
        return data

    def read_line(self, timeout: float | None = None) -> bytes:
        r"""Returns the next line with its ``\n``; the last one may have none, ``b""`` is the end.

        Args:
            timeout: The limit in seconds of each wait for more bytes.

        Raises:
            LineTooLongError: It has more than ``max_line_bytes`` bytes.
        """
        start = 0
        while (found := self._rest.find(b"\n", start)) < 0:
            if len(self._rest) > self.max_line_bytes:
                raise LineTooLongError(f"{self}: a line of more than {self.max_line_bytes} bytes")
            start = len(self._rest)
            if not self._fill(timeout):
                found = len(self._rest) - 1
                break
        line = bytes(self._rest[: found + 1])
        del self._rest[: found + 1]
        return line

    def _fill(self, timeout: float | None) -> bool:
        data = self._connection.receive_or_end(timeout)
        self._rest += data
        return bool(data)

    def write(self, data: bytes) -> None:
        """Sends bytes; blocks while too much waits for the peer."""
        self._connection.write(data)

    def close(self) -> None:
        """Closes, after what was written has left. Idempotent."""
        self._connection.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def connect(
    address: str | Address,
    *,
    connect_timeout: float = limits.CONNECT_TIMEOUT,
    max_line_bytes: int = limits.MAX_LINE_BYTES,
    clock: Clock = SYSTEM_CLOCK,
) -> Stream:
    """Connects, and returns a plain blocking stream.

    Raises:
        ConnectError: Nobody took the connection within ``connect_timeout`` seconds.
    """
    connection = StreamConnection(address, connect_timeout=connect_timeout, clock=clock)
    return Stream(connection, max_line_bytes)
