"""The default commands: those that every C++ service of the same library answers.

What STOP and its kin do is the dispatcher's ``control`` object: any object with some of the
methods ``stop(quitting)``, ``ready(message)``, ``restart(message)`` and ``reopen_logs()``. They run
in the turn of the connection that brought the message, may block, and are called only for peers
that are obeyed: loopback, Unix sockets, authenticated ones, and all those of a listener with
``allow_control=True``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from .answers import Peer, refuse_sender
from .durations import format_timespec
from .errors import UsageError
from .message import Message

logger = logging.getLogger("edgevent.commands")

CONTROL_METHODS: Final = ("stop", "ready", "restart", "reopen_logs")


class Table(Protocol):
    """What the default commands ask of their dispatcher."""

    control: object
    my_address: str

    def commands(self) -> list[str]:
        """The names for HELP."""

    def guards(self, command: str) -> bool:
        """Whether a permission was needed, so that whoever comes so far has it."""


def is_obeyed(table: Table, message: Message, peer: Peer) -> bool:
    """Whether a peer's command that controls the service is obeyed; if not, it is answered.

    Those that a table of permissions names are obeyed from whom it admits, others from peers that
    are local or have proved who they are.
    """
    if peer.may_control or table.guards(message.command):
        return True
    refuse_sender(message, peer)
    return False


def check_control(control: object) -> None:
    """Refuses a control object that could never be called.

    Raises:
        UsageError: It has none of the four methods.
    """
    if control is not None and not any(hasattr(control, name) for name in CONTROL_METHODS):
        raise UsageError(
            f"{control!r} is no control object: it has none of {', '.join(CONTROL_METHODS)}"
        )


def default_commands(table: Table) -> dict[str, Callable[[Message, Peer], Message | None]]:
    """Returns the handlers of the default commands for one dispatcher."""

    def method(name: str) -> Callable[..., Any] | None:
        found: Callable[..., Any] | None = getattr(table.control, name, None)
        return found

    def alive(message: Message, peer: Peer) -> Message:
        fields = {"reply_timestamp": format_timespec(time.time_ns(), digits=9)}
        if "timestamp" in message:
            fields["timestamp"] = message["timestamp"]
        return message.reply("ABSOLUTELY", fields)

    def help_(message: Message, peer: Peer) -> Message:
        return message.reply("COMMANDS", {"list": ",".join(table.commands())})

    def error(message: Message, peer: Peer) -> None:
        logger.error(
            "%s: answered %s%s%s",
            peer.name,
            message.command,
            _about(message, " to ", "command"),
            _about(message, ": ", "message"),
        )

    def leak(message: Message, peer: Peer) -> None:
        peer.log_alive()

    def log_rotate(message: Message, peer: Peer) -> None:
        if is_obeyed(table, message, peer):
            logger.info("%s: LOG_ROTATE: the log files are reopened", peer.name)
            if reopen := method("reopen_logs"):
                reopen()
            logger.info("%s: LOG_ROTATE: the log files were reopened", peer.name)

    def stop(message: Message, peer: Peer) -> None:
        if is_obeyed(table, message, peer):
            quitting = message.command == "QUITTING"
            logger.info("%s: %s", peer.name, message.command)
            (method("stop") or peer.stop_requested)(quitting)

    def ready(message: Message, peer: Peer) -> None:
        if is_obeyed(table, message, peer):
            table.my_address = message.get("my_address", "")
            if call := method("ready"):
                call(message)

    def restart(message: Message, peer: Peer) -> None:
        if is_obeyed(table, message, peer):
            if call := method("restart"):
                call(message)
            else:
                logger.warning("%s: RESTART is not supported by this service", peer.name)

    def unavailable(message: Message, peer: Peer) -> None:
        logger.debug("%s: SERVICE_UNAVAILABLE", peer.name)

    return {
        "ALIVE": alive,
        "HELP": help_,
        "INVALID": error,
        "LEAK": leak,
        "LOG_ROTATE": log_rotate,
        "QUITTING": stop,
        "READY": ready,
        "RESTART": restart,
        "SERVICE_UNAVAILABLE": unavailable,
        "STOP": stop,
        "UNKNOWN": error,
    }


def _about(message: Message, before: str, name: str) -> str:
    """Shows what a peer says of an error, on one line and not at any length."""
    text = message.get(name, "")
    return f"{before}{text[:200]!a}" if text else ""
