"""Daemons of several computers in one process, linked over loopback."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from gevent import socket
from network_ground import Ground, until
from router_ground import Peer, service

from edgevent import Address, connect
from edgevent.communicatord.daemon import Daemon
from edgevent.communicatord.link_settings import LinkSettings
from edgevent.communicatord.neighbors import place_of


class Computer:
    """One computer: its daemon, and services that are there without a stream."""

    def __init__(self, ground: Ground, name: str, host: str = "127.0.0.5", **settings: Any) -> None:
        self.ground, self.name, self.host = ground, name, host
        self.daemon = Daemon(name)
        self.router, self.links = self.daemon.router, self.daemon.links
        self.services: dict[str, Peer] = {}
        self.heard: list[tuple[str, dict[str, str]]] = []
        self._settings = {
            "plain": Address("tcp", host, 0),
            "allow_loopback": True,
            "gossip_delay": 0.01,
            "max_gossip_pause": 0.05,
            **settings,
        }

    def start(self, *neighbors: Computer | str) -> Computer:
        """Opens its listener, and reaches for neighbors."""
        found = tuple(
            Address.parse(one if isinstance(one, str) else one.address) for one in neighbors
        )
        settings = LinkSettings(neighbors=found, **self._settings)
        self.daemon.add_links(self.ground.communicator, settings)
        return self

    @property
    def address(self) -> str:
        """Where other daemons reach it."""
        return f"tcp://{self.links.my_address}"

    def serve(self, name: str, *commands: str) -> Peer:
        """Adds a service."""
        self.services[name] = service(self.router, name, *commands)
        return self.services[name]

    def watch(self, *commands: str) -> Peer:
        """Adds a service that listens to what the daemon tells."""
        return self.serve("watcher", *commands)

    def linked(self) -> set[str]:
        """The computers that it is linked with."""
        return set(self.router.remotes)

    def cut(self, other: str) -> None:
        """Breaks the link with another computer, without a word."""
        descriptor = self.router.remotes[other].stream._transport.fileno()
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            sock.shutdown(socket.SHUT_RDWR)


def computers(ground: Ground, names: str, **settings: Any) -> list[Computer]:
    """Computers that are not started yet."""
    return [Computer(ground, name, **settings) for name in names]


def join(found: list[Computer], pairs: Iterable[tuple[int, int]]) -> None:
    """Starts computers with these links, and no others, and waits until they are up."""
    neighbors: dict[int, list[int]] = {index: [] for index in range(len(found))}
    for one, other in pairs:
        neighbors[max(one, other)].append(min(one, other))
    for index, computer in enumerate(found):
        computer._settings["learns"] = False
        computer.start(*(found[one] for one in neighbors[index]))
    expected = {one.name: set[str]() for one in found}
    for index, others in neighbors.items():
        for other in others:
            expected[found[index].name].add(found[other].name)
            expected[found[other].name].add(found[index].name)
    until(lambda: all(one.linked() == expected[one.name] for one in found))


def line(count: int) -> list[tuple[int, int]]:
    return [(one, one + 1) for one in range(count - 1)]


def ring(count: int) -> list[tuple[int, int]]:
    return [*line(count), (0, count - 1)]


def mesh(count: int) -> list[tuple[int, int]]:
    return [(one, other) for other in range(count) for one in range(other)]


class Caller:
    """Another daemon, of which the test says what it sends."""

    def __init__(self, computer: Computer) -> None:
        self._stream = connect(computer.address)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def says(self, *lines: str) -> None:
        """Sends lines."""
        self._stream.write("".join(f"{one}\n" for one in lines).encode())

    def hears(self, timeout: float = 30.0) -> str:
        """Gives the next line; an empty one at the end."""
        return self._stream.read_line(timeout=timeout).decode().rstrip("\n")


def settle(condition: Callable[[], object]) -> None:
    """Waits until something holds."""
    until(condition)


def is_greater(one: str, other: str) -> bool:
    """Whether the daemon with the first address dials the second."""
    return place_of(Address.parse(one)) > place_of(Address.parse(other))
