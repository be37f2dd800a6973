"""``ed-signal --replay``: sends what was recorded, at its own pace or at another one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import gevent
from gevent.event import Event

from ..durations import format_duration
from ..errors import EdgeventError, MessageError, NetworkError, OptionError
from ..message import Message
from .recording import Direction, Record, read_recording
from .sending import REFUSAL_TIMEOUT, NoAnswerError, Sender

_MAX_PACE: Final = 1e6


def parse_pace(text: str) -> float:
    """Reads a pace: how many times as fast as it was recorded; 0 is without any pause.

    Raises:
        OptionError: It is none.
    """
    if text == "original":
        return 1.0
    try:
        pace = float(text)
    except ValueError:
        pace = -1.0
    if not 0.0 <= pace <= _MAX_PACE:
        raise OptionError(
            f"value {text!r}: expected 'original', how many times as fast, or 0 for no pauses"
        )
    return pace


@dataclass(frozen=True, slots=True)
class Replay:
    """A recording that is to be sent.

    Attributes:
        path: The file.
        direction: What of it: ``in`` is what the peers had sent.
        pace: How many times as fast as it was recorded; 0 is without any pause.
    """

    path: str
    direction: Direction = "in"
    pace: float = 1.0

    def check(self) -> None:
        """Reads it once: of one that is malformed nothing is sent.

        Raises:
            OptionError: It cannot be read, or has nothing in this direction; the sentence names
                the file and the line.
        """
        # A file at a time, and never all of it in memory.
        if not sum(1 for _ in read_recording(self.path, self.direction)):
            raise OptionError(f"{self.path}: nothing was recorded of direction {self.direction!r}")


class Replayer:
    """Sends a recording, and takes what comes back.

    Args:
        replay: What is sent.
        sender: Where to.
        show: Called with each message that comes back.
        warn: Called with a sentence about what is not sent.

    Attributes:
        sent: How many lines and datagrams were sent.
        skipped: How many were not, because they are no messages and datagrams have to be.
        back: How many messages have come back.
        refused: How many of them were ``UNKNOWN`` or ``INVALID``.
    """

    def __init__(
        self,
        replay: Replay,
        sender: Sender,
        show: Callable[[Message], object],
        warn: Callable[[str], object],
    ) -> None:
        self._replay = replay
        self._sender = sender
        self._show = show
        self._warn = warn
        self._came = Event()
        self._failure: EdgeventError | OSError | None = None
        self.sent = self.skipped = self.back = self.refused = 0

    def run(self, *, asks: bool, wanted: int, timeout: float) -> None:
        """Sends all of it, and waits for what comes back, if that is wanted.

        Args:
            asks: Whether it waits for as many messages as were sent, while they come.
            wanted: For how many it waits in any case; 0 for none.
            timeout: The limit of the wait in seconds: after the last one that came, or, with
                ``wanted``, for all of them after the last one that was sent.

        Raises:
            NoAnswerError: None came, or not as many as were wanted.
            NetworkError: The connection broke, or nobody receives there.
        """
        # What comes back is read in any case: a peer whose answers nobody takes stops to read.
        reader = gevent.spawn(self._read)
        reader.name = f"answers from {self._sender.where}"
        try:
            self._send_all()
            if asks or wanted:
                self._await(wanted, timeout)
            elif self._sender.is_datagram:
                self._came.clear()
                self._wait(REFUSAL_TIMEOUT)  # the kernel may tell that nobody receives there
                self._raise_failure()
        finally:
            reader.kill()

    def _send_all(self) -> None:
        start, first = time.monotonic(), None
        pace = self._replay.pace
        for record in read_recording(self._replay.path, self._replay.direction):
            first = record.offset if first is None else first
            if pace:
                due = start + (record.offset - first) / 1e9 / pace
                self._sender.pause(due - time.monotonic())
            else:
                gevent.sleep(0)  # what comes back is read meanwhile
            self._send(record)

    def _send(self, record: Record) -> None:
        if self._sender.is_datagram or not isinstance(self._failure, NetworkError):
            self._raise_failure()  # a stream may take more although it says nothing any more
        if not record.data.strip():
            return
        if self._sender.is_datagram:
            try:
                message = Message.parse(record.data)
            except MessageError as error:
                self.skipped += 1
                self._warn(f"{self._replay.path}:{record.line}: not sent: no message: {error}")
                return
            self._sender.send(message)
        else:
            self._sender.write(record.data.removesuffix(b"\n") + b"\n")
        self.sent += 1

    def _read(self) -> None:
        while True:
            try:
                message = self._sender.receive()
            except NetworkError as error:
                self._failure = error
                self._came.set()
                return
            self.back += 1
            self.refused += message.command in ("UNKNOWN", "INVALID")
            try:
                self._show(message)
            except OSError as error:  # nobody reads what is printed
                self._failure = error
                self._came.set()
                return
            self._came.set()

    def _await(self, wanted: int, timeout: float) -> None:
        end = time.monotonic() + timeout
        goal = wanted or self.sent
        while self.back < goal and self._failure is None:
            before = self.back
            self._came.clear()
            self._wait(end - time.monotonic())
            if self.back > before and not wanted:
                end = time.monotonic() + timeout
            elif time.monotonic() >= end:
                break
        if not isinstance(self._failure, NetworkError):
            self._raise_failure()  # what came could not be printed
        if self.back < (wanted or min(self.sent, 1)):
            why = "" if self._failure is None else f": {self._failure}"
            came = f"{self.back} of {goal} answers" if self.back else "no answer"
            limit = "" if why else f" within {format_duration(timeout)}"
            raise NoAnswerError(f"{self._sender.where}: {came}{limit}{why}{self._sender.why()}")

    def _wait(self, seconds: float) -> None:
        if seconds > 0.0:
            self._came.wait(seconds)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
