"""The containers behind a permanent link: what it keeps, has sent, and may have lost."""

from __future__ import annotations

from typing import Any

import pytest

from edgevent import Message, Undelivered
from edgevent.links import undelivered
from edgevent.links.undelivered import NEVER, Entry, Kept, Record


def entries(*numbers: int, size: int = 10, keeps: bool = False) -> list[Entry]:
    """Messages that are lines of so many bytes."""
    return [Entry(f"N n={n}\n".encode().rjust(size), keeps) for n in numbers]


def numbers(found: Any) -> list[int]:
    return [getattr(one, "message", one).integer("n") for one in found]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undelivered, "UNDELIVERED_MESSAGES", 4)
    monkeypatch.setattr(undelivered, "UNDELIVERED_BYTES", 100)


def test_undelivered_messages_stand_in_the_order_in_which_they_were_sent() -> None:
    found = Undelivered()
    assert not found
    for first in (1, 11):  # two losses
        found.add(entries(first, first + 1), in_doubt=True)
        found.add(entries(first + 2), in_doubt=False)
    assert numbers(found) == numbers(found[:]) == [1, 2, 3, 11, 12, 13]
    assert numbers(found.in_doubt) == [1, 2, 11, 12]
    assert numbers(found.unsent) == [3, 13]
    assert (len(found), found[0].integer("n"), found[-1].integer("n")) == (6, 1, 13)
    assert Message("N", {"n": 11}) in found
    for message in found:  # may be dealt with, and forgotten, on the way
        found.clear()
        assert message.command == "N"
    assert len(found) == 0
    assert repr(found) == "<Undelivered 0 in doubt, 0 unsent>"


@pytest.mark.parametrize(("size", "left"), [(10, [3, 4, 5, 6]), (40, [5, 6]), (101, [])])
def test_the_oldest_undelivered_are_forgotten_and_counted(
    small: None, size: int, left: list[int]
) -> None:
    found = Undelivered()
    found.add(entries(1, 2, size=size), in_doubt=True)
    found.add(entries(3, 4, 5, 6, size=size), in_doubt=False)
    assert numbers(found) == left
    assert found.overflowed == 6 - len(left)
    found.clear()
    assert found.overflowed == 0


@pytest.mark.parametrize(("size", "left"), [(10, [3, 4, 5, 6]), (40, [5, 6])])
def test_the_oldest_of_a_record_are_forgotten_and_counted(
    small: None, size: int, left: list[int]
) -> None:
    record = Record()
    for end, entry in enumerate(entries(1, 2, 3, 4, 5, 6, size=size), 1):
        record.add(entry, end * size)
    assert len(record) == len(left)
    assert record.overflowed == 6 - len(left)
    assert numbers(record.split(NEVER - 1)[0]) == left


def test_a_record_forgets_what_has_arrived_and_splits_the_rest() -> None:
    record = Record()
    for entry, end in zip(entries(1, 2, 3, 4, 5), (10, 20, 30, 40, NEVER), strict=True):
        record.add(entry, end)
    record.arrived(19)
    in_doubt, unsent = record.split(39)
    assert (numbers(in_doubt), numbers(unsent)) == ([2, 3], [4, 5])
    assert len(record) == 0
    assert record.split(100) == ([], [])


def test_what_is_put_back_stands_before_the_others() -> None:
    kept = Kept()
    for entry in entries(4, 5):
        kept.add(entry)
    kept.put_back(entries(1, 2, 3))
    assert (len(kept), kept.size) == (5, 50)
    assert numbers([kept.take()]) == [1]
    assert numbers(kept.take_all()) == [2, 3, 4, 5]
    assert (len(kept), kept.size) == (0, 0)
