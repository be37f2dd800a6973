"""What was sent by way of a communicatord, and is not known to have come to those it is for."""

from __future__ import annotations

from ..limits import UNDELIVERED_BYTES, UNDELIVERED_MESSAGES
from ..links.undelivered import Entry, Record
from ..message import Message
from .places import DAEMON, EVERYBODY


class RoutedRecord(Record):
    """Takes note of what was sent over one connection with a communicatord.

    An answer of a service shows that what was sent to that service has arrived, for the daemon
    keeps the order of what goes from one to another. What is for others may still be in the daemon,
    or held there, and is lost with it; so an answer of the daemon shows nothing of it. A broadcast
    is not held: any answer shows that the daemon has given it to those that were there.

    What is sent is sorted by its targets when there is an answer, not before: sending stays cheap.
    """

    __slots__ = ("_passed", "_passed_bytes", "_targets")

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[int, Entry] = {}  # what an answer of another has passed, by its end
        self._passed_bytes = 0
        self._targets: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._entries) + len(self._passed)

    def answered(self, target: str, position: int) -> None:
        """Forgets what was sent to a target up to a position: it has answered what came then."""
        entries = self._entries
        while entries and entries[0].end <= position:
            entry = entries.popleft()
            self._bytes -= len(entry.line)
            to = target_of(entry.line)
            if to.rpartition(":")[2] in EVERYBODY:
                continue
            self._passed[entry.end] = entry
            self._passed_bytes += len(entry.line)
            self._targets.setdefault(to, []).append(entry.end)
        ends = self._targets.pop(target, [])
        for end in ends:
            if end <= position:
                self._forget(end)
        if left := [end for end in ends if end > position]:
            self._targets[target] = left
        while self._passed_bytes > UNDELIVERED_BYTES or len(self._passed) > UNDELIVERED_MESSAGES:
            oldest = self._passed[next(iter(self._passed))]
            name = target_of(oldest.line)
            self._targets[name].remove(oldest.end)
            if not self._targets[name]:  # who never answers may be one of ever so many
                del self._targets[name]
            self._forget(oldest.end)
            self.overflowed += 1

    def _forget(self, end: int) -> None:
        self._passed_bytes -= len(self._passed.pop(end).line)

    def split(self, taken: int) -> tuple[list[Entry], list[Entry]]:
        """Tells apart what the kernel had taken; see :meth:`Record.split`."""
        self._entries.extendleft(reversed(self._passed.values()))
        self._passed.clear()
        self._targets.clear()
        self._passed_bytes = 0
        return super().split(taken)


def target_of(line: bytes) -> str:
    """Gives for whom a line is: ``service`` or ``server:service``, empty for the daemon itself."""
    if line.startswith(b"<"):
        target = line.split(b" ", 2)[1].rpartition(b"/")[0].decode("utf-8", "surrogateescape")
        return "" if target == DAEMON else target
    return target_of_message(Message.parse(line))


def target_of_message(message: Message) -> str:
    """Gives for whom a message is, as :func:`target_of` does."""
    server, service = message.server, message.service
    if server and service:
        return f"{server}:{service}"
    return "" if service == DAEMON else service
