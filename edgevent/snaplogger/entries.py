"""What waits to arrive at a log server: entries, in their order, and how far each of them is."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from ..errors import MessageError
from ..message import Message
from .protocol import LOG

_SPECIAL: Final = re.compile(r"[\\,:]")
_CUT_ROOM: Final = 48  # for the words that say how much of a text is cut off
# What is left out of a record that is too long, the least useful first, before its text is cut to
# nothing.
_LESS_NEEDED: Final = ("fields", "function", "filename", "components")


class Entry:
    """A record on its way.

    Args:
        number: Counts the records of the handler, those that are lost as well.
        parameters: Those of its message, without serial and instance.
        size: So many bytes it counts for.
        wants_answer: Whether it has arrived when the server says so; else, when it is sent.
        record: For handlers that are to have it while the server is away.

    Attributes:
        serial: What the server knows it by; 0 before it has its place.
        tries: How often it was sent.
        sent: When it was sent last, as of the monotonic clock.
    """

    __slots__ = (
        "number",
        "parameters",
        "record",
        "sent",
        "serial",
        "size",
        "tries",
        "wants_answer",
    )

    def __init__(
        self,
        number: int,
        parameters: dict[str, str],
        size: int,
        *,
        wants_answer: bool = False,
        record: logging.LogRecord | None = None,
    ) -> None:
        self.number = number
        self.parameters = parameters
        self.size = size
        self.wants_answer = wants_answer
        self.record = record
        self.serial = 0
        self.tries = 0
        self.sent = 0.0


class Ledger:
    """All entries that have not arrived, and what becomes of each.

    Args:
        instance: What the server knows this sender by.
        on_settled: Called for each that has arrived.
        on_lost: Called for each that never will, with the reason.

    Attributes:
        instance: The same.
        unsent: Those that are to be sent, in their order.
        leaving: Those of which the kernel has not taken all bytes, and that want no answer.
        unanswered: Those that were sent and have no answer, by serial, in the order of sending.
    """

    def __init__(
        self,
        instance: str,
        on_settled: Callable[[Entry], None],
        on_lost: Callable[[Entry, str], None],
    ) -> None:
        self.instance = instance
        self.unsent: deque[Entry] = deque()
        self.leaving: list[Entry] = []
        self.unanswered: dict[int, Entry] = {}
        self._on_settled = on_settled
        self._on_lost = on_lost
        self._last = 0

    def __len__(self) -> int:
        return len(self.unsent) + len(self.leaving) + len(self.unanswered)

    def __iter__(self) -> Iterator[Entry]:
        yield from self.unanswered.values()
        yield from self.leaving
        yield from self.unsent

    @property
    def first(self) -> Entry | None:
        """The one that has waited for the longest."""
        heads = (self.unanswered.values(), self.leaving, self.unsent)
        oldest = (next(iter(one), None) for one in heads)
        return min(filter(None, oldest), key=lambda one: one.number, default=None)

    def add(self, entry: Entry) -> None:
        """Takes an entry, behind all others."""
        self._last += 1
        entry.serial = self._last
        entry.parameters["serial"] = str(self._last)
        entry.parameters["instance"] = self.instance
        if entry.wants_answer:
            entry.parameters["acknowledge"] = "true"
        self.unsent.append(entry)

    def sent(self, entry: Entry, now: float) -> None:
        """Takes note that an entry was sent: it has arrived, or an answer is awaited."""
        entry.tries += 1
        entry.sent = now
        if entry.wants_answer:
            self.unanswered[entry.serial] = entry
        else:
            self._on_settled(entry)

    def have_left(self) -> None:
        """Takes note that the kernel has taken all bytes: what wants no answer has arrived."""
        leaving, self.leaving = self.leaving, []
        for entry in leaving:
            self.sent(entry, 0.0)

    def answered(self, serial: int) -> None:
        """Takes note of an acknowledgement; one of an entry that has arrived says nothing new."""
        entry = self.unanswered.pop(serial, None)
        if entry is None:  # it may be about to be sent again, and stands in front then
            for one in self.unsent:
                if one.serial >= serial:
                    entry = one if one.serial == serial else None
                    break
            if entry is None:
                return
            self.unsent.remove(entry)
        self._on_settled(entry)

    def refused(self, serial: int, reason: str) -> bool:
        """Takes note that the server does not take an entry; returns whether it is known."""
        entry = self.unanswered.pop(serial, None)
        if entry is not None:
            self._on_lost(entry, reason)
        return entry is not None

    def lose(self, entry: Entry, reason: str) -> None:
        """Gives up an entry, whether it is still to be sent or answered."""
        if self.unanswered.pop(entry.serial, None) is None:
            (self.leaving if entry in self.leaving else self.unsent).remove(entry)
        self._on_lost(entry, reason)

    def again(self) -> None:
        """Has all that is not answered, or not sent whole, sent before all others, in its order."""
        back = sorted((*self.unanswered.values(), *self.leaving), key=lambda one: one.serial)
        self.unanswered.clear()
        self.leaving = []
        self.unsent.extendleft(reversed(back))


def write_fields(fields: Mapping[str, str]) -> str:
    r"""Writes fields as ``name:value,name:value``; ``,``, ``:`` and ``\`` have a ``\`` before them.

    An empty value has no colon, as the C++ library writes it.
    """
    return ",".join(
        f"{_escape(name)}:{_escape(value)}" if value else _escape(name)
        for name, value in fields.items()
    )


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text) if _SPECIAL.search(text) else text


def fitting(entry: Entry, limit: int, seal: Callable[[Message], bytes]) -> bytes:
    """Writes the message of an entry; of one that is too long its text is cut, and says so.

    Args:
        limit: The most bytes.
        seal: Makes the bytes of a message.

    Raises:
        MessageError: Not even without text and fields is it short enough, or no message can carry
            it.
    """
    parameters = entry.parameters
    data = seal(Message(LOG, parameters))
    if len(data) <= limit:
        return data
    text = parameters["message"].encode()
    parameters = dict(parameters)
    for left_out in ("", *_LESS_NEEDED):
        parameters.pop(left_out, None)
        parameters["message"] = ""
        kept = min(limit - len(seal(Message(LOG, parameters))) - _CUT_ROOM, len(text))
        while kept >= 0:
            shown = text[:kept].decode(errors="ignore")
            parameters["message"] = f"{shown}... ({len(text) - kept} bytes are cut off)"
            if kept == len(text):
                parameters["message"] = shown
            data = seal(Message(LOG, parameters))
            if len(data) <= limit:
                return data
            # A character may take two bytes there: this never cuts off too much.
            kept -= (len(data) - limit + 1) // 2
    raise MessageError(f"a record of {len(data)} bytes: {limit} bytes at most can be sent")
