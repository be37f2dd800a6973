"""Configuration files: where they are, and what their lines say.

The format is the INI format of the C++ library (:func:`edgevent.definitions.read_ini`).
"""

from __future__ import annotations

import argparse
import errno
import glob
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Final

from .definitions import read_ini
from .errors import DefinitionError, OptionError
from .option_sections import Entry, Section, plain
from .option_values import (
    Place,
    check_value,
    long_names,
    nearest,
    shown,
    split_words,
    takes_several,
)

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
"""The largest configuration file, in bytes."""

_NUMBERED: Final = "[0-9][0-9]-"


def config_files(
    name: str,
    folder: str | os.PathLike[str],
    other_folders: Iterable[str | os.PathLike[str]] = (),
) -> list[str]:
    """Give the files that may hold options of a program, in the order in which they are read.

    Args:
        name: The program's name.
        folder: The folder of ``NAME.conf`` and ``NAME.d/NN-*.conf``.
        other_folders: Folders that are read before. In each of them there may also be the
            ``G.d/NN-NAME.conf`` of the C++ library, G being the name of the folder.

    Returns:
        Paths; of ``NAME.d`` and ``G.d`` those that are there now.
    """
    files = []
    for path in other_folders:
        other = os.fspath(path)
        group = os.path.basename(os.path.normpath(other))
        files += [os.path.join(other, f"{name}.conf")]
        files += _find(other, f"{name}.d", f"{_NUMBERED}*.conf")
        files += _find(other, f"{group}.d", f"{_NUMBERED}{glob.escape(name)}.conf")
    own = os.fspath(folder)
    files += [os.path.join(own, f"{name}.conf"), *_find(own, f"{name}.d", f"{_NUMBERED}*.conf")]
    # A program that is named like its group would have the same files twice.
    return [*dict.fromkeys(files), os.path.expanduser(f"~/.config/edgevent/{name}.conf")]


def _find(folder: str, below: str, pattern: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(folder), glob.escape(below), pattern)))


def unusable_folders(
    name: str,
    folder: str | os.PathLike[str],
    other_folders: Iterable[str | os.PathLike[str]] = (),
) -> Iterator[OptionError]:
    """Find a ``NAME.d`` that is there and cannot be listed, whose files would be missed silently.

    Args:
        name: As of :func:`config_files`, like the others.
        folder: The same.
        other_folders: The same.

    Yields:
        An error that names it and says why.
    """
    for parent in (*other_folders, folder):
        path = os.path.join(parent, f"{name}.d")
        try:
            if os.path.lexists(path):
                os.listdir(path)
        except OSError as error:
            yield OptionError(f"{path}: {error.strerror}")


def read_text(path: str) -> str:
    """Read a configuration file, whose lines may end as they do elsewhere.

    Raises:
        OptionError: It cannot be read, is no regular file, is too long or is no text; the sentence
            begins with the file, and its line where there is one.
    """
    try:
        # Without O_NONBLOCK the open of a FIFO would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(fd).st_mode
            if not (stat.S_ISREG(mode) or os.path.samestat(os.fstat(fd), os.stat(os.devnull))):
                folder = os.strerror(errno.EISDIR) if stat.S_ISDIR(mode) else ""
                raise OptionError(f"{path}: {folder or 'expected a regular file'}")
            # Not closed by open(), which leaves the descriptor of a folder open when it raises.
            with open(fd, "rb", closefd=False) as file:
                data = file.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        if isinstance(error, OptionError):
            raise
        why = getattr(error, "strerror", None) or "expected a name without NUL"
        raise OptionError(f"{path}: {why}") from None
    if len(data) > MAX_FILE_BYTES:
        raise OptionError(f"{path}: expected {MAX_FILE_BYTES} bytes at most")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        raise OptionError(f"{path}:{line}: expected UTF-8 text") from None
    if (nul := text.find("\0")) >= 0:
        raise OptionError(f"{path}:{1 + text.count(chr(10), 0, nul)}: expected text without NUL")
    return text.replace("\r\n", "\n").replace("\r", "\n")


@dataclass(slots=True)
class FileContent:
    """What one file says.

    Attributes:
        path: The file.
        places: By option, where each of its values stands.
        entries: By section and key, in the form in which keys are compared.
    """

    path: str
    places: dict[str, list[str]] = field(default_factory=dict)
    entries: dict[str, dict[str, Entry]] = field(default_factory=dict)


class FileReader:
    """What ConfigArgParse takes for a file format.

    Args:
        options: Gives the options by key.
        sections: The sections by name.
        report: Takes a mistake, and raises it unless all mistakes are collected.
    """

    def __init__(
        self,
        options: Callable[[], Mapping[str, argparse.Action]],
        sections: Mapping[str, Section],
        report: Callable[[OptionError], None],
    ) -> None:
        self._options = options
        self._sections = sections
        self._report = report
        self.contents: list[FileContent] = []  # ConfigArgParse begins with the last file

    def get_syntax_description(self) -> str:
        """Give a sentence for ``--help``."""
        return "Files hold lines of name = value; a comment begins with # or ;."

    def parse(self, stream: IO[str]) -> dict[str, str | list[str]]:
        """Read a file: its options are returned, its sections are kept.

        Raises:
            OptionError: A line is wrong; the sentence names file, line, key and the nearest key.
        """
        content = FileContent(stream.name)
        self.contents.append(content)
        known = self._options()
        items: dict[str, str | list[str]] = {}
        for where, section, key, value in read_ini(stream.read(), stream.name, self._malformed):
            try:
                if section and (found := self._sections.get(plain(section))):
                    self._add_entry(content, found, known, where, key, value)
                else:
                    action = self._find(known, where, section, key)
                    self._add_item(items, content, action, where, key, value)
            except OptionError as error:
                self._report(error)
        return items

    def _malformed(self, error: DefinitionError) -> None:
        self._report(OptionError(str(error)))

    def _add_entry(
        self,
        content: FileContent,
        section: Section,
        known: Mapping[str, argparse.Action],
        where: str,
        key: str,
        value: str,
    ) -> None:
        entries = content.entries.setdefault(section.name, {})
        other = entries.get(plain(key))
        if other is not None:
            raise OptionError(_twice(f"{where}: section [{section.name}]", key, other.place.text))
        try:
            # The rank is known when all files are.
            entries[plain(key)] = section.read(key, value, Place(where, 0))
        except OptionError as error:
            if plain(key) not in known:
                raise
            hint = f"the option {key} stands before the first section"
            raise OptionError(f"{error}; {hint}") from None

    def _find(
        self, known: Mapping[str, argparse.Action], where: str, section: str, key: str
    ) -> argparse.Action:
        name = f"{section}::{key}" if section else key
        action = known.get(plain(name))
        if action is not None:
            return action
        if not section and plain(key) in self._sections:
            raise OptionError(f"{where}: key {key!r}: expected a section [{plain(key)}] of its own")
        names = list(self._sections)
        if section and names and not any(one.startswith(f"{plain(section)}::") for one in known):
            raise OptionError(
                f"{where}: section [{shown(section)[1:-1]}] is unknown: expected one of"
                f" {', '.join(names)}{nearest(plain(section), names)}"
            )
        near = nearest(plain(name), known)
        raise OptionError(f"{where}: key {shown(name)} is unknown: expected an option{near}")

    def _add_item(
        self,
        items: dict[str, str | list[str]],
        content: FileContent,
        action: argparse.Action,
        where: str,
        key: str,
        value: str,
    ) -> None:
        at = f"{where}: key {key!r}"
        check_value(at, action, value)
        option = long_names(action)[0]
        if isinstance(action, argparse._AppendAction):
            items[option] = [*items.get(option, ()), value]
            content.places.setdefault(option, []).append(where)
        else:
            if option in content.places:
                raise OptionError(_twice(where, key, content.places[option][0]))
            items[option] = split_words(at, value) if takes_several(action) else value
            content.places[option] = [where]


def _twice(where: str, key: str, first: str) -> str:
    return f"{where}: key {key!r} stands twice in this file, the first time at {first}"
