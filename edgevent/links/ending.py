"""The end of a connection over a stream of bytes: why it ends, and what still leaves before."""

from __future__ import annotations

import errno
import logging
from typing import Any, Final

from greenlet import greenlet

from ..connection import Connection
from ..errors import ClosedError, ConnectionLostError, NetworkError
from ..runtime.clock import Alarm, Clock
from ..runtime.turns import Turns
from .counted import Counted

logger = logging.getLogger("edgevent")

_PEER_WENT: Final = frozenset((errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT))

START: Final = 4
END: Final = 8
EMPTY: Final = 16
"""What can be due in a turn: the begin, the end, and a buffer that has emptied."""


class Ending(Counted):
    """The part of a flow that ends: by the peer, by this side, by an error, or in silence."""

    __slots__ = (
        "_draining",
        "_eof",
        "_error",
        "_introduction",
        "_parked",
        "_paused",
        "_receiver",
        "_server",
        "_turns",
        "_use_clock",
    )

    _draining: bool  # whether nothing more is taken, and what came is still handled
    _eof: bool  # whether nothing more will come
    _error: NetworkError | None  # why, when the peer has not ended the stream
    _introduction: Alarm | bool | None  # True: the first unit has come
    _parked: bool  # whether the receiver waits just now
    _paused: bool  # whether the transport is not being read
    _receiver: greenlet | None  # for which all that comes is
    _server: Any  # which has accepted the peer
    _turns: Turns
    _use_clock: Clock

    # --- in the hub -------------------------------------------------------------------------------

    def ended(self, error: NetworkError | None) -> None:
        """Takes note that nothing more will come; the end itself waits for its turn.

        Args:
            error: Why; ``None`` when the peer has ended the stream.
        """
        if self._eof:
            return
        self._eof = True
        self._error = error
        self._stop_reading()
        self._mark_due(END)

    def sending_broke(self, error: NetworkError) -> None:
        """Called by the outbox: nothing leaves any more."""
        if self._closed:
            self._shut()
            return
        if error.errno not in _PEER_WENT:  # the peer may still be there, and never end the stream
            if self._eof and self._error is None:
                self._error = error  # what it was still to be sent is lost, which is to be told
            self.ended(error)
        # Else what the peer has sent before it went is still read and handled: the end comes from
        # the read side. If it has come already, it has waited for what was to be sent.
        self._catch_up()

    def sending_emptied(self) -> None:
        """Called by the outbox: all that had to wait has left."""
        if self._closed:
            self._shut()
        else:
            self._mark_due(EMPTY)

    def _hand_over(self) -> None:
        """Switches to the greenlet that receives, if it waits."""
        if self._parked and self._receiver is not None:
            self._turns.resume(self._receiver)

    def _stop_reading(self) -> None:
        """Reads no more; who waits for something is told."""
        self._pause_reading()
        if self._introduction is not True:
            self._introduced()
        if self._receiver is not None:
            self._turns.loop.run_callback(self._hand_over)

    def _pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            if self._transport is not None:
                self._transport.unwatch_read()

    def expect_introduction(self, timeout: float) -> None:
        """Gives the peer so many seconds to complete its first unit."""
        self._introduction = self._use_clock.call_later(timeout, self._not_introduced, timeout)

    def _introduced(self) -> None:
        alarm, self._introduction = self._introduction, True
        if alarm is not None and not isinstance(alarm, bool):
            alarm.stop()

    def _not_introduced(self, timeout: float) -> None:
        self.ended(ConnectionLostError(f"{self.name}: no complete line within {timeout:g} s"))

    # --- the end ----------------------------------------------------------------------------------

    def end_error(self) -> NetworkError:
        """Makes the error for a call that comes after the end."""
        if (error := self._error) is not None:
            return type(error)(error.args[0], error.errno)
        if self._draining or (self._closed and not self._eof):
            return ClosedError(f"{self.name} is closed")
        return ConnectionLostError(f"{self.name}: the peer has ended the connection")

    def _sends_still(self) -> bool:
        outbox = self._outbox
        if outbox is None or not outbox.size or outbox.error is not None:
            return False
        outbox.flush()
        return outbox.size > 0

    def _release(self) -> bool:
        self._stop_reading()
        if self._error is None and self._outbox is not None and not self._outbox.seal():
            return False  # what was sent before the close leaves first; see sending_emptied
        self._shut()
        return False  # _shut has done the rest

    def close_within(self, timeout: float) -> None:
        """Closes, and waits until what was sent has left; cuts when ``timeout`` seconds are over.

        Blocks the calling greenlet. What was not sent is told in the log.
        """
        outbox, clock = self._outbox, self._use_clock
        pending = 0 if outbox is None else outbox.size
        end = clock.now() + timeout
        try:
            Connection.close(self)
            while self._transport is not None and outbox is not None:
                left = end - clock.now()
                if left <= 0.0 or not outbox.wait(left):
                    self._say_unsent(outbox.size, timeout)
                    return
        finally:
            self.cut()
        lost = None if outbox is None else outbox.error
        if pending and isinstance(lost, ConnectionLostError) and self._error is None:
            text = "%s: up to %d bytes were not sent: %s"
            logger.warning(text, self.name, pending, lost)

    def _say_unsent(self, size: int, timeout: float) -> None:
        if size:
            logger.warning("%s: %d bytes were not sent within %g s", self.name, size, timeout)
        else:
            logger.info("%s: the end could not be marked within %g s", self.name, timeout)

    def cut(self) -> None:
        """Closes at once; what has not left is lost, and then the end has no mark either."""
        self._closed = True
        self._stop_alarms()
        self._stop_reading()
        outbox = self._outbox
        if outbox is not None and not outbox.size and self._error is None:
            outbox.seal()
        self._shut()

    def _shut(self) -> None:
        transport = self._transport
        if transport is not None:
            self._transport = None
            if self._outbox is not None:
                self._outbox.leave()
            transport.close()
            if self._error is not None:
                logger.warning("%s: closed: %s", self.name, self._error)
            elif logger.isEnabledFor(logging.DEBUG):  # to make the name costs more
                logger.debug("%s: closed", self.name)
        self._leave()
        self.has_ended()

    def has_ended(self) -> None:
        """Called when the connection has given everything back."""
        if self._server is not None:
            self._server.peer_ended(self)
