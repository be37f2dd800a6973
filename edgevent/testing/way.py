"""One direction of a connection that passes a fault proxy."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from ..limits import READ_BYTES
from ..runtime.clock import Alarm, Clock
from ..runtime.turns import Turns
from ..transport.base import StreamTransport
from .faults import Faults, Mark

_HELD_BYTES: Final = READ_BYTES  # past it nothing more is read: its sender waits
_THROTTLED_PIECE: Final = 0.05  # what leaves in so many seconds leaves at once
_ROUNDING: Final = 1e-9
_POLLS: Final = 2  # in the first of them a reader in this process reads the piece before


class Way:
    """Takes bytes from one transport, and hands them on to another one.

    Args:
        source: Where they come from.
        sink: Where they go to.
        faults: What is done to them at first.
        on_mark: Called in the hub, or by who changes the faults, when all that came before a mark
            has left.
        on_broken: Called when the sink takes nothing any more.

    Attributes:
        arrived: How many bytes have come.
        passed: How many bytes have left.
        swallowed: How many bytes were taken and forgotten.
        corrupted: How many bytes were changed.
        has_ended: Whether the source has ended.
    """

    __slots__ = (
        "_alarm",
        "_chance",
        "_clock",
        "_free_at",
        "_held",
        "_left_in_piece",
        "_on_broken",
        "_on_mark",
        "_open",
        "_pieces",
        "_poll",
        "_polls",
        "_queue",
        "_reading",
        "_sealed",
        "_sink",
        "_source",
        "_turns",
        "_writing",
        "arrived",
        "corrupted",
        "faults",
        "has_ended",
        "passed",
        "swallowed",
    )

    def __init__(
        self,
        source: StreamTransport,
        sink: StreamTransport,
        faults: Faults,
        *,
        clock: Clock,
        chance: random.Random,
        on_mark: Callable[[Way, Mark], object],
        on_broken: Callable[[Way, OSError], object],
    ) -> None:
        self.faults = faults
        self.arrived = self.passed = self.swallowed = self.corrupted = 0
        self.has_ended = False
        self._source = source
        self._sink = sink
        self._clock = clock
        self._chance = chance
        self._on_mark = on_mark
        self._on_broken = on_broken
        self._turns = Turns.current()
        self._queue: deque[tuple[float, memoryview | Mark]] = deque()  # with the time of arrival
        self._held = 0
        self._open = True
        self._sealed = False  # whether what comes is forgotten: its reader was told of an end
        self._reading = self._writing = False
        self._free_at = 0.0  # when the next bytes may leave under a throttle
        self._alarm: Alarm | None = None
        self._pieces = 0  # how many sizes of a split were used
        self._left_in_piece = 0
        self._polls = 0  # before the next piece of a split leaves
        self._poll: Any = self._turns.loop.timer(0.0)

    def __repr__(self) -> str:
        return f"<Way {self.arrived} bytes in, {self.passed} out, {self._held} held>"

    # --- what is asked of it ----------------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        """Whether the source has ended, and all that it has sent has left."""
        return self.has_ended and not self._queue

    def start(self) -> None:
        """Begins."""
        self._look_for_stop()
        self._go_on()

    def change(self, **values: Any) -> None:
        """Changes some of the faults from now on."""
        self.faults = replace(self.faults, **values)
        if "rate" in values:
            self._free_at = 0.0
        if "sizes" in values:
            self._pieces = self._left_in_piece = 0
        self._look_for_stop()
        self._go_on()

    def stop(self, mark: Mark) -> None:
        """Puts a mark behind what has come; a cut and a reset do not wait for what is held."""
        if not self._open:
            return
        if mark == "end":
            self._put_mark(mark)
            self._go_on()
        else:
            self._on_mark(self, mark)

    def break_off(self) -> None:
        """The source has nobody to send to any more: what it has sent is handed on, then a reset.

        What it sends afterwards nobody could take.
        """
        if not (self.has_ended or self.faults.is_deaf):
            self._read(self._held + _HELD_BYTES)
        self.has_ended = True
        self._queue.append((self._clock.now(), "reset"))
        self._go_on()

    def close(self) -> None:
        """Ends it; the transports are closed by who made them."""
        self._open = False
        self._queue.clear()
        self._held = 0
        self._stop_alarm()
        self._poll.close()

    # --- what comes -------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            self._read(_HELD_BYTES)
            self._go_on()
        except BaseException as error:  # gevent would stop the watcher without a word
            self._turns.failed(error)

    def _read(self, mark: int) -> None:
        """Reads what is there, until so much is held."""
        try:
            while self._open and not self.has_ended and self._held < mark:
                data = self._source.receive(READ_BYTES)
                if not data:
                    self.has_ended = True
                    self._queue.append((self._clock.now(), "end"))
                    return
                self._take(data)
        except BlockingIOError:
            return
        except OSError:
            self.has_ended = True
            self._queue.append((self._clock.now(), "reset"))

    def _take(self, data: bytes) -> None:
        faults, offset = self.faults, self.arrived
        stop_at = faults.stop_at
        self.arrived += len(data)
        rest = b""
        if stop_at is not None and stop_at <= self.arrived:
            data, rest = data[: stop_at - offset], data[stop_at - offset :]
        if faults.swallows or self._sealed:
            self.swallowed += len(data)
        elif data:
            data, changed = faults.corrupt(data, offset, self._chance)
            self.corrupted += changed
            self._held += len(data)
            self._queue.append((self._clock.now(), memoryview(data)))
        self._look_for_stop()
        self.swallowed += len(rest)

    def _look_for_stop(self) -> None:
        stop_at, mark = self.faults.stop_at, self.faults.stop_with
        if stop_at is not None and stop_at <= self.arrived:
            self.faults = replace(self.faults, stop_at=None)
            self._put_mark(mark)

    def _put_mark(self, mark: Mark) -> None:
        if not self._sealed:
            self._sealed = True
            self._queue.append((self._clock.now(), mark))

    # --- what leaves ------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Hands on what may leave now, and sees to it that the rest leaves later."""
        self._stop_alarm()
        wants_room = self._polls == 0 and self._hand_on()
        if self._open and wants_room != self._writing:
            self._writing = wants_room
            if wants_room:
                self._sink.watch_write(self._writable)
            else:
                self._sink.unwatch_write()
        wants_more = not (self.has_ended or self.faults.is_deaf or self._held >= _HELD_BYTES)
        if self._open and wants_more != self._reading:
            self._reading = wants_more
            if wants_more:
                self._source.watch_read(self._readable)
            else:
                self._source.unwatch_read()

    def _hand_on(self) -> bool:
        """Returns whether the sink has no room."""
        queue = self._queue
        while queue and self._polls == 0:
            arrived_at, item = queue[0]
            now = self._clock.now()
            pause = max(arrived_at + self.faults.delay, self._free_at) - now
            if pause > _ROUNDING:
                self._alarm = self._clock.call_later(pause, self._due)
                break
            if isinstance(item, str):
                queue.popleft()
                self._on_mark(self, item)
                continue
            try:
                sent = self._sink.transmit(item[: self._next_size(len(item))])
            except BlockingIOError:
                return True
            except OSError as error:
                self._break(error)
                break
            self._left(sent, now)
        return False

    def _next_size(self, size: int) -> int:
        """How much of what is there may be written at once."""
        faults = self.faults
        if faults.rate is not None and not self._sink.keeps_records:
            size = min(size, max(1, int(faults.rate * _THROTTLED_PIECE)))
        if faults.sizes:
            if not self._left_in_piece:
                piece = faults.sizes[min(self._pieces, len(faults.sizes) - 1)]
                self._left_in_piece = self._chance.randint(1, piece) if faults.randomly else piece
                self._pieces += 1
            size = min(size, self._left_in_piece)
        return size

    def _left(self, size: int, now: float) -> None:
        faults = self.faults
        arrived_at, item = self._queue.popleft()
        assert not isinstance(item, str)
        if size < len(item):
            self._queue.appendleft((arrived_at, item[size:]))
        self._held -= size
        self.passed += size
        if faults.rate is not None:
            self._free_at = max(self._free_at, now) + size / faults.rate
        if faults.sizes:
            self._left_in_piece -= size
            self._polls = _POLLS
            self._poll.start(self._polled)

    def _break(self, error: OSError) -> None:
        """The sink takes nothing any more: what is held is lost, and nothing more is read."""
        self._queue.clear()
        self._held = 0
        self.has_ended = True
        self._on_broken(self, error)

    def _polled(self) -> None:
        try:
            self._polls -= 1
            if self._polls:
                self._poll.start(self._polled)
            else:
                self._go_on()
        except BaseException as error:
            self._turns.failed(error)

    def _writable(self) -> None:
        try:
            self._go_on()
        except BaseException as error:
            self._turns.failed(error)

    def _due(self) -> None:
        try:
            self._alarm = None
            self._go_on()
        except BaseException as error:
            self._turns.failed(error)

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None
