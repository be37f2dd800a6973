"""The worker's end of a link with a thread: plain blocking calls, in a thread without a hub."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Final, Protocol

from .. import limits
from ..answers import Peer, answer_failure, is_senders_mistake, quoted
from ..connection import FAILURES
from ..dispatcher import HANDLED, UNMATCHED, Dispatcher
from ..errors import (
    ClosedError,
    ForkedError,
    NetworkError,
    ReceiveTimeout,
    RequestTimeout,
    WrongThreadError,
)
from ..links.request import Request, reply_set
from ..message import Message
from ..runtime.native import allocate_lock, get_ident
from ..runtime.turns import Turns
from .native_threads import Gate, held

logger = logging.getLogger("edgevent")

_ERRORS: Final = frozenset({"UNKNOWN", "INVALID"})


class Hub(Protocol):
    """What the worker's end asks of the communicator's."""

    max_messages: int

    @property
    def name(self) -> str:
        """The name of the link."""

    @property
    def turns(self) -> Turns:
        """The turns of its hub."""

    def give(self, message: Message, timeout: float, /) -> None:
        """Takes a message from the thread."""

    def ring(self) -> None:
        """Has the hub look at what has changed."""

    def log_alive(self) -> None:
        """Logs what is alive in the process."""


def dispatch(
    message: Message,
    peer: Peer,
    dispatcher: Dispatcher,
    hook: Callable[[Message], object],
    failed: Callable[[BaseException, str], str],
) -> None:
    """Hands a message to the dispatcher, the hook and the catch-all, as streams do."""
    try:
        taken = dispatcher.dispatch(message, peer)
        if taken != HANDLED and not hook(message) and taken == UNMATCHED:
            dispatcher.dispatch_otherwise(message, peer)
    except FAILURES as error:
        identifier = ""
        if not is_senders_mistake(message, error):
            identifier = failed(error, f"the handler of {message.command}")
        try:
            answer_failure(message, peer, error, identifier)
        except NetworkError as lost:
            logger.warning("%s: the answer could not be sent: %s", peer.name, lost)


class InProcess:
    """What both ends of a link between threads say of the other one, as a peer."""

    __slots__ = ()

    @property
    def may_control(self) -> bool:
        """The other thread is of this very process: its STOP is obeyed."""
        return True

    @property
    def answers_errors(self) -> bool:
        """What is refused is answered."""
        return True


class ThreadEnd(InProcess):
    """The end of a :class:`ThreadLink` that a thread of its own uses; ``link.worker``.

    All its calls block the thread that makes them, and nobody else. What was sent before the link
    was closed is still received.

    Attributes:
        handler_errors: How many handlers have raised in :meth:`run`.
        late_answers: How many answers came when nobody waited any more, and were dropped.
    """

    def __init__(self, link: Hub, dispatcher: Dispatcher | None) -> None:
        self._link = link
        self._dispatcher = dispatcher
        self._lock = allocate_lock()
        self._gate = Gate(self._lock)
        self._messages: deque[Message] = deque()
        self._open: dict[str, Request] = {}
        self._numbers = itertools.count(1)
        self._mark = f"{secrets.token_hex(4)}-"
        self._hub_waits = False
        self._is_done = False
        self.is_used = False
        self.is_finished = False  # nothing more comes from the hub
        self.has_ended = False
        self.error: BaseException | None = None
        self.handler_errors = 0
        self.late_answers = 0

    def __repr__(self) -> str:
        state = "ended" if self.has_ended else "finished" if self.is_finished else "open"
        return f"<{self.name} {state}, {len(self._messages)} messages>"

    # --- what the thread uses ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name for log lines."""
        return f"{self._link.name} in its thread"

    @property
    def dispatcher(self) -> Dispatcher:
        """The table for what :meth:`run` gets; one with the default commands if none was given."""
        if self._dispatcher is None:
            self._dispatcher = Dispatcher()
        return self._dispatcher

    def send(self, message: Message, *, timeout: float = limits.THREAD_SEND_TIMEOUT) -> None:
        """Sends a message to the communicator's thread; blocks while too many wait there.

        Raises:
            QueueFullError: There was no room within ``timeout`` seconds.
            ClosedError: The link was closed.
            WrongThreadError: The caller is the communicator's thread.
        """
        self._check()
        self._link.give(message, timeout)

    def receive(self, timeout: float | None = None) -> Message:
        """Waits for a message.

        Args:
            timeout: The limit in seconds; ``None`` for none: the end of the link ends it as well.

        Raises:
            ReceiveTimeout: Nothing came within the limit.
            ClosedError: The link was closed or stopped, and all that was sent is received.
        """
        self._check()
        end = None if timeout is None else monotonic() + timeout
        with held(self._lock):
            while not self._messages:
                if self.is_finished or self.has_ended:
                    raise ClosedError(f"{self.name}: the link is closed")
                left = None if end is None else end - monotonic()
                if left is not None and left <= 0.0:
                    raise ReceiveTimeout(f"{self.name}: no message within {timeout:g} s")
                self._gate.wait(left)
            message = self._messages.popleft()
            rings = self._hub_waits and len(self._messages) <= self._link.max_messages // 2
            if rings:
                self._hub_waits = False
        if rings:
            self._link.ring()
        return message

    def __iter__(self) -> Iterator[Message]:
        """Gives each message, until the link is closed or stopped."""
        while True:
            try:
                message = self.receive()
            except ClosedError:
                return
            yield message

    def run(self) -> None:
        """Handles messages by the dispatcher until the link is closed, or :meth:`mark_done`.

        What a handler raises is logged, counted, and answered ``INVALID``.
        """
        while not self._is_done:
            try:
                message = self.receive()
            except ClosedError:
                return
            self.dispatch(message)

    def dispatch(self, message: Message) -> None:
        """Handles one message as :meth:`run` does."""
        dispatch(message, self, self.dispatcher, lambda message: False, self._failed)

    def request(
        self,
        message: Message,
        reply: str | Iterable[str] | None = None,
        timeout: float = limits.REQUEST_TIMEOUT,
    ) -> Message:
        """Asks the communicator's thread, and waits for the answer; other messages wait meanwhile.

        Args:
            reply: The command, or commands, of the answer; needed for a handler that answers with
                a message of its own making, without the serial.
            timeout: The limit in seconds.

        Raises:
            RequestTimeout: No answer came in time.
            ClosedError: The link was closed.
            RemoteError: The handler failed; subclasses say that it knows no such command, or
                refused a parameter.
        """
        self._check()
        end = monotonic() + timeout
        serial = f"{self._mark}{next(self._numbers)}"
        request = Request(message.command, reply_set(reply), serial, timeout, end)
        with held(self._lock):
            self._open[serial] = request
        try:
            self._link.give(message.with_parameters(serial=serial), timeout)
            with held(self._lock):
                while request.answer is None:
                    if self.has_ended or (self.is_finished and self._is_cut):
                        raise ClosedError(f"{self.name}: the link is closed")
                    left = end - monotonic()
                    if left <= 0.0:
                        text = f"{self.name}: no answer to {message.command} within {timeout:g} s"
                        raise RequestTimeout(text)
                    self._gate.wait(left)
        finally:
            with held(self._lock):
                self._open.pop(serial, None)
        return request.result()

    def mark_done(self) -> None:
        """Ends :meth:`run` after the message that it handles, and once it has received all."""
        with held(self._lock):
            self._is_done = self.is_finished = True
            self._gate.wake()

    def stop_requested(self, quitting: bool) -> None:
        """What STOP and QUITTING do by default: :meth:`run` ends."""
        self._is_done = True

    def log_alive(self) -> None:
        """What LEAK does."""
        self._link.log_alive()

    def close(self, error: BaseException | None = None) -> None:
        """Ends the link from this side, once what was sent is handled. Idempotent.

        The end of a function that the link runs does it by itself.

        Args:
            error: Why, if it is not as it should be.
        """
        with held(self._lock):
            if self.has_ended:
                return
            self.has_ended = True
            self.error = error
            self._gate.wake()
        self._link.ring()

    def __enter__(self) -> ThreadEnd:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.close()

    # --- inside -----------------------------------------------------------------------------------

    _is_cut = False

    def _check(self) -> None:
        turns = self._link.turns
        if turns.forked:
            raise ForkedError("this object belongs to the parent of this forked process")
        if get_ident() == turns.thread:
            raise WrongThreadError(
                f"{self.name}: the communicator's own thread would wait for itself; use the link"
            )
        self.is_used = True

    def _failed(self, error: BaseException, where: str) -> str:
        self.handler_errors += 1
        identifier = secrets.token_hex(4)
        logger.error("%s: %s failed, id=%s", self.name, where, identifier, exc_info=error)
        return identifier

    # --- called in the communicator's thread ------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many messages wait for the thread."""
        return len(self._messages)

    def put(self, message: Message) -> bool:
        """Takes a message from the hub; returns whether there was room. An answer needs none.

        Raises:
            ClosedError: Nobody receives it any more.
        """
        with held(self._lock):
            if self._answers(message):
                return True
            if self.is_finished or self.has_ended:
                raise ClosedError(f"{self._link.name}: the thread has ended, or the link is closed")
            if len(self._messages) >= self._link.max_messages:
                self._hub_waits = True
                return False
            self._messages.append(message)
            self._gate.wake()
            return True

    def _answers(self, message: Message) -> bool:
        serial, command = message.get("serial"), message.command
        found = None
        if serial is not None:
            found = self._open.get(serial)
            if found is None and serial.startswith(self._mark):
                self.late_answers += 1
                return True
        elif self._open:
            about = quoted(message.get("command", "")) if command in _ERRORS else ""
            for request in self._open.values():
                if request.answer is None and (
                    command in request.replies or (about and quoted(request.command) == about)
                ):
                    found = request
                    break
        if found is None:
            return False
        found.answer = message
        self._gate.wake()
        return True

    def finish(self, *, cut: bool) -> None:
        """Lets the thread receive what was sent, and nothing more.

        Args:
            cut: Whether open requests end too: nobody is left who could answer.
        """
        with held(self._lock):
            self.is_finished = True
            self._is_cut = self._is_cut or cut
            self._gate.wake()
