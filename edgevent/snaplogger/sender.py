"""The thread that sends log records, and what the handlers hand to it.

Why a thread of the system's, and not a greenlet: it sends while the program's hub does not run, in
programs that have none, for records of any thread, and in a program that gevent has patched. What
logs does no more than to put an entry into a queue.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Final

from gevent.monkey import get_original

from .. import limits
from ..log_text import escape
from ..runtime.guards import REGISTRY
from ..runtime.native import Lock, allocate_lock, get_ident
from ..sources.native_threads import start_thread
from .entries import Entry, Ledger
from .way import NEVER, POLLIN, Way

_poll: Final = get_original("select", "poll")
_sleep: Final[Callable[[float], None]] = get_original("time", "sleep")
_close: Final[Callable[[int], None]] = get_original("os", "close")

# After a record the thread looks by itself for more, a few times: to wake it costs who logs 30 us.
_LINGER: Final = 0.005
_LINGERS: Final = 2
_MOST_POLL: Final = 3600.0
_OVERHEAD: Final = 500  # what an entry takes beside its text

MakeWay = Callable[[Ledger], Way]
"""Makes the way to the server."""


class LogSender:
    """Sends entries in a thread of its own, which runs from the first entry until :meth:`close`.

    What does not fit into the queue is refused; what never arrives is counted, and logged at the
    server when that is there again.

    Args:
        target: The server's address, for sentences.
        make_way: Makes the way to it.
        max_records: The most entries that wait, or have no answer.
        max_bytes: The most bytes of them.
        complain: Tells the user of a server that is away, and of losses.
        fallback: Gives the handler of records while the server is away, or ``None``.

    Attributes:
        lost: How many entries were given up.
        last_loss: Why the last one of them was.
    """

    def __init__(
        self,
        target: str,
        make_way: MakeWay,
        *,
        max_records: int,
        max_bytes: int,
        complain: Callable[[str], None],
        fallback: Callable[[], logging.Handler | None] | None = None,
    ) -> None:
        self._target = target
        self._make_way = make_way
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._complain = complain
        self._fallback = fallback
        self._told: dict[str, float] = {}
        self._is_closed = False
        self._reset()

    def _reset(self) -> None:
        # Each of these numbers is changed by one side alone; nobody waits for a lock.
        self._put_records = self._put_bytes = 0
        self._done_records = self._done_bytes = 0
        self._last = 0  # the number of the last entry that was put
        self._inbox: deque[Entry] = deque()
        self._waiters: deque[tuple[int, Lock]] = deque()
        self._bell = -1
        self._ended: Lock | None = None  # held while the thread runs
        self._is_asleep = False
        self._is_closing = False
        self._deadline = NEVER
        self._thread = self._native_id = 0
        self._is_away = False
        self.lost = 0
        self._missed = 0
        self.last_loss = ""
        self._instance = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._ledger = Ledger(self._instance, self._settled, self._lose)
        self._way: Way | None = None

    # --- from any thread --------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many entries have neither arrived nor been given up."""
        return self._put_records - self._done_records

    @property
    def has_fallback(self) -> bool:
        """Whether records are given to another handler while the server is away."""
        return self._fallback is not None

    @property
    def is_in_thread(self) -> bool:
        """Whether the caller is the sender's own thread."""
        return self._thread == get_ident()

    @property
    def is_away(self) -> bool:
        """Whether the server was not there when it was last tried."""
        return self._is_away

    @property
    def trouble(self) -> str:
        """Why entries wait, for a sentence."""
        way = self._way
        return way.trouble if way is not None else "there is no connection yet"

    def has_room(self, size: int) -> bool:
        """Whether an entry of so many bytes of text may be put."""
        return (
            self._put_records - self._done_records < self._max_records
            and self._put_bytes - self._done_bytes + size + _OVERHEAD <= self._max_bytes
        )

    def put(self, entry: Entry) -> None:
        """Takes an entry; the caller holds the handler's lock. Switches nothing, waits for nothing.

        Raises:
            ThreadStartError: The system has no thread for it.
            OSError: It has no descriptor for it.
        """
        if self._is_closed:
            raise OSError(errno.EBADF, "it is closed")
        if self._ended is None:
            self._start()
        entry.size += _OVERHEAD
        self._put_records += 1
        self._put_bytes += entry.size
        self._last = entry.number
        self._inbox.append(entry)
        if self._is_asleep:
            self._ring()

    def show(self, entry: Entry) -> None:
        """Takes an entry that is lost to the server, for the other handler alone."""
        if self._ended is not None and len(self._inbox) < 2 * self._max_records:
            entry.serial = -1
            self._inbox.append(entry)
            if self._is_asleep:
                self._ring()

    def flush(self, timeout: float) -> bool:
        """Waits until what was put has arrived or is lost. Blocks the whole thread.

        Args:
            timeout: The limit in seconds.

        Returns:
            Whether nothing of it waits any longer.
        """
        if self._ended is None or self.is_in_thread:
            return not self.waiting
        lock = allocate_lock()
        lock.acquire()
        waiter = self._last, lock
        self._waiters.append(waiter)
        self._ring()
        if lock.acquire(True, max(timeout, 0.0)):
            return True
        try:
            self._waiters.remove(waiter)
        except ValueError:  # the thread has it in its hands, and wakes nobody
            pass
        return False

    def close(self, timeout: float) -> None:
        """Sends what waits, and ends the thread; what is left then is lost.

        Args:
            timeout: The limit in seconds. Of a server that is away it only waits to see that.
        """
        self._is_closed = True
        ended = self._ended
        if ended is None:
            return
        self._deadline = time.monotonic() + timeout
        self._is_closing = True
        self._ring()
        # Past its limit it waits for nothing but the look-up of a name, which cannot be ended.
        if not self.is_in_thread and ended.acquire(True, timeout + limits.LOG_WAIT):
            self._forget_thread()
            self._join()

    def _join(self) -> None:
        """Waits until the thread is gone, which takes some 0.1 ms.

        What a thread has of C libraries ends with it, beside the interpreter's lock: greenlet's
        part of it, where a debugger or a measurement of coverage has made one, must not meet the
        garbage collector.
        """
        end = time.monotonic() + limits.LOG_WAIT
        while os.path.exists(f"/proc/self/task/{self._native_id}") and time.monotonic() < end:
            _sleep(0.0002)

    def abandon(self) -> None:
        """Lets go of all in a forked child: what waits is the parent's, which sends it."""
        if self._way is not None:
            self._way.abandon()
        if self._bell >= 0:
            _close(self._bell)
        self._reset()

    def _start(self) -> None:
        bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        ended = allocate_lock()
        ended.acquire()
        self._bell, self._ended = bell, ended
        try:
            start_thread(lambda: self._run(ended))
        except BaseException:
            self._forget_thread()
            raise
        REGISTRY.descriptors.add(self)

    def _forget_thread(self) -> None:
        """Has the next entry start another one."""
        REGISTRY.descriptors.discard(self)
        bell, self._bell, self._ended = self._bell, -1, None
        _close(bell)

    def _ring(self) -> None:
        try:
            os.eventfd_write(self._bell, 1)
        except (OSError, ValueError):  # the thread has failed meanwhile
            pass

    # --- in the thread ----------------------------------------------------------------------------

    def _run(self, ended: Lock) -> None:
        self._thread = get_ident()
        self._native_id = threading.get_native_id()
        try:
            if self._way is None:
                self._way = self._make_way(self._ledger)
            self._work(self._way)
            self._give_up(self._way)
        except BaseException:  # a defect, which must not be silent, nor end all sending
            self._complain(f"{self._target}: sending has failed:\n{traceback.format_exc()}")
            way, self._way = self._way, None
            if way is not None:
                way.abandon()
            self._ledger.again()
            self._forget_thread()
        finally:
            if self.is_in_thread:  # after a failure the next one may run already
                self._thread = 0
            ended.release()

    def _work(self, way: Way) -> None:
        ready, was_away, lingers, hurries = 0, False, 0, False
        while True:
            lingers = _LINGERS if self._take() else lingers - (not ready)
            if self._is_closing and not hurries:
                hurries = True
                way.hurry()
            way.work(ready)
            if way.is_away != was_away:
                self._is_away = was_away = way.is_away
                if was_away:
                    self._fall_back(way)
            if self._missed and not was_away and way.descriptor >= 0:
                self._tell_losses()
                continue
            self._wake_waiters()
            if hurries and (was_away or not self._ledger or time.monotonic() >= self._deadline):
                return
            ready = self._sleep(way, lingers > 0)

    def _take(self) -> bool:
        """Takes what was put; returns whether there was something."""
        inbox, ledger = self._inbox, self._ledger
        took = bool(inbox)
        while inbox:
            entry = inbox.popleft()
            if entry.serial < 0:
                self._give(entry)
            else:
                ledger.add(entry)
                if self._is_away:
                    self._give(entry)
        return took

    def _sleep(self, way: Way, lingers: bool) -> int:
        poller = _poll()
        poller.register(self._bell, POLLIN)
        if way.descriptor >= 0:
            poller.register(way.descriptor, way.events)
        until = min(way.due, self._deadline)
        left = min(max(until - time.monotonic(), 0.0), _MOST_POLL)
        if lingers:
            left = min(left, _LINGER)
        else:
            self._is_asleep = True
            if self._inbox or self._is_closing:  # put before it was seen that this is asleep
                left = 0.0
        found = dict(poller.poll(left * 1000))
        self._is_asleep = False
        if self._bell in found:
            try:
                os.eventfd_read(self._bell)
            except OSError:
                pass
        return int(found.get(way.descriptor, 0))

    def _wake_waiters(self) -> None:
        while self._waiters:
            try:
                number, lock = self._waiters.popleft()
            except IndexError:  # it waits no longer
                return
            first = self._ledger.first or (self._inbox[0] if self._inbox else None)
            if first is not None and first.number <= number:
                self._waiters.appendleft((number, lock))  # those behind it wait for more
                return
            lock.release()

    def _fall_back(self, way: Way) -> None:
        """The server is away: gives the other handler what waits, or says that it does."""
        if self._fallback is None:
            text = f"{way.trouble}: log records wait until it is there again"
            self._complain_once("away", text)
        for entry in self._ledger:
            self._give(entry)

    def _give(self, entry: Entry) -> None:
        record, entry.record = entry.record, None
        handler = self._fallback() if record is not None and self._fallback is not None else None
        if record is not None and handler is not None and record.levelno >= handler.level:
            try:
                handler.handle(record)
            except Exception as error:  # it is the user's, and must not end this thread
                self._complain_once("fallback", f"the handler to fall back to has failed: {error}")

    def _settled(self, entry: Entry) -> None:
        self._done_records += 1
        self._done_bytes += entry.size

    def _lose(self, entry: Entry, reason: str) -> None:
        self._settled(entry)
        if entry.number:  # else it told of losses
            self.last_loss = reason  # before the number, which another thread may look at
            self.lost += 1
            self._missed += 1
            self._complain_once(
                "lost", f"{reason}: log records are lost, and counted, until this ends"
            )
            self._give(entry)

    def _tell_losses(self) -> None:
        missed, self._missed = self._missed, 0
        text = f"{self._target}: {_count(missed)} lost: {self.last_loss}"
        parameters = {
            "severity": "warning",
            "timestamp": f"{time.time():.6f}",
            "message": escape(text),
        }
        self._done_records -= 1
        self._ledger.add(Entry(0, parameters, 0))

    def _give_up(self, way: Way) -> None:
        """Ends: what has not arrived is lost."""
        self._take()
        for entry in list(self._ledger):
            self._ledger.lose(entry, way.trouble)
        way.end()
        if self._missed:
            self._complain(f"{self._target}: {_count(self._missed)} lost: {self.last_loss}")
            self._missed = 0
        while self._waiters:
            self._waiters.popleft()[1].release()

    def _complain_once(self, what: str, text: str) -> None:
        now = time.monotonic()
        if now >= self._told.get(what, float("-inf")) + limits.LOG_INTERVAL:
            self._told[what] = now
            self._complain(f"{self._target}: {text}")


def _count(missed: int) -> str:
    return "1 log record was" if missed == 1 else f"{missed} log records were"
