"""Groups of options that a script adds with one call, and what is made of their values.

Each group has a function that adds it to an :class:`~edgevent.options.OptionParser`, one that turns
the values into what the program needs, and its part of ``--check-config``. The groups of logging
are in :mod:`edgevent.logs`.
"""

from __future__ import annotations

import argparse
import grp
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from .definitions import Definitions
from .dispatcher import Dispatcher
from .errors import OptionError, UsageError
from .links.datagram import DatagramServer
from .links.server import Server
from .option_checks import definition_problems, is_far, tls_problems
from .option_values import nearest
from .options import OptionParser
from .tls import TlsOptions, check_server_name

_MOST_MODE = 0o777


# --- addresses ------------------------------------------------------------------------------------


def add_address_options(
    parser: OptionParser,
    *,
    default: str | Sequence[str] | None = None,
    default_scheme: str = "tcp",
    default_port: int | None = None,
) -> None:
    """Add ``--listen``, ``--allow-remote``, ``--socket-mode`` and ``--socket-group``.

    ``--check-config`` tries whether the addresses can be listened on.

    Args:
        parser: The program's options.
        default: Where to listen when nothing is said.
        default_scheme: The scheme of an address without one.
        default_port: The port of an address without one.

    Raises:
        AddressError: The default is no address.
    """
    parser.add_address(
        "--listen",
        default=default,
        default_scheme=default_scheme,
        default_port=default_port,
        help="where to listen; may be repeated",
        multiple=True,
        listens=True,
    )
    parser.add(
        "--allow-remote",
        action="store_true",
        help="listen in plain text on addresses that are neither loopback nor private, too",
    )
    parser.add(
        "--socket-mode",
        type=_read_mode,
        to_text="{:04o}".format,
        metavar="MODE",
        help="the mode of Unix sockets' files (default: 0600, or 0660 with a group)",
    )
    parser.add(
        "--socket-group",
        type=_read_group,
        metavar="GROUP",
        help="the group of Unix sockets' files, by name or number",
    )
    parser.add_check(_reach_problems)


def servers_from_options(
    options: argparse.Namespace,
    handler: Dispatcher | Callable[..., Any] | None = None,
    *,
    tls: TlsOptions | None = None,
) -> list[Server | DatagramServer]:
    """Make the servers that :func:`add_address_options` asks for; they listen at once.

    May switch greenlets while names are looked up.

    Args:
        options: The values.
        handler: What serves the peers, as of :class:`Server` and :class:`DatagramServer`.
        tls: For the addresses of TLS; plain ones stay plain.

    Returns:
        One server for each address, to be added to a communicator.

    Raises:
        ListenError: An address cannot be listened on; those before it are closed.
        UsageError: An address does not go with the handler or the other options.
    """
    servers: list[Server | DatagramServer] = []
    try:
        for address in options.listen:
            has_file = address.is_unix and not address.is_abstract
            settings: dict[str, Any] = {}
            if has_file:
                settings = {"mode": options.socket_mode, "group": options.socket_group}
            if address.is_datagram:
                servers.append(DatagramServer(address, handler, **settings))
            else:
                settings["allow_remote"] = options.allow_remote
                settings["tls"] = tls if address.is_tls else None
                servers.append(Server(address, handler, **settings))
    except BaseException:
        for server in servers:
            server.close()
        raise
    return servers


def _read_mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= _MOST_MODE:
        raise OptionError(f"mode {text!r}: expected octal digits from 0000 to 0777, such as 0660")
    return mode


def _read_group(text: str) -> str | int:
    if text.isdecimal():
        return int(text)
    try:
        return grp.getgrnam(text).gr_name
    except KeyError:
        near = nearest(text, [one.gr_name for one in grp.getgrall()])
        raise OptionError(f"there is no group {text!r}{near}") from None


def _reach_problems(options: argparse.Namespace) -> Iterator[str]:
    for address in options.listen:
        is_plain = not (address.is_tls or address.is_datagram)
        if is_plain and is_far(address) and not options.allow_remote:
            yield (
                f"listen: {address}: plain text on an address that is neither loopback nor"
                " private needs --allow-remote"
            )


# --- TLS ------------------------------------------------------------------------------------------


def add_tls_options(parser: OptionParser, *, server_side: bool, prefix: str = "") -> None:
    """Add ``--certificate``, ``--key``, ``--ca``, ``--minimum-tls`` and those of one role.

    A server has ``--mutual`` and ``--allow-name`` as well, a client ``--server-name`` and
    ``--no-verify``. ``--check-config`` reads the files, and looks at the dates.

    Args:
        parser: The program's options.
        server_side: Whether they are for a server.
        prefix: What the names begin with, such as ``tls-``.
    """

    def add(name: str, **settings: Any) -> None:
        parser.add(f"--{prefix}{name}", **settings)

    whom = "clients" if server_side else "servers"
    add("certificate", metavar="FILE", help="this side's certificate, with its chain")
    add("key", metavar="FILE", help="its private key (default: in the same file)")
    add("ca", metavar="FILE|DIR", help=f"the authorities of {whom}, in place of the system's")
    add("minimum-tls", choices=("1.2", "1.3"), default="1.2", help="the oldest version (1.2)")
    if server_side:
        add("mutual", action="store_true", help="take clients with a certificate only")
        add(
            "allow-name",
            action="append",
            metavar="NAME",
            help="take clients whose certificate has this name only; may be repeated",
        )
    else:
        add(
            "server-name",
            type=_read_server_name,
            metavar="NAME",
            help="the name that the server's certificate must have (default: the host)",
        )
        add("no-verify", action="store_true", help="take any certificate of anybody")

    def check(options: argparse.Namespace) -> Iterator[str]:
        tls = tls_from_options(options, server_side=server_side, prefix=prefix)
        if tls is not None:
            yield from tls_problems(tls, server_side=server_side)

    parser.add_check(check)


def tls_from_options(
    options: argparse.Namespace, *, server_side: bool, prefix: str = ""
) -> TlsOptions | None:
    """Give what :func:`add_tls_options` asks for.

    Args:
        options: The values.
        server_side: As it was added.
        prefix: As it was added.

    Returns:
        The options of TLS; ``None`` for a server without a certificate, and for a client of which
        nothing was said.

    Raises:
        OptionError: Two of them contradict each other, or one is missing.
    """

    def value(name: str) -> Any:
        return getattr(options, f"{prefix}{name}".replace("-", "_"))

    certificate, key = value("certificate"), value("key")
    if key is not None and certificate is None:
        raise OptionError(f"--{prefix}key: expected --{prefix}certificate with it")
    verify: Literal["required", "none"] = "required"
    if server_side:
        if certificate is None:
            for name in ("ca", "mutual", "allow-name"):
                if value(name):
                    raise OptionError(f"--{prefix}{name}: expected --{prefix}certificate with it")
            return None
    else:
        if not any(map(value, ("certificate", "ca", "server-name", "no-verify"))):
            return None
        if value("no-verify"):
            if value("ca"):
                raise OptionError(
                    f"--{prefix}no-verify and --{prefix}ca contradict each other: expected one of"
                    " them"
                )
            verify = "none"
    try:
        return TlsOptions(
            certificate,
            key or certificate,
            authorities=value("ca"),
            verify=verify,
            server_name="" if server_side else value("server-name") or "",
            mutual=server_side and value("mutual"),
            allow_names=(value("allow-name") or None) if server_side else None,
            minimum_version=value("minimum-tls"),
        )
    except UsageError as error:
        raise OptionError(str(error)) from None


def _read_server_name(text: str) -> str:
    try:
        return check_server_name(text)
    except UsageError:
        raise OptionError(f"name {text!r}: expected a DNS name or an IP address") from None


# --- message definitions --------------------------------------------------------------------------


def add_definition_options(
    parser: OptionParser, *, default: str = "", flag: str = "--path-to-message-definitions"
) -> None:
    """Add ``--path-to-message-definitions``, as the C++ services have it.

    ``--check-config`` reads all files of the folders.

    Args:
        parser: The program's options.
        default: The folders when nothing is said, with colons between.
        flag: The name of the option.
    """
    parser.add(
        flag,
        dest="path_to_message_definitions",
        default=default,
        metavar="FOLDERS",
        help="the folders of message definitions, with ':' between them",
    )
    parser.add_check(lambda options: definition_problems(definitions_from_options(options).folders))


def definitions_from_options(options: argparse.Namespace) -> Definitions:
    """Give the definitions that :func:`add_definition_options` asks for, for a dispatcher.

    Args:
        options: The values.

    Returns:
        The definitions; with no folder, those of the default commands.
    """
    return Definitions(options.path_to_message_definitions)
