"""Messages under random and hostile input: a message or a MessageError, and at a linear cost."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from counted_calls import count_calls
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevent.errors import MessageError
from edgevent.message import Message

HERE = Path(__file__).resolve().parent


def parse(line: bytes | str) -> Message | MessageError:
    """What is made of a line; any other error is raised, and fails the test."""
    try:
        return Message.parse(line)
    except MessageError as error:
        return error


# --- random bytes and mutated lines ---------------------------------------------------------------


def known_lines() -> list[bytes]:
    rows = []
    for name in ("messages.jsonl", "json_messages.jsonl"):
        text = (HERE / name).read_text(encoding="utf-8")
        rows += [json.loads(row) for row in text.split("\n") if row]
    return [row["line"].encode("latin-1") for row in rows if row["expect"] == "accept"]


PIECES = (
    *(b";", b"=", b'"', b"\\", b" ", b":", b"/", b"<", b"{", b"}", b"[", b",", b"\0", b"\n"),
    *(b"A", b"a", b"_", b"1", b"\xff", b"\xc3\xa9", b"\\n", b'\\"', b"\\u", b"\\ud800", b"\\udcff"),
)


def mutate(line: bytes, other: bytes, rng: random.Random) -> bytes:
    """Changes a line in one to three places."""
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(line) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            line = line[:place] + line[place + 1 :]
        elif kind == 1:
            line = line[:place] + rng.choice(PIECES) + line[place:]
        elif kind == 2:
            line = line[:place] + rng.choice(PIECES) + line[place + 1 :]
        elif kind == 3:
            line = line[:place] + other[rng.randrange(len(other) + 1) :]
        else:
            line = line[:place]
    return line


def make_lines(count: int, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    lines = known_lines()
    for number in range(count):
        if number % 4 == 0:
            yield rng.randbytes(rng.randrange(64))
        elif number % 4 == 1:
            yield b"".join(rng.choices(PIECES, k=rng.randrange(1, 16)))
        else:
            yield mutate(rng.choice(lines), rng.choice(lines), rng)


def try_all(lines: Iterator[bytes]) -> int:
    """Parses each line, and writes and parses again what is accepted; returns how much that is."""
    accepted = 0
    for line in lines:
        message = parse(line)
        if isinstance(message, Message):
            accepted += 1
            written = bytes(message)
            assert bytes(Message.parse(written)) == written, line
    return accepted


def test_random_bytes_and_mutated_lines_give_a_message_or_a_message_error(
    empty_tables: None,
) -> None:
    accepted = try_all(make_lines(200_000, seed=1))
    assert 20_000 < accepted < 150_000


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_fifty_million_of_them(empty_tables: None) -> None:
    accepted = try_all(make_lines(50_000_000, seed=2))
    assert 5_000_000 < accepted < 40_000_000


def test_what_is_accepted_is_the_same_in_json(empty_tables: None) -> None:
    for line in make_lines(20_000, seed=3):
        message = parse(line)
        if isinstance(message, Message):
            assert Message.parse(message.to_json()) == message, line


# --- any text -------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
PLACES = st.just("") | st.sampled_from([".", "*", "?"]) | NAMES
# Text as it comes from bytes: surrogates stand for those that are no UTF-8.
TEXTS = (
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
    | st.text('\\"; \n\r\t=nr')
    | st.binary().map(lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
)
MESSAGES = st.builds(
    lambda command, parameters, service, **places: Message(
        command,
        parameters,
        service=service,
        server=places.pop("server") if service else "",
        sent_from_server=places["from_server"],
        sent_from_service=places["from_service"],
    ),
    st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True),
    st.dictionaries(NAMES, TEXTS, max_size=6),
    service=PLACES,
    server=PLACES,
    from_server=PLACES,
    from_service=PLACES,
)


def check_round_trip(message: Message) -> None:
    line = bytes(message)
    assert b"\n" not in line
    assert b"\0" not in line
    again = Message.parse(line + b"\n")
    assert again == message
    assert bytes(again) == line
    assert Message.parse(str(message)) == message
    assert "\n" not in message.to_json()
    assert Message.parse(message.to_json()) == message
    assert bytes(Message.parse(message.to_json())) == line


@given(MESSAGES)
@settings(max_examples=1000, deadline=None)
def test_any_text_is_built_and_read_back_in_both_forms(message: Message) -> None:
    check_round_trip(message)


@pytest.mark.slow
@pytest.mark.timeout(0)
@given(MESSAGES)
@settings(max_examples=20_000, deadline=None)
def test_twenty_thousand_of_them(message: Message) -> None:
    check_round_trip(message)


@given(st.text(st.characters()))
@settings(max_examples=1000, deadline=None)
def test_any_text_at_all_is_carried_or_refused(text: str) -> None:
    try:
        message = Message("HI", {"v": text})
    except MessageError:
        return
    assert Message.parse(bytes(message)) == message
    assert Message.parse(message.to_json()) == message


@given(st.binary())
@settings(max_examples=1000, deadline=None)
def test_any_bytes_travel_as_a_value(data: bytes) -> None:
    # As base64 any bytes at all; as they are, all but those that mean something to the line.
    assert Message.parse(bytes(Message("HI", {"v": data}))).binary("v") == data
    plain = bytes(byte for byte in data if byte not in b'\0\\";').strip()
    assert Message.parse(b"HI v=" + plain)["v"].encode("utf-8", "surrogateescape") == plain


@given(st.binary() | st.text(st.characters()))
@settings(max_examples=1000, deadline=None)
def test_any_line_gives_a_message_or_a_message_error(line: bytes | str) -> None:
    message = parse(line)
    if isinstance(message, Message):
        assert bytes(Message.parse(bytes(message))) == bytes(message)


# --- cost -----------------------------------------------------------------------------------------

SMALL, LARGE = 4 * 1024, 64 * 1024
ENOUGH_TO_REMEMBER = 10  # whatever is kept of a line that comes often is then there


@pytest.mark.parametrize(
    "make",
    [
        lambda size: b"HI v=" + b"x" * size,
        lambda size: b'HI v="' + b";" * size + b'"',
        lambda size: b"HI v=" + b"\\n" * (size // 2),
        lambda size: b'HI v="' + b"\\n" * (size // 2) + b'"',
        lambda size: b"HI v=" + b"\xff" * size,
        lambda size: b'{"command":"HI","parameters":{"v":"' + b"\\n" * (size // 2) + b'"}}',
        lambda size: b'{"command":"HI","parameters":{"v":' + b"7" * size + b"}}",
    ],
)
def test_a_longer_value_takes_no_more_steps(
    empty_tables: None, make: Callable[[int], bytes]
) -> None:
    def steps(size: int) -> int:
        line = make(size)

        def work() -> bytes:
            return bytes(Message.parse(line).with_parameters(w=1))

        for _ in range(ENOUGH_TO_REMEMBER):
            work()
        return count_calls(work)

    assert steps(LARGE) == steps(SMALL)


@pytest.mark.parametrize(
    "make",
    [
        lambda size: b"HI v=" + b";v=" * (size // 3),
        lambda size: b"HI " + b"v=\\\\;" * (size // 5),
        lambda size: b"HI " + b'v="";' * (size // 5),
        lambda size: b'HI v="' + b'\\"' * (size // 2) + b'"',
        lambda size: b'{"command":"HI","x":{' + b'"v":1,' * (size // 6) + b'"v":1}}',
        lambda size: b'{"command":"HI","parameters":{' + b'"v":"\\n",' * (size // 9) + b'"v":1}}',
    ],
)
def test_a_longer_line_takes_more_steps_in_proportion(
    empty_tables: None, make: Callable[[int], bytes]
) -> None:
    def steps(size: int) -> int:
        line = make(size)
        for _ in range(ENOUGH_TO_REMEMBER):
            Message.parse(line)
        return count_calls(lambda: Message.parse(line))

    assert steps(LARGE) <= (LARGE // SMALL) * steps(SMALL)


MEBIBYTE = 1024 * 1024

# What stands before, what is repeated, and what stands behind.
HOSTILE_LINES = [
    (b"", b"A", b""),
    (b"", b"a", b""),
    (b"", b"A:", b""),
    (b"", b"A/", b""),
    (b"", b"<", b""),
    (b"<", b"a", b":s HI"),
    (b"<a", b":", b" HI"),
    (b"HI ", b"a", b""),
    (b"HI ", b"=", b""),
    (b"HI ", b";", b""),
    (b"HI v=", b" ", b"x"),
    (b"HI v=", b";v=", b""),
    (b"HI v=", b"\\", b""),
    (b'HI v="', b"\\", b""),
    (b'HI v="', b"\\a", b""),
    (b'HI v="', b'\\"', b""),
    (b'HI v="', b'\\"', b'"x'),
    (b'HI v="', b"a", b""),
    (b"HI ", b'v="";', b"w"),
    (b"HI v=", b"\xff", b""),
    (b"", b"{", b""),
    (b'{"command":"HI","x":', b"[", b""),
    (b'{"command":"HI","x":"', b"\\", b""),
    (b'{"command":"HI","x":"', b"\\ud83d", b'"}'),
    (b'{"command":"HI","x":', b"1", b"x}"),
    (b'{"command":"HI","x":1.', b"1", b"e}"),
    (b'{"command":"HI"', b" ", b""),
]


# Where the cost grew with the square of the length, each of these would take hours: the limit of a
# test's time is the check.


@pytest.mark.parametrize(("before", "unit", "behind"), HOSTILE_LINES)
def test_a_hostile_line_of_a_mebibyte_comes_to_an_end(
    before: bytes, unit: bytes, behind: bytes
) -> None:
    line = before + unit * (MEBIBYTE // len(unit)) + behind
    for _ in range(2):
        made = parse(line)
        if isinstance(made, Message):
            assert parse(bytes(made)) == made
        else:
            assert len(str(made)) < 500


@pytest.mark.parametrize("reader", ["integer", "number", "boolean", "address", "timespec"])
@pytest.mark.parametrize(
    ("before", "unit", "behind"),
    [
        ("", "1", "x"),
        ("1.", "1", "x"),
        ("1e", "1", "x"),
        ("", ".", ""),
        ("", "1.", ""),
        ("", " ", "x"),
        ("[", "1:", ""),
        ("", "a.", ""),
    ],
)
def test_a_hostile_value_of_a_mebibyte_comes_to_an_end(
    reader: str, before: str, unit: str, behind: str
) -> None:
    message = Message("HI", {"v": before + unit * (MEBIBYTE // len(unit)) + behind})
    with pytest.raises(MessageError, match="HI: parameter v is no"):
        getattr(message, reader)("v")


@pytest.mark.parametrize("end", [b'"', b""])
@pytest.mark.parametrize("escape", [b"\\a", b'\\"', b"\\\\"])
def test_a_quoted_value_takes_memory_in_proportion(escape: bytes, end: bytes) -> None:
    line = b'HI v="' + escape * (MEBIBYTE // 8) + end
    tracemalloc.start()
    try:
        made = parse(line)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(made, Message) is bool(end)
    assert peak < 10 * len(line)
