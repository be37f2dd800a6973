"""What the router knows of one peer: a service, another computer's daemon, or a nameless caller."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, NamedTuple

from ..address import Address
from ..message import Message
from .places import ANY_COMMAND

Kind = Literal["caller", "local", "remote"]
"""A peer that has said nothing of itself yet, a service of this computer, another daemon."""

CONTROL: Final = frozenset(("STOP", "QUITTING", "RESTART", "LOG_ROTATE", "SHUTDOWN", "READY"))
"""What services are controlled by, which not everybody may send."""
MAX_ASKED: Final = 10_000
"""Of at least so many requests of a service the answers are known as such."""
MAX_ROUTES: Final = 256
"""Of so many kinds of messages of a peer the way is remembered."""
MAX_COMMANDS: Final = 10_000
"""The most commands that one peer may list."""


class Way(NamedTuple):
    """Where the messages with one head go.

    Attributes:
        target: To whom; ``None`` when each message has to be looked at.
        head: What stands in the place of the head as it came.
        answers_only: Whether the target has not listed the command, so that it may be an answer
            alone.
    """

    target: Station | None
    head: str
    answers_only: bool


class Station:
    """One peer of the router.

    Args:
        deliver: Takes a line for the peer, newline included, and returns whether it will be sent.
            It may wait a moment for room; see the transport that made it.
        handle: Takes a message of the peer that is for the daemon itself.
        label: What the log calls the peer.
        has_room: Tells whether the peer can be given something without a wait.
        address: The peer's address; of another daemon, as that has given it.
        answers: Whether the peer can be told what went wrong; a datagram's sender cannot.

    Attributes:
        kind: What it is; a caller until it has registered or connected.
        service: The name that it has registered.
        server: The computer that it is on: this one's name for a service, its own for a daemon.
        commands: The commands that it has listed; ``None`` before it has listed any.
        services: Of a daemon: the services that its computer has.
        heard_of: Of a daemon: the services that it can reach further on.
        up_since: When it registered or connected, in seconds of the epoch.
        forwarded: How many messages of it went on to others.
        received: How many messages of others it was given.
        stream: The connection of the peer, where it has one.
        introduces: Whether it is to say which daemon it is, so a name that it states is no forgery.
        may_control: Whether services get the STOP and the like that it sends them.
    """

    __slots__ = (
        "_asked_before",
        "address",
        "answers",
        "asked",
        "commands",
        "deliver",
        "forwarded",
        "generation",
        "handle",
        "has_room",
        "heard_of",
        "introduces",
        "kind",
        "label",
        "may_control",
        "received",
        "routes",
        "server",
        "service",
        "services",
        "shortcuts",
        "stream",
        "up_since",
    )

    def __init__(
        self,
        deliver: Callable[[bytes], bool],
        handle: Callable[[Message], None],
        label: str,
        *,
        has_room: Callable[[], bool] = lambda: True,
        address: Address | None = None,
        answers: bool = True,
    ) -> None:
        self.deliver = deliver
        self.handle = handle
        self.has_room = has_room
        self.label = label
        self.address = address
        self.answers = answers
        self.kind: Kind = "caller"
        self.service = ""
        self.server = ""
        self.commands: frozenset[str] | None = None
        self.services: frozenset[str] = frozenset()
        self.heard_of: frozenset[str] = frozenset()
        self.up_since = 0
        self.stream: Any = None
        self.introduces = False
        self.forwarded = 0
        self.received = 0
        self.may_control = True
        # The serials of what it has asked: an answer need not be among the commands that it lists.
        # Two sets, of which the older one is dropped when the newer one is full.
        self.asked: set[str] = set()
        self._asked_before: set[str] = set()
        # What the heads of its lines led to, as long as nobody has come, gone or listed commands.
        self.routes: dict[str, Way] = {}
        self.shortcuts: dict[bytes, Any] = {}
        self.generation = -1

    def __repr__(self) -> str:
        name = f"{self.server}:{self.service}" if self.service else self.server
        return f"<Station {self.kind} {name or self.label}>"

    @property
    def host(self) -> str:
        """The peer's computer by its address, without a port; empty when that is this one."""
        return "" if self.address is None else self.address.host

    @property
    def is_private(self) -> bool:
        """Whether the peer is on this computer, or on a private network."""
        return self.address is None or self.address.is_local or self.address.is_private

    @property
    def name(self) -> str:
        """What it is called: its service, or what the log calls the peer."""
        return self.service or self.label

    def became(self, kind: Kind, server: str, service: str = "") -> None:
        """Takes note of what the peer turned out to be."""
        self.kind, self.server, self.service = kind, server, service
        self.up_since = int(time.time())

    def understands(self, command: str) -> bool:
        """Whether the peer takes a command, as far as it has said."""
        commands = self.commands
        return commands is None or command in commands or ANY_COMMAND in commands

    def lists(self, command: str) -> bool:
        """Whether the peer has said that it takes a command."""
        return self.commands is not None and command in self.commands

    def add_commands(self, names: Iterable[str]) -> None:
        """Adds to the commands that it takes."""
        self.commands = frozenset((self.commands or frozenset()).union(names))

    def note_asked(self, serial: str) -> None:
        """Remembers the serial of a request of this peer."""
        asked = self.asked
        asked.add(serial)
        if len(asked) > MAX_ASKED:
            self._asked_before = asked
            self.asked = set()

    def is_answer(self, message: Message) -> bool:
        """Whether a message for this peer answers what it has asked."""
        serial = message.get("serial")
        return serial is not None and self.has_asked(serial)

    def has_asked(self, serial: str) -> bool:
        """Whether a serial is that of a request of this peer."""
        return serial in self.asked or serial in self._asked_before

    def forget_ways(self, generation: int) -> None:
        """Forgets what the heads of its lines led to: the router has another generation now."""
        self.generation = generation
        self.routes.clear()
        self.shortcuts.clear()

    def send(self, message: Message) -> bool:
        """Gives the peer a message; returns whether it will be sent."""
        return self.deliver(message.to_line())
