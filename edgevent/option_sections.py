"""Sections of configuration files whose keys are the user's own: listeners, links, timers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .errors import EdgeventError, OptionError
from .option_values import Place, shown


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a section.

    Attributes:
        key: As it is written.
        text: What is given for it.
        value: What that was converted to.
        place: Where it stands.
    """

    key: str
    text: str
    value: object
    place: Place


@dataclass(frozen=True, slots=True)
class Section:
    """A section that a program has.

    Attributes:
        name: As in ``[name]``, with ``-`` between words.
        convert: Turns a key and its text into a value.
        help: A text for people.
    """

    name: str
    convert: Callable[[str, str], Any]
    help: str = ""

    @property
    def dest(self) -> str:
        """The name in the result of the parser."""
        return self.name.replace("-", "_")

    def read(self, key: str, text: str, place: Place, where: str = "") -> Entry:
        """Convert one key.

        Args:
            key: The key.
            text: What is given for it.
            place: Where it stands.
            where: The same for errors, if it has a form of its own.

        Raises:
            OptionError: The key or its text is wrong; the sentence names place, section and key.
        """
        where = f"{where or f'{place.text}: section [{self.name}]'}: key {shown(key)}"
        try:
            return Entry(key, text, self.convert(key, text), place)
        except EdgeventError as error:
            raise OptionError(f"{where}: {error}") from None
        except (TypeError, ValueError):
            kind = getattr(self.convert, "__name__", "another value")
            raise OptionError(f"{where}: value {shown(text)}: expected {kind}") from None

    def read_pair(self, text: str, place: Place, where: str) -> Entry:
        """Convert a text of the form ``KEY=VALUE``, as on the command line.

        Raises:
            OptionError: As of :meth:`read`, or there is no key.
        """
        key, equal, value = text.partition("=")
        if not equal or not key.strip():
            raise OptionError(f"{where}: {shown(text)}: expected KEY=VALUE")
        return self.read(key.strip(), value.strip(), place, where)


def merge(entries: Iterable[Entry]) -> list[Entry]:
    """Put the keys of all places together: the later one replaces a key, where that stood.

    ``-`` and ``_`` in a key are the same, as everywhere in files.
    """
    merged: dict[str, Entry] = {}
    for entry in entries:
        merged[plain(entry.key)] = entry
    return list(merged.values())


def plain(key: str) -> str:
    """Give the form of a key in which keys are compared."""
    return key.replace("_", "-")
