"""Writes of settings, one after the other: decided in the hub, put on the disk in a thread.

While a batch of them is being flushed, those that come wait, and are the next batch. So one flush
serves many, and the hub never waits for the disk.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, TypeVar

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from ..connection import FAILURES
from ..errors import ClosedError, EdgeventError, SettingsStoreError
from ..limits import LOG_INTERVAL
from .database import Database
from .values import Entry

logger = logging.getLogger("edgevent.fluidsettings")

_T = TypeVar("_T")

MAX_BATCH: Final = 1_000
"""So many writes are committed together at most."""

Done = Callable[[Any, EdgeventError | None], object]
"""Called in order when a write is on the disk, or has failed; it must not wait."""
Row = tuple[Entry, bool]
"""An entry that is to stand, and whether there is another value than before with it."""
Entries = dict[str, dict[int, Entry]]
"""The entries of each name, by priority."""


class View:
    """What stands, and over it what the writes of the same batch before have made of it.

    Attributes:
        saw_made: Whether somebody has looked at what they have made.
    """

    def __init__(self, standing: Entries) -> None:
        self.saw_made = False
        self._standing = standing
        self._made: Entries = {}

    def of(self, name: str) -> Mapping[int, Entry]:
        """Gives the entries of a name, by priority."""
        standing, made = self._standing.get(name, {}), self._made.get(name)
        self.saw_made = self.saw_made or made is not None
        return standing if made is None else {**standing, **made}

    def add(self, entry: Entry) -> None:
        """Notes what a write of this batch makes of it."""
        self._made.setdefault(entry.name, {})[entry.priority] = entry


@dataclass(slots=True)
class Write:
    """One write.

    Attributes:
        decide: Looks at what stands when its turn has come; returns what is to be written, and
            what ``done`` is given. It must not wait.
        done: Called at the end.
        source: For those who are told.
        drops: Whether the rows are deletions that are dropped.
        facts: What else is noted; see :meth:`Database.write`.
    """

    decide: Callable[[View], tuple[list[Row], Any]]
    done: Done
    source: object = None
    drops: bool = False
    facts: Mapping[str, int] = field(default_factory=dict)


class Committer:
    """Takes writes, and commits them.

    Args:
        database: The file.
        standing: What stands; read only.
        apply: Called with each entry that is on the disk, whether it is a change, and its source,
            before the write's ``done``.
        drop: Called with each deletion that was dropped, likewise.
        now: The time of day in nanoseconds since 1970.

    Attributes:
        counts: ``commits``, ``writes`` (entries), ``failures`` (commits that failed).
    """

    def __init__(
        self,
        database: Database,
        standing: Entries,
        apply: Callable[[Entry, bool, object], object],
        drop: Callable[[Entry], object],
        now: Callable[[], int],
    ) -> None:
        self.counts: Counter[str] = Counter(commits=0, writes=0, failures=0)
        self._database = database
        self._standing = standing
        self._apply = apply
        self._drop = drop
        self._now = now
        self._queue: deque[Write] = deque()
        self._worker: gevent.Greenlet[..., None] | None = None
        self._idle = Event()
        self._idle.set()
        self._pool = ThreadPool(1)
        self._closed = False
        self._told = ("", 0.0)  # why a commit failed, and until when that is not said again

    @property
    def is_writing(self) -> bool:
        """Whether a write was begun that is not done."""
        return not self._idle.is_set()

    @property
    def is_closed(self) -> bool:
        """Whether nothing is taken any more."""
        return self._closed

    def close(self) -> None:
        """Takes nothing more, and waits for what was begun. Idempotent; may switch greenlets."""
        if not self._closed:
            self._closed = True
            self._idle.wait()
            self._pool.kill()

    def add(self, write: Write) -> None:
        """Takes a write; does not wait.

        Raises:
            ClosedError: The settings are closed.
        """
        if self._closed:
            raise ClosedError(f"{self._database.path}: the settings are closed")
        self._queue.append(write)
        if self._worker is None:
            self._idle.clear()
            self._worker = gevent.spawn(self._work)
            self._worker.name = "settings-commit"

    def in_thread(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Calls a function of the database in the thread; blocks the calling greenlet alone."""
        outcome: tuple[Any, BaseException | None] = self._pool.apply(
            _attempt, (function, arguments)
        )
        found, error = outcome
        if error is not None:
            raise error
        result: _T = found
        return result

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Calls what others gave; what it raises is logged."""
        try:
            function(*arguments)
        except FAILURES:
            logger.exception("settings: %r failed", function)

    # --- the greenlet -----------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while self._queue:
                count = min(len(self._queue), MAX_BATCH)
                self._commit([self._queue.popleft() for _ in range(count)])
        finally:
            self._worker = None
            self._idle.set()

    def _commit(self, batch: list[Write]) -> None:
        view = View(self._standing)
        # With whether it comes to nothing when the batch cannot be written.
        decided: list[tuple[Write, list[Row], Any, bool]] = []
        rows: list[Row] = []
        dropped: list[Entry] = []
        facts: dict[str, int] = {}
        for write in batch:
            view.saw_made = False
            try:
                made, result = write.decide(view)
            except FAILURES as wrong:
                logger.exception("settings: a write failed")
                failure = SettingsStoreError(f"{self._database.path}: internal error: {wrong}")
                self.call(write.done, None, failure)
                continue
            needs_rows = bool(made or write.facts) or view.saw_made
            decided.append((write, made, result, needs_rows))
            for key, number in write.facts.items():
                facts[key] = max(number, facts.get(key, 0))
            if write.drops:
                dropped += [entry for entry, _ in made]
                continue
            rows += made
            for entry, _ in made:
                view.add(entry)
        error = self._write(rows, dropped, facts) if rows or facts else None
        for write, made, result, needs_rows in decided:
            if error is not None and needs_rows:
                self.call(write.done, None, error)
                continue
            for entry, is_change in made:
                if write.drops:
                    self._drop(entry)
                else:
                    self._apply(entry, is_change, write.source)
            self.call(write.done, result, None)

    def _write(
        self, rows: list[Row], dropped: list[Entry], facts: Mapping[str, int]
    ) -> SettingsStoreError | None:
        entries = [entry for entry, _ in rows]
        changes = [entry for entry, is_change in rows if is_change]
        try:
            self.in_thread(self._database.write, entries, changes, self._now(), dropped, facts)
        except FAILURES as error:
            self.counts["failures"] += 1
            self._tell_failure(len(rows), error)
            if isinstance(error, SettingsStoreError):
                return error
            return SettingsStoreError(f"{self._database.path}: {error}")
        self.counts["commits"] += 1
        self.counts["writes"] += len(rows)
        return None

    def _tell_failure(self, count: int, error: BaseException) -> None:
        """Logs a failure, once a minute while the reason is the same."""
        now, reason = monotonic(), str(error)
        if reason == self._told[0] and now < self._told[1]:
            return
        self._told = (reason, now + LOG_INTERVAL)
        values = "1 value" if count == 1 else f"{count} values"
        logger.error("%s could not be stored: %s", values, reason)


def _attempt(function: Callable[..., object], arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    # The pool would print what is raised.
    try:
        return function(*arguments), None
    except FAILURES as error:
        return None, error
