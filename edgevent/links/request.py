"""Requests: who waits for which answer on a connection."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable, Iterable
from typing import Final

from greenlet import getcurrent, greenlet

from ..answers import quoted
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
from ..runtime.turns import Turns, switch

logger = logging.getLogger("edgevent")

_ERRORS: Final = frozenset({"UNKNOWN", "INVALID"})
_BROADCAST: Final = frozenset({".", "*", "?"})
NO_REPLIES: Final[frozenset[str]] = frozenset()
_SERIAL_DIGITS: Final = 16
NEXT: Final = "\0"  # no message has such a serial


class Request:
    """One request, from its sending to its answer."""

    # Values that most requests never change stand here, once for all: no __slots__.
    late_until = 0.0  # until when an answer that was dropped may have been this one's
    record: object = None  # what a permanent link has to remember of what it sent,
    position = 0  # and how much that was before this request
    answer: Message | EdgeventError | None = None
    waiting: greenlet | None = None  # set while the greenlet is parked for this answer
    service = ""  # to which a router is to deliver it, and which alone can answer it
    target = ""  # the same as it is written, with its server if that was named

    def __init__(
        self,
        command: str,
        replies: frozenset[str],
        key: str,
        timeout: float,
        deadline: float,
        order: int = 0,
    ) -> None:
        self.command = command
        self.replies = replies
        self.key = key  # the serial, or for a request without one a text that no serial can be
        self.timeout = timeout
        self.deadline = deadline
        self.order = order  # by which those of one table came

    def result(self) -> Message:
        """Returns the answer, or raises what came in its place."""
        answer = self.answer
        if not isinstance(answer, Message):
            assert answer is not None
            raise answer
        if answer.command in _ERRORS and answer.command not in self.replies:
            raise _remote_error(answer, self.command)
        return answer


class _Mark:
    """What is left of a request that was given up: its answer may still come."""

    __slots__ = ("command", "key", "order", "replies", "until")

    def __init__(self, request: Request, replies: frozenset[str], until: float) -> None:
        self.command = request.command
        self.replies = replies
        self.key = request.key
        self.order = request.order
        self.until = until


def _remote_error(answer: Message, command: str) -> RemoteError:
    if answer.command == "UNKNOWN":
        return UnknownCommandError(f"{command} is unknown to the peer", command=command)
    why = answer.get("message") or "no reason given"
    identifier = answer.get("id", "")
    if identifier:
        text = f"{command} failed at the peer: {why}, id={identifier}"
        return RemoteError(text, command=command, id=identifier)
    return InvalidMessageError(f"{command} was refused by the peer: {why}", command=command)


def reply_set(reply: str | Iterable[str] | None) -> frozenset[str]:
    """Turns what ``reply=`` may be into a set of commands."""
    if reply is None:
        return NO_REPLIES
    return frozenset((reply,) if isinstance(reply, str) else reply)


class RequestTable:
    """The requests that are open on one connection.

    Args:
        turns: The turns of the hub, which switches to those who wait.
        clock: Counts the limits.
        name: Gives the connection's name for log lines.

    Attributes:
        late: How many answers came when nobody waited any more, and were dropped.
    """

    __slots__ = (
        "_alarm",
        "_alarm_at",
        "_clock",
        "_copied",
        "_first",
        "_marks",
        "_name",
        "_next",
        "_open",
        "_turns",
        "late",
    )

    def __init__(self, turns: Turns, clock: Clock, name: Callable[[], str]) -> None:
        self._turns = turns
        self._clock = clock
        self._name = name
        self._open: dict[str, Request] = {}
        self._marks: list[_Mark] = []
        self._copied = False  # whether this peer was seen to copy a serial
        self._alarm: Alarm | None = None
        self._alarm_at = math.inf
        self.late = 0
        # The numbers begin somewhere else on each connection: a late answer, which a router may
        # still deliver to another one, must look like none to it. They are far above the small
        # ones that peers count their own requests with, and fit in 63 bits.
        self._next = 10 ** (_SERIAL_DIGITS - 1) + secrets.randbits(49)
        self._first = self._next

    @property
    def count(self) -> int:
        """How many requests are open."""
        return len(self._open)

    def next_serial(self) -> str:
        """Returns a serial that no other request has."""
        number = self._next
        self._next = number + 1
        return str(number)

    def add(
        self, message: Message, replies: frozenset[str], serial: str | None, timeout: float
    ) -> Request:
        """Opens a request; its answer may come from now on.

        Args:
            serial: The serial that the message has; ``None`` when it has none; or :data:`NEXT`,
                when it is sent with one that no other request has, the request's ``key``.
            timeout: The limit in seconds, from now on.

        Raises:
            UsageError: The serial is that of another open request, nothing says what would be
                an answer, or the timeout is no number.
        """
        order = self._next
        self._next = order + 1
        if serial is NEXT:
            key = str(order)
        elif serial is None:
            if not replies:
                raise UsageError(f"{message.command}: without a serial, reply= must name commands")
            key = f" {order}"  # no serial on the wire begins with a blank
        elif serial in self._open:
            raise UsageError(f"{message.command}: a request with this serial is open already")
        else:
            key = serial
        try:
            deadline = self._clock.now() + timeout
        except TypeError:
            wanted = f"a timeout in seconds was expected: {timeout!r}"
            raise UsageError(f"{message.command}: {wanted}") from None
        self._open[key] = request = Request(
            message._header[4], replies, key, timeout, deadline, order
        )
        if deadline < self._alarm_at:
            self._arm(deadline, timeout)
        return request

    def remove(self, request: Request) -> None:
        """Forgets a request that was not sent."""
        self._open.pop(request.key, None)

    def abandon(self, request: Request) -> None:
        """Forgets a request for which nobody waits any more; its answer may still come."""
        if self._open.pop(request.key, None) is not None:
            self._leave_mark(request)

    def wait(self, request: Request) -> Message:
        """Parks the calling greenlet until the answer is there; returns it or raises."""
        if request.answer is None:
            turns = self._turns
            hub = turns.hub
            try:
                request.waiting = current = getcurrent()
                if current is hub:
                    turns.check_wait()
                while request.answer is None:
                    switch(hub)
            finally:
                request.waiting = None
                if request.answer is None:
                    self.abandon(request)
        answer = request.answer
        if isinstance(answer, Message) and answer._header[4] not in _ERRORS:
            return answer
        return request.result()

    # --- in the hub -------------------------------------------------------------------------------

    def take_report(self, report: Message, command: str, service: str) -> bool:
        """Gives a router's report without a serial to the first request that it is about.

        Args:
            command: The command that was not delivered.
            service: For which service it was; empty when the report does not say it.
        """
        for request in self._open.values():
            if request.command == command and service in ("", request.service):
                self._answer(request, report)
                return True
        return False

    def take(self, message: Message) -> bool:
        """Gives a message to the request that it answers; returns whether it was an answer."""
        group = message._layout.index.get("serial")
        if group is None:
            return bool(self._open or self._marks) and self._take_unnumbered(message)
        found = message._found  # as Message.get does, without the cost of a call
        serial = message["serial"] if found is None else found[group]
        request = self._open.pop(serial, None)
        if request is None:
            return self._is_late(serial, message)
        # A router may hand a broadcast back to its sender: that is no answer.
        if message._header[4] == request.command and message.service in _BROADCAST:
            self._open[serial] = request
            self._open = dict(sorted(self._open.items(), key=lambda item: item[1].order))
            return False
        self._copied = True
        if request.answer is None:
            request.answer = message
            if request.waiting is not None:
                self._turns.resume(request.waiting)
        return True

    def _take_unnumbered(self, message: Message) -> bool:
        """Finds what a message without a serial answers: what was asked first."""
        command = message.command
        about = quoted(message.get("command", "")) if command in _ERRORS else ""
        found = None
        sender = message.sent_from_service
        for request in self._open.values():
            if (about and quoted(request.command) == about) or (
                command in request.replies and (not request.service or request.service == sender)
            ):
                found = request
                break
        for mark in self._live_marks():
            if command in mark.replies or (about and quoted(mark.command) == about):
                if found is not None and found.order < mark.order:
                    break
                self._marks.remove(mark)
                self._drop(message)
                if found is not None:
                    found.late_until = mark.until
                return True
        if found is None:
            return False
        self._answer(found, message)
        return True

    def _is_late(self, serial: str, message: Message) -> bool:
        for mark in self._marks:
            if mark.key == serial:
                self._marks.remove(mark)
                self._drop(message)
                return True
        if (
            len(serial) == _SERIAL_DIGITS
            and serial.isdecimal()
            and self._first <= int(serial) < self._next
            and message.service not in _BROADCAST
        ):
            self._drop(message)
            return True
        return False

    def _drop(self, message: Message) -> None:
        self.late += 1
        logger.debug("%s: a late %s was dropped", self._name(), message.command)

    def lose(self, error: EdgeventError) -> None:
        """Ends all open requests because the connection is gone, and forgets the late ones."""
        self._marks.clear()
        self._copied = False
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None
            self._alarm_at = math.inf
        self.fail(error)

    def fail(self, error: EdgeventError) -> None:
        """Ends all requests that are open now with an error; callable from any greenlet."""
        number = getattr(error, "errno", None)
        for request in self._open.values():
            if request.answer is None:
                request.answer = type(error)(*error.args)  # raised twice, it gathers tracebacks
                if number is not None:
                    request.answer.errno = number  # type: ignore[attr-defined]
                if request.waiting is not None:
                    # Not at once: only the hub gets back what it switches to.
                    self._turns.loop.run_callback(self._resume, request)
        self._open.clear()

    def _resume(self, request: Request) -> None:
        if request.waiting is not None:
            self._turns.resume(request.waiting)

    def _answer(self, request: Request, answer: Message | EdgeventError) -> None:
        self._open.pop(request.key, None)
        if request.answer is None:
            request.answer = answer
            if request.waiting is not None:
                self._turns.resume(request.waiting)

    # --- requests that were given up --------------------------------------------------------------

    def _leave_mark(self, request: Request) -> None:
        # A peer that copies serials shows by itself which answer is late; only its errors may
        # have none.
        numbered = not request.key.startswith(" ")
        replies = NO_REPLIES if numbered and self._copied else request.replies
        # If the answer that was dropped before was this request's own, this mark is one too many,
        # and would drop the answer of the next: such a row ends when its first mark would have.
        until = request.late_until or self._clock.now() + LATE_ANSWER_TIMEOUT
        self._marks.append(_Mark(request, replies, until))
        self._marks.sort(key=lambda mark: mark.order)
        del self._marks[:-LATE_ANSWERS]

    def _live_marks(self) -> list[_Mark]:
        if self._marks:
            now = self._clock.now()
            self._marks = [mark for mark in self._marks if mark.until > now]
        return self._marks

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
            self._alarm_at = math.inf
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
        self._leave_mark(request)
        limit = round(request.timeout, 3)  # what is left of a limit looks odd with all its digits
        text = f"{self._name()}: no answer to {request.command} within {limit:g} s"
        self._answer(request, RequestTimeout(text))
