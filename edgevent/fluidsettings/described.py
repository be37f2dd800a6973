"""What the daemon tells of a setting beside its value, in two messages that the C++ daemon lacks.

``FLUID_SETTINGS_DESCRIBE name=N`` is answered ``FLUID_SETTINGS_DESCRIPTION`` with ``name``,
``type``, ``help``, ``default`` (when there is one), ``required`` and ``values``;
``FLUID_SETTINGS_HISTORY name=N;limit=COUNT`` is answered ``FLUID_SETTINGS_CHANGES`` with ``name``
and ``changes``, the newest one first. ``values`` and ``changes`` are JSON lists of objects. Both
fit one line, and ``cut=true`` says that something was left out for that: of ``values`` the values
themselves, for which GET asks one by one, of ``changes`` the oldest ones.

Nothing here switches greenlets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ..errors import MessageError
from ..message import Message
from .values import Entry

DESCRIBE: Final = "FLUID_SETTINGS_DESCRIBE"
DESCRIPTION: Final = "FLUID_SETTINGS_DESCRIPTION"
HISTORY: Final = "FLUID_SETTINGS_HISTORY"
CHANGES: Final = "FLUID_SETTINGS_CHANGES"

MAX_LIST_BYTES: Final = 40 * 1024
"""The longest JSON list in an answer: its line, with escapes, has to stay below 64 KiB."""
_LINE_BYTES: Final = 56 * 1024
_SHORTENED: Final = 200


@dataclass(frozen=True, slots=True)
class Described:
    """A setting, as the daemon knows it.

    Attributes:
        name: Its name, ``-`` in place of ``_``.
        type: What values it takes, in words such as ``integer (1...10)``; empty for any text.
        help: What it is for.
        default: Its value when nobody has set it; ``None`` without one.
        required: Whether it has to have a value.
        entries: Its values by ascending priority: the last one holds.
        cut: Whether the values were too long for the answer: those of the entries are ``None``.
    """

    name: str
    type: str = ""
    help: str = ""
    default: str | None = None
    required: bool = False
    entries: tuple[Entry, ...] = ()
    cut: bool = False

    @property
    def value(self) -> str | None:
        """The value that holds: the one of the highest priority, or the default."""
        return self.entries[-1].value if self.entries else self.default


def entry_fields(entry: Entry) -> dict[str, Any]:
    """Gives a value as an object of JSON, without the name of its setting."""
    return {
        "priority": entry.priority,
        "timestamp": entry.timestamp,
        "value": entry.value,
        "who": entry.who,
    }


def _list_text(entries: Iterable[Entry]) -> tuple[str, bool]:
    """Writes a list as JSON; returns it, and whether entries had to be left out of it."""
    parts: list[str] = []
    size = 0
    for entry in entries:
        part = json.dumps(entry_fields(entry), separators=(",", ":"))
        size += _wire_bytes(part)
        if size > MAX_LIST_BYTES:
            return f"[{','.join(parts)}]", True
        parts.append(part)
    return f"[{','.join(parts)}]", False


def _wire_bytes(text: str) -> int:
    # On the line a backslash and a quote are two bytes each; JSON itself is ASCII.
    return len(text) + text.count("\\") + text.count('"') + 1


def write_description(request: Message, setting: Described) -> Message:
    """Makes the answer to ``FLUID_SETTINGS_DESCRIBE``."""
    text, cut = _list_text(setting.entries)
    if cut:
        # Of what is too much even without values, the lowest priorities are left out.
        text, _ = _list_text(replace(one, value=None) for one in reversed(setting.entries))
    fields = {
        "name": setting.name,
        "required": "true" if setting.required else "false",
        "values": text,
    }
    for key, value in (("type", setting.type), ("help", setting.help)):
        if value:
            fields[key] = value[:2000]
    if setting.default is not None:
        fields["default"] = setting.default
    if cut:
        fields["cut"] = "true"
    answer = request.reply(DESCRIPTION, fields)
    if len(answer.to_line()) > _LINE_BYTES:  # a long default stands beside long values
        stripped = tuple(replace(one, value=None) for one in setting.entries)
        fields.update(values=_list_text(reversed(stripped))[0], cut="true")
        answer = request.reply(DESCRIPTION, fields)
    return answer


def read_description(answer: Message) -> Described:
    """Reads what :func:`write_description` has made.

    Raises:
        MessageError: It is no description.
    """
    name = answer["name"]
    entries = _read_list(answer, "values", name)
    return Described(
        name,
        answer.get("type", ""),
        answer.get("help", ""),
        answer.get("default"),
        answer.get("required", "") == "true",
        tuple(sorted(entries, key=lambda entry: entry.priority)),
        answer.get("cut", "") == "true",
    )


def write_changes(request: Message, name: str, entries: Sequence[Entry]) -> Message:
    """Makes the answer to ``FLUID_SETTINGS_HISTORY``.

    Args:
        entries: What was set and deleted, the newest one first.
    """
    text, cut = _list_text(entries)
    fields = {"name": name, "changes": text}
    if cut:
        fields["cut"] = "true"
    return request.reply(CHANGES, fields)


def read_changes(answer: Message) -> list[Entry]:
    """Reads what :func:`write_changes` has made.

    Raises:
        MessageError: It is no list of changes.
    """
    return _read_list(answer, "changes", answer["name"])


def _read_list(answer: Message, parameter: str, name: str) -> list[Entry]:
    try:
        found = json.loads(answer[parameter])
        if not isinstance(found, list):
            raise ValueError("no list")
        return [
            Entry(
                name,
                int(one["priority"]),
                int(one["timestamp"]),
                None if one["value"] is None else str(one["value"]),
                str(one["who"]),
            )
            for one in found
        ]
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, MessageError):
            raise
        shown = answer[parameter][:_SHORTENED]
        raise MessageError(
            f"{answer.command}: parameter {parameter} is no list of values: {shown!a}",
            command=answer.command,
            parameter=parameter,
        ) from None
