"""The store: what becomes of values, in memory and in the file."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from settings_ground import DEFINITIONS, defined

from edgevent import ClosedError, SettingError, SettingsStoreError, UnknownSettingError
from edgevent.fluidsettings.database import Database
from edgevent.fluidsettings.names import OLDEST_TIMESTAMP
from edgevent.fluidsettings.store import Notice, Store
from edgevent.fluidsettings.transfer import export_file, export_text, import_file
from edgevent.fluidsettings.values import Entry

PORT = "testsvc::port"
NAME = "testsvc::name"
START = OLDEST_TIMESTAMP + 10**18


class Date:
    """The time of day, which the test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def date() -> Date:
    return Date()


@pytest.fixture
def open_store(tmp_path: Path, date: Date) -> Iterator[Callable[..., Store]]:
    """Opens a store, the same file each time; closed at the end."""
    opened: list[Store] = []

    def make(name: str = "settings.db", text: str = DEFINITIONS, **settings: int) -> Store:
        opened.append(Store(tmp_path / name, defined(text), now=date, **settings))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    return open_store()


def test_put_tells_what_it_has_done(store: Store, date: Date) -> None:
    def put(value: str, priority: int = 50, at: int | None = None) -> str:
        return store.put(NAME, value, priority, at).reason

    assert put("a") == "new"
    assert put("b", 60) == "new priority"
    assert put("a") == "newer"
    assert put("c") == "changed"
    assert put("old", at=START - 1) == "unchanged"
    assert put("other", at=store.get_all(NAME)[0].timestamp) == "unchanged"
    assert store.get(NAME) == "b"
    assert store.get(NAME, 50) == "c"
    assert store.get(NAME, 1) is None
    assert [one.value for one in store.get_all("testsvc::name")] == ["c", "b"]
    assert store.counts["writes"] == 4


def test_what_is_put_now_holds_though_another_clock_is_ahead(store: Store, date: Date) -> None:
    store.merge([Entry(NAME, 50, START + 10**12, "ahead")])
    update = store.put(NAME, "mine")
    assert (update.reason, update.entry.timestamp) == ("changed", START + 10**12 + 1)


def test_a_value_falls_back_to_lower_priorities_and_the_default(store: Store) -> None:
    assert store.get(PORT) == store.get_default(PORT) == "4040"
    store.put(PORT, "1", 10)
    store.put(PORT, "2", 90)
    assert store.get(PORT, -1) == "2"
    assert store.delete(PORT, 90) is True
    assert store.get(PORT) == "1"
    assert store.delete(PORT, 90) is False
    assert store.delete("testsvc::port", 10) is True
    assert store.get(PORT) == "4040"
    assert store.current(PORT) is None
    assert store.put(PORT, "3", 10).reason == "new"


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((PORT, "x"), SettingError, "an integer from 1 to 65535 was expected"),
        ((PORT, "0"), SettingError, "an integer from 1 to 65535 was expected"),
        (("testsvc::nose", "x"), UnknownSettingError, 'no parameter named "testsvc::nose"'),
        (("../x", "x"), SettingError, "is no name of a setting"),
        ((PORT, "1", 100), SettingError, "priority 100: 0 to 99 was expected"),
        ((PORT, "1", -1), SettingError, "priority -1"),
        ((PORT, "1", 50, 1), SettingError, "before 2022-07-21"),
        ((PORT, "1", 50, START + 10**15), SettingError, "a day in the future"),
        ((NAME, "x" * 20_000), SettingError, "at most 16384 were expected"),
    ],
)
def test_what_is_refused_changes_nothing(
    arguments: tuple[str, ...], error: type[Exception], sentence: str, store: Store
) -> None:
    before = store.digest
    with pytest.raises(error, match=sentence):
        store.put(*arguments)  # type: ignore[arg-type]
    assert (store.digest, store.counts["commits"]) == (before, 0)


def test_all_is_there_again_when_the_file_is_opened_again(
    open_store: Callable[..., Store], caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store()
    store.put(PORT, "1", who="me")
    store.put(NAME, 'ä;\n"x\\')
    store.delete(NAME)
    store.close()
    again = open_store()
    assert (again.id, again.digest) == (store.id, store.digest)
    assert again.get_all(PORT)[0].who == "me"
    assert [one.entry.value for one in again.history(NAME)] == [None, 'ä;\n"x\\']
    again.close()
    with caplog.at_level(logging.WARNING, "edgevent.fluidsettings"):
        other = open_store(text="[x::y]\nhelp=only this\n")
    assert "2 stored settings have no definition, such as testsvc::" in caplog.text
    assert other.digest == store.digest
    with pytest.raises(UnknownSettingError):
        other.get(PORT)
    assert other.delete(PORT) is True  # what is left of it can be deleted
    with pytest.raises(ClosedError):
        again.put(PORT, "1")
    assert "closed" in repr(again)


def test_writes_that_come_together_are_committed_together(store: Store) -> None:
    jobs = [gevent.spawn(store.put, NAME, str(number)) for number in range(200)]
    gevent.joinall(jobs, raise_error=True)
    assert store.get(NAME) == "199"
    assert store.counts["writes"] == 200
    assert store.counts["commits"] < 20


def test_the_history_is_kept_up_to_its_length(open_store: Callable[..., Store]) -> None:
    store = open_store(max_history=3)
    for number in range(5):
        store.put(NAME, str(number), who=f"user {number}")
    store.put(NAME, "4")  # the same value with a later date
    found = store.history(NAME)
    assert [one.entry.value for one in found] == ["4", "3", "2"]
    assert (found[0].entry.who, found[0].recorded) == ("user 4", START)
    assert len(store.history(NAME, 1)) == 1
    none = open_store("other.db", max_history=0)
    none.put(NAME, "1")
    assert none.history(NAME) == []


def test_each_change_is_told_once_and_in_order(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Notice] = []
    end = store.subscribe(told.append)
    store.subscribe(lambda notice: 1 / 0)  # logged, and nothing more
    store.put(NAME, "a")
    store.put(NAME, "a")
    store.delete(NAME)
    store.delete(NAME)
    store.merge([Entry(NAME, 1, START, "x")], source="there")
    assert [(one.entry.value, one.is_change, one.source) for one in told] == [
        ("a", True, None),
        ("a", False, None),
        (None, True, None),
        ("x", True, "there"),
    ]
    end()
    end()
    store.put(NAME, "b")
    assert len(told) == 4
    assert caplog.text.count("ZeroDivisionError") == 5


def test_what_was_begun_before_is_done_before(store: Store) -> None:
    order: list[object] = []
    store.put_soon(NAME, "a", 50, None, "", lambda found, error: order.append(found.reason))
    store.after_writes(lambda found, error: order.append(store.get(NAME)))
    store.delete_soon(NAME, 50, "", lambda found, error: order.append(found))
    assert store.is_writing
    store.close()
    assert order == ["new", "a", True]
    assert not store.is_writing


def test_two_stores_that_merge_each_other_are_equal(open_store: Callable[..., Store]) -> None:
    one, other = open_store("one.db"), open_store("other.db")
    one.put(NAME, "a")
    one.put(PORT, "1", 5)
    other.put(NAME, "b")  # at the same nanosecond: the tie-break decides
    other.put(PORT, "2", 5)
    other.delete(PORT, 5)
    first = list(one.entries())
    assert one.merge(other.entries()) == 2
    assert other.merge(first) == 0
    assert one.merge(other.entries()) == 0
    assert one.digest == other.digest
    assert (one.get(NAME), one.get(PORT)) == ("b", "4040")


def test_a_value_of_another_computer_that_is_refused_here_is_kept_and_told(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.merge([Entry(PORT, 1, START, "many"), Entry("new::one", 1, START, "x")])
    assert store.get(PORT) == "many"
    assert "has a value that the definition here refuses" in caplog.text
    assert "many" not in caplog.text
    assert store.names() == sorted(defined())


def test_a_write_that_fails_inside_holds_up_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    date = store._now
    monkeypatch.setattr(store, "_now", lambda: 1 / 0)
    with pytest.raises(SettingsStoreError, match="internal error: division by zero"):
        store.put(NAME, "a")
    monkeypatch.setattr(store, "_now", date)
    assert store.put(NAME, "b").reason == "new"
    # What no text of SQLite can be.
    with pytest.raises(SettingsStoreError, match="surrogates not allowed"):
        store.merge([Entry(NAME, 1, START, "\udcff")])
    assert store.put(NAME, "c").reason == "changed"
    assert store.merge([Entry(NAME, 1, START, "x", "\udcff" * 300)]) == 1
    assert store.get_all(NAME)[0].who == "?" * 255
    assert capfd.readouterr().err == ""


def test_what_a_failed_batch_has_decided_is_answered_as_failed(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    entry = Entry(NAME, 50, START, "\udcff")  # no text of SQLite
    for _ in range(2):  # together: the second one only sees that the first is not older
        jobs = [gevent.spawn(store.merge, [entry]) for _ in range(2)]
        jobs.append(gevent.spawn(store.delete, PORT))
        gevent.joinall(jobs)
        assert [type(job.exception) for job in jobs] == [SettingsStoreError] * 2 + [type(None)]
        assert jobs[2].value is False
    assert store.current(NAME) is None
    [record] = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert "1 value could not be stored: " in record.getMessage()
    assert store.counts["failures"] == 2


# --- the file -------------------------------------------------------------------------------------


def test_the_file_is_one_for_its_owner_and_group(store: Store, tmp_path: Path) -> None:
    store.put(NAME, "x")
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0, path


def test_a_second_one_is_refused(store: Store, open_store: Callable[..., Store]) -> None:
    with pytest.raises(SettingsStoreError, match=r"settings\.db: another process has it open"):
        open_store()


def test_the_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    path.write_text("no database, and long enough to be looked at" * 50, encoding="utf-8")
    with pytest.raises(SettingsStoreError, match="not a database"):
        Database(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(SettingsStoreError, match="Is a directory"):
        Database(path)
    path.rmdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE x (y)")
    connection.close()
    with pytest.raises(SettingsStoreError, match="of another program"):
        Database(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(SettingsStoreError, match="of another program"):
        Database(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id = 0x45445345")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(SettingsStoreError, match="version 2 of the tables: 1 was expected"):
        Database(path)
    Database(tmp_path / "own.db").close()
    connection = sqlite3.connect(tmp_path / "own.db")
    connection.execute("DELETE FROM facts")
    connection.commit()
    connection.close()
    with pytest.raises(SettingsStoreError, match="it has lost its id"):
        Store(tmp_path / "own.db", defined())


def test_a_damaged_file_is_told(open_store: Callable[..., Store], tmp_path: Path) -> None:
    store = open_store()
    for priority in range(90):
        store.put(NAME, "x" * 100, priority)
    store.close()
    whole = (tmp_path / "settings.db").read_bytes()
    told = set()
    for page in range(1, len(whole) // 1024):
        damaged = whole[: 1024 * page] + b"\xff" * 1024 + whole[1024 * (page + 1) :]
        (tmp_path / "settings.db").write_bytes(damaged)
        try:
            found = open_store()
            try:
                found.history(NAME)
            finally:
                found.close()
        except SettingsStoreError as error:
            told.add(str(error))
    assert told == {f"{tmp_path}/settings.db: database disk image is malformed"}


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsStoreError, match=r"gone/x\.db: No such file") as caught:
        Database(tmp_path / "gone" / "x.db")
    assert caught.value.errno is not None


def test_a_file_that_was_lost_is_opened_again(
    open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    store.put(NAME, "a")
    store._database.close()
    assert store.put(NAME, "b").reason == "changed"
    assert [one.entry.value for one in store.history(NAME)] == ["b", "a"]


# --- text files -----------------------------------------------------------------------------------


def test_an_export_is_imported_again(
    open_store: Callable[..., Store], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store, other = open_store("one.db"), open_store("other.db")
    store.put("testsvc::time_out", "5s", 7)
    store.put(NAME, "line\nline")
    store.delete(NAME)
    store.put(NAME, "line\nline \\ ")
    path = tmp_path / "out.conf"
    export_file(store, str(path))
    assert path.read_text(encoding="utf-8") == export_text(store)
    assert f"testsvc::time_out::7={START}|5s\n" in path.read_text(encoding="utf-8")
    export_file(store, "-")
    assert capfd.readouterr().out == export_text(store)
    assert import_file(other, str(path)) == 2
    assert import_file(other, str(path)) == 0
    assert export_text(other) == export_text(store)
    assert sorted(os.listdir(tmp_path)) == sorted(
        {"one.db", "one.db-wal", "other.db", "other.db-wal", "out.conf"}
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("testsvc::port::50=1|x", "testsvc::port: an integer"),
        ("testsvc::none::50=1|x", "no parameter named"),
        ("what", "f:1: "),
        ("\udcff", "byte 0 is not UTF-8"),
    ],
)
def test_an_import_that_is_refused_changes_nothing(
    text: str, sentence: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = f"testsvc::name::50={START}|x\n" if "what" not in text else ""
    data = f"{good}{text}\n" if "\udcff" not in text else text
    (tmp_path / "f").write_bytes(data.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingError, match=sentence):
        import_file(store, "f")
    assert store.counts["commits"] == 0


def test_a_text_that_cannot_be_read_or_written_is_told(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SettingsStoreError, match="No such file"):
        import_file(store, str(tmp_path / "gone"))
    with pytest.raises(SettingsStoreError, match="No such file"):
        export_file(store, str(tmp_path / "gone" / "x"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsStoreError, match="Is a directory"):
        export_file(store, str(tmp_path / "folder"))
    assert sorted(os.listdir(tmp_path)) == ["folder", "settings.db", "settings.db-wal"]
