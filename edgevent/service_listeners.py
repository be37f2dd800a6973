"""The listeners of a service: made of their places, or of sockets that systemd hands over."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from .address import Address
from .communicator import Communicator
from .dispatcher import Dispatcher
from .links.datagram import DatagramServer
from .links.handler import Handler
from .links.server import Server
from .option_secrets import read_secret
from .service_places import Place, parse_listener
from .service_sets import Change, PlaceSet
from .signing import SigningKeys
from .transport.inherited import served_address

logger = logging.getLogger("edgevent.service")

AnyServer = Server | DatagramServer

_CODE: Final = "secret_code_file"


class InheritedSocket(Protocol):
    """A socket that listens already."""

    @property
    def fd(self) -> int:
        """Its descriptor."""

    @property
    def name(self) -> str:
        """The name that its unit gives it."""


class Listeners:
    """All listeners of a service.

    Args:
        communicator: Runs them.
        dispatcher: Takes the messages of them all.
        handler: What serves the peers of streams in place of the dispatcher alone.
        inherited: Sockets that were handed over: each takes the place of the listener of its name,
            or else of the same address; others are listeners by themselves.
    """

    def __init__(
        self,
        communicator: Communicator,
        dispatcher: Dispatcher,
        handler: Handler,
        inherited: Iterable[InheritedSocket],
    ) -> None:
        self._dispatcher = dispatcher
        self._handler = handler
        self._inherited: dict[str, int] = {}
        for one in inherited:  # all sockets of one .socket unit have its name
            name, number = one.name, 2
            while name in self._inherited:
                name, number = f"{one.name}#{number}", number + 1
            self._inherited[name] = one.fd
        self._claimed: set[str] = set()
        self._codes: dict[str, str] = {}
        self._next_codes: dict[str, str] = {}
        self._set: PlaceSet[Any] = PlaceSet(
            "listener",
            communicator,
            self._make,
            check=self._check,
            retire=_retire,
            one_an_address=True,
        )

    @property
    def running(self) -> Mapping[str, AnyServer]:
        """The servers by name."""
        return self._set.running

    @property
    def addresses(self) -> list[str]:
        """All addresses that are listened to."""
        return [address for server in self.running.values() for address in server.addresses]

    @property
    def has_inherited(self) -> bool:
        """Whether sockets were handed over."""
        return bool(self._inherited)

    def with_inherited(self, places: Mapping[str, Place]) -> dict[str, Place]:
        """Adds the sockets that were handed over and that no listener is named after."""
        found = dict(places)
        for name, fd in list(self._inherited.items()):
            if name in found or name in self._claimed:
                continue
            address = served_address(None, fd)
            same = [one for one, place in places.items() if _same_place(place.address, address)]
            if same and same[0] not in self._inherited:
                self._inherited[same[0]] = self._inherited.pop(name)
            elif not same:
                found[name] = parse_listener(name, str(address))
        return found

    def claim(self, name: str, address: Address | None) -> int | None:
        """Takes a socket that was handed over for a listener that is none of these.

        Args:
            name: The listener's name.
            address: Where it is to listen, if that is known: the socket may have another name then.

        Returns:
            A descriptor of the caller's own; ``None`` when there is no such socket, or when it is
            in use already.
        """
        if name not in self._inherited:
            for other, fd in self._inherited.items():
                if address is not None and _same_place(address, served_address(None, fd)):
                    name = other
                    break
            else:
                return None
        if name in self._claimed or name in self.running:
            return None
        self._claimed.add(name)
        return os.dup(self._inherited[name])

    def prepare(self, places: Mapping[str, Place]) -> Change[Any]:
        """Opens what is new; see :meth:`PlaceSet.prepare`."""
        places = self.with_inherited(places)
        codes = {name: self._read_code(place) for name, place in places.items()}
        self._next_codes = codes
        anew = frozenset(
            name for name in codes if codes[name] != self._codes.get(name, codes[name])
        )
        return self._set.prepare(places, anew)

    def commit(self, change: Change[Any]) -> None:
        """Exchanges the listeners; those that stay read their certificates and keys anew."""
        self._set.commit(change)
        # As they were read before: the files may be gone by now, and nothing is refused here.
        self._codes = {name: self._next_codes[name] for name in self._set.places}
        for name, server in self.running.items():
            if name not in change.made:
                server.reload()

    def close(self, *, hand_on: bool = False) -> None:
        """Closes what was handed over; servers are closed by their communicator.

        Args:
            hand_on: Leaves it open instead, for the program that this process becomes.
        """
        for fd in self._inherited.values():
            if hand_on:
                os.set_inheritable(fd, True)
            else:
                os.close(fd)
        self._inherited.clear()

    def _read_code(self, place: Place) -> str:
        path = place.settings.get(_CODE)
        return read_secret(path, _CODE) if path else ""

    def _check(self, name: str, place: Place) -> None:
        options = place.tls_options()
        if options is not None:
            options.context(server_side=True)
        if keys := place.settings.get("auth"):
            SigningKeys.read(keys)

    def _make(self, name: str, place: Place) -> AnyServer:
        settings: dict[str, Any] = {**place.settings, "name": name}
        if name in self._inherited and name not in self._claimed:
            settings["socket"] = os.dup(self._inherited[name])
            for one in ("mode", "group"):  # a file that does without systemd is right with it, too
                if settings.pop(one, None) is not None:
                    logger.info("listener %s: %s is as the .socket unit has it", name, one)
        try:
            if place.address.is_datagram:
                if path := settings.pop(_CODE, ""):
                    settings["secret_code"] = read_secret(path, _CODE)
                return DatagramServer(place.address, self._dispatcher, **settings)
            settings.setdefault("tls", place.tls_options())
            if self._handler is None:
                return Server(place.address, self._dispatcher, **settings)
            return Server(place.address, self._handler, dispatcher=self._dispatcher, **settings)
        except BaseException:
            if "socket" in settings:
                os.close(settings["socket"])
            raise


def _retire(former: AnyServer, new: AnyServer | None) -> None:
    """Closes a listener; its peers stay, and so do those that it has not accepted yet."""
    if isinstance(former, Server):
        former.accept_waiting()
    former.close()


def _same_place(one: Address, other: Address) -> bool:
    """Whether two addresses are of one socket, with TLS or without."""
    return (one.is_datagram, one.host, one.port, one.path) == (
        other.is_datagram,
        other.host,
        other.port,
        other.path,
    )
