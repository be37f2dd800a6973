"""The file of the settings: SQLite, with what is set, what was deleted, and the history.

Everything here blocks the calling thread; :class:`~edgevent.fluidsettings.store.Store` calls it in
a thread of its own. A commit is on the disk when it returns (WAL with ``synchronous=FULL``,
https://sqlite.org/wal.html): it survives the end of the process and, where the disk obeys a flush,
a power cut. Of a commit that failed nothing is seen again, unless the machine ends in the same
moment.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from ..errors import SettingsStoreError
from .values import Change, Entry

VERSION: Final = 1
"""The version of the tables, in the file's ``user_version``."""
APPLICATION_ID: Final = 0x45445345
"""``EDSE``, in the file's ``application_id``."""

_MODE: Final = 0o640
_WAL_BYTES: Final = 4 * 1024 * 1024
_SCARCE_BYTES: Final = 2 * _WAL_BYTES
_TABLES: Final = """
BEGIN;
CREATE TABLE settings (
    name TEXT NOT NULL, priority INTEGER NOT NULL, timestamp INTEGER NOT NULL,
    value TEXT, who TEXT NOT NULL, PRIMARY KEY (name, priority));
CREATE TABLE history (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, priority INTEGER NOT NULL,
    timestamp INTEGER NOT NULL, value TEXT, who TEXT NOT NULL, recorded INTEGER NOT NULL);
CREATE INDEX history_of_name ON history (name, id);
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_PUT: Final = (
    "INSERT OR REPLACE INTO settings (name, priority, timestamp, value, who) VALUES (?, ?, ?, ?, ?)"
)
_DROP: Final = (
    "DELETE FROM settings WHERE name = ? AND priority = ? AND timestamp = ? AND value IS NULL"
)
_SET_FACT: Final = "INSERT OR REPLACE INTO facts VALUES (?, ?)"
_ALWAYS: Final = 2**62
_RECORD: Final = (
    "INSERT INTO history (name, priority, timestamp, value, who, recorded)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
_TRIM: Final = (
    "DELETE FROM history WHERE name = :name AND id <= (SELECT id FROM history"
    " WHERE name = :name ORDER BY id DESC LIMIT 1 OFFSET :kept)"
)
_HISTORY: Final = (
    "SELECT name, priority, timestamp, value, who, recorded FROM history WHERE name = ?"
    " ORDER BY id DESC LIMIT ?"
)
_NO_FACTS: Final[Mapping[str, int]] = MappingProxyType({})


class Database:
    """The open file. One process has it at a time.

    Args:
        path: The file; it is made when it is not there, readable for its owner and group.
        max_history: How many changes of each setting are kept.

    Raises:
        SettingsStoreError: It cannot be opened, is another one's, or is none of settings.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_history: int = 100) -> None:
        self.path = os.fspath(path)
        self.max_history = max_history
        self._connection: sqlite3.Connection | None = None
        self._open()

    @property
    def id(self) -> str:
        """A name of this file that no other one has; made with it."""
        rows = self._read("SELECT value FROM facts WHERE key = 'id'")
        if not rows:
            raise SettingsStoreError(f"{self.path}: it has lost its id")
        return str(rows[0][0])

    @property
    def horizon(self) -> int:
        """Of when the newest deletion is that was dropped, in nanoseconds since 1970; 0 for none.

        Raises:
            SettingsStoreError: It cannot be read.
        """
        return self._fact("horizon", 0)

    @property
    def synced(self) -> int:
        """Of when the newest entry is that other daemons had as well, in the same unit; 0 for none.

        Raises:
            SettingsStoreError: It cannot be read.
        """
        return self._fact("synced", _ALWAYS)  # a file from before this was noted: all of it

    def _fact(self, key: str, otherwise: int) -> int:
        rows = self._read("SELECT value FROM facts WHERE key = ?", key)
        text = str(rows[0][0]) if rows else str(otherwise)
        if not (text.isascii() and text.isdecimal()):
            raise SettingsStoreError(f"{self.path}: {key} {text[:32]!r} is no number")
        return int(text)

    # --- opening ----------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            # SQLite would make it readable for everybody that the mask leaves.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE))
        except OSError as error:
            raise SettingsStoreError(f"{self.path}: {error.strerror}", error.errno) from None
        connection = None
        try:
            connection = sqlite3.connect(
                self.path, timeout=0.0, isolation_level=None, check_same_thread=False
            )
            self._set_up(connection)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise self._error(error) from None
            raise
        self._connection = connection
        self._make_room()

    def _set_up(self, connection: sqlite3.Connection) -> None:
        # Exclusive: a second daemon is refused, and no memory is shared through a file that a full
        # disk could not back.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        # Values are short, and each commit writes whole pages; of a file that is there it is kept.
        connection.execute("PRAGMA page_size = 1024")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        if version == 0 and owner == 0:
            (count,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if count:
                raise SettingsStoreError(f"{self.path}: it is the database of another program")
            self._create(connection)
        elif owner != APPLICATION_ID:
            raise SettingsStoreError(f"{self.path}: it is the database of another program")
        elif version != VERSION:
            raise SettingsStoreError(
                f"{self.path}: version {version} of the tables: {VERSION} was expected"
            )
        else:
            # Takes the lock, which reading alone would share.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")

    def _create(self, connection: sqlite3.Connection) -> None:
        name = secrets.token_hex(8)
        connection.executescript(
            f"{_TABLES} INSERT INTO facts VALUES ('id', '{name}'), ('synced', '0');"
            f" PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
        )

    @property
    def _used(self) -> sqlite3.Connection:
        if self._connection is None:
            self._open()
        assert self._connection is not None
        return self._connection

    def close(self) -> None:
        """Writes everything into the one file, and closes it. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # --- what is in it ----------------------------------------------------------------------------

    def load(self) -> list[Entry]:
        """Gives everything that is set or was deleted.

        Raises:
            SettingsStoreError: It cannot be read.
        """
        rows = self._read("SELECT name, priority, timestamp, value, who FROM settings")
        return [Entry(*row) for row in rows]

    def history(self, name: str, limit: int) -> list[Change]:
        """Gives the changes of a setting, the last one first.

        Raises:
            SettingsStoreError: It cannot be read.
        """
        rows = self._read(_HISTORY, name, limit)
        return [Change(Entry(*row[:5]), row[5]) for row in rows]

    def _read(self, query: str, *values: str | int) -> list[tuple[Any, ...]]:
        try:
            return self._used.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from None

    def write(
        self,
        entries: Sequence[Entry],
        changes: Iterable[Entry],
        recorded: int,
        dropped: Sequence[Entry] = (),
        facts: Mapping[str, int] = _NO_FACTS,
    ) -> None:
        """Writes entries, all or none of them; they are on the disk when it returns.

        Args:
            entries: What stands from now on.
            changes: What is noted in the history.
            recorded: When, in nanoseconds since 1970.
            dropped: Deletions that are not kept any longer.
            facts: What :attr:`horizon` or :attr:`synced` is from now on.

        Raises:
            SettingsStoreError: It could not be done, and nothing is changed.
        """
        noted = list(changes)
        try:
            self._write(entries, noted, recorded, dropped, facts)
        except SettingsStoreError:
            raise
        except Exception as error:  # a text that is none, for example
            self._recover()
            if not _is_full(error):
                raise self._error(error) from error
            # The log of changes may be what fills the disk.
            try:
                self._used.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._write(entries, noted, recorded, dropped, facts)
            except sqlite3.Error as again:
                self._recover()
                raise self._error(again) from None

    def _write(
        self,
        entries: Sequence[Entry],
        changes: Sequence[Entry],
        recorded: int,
        dropped: Sequence[Entry],
        facts: Mapping[str, int],
    ) -> None:
        connection = self._used
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_DROP, [(e.name, e.priority, e.timestamp) for e in dropped])
        connection.executemany(_SET_FACT, [(key, str(number)) for key, number in facts.items()])
        connection.executemany(
            _PUT, [(e.name, e.priority, e.timestamp, e.value, e.who) for e in entries]
        )
        if self.max_history:
            connection.executemany(
                _RECORD,
                [(e.name, e.priority, e.timestamp, e.value, e.who, recorded) for e in changes],
            )
            names = {one.name for one in changes}
            connection.executemany(
                _TRIM, [{"name": name, "kept": self.max_history} for name in names]
            )
        connection.execute("COMMIT")
        self._make_room()

    def _make_room(self) -> None:
        """On a disk that is nearly full, gives back at once what the log of changes takes."""
        connection = self._connection
        with suppress(OSError, sqlite3.Error):
            disk = os.statvfs(self.path)
            if connection is not None and disk.f_bavail * disk.f_frsize < _SCARCE_BYTES:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _recover(self) -> None:
        """Undoes what is half done; where that cannot be done, the file is opened anew."""
        connection = self._connection
        if connection is None:
            return
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        if connection.in_transaction:
            self._connection = None
            with suppress(sqlite3.Error):
                connection.close()

    def _error(self, error: Exception) -> SettingsStoreError:
        why = str(error)
        if why == "database is locked":
            why = "another process has it open"
        return SettingsStoreError(f"{self.path}: {why}")


def _is_full(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and "full" in str(error)
