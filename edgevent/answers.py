"""The peer as a handler sees it, and the answers to a message that is not handled.

``UNKNOWN`` and ``INVALID`` are those of the C++ library; ``INVALID`` with a reason is what it
leaves open (its dispatcher answers nothing then).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from .binding import Bound, describe
from .errors import MessageError, UsageError
from .message import Message

logger = logging.getLogger("edgevent.dispatcher")

_QUOTED: Final = 256


class Peer(Protocol):
    """What a handler gets as its second argument: the one that sent the message.

    On streams it is the connection itself.
    """

    @property
    def name(self) -> str:
        """The name of the connection, unique in its communicator."""

    @property
    def may_control(self) -> bool:
        """Whether the peer's STOP and the like are obeyed."""

    @property
    def answers_errors(self) -> bool:
        """Whether a message that is refused is answered (never over unauthenticated datagrams)."""

    def send(self, message: Message, /) -> Any:
        """Sends a message to the peer; may block the greenlet that calls."""

    def stop_requested(self, quitting: bool, /) -> None:
        """What STOP and QUITTING do by default."""

    def log_alive(self) -> None:
        """What LEAK does: logs what is alive in this process."""


class Permits(Protocol):
    """A table of who may send what."""

    def find(self, command: str, /) -> Callable[[Peer], bool] | None:
        """What says whether a peer may send this command; ``None`` when the table is silent."""


def send_answer(answer: object, peer: Peer, handler: Bound) -> None:
    """Sends what a handler returned.

    Raises:
        UsageError: It is neither a message nor ``None``.
    """
    if not isinstance(answer, Message):
        raise UsageError(
            f"{describe(handler)} returned a {type(answer).__name__};"
            " a Message or None was expected"
        )
    peer.send(answer)


def _may_answer(message: Message, peer: Peer) -> bool:
    # An error that is answered with an error could go back and forth for ever.
    return message.command not in ("INVALID", "UNKNOWN") and peer.answers_errors


def _send(answer: Message, peer: Peer) -> None:
    # What it takes over from the message, a serial or a name, may have been as long as a line.
    try:
        peer.send(answer)
    except MessageError as error:
        logger.warning("%s: a message of it is not answered: %s", peer.name, error)


def quoted(command: str) -> str:
    """Returns a command as an answer names it: one that is as long as a line would not fit."""
    return command if len(command) <= _QUOTED else f"{command[: _QUOTED - 3]}..."


def answer_unknown(message: Message, peer: Peer) -> None:
    """Answers ``UNKNOWN``, without the serial, as the C++ library does."""
    if _may_answer(message, peer):
        answer = message.reply("UNKNOWN", {"command": quoted(message.command)})
        _send(answer.without_parameters("serial"), peer)
    else:
        logger.info("%s: %.64s is unknown here", peer.name, message.command)


def refuse(message: Message, peer: Peer, why: str) -> None:
    """Answers ``INVALID`` with a reason, and logs it."""
    logger.warning("%s: refused %.64s: %s", peer.name, message.command, why)
    if _may_answer(message, peer):
        fields = {"command": quoted(message.command), "message": why}
        _send(message.reply("INVALID", fields), peer)


def refuse_sender(message: Message, peer: Peer) -> None:
    """Answers a command that this peer may not send."""
    refuse(message, peer, f"{quoted(message.command)} is not accepted from this peer")


def answer_failure(message: Message, peer: Peer, error: BaseException, id: str) -> None:
    """Answers a message whose handler raised ``error``.

    A parameter of this very message that is missing or wrong is the sender's mistake, and is
    answered as such. All else is this side's: the peer is told no more than ``id``, under which
    the caller has logged the traceback.
    """
    if is_senders_mistake(message, error):
        refuse(message, peer, str(error))
    elif _may_answer(message, peer):
        fields = {"command": quoted(message.command), "message": "internal error", "id": id}
        _send(message.reply("INVALID", fields), peer)


def is_senders_mistake(message: Message, error: BaseException) -> bool:
    """Whether ``error`` is about a parameter of ``message`` itself.

    One that a handler raises may leave open which message it is about; that of the same command is
    taken for this one.
    """
    if not isinstance(error, MessageError) or not error.parameter:
        return False
    if error.message is None:
        return error.command == message.command
    return error.message is message
