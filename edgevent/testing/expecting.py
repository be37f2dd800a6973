"""What a scripted peer expects of a message, and how that is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import EllipsisType

from ..message import Message
from ..values import to_text

Wanted = str | re.Pattern[str] | Mapping[str, object] | Callable[[Message], object]
"""What a message is to be; see :func:`meets`."""


def meets(message: Message, wanted: Wanted) -> bool:
    """Tells whether a message is what was expected.

    Args:
        wanted: A text: a command, with parameters behind it if they matter, as in
            ``ADD a=2;b=*``, where ``*`` stands for anything, and parameters that it does not name
            may be there too; with a ``/`` in its first word, the service (and the server) too, as
            in ``sums/ADD``. An expression, found anywhere in the message's text. A mapping of
            parameters: a value to compare with, ``...`` for any, ``None`` for a parameter that
            is not there, or a function of the text. Or a function of the message.
    """
    if isinstance(wanted, str):
        head, _, rest = wanted.partition(" ")
        found = message.head.partition(" ")[2] if message.head[:1] == "<" else message.head
        if not _like(found if "/" in head else message.command, head):
            return False
        pairs = [pair.partition("=") for pair in rest.split(";") if pair]
        return all(_like(message.get(name), value) for name, _, value in pairs)
    if isinstance(wanted, re.Pattern):
        return wanted.search(str(message)) is not None
    if isinstance(wanted, Mapping):
        return all(_is(message, name, value) for name, value in wanted.items())
    return bool(wanted(message))


def shown(wanted: Wanted) -> str:
    """Returns how a failure calls what was expected."""
    if isinstance(wanted, str):
        return repr(wanted)
    if isinstance(wanted, re.Pattern):
        return f"what {wanted.pattern!r} matches"
    if isinstance(wanted, Mapping):
        pairs = (f"{name}={_shown_value(value)}" for name, value in wanted.items())
        return f"a message with {', '.join(pairs)}"
    return f"what {getattr(wanted, '__name__', repr(wanted))} takes"


def _like(text: str | None, pattern: str) -> bool:
    if text is None:
        return False
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _is(message: Message, name: str, value: object) -> bool:
    text = message.get(name)
    if value is None or text is None:
        return text is value
    if isinstance(value, EllipsisType):
        return True
    if isinstance(value, re.Pattern):
        return value.fullmatch(text) is not None
    if callable(value):
        return bool(value(text))
    return text == to_text(value, name, message.command)


def _shown_value(value: object) -> str:
    if isinstance(value, EllipsisType):
        return "anything"
    return "nothing" if value is None else getattr(value, "__name__", repr(value))
