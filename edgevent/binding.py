"""Binds a message's parameters to the arguments of its handler, by name and annotation.

The signature is read once, when the handler is registered; what cannot work is refused then.
"""

from __future__ import annotations

import functools
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
            message=message,
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
    """Names a handler for a log line or an error.

    Its ``repr`` is left alone: that of a method or of a ``functools.partial`` shows what it holds,
    secrets too, and may fail where a failure is being told.
    """
    if not callable(handler):
        return repr(handler)
    while isinstance(handler, functools.partial):
        handler = handler.func
    return str(getattr(handler, "__qualname__", None) or type(handler).__qualname__)


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


def _evaluate(annotation: object, handler: Handler, where: str) -> object:
    """Returns what an annotation that is text stands for, as ``from __future__`` makes them.

    Those of the message and the peer are left alone: their types may be known to type checkers
    only.
    """
    if not isinstance(annotation, str):
        return annotation
    function: Any = handler
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not hasattr(function, "__globals__"):
        function = type(function).__call__
    try:
        return eval(annotation, function.__globals__)
    except Exception as error:
        raise UsageError(f"{where}: the type {annotation!r} cannot be read: {error}") from error


def _check(handler: Handler, name: str) -> None:
    if not callable(handler) or inspect.isclass(handler):
        raise UsageError(f"{name} is no handler: a function of (message, peer) was expected")
    for function in (handler, type(handler).__call__):
        if (
            inspect.iscoroutinefunction(function)
            or inspect.isgeneratorfunction(function)
            or inspect.isasyncgenfunction(function)
        ):
            raise UsageError(f"{name} is a coroutine or a generator: a handler is a plain function")


def bind(handler: Handler) -> Bound:
    """Makes a function of ``(message, peer)`` from a handler that takes parameters by name.

    Raises:
        UsageError: The handler cannot be called so, or a type is none of a parameter's.
    """
    name = describe(handler)
    _check(handler, name)
    try:
        signature = inspect.signature(handler)
    except ValueError:  # some callables of C have none
        return handler
    arguments = list(signature.parameters.values())
    leading = [a for a in arguments if a.kind in (a.POSITIONAL_ONLY, a.POSITIONAL_OR_KEYWORD)]
    open_ended = any(a.kind is a.VAR_POSITIONAL for a in arguments)
    if len(leading) < 2 and not open_ended:
        raise UsageError(f"{name}{signature} is no handler: it must take (message, peer, ...)")
    for argument, what in zip(leading, ("message", "peer"), strict=False):
        if argument.annotation in _VALUES:
            raise UsageError(
                f"{name}{signature} is no handler: it must take (message, peer, ...), and"
                f" {argument.name} stands in the place of the {what}"
            )
    # What functools.partial() has set is not for the peer to change.
    taken = {a.name for a in leading[:2]}
    if isinstance(handler, functools.partial):
        taken.update(handler.keywords)
    named = [a for a in arguments if a.name not in taken and a.kind not in _VARIABLE]
    if not named:
        return handler
    plan = []
    for argument in named:
        where = f"{name}, parameter {argument.name}"
        if argument.kind is argument.POSITIONAL_ONLY or not argument.name.isascii():
            raise UsageError(f"{where}: no message can give it by this name")
        reader, optional = _reader(_evaluate(argument.annotation, handler, where), where)
        default: object = argument.default
        if default is argument.empty:
            default = None if optional else _REQUIRED
        plan.append((argument.name, reader, default))
    return _call_with(handler, plan)


_VALUES: Final = (str, int, float, bool, bytes, "str", "int", "float", "bool", "bytes")
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

    call.__qualname__ = describe(handler)
    return call
