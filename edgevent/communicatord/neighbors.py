"""The addresses of the other computers' daemons, and the file that keeps them.

The file is that of the C++ daemon: one ``ip:port`` on each line, IPv6 in brackets, ``#`` begins a
comment. An address that is reached by TLS has ``tls://`` before it.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from ..address import Address
from ..drafts import write_together
from ..errors import AddressError

logger = logging.getLogger("edgevent.communicatord")

REMOTE_PORT: Final = 4042
"""Where the plain listener for other daemons is, and
:data:`SECURE_PORT`, where the encrypted one is, when nothing else is said."""
SECURE_PORT: Final = 4043
MAX_NEIGHBORS: Final = 256
"""So many other computers are known at most, whatever daemons tell each other."""
FILE_NAME: Final = "neighbors.txt"

_NAMED: Final = b"a name, not a place: "  # longer than any address
_SEPARATORS: Final = re.compile(r"[\s,]+")
_OWN: Final = "this daemon"
_MODE: Final = 0o644
_HEAD: Final = "# The daemons that this one knows of; it writes this file itself.\n"

Place = tuple[bytes, int]
"""What daemons are told apart by and put in order: 16 bytes of address, and the port."""


def place_of(address: Address) -> Place:
    """Gives the place of a daemon. IPv4 counts as its mapped IPv6 address, as in the C++ library.

    Raises:
        AddressError: The host is not numeric.
    """
    try:
        ip = ipaddress.ip_address(address.host)
    except ValueError:
        raise AddressError(f"{address.host!r}: a numeric address was expected") from None
    if isinstance(ip, ipaddress.IPv4Address):
        return b"\x00" * 10 + b"\xff\xff" + ip.packed, address.port
    return ip.packed, address.port


def is_named(address: Address) -> bool:
    """Whether the host is a name, of which nobody knows where it leads before it is dialled."""
    try:
        place_of(address)
    except AddressError:
        return True
    return False


def key_of(address: Address) -> Place:
    """Gives what tells neighbors apart: the place, or the name as long as no place is known."""
    return (
        (_NAMED + address.host.encode(), address.port) if is_named(address) else place_of(address)
    )


def parse_neighbor(
    text: str | Address, *, allow_loopback: bool = False, allow_name: bool = False
) -> Address:
    """Reads the address of another computer's daemon.

    Args:
        text: ``ip[:port]``, or ``tls://ip[:port]``; plain ones are of private networks only.
        allow_loopback: Whether it may be on loopback, which no other computer is.
        allow_name: Whether it may have a name. Where that leads is to be checked once it is known.

    Raises:
        AddressError: It is none; the sentence says what was expected.
    """
    if isinstance(text, Address):
        address = text
    else:
        is_tls = text.startswith(("tls:", "cds:"))
        address = Address.parse(text, default_port=SECURE_PORT if is_tls else REMOTE_PORT)
    if address.scheme not in ("tcp", "tls"):
        raise AddressError(f"{address}: an address ip:port or tls://ip:port was expected")
    if allow_name and address.host and is_named(address):
        if address.is_loopback and not allow_loopback:
            raise AddressError(f"{address}: an address that other computers reach was expected")
        if address.port:
            return address
    else:
        place_of(address)
    if address.is_any or address.is_multicast or not address.port:
        raise AddressError(f"{address}: the address of one computer, with a port, was expected")
    if address.is_loopback:
        if not allow_loopback:
            raise AddressError(f"{address}: an address that other computers reach was expected")
    elif address.scheme == "tcp" and not address.is_private:
        raise AddressError(
            f"{address}: plain links are for private networks; tls://{address.endpoint} was"
            " expected"
        )
    return address


def parse_neighbors(
    text: str, *, allow_loopback: bool = False, allow_names: bool = False
) -> list[Address]:
    """Reads a list with commas or blanks between; see :func:`parse_neighbor`."""
    words = filter(None, _SEPARATORS.split(text))
    return [
        parse_neighbor(word, allow_loopback=allow_loopback, allow_name=allow_names)
        for word in words
    ]


def written(address: Address) -> str:
    """Writes an address as messages and the file have it: the scheme is there for TLS alone."""
    return str(address) if address.is_tls else address.endpoint


class Neighbors:
    """The other daemons that are known, whether they can be reached or not.

    Args:
        folder: Where the file is; ``None`` keeps nothing.
        allow_loopback: Whether they may be on loopback.

    Attributes:
        own: The address of this daemon, which is none of them.
        configured: Those that the configuration names, which is what other daemons are told.
    """

    def __init__(self, folder: Path | None = None, *, allow_loopback: bool = False) -> None:
        self.own: Address | None = None
        self.configured: list[Address] = []
        self.allow_loopback = allow_loopback
        self._path = None if folder is None else folder / FILE_NAME
        self._known: dict[Place, Address] = {}
        self._names: dict[Place, Address] = {}  # of those that a name has led to
        self._further: dict[Place, tuple[Address, Place]] = {}  # and of which they are

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Address]:
        return iter(tuple(self._known.values()))

    def __contains__(self, address: Address) -> bool:
        place = key_of(address)
        return place in self._known or place in self._further or address in self._names.values()

    def dialled_as(self, address: Address) -> Address:
        """Gives the name by which a neighbor is known, or else its address."""
        return self._names.get(key_of(address), address)

    def located_at(self, address: Address) -> Address:
        """Gives the address that a name has led to, or else what was given."""
        for place, name in self._names.items():
            if name == address:
                return self._known.get(place, address)
        return address

    def located(self, former: Address, now: Address) -> None:
        """Takes note that a neighbor, by name or address, is to be found at an address.

        Of several neighbors that turn out to be one, one is left.
        """
        place = place_of(now)
        before = self._known.pop(key_of(former), None)
        name = former if is_named(former) else self._names.pop(place_of(former), None)
        if name is not None:
            self._names[place] = name
        if before is not None and (self.own is None or place != place_of(self.own)):
            self._known[place] = now
        if before in self.configured:
            self.configured = [one for one in self.configured if one not in (before, now)]
            self.configured.append(now)
        self.save()

    def merge(self, former: Address, now: Address) -> None:
        """Takes note that a neighbor is one that is known by another address, and counts once."""
        place = place_of(now)
        found = [former, *self.further(former)]
        for address in found:
            self._further[key_of(address)] = address, place
        self._known.pop(key_of(former), None)
        self._further.pop(place, None)
        self._known[place] = now
        self.save()

    def further(self, address: Address) -> list[Address]:
        """Gives the further addresses of a neighbor."""
        place = key_of(address)
        return [further for further, of in self._further.values() if of == place]

    def goes_by(self, address: Address) -> None:
        """Takes note that a neighbor is known by this address: it is none of another one now."""
        self._further.pop(key_of(address), None)

    def add(self, addresses: Iterable[Address]) -> list[Address]:
        """Adds addresses; returns those that are new, and not this daemon's own."""
        new = []
        for address in addresses:
            place = key_of(address)
            if address in self or (self.own is not None and place == place_of(self.own)):
                continue
            if len(self._known) >= MAX_NEIGHBORS:
                logger.warning("neighbor %s: %d are known already", address, MAX_NEIGHBORS)
                continue
            self._known[place] = address
            new.append(address)
        if new:
            self.save()
        return new

    def remove(self, address: Address, *, any_port: bool = False) -> list[Address]:
        """Forgets one, or all of its host; returns those that were known."""
        host, port = place_of(address)
        gone = [one for one in self._known if one[0] == host and (any_port or one[1] == port)]
        found = [self._known.pop(one) for one in gone]
        for place, (further, of) in tuple(self._further.items()):
            if of in gone or (place[0] == host and (any_port or place[1] == port)):
                del self._further[place]
                found.append(further)
        for one in gone:
            self._names.pop(one, None)
        if found:
            self.configured = [one for one in self.configured if one not in found]
            self.save()
        return found

    # --- the file ---------------------------------------------------------------------------------

    def load(self) -> list[Address]:
        """Reads the file, and adds what is in it; a line that cannot be used is logged."""
        if self._path is None:
            return []
        try:
            text = self._path.read_text("utf-8", "replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            logger.error("%s: it cannot be read: %s", self._path, error.strerror)
            return []
        found = []
        for number, line in enumerate(text.splitlines(), 1):
            words, _, comment = line.partition("#")
            words = words.strip()
            if not words or comment.strip() == _OWN:
                continue  # its own address of then may be nobody's now
            try:
                found.append(parse_neighbor(words, allow_loopback=self.allow_loopback))
            except AddressError as error:
                logger.warning("%s:%d: left out: %s", self._path, number, error)
        return self.add(found)

    def save(self) -> None:
        """Writes the file, whole or not at all; that it cannot be written is logged."""
        if self._path is None:
            return
        own = [] if self.own is None or self.own.is_loopback else [self.own]
        # A name stands in the configuration; where it led to today may be wrong at the next start.
        by_address = (one for place, one in self._known.items() if place not in self._names)
        lines = sorted(written(one) for one in by_address if not is_named(one))
        lines += (f"{written(one)} # {_OWN}" for one in own)
        text = _HEAD + "".join(f"{line}\n" for line in lines)
        try:
            write_together({self._path: (text.encode(), _MODE)}, replace=True)
        except OSError as error:
            logger.error("%s: it cannot be written: %s", self._path, error.strerror)
