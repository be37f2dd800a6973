"""What all layers over a stream share: who takes the units, a turn or a greenlet that receives."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from greenlet import getcurrent

from .. import limits
from ..binding import describe
from ..connection import FAILURES
from ..errors import NetworkError, ReceiveTimeout, UsageError
from ..runtime.turns import IDLE, TIMED_OUT, wait
from .ending import EMPTY, END, START
from .flow import Flow

logger = logging.getLogger("edgevent")

_U = TypeVar("_U")

_ENDED: Final = object()
_LOOK: Final = 4  # past its limit, a turn looks after so many units whether it is to go on


class BaseStream(Flow, Generic[_U]):
    """A flow whose units go to turns, or to a greenlet that receives.

    The units are bytes, lines or messages; the classes above say which.
    """

    __slots__ = ()

    def process_unit(self, unit: Any) -> None:
        """Handles one unit in a turn; what the user's code raises is dealt with there."""
        raise NotImplementedError

    def unpack(self, unit: Any) -> Any:
        """Makes of a unit in the inbox what ``receive`` returns; ``None`` drops it."""
        return unit

    def incomplete(self, rest: bytes) -> None:
        """Called in a turn with what the peer has sent of a unit that it did not complete."""

    # --- receiving --------------------------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> _U:
        """Waits for the next unit, and returns it. Blocks the calling greenlet alone.

        While a greenlet receives, it gets what would else go to handlers.

        Args:
            timeout: The limit in seconds; ``None`` waits for as long as the connection is there.

        Raises:
            ReceiveTimeout: Nothing came in time.
            ConnectionLostError: The peer has ended the connection, or it broke.
            ClosedError: This side has closed it.
            UsageError: Another greenlet is receiving.
        """
        unit = self._receive(timeout)
        if unit is _ENDED:
            raise self.end_error()
        if self._inbox.units:
            self._catch_up()  # what came with it goes to handlers, unless it is received too
        found: _U = unit
        return found

    def receive_or_end(self, timeout: float | None = None) -> _U | bytes:
        """Waits as :meth:`receive` does, and returns ``b""`` when the peer has ended the stream."""
        unit = self._receive(timeout)
        if unit is not _ENDED:
            found: _U = unit
            return found
        if self._error is not None or not self._eof:
            raise self.end_error()
        return b""

    def __iter__(self) -> Iterator[_U]:
        """Gives unit after unit, and ends when the peer ends the connection."""
        if self._receiver is not None:
            self._check_receiver()
        self._receiver = getcurrent()  # what comes between two units is for the iteration as well
        try:
            while (unit := self._receive(None)) is not _ENDED:
                yield unit
        finally:
            self._receiver = None
            self._catch_up()
        if self._error is not None:
            raise self.end_error()

    def _check_receiver(self) -> None:
        if self._receiver is not getcurrent():
            raise UsageError(f"{self.name}: another greenlet is receiving")

    def _receive(self, timeout: float | None) -> Any:
        end: float | None = None
        iterating = self._receiver
        if iterating is not None:
            self._check_receiver()
        while True:
            while self._inbox.units:
                unit = self.unpack(self._take())
                if unit is not None:
                    return unit
            if self._eof or self._closed:
                return _ENDED
            left = timeout
            if timeout is not None:  # what is dropped on the way does not start the limit anew
                now = self._use_clock.now()
                end = now + timeout if end is None else end
                left = end - now
            self._receiver = self._turns.check_wait()
            self._parked = True
            self._resume_reading()
            try:
                if wait(self._turns, self._use_clock, left) is TIMED_OUT:
                    limit = 0.0 if timeout is None else round(timeout, 3)
                    raise ReceiveTimeout(f"{self.name}: nothing came within {limit:g} s")
            finally:
                self._parked = False
                self._receiver = iterating
                if iterating is None and self._due:
                    self._catch_up()

    def _take(self) -> Any:
        inbox = self._inbox
        unit = inbox.take()
        if self._paused and self._enabled and not inbox.is_full:
            self._resume_reading()
        return unit

    # --- turns ------------------------------------------------------------------------------------

    def _inbox_comes_first(self) -> bool:
        """Whether what has come is to be handled before the end."""
        return bool(self._inbox.units)

    def _end_waits(self) -> bool:
        """Whether somebody is still to receive or to be sent something before the end."""
        return self._receiver is not None or self._sends_still()

    def _is_due(self) -> bool:
        due = self._due & ~END if self._due & END and self._end_waits() else self._due
        return due != 0 or (self._receiver is None and bool(self._inbox.units))

    def _catch_up(self) -> None:
        if self._takes_turns() and self.ticket == IDLE and self._enabled and self._is_due():
            self._turns.arrive(self)

    def run_turn(self) -> None:
        """Handles what is due, and what is in the inbox within the turn's limits."""
        try:
            if self._due & ~END:
                self._work()
            if self._inbox.units and self._receiver is None and not self._closed:
                self._handle_inbox()
        finally:
            if self._due or self._inbox.units or self._closed:
                self._end_turn()
            else:
                self.ticket = IDLE

    def _work(self) -> None:
        due = self._due
        self._due &= ~(START | EMPTY)
        if due & START:
            self._begin()
        if due & EMPTY and not self._closed:
            self.call_hook(self.process_empty_buffer)
        super()._work()

    def run_unit(self, unit: Any) -> None:
        """Handles one unit that has come when nothing else was there; called by a worker."""
        try:
            self.process_unit(unit)
        finally:
            if self._due or self._inbox.units or self._closed:
                self._end_turn()
            else:
                self.ticket = IDLE

    def _handle_inbox(self) -> None:
        turns, inbox = self._turns, self._inbox
        process = self.process_unit
        limit, communicator = self._event_limit, self._communicator
        began = monotonic()
        count, look = 0, limit
        while True:
            units = inbox.units
            unit = units.pop()  # as Inbox.take does, without the cost of a call
            if not units:
                inbox.advance()
            process(unit)
            if not inbox.units:
                break
            count += 1
            if count < limit:
                if monotonic() - began > self._processing_time_limit:
                    break
            elif count >= look:
                if turns.ready or turns.granted or monotonic() - began > limits.SOLE_TURN_TIME:
                    break
                look = count + _LOOK
            if not self._enabled or self._closed or self._receiver is not None:
                break
            if self._communicator is not communicator:  # it was removed
                break
        if self._paused and self._enabled and not inbox.is_full and self._takes_turns():
            self._resume_reading()

    def _begin(self) -> None:
        """The first turn: a straight-line handler has the connection for as long as it likes."""
        conversation = self._conversation
        if conversation is None:
            self.call_hook(self.process_connected)
            return
        try:
            conversation(self)
        except FAILURES as error:
            outbox = self._outbox
            if isinstance(error, NetworkError) and (
                self._eof or self._closed or outbox is None or outbox.error is not None
            ):
                # The peer went away, or this side did: both are logged where the connection ends.
                logger.debug("%s: its conversation ended: %s", self.name, error)
            else:
                self.handler_failed(error, describe(conversation))
        finally:
            if self._eof and self._error is None:
                self.drop_rest()
            self.close()

    def process_connected(self) -> None:
        """Called in the first turn, when the connection stands."""

    def _end_turn(self) -> None:
        # The end of the stream is looked at after every turn: the inbox first, then what the
        # handlers answered, then the close; so a half-closed peer is still answered.
        try:
            due = self._due & END
            if due and not (self._inbox_comes_first() or self._closed or self._end_waits()):
                self._due &= ~END
                self.finish()
        finally:  # a hook may be left by an interrupt, and other turns follow all the same
            self.ticket = IDLE
            if self._takes_turns() and self._enabled and not self._closed and self._is_due():
                self._turns.later(self)

    def finish(self) -> None:
        """The end of the stream, in a turn, with all that came before it handled."""
        try:
            if not self._draining:
                self.tell_end()
        finally:  # a hook may be left by an interrupt, which a program may survive
            self.close()

    def tell_end(self) -> None:
        """Calls the hook for the end that it was."""
        if self._error is not None:
            self.call_hook(self.process_error, self._error)
        else:
            self.drop_rest()
            self.call_hook(self.process_hup)

    def drop_rest(self) -> None:
        """Deals with a unit that the peer has begun and not completed."""
        rest = b"" if self._framer is None else self._framer.end()
        if rest:
            self.incomplete(rest)

    # --- the end ----------------------------------------------------------------------------------

    def drain(self) -> bool:
        """Stops to read; closes when all that came is handled and all that was sent has left."""
        if not self._closed:
            self._draining = True
            self.ended(None)
            if self._transport is None or not self._enabled or not self._takes_turns():
                self.close()
        return self._closed
