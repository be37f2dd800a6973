"""Asking services that have been silent for long whether they still live."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from ..answers import Peer
from ..dispatcher import Dispatcher
from ..durations import format_timespec
from ..errors import NetworkError
from ..message import Message

logger = logging.getLogger("edgevent.communicatord")

SILENCE: Final = 60.0
"""A service that has sent nothing for so many seconds is asked."""
ANSWER_TIMEOUT: Final = 20.0
"""It is closed when it has sent nothing for so many more."""


class Silent(Protocol):
    """A service as it is looked at here."""

    name: str

    @property
    def received_bytes(self) -> int:
        """How much has come from it."""

    @property
    def may_be_asked(self) -> bool:
        """Whether it is a service that has listed ALIVE, and has room for a question."""

    def send(self, message: Message, /) -> None:
        """Sends it a message."""

    def give_up(self, why: str, /) -> None:
        """Closes it."""


class _Watched:
    __slots__ = ("asked_at", "heard_at", "received")

    def __init__(self, received: int, now: float) -> None:
        self.received = received
        self.heard_at = now
        self.asked_at: float | None = None


class AliveQuestions:
    """Looks at all services from time to time; see :meth:`look`.

    Whatever a service sends is a sign of life, so the time of one that talks is not taken up. Only
    services that have listed ALIVE are asked: a shell script may listen, and answer nothing.

    Args:
        peers: Gives the services that are there.
        silence: After so many seconds of silence one is asked.
        answer_timeout: After so many more it is closed.
        monotonic: A clock that only moves forward, in seconds.

    Attributes:
        lost: How many were closed.
    """

    def __init__(
        self,
        peers: Callable[[], Iterable[Silent]],
        *,
        silence: float = SILENCE,
        answer_timeout: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peers = peers
        self.silence = silence
        self.answer_timeout = (
            min(ANSWER_TIMEOUT, silence) if answer_timeout is None else answer_timeout
        )
        self._monotonic = monotonic
        self._watched: dict[Any, _Watched] = {}
        self._count = 0
        self.lost = 0

    @property
    def interval(self) -> float:
        """How often to look, in seconds."""
        return min(self.silence, self.answer_timeout) / 2

    def add_to(self, dispatcher: Dispatcher) -> None:
        """Adds the handler of the answers."""
        dispatcher.on("ABSOLUTELY")(self.absolutely)

    def absolutely(self, message: Message, peer: Peer) -> None:
        """Takes an answer: that it has come is all that it tells."""

    def look(self) -> None:
        """Asks those that have been silent for long, and closes those that did not answer."""
        now = self._monotonic()
        watched, self._watched = self._watched, {}
        for peer in tuple(self._peers()):
            received = peer.received_bytes
            found = watched.get(peer)
            if found is None or found.received != received:
                found = _Watched(received, now)
            elif found.asked_at is not None and now - found.asked_at >= self.answer_timeout:
                self.lost += 1
                peer.give_up(f"it did not answer ALIVE within {self.answer_timeout:g} s")
                continue
            elif (
                found.asked_at is None
                and now - found.heard_at >= self.silence
                and peer.may_be_asked
            ):
                found.asked_at = now
                self._ask(peer)
            self._watched[peer] = found

    def _ask(self, peer: Silent) -> None:
        self._count += 1
        fields = {
            "serial": f"communicatord-{self._count}",
            "timestamp": format_timespec(time.time_ns()),
        }
        try:
            peer.send(Message("ALIVE", fields))
        except NetworkError as error:
            logger.debug("%s: %s", peer.name, error)  # it ends, which is told where it does
