"""The router: takes a message from one peer, and gives it to those that it is for.

It moves no bytes and knows no sockets: what it knows of a peer is a :class:`Station`. So another
engine can carry the links between computers, and the same tests ask for the same behaviour.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from ..errors import MessageError
from ..limits import MAX_LINE_BYTES
from ..message import Message, parse_text
from .broadcasting import HANDLED, Broadcasts
from .conditions import PeerConditions
from .held import DEFAULT_TTL, MAX_HELD, MAX_HELD_BYTES, CacheRules, HeldMessages
from .places import EVERYBODY
from .presence import NameTakenError as NameTakenError
from .presence import Presence
from .reports import OWN_SERVICE, REPORTS, Reports, Undelivered
from .shortcut import learn
from .station import CONTROL, MAX_ROUTES, Station, Way
from .ways import MAX_RELAYS, RELAYS, Ways

logger = logging.getLogger("edgevent.communicatord")

_NOWHERE: Final = Way(None, "", False)
_SHORT: Final = 16_000  # characters: with any sender's name, and in UTF-8, it is no line too long

Seen = Callable[[Station, "Station | None", bytes], object]
"""What is called with what passes: its sender, who gets it (``None``: the daemon itself, or nobody
while it is held), and its line or lines, with their newlines. It never switches."""


class Router(Presence):
    """Knows the services of this computer and the daemons of others, and routes between them.

    Args:
        server: The name of this computer.
        known: The names of services for which messages are held before they first register.
        own_address: The address of this daemon, without a port, for other daemons.
        max_held: The most messages that are held for one service.
        max_held_bytes: The most bytes of them.
        held_ttl: How long a message is held that does not say it, in seconds.
        settling: For so many seconds messages are held for services of any name: those that were
            here before this daemon are about to come again.
        now: The time of day, in seconds of the epoch.
        monotonic: A clock that only moves forward, in seconds.

    Attributes:
        stations: The services of this computer that are registered, by name.
        remotes: The daemons of other computers, by the name of the computer.
        known: The names for which messages are held before they first register.
        held: What is held for them.
        counts: How often what happened: ``broadcast``, ``held``, ``expired``, ``undelivered``,
            ``unknown``, ``duplicate``, ``malformed``, ``refused``, ``forged``,
            ``quitting``, ``too_long``, ``too_old``, ``came_back``.
        conditions: Logs what a peer can repeat.
        generation: How often somebody has come or gone, or said more of itself: ways that were
            found before are to be found anew.
        stopping: Whether the daemon ends, and nothing is routed any more.
        reports: What senders are told of messages that did not arrive.
        on_undelivered: Called with each message that reached nobody.
        on_left: Called with each peer that goes and had a name, while it still has it.
        on_changed: Called when somebody has come or gone, or says more of itself.
        ways: Finds the next peer on the way to a service.
        on_seen: Called with each message that passes, when it is not ``None``.
    """

    def __init__(
        self,
        server: str,
        *,
        known: Iterable[str] = (),
        own_address: str = "127.0.0.1",
        max_held: int = MAX_HELD,
        max_held_bytes: int = MAX_HELD_BYTES,
        held_ttl: float = DEFAULT_TTL,
        settling: float = 0.0,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(server, known, settling, monotonic)
        self.own_address = own_address
        self.counts: Counter[str] = Counter()
        self.conditions = PeerConditions(monotonic)
        self.held_ttl = held_ttl
        self.held = HeldMessages(
            monotonic, self._expired, max_messages=max_held, max_bytes=max_held_bytes
        )
        self.broadcasts = Broadcasts(server, now)
        self.on_undelivered: list[Undelivered] = []
        self.reports = Reports(server, self.counts, self.on_undelivered, self.conditions)
        self.ways = Ways(server, self.stations, self.remotes)
        self.on_seen: Seen | None = None

    def release(self, station: Station) -> int:
        """Gives a service what was held for it; returns how many messages that were.

        All of it at once, whether there is room for so much or not: so nothing that comes meanwhile
        goes before it, and what is held is bounded.
        """
        lines = self.held.take(station.service)
        if not lines:
            return 0
        if not station.deliver(b"".join(lines)):
            self.counts["undelivered"] += len(lines)
            logger.warning(
                "%s: it does not read, and %d messages held for it are lost",
                station.name,
                len(lines),
            )
            return 0
        station.received += len(lines)
        return len(lines)

    # --- routing ----------------------------------------------------------------------------------

    def route(self, message: Message, source: Station, text: str = "") -> None:
        """Gives a message to those that it is for. May wait a moment for one that does not read.

        Args:
            message: What came.
            source: From whom.
            text: The line as it came, which goes on as it is when it is in the text form.

        Raises:
            MessageError: A parameter that routing needs cannot be read.
        """
        if source.kind == "remote" and "broadcast_msgid" in message:
            why = self.broadcasts.admit(message)
            if why:
                self._drop_copy(message, source, why)
                return
        if source.generation != self.generation:
            source.forget_ways(self.generation)
        head = message.head
        way = source.routes.get(head)
        if way is None:
            way = self._find_way(message, source)
            if len(source.routes) >= MAX_ROUTES:
                source.routes.clear()
            source.routes[head] = way
        target = way.target
        if target is None:
            self._route_rarely(message, source)
            return
        if way.answers_only and not target.is_answer(message):
            self.reports.unknown(message, source, target)
            return
        if text.startswith(head) and text[-1] > " " and text[len(head) : len(head) + 1] in " ":
            line = f"{way.head}{text[len(head) :]}\n".encode("utf-8", "surrogateescape")
        else:
            line = self._signed(message, source).to_line()
        if source.kind == "local" and not way.answers_only:
            serial = message.get("serial")
            if serial is not None:
                source.note_asked(serial)
        self._forward(message, source, target, line)

    def _drop_copy(self, message: Message, source: Station, why: str) -> None:
        if why is HANDLED:
            self.counts["duplicate"] += 1
            logger.debug("%s: %s is dropped: %s", source.name, message.command, why)
            return
        self.counts["too_old"] += 1
        text = "%.64s is dropped: %s"
        self.conditions.say(logging.WARNING, source.name, "too old", text, message.command, why)

    def forward(self, lines: list[str], source: Station) -> int:
        """Gives lines to single peers, as long as that needs neither a wait nor a decision.

        Callable in the hub: it never switches greenlets.

        Args:
            lines: Lines in the text form, in the order in which they came.

        Returns:
            How many of them, from the first one, are dealt with; the others are for :meth:`route`.
        """
        if source.generation != self.generation:
            source.forget_ways(self.generation)
        routes, is_local = source.routes, source.kind == "local"
        target: Station | None = None
        parts: list[str] = []
        begin = count = 0
        for text in lines:
            try:
                message = parse_text(text)
            except MessageError:
                break
            head = message.head
            way = routes.get(head)
            if way is None:
                way = self._find_way(message, source)
                if len(routes) >= MAX_ROUTES:
                    routes.clear()
                routes[head] = way
            if way.target is not target:
                if parts:
                    self._give_many(parts, lines[begin:count], source, target)
                    parts, begin = [], count
                target = way.target
                if target is None or not target.has_room():
                    target = None
                    break
            body = text[len(head) :]
            if (
                target is None
                or (way.answers_only and not target.is_answer(message))
                or len(text) > _SHORT
                or body[:1] not in " "
                or text[-1] <= " "
                or not text.startswith(head)
                or (not is_local and "broadcast_msgid" in message)
            ):
                break
            if is_local and not way.answers_only:
                serial = message.get("serial")
                if serial is not None:
                    source.note_asked(serial)
            parts.append(way.head + body)
            count += 1
            if is_local and len(lines) == 1:
                learn(source, way, text, head)
        if parts:
            self._give_many(parts, lines[begin:count], source, target)
        return count

    def _give_many(
        self, parts: list[str], lines: list[str], source: Station, target: Station | None
    ) -> None:
        assert target is not None
        parts.append("")
        data = "\n".join(parts).encode("utf-8", "surrogateescape")
        if not target.deliver(data):
            for text in lines:
                self.reports.undelivered(parse_text(text), source, f"{target.name} does not read")
            return
        target.received += len(lines)
        source.forwarded += len(lines)
        if self.on_seen is not None:
            self.on_seen(source, target, data)

    def _forward(self, message: Message, source: Station, target: Station, line: bytes) -> None:
        if len(line) > MAX_LINE_BYTES + 1:
            why = f"with its sender's name it has {len(line) - 1} bytes, over the limit"
            self.reports.refuse(message, source, why)
        elif target.deliver(line):
            target.received += 1
            source.forwarded += 1
            if self.on_seen is not None:
                self.on_seen(source, target, line)
        else:
            self.reports.undelivered(message, source, f"{target.name} does not read")

    def _give(self, target: Station, line: bytes) -> bool:
        if target.deliver(line):
            target.received += 1
            return True
        return False

    def _find_way(self, message: Message, source: Station) -> Way:
        server, service = message.server, message.service
        if not service or service in EVERYBODY or service == OWN_SERVICE or server == "*":
            return _NOWHERE
        target = self.ways.find(message, source)
        if target is None or (source.kind == "remote" and self._needs_care(message, target)):
            return _NOWHERE
        if message.command in CONTROL and not source.may_control:
            return _NOWHERE
        answers_only = target.kind == "local" and not target.understands(message.command)
        if answers_only and source.kind == "remote" and message.command in REPORTS:
            answers_only = message.sent_from_service != OWN_SERVICE  # as this one's need no list
        return Way(target, self._signed(message, source).head, answers_only)

    def _signed(self, message: Message, source: Station) -> Message:
        """The message with the name under which its sender is known: nobody can forge one."""
        if source.kind == "local":
            return message.with_sender(self.server, source.service)
        if source.kind == "caller" and not source.introduces and self._is_claimed(message):
            text = "%.64s said that it came from %.64s, which has its own connection"
            self.conditions.say(
                logging.WARNING,
                source.label,
                "forged",
                text,
                message.command,
                message.sent_from_service,
            )
            self.counts["forged"] += 1
            return message.with_sender("", "")
        return message

    def _is_claimed(self, message: Message) -> bool:
        """Whether a nameless sender uses a name that belongs to another."""
        server, service = message.sent_from_server, message.sent_from_service
        if server in ("", self.server):
            return service == OWN_SERVICE or service in self.stations
        return server in self.remotes

    def _route_rarely(self, message: Message, source: Station) -> None:
        server, service = message.server, message.service
        serial = message.get("serial")
        if serial is not None and source.kind == "local":
            source.note_asked(serial)  # whoever answers it once it was held, or on many computers
        if source.kind == "remote" and message.sent_from_server == self.server:
            self._came_back(message, source)
        elif service in ("", OWN_SERVICE) and server in ("", ".", "*", self.server):
            self._handle(message, source)
        elif message.command in CONTROL and not source.may_control:
            why = f"{message.command} is not accepted from this peer"
            self.reports.refuse(message, source, why)
        elif service in EVERYBODY:
            self.broadcast(message, source)
        elif server == "*":
            self._to_everywhere(message, source)
        elif (target := self.ways.find(message, source)) is not None:
            self._relay(message, source, target)
        elif self.stations.get(service) is source and server in ("", ".", "?", self.server):
            self.reports.undelivered(message, source, f"{service} is its sender")
        elif server in ("", ".", "?", self.server) and self.waits_for(message):
            self._hold(message, source)
        elif server in ("", ".", self.server):
            self.reports.undelivered(message, source, f"no service {service} is known here")
        else:
            self.reports.undelivered(message, source, f"there is no way to server {server}")

    def _needs_care(self, message: Message, target: Station) -> bool:
        """Whether a message of another daemon goes on to a third, or came from this one."""
        return target.kind == "remote" or message.sent_from_server == self.server

    def _came_back(self, message: Message, source: Station) -> None:
        """Tells a service of this computer that its message went round in a ring."""
        self.counts["came_back"] += 1
        sender = self.stations.get(message.sent_from_service)
        if sender is not None:
            self.reports.undelivered(message, sender, "other daemons have sent it back")
        else:
            text = "%.64s said that it came from this computer"
            self.conditions.say(logging.WARNING, source.name, "came back", text, message.command)

    def _relay(self, message: Message, source: Station, target: Station) -> None:
        """Passes a message on from one daemon to another, as often as that is allowed.

        While the daemons learn of a link that was lost, what each knows may lead round in a ring.
        """
        count = message.integer(RELAYS, 0)
        if count >= MAX_RELAYS:
            self.reports.undelivered(message, source, f"{count} daemons have passed it on")
            return
        line = self._signed(message, source).with_parameters({RELAYS: count + 1}).to_line()
        self._forward(message, source, target, line)

    def _handle(self, message: Message, source: Station) -> None:
        message = self._signed(message, source)
        if self.on_seen is not None:
            self.on_seen(source, None, message.to_line())
        source.handle(message)

    # --- one for many -----------------------------------------------------------------------------

    def broadcast(self, message: Message, source: Station | None = None) -> int:
        """Gives a message to all services that have listed its command, here or everywhere.

        Its service says where: ``.`` on this computer, ``?`` on those of the private networks as
        well, ``*`` on all. The sender gets it too, if it has listed it.

        Args:
            source: From whom; ``None`` when it is the daemon's own.

        Returns:
            How many services of this computer got it.
        """
        service = message.service
        if service != "." and message.server not in ("", "*"):
            if source is not None:
                why = f"a broadcast to {service} goes to no single server, but to '*'"
                self.reports.refuse(message, source, why)
            return 0
        message = self._by(message, source)
        line = message.to_line()
        reached = 0
        for station in tuple(self.stations.values()):
            if station.lists(message.command) and self._give(station, line):
                reached += 1
                if self.on_seen is not None and source is not None:
                    self.on_seen(source, station, line)
        self.counts["broadcast"] += 1
        if service != ".":
            self.to_remotes(message, source, public=service == "*")
        return reached

    def _by(self, message: Message, source: Station | None) -> Message:
        if source is None:
            return message.with_sender(self.server, OWN_SERVICE)
        return self._signed(message, source)

    def _to_everywhere(self, message: Message, source: Station) -> None:
        """One service by name, on every computer that has it; but not back to its sender."""
        message = self._signed(message, source)
        target = self.stations.get(message.service)
        reached = 0
        if target is not None and target is not source:
            if not target.understands(message.command) and not target.is_answer(message):
                self.reports.unknown(message, source, target)
            else:
                self._forward(message, source, target, message.to_line())
            reached += 1
        elif target is None and self.may_come(message.service):
            reached += self._keep(message, source)
        reached += self.to_remotes(message, source, public=True)
        if not reached and source.kind != "remote":
            why = f"no other service {message.service} is known anywhere"
            self.reports.undelivered(message, source, why)

    def to_remotes(self, message: Message, source: Station | None, *, public: bool) -> int:
        """Gives a message to the other daemons alone, as a broadcast; returns to how many."""
        others = [one for one in self.remotes.values() if one is not source]
        chosen, copy = self.broadcasts.choose(message, others, self.own_address, public=public)
        line = copy.to_line()
        return sum(self._give(station, line) for station in chosen)

    def _hold(self, message: Message, source: Station) -> None:
        if not self._keep(message, source):
            why = f"{message.service} is not registered now"
            if CacheRules.of(message).hold:
                why += ", and too much is held for it"
            self.reports.undelivered(message, source, why)

    def _keep(self, message: Message, source: Station) -> bool:
        """Holds a message, unless it says otherwise or too much is held; returns whether it is."""
        rules = CacheRules.of(message, self.held_ttl)
        line = self._signed(message, source).to_line()
        if not rules.hold or not self.held.put(message.service, line, rules.ttl):
            return False
        self.counts["held"] += 1
        self.reports.report(message, source, "cached")
        if self.on_seen is not None:
            self.on_seen(source, None, line)
        return True

    def _expired(self, service: str, count: int) -> None:
        self.counts["expired"] += count
        logger.warning("%d messages held for %s grew too old", count, service)
