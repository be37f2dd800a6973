"""A terminal that shows a table and takes keys: plain escape sequences (console_codes(4))."""

from __future__ import annotations

import os
import shutil
import signal
import termios
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import gevent
from gevent.event import Event

_ENTER: Final = "\x1b[?1049h\x1b[?25l"  # the other screen, no cursor
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_ARROWS: Final = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
}
_READ: Final = 1


class Screen:
    """Shows lines on a whole terminal, and hears keys, while its ``with`` block lasts.

    Args:
        keys: The descriptor that keys come from.
        shown: The descriptor to draw on.
        on_key: Called in the hub with each key: a character, or ``up``, ``down``, ``page up``,
            ``page down``. It must not switch.
    """

    def __init__(self, keys: int, shown: int, on_key: Callable[[str], object]) -> None:
        self._keys = keys
        self._shown = shown
        self._on_key = on_key
        self._woken = Event()
        self._settings: list[Any] = []
        self._watchers: list[Any] = []

    def __enter__(self) -> Screen:
        loop = gevent.get_hub().loop
        for number, call in (
            (signal.SIGWINCH, self._woken.set),
            (signal.SIGTSTP, self._pause),
        ):
            watcher = loop.signal(number, ref=False)
            watcher.start(call)
            self._watchers.append(watcher)
        watcher = loop.io(self._keys, _READ)
        watcher.start(self._readable)
        self._watchers.append(watcher)
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for watcher in self._watchers:
            watcher.close()
        self._watchers.clear()
        self._end()

    def wait(self, seconds: float) -> bool:
        """Waits for a key, or a new size; returns whether one has come."""
        woken = bool(self._woken.wait(seconds))
        self._woken.clear()
        return woken

    @property
    def size(self) -> os.terminal_size:
        """The columns and lines of the terminal."""
        try:
            return os.get_terminal_size(self._shown)
        except OSError:
            return shutil.get_terminal_size()

    def draw(self, lines: list[str], marked: int) -> None:
        """Shows lines, cut to the size of the terminal.

        Args:
            lines: What is shown.
            marked: Which of them is shown in reverse.
        """
        columns, rows = self.size
        out = ["\x1b[H"]
        for number, line in enumerate(lines[:rows]):
            text = line[:columns]
            if number == marked:
                text = f"\x1b[7m{text.ljust(columns)}\x1b[0m"
            out.append(f"{text}\x1b[K")
            out.append("\r\n")
        if len(lines) >= rows:
            out.pop()  # the last line would scroll
        else:
            out.append("\x1b[J")
        self._write("".join(out))

    # --- the terminal -----------------------------------------------------------------------------

    def _begin(self) -> None:
        self._settings = termios.tcgetattr(self._keys)
        tty.setcbreak(self._keys)
        self._write(_ENTER)

    def _end(self) -> None:
        try:
            self._write(_LEAVE)
            termios.tcsetattr(self._keys, termios.TCSANOW, self._settings)
        except (OSError, termios.error):
            pass  # the terminal is gone

    def _pause(self) -> None:
        """Gives the terminal back while the shell has stopped this process."""
        self._end()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._begin()
        self._woken.set()

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self._shown, data) :]

    def _readable(self) -> None:
        try:
            data = os.read(self._keys, 256)
        except OSError:
            data = b""
        if not data:  # the terminal is gone
            self._watchers[-1].stop()
            self._on_key("q")
        while data:
            found = next((one for one in _ARROWS if data.startswith(one)), b"")
            self._on_key(_ARROWS[found] if found else data[:1].decode("latin-1"))
            data = data[len(found) or 1 :]
        self._woken.set()
