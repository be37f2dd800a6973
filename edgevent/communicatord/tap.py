"""Taps on the router: whoever may and asks for it is shown what passes, and never slows it.

A peer says ``TRACE_ON``, with the parameters ``globs`` (separated by commas; see
:class:`~edgevent.communicatord.tracing.TraceFilter`) and ``values`` (``false`` for the names of
parameters alone), and is answered ``TRACING``. From then on it is sent, in the order in which the
messages have passed::

    TRACED from=snap:till;line="snap:stock/TAKE item=pen";time=1790000000.123456;to=snap:stock
    TRACE_MISSED count=17

``line`` is what was delivered, with ``***`` for its secrets; of one longer than 16,000 characters
it is the begin, and ``size`` is its length in bytes. ``held=true`` says that the message waits for
its service, ``lost`` why it was not delivered. What the peer itself sends to the daemon, and what
the daemon says of its own accord, is not shown. ``TRACE_OFF`` ends it, and is answered
``TRACE_ENDED`` with the counts ``shown`` and ``missed``; so does the end of the connection.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ..durations import format_timespec
from ..message import Message
from .relay import RelayedStream
from .reports import OWN_SERVICE
from .station import Station
from .tracing import TraceFilter, head_bytes, named, read_head, shown_text

logger = logging.getLogger("edgevent.communicatord")

MAX_QUEUED_BYTES: Final = 1024 * 1024
"""The most bytes that wait for one tap; what passes while there are more of them, it misses."""
MAX_SHOWN: Final = 16_000
"""Of a longer line so many characters are shown."""

_LOOK: Final = 8  # so many lines are written between two looks at the clock
_OUTBOX_BYTES: Final = 256 * 1024  # what waits in the connection besides
_OVERHEAD: Final = 256  # bytes that a piece takes in the queue, besides its text
_MAX_WAYS: Final = 1_024

_Way = tuple[str, str] | None


class _Piece(NamedTuple):
    """Lines of one sender that have passed at once, to one target."""

    ns: int
    source: str
    target: Station | None
    lines: bytes
    lost: str = ""


_NOTHING: Final = _Piece(0, "", None, b"")


def _label(source: Station) -> str:
    return named(source.server, source.service) if source.service else source.label


class Tap:
    """What one peer is shown.

    Args:
        peer: The connection to it.
        server: The name of this computer.
        chosen: What it wants to see.
        values: Whether it wants to see the values of parameters.
        wake: Called when something waits to be shown.

    Attributes:
        shown: How many messages it was sent.
        missed: How many it was not sent, because it did not read soon enough.
        gap: How many it will miss after all that waits for it.
        size: How many bytes wait for it.
    """

    def __init__(
        self,
        peer: RelayedStream,
        server: str,
        chosen: TraceFilter,
        values: bool,
        wake: Callable[[], object],
    ) -> None:
        self.peer = peer
        self.shown = self.missed = self.size = 0
        self._server = server
        self._chosen = chosen
        self._values = values
        self._station = peer.station
        self._wake = wake
        self._last: tuple[Station | None, Station | None, bytes, bool] = (None, None, b"", False)
        self._queue: deque[_Piece | int] = deque()  # a number says how many are missing there
        self._lines: Iterator[bytes] = iter(())  # what is left of the piece that is being shown
        self._piece = _NOTHING
        self.gap = 0
        self._ways: dict[tuple[str, Station | None, bytes], _Way] = {}

    # --- on the way of the messages ---------------------------------------------------------------

    def take(self, source: Station, target: Station | None, lines: bytes, lost: str = "") -> None:
        """Takes lines, newlines included, as long as there is room for them. Never switches."""
        if source is self._station:
            return
        is_full = self.size >= MAX_QUEUED_BYTES
        if is_full and not self._chosen:
            self.gap += lines.count(b"\n")
            return
        if self._chosen:
            lines = self._choose(source, target, lines)
            if is_full or not lines:
                self.gap += lines.count(b"\n")
                return
        if self.gap:
            self._close_gap()
        self._queue.append(_Piece(time.time_ns(), _label(source), target, lines, lost))
        self.size += len(lines) + _OVERHEAD
        self._wake()

    def _choose(self, source: Station, target: Station | None, lines: bytes) -> bytes:
        last_source, last_target, begin, is_chosen = self._last
        if source is not last_source or target is not last_target or not lines.startswith(begin):
            begin = head_bytes(lines) + b" "
            is_chosen = self._way(_label(source), target, begin) is not None
            self._last = source, target, begin, is_chosen
        if lines.count(b"\n" + begin) == lines.count(b"\n") - 1 and b"\n" not in begin:
            return lines if is_chosen else b""  # as in most cases, all begin in the same way
        label = _label(source)
        return b"".join(
            [
                line + b"\n"
                for line in lines[:-1].split(b"\n")
                if self._way(label, target, line) is not None
            ]
        )

    def _way(self, label: str, target: Station | None, line: bytes) -> _Way:
        """From whom to whom; ``None`` when it is not to be shown."""
        head = head_bytes(line)
        key = (label, target, head)
        try:
            return self._ways[key]
        except KeyError:
            pass
        found = read_head(head)
        # Of who has a name the daemon itself has written it there.
        sender = found.sender if found.from_server else label
        receiver = self._name(target, found.server, found.service)
        way = (sender, receiver) if self._chosen.matches(sender, receiver, found.command) else None
        if len(self._ways) >= _MAX_WAYS:
            self._ways.clear()
        self._ways[key] = way
        return way

    def _name(self, target: Station | None, server: str, service: str) -> str:
        if target is None:
            here = service if service not in ("", ".", "?", "*") else OWN_SERVICE
            return named(self._server, here)
        if target.service:
            return named(target.server or self._server, target.service)
        return named(server if server not in ("", ".", "?", "*") else target.server, service or "*")

    def forget_ways(self) -> None:
        """Forgets what heads of lines have led to: somebody has come or gone."""
        self._ways.clear()
        self._last = None, None, b"", False

    def _close_gap(self) -> None:
        self.missed += self.gap
        self._queue.append(self.gap)
        self.gap = 0

    # --- at its own pace --------------------------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """Whether something waits to be shown."""
        return bool(self._queue or self.gap or self.size)

    @property
    def has_ended(self) -> bool:
        """Whether the peer is gone."""
        return not self.peer.is_connected

    @property
    def has_room(self) -> bool:
        """Whether the peer can be sent something."""
        return self.peer.has_room() and self.peer.queued_bytes[1] < _OUTBOX_BYTES

    def show(self, end: float) -> None:
        """Sends some of what waits, until a moment of the monotonic clock. Never switches."""
        out: list[bytes] = []
        for count in itertools.count(1):
            line = self._next()
            if line is None:
                break
            out.append(line)
            if count % _LOOK == 0 and time.monotonic() >= end:
                break
        if out and not self.peer.deliver(b"".join(out)):
            logger.debug("%s: a trace was not delivered", self.peer.name)  # its end follows

    def drop(self) -> None:
        """Counts what still waits as missed."""
        self.missed += self.gap + sum(1 for _ in self._lines)
        for piece in self._queue:
            self.missed += 0 if isinstance(piece, int) else piece.lines.count(b"\n")
        self._queue.clear()
        self.gap = self.size = 0
        self._piece = _NOTHING

    def _next(self) -> bytes | None:
        line = next(self._lines, None)
        if line is not None:
            return self._show_line(line)
        if self._piece is not _NOTHING:
            self.size -= len(self._piece.lines) + _OVERHEAD
        self._piece = _NOTHING
        if not self._queue and self.gap:
            self._close_gap()
        if not self._queue:
            return None
        piece = self._queue.popleft()
        if isinstance(piece, int):
            return self._say("TRACE_MISSED", {"count": str(piece)})
        self._piece = piece
        self._lines = iter(piece.lines[:-1].split(b"\n"))
        return self._next()

    def _show_line(self, line: bytes) -> bytes:
        piece = self._piece
        way = self._way(piece.source, piece.target, line)
        sender, receiver = way or (piece.source, "")  # chosen, but a name has changed meanwhile
        self.shown += 1
        text = shown_text(line, self._values)
        fields = {
            "from": sender,
            "line": text[:MAX_SHOWN],
            "time": format_timespec(piece.ns),
            "to": receiver,
        }
        if len(text) > MAX_SHOWN:
            fields["size"] = str(len(line))
        if piece.lost:
            fields["lost"] = piece.lost
        elif piece.target is None and not receiver.endswith(f":{OWN_SERVICE}"):
            fields["held"] = "true"
        return self._say("TRACED", fields)

    def _say(self, command: str, fields: dict[str, str]) -> bytes:
        return Message(command, fields).with_sender(self._server, OWN_SERVICE).to_line()
