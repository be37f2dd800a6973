"""All senders that are connected, and whether they are to send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .collected import Source
    from .collector import Collector


class PausedStream(Protocol):
    """A sender that is connected."""

    source: Source
    is_paused: bool

    def pause(self, is_paused: bool, /) -> None:
        """Tells it to send nothing, or to go on."""


class Streams:
    """The connections of a daemon.

    Attributes:
        collector: What takes their records; ``None`` before the start.
        may_pass_by: Whether records may be taken without a look at who may send what.
        is_paused: Whether all are to send nothing, because somebody said so.
        is_full: Whether those that can wait are to send nothing, because there is no room.
    """

    def __init__(self) -> None:
        self.collector: Collector | None = None
        self.may_pass_by = False
        self.is_paused = False
        self.is_full = False
        self._all: dict[PausedStream, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, stream: PausedStream) -> None:
        """Takes a connection in, and tells it whether to send."""
        self._all[stream] = None
        if self.is_paused:
            stream.pause(True)

    def remove(self, stream: PausedStream) -> None:
        """Forgets a connection."""
        self._all.pop(stream, None)

    def pause(self, is_paused: bool) -> int:
        """Tells all to send nothing, or to go on; returns how many there are."""
        self.is_paused = is_paused
        self.tell()
        return len(self._all)

    def set_full(self, is_full: bool) -> None:
        """Tells those that keep records meanwhile, while there is no room for them here."""
        if is_full != self.is_full:
            self.is_full = is_full
            self.tell()

    def look_at(self, stream: PausedStream) -> None:
        """Tells one that has come while there is no room, and is now known to be able to wait."""
        if self.is_full and stream.source.can_wait and not stream.is_paused:
            stream.pause(True)

    def tell(self) -> None:
        """Tells each whether to send, where that has changed."""
        for stream in list(self._all):
            stream.pause(self.is_paused or (self.is_full and stream.source.can_wait))
