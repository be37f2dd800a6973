"""The ends of children, as the loop collects them, for all that waits for one.

libev waits for all children of the process as soon as SIGCHLD comes (``waitpid(-1)``), and tells
its child watchers. One watcher of all children stands here for all of this package's; those of
``gevent.subprocess`` are told as well.
"""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

import gevent
from gevent.monkey import get_original

from ..errors import UsageError
from ..runtime.guards import REGISTRY
from ..runtime.signal_names import signal_name
from ..runtime.turns import Turns

ChildEventKind = Literal["exit", "kill", "stop", "continue", "collected"]
"""What became of a child."""

_close: Final = get_original("os", "close")
_waitpid: Final = get_original("os", "waitpid")
_poll: Final = get_original("select", "poll")

_STUCK: Final = 1.0  # for so long a killed process is waited for; longer ones are in the kernel

# So long after a child has ended it is looked whether others were collected by somebody else.
_LOOK_DELAY: Final = 0.1


class ChildUsage(NamedTuple):
    """What a child has used up, its own children that it waited for included (getrusage(2)).

    The times are in seconds; reads and writes are counted in blocks of 512 bytes.
    """

    user_time: float
    system_time: float
    minor_faults: int
    major_faults: int
    blocks_read: int
    blocks_written: int
    voluntary_switches: int
    involuntary_switches: int


@dataclass(frozen=True, slots=True)
class ChildEvent:
    """Something that has become of a child of this process.

    Attributes:
        pid: The child.
        kind: ``exit``, ``kill`` (by a signal), ``stop``, ``continue``; or ``collected``: it has
            ended, but somebody else has waited for it (``os.waitpid``), and knows how.
        exit_code: 0 to 255, of ``exit``.
        signal: The number of the signal that has killed or stopped it.
        core_dumped: Whether the kernel has written a core dump.
        usage: What it has used, of ``exit`` and ``kill``: the change of ``RUSAGE_CHILDREN`` since
            the end of another child was seen last.
        usage_is_exact: Whether that is this child's alone: no other child ended at the same time.
            (One that ended at the same time, but for which somebody else has waited, counts in.)
    """

    pid: int
    kind: ChildEventKind
    exit_code: int | None = None
    signal: int | None = None
    core_dumped: bool = False
    usage: ChildUsage | None = None
    usage_is_exact: bool = False

    @property
    def signal_name(self) -> str | None:
        """The name of the signal, such as ``SIGKILL``."""
        return None if self.signal is None else signal_name(self.signal)

    @property
    def is_end(self) -> bool:
        """Whether the child is no more."""
        return self.kind not in ("stop", "continue")

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative number of the signal, as ``subprocess`` has it."""
        if self.kind == "kill" and self.signal is not None:
            return -self.signal
        return self.exit_code

    def __str__(self) -> str:
        if self.kind == "exit":
            return f"child {self.pid} ended with exit code {self.exit_code}"
        if self.kind == "kill":
            dumped = " (core dumped)" if self.core_dumped else ""
            return f"child {self.pid} was killed by {self.signal_name}{dumped}"
        if self.kind == "stop":
            return f"child {self.pid} was stopped by {self.signal_name}"
        if self.kind == "continue":
            return f"child {self.pid} goes on"
        return f"child {self.pid} ended, and somebody else has waited for it"


class Listener(Protocol):
    """What is told of children."""

    def child_changed(self, event: ChildEvent, /) -> None:
        """Called in the hub; must not block or raise."""


def _usage_so_far() -> tuple[float, ...]:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        found.ru_utime,
        found.ru_stime,
        found.ru_minflt,
        found.ru_majflt,
        found.ru_inblock,
        found.ru_oublock,
        found.ru_nvcsw,
        found.ru_nivcsw,
    )


def wait_for_end(pid: int) -> None:
    """Waits, for a second at the most, until a child that was killed has ended; blocks the process.

    The child is not collected.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError:  # no more descriptors, or a kernel before Linux 5.3
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return
    try:
        poller = _poll()
        poller.register(descriptor)
        poller.poll(_STUCK * 1000)
    finally:
        _close(descriptor)


def has_ended(kind: int, pid: int) -> bool:
    """Whether such a child has ended and nobody has waited for it; see waitid(2).

    Raises:
        ChildProcessError: There is no such child.
    """
    found = os.waitid(kind, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found is not None


class Reaper:
    """Tells all listeners of this process what becomes of its children.

    It exists while somebody listens. Made by :meth:`current`, in the main thread only.
    """

    _current: Reaper | None = None

    def __init__(self) -> None:
        self._turns = Turns.current()
        self._all: dict[Listener, None] = {}
        self._by_pid: dict[int, list[Listener]] = {}
        self._seen: list[tuple[int, int, tuple[float, ...]]] = []
        self._armed = False
        self._users = 0
        loop = self._turns.loop
        # None of them is referenced: the communicator keeps the loop, or who waits for an end.
        self._children: Any = loop.child(0, trace=True, ref=False)
        self._signals: Any = loop.signal(signal.SIGCHLD, ref=False)
        self._look: Any = loop.timer(_LOOK_DELAY, ref=False)
        self._last = _usage_so_far()
        self._children.start(self._child_changed)
        self._signals.start(self._signalled)
        REGISTRY.descriptors.add(self)

    @classmethod
    def current(cls) -> Reaper:
        """Returns the one of this process.

        Raises:
            UsageError: The thread is not the main one: only there does the loop see children.
        """
        if not gevent.get_hub().loop.default:
            raise UsageError("children can be watched in the main thread only")
        found = cls._current
        if found is None or found._turns is not Turns.current():
            found = cls._current = cls()
        return found

    def open(self) -> None:
        """Stays until :meth:`close` has been called as often, though nobody listens."""
        self._users += 1

    def close(self) -> None:
        """See :meth:`open`."""
        self._users -= 1
        self._end_unused()

    def _end_unused(self) -> None:
        if not (self._users or self._all or self._by_pid) and Reaper._current is self:
            self._stop()

    def _stop(self) -> None:
        Reaper._current = None
        REGISTRY.descriptors.discard(self)
        for watcher in (self._children, self._signals, self._look):
            watcher.close()

    def abandon(self) -> None:
        """Ends it in a forked child: the children are the parent's."""
        self._all.clear()
        self._by_pid.clear()
        self._stop()

    # --- listeners --------------------------------------------------------------------------------

    def add(self, listener: Listener, pid: int | None) -> None:
        """Tells a listener of one child, or of all, from now on; of one that has ended, too.

        Raises:
            UsageError: There is no such child.
        """
        try:
            ended = has_ended(os.P_ALL, 0) if pid is None else has_ended(os.P_PID, pid)
        except ChildProcessError:
            if pid is not None:
                self._end_unused()
                raise UsageError(
                    f"process {pid} is no child of this process, or its end was told already"
                ) from None
            ended = False
        if pid is None:
            self._all[listener] = None
        else:
            self._by_pid.setdefault(pid, []).append(listener)
        if ended:
            # It may have ended before libev listened to the signal, which then was lost.
            signal.raise_signal(signal.SIGCHLD)

    def remove(self, listener: Listener, pid: int | None) -> None:
        """Tells it no more. Idempotent."""
        if pid is None:
            self._all.pop(listener, None)
        elif listener in self._by_pid.get(pid, ()):
            self._by_pid[pid].remove(listener)
            if not self._by_pid[pid]:
                del self._by_pid[pid]
        self._end_unused()

    def collect(self, pid: int) -> None:
        """Waits for a child that was killed, and tells; blocks the process for a moment.

        One that is stuck in the kernel is left to the loop.
        """
        try:
            wait_for_end(pid)
            found, status = _waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # somebody else has, and the loop may be about to tell
            if all(pid != seen for seen, _, _ in self._seen):
                self._tell(ChildEvent(pid, "collected"))
            found = status = 0
        if found:
            self._note(pid, status)
        self._flush()

    # --- in the hub -------------------------------------------------------------------------------

    def _child_changed(self) -> None:
        try:
            self._note(self._children.rpid, self._children.rstatus)
        except BaseException as error:  # gevent would stop the watcher without a word
            self._turns.failed(error)

    def _note(self, pid: int, status: int) -> None:
        # libev calls after each waitpid, before the next one: between two looks is one child.
        usage = _usage_so_far()
        self._seen.append(
            (pid, status, tuple(b - a for a, b in zip(self._last, usage, strict=True)))
        )
        self._last = usage
        if not self._armed:
            self._armed = True
            self._turns.loop.run_callback(self._flush)

    def _signalled(self) -> None:
        """Comes with each SIGCHLD, after all that libev has collected for it."""
        try:
            if not self._seen:
                self._last = _usage_so_far()  # somebody else has waited for a child
            if self._by_pid and not self._look.active:
                self._look.start(self._look_for_lost)
        except BaseException as error:
            self._turns.failed(error)

    def _flush(self) -> None:
        self._armed = False
        try:
            seen, self._seen = self._seen, []
            ends = sum(os.WIFEXITED(status) or os.WIFSIGNALED(status) for _, status, _ in seen)
            for pid, status, used in seen:
                self._tell(_event(pid, status, used, ends == 1))
        except BaseException as error:
            self._turns.failed(error)

    def _look_for_lost(self) -> None:
        """Finds the children for which somebody else has waited."""
        self._look.stop()
        try:
            seen = {pid for pid, _, _ in self._seen}
            for pid in tuple(self._by_pid):
                try:
                    has_ended(os.P_PID, pid)
                except ChildProcessError:
                    if pid not in seen:
                        self._tell(ChildEvent(pid, "collected"))
        except BaseException as error:
            self._turns.failed(error)

    def _tell(self, event: ChildEvent) -> None:
        listeners = [*self._all, *self._by_pid.get(event.pid, ())]
        if event.is_end:
            self._by_pid.pop(event.pid, None)
        for listener in listeners:
            listener.child_changed(event)
        self._end_unused()


def _event(pid: int, status: int, used: tuple[float, ...], alone: bool) -> ChildEvent:
    if os.WIFSTOPPED(status):
        return ChildEvent(pid, "stop", signal=os.WSTOPSIG(status))
    if os.WIFCONTINUED(status):
        return ChildEvent(pid, "continue")
    usage = ChildUsage(used[0], used[1], *(int(count) for count in used[2:]))
    if os.WIFSIGNALED(status):
        return ChildEvent(
            pid,
            "kill",
            signal=os.WTERMSIG(status),
            core_dumped=os.WCOREDUMP(status),
            usage=usage,
            usage_is_exact=alone,
        )
    code = os.WEXITSTATUS(status)
    return ChildEvent(pid, "exit", code, usage=usage, usage_is_exact=alone)
