"""What senders have sent already, in a file beside those of their records.

So a record that comes once more is known again after the daemon's end, and after a kill. The file
is a text: a head with the boot of the kernel, then ``+NUMBER IP INSTANCE`` for a sender and
``NUMBER SERIAL MARK`` for a record that was written (``-`` in place of the mark: it is unknown
again). ``end`` closes it. Without that it counts for the same boot alone: after a power cut what it
names may not be on the disk. Nothing here switches greenlets.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import Final, Protocol
from urllib.parse import quote, unquote

from ..limits import LOG_INTERVAL
from ..log_handler import close_descriptor
from .repeats import AllRepeats, Repeats

logger = logging.getLogger("edgevent.snaplogger")

NAME: Final = ".repeats"
"""The file, in the folder of all files: no record goes to one whose name begins so."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""The size at which it is renamed to ``.repeats.1``, and begun anew."""

_BOOT: Final = "/proc/sys/kernel/random/boot_id"  # man 5 proc_sys_kernel
_HEAD: Final = "snaploggerd-repeats 1"
_END: Final = "end\n"
_UNKNOWN: Final = "-"
_ERRORS: Final = "surrogatepass"  # of bytes that were no UTF-8
_MODE: Final = 0o640
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Seen(Protocol):
    """A record that was written, or came to nothing."""

    @property
    def repeats(self) -> Repeats | None:
        """What is remembered of its sender; ``None`` when that is of no use."""

    @property
    def serial(self) -> str:
        """What its sender calls it."""

    @property
    def mark(self) -> int:
        """What else it is known by."""


class RepeatsFile:
    """Keeps what is remembered of senders.

    A disk that does not take it is told of, and tried again after a minute; the file is removed
    then, so that nothing in it is taken for more than it is.

    Args:
        folder: Where; it need not be there yet.
        repeats: What is remembered.
        max_bytes: See :data:`MAX_BYTES`.

    Attributes:
        folder: The same.
    """

    def __init__(self, folder: str, repeats: AllRepeats, *, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self._path = os.path.join(folder, NAME)
        self._repeats = repeats
        self._max_bytes = max_bytes
        self._descriptor = -1
        self._size = 0
        self._numbers: dict[Repeats, int] = {}  # of the senders that the file names
        self._retry_at = 0.0
        self._boot = _boot_id()

    # --- reading ----------------------------------------------------------------------------------

    def load(self) -> None:
        """Takes what a daemon before has left, and begins the file anew with it."""
        found = [self._read(f"{self._path}.1"), self._read(self._path)]
        for lines in found:
            self._take(lines)
        if any(found):
            self._renew()

    def _read(self, path: str) -> list[str]:
        """Gives the lines of a file that counts; of none else."""
        try:
            with open(path, "rb", opener=_opener) as file:
                text = file.read(2 * self._max_bytes).decode("ascii", "replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            self._tell(error)
            return []
        head, _, rest = text.partition("\n")
        if head == f"{_HEAD} {self._boot}" and self._boot:
            # What stands behind the last newline was cut off by a kill.
            return rest.split("\n")[:-1]
        if head.startswith(_HEAD) and rest.endswith(f"\n{_END}"):
            return rest.split("\n")[:-2]
        logger.info("%s: it is of a boot before, or of no use, and not taken", path)
        return []

    def _take(self, lines: Iterable[str]) -> None:
        senders: dict[str, Repeats] = {}
        for line in lines:
            fields = line.split(" ")
            if len(fields) != 3:
                continue
            number, serial, mark = fields
            if number.startswith("+"):
                senders[number[1:]] = self._repeats.of((_plain(serial), _plain(mark)))
                continue
            sender = senders.get(number)
            if sender is None:
                continue
            if mark == _UNKNOWN:
                self._repeats.forget(sender, _plain(serial))
            elif mark.isalnum():
                try:
                    self._repeats.add(sender, _plain(serial), int(mark, 16))
                except ValueError:  # damaged
                    continue

    # --- writing ----------------------------------------------------------------------------------

    def add(self, written: Iterable[Seen]) -> None:
        """Notes records that were written; to be called before they are acknowledged."""
        lines: list[str] = []
        if self._size > self._max_bytes:
            self._attempt(self._rotate, lines)
        for one in written:
            if one.repeats is not None:
                number = self._number(one.repeats, lines)
                lines.append(f"{number} {_quote(one.serial)} {one.mark:x}\n")
        self._append(lines)

    def forget(self, lost: Iterable[Seen]) -> None:
        """Notes that records are taken for new when they come once more."""
        lines: list[str] = []
        for one in lost:
            if one.repeats in self._numbers:
                number = self._numbers[one.repeats]
                lines.append(f"{number} {_quote(one.serial)} {_UNKNOWN}\n")
        self._append(lines)

    def close(self) -> None:
        """Writes all that is remembered, and the end. Idempotent."""
        if self._descriptor >= 0:
            self._renew([_END])
            self._shut()

    def _number(self, repeats: Repeats, lines: list[str]) -> int:
        number = self._numbers.get(repeats)
        if number is None:
            number = self._numbers[repeats] = len(self._numbers) + 1
            ip, instance = repeats.sender
            lines.append(f"+{number} {_quote(ip)} {_quote(instance)}\n")
        return number

    def _append(self, lines: list[str]) -> None:
        if not lines or monotonic() < self._retry_at:
            return
        is_removed = self._descriptor >= 0 and not os.fstat(self._descriptor).st_nlink
        self._attempt(self._begin_anew if self._retry_at or is_removed else self._write, lines)

    def _attempt(self, what: Callable[[list[str]], None], lines: list[str]) -> None:
        try:
            what(lines)
        except OSError as error:
            self._retry_at = monotonic() + LOG_INTERVAL
            self._shut()
            left = [why for end in ("", ".1", ".new") if (why := _remove(f"{self._path}{end}"))]
            self._tell(error, f"; it cannot be removed: {left[0]}" if left else "")

    def _begin_anew(self, lines: list[str]) -> None:
        """Writes all that is remembered: the file was removed, or took nothing for a while."""
        self._shut()
        self._open(self._path)
        self._write([*self._all()])
        self._retry_at = 0.0

    def _write(self, lines: list[str]) -> None:
        if self._descriptor < 0:
            self._open(self._path)
        data = "".join(lines).encode("ascii")
        size = os.write(self._descriptor, data)
        self._size += size
        while size < len(data):  # the next call says why it was no more
            size += os.write(self._descriptor, data[size:])

    def _open(self, path: str) -> None:
        self._descriptor = os.open(path, _FLAGS | os.O_TRUNC, _MODE)
        self._size = 0
        self._write([f"{_HEAD} {self._boot}\n"])

    def _rotate(self, lines: list[str]) -> None:
        self._shut()
        os.replace(self._path, f"{self._path}.1")

    def _renew(self, more: Sequence[str] = ()) -> None:
        """Puts a file with all that is remembered in the place of those that are there, if it can.

        Args:
            more: Lines behind that.
        """
        self._shut()
        try:
            self._open(f"{self._path}.new")
            self._write([*self._all(), *more])
            os.replace(f"{self._path}.new", self._path)
        except OSError as error:  # what is there says as much, until another boot
            self._tell(error)
            self._shut()
            _remove(f"{self._path}.new")  # which is of no use to anybody
        else:
            _remove(f"{self._path}.1")

    def _all(self) -> Iterator[str]:
        for repeats in self._repeats.senders():
            lines: list[str] = []
            number = self._number(repeats, lines)
            yield from lines
            for serial, mark in repeats.all():
                yield f"{number} {_quote(serial)} {mark:x}\n"

    def _shut(self) -> None:
        self._numbers.clear()
        self._size = 0
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            close_descriptor(descriptor)

    def _tell(self, error: OSError, more: str = "") -> None:
        text = "%s: %s: a record that comes again after the daemon's end may stand twice%s"
        logger.error(text, self._path, error.strerror, more)


def _quote(text: str) -> str:
    if text.isalnum() and text.isascii():
        return text
    return quote(text, safe="", errors=_ERRORS)


def _plain(text: str) -> str:
    return unquote(text, errors=_ERRORS)


def _opener(path: str, flags: int) -> int:
    # Without O_NONBLOCK the open of a FIFO would wait for a writer.
    return os.open(path, flags | os.O_NONBLOCK)


def _remove(path: str) -> str:
    """Removes a file, if it is there; returns why it cannot."""
    try:
        os.unlink(path)
    except OSError as error:
        return (error.strerror or str(error)) if os.path.lexists(path) else ""
    return ""


def _boot_id() -> str:
    try:
        with open(_BOOT, encoding="ascii") as file:
            return file.read().strip()
    except OSError:  # then only what was closed counts
        return ""
