"""All options as text: shown with where they come from, or written into a configuration file."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from .definitions import read_ini
from .errors import DefinitionError, OptionError
from .option_reading import Reading
from .option_sections import Section
from .option_values import default_texts, long_names, masked, reads_back

_WIDTH: Final = 78
_DEFAULT_IN_HELP: Final = re.compile(r"\s*\((?:default: [^()]*)\)$")

ToText = Mapping[str, Callable[[Any], str]]
"""How the default of an option is written, by name."""


class Writer:
    """Writes what was read.

    Args:
        name: The program's name.
        actions: Its options and arguments.
        sections: Its sections.
        secrets: The options that hold secrets.
        to_text: How defaults are written.
        reading: What was read.
    """

    def __init__(
        self,
        name: str,
        actions: list[argparse.Action],
        sections: Mapping[str, Section],
        secrets: Mapping[argparse.Action, argparse.Action],
        to_text: ToText,
        reading: Reading,
    ) -> None:
        self._name = name
        self._sections = sections
        self._secrets = secrets
        self._to_text = to_text
        self._reading = reading
        self._options = [
            (names[0], action)
            for action in actions
            if (names := long_names(action)) and names[0] not in sections
        ]

    # --- shown ------------------------------------------------------------------------------------

    def show(self) -> str:
        """Give one line for each value, with its place as a comment; secrets are hidden."""
        return "".join(f"{line}\n" for line in self._show())

    def _show(self) -> Iterator[str]:
        files = ", ".join(self._reading.files) or "no file"
        yield _printable(f"# {self._name}: read {files}")
        for name, action in self._options:
            found = [(one.text, one.place.text) for one in self._reading.given.get(action, ())]
            for text, place in found or self._defaults(action):
                shown = "***" if action in self._secrets else text
                yield _printable(f"{f'{name} = {shown}'.rstrip()}  # {place}")
            if not found and not self._defaults(action):
                yield f"# {name} is not set"
        for section in self._sections.values():
            yield ""
            yield f"[{section.name}]"
            for entry in self._reading.entries.get(section.name, ()):
                yield _printable(f"{entry.key} = {masked(entry.text)}  # {entry.place.text}")

    def _defaults(self, action: argparse.Action) -> list[tuple[str, str]]:
        return [(text, "default") for text in self._default_texts(action)]

    def _default_texts(self, action: argparse.Action) -> list[str]:
        value = getattr(self._reading.namespace, action.dest, None)
        if action in self._secrets:
            return []
        return default_texts(action, value, self._to_text.get(action.dest, str))

    # --- written ----------------------------------------------------------------------------------

    def write(self, path: str) -> None:
        """Write a file that gives the same values when it is read; nobody else can read it.

        The file is replaced at once, and whole.

        Args:
            path: The file.

        Raises:
            OptionError: A value cannot stand in a file.
            OSError: The file cannot be written.
        """
        lines, pairs = [f"# The options of {self._name}."], []
        for name, action in self._options:
            lines += ["", *_comment(self._help(action))]
            texts = self._texts(action)
            lines += [f"{name} = {text}".rstrip() for text in texts] or [f"# {name} ="]
            pairs += [("", name, text) for text in texts]
        for section in self._sections.values():
            lines += ["", *_comment(section.help), f"[{section.name}]"]
            for entry in self._reading.entries.get(section.name, ()):
                lines.append(f"{entry.key} = {entry.text}".rstrip())
                pairs.append((section.name, entry.key, entry.text))
        text = "".join(f"{line}\n" for line in lines)
        _check_reads_back(text, pairs)
        _replace(path, text)

    def _help(self, action: argparse.Action) -> str:
        values = {**vars(action), "prog": self._name}
        try:
            text = str(action.help or "") % values
        except (KeyError, TypeError, ValueError):
            text = str(action.help)
        # A default stands below as the value, unless another one was given.
        is_default = action not in self._reading.given and self._texts(action)
        return _DEFAULT_IN_HELP.sub("", text) if is_default else text

    def _texts(self, action: argparse.Action) -> list[str]:
        given = self._reading.given.get(action)
        if given:
            # Of a secret that stands in a file of its own, the name of that file is written.
            return [] if action in self._secrets and not given[0].text else [g.text for g in given]
        value = getattr(self._reading.namespace, action.dest, None)
        texts = self._default_texts(action)
        return texts if reads_back(action, texts, value) else []


def _comment(text: str) -> list[str]:
    prefix = "# "
    return textwrap.wrap(text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix)


def _printable(text: str) -> str:
    """Escape what would leave the line, or speak to a terminal."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _check_reads_back(text: str, pairs: list[tuple[str, str, str]]) -> None:
    """Refuse values that a file cannot hold: with newlines, or a blank or backslash at an end."""
    found: list[tuple[str, str, str]] = []
    with suppress(DefinitionError):  # then the line of it is missing
        for _, section, key, value in read_ini(text, ""):
            # A word of the command line that is no UTF-8 has surrogates in place of its bytes.
            found.append((section, key, value.encode(errors="replace").decode()))
    for index, pair in enumerate(pairs):
        if found[index : index + 1] != [pair]:
            section, key, _ = pair
            where = f"section [{section}]: key {key!r}" if section else f"key {key!r}"
            raise OptionError(
                f"{where}: the value cannot stand in a file: UTF-8 text without newlines, and"
                " without blanks or a backslash at its ends, was expected"
            )


def _replace(path: str, text: str) -> None:
    path = os.path.realpath(path)  # a link stays one, and /dev/stdout is no file of ours
    if os.path.exists(path) and not os.path.isfile(path):
        raise OptionError(f"{path}: expected a regular file")
    fd, draft = tempfile.mkstemp(prefix=".edgevent-", dir=os.path.dirname(path))  # of mode 0600
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(draft, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)


def discard_output() -> None:
    """Has the standard output go nowhere, after it failed; Python would try again at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def escape_output() -> None:
    """Has the standard output show what its encoding does not have as ``\\xe9``, and not fail."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def open_closed_streams() -> None:
    """Gives a program whose standard streams were closed at its start those of /dev/null.

    Python has None in their place, and the next file or socket would get their descriptor.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest one that is free
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, "w" if number else "r"))
