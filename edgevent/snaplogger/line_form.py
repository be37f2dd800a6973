"""The form of a line, and the names of files: texts with ``${...}`` in them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Final

from ..errors import OptionError
from ..log_levels import severity_of
from .collected import Collected, one_line

DEFAULT_FORM: Final = (
    "${timestamp} ${source_ip} ${severity} ${components} ${filename}:${line}:"
    " ${message} [${fields}]"
)
"""The form of a line when nobody gives another one."""
JSON: Final = "json"
"""The name of the form that is one JSON object a line."""
ABSENT: Final = "-"
"""What a line has in place of what a record does not have."""
OTHER: Final = "other.log"
"""The file of records when there are too many files."""

Reader = Callable[[Collected], str]

_VARIABLE: Final = re.compile(r"\$\{([^{}]*)\}")
_FIELD: Final = "field:"
_MAX_NAME: Final = 100
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._+=,@:-]", re.ASCII)


def _parameter(name: str) -> Reader:
    return lambda entry: entry.get(name) or ABSENT


VARIABLES: Final[Mapping[str, Reader]] = {
    "column": _parameter("column"),
    "component": Collected.component,
    "components": Collected.components,
    "fields": _parameter("fields"),
    "filename": _parameter("filename"),
    "function": _parameter("function"),
    "host": lambda entry: entry.host() or ABSENT,
    "instance": _parameter("instance"),
    "line": _parameter("line"),
    "message": lambda entry: entry.text,
    "protocol": lambda entry: entry.source.protocol,
    "serial": _parameter("serial"),
    "service": lambda entry: entry.message.sent_from_service or ABSENT,
    "severity": lambda entry: entry.severity,
    "severity_number": lambda entry: str(severity_of(entry.level)),
    "source": lambda entry: entry.source.address,
    "source_ip": lambda entry: entry.source.ip,
    "timestamp": Collected.timestamp,
}
"""What may stand in ``${...}``; ``${field:NAME}`` is the field of that name."""


def _field(name: str) -> Reader:
    return lambda entry: entry.fields().get(name) or ABSENT


def _compile(text: str, what: str) -> tuple[str, list[Reader]]:
    """Gives a text with ``%s`` in place of each variable, and what reads them."""
    readers: list[Reader] = []

    def take(found: re.Match[str]) -> str:
        name = found[1]
        reader = VARIABLES.get(name)
        if reader is None and name.startswith(_FIELD) and len(name) > len(_FIELD):
            reader = _field(name.removeprefix(_FIELD))
        if reader is None:
            near = difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.6)
            hint = f"; did you mean ${{{near[0]}}}?" if near else ""
            raise OptionError(
                f"{what} {text[:_MAX_NAME]!r}: there is no variable ${{{name[:40]}}}{hint}"
            )
        readers.append(reader)
        return "%s"

    return _VARIABLE.sub(take, text.replace("%", "%%")), readers


class LineForm:
    """Makes the line of a record.

    Args:
        text: A text with variables, or ``json``.

    Raises:
        OptionError: There is no such variable.
    """

    def __init__(self, text: str = DEFAULT_FORM) -> None:
        self.text = text
        self._form, self._readers = _compile(text, "form")

    def __str__(self) -> str:
        return self.text

    def line(self, entry: Collected) -> bytes:
        """Gives the line of a record, its newline included; it has no other one."""
        if self.text == JSON:
            return entry.as_json() + b"\n"
        return one_line(self._form % tuple([read(entry) for read in self._readers]))


class PathTemplate:
    """Gives the file that a record goes to, below a folder.

    No record can leave the folder: of what it says, only letters, digits and ``._+=,@:-`` go into a
    name, no name begins with a dot, and none is longer than 100 characters; other characters become
    an underscore each.

    Args:
        text: A path below the folder, with variables.

    Raises:
        OptionError: It is none, or there is no such variable.

    Attributes:
        is_fixed: Whether all records go to the same file.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parts = text.split("/")
        if not text or "\0" in text or any(part in ("", ".", "..") for part in parts):
            raise OptionError(
                f"path template {text[:_MAX_NAME]!r}: a path below the folder was expected, such as"
                " ${source_ip}/${component}.log"
            )
        self._form, self._readers = _compile(text, "path template")
        self.is_fixed = not self._readers

    def __str__(self) -> str:
        return self.text

    def values(self, entry: Collected) -> tuple[str, ...]:
        """Gives what of a record its path depends on."""
        return tuple([read(entry)[:_MAX_NAME] for read in self._readers])

    def path(self, values: tuple[str, ...]) -> str:
        """Gives the path for such values."""
        path = self._form % tuple(map(safe_name, values))
        # What stands beside a variable in the template may make a longer name of it.
        return "/".join(part[-255:] if len(part) > 255 else part for part in path.split("/"))


def safe_name(text: str) -> str:
    """Gives a text as a part of a file's name."""
    name = _UNSAFE.sub("_", text[:_MAX_NAME])
    return f"_{name[1:]}" if name.startswith(".") else name or "_"
