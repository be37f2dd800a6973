"""Framers: they cut a stream of bytes into units, and do no input or output of their own.

A framer is fed what was read and gives back what is complete. Fed all at once, byte by byte or
in any other pieces, it gives the same units. Nothing here switches greenlets.
"""

from __future__ import annotations

from typing import Any, Protocol

from .limits import MAX_LINE_BYTES


class Framer(Protocol):
    """What a stream connection asks of a framer."""

    too_long: bool
    """True once a unit went over the limit; what is fed from then on is ignored."""

    @property
    def held(self) -> int:
        """The number of bytes held of a unit that is not complete."""

    def feed(self, data: bytes) -> list[Any]:
        """Takes bytes as they were read and returns the units that they complete."""

    def end(self) -> bytes:
        """Ends the stream; returns, and forgets, what is left of a unit that is not complete."""


class RawFramer:
    """Passes on what was read, as it was read."""

    __slots__ = ()

    too_long = False
    held = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the data as the one unit."""
        return [data] if data else []

    def end(self) -> bytes:
        """Returns nothing: a raw stream has no incomplete units."""
        return b""


class _Lines:
    """What is held of a line, and its limit."""

    __slots__ = ("_rest", "max_line_bytes", "too_long")

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self.max_line_bytes = max_line_bytes
        self.too_long = False
        self._rest: bytearray | None = None

    @property
    def held(self) -> int:
        """The number of bytes of the line that has begun."""
        return 0 if self._rest is None else len(self._rest)

    def cut(self, data: bytes) -> list[bytes]:
        """Returns the lines that ``data`` completes, up to one that is too long."""
        if self.too_long:
            return []
        lines = data.split(b"\n")
        tail = lines.pop()
        rest = self._rest
        if rest is None and not tail and len(data) <= self.max_line_bytes:
            return lines
        if rest is not None:
            # A bytearray grows in place: a long line that comes in small pieces costs its length,
            # not its square.
            rest += lines[0] if lines else tail
            if len(rest) > self.max_line_bytes:
                return self._stop()
            if not lines:
                return lines
            lines[0] = bytes(rest)
        self._rest = bytearray(tail) if tail else None
        if len(data) > self.max_line_bytes:
            for index, line in enumerate(lines):
                if len(line) > self.max_line_bytes:
                    self._stop()
                    return lines[:index]
            if len(tail) > self.max_line_bytes:
                self._stop()
        return lines

    def _stop(self) -> list[bytes]:
        self.too_long = True
        self._rest = None
        return []

    def end(self) -> bytes:
        """Returns the line that has no newline at the end of the stream, or nothing."""
        rest, self._rest = self._rest, None
        return b"" if rest is None else bytes(rest)


class LineFramer(_Lines):
    """Cuts a stream at each newline; the units come without it.

    Args:
        max_line_bytes: The longest line, its newline not counted. What is held never exceeds it by
            more than one read.
    """

    __slots__ = ()

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the lines that ``data`` completes, up to one that is too long."""
        return self.cut(data)


class RecordFramer:
    """Cuts what comes in records, as a transport that keeps them gives it.

    The end of a record ends a line as a newline does, so one record holds one line or several:
    a line is never in two of them.

    Args:
        max_line_bytes: The longest line, its newline not counted.
        as_text: Whether lines are decoded, as :class:`TextFramer` does.
        whole: Whether each record is one unit, newlines inside it or not: a datagram.
    """

    __slots__ = ("as_text", "max_line_bytes", "too_long", "whole")

    held = 0

    def __init__(
        self, max_line_bytes: int = MAX_LINE_BYTES, *, as_text: bool = False, whole: bool = False
    ) -> None:
        self.max_line_bytes = max_line_bytes
        self.as_text = as_text
        self.whole = whole
        self.too_long = False

    def feed(self, data: bytes) -> list[Any]:
        """Takes a record, and returns its lines, up to one that is too long."""
        if self.too_long:
            return []
        data = data.removesuffix(b"\n")
        units = [data] if self.whole else data.split(b"\n")
        if len(data) > self.max_line_bytes:
            for index, unit in enumerate(units):
                if len(unit) > self.max_line_bytes:
                    self.too_long = True
                    del units[index:]
                    break
        if self.as_text:
            return [unit.decode("utf-8", "surrogateescape") for unit in units]
        return units

    def end(self) -> bytes:
        """Returns nothing: a record is never incomplete."""
        return b""


class TextFramer(_Lines):
    """Cuts a stream at each newline, and decodes it (UTF-8, other bytes as ``surrogateescape``).

    Args:
        max_line_bytes: The longest line, in bytes, its newline not counted.
    """

    __slots__ = ()

    def feed(self, data: bytes) -> list[str]:
        """Returns the lines that ``data`` completes, up to one that is too long."""
        limit = self.max_line_bytes
        if len(data) > limit or self.too_long:
            return [line.decode("utf-8", "surrogateescape") for line in self.cut(data)]
        # All lines at once: no character crosses a newline, so it comes to the same.
        rest = self._rest
        if rest is None:
            lines = data.decode("utf-8", "surrogateescape").split("\n")
            if lines.pop():  # a line has begun, and may end within a character
                self._rest = bytearray(data[data.rfind(b"\n") + 1 :])
            return lines
        last = data.rfind(b"\n")
        if last < 0:
            return [line.decode("utf-8", "surrogateescape") for line in self.cut(data)]
        if len(rest) + data.index(b"\n") > limit:
            self._stop()
            return []
        rest += data[:last]
        tail = data[last + 1 :]
        self._rest = bytearray(tail) if tail else None
        return rest.decode("utf-8", "surrogateescape").split("\n")
