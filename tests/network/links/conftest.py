"""What the tests of permanent connections share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from link_ground import hang
from scripted_peer import ScriptedPeer, scripted_peer


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a peer can listen, go away, and listen again."""
    return f"{tmp_path}/peer"


@pytest.fixture
def peer(path: str) -> Iterator[ScriptedPeer]:
    """A peer that does what the test says, on a Unix socket."""
    with scripted_peer(f"unix:{path}") as peer:
        yield peer


@pytest.fixture
def hanging(path: str) -> Iterator[None]:
    """Somebody listens, and lets all who dial wait."""
    yield from hang(path)
