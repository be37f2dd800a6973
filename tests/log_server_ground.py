"""A log server of the test's own, and loggers that send to it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any

import gevent
from network_ground import Ground, until

from edgevent import DatagramServer, Dispatcher, Message, Server
from edgevent.snaplogger.network_handler import NetworkLogHandler

_names = itertools.count()


class LogServer:
    """Takes records, and acknowledges them unless the test has it do something else.

    Attributes:
        messages: What has come, in its order.
        answer: Gives the answer to a record.
    """

    def __init__(self, ground: Ground, address: str, **settings: Any) -> None:
        self.messages: list[Message] = []
        self.answer: Any = lambda message: message.reply("LOG_ACKNOWLEDGE")
        self.peers: list[Any] = []
        self._ground = ground
        self._settings = settings
        service = self._service = Dispatcher()

        @service.on("LOG")
        def log(message: Message, peer: Any) -> Message | None:
            self.messages.append(message)
            if peer not in self.peers:
                self.peers.append(peer)
            return self.answer(message) if "acknowledge" in message else None

        self.start(address)

    def start(self, address: str) -> None:
        """Listens, or does so again."""
        kind = DatagramServer if address.startswith(("udp", "unixgram")) else Server
        made = kind(address, self._service, **self._settings)
        self._server = self._ground.communicator.add_connection(made)
        self.address = str(self._server.addresses[0])

    def stop(self) -> None:
        """Is gone, with all connections."""
        self._ground.communicator.remove_connection(self._server)
        self._server.close()
        for peer in self.peers:
            getattr(peer, "close", lambda: None)()
        self.peers.clear()

    @property
    def texts(self) -> list[str]:
        """What the records say."""
        return [message["message"] for message in self.messages]

    @property
    def serials(self) -> list[int]:
        """Their serials."""
        return [message.integer("serial") for message in self.messages]


def logger_to(*handlers: logging.Handler) -> logging.Logger:
    """A logger that nobody else knows."""
    made = logging.getLogger(f"test-{next(_names)}")
    made.propagate = False
    made.setLevel(1)
    made.handlers = list(handlers)
    return made


def until_seen(condition: Callable[[], object]) -> None:
    """Waits until a condition holds which another thread makes true: no event of the hub tells."""
    looks = gevent.get_hub().loop.timer(0.002, 0.002)
    looks.start(lambda: None)
    try:
        until(condition)
    finally:
        looks.stop()
        looks.close()


def arrive(*handlers: NetworkLogHandler) -> None:
    """Waits until nothing waits any longer; the hub goes on."""
    until_seen(lambda: not any(handler.waiting for handler in handlers))


class Kept(logging.Handler):
    """Another handler, which keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))
