"""What the configuration says of the links to other daemons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..address import Address
from ..errors import OptionError
from ..limits import BACKLOG
from ..tls import TlsOptions
from .remote import GOSSIP_DELAY

MAX_LINKS: Final = 100
"""The most other daemons that are connected at a time."""
MAX_GOSSIP_PAUSE: Final = 3600.0
"""The longest pause between two times that a daemon is told that this one is there."""
PLAIN_NAME: Final = "remote"
SECURE_NAME: Final = "secure"
"""The names of the sockets that a service manager hands over for the two listeners."""

Claim = Callable[[str, Address], int | None]
"""What gives the descriptor of a socket that listens already, by the listener's name or address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """What the configuration says of the links to other daemons.

    Attributes:
        plain: Where to listen in plain text, on a private network.
        secure: Where to listen with TLS.
        tls: For both sides: the certificate, its key, and the authorities of the other daemons.
        my_address: The address that others reach this daemon by; by default that of a listener.
        neighbors: The other daemons that are known from the start.
        max_links: The most other daemons that are connected at a time.
        backlog: The most that wait to be accepted.
        max_gossip_pause: See :data:`MAX_GOSSIP_PAUSE`, in seconds.
        gossip_delay: The pause before the first time, in seconds.
        folder: Where the neighbors and the state of the cluster are kept.
        allow_loopback: Whether links may be on loopback, for tests and containers.
        allow_control: Whether STOP and the like are obeyed that come over plain links.
        learns: Whether the neighbors of neighbors become neighbors, too; else messages go over
            those that are.
    """

    plain: Address | None = None
    secure: Address | None = None
    tls: TlsOptions | None = None
    my_address: Address | None = None
    neighbors: tuple[Address, ...] = ()
    max_links: int = MAX_LINKS
    backlog: int = BACKLOG
    max_gossip_pause: float = MAX_GOSSIP_PAUSE
    gossip_delay: float = GOSSIP_DELAY
    folder: Path | None = None
    allow_loopback: bool = False
    allow_control: bool = False
    learns: bool = True


def check_plain(address: Address, *, allow_loopback: bool) -> None:
    """Refuses an address that is not for daemons in plain text.

    Raises:
        OptionError: It is neither of a private network nor, where that is allowed, on loopback.
    """
    if address.is_loopback:
        if not allow_loopback:
            raise OptionError(
                f"remote-listen: {address}: no other computer reaches loopback;"
                " --allow-loopback-links was expected with it"
            )
    elif not address.is_private:
        raise OptionError(
            f"remote-listen: {address}: an address of a private network was expected; elsewhere"
            " secure-listen is the way"
        )
