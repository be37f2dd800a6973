"""The options for the links to the daemons of other computers.

The names are those of the C++ daemon, where it has the option.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..address import Address
from ..errors import AddressError, OptionError, UsageError
from ..folders import own_folder
from ..option_checks import address_problems, tls_problems
from ..option_values import is_off, whole_number
from ..options import OptionParser
from ..tls import TlsOptions
from .link_settings import MAX_GOSSIP_PAUSE, MAX_LINKS, LinkSettings, check_plain
from .neighbors import REMOTE_PORT, SECURE_PORT, parse_neighbors, written

logger = logging.getLogger("edgevent.communicatord")

_SYSTEM_FOLDER: Final = "/var/lib/communicator"


def add_link_options(parser: OptionParser) -> None:
    """Adds the options, and what ``--check-config`` looks at."""
    parser.add(
        "--remote-listen",
        type=_plain,
        to_text=_text,
        metavar="ADDRESS|off",
        help="where other daemons connect in plain text, on a private network (port"
        f" {REMOTE_PORT}; default: nowhere)",
    )
    parser.add(
        "--secure-listen",
        type=_secure,
        to_text=_text,
        metavar="ADDRESS|off",
        help=f"where other daemons connect by TLS (port {SECURE_PORT}; default: nowhere)",
    )
    parser.add("--certificate", metavar="FILE", help="this daemon's certificate, with its chain")
    parser.add("--private-key", metavar="FILE", help="its key (default: in the same file)")
    parser.add("--ca", metavar="FILE|DIR", help="the authorities of the other daemons")
    parser.add(
        "--neighbors",
        default="",
        metavar="LIST",
        help="the other daemons: host[:port] or tls://host[:port], with commas or blanks between",
    )
    parser.add(
        "--fixed-neighbors",
        action="store_true",
        help="take no neighbors from neighbors: messages go over those that are named",
    )
    parser.add(
        "--max-links",
        type=whole_number(1, 10_000),
        default=MAX_LINKS,
        metavar="N",
        help=f"the most other daemons that are connected (default: {MAX_LINKS})",
    )
    parser.add_duration(
        "--max-gossip-timeout",
        default=MAX_GOSSIP_PAUSE,
        minimum=1.0,
        help="the longest pause between two times that a daemon is told of this one",
    )
    parser.add(
        "--data-path",
        metavar="FOLDER",
        help="where the neighbors that are known are kept (default: StateDirectory of systemd,"
        f" {_SYSTEM_FOLDER}, or a folder of the user's)",
    )
    parser.add(
        "--allow-loopback-links",
        action="store_true",
        help="allow links on loopback, for tests and containers",
    )
    parser.add(
        "--allow-link-control",
        action="store_true",
        help="obey STOP, SHUTDOWN and the like that come over plain links, too",
    )
    parser.add_check(_problems)


def link_settings(options: argparse.Namespace) -> LinkSettings:
    """Gives what the options ask for.

    Raises:
        OptionError: They contradict each other, or one is missing.
        CertificateFileError: A certificate or key cannot be used.
    """
    loopback = options.allow_loopback_links
    try:
        neighbors = parse_neighbors(options.neighbors, allow_loopback=loopback, allow_names=True)
    except AddressError as error:
        raise OptionError(f"neighbors: {error}") from None
    plain, secure = _plain_listener(options), options.secure_listen or None
    tls = _tls(options, needed=secure is not None or any(one.is_tls for one in neighbors))
    if secure is not None and tls is None:
        raise OptionError("secure-listen: certificate, private-key and ca were expected with it")
    for address in neighbors:
        if address.is_tls and tls is None:
            raise OptionError(
                f"neighbors: {address}: certificate, private-key and ca were expected with it"
            )
    if neighbors and plain is None and secure is None:
        raise OptionError(
            "neighbors: remote-listen or secure-listen was expected with it: of two daemons the one"
            " with the greater address dials"
        )
    if plain is not None:
        check_plain(plain, allow_loopback=loopback)
    return LinkSettings(
        plain=plain,
        secure=secure,
        tls=tls,
        my_address=options.my_address,
        neighbors=tuple(neighbors),
        max_links=options.max_links,
        max_gossip_pause=options.max_gossip_timeout,
        folder=_folder(options) if plain is not None or secure is not None else None,
        allow_loopback=loopback,
        allow_control=options.allow_link_control,
        learns=not options.fixed_neighbors,
    )


def _plain_listener(options: argparse.Namespace) -> Address | None:
    """Gives the plain listener's address, if it is of use.

    The file that comes with the C++ daemon has one on loopback, which that daemon leaves out.
    """
    address: Address | None = options.remote_listen or None
    if address is None or not address.is_loopback or options.allow_loopback_links:
        return address
    text = "remote-listen: %s is left out: no other computer reaches loopback"
    logger.warning(text, address)
    return None


def _tls(options: argparse.Namespace, *, needed: bool) -> TlsOptions | None:
    if options.certificate is None:
        for name in ("private_key", "ca"):
            if getattr(options, name) is not None:
                raise OptionError(f"{name.replace('_', '-')}: certificate was expected with it")
        return None
    if options.ca is None:
        if not needed:  # so is the file that comes with the C++ daemon
            logger.info("certificate: it is not used: nothing listens or dials by TLS")
            return None
        raise OptionError(
            "certificate: ca was expected with it: the system's authorities would admit everybody"
        )
    try:
        return TlsOptions(
            options.certificate,
            options.private_key or options.certificate,
            authorities=options.ca,
            mutual=True,
        )
    except UsageError as error:
        raise OptionError(str(error)) from None


def _folder(options: argparse.Namespace) -> Path:
    """Gives the folder of what is kept, and makes it when it is one of the usual ones."""
    if options.data_path is not None:
        return Path(options.data_path)
    return Path(own_folder("state", "communicator"))


def make_folder(settings: LinkSettings) -> None:
    """Makes the folder of what is kept, if it is not there.

    Raises:
        OptionError: It cannot be made.
    """
    if settings.folder is None:
        return
    try:
        settings.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"data-path {settings.folder}: {error.strerror}") from None


# --- their values ---------------------------------------------------------------------------------


def _plain(text: str) -> Address | bool:
    if is_off(text):
        return False
    address = Address.parse(text, default_port=REMOTE_PORT)
    if address.scheme != "tcp":
        raise OptionError(f"{address}: a TCP address was expected, such as 10.0.0.5:{REMOTE_PORT}")
    return address


def _secure(text: str) -> Address | bool:
    if is_off(text):
        return False
    address = Address.parse(text, default_scheme="tls", default_port=SECURE_PORT)
    if address.scheme != "tls":
        raise OptionError(f"{address}: an address of TLS was expected, such as tls://10.0.0.5")
    return address


def _text(value: Address | bool) -> str:
    return written(value) if isinstance(value, Address) else "off"


def _problems(options: argparse.Namespace) -> Iterator[str]:
    settings = link_settings(options)
    for address in (settings.plain, settings.secure):
        if address is not None:
            yield from address_problems(address, listens=True)
    if settings.tls is not None:
        yield from tls_problems(settings.tls, server_side=True)
