"""What ``ed-trace`` shows: what has passed a communicatord, as it comes or from a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ..communicatord.tracing import TraceFilter, head_bytes, named, read_head, shown_text
from ..message import Message
from .recording import Record, read_began, read_recording

MISSED: Final = "TRACE_MISSED"
_HOW: Final = re.compile(r"(.*) \((held|lost: .*)\)", re.DOTALL)
_DATAGRAMS: Final = ("udp:", "unixgram:")
_MAX_LINE_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Passed:
    """A message that has passed, or how many were missed at one place.

    Attributes:
        ns: When, in nanoseconds of the epoch.
        sender: From whom: ``server:service``, or what else is known.
        target: To whom.
        text: The message in its text form, with the names of both, without its secrets.
        missed: How many messages were not seen here; then there are no other names.
        held: Whether it waits for its service.
        lost: Why it was not delivered.
        size: Its length in bytes, when only its begin is in the text; else 0.
    """

    ns: int
    sender: str = ""
    target: str = ""
    text: str = ""
    missed: int = 0
    held: bool = False
    lost: str = ""
    size: int = 0

    @property
    def command(self) -> str:
        """Its command."""
        return read_head(self._line).command

    @property
    def body(self) -> str:
        """Its command and its parameters, without the names."""
        line = self._line
        body = f"{self.command}{line[len(head_bytes(line)) :].decode('utf-8', 'surrogateescape')}"
        return f"{body}... ({self.size} bytes)" if self.size else body

    @property
    def _line(self) -> bytes:
        return self.text.encode("utf-8", "surrogateescape")


def read_traced(message: Message, now: Callable[[], int]) -> Passed | None:
    """Reads what a tap has sent; gives ``None`` for another message.

    Args:
        message: What has come.
        now: The time, for what does not say its own.

    Raises:
        MessageError: A parameter is missing or cannot be read.
    """
    if message.command == MISSED:
        return Passed(now(), missed=message.integer("count"))
    if message.command != "TRACED":
        return None
    return Passed(
        message.timespec("time"),
        message["from"],
        message["to"],
        message["line"],
        held=message.boolean("held", False),
        lost=message.get("lost", ""),
        size=message.integer("size", 0),
    )


def read_file(path: str, chosen: TraceFilter, *, values: bool = True) -> Iterator[Passed]:
    """Reads a recording of ``ed-trace`` or of ``ed-listen``.

    Args:
        path: The file.
        chosen: Which messages.
        values: Whether the values of parameters are shown.

    Raises:
        OptionError: The file cannot be read or is none; the sentence names the file and the line.
    """
    began = read_began(path)
    for record, line in _lines_of(path):
        ns = began + record.offset
        head = read_head(line)
        sender, target = record.peer, record.listener
        if record.direction == "out":
            sender, target = target, sender
        sender = head.sender if head.from_server else sender
        found = _HOW.fullmatch(target)
        target, how = (target, "") if found is None else found.groups()
        if "/" in target and head.service:  # an address
            target = named(head.server, head.service)
        text = shown_text(line, values)
        if head.command == MISSED:
            yield Passed(ns, missed=Message.parse(line).integer("count", 1))
        elif chosen.matches(sender, target, head.command):
            yield Passed(ns, sender, target, text, held=how == "held", lost=how[6:])


def _lines_of(path: str) -> Iterator[tuple[Record, bytes]]:
    """Puts the pieces of each connection and direction together to lines."""
    begun: dict[tuple[int, str], tuple[Record, bytes]] = {}
    for record in read_recording(path):
        key = record.connection, record.direction
        _, rest = begun.pop(key, (record, b""))
        *lines, rest = (rest + record.data).split(b"\n")
        if rest and (record.listener.startswith(_DATAGRAMS) or len(rest) > _MAX_LINE_BYTES):
            lines.append(rest)
        elif rest:
            begun[key] = record, rest
        for line in lines:
            if line.strip():
                yield record, line
    yield from begun.values()
