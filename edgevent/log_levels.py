"""The severities of the C++ library *snaplogger*, and the levels of Python's logging.

A severity is a name, or a number from 0 to 255. Each has a level of its own, in the same order, so
that those which Python knows by name keep their numbers: debug 10, information 20, warning 30,
error 40 and critical 50.
"""

from __future__ import annotations

import logging
import math
import re
from bisect import bisect_right
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from .errors import OptionError
from .option_values import nearest

# name: (severity, level)
_TABLE: Final = {
    "all": (0, 1),
    "trace": (10, 5),
    "noisy": (20, 7),
    "debug": (30, logging.DEBUG),
    "notice": (40, 12),
    "unimportant": (50, 14),
    "verbose": (60, 15),
    "configuration": (70, 17),
    "configuration-warning": (80, 18),
    "information": (90, logging.INFO),
    "important": (100, 22),
    "minor": (110, 24),
    "todo": (120, 26),
    "deprecated": (130, 28),
    "warning": (140, logging.WARNING),
    "major": (150, 32),
    "recoverable-error": (160, 35),
    "error": (170, logging.ERROR),
    "noisy-error": (180, 42),
    "severe": (190, 44),
    "exception": (200, 46),
    "critical": (210, logging.CRITICAL),
    "alert": (220, 52),
    "emergency": (230, 54),
    "fatal": (250, 56),
    "off": (255, 100),
}

SEVERITIES: Final[Mapping[str, int]] = MappingProxyType(
    {name: severity for name, (severity, _) in _TABLE.items()}
)
"""The severity of each name."""

LEVELS: Final[Mapping[str, int]] = MappingProxyType(
    {name: level for name, (_, level) in _TABLE.items()}
)
"""The level of each name."""

ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "everything": "all",
        "noise": "noisy",
        "dbg": "debug",
        "note": "notice",
        "verb": "verbose",
        "config": "configuration",
        "config-warn": "configuration-warning",
        "info": "information",
        "significant": "important",
        "warn": "warning",
        "paramount": "major",
        "recoverable": "recoverable-error",
        "err": "error",
        "murmur": "noisy-error",
        "crit": "critical",
        "emerg": "emergency",
        "fatal-error": "fatal",
        "panic": "fatal",
        "nothing": "off",
    }
)
"""The other names of some of them."""

_NAMES: Final = list(_TABLE)
_SEVERITIES: Final = [severity for severity, _ in _TABLE.values()]
_LEVELS: Final = [level for _, level in _TABLE.values()]
_NUMBER: Final = re.compile(r"[0-9]{1,3}", re.ASCII)
_MOST: Final = 255
_SHOWN: Final = 100


def read_level(text: str) -> int:
    """Reads a severity, and returns its level.

    Args:
        text: A name or another one (:data:`SEVERITIES`, :data:`ALIASES`) in letters of any case,
            with ``-`` or ``_`` between words, or a number from 0 to 255. A number between two
            severities that have a name has a level between theirs.

    Raises:
        OptionError: It is none.

    Example:
        >>> read_level("recoverable-error"), read_level("WARN"), read_level("140")
        (35, 30, 30)
    """
    name = text.strip().lower().replace("_", "-")
    name = ALIASES.get(name, name)
    if name in LEVELS:
        return LEVELS[name]
    if _NUMBER.fullmatch(name) and int(name) <= _MOST:
        return math.ceil(_between(int(name), _SEVERITIES, _LEVELS))
    raise OptionError(
        f"severity {text[:_SHOWN]!r}: expected a name such as debug, information, warning or error,"
        f" or a number from 0 to {_MOST}{nearest(name, [*_NAMES, *ALIASES])}"
    )


def severity_of(level: int) -> int:
    """Returns the severity of a level.

    Args:
        level: A level of Python's logging; one between two that have a name has a severity between
            theirs.
    """
    return math.floor(_between(level, _LEVELS, _SEVERITIES))


def name_level(level: int) -> str:
    """Returns the name of a level: that of the nearest severity which is not above it."""
    return _NAMES[max(bisect_right(_LEVELS, level) - 1, 0)]


def show_level(level: int) -> str:
    """Returns what :func:`read_level` reads as this level: a name, or a number."""
    name = name_level(level)
    return name if LEVELS[name] == level else str(severity_of(level))


def syslog_priority(level: int) -> int:
    """Returns the severity of RFC 5424 for a level: 7 (debug) to 0 (emergency)."""
    return _PRIORITIES[bisect_right(_STEPS, level)]


# Notice stands above information there, and so is what is important but no warning.
_STEPS: Final = (
    LEVELS["notice"],
    LEVELS["important"],
    LEVELS["warning"],
    LEVELS["recoverable-error"],
    LEVELS["exception"],
    LEVELS["alert"],
    LEVELS["emergency"],
)
_PRIORITIES: Final = (7, 6, 5, 4, 3, 2, 1, 0)


def _between(number: int, numbers: list[int], others: list[int]) -> Fraction:
    """Maps a number as the table does, and evenly between its rows."""
    place = bisect_right(numbers, number) - 1
    if place < 0 or place == len(numbers) - 1:
        return Fraction(others[max(place, 0)])
    part = Fraction(number - numbers[place], numbers[place + 1] - numbers[place])
    return others[place] + part * (others[place + 1] - others[place])
