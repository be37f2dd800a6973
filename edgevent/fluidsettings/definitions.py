"""The definitions of settings: which there are, what their values may be, and their defaults.

They are in files ``*.ini`` in some folders, one section ``[namespace::name]`` for each setting,
with the keys of the C++ library (advgetopt): ``help``, ``default``, ``validator``, ``required`` and
others, which say how a program gets the option and mean nothing here. Nothing switches greenlets.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ..definitions import read_ini
from ..errors import DefinitionError, SettingError, UnknownSettingError
from .names import canonical, check_value
from .validators import ANYTHING, Validator, parse_validator

logger = logging.getLogger("edgevent.fluidsettings")

MAX_FILE_BYTES: Final = 1024 * 1024
"""The largest definition file, in bytes."""
MAX_SETTINGS: Final = 100_000
"""The most settings."""

_SUFFIX: Final = ".ini"
_FLAGS: Final = ("required", "multiple", "no-arguments", "show-usage-on-error")
_KEYS: Final = (
    *_FLAGS,
    "alias",
    "allowed",
    "default",
    "environment-variable-name",
    "group",
    "help",
    "shortname",
    "validator",
)
# A flag may stand alone, without "=".
_BARE: Final = re.compile(rf"(?m)^([ \t]*(?:{'|'.join(_FLAGS).replace('-', '[-_]')}))[ \t\r]*$")
_SECTION: Final = re.compile(r"\s*\[\s*(.*?)\s*\]\s*")


@dataclass(frozen=True, slots=True)
class SettingDefinition:
    """One setting.

    Attributes:
        name: Its name, ``-`` in place of ``_``.
        validator: What its values may be.
        default: Its value while none is set; ``None`` without one.
        required: Whether a service cannot do without a value. The daemon keeps to say so.
        help: A text for people.
        source: ``file:line`` of its section.
    """

    name: str
    validator: Validator = ANYTHING
    default: str | None = None
    required: bool = False
    help: str = ""
    source: str = ""

    @property
    def type(self) -> str:
        """The kind of its values; see :class:`Validator`."""
        return self.validator.kind

    def check(self, value: str) -> str:
        """Returns a value.

        Raises:
            SettingError: The validator refuses it; the sentence says what was expected.
        """
        why = self.validator.check(check_value(value))
        if why is not None:
            raise SettingError(why)
        return value

    def takes(self, value: str) -> bool:
        """Whether :meth:`check` takes a value."""
        try:
            self.check(value)
        except SettingError:
            return False
        return True


class SettingDefinitions(Mapping[str, SettingDefinition]):
    """The definitions by name; names with ``_`` are found as well.

    Args:
        definitions: Those that there are; the first one of a name counts.
    """

    def __init__(self, definitions: Iterable[SettingDefinition] = ()) -> None:
        self._by_name: dict[str, SettingDefinition] = {}
        for one in definitions:
            first = self._by_name.setdefault(one.name, one)
            if first is not one:
                logger.info("%s: %s is defined already at %s", one.source, one.name, first.source)

    @classmethod
    def load(cls, folders: Iterable[str | os.PathLike[str]]) -> SettingDefinitions:
        """Reads the files of some folders; a folder that is not there is passed by.

        Raises:
            DefinitionError: A file cannot be read or used; the sentence names it, and the line.
        """
        return cls(one for folder in folders for path in _files(folder) for one in read_file(path))

    def __getitem__(self, name: str) -> SettingDefinition:
        return self._by_name[name.replace("_", "-")]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"<SettingDefinitions of {len(self)} settings>"

    def find(self, name: str) -> SettingDefinition:
        """Gives the definition of a setting.

        Raises:
            SettingError: It is no name of one.
            UnknownSettingError: There is none; the sentence is that of the C++ daemon.
        """
        found = self._by_name.get(name) or self._by_name.get(canonical(name))
        if found is None:
            raise UnknownSettingError(f'no parameter named "{canonical(name)}"')
        return found


def _files(folder: str | os.PathLike[str]) -> list[str]:
    path = os.fspath(folder)
    try:
        names = sorted(one for one in os.listdir(path) if one.endswith(_SUFFIX))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DefinitionError(f"{path}: definitions cannot be read: {error.strerror}") from None
    return [os.path.join(path, name) for name in names]


def read_file(path: str) -> list[SettingDefinition]:
    """Reads one file.

    Raises:
        DefinitionError: It cannot be read or used.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DefinitionError(f"{path}: it cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise DefinitionError(f"{path}: it is larger than {MAX_FILE_BYTES} bytes")
    try:
        return parse_definitions(data.decode("utf-8"), path)
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{path}: byte {error.start} is not UTF-8") from None


def parse_definitions(text: str, filename: str = "definitions") -> list[SettingDefinition]:
    """Reads the text of a definition file.

    Raises:
        DefinitionError: A line is wrong; the sentence begins with ``filename:line``.
    """
    sections: dict[str, dict[str, tuple[str, str]]] = {}
    for where, section, key, value in read_ini(_BARE.sub(r"\1=", text), filename):
        if not section:
            raise DefinitionError(f"{where}: [namespace::name] was expected before {key[:64]!r}")
        try:
            keys = sections.setdefault(canonical(section), {})
        except SettingError as error:
            raise DefinitionError(f"{where}: [{section[:64]}]: {error}") from None
        name = key.replace("_", "-")
        if name not in _KEYS:
            near = difflib.get_close_matches(name, _KEYS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DefinitionError(f"{where}: [{section}]: key {key[:64]!r} is not known{hint}")
        if name in keys:
            raise DefinitionError(f"{where}: [{section}]: key {key!r} stands twice")
        keys[name] = (where, value)
    for number, line in enumerate(text.split("\n"), 1):  # one without a key is not told of
        found = _SECTION.fullmatch(line)
        if found and found[1].replace("_", "-") not in sections:
            raise DefinitionError(
                f"{filename}:{number}: [{found[1][:64]}] has no key: help= was expected at least"
            )
    if len(sections) > MAX_SETTINGS:
        raise DefinitionError(f"{filename}: more than {MAX_SETTINGS} settings")
    return [_make(name, keys) for name, keys in sections.items()]


def _make(name: str, keys: Mapping[str, tuple[str, str]]) -> SettingDefinition:
    where, text = keys.get("validator", ("", ""))
    try:
        validator = parse_validator(text) if text else ANYTHING
    except DefinitionError as error:
        raise DefinitionError(f"{where}: [{name}]: {error}") from None
    first = next(iter(keys.values()))[0]
    has_default = "default" in keys
    where, default = keys.get("default", ("", ""))
    _, required = keys.get("required", ("", "false"))
    made = SettingDefinition(
        name,
        validator,
        default if has_default else None,
        required.lower() not in ("false", "no", "off", "0"),
        keys.get("help", ("", ""))[1],
        first,
    )
    if has_default:
        try:
            made.check(default)
        except SettingError as error:
            raise DefinitionError(f"{where}: [{name}]: default {default[:64]!r}: {error}") from None
    return made
