"""What the processes of this machine do, as the kernel's process connector tells it."""

from __future__ import annotations

import _socket
import errno
import os
from collections.abc import Callable, Iterable
from typing import Any, Final, get_args

from .. import limits
from ..errors import ListenError, UsageError
from ..runtime.guards import REGISTRY
from ..runtime.watchers import READ, io_watcher
from .connector import (
    CN_IDX_PROC,
    IGNORE,
    LISTEN,
    NETLINK_CONNECTOR,
    Acknowledgement,
    ProcessEvent,
    ProcessEventKind,
    pack_operation,
    parse_events,
)
from .queued import QueuedSource

_KINDS: Final = get_args(ProcessEventKind)
_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h
_READS_PER_POLL: Final = 256
_DATAGRAM: Final = 8192
_NO_ANSWER: Final = (
    "the kernel does not answer: it tells only processes of the initial pid and user namespaces"
)


class ProcessEvents(QueuedSource):
    """Says what any process of this machine does: it forks, executes a program, ends ...

    Before Linux 6.6 the kernel tells only who has CAP_NET_ADMIN; in other namespaces than the
    initial ones (user, pid, network) it tells nobody. When events are not taken as
    fast as they come, it drops some and says so: ``lost-sync`` takes their place.

    Args:
        callback: Called with each :class:`~edgevent.ProcessEvent`; :meth:`process_event` may be
            overridden instead.
        kinds: The kinds of events that are wanted; all by default. ``lost-sync`` comes always.
        threads: Whether what threads do is told as well as what processes do.
        buffer_bytes: The size of the kernel's queue.

    Raises:
        ListenError: The kernel does not tell: a right is missing, or it has no process connector.
        UsageError: There is no such kind, or the callback is none.
    """

    __slots__ = ("_kinds", "_reader", "_socket", "_threads")

    def __init__(
        self,
        callback: Callable[[ProcessEvent], Any] | None = None,
        *,
        kinds: Iterable[ProcessEventKind] = _KINDS,
        threads: bool = False,
        buffer_bytes: int = limits.PROCESS_EVENTS_BYTES,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
    ) -> None:
        super().__init__(
            callback,
            has_hook=type(self).process_event is not ProcessEvents.process_event,
            name=name,
            priority=priority,
            keep_running=keep_running,
        )
        self._kinds = frozenset((kinds,) if isinstance(kinds, str) else kinds)
        for kind in self._kinds:
            if kind not in _KINDS:
                raise UsageError(f"{kind!r} is no kind of event: {', '.join(_KINDS)} were expected")
        self._threads = threads
        self._reader: Any = None
        self._socket = _open(buffer_bytes)
        try:
            self._begin()
        except BaseException:
            self._socket.close()
            raise
        self._reader = io_watcher(self._socket.fileno(), READ)
        REGISTRY.descriptors.add(self)

    def process_event(self, event: ProcessEvent) -> None:
        """Called in a turn with each event; calls the callback."""
        if self._callback is not None:
            self._callback(event)

    def handle(self, event: ProcessEvent) -> None:
        """Calls the hook, and reads on when there is room again."""
        if len(self._events) <= self.max_events // 2:
            self._watch()
        self.call_hook(self.process_event, event)

    # --- the socket -------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Asks the kernel to tell; its answer is there when the question has been sent."""
        try:
            self._socket.send(pack_operation(LISTEN, 1))
            while True:
                data, sender = self._socket.recvfrom(_DATAGRAM)
                if sender[0] != 0:
                    continue
                for found in parse_events(data):
                    if isinstance(found, Acknowledgement):
                        if found.error:
                            raise _refused(found.error)
                        return
                    self._take(found)
        except BlockingIOError:
            raise ListenError(f"process events: {_NO_ANSWER}", errno.EAGAIN) from None
        except OSError as error:
            if isinstance(error, ListenError):
                raise
            raise _refused(error.errno or 0) from error

    def _enabled_changed(self, enabled: bool) -> None:
        if enabled:
            self._watch()
        else:
            self._unwatch()

    def _watch(self) -> None:
        reader = self._reader
        if reader is None or reader.active or self._draining:
            return
        if self._enabled and self._communicator is not None:
            reader.start(self._readable)

    def _unwatch(self) -> None:
        if self._reader is not None:
            self._reader.stop()

    def _readable(self) -> None:
        try:
            for _ in range(_READS_PER_POLL):
                if len(self._events) >= self.max_events:
                    # The kernel's queue is next to fill; then it says that it has dropped some.
                    self._unwatch()
                    return
                try:
                    data, sender = self._socket.recvfrom(_DATAGRAM)
                except BlockingIOError:
                    return
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    self._put(ProcessEvent("lost-sync"))
                    continue
                if sender[0] != 0:  # not from the kernel
                    continue
                for found in parse_events(data):
                    if isinstance(found, ProcessEvent):
                        self._take(found)
        except BaseException as error:  # gevent would stop the watcher without a word
            self._turns.failed(error)

    def _take(self, event: ProcessEvent) -> None:
        if event.kind == "lost-sync" or (
            event.kind in self._kinds and (self._threads or not event.is_thread)
        ):
            self._put(event)

    def _stop_listening(self) -> None:
        if self._reader is None:
            return
        self._reader.close()
        self._reader = None
        REGISTRY.descriptors.discard(self)
        # Kernels before 6.6 count the listeners, and count this one until it says so.
        try:
            self._socket.send(pack_operation(IGNORE, 2))
        except OSError:
            pass
        self._socket.close()

    def abandon(self) -> None:
        """Closes a forked child's copy of the socket."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
            self._socket.close()


def _open(buffer_bytes: int) -> _socket.socket:
    kind = _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
    try:
        found = _socket.socket(_socket.AF_NETLINK, kind, NETLINK_CONNECTOR)
    except OSError as error:
        raise _refused(error.errno or 0) from error
    try:
        try:
            found.setsockopt(_socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer_bytes)
        except PermissionError:
            found.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, buffer_bytes)
        found.bind((0, CN_IDX_PROC))
    except OSError as error:
        found.close()
        raise _refused(error.errno or 0) from error
    return found


def _refused(number: int) -> ListenError:
    if number in (errno.EPERM, errno.EACCES):
        reason = "CAP_NET_ADMIN is needed"
    elif number in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
        reason = "the kernel has no process connector here (CONFIG_PROC_EVENTS, or the namespace)"
    elif number == errno.ECONNREFUSED:
        reason = "no process connector answers: not in the kernel, or another network namespace"
    else:
        reason = os.strerror(number)
    return ListenError(f"process events: {reason}", number)
