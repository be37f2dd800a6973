"""HTTP on gevent's own WSGI server, with the limits that it leaves out.

Each request has so many seconds to be complete and to be answered, its head so many bytes, its body
too, and there are so many connections at a time: when there are, those that ask for nothing make
room. What goes wrong is logged, not printed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final

import gevent
from gevent import socket
from gevent.pool import Pool
from gevent.pywsgi import LoggingLogAdapter, WSGIHandler, WSGIServer

from ..address import Address
from ..errors import ListenError
from ..limits import LOG_INTERVAL
from ..transport.fifo_listen import FifoListener
from ..transport.listen import Listener, listen

logger = logging.getLogger("edgevent.fluidsettings.http")

MAX_CONNECTIONS: Final = 128
MAX_HEAD_BYTES: Final = 32 * 1024
PATIENCE: Final = 10.0
"""How long a request may take to come, a piece of an answer to leave, and a browser to ask again,
in seconds."""
UNLIMITED: Final = "edgevent.unlimited"
"""The key of the WSGI environment for a function that lifts the limit: for streams of events."""

Environment = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
Application = Callable[[Environment, StartResponse], Iterable[bytes]]


class _Head:
    """The lines of a request's head, so many bytes of them."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = MAX_HEAD_BYTES

    def readline(self, size: int = -1) -> bytes:
        """Reads a line; raises ``ValueError`` when there are too many."""
        line: bytes = self._file.readline(self._left + 1 if size < 0 else size)
        self._left -= len(line)
        if self._left < 0:
            raise ValueError(f"a head of more than {MAX_HEAD_BYTES} bytes")
        return line


class _Refusals:
    """Logs that requests were refused: the first one, then once a minute how many there were."""

    def __init__(self) -> None:
        self._count = 0
        self._told = -LOG_INTERVAL

    def tell(self, error: Exception) -> None:
        """Takes note of one."""
        self._count += 1
        now = monotonic()
        if now >= self._told + LOG_INTERVAL:
            self._told = now
            count = "1 request was" if self._count == 1 else f"{self._count} requests were"
            logger.info("%s refused, the last one: %.200s", count, error)
            self._count = 0


class _Crowd(Pool):  # type: ignore[misc, unused-ignore]
    """The connections.

    Attributes:
        idle: The sockets of those that have not asked, or not again, the longest first.
    """

    def __init__(self) -> None:
        super().__init__(MAX_CONNECTIONS)
        self.idle: dict[Any, None] = {}

    def full(self) -> bool:
        """Whether no more can be accepted, which the server asks before it does that.

        Then the one that has been idle for longest is cut, as a browser expects it: the place that
        it leaves is for who comes next.
        """
        found: bool = super().full()
        if found and self.idle:
            sock = next(iter(self.idle))
            del self.idle[sock]
            _cut(sock)
        return found


class _Server(WSGIServer):  # type: ignore[misc, unused-ignore]
    """Those of one listener."""

    def __init__(self, sock: Any, application: Any, crowd: _Crowd, **settings: Any) -> None:
        super().__init__(sock, application, spawn=crowd, **settings)
        self.crowd = crowd
        self.refusals = _Refusals()


class Handler(WSGIHandler):  # type: ignore[misc, unused-ignore]
    """One connection of a browser."""

    server: _Server
    _alarm: Any = None

    def handle(self) -> None:
        """Serves request after request."""
        self.socket.settimeout(PATIENCE)
        self._alarm = gevent.get_hub().loop.timer(PATIENCE)
        sock = self.socket
        try:
            self._alarm.start(_cut, sock)
            super().handle()
        except OSError as error:
            logger.debug("%s: %s", self.client_address, error)
        finally:
            self._alarm.close()
            sock.close()

    def read_requestline(self) -> str:
        """Waits for the next request, whose time begins."""
        sock, idle = self.socket, self.server.crowd.idle
        self._alarm.start(_cut, sock)
        idle[sock] = None
        try:
            line: str = super().read_requestline()
        finally:
            idle.pop(sock, None)
        return line

    def MessageClass(self, file: Any, *rest: Any) -> Any:
        """Reads the head."""
        head: Any = _Head(file)
        return super().MessageClass(head, *rest)

    def get_environ(self) -> Environment:
        """Makes the environment of a request."""
        found: Environment = super().get_environ()
        found[UNLIMITED] = self._alarm.stop
        return found

    def _log_error(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, OSError):
            logger.debug("%s: %s", self.client_address, error)
        else:
            logger.error("a request failed", exc_info=(kind, error, traceback))

    def _handle_client_error(self, error: Exception) -> tuple[str, bytes]:
        self.server.refusals.tell(error)
        body = b"400 Bad Request\n"
        head = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        return "400", head % len(body) + body


def _cut(sock: Any) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        logger.debug("a connection had ended already: %s", error)


class HttpServer:
    """Serves an application at an address, which it listens to from the start on.

    Args:
        address: ``tcp://`` or ``unix:``; port 0 is a free one.
        application: Answers the requests; each in a greenlet of its connection.
        allow_remote: Whether an address of TCP may be another one than this computer's own.

    Raises:
        ListenError: It cannot listen there.

    Attributes:
        addresses: Where it listens.
    """

    def __init__(
        self, address: Address, application: Application, *, allow_remote: bool = False
    ) -> None:
        if address.scheme not in ("tcp", "unix"):
            raise ListenError(f"{address}: tcp: or unix: was expected for the web page")
        if address.scheme == "tcp" and not (address.is_loopback or allow_remote):
            raise ListenError(
                f"{address}: the web page is for this computer, unless --http-allow-remote is given"
            )
        self._listeners: list[Listener | FifoListener] = list(
            listen(address, allow_remote=allow_remote)
        )
        self.addresses = [one.local for one in self._listeners]
        self._pool = _Crowd()
        self._servers: list[_Server] = []
        for one in self._listeners:
            # The copy is the server's, to close; the path of a Unix socket goes with the original.
            sock = socket.socket(fileno=os.dup(one.fileno()))
            server = _Server(
                sock,
                application,
                self._pool,
                log=None,
                error_log=LoggingLogAdapter(logger, logging.DEBUG),
                handler_class=Handler,
                # Else it would look its own name up.
                environ={"SERVER_NAME": "localhost", "SERVER_PORT": ""},
            )
            self._servers.append(server)

    def start(self) -> None:
        """Begins to answer."""
        for server in self._servers:
            server.start()

    def close(self) -> None:
        """Ends it, and all connections. Idempotent; may switch greenlets."""
        for server in self._servers:
            server.stop(timeout=0)
        self._pool.kill()
        for one in self._listeners:
            one.close()
