"""A communicator that runs beside the test, and what the tests of sockets share."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from network_ground import PATIENCE, Ground, MovedClock

from edgevent import Communicator


@pytest.fixture
def clock() -> MovedClock:
    """A clock that the test moves."""
    return MovedClock()


@pytest.fixture
def ground() -> Iterator[Ground]:
    """A running communicator on the system's clock."""
    with Ground(Communicator()) as ground:
        yield ground


@pytest.fixture
def moved(clock: MovedClock) -> Iterator[Ground]:
    """A running communicator on the clock that the test moves."""
    with Ground(Communicator(clock=clock)) as ground:
        yield ground


@pytest.fixture
def own_network(need_tool: Callable[..., str]) -> Callable[[str, str], str]:
    """Runs a program in a network namespace of its own, after some commands; gives its output."""
    unshare = need_tool("unshare", package="util-linux")
    need_tool("ip", package="iproute2")
    if subprocess.run([unshare, "-n", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make a network namespace")

    def run(program: str, setup: str) -> str:
        command = f'ip link set lo up && {setup} && exec "$0" -c "$1"'
        done = subprocess.run(
            [unshare, "-n", "sh", "-c", command, sys.executable, program],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """Gives the log lines that contain a text."""
    caplog.set_level(logging.DEBUG, "edgevent")

    def find(text: str) -> list[str]:
        return [line for record in caplog.records if text in (line := record.getMessage())]

    return find
