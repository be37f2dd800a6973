"""How a link that is down learns that its service listens again."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from .. import limits
from ..address import Address
from ..errors import ConnectError, UsageError
from ..runtime.clock import Clock
from ..runtime.turns import Turns
from ..sources.listening_poll import ListeningPoll, Place, places_of

_NOBODY_LISTENS: Final = (errno.ECONNREFUSED, errno.ENOENT)


def waits_for_listener(address: Address, wanted: bool | None, *, has_pauses: bool) -> bool:
    """Says whether a link to an address is to look for its service.

    Args:
        wanted: What the user said; ``None`` for the default, which is yes for a local address
            without pauses of the user's own.

    Raises:
        UsageError: It was wanted for an address whose listener cannot be seen from here.
    """
    can = address.is_unix or (address.is_inet and address.is_loopback)
    if wanted and not can:
        raise UsageError(
            f"{address}: wait_for_listener=True is for loopback and Unix addresses; of others it"
            " cannot be seen whether somebody listens"
        )
    return can and not has_pauses if wanted is None else wanted


class ListenerWait:
    """Looks for the service of one link, while that is down, and says when to dial.

    An outage must have been seen before: a service that listens, and refuses the link all the
    same, is dialled after the pauses only. So that not all links of a service come back at one
    instant, each has its own time within :data:`~edgevent.limits.LINK_RETURN_TIME`.

    Args:
        call: Called in the hub with the seconds after which the link is to dial.
    """

    __slots__ = ("_call", "_hurries", "_poll", "_seen_down", "_turns", "places")

    places: tuple[Place, ...]

    def __init__(self, address: Address, turns: Turns, call: Callable[[float], object]) -> None:
        self.places = places_of(address)
        self._turns = turns
        self._call = call
        self._poll: ListeningPoll | None = None
        self._seen_down = False
        self._hurries = True

    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        return limits.LINK_LISTENING_INTERVAL

    def start(self, clock: Clock, error: ConnectError | None = None) -> None:
        """Looks from now on.

        Args:
            error: Why the last attempt failed. If nobody listened, and the first look shows
                somebody, that one has come in between; but such haste is not repeated.
        """
        self.stop()
        nobody = error is not None and error.errno in _NOBODY_LISTENS
        if nobody and self._hurries:
            self._seen_down = True
            self._hurries = False
        self._poll = ListeningPoll.of(self._turns, clock)
        self._poll.add(self)

    def stop(self) -> None:
        """Looks no more. Idempotent."""
        poll, self._poll = self._poll, None
        if poll is not None:
            poll.remove(self)

    def looked(self, is_listening: bool, wave: list[Callable[[float], None]]) -> None:
        """Called in the hub with what a look has shown."""
        if not is_listening:
            self._seen_down = self._hurries = True
        elif self._seen_down:
            self._seen_down = False
            self.stop()
            wave.append(self._come_back)

    def _come_back(self, share: float) -> None:
        self._call(share * limits.LINK_RETURN_TIME)
