"""One value of a setting, which of two wins, and the two text forms in which they travel.

Nothing here opens a file, and nothing switches greenlets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from ..errors import SettingError
from .names import MAX_PRIORITY, canonical, check_priority, check_value

Reason = Literal["new", "new priority", "changed", "newer", "unchanged"]
"""What a PUT has done, in the words of the C++ daemon."""

DELETED: Final = "\\D"
"""What stands for a deletion where values are sent between daemons."""

# The year 2116: one that is later than this by some changes still fits the 64 bits of SQLite.
_MAX_TIME: Final = 2**62
_ESCAPES: Final = {"|": "\\P", "\\": "\\S", "\n": "\\n", "\r": "\\r"}
_MEANINGS: Final = {"P": "|", "S": "\\", "n": "\n", "r": "\r"}
_IN_FILES: Final = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_FROM_FILES: Final = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Entry:
    """The value of a setting at one priority; or the note that it was deleted.

    Attributes:
        name: The setting, ``-`` in place of ``_``.
        priority: 0 to 99.
        timestamp: When it was set or deleted, in nanoseconds since 1970.
        value: The value; ``None`` when it was deleted.
        who: Who has done that.
    """

    name: str
    priority: int
    timestamp: int
    value: str | None
    who: str = ""

    def wins_over(self, other: Entry | None) -> bool:
        """Whether it takes the place of another one of the same name and priority.

        The newer one wins; of the same age a value before a deletion, and of two values the one
        whose text is greater. So all daemons come to the same, in whichever order they hear.
        """
        return other is None or self._rank() > other._rank()

    def _rank(self) -> tuple[int, bool, bytes]:
        text = self.value or ""
        return (
            self.timestamp,
            self.value is not None,
            text.encode("utf-8", "surrogateescape"),
        )

    def digest(self) -> int:
        """A number for what the entry says; those of a whole store can be added up."""
        text = f"{self.name}\0{self.priority}\0{self.timestamp}\0"
        text += "D" if self.value is None else f"V{self.value}"
        found = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16)
        return int.from_bytes(found.digest(), "big")


@dataclass(frozen=True, slots=True)
class Update:
    """What became of a value that was put.

    Attributes:
        name: The setting.
        reason: What was done; ``newer`` and ``unchanged`` leave the value as it was.
        entry: What stands at the priority now.
    """

    name: str
    reason: Reason
    entry: Entry

    @property
    def is_change(self) -> bool:
        """Whether there is another value now than before, which listeners are told."""
        return self.reason not in ("newer", "unchanged")


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the history of a setting.

    Attributes:
        entry: What was set or deleted, when, and by whom.
        recorded: When this daemon took note of it, in nanoseconds since 1970.
    """

    entry: Entry
    recorded: int


# --- between daemons -----------------------------------------------------------


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(one, one) for one in text)


def _unescape(text: str, meanings: dict[str, str]) -> str:
    if "\\" not in text:
        return text
    parts = iter(text)
    found = []
    for one in parts:
        if one == "\\":
            letter = next(parts, "")
            if letter not in meanings:
                raise SettingError(f"\\{letter} is no escape of a value")
            one = meanings[letter]
        found.append(one)
    return "".join(found)


def write_entries(entries: Iterable[Entry]) -> dict[str, str]:
    """Writes entries of one setting as the parameters ``values`` and ``who`` of VALUE_CHANGED.

    A line ``priority|timestamp|value`` for each, as the C++ daemon writes them; ``\\D`` is the
    value of a deletion. ``who`` has a line for each of them.
    """
    values, who = [], []
    for one in entries:
        text = DELETED if one.value is None else _escape(one.value)
        values.append(f"{one.priority}|{one.timestamp}|{text}\n")
        who.append(f"{_escape(one.who)}\n")
    return {"values": "".join(values), "who": "".join(who)}


def _refuse(error: SettingError) -> None:
    raise error


def read_entries(
    name: str, values: str, who: str = "", report: Callable[[SettingError], object] = _refuse
) -> list[Entry]:
    """Reads what :func:`write_entries` or a C++ daemon has written.

    Args:
        report: Takes the error of a line that is none; unless it raises, the others are read.

    Raises:
        SettingError: The name is none; or a line, and nobody takes the errors.
    """
    name = canonical(name)
    names = who.split("\n")
    entries = []
    for number, line in enumerate(values.removesuffix("\n").split("\n")):
        fields = line.split("|")
        by = names[number] if number < len(names) else ""
        try:
            if len(fields) != 3 or not (_is_number(fields[0]) and _is_number(fields[1])):
                raise SettingError(f"{name}: line {number + 1} is no priority|timestamp|value")
            value = None if fields[2] == DELETED else check_value(_unescape(fields[2], _MEANINGS))
            entries.append(_checked(name, fields[0], fields[1], value, _unescape(by, _MEANINGS)))
        except SettingError as error:
            report(error)
    return entries


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_TIME))


def _checked(name: str, priority: str, timestamp: str, value: str | None, who: str) -> Entry:
    if int(timestamp) > _MAX_TIME:
        raise SettingError(f"{name}: timestamp {timestamp} ns is after the year 2115")
    return Entry(name, check_priority(int(priority)), int(timestamp), value, who)


# --- files ---------------------------------------------------------------------


def write_line(entry: Entry) -> str:
    """Writes a value as a line of the C++ daemon's file, without a newline.

    Unlike there, a newline inside the value is written as ``\\n``, which it reads.
    """
    assert entry.value is not None
    value = "".join(_IN_FILES.get(one, one) for one in entry.value)
    name = entry.name.replace("-", "_")
    return f"{name}::{entry.priority}={entry.timestamp}|{value}"


def read_lines(text: str, filename: str) -> Iterator[Entry]:
    """Reads the file of the C++ daemon, ``namespace::name::priority=timestamp|value`` lines.

    Blank lines and comments (``#`` first) are passed by. Blanks at the end belong to the value.

    Raises:
        SettingError: A line is none; the sentence begins with ``filename:line``.
    """
    for number, line in enumerate(text.split("\n"), 1):
        content = line.lstrip().removesuffix("\r")
        if not content or content[0] in "#;":
            continue
        key, equal, rest = content.partition("=")
        name, _, priority = key.strip().rpartition("::")
        timestamp, bar, value = rest.lstrip().partition("|")
        try:
            if not (equal and bar and _is_number(priority) and _is_number(timestamp)):
                raise SettingError("namespace::name::priority=timestamp|value was expected")
            if int(priority) > MAX_PRIORITY:
                check_priority(int(priority))
            value = check_value(_unescape(value, _FROM_FILES))
            yield _checked(canonical(name), priority, timestamp, value, "import")
        except SettingError as error:
            raise SettingError(f"{filename}:{number}: {error}") from None
