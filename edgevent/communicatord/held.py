"""Messages that are held for services which are not there at the moment."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from ..durations import parse_duration
from ..errors import DurationError
from ..message import Message

MAX_HELD: Final = 1_000
"""The most messages that are held for one service."""
MAX_HELD_BYTES: Final = 2 * 1024 * 1024
"""The most bytes of them."""
MAX_ALL_BYTES: Final = 32 * 1024 * 1024
"""The most bytes of what is held for all services together."""
MAX_SERVICES: Final = 20_000
"""For so many services messages are held at most."""
DEFAULT_TTL: Final = 60.0
"""How long a message is held that says nothing else, in seconds."""
TTL: Final = (10.0, 86_400.0)
"""The least and the greatest time that a message may ask for; another is the default."""

_ITEM: Final = re.compile(r"\s*([A-Za-z_]+)\s*(?:=\s*(.*?)\s*)?")


class CacheRules(NamedTuple):
    """What a message's ``cache`` parameter asks for.

    Attributes:
        hold: Whether it may be held for a service that is not there.
        reply: Whether the sender wants to be told when it is not held.
        ttl: How long it may be held, in seconds.
    """

    hold: bool = True
    reply: bool = False
    ttl: float = DEFAULT_TTL

    @classmethod
    def of(cls, message: Message, default_ttl: float = DEFAULT_TTL) -> CacheRules:
        """Reads the parameter: ``no``, ``reply`` and ``ttl=DURATION``, separated by ``;``.

        What is not understood is left out, and a time that is none, or out of its limits, is the
        default, as the C++ daemon has it.
        """
        hold, reply, ttl = True, False, default_ttl
        for item in message.get("cache", "").split(";"):
            found = _ITEM.fullmatch(item)
            if found is None:
                continue
            name, value = found.groups()
            if name == "no":
                hold = False
            elif name == "reply":
                reply = True
            elif name == "ttl" and value:
                try:
                    asked = parse_duration(value)
                except DurationError:
                    continue
                ttl = asked if TTL[0] <= asked <= TTL[1] else default_ttl
        return cls(hold, reply, ttl)


class Held(NamedTuple):
    """A line for a service, and when it is too old, on the caller's clock."""

    line: bytes
    end: float


class HeldMessages:
    """What waits for services to register, bounded in number and bytes.

    Args:
        now: The clock, in seconds; it only moves forward.
        on_expired: Called with a service's name and how many of its messages grew too old.
    """

    def __init__(
        self,
        now: Callable[[], float],
        on_expired: Callable[[str, int], object] = lambda service, count: None,
        *,
        max_messages: int = MAX_HELD,
        max_bytes: int = MAX_HELD_BYTES,
        max_all_bytes: int = MAX_ALL_BYTES,
    ) -> None:
        self._now = now
        self._on_expired = on_expired
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._max_all_bytes = max_all_bytes
        self._lines: dict[str, deque[Held]] = {}
        self._sizes: dict[str, int] = {}
        self.size = 0

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def waiting(self, service: str) -> int:
        """How many messages wait for a service."""
        return len(self._lines.get(service, ()))

    def services(self) -> list[str]:
        """The names of the services for which something waits."""
        return list(self._lines)

    def put(self, service: str, line: bytes, ttl: float) -> bool:
        """Holds a line, newline included; returns whether there was room for it."""
        size = len(line)
        if self.size + size > self._max_all_bytes or self._is_full(service, size):
            self.drop_expired()  # which may make room
            if self.size + size > self._max_all_bytes or self._is_full(service, size):
                return False
        self._lines.setdefault(service, deque()).append(Held(line, self._now() + ttl))
        self._sizes[service] = self._sizes.get(service, 0) + size
        self.size += size
        return True

    def _is_full(self, service: str, size: int) -> bool:
        return (
            len(self._lines.get(service, ())) >= self._max_messages
            or self._sizes.get(service, 0) + size > self._max_bytes
            or (service not in self._lines and len(self._lines) >= MAX_SERVICES)
        )

    def take(self, service: str) -> list[bytes]:
        """Gives what waits for a service, in the order in which it came, and forgets it."""
        now = self._now()
        lines = self._lines.pop(service, ())
        self.size -= self._sizes.pop(service, 0)
        fresh = [held.line for held in lines if held.end > now]
        if len(fresh) < len(lines):
            self._on_expired(service, len(lines) - len(fresh))
        return fresh

    def drop_expired(self) -> None:
        """Forgets what has grown too old."""
        now = self._now()
        for service, lines in list(self._lines.items()):
            fresh = deque(held for held in lines if held.end > now)
            expired = len(lines) - len(fresh)
            if not expired:
                continue
            left = sum(len(held.line) for held in fresh)
            self.size += left - self._sizes[service]
            if fresh:
                self._lines[service], self._sizes[service] = fresh, left
            else:
                del self._lines[service], self._sizes[service]
            self._on_expired(service, expired)
