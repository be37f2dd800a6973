"""Pipes, FIFOs, terminals and files: what has a descriptor and is no socket."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from typing import Any, Final

import gevent
from gevent.monkey import get_original

from ..runtime.guards import REGISTRY
from ..runtime.watchers import READ, WRITE, io_watcher
from .base import Credentials, close_quietly, count_in_flight

_poll: Final = get_original("select", "poll")

GONE: Final = select.POLLHUP | select.POLLERR
"""What a poll says of a pipe's end to which there is no other end any more."""


def poll_descriptor(descriptor: int) -> int:
    """Asks the kernel for ``POLLIN`` and for what comes unasked, without a wait."""
    poller = _poll()
    poller.register(descriptor, select.POLLIN)
    found = poller.poll(0)
    return int(found[0][1]) if found else 0


class FdTransport:
    """A stream of bytes over one or two descriptors, both owned from now on.

    They are non-blocking, or always ready, as regular files are: epoll refuses those (EPERM), and
    libev then calls at each turn of the loop, so that a file is read to its end and no further.
    Reading from a slow disk blocks the whole process.

    Args:
        read_fd: What is read from, or -1.
        write_fd: What is written to, or -1; it may be the same.
        peer: The other side, as text.
        local: This side, as text; the same by default.
        fresh: Whether ``read_fd`` is a FIFO, to which nobody may have come yet: reading it gives
            ``b""`` although that is not the end.
        watches_readers: Whether the end of all readers of ``write_fd`` is the end of the stream
            when there is nothing to read from.
        on_close: Called once when the descriptors are about to be closed, with whether that is in
            a forked child.
    """

    __slots__ = (
        "_fresh",
        "_has_ended",
        "_input",
        "_is_open",
        "_local",
        "_on_close",
        "_on_read",
        "_output",
        "_peer",
        "_poll",
        "_polls",
        "_reader",
        "_readers_watcher",
        "_settled",
        "_watches_readers",
        "_writer",
    )

    is_local = True
    keeps_records = False
    is_datagram = False
    credentials: Credentials | None = None
    groups: frozenset[int] = frozenset()

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        *,
        peer: str,
        local: str | None = None,
        fresh: bool = False,
        watches_readers: bool = True,
        on_close: Callable[[bool], object] | None = None,
    ) -> None:
        self._input = read_fd
        self._output = write_fd
        self._peer = peer
        self._local = peer if local is None else local
        self._is_open = True
        self._has_ended = False
        self._fresh = fresh  # whether nobody has come yet, for all that is known
        self._settled = not fresh  # whether the kernel will tell when the last writer has left
        self._watches_readers = watches_readers and (fresh or read_fd < 0)
        self._on_close = on_close
        self._on_read: Callable[[], object] | None = None
        self._polls = False  # whether there is something to receive that no watcher tells of
        self._poll: Any = None
        self._reader: Any = None
        self._readers_watcher: Any = None
        self._writer: Any = None
        REGISTRY.descriptors.add(self)

    def __repr__(self) -> str:
        state = "open" if self._is_open else "closed"
        return f"<{type(self).__name__} {self._peer} {state}>"

    def fileno(self) -> int:
        """The descriptor that is read from, or else the one that is written to; -1 when closed."""
        return self._input if self._input >= 0 else self._output

    @property
    def is_write_only(self) -> bool:
        """Whether nothing can ever come from the other side."""
        return self._input < 0 <= self._output

    @property
    def peer(self) -> str:
        """The other side."""
        return self._peer

    @property
    def local(self) -> str:
        """This side."""
        return self._local

    # --- receiving --------------------------------------------------------------------------------

    def receive(self, size: int) -> bytes:
        """Returns what is there, ``size`` bytes at the most; ``b""`` at the end.

        The end of what can only be written to is that nobody reads it any more.

        Raises:
            BlockingIOError: Nothing is there.
        """
        if self._has_ended or self._input < 0:
            self._check_open()
            data = b""
        else:
            try:
                data = os.read(self._input, size)
            except BlockingIOError:
                self._settle()
                raise
            except OSError as error:
                # The master of a pty whose slave was closed says so (Linux, n_tty_read).
                if error.errno != errno.EIO or not os.isatty(self._input):
                    raise
                data = b""
        if data:
            self._fresh = False
            if not self._settled:
                # A FIFO that was opened when its writers had left never says that they have.
                self._polls = True
                self._arm()
            return data
        if not (self._has_ended or self._is_over()):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._end()
        return b""

    def _is_over(self) -> bool:
        """Whether reading nothing means that nothing will come."""
        if self._input >= 0 and (not self._fresh or poll_descriptor(self._input) & GONE):
            return True
        return self._watches_readers and self._has_no_reader()

    def _has_no_reader(self) -> bool:
        return self._output >= 0 and bool(poll_descriptor(self._output) & GONE)

    def _settle(self) -> None:
        """There is a writer: from now on the kernel tells when the last one has left."""
        if not self._settled:
            self._settled = True
            self._fresh = self._polls = False
            self._watches_readers = False
            self._unwatch_readers()

    def _end(self) -> None:
        self._has_ended = True
        if not self._settled or self._input < 0:
            self._polls = True
            self._arm()

    def watch_read(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub while there is something to receive, or at the end."""
        self._on_read = callback
        if self._input >= 0:
            if self._reader is None:
                self._reader = io_watcher(self._input, READ)
            self._reader.start(callback)
        if self._watches_readers and self._output >= 0:
            if self._readers_watcher is None:
                # A pipe that can only be written to is never readable; libev reports its POLLERR.
                self._readers_watcher = io_watcher(self._output, READ)
            self._readers_watcher.start(callback)
        self._arm()

    def unwatch_read(self) -> None:
        """Ends it."""
        self._on_read = None
        for watcher in (self._reader, self._readers_watcher):
            if watcher is not None:
                watcher.stop()

    def _unwatch_readers(self) -> None:
        watcher, self._readers_watcher = self._readers_watcher, None
        if watcher is not None:
            watcher.close()

    def _arm(self) -> None:
        """Calls back soon for what no watcher tells of."""
        if self._polls and self._on_read is not None and self._poll is None:
            self._poll = gevent.get_hub().loop.timer(0.0)
            self._poll.start(self._call)

    def _call(self) -> None:
        self._stop_poll()
        callback = self._on_read
        if callback is not None and self._polls:
            self._polls = self._has_ended
            callback()
            self._arm()

    def _stop_poll(self) -> None:
        poll, self._poll = self._poll, None
        if poll is not None:
            poll.close()

    # --- sending ----------------------------------------------------------------------------------

    def transmit(self, data: bytes | memoryview) -> int:
        """Writes; returns how many bytes were taken.

        Raises:
            BlockingIOError: There is no room.
            BrokenPipeError: Nobody reads any more, or this side cannot write.
        """
        if self._output < 0:
            self._check_open()
            raise BrokenPipeError(errno.EPIPE, "this side only reads it")
        return os.write(self._output, data)

    def watch_write(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub while something can be transmitted."""
        if self._output >= 0:
            if self._writer is None:
                self._writer = io_watcher(self._output, WRITE)
            self._writer.start(callback)

    def unwatch_write(self) -> None:
        """Ends it."""
        if self._writer is not None:
            self._writer.stop()

    def _check_open(self) -> None:
        if not self._is_open:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    # --- the end ----------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """How many bytes the kernel has taken and the other side has not."""
        return count_in_flight(self._output)

    def finish(self) -> None:
        """The end of a plain stream needs no mark."""

    def shutdown_write(self) -> None:
        """Lets the other side see the end of the stream; this side can still receive.

        With one descriptor for both directions the other side sees nothing of it.
        """
        if self._output >= 0:
            self._close_output()
            if self._input < 0:
                self._end()

    def _close_output(self) -> None:
        self._unwatch_readers()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        output, self._output = self._output, -1
        if output != self._input:
            close_quietly(output)

    def close(self) -> None:
        """Ends the watchers, then closes the descriptors. Idempotent."""
        self._close(forked=False)

    def abandon(self) -> None:
        """Closes a forked child's copies of the descriptors."""
        self._close(forked=True)

    def _close(self, *, forked: bool) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._on_read = None
        self._polls = False
        self._stop_poll()
        self._unwatch_readers()
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.close()
        self._reader = self._writer = None
        REGISTRY.descriptors.discard(self)
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(forked)
        source, output = self._input, self._output
        self._input = self._output = -1
        self._release(source, output, forked)

    def _release(self, source: int, output: int, forked: bool) -> None:
        """Closes what is open of the two."""
        if output >= 0 and output != source:
            close_quietly(output)
        if source >= 0:
            close_quietly(source)
