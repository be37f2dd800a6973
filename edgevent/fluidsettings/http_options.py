"""The options of the web page."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Final

from ..address import Address
from ..errors import OptionError
from ..options import OptionParser
from .store import Store

if TYPE_CHECKING:
    from .web import WebPage

PORT: Final = 4050
"""The port of the page when none is said."""

# RFC 1123: a name of a host, or an address of IPv4; IPv6 stands in brackets.
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253})|\[[0-9A-Fa-f:.]{2,45}\]", re.ASCII)


def add_http_options(parser: OptionParser) -> None:
    """Adds ``--http`` and what belongs to it."""
    parser.add_address(
        "--http",
        default_port=PORT,
        listens=True,
        help="where to serve the web page, such as tcp://127.0.0.1:4050 or unix:/run/settings.http"
        " (default: nowhere)",
    )
    parser.add_secret(
        "--http-token",
        metavar="TOKEN",
        help="what those must show who change settings on the web page; without it nobody can",
    )
    parser.add(
        "--http-host",
        action="append",
        type=_host,
        metavar="NAME",
        help="a further name by which browsers know the web page; may be repeated",
    )
    parser.add(
        "--http-allow-remote",
        action="store_true",
        help="serve the web page, in plain text, to other computers as well",
    )


def page_from_options(store: Store, options: argparse.Namespace) -> WebPage | None:
    """Opens the page that :func:`add_http_options` asks for; ``None`` when it does not.

    Raises:
        ListenError: It cannot listen there.
    """
    address: Address | None = options.http
    if address is None:
        return None
    from .web import WebPage  # and gevent's WSGI server, which few daemons need

    page = WebPage(
        store,
        address,
        token=options.http_token or "",
        hosts=options.http_host or (),
        allow_remote=options.http_allow_remote,
    )
    page.start()
    return page


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise OptionError(f"{text[:64]!r}: the name of a host, without a port, was expected")
    return text
