"""What the tests of turns and communicators share: lines from a socket that the test holds."""

from __future__ import annotations

import _socket
import logging
import socket
from collections.abc import Callable
from typing import Any

from edgevent import Communicator, LineConnection
from edgevent.transport.stream import SocketTransport

PATIENCE = 20.0
"""How many seconds a test waits for what must come, on a machine that is busy otherwise."""


class Lines(LineConnection):
    """A line connection that keeps what it is given; the test holds the far end.

    Args:
        handle: Called with the connection and each line, in place of nothing.
    """

    def __init__(
        self, handle: Callable[[Lines, bytes], object] | None = None, **settings: Any
    ) -> None:
        near, self.far = socket.socketpair()
        near.setblocking(False)
        self.descriptor = near.detach()
        raw = _socket.socket(near.family, near.type, near.proto, self.descriptor)
        super().__init__(SocketTransport(raw), **settings)
        self.handle = handle
        self.lines: list[bytes] = []

    def process_line(self, line: bytes) -> None:
        self.lines.append(line)
        if self.handle is not None:
            self.handle(self, line)

    def feed(self, *lines: bytes) -> None:
        """Sends lines from the far end, in one piece."""
        self.far.sendall(b"".join(line + b"\n" for line in lines))


class Log(logging.Handler):
    """Keeps the records of the logger ``edgevent``, without the cost of formatting tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def lines(self, containing: str = "", level: int | None = None) -> list[str]:
        """The texts of the records at this level that contain something."""
        texts = [one.getMessage() for one in self.records if level in (None, one.levelno)]
        return [text for text in texts if containing in text]

    def clear(self) -> None:
        self.records.clear()


MakeLines = Callable[..., Lines]


def make_lines_in(communicator: Communicator, made: list[Lines]) -> MakeLines:
    """Gives a function that adds such connections to a communicator."""

    def make(handle: Callable[[Lines, bytes], object] | None = None, **settings: Any) -> Lines:
        lines = Lines(handle, **settings)
        made.append(lines)
        return communicator.add_connection(lines)

    return make
