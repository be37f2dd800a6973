"""The pauses of permanent connections."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevent.backoff import MAX_PAUSES, MIN_PAUSE, Backoff
from edgevent.errors import DurationError


def take(backoff: Backoff, count: int) -> list[float]:
    return [backoff.next() for _ in range(count)]


def test_the_default_doubles_up_to_an_hour() -> None:
    backoff = Backoff(random=lambda: 0.0)
    assert backoff.first() == 0.0
    assert take(backoff, 14) == [2.0**n for n in range(12)] + [3600.0, 3600.0]


def test_the_default_is_shortened_by_up_to_half() -> None:
    chances = iter([0.0, 0.5, 0.9, 0.999])
    backoff = Backoff(random=lambda: next(chances))
    assert take(backoff, 3) == pytest.approx([1.0, 1.5, 2.2])
    assert 4.0 < backoff.next() < 4.1


def test_jitter_can_be_switched() -> None:
    assert take(Backoff(jitter=False, random=lambda: 0.9), 3) == [1.0, 2.0, 4.0]
    backoff = Backoff([-4, 8], jitter=True, random=lambda: 0.5)
    assert (backoff.first(), backoff.next()) == (3.0, 6.0)


def test_the_longest_pause_of_the_default() -> None:
    assert take(Backoff(jitter=False, maximum=5), 5) == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert take(Backoff(jitter=False, maximum=0.5), 2) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("pauses", "first", "following"),
    [
        ("-5,1,3,60", 5.0, [1.0, 3.0, 60.0, 60.0]),
        ("1,3", 0.0, [1.0, 3.0, 3.0]),
        ("1m, 500ms", 0.0, [60.0, 0.5, 0.5]),
        ("-5", 5.0, [5.0, 5.0]),
        ("5", 0.0, [5.0, 5.0]),
        ("0,1,3", 0.0, [1.0, 3.0, 3.0]),
        ("0", 0.0, [MIN_PAUSE, MIN_PAUSE]),
        ("1,0", 0.0, [1.0, MIN_PAUSE, MIN_PAUSE]),
        ("1us", 0.0, [MIN_PAUSE]),
        ("2h", 0.0, [7200.0]),
        ([-0.5, 1], 0.5, [1.0, 1.0]),
        ((2.5,), 0.0, [2.5, 2.5]),
        ("1," * (MAX_PAUSES - 1) + "2", 0.0, [1.0] * (MAX_PAUSES - 1) + [2.0, 2.0]),
    ],
)
def test_lists(pauses: str | Sequence[float], first: float, following: list[float]) -> None:
    backoff = Backoff(pauses)
    assert backoff.first() == first
    assert take(backoff, len(following)) == following


@pytest.mark.parametrize(
    ("pauses", "expected"),
    [
        ("", "no duration|expected seconds"),
        ("1,,3", "pauses '1,,3': duration ''"),
        ("1,x", "duration 'x'"),
        ("1,-3", "only the first entry"),
        ([], "expected 1 to 254 entries"),
        ([1.0] * 255, "expected 1 to 254 entries"),
        ("1," * 254 + "1", "expected 1 to 254 entries"),
        ([math.nan], "finite"),
    ],
)
def test_lists_refused(pauses: str | Sequence[float], expected: str) -> None:
    with pytest.raises(DurationError, match=expected) as raised:
        Backoff(pauses)
    assert str(raised.value).startswith("pauses ")
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "options",
    [{"maximum": 0}, {"maximum": math.nan}, {"maximum": math.inf}, {"stable_time": -1}],
)
def test_options_refused(options: dict[str, float]) -> None:
    with pytest.raises(DurationError, match="expected"):
        Backoff(**options)  # type: ignore[arg-type]


def test_only_a_stable_link_starts_the_pauses_anew() -> None:
    backoff = Backoff("-5,1,3,60")
    assert take(backoff, 2) == [1.0, 3.0]
    backoff.lost(9.9)
    assert backoff.next() == 60.0
    backoff.lost(10.0)
    assert take(backoff, 2) == [1.0, 3.0]
    backoff.reset()
    assert backoff.next() == 1.0


def test_the_stable_time_can_be_set() -> None:
    backoff = Backoff("1,3", stable_time=0)
    assert take(backoff, 2) == [1.0, 3.0]
    backoff.lost(0.0)
    assert backoff.next() == 1.0


def test_repr_shows_the_next_pause() -> None:
    assert repr(Backoff("90,1")) == "<Backoff next=1m30s>"


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.booleans(), st.floats(0, 0.999))
def test_no_pause_is_ever_too_short(pauses: list[float], jitter: bool, chance: float) -> None:
    backoff = Backoff(pauses, jitter=jitter, random=lambda: chance)
    for pause in take(backoff, len(pauses) + 2):
        assert MIN_PAUSE <= pause <= max(*pauses, MIN_PAUSE)
