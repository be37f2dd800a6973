"""The daemon's side of a client's stream: its end waits for answers that are still to come."""

from __future__ import annotations

from typing import Any

from ..links.message import MessageConnection


class SettingsPeer(MessageConnection):
    """A client whose writes are answered later than they are handled.

    Attributes:
        pending: How many answers are still to come. A peer that has ended its sending side, and
            the end of the daemon, wait for them.
    """

    __slots__ = ("pending",)

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.pending = 0
        super().__init__(*arguments, **settings)

    def answered(self) -> None:
        """One of the answers was sent."""
        self.pending -= 1
        if not self.pending:
            self._catch_up()

    def _end_waits(self) -> bool:
        return self.pending > 0 or super()._end_waits()
