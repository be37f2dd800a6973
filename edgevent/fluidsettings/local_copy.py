"""A copy of settings on this computer's disk, for a start while no daemon answers.

A file of JSON: ``{"settings": {"namespace::name": "value"}}``. Nothing here switches greenlets.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from typing import Final

from ..errors import SettingsCopyError

_MODE: Final = 0o600
_MAX_BYTES: Final = 16 * 1024 * 1024
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def read_copy(path: str) -> dict[str, str]:
    """Reads a copy; a file that is not there gives nothing.

    Raises:
        SettingsCopyError: The file cannot be read, is no copy, or others may have written it.
    """
    try:
        # Without O_NONBLOCK the open of a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _failed(path, error) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise SettingsCopyError(f"{path}: is no regular file")
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & _OTHERS:
            raise SettingsCopyError(f"{path}: others may write it; mode 0600 was expected")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        if isinstance(error, SettingsCopyError):
            raise
        raise _failed(path, error) from None
    finally:
        os.close(descriptor)
    return _parse(path, data)


def _parse(path: str, data: bytes) -> dict[str, str]:
    try:
        found = json.loads(data)["settings"] if len(data) <= _MAX_BYTES else None
    except (ValueError, TypeError, KeyError, RecursionError):
        found = None
    if isinstance(found, dict) and all(isinstance(text, str) for text in found.values()):
        return found
    raise SettingsCopyError(f"{path}: is no copy of settings")


def write_copy(path: str, settings: Mapping[str, str]) -> None:
    """Puts a copy in the place of the one before: it is on the disk when this returns.

    The file appears whole, by a rename, with mode 0600. Blocks the process: call it in a thread.

    Raises:
        SettingsCopyError: It could not be written, and the one before is still there.
    """
    text = json.dumps({"settings": dict(sorted(settings.items()))}, indent=1) + "\n"
    folder = os.path.dirname(os.path.abspath(path))
    made = ""
    try:
        descriptor, made = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.")
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, _MODE)
            file.write(text.encode())
            file.flush()
            os.fsync(descriptor)
        os.rename(made, path)
        _sync_folder(folder)
    except (OSError, ValueError) as error:
        if made:
            with contextlib.suppress(OSError):
                os.unlink(made)
        raise _failed(path, error) from None


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failed(path: str, error: OSError | ValueError) -> SettingsCopyError:
    number = getattr(error, "errno", None)
    why = getattr(error, "strerror", None) or str(error)  # a path with a NUL is a ValueError
    return SettingsCopyError(f"{path!s}: the copy of settings: {why}", number)
