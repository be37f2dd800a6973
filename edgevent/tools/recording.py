"""A recording: what came and went on the connections of ``ed-listen``, with its times.

One JSON object a line (https://jsonlines.org). The first line says what the file is; each other
one is a line, a datagram or another piece of one direction, in the order in which they came:

    {"recording": "edgevent", "version": 1, "began": "2026-01-31T12:00:00.000000Z"}
    {"offset": 1200, "connection": 1, "direction": "in", "listener": "tcp://127.0.0.1:3001",
     "peer": "tcp://127.0.0.1:40112", "text": "ADD a=2;b=40\\n"}

``offset`` is in nanoseconds from the begin of the recording. ``in`` is what the peer has sent,
``out`` what it was sent. What is not UTF-8 stands in base64, as ``base64`` in place of ``text``.
The pieces of one connection and direction together are the bytes as they came.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final, Literal, cast

from ..errors import EdgeventError, OptionError
from ..runtime.closing import Closing

Direction = Literal["in", "out"]
DIRECTIONS: Final[tuple[Direction, ...]] = ("in", "out")

_FORMAT: Final = "edgevent"
_VERSION: Final = 1
_MAX_LINE_BYTES: Final = 32 * 1024 * 1024  # the longest line of a peer in base64, and its names


class RecordingError(EdgeventError):
    """A recording cannot be written any more."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where something was said.

    Attributes:
        listener: The address that is listened to.
        peer: The address of the other side.
        connection: Its number, from 1 on.
    """

    listener: str
    peer: str
    connection: int


@dataclass(frozen=True, slots=True)
class Record:
    """One line, datagram or piece.

    Attributes:
        offset: When it came, in nanoseconds from the begin of the recording.
        connection: On which connection.
        direction: ``in`` from the peer, or ``out`` to it.
        data: The bytes as they came, with the newline, if there was one.
        line: The number of the line in the file.
        listener: The address that was listened to; empty when the file does not say it.
        peer: The address of the other side; likewise.
    """

    offset: int
    connection: int
    direction: Direction
    data: bytes
    line: int
    listener: str = ""
    peer: str = ""


def show_time(nanoseconds: int) -> str:
    """Returns a time since 1970 as text: RFC 3339, UTC, to the microsecond."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest // 1000:06}Z"


class Recorder(Closing):
    """Writes a recording: mode 0600, each record at once.

    Args:
        path: A file that is not there yet, or is empty; or something that is no file, a FIFO for
            example.

    Raises:
        OptionError: There is something in the file, or it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = _create(path)
        self._size = 0
        self._began = time.monotonic_ns()
        try:
            self._write(
                {"recording": _FORMAT, "version": _VERSION, "began": show_time(time.time_ns())}
            )
        except RecordingError as error:
            raise OptionError(str(error)) from error

    def write(self, source: Source, direction: Direction, data: bytes) -> None:
        """Writes what came or went just now. Does not switch greenlets.

        Raises:
            RecordingError: The disk is full, for example. What was written before is whole, and
                nothing is written after it.
        """
        if self._descriptor < 0:
            return
        form, text = _to_text(data)
        self._write(
            {
                "offset": time.monotonic_ns() - self._began,
                "connection": source.connection,
                "direction": direction,
                "listener": source.listener,
                "peer": source.peer,
                form: text,
            }
        )

    def close(self) -> None:
        """Closes the file. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _write(self, entry: dict[str, object]) -> None:
        line = json.dumps(entry, ensure_ascii=True).encode("ascii") + b"\n"
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            self._cut()
            raise RecordingError(f"recording {self.path}: {error.strerror}") from error
        self._size += len(line)

    def _cut(self) -> None:
        """Takes a half-written line away, and ends the recording."""
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:  # it is no file, and nothing can be taken back
            pass
        self.close()


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        try:
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            found = os.stat(path)
            if stat.S_ISREG(found.st_mode) and found.st_size:
                raise OptionError(
                    f"recording {path}: there is such a file already; expected a new one"
                ) from None
            return os.open(path, flags)
    except OSError as error:
        raise OptionError(f"recording {path}: {error.strerror}") from None


def _to_text(data: bytes) -> tuple[str, str]:
    try:
        return "text", data.decode("utf-8")
    except UnicodeDecodeError:
        return "base64", base64.b64encode(data).decode("ascii")


# --- reading --------------------------------------------------------------------------------------


def read_recording(path: str, direction: Direction | None = None) -> Iterator[Record]:
    """Reads a recording, record by record.

    Args:
        direction: Which one alone.

    Raises:
        OptionError: The file cannot be read or is none; the sentence names the file and the line.
    """
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OptionError(f"{path}: expected a file: a recording of ed-listen")
            header = file.readline(_MAX_LINE_BYTES)
            _check_header(path, header)
            number = 1
            while line := file.readline(_MAX_LINE_BYTES):
                number += 1
                record = _read_record(f"{path}:{number}", number, line)
                if direction is None or record.direction == direction:
                    yield record
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}") from None


def read_began(path: str) -> int:
    """Reads when a recording was begun, in nanoseconds of the epoch.

    Raises:
        OptionError: As of :func:`read_recording`, or the file does not say it.
    """
    try:
        with open(path, "rb") as file:
            found = _check_header(path, file.readline(_MAX_LINE_BYTES))
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}") from None
    began = found.get("began")
    try:
        date = datetime.fromisoformat(str(began).replace("Z", "+00:00"))
    except ValueError:
        date = datetime.min
    if date.tzinfo is None:
        raise OptionError(f"{path}:1: began {began!r}: expected a date of RFC 3339")
    since = date - datetime.fromtimestamp(0, timezone.utc)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def _check_header(path: str, line: bytes) -> dict[str, Any]:
    found = _read_object(f"{path}:1", line)
    if found.get("recording") != _FORMAT:
        raise OptionError(f"{path}:1: expected a recording of ed-listen, as --record makes it")
    if found.get("version") != _VERSION:
        version = found.get("version")
        raise OptionError(f"{path}:1: version {version!r} of the format: expected {_VERSION}")
    return found


def _read_object(where: str, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise OptionError(f"{where}: expected an object of JSON on one line")
    return found


def _read_record(where: str, number: int, line: bytes) -> Record:
    found = _read_object(where, line)
    offset, connection = found.get("offset"), found.get("connection")
    if type(offset) is not int or offset < 0:
        raise OptionError(f"{where}: offset {offset!r}: expected nanoseconds, 0 or more")
    if type(connection) is not int or connection < 1:
        raise OptionError(f"{where}: connection {connection!r}: expected a number from 1 on")
    direction = found.get("direction")
    if direction not in DIRECTIONS:
        raise OptionError(f"{where}: direction {direction!r}: expected 'in' or 'out'")
    data = _read_data(where, found)
    listener, peer = (str(found.get(name, "")) for name in ("listener", "peer"))
    return Record(offset, connection, cast(Direction, direction), data, number, listener, peer)


def _read_data(where: str, found: dict[str, Any]) -> bytes:
    text, coded = found.get("text"), found.get("base64")
    try:
        if isinstance(text, str) and coded is None:
            return text.encode("utf-8")
        if isinstance(coded, str) and text is None:
            return base64.b64decode(coded, validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise OptionError(f"{where}: what was sent is neither UTF-8 nor base64") from None
    raise OptionError(f"{where}: expected what was sent, as text or as base64")
