"""What daemons tell each other of the services that they reach, and the ways that follow from it.

Each daemon gives each neighbor the whole of what it reaches itself, over which computers, whenever
that changes (a path vector, as in BGP: RFC 4271, 9.1.2). An entry whose path holds the reader's own
name is left out, so no way leads back. ``ROUTES`` is a command of this daemon, and goes only to
those that have listed it::

    ROUTES list=b:cluckd,logger b/c:iplock b/c/d:

says that the sender ``b`` has the services ``cluckd`` and ``logger``, that ``c`` behind it has
``iplock``, and that ``d`` behind that has none. What does not fit one line is in several, of which
all but the last have ``more=true``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ..errors import MessageError
from ..message import Message
from .broadcasting import ROUTES
from .router import Router
from .station import Station
from .ways import MAX_RELAYS

logger = logging.getLogger("edgevent.communicatord")

MAX_ENTRIES: Final = 100_000
"""The most services, and computers, that one neighbor may tell of."""
_ROOM: Final = 48_000  # characters of one list: with the rest of the line it is none too long

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,254}"
_ENTRY: Final = re.compile(rf"({_NAME}(?:/{_NAME})*):((?:{_NAME}(?:,{_NAME})*)?)", re.ASCII)


class Entry(NamedTuple):
    """A computer that is reached.

    Attributes:
        path: The computers on the way, from the one that tells of it to itself.
        services: What is registered there.
    """

    path: tuple[str, ...]
    services: frozenset[str]


Table = dict[str, Entry]
"""What one daemon reaches, by the name of the computer."""


class Routes:
    """Knows what is behind the neighbors.

    Args:
        router: Who the neighbors are, and what is registered here.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._tables: dict[Station, Table] = {}
        self._begun: dict[Station, list[str]] = {}  # the lists of which the end is still to come
        self._told: dict[Station, str] = {}
        self._servers: dict[str, list[Station]] = {}
        self._services: dict[str, list[Station]] = {}
        router.ways.further = self

    # --- what the router asks ---------------------------------------------------------------------

    def to_server(self, server: str) -> Sequence[Station]:
        """The neighbors over which a computer is reached, the nearest first."""
        return self._servers.get(server, ())

    def to_service(self, service: str) -> Sequence[Station]:
        """The neighbors over which a service is reached, the nearest first."""
        return self._services.get(service, ())

    def services(self) -> list[str]:
        """The names of the services that neighbors have told of, sorted."""
        return sorted(self._services)

    # --- what the neighbors tell ------------------------------------------------------------------

    def learn(self, message: Message, station: Station) -> bool:
        """Takes what a neighbor tells; returns whether it was all of it, and the ways are new.

        Raises:
            MessageError: The list cannot be read.
        """
        parts = self._begun.pop(station, [])
        parts.append(message["list"])
        if message.boolean("more", False):
            if sum(map(len, parts)) > MAX_ENTRIES * 16:
                raise _wrong("the list is too long")
            self._begun[station] = parts
            return False
        table: Table = {}
        count = 0
        for word in " ".join(parts).split(" "):
            if not word:
                continue
            found = _ENTRY.fullmatch(word)
            if found is None:
                raise _wrong(f"{word[:64]!a}: path:services was expected")
            path = tuple(found[1].split("/"))
            services = frozenset(filter(None, found[2].split(",")))
            count += 1 + len(services)
            if count > MAX_ENTRIES:
                raise _wrong(f"more than {MAX_ENTRIES} entries")
            if path[0] != station.server or self._router.server in path or len(path) > MAX_RELAYS:
                continue
            former = table.get(path[-1])
            if former is not None and former.path == path:  # the list was cut here
                services |= former.services
            table[path[-1]] = Entry(path, services)
        own = table.get(station.server)
        station.services = frozenset() if own is None else own.services
        station.heard_of = frozenset()
        self._tables[station] = table
        self._compute()
        return True

    def forget(self, station: Station) -> None:
        """Forgets what a neighbor that has gone has told."""
        self._tables.pop(station, None)
        self._begun.pop(station, None)
        self._told.pop(station, None)
        self._compute()

    def _compute(self) -> None:
        ways: list[tuple[int, str, Entry, Station]] = []
        for station, table in self._tables.items():
            ways += ((len(one.path), station.server, one, station) for one in table.values())
        ways.sort(key=lambda way: way[:2])
        self._servers, self._services = {}, {}
        for _, _, entry, station in ways:
            self._servers.setdefault(entry.path[-1], []).append(station)
            for service in entry.services:
                self._services.setdefault(service, []).append(station)
        self._router.changed()

    # --- what they are told -----------------------------------------------------------------------

    def news_for(self, station: Station) -> list[Message]:
        """Gives what a neighbor is to be told; nothing when it has been told all that."""
        words = sorted(self._words(station))
        text = " ".join(words)
        if self._told.get(station) == text:
            return []
        self._told[station] = text
        lists = list(_joined(words))
        messages = [Message(ROUTES, {"list": one, "more": "true"}) for one in lists[:-1]]
        return [*messages, Message(ROUTES, {"list": lists[-1]})]

    def _words(self, reader: Station) -> Iterator[str]:
        router = self._router
        yield from _cut((router.server,), router.stations)
        for server, station in router.remotes.items():
            if station is not reader and server != reader.server:
                yield from _cut((router.server, server), station.services)
        for server, stations in self._servers.items():
            if server in router.remotes:
                continue
            for station in stations:
                path = self._tables[station][server].path
                if reader.server not in path and len(path) < MAX_RELAYS:
                    services = self._tables[station][server].services
                    yield from _cut((router.server, *path), services)
                    break


def _wrong(why: str) -> MessageError:
    return MessageError(f"{ROUTES}: {why}", command=ROUTES, parameter="list")


def _cut(path: Iterable[str], services: Iterable[str]) -> Iterator[str]:
    """Writes one entry, in several words when it would not fit a line."""
    head = "/".join(path) + ":"
    names: list[str] = []
    size = len(head)
    for name in sorted(services):
        if size + len(name) + 1 > _ROOM:
            yield head + ",".join(names)
            names, size = [], len(head)
        names.append(name)
        size += len(name) + 1
    yield head + ",".join(names)


def _joined(words: Iterable[str]) -> Iterator[str]:
    """Puts words together into lists that fit a line each; there is one at least."""
    parts: list[str] = []
    size = 0
    for word in words:
        if parts and size + len(word) + 1 > _ROOM:
            yield " ".join(parts)
            parts, size = [], 0
        parts.append(word)
        size += len(word) + 1
    yield " ".join(parts)
