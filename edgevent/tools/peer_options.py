"""How a tool reaches a service: its address, what is asked of TLS, and what datagrams carry."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..address import Address
from ..errors import OptionError, UsageError
from ..option_values import nearest
from ..options import OptionParser
from ..tls import TlsOptions
from .addresses import read_place, with_tls

_TYPES: Final = ("udp", "tcp", "unix", "unixgram", "tls")
_OF_TLS: Final = ("ca", "no_verify", "server_name", "certificate", "key")
_OF_DATAGRAMS: Final = ("secret_code", "secret_code_file", "auth_key_file")


@dataclass(frozen=True, slots=True)
class Peer:
    """A service that a tool speaks to.

    Attributes:
        address: Where it is.
        tls: What is asked of TLS; ``None`` without TLS.
        secret_code: The code of datagrams.
        auth: The file of the keys that sign datagrams.
        target: The service, as ``service`` or ``server:service``, when the address is that of a
            communicatord.
    """

    address: Address
    tls: TlsOptions | None = None
    secret_code: str | None = None
    auth: str | None = None
    target: str = ""

    def __str__(self) -> str:
        return self.target or str(self.address)


def add_peer_options(
    parser: OptionParser, *, default_type: str = "udp", secret_flags: Sequence[str] = ()
) -> None:
    """Adds what says how an address is reached, and who is trusted there.

    Args:
        default_type: What a host without a scheme is.
        secret_flags: Short names of ``--secret-code``.
    """
    add = parser.add
    add(
        "-t",
        "--type",
        type=_parse_type,
        metavar="|".join(_TYPES),
        help=f"what a host without a scheme is (default: {default_type})",
    )
    parser.add_secret(
        *secret_flags,
        "--secret-code",
        metavar="CODE",
        help="the code that the receiver of datagrams wants",
    )
    add("--auth-key-file", metavar="FILE", help="sign datagrams with the first key in this file")
    add("-e", "--encrypt", action="store_true", help="by TLS; a host without --type is tls then")
    add("--ca", metavar="FILE|DIR", help="trust these authorities, not the system's")
    add("--no-verify", action="store_true", help="take any certificate of anybody")
    add("--server-name", metavar="NAME", help="the name that the certificate must have")
    add("--certificate", metavar="FILE", help="this side's certificate")
    add("--key", metavar="FILE", help="its private key")


def read_peer(
    text: str,
    options: argparse.Namespace,
    parser: OptionParser,
    *,
    default_type: str = "udp",
    default_port: int,
) -> Peer:
    """Reads where a service is, with the options of :func:`add_peer_options`.

    Args:
        text: What the user gave as its place; see :func:`~edgevent.tools.addresses.read_place`.
        options: The values.
        parser: Where they came from: what does not fit the address is refused when it stands on
            the command line, and else is not for this address.

    Raises:
        AddressError: The text is no address, or there is no TLS over it.
        OptionError: The file of an address cannot be read.
        UsageError: An option does not fit the address, or contradicts another one.
    """
    scheme = options.type or ("tls" if options.encrypt else default_type)
    address = read_place(text, default_scheme=scheme, default_port=default_port)
    if options.encrypt:
        address = with_tls(address)
    return peer_at(address, options, parser)


def peer_at(
    address: Address, options: argparse.Namespace, parser: OptionParser, *, target: str = ""
) -> Peer:
    """Gives the peer at an address, with the options of :func:`add_peer_options`.

    Args:
        address: Its own, or that of its communicatord.
        options: The values.
        parser: As of :func:`read_peer`.
        target: The service, when the address is that of a communicatord.

    Raises:
        UsageError: An option does not fit the address, or contradicts another one.
    """
    is_datagram, is_tls = address.is_datagram, address.is_tls
    _check_use(parser, _OF_DATAGRAMS, is_datagram, f"is for datagrams, not for {address}")
    _check_use(parser, _OF_TLS, is_tls, "is for TLS: expected --encrypt, or a tls: address")
    return Peer(
        address,
        _read_tls(options) if is_tls else None,
        options.secret_code if is_datagram else None,
        options.auth_key_file if is_datagram else None,
        target,
    )


def _parse_type(text: str) -> str:
    if text not in _TYPES:
        near = nearest(text.lower(), _TYPES, 0.5)
        raise OptionError(f"type {text!r}: expected one of {', '.join(_TYPES)}{near}")
    return text


def _read_tls(options: argparse.Namespace) -> TlsOptions:
    if options.no_verify and options.ca:
        raise UsageError("--no-verify and --ca contradict each other: expected one of them")
    return TlsOptions(
        options.certificate,
        options.key,
        authorities=options.ca,
        verify="none" if options.no_verify else "required",
        server_name=options.server_name or "",
    )


def _check_use(parser: OptionParser, options: Sequence[str], fits: bool, why: str) -> None:
    for option in options:
        # Those of a file are for all addresses, and count where they fit.
        if not fits and parser.source(option) == "command line":
            raise UsageError(f"--{option.replace('_', '-')} {why}")
