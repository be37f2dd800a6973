"""What was sent by way of a daemon, by those that it is for."""

from __future__ import annotations

import pytest

from edgevent import Message
from edgevent.communicatord import arrivals
from edgevent.communicatord.arrivals import RoutedRecord, target_of
from edgevent.links.undelivered import NEVER, Entry


def record(*targets: str) -> RoutedRecord:
    """A record of one message to each target; the end of each is its number, from 1 on."""
    found = RoutedRecord()
    for number, target in enumerate(targets, 1):
        found.add(Entry(f"<:me {target}/N n={number}\n".encode()), number)
    return found


def left(found: RoutedRecord) -> list[str]:
    in_doubt, unsent = found.split(1000)
    assert len(found) == 0
    return [entry.message["n"] for entry in in_doubt + unsent]


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (b"<:me you/N x=a/b c\n", "you"),
        (b"<:me snap:you/N\n", "snap:you"),
        (b"<:me N\n", ""),
        (b"<:me communicatord/N\n", ""),
        (b"<:me */N x=1\n", "*"),
        (Message("N", service="you", server="snap").to_json().encode() + b"\n", "snap:you"),
    ],
)
def test_a_line_is_for_its_target(line: bytes, target: str) -> None:
    assert target_of(line) == target


def test_an_answer_speaks_for_who_gives_it_alone() -> None:
    found = record("a", "b", "", "a", "a")
    found.answered("a", 4)
    assert len(found) == 3
    found.answered("", 4)
    found.answered("nobody", 5)
    found.answered("a", 4)  # late: of a request that was sent before
    assert left(found) == ["2", "5"]
    found.answered("b", 5)
    assert left(found) == []


@pytest.mark.parametrize("to", ["*", "?", ".", "*:*"])
@pytest.mark.parametrize("who", ["a", ""])
def test_whoever_answers_shows_that_the_daemon_has_dealt_with_a_broadcast(
    to: str, who: str
) -> None:
    found = record(to, to, "b", to)
    found.answered(who, 3)
    assert len(found) == 2
    assert left(found) == ["3", "4"]


def test_what_the_kernel_has_not_taken_has_not_arrived() -> None:
    found = record("a")
    found.add(Entry(b"<:me a/N n=2\n"), NEVER)
    found.answered("a", 1000)
    assert left(found) == ["2"]


@pytest.mark.parametrize("limit", ["UNDELIVERED_MESSAGES", "UNDELIVERED_BYTES"])
def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    size = len(b"<:me a/N n=1\n")
    monkeypatch.setattr(arrivals, limit, 3 if limit == "UNDELIVERED_MESSAGES" else 3 * size)
    found = record("a", "b", "c", "b", "d")
    found.answered("e", 5)
    assert found.overflowed == 2
    assert sorted(found._targets) == ["b", "c", "d"]  # nor is a name kept of which nothing is left
    assert left(found) == ["3", "4", "5"]
