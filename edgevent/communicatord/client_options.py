"""The option that says where a program's communicatord is."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Final

from ..address import Address
from ..dispatcher import Dispatcher
from ..errors import AddressError, OptionError
from ..option_checks import tls_problems
from ..option_groups import add_tls_options, tls_from_options
from ..option_values import is_off, text_or_off
from ..options import OptionParser
from ..tls import TlsOptions
from .client import CommunicatorConnection
from .places import default_daemon, parse_daemon

PREFIX: Final = "communicator-"
"""What the names of the options of TLS begin with."""


def add_communicator_options(parser: OptionParser, *, tls: bool = True) -> None:
    """Add ``--communicator-listen``, the address of the communicatord.

    When nobody gives it, it is that of the environment variable COMMUNICATOR_LISTEN, as for
    services in C++, or else the Unix socket of this computer's daemon; ``off`` is for none.

    Args:
        parser: The program's options.
        tls: Whether there are options of TLS as well, ``--communicator-ca`` and so on; see
            :func:`~edgevent.option_groups.add_tls_options`.
    """
    parser.add(
        "--communicator-listen",
        type=_daemon,
        to_text=text_or_off,
        metavar="ADDRESS|off",
        help="where the communicatord is, such as cd://127.0.0.1:4040 or cds://host"
        " (default: $COMMUNICATOR_LISTEN, or its Unix socket)",
    )
    if tls:
        add_tls_options(parser, server_side=False, prefix=PREFIX)

    def check(options: argparse.Namespace) -> Iterator[str]:
        address = communicator_address(options)
        wanted = None if address is None or not tls else communicator_tls(options, address)
        if wanted is not None:
            yield from tls_problems(wanted, server_side=False)

    parser.add_check(check)


def communicator_address(options: argparse.Namespace) -> Address | None:
    """Give the address of the communicatord; ``None`` when it is off.

    Raises:
        OptionError: The environment variable COMMUNICATOR_LISTEN, which holds it, is none.
    """
    given: Address | bool | None = options.communicator_listen
    if given is None:
        try:
            return default_daemon()
        except AddressError as error:
            raise OptionError(str(error)) from None
    return given if isinstance(given, Address) else None


def communicator_tls(options: argparse.Namespace, address: Address) -> TlsOptions | None:
    """Give what is asked of TLS for an address; ``None`` for all checks, or a plain address.

    Raises:
        OptionError: Two options contradict each other.
    """
    found = tls_from_options(options, server_side=False, prefix=PREFIX)
    return found if address.is_tls else None


def communicator_from_options(
    options: argparse.Namespace, service_name: str, dispatcher: Dispatcher | None = None
) -> CommunicatorConnection | None:
    """Make the connection that :func:`add_communicator_options` asks for.

    Args:
        options: The values.
        service_name: The name to register.
        dispatcher: The table for what services send; by default that of the communicator.

    Returns:
        The connection, to be added to a communicator; ``None`` when it is off.

    Raises:
        OptionError: COMMUNICATOR_LISTEN is no address, or options of TLS contradict each other.
        UsageError: The name is none.
    """
    address = communicator_address(options)
    if address is None:
        return None
    tls = communicator_tls(options, address)
    return CommunicatorConnection(
        service_name, dispatcher, address=address, tls=tls, name=f"communicator-{service_name}"
    )


def _daemon(text: str) -> Address | bool:
    return False if is_off(text) else parse_daemon(text)
