"""Framers: the same units however a stream is cut, and never more held than the limit."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevent.framing import Framer, LineFramer, RawFramer, RecordFramer, TextFramer
from edgevent.limits import MAX_LINE_BYTES, READ_BYTES

STREAM = b"one\n\ntwo lines\r\n\n\xff\0;=\n" + b"x" * 50 + b"\n" + b"last, and cut short"


def pull(framer: Framer, pieces: Iterable[bytes]) -> tuple[list[bytes], bytes, bool]:
    """The units that a stream gives, what is left at its end, and whether it was stopped."""
    units = [unit for piece in pieces for unit in framer.feed(piece)]
    return units, framer.end(), framer.too_long


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    return [stream[start:end] for start, end in pairwise([0, *sorted(places), len(stream)])]


def cut_at_random(stream: bytes, rng: random.Random) -> list[bytes]:
    return cut(stream, rng.choices(range(len(stream) + 1), k=rng.randrange(12)))


def test_lines_come_without_their_newline_and_empty_ones_too() -> None:
    units, rest, too_long = pull(LineFramer(), [STREAM])
    assert units == [b"one", b"", b"two lines\r", b"", b"\xff\0;=", b"x" * 50]
    assert rest == b"last, and cut short"
    assert not too_long


@pytest.mark.parametrize("limit", [MAX_LINE_BYTES, 50, 49, 10, 3, 1])
def test_the_same_stream_gives_the_same_lines_however_it_is_cut(limit: int) -> None:
    expected = pull(LineFramer(limit), [STREAM])
    assert expected[2] is (limit < 50)
    assert pull(LineFramer(limit), [STREAM[i : i + 1] for i in range(len(STREAM))]) == expected
    for place in range(len(STREAM) + 1):
        assert pull(LineFramer(limit), cut(STREAM, [place])) == expected
    rng = random.Random(limit)
    for _ in range(1_000):
        pieces = cut_at_random(STREAM, rng)
        assert pull(LineFramer(limit), pieces) == expected, pieces


@given(st.lists(st.binary().map(lambda line: line.replace(b"\n", b" "))), st.randoms())
def test_any_lines_come_out_as_they_went_in(lines: list[bytes], rng: random.Random) -> None:
    stream = b"".join([line + b"\n" for line in lines])
    assert pull(LineFramer(), cut_at_random(stream, rng)) == (lines, b"", False)


@pytest.mark.parametrize("pieces", [[], [b""], [b"", b""]])
def test_a_stream_without_bytes_gives_nothing(pieces: list[bytes]) -> None:
    assert pull(LineFramer(), pieces) == ([], b"", False)
    assert pull(RawFramer(), pieces) == ([], b"", False)


@pytest.mark.parametrize(
    ("pieces", "units", "too_long"),
    [
        ([b"12345678\n"], [b"12345678"], False),
        ([b"123456789\n"], [], True),
        ([b"12345678"], [], False),
        ([b"123456789"], [], True),
        ([b"1234", b"5678\n"], [b"12345678"], False),
        ([b"1234", b"56789\n"], [], True),
        ([b"1234", b"56789"], [], True),
        ([b"12345678", b"\n"], [b"12345678"], False),
        ([b"12345678", b"9"], [], True),
        ([b"a\nb\n123456789\nc\n"], [b"a", b"b"], True),
        ([b"a\nb\n123456789"], [b"a", b"b"], True),
        ([b"a\n", b"123456789\n", b"c\n"], [b"a"], True),
        ([b"a\n1234", b"56789\nc\n"], [b"a"], True),
        ([b"a\nb\nc\nd\ne\nf\n"], [b"a", b"b", b"c", b"d", b"e", b"f"], False),
    ],
)
def test_a_line_over_the_limit_ends_the_stream(
    pieces: list[bytes], units: list[bytes], too_long: bool
) -> None:
    framer = LineFramer(8)
    assert [unit for piece in pieces for unit in framer.feed(piece)] == units
    assert framer.too_long is too_long
    if too_long:
        assert framer.held == 0
        assert framer.feed(b"more\n") == []
        assert framer.end() == b""


def test_the_longest_line_is_the_limit_by_default() -> None:
    line = b"x" * MAX_LINE_BYTES
    assert pull(LineFramer(), [line, b"\n"]) == ([line], b"", False)
    assert pull(LineFramer(), [line, b"x"]) == ([], b"", True)


def test_what_is_held_is_the_line_that_has_begun() -> None:
    framer = LineFramer()
    assert framer.held == 0
    framer.feed(b"one\ntw")
    assert framer.held == 2
    framer.feed(b"o")
    assert framer.held == 3
    assert framer.feed(b"\n") == [b"two"]
    assert framer.held == 0


def test_the_end_forgets_what_it_returns() -> None:
    framer = LineFramer()
    framer.feed(b"cut short")
    assert framer.end() == b"cut short"
    assert framer.end() == b""
    assert framer.feed(b"a\n") == [b"a"]


@pytest.mark.parametrize("size", [1, 1000, READ_BYTES])
def test_never_more_than_the_limit_and_one_read_is_held(size: int) -> None:
    framer = LineFramer()
    most = 0
    for _ in range(4 * MAX_LINE_BYTES // size):
        assert framer.feed(b"x" * size) == []
        most = max(most, framer.held)
    assert framer.too_long
    assert framer.held == 0
    assert MAX_LINE_BYTES // 2 < most <= MAX_LINE_BYTES + size


def test_a_raw_stream_is_passed_on_as_it_was_read() -> None:
    framer = RawFramer()
    assert pull(framer, [b"one\ntw", b"", b"o"]) == ([b"one\ntw", b"o"], b"", False)
    assert framer.held == 0


@pytest.mark.parametrize("limit", [60, MAX_LINE_BYTES])
def test_decoded_lines_are_the_same_lines(limit: int) -> None:
    rng = random.Random(7)
    stream = "é\n日本\n\n".encode() * 5 + STREAM + b"\n\xe6\x97\n" + "日本".encode()
    lines, rest, _ = pull(LineFramer(limit), [stream])
    expected = ([line.decode("utf-8", "surrogateescape") for line in lines], rest, False)
    assert pull(TextFramer(limit), [stream]) == expected
    assert pull(TextFramer(limit), [stream[i : i + 1] for i in range(len(stream))]) == expected
    for _ in range(300):
        assert pull(TextFramer(limit), cut_at_random(stream, rng)) == expected


@pytest.mark.parametrize(
    "pieces",
    [
        [b"ok\n123456789\nmore\n"],
        [b"ok\n", b"1234567", b"89\nmore\n"],
        [b"ok\n", b"1234567", b"89"],
        [b"ok\n123456789"],
    ],
)
def test_decoded_lines_stop_at_one_that_is_too_long(pieces: list[bytes]) -> None:
    framer = TextFramer(8)
    assert [unit for piece in pieces for unit in framer.feed(piece)] == ["ok"]
    assert framer.too_long
    assert framer.feed(b"more\n") == []
    assert framer.held == 0


@pytest.mark.parametrize(
    ("record", "units"),
    [
        (b"one", [b"one"]),
        (b"one\n", [b"one"]),
        (b"one\ntwo", [b"one", b"two"]),
        (b"one\n\ntwo\n\n", [b"one", b"", b"two", b""]),
        (b"\n", [b""]),
        (b"12345678\n12345678\n", [b"12345678", b"12345678"]),
    ],
)
def test_the_end_of_a_record_ends_its_last_line(record: bytes, units: list[bytes]) -> None:
    framer = RecordFramer(8)
    assert pull(framer, [record, b"next"]) == ([*units, b"next"], b"", False)
    assert framer.held == 0
    decoded = [unit.decode() for unit in units]
    assert RecordFramer(8, as_text=True).feed(record) == decoded


@pytest.mark.parametrize("record", [b"", b"one", b"one\n", b"one\ntwo", b"\n\n"])
def test_a_whole_record_is_one_unit(record: bytes) -> None:
    assert RecordFramer(whole=True).feed(record) == [record.removesuffix(b"\n")]


def test_records_are_decoded_as_lines_are() -> None:
    assert RecordFramer(as_text=True).feed("é\n".encode() + b"\xff") == ["é", "\udcff"]


@pytest.mark.parametrize(
    ("records", "units"),
    [
        ([b"123456789"], []),
        ([b"12345678", b"123456789\n", b"more"], [b"12345678"]),
        ([b"1\n2\n123456789\n4"], [b"1", b"2"]),
        ([b"1\n2\n12345678\n4"], [b"1", b"2", b"12345678", b"4"]),
    ],
)
def test_a_line_over_the_limit_ends_the_records(records: list[bytes], units: list[bytes]) -> None:
    framer = RecordFramer(8)
    assert [unit for record in records for unit in framer.feed(record)] == units
    assert framer.too_long is (len(units) < 4)
    if framer.too_long:
        assert framer.feed(b"more") == []
    assert framer.end() == b""


@given(st.lists(st.binary(min_size=1, max_size=200)))
def test_a_stream_of_records_gives_the_lines_of_a_stream(records: list[bytes]) -> None:
    """Ended by newlines, they are the same lines: a program may change its address alone."""
    ended = [record if record.endswith(b"\n") else record + b"\n" for record in records]
    lines = pull(LineFramer(100), [b"".join(ended)])
    assert pull(RecordFramer(100), ended) == lines
    texts = [line.decode("utf-8", "surrogateescape") for line in lines[0]]
    assert [unit for record in ended for unit in RecordFramer(300, as_text=True).feed(record)][
        : len(texts)
    ] == texts
