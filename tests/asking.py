"""What the tests of requests do again and again."""

from __future__ import annotations

from typing import Any

import gevent
from network_ground import PATIENCE

from edgevent import EdgeventError, Message, MessageConnection


def asking(client: MessageConnection, command: str = "ASK", *args: Any, **options: Any) -> Any:
    """Asks in a greenlet of its own."""
    return gevent.spawn(client.request, Message(command), *args, **options)


def result(greenlet: Any) -> str:
    """What a request brought: the answer, or the error."""
    try:
        return str(greenlet.get(timeout=PATIENCE))
    except EdgeventError as error:
        return f"{type(error).__name__}: {error}"


def fill(client: MessageConnection) -> None:
    """Sends until a further message would have to wait."""
    while not client.is_full:
        client.send(Message("FILL", {"with": "x" * 60000}))
