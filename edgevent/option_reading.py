"""What one reading of all places has found: each value, its text, and where it stands."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .errors import OptionError
from .option_files import FileContent
from .option_secrets import find_credential, read_secret
from .option_sections import Entry, Section, merge
from .option_values import (
    COMMAND_LINE_PLACE,
    CREDENTIAL,
    DEFAULT_PLACE,
    ENVIRONMENT,
    PIECE,
    Place,
    default_texts,
    long_names,
    takes_several,
)


class Given(NamedTuple):
    """One text that stands for an option, and where it stands."""

    text: str
    place: Place


@dataclass(slots=True)
class Reading:
    """The values of all options and sections.

    Attributes:
        namespace: The values by name.
        files: The files that were read, the first one first.
        given: By option, what stands for it; none for a default.
        entries: By section, its keys.
        asked: What ``--show-config`` and its like were given.
    """

    namespace: argparse.Namespace
    files: list[str] = field(default_factory=list)
    given: dict[argparse.Action, list[Given]] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)

    def place(self, action: argparse.Action) -> Place:
        """Tell where the value of an option stands."""
        found = self.given.get(action)
        return found[-1].place if found else DEFAULT_PLACE


class Finder:
    """Finds out where values come from, behind what ConfigArgParse has parsed.

    Args:
        recorded: By option, the words of each time that it was parsed.
        piece_counts: By option, how many of them stand in the variable with a piece of command
            line.
        settings: What ConfigArgParse says of sources.
        contents: The files, the first one first.
        piece: The name of that variable.
    """

    def __init__(
        self,
        recorded: Mapping[argparse.Action, list[list[str]]],
        piece_counts: Mapping[argparse.Action, int],
        settings: Mapping[str, Mapping[str, tuple[argparse.Action | None, Any]]],
        contents: Sequence[FileContent],
        piece: str,
    ) -> None:
        self._recorded = recorded
        self._piece_counts = piece_counts
        self._piece_place = Place(f"environment variable {piece}", PIECE)
        self._ranks = {content.path: rank for rank, content in enumerate(contents)}
        self._contents = {content.path: content for content in contents}
        # The words of the command line are one setting of no option.
        self._sources = {
            action: (source, key)
            for source, found in settings.items()
            for key, (action, _) in found.items()
            if action is not None and source != "defaults"
        }

    def find(self, action: argparse.Action, value: object) -> list[Given]:
        """Give what stands for an option."""
        texts = self._texts(action, value)
        places = self._places(action, len(texts))
        if not isinstance(action, argparse._AppendAction):
            return [Given(texts[-1], places[-1])] if places and texts else []
        return [Given(*pair) for pair in zip(texts, places, strict=False)]

    def _texts(self, action: argparse.Action, value: object) -> list[str]:
        if action.nargs == 0:
            if isinstance(action, argparse._CountAction):
                return [str(value or 0)]
            return default_texts(action, value, str)
        return [
            shlex.join(words) if takes_several(action) else "".join(words or [str(action.const)])
            for words in self._recorded.get(action, ())
        ]

    def _places(self, action: argparse.Action, count: int) -> list[Place]:
        if action in self._sources:
            source, key = self._sources[action]
            kind, _, path = source.partition("|")
            if kind == "config_file":
                rank = self._ranks[path]
                places = self._contents[path].places[long_names(action)[0]]
                return [Place(where, rank) for where in places]
            return [Place(f"environment variable {key}", ENVIRONMENT)] * count
        times = len(self._recorded.get(action, ()))
        of_piece = min(self._piece_counts.get(action, 0), times)
        return [self._piece_place] * of_piece + [COMMAND_LINE_PLACE] * (times - of_piece)


def find_entries(
    section: Section,
    contents: Iterable[FileContent],
    variable: Iterable[Entry],
    words: Iterable[Given],
    report: Callable[[OptionError], None],
) -> list[Entry]:
    """Put a section together.

    Args:
        section: The section.
        contents: The files, the first one first.
        variable: What its environment variable says.
        words: What the command line says.
        report: Takes a mistake, and may raise it.
    """
    entries = [
        replace(entry, place=Place(entry.place.text, rank))
        for rank, content in enumerate(contents)
        for entry in content.entries.get(section.name, {}).values()
    ]
    entries += variable
    for text, place in words:
        where = f"argument --{section.name}"
        if place.rank == PIECE:
            where = f"{place.text}: {where}"
        try:
            entries.append(section.read_pair(text, place, where))
        except OptionError as error:
            report(error)
    return merge(entries)


def settle_secret(
    reading: Reading, program: str, secret: argparse.Action, file: argparse.Action
) -> None:
    """Read the file of a secret, or its credential, when that is what stands highest.

    Args:
        reading: Gets the secret.
        program: The program's name.
        secret: The option that holds it.
        file: The option that names its file.

    Raises:
        OptionError: The file cannot be used, or the secret and a file stand in the same place.
    """
    name = long_names(secret)[0]
    credential = find_credential(program, name)
    direct, named = reading.place(secret), reading.place(file)
    if direct.rank == named.rank >= 0:
        raise OptionError(f"{named.text}: {name} and {name}-file: expected one of them")
    if credential and max(direct.rank, named.rank) < CREDENTIAL:
        named = Place(f"credential {credential}", CREDENTIAL)
        path, where = credential, "credential"
        reading.given.pop(file, None)
        setattr(reading.namespace, file.dest, None)
    elif named.rank > direct.rank:
        path = getattr(reading.namespace, file.dest)
        where = f"{named.text}: {name}-file"
    else:
        if named.rank >= 0:  # what stands lower is not in use
            reading.given.pop(file, None)
            setattr(reading.namespace, file.dest, None)
        return
    setattr(reading.namespace, secret.dest, read_secret(path, where))
    reading.given[secret] = [Given("", named)]
