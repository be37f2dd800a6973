"""A communicatord for the tests of its program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_ground import RunningDaemon


@pytest.fixture
def cd(tmp_path: Path) -> Iterator[RunningDaemon]:
    """A daemon that knows the service ``later``."""
    with RunningDaemon(tmp_path, "--known-service=later") as daemon:
        yield daemon
