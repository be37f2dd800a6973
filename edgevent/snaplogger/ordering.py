"""Puts the records of a sender of datagrams in their order, by their serials."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple

from ..message import Message
from .collected import Source
from .repeats import MAX_NAME

ORDER_WAIT: Final = 2.0
"""So long a record waits for one before it, in seconds: longer than until that is sent again."""
MAX_HELD: Final = 1_000
"""So many records of one sender wait at most."""
MAX_HELD_BYTES: Final = 8 * 1024 * 1024
"""So many bytes of all senders wait at most."""
MAX_SENDERS: Final = 10_000
"""Of so many senders it is known what comes next."""

_MAX_SERIAL: Final = 18  # digits


class Held(NamedTuple):
    """A record that waits for one before it."""

    message: Message
    source: Source
    size: int
    until: float


class _Sender:
    __slots__ = ("held", "next")

    def __init__(self, first: int) -> None:
        self.next = first
        self.held: dict[int, Held] = {}


class Ordering:
    """Holds records back until those before them have come, for some time.

    Args:
        take: Takes a record.
        wait: That time, in seconds; 0 holds nothing back.

    Attributes:
        held_bytes: How much waits.
        wait: The same.
    """

    def __init__(
        self, take: Callable[[Message, Source], object], *, wait: float = ORDER_WAIT
    ) -> None:
        self.wait = wait
        self.held_bytes = 0
        self._take = take
        self._senders: OrderedDict[tuple[str, str], _Sender] = OrderedDict()

    def put(self, message: Message, source: Source, size: int) -> None:
        """Takes a record, now or in its turn.

        Args:
            message: The LOG message.
            source: Where it came from.
            size: Its bytes.
        """
        serial, instance = message.get("serial", ""), message.get("instance")
        is_number = serial.isascii() and serial.isdecimal() and len(serial) <= _MAX_SERIAL
        if not (self.wait and is_number and instance and len(instance) <= MAX_NAME):
            self._take(message, source)
            return
        number = int(serial)
        sender = self._of((source.ip, instance), number)
        if number == sender.next:
            sender.next += 1
            self._take(message, source)
            self._go_on(sender)
        elif number < sender.next:
            self._take(message, source)  # late, or once more
        elif number not in sender.held:
            sender.held[number] = Held(message, source, size, monotonic() + self.wait)
            self.held_bytes += size
            if len(sender.held) > MAX_HELD or self.held_bytes > MAX_HELD_BYTES:
                self._release(sender)

    def _of(self, key: tuple[str, str], first: int) -> _Sender:
        sender = self._senders.get(key)
        if sender is None:
            while len(self._senders) >= MAX_SENDERS:
                self._release(self._senders.popitem(last=False)[1])
            sender = self._senders[key] = _Sender(first)
        else:
            self._senders.move_to_end(key)
        return sender

    def _go_on(self, sender: _Sender) -> None:
        while sender.held and (found := sender.held.pop(sender.next, None)) is not None:
            sender.next += 1
            self.held_bytes -= found.size
            self._take(found.message, found.source)

    def _release(self, sender: _Sender) -> None:
        """Takes all that waits of one sender."""
        for number in sorted(sender.held):
            sender.next = number
            self._go_on(sender)

    def look(self) -> None:
        """Takes what has waited long enough; to be called from time to time."""
        now = monotonic()
        for sender in list(self._senders.values()):
            while sender.held:
                first = min(sender.held)
                if sender.held[first].until > now:
                    break
                sender.next = first
                self._go_on(sender)

    def release(self) -> None:
        """Takes all that waits."""
        for sender in list(self._senders.values()):
            self._release(sender)
