"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def write_together(contents: Mapping[Path, tuple[bytes, int]], *, replace: bool) -> None:
    """Writes all under other names, and only then gives them theirs.

    Nothing here switches greenlets, and it waits for the disk.

    Args:
        contents: For each path the bytes and the mode.
        replace: Whether files that are there are replaced.

    Raises:
        FileExistsError: One is there, and is not to be replaced; none was written.
        OSError: One cannot be written, which ``filename`` names; with ``replace`` others may have
            been replaced before.
    """
    drafts = {path: path.with_name(f".{path.name}.{os.urandom(8).hex()}") for path in contents}
    done: list[Path] = []
    try:
        for path, draft in drafts.items():
            try:
                _write_draft(draft, *contents[path])
            except OSError as error:
                error.filename = str(path)  # a full disk names no file, others name the draft
                raise
        for path, draft in drafts.items():
            if replace:
                os.replace(draft, path)
            else:
                os.link(draft, path)  # which, unlike a rename, replaces nothing
                done.append(path)
    except OSError:
        for path in done:
            os.unlink(path)
        raise
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def _write_draft(path: Path, data: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(fd, mode)
        os.fsync(fd)
