"""What was typed before: a file that only its user can read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

MAX_LINES: Final = 1_000
"""So many lines are kept."""
_MAX_BYTES: Final = 1024 * 1024


def history_path(name: str) -> Path:
    """Gives where the history of a program stands (XDG Base Directory Specification)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return folder / "edgevent" / f"{name}_history"


class History:
    """The lines of one program, the oldest first. Each is written at once, and none twice in a row.

    Lines that begin with a blank are not kept, nor those that hold a ``secret_code``.

    Args:
        path: The file; it need not be there.

    Attributes:
        lines: What was typed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []

    def load(self) -> None:
        """Reads the file; one that has grown long is written anew with the last lines.

        Raises:
            OSError: It cannot be read.
        """
        try:
            # Without O_NONBLOCK the open of a FIFO would wait for a writer.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            file.seek(max(size - _MAX_BYTES, 0))
            data = file.read(_MAX_BYTES)
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        self.lines = [line for line in lines if line][-MAX_LINES:]
        if len(lines) > 2 * MAX_LINES or size > _MAX_BYTES:
            self._write_anew()

    def add(self, line: str) -> None:
        """Keeps a line.

        Raises:
            OSError: The file cannot be written; the line is kept for this run.
        """
        if not line.strip() or line[0].isspace() or "secret_code=" in line:
            return
        if self.lines[-1:] == [line]:
            return
        self.lines.append(line)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, f"{line}\n".encode("utf-8", "surrogateescape"))
        finally:
            os.close(descriptor)

    def _write_anew(self) -> None:
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}-")
        try:
            with open(descriptor, "wb") as file:
                text = "".join(f"{line}\n" for line in self.lines)
                file.write(text.encode("utf-8", "surrogateescape"))
            os.replace(name, self.path)
        except BaseException:
            os.unlink(name)
            raise
