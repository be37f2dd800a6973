"""Changes as server-sent events (HTML standard, section 9.2): the page shows them by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from gevent.event import Event

from .store import Notice, Store

MAX_STREAMS: Final = 64
"""So many pages are told at a time."""
HEARTBEAT: Final = 15.0
"""After so many seconds without a change something is sent all the same: who is gone is noticed."""

_RETRY: Final = "retry: 2000\n\n"


class Events:
    """The streams of all pages that are open.

    Each stream holds no more than the names of what has changed since it last wrote, however slow
    its reader is.

    Args:
        store: What changes.
        heartbeat: See :data:`HEARTBEAT`.

    Attributes:
        number: Of the last change; a page that has missed some asks for all of it anew.
        heartbeat: As given.
        is_closed: Whether all streams end.
    """

    def __init__(self, store: Store, *, heartbeat: float = HEARTBEAT) -> None:
        self.number = 0
        self.heartbeat = heartbeat
        self._streams: dict[Stream, None] = {}
        self.is_closed = False
        self._end = store.subscribe(self._changed)

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def is_full(self) -> bool:
        """Whether there are as many streams as there may be."""
        return len(self._streams) >= MAX_STREAMS

    def _changed(self, notice: Notice) -> None:
        self.number += 1
        for stream in self._streams:
            stream.names[notice.entry.name] = None
            stream.news.set()

    def open(self) -> Stream:
        """Gives what a page is sent."""
        stream = Stream(self)
        self._streams[stream] = None
        return stream

    def forget(self, stream: Stream) -> None:
        """Tells a stream nothing any more."""
        self._streams.pop(stream, None)

    def close(self) -> None:
        """Ends all streams. Idempotent."""
        self.is_closed = True
        self._end()
        for stream in self._streams:
            stream.news.set()


class Stream:
    """What one page is sent, as the result of a WSGI application."""

    __slots__ = ("_events", "_greeted", "names", "news")

    def __init__(self, events: Events) -> None:
        self._events = events
        self._greeted = False
        self.names: dict[str, None] = {}
        self.news = Event()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Waits for changes, and gives them; the end comes with that of the server."""
        events = self._events
        if not self._greeted:
            self._greeted = True
            return f"{_RETRY}{_event('hello', events.number, '')}".encode()
        if events.is_closed:
            raise StopIteration
        if not self.news.wait(events.heartbeat):
            return b": nothing new\n\n"
        self.news.clear()
        names, self.names = self.names, {}
        return "".join(_event("change", events.number, name) for name in names).encode()

    def close(self) -> None:
        """The page is gone; called by the server."""
        self._events.forget(self)


def _event(kind: str, number: int, name: str) -> str:
    return f"event: {kind}\ndata: {json.dumps({'number': number, 'name': name})}\n\n"
