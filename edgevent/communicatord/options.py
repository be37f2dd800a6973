"""The options of communicatord, and what they make of its listeners and limits.

The names are those of the C++ daemon, so that its file can be read.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from ..address import Address
from ..errors import EdgeventError, OptionError
from ..limits import MAX_CONNECTIONS
from ..option_groups import add_definition_options
from ..option_values import is_off, text_or_off, whole_number
from ..options import OptionParser
from ..service_places import Place, datagram_place, unix_place
from .alive import SILENCE
from .held import DEFAULT_TTL, MAX_HELD, MAX_HELD_BYTES, TTL
from .naming import own_name, socket_path
from .taps import watchers

logger = logging.getLogger("edgevent.communicatord")

LOCAL_PORT: Final = 4040
SIGNAL_PORT: Final = 4041
REMOTE_PORT: Final = 4042
"""The ports of the C++ daemon: services, datagrams, other daemons."""

SETTLING: Final = 5.0
"""For so many seconds after the start messages are held for services of any name: they register
again within two."""

SERVICES_FOLDER: Final = "/usr/share/communicator/services"

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)
_SUFFIX: Final = ".service"

_FLAG: Final = "debug-all-messages"

UNUSED: Final = (
    "communicator-plugin-paths",
    _FLAG,
    "group-name",
    "user-name",
)
"""Options of the C++ daemon that a file may have, and that this one does nothing with."""


def add_options(parser: OptionParser) -> None:
    """Adds the options of the daemon, and what ``--check-config`` looks at."""
    parser.add(
        "--server-name",
        type=_server_name,
        default=own_name(),
        metavar="NAME",
        help="the name of this computer (default: the host name up to its first dot)",
    )
    parser.add(
        "--local-listen",
        type=_listener(_local),
        to_text=text_or_off,
        default=_local(f"127.0.0.1:{LOCAL_PORT}"),
        metavar="ADDRESS|off",
        help=f"where services connect by TCP, on loopback (default: tcp://127.0.0.1:{LOCAL_PORT})",
    )
    parser.add(
        "--unix-listen",
        type=_listener(_unix),
        to_text=text_or_off,
        metavar="PATH|off",
        help="where services connect by a Unix socket (default: communicatord.sock in"
        " RuntimeDirectory, or in the user's own folder)",
    )
    parser.add("--unix-group", metavar="GROUP", help="the group that may connect there")
    parser.add(
        "--trace-group",
        metavar="GROUP",
        help="the group that may see what passes, by ed-trace and ed-top",
    )
    parser.add(
        "--signal",
        type=_listener(_datagrams),
        to_text=text_or_off,
        default=_datagrams(f"127.0.0.1:{SIGNAL_PORT}"),
        metavar="ADDRESS|off",
        help=f"where datagrams come (default: udp://127.0.0.1:{SIGNAL_PORT})",
    )
    parser.add_secret("--signal-secret", help="the code that datagrams must have")
    parser.add("--signal-keys", metavar="FILE", help="the keys that datagrams must be signed with")
    parser.add(
        "--services",
        default=SERVICES_FOLDER,
        metavar="FOLDER",
        help="the folder with a file NAME.service for each service for which messages are held"
        f" before it has come (default: {SERVICES_FOLDER})",
    )
    parser.add(
        "--known-service",
        action="append",
        type=_name_of("service"),
        metavar="NAME",
        help="one more such service; may be repeated",
    )
    parser.add(
        "--my-address",
        type=_own_address,
        to_text=_endpoint,
        metavar="ADDRESS",
        help=f"the address by which other daemons reach this one (127.0.0.1:{REMOTE_PORT})",
    )
    _add_limits(parser)
    add_definition_options(parser)
    for name in UNUSED:
        flag: dict[str, Any] = {"nargs": "?", "const": "true"} if name == _FLAG else {}
        parser.add(f"--{name}", help=argparse.SUPPRESS, **flag)
    parser.add_check(_problems)


def _add_limits(parser: OptionParser) -> None:
    parser.add(
        "--max-connections",
        type=whole_number(5, 100_000),
        default=MAX_CONNECTIONS,
        metavar="N",
        help=f"the most peers of each listener (default: {MAX_CONNECTIONS})",
    )
    parser.add(
        "--max-pending-connections",
        type=whole_number(5, 4_096),
        metavar="N",
        help="the most peers that wait to be accepted",
    )
    parser.add(
        "--max-held",
        type=whole_number(0, 1_000_000),
        default=MAX_HELD,
        metavar="N",
        help=f"the most messages that are held for one service (default: {MAX_HELD})",
    )
    parser.add(
        "--max-held-bytes",
        type=whole_number(0, 1 << 30),
        default=MAX_HELD_BYTES,
        metavar="N",
        help=f"the most bytes of them (default: {MAX_HELD_BYTES})",
    )
    parser.add_duration(
        "--held-ttl",
        default=DEFAULT_TTL,
        minimum=TTL[0],
        maximum=TTL[1],
        help="how long a message is held that does not say it",
    )
    parser.add_duration(
        "--settle",
        default=SETTLING,
        minimum=0.0,
        maximum=60.0,
        help="for so long after the start messages are held for services of any name, which are"
        " about to register again",
    )
    parser.add_duration(
        "--alive-after",
        default=SILENCE,
        minimum=0.1,
        help="a service that has sent nothing for so long is asked whether it lives",
    )
    parser.add(
        "--timedate-wait-command",
        default="",
        metavar="COMMAND",
        help="tells by its exit status that the clock is right (default: ntp-wait or timedatectl)",
    )


# --- what is made of them -------------------------------------------------------------------------


def listeners_of(options: argparse.Namespace) -> dict[str, Place]:
    """Gives the listeners ``local``, ``unix`` and ``signal``, as far as they are not off."""
    found = {}
    streams: dict[str, Any] = {"max_connections": options.max_connections}
    if options.max_pending_connections is not None:
        streams["backlog"] = options.max_pending_connections
    if options.local_listen:
        found["local"] = Place(options.local_listen, streams)
    unix = _unix(socket_path()) if options.unix_listen is None else options.unix_listen
    if unix:
        found["unix"] = unix_place(unix, options.unix_group, streams)
    if options.signal:
        found["signal"] = datagram_place(options.signal, options.signal_secret, options.signal_keys)
    return found


def known_services(options: argparse.Namespace) -> set[str]:
    """Gives the names of the services for which messages are held before they have come.

    A file in the folder whose name is none is left out, with a line in the log.
    """
    known = set(options.known_service or ())
    folder = Path(options.services)
    try:
        files = sorted(one.name for one in folder.iterdir() if one.name.endswith(_SUFFIX))
    except FileNotFoundError:
        return known
    except OSError as error:
        logger.warning("services %s: it cannot be read: %s", folder, error.strerror)
        return known
    for file in files:
        name = file.removesuffix(_SUFFIX)
        if _NAME.fullmatch(name):
            known.add(name)
        else:
            logger.warning("services %s: %a is no name of a service", folder, file[:64])
    return known


def tell_of_unused(options: argparse.Namespace) -> None:
    """Logs which options of the C++ daemon are given, and have no effect."""
    for name in UNUSED:
        if getattr(options, name.replace("-", "_"), None) is not None:
            logger.warning("option %s: this daemon has no use for it", name)


# --- their values ---------------------------------------------------------------------------------


def _listener(convert: Callable[[str], Address]) -> Callable[[str], Address | bool]:
    def read(text: str) -> Address | bool:
        return False if is_off(text) else convert(text)

    return read


def _local(text: str) -> Address:
    address = Address.parse(text, default_port=LOCAL_PORT)
    if address.scheme != "tcp" or not address.is_loopback:
        raise OptionError(
            f"{address}: a TCP address of this computer alone was expected, such as"
            f" 127.0.0.1:{LOCAL_PORT}"
        )
    return address


def _unix(text: str) -> Address:
    address = Address.parse(text, default_scheme="unix")
    if address.scheme != "unix":
        raise OptionError(f"{address}: the path of a Unix socket was expected")
    return address


def _datagrams(text: str) -> Address:
    address = Address.parse(text, default_scheme="udp", default_port=SIGNAL_PORT)
    if not address.is_datagram:
        raise OptionError(f"{address}: an address of datagrams was expected, such as udp://host")
    return address


def _own_address(text: str) -> Address:
    address = Address.parse(text, default_port=REMOTE_PORT)
    if address.scheme != "tcp" or not (
        address.is_loopback or address.host[:1].isdigit() or ":" in address.host
    ):
        raise OptionError(f"{address}: a numeric address was expected, such as 10.0.0.5:4042")
    return address


def _endpoint(address: Address) -> str:
    return address.endpoint


def _name_of(kind: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if _NAME.fullmatch(text):
            return text
        raise OptionError(
            f"{text[:64]!r} is no name of a {kind}: letters, digits and '_' were expected,"
            " no digit first"
        )

    return read


def _server_name(text: str) -> str:
    return _name_of("server")(text or own_name())  # the C++ daemon's file has it empty


def _problems(options: argparse.Namespace) -> Iterator[str]:
    if options.signal_secret and options.signal_keys:
        yield "signal-secret, signal-keys: one of them was expected"
    if options.trace_group:
        try:
            watchers(options.trace_group)
        except OptionError as error:
            yield f"trace-group: {error}"
    try:
        known_services(options)
    except EdgeventError as error:
        yield str(error)
