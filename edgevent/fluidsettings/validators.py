"""What the value of a setting may be: the types and validators of definition files.

A validator is ``name``, ``name(parameters)`` or ``/expression/flags``, as in the C++ library
(advgetopt). Its parameters are separated by commas; a range is ``least...most``, and either may be
missing. A regular expression is searched for in the whole value: one that is not anchored by itself
has to match all of it. Nothing here switches greenlets.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ..address import Address
from ..durations import format_duration, parse_duration
from ..errors import AddressError, DefinitionError, DurationError

Check = Callable[[str], str | None]
"""Returns what was expected of a value, as the end of a sentence; ``None`` when it is right."""

_FORM: Final = re.compile(r"([a-z][a-z0-9-]*)\s*(?:\((.*)\))?", re.ASCII | re.DOTALL)
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)", re.ASCII)
# RFC 5322's dot-atom and RFC 1123's host, with the lengths of RFC 5321.
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL: Final = re.compile(
    rf"(?=[^@]{{1,64}}@)(?=.{{3,254}}\Z){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*", re.ASCII
)
_TRUTHS: Final = ("true", "on", "yes", "1", "false", "off", "no", "0")
_SIZES: Final = {
    name: factor
    for power, letter in enumerate(("", "k", "m", "g", "t", "p"))
    for name, factor in (
        (letter, 1000**power),
        (f"{letter}b", 1000**power),
        (f"{letter}ib", 1024**power),
    )
}
_FLAGS: Final = {"i": re.IGNORECASE, "s": re.DOTALL, "m": re.MULTILINE, "x": re.VERBOSE}
_MAX_INTEGER: Final = 2**63


def _no_check(value: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Validator:
    """Says whether a text may be the value of a setting.

    Attributes:
        kind: ``string`` (any text), ``integer``, ``float``, ``duration``, ``boolean``, ``regex``,
            ``email``, ``keywords``, ``address``, ``size`` or ``length``.
        text: As it stands in the definition.
        choices: The words of ``keywords``, and those of ``boolean``.
    """

    kind: str = "string"
    text: str = ""
    choices: tuple[str, ...] = ()
    _check: Check = field(default=_no_check, repr=False, compare=False)

    def check(self, value: str) -> str | None:
        """Returns what was expected, such as ``an integer from 1 to 100 was expected``.

        ``None`` when the value is right.
        """
        return self._check(value)


ANYTHING: Final = Validator()
"""The one of a setting whose definition names none."""


def parse_validator(text: str) -> Validator:
    """Reads a validator.

    Raises:
        DefinitionError: It is none; the sentence names what was expected, or the nearest name.
    """
    text = text.strip()
    if text.startswith("/"):
        return _regex(text, *_split_regex(text))
    found = _FORM.fullmatch(text)
    make = _MAKERS.get(found[1]) if found else None
    if found is None or make is None:
        names = sorted(_MAKERS)
        near = difflib.get_close_matches(found[1] if found else text, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"{', '.join(names)} or /regex/"
        raise DefinitionError(f"validator {text[:64]!r} is not known: {hint}")
    arguments = [one.strip() for one in (found[2] or "").split(",")] if found[2] else []
    return make(text, arguments)


# --- numbers --------------------------------------------------------------------------------------


def _numbers(
    kind: str, noun: str, read: Callable[[str], float | int | None], show: Callable[[float], str]
) -> Callable[[str, list[str]], Validator]:
    """Makes what reads a validator of numbers in ranges."""

    def make(text: str, arguments: list[str]) -> Validator:
        ranges = [_range(text, one, read) for one in arguments]
        wanted = " or ".join(_show_range(one, show) for one in ranges)
        sentence = f"{noun}{f' {wanted}' if wanted else ''} was expected"

        def check(value: str) -> str | None:
            number = read(value)
            if number is None:
                return sentence
            good = not ranges or any(least <= number <= most for least, most in ranges)
            return None if good else sentence

        return Validator(kind, text, (), check)

    return make


def _range(
    text: str, argument: str, read: Callable[[str], float | int | None]
) -> tuple[float, float]:
    least, dots, most = (one.strip() for one in argument.partition("..."))
    if not dots:
        most = least
    low = read(least) if least else -math.inf
    high = read(most) if most else math.inf
    if low is None or high is None or low > high or (not dots and not least):
        raise DefinitionError(
            f"validator {text[:64]!r}: {argument[:64]!r} is no range least...most"
        )
    return low, high


def _show_range(limits: tuple[float, float], show: Callable[[float], str]) -> str:
    least, most = limits
    if least == most:
        return show(least)
    if most == math.inf:
        return f"of at least {show(least)}" if least != -math.inf else "of any size"
    return (
        f"of at most {show(most)}" if least == -math.inf else f"from {show(least)} to {show(most)}"
    )


def _integer(value: str) -> int | None:
    if _INTEGER.fullmatch(value) and -_MAX_INTEGER <= int(value) < _MAX_INTEGER:
        return int(value)
    return None


def _float(value: str) -> float | None:
    number = float(value) if _FLOAT.fullmatch(value) else math.inf
    return number if math.isfinite(number) else None


def _duration(value: str) -> float | None:
    try:
        return parse_duration(value)
    except DurationError:
        return None


def _size(value: str) -> float | None:
    found = _SIZE.fullmatch(value)
    factor = _SIZES.get(found[2].lower()) if found else None
    return None if found is None or factor is None else float(found[1]) * factor


# --- texts ----------------------------------------------------------------------------------------


def _boolean(text: str, arguments: list[str]) -> Validator:
    _takes_nothing(text, arguments)

    def check(value: str) -> str | None:
        return None if value.lower() in _TRUTHS else "true or false was expected"

    return Validator("boolean", text, _TRUTHS, check)


def _keywords(text: str, arguments: list[str]) -> Validator:
    words = tuple(one for one in arguments if one)
    if not words:
        raise DefinitionError(f"validator {text[:64]!r}: words in parentheses were expected")

    def check(value: str) -> str | None:
        return None if value in words else f"one of {', '.join(words)} was expected"

    return Validator("keywords", text, words, check)


def _email(text: str, arguments: list[str]) -> Validator:
    """One address as of RFC 5322, without a display name; ``multiple`` takes a comma list."""
    many = arguments == ["multiple"]
    if not many:
        _takes_nothing(text, [one for one in arguments if one != "single"])

    def check(value: str) -> str | None:
        found = [one.strip() for one in value.split(",")] if many else [value]
        good = all(map(_EMAIL.fullmatch, found))
        return None if good else "an email address such as name@example.com was expected"

    return Validator("email", text, (), check)


def _address(text: str, arguments: list[str]) -> Validator:
    _takes_nothing(text, arguments)

    def check(value: str) -> str | None:
        try:
            Address.parse(value)
        except AddressError as error:
            return str(error)
        return None

    return Validator("address", text, (), check)


def _length(text: str, arguments: list[str]) -> Validator:
    count = _numbers("length", "", _integer, str)(text, arguments)

    def check(value: str) -> str | None:
        why = count.check(str(len(value)))
        return None if why is None else f"a text with a length{why}"

    return Validator("length", text, (), check)


def _takes_nothing(text: str, arguments: list[str]) -> None:
    if arguments:
        raise DefinitionError(f"validator {text[:64]!r}: it takes no {arguments[0][:64]!r}")


def _split_regex(text: str) -> tuple[str, str]:
    expression, slash, flags = text[1:].rpartition("/")
    if not slash:
        raise DefinitionError(f"validator {text[:64]!r}: /expression/flags was expected")
    return expression, flags


def _regex_of(text: str, arguments: list[str]) -> Validator:
    inside = text.partition("(")[2].removesuffix(")").strip()
    if len(inside) > 1 and inside[0] == inside[-1] == '"':
        inside = inside[1:-1]
    return _regex(text, *(_split_regex(inside) if inside.startswith("/") else (inside, "")))


def _regex(text: str, expression: str, flags: str) -> Validator:
    unknown = sorted(set(flags) - set(_FLAGS))
    if unknown:
        raise DefinitionError(f"validator {text[:64]!r}: flag {unknown[0]!r}: i, s, m or x only")
    try:
        compiled = re.compile(expression, sum(_FLAGS[one] for one in set(flags)))
    except (re.error, OverflowError, RecursionError) as error:
        raise DefinitionError(f"validator {text[:64]!r}: {error}") from None

    def check(value: str) -> str | None:
        return None if compiled.fullmatch(value) else f"a match of /{expression}/ was expected"

    return Validator("regex", text, (), check)


_MAKERS: Final[dict[str, Callable[[str, list[str]], Validator]]] = {
    "address": _address,
    "boolean": _boolean,
    "double": _numbers("float", "a number", _float, "{:g}".format),
    "duration": _numbers("duration", "a duration", _duration, format_duration),
    "email": _email,
    "float": _numbers("float", "a number", _float, "{:g}".format),
    "integer": _numbers("integer", "an integer", _integer, str),
    "keywords": _keywords,
    "length": _length,
    "regex": _regex_of,
    "size": _numbers("size", "a size such as 64KiB", _size, "{:.0f}".format),
}
