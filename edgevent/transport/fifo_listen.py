"""Listening to a FIFO: its writers, from the first one until all have left, are one peer.

A FIFO has one buffer, however often it is opened, which lives as long as anybody has it open. When
the last writer has left, its reader is told so until another writer comes (man 7 pipe, man 7 fifo):
a reader that goes on has to open it anew.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
from collections.abc import Callable
from typing import Any, Final

import gevent

from .. import limits
from ..address import Address
from ..errors import ListenError
from ..runtime.guards import REGISTRY
from ..runtime.watchers import READ, io_watcher
from .base import close_quietly
from .fd import GONE, poll_descriptor
from .fifo import READ_FIFO, WRITE_FIFO, FifoTransport
from .files import file_identity, group_number
from .stream import printable

logger = logging.getLogger("edgevent")

# Nobody reads it; or this process has no descriptor to spare, which may pass as well.
_NOT_YET: Final = frozenset({errno.ENXIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_LOOKS: Final = (0.01, 0.02, 0.05, 0.1, 0.2)  # the pauses between looks for a reader


class FifoSession(FifoTransport):
    """Those who write to a listener's FIFO, from the first one until all have left.

    Answers go to the second FIFO, which is opened when the first one is to leave: that nobody reads
    it yet, or just now, is no failure, but a want of room.
    """

    __slots__ = ("_answers", "_is_orderly", "_listener", "_look", "_looks", "_on_write")

    def __init__(self, listener: FifoListener, source: int, answers: int, name: str) -> None:
        super().__init__(source, -1, peer=name, fresh=True, watches_readers=False)
        self._fresh = False  # somebody has come
        self._is_orderly = False  # whether a close cuts nobody off
        self._listener: FifoListener | None = listener
        self._answers = answers  # an O_PATH descriptor
        self._on_write: Callable[[], object] | None = None
        self._look: Any = None
        self._looks = 0

    def transmit(self, data: bytes | memoryview) -> int:
        """Writes an answer; returns how many bytes were taken.

        Raises:
            BlockingIOError: There is no room, or nobody reads the answers yet.
            BrokenPipeError: The reader of the answers has left, or there can be none.
        """
        if self._answers < 0 and self._output < 0:
            self._is_orderly = True  # the refused write is no reason to cut the writers off
            return super().transmit(data)
        while self._output >= 0 or self._open_answers():
            try:
                return super().transmit(data)
            except BrokenPipeError:
                if self._answers < 0 or poll_descriptor(self._input) & GONE:
                    raise
                # Who reads has left, but who writes is still there: a shell, which may read again.
                self._close_output()
        if self._on_write is not None:
            self._look_later()
        raise BlockingIOError(errno.EAGAIN, "nobody reads the answers yet")

    def _open_answers(self) -> bool:
        try:
            self._output = os.open(f"/proc/self/fd/{self._answers}", WRITE_FIFO)
        except OSError as error:
            if error.errno not in _NOT_YET:
                raise
            return False
        return True

    def watch_write(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub while something can be transmitted."""
        self._on_write = callback
        self._looks = 0
        if self._output < 0 <= self._answers:
            self._look_later()
        else:
            super().watch_write(callback)

    def unwatch_write(self) -> None:
        """Ends it."""
        self._on_write = None
        self._stop_looking()
        super().unwatch_write()

    def _look_later(self) -> None:
        if self._look is None:
            pause = _LOOKS[min(self._looks, len(_LOOKS) - 1)]
            self._looks += 1
            self._look = gevent.get_hub().loop.timer(pause)
            self._look.start(self._look_for_reader)

    def _look_for_reader(self) -> None:
        self._stop_looking()
        callback = self._on_write
        if callback is None:
            return
        try:
            if self._output < 0 and not self._open_answers():
                self._look_later()
                return
        except OSError:
            callback()  # its transmit meets the error, too
            return
        self._looks = 0
        super().watch_write(callback)

    def _stop_looking(self) -> None:
        look, self._look = self._look, None
        if look is not None:
            look.close()

    def finish(self) -> None:
        """An orderly close follows: those who still write are the next session's."""
        self._is_orderly = True

    def shutdown_write(self) -> None:
        """Lets the reader of the answers see their end."""
        answers = self._answers
        if answers < 0:
            return
        if self._output < 0:
            # A reader to whom nobody has written yet is told of no end: there has to be a writer
            # that leaves.
            self._open_quietly()
        self._answers = -1
        close_quietly(answers)
        super().shutdown_write()

    def _open_quietly(self) -> None:
        try:
            self._open_answers()
        except OSError as error:
            logger.debug("%s: the end was not told: %s", self._peer, error.strerror)

    def _release(self, source: int, output: int, forked: bool) -> None:
        self._stop_looking()
        self._on_write = None
        answers, self._answers = self._answers, -1
        if answers >= 0 and output < 0 and not forked:
            self._answers = answers
            self._open_quietly()
            output, self._output, self._answers = self._output, -1, -1
        for descriptor in (output, answers):
            if descriptor >= 0:
                close_quietly(descriptor)
        listener, self._listener = self._listener, None
        if listener is None or forked:
            close_quietly(source)
        else:
            keeps = self._is_orderly or self._has_ended or bool(poll_descriptor(source) & GONE)
            listener.session_over(source, keeps)


class FifoListener:
    """Listens to a FIFO; made by :func:`listen_fifo`.

    One session of writers is there at a time. Between two, nothing that was written is lost: the
    FIFO is opened anew before it is closed. Only a session that is cut off for an error (a line
    over the limit, say) takes with it what its writers have written; they get EPIPE.
    """

    __slots__ = (
        "_address",
        "_answers",
        "_callback",
        "_files",
        "_input",
        "_is_open",
        "_made",
        "_reader",
        "_said",
        "_session",
        "_timer",
        "_tries",
    )

    port = 0

    def __init__(self, address: Address, files: list[int], made: list[str], source: int) -> None:
        self._address = address
        self._files = files  # O_PATH descriptors: of the FIFO, and of the one for answers
        self._made = [(path, file_identity(path)) for path in made]
        self._input = source  # -1 while there is a session
        self._session: FifoSession | None = None
        self._callback: Callable[[], object] | None = None
        self._reader: Any = None
        self._timer: Any = None  # runs while the FIFO cannot be opened
        self._tries = 0
        self._said = False
        self._is_open = True
        REGISTRY.descriptors.add(self)

    def __repr__(self) -> str:
        return f"<FifoListener {self.local or 'closed'}>"

    @property
    def local(self) -> str:
        """The address that is listened to; empty when closed."""
        return printable(str(self._address)) if self._is_open else ""

    def fileno(self) -> int:
        """A descriptor of the file, open as long as this is; -1 when closed."""
        return self._files[0] if self._files else -1

    def accept(self) -> FifoSession:
        """Takes the writers once they have written; raises ``BlockingIOError`` before that."""
        if self._input >= 0 and self._session is None:
            events = poll_descriptor(self._input)
            if events & select.POLLIN:
                return self._begin()
            if events & GONE:
                self._renew()  # they have left without a word
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _begin(self) -> FifoSession:
        answers = os.dup(self._files[1]) if len(self._files) > 1 else -1
        self._stop_watching()
        self._stop_timer()
        source, self._input = self._input, -1
        self._session = FifoSession(self, source, answers, self.local)
        return self._session

    def session_over(self, source: int, keeps: bool) -> None:
        """Called when a session is closed.

        Args:
            source: Its descriptor.
            keeps: Whether what else was written is for the next session.
        """
        self._session = None
        if not self._is_open:
            close_quietly(source)
        elif keeps:
            self._input = source
            self._renew()
        else:
            close_quietly(source)
            self._try_later()  # a writer that waits for room must find that there is no reader

    def _renew(self) -> None:
        """Opens the FIFO, and closes it only then: what was written meanwhile stays."""
        self._stop_watching()
        try:
            source = _reopen(self._files[0], READ_FIFO)
        except OSError as error:
            if not self._said:
                self._said = True
                logger.warning("%s: not opened again yet: %s", self.local, error.strerror)
            self._try_later()
            return
        former, self._input = self._input, source
        if former >= 0:
            close_quietly(former)
        self._tries = 0
        self._said = False
        if self._callback is not None:
            self.watch_read(self._callback)

    def _try_later(self) -> None:
        self._stop_timer()
        pause = limits.ACCEPT_PAUSES[min(self._tries, len(limits.ACCEPT_PAUSES) - 1)]
        self._tries += 1
        self._timer = gevent.get_hub().loop.timer(pause)
        self._timer.start(self._try_again)

    def _try_again(self) -> None:
        self._stop_timer()
        self._renew()
        # If that has failed, the writers can still be heard through the former descriptor.
        if self._timer is not None and self._callback is not None and self._has_input():
            self._callback()

    def _has_input(self) -> bool:
        return self._input >= 0 and bool(poll_descriptor(self._input) & select.POLLIN)

    def watch_read(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub while there may be a session to accept."""
        self._callback = callback
        if self._input >= 0 and self._timer is None:
            if self._reader is None:
                self._reader = io_watcher(self._input, READ)
            self._reader.start(callback)

    def unwatch_read(self) -> None:
        """Ends it."""
        self._callback = None
        if self._reader is not None:
            self._reader.stop()

    def _stop_watching(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.close()

    def close(self) -> None:
        """Removes the FIFOs that it has made, then closes. A session goes on. Idempotent."""
        for path, identity in self._made:
            if identity is not None and file_identity(path) == identity:
                _unlink(path)
        self.abandon()

    def abandon(self) -> None:
        """Closes a forked child's copies; the files stay, for they are the parent's."""
        self._made = []
        self._callback = None
        self._is_open = False
        self._stop_watching()
        self._stop_timer()
        REGISTRY.descriptors.discard(self)
        source, self._input = self._input, -1
        files, self._files = self._files, []
        for descriptor in (source, *files):
            if descriptor >= 0:
                close_quietly(descriptor)


def listen_fifo(address: Address, mode: int | None, group: str | int | None) -> FifoListener:
    """Opens a FIFO for reading; it is made when it is missing, and so is the one for answers.

    Args:
        mode: The mode of the files, those that are there already included; new ones have 0600 by
            default, or 0660 with a group.
        group: The group of the files.

    Raises:
        ListenError: It names the address, the path and the reason.
    """
    number = -1 if group is None else group_number(address, group)
    files: list[int] = []
    made: list[str] = []
    try:
        for path in filter(None, (address.path, address.second_path)):
            found, is_new = _take_file(address, os.path.abspath(path), mode, number)
            files.append(found)
            if is_new:
                made.append(os.path.abspath(path))
        if len(files) > 1 and os.path.samestat(os.fstat(files[0]), os.fstat(files[1])):
            raise ListenError(f"{address}: requests and answers need a FIFO each", errno.EINVAL)
        if _has_reader(files[0]):
            raise ListenError(f"{address}: somebody reads it already", errno.EADDRINUSE)
        return FifoListener(address, files, made, _reopen(files[0], READ_FIFO))
    except BaseException as error:
        for path in made:
            _unlink(path)
        for descriptor in files:
            os.close(descriptor)
        if isinstance(error, OSError) and not isinstance(error, ListenError):
            reason = f"{address}: {address.path}: {error.strerror}"
            raise ListenError(reason, error.errno) from error
        raise


def _take_file(address: Address, path: str, mode: int | None, group: int) -> tuple[int, bool]:
    """Makes a FIFO unless there is one; returns an O_PATH descriptor, and whether it is new."""
    try:
        is_new = _make(path)
        # What is chmodded is what was made, whatever becomes of the path meanwhile.
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if is_new else 0))
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISFIFO(found.st_mode) or (is_new and found.st_uid != os.geteuid()):
                raise ListenError(f"{address}: {path} is no FIFO", errno.EADDRINUSE)
            if group >= 0:
                os.chown(f"/proc/self/fd/{descriptor}", -1, group)
            if is_new or mode is not None:
                usual = limits.UNIX_SOCKET_MODE if group < 0 else limits.UNIX_GROUP_SOCKET_MODE
                os.chmod(f"/proc/self/fd/{descriptor}", usual if mode is None else mode)
            return descriptor, is_new
        except BaseException:
            os.close(descriptor)
            if is_new:
                _unlink(path)
            raise
    except ListenError:
        raise
    except OSError as error:
        raise ListenError(f"{address}: {path}: {error.strerror}", error.errno) from error


def _make(path: str) -> bool:
    try:
        os.mkfifo(path, 0)  # nobody can open it until it has its mode
    except FileExistsError:
        return False
    return True


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        logger.warning("fifo:%s: not removed: %s", path, error.strerror)


def _reopen(descriptor: int, flags: int) -> int:
    """Opens what an O_PATH descriptor stands for (man 5 proc, /proc/pid/fd)."""
    return os.open(f"/proc/self/fd/{descriptor}", flags)


def _has_reader(descriptor: int) -> bool:
    try:
        os.close(_reopen(descriptor, WRITE_FIFO))
    except OSError:
        return False  # ENXIO; or it may not be written to, and nobody can tell
    return True
