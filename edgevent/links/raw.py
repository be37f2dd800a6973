"""The two lowest layers: bytes as they come, and lines."""

from __future__ import annotations

from typing import Any

from .. import limits
from ..address import Address
from ..errors import NetworkError
from ..framing import Framer, LineFramer, RawFramer, RecordFramer
from ..transport.base import StreamTransport
from .stream import BaseStream


class StreamConnection(BaseStream[bytes]):
    """A stream of raw bytes: :meth:`process_read` gets them as they come.

    Args:
        address: Where to connect to (this blocks), or a connected transport.
    """

    __slots__ = ()

    def make_framer(self) -> Framer:
        """Raw bytes are not cut."""
        return RawFramer()

    def process_unit(self, unit: Any) -> None:
        """Calls :meth:`process_read`."""
        self.call_hook(self.process_read, unit)

    def process_read(self, data: bytes) -> None:
        """Called in a turn with bytes that have come, 64 KiB at the most."""


class LineConnection(BaseStream[bytes]):
    r"""A stream of lines: :meth:`process_line` gets each without its ``\n`` (a ``\r`` stays).

    What the peer sends after its last newline is a line as well when it ends the stream.

    Args:
        address: Where to connect to (this blocks), or a connected transport.
        max_line_bytes: The longest line; a longer one closes the connection.
    """

    __slots__ = ("max_line_bytes",)

    def __init__(
        self,
        address: str | Address | StreamTransport | None,
        *,
        max_line_bytes: int = limits.MAX_LINE_BYTES,
        **settings: Any,
    ) -> None:
        self.max_line_bytes = check_line_bytes(max_line_bytes)
        super().__init__(address, **settings)

    def make_framer(self) -> Framer:
        """Lines end with a newline."""
        return LineFramer(self.max_line_bytes)

    ends_with_newline = True

    def make_record_framer(self) -> Framer:
        """The end of a record is the end of a line."""
        return RecordFramer(self.max_line_bytes)

    def process_unit(self, unit: Any) -> None:
        """Calls :meth:`process_line`."""
        self.call_hook(self.process_line, unit)

    def process_line(self, line: bytes) -> None:
        """Called in a turn with each line."""

    def ended(self, error: NetworkError | None) -> None:
        """Takes the last line, which needs no newline, as one that has come."""
        if error is None and not (self._eof or self._draining) and self._framer is not None:
            rest = self._framer.end()
            if rest:
                self._inbox.put([rest], len(rest))
        super().ended(error)

    def write_line(self, line: bytes) -> None:
        """Sends a line; the newline is added. Blocks and raises as :meth:`write` does."""
        self.write(line + b"\n")


def check_line_bytes(size: int) -> int:
    """Returns the size when it can be a line limit, and raises ``ValueError`` otherwise."""
    if not 1 <= size <= limits.MAX_CONFIGURABLE_LINE_BYTES:
        raise ValueError(
            f"max_line_bytes={size}: 1 to {limits.MAX_CONFIGURABLE_LINE_BYTES} was expected"
        )
    return size
