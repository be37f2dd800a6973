"""Where a service finds its communicatord, and how it says for whom a message is."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from typing import Final

from ..address import Address
from ..errors import AddressError, UsageError
from .naming import SYSTEM_FOLDER, socket_paths

DAEMON: Final = "communicatord"
"""The name of the daemon itself, as a service."""
EVERYBODY: Final = (".", "?", "*")
"""What stands in the place of a service in a broadcast."""
ANY_COMMAND: Final = "*"
"""What a peer lists that takes any command, besides those that it wants to be told of."""
PLAIN_PORT: Final = 4040
SECURE_PORT: Final = 4043
"""The ports of the C++ daemon for services, and for those that speak TLS."""

_SECURE: Final = ("tls:", "cds:")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_]", re.ASCII)


def check_service_name(name: str) -> str:
    """Gives a name that a service can register.

    Raises:
        UsageError: It is none.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:64]!r} is no name of a service: letters, digits and '_' were expected, no"
            " digit first"
        )
    return name


def script_name() -> str:
    """Gives a name for this process that no other process of the computer has."""
    program = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    return f"{_NO_NAME.sub('_', program)[:200] or 'script'}_{os.getpid()}".lstrip("0123456789")


def parse_daemon(text: str | Address) -> Address:
    """Reads the address of a communicatord.

    Args:
        text: ``unix:``, ``tcp:`` or ``tls:`` and what follows, or the C++ spellings ``cd:`` and
            ``cds:``. Without a port it is 4040, and 4043 with TLS.

    Raises:
        AddressError: It is none, is for datagrams, or plain text would go over a public network.
    """
    secure = isinstance(text, str) and text.lower().startswith(_SECURE)
    address = Address.parse(text, default_port=SECURE_PORT if secure else PLAIN_PORT)
    if address.is_datagram:
        raise AddressError(
            f"{str(text)!r}: a service registers over a stream, by which its messages come; cd:,"
            " cds:, unix:, tcp: or tls: was expected (send_datagram and ed-signal reach a"
            " communicatord by datagrams)"
        )
    if address.scheme not in ("unix", "tls+unix", "tcp", "tls"):
        raise AddressError(f"{str(text)!r}: an address of scheme unix, tcp or tls was expected")
    if address.scheme == "tcp" and _is_public(address):
        raise AddressError(
            f"{str(text)!r}: plain text is for loopback and private addresses; cds: or tls: was"
            " expected"
        )
    return address


def _is_public(address: Address) -> bool:
    try:
        ipaddress.ip_address(address.host.partition("%")[0])
    except ValueError:
        return False  # a name, which is looked up later
    return not (address.is_loopback or address.is_private)


def default_daemon() -> Address:
    """Gives the address of this computer's communicatord.

    It is that of the environment variable COMMUNICATOR_LISTEN (of the C++ library), else the Unix
    socket of the system, or of this user: the one that is there.

    Raises:
        AddressError: The variable holds no address.
    """
    said = os.environ.get("COMMUNICATOR_LISTEN", "")
    if said:
        try:
            return parse_daemon(said)
        except AddressError as error:
            raise AddressError(f"environment variable COMMUNICATOR_LISTEN: {error}") from None
    paths = socket_paths()
    for path in paths:
        if os.path.exists(path):
            return Address("unix", path=path)
    # Nobody listens yet: the folder of the system's daemon is made when the computer starts.
    return Address("unix", path=paths[0] if os.path.isdir(SYSTEM_FOLDER) else paths[-1])


def read_target(target: str) -> tuple[str, str]:
    """Reads ``service`` or ``server:service``; gives both, of which the server may be empty.

    Raises:
        UsageError: It is neither.
    """
    server, _, service = target.rpartition(":")
    if not _NAME.fullmatch(service) or not (
        not server or server in (".", "?", "*") or _NAME.fullmatch(server)
    ):
        raise UsageError(f"{target[:64]!r}: 'service' or 'server:service' was expected")
    return server, service
