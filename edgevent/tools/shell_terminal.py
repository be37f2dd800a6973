"""The terminal of ed-shell: a line editor, and what is shown while a line is edited."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import threading
import unicodedata
from typing import Any, Final, Protocol

from .output import printable
from .shell_history import MAX_LINES, History
from .shell_input import Completer

_DUMB: Final = ("", "dumb")


class Terminal(Protocol):
    """What the shell asks of its terminal."""

    def read_line(self, prompt: str) -> str:
        """Lets the user edit a line; raises ``EOFError`` at the end, ``KeyboardInterrupt``."""

    def show(self, text: str) -> None:
        """Shows a line, above the one that is being edited; callable from any thread."""

    def close(self) -> None:
        """Ends what was begun for it. Idempotent."""


def open_terminal(history: History, completer: Completer, *, plain: bool = False) -> Terminal:
    """Gives the best line editor that there is: prompt_toolkit's, else that of readline.

    Args:
        plain: Whether readline's is wanted in any case.
    """
    if not plain and importlib.util.find_spec("prompt_toolkit") is not None:
        return PromptTerminal(history, completer)
    return ReadlineTerminal(history, completer)


class ReadlineTerminal:
    """The line editor of the C library readline; without that one, the terminal's own."""

    def __init__(self, history: History, completer: Completer) -> None:
        self._completer = completer
        self._lock = threading.RLock()
        self._prompt: str | None = None  # of the line that is being edited
        self._readline: Any = None
        self._found: list[str] = []
        try:
            import readline
        except ImportError:
            return
        self._readline = readline
        readline.set_history_length(MAX_LINES)
        for line in history.lines:
            readline.add_history(line)
        readline.set_completer_delims(" ;")
        readline.set_completer(self._complete)
        is_libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")

    def read_line(self, prompt: str) -> str:
        """Lets the user edit a line."""
        self._prompt = prompt
        try:
            return input(prompt)
        finally:
            self._prompt = None

    def show(self, text: str) -> None:
        """Shows a line."""
        text = printable(text)
        with self._lock:
            prompt = self._prompt
            _write(f"{text}\n" if prompt is None else self._around(text, prompt))

    def close(self) -> None:
        """Nothing is to be ended."""

    def _around(self, text: str, prompt: str) -> str:
        """Puts a line above the one that is edited, without a word to readline.

        Readline moves the cursor by how many columns it thinks that it is off. So what it has
        drawn is moved down as a whole, with the cursor in its column. (Its functions that draw are
        not to be called by two threads.)
        """
        typed = self._readline.get_line_buffer() if self._readline is not None else ""
        size = shutil.get_terminal_size()
        rows = _rows(text, size.columns)
        above = _rows(prompt + typed, size.columns) - 1  # of the edited line, if it is a long one
        if os.environ.get("TERM", "") in _DUMB or rows + above + 1 >= size.lines:
            return f"\r\n{text}\n{prompt}{typed}"
        return "".join(
            [
                "\x1bD" * rows,  # index: down, scrolls at the bottom, keeps the column
                f"\x1b[{rows + above}A" if above else f"\x1b[{rows}A",
                f"\x1b7\r\x1b[{rows}L",  # keeps the place, inserts rows before this one
                text,
                f"\x1b8\x1b[{rows + above}B",
            ]
        )

    def _complete(self, word: str, number: int) -> str | None:
        """What readline calls, with 0, 1, 2 and so on."""
        if number == 0:
            readline = self._readline
            _, self._found = self._completer.complete(
                readline.get_line_buffer()[: readline.get_endidx()]
            )
        return self._found[number] if number < len(self._found) else None


class PromptTerminal:
    """The line editor of prompt_toolkit, which is in the extra ``shell``."""

    def __init__(self, history: History, completer: Completer) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import Completer as BaseCompleter
        from prompt_toolkit.completion import Completion
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.patch_stdout import patch_stdout

        def complete(_: Any, document: Any, event: Any) -> Any:
            before = document.text_before_cursor
            begin, found = completer.complete(before)
            for one in found:
                yield Completion(one, start_position=begin - len(before))

        # Made here, for mypy knows the base class only where prompt_toolkit is installed.
        kind: Any = type("ShellCompleter", (BaseCompleter,), {"get_completions": complete})
        self._session: Any = PromptSession(
            history=InMemoryHistory(history.lines),
            completer=kind(),
            complete_while_typing=False,
            enable_history_search=True,
        )
        self._lock = threading.RLock()
        self._patches = contextlib.ExitStack()
        # For good, and not for a line at a time: what came in between would hit the next prompt.
        self._patches.enter_context(patch_stdout())

    def read_line(self, prompt: str) -> str:
        """Lets the user edit a line."""
        line: str = self._session.prompt(prompt)
        return line

    def show(self, text: str) -> None:
        """Shows a line; what stands for the standard output puts it above the edited one."""
        with self._lock:
            _write(f"{printable(text)}\n")

    def close(self) -> None:
        """Shows what is still to be shown, and gives the standard output back."""
        self._patches.close()


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        pass  # the terminal is gone: the editor meets that, too, and ends


def _rows(text: str, columns: int) -> int:
    """How many rows a line takes."""
    width = sum(
        2 if unicodedata.east_asian_width(one) in "WF" else not unicodedata.combining(one)
        for one in text
    )
    return max((width + columns - 1) // max(columns, 1), 1)
