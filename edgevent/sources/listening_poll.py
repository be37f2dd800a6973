"""One look at the kernel's socket tables for all who want to know who listens."""

from __future__ import annotations

import logging
import os
import random
import socket
import stat
from collections.abc import Callable
from time import thread_time
from typing import Final, NamedTuple, Protocol

from ..address import Address
from ..errors import AddressError
from ..runtime.clock import Alarm, Clock
from ..runtime.guards import REGISTRY
from ..runtime.turns import Turns
from .sock_diag import SocketDiag, UnixListener
from .socket_files import SocketFiles

logger = logging.getLogger("edgevent")

_SHARE: Final = 10
"""The looks take at most one part in so many of the processor: files are long on a busy machine."""
_SCHEMES: Final = ("tcp", "tls", "unix", "tls+unix", "unixseq")


class Place(NamedTuple):
    """Where somebody may listen.

    Attributes:
        family: ``AF_INET``, ``AF_INET6`` or ``AF_UNIX``.
        name: The address, packed, or the path; an abstract one begins with NUL.
        port: Of TCP.
        scope: The name of the interface that a link-local address is of.
        kind: ``SOCK_STREAM`` or ``SOCK_SEQPACKET``.
    """

    family: int
    name: bytes
    port: int = 0
    scope: str = ""
    kind: int = socket.SOCK_STREAM


def places_of(address: Address) -> tuple[Place, ...]:
    """The places that an address stands for: two for ``localhost``.

    Raises:
        AddressError: Nobody can be seen to listen there.
    """
    if address.scheme not in _SCHEMES:
        raise AddressError(f"{str(address)!r}: an address of {', '.join(_SCHEMES)} was expected")
    if address.is_unix:
        if address.path_too_long:
            raise AddressError(f"{str(address)!r}: a path of at most 107 bytes was expected")
        name = os.fsencode(address.path)
        kind = socket.SOCK_SEQPACKET if address.scheme == "unixseq" else socket.SOCK_STREAM
        name = b"\0" + name[1:] if address.is_abstract else name
        return (Place(socket.AF_UNIX, name, kind=kind),)
    if address.port == 0:
        raise AddressError(f"{str(address)!r}: a port was expected")
    hosts = ("127.0.0.1", "::1") if address.host == "localhost" else (address.host or "0.0.0.0",)
    return tuple(_place_of(host, address) for host in hosts)


def _place_of(host: str, address: Address) -> Place:
    number, _, scope = host.partition("%")
    family = socket.AF_INET6 if ":" in number else socket.AF_INET
    try:
        packed = socket.inet_pton(family, number)
    except OSError:
        raise AddressError(
            f"{str(address)!r}: a numeric address of this machine, or localhost, was expected"
        ) from None
    if packed[:12] == bytes(10) + b"\xff\xff":  # the kernel connects it over IPv4
        family, packed = socket.AF_INET, packed[12:]
    return Place(family, packed, address.port, scope)


class Looker(Protocol):
    """Who wants to know."""

    @property
    def places(self) -> tuple[Place, ...]:
        """Any of these."""

    @property
    def interval(self) -> float:
        """Seconds between two looks, at most."""

    def looked(self, is_listening: bool, wave: list[Callable[[float], None]], /) -> None:
        """Called in the hub with what was seen; it must not block or raise.

        What is added to ``wave`` is called when all were told, with its share of the time over
        which those who were told at one look should spread what they do: from 0.0 to below 1.0.
        """


class ListeningPoll:
    """The looks of one hub, by one clock: they go on while somebody wants to know."""

    _all: Final[dict[tuple[int, int], ListeningPoll]] = {}

    def __init__(self, turns: Turns, clock: Clock) -> None:
        self._turns = turns
        self._clock = clock
        self._lookers: dict[Looker, None] = {}
        self._fresh: dict[Looker, None] = {}
        self._tables: SocketDiag | SocketFiles | None = None
        self._alarm: Alarm | None = None
        self._interval = 0.0
        self._cost = 0.0
        self._said = False

    @classmethod
    def of(cls, turns: Turns, clock: Clock) -> ListeningPoll:
        """The poll of this hub and clock."""
        found = cls._all.get((id(turns), id(clock)))
        return cls(turns, clock) if found is None else found

    def __contains__(self, looker: Looker) -> bool:
        return looker in self._lookers

    def add(self, looker: Looker) -> None:
        """Tells somebody what is seen, the first time at once (from the hub), then at each look."""
        if not self._lookers:
            self._all[id(self._turns), id(self._clock)] = self
            REGISTRY.descriptors.add(self)
        if not self._fresh:
            self._turns.loop.run_callback(self._look_first)
        self._lookers[looker] = self._fresh[looker] = None
        self._arm()

    def remove(self, looker: Looker) -> None:
        """Tells no more. Without anybody there is neither a timer nor a descriptor. Idempotent."""
        self._fresh.pop(looker, None)
        if looker in self._lookers:
            del self._lookers[looker]
            if not self._lookers:
                self._end()

    def abandon(self) -> None:
        """Lets go of it in a forked child."""
        self._lookers.clear()
        self._fresh.clear()
        self._end()

    def _end(self) -> None:
        if self._all.get((id(self._turns), id(self._clock))) is self:
            del self._all[id(self._turns), id(self._clock)]
        REGISTRY.descriptors.discard(self)
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None
        self._close_tables()

    def _close_tables(self) -> None:
        tables, self._tables = self._tables, None
        if tables is not None:
            tables.close()

    # --- time -------------------------------------------------------------------------------------

    def _arm(self) -> None:
        interval = min(looker.interval for looker in self._lookers)
        interval = max(interval, _SHARE * self._cost)
        if self._alarm is None or interval < self._interval:
            if self._alarm is not None:
                self._alarm.stop()
            self._alarm = self._clock.call_later(interval, self._look_again)
        self._interval = interval

    def _look_first(self) -> None:
        fresh, self._fresh = self._fresh, {}
        self._look(tuple(fresh))

    def _look_again(self) -> None:
        self._alarm = None
        self._look(tuple(self._lookers))
        if self._lookers:
            self._arm()

    def _look(self, lookers: tuple[Looker, ...]) -> None:
        if self._turns.forked or not any(looker in self._lookers for looker in lookers):
            return
        wave: list[Callable[[float], None]] = []
        began = thread_time()
        try:
            try:
                seen = self._see({place for looker in lookers for place in looker.places})
                self._cost = thread_time() - began
            except OSError as error:
                self._failed(error)
                return
            for looker in lookers:
                if looker in self._lookers:  # else one before it has removed it
                    looker.looked(any(seen[place] for place in looker.places), wave)
            chance = random.random()
            for number, call in enumerate(wave):
                call((number + chance) / len(wave))
        except BaseException as error:
            self._turns.failed(error)

    def _failed(self, error: OSError) -> None:
        """What was known stays; the next look begins with a new socket."""
        self._close_tables()
        if not self._said:
            self._said = True
            logger.warning("the kernel's socket tables cannot be read: %s", error)

    # --- the tables -------------------------------------------------------------------------------

    def _see(self, places: set[Place]) -> dict[Place, bool]:
        tables = self._tables or open_tables()
        self._tables = tables
        unix: list[UnixListener] | None = None
        seen = {}
        for place in places:
            if place.family == socket.AF_UNIX:
                if unix is None:
                    unix = tables.unix_listeners()
                seen[place] = listens_on(place, unix)
            else:
                seen[place] = _tcp_listens(tables, place)
        if not tables.is_exact:
            tables.close()  # they are read anew at the next look
        return seen


def open_tables() -> SocketDiag | SocketFiles:
    """Opens the tables by the cheapest way that is allowed."""
    try:
        return SocketDiag()
    except OSError as error:
        logger.debug("netlink is refused (%s): /proc/net is read", error)
        return SocketFiles()


def _tcp_listens(tables: SocketDiag | SocketFiles, place: Place) -> bool:
    interface = 0
    if place.scope:
        try:
            interface = socket.if_nametoindex(place.scope)
        except OSError:
            return False  # there is no such interface now
    return tables.tcp_listens(place.family, place.name, place.port, interface)


def listens_on(place: Place, listeners: list[UnixListener]) -> bool:
    """Whether one of the Unix sockets is bound to this path or abstract name.

    A path is compared by its file, as a service may have bound it by another path, or have been
    replaced by another one at that path.
    """
    kind, name = place.kind, place.name
    listeners = [one for one in listeners if one.kind == kind]
    if name.startswith(b"\0"):
        return any(one.name == name for one in listeners)
    try:
        found = os.stat(name)
    except OSError:
        return False
    if not stat.S_ISSOCK(found.st_mode):
        return False
    # As the kernel counts: dev_t of linux/kdev_t.h, and an inode's low half.
    file = found.st_ino & 0xFFFFFFFF, os.major(found.st_dev) << 20 | os.minor(found.st_dev)
    names = (name, os.path.abspath(name))
    for one in listeners:
        if (one.inode, one.device) == file:
            return True
        # On some file systems (overlayfs) the numbers that stat gives are not those of the inode.
        if one.name in names and one.device != file[1]:
            return True
    return False
