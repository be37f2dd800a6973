"""What the tests of messages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgevent import wire


@pytest.fixture
def empty_tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Empties what was remembered of earlier lines, and brings it back after the test.

    The number of compiled layouts has a limit for the life of the process: a test that uses it up
    would keep others from having theirs.
    """
    tables = (wire.parsed_headers, wire.built_headers, wire.layouts, wire.known_lines)
    kept = [dict(table) for table in tables]
    for table in tables:
        table.clear()
    monkeypatch.setattr(wire.Layout, "compiled", 0)
    yield
    for table, content in zip(tables, kept, strict=True):
        table.clear()
        table.update(content)
