"""Prometheus metrics over HTTP, on a Unix socket as a rule."""

from __future__ import annotations

import logging
import re
from typing import Any, Final

from .address import Address
from .arguments import checks_arguments
from .communicator import Communicator
from .counters import snapshot
from .errors import NetworkError, UsageError
from .exposition import CONTENT_TYPE
from .links.raw import LineConnection
from .links.server import Server

logger = logging.getLogger("edgevent")

_MAX_LINE_BYTES: Final = 8_192
_MAX_HEADER_LINES: Final = 100
_PATIENCE: Final = 5.0
_MAX_SCRAPERS: Final = 16

# RFC 9112 section 3: the request line. RFC 9110 section 5.6.2: a method is a token.
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.[0-9]")
_REASONS: Final = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}


@checks_arguments
class MetricsListener(Server):
    """Answers ``GET /metrics`` with what a communicator has counted, as Prometheus reads it.

    HTTP/1.0, one request a connection; at most 16 scrapers at a time, and each has 5 s to ask.
    What it does is not counted itself. It does not keep ``run`` going.

    Args:
        address: ``unix:/path`` as a rule: nobody but this user gets in, unless ``mode``, ``group``,
            ``allow_users`` or ``allow_groups`` say so. Over TCP everybody who can connect reads it.
        communicator: Whose counters; by default those of the one that it is added to.
        settings: What else :class:`~edgevent.Server` takes.

    Raises:
        ListenError: It cannot listen there.
        UsageError: A handler or a dispatcher was given, which it has itself.

    Example:
        >>> communicator = Communicator(count_handlers=True)
        >>> listener = communicator.add_connection(MetricsListener("unix:@metrics"))
        >>> communicator.close()
    """

    __slots__ = ("_counted",)

    is_counted = False

    def __init__(
        self,
        address: str | Address,
        communicator: Communicator | None = None,
        *,
        keep_running: bool = False,
        **settings: Any,
    ) -> None:
        for name in ("handler", "dispatcher"):
            if name in settings:
                raise UsageError(f"{name}= was given: a MetricsListener has its own")
        self._counted = communicator
        chosen: dict[str, Any] = {
            "max_connections": _MAX_SCRAPERS,
            "max_line_bytes": _MAX_LINE_BYTES,
            "must_introduce": True,
            "introduction_timeout": _PATIENCE,
            **settings,
        }
        super().__init__(address, _Scraper, keep_running=keep_running, **chosen)

    def process_accept(self, connection: Any) -> None:
        """Called in a turn with each scraper."""
        connection.counted = self._counted or self.communicator
        connection.timeout_delay = self.introduction_timeout


class _Scraper(LineConnection):
    """One request, and its answer."""

    __slots__ = ("_left", "_request", "counted")

    is_counted = False

    def __init__(self, transport: Any, **settings: Any) -> None:
        super().__init__(transport, **settings)
        self.counted: Communicator | None = None
        self._request: bytes | None = None
        self._left = _MAX_HEADER_LINES

    def process_line(self, line: bytes) -> None:
        """Takes the request line, then the header lines, and answers behind the empty one."""
        line = line.removesuffix(b"\r")
        if self._request is None:
            self._request = line
            if _REQUEST_LINE.fullmatch(line) is None:
                self._answer(400, "a request line of HTTP/1 was expected\n")
            return
        self._left -= 1
        if not line:
            self._answer_request(self._request)
        elif not self._left:
            self._answer(400, f"more than {_MAX_HEADER_LINES} header lines\n")

    def process_timeout(self) -> None:
        """It has not asked in time, or does not take its answer."""
        self.cut()

    def _answer_request(self, request: bytes) -> None:
        method, target, _ = request.split(b" ")
        if method not in (b"GET", b"HEAD"):
            self._answer(405, "GET or HEAD was expected\n", "Allow: GET, HEAD\r\n")
        elif target.partition(b"?")[0] not in (b"/metrics", b"/"):
            self._answer(404, "there is /metrics\n")
        else:
            assert self.counted is not None
            text = snapshot(self.counted).as_prometheus()
            self._answer(200, text, kind=CONTENT_TYPE, with_body=method == b"GET")

    def _answer(
        self,
        status: int,
        text: str,
        fields: str = "",
        *,
        kind: str = "text/plain; charset=utf-8",
        with_body: bool = True,
    ) -> None:
        body = text.encode()
        head = (
            f"HTTP/1.0 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n{fields}Connection: close\r\n\r\n"
        )
        try:
            self.write(head.encode() + (body if with_body else b""))
        except NetworkError as error:
            logger.debug("%s: left before its answer: %s", self.name, error)
        self.close()
