"""The settings as a text file of the C++ daemon: written, and taken over."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress

from ..errors import SettingError, SettingsStoreError
from ..option_output import discard_output
from .deletions import IMPORT
from .store import Store
from .values import read_lines, write_line

_HEAD = """\
# The settings of fluid-settings, exported.
# namespace::name::priority=timestamp|value
"""
_MAX_BYTES = 256 * 1024 * 1024


def export_text(store: Store) -> str:
    """Gives all that is set as a text, in order."""
    lines = [write_line(one) for one in store.entries() if one.value is not None]
    return "".join([_HEAD, *(f"{line}\n" for line in sorted(lines))])


def export_file(store: Store, path: str) -> None:
    """Writes the text to a file, which is there as a whole or not at all; ``-`` is the output.

    Raises:
        SettingsStoreError: It cannot be written.
    """
    data = export_text(store).encode("utf-8")
    if path == "-":
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError as error:
            discard_output()
            text = f"standard output: {error.strerror}"
            raise SettingsStoreError(text, error.errno) from None
        return
    folder, name = os.path.split(os.path.abspath(path))
    beside = ""
    try:
        descriptor, beside = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        if beside:
            with suppress(OSError):
                os.unlink(beside)
        raise SettingsStoreError(f"{path}: {error.strerror}", error.errno) from None


def import_file(store: Store, path: str) -> int:
    """Takes over what a text has, all or nothing; the newer value of two holds. Blocks.

    Returns:
        How many values were taken over.

    Raises:
        SettingError: A line is wrong, or what it says is refused; the sentence names the line.
        SettingsStoreError: The text cannot be read, or nothing can be stored.
    """
    try:
        with sys.stdin.buffer if path == "-" else open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise SettingsStoreError(f"{path}: {error.strerror}", error.errno) from None
    if len(data) > _MAX_BYTES:
        raise SettingError(f"{path}: it is larger than {_MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: byte {error.start} is not UTF-8") from None
    entries = list(read_lines(text, path))
    for one in entries:
        assert one.value is not None
        try:
            store.definition(one.name).check(one.value)
        except SettingError as error:
            raise SettingError(f"{path}: {one.name}: {error}") from None
    return store.merge(entries, IMPORT)
