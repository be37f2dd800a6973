"""How long it is known that values were deleted, and what becomes of values from before that.

A deletion that is dropped is known no more. So that no computer which was away meanwhile brings the
value back, the time of the newest one that was dropped is kept, the horizon: a value of another
computer from before it, of which nothing is known here, is taken for one that was deleted. Unless
no other daemon has ever had it: each knows the time of the newest entry that others had, too, when
they last had the same, and which ones have gone to and fro since.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Final, Protocol

from ..durations import format_duration
from ..limits import LOG_INTERVAL
from .values import Entry

logger = logging.getLogger("edgevent.fluidsettings")

IMPORT: Final = "import"
"""The source of entries that somebody imports: those that are too old are dated anew."""
MAX_KEEP: Final = 2**31
"""No daemon keeps deletions for longer, in seconds, but for ever."""
_STEPS: Final = 30


class Noted(Protocol):
    """What the file says."""

    @property
    def horizon(self) -> int:
        """Of when the newest deletion is that was dropped; 0 for none."""

    @property
    def synced(self) -> int:
        """Of when the newest entry is that others had, too; 0 for none."""


class Deletions:
    """The same of one store.

    Args:
        keep: So long they are kept, in seconds; 0 for ever.
        noted: What the file says of the horizon, and of what others had, too.
        now: The time of day in nanoseconds since 1970.
        counts: Where ``outdated`` values of other computers are counted.

    Attributes:
        keep: The same; may be changed.
        horizon: See above, in nanoseconds since 1970.
        synced: Of when the newest entry is that others had, too, in the same unit.
    """

    def __init__(
        self, keep: float, noted: Noted, now: Callable[[], int], counts: Counter[str]
    ) -> None:
        self.keep = keep
        self.horizon = noted.horizon
        self.synced = noted.synced
        self._others: dict[str, float] = {}
        self._shared: set[tuple[str, int]] = set()  # what went to or came from others since then
        self._now = now
        self._counts = counts
        self._told = -LOG_INTERVAL

    def limit(self) -> int:
        """Gives the time before which they are dropped, in nanoseconds since 1970.

        Of all daemons that are linked the one that keeps them for the longest counts. It moves in
        thirty steps within that, so that they drop the same deletions at the same time.
        """
        kept = int(self._longest() * 1e9)
        step = kept // _STEPS
        return max((self._now() - kept) // step * step, 0) if step else 0

    def _longest(self) -> float:
        all_of_them = (self.keep, *self._others.values())
        return max(all_of_them) if all(all_of_them) else 0.0

    def heard(self, name: str, keep: float) -> None:
        """Takes note of how long another daemon keeps them, in seconds; 0 for ever."""
        if not 0.0 <= keep <= MAX_KEEP or self._others.get(name) == keep:
            return
        self._others[name] = keep
        if keep != self.keep:
            text = "another daemon keeps deletions for %s, this one for %s: the longer time counts"
            logger.warning(text, _time(keep), _time(self.keep))

    def date(self, timestamp: int) -> int:
        """Gives the time of a value that somebody sets here where there is none."""
        return timestamp if timestamp > self.horizon else self._now()

    def is_new(self, entry: Entry) -> bool:
        """Whether no other daemon has ever had an entry of this one."""
        is_old = entry.timestamp <= self.synced
        return not is_old and (entry.name, entry.priority) not in self._shared

    def stands(self, entry: Entry, *, is_shared: bool) -> None:
        """Takes note of an entry that stands now, and whether another daemon has it."""
        note = self._shared.add if is_shared else self._shared.discard
        note((entry.name, entry.priority))

    def all_shared(self, synced: int) -> None:
        """Takes note that another daemon has had all up to this time."""
        self.synced = synced
        self._shared.clear()

    def look_at(self, entry: Entry, is_new: bool) -> Entry | None:
        """Gives what is to stand when an entry comes of which nothing is known here, if anything.

        Args:
            is_new: Whether nothing can have been known of it.
        """
        if entry.value is None:
            return entry if entry.timestamp >= self.limit() else None
        if entry.timestamp > self.horizon:
            return entry
        if is_new:
            return replace(entry, timestamp=self._now())
        self._counts["outdated"] += 1
        if monotonic() >= self._told + LOG_INTERVAL:
            self._told = monotonic()
            text = "%s: another computer's value is older than the deletions kept: it is deleted"
            logger.warning(text, entry.name)
        return replace(entry, timestamp=entry.timestamp + 1, value=None)


def _time(keep: float) -> str:
    return format_duration(keep) if keep else "ever"
