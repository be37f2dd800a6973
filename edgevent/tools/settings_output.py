"""What fluid-settings-cli prints."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import OptionError
from ..fluidsettings.dates import shown_time
from ..fluidsettings.described import Described, entry_fields
from ..fluidsettings.values import Entry
from ..fluidsettings.watch import SettingChange
from .output import printable

HEADER = "# settings as of fluid-settings-cli: namespace::name::priority=timestamp|value"


def print_json(value: object) -> None:
    """Prints one object a line."""
    print(json.dumps(value), flush=True)


def print_pair(name: str, value: str | None) -> None:
    """Prints ``name=value``, on one line whatever the value is; the name alone without one."""
    print(name if value is None else f"{name}={printable(value)}", flush=True)


def print_value(value: str) -> None:
    """Prints a value as it is; what a terminal would obey is escaped there."""
    text = printable(value) if sys.stdout.isatty() else value
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")
    sys.stdout.flush()


def setting_fields(setting: Described) -> dict[str, Any]:
    """Gives all of a setting as an object of JSON."""
    return {
        "name": setting.name,
        "value": setting.value,
        "type": setting.type or "string",
        "default": setting.default,
        "required": setting.required,
        "help": setting.help,
        "values": [entry_fields(entry) for entry in setting.entries],
    }


def change_fields(change: SettingChange) -> dict[str, Any]:
    """Gives what a listener is told as an object of JSON."""
    return {"name": change.name, "value": change.value, "default": change.is_default}


def print_settings(settings: Iterable[Described], *, verbose: bool) -> None:
    """Prints settings with their values; those that stand at each priority when verbose."""
    for setting in settings:
        print_pair(setting.name, setting.value)
        if verbose:
            for entry in reversed(setting.entries):
                print(f"    {entry_text(entry)}")
            if setting.default is not None:
                print(f"    default      {printable(setting.default)}")


def print_definitions(settings: Iterable[Described]) -> None:
    """Prints what settings are for, and what they may be."""
    for setting in settings:
        kind = printable(setting.type or "string")
        default = "" if setting.default is None else f", default {printable(setting.default)}"
        print(f"{setting.name} ({kind}{default}{', required' if setting.required else ''})")
        for line in setting.help.splitlines():
            print(f"    {printable(line)}")


def entry_text(entry: Entry) -> str:
    """Gives a value, its priority, who has set it and when, as one line."""
    value = "(deleted)" if entry.value is None else printable(entry.value)
    when, who = shown_time(entry.timestamp), printable(entry.who) or "-"
    return f"priority {entry.priority:2}  {value}  ({when}, {who})"


def print_history(entries: Sequence[Entry]) -> None:
    """Prints what was set and deleted, the newest one first."""
    for entry in entries:
        print(entry_text(entry))


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Writes a file, which appears whole, for its owner alone; ``-`` is the standard output.

    Raises:
        OptionError: It cannot be written.
    """
    text = "".join(f"{line}\n" for line in (HEADER, *lines))
    data = text.encode("utf-8", "surrogateescape")
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    made = ""
    try:
        # A rename would put a file in the place of /dev/stdout or of a FIFO.
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as file:
                file.write(data)
            return
        descriptor, made = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".settings.")
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.rename(made, path)
        made = ""
    except (OSError, ValueError) as error:
        raise OptionError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        if made:
            os.unlink(made)


def read_file(path: str) -> str:
    """Reads a file of settings; ``-`` is the standard input.

    Raises:
        OptionError: It cannot be read.
    """
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
    except (OSError, ValueError) as error:
        raise OptionError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return data.decode("utf-8", "surrogateescape")
