"""Durations such as ``1h30m`` and exact times such as ``1700000000.000000001``.

Durations are float seconds, for limits and delays. A timespec is an int of nanoseconds, for what
travels in messages: a float holds the nanoseconds of today's dates no longer.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

from .errors import DurationError

_SECONDS: Final = {
    "us": Fraction(1, 1_000_000),
    "ms": Fraction(1, 1_000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3_600),
    "d": Fraction(86_400),
    "w": Fraction(604_800),
    "y": Fraction(31_536_000),
    "second": Fraction(1),
    "minute": Fraction(60),
    "hour": Fraction(3_600),
    "day": Fraction(86_400),
    "week": Fraction(604_800),
    "month": Fraction(2_592_000),
    "year": Fraction(31_536_000),
}
_WORD_LENGTH: Final = 3
_ITEM: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)", re.ASCII)
# Every float, written without an exponent, fits: 309 digits before the point or 326 behind it.
# Past 4,300 digits Python refuses to make an int of a text, with an error of its own.
_MAX_LENGTH: Final = 400
_SHOWN: Final = 100
_EXPECTED: Final = (
    "expected seconds, or numbers with units such as 500ms, 10s, 1h30m, 14d or 2 weeks"
)

_TIMESPEC: Final = re.compile(r"\s*([+-]?)([0-9]{1,19})(?:\.([0-9]+))?s?\s*", re.ASCII)
_NANOSECONDS: Final = 1_000_000_000
_DIGITS: Final = 9
_MAX_TIME_SECONDS: Final = 2**63 - 1


def parse_duration(value: str | float) -> float:
    """Read a duration.

    Args:
        value: A text: an optional sign, then items of a number and a unit (``us``, ``ms``, ``s``,
            ``m`` for minutes, ``h``, ``d``, ``w``, ``y``, or the words second to year, also in
            the plural; a month is 30 days, a year 365), blanks between them as one likes. A
            single number without a unit, also as an int or float, is seconds.

    Returns:
        Seconds, the float nearest to the exact sum; negative after a minus sign.

    Raises:
        DurationError: The value is no duration, not finite or too large.
    """
    try:
        seconds = _parse_text(value) if isinstance(value, str) else _check_number(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise DurationError(f"duration {_shown(value)}: expected a finite number of seconds")
    return seconds


def _check_number(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DurationError(f"duration {_shown(value)}: {_EXPECTED}")
    return float(value)


def _parse_text(text: str) -> float:
    body = text.strip(" \t\r\n\v\f")
    sign = -1 if body.startswith("-") else 1
    if body.startswith(("-", "+")):
        body = body[1:]
    if not body or len(body) > _MAX_LENGTH:
        raise DurationError(f"duration {_shown(text)}: {_EXPECTED}")
    total = Fraction(0)
    position = 0
    while position < len(body):
        item = _ITEM.match(body, position)
        if item is None:
            raise DurationError(f"duration {_shown(text)}: {_EXPECTED}")
        number, unit = item.groups()
        alone = position == 0 and item.end() == len(body)
        # "1h30" would be read by some as 30 minutes and by others as 30 seconds.
        if not unit and not alone:
            raise DurationError(f"duration {_shown(text)}: a number has no unit; {_EXPECTED}")
        total += _to_fraction(number) * _unit_seconds(unit or "s", text)
        position = item.end()
    return float(sign * total)


def _to_fraction(number: str) -> Fraction:
    whole, _, decimals = number.partition(".")
    return Fraction(int(whole + decimals), 10 ** len(decimals))


def _unit_seconds(unit: str, text: str) -> Fraction:
    name = unit.lower()
    if name.endswith("s") and len(name) > _WORD_LENGTH:
        name = name.removesuffix("s")
    if name not in _SECONDS:
        raise DurationError(f"duration {_shown(text)}: unit {_shown(unit)} unknown; {_EXPECTED}")
    return _SECONDS[name]


def format_duration(seconds: float) -> str:
    """Write a duration in days, hours, minutes and seconds, such that it reads back the same.

    Args:
        seconds: A finite number of seconds.

    Returns:
        A text such as ``1h30m``, ``500ms`` or ``-1m0.5s``.

    Raises:
        DurationError: The number is not finite.
    """
    value = parse_duration(seconds)
    whole, decimals = _expand(abs(value))
    sign = "-" if value < 0 else ""
    if not whole and decimals:
        return sign + _format_below_second(decimals)
    items = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        count, whole = divmod(whole, length)
        if count:
            items.append(f"{count}{unit}")
    if whole or decimals or not items:
        items.append(f"{whole}.{decimals}s" if decimals else f"{whole}s")
    return sign + "".join(items)


def _expand(value: float) -> tuple[int, str]:
    """Give the whole seconds, and the decimals, of the shortest text that reads back the same."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, decimals = mantissa.partition(".")
    shift = int(exponent or "0")
    if shift < 0:
        whole, decimals = "0", "0" * (-shift - len(whole)) + whole + decimals
    else:
        decimals = decimals.ljust(shift, "0")
        whole, decimals = whole + decimals[:shift], decimals[shift:]
    return int(whole), decimals.rstrip("0")


def _format_below_second(decimals: str) -> str:
    unit, digits = ("ms", 3) if decimals[:3].strip("0") else ("us", 6)
    padded = decimals.ljust(digits, "0")
    count, rest = int(padded[:digits]), padded[digits:]
    return f"{count}.{rest}{unit}" if rest else f"{count}{unit}"


def parse_timespec(text: str) -> int:
    """Read an exact time or duration, ``seconds[.fraction]``.

    Args:
        text: ASCII digits, with an optional sign, ASCII blanks around and one ``s`` at the end.
            Digits of the fraction after the ninth are ignored, as the C++ library does.

    Returns:
        Nanoseconds, exactly.

    Raises:
        DurationError: The text is no timespec, or its seconds do not fit 64 bits.
    """
    match = _TIMESPEC.fullmatch(text)
    if match is None or int(match[2]) > _MAX_TIME_SECONDS:
        raise DurationError(
            f"time {_shown(text)}: expected seconds, optionally with a point and up to nine digits"
        )
    fraction = (match[3] or "")[:_DIGITS].ljust(_DIGITS, "0")
    nanoseconds = int(match[2]) * _NANOSECONDS + int(fraction)
    return -nanoseconds if match[1] == "-" else nanoseconds


def format_timespec(nanoseconds: int, *, digits: int | None = None) -> str:
    """Write an exact time or duration as ``seconds[.fraction]``.

    Args:
        nanoseconds: The time.
        digits: So many digits of the fraction, 0 to 9, further ones cut off; ``None`` writes
            those that are needed, and no point when none is.

    Returns:
        The text.

    Raises:
        DurationError: ``digits`` is out of range.
    """
    if digits is not None and not 0 <= digits <= _DIGITS:
        raise DurationError(f"{digits} digits of a time: expected 0 to {_DIGITS}")
    seconds, rest = divmod(abs(nanoseconds), _NANOSECONDS)
    fraction = f"{rest:09d}"
    fraction = fraction.rstrip("0") if digits is None else fraction[:digits]
    text = f"{seconds}.{fraction}" if fraction else str(seconds)
    return f"-{text}" if nanoseconds < 0 and text.strip("0.") else text


def _shown(value: object) -> str:
    """Give a value as it may stand in an error: escaped and cut."""
    if isinstance(value, int) and abs(value) > 10**_SHOWN:
        # Python refuses to write out an int of more than 4,300 digits.
        return "of an int with more than 100 digits"
    shown = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
