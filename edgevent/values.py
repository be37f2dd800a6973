"""What may be given as the value of a parameter, and the text that it becomes."""

from __future__ import annotations

import base64
import decimal
import ipaddress
import math
import os
import re
from typing import Final, Union

from .address import Address
from .errors import NOT_MADE, MessageError

Value = Union[
    str,
    int,
    float,
    bool,
    bytes,
    decimal.Decimal,
    Address,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    "os.PathLike[str]",
]
"""What may be given as a parameter's value; all of it becomes text (``bytes`` as base64)."""

_NUMBERS: Final = (float, decimal.Decimal)
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def show_name(text: str, limit: int = 40) -> str:
    """Quotes at most ``limit`` characters of a name for an error."""
    return ascii(text if len(text) <= limit else text[:limit] + "...")


def to_text(value: object, name: str, command: str) -> str:
    """Turns one value into the text that stands for it."""
    if isinstance(value, str):
        text = str.__str__(value)  # plain, whatever a subclass makes of format()
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int):
        try:
            text = str(int(value))
        except ValueError as error:  # sys.set_int_max_str_digits()
            raise refuse(name, command, "has too many digits to be written") from error
    elif isinstance(value, float) and math.isfinite(value):
        text = repr(float(value))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        text = base64.b64encode(value).decode("ascii")
    elif isinstance(value, Address):
        text = value.endpoint
    elif isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)) or (
        isinstance(value, decimal.Decimal) and value.is_finite()
    ):
        text = str(value)
    elif isinstance(value, os.PathLike) and isinstance(path := os.fspath(value), str):
        text = path
    else:
        kind = "not finite" if isinstance(value, _NUMBERS) else f"a {type(value).__name__}"
        expected = "str, int, float, bool, bytes, an address or a path was expected"
        raise refuse(name, command, f"is {kind} and cannot be sent as text; {expected}")
    if "\0" in text or not text.isascii():
        text = check_text(text, name, command)
    return text


def as_read(text: str) -> str:
    """Gives a text as its reader will see it.

    A lone surrogate stands for a byte that is no UTF-8 (``surrogateescape``). Several of them may
    stand for bytes that are a character together: then it is that character.

    Raises:
        UnicodeEncodeError: A surrogate stands for no byte.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return text


def check_text(text: str, name: object, command: str) -> str:
    """Gives a text as its reader will see it, and refuses what the wire cannot carry."""
    if "\0" in text:
        raise refuse(name, command, "holds a NUL, which no message can carry")
    try:
        return as_read(text)
    except UnicodeEncodeError:
        why = "holds a lone surrogate, which no message can carry"
        raise refuse(name, command, why) from None


def refuse(name: object, command: str, why: str) -> MessageError:
    """Makes the error about one parameter, whose name may be anything."""
    if not isinstance(name, str):
        return MessageError(f"{command}: a parameter's name is a {type(name).__name__}, not a str")
    shown = show_name(name)[1:-1] if NAME.fullmatch(name) else show_name(name)
    text = f"{command}: parameter {shown} {why}"
    return MessageError(text, command=command, parameter=name[:64], message=NOT_MADE)
