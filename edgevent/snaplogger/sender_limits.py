"""How much senders may send, and how many of their records were dropped."""

from __future__ import annotations

from typing import Final

MAX_LIMITED: Final = 10_000
"""The limits of so many senders are counted."""
TELL_INTERVAL: Final = 1.0
"""Seconds between two lines about a sender of which records are dropped."""


class Limit:
    """How much one sender may still send.

    Args:
        now: The time, in seconds.
        tokens: So many records may come at once.
    """

    __slots__ = ("bytes", "dropped", "since", "tokens", "told", "updated", "why")

    def __init__(self, now: float, tokens: float) -> None:
        self.tokens = tokens
        self.updated = now
        self.bytes = 0
        self.since = now
        self.dropped = 0
        self.told = float("-inf")
        self.why = ""


class Limits:
    """The limits of senders: records a second, and bytes within a period.

    Args:
        rate: So many records a second; 0 for any number.
        burst: So many may come at once after a silence.
        quota: So many bytes within each period; 0 for any number.
        period: That period, in seconds.
    """

    def __init__(
        self, rate: float = 0.0, burst: int = 0, quota: int = 0, period: float = 3600.0
    ) -> None:
        self.rate = rate
        self.burst = max(float(burst or rate), 1.0)
        self.quota = quota
        self.period = period
        self._senders: dict[str, Limit] = {}
        self._forgotten = 0  # were dropped of senders of whom nothing is known any more

    def __bool__(self) -> bool:
        return bool(self.rate or self.quota)

    def refuse(self, key: str, size: int, now: float) -> str:
        """Says why a record of this sender is dropped, and counts it; an empty text if it is not.

        Args:
            key: The sender.
            size: The record's bytes.
            now: The time, in seconds.
        """
        limit = self._of(key, now)
        if self.quota and now - limit.since >= self.period:
            limit.since += (now - limit.since) // self.period * self.period
            limit.bytes = 0
        if self.rate:
            limit.tokens = min(self.burst, limit.tokens + (now - limit.updated) * self.rate)
            limit.updated = now
            if limit.tokens < 1.0:
                return self._drop(limit, f"more than {self.rate:g} a second")
        if self.quota and limit.bytes + size > self.quota:
            return self._drop(limit, f"more than {self.quota} bytes within {self.period:g} s")
        limit.tokens -= 1.0
        limit.bytes += size
        return ""

    def _of(self, key: str, now: float) -> Limit:
        limit = self._senders.get(key)
        if limit is None:
            if len(self._senders) >= MAX_LIMITED:
                self._forgotten += self._senders.pop(next(iter(self._senders))).dropped
            limit = self._senders[key] = Limit(now, self.burst)
        return limit

    @staticmethod
    def _drop(limit: Limit, why: str) -> str:
        limit.dropped += 1
        limit.why = why
        return why

    def take_dropped(self, key: str, now: float) -> tuple[int, str]:
        """Gives how many of a sender were dropped and not told of yet, and why; once a second."""
        limit = self._senders.get(key)
        if limit is None or not limit.dropped or now < limit.told + TELL_INTERVAL:
            return 0, ""
        return self._tell(limit, now)

    @staticmethod
    def _tell(limit: Limit, now: float) -> tuple[int, str]:
        limit.told = now
        dropped, limit.dropped = limit.dropped, 0
        return dropped, limit.why

    def all_dropped(self, now: float) -> list[tuple[str, int, str]]:
        """Gives the same of all senders, and forgets those whose limits are as at the first."""
        found = []
        for key, limit in list(self._senders.items()):
            if limit.dropped:
                found.append((key, *self._tell(limit, now)))
            elif self._is_fresh(limit, now):
                del self._senders[key]
        if self._forgotten:
            found.append(("others", self._forgotten, "they sent too much"))
            self._forgotten = 0
        return found

    def _is_fresh(self, limit: Limit, now: float) -> bool:
        is_full = limit.tokens + (now - limit.updated) * self.rate >= self.burst or not self.rate
        return is_full and (not self.quota or now - limit.since >= self.period)
