"""Binds a message's parameters to the arguments of its handler, by name and annotation.

The signature is read once, when the handler is registered; what cannot work is refused then.
"""

from __future__ import annotations

import inspect
import ipaddress
import types
import typing
from collections.abc import Callable
from typing import Any, Final, Union

from .address import Address
from .errors import MessageError, UsageError
from .message import Message

Handler = Callable[..., Any]
"""A function of ``(message, peer)`` and any of the message's parameters."""

Bound = Callable[[Message, Any], Any]
"""A handler that takes nothing but ``(message, peer)``."""

_REQUIRED: Final = object()


def _ip_reader(*kinds: type) -> Callable[[Message, str], object]:
    def read(message: Message, name: str) -> object:
        text = message[name]
        for kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
        raise MessageError(
            f"{message.command}: parameter {name} is no IP address",
            command=message.command,
            parameter=name,
        )

    return read


_READERS: Final[dict[object, Callable[[Message, str], object]]] = {
    inspect.Parameter.empty: Message.__getitem__,
    str: Message.__getitem__,
    int: Message.integer,
    float: Message.number,
    bool: Message.boolean,
    bytes: Message.binary,
    Address: Message.address,
    ipaddress.IPv4Address: _ip_reader(ipaddress.IPv4Address),
    ipaddress.IPv6Address: _ip_reader(ipaddress.IPv6Address),
}


def describe(handler: Handler) -> str:
    """Names a handler for a log line or an error."""
    return str(getattr(handler, "__qualname__", None) or repr(handler))


def _reader(annotation: object, where: str) -> tuple[Callable[[Message, str], object], bool]:
    """Returns what reads a parameter of this type, and whether ``None`` is one of its values."""
    optional = False
    if typing.get_origin(annotation) in (Union, types.UnionType):
        choices = typing.get_args(annotation)
        optional = type(None) in choices
        left = [choice for choice in choices if choice is not type(None)]
        if len(left) == 1:
            annotation = left[0]
        elif all(choice in (ipaddress.IPv4Address, ipaddress.IPv6Address) for choice in left):
            return _ip_reader(*left), optional
    try:
        return _READERS[annotation], optional
    except (KeyError, TypeError):
        raise UsageError(
            f"{where}: {annotation!r} is no type of a message's parameter; str, int, float, bool,"
            " bytes, Address, an IP address, or one of them '| None' was expected"
        ) from None


def _signature(handler: Handler, name: str) -> inspect.Signature | None:
    try:
        return inspect.signature(handler, eval_str=True)
    except ValueError:  # some callables of C have none
        return None
    except Exception as error:
        raise UsageError(f"{name}: its annotations cannot be read: {error}") from error


def bind(handler: Handler) -> Bound:
    """Makes a function of ``(message, peer)`` from a handler that takes parameters by name.

    Raises:
        UsageError: The handler cannot be called so, or a type is none of a parameter's.
    """
    name = describe(handler)
    if not callable(handler):
        raise UsageError(f"{name} is no handler: a function of (message, peer) was expected")
    if inspect.iscoroutinefunction(handler) or inspect.isgeneratorfunction(handler):
        raise UsageError(f"{name} is a coroutine or a generator: a handler is a plain function")
    signature = _signature(handler, name)
    if signature is None:
        return handler
    arguments = list(signature.parameters.values())
    leading = [a for a in arguments if a.kind in (a.POSITIONAL_ONLY, a.POSITIONAL_OR_KEYWORD)]
    open_ended = any(a.kind is a.VAR_POSITIONAL for a in arguments)
    if len(leading) < 2 and not open_ended:
        raise UsageError(f"{name}{signature} is no handler: it must take (message, peer, ...)")
    named = [a for a in arguments if a not in leading[:2] and a.kind not in _VARIABLE]
    if not named:
        return handler
    plan = []
    for argument in named:
        if argument.kind is argument.POSITIONAL_ONLY:
            raise UsageError(f"{name}: parameter {argument.name} cannot be given by its name")
        reader, optional = _reader(argument.annotation, f"{name}, parameter {argument.name}")
        default: object = argument.default
        if default is argument.empty:
            default = None if optional else _REQUIRED
        plan.append((argument.name, reader, default))
    return _call_with(handler, plan)


_VARIABLE: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _call_with(
    handler: Handler, plan: list[tuple[str, Callable[[Message, str], object], object]]
) -> Bound:
    def call(message: Message, peer: Any) -> Any:
        arguments = {}
        for name, reader, default in plan:
            if default is _REQUIRED or name in message:
                arguments[name] = reader(message, name)
            else:
                arguments[name] = default
        return handler(message, peer, **arguments)

    return call
