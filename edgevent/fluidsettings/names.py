"""The names, priorities and times of settings, as the daemon and its clients check them.

A name is one or more namespaces and a name, with ``::`` between. ``_`` and ``-`` are the same in
it; what is kept and answered has ``-``. Nothing here opens a file, and nothing switches greenlets.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Final

from ..errors import SettingError
from ..limits import MAX_LINE_BYTES

ADMINISTRATOR: Final = 50
"""The priority of the administrator: that of PUT and DELETE when none is given."""
MAX_PRIORITY: Final = 99
"""Priorities are 0 (a service's own default) to 99; 51 and more force a value."""
HIGHEST: Final = -1
"""The priority with which GET asks for the value that holds."""
MAX_NAME: Final = 255
"""The longest name, in characters."""
MAX_VALUE_BYTES: Final = 16 * 1024
"""The longest value, in bytes."""
OLDEST_TIMESTAMP: Final = 1_658_361_600_000_000_000
"""No value is older than 2022-07-21 00:00:00 UTC, in nanoseconds, as in the C++ daemon."""
MAX_AHEAD: Final = 86_400_000_000_000
"""No value is put from further in the future than a day, in nanoseconds."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(?:::[A-Za-z0-9_][A-Za-z0-9_-]*)+", re.ASCII)
_SHOWN: Final = 64
_MOST_NAMES: Final = MAX_LINE_BYTES // 2  # bytes of them in one message


def canonical(name: str) -> str:
    """Gives a name as it is kept: with ``-`` for ``_``.

    Raises:
        SettingError: It is no name of a setting.
    """
    if len(name) > MAX_NAME:
        raise SettingError(f"a name of {len(name)} characters: at most {MAX_NAME} were expected")
    if not _NAME.fullmatch(name):
        raise SettingError(
            f"{name[:_SHOWN]!a} is no name of a setting: namespace::name was expected, of letters,"
            " digits, '-' and '_'"
        )
    return name.replace("_", "-")


def qualify(name: str, namespace: str) -> str:
    """Gives a name without a namespace that of a service.

    Raises:
        SettingError: It is no name of a setting.
    """
    return canonical(name if ":" in name else f"{namespace}::{name}")


def joined(names: Sequence[str]) -> Iterator[str]:
    """Joins names by commas, as many as have room in a message."""
    part = names[0]
    for name in names[1:]:
        if len(part) + len(name) >= _MOST_NAMES:
            yield part
            part = name
        else:
            part = f"{part},{name}"
    yield part


def check_priority(priority: int) -> int:
    """Returns a priority.

    Raises:
        SettingError: It is not from 0 to 99.
    """
    if not 0 <= priority <= MAX_PRIORITY:
        raise SettingError(f"priority {priority}: 0 to {MAX_PRIORITY} was expected")
    return priority


def check_timestamp(timestamp: int, *, now: int | None = None) -> int:
    """Returns the time of a value.

    Args:
        timestamp: Nanoseconds since 1970.
        now: The time of day in the same unit; that of the system by default.

    Raises:
        SettingError: It is before 2022-07-21, or more than a day ahead.
    """
    if timestamp < OLDEST_TIMESTAMP:
        raise SettingError(f"timestamp {timestamp} ns is before 2022-07-21 00:00:00 UTC")
    if timestamp > (time.time_ns() if now is None else now) + MAX_AHEAD:
        raise SettingError(f"timestamp {timestamp} ns is more than a day in the future")
    return timestamp


def check_value(value: str) -> str:
    """Returns a value.

    Raises:
        SettingError: It is longer than :data:`MAX_VALUE_BYTES`, holds a NUL, or is not UTF-8.
    """
    try:
        size = len(value) if value.isascii() else len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise SettingError("a value holds bytes that are not UTF-8") from None
    if size > MAX_VALUE_BYTES:
        raise SettingError(f"a value of {size} bytes: at most {MAX_VALUE_BYTES} were expected")
    if "\0" in value:
        raise SettingError("a value holds a NUL")
    return value
