"""The options of snaploggerd, and what they make of its listeners, files and limits.

Where the C++ daemon has an option for the same, the name is its.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from ..address import Address
from ..errors import OptionError
from ..folders import own_folder
from ..log_levels import read_level, show_level
from ..option_values import is_off, text_or_off, whole_number
from ..options import OptionParser
from ..service_places import Place, datagram_place, parse_listener, unix_place
from .line_form import DEFAULT_FORM, LineForm, PathTemplate
from .log_files import KEPT_BYTES
from .ordering import ORDER_WAIT
from .protocol import DEFAULT_PORT, SOCKET_NAME

logger = logging.getLogger("edgevent.snaplogger")

LOGS_FOLDER: Final = "/var/log/snaplogger"
MAX_LINE_BYTES: Final = 1024 * 1024
"""The longest line with a record, over a stream."""
_MAX_DATAGRAM: Final = 65_507  # what UDP over IPv4 can carry
_TARGETS: Final = ("journal", "stderr", "syslog")
_SIZE: Final = re.compile(r"([0-9]{1,12})\s*([kmg]?)(i?b)?", re.ASCII | re.IGNORECASE)
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

UNUSED: Final = ("controller-listen",)
"""Options of the C++ daemon that a file may have, and that this one does nothing with."""


def add_options(parser: OptionParser) -> None:
    """Adds the options of the daemon."""
    _add_listeners(parser)
    parser.add(
        "--folder",
        default=own_folder("logs", "snaplogger"),
        metavar="FOLDER",
        help=f"the folder of the files (default: LogsDirectory, or {LOGS_FOLDER}, or a folder of"
        " the user's)",
    )
    parser.add(
        "--path-template",
        type=_template,
        to_text=text_or_off,
        default=PathTemplate("snaplogger.log"),
        metavar="PATH|off",
        help="the file of a record below the folder, such as ${source_ip}/${component}.log"
        " (default: snaplogger.log)",
    )
    parser.add(
        "--form",
        type=LineForm,
        default=LineForm(),
        metavar="TEXT|json",
        help=f"the form of a line (default: {DEFAULT_FORM})",
    )
    parser.add(
        "--min-severity",
        type=read_level,
        to_text=show_level,
        default=read_level("all"),
        metavar="SEVERITY",
        help="the least severity that is written (default: all)",
    )
    parser.add(
        "--also-to",
        action="append",
        choices=_TARGETS,
        help="where records go besides; may be repeated",
    )
    _add_limits(parser)
    for name in UNUSED:
        parser.add(f"--{name}", help=argparse.SUPPRESS)
    parser.add_check(_problems)


def _add_listeners(parser: OptionParser) -> None:
    parser.add(
        "--tcp-listen",
        type=_listener("tcp"),
        to_text=text_or_off,
        default=_listener("tcp")(f"127.0.0.1:{DEFAULT_PORT}"),
        metavar="ADDRESS|off",
        help=f"where records come by TCP (default: tcp://127.0.0.1:{DEFAULT_PORT})",
    )
    parser.add(
        "--tls-listen",
        type=_tls_listener,
        to_text=lambda value: value.text if value else "off",
        default=False,
        metavar="ADDRESS|off",
        help="where records come by TLS, such as 'tls://0.0.0.0:4044 certificate=FILE key=FILE'",
    )
    parser.add(
        "--udp-listen",
        type=_listener("udp"),
        to_text=text_or_off,
        default=_listener("udp")(f"127.0.0.1:{DEFAULT_PORT}"),
        metavar="ADDRESS|off",
        help=f"where records come by UDP (default: udp://127.0.0.1:{DEFAULT_PORT})",
    )
    parser.add_secret("--udp-listen-secret-code", help="the code that datagrams must have")
    parser.add("--udp-listen-keys", metavar="FILE", help="the keys that they must be signed with")
    parser.add(
        "--unix-listen",
        type=_listener("unix"),
        to_text=text_or_off,
        metavar="PATH|off",
        help=f"where records come by a Unix socket (default: {SOCKET_NAME} in RuntimeDirectory, or"
        " in the user's own folder)",
    )
    parser.add("--unix-group", metavar="GROUP", help="the group that may connect there")


def _add_limits(parser: OptionParser) -> None:
    parser.add(
        "--max-file-size",
        type=_size,
        default=0,
        metavar="SIZE",
        help="a file of more bytes, such as 10MiB, is renamed to FILE.1 (default: 0, for never)",
    )
    parser.add(
        "--keep-files",
        type=whole_number(0, 1_000),
        default=8,
        metavar="N",
        help="so many renamed files are kept (default: 8)",
    )
    parser.add(
        "--max-kept",
        type=_size,
        default=KEPT_BYTES,
        metavar="SIZE",
        help="so much waits in memory for a disk that takes nothing (default: 8MiB)",
    )
    parser.add(
        "--sync",
        action="store_true",
        help="acknowledge records when they are durable (fdatasync), not when they are written",
    )
    parser.add(
        "--rate-limit",
        type=whole_number(0, 10_000_000),
        default=0,
        metavar="N",
        help="so many records a second may each sender send (default: 0, for any number)",
    )
    parser.add(
        "--rate-burst",
        type=whole_number(0, 10_000_000),
        default=0,
        metavar="N",
        help="so many at once after a silence (default: those of one second)",
    )
    parser.add(
        "--quota",
        type=_size,
        default=0,
        metavar="SIZE",
        help="so many bytes of text within --quota-period may each sender send"
        " (default: 0, for any number)",
    )
    parser.add_duration(
        "--order-wait",
        default=ORDER_WAIT,
        help="how long a record that came by datagram waits for one before it; 0 for never",
    )
    parser.add_duration("--quota-period", default=3600.0, minimum=0.1, help="the period of --quota")
    parser.add(
        "--max-line-bytes",
        type=_size,
        default=MAX_LINE_BYTES,
        metavar="SIZE",
        help="the longest line of a sender, over a stream (default: 1MiB)",
    )


# --- what is made of them -------------------------------------------------------------------------


def listeners_of(options: argparse.Namespace) -> dict[str, Place]:
    """Gives the listeners ``tcp``, ``tls``, ``unix`` and ``udp``, as far as they are not off."""
    found = {}
    streams: dict[str, Any] = {"max_line_bytes": options.max_line_bytes}
    if options.tcp_listen:
        found["tcp"] = Place(options.tcp_listen, streams)
    if options.tls_listen:
        found["tls"] = options.tls_listen.at(streams)
    unix = _unix_path() if options.unix_listen is None else options.unix_listen
    if unix:
        found["unix"] = unix_place(unix, options.unix_group, streams)
    if options.udp_listen:
        settings = {} if options.udp_listen.is_unix else {"max_datagram_bytes": _MAX_DATAGRAM}
        found["udp"] = datagram_place(
            options.udp_listen,
            options.udp_listen_secret_code,
            options.udp_listen_keys,
            **settings,
        )
    return found


def tell_of_unused(options: argparse.Namespace) -> None:
    """Logs which options of the C++ daemon are given, and have no effect."""
    for name in UNUSED:
        if getattr(options, name.replace("-", "_"), None) is not None:
            logger.warning("option %s: this daemon has no use for it", name)


# --- their values ---------------------------------------------------------------------------------


def _unix_path() -> Address:
    return Address.parse(f"unix:{own_folder('runtime', 'snaplogger')}/{SOCKET_NAME}")


_KINDS: Final = {
    "tcp": (("tcp",), "an address of TCP", "127.0.0.1:4043"),
    "udp": (("udp", "unixgram"), "an address of datagrams", "udp://127.0.0.1:4043"),
    "unix": (("unix",), "the path of a Unix socket", "/run/snaplogger/snaploggerd.sock"),
}


def _listener(kind: str) -> Callable[[str], Address | bool]:
    schemes, expected, example = _KINDS[kind]

    def read(text: str) -> Address | bool:
        if not text or is_off(text):  # the C++ daemon's is empty
            return False
        port = None if kind == "unix" else DEFAULT_PORT
        address = Address.parse(text, default_scheme=kind, default_port=port)
        if address.scheme not in schemes:
            raise OptionError(f"{address}: {expected} was expected, such as {example}")
        return address

    return read


def _tls_listener(text: str) -> Place | bool:
    if not text or is_off(text):
        return False
    place = parse_listener(
        "", text if "://" in text or text.startswith("tls+") else f"tls://{text}"
    )
    if not place.address.is_tls:
        raise OptionError(
            f"{place.address}: an address of TLS was expected, such as tls://host:4044"
        )
    return place


def _template(text: str) -> PathTemplate | None:
    return None if is_off(text) else PathTemplate(text)


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise OptionError(
            f"size {text[:32]!r}: a number was expected, such as 65536, 64KiB or 10MiB"
        )
    return int(found[1]) * _UNITS[found[2].lower()]


def _problems(options: argparse.Namespace) -> Iterator[str]:
    if options.udp_listen_secret_code and options.udp_listen_keys:
        yield "udp-listen-secret-code, udp-listen-keys: one of them was expected"
    if not options.path_template and not options.also_to:
        yield "path-template is off, and also-to names nothing: records would go nowhere"
    folder = os.path.abspath(options.folder)
    while not os.path.lexists(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)  # it is made when it is needed
    if options.path_template and not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        yield f"folder {options.folder}: files cannot be made in {folder}"
