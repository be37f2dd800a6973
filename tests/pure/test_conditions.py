"""Conditions that may last or come again: a line a minute, and how often there was none."""

from __future__ import annotations

import logging

import pytest

from edgevent import limits
from edgevent.conditions import MAX_OF_PEER, Conditions


@pytest.fixture
def conditions() -> Conditions:
    return Conditions(logging.getLogger("edgevent"))


def test_each_condition_is_logged_once_a_minute_with_a_count(
    conditions: Conditions, caplog: pytest.LogCaptureFixture
) -> None:
    for now in (0.0, 1.0, 59.9, 60.0, 60.1):
        conditions.say(now, "full", "100% full")
        conditions.say(now, "deaf", "deaf")
    conditions.say(120.0, "full", "full")
    assert caplog.messages == [
        "100% full",
        "deaf",
        "100% full (2 more since the last such line)",
        "deaf (2 more since the last such line)",
        "full (1 more since the last such line)",
    ]


def test_what_is_known_of_conditions_is_bounded(
    conditions: Conditions, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOGGED_PEERS", 3)
    for now, what in ((0.0, "a"), (50.0, "b"), (50.0, "c"), (70.0, "d"), (70.0, "b")):
        conditions.say(now, what, what)
    assert caplog.messages == ["a", "b", "c", "d"]  # a is forgotten, as its minute is over
    conditions.say(71.0, "e", "e")
    conditions.say(71.0, "b", "b")
    assert caplog.messages[4:] == ["e", "b"]  # there was no room
    assert conditions._count <= 3


def test_what_many_peers_repeat_is_bounded_too(
    conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOGGED_PEERS", 10)
    for number in range(100):
        now = 61.0 if number > 55 else 0.0
        conditions.say(now, "late", "late", peer=f"peer {number}")
        assert sum(map(len, conditions._said.values())) == conditions._count <= 10


def test_a_peer_that_makes_up_conditions_has_few(
    conditions: Conditions, caplog: pytest.LogCaptureFixture
) -> None:
    said = [conditions.say(0.0, f"no. {n}", "%s: %d", "one", n, peer="one") for n in range(100)]
    assert sum(said) == len(caplog.messages) == MAX_OF_PEER + 1
    assert conditions.say(0.0, "no. 99", "another's", peer="other")
    conditions.say(61.0, "no. 99", "again", peer="one")
    assert caplog.messages[-1] == "again (79 more since the last such line)"
