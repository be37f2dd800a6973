"""What the router tells a sender of a message that did not arrive, or not at once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Literal

from ..answers import Peer, quoted
from ..message import Message
from .conditions import PeerConditions
from .held import CacheRules
from .station import Station

OWN_SERVICE: Final = "communicatord"
"""The name of the daemon itself, as of the C++ one."""

REPORTS: Final = frozenset(("INVALID", "SERVICE_UNAVAILABLE", "TRANSMISSION_REPORT", "UNKNOWN"))
"""What a daemon tells a sender of a message, whether it has listed that or not."""

_ANSWERS: Final = ("INVALID", "UNKNOWN")

Undelivered = Callable[[Message, Station, str], object]
"""What is called with a message that reached nobody, its sender, and the reason."""


def name_of(peer: Any) -> str:
    """What the log calls a peer: its service, once it has registered one."""
    station: Station | None = getattr(peer, "station", None)
    name: str = peer.name if station is None else station.name
    return name


def is_passed_on(message: Message, peer: Any) -> bool:
    """Whether a service of another computer has sent a message, which its daemon has passed on."""
    station: Station | None = getattr(peer, "station", None)
    return station is not None and station.kind == "remote" and bool(message.sent_from_service)


class Reports:
    """Answers in the daemon's name, and counts.

    Args:
        server: The name of this computer.
        counts: Where ``undelivered``, ``unknown`` and ``refused`` are counted.
        on_undelivered: Called with each message that reached nobody.
        conditions: Logs what a peer can repeat.
    """

    def __init__(
        self,
        server: str,
        counts: Counter[str],
        on_undelivered: list[Undelivered],
        conditions: PeerConditions,
    ) -> None:
        self._server = server
        self._counts = counts
        self._on_undelivered = on_undelivered
        self._conditions = conditions

    def answer(
        self, message: Message, source: Station, command: str, fields: dict[str, str]
    ) -> None:
        """Tells the sender of a message something about it, wherever it is.

        The ``serial`` of the message goes with it, so that a waiting request gets it. UNKNOWN and
        INVALID name the sender as the target, as any answer does; what the C++ daemon tells a peer
        of its own accord has none.
        """
        answer = message.reply(command, fields).with_sender(self._server, OWN_SERVICE)
        if source.kind == "remote":
            if not message.sent_from_service:
                return
        elif command not in _ANSWERS:
            answer = answer.with_target("", "")  # it is known to whom the connection belongs
        elif source.kind == "local":
            answer = answer.with_target(self._server, source.service)  # whatever the line says
        if source.answers:
            source.send(answer)

    def undelivered(self, message: Message, source: Station, why: str) -> None:
        """Takes note that a message reached nobody, and tells its sender as he asked."""
        self._counts["undelivered"] += 1
        text = "%.64s was not delivered: %s"
        self._conditions.say(
            logging.INFO, source.name, f"undelivered {why}", text, message.command, why
        )
        if CacheRules.of(message).reply:
            fields = {"destination_service": message.service, "unsent_command": message.command}
            self.answer(message, source, "SERVICE_UNAVAILABLE", fields)
        self.report(message, source, "failed")
        for call in self._on_undelivered:
            call(message, source, why)

    def report(
        self, message: Message, source: Station, status: Literal["cached", "failed"]
    ) -> None:
        """Tells the sender what became of a message, if he asked for it."""
        if message.get("transmission_report") == "failure":
            fields = {"command": message.command, "status": status}
            self.answer(message, source, "TRANSMISSION_REPORT", fields)

    def unknown(self, message: Message, source: Station, target: Station) -> None:
        """Answers a command that its target has not listed."""
        self._counts["unknown"] += 1
        if message.command in ("UNKNOWN", "INVALID"):
            return  # an error that is answered with an error could go back and forth for ever
        text = "%s does not know %.64s"
        self._conditions.say(
            logging.INFO, source.name, f"unknown {target.name}", text, target.name, message.command
        )
        self.answer(message, source, "UNKNOWN", {"command": quoted(message.command)})

    def unknown_here(self, message: Message, source: Station) -> None:
        """Answers a command for the daemon itself that it has no handler for."""
        self._counts["unknown"] += 1
        text = "%.64s is unknown here"
        self._conditions.say(logging.INFO, source.name, "unknown here", text, message.command)
        self.answer(message, source, "UNKNOWN", {"command": quoted(message.command)})

    def note_refused(self, message: Message, name: str, why: str) -> None:
        """Counts and logs a message of a peer of this name that is refused."""
        self._counts["refused"] += 1
        text = "refused %.64s: %s"
        condition = f"refused {message.command[:64]}"
        self._conditions.say(logging.WARNING, name, condition, text, message.command, why)

    def refuse_peer(self, message: Message, peer: Peer, why: str) -> None:
        """Answers a message for the daemon itself that is not obeyed."""
        self.note_refused(message, name_of(peer), why)
        if peer.answers_errors:
            fields = {"command": quoted(message.command), "message": why}
            peer.send(message.reply("INVALID", fields))

    def refuse(self, message: Message, source: Station, why: str) -> None:
        """Answers a message that cannot be routed, or not be obeyed."""
        self.note_refused(message, source.name, why)
        if message.command in ("UNKNOWN", "INVALID"):
            return
        fields = {"command": quoted(message.command), "message": why}
        self.answer(message, source, "INVALID", fields)
