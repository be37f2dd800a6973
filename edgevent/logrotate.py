"""A listener for programs that have no other one: LOG_ROTATE reopens the log files."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any, Protocol

from .address import Address
from .answers import Peer, refuse
from .arguments import checks_arguments
from .dispatcher import Dispatcher
from .links.datagram import DatagramServer
from .message import Message

if TYPE_CHECKING:
    from .options import OptionParser

logger = logging.getLogger("edgevent")


class Reopened(Protocol):
    """What a :class:`LogRotateListener` reopens: :class:`~edgevent.logs.Logs`, for example."""

    def reopen(self) -> bool:
        """Opens log files anew; returns whether that was possible, else it was logged."""


class _Warning:
    """What STOP and its kin do here, as in the C++ library: a line in the log."""

    def stop(self, quitting: bool) -> None:
        self._warn("QUITTING" if quitting else "STOP")

    def ready(self, message: Message) -> None:
        self._warn(message.command)

    def restart(self, message: Message) -> None:
        self._warn(message.command)

    def _warn(self, command: str) -> None:
        logger.warning("%s came to the listener for LOG_ROTATE, which does nothing else", command)


@checks_arguments
class LogRotateListener(DatagramServer):
    """Reopens the log files when LOG_ROTATE comes by datagram; nothing else is obeyed.

    ``ed-signal --host ADDRESS LOG_ROTATE`` sends it, from logrotate's ``postrotate`` for example.
    It is obeyed from this machine, and from others with the secret code. Whom it is addressed to
    (``NAME/LOG_ROTATE``) does not matter. The other default commands are answered as by any
    service; STOP and its kin are logged alone. It does not keep the communicator running.

    Args:
        address: ``udp://host:port``, where ``host:port`` alone will do, or ``unixgram:/path``.
        logs: What is reopened.
        secret_code: The code that all datagrams must have.
        settings: Further settings of :class:`DatagramServer`.

    Raises:
        ListenError: It cannot receive there, or others than this machine could send there and
            there is no secret code.
        AddressError: The address cannot be read.
    """

    __slots__ = ("_logs",)

    def __init__(
        self,
        address: str | Address,
        logs: Reopened,
        *,
        secret_code: str | None = None,
        keep_running: bool = False,
        **settings: Any,
    ) -> None:
        commands = Dispatcher(control=_Warning())
        commands.on("LOG_ROTATE")(self._rotate)
        super().__init__(
            address,
            dispatcher=commands,
            secret_code=secret_code,
            keep_running=keep_running,
            **settings,
        )
        self._logs = logs

    def _rotate(self, message: Message, peer: Peer) -> None:
        if not peer.may_control:
            refuse(message, peer, f"{message.command} is not accepted from this peer")
            return
        logger.info("%s: LOG_ROTATE: the log files are reopened", peer.name)
        if self._logs.reopen():
            logger.info("%s: LOG_ROTATE: the log files were reopened", peer.name)


def add_log_rotation_options(parser: OptionParser, *flags: str, default: str | None = None) -> None:
    """Adds ``--logrotate-listen`` and ``--logrotate-secret``.

    Args:
        parser: The program's options.
        flags: Short names of ``--logrotate-listen``, such as ``-R`` of the C++ library.
        default: The address where it listens when nothing is said; ``None`` for nowhere.

    Raises:
        AddressError: The default is no address.
    """
    port = Address.parse(default, default_scheme="udp").port if default else None
    parser.add_address(
        *flags,
        "--logrotate-listen",
        default=default,
        default_scheme="udp",
        default_port=port,
        help="where LOG_ROTATE is waited for, which reopens the log files",
        listens=True,
        may_be_off=True,
    )
    parser.add_secret("--logrotate-secret", help="the code that LOG_ROTATE must have there")


def log_rotation_from_options(
    options: argparse.Namespace, logs: Reopened
) -> LogRotateListener | None:
    """Returns the listener that the options ask for, or ``None``.

    Args:
        options: What a parser with :func:`add_log_rotation_options` gave.
        logs: What is reopened.

    Raises:
        ListenError: As of :class:`LogRotateListener`.
    """
    if options.logrotate_listen is None:
        return None
    return LogRotateListener(
        options.logrotate_listen, logs, secret_code=options.logrotate_secret or None
    )
