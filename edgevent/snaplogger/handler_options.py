"""The options of a program that sends its log to a server.

They are a part of those of logging; see :mod:`edgevent.log_options`.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..address import Address
from ..errors import AddressError, OptionError, UsageError
from ..log_levels import read_level, show_level
from ..option_checks import tls_problems
from ..options import OptionParser
from ..signing import SigningKeys
from ..tls import TlsOptions
from .protocol import ACKNOWLEDGE, DEFAULT_PORT, Acknowledge

if TYPE_CHECKING:
    from .network_handler import NetworkLogHandler

_OF_TLS: Final = ("ca", "certificate", "key")
_OF_DATAGRAMS: Final = ("secret_code", "auth_key_file")


@dataclass(frozen=True, slots=True)
class LogServer:
    """A server that a log is sent to: the options, read and checked.

    Attributes:
        address: Where it is.
        acknowledge: Of which records it is to say that they are written.
        acknowledge_level: From which level on, for ``severity``.
        secret_code: The code of datagrams, or an empty string.
        auth_key_file: The file of the keys that sign datagrams, or an empty string.
        ca: The authorities of TLS, or an empty string.
        certificate: This side's certificate, or an empty string.
        key: Its private key, or an empty string.
    """

    address: Address
    acknowledge: Acknowledge = "all"
    acknowledge_level: int = logging.ERROR
    secret_code: str = ""
    auth_key_file: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""

    def tls(self) -> TlsOptions | None:
        """Gives what is asked of TLS.

        Raises:
            UsageError: A certificate has no key, or the other way round.
        """
        if not self.address.is_tls:
            return None
        return TlsOptions(self.certificate or None, self.key or None, authorities=self.ca or None)

    def make(self, *, fallback: logging.Handler | str | None = None) -> NetworkLogHandler:
        """Makes the handler that sends there.

        Args:
            fallback: As of :class:`~edgevent.snaplogger.network_handler.NetworkLogHandler`.

        Raises:
            EdgeventError: A file cannot be used.
        """
        from .handlers import TcpLogHandler, UdpLogHandler

        severity = show_level(self.acknowledge_level)
        if self.address.is_datagram:
            return UdpLogHandler(
                self.address,
                secret_code=self.secret_code or None,
                auth=self.auth_key_file or None,
                acknowledge=self.acknowledge,
                acknowledge_severity=severity,
                fallback=fallback,
            )
        return TcpLogHandler(
            self.address,
            tls=self.tls(),
            acknowledge=self.acknowledge,
            acknowledge_severity=severity,
            fallback=fallback,
        )


def add_log_server_options(parser: OptionParser) -> None:
    """Adds ``--log-server`` and what goes with it.

    Args:
        parser: The program's options.
    """
    parser.add(
        "--log-server",
        type=_read_address,
        metavar="ADDRESS",
        help="send the log to a server such as snaploggerd: tcp://127.0.0.1:4043, tls:, unix:,"
        " udp: or unixgram:; while it is away, records wait, and are shown on the error output"
        " unless they go elsewhere too",
    )
    parser.add(
        "--log-acknowledge",
        choices=ACKNOWLEDGE,
        default="all",
        help="which records the server is to acknowledge, and are sent again else (default: all)",
    )
    parser.add(
        "--log-acknowledge-severity",
        type=read_level,
        to_text=show_level,
        default=logging.ERROR,
        metavar="SEVERITY",
        help="the least of them, with --log-acknowledge severity (default: error)",
    )
    parser.add_secret(
        "--log-server-secret-code", metavar="CODE", help="the code that it wants in datagrams"
    )
    parser.add(
        "--log-server-auth-key-file",
        metavar="FILE",
        help="sign datagrams with the first key in this file",
    )
    parser.add(
        "--log-server-ca", metavar="FILE|DIR", help="its authorities, not those of the system"
    )
    parser.add("--log-server-certificate", metavar="FILE", help="this side's certificate for it")
    parser.add("--log-server-key", metavar="FILE", help="the private key of that")
    parser.add_check(_check)


def read_log_server(options: argparse.Namespace) -> LogServer | None:
    """Reads these options; gives ``None`` without ``--log-server``.

    Args:
        options: What the parser with these options gave.

    Raises:
        OptionError: They do not fit together.
    """
    address: Address | None = options.log_server
    given = {
        name: getattr(options, f"log_server_{name}") or "" for name in (*_OF_TLS, *_OF_DATAGRAMS)
    }
    if address is None:
        return None
    for names, fits, whose in (
        (_OF_TLS, address.is_tls, "TLS"),
        (_OF_DATAGRAMS, address.is_datagram, "datagrams"),
    ):
        for name in names:
            if given[name] and not fits:
                option = f"--log-server-{name.replace('_', '-')}"
                raise OptionError(f"{option} is for {whose}, not for {address}")
    server = LogServer(address, options.log_acknowledge, options.log_acknowledge_severity, **given)
    try:
        server.tls()
    except UsageError as error:
        raise OptionError(f"--log-server: {error}") from None
    return server


def _read_address(text: str) -> Address:
    address = Address.parse(text, default_port=DEFAULT_PORT)
    if not (address.is_stream or address.is_datagram) or address.scheme in ("fifo", "fd"):
        raise AddressError(f"address {text!r}: tcp:, tls:, unix:, udp: or unixgram: was expected")
    return address


def _check(options: argparse.Namespace) -> Iterator[str]:
    server = read_log_server(options)
    if server is None:
        return
    tls = server.tls()
    if tls is not None:
        yield from tls_problems(tls, server_side=False)
    if server.auth_key_file:
        SigningKeys.read(server.auth_key_file)
