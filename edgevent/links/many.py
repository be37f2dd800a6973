"""Many peers at once: the same request to each, or the same message to all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .. import limits
from ..errors import EdgeventError, UsageError, no_message
from ..message import Message
from .message import MessageConnection
from .request import Request, reply_set


def request_many(
    connections: Sequence[MessageConnection],
    message: Message,
    timeout: float = limits.REQUEST_TIMEOUT,
    *,
    reply: str | Iterable[str] | None = None,
) -> list[Message | EdgeventError]:
    """Asks many peers at once. Blocks the calling greenlet until all have answered or failed.

    Args:
        timeout: The limit in seconds, for all of them together.

    Returns:
        For each connection, in their order, its answer, or the error that came in its place.

    Raises:
        UsageError: It is no message, or the call can never be right for another reason.
        WrongThreadError: A connection belongs to another thread.
        ForkedError: It belongs to the parent process.
    """
    if not connections:
        return []
    replies = reply_set(reply)
    clock = connections[0]._use_clock
    end = clock.now() + timeout
    asked: dict[int, Request] = {}
    answers: dict[int, Message | EdgeventError] = {}
    try:
        # Those that have to wait for room come last: a slow peer must not keep the others waiting.
        for index in sorted(range(len(connections)), key=lambda index: connections[index].is_full):
            left = max(end - clock.now(), 0.0)
            try:
                asked[index] = connections[index].ask(message, replies, left, True)
            except UsageError:
                raise  # what is wrong for one is wrong for all
            except EdgeventError as error:
                answers[index] = error
        for index, request in asked.items():
            try:
                answers[index] = connections[index].answer(request)
            except EdgeventError as error:
                answers[index] = error
    finally:
        for index, request in asked.items():
            connections[index].forget(request)
    return [answers[index] for index in range(len(connections))]


def broadcast(connections: Iterable[MessageConnection], message: Message) -> int:
    """Sends one message to many peers. Never waits and never raises for one of them.

    A peer that takes nothing while 8 MiB pile up for it is closed; so is one that is lost.

    Returns:
        How many took it.

    Raises:
        UsageError: It is no message.
        WrongThreadError: A connection belongs to another thread.
        ForkedError: It belongs to the parent process.
    """
    try:
        data = message.to_line()
    except AttributeError:
        raise no_message(message) from None
    taken = 0
    turns = None
    for connection in connections:
        if connection._turns is not turns:
            turns = connection._turns
            turns.check()
        outbox = connection._outbox
        if outbox is not None and outbox.write_soon(data):
            taken += 1
            if connection.takes_note:
                connection.note_sent(message)
    return taken
