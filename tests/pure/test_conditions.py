"""Conditions that may last or come again: a line a minute, and how often there was none."""

from __future__ import annotations

import logging

import pytest

from edgevent import limits
from edgevent.conditions import Conditions


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
    assert len(conditions._said) <= 3
