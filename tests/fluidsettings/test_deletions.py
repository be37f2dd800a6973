"""Several daemons end up with the same, whatever happens; deletions are not kept for ever."""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gevent
import pytest
from network_ground import Ground, until
from replica_ground import DAY, NAMES, START, Replica, are_equal, become_equal

from edgevent import Communicator, SettingsStoreError
from edgevent.fluidsettings.transfer import import_file
from edgevent.fluidsettings.values import Entry

Make = Callable[..., Replica]
NAME = NAMES[0]
KEEP = 90 * 86_400.0


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a daemon with a file of this name; closed at the end."""
    made: list[Replica] = []
    with Ground(Communicator()) as ground:

        def make(name: str, keep_deletions: float = KEEP) -> Replica:
            made.append(Replica(ground, tmp_path / name, keep_deletions))
            return made[-1]

        yield make
        for one in made:
            one.close()


def pass_days(days: float, *replicas: Replica) -> None:
    """Lets time go by, and deletions be dropped."""
    for one in replicas:
        one.date.now += int(days * DAY)
        one.store.drop_deletions()
        until(lambda one=one: not one.store.is_writing)  # type: ignore[misc]


def become_equal_later(*replicas: Replica) -> None:
    """Waits until all have the same, while the timers of daemons do what they do."""

    def tick() -> None:
        for one in replicas:
            one.store.drop_deletions()
            one.replication.compare()

    compares = gevent.get_hub().loop.timer(0.02, 0.02)
    compares.start(tick)
    try:
        become_equal(*replicas)
    finally:
        compares.stop()
        compares.close()


# --- deletions ------------------------------------------------------------------------------------


def test_deletions_are_dropped_after_a_time_and_values_are_not(make: Make, tmp_path: Path) -> None:
    one = make("one")
    before = one.store.digest
    one.store.put(NAME, "x")
    one.store.delete(NAME)
    pass_days(89, one)
    assert len(list(one.store.entries())) == 1
    pass_days(5, one)
    assert list(one.store.entries()) == []
    assert one.store.digest == before
    horizon = one.store.deletions.horizon
    assert START < horizon < START + DAY
    assert [change.entry.value for change in one.store.history(NAME)] == [None, "x"]
    one.store.put(NAME, "y")
    pass_days(1_000, one)
    one.close()
    again = make("one")
    assert again.store.get(NAME) == "y"
    assert again.store.deletions.horizon == horizon


def test_a_horizon_that_is_no_number_is_told(make: Make, tmp_path: Path) -> None:
    make("one").close()
    with closing(sqlite3.connect(tmp_path / "one")) as file, file:
        file.execute("INSERT INTO facts VALUES ('horizon', 'soon')")
    with pytest.raises(SettingsStoreError, match="horizon 'soon' is no number"):
        make("one")


def test_all_drop_the_same_at_the_same_time(make: Make) -> None:
    one, other = make("one"), make("other")
    other.dial(one)
    other.date.now += 3_000_000_000  # their clocks are not quite the same
    for name in NAMES:
        one.store.put(name, "x")
        one.store.delete(name)
        one.date.now += 4 * DAY
        other.date.now += 4 * DAY
    become_equal(one, other)
    for _ in range(120):
        pass_days(1, one, other)
        assert are_equal((one, other))
    assert list(one.store.entries()) == []


@pytest.mark.parametrize(("away", "there"), [(80, None), (100, None), (100, "new")])
def test_a_deletion_holds_however_long_another_one_was_away(
    away: int, there: str | None, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = make("one"), make("other")
    for name in NAMES[:3]:
        one.store.put(name, "old")
    other.dial(one)
    become_equal(one, other)
    other.cut()
    one.store.delete(NAME)
    one.store.delete(NAMES[1])
    other.date.now += 10**9
    other.store.put(NAMES[1], "set meanwhile")
    one.date.now += 2 * 10**9
    one.store.put(NAMES[3], "x")
    one.store.delete(NAMES[3])
    if there:
        one.store.put(NAME, there)
    pass_days(away, one, other)
    other.store.put(NAMES[2], "set now")
    other.dial(one)
    until(lambda: one.store.get(NAMES[1]) == "set meanwhile")
    become_equal_later(one, other)  # with an old date it has another one there
    pass_days(4, one, other)
    become_equal(one, other)
    for replica in (one, other):
        assert replica.store.get(NAME) == there
        assert replica.store.get(NAMES[1]) == "set meanwhile"  # it cannot have been deleted
        assert replica.store.get(NAMES[2]) == "set now"
        assert not [one for one in replica.standing() if one[3] is None and away > 90]
    told = "older than the deletions kept: it is deleted" in caplog.text
    assert told == (away > 90 and there is None)


@pytest.mark.parametrize("dials", ["the new one", "the old one"])
def test_one_that_joins_later_loses_nothing(make: Make, dials: str) -> None:
    old, other, new = make("old"), make("other"), make("new")
    new.store.put(NAMES[1], "of its own")
    new.store.put(NAMES[2], "of its own")
    pass_days(1, old, other)
    old.store.put(NAMES[2], "newer")
    old.store.put(NAME, "x")
    old.store.delete(NAME)
    other.dial(old)
    become_equal(old, other)
    pass_days(100, old, other, new)
    assert old.store.deletions.horizon > new.store.current(NAMES[1]).timestamp  # type: ignore[union-attr]
    (new if dials == "the new one" else old).dial(*([old] if dials == "the new one" else [new]))
    until(lambda: old.store.get(NAMES[1]) == "of its own")
    become_equal_later(old, other, new)
    for replica in (old, other, new):
        assert [replica.store.get(name) for name in NAMES[:3]] == [None, "of its own", "newer"]
    # From now on it is one of them: what is deleted while it is away stays so.
    old.replication.compare()
    until(lambda: new.store.deletions.synced > START + 100 * DAY)
    new.cut()
    old.cut()
    other.dial(old)
    old.store.delete(NAMES[1])
    pass_days(100, old, other, new)
    new.close()
    new = make("new")
    new.date.now = old.date.now
    new.dial(old)
    until(lambda: new.store.get(NAMES[1]) is None)
    become_equal_later(old, other, new)


def test_what_has_come_or_gone_by_itself_is_known_to_others(make: Make) -> None:
    one, other = make("one"), make("other")
    other.dial(one)
    until(lambda: bool(one.replication.peers and other.replication.peers))
    one.store.put(NAME, "x")
    other.store.put(NAMES[1], "x")
    become_equal(one, other)
    other.cut()  # before they have compared what they have
    one.store.delete(NAME)
    one.store.delete(NAMES[1])
    other.store.put(NAMES[2], "x")
    pass_days(100, one, other)
    other.dial(one)
    until(lambda: one.store.get(NAMES[2]) is not None)
    become_equal_later(one, other)
    assert [other.store.get(name) for name in NAMES[:3]] == [None, None, "x"]


def test_the_file_of_a_former_version_has_nothing_of_its_own(make: Make, tmp_path: Path) -> None:
    one = make("one")
    one.store.put(NAME, "x")
    one.close()
    with closing(sqlite3.connect(tmp_path / "one")) as file, file:
        file.execute("DELETE FROM facts WHERE key = 'synced'")
    again = make("one")
    assert not any(again.store.deletions.is_new(one) for one in again.store.entries())


def test_deletions_are_kept_as_long_as_the_longest(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = make("one", keep_deletions=KEEP / 3), make("other")
    other.dial(one)
    until(lambda: bool(one.replication.peers and other.replication.peers))
    for name in NAMES:
        one.store.put(name, "x")
        one.store.delete(name)
    become_equal(one, other)
    for _ in range(8):
        pass_days(12, one, other)
        assert are_equal((one, other))
    assert list(one.store.entries()) == []
    one.replication.compare()
    become_equal(one, other)
    text = "another daemon keeps deletions for {}, this one for {}: the longer time counts"
    told = [record.getMessage() for record in caplog.records if "keeps" in record.getMessage()]
    assert sorted(told) == [text.format("30d", "90d"), text.format("90d", "30d")]
    one.store.deletions.heard("another one", 0.0)  # for ever
    assert one.store.deletions.limit() == 0
    one.store.deletions.heard("another one", 10.0**12)
    assert one.store.deletions.limit() == 0


def test_one_that_is_new_gets_everything_and_knows_what_was_dropped(make: Make) -> None:
    one, stale = make("one"), make("stale")
    for name in NAMES[:2]:
        one.store.put(name, "old")
    stale.dial(one)
    become_equal(one, stale)
    stale.cut()
    one.store.delete(NAME)
    pass_days(100, one, stale)
    new = make("new")
    new.date.now = one.date.now
    new.dial(one)
    become_equal(one, new)
    assert new.store.get(NAMES[1]) == "old"
    until(lambda: new.store.deletions.horizon == one.store.deletions.horizon)
    one.cut()
    new.dial()
    stale.dial(new)
    become_equal(new, stale)
    assert new.store.get(NAME) is stale.store.get(NAME) is None
    assert stale.store.get(NAMES[1]) == "old"


def test_what_somebody_sets_with_an_old_date_is_not_taken_for_deleted(
    make: Make, tmp_path: Path
) -> None:
    one, other = make("one"), make("other")
    one.store.put(NAME, "x")
    one.store.delete(NAME)
    pass_days(100, one)
    other.date.now = one.date.now
    other.dial(one)
    until(lambda: other.store.deletions.horizon == one.store.deletions.horizon)
    assert one.store.put(NAMES[1], "put", timestamp=START - DAY).entry.timestamp > START + DAY
    text = tmp_path / "text"
    name = NAMES[2].replace("-", "_")
    text.write_text(f"{name}::50={START - DAY}|imported\n", encoding="utf-8")
    assert import_file(other.store, str(text)) == 1
    become_equal(one, other)
    for replica in (one, other):
        assert [replica.store.get(name) for name in NAMES[1:3]] == ["put", "imported"]


def test_a_horizon_that_cannot_be_is_not_adopted(make: Make) -> None:
    one, other = make("one"), make("other")
    other.store.deletions.horizon = START + 10**6 * DAY
    other.dial(one)
    until(lambda: bool(one.replication.peers))
    one.store.put(NAME, "x")
    become_equal(one, other)
    other.replication.compare()
    one.store.put(NAME, "y", timestamp=START)
    become_equal(one, other)
    assert one.store.deletions.horizon == 0


def test_a_deletion_that_is_being_replaced_is_not_dropped(make: Make) -> None:
    one = make("one")
    one.store.put(NAME, "x")
    one.store.delete(NAME)
    one.date.now += 100 * DAY
    done: list[Any] = []
    # All in one batch.
    one.store.put_soon(NAME, "y", 50, None, "", lambda found, error: done.append(error))
    one.store.drop_deletions()
    one.store.after_writes(lambda found, error: done.append(error))
    until(lambda: len(done) == 2)
    assert done == [None, None]
    assert one.store.get(NAME) == "y"
    one.store.delete(NAME)
    one.date.now += 100 * DAY
    one.store.drop_deletions()
    one.store.put_soon(NAME, "z", 50, None, "", lambda found, error: done.append(error))
    until(lambda: len(done) == 3)
    assert one.store.get(NAME) == "z"


# --- whatever happens -----------------------------------------------------------------------------


def change(dice: random.Random, replica: Replica) -> None:
    """Begins a write, or has the clock jump."""
    name, priority = dice.choice(NAMES), dice.choice((10, 50))
    kind = dice.randrange(8)
    if kind < 5:
        replica.store.put_soon(
            name, str(dice.randrange(4)), priority, None, "", lambda found, error: None
        )
    elif kind < 7:
        replica.store.delete_soon(name, priority, "", lambda found, error: None)
    else:
        replica.date.now += dice.choice((-1, 1)) * 3_600 * 10**9


@pytest.mark.parametrize("shape", ["pair", "line", "ring"])
@pytest.mark.parametrize(
    "seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 60))]
)
def test_all_come_to_the_same_through_cuts_and_jumps_of_clocks(
    seed: int, shape: str, make: Make
) -> None:
    dice = random.Random(seed)
    replicas = [make(name) for name in ("one", "two", "three")[: 2 if shape == "pair" else 3]]
    links = {0: [1], 1: [2], 2: [0]} if shape == "ring" else {0: [1], 1: [2][: len(replicas) - 2]}
    for _ in range(15):
        for number, others in links.items():
            if dice.random() < 0.3:
                replicas[number].cut()
            elif dice.random() < 0.6:
                replicas[number].dial(*(replicas[other] for other in others))
        for _ in range(dice.randrange(12)):
            change(dice, dice.choice(replicas))
        for _ in range(dice.randrange(6)):
            gevent.sleep(0)  # goes on at another moment each time
    for number, others in links.items():
        replicas[number].dial(*(replicas[other] for other in others))
    become_equal(*replicas)
    assert len({str(one.standing()) for one in replicas}) == 1
    values = {(name, priority): value for name, priority, _, value in replicas[0].standing()}
    for one in replicas:
        last = one.last_changes()  # a deletion of what was never there is no change
        assert {key: last.get(key) for key in values} == values


def test_one_that_was_restored_from_an_old_copy_takes_what_is_newer(
    make: Make, tmp_path: Path
) -> None:
    one, other = make("one"), make("other")
    other.dial(one)
    other.store.put(NAME, "old")
    other.store.put(NAMES[1], "kept")
    become_equal(one, other)
    other.close()
    shutil.copy(tmp_path / "other", tmp_path / "copy")
    other = make("other")
    other.dial(one)
    become_equal(one, other)
    other.date.now = one.date.now + DAY
    other.store.put(NAME, "new")
    other.store.delete(NAMES[1])
    become_equal(one, other)
    other.close()
    shutil.copy(tmp_path / "copy", tmp_path / "other")
    other = make("other")
    assert other.store.get(NAME) == "old"
    other.dial(one)
    become_equal(one, other)
    assert [other.store.get(name) for name in NAMES[:2]] == ["new", None]


def test_a_deletion_of_another_one_that_is_too_old_is_passed_by(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = make("one")
    one.date.now += 200 * DAY
    assert one.store.merge([Entry(NAME, 50, START, None)]) == 0
    assert one.store.merge([Entry(NAME, 50, START + 199 * DAY, None)]) == 1
