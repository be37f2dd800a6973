"""The outbox: the one writer of a descriptor.

What is sent first in a pass goes out at once. What is sent after it is joined, and leaves at the
end of the pass or at :data:`~edgevent.limits.JOIN_BYTES`. What the kernel does not take waits, and
leaves as the peer reads.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

from ..errors import (
    ClosedError,
    NetworkError,
    SlowConsumerError,
    connection_lost,
)
from ..limits import (
    JOIN_BYTES,
    MAX_MESSAGE_FDS,
    OUTBOX_BYTES,
    OUTBOX_HARD_BYTES,
    SLOW_CONSUMER_TIMEOUT,
)
from .attached import Attached, Passing
from .clock import SYSTEM_CLOCK, Alarm, Clock
from .room import Owner, Room, WhenFull
from .turns import Turns
from .watchers import Watched

_HELD: Final = 0.001  # what is joined is held no longer while a program does not let the hub run


class Outbox(Room):
    """The bytes that are to leave through one transport.

    Args:
        transport: Takes the bytes, and says when it can take more.
        turns: The turns of the hub.
        owner: The connection, which is told of the end and of room; two callbacks would be two more
            objects for each connection.
        clock: Counts the time that a slow consumer is given.
    """

    __slots__ = (
        "_alarm",
        "_attached",
        "_bursts",
        "_chunks",
        "_head",
        "_iteration",
        "_joined",
        "_owner",
        "_sealed",
        "_sent_at",
        "_transmit",
        "sent_bytes",
        "sent_units",
        "slow_timeout",
    )

    def __init__(
        self,
        transport: Watched,
        turns: Turns,
        owner: Owner,
        *,
        clock: Clock = SYSTEM_CLOCK,
        max_bytes: int = OUTBOX_BYTES,
        slow_timeout: float = SLOW_CONSUMER_TIMEOUT,
        when_full: WhenFull = "wait",
    ) -> None:
        self._transport = transport
        self._transmit = transport.transmit
        self._turns = turns
        self._owner: Owner | None = owner
        self.clock = clock
        self.max_bytes = max_bytes
        self.slow_timeout = slow_timeout
        self.when_full: WhenFull = when_full
        self.size = 0
        self.sent_bytes = self.sent_units = 0  # that the kernel has taken, the last unit in part
        self.dropped = 0
        self.error: NetworkError | None = None
        # What waits: first the rest of what the kernel has taken a part of, then the others.
        self._head: bytes | memoryview | None = None
        self._chunks: list[bytes] | None = None
        self._attached: Attached | None = None  # the descriptors that leave with some of it
        self._waiters = None
        self._iteration = -1
        self._sent_at = 0.0
        self._progress = 0.0
        self._in_flight = 0
        self._alarm: Alarm | None = None
        self._joined = self._watching = False
        self._bursts = False  # whether several left together last time
        self._sealed = False  # whether what waits may still leave although there is an error

    # --- sending ----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Takes bytes to send. May switch greenlets, when the outbox is full.

        Raises:
            ConnectionLostError: The connection broke or was closed, now or before.
            QueueFullError: The outbox is full, and the caller may not wait.
        """
        if self.error is not None:
            raise self.error_again()
        if not self.size:
            iteration = self._turns.loop.iteration
            if iteration != self._iteration or monotonic() - self._sent_at > _HELD:
                self._iteration = iteration
                self._sent_at = monotonic()
                try:
                    sent = self._transmit(data)
                except BlockingIOError:
                    sent = 0
                except OSError as error:
                    raise self._broken(error) from error
                self.sent_bytes += sent
                self.sent_units += 1
                left = len(data) - sent
                if left:
                    self._head = memoryview(data)[sent:]
                    self.size = left
                    self._turns.queued += left
                    self._watch()
                return
        elif (
            (self.size >= JOIN_BYTES or self.size >= self.max_bytes)  # else it is never full
            and self.is_full
            and not self._make_room()
        ):
            return
        # As in _put, without the cost of a call; so in write_soon.
        if self._chunks is None:
            self._chunks = [data]
        else:
            self._chunks.append(data)
        size = len(data)
        self._turns.queued += size
        self.size = size = self.size + size
        if not self._watching:
            if size >= JOIN_BYTES or monotonic() - self._sent_at > _HELD:
                self._drain()
            elif not self._joined:
                self._joined = True
                self._turns.join(self)

    def write_soon(self, data: bytes) -> bool:
        """Takes bytes like :meth:`write`, but never waits and never raises.

        Where several of them came together last time, the first of the next do not leave at once.

        Returns:
            Whether they were taken. A peer for which more than
            :data:`~edgevent.limits.OUTBOX_HARD_BYTES` have piled up is given up.
        """
        if self.error is not None:
            return False
        turns = self._turns
        if not self.size and not self._bursts:
            iteration = turns.loop.iteration
            if iteration != self._iteration:
                self._iteration = iteration
                try:
                    sent = self._transmit(data)
                except BlockingIOError:
                    sent = 0
                except OSError as error:
                    self._broken(error)
                    return False
                self.sent_bytes += sent
                self.sent_units += 1
                if sent != len(data):
                    self._head = memoryview(data)[sent:]
                    self.size = left = len(data) - sent
                    turns.queued += left
                    self._watch()
                return True
        if self._chunks is None:
            self._chunks = [data]
        else:
            self._chunks.append(data)
        size = len(data)
        turns.queued += size
        self.size = size = self.size + size
        if size < JOIN_BYTES:
            if not self._joined and not self._watching:
                self._joined = True
                if turns.holding:  # as in Turns.join
                    turns.joined.append(self)
                else:
                    turns.join(self)
            return True
        if size > OUTBOX_HARD_BYTES:
            self._give_up(f"more than {OUTBOX_HARD_BYTES} bytes wait for it")
        elif not self._watching:
            self._drain()
        return self.error is None

    def as_sent(self, data: bytes) -> bytes:
        """Returns what stands for some bytes on the wire."""
        return data

    def write_with_fds(self, data: bytes, fds: Passing) -> None:
        """Takes bytes to send, and descriptors that leave with the first of them.

        What was sent before leaves before. May switch greenlets, when the outbox is full. The
        caller may close its descriptors afterwards.

        Raises:
            UsageError: The descriptors cannot be passed.
            ConnectionLostError: The connection broke or was closed, now or before.
            QueueFullError: The outbox is full, and the caller may not wait; or there are no more
                descriptors now.
        """
        if self.error is not None:
            raise self.error_again()
        data = self.as_sent(data)
        if not self._make_room_for(fds.count):
            return
        if not self.size:
            try:
                sent = fds.transmit(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                fds.check(error)
                raise self._broken(error) from error
            self.sent_bytes += sent
            if sent == len(data):
                self.sent_units += 1
                return
            if sent:
                self._put(data[sent:])
                self._watch()
                return
        fds.keep()
        if self._attached is None:
            self._attached = Attached(self._transmit)
            self._transmit = self._attached.transmit
        self._attached.add(fds, self.size)
        self._put(data)
        self._watch()

    def _make_room_for(self, count: int) -> bool:
        """Waits until there is room for so many descriptors; returns whether there is."""
        while True:
            if self.size and not self._watching:
                self._drain()
            if self.error is not None:
                raise self.error_again()
            waiting = 0 if self._attached is None else self._attached.count
            if waiting and waiting + count > MAX_MESSAGE_FDS:
                if not self._may_wait(f"{waiting} descriptors"):
                    return False
                self.wait(None)
            elif not self.is_full:
                return True
            elif not self._make_room():
                return False

    def _put(self, data: bytes) -> None:
        if self._chunks is None:
            self._chunks = [data]
        else:
            self._chunks.append(data)
        size = len(data)
        self.size += size
        self._turns.queued += size

    # --- leaving ----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Writes what was joined."""
        self._joined = False
        if self.size and not self._watching and self.error is None:
            self._drain()

    def _drain(self) -> None:
        """Writes until all is out or the kernel takes no more. Never raises."""
        head: bytes | memoryview | None
        while (head := self._head) is not None or self._chunks is not None:
            if head is None:
                # All of them at once: so each byte is joined once, however slowly it leaves.
                chunks, self._chunks = self._chunks, None
                assert chunks is not None
                units = len(chunks)
                self._bursts = units > 1
                head = chunks[0] if units == 1 else b"".join(chunks)
                self.sent_units += units
            try:
                sent = self._transmit(head)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._broken(error)
                return
            self.sent_bytes += sent
            self.size -= sent
            self._turns.queued -= sent
            if sent < len(head):
                self._head = memoryview(head)[sent:]
                if sent:
                    self._note_progress()
                self._watch()
                return
            self._head = None
            if self._watching:
                self._progress = self.clock.now()
        if self._sealed or self._watching:
            self._all_left()
        else:
            self._sent_at = monotonic()

    def _all_left(self) -> None:
        self._sent_at = monotonic()
        if self._sealed and not self._finish():
            self._watch()
        elif self._watching:
            self._unwatch()

    def _finish(self) -> bool:
        """Lets the transport mark the end; returns whether that is done."""
        try:
            self._transport.finish()
        except BlockingIOError:
            return False
        except OSError:
            return True  # the peer has gone, and sees no end any more; all was sent before that
        return True

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._note_progress()
            self._transport.watch_write(self._writable)
        if self._alarm is None:
            self._alarm = self.clock.call_later(self.slow_timeout, self._look)

    def _note_progress(self) -> None:
        self._progress = self.clock.now()
        self._in_flight = self._transport.in_flight

    def _unwatch(self) -> None:
        self._watching = False
        if self._attached is not None:
            self._attached = None
            self._transmit = self._transport.transmit
        self._transport.unwatch_write()
        self._stop_alarm()
        if self._owner is not None:
            self._owner.sending_emptied()

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None

    def _writable(self) -> None:
        try:
            self._drain()
            if self.size <= self._mark() // 2:
                self._wake()
        except BaseException as error:  # gevent would stop the watcher without a word
            self._turns.failed(error)

    def _look(self) -> None:
        """Gives a slow consumer up, or looks again when its time would be over."""
        self._alarm = None
        if self._transport.in_flight < self._in_flight:
            # The kernel takes more when a good part of its buffer is free, and not before: a peer
            # that reads a few KiB a second needs minutes for that.
            self._note_progress()
        left = self._progress + self.slow_timeout - self.clock.now()
        if left <= 0.0:
            self._give_up(f"it took nothing for {self.slow_timeout:g} s")
        else:
            self._alarm = self.clock.call_later(left, self._look)

    # --- the end ----------------------------------------------------------------------------------

    def _give_up(self, why: str) -> None:
        peer = self._transport.peer
        self.fail(SlowConsumerError(f"{peer} is a slow consumer: {why}"))

    def _broken(self, error: OSError) -> NetworkError:
        lost = connection_lost(self._transport.peer, "sending to", error)
        self.fail(lost)
        return lost

    def fail(self, error: NetworkError) -> None:
        """Ends the outbox with an error: what waits in it will not leave."""
        if self.error is None or self._sealed:
            self.close(error)
            if self._owner is not None:
                self._owner.sending_broke(error)

    def seal(self) -> bool:
        """Takes nothing more, and wakes those who wait; what is in it still leaves, and the end.

        Returns:
            Whether that has happened already. If not, ``on_empty`` or ``on_broken`` is called.
        """
        self.flush()
        if self.error is None:
            self.error = self._closed_error()
            self._sealed = True
            self._wake()
            if not self.size and self._finish():
                self._sealed = False
            else:
                self._watch()
        return not self._sealed

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"the connection to {self._transport.peer} is closed")

    def leave(self) -> None:
        """Closes, and forgets the connection: neither is left to the garbage collector."""
        self.close()
        self._owner = None

    def close(self, error: NetworkError | None = None) -> None:
        """Drops what waits and wakes those who wait. Idempotent."""
        if self.error is not None and not self._sealed:
            return
        self._sealed = False
        self.error = error or self._closed_error()
        self._turns.queued -= self.size
        self.size = 0
        self._head = self._chunks = None
        if self._attached is not None:
            self._attached.close()
            self._attached = None
        self._stop_alarm()
        if self._watching:
            self._watching = False
            self._transport.unwatch_write()
        self._wake()
