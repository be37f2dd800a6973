"""Message definitions: which parameters a command has, and what their values may be.

A definition is the file ``<COMMAND>.conf`` in one of a list of folders, in the INI format of the
C++ library: one section per parameter, with the keys ``description``, ``type`` and ``flags``.
The commands that every service knows have built-in definitions.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from .address import Address
from .durations import parse_timespec
from .errors import AddressError, DefinitionError, DurationError

MAX_FILE_BYTES: Final = 64 * 1024
"""The largest definition file, in bytes."""
MAX_CACHED: Final = 1_024
"""The most commands whose definition, or lack of one, is remembered."""

_LOGGER: Final = logging.getLogger("edgevent.definitions")
_SUFFIX: Final = ".conf"
# Names of files have at most 255 bytes; no longer command can have a file.
_COMMAND: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,249}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTEGER: Final = re.compile(r"([+-]?)0*([0-9]{1,19})")
_MAX_INTEGER: Final = 2**63 - 1
_SHOWN: Final = 100

_KEYS: Final = ("description", "type", "flags")
_TYPES: Final = {
    "string": "string",
    "default": "string",
    "integer": "integer",
    "address": "address",
    "timespec": "timespec",
}
_FLAGS: Final = ("required", "optional", "defined", "allowed", "empty", "forbidden")

# Parameters of the default commands: "name", then "name:type"; "?" behind is optional, "!" is
# required and may be empty.
_BUILTIN: Final = {
    "ABSOLUTELY": "reply_timestamp:timespec serial? timestamp:timespec?",
    "ALIVE": "serial? timestamp:timespec?",
    "COMMANDS": "list",
    "HELP": "",
    "INVALID": "command? message?",
    "LEAK": "",
    "LOG_ROTATE": "",
    "QUITTING": "",
    "READY": "my_address:address?",
    "RESTART": "",
    "SERVICE_UNAVAILABLE": "destination_service! unsent_command!",
    "STOP": "",
    "UNKNOWN": "command? message?",
}


@dataclass(frozen=True, slots=True)
class ParameterRule:
    """What a definition says of one parameter.

    Attributes:
        name: The parameter's name, ``_`` between words.
        type: ``string``, ``integer`` (64-bit signed), ``address`` or ``timespec``.
        required: It must be there.
        may_be_empty: It may be there without a value.
        forbidden: It must not be there.
        description: A text for people.
    """

    name: str
    type: str = "string"
    required: bool = True
    may_be_empty: bool = True
    forbidden: bool = False
    description: str = ""

    def check(self, value: str | None) -> str | None:
        """Tell what is wrong with a value.

        Args:
            value: The value, or ``None`` if the message has no such parameter.

        Returns:
            The end of a sentence that begins with the parameter's name, without the value; or
            ``None`` when the value is right.
        """
        if value is None:
            return "is missing" if self.required and not self.forbidden else None
        if self.forbidden:
            return "is forbidden"
        if not value:
            return None if self.may_be_empty else "is empty"
        if self.type == "integer" and not _is_integer(value):
            return "is no integer of 64 bits"
        if self.type == "address" and not _is_address(value):
            return "is no address: expected ip:port"
        if self.type == "timespec" and not _is_timespec(value):
            return "is no time: expected seconds[.fraction]"
        return None


@dataclass(frozen=True, slots=True)
class Definition:
    """The rules of one command; parameters that no rule names are accepted.

    Attributes:
        command: The command.
        rules: One rule per parameter, in the order of the file.
    """

    command: str
    rules: tuple[ParameterRule, ...] = ()

    def check(self, parameters: Mapping[str, str]) -> str | None:
        """Tell what is wrong with a message's parameters.

        Args:
            parameters: The parameters by name.

        Returns:
            A sentence that names the first wrong parameter and the command, never a value;
            ``None`` when all are right.
        """
        for rule in self.rules:
            why = rule.check(parameters.get(rule.name))
            if why is not None:
                return f"parameter {rule.name} of {self.command} {why}"
        return None


class Definitions:
    """The definitions of a list of folders, each loaded when it is first asked for and then kept.

    Args:
        folders: The folders; the first one that holds a command's file wins. One text is a list
            with colons between, as in the C++ option.
        builtin: Whether the default commands have a definition where no folder has one.
    """

    __slots__ = ("_builtin", "_cache", "folders")

    def __init__(
        self, folders: Iterable[str | os.PathLike[str]] = (), *, builtin: bool = True
    ) -> None:
        if isinstance(folders, str):
            folders = [folder for folder in folders.split(":") if folder]
        self.folders = tuple(os.fspath(folder) for folder in folders)
        self._builtin = builtin
        self._cache: dict[str, Definition | None] = {}

    def __repr__(self) -> str:
        return f"<Definitions folders={list(self.folders)} cached={len(self._cache)}>"

    def get(self, command: str) -> Definition | None:
        """Give the definition of a command; reads a file at the first call for it.

        Args:
            command: The command, as it came from a peer.

        Returns:
            The definition, or ``None`` if there is none: then all parameters are accepted.

        Raises:
            DefinitionError: The file cannot be used. It is tried again at the next call.
        """
        try:
            return self._cache[command]
        except KeyError:
            pass
        if not _COMMAND.fullmatch(command):
            return None
        definition = self._load(command)
        if len(self._cache) >= MAX_CACHED:
            del self._cache[next(iter(self._cache))]
        self._cache[command] = definition
        return definition

    def _load(self, command: str) -> Definition | None:
        for folder in self.folders:
            path = os.path.join(folder, command + _SUFFIX)
            text = _read(path)
            if text is not None:
                return parse_definition(text, command, path)
        if self._builtin and command in _BUILTIN:
            return _parse_builtin(command)
        return None


def load_definition(path: str | os.PathLike[str]) -> Definition:
    """Read one definition file.

    Args:
        path: The file, named ``<COMMAND>.conf``.

    Returns:
        The definition of the command that the file is named after.

    Raises:
        DefinitionError: The file is missing, misnamed, larger than :data:`MAX_FILE_BYTES`, or
            its content is wrong.
    """
    filename = os.fspath(path)
    command, suffix = os.path.splitext(os.path.basename(filename))
    if suffix != _SUFFIX or not _COMMAND.fullmatch(command):
        raise DefinitionError(f"{filename}: expected a file named <COMMAND>{_SUFFIX}")
    text = _read(filename)
    if text is None:
        raise DefinitionError(f"{filename}: there is no such file") from FileNotFoundError(filename)
    return parse_definition(text, command, filename)


def parse_definition(text: str, command: str, filename: str) -> Definition:
    """Read the content of a definition file.

    An unknown key is ignored, with a warning in the log, as by the C++ library: one of the files
    that it installs holds ``flag = required``, which leaves the parameter required but free to
    be empty.

    Args:
        text: The content.
        command: The command that it defines.
        filename: The name for errors and warnings.

    Returns:
        The definition.

    Raises:
        DefinitionError: A line, section name, type or flag is wrong.
    """
    sections: dict[str, dict[str, tuple[str, str]]] = {}
    for where, section, key, value in read_ini(text, filename):
        name = section.replace("-", "_")
        if name and not _NAME.fullmatch(name):
            raise DefinitionError(f"{where}: section {_shown(section)}: expected a name")
        if key not in _KEYS or (not name and key != "description"):
            _warn(where, section, key)
        # A section without any key does not exist; one with an unknown key only does.
        sections.setdefault(name, {})[key] = (where, value)
    sections.pop("", None)
    return Definition(command, tuple(_make_rule(*item) for item in sections.items()))


def _refuse(error: DefinitionError) -> None:
    raise error


def read_ini(
    text: str, filename: str, report: Callable[[DefinitionError], None] = _refuse
) -> Iterator[tuple[str, str, str, str]]:
    """Read a text in the INI format of the C++ library's configuration files.

    A line is empty, a comment (``#`` or ``;`` first), ``[section]`` or ``key = value``. A ``\\``
    at the end joins the next line. Values are taken as they stand, without blanks around;
    quotes and later ``#`` belong to them.

    Args:
        text: The text.
        filename: The name for errors.
        report: Takes the error of a line that is none of these, whose sentence begins with
            ``filename:line``; unless it raises, the reading goes on behind the line, or behind the
            section whose name cannot be read.

    Yields:
        ``filename:line``, the section (empty before the first one), key and value.

    Raises:
        DefinitionError: A line is none of these, and nobody takes the errors.
    """
    section, is_known = "", True
    lines = enumerate(text.split("\n"), 1)
    for number, line in lines:
        content = line.strip()
        if not content or content[0] in "#;":
            continue
        while content.endswith("\\"):
            content = content[:-1] + next(lines, (0, ""))[1].strip()
        if content.startswith("["):
            section = content[1:-1].strip()
            is_known = content.endswith("]") and bool(section)
            if not is_known:
                what = f"{_shown(content)}: expected [section]"
                report(DefinitionError(f"{filename}:{number}: {what}"))
            continue
        key, equal, value = content.partition("=")
        key = key.rstrip()
        if not equal or not key:
            what = f"{_shown(content)}: expected key = value"
            report(DefinitionError(f"{filename}:{number}: {what}"))
        elif is_known:
            yield f"{filename}:{number}", section, key, value.strip()


def _make_rule(name: str, keys: Mapping[str, tuple[str, str]]) -> ParameterRule:
    where, kind = keys.get("type", ("", "string"))
    if kind not in _TYPES:
        raise DefinitionError(_wrong(where, name, "type", kind, tuple(_TYPES)))
    flags = {"required", "empty"}
    if "flags" in keys:
        where, value = keys["flags"]
        flags = {flag.strip() for flag in value.split(",")} - {""}
        for flag in sorted(flags.difference(_FLAGS)):
            raise DefinitionError(_wrong(where, name, "flags", flag, _FLAGS))
    return ParameterRule(
        name=name,
        type=_TYPES[kind],
        required="required" in flags,
        may_be_empty="empty" in flags,
        forbidden="forbidden" in flags,
        description=keys.get("description", ("", ""))[1],
    )


def _parse_builtin(command: str) -> Definition:
    rules = []
    for item in _BUILTIN[command].split():
        name, _, kind = item.rstrip("?!").partition(":")
        rules.append(
            ParameterRule(
                name=name,
                type=kind or "string",
                required=not item.endswith("?"),
                may_be_empty=item.endswith("!"),
            )
        )
    return Definition(command, tuple(rules))


def _read(path: str) -> str | None:
    """Give a file's text, or ``None`` if there is no such file."""
    try:
        # Without O_NONBLOCK the open of a FIFO would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            # Not closed by open(), which leaves the descriptor of a folder open when it raises.
            with open(fd, "rb", closefd=False) as file:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise DefinitionError(f"{path}: expected a regular file")
                data = file.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DefinitionError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise DefinitionError(f"{path}: expected {MAX_FILE_BYTES} bytes at most")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DefinitionError(f"{path}: expected UTF-8 text") from None


def _is_integer(value: str) -> bool:
    match = _INTEGER.fullmatch(value)
    return match is not None and int(match[2]) <= _MAX_INTEGER + (match[1] == "-")


def _is_address(value: str) -> bool:
    # On the wire an address has no scheme.
    try:
        return "/" not in value and Address.parse(value, default_port=0).is_inet
    except AddressError:
        return False


def _is_timespec(value: str) -> bool:
    try:
        parse_timespec(value)
    except DurationError:
        return False
    return True


def _warn(where: str, section: str, key: str) -> None:
    place = f"section [{section}]" if section else "before the first section"
    near = _nearest(key, _KEYS) if section else ""
    _LOGGER.warning("%s: %s: key %s is unknown and ignored%s", where, place, _shown(key), near)


def _wrong(where: str, section: str, key: str, value: str, right: tuple[str, ...]) -> str:
    return (
        f"{where}: section [{section}]: {key} {_shown(value)}: "
        f"expected one of {', '.join(right)}{_nearest(value, right)}"
    )


def _nearest(value: str, right: Iterable[str]) -> str:
    near = difflib.get_close_matches(value[:_SHOWN], list(right), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _shown(text: str) -> str:
    shown = repr(text[: _SHOWN + 1])
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
