"""What ``ed-listen`` does with what it hears: prints it, records it, counts it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from gevent.lock import BoundedSemaphore

from ..errors import MessageError
from ..links.malformed import reason, show_line
from ..message import Message
from ..runtime.clock import SYSTEM_CLOCK
from ..runtime.turns import Turns, wait
from ..runtime.watchers import WRITE, io_watcher
from .output import printable
from .recording import Direction, Recorder, RecordingError, Source, show_time

logger = logging.getLogger("edgevent")

_MARKS: Final = {"in": ">", "out": "<"}
# man 7 pipe: a pipe that poll(2) finds writable takes so many bytes without a wait.
_PIPE_BUF: Final = 4096


class Printer:
    """Writes lines on a descriptor, each at once; who writes waits while nobody reads them.

    The hub goes on meanwhile, so signals and limits are heard.

    Args:
        descriptor: The standard output, as a rule.
        on_broken: Called once, when nothing can be written any more.

    Attributes:
        error: Why that is so.
    """

    def __init__(self, descriptor: int, on_broken: Callable[[], object]) -> None:
        self._descriptor = descriptor
        self._on_broken = on_broken
        self._lock = BoundedSemaphore()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self.is_terminal = os.isatty(descriptor)
        self.error: OSError | None = None

    def write(self, line: bytes) -> None:
        """Writes a line and its newline. May switch greenlets; never raises ``OSError``."""
        with self._lock:  # else the pieces of two long lines could mix
            left = memoryview(line + b"\n")
            while left and self.error is None:
                try:
                    if not self._poll.poll(0):
                        self._wait()
                    left = left[os.write(self._descriptor, left[:_PIPE_BUF]) :]
                except BlockingIOError:  # somebody else has set O_NONBLOCK, and was faster
                    continue
                except OSError as error:
                    self.error = error
                    self._on_broken()

    def _wait(self) -> None:
        turns = Turns.current()
        watcher = io_watcher(self._descriptor, WRITE)
        watcher.start(turns.check_wait().switch)
        try:
            wait(turns, SYSTEM_CLOCK, None)  # no limit: a reader may stop as long as it likes
        finally:
            watcher.close()


class Hearing:
    """What is heard on all addresses together.

    Args:
        printer: Where messages are printed.
        as_json: Whether an object is printed for each.
        shows_time: Whether the time stands before each.
        shows_raw: Whether lines that are no messages are printed, too.
        both_ways: Whether what goes to the peer is printed, and each line has its direction.
        count: After how many messages ``on_count`` is called; 0 for never. What comes after them
            is not printed.
        on_count: Called then.

    Attributes:
        recorder: Where all is recorded, if it is.
        failed: Whether that could not be written.
        counts: ``in`` and ``out`` (messages), ``other`` (lines that are none), ``connections``.
    """

    def __init__(
        self,
        printer: Printer,
        *,
        as_json: bool = False,
        shows_time: bool = False,
        shows_raw: bool = False,
        both_ways: bool = False,
        count: int = 0,
        on_count: Callable[[], object] = lambda: None,
    ) -> None:
        self._printer = printer
        self.recorder: Recorder | None = None
        self._as_json = as_json
        self._shows_time = shows_time or both_ways
        self._shows_raw = shows_raw
        self._both_ways = both_ways
        self._count = count
        self._on_count = on_count
        self._named: set[tuple[int, Direction]] = set()
        self.counts: Counter[str] = Counter()
        self.failed = False

    def source(self, listener: str, peer: str) -> Source:
        """Gives the next number to a connection."""
        self.counts["connections"] += 1
        return Source(listener, peer, self.counts["connections"])

    @property
    def is_over(self) -> bool:
        """Whether as many messages have come as were wanted."""
        return bool(self._count) and self._shown >= self._count

    @property
    def _shown(self) -> int:
        return self.counts["in"] + (self.counts["out"] if self._both_ways else 0)

    def hear(self, source: Source, direction: Direction, data: bytes) -> Message | None:
        """Takes a line, a datagram or another piece. May switch greenlets, while it is printed.

        Args:
            data: The bytes as they came, with the newline if there was one.

        Returns:
            The message that it is; ``None`` when it is none, or when enough have come.
        """
        is_shown = direction == "in" or self._both_ways
        if self.is_over and is_shown:
            return None
        self._record(source, direction, data)
        if not data.strip():
            return None  # an empty line is nothing at all on the wire
        now = time.time_ns()
        try:
            message = Message.parse(data)
        except MessageError as error:
            self.counts["other"] += 1
            self._show_other(source, direction, data, now, error)
            return None
        self.counts[direction] += 1
        if is_shown:
            is_last = self.is_over  # before others have their say, while this one is printed
            self._show(source, direction, now, message=message)
            if is_last:
                self._on_count()
        return message

    def _record(self, source: Source, direction: Direction, data: bytes) -> None:
        if self.recorder is not None:
            try:
                self.recorder.write(source, direction, data)
            except RecordingError as error:
                self.failed = True
                logger.error("%s; nothing more is recorded", error)

    def _show_other(
        self, source: Source, direction: Direction, data: bytes, now: int, error: MessageError
    ) -> None:
        if self._shows_raw:
            if direction == "in" or self._both_ways:
                self._show(source, direction, now, raw=data)
            return
        # One line for each peer: all others are in the count at the end.
        if (source.connection, direction) not in self._named:
            self._named.add((source.connection, direction))
            shown = show_line(data)
            text = "%s: no message came, see --raw: %s: %s"
            logger.warning(text, source.peer, reason(error, shown), shown)

    def _show(
        self,
        source: Source,
        direction: Direction,
        now: int,
        *,
        message: Message | None = None,
        raw: bytes = b"",
    ) -> None:
        if self._as_json:
            entry: dict[str, object] = {
                "time": show_time(now),
                "listener": source.listener,
                "peer": source.peer,
                "connection": source.connection,
                "direction": direction,
            }
            if message is None:
                entry["raw"] = escape(raw)
            else:
                entry["message"] = json.loads(message.to_json())
            text = json.dumps(entry, ensure_ascii=False)
            if not text.isprintable():  # bytes that are no UTF-8, control characters beyond ASCII
                text = json.dumps(entry)
            self._printer.write(text.encode())
            return
        start = f"{show_time(now)} " if self._shows_time else ""
        if self._both_ways:
            start += f"#{source.connection} {_MARKS[direction]} "
        if message is None:
            line = f"! {escape(raw)}".encode()
        else:
            line = bytes(message)
            if self._printer.is_terminal:  # no escape sequence of a peer's gets there
                line = escape(line).encode()
        self._printer.write(start.encode() + line)


def escape(data: bytes) -> str:
    """Returns bytes as text on one line, in which each control character is written out."""
    return printable(data.removesuffix(b"\n").decode("utf-8", "backslashreplace"))


def say(text: str) -> None:
    """Says something to the user, on the error output, if anybody is there."""
    with contextlib.suppress(OSError):
        print(f"ed-listen: {text}", file=sys.stderr, flush=True)
