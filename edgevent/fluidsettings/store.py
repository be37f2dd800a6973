"""The settings: read from memory, written to a file, told to those who want to know.

Reading never waits. A write is done when it is on the disk; all that come while others are written
are committed together, in a thread, so that the hub goes on meanwhile.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from gevent.event import AsyncResult

from ..errors import EdgeventError, SettingError
from .committing import Committer, Done, Entries, Row, View, Write
from .database import Database
from .definitions import MAX_SETTINGS, SettingDefinition, SettingDefinitions
from .deletions import IMPORT, Deletions
from .names import ADMINISTRATOR, HIGHEST, canonical, check_priority, check_timestamp
from .values import Change, Entry, Reason, Update

logger = logging.getLogger("edgevent.fluidsettings")

_SUM: Final = 1 << 128
_MAX_WHO: Final = 255


@dataclass(frozen=True, slots=True)
class Notice:
    """What those are told who subscribed: an entry stands now.

    Attributes:
        entry: What was set or deleted.
        is_change: Whether there is another value than before, and not another date alone.
        source: Where it came from: what was given to :meth:`Store.merge_soon`, else ``None``.
    """

    entry: Entry
    is_change: bool
    source: object = None


class Store:
    """All settings of a daemon.

    Args:
        path: The file; see :class:`Database`.
        definitions: Which settings there are. What is stored of others is kept, and not shown.
        max_history: How many changes of each setting are kept.
        keep_deletions: So long it is known that a value was deleted, in seconds; 0 for ever.
        now: The time of day in nanoseconds since 1970.

    Raises:
        SettingsStoreError: The file cannot be used.

    Attributes:
        definitions: As given; may be replaced.
        id: A name that no other store has.
        deletions: How long they are kept.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        definitions: SettingDefinitions,
        *,
        max_history: int = 100,
        keep_deletions: float = 0.0,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.definitions = definitions
        self._now = now
        self._database = Database(path, max_history=max_history)
        self._entries: Entries = {}
        self._digest = 0
        self._synced_digest: int | None = None
        self._subscribers: list[Callable[[Notice], object]] = []
        self._committer = Committer(self._database, self._entries, self._apply, self._drop, now)
        try:
            self.id = self._database.id
            self.deletions = Deletions(keep_deletions, self._database, now, self._committer.counts)
            for entry in self._database.load():
                self._set(entry)
        except BaseException:
            self._database.close()
            raise
        hidden = [name for name in self._entries if name not in definitions]
        if hidden:
            text = "%s: %d stored settings have no definition, such as %s"
            logger.warning(text, self._database.path, len(hidden), hidden[0])

    @property
    def counts(self) -> Counter[str]:
        """The numbers of ``commits``, ``writes`` (entries) and ``failures`` (of commits)."""
        return self._committer.counts

    def __repr__(self) -> str:
        return f"<Store {self._database.path} {'closed' if self._committer.is_closed else 'open'}>"

    def close(self) -> None:
        """Waits for what is being written, and closes the file. Idempotent; may switch."""
        self._committer.close()
        self._database.close()

    # --- reading ----------------------------------------------------------------------------------

    def definition(self, name: str) -> SettingDefinition:
        """Gives the definition of a setting.

        Raises:
            SettingError: It is no name.
            UnknownSettingError: There is none of this name.
        """
        return self.definitions.find(name)

    def names(self) -> list[str]:
        """The names of all defined settings, in order."""
        return sorted(self.definitions)

    def current(self, name: str) -> Entry | None:
        """Gives the entry that holds, the one of the highest priority; ``None`` when none is set.

        Raises:
            UnknownSettingError: There is no such setting; as of all that follow.
        """
        found = [one for one in self._of(name).values() if one.value is not None]
        return max(found, key=lambda one: one.priority) if found else None

    def get(self, name: str, priority: int | None = None) -> str | None:
        """Gives the value of a setting, or that of one priority.

        Args:
            priority: By default (and for -1) the highest one that has a value; else the default of
                the definition.

        Returns:
            The value; ``None`` when there is none.

        Raises:
            SettingError: The priority is none.
        """
        if priority is None or priority == HIGHEST:
            entry = self.current(name)
            return self.get_default(name) if entry is None else entry.value
        entry = self._of(name).get(check_priority(priority))
        return None if entry is None else entry.value

    def get_default(self, name: str) -> str | None:
        """Gives the default of the definition."""
        return self.definition(name).default

    def get_all(self, name: str) -> list[Entry]:
        """Gives the entries of all priorities that have a value, the lowest priority first."""
        found = [one for one in self._of(name).values() if one.value is not None]
        return sorted(found, key=lambda one: one.priority)

    def history(self, name: str, limit: int = 100) -> list[Change]:
        """Gives the changes of a setting, the last one first. Blocks the calling greenlet.

        Raises:
            SettingsStoreError: It cannot be read.
        """
        known = self.definition(name).name
        return self._committer.in_thread(self._database.history, known, limit)

    def entries(self) -> Iterator[Entry]:
        """All entries, deletions and those without a definition too, by name and priority."""
        for name in sorted(self._entries):
            found = self._entries.get(name, {})
            yield from sorted(found.values(), key=lambda one: one.priority)

    @property
    def digest(self) -> str:
        """A text that two stores with the same entries have in common."""
        return f"{self._digest:032x}"

    def _of(self, name: str) -> dict[int, Entry]:
        return self._entries.get(self.definition(name).name, {})

    # --- writing ----------------------------------------------------------------------------------

    def put(
        self,
        name: str,
        value: str,
        priority: int = ADMINISTRATOR,
        timestamp: int | None = None,
        who: str = "",
    ) -> Update:
        """Sets a value; it is on the disk when this returns. Blocks the calling greenlet.

        Args:
            timestamp: Of when it is, in nanoseconds since 1970; only what is newer than what is
                there takes its place. By default it is of now, and takes it; so is one where there
                is none, and that is older than the deletions kept.
            who: Who sets it, for the history.

        Raises:
            SettingError: The value is refused, or another argument is none.
            UnknownSettingError: There is no such setting.
            SettingsStoreError: It could not be stored, and nothing is changed.
        """
        update: Update = self._wait_for(
            lambda done: self.put_soon(name, value, priority, timestamp, who, done)
        )
        return update

    def put_soon(
        self,
        name: str,
        value: str,
        priority: int,
        timestamp: int | None,
        who: str,
        done: Done,
    ) -> None:
        """Begins a :meth:`put`; does not wait. ``done`` gets the :class:`Update`, or the error."""
        definition = self.definition(name)
        check_priority(priority)
        if timestamp is not None:
            check_timestamp(timestamp, now=self._now())
        definition.check(value)
        name, who = definition.name, _clean(who)

        def decide(view: View) -> tuple[list[Row], Update]:
            of_name = view.of(name)
            before = of_name.get(priority)
            entry = Entry(name, priority, self._date(timestamp, before), value, who)
            reason = _reason(entry, before, of_name.values())
            if reason == "unchanged":
                assert before is not None
                return [], Update(name, reason, before)
            return [(entry, reason != "newer")], Update(name, reason, entry)

        self._committer.add(Write(decide, done))

    def _date(self, timestamp: int | None, before: Entry | None) -> int:
        if timestamp is not None:
            return timestamp if before is not None else self.deletions.date(timestamp)
        # What is put now holds, although another computer's clock may be ahead of this one's.
        return max(self._now(), 0 if before is None else before.timestamp + 1)

    def delete(
        self,
        name: str,
        priority: int = ADMINISTRATOR,
        *,
        who: str = "",
    ) -> bool:
        """Deletes the value of a priority. Blocks the calling greenlet.

        Returns:
            Whether there was one.

        Raises:
            SettingError: The name or the priority is none.
            UnknownSettingError: There is no such setting.
            SettingsStoreError: It could not be stored, and nothing is changed.
        """
        deleted: bool = self._wait_for(lambda done: self.delete_soon(name, priority, who, done))
        return deleted

    def delete_soon(self, name: str, priority: int, who: str, done: Done) -> None:
        """Begins a :meth:`delete`; does not wait."""
        check_priority(priority)
        if (known := canonical(name)) not in self._entries:
            known = self.definition(name).name
        who = _clean(who)

        def decide(view: View) -> tuple[list[Row], bool]:
            before = view.of(known).get(priority)
            if before is None or before.value is None:
                return [], False
            return [(Entry(known, priority, self._date(None, before), None, who), True)], True

        self._committer.add(Write(decide, done))

    def merge(self, entries: Iterable[Entry], source: object = None) -> int:
        """Takes over what another store has, where it wins. Blocks the calling greenlet.

        Returns:
            How many entries won.

        Raises:
            SettingsStoreError: It could not be stored, and nothing is changed.
        """
        won: int = self._wait_for(lambda done: self.merge_soon(entries, source, done))
        return won

    def merge_soon(
        self, entries: Iterable[Entry], source: object, done: Done, *, is_new: bool = False
    ) -> None:
        """Begins a :meth:`merge`; does not wait.

        Args:
            is_new: Whether they were on one computer alone until now.

        A value that the definition refuses is taken over too, with a line in the log: all
        computers are to have the same.
        """
        given = [replace(one, who=_clean(one.who)) for one in entries]
        for one in given:
            self._look_at(one)

        def decide(view: View) -> tuple[list[Row], int]:
            won: dict[tuple[str, int], tuple[Entry, bool]] = {}
            for one in given:
                found = won.get((one.name, one.priority))
                before = found[0] if found else view.of(one.name).get(one.priority)
                if before is None:
                    new = self.deletions.look_at(one, is_new or source == IMPORT)
                    if new is not None:
                        won[new.name, new.priority] = (new, new.value is not None)
                elif one.wins_over(before):
                    changed = one.value != before.value or (found is not None and found[1])
                    won[one.name, one.priority] = (one, changed)
            return list(won.values()), len(won)

        self._committer.add(Write(decide, done, source))

    def _look_at(self, entry: Entry) -> None:
        if entry.name not in self._entries and len(self._entries) >= MAX_SETTINGS:
            raise SettingError(f"{entry.name}: there are {MAX_SETTINGS} settings already")
        definition = self.definitions.get(entry.name)
        if definition is None or entry.value is None or definition.takes(entry.value):
            return
        text = "%s: another computer has a value that the definition here refuses"
        logger.warning(text, entry.name)

    def after_writes(self, done: Done) -> None:
        """Calls ``done(None, None)`` when all writes that were begun before are done."""
        self._committer.add(Write(lambda view: ([], None), done))

    # --- deletions --------------------------------------------------------------------------------

    def drop_deletions(self) -> None:
        """Begins to drop the deletions that were kept for long enough; does not wait."""
        limit = self.deletions.limit()
        old = [one for one in self.entries() if one.value is None and one.timestamp < limit]
        if not old:
            return

        def decide(view: View) -> tuple[list[Row], int]:
            found = [one for one in old if view.of(one.name).get(one.priority) == one]
            return [(one, False) for one in found], len(found)

        def done(count: int, error: EdgeventError | None) -> None:
            if error is None:  # else it is logged, and tried again
                self.deletions.horizon = max(self.deletions.horizon, horizon)
                logger.info("%d deletions are not kept any longer", count)

        horizon = max(self.deletions.horizon, *(one.timestamp for one in old))
        self._committer.add(Write(decide, done, drops=True, facts={"horizon": horizon}))

    def agree(self, horizon: int) -> None:
        """Notes that another store has the same entries, and its horizon; does not wait."""
        deletions, digest = self.deletions, self._digest
        facts: dict[str, int] = {}
        if deletions.horizon < horizon < deletions.limit():
            facts["horizon"] = horizon
        if digest != self._synced_digest:
            every = (one for found in self._entries.values() for one in found.values())
            synced = max((one.timestamp for one in every), default=0)
            if synced != deletions.synced:
                facts["synced"] = synced
            else:
                self._synced_digest = digest
        if not facts:
            return

        def done(found: Any, error: EdgeventError | None) -> None:
            if error is None:
                deletions.horizon = max(deletions.horizon, facts.get("horizon", 0))
                if "synced" in facts:
                    deletions.all_shared(facts["synced"])
                    self._synced_digest = digest

        self._committer.add(Write(lambda view: ([], None), done, facts=facts))

    @property
    def is_writing(self) -> bool:
        """Whether a write was begun that is not done."""
        return self._committer.is_writing

    def subscribe(self, function: Callable[[Notice], object]) -> Callable[[], None]:
        """Has a function called with each entry that stands from now on; it must not wait.

        Returns:
            What ends that.
        """
        self._subscribers.append(function)
        return lambda: self._subscribers.remove(function) if function in self._subscribers else None

    # --- committing -------------------------------------------------------------------------------

    def _wait_for(self, begin: Callable[[Done], None]) -> Any:
        result: AsyncResult[Any] = AsyncResult()

        def done(found: Any, error: EdgeventError | None) -> None:
            if error is None:
                result.set(found)
            else:
                result.set_exception(error)

        begin(done)
        return result.get()

    def _apply(self, entry: Entry, is_change: bool, source: object) -> None:
        self._set(entry)
        notice = Notice(entry, is_change, source)
        for function in tuple(self._subscribers):
            self._committer.call(function, notice)

    def _set(self, entry: Entry) -> None:
        of_name = self._entries.setdefault(entry.name, {})
        before = of_name.get(entry.priority)
        if before is not None:
            self._digest = (self._digest - before.digest()) % _SUM
        self._digest = (self._digest + entry.digest()) % _SUM
        of_name[entry.priority] = entry

    def _drop(self, entry: Entry) -> None:
        of_name = self._entries[entry.name]
        del of_name[entry.priority]
        if not of_name:
            del self._entries[entry.name]
        self._digest = (self._digest - entry.digest()) % _SUM


def _reason(entry: Entry, before: Entry | None, others: Iterable[Entry]) -> Reason:
    """Says what it would be to put an entry, in the words of the C++ daemon."""
    if before is not None and entry.timestamp <= before.timestamp:
        return "unchanged"
    if before is not None and before.value is not None:
        return "newer" if before.value == entry.value else "changed"
    return "new priority" if any(one.value is not None for one in others) else "new"


def _clean(who: str) -> str:
    return who[:_MAX_WHO].encode("utf-8", "replace").decode()
