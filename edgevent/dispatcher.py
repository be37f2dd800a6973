"""The dispatcher: the table that says which function handles which message.

It does no input or output and switches no greenlet of its own: it calls handlers, and gives what
they return to the peer's ``send``.
"""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, Union

from . import defaults
from .answers import Peer, Permits, answer_unknown, refuse, refuse_sender, send_answer
from .arguments import checks_arguments
from .binding import Bound, Handler, bind, describe
from .definitions import Definitions
from .errors import DuplicateMatchError, UsageError
from .handler_times import HandlerTable
from .message import Message

logger = logging.getLogger("edgevent.dispatcher")

PRIORITY_CALLBACK: Final = 0
"""Matches of this priority run first, and the search goes on after them."""
PRIORITY_DEFAULT: Final = 7
PRIORITY_SYSTEM: Final = 10
PRIORITY_LAST: Final = 15
"""The rank of the default commands, and the lowest."""

UNMATCHED: Final = 0
OBSERVED: Final = 1
HANDLED: Final = 2
"""What :meth:`Dispatcher.dispatch` returns: nothing, only callback matches, or a handler ran."""

Expression = Union[str, "re.Pattern[str]", None]
MatchFunction = Callable[[Message], object]
_F = TypeVar("_F", bound=Handler)

CATCH_ALL: Final = "otherwise"
"""The row of the catch-all among the times of handlers."""

_RESOLVED: Final = 1024  # so many commands are remembered with what they lead to,
_RESOLVED_CHARACTERS: Final = 256  # none of them longer than this
_SHELL: Final = frozenset("*?[")
_PATTERN: Final = re.compile(r"[A-Z0-9_*?\[\]!-]*", re.ASCII)
_COMMAND: Final = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)


@checks_arguments
@dataclass(frozen=True, slots=True)
class Match:
    """One entry of the table, in full.

    Args:
        expression: An exact command, a shell pattern (with ``*``, ``?`` or ``[``), a compiled
            regular expression that must match the whole command, or ``None`` for every command.
        callback: The handler: a function of ``(message, peer)`` and, by name and annotation, any
            of the message's parameters.
        function: A function of the message that says whether the entry matches; asked after the
            expression.
        priority: 0 to 15; lower ones are tried first.
        tag: A name to remove entries by.
        continues: Whether the search goes on after the handler ran (a *callback* match); by
            default it does at priority 0.
    """

    expression: Expression
    callback: Handler
    function: MatchFunction | None = None
    priority: int = PRIORITY_DEFAULT
    tag: str = ""
    continues: bool | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the expression is the one command that it matches."""
        return isinstance(self.expression, str) and _SHELL.isdisjoint(self.expression)

    @property
    def goes_on(self) -> bool:
        """Whether the search goes on after this match."""
        return self.priority == PRIORITY_CALLBACK if self.continues is None else self.continues


class _Entry:
    """A match in the table, with what was made of it."""

    __slots__ = ("bound", "goes_on", "match", "order", "pattern")

    def __init__(self, match: Match, order: int) -> None:
        _check(match)
        self.match = match
        self.order = (match.priority, order)
        self.bound: Bound = bind(match.callback)
        self.goes_on = match.goes_on
        expression = match.expression
        self.pattern: re.Pattern[str] | None = None
        if isinstance(expression, re.Pattern):
            self.pattern = expression
        elif isinstance(expression, str) and not match.is_exact:
            self.pattern = re.compile(fnmatch.translate(expression))

    def count(self, table: HandlerTable) -> None:
        """Has the handler's times counted from the next message on."""
        expression = self.match.expression
        key = str(getattr(expression, "pattern", expression) or "*")
        self.bound = table.timed(key, bind(self.match.callback))

    def __str__(self) -> str:
        expression = self.match.expression
        shown = getattr(expression, "pattern", expression)
        tag = f", tag {self.match.tag}" if self.match.tag else ""
        return f"{shown or 'any'} -> {describe(self.match.callback)} ({self.match.priority}{tag})"


def _check(match: Match) -> None:
    if not isinstance(match.priority, int) or not 0 <= match.priority <= PRIORITY_LAST:
        raise UsageError(f"{match.priority!r} is no priority of a match: 0 to 15 was expected")
    expression = match.expression
    if isinstance(expression, str):
        allowed = _COMMAND if match.is_exact else _PATTERN
        if not allowed.fullmatch(expression):
            raise UsageError(
                f"{expression!r} is no command: upper-case letters, digits and '_' were expected,"
                " in a pattern also '*', '?' and '[...]'"
            )
    elif expression is not None and not (
        isinstance(expression, re.Pattern) and isinstance(expression.pattern, str)
    ):
        raise UsageError(
            f"{expression!r} is no expression: a command, a shell pattern or a compiled regular"
            " expression of str was expected"
        )


class _Chain:
    """What one command leads to: its entries in order, and what its expressions matched."""

    __slots__ = ("check", "entries", "matched", "may_send", "sole", "then_check")

    def __init__(
        self,
        entries: list[_Entry],
        command: str,
        check: Callable[[Any], str | None] | None,
        may_send: Callable[[Peer], bool] | None,
    ) -> None:
        self.entries = [
            (entry, entry.pattern.fullmatch(command) if entry.pattern else None)
            for entry in entries
        ]
        # The permission comes first, and has a path of its own: others pay nothing for it.
        self.may_send = may_send
        self.check = None if may_send else check
        self.then_check = check
        self.matched: re.Match[str] | None = None
        self.sole: Bound | None = None
        first = entries[0] if entries and may_send is None else None
        if first is not None and first.match.function is None and not first.goes_on:
            self.sole = entries[0].bound
            self.matched = self.entries[0][1]


@checks_arguments
class Dispatcher:
    """A table of matches, shared by any number of connections.

    Args:
        default_commands: Whether HELP, ALIVE, STOP and the others of the C++ library are answered
            by default, at the lowest priority.
        control: What STOP, QUITTING, READY, RESTART and LOG_ROTATE do: an object with any of
            the methods ``stop(quitting)``, ``ready(message)``, ``restart(message)`` and
            ``reopen_logs()``. Without ``stop``, the peer's communicator drains and stops.
        definitions: Where the definitions of messages are found; the built-in ones by default.

    Example:
        >>> service = Dispatcher()
        >>> @service.on("ADD")
        ... def add(message, peer, a: int, b: int):
        ...     return message.reply("SUM", {"value": a + b})
    """

    def __init__(
        self,
        *,
        default_commands: bool = True,
        control: object = None,
        definitions: Definitions | None = None,
    ) -> None:
        defaults.check_control(control)
        self.control = control
        self.my_address = ""
        self.definitions = definitions if definitions is not None else Definitions()
        self._exact: dict[str, list[_Entry]] = {}
        self._patterns: list[_Entry] = []
        self._otherwise: Bound | None = None
        self._catch_all: Bound | None = None  # the same, as it was given
        self._times: HandlerTable | None = None
        self._help: list[Callable[[], Iterable[str]]] = []
        self._chains: dict[str, _Chain] = {}
        self._permits: Permits | None = None
        self._added = 0
        self._trace = False
        self._show_matches = False
        if default_commands:
            for command, handler in defaults.default_commands(self).items():
                self.add_match(Match(command, handler, priority=PRIORITY_LAST, tag="default"))

    # --- the table -------------------------------------------------------------------------------

    def on(
        self,
        expression: str | re.Pattern[str] | None,
        *,
        priority: int = PRIORITY_DEFAULT,
        tag: str = "",
    ) -> Callable[[_F], _F]:
        """Returns a decorator that adds a handler; see :class:`Match` for the arguments.

        Raises:
            DuplicateMatchError: The exact command is there already, at the same priority.
            UsageError: The expression, the priority or the handler cannot work.
        """

        if callable(expression):  # else a handler would be lost without a word
            raise UsageError(
                f"on() was given {describe(expression)} in place of a command: one is written as"
                ' @service.on("COMMAND")'
            )

        def add(handler: _F) -> _F:
            self.add_match(Match(expression, handler, priority=priority, tag=tag))
            return handler

        return add

    def otherwise(self, handler: _F) -> _F:
        """A decorator: the handler gets what nothing else matched, in place of ``UNKNOWN``."""
        if self._otherwise is not None:
            raise DuplicateMatchError("a handler for everything else is there already")
        self._otherwise = self._catch_all = bind(handler)
        if self._times is not None:
            self._otherwise = self._times.timed(CATCH_ALL, self._catch_all)
        return handler

    def add_match(self, match: Match) -> None:
        """Adds an entry; it holds from the next message on. Errors as in :meth:`on`."""
        entry = _Entry(match, self._added)
        if match.is_exact:
            assert isinstance(match.expression, str)
            entries = self._exact.setdefault(match.expression, [])
            for other in entries:
                if other.match.priority == match.priority:
                    raise DuplicateMatchError(
                        f"{match.expression} is handled by {describe(other.match.callback)}"
                        f" already, at priority {match.priority}"
                    )
            entries.append(entry)
        else:
            self._patterns.append(entry)
        if self._times is not None:
            entry.count(self._times)
        self._added += 1
        self._chains.clear()

    def remove_matches(self, tag: str) -> int:
        """Removes all entries with this tag, and returns how many there were."""
        before = self._count()
        self._patterns = [entry for entry in self._patterns if entry.match.tag != tag]
        self._exact = {
            command: kept
            for command, entries in self._exact.items()
            if (kept := [entry for entry in entries if entry.match.tag != tag])
        }
        self._chains.clear()
        return before - self._count()

    def _count(self) -> int:
        return len(self._patterns) + sum(map(len, self._exact.values()))

    def add_help(self, names: Callable[[], Iterable[str]]) -> None:
        """Adds a function that names the commands which patterns handle, for HELP."""
        self._help.append(names)

    def commands(self) -> list[str]:
        """The commands with an exact entry, and those that help callbacks name, sorted."""
        names = set(self._exact)
        for function in self._help:
            names.update(function())
        return sorted(names)

    @property
    def permits(self) -> Permits | None:
        """Who may send what, beside what is said of each listener; ``None`` for no such table.

        A command that the table names is taken from those whom it admits, and from others answered
        ``INVALID``; STOP and its kin, too, are then obeyed from exactly these. It holds for all
        that comes to this dispatcher, and not for what a receiver has taken before.
        """
        return self._permits

    @permits.setter
    def permits(self, permits: Permits | None) -> None:
        self._permits = permits
        self._chains.clear()

    def guards(self, command: str) -> bool:
        """Whether :attr:`permits` says who may send this command."""
        return self._permits is not None and self._permits.find(command) is not None

    def set_trace(self, on: bool) -> None:
        """Logs each message that is dispatched, with what handles it (never its values)."""
        self._trace = on
        self._chains.clear()

    def set_show_matches(self, on: bool) -> None:
        """Logs each entry that is tried for a message, with whether it matched."""
        self._show_matches = on
        self._chains.clear()

    def count_handlers(self, table: HandlerTable) -> None:
        """Has the times of all handlers counted in a table, which a communicator gives.

        Of two tables the first one holds until it is closed. Without one, nothing is paid for it.
        """
        if self._times is not None and (self._times is table or not self._times.closed):
            return
        self._times = table
        for entries in (self._patterns, *self._exact.values()):
            for entry in entries:
                entry.count(table)
        if self._catch_all is not None:
            self._otherwise = table.timed(CATCH_ALL, self._catch_all)
        self._chains.clear()

    # --- a message -------------------------------------------------------------------------------

    def dispatch(self, message: Message, peer: Peer) -> int:
        """Finds what handles a message, and calls it; what it returns is sent to ``peer``.

        The cost does not depend on the number of exact entries.

        Returns:
            :data:`HANDLED`, :data:`OBSERVED` (callback matches only) or :data:`UNMATCHED`.

        Raises:
            Exception: What a handler raised; see :func:`answer_failure`.
        """
        command = message._header[4]  # the property costs a call
        chain = self._chains.get(command) or self._resolve(command)
        if chain.check is not None:
            why = chain.check(message.parameters)
            if why is not None:
                refuse(message, peer, why)
                return HANDLED
        bound = chain.sole
        if bound is not None:
            message.match = chain.matched
            answer = bound(message, peer)
            if answer is not None:
                send_answer(answer, peer, bound)
            return HANDLED
        return self._search(chain, message, peer)

    def dispatch_otherwise(self, message: Message, peer: Peer) -> None:
        """Gives a message that nothing took to the catch-all, or answers it ``UNKNOWN``."""
        if self._otherwise is not None:
            if self._trace:
                logger.info("%s: %s -> otherwise", peer.name, message.command)
            answer = self._otherwise(message, peer)
            if answer is not None:
                send_answer(answer, peer, self._otherwise)
        else:
            if self._trace:
                logger.info("%s: %s -> UNKNOWN", peer.name, message.command)
            answer_unknown(message, peer)

    def _resolve(self, command: str) -> _Chain:
        entries = [
            entry
            for entry in self._patterns
            if entry.pattern is None or entry.pattern.fullmatch(command)
        ]
        entries += self._exact.get(command, ())
        entries.sort(key=lambda entry: entry.order)
        definition = self.definitions.get(command) if entries else None
        may_send = self._permits.find(command) if self._permits is not None else None
        chain = _Chain(entries, command, definition.check if definition else None, may_send)
        if self._trace or self._show_matches:
            chain.sole = None  # so all goes the way on which it is logged
        # Commands that lead nowhere are not remembered once the table is full: a peer that makes
        # them up cannot push out those that are in use.
        if len(command) <= _RESOLVED_CHARACTERS and (len(self._chains) < _RESOLVED or entries):
            if len(self._chains) >= _RESOLVED:
                self._chains.clear()
            self._chains[command] = chain
        return chain

    def _search(self, chain: _Chain, message: Message, peer: Peer) -> int:
        result = UNMATCHED
        if chain.may_send is not None:
            if not chain.may_send(peer):
                refuse_sender(message, peer)
                return HANDLED
            why = chain.then_check(message.parameters) if chain.then_check else None
            if why is not None:
                refuse(message, peer, why)
                return HANDLED
        if self._show_matches:
            for entry in self._patterns:
                if entry.pattern is not None and not entry.pattern.fullmatch(message.command):
                    logger.info("%s: %s does not match %s", peer.name, message.command, entry)
        for entry, matched in chain.entries:
            function = entry.match.function
            message.match = matched
            taken = function is None or function(message)
            if self._show_matches:
                verdict = "matches" if taken else "does not match"
                logger.info("%s: %s %s %s", peer.name, message.command, verdict, entry)
            if not taken:
                continue
            if self._trace:
                logger.info("%s: %s -> %s", peer.name, message.command, entry)
            answer = entry.bound(message, peer)
            if answer is not None:
                send_answer(answer, peer, entry.bound)
            if not entry.goes_on:
                return HANDLED
            result = OBSERVED
        message.match = None
        return result
