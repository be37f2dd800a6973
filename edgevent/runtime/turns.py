"""Turns: who runs next on this thread's hub.

An event makes its connection ready; a ready connection is granted a turn. A *pass* grants what was
ready when it began, by priority and then in the order of arrival; what becomes ready meanwhile
waits for the next pass, which begins after a poll. Turns run in worker greenlets: one worker goes
on until a turn blocks, then the hub gives the rest to another, and the blocked one keeps its own.

There is one :class:`Turns` for each hub; communicators and clients of the thread share it.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import gevent
from greenlet import getcurrent, greenlet

from ..errors import ForkedError, UsageError, WrongThreadError
from ..limits import HUB_BUSY_WARNING, MAX_IDLE_WORKERS
from .clock import Clock
from .guards import REGISTRY
from .native import Local, get_ident

logger = logging.getLogger("edgevent")

IDLE = 0
RUNNING = -1
"""What a task's ``ticket`` says: not ready, or in a turn. Else it is the number of its entry."""

switch: Any = greenlet.switch  # past those of Worker and of the hub, which cost a call


class Task(Protocol):
    """What can be granted a turn."""

    ticket: int

    @property
    def name(self) -> str:
        """The name for log lines."""

    @property
    def priority(self) -> int:
        """0 is granted first."""

    def run_turn(self) -> None:
        """Does what is to be done; runs in a worker, may block, and lets no Exception out."""

    def run_unit(self, unit: Any, /) -> None:
        """Does one thing that has just come, when nothing else is to be done."""

    def turn_waits(self, worker: Worker, /) -> None:
        """Called in the hub when a turn of it waits for the first time; raises nothing."""


class Flushable(Protocol):
    """Something with bytes that leave at the end of the pass."""

    def flush(self) -> None:
        """Writes what has been joined; runs in the hub or a worker, never blocks or raises."""


class Worker(greenlet):  # type: ignore[misc, unused-ignore]
    """A greenlet that runs one turn after another."""

    __slots__ = ("links", "resumed", "since", "task", "turns", "unit")

    def __init__(self, turns: Turns) -> None:
        super().__init__(parent=turns.hub)
        self.turns = turns
        self.links: list[Callable[[Worker], object]] = []
        self.task: Task | None = None
        self.unit: Any = None
        self.since = 0.0  # when the turn began
        self.resumed = 0.0  # when it went on after a wait

    # Waits of gevent's own reach a greenlet through these two, and so do those of this package. In
    # a forked child it is the parent's, and stays where it is; nothing of a handler runs twice.

    def switch(self, *arguments: Any) -> Any:
        """Switches to this greenlet, but not in a forked child."""
        turns, task = self.turns, self.task
        if turns.forked and self is not turns.forked_in:
            return None
        if task is None or getcurrent() is not turns.hub:
            return switch(self, *arguments)
        self.resumed = monotonic()
        turns.resumed = self
        try:
            return switch(self, *arguments)
        finally:
            turns.resumed_ends(self, task)

    def throw(self, *arguments: Any) -> Any:
        """Throws into this greenlet, but not in a forked child."""
        turns = self.turns
        if turns.forked and self is not turns.forked_in:
            return None
        return super().throw(*arguments)

    def rawlink(self, callback: Callable[[Worker], object]) -> None:
        """Called by ``gevent.local`` when this greenlet gets values of its own.

        gevent means it to forget them when the greenlet ends; here they end with the turn, so
        that none passes from one peer's handler to the next.
        """
        self.links.append(callback)

    def run(self) -> None:
        """Runs turns for as long as there are some, and waits for more."""
        turns = self.turns
        idle, hub = turns.idle, turns.hub
        while True:
            task, unit = self.task, self.unit
            if task is not None:
                self.unit = None
                task.run_unit(unit)
                self._end(task)
            granted = turns.granted
            if granted and turns.worker is self:
                self.since = monotonic()  # the end of each turn is the begin of the next
            while granted and turns.worker is self:
                _, ticket, task = granted.pop()
                if task.ticket == ticket:  # else it was cancelled, or is ready under another one
                    self.task = task
                    task.ticket = RUNNING
                    task.run_turn()
                    self._end(task)
            if len(idle) >= MAX_IDLE_WORKERS:
                return
            task = unit = None  # one that is closed meanwhile is not kept
            idle.append(self)
            switch(hub)

    def forget(self) -> None:
        """Ends a handler's context variables, and values of ``gevent.local``, before its turn."""
        if self.gr_context is not None:
            self.gr_context = None
        if self.links:
            self._forget()

    def _end(self, task: Task) -> None:
        # A handler's context variables end with its turn.
        if self.gr_context is not None:
            self.gr_context = None
        if self.links:
            self._forget()
        if self.turns.worker is self:  # else it had blocked, and the rest went to another
            now = monotonic()
            busy = now - self.since
            if busy > HUB_BUSY_WARNING:
                self.turns.name_busy(task, busy)
            self.since = now
        self.task = None

    def _forget(self) -> None:
        links, self.links = self.links, []
        for link in links:
            link(self)


class Turns:
    """The turns of one hub. Made by :meth:`current`, not by hand."""

    _of_thread = Local()

    def __init__(self) -> None:
        self.hub = gevent.get_hub()
        self.loop = self.hub.loop
        self.thread = get_ident()
        self.forked = False
        self.forked_in: greenlet | None = None  # the child's own: it goes on there
        self.ready: list[tuple[int, int, Task]] = []
        self.granted: list[tuple[int, int, Task]] = []
        self.idle: list[Worker] = []
        self.worker: Worker | None = None
        self.resumed: Worker | None = None  # one that goes on after a wait
        self.joined: list[Flushable] = []
        self.holding = False  # whether somebody flushes soon anyway
        self.queued = 0  # bytes in all inboxes and outboxes
        self.on_failure: list[Callable[[BaseException], object]] = []
        self._count = 1  # so that no entry has the number RUNNING
        self._armed = False
        self._flush_armed = False
        self._poll = self.loop.timer(0.0)
        REGISTRY.hubs.add(self)

    @classmethod
    def current(cls) -> Turns:
        """Returns the turns of this thread's hub."""
        found: Turns | None = getattr(cls._of_thread, "turns", None)
        if found is None or found.forked or found.hub is not gevent.get_hub():
            found = cls._of_thread.turns = cls()
        return found

    # --- becoming ready ---------------------------------------------------------------------------

    def event(self, task: Task) -> None:
        """Makes a task ready because a poll found its descriptor ready.

        libev hands over what one poll found in reverse, so these are counted down.
        """
        self._count += 1
        task.ticket = -self._count
        self.ready.append((task.priority, -self._count, task))
        if not self._armed:
            self._armed = True
            self.loop.run_callback(self._pass)

    def arrive(self, task: Task) -> None:
        """Makes a task ready for any other reason, behind what is ready already."""
        self._count += 1
        task.ticket = self._count
        self.ready.append((task.priority, self._count, task))
        if not self._armed:
            self._armed = True
            self.loop.run_callback(self._pass)

    def later(self, task: Task) -> None:
        """Makes a task ready for the pass that begins after the next poll."""
        self._count += 1
        task.ticket = self._count
        self.ready.append((task.priority, self._count, task))
        if not self._armed:
            self._armed = True
            # Not run_callback: one made inside a callback runs before the next poll, and a busy
            # peer would starve all others.
            self._poll.start(self._pass)

    @property
    def is_sole(self) -> bool:
        """Whether a task that becomes ready now is the only one: it may be granted at once."""
        return not self.ready and not self.worker and not self.loop.pendingcnt

    def grant(self, task: Task, unit: Any) -> None:
        """Has one unit handled at once; only in the hub, and only when :attr:`is_sole`."""
        worker = self.idle.pop() if self.idle else Worker(self)
        worker.task = task
        worker.unit = unit
        worker.since = monotonic()
        task.ticket = RUNNING
        self.holding = True
        self.worker = worker
        try:
            switch(worker)
        except BaseException as error:
            self._escaped(error)
        if worker.task is not None:  # it has blocked
            self._look_at(worker)
        self.worker = None
        self.holding = False
        if self.joined:
            self.flush()

    # --- granting ---------------------------------------------------------------------------------

    def _pass(self) -> None:
        self._armed = False
        self._poll.stop()
        granted, self.ready = self.ready, []
        if self.granted:  # left by a pass that was thrown out of the hub
            granted += self.granted
        granted.sort(reverse=True)  # no two have the same number: tasks are never compared
        self.granted = granted
        self._drain()

    def _drain(self) -> None:
        self.holding = True
        idle = self.idle
        while self.granted:
            worker = idle.pop() if idle else Worker(self)
            self.worker = worker
            try:
                switch(worker)
            except BaseException as error:
                self._escaped(error)
            if worker.task is not None:  # its turn has blocked
                self._look_at(worker)
            self.worker = None
        self.holding = False
        if self.joined:
            self.flush()

    def _escaped(self, error: BaseException) -> None:
        """Hands on what a turn does not keep to itself: SystemExit, KeyboardInterrupt ..."""
        self.holding = False
        self.worker = None
        if self.granted and not self._armed:  # the hub may not come back here for some time
            self._armed = True
            self.loop.run_callback(self._pass)
        self.failed(error)

    def resume(self, waiting: greenlet) -> None:
        """Switches from the hub to a greenlet that waits, and back when it waits again or ends."""
        held, self.holding = self.holding, True
        try:
            if waiting.__class__ is Worker:
                waiting.switch()
            else:
                switch(waiting)
        except BaseException as error:  # a worker ended with it; see Worker
            self._escaped(error)
        self.holding = held
        if self.joined and not held:
            self.flush()

    def resumed_ends(self, worker: Worker, task: Task | None) -> None:
        """Looks at a worker that had gone on, and that waits again or has ended its turn."""
        self.resumed = None
        busy = monotonic() - worker.resumed
        if busy > HUB_BUSY_WARNING and task is not None:
            self.name_busy(task, busy)

    def _look_at(self, worker: Worker) -> None:
        task, busy = worker.task, monotonic() - worker.since
        assert task is not None
        if busy > HUB_BUSY_WARNING:
            self.name_busy(task, busy)
        task.turn_waits(worker)

    def name_busy(self, task: Task, busy: float) -> None:
        """Names a turn that kept the hub from running for too long."""
        logger.warning("%s: its handler kept the hub busy for %.3f s", task.name, busy)

    def failed(self, error: BaseException) -> None:
        """Ends what runs on this hub with an error of this package's own: never silent.

        An interrupt that came while the hub ran code of this package is no such error: the main
        greenlet gets it.
        """
        if not isinstance(error, Exception):
            self.hub.handle_error(None, type(error), error, error.__traceback__)
            return
        logger.critical("internal failure", exc_info=error)
        for callback in tuple(self.on_failure):
            callback(error)

    # --- writing ----------------------------------------------------------------------------------

    def join(self, outbox: Flushable) -> None:
        """Has an outbox flushed at the end of the pass."""
        self.joined.append(outbox)
        if not self.holding and not self._flush_armed:
            self._flush_armed = True
            self.loop.run_callback(self.flush)

    def flush(self) -> None:
        """Writes what was joined in all outboxes."""
        self._flush_armed = False
        while self.joined:
            joined, self.joined = self.joined, []
            for outbox in joined:
                outbox.flush()

    # --- waiting ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Refuses a call from where this hub's objects must not be used.

        Raises:
            ForkedError: The calling process was forked from the one that made the object.
            WrongThreadError: The calling thread is another one.
        """
        if self.forked:
            raise ForkedError("this object belongs to the parent of this forked process")
        if get_ident() != self.thread:
            raise WrongThreadError("this object belongs to another thread; use call_threadsafe")

    def check_wait(self) -> greenlet:
        """Returns the current greenlet, after a check that it may wait.

        Raises:
            UsageError: The call comes from the hub itself, which must never wait.
        """
        self.check()
        current = getcurrent()
        if current is self.hub:
            raise UsageError("a call that may block was made in the hub itself")
        return current

    def abandon(self) -> None:
        """Drops everything in a forked child."""
        self.forked = True
        self.forked_in = getcurrent()
        self.ready.clear()
        self.granted.clear()
        self.joined.clear()
        self._poll.stop()
        # What was set to call here goes on to call: no pass begins any more, and nobody is resumed.
        self._armed = self._flush_armed = True
        self.resume = self._leave  # type: ignore[method-assign]

    def _leave(self, waiting: greenlet, value: Any = None) -> None:
        """Takes the place of ``resume`` in a forked child."""


def _flush_at_exit() -> None:
    """What a program sends last leaves although the hub does not run again."""
    turns: Turns | None = getattr(Turns._of_thread, "turns", None)
    if turns is not None and not turns.forked:
        turns.flush()


atexit.register(_flush_at_exit)


TIMED_OUT: Any = object()
"""What :func:`wait` returns when its limit is over."""


def wait(turns: Turns, clock: Clock, timeout: float | None) -> Any:
    """Parks the current greenlet until somebody switches to it.

    Args:
        timeout: The limit in seconds, or ``None``.

    Returns:
        What was given to ``switch``, or :data:`TIMED_OUT`.
    """
    current = turns.check_wait()
    if timeout is None:
        return switch(turns.hub)
    alarm = clock.call_later(timeout, current.switch, TIMED_OUT)
    try:
        return switch(turns.hub)
    finally:
        alarm.stop()
