"""The pauses between the attempts of a permanent connection.

By default the first attempt is made at once, and the pauses double from one second up to an hour,
each shortened by up to half of it at random: a thousand clients must not come back at one instant.
"""

from __future__ import annotations

import math
import random as random_module
from collections.abc import Callable, Sequence
from typing import Final

from . import limits
from .arguments import checks_arguments
from .durations import format_duration, parse_duration
from .errors import DurationError

MIN_PAUSE: Final = 0.01
"""The shortest pause, in seconds: a list of zeroes must not make the program spin."""
MAX_PAUSES: Final = 254
"""The most entries of a list, as in the C++ library."""
_FIRST_PAUSE: Final = 1.0
_SHOWN: Final = 100


@checks_arguments
class Backoff:
    """The pauses of one link.

    A list that begins with a negative value delays the first attempt by that much; this value is
    no pause, unless it stands alone: then it is both. A leading zero means "at once" in the same
    way. Every later value must not be negative. The last value repeats.

    Args:
        pauses: A list as text (``"-5,1,3,1m"``, the syntax of durations) or as seconds; ``None``
            for the default series.
        jitter: Whether each delay is shortened by up to half of it at random; ``None`` means yes
            for the default series and no for a list.
        maximum: The longest pause of the default series, in seconds; a list is taken as it is.
        stable_time: A link that was up for so long, in seconds, starts the pauses anew.
        random: The source of chance, giving numbers from 0.0 to less than 1.0.

    Raises:
        DurationError: The list is empty, too long, or an entry is no duration.

    Example:
        >>> backoff = Backoff("-5,1,3")
        >>> backoff.first(), backoff.next(), backoff.next(), backoff.next()
        (5.0, 1.0, 3.0, 3.0)
    """

    __slots__ = ("_first", "_jitter", "_pauses", "_position", "_random", "_stable_time")

    def __init__(
        self,
        pauses: str | Sequence[float] | None = None,
        *,
        jitter: bool | None = None,
        maximum: float = limits.MAX_PAUSE,
        stable_time: float = limits.LINK_STABLE_TIME,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        if not 0 < maximum < math.inf:
            raise DurationError(f"longest pause {maximum}: expected more than 0 seconds")
        if not stable_time >= 0:
            raise DurationError(f"stable time {stable_time}: expected 0 seconds or more")
        if pauses is None:
            self._first, self._pauses = 0.0, _default_series(maximum)
        else:
            self._first, self._pauses = _read_list(pauses)
        self._jitter = pauses is None if jitter is None else jitter
        self._stable_time = stable_time
        self._random = random
        self._position = 0

    def __repr__(self) -> str:
        return f"<Backoff next={format_duration(self._pauses[self._position])}>"

    def first(self) -> float:
        """Give the delay before the very first attempt, in seconds; 0.0 means at once."""
        return self._shorten(self._first)

    def next(self) -> float:
        """Give the pause after a failed attempt or a lost link, in seconds, and go on in the list.

        Returns:
            Seconds, :data:`MIN_PAUSE` at least.
        """
        pause = self._pauses[self._position]
        self._position = min(self._position + 1, len(self._pauses) - 1)
        return max(self._shorten(pause), MIN_PAUSE)

    def lost(self, up_for: float) -> None:
        """Tell that an established link is gone; the pauses start anew if it was stable.

        Args:
            up_for: How long the link was up, in seconds.
        """
        if up_for >= self._stable_time:
            self.reset()

    def reset(self) -> None:
        """Start the pauses anew."""
        self._position = 0

    def _shorten(self, delay: float) -> float:
        return delay * (1.0 - self._random() / 2) if self._jitter else delay


def _default_series(maximum: float) -> tuple[float, ...]:
    series = []
    pause = _FIRST_PAUSE
    while pause < maximum:
        series.append(pause)
        pause *= 2
    return (*series, maximum)


def _read_list(pauses: str | Sequence[float]) -> tuple[float, tuple[float, ...]]:
    """Give the first delay and the pauses of a list."""
    items = pauses.split(",", MAX_PAUSES) if isinstance(pauses, str) else pauses
    if isinstance(items, (int, float)):
        raise DurationError(f'pauses {items}: expected a list, such as "{items}" or [{items}]')
    if not 1 <= len(items) <= MAX_PAUSES:
        raise DurationError(f"pauses {_shown(pauses)}: expected 1 to {MAX_PAUSES} entries")
    try:
        values = [parse_duration(item) for item in items]
    except DurationError as error:
        raise DurationError(f"pauses {_shown(pauses)}: {error}") from None
    if any(value < 0 for value in values[1:]):
        raise DurationError(
            f"pauses {_shown(pauses)}: expected that only the first entry is negative"
        )
    first = -values[0] if values[0] < 0 else 0.0
    if len(values) == 1:
        return first, (abs(values[0]),)
    return first, tuple(values[1:] if values[0] <= 0 else values)


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
