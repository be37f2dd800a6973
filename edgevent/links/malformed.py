"""Lines that are no messages: what is said of them, and how many a peer may send."""

from __future__ import annotations

import re
from typing import Final

from ..errors import MessageError
from ..limits import LOGGED_LINE_BYTES, MALFORMED_INTERVAL

# What errors quote: parts of the line, which may be secret, or these words of their own.
_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*'|" + r'"(?:[^"\\]|\\.)*"')
_TERMS: Final = (
    "'_' '.' '*' '?' 'parameters' 'name=value' '<server:service ' '[[server:]service/]COMMAND'"
)


def show_line(line: bytes | str) -> str:
    """Returns the first bytes of a line, escaped, as they may stand in the log."""
    if isinstance(line, str):
        line = line[: 2 * LOGGED_LINE_BYTES].encode("utf-8", "surrogateescape")
    return ascii(line[:LOGGED_LINE_BYTES])[2:-1]


def reason(error: MessageError, shown: str) -> str:
    """Gives an error without what it quotes of a line but the bytes that are shown anyway."""
    text = str(error).removeprefix(f"{error.command}: ")
    return _QUOTED.sub(
        lambda found: found[0] if found[0] in _TERMS or found[0][1:-1] in shown else "...", text
    )


class MalformedLines:
    """When a peer has sent some lately; one that sends many is closed."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: list[float] = []

    def __len__(self) -> int:
        return len(self._times)

    def note(self, now: float) -> int:
        """Takes note of one; returns how many came within the last minute."""
        self._times = [at for at in self._times if now - at < MALFORMED_INTERVAL]
        self._times.append(now)
        return len(self._times)
