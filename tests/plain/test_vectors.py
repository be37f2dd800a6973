"""The text form, line by line, as the C++ library reads and writes it.

``messages.jsonl`` is a part of the 2,500 rows that came with the description of the format; where
that stands beside the checkout, all of them are read. All strings in it are latin-1 text of bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from edgevent.errors import MessageError
from edgevent.message import Message

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared" / "vectors" / "messages.jsonl"
ENOUGH_TO_COMPILE = 20  # readings of one line: the later ones go another way


def read(path: Path) -> list[dict[str, Any]]:
    # Not splitlines(): a value may hold a character that it takes for the end of a line.
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def text_of(latin: str) -> str:
    return latin.encode("latin-1").decode("utf-8", "surrogateescape")


def complaint(row: dict[str, Any], line: bytes | bytearray | str) -> str | None:
    """What is wrong with the message that is made of a row's line."""
    try:
        message = Message.parse(line)
    except MessageError as error:
        return None if row["expect"] == "reject" else f"{row['line']!r}: {error}"
    if row["expect"] == "reject":
        return f"{row['line']!r}: accepted as {bytes(message)!r}"
    written = bytes(message)
    fields = (
        message.command,
        message.server,
        message.service,
        message.sent_from_server,
        message.sent_from_service,
    )
    expected = tuple(
        text_of(row[key]) for key in ("command", "server", "service", "from_server", "from_service")
    )
    if fields != expected:
        return f"{row['line']!r}: {fields} is not {expected}"
    parameters = {name: text_of(value) for name, value in row["params"].items()}
    if message.parameters != parameters:
        return f"{row['line']!r}: {dict(message.parameters)} is not {parameters}"
    if written != row["canonical"].encode("latin-1"):
        return f"{row['line']!r}: written as {written!r}, not {row['canonical']!r}"
    if bytes(Message.parse(written)) != written:
        return f"{row['line']!r}: {written!r} is not read back"
    return None


def complaints(rows: list[dict[str, Any]]) -> list[str]:
    found = (complaint(row, row["line"].encode("latin-1")) for row in rows)
    return [text for text in found if text]


ROWS = read(HERE / "messages.jsonl")


def test_every_row_is_read_and_written_exactly() -> None:
    assert complaints(ROWS) == []


def test_every_row_is_read_the_same_again_and_again(empty_tables: None) -> None:
    again = [row for row in ROWS for _ in range(ENOUGH_TO_COMPILE)]
    assert complaints(again) == []


@pytest.mark.parametrize("kind", [bytearray, bytes, str])
def test_every_row_is_read_the_same_from_any_kind_of_text(kind: type) -> None:
    def give(line: bytes) -> Any:
        return line.decode("utf-8", "surrogateescape") if kind is str else kind(line)

    found = (complaint(row, give(row["line"].encode("latin-1") + b"\n")) for row in ROWS)
    assert [text for text in found if text] == []


def test_the_rows_kept_here_are_those_where_the_cpp_library_differs_and_many_more() -> None:
    assert Counter(row.get("cpp") for row in ROWS) == {
        "accepts": 302,
        "refuses": 46,
        "reads otherwise": 1,
        "writes otherwise": 48,
        None: 301,
    }


@pytest.mark.skipif(not SHARED.exists(), reason="the whole list is not beside this checkout")
def test_every_row_of_the_whole_list_is_read_and_written_exactly() -> None:
    rows = read(SHARED)
    assert len(rows) == 2500
    assert complaints(rows) == []
    lines = {row["line"] for row in rows if "cpp" in row}
    assert lines <= {row["line"] for row in ROWS}
