"""What a trace shows of a message, and the globs that choose it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from ..errors import MessageError, OptionError
from ..log_text import mask
from ..message import parse_text

HIDDEN: Final = "..."
"""What stands for a value when the names of parameters alone are wanted."""
MAX_GLOBS: Final = 100
"""The most globs of one trace."""

_HEAD: Final = re.compile(
    r"(?:<([^: ]*):([^ ]*) )?(?:(?:([^:/ ]+):)?([^:/ ]+)/|([^:/ ]+):)?([^:/\s]*)", re.ASCII
)
_PART: Final = r"[A-Za-z0-9_.*?\[\]!-]+"
_GLOB: Final = re.compile(rf"(?:(?:({_PART}):)?({_PART}))?(?:/({_PART}))?", re.ASCII)
_NAMED: Final = re.compile(r"([^:/]*):([^:/]*)")


class Head(NamedTuple):
    """The names at the begin of a line, in the order in which they stand."""

    from_server: str
    from_service: str
    server: str
    service: str
    command: str

    @property
    def sender(self) -> str:
        """Who says that it sent it, as ``server:service``; empty when nobody does."""
        return named(self.from_server, self.from_service) if self.from_service else ""


def head_bytes(line: bytes) -> bytes:
    """Gives what stands before the parameters of a line in the text form."""
    begin = line.find(b" ") + 1 if line[:1] == b"<" else 0
    end = line.find(b" ", begin)
    return line.rstrip() if end < 0 else line[:end]


def read_head(line: bytes) -> Head:
    """Reads the names at the begin of a line in the text form; of another line they are empty."""
    found = _HEAD.match(head_bytes(line).decode("utf-8", "replace"))
    if found is None:
        return Head("", "", "", "", "")
    from_server, from_service, server, service, alone, command = found.groups("")
    return Head(from_server, from_service, server or alone, service, command)


def named(server: str, service: str) -> str:
    """Gives ``server:service``, or the service alone."""
    return f"{server}:{service}" if server else service


def shown_text(line: bytes, values: bool = True) -> str:
    """Gives a line in the text form as a trace shows it: without its secrets.

    Args:
        line: The line, without its newline; what is not UTF-8 is kept as ``surrogateescape``.
        values: Whether the values of parameters are shown at all.
    """
    text = line.decode("utf-8", "surrogateescape")
    if values:
        return mask(text)
    try:
        message = parse_text(text)
    except MessageError:
        return head_bytes(line).decode("utf-8", "replace")
    return str(message.with_parameters(dict.fromkeys(message.parameters, HIDDEN)))


class TraceFilter:
    """Chooses messages by globs ``[SERVER:]SERVICE[/COMMAND]``, of their sender or their target.

    Args:
        globs: Shell patterns; what is left out is ``*``, and ``/STOP`` is that command of anybody.
            Without any, every message is chosen.

    Raises:
        OptionError: One of them is none, or they are too many.

    Example:
        >>> TraceFilter(["stock/TAKE*"]).matches("snap:till", "snap:stock", "TAKE")
        True
    """

    def __init__(self, globs: Iterable[str] = ()) -> None:
        self.globs = tuple(globs)
        if len(self.globs) > MAX_GLOBS:
            raise OptionError(f"{len(self.globs)} globs: {MAX_GLOBS} at the most were expected")
        self._patterns = [_read_glob(glob) for glob in self.globs]

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def matches(self, sender: str, target: str, command: str) -> bool:
        """Says whether a message is chosen; sender and target are as of :func:`named`."""
        if not self._patterns:
            return True
        ends = _parts(sender), _parts(target)
        return any(
            commands.match(command) is not None
            and any(servers.match(one) and services.match(other) for one, other in ends)
            for servers, services, commands in self._patterns
        )


def _parts(name: str) -> tuple[str, str]:
    found = _NAMED.fullmatch(name)  # a peer without a name is called by its connection's
    return ("", name) if found is None else (found[1], found[2])


def _read_glob(glob: str) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    found = _GLOB.fullmatch(glob)
    if not glob or found is None:
        raise OptionError(
            f"{glob[:64]!r}: SERVICE, SERVER:SERVICE, SERVER:SERVICE/COMMAND or /COMMAND was"
            " expected, of which each may be a shell pattern"
        )
    server, service, command = (re.compile(fnmatch.translate(one or "*")) for one in found.groups())
    return server, service, command
