"""Broadcasts between computers: each is handled once, and none goes round for ever.

The parameters are those of the C++ daemon; they stand on the copies
that go to other daemons only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ..message import Message
from .station import Station

ROUTES: Final = "ROUTES"
"""The command by which daemons like this one tell each other what they reach; C++ ones lack it."""
MAX_HOPS: Final = 5
"""A copy that has come so far goes no further."""
LIFETIME: Final = 10
"""A broadcast is delivered for so many seconds."""
MAX_LIFETIME: Final = 300
"""Another daemon's broadcast is remembered for so long at most, whatever it says."""
HANDLED: Final = "it was handled already"
"""Why a second copy is not handled."""
MAX_IDENTIFIERS: Final = 100_000
"""Of so many broadcasts it is known that they were handled."""


class Broadcasts:
    """Knows which broadcasts were handled, and writes what others need to know as well.

    Args:
        server: This computer's name.
        now: The time of day in seconds of the epoch: daemons compare it with each other's.
    """

    def __init__(self, server: str, now: Callable[[], float]) -> None:
        self._server = server
        self._now = now
        # Others remember the numbers of the daemon that was here before: this one begins higher.
        self._count = int(now() * 1e6)
        self._seen: dict[str, float] = {}

    def admit(self, message: Message) -> str:
        """Takes note of a copy that came from another daemon.

        Returns:
            An empty string when it is to be handled, else why it is not.

        Raises:
            MessageError: A parameter of the copy is missing or cannot be read.
        """
        identifier, end = message["broadcast_msgid"], message.integer("broadcast_timeout")
        now = self._now()
        if identifier in self._seen:
            return HANDLED
        if end < now:
            late = now - end
            return f"it is {late:.0f} s too old: is the time of day the same on both computers?"
        self._forget(now)
        self._seen[identifier] = min(end, now + MAX_LIFETIME)
        return ""

    def _forget(self, now: float) -> None:
        # In the order of arrival, which is that of the ends but for clocks that differ.
        while self._seen:
            oldest = next(iter(self._seen))
            if self._seen[oldest] >= now and len(self._seen) < MAX_IDENTIFIERS:
                break
            del self._seen[oldest]

    def hops(self, message: Message) -> int:
        """Over how many links a message has come."""
        return message.integer("broadcast_hops", 0)

    def informed(self, message: Message) -> list[str]:
        """The addresses of computers that have had a message, or are being sent it."""
        return [one for one in message.get("broadcast_informed_neighbors", "").split(",") if one]

    def choose(
        self, message: Message, others: Iterable[Station], own_address: str, *, public: bool
    ) -> tuple[list[Station], Message]:
        """Chooses the daemons that get a copy, and makes it.

        To daemons like this one it goes whoever else is said to have it, and they drop what they
        had: a copy that another one sent may be lost with its link, and several daemons may share
        an address. C++ daemons do not count on that, and deliver some copies twice.

        Args:
            others: The daemons that are linked to this one, but for the one it came from.
            own_address: The address of this daemon, without a port.
            public: Whether it goes to those outside the private networks, too.

        Returns:
            Who gets it, and the copy; it is not to be used when nobody does.
        """
        chosen: list[Station] = []
        if self.hops(message) >= MAX_HOPS:
            return chosen, message
        informed = self.informed(message)
        for station in others:
            host = station.host
            # Several daemons may share a loopback address, so that tells nothing of one of them.
            shared = station.address is None or station.address.is_loopback
            if host in informed and not shared and not station.lists(ROUTES):
                continue
            if public or station.is_private:
                chosen.append(station)
                if host not in informed:
                    informed.append(host)
        if not chosen:
            return chosen, message
        if own_address not in informed:
            informed.append(own_address)
        return chosen, self.copy(message, informed, own_address)

    def copy(self, message: Message, informed: Iterable[str], own_address: str) -> Message:
        """Makes the copy that other daemons get.

        Args:
            informed: The addresses, without ports, of all that know it once this copy is out.
            own_address: The address of this daemon, without a port.
        """
        identifier = message.get("broadcast_msgid")
        if identifier is None:
            self._count += 1
            identifier = f"{self._server}-{self._count}"
            # It comes back over a ring, and must not be delivered here again.
            end = int(self._now()) + LIFETIME
            self._seen[identifier] = end
        else:
            end = message.integer("broadcast_timeout")
        return message.with_parameters(
            {
                "broadcast_msgid": identifier,
                "broadcast_hops": self.hops(message) + 1,
                "broadcast_timeout": end,
                "broadcast_originator": own_address,
                "broadcast_informed_neighbors": ",".join(informed),
                "secure_remote": "false",
            }
        )
