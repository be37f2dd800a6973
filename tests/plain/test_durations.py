"""Durations and timespecs: forms, exactness, round trips, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevent.durations import (
    format_duration,
    format_timespec,
    parse_duration,
    parse_timespec,
)
from edgevent.errors import DurationError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("10", 10.0),
        ("1.05", 1.05),
        (".5", 0.5),
        ("5.", 5.0),
        ("-5", -5.0),
        ("+5s", 5.0),
        ("- 1h 30m", -5400.0),
        ("250us", 0.00025),
        ("500ms", 0.5),
        ("10s", 10.0),
        ("1m", 60.0),
        ("1h30m", 5400.0),
        (" 1 h\t30 m ", 5400.0),
        ("14d", 1_209_600.0),
        ("1w", 604_800.0),
        ("1y", 31_536_000.0),
        ("1D 3H 2M 15.3S", 97_335.3),
        ("1 second", 1.0),
        ("2 seconds", 2.0),
        ("1 minute", 60.0),
        ("2minutes", 120.0),
        ("1 hour", 3600.0),
        ("2 hours 1 minute", 7260.0),
        ("1 day", 86_400.0),
        ("3 days", 259_200.0),
        ("1 week", 604_800.0),
        ("2 weeks", 1_209_600.0),
        ("1 month", 2_592_000.0),
        ("2 months", 5_184_000.0),
        ("1 year", 31_536_000.0),
        ("2 years", 63_072_000.0),
        (7, 7.0),
        (0.25, 0.25),
        (-1, -1.0),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-",
        "s",
        "--5",
        "5 -3s",
        "1h-30m",
        "1h30",
        "30 1h",
        "1x",
        "1mss",
        "1 ns",
        "1e3",
        "0x10",
        "1,5",
        "1_000",
        "nan",
        "inf",
        "\u0661s",
        "1\u00a0s",
        "1.2.3",
        "9" * 401,
        "9" * 400,
        "9" * 308 + "y",
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        pytest.param(10**5000, id="5000 digits"),
        True,
        None,
    ],
)
def test_durations_refused(text: str | float) -> None:
    with pytest.raises(DurationError, match="expected") as raised:
        parse_duration(text)
    assert len(str(raised.value)) < 300


def test_the_error_names_text_and_unit() -> None:
    with pytest.raises(DurationError, match="'5 parsecs': unit 'parsecs' unknown; expected sec"):
        parse_duration("5 parsecs")
    with pytest.raises(DurationError, match="'1h30': a number has no unit"):
        parse_duration("1h30")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (-0.0, "0s"),
        (1, "1s"),
        (1.5, "1.5s"),
        (60, "1m"),
        (60.5, "1m0.5s"),
        (5400, "1h30m"),
        (1_209_600, "14d"),
        (90_061, "1d1h1m1s"),
        (-90, "-1m30s"),
        (0.5, "500ms"),
        (0.0015, "1.5ms"),
        (0.00025, "250us"),
        (1e-9, "0.001us"),
        (1.5e-7, "0.15us"),
    ],
)
def test_durations_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration(text) == seconds


def test_a_duration_that_is_not_finite_is_not_written() -> None:
    with pytest.raises(DurationError):
        format_duration(math.nan)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_round_trip_of_durations(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text() | st.text("0123456789.-+ smhdwy"))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except DurationError:
        return
    assert math.isfinite(seconds)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("5", 5_000_000_000),
        ("5s", 5_000_000_000),
        ("+5.5", 5_500_000_000),
        ("-0.5", -500_000_000),
        ("\t-1.000000001s\r\n", -1_000_000_001),
        ("1700000000.123456789", 1_700_000_000_123_456_789),
        ("1.0000000019", 1_000_000_001),
        ("9223372036854775807", (2**63 - 1) * 1_000_000_000),
    ],
)
def test_timespecs(text: str, nanoseconds: int) -> None:
    assert parse_timespec(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "s", ".5", "5.", "5.s", "5 s", "5ss", "--5", "+ 5", "1e3", "1_0", "5m", "nan"),
        *("\u0661", "\u00a05", "9223372036854775808", "1" * 20, "1" * 5000),
    ],
)
def test_timespecs_refused(text: str) -> None:
    with pytest.raises(DurationError, match="nine digits"):
        parse_timespec(text)


@pytest.mark.parametrize(
    ("nanoseconds", "digits", "text"),
    [
        (0, None, "0"),
        (0, 9, "0.000000000"),
        (5_000_000_000, None, "5"),
        (5_500_000_000, None, "5.5"),
        (5_500_000_000, 9, "5.500000000"),
        (5_590_000_000, 1, "5.5"),
        (5_590_000_000, 0, "5"),
        (-500_000_000, None, "-0.5"),
        (-500_000_000, 0, "0"),
        (-1, 9, "-0.000000001"),
        (-1_000_000_001, None, "-1.000000001"),
        (-10_000_000_000, None, "-10"),
    ],
)
def test_timespecs_written(nanoseconds: int, digits: int | None, text: str) -> None:
    assert format_timespec(nanoseconds, digits=digits) == text


@pytest.mark.parametrize("digits", [-1, 10])
def test_digits_out_of_range(digits: int) -> None:
    with pytest.raises(DurationError, match="0 to 9"):
        format_timespec(0, digits=digits)


@given(st.integers(-(2**63) * 10**9, 2**63 * 10**9), st.sampled_from([None, 9]))
def test_round_trip_of_timespecs(nanoseconds: int, digits: int | None) -> None:
    if abs(nanoseconds) < 2**63 * 10**9:
        assert parse_timespec(format_timespec(nanoseconds, digits=digits)) == nanoseconds
