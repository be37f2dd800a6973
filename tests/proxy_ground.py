"""What the tests of and by the fault proxy share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from network_ground import PATIENCE, Ground, MovedClock, echo
from tls_ground import client_options, server_options

from edgevent import (
    Address,
    Client,
    Message,
    PermanentConnection,
    Server,
)
from edgevent.testing.clock import settle
from edgevent.testing.exchange import Pull
from edgevent.testing.proxy import FaultProxy
from edgevent.transport.base import StreamTransport
from edgevent.transport.dial import dial
from edgevent.transport.listen import listen

Pair = tuple[StreamTransport, StreamTransport]

KINDS = ["tcp", "unix", "tls", "tls+unix"]

RECORD_HEADER = 5  # RFC 8446, 5.1: type, version, length

_names = itertools.count()


def place(kind: str, folder: Path) -> str:
    """An address to listen at."""
    if kind == "tcp":
        return "tcp://127.0.0.1:0"
    return f"{kind}:{folder}/s{next(_names)}"


class Between:
    """Makes connected pairs with a proxy between the two sides."""

    def __init__(self, server: str, proxy: str, **settings: object) -> None:
        self.listener = listen(Address.parse(server))[0]
        self.proxy = FaultProxy(self.listener.local, proxy, **settings)

    def __call__(self) -> Pair:
        client = dial(Address.parse(self.proxy.address))
        self.proxy.wait_for_connection()
        return client, self.listener.accept()

    def close(self) -> None:
        self.proxy.close()
        self.listener.close()


class Line:
    """A client and a server, connected through a proxy on the clock that the test moves."""

    def __init__(self, between: Between) -> None:
        self.proxy = between.proxy
        self.client = dial(Address.parse(self.proxy.address))
        self.connection = self.proxy.wait_for_connection()
        self.server = between.listener.accept()
        self.at_client = Pull(self.client)
        self.at_server = Pull(self.server)

    def close(self) -> None:
        self.client.close()
        self.server.close()


class Net:
    """A service, clients of it, and the proxy between them; all on the clock of the test."""

    def __init__(
        self, ground: Ground, kind: str, folder: Path, make: Callable[..., FaultProxy]
    ) -> None:
        self.ground = ground
        self.clock: Any = ground.communicator.clock
        self.is_tls = kind.startswith("tls")
        self._kind = kind
        self._folder = folder
        self._make = make
        self.server: Server
        self.proxy: FaultProxy
        self.tls: dict[str, Any] = {"tls": client_options()} if self.is_tls else {}

    def _place(self, name: str) -> str:
        if self._kind.endswith("unix"):
            return f"{self._kind}:{self._folder}/{name}"
        return f"{self._kind}://127.0.0.1:0"

    def serve(self, handler: Any = None, **settings: Any) -> None:
        if self.is_tls:
            settings["tls"] = server_options()
        handler = echo() if handler is None else handler
        self.server = self.ground.serve(handler, self._place("s"), **settings)
        self.proxy = self._make(self.server.addresses[0], self._place("p"), clock=self.clock)

    def client(self, **settings: Any) -> Client:
        return Client(self.proxy.address, clock=self.clock, **self.tls, **settings)

    def link(self, **settings: Any) -> PermanentConnection:
        link = PermanentConnection(self.proxy.address, pauses="1", **self.tls, **settings)
        return self.ground.communicator.add_connection(link)


def ask(client: Any, text: str, timeout: float = 10.0) -> None:
    """Shows that a request is answered."""
    message = Message("ECHO", {"text": text})
    assert client.request(message, timeout=timeout)["text"] == text


class Asking:
    """A request in a greenlet of its own."""

    def __init__(self, client: Any, text: str = "text", timeout: float = 10.0) -> None:
        message = Message("ECHO", {"text": text})
        self._greenlet = gevent.spawn(self._ask, client, message, timeout)

    @staticmethod
    def _ask(client: Any, message: Message, timeout: float) -> object:
        try:
            return client.request(message, timeout=timeout)
        except Exception as error:
            return error

    @property
    def waits(self) -> bool:
        return not self._greenlet.ready()

    def end(self) -> object:
        """What it has returned or raised."""
        return self._greenlet.get(timeout=PATIENCE)


class Talking:
    """A client in a greenlet of its own that connects, asks, and closes."""

    def __init__(self, net: Net) -> None:
        self._greenlet = gevent.spawn(self._talk, net)

    @staticmethod
    def _talk(net: Net) -> object:
        try:
            with net.client() as client:
                return client.request(Message("ECHO", {"text": "text"}))
        except Exception as error:
            return error

    @property
    def waits(self) -> bool:
        return not self._greenlet.ready()

    def end(self) -> object:
        """The answer, or what was raised."""
        return self._greenlet.get(timeout=PATIENCE)


def come_back(link: PermanentConnection, clock: MovedClock) -> None:
    """Moves the clock until the link is up: for no longer than its pause and its attempts take.

    There may be two attempts. Where nobody listens, a SYN that meets a connection in TIME-WAIT is
    answered with an ACK in place of a reset (Linux): it has no answer before its limit.
    """
    settle()
    for _ in range(24):
        if link.is_connected:
            break
        clock.advance(0.5)
    assert link.is_connected
    link.wait_until_up(PATIENCE)
