"""What a server does with a peer, and the connection that it gives to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from .. import limits
from ..arguments import check_callable
from ..dispatcher import Dispatcher
from ..errors import UsageError
from ..runtime.outbox import Outbox
from ..runtime.room import WhenFull
from ..transport.base import StreamTransport
from .message import MessageConnection
from .raw import StreamConnection
from .stream import BaseStream

Handler = Dispatcher | Callable[[Any], object] | type[BaseStream[Any]] | None
"""What a server does with a peer: a dispatcher for its messages, a function of the connection that
has a greenlet of its own, or a class of connections."""


def check_handler(handler: Any) -> Handler:
    """Returns a handler, and raises :class:`UsageError` when it is none."""
    if handler is None or isinstance(handler, Dispatcher):
        found: Handler = handler
        return found
    if isinstance(handler, type):
        if issubclass(handler, BaseStream):
            return handler
    elif callable(handler):
        check_callable(handler, "the handler of a server", ("connection",))
        function: Handler = handler
        return function
    raise UsageError(
        f"{handler!r} is no handler: a Dispatcher, a function or a class of connections was"
        " expected"
    )


def make_connection(
    handler: Handler,
    transport: StreamTransport,
    dispatcher: Dispatcher | None,
    *,
    max_line_bytes: int,
    max_fds: int,
    allow_control: bool,
    keep_running: bool,
) -> BaseStream[Any]:
    """Returns the connection for a peer, with the settings that its layer has."""
    if isinstance(handler, type):
        settings: dict[str, Any] = {"keep_running": keep_running}
        if issubclass(handler, MessageConnection):
            settings["allow_control"] = allow_control
            if max_fds:
                settings["max_fds"] = max_fds
            if dispatcher is not None:
                settings["dispatcher"] = dispatcher
        if not issubclass(handler, StreamConnection):
            settings["max_line_bytes"] = max_line_bytes
        make: type[Any] = handler
        found: BaseStream[Any] = make(transport, **settings)
        return found
    connection = MessageConnection(
        transport,
        dispatcher,
        max_line_bytes=max_line_bytes,
        max_fds=max_fds,
        allow_control=allow_control,
        keep_running=keep_running,
    )
    if handler is not None and not isinstance(handler, Dispatcher):
        connection._conversation = handler
    return connection


def check_outbox(
    when_full: WhenFull | None, slow_timeout: float | None, max_bytes: int | None
) -> None:
    """Raises :class:`UsageError` for what no outbox can be told; ``None`` leaves it as it is."""
    if when_full is not None and when_full not in get_args(WhenFull):
        raise UsageError(f"when_full={when_full!r}: 'wait', 'raise' or 'drop' was expected")
    if slow_timeout is not None and not slow_timeout > 0.0:
        raise UsageError(f"slow_timeout={slow_timeout}: more than 0 was expected")
    most = limits.OUTBOX_HARD_BYTES
    if max_bytes is not None and not 1 <= max_bytes <= most:
        raise UsageError(f"max_outbox_bytes={max_bytes}: 1 to {most} was expected")


def set_outbox(
    outbox: Outbox, when_full: WhenFull | None, slow_timeout: float | None, max_bytes: int | None
) -> None:
    """Tells a peer's outbox what its server says of it."""
    if when_full is not None:
        outbox.when_full = when_full
    if slow_timeout is not None:
        outbox.slow_timeout = slow_timeout
    if max_bytes is not None:
        outbox.max_bytes = max_bytes
