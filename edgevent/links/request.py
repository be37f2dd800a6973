"""Requests: who waits for which answer on a connection."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

from greenlet import greenlet

from ..errors import (
    EdgeventError,
    InvalidMessageError,
    RemoteError,
    RequestTimeout,
    UnknownCommandError,
    UsageError,
)
from ..limits import LATE_ANSWER_TIMEOUT, LATE_ANSWERS
from ..message import Message
from ..runtime.clock import Alarm, Clock
from ..runtime.turns import Turns

logger = logging.getLogger("edgevent")

# The numbers begin somewhere else in each process: an answer to its predecessor, which a router
# may still deliver, must not look like one to this process. They are far above the small ones that
# peers count their own requests with.
_FIRST: Final = (secrets.randbits(40) | 1 << 40) * 1000
_serials = itertools.count(_FIRST)
_last = _FIRST


def next_serial() -> str:
    """Returns a serial that no other request of this process has."""
    global _last
    _last = next(_serials)
    return str(_last)


def _is_ours(serial: str) -> bool:
    return len(serial) == len(str(_last)) and serial.isdecimal() and _FIRST <= int(serial) <= _last


class Request:
    """One request, from its sending to its answer."""

    __slots__ = (
        "answer",
        "command",
        "deadline",
        "position",
        "replies",
        "serial",
        "timeout",
        "waiting",
    )

    def __init__(
        self,
        command: str,
        replies: frozenset[str],
        serial: str,
        timeout: float,
        deadline: float,
    ) -> None:
        self.command = command
        self.replies = replies
        self.serial = serial
        self.timeout = timeout
        self.deadline = deadline
        self.position = 0  # what a permanent link had sent before it
        self.answer: Message | EdgeventError | None = None
        self.waiting: greenlet | None = None  # set while the greenlet is parked for this answer

    def result(self) -> Message:
        """Returns the answer, or raises what came in its place."""
        answer = self.answer
        if not isinstance(answer, Message):
            assert answer is not None
            raise answer
        if answer.command in _ERRORS and answer.command not in self.replies:
            raise _remote_error(answer, self.command)
        return answer


_BROADCAST: Final = frozenset({".", "*", "?"})
_ERRORS: Final = frozenset({"UNKNOWN", "INVALID"})


def _remote_error(answer: Message, command: str) -> RemoteError:
    if answer.command == "UNKNOWN":
        return UnknownCommandError(f"{command} is unknown to the peer", command=command)
    why = answer.get("message") or "no reason given"
    identifier = answer.get("id", "")
    if identifier:
        text = f"{command} failed at the peer: {why}, id={identifier}"
        return RemoteError(text, command=command, id=identifier)
    return InvalidMessageError(f"{command} was refused by the peer: {why}", command=command)


_NONE: Final[frozenset[str]] = frozenset()


def reply_set(reply: str | Iterable[str] | None) -> frozenset[str]:
    """Turns what ``reply=`` may be into a set of commands."""
    if reply is None:
        return _NONE
    return frozenset((reply,) if isinstance(reply, str) else reply)


class RequestTable:
    """The requests that are open on one connection.

    Args:
        turns: The turns of the hub, which switches to those who wait.
        clock: Counts the limits.
        name: Gives the connection's name for log lines.
    """

    __slots__ = ("_alarm", "_alarm_at", "_clock", "_late", "_name", "_open", "_turns", "late")

    def __init__(self, turns: Turns, clock: Clock, name: Callable[[], str]) -> None:
        self._turns = turns
        self._clock = clock
        self._name = name
        self._open: dict[str, Request] = {}
        self._late: list[tuple[float, frozenset[str]]] = []
        self._alarm: Alarm | None = None
        self._alarm_at = 0.0
        self.late = 0  # answers that came when nobody waited any more

    @property
    def count(self) -> int:
        """How many requests are open."""
        return len(self._open)

    def add(
        self, message: Message, replies: frozenset[str], serial: str | None, timeout: float
    ) -> Request:
        """Opens a request; its answer may come from now on.

        Args:
            serial: The serial that the message has, or ``None`` when it has none.
            timeout: The limit in seconds, from now on.

        Raises:
            UsageError: The serial is that of another open request, or nothing says what would be
                an answer.
        """
        if serial is None:
            if not replies:
                raise UsageError(f"{message.command}: without a serial, reply= must name commands")
            key = f" {next_serial()}"  # no serial on the wire begins with a blank
        elif serial in self._open:
            raise UsageError(f"{message.command}: a request with this serial is open already")
        else:
            key = serial
        deadline = self._clock.now() + timeout
        request = self._open[key] = Request(message.command, replies, key, timeout, deadline)
        if self._alarm is None or deadline < self._alarm_at:
            self._arm(deadline, timeout)
        return request

    def remove(self, request: Request) -> None:
        """Forgets a request, answered or not."""
        self._open.pop(request.serial, None)

    def wait(self, request: Request) -> Message:
        """Parks the calling greenlet until the answer is there; returns it or raises."""
        if request.answer is None:
            turns = self._turns
            switch = turns.hub.switch
            try:
                request.waiting = turns.check_wait()
                while request.answer is None:
                    switch()
            finally:
                request.waiting = None
                self._open.pop(request.serial, None)
        answer = request.answer
        if isinstance(answer, Message) and answer.command not in _ERRORS:
            return answer
        return request.result()

    # --- in the hub -------------------------------------------------------------------------------

    def take(self, message: Message) -> bool:
        """Gives a message to the request that it answers; returns whether it was an answer."""
        serial = message.get("serial")
        if serial is not None:
            request = self._open.get(serial)
            if request is not None:
                # A router may hand a broadcast back to its sender: that is no answer.
                if message.command == request.command and message.service in _BROADCAST:
                    return False
                self._answer(request, message)
                return True
            if _is_ours(serial):
                self.late += 1
                logger.debug("%s: a late %s was dropped", self._name(), message.command)
                return True
        command = message.command
        if command in _ERRORS:
            about = message.get("command")
            for request in self._open.values():
                if request.command == about:
                    self._answer(request, message)
                    return True
        if serial is None:
            for request in self._open.values():
                if command in request.replies:
                    self._answer(request, message)
                    return True
        return bool(self._late) and self._swallow(command)

    def lose(self, error: EdgeventError) -> None:
        """Ends all open requests because the connection is gone."""
        for request in tuple(self._open.values()):
            self._answer(request, type(error)(*error.args))
        self._late.clear()
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None

    def _answer(self, request: Request, answer: Message | EdgeventError) -> None:
        self._open.pop(request.serial, None)
        if request.answer is None:
            request.answer = answer
            if request.waiting is not None:
                self._turns.resume(request.waiting)

    def _swallow(self, command: str) -> bool:
        now = monotonic()
        self._late = [entry for entry in self._late if entry[0] > now]
        for index, (_, replies) in enumerate(self._late):
            if command in replies:
                del self._late[index]
                self.late += 1
                logger.debug("%s: a late %s was dropped", self._name(), command)
                return True
        return False

    # One alarm serves all requests: it is set for the first limit, is not stopped by an answer, and
    # looks at the table when it goes off. So a request that is answered in time costs no timer.

    def _arm(self, deadline: float, timeout: float) -> None:
        if self._alarm is not None:
            self._alarm.stop()
        self._alarm_at = deadline
        self._alarm = self._clock.call_later(timeout, self._sweep)

    def _sweep(self) -> None:
        try:
            self._alarm = None
            now = self._clock.now()
            for request in tuple(self._open.values()):
                if request.deadline <= now and request.answer is None:
                    self._give_up(request)
            left = [request.deadline for request in self._open.values()]
            if left and self._alarm is None:
                self._arm(min(left), min(left) - now)
        except BaseException as error:
            self._turns.failed(error)

    def _give_up(self, request: Request) -> None:
        if request.serial.startswith(" "):
            self._late.append((monotonic() + LATE_ANSWER_TIMEOUT, request.replies))
            del self._late[:-LATE_ANSWERS]
        text = f"{self._name()}: no answer to {request.command} within {request.timeout:g} s"
        self._answer(request, RequestTimeout(text))
