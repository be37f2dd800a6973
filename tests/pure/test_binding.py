"""Handlers: their arguments from the message's parameters, and what cannot be a handler."""

from __future__ import annotations

import functools
import inspect
import ipaddress
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Optional, Union

import pytest

from edgevent.address import Address
from edgevent.binding import bind, describe
from edgevent.errors import MessageError, UsageError
from edgevent.message import Message

if TYPE_CHECKING:
    from somewhere import Peer

PEER = object()
IPv4 = ipaddress.IPv4Address
IPv6 = ipaddress.IPv6Address
OLDER_OPTIONAL = Optional[int]  # noqa: UP045 - the older spellings are to be understood too
OLDER_UNION = Union[None, str]  # noqa: UP007
OLDER_UNION_OF_THREE = Union[int, str, None]  # noqa: UP007


def call(handler: Callable[..., Any], line: str) -> Any:
    return bind(handler)(Message.parse(line), PEER)


def taking(annotation: object, *default: object) -> Callable[..., Any]:
    """A handler that returns its parameter v, which has this type and, if given, this default."""

    def handler(message, peer, v):
        return v

    handler.__annotations__ = {"v": annotation}
    handler.__defaults__ = default
    return handler


# --- what a handler gets --------------------------------------------------------------------------


def test_a_handler_of_two_arguments_is_called_as_it_is() -> None:
    def handler(message: Message, peer: object) -> tuple[str, bool]:
        return message.command, peer is PEER

    assert bind(handler) is handler
    assert call(handler, "HI v=1") == ("HI", True)


def test_the_message_and_the_peer_come_first_and_parameters_by_name() -> None:
    def handler(message: Message, peer: object, v: str, *, w: int) -> tuple[Any, ...]:
        return message.command, peer is PEER, v, w

    assert call(handler, "HI w=2;v=1;x=3") == ("HI", True, "1", 2)


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (inspect.Parameter.empty, "5", "5"),
        (str, "5", "5"),
        (str, "", ""),
        ("str", "5", "5"),
        (int, "-5", -5),
        ("int", "-5", -5),
        (float, "1.5", 1.5),
        (float, "2", 2.0),
        (bool, "on", True),
        (bool, "0", False),
        (bytes, "AP8=", b"\x00\xff"),
        (Address, "[::1]:3001", Address("tcp", host="::1", port=3001)),
        ("Address", "[::1]:3001", Address("tcp", host="::1", port=3001)),
        (IPv4, "127.0.0.1", IPv4("127.0.0.1")),
        (IPv6, "::1", IPv6("::1")),
        (IPv4 | IPv6, "127.0.0.1", IPv4("127.0.0.1")),
        (IPv4 | IPv6, "::1", IPv6("::1")),
        (IPv4 | IPv6 | None, "::1", IPv6("::1")),
        (int | None, "5", 5),
        (None | int, "5", 5),
        ("int | None", "5", 5),
        (OLDER_OPTIONAL, "5", 5),
        (OLDER_UNION, "5", "5"),
    ],
)
def test_a_parameter_has_the_type_of_its_annotation(
    annotation: object, text: str, value: object
) -> None:
    given = call(taking(annotation), f"HI v={text}")
    assert given == value
    assert type(given) is type(value)
    assert call(taking(annotation, "default"), f"HI v={text}") == value


@pytest.mark.parametrize(
    "annotation", [int | None, OLDER_OPTIONAL, IPv4 | IPv6 | None, "str | None"]
)
def test_an_optional_parameter_that_is_missing_is_none(annotation: object) -> None:
    assert call(taking(annotation), "HI") is None
    assert call(taking(annotation, 7), "HI") == 7


@pytest.mark.parametrize("annotation", [str, int, Address, inspect.Parameter.empty])
def test_a_default_stands_for_a_parameter_that_is_missing(annotation: object) -> None:
    default = object()
    assert call(taking(annotation, default), "HI") is default
    assert call(taking(annotation, None), "HI") is None


@pytest.mark.parametrize("annotation", [str, int, float, bool, bytes, Address, IPv4, IPv4 | IPv6])
def test_a_parameter_that_is_missing_is_an_error(annotation: object) -> None:
    with pytest.raises(MessageError, match="HI: parameter v is missing") as raised:
        call(taking(annotation), "HI w=1")
    assert (raised.value.command, raised.value.parameter) == ("HI", "v")


@pytest.mark.parametrize(
    ("annotation", "text", "why"),
    [
        (int, "x", "is no integer of 64 bits"),
        (int | None, "", "is no integer of 64 bits"),
        (float, "x", "is no finite number"),
        (bool, "x", "is no truth value"),
        (bytes, "x", "is no base64"),
        (Address, "x", "is no address"),
        (IPv4, "::1", "is no IP address"),
        (IPv6, "127.0.0.1", "is no IP address"),
        (IPv4 | IPv6, "x", "is no IP address"),
    ],
)
def test_a_parameter_that_cannot_be_converted_is_an_error(
    annotation: object, text: str, why: str
) -> None:
    for handler in (taking(annotation), taking(annotation, None)):
        with pytest.raises(MessageError, match=f"HI: parameter v {why}") as raised:
            call(handler, f"HI v={text}")
        assert (raised.value.command, raised.value.parameter) == ("HI", "v")


# --- what can be a handler ------------------------------------------------------------------------


class Service:
    def method(self, message, peer, v: int) -> int:
        return v

    @staticmethod
    def static(message, peer, v: int) -> int:
        return v

    def __call__(self, message, peer, v: int) -> int:
        return v


def keeping(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return wrapper


def fixed(settings: str, message: Message, peer: Any, v: int, limit: int = 5) -> tuple[Any, ...]:
    return settings, v, limit


@pytest.mark.parametrize(
    "handler",
    [
        Service().method,
        Service.static,
        Service(),
        keeping(Service.static),
        keeping(Service().method),
        functools.partial(Service.method, Service()),
        functools.partial(keeping(Service.static)),
        lambda message, peer, v: int(v),
        lambda *arguments, v: int(v),
        lambda message, *rest, v: int(v),
        lambda message, peer, v, **more: int(v),
    ],
)
def test_a_handler_may_be_any_plain_callable(handler: Callable[..., Any]) -> None:
    assert call(handler, "HI v=5;w=6") == 5


def test_what_a_partial_has_set_is_not_for_the_peer_to_change() -> None:
    handler = functools.partial(fixed, "mine", limit=7)
    assert call(handler, "HI v=1;limit=9;settings=x") == ("mine", 1, 7)
    assert call(functools.partial(fixed, "mine"), "HI v=1;limit=9") == ("mine", 1, 9)


def test_further_arguments_of_any_number_are_left_empty() -> None:
    def handler(*arguments: Any, **named: Any) -> tuple[int, int]:
        return len(arguments), len(named)

    assert call(handler, "HI v=1") == (2, 0)


def test_the_types_of_the_message_and_the_peer_may_be_known_to_type_checkers_only() -> None:
    def handler(message: Message, peer: Peer, v: int) -> int:
        return v

    assert call(handler, "HI v=5") == 5


def test_a_callable_that_does_not_say_what_it_takes_is_called_as_it_is() -> None:
    # dict.update() of C: "no signature found".
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(dict.update)
    assert bind(dict.update) is dict.update


def test_a_handler_is_named_in_logs_as_it_is_in_the_program() -> None:
    assert describe(Service.method) == "Service.method"
    assert describe(bind(Service().method)) == "Service.method"
    assert describe(functools.partial(fixed, "a secret")) == "fixed"


# --- what cannot ----------------------------------------------------------------------------------


async def coroutine(message, peer) -> None: ...


async def async_generator(message, peer) -> AsyncIterator[int]:
    yield 1


def generator(message, peer) -> Iterator[int]:
    yield 1


class Asynchronous:
    async def __call__(self, message, peer) -> None: ...


def without_peer(message, v: int) -> None: ...


def alone(v: str, peer) -> None: ...


def positional(message, peer, v, /) -> None: ...


def foreign_name(message, peer, größe) -> None: ...


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (None, "None is no handler: a function of (message, peer) was expected"),
        ("HI", "'HI' is no handler"),
        (Service, "Service is no handler"),
        (coroutine, "coroutine is a coroutine or a generator: a handler is a plain function"),
        (functools.partial(coroutine), "is a coroutine or a generator"),
        (async_generator, "is a coroutine or a generator"),
        (generator, "is a coroutine or a generator"),
        (Asynchronous(), "is a coroutine or a generator"),
        (lambda: None, "() is no handler: it must take (message, peer, ...)"),
        (lambda message: None, "(message) is no handler"),
        (lambda message, *, peer: None, "(message, *, peer) is no handler"),
        (lambda **named: None, "(**named) is no handler"),
        ([].append, "is no handler: it must take"),
        (without_peer, "must take (message, peer, ...), and v stands in the place of the peer"),
        (alone, "must take (message, peer, ...), and v stands in the place of the message"),
        (positional, "positional, parameter v: no message can give it by this name"),
        (foreign_name, "parameter größe: no message can give it by this name"),
        (taking(list), "parameter v: <class 'list'> is no type of a message's parameter"),
        (taking(Any), "typing.Any is no type of a message's parameter"),
        (taking(None), "None is no type of a message's parameter"),
        (taking([]), "[] is no type of a message's parameter"),
        (taking(int | str), "int | str is no type of a message's parameter"),
        (taking(OLDER_UNION_OF_THREE), "is no type of a message's parameter"),
        (taking(list[int]), "list[int] is no type of a message's parameter"),
        (taking("Peer"), "parameter v: the type 'Peer' cannot be read: name 'Peer' is not"),
        (taking("int |"), "parameter v: the type 'int |' cannot be read: invalid syntax"),
    ],
)
def test_what_cannot_work_is_refused(handler: Any, why: str) -> None:
    with pytest.raises(UsageError) as raised:
        bind(handler)
    assert why in str(raised.value)
