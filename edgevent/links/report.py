"""What a link that comes and goes tells in the log: a line a minute at most."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..limits import LOG_INTERVAL
from ..runtime.clock import Alarm, Clock
from ..runtime.turns import Turns

logger = logging.getLogger("edgevent")


class Report:
    """Logs what becomes of a link.

    A line is held back when one of its level or a higher one was logged less than a minute ago.
    When the minute is over, the last line that was held back is logged, with the number of the
    others; so the log is never wrong for longer. At the level DEBUG each is logged at once.

    Args:
        turns: The turns of the hub.
        name: Gives the link's name.
    """

    __slots__ = ("_alarm", "_held", "_name", "_said", "_text", "_turns")

    def __init__(self, turns: Turns, name: Callable[[], str]) -> None:
        self._turns = turns
        self._name = name
        self._said: dict[int, float] = {}
        self._held = 0
        self._text = (logging.INFO, "")
        self._alarm: Alarm | None = None

    def say(self, clock: Clock, level: int, text: str, *, at_once: bool = False) -> None:
        """Logs a line, now or when the minute is over; nothing switches.

        Args:
            at_once: Whether it is logged now in any case.
        """
        now = clock.now()
        said = max((at for other, at in self._said.items() if other >= level), default=None)
        if said is None or now - said >= LOG_INTERVAL or at_once:
            self.stop()
            self._log(now, level, text)
            return
        logger.debug("%s: %s", self._name(), text)
        self._held += 1
        self._text = (level, text)
        if self._alarm is None:
            self._alarm = clock.call_later(said + LOG_INTERVAL - now, self._tell, clock)

    def stop(self) -> None:
        """Forgets what was held back."""
        self._held = 0
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None

    def _log(self, now: float, level: int, text: str) -> None:
        self._said[level] = now
        logger.log(level, "%s: %s", self._name(), text)

    def _tell(self, clock: Clock) -> None:
        try:
            self._alarm = None
            held, self._held = self._held, 0
            level, text = self._text
            now = clock.now()
            if held > 1:  # it comes and goes all the time
                text += f" ({held - 1} changes before that were not logged)"
                self._said[logging.WARNING] = now
            self._log(now, level, text)
        except BaseException as error:
            self._turns.failed(error)
