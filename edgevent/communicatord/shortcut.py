"""Lines that go on as the bytes that came: those of a kind that the router has seen before.

Nothing of such a line is decoded. What stands before the first ``=`` says where it goes, as last
time, and one expression checks the rest of it.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final, Protocol

from ..framing import TextFramer
from ..runtime.inbox import Inbox
from ..runtime.turns import IDLE
from ..wire import known_lines
from .station import MAX_ROUTES, Station, Way

MAX_BYTES: Final = 16_000
"""A longer line, with the name of its sender, could be too long."""
MAX_PREFIX: Final = 256

_VALUE: Final = rb'[^;"\\\x00\n]*'
_LAST: Final = rb'(?:[^;"\\\x00\n]*[^;"\\\x00-\x20])?'  # what ends in a blank is to be trimmed


class Shortcut:
    """One kind of line, from one peer.

    Args:
        way: Where it goes.
        prefix: What stands before the first ``=``, with the sender's name.
        names: The parameters, in their order.

    Attributes:
        target: Who gets it.
        begin: What it begins with, up to and with the first ``=``.
        matches: Checks the rest; group 1 is the serial.
        has_serial: Whether there is one.
        answers_only: Whether it goes on only when it answers what the target has asked.
    """

    __slots__ = ("answers_only", "begin", "has_serial", "matches", "target")

    def __init__(self, target: Station, way: Way, prefix: str, names: tuple[str, ...]) -> None:
        self.target = target
        self.begin = prefix.encode() + b"="
        self.answers_only = way.answers_only
        self.has_serial = "serial" in names
        self.matches = _matcher(names)


_matchers: dict[tuple[str, ...], Any] = {}  # as many as there are compiled layouts, at most


def _matcher(names: tuple[str, ...]) -> Any:
    found = _matchers.get(names)
    if found is None:
        pieces = []
        for number, name in enumerate(names):
            value = _LAST if number == len(names) - 1 else _VALUE
            begin = name.encode() + b"=" if number else b""
            pieces.append(begin + (b"(" + value + b")" if name == "serial" else value))
        found = _matchers[names] = re.compile(b";".join(pieces) + rb";?\n").fullmatch
    return found


def learn(source: Station, way: Way, text: str, head: str) -> None:
    """Takes note of a line that has just gone on, if its like can take the shortcut."""
    prefix, equals, _ = text.partition("=")
    known = known_lines.get(prefix)
    if known is None or not equals or way.target is None or len(prefix) > MAX_PREFIX:
        return
    key = prefix.encode()
    if key in source.shortcuts:
        return
    if len(source.shortcuts) >= MAX_ROUTES:
        source.shortcuts.clear()
    begin = f"{way.head}{prefix[len(head) :]}"
    source.shortcuts[key] = Shortcut(way.target, way, begin, known[1].names)


class Forwarding(Protocol):
    """The stream that the lines come from."""

    router: ClassVar[Any]
    station: Station
    ticket: int
    _inbox: Inbox
    _in_units: int


class ForwardingFramer(TextFramer):
    """Cuts a stream into lines, but for those that have gone on already.

    Args:
        max_line_bytes: The longest line.
        stream: The stream that the lines come from.
    """

    __slots__ = ("_most", "_stream")

    def __init__(self, max_line_bytes: int, stream: Forwarding) -> None:
        super().__init__(max_line_bytes)
        self._most = min(MAX_BYTES, max_line_bytes)
        self._stream = stream

    def feed(self, data: bytes) -> list[str]:
        """Sends one line of a known kind on; returns all else as lines."""
        stream = self._stream
        station = stream.station
        prefix, _, rest = data.partition(b"=")
        found = station.shortcuts.get(prefix)
        if found is None or self._rest is not None or len(data) > self._most:
            return super().feed(data)
        router = stream.router
        match = found.matches(rest)
        if (
            match is None
            or station.generation != router.generation
            or stream.ticket != IDLE
            or stream._inbox.units
        ):
            return super().feed(data)
        target = found.target
        if found.has_serial:
            serial = str(match[1], "utf-8", "surrogateescape")
            if found.answers_only:
                if serial not in target.asked and not target.has_asked(serial):
                    return super().feed(data)
            else:
                station.note_asked(serial)
        line = found.begin + rest
        if not target.deliver(line):
            return super().feed(data)  # the peer has its turn, and waits in it
        target.received += 1
        station.forwarded += 1
        stream._in_units += 1
        if router.on_seen is not None:
            router.on_seen(station, target, line)
        return []
