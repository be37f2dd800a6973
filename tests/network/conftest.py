"""A communicator that runs beside the test, and what the tests of sockets share."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from network_ground import Ground, MovedClock, until

from edgevent import Communicator
from edgevent.runtime.guards import REGISTRY


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one of the listing itself
    return found


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails a test that leaves descriptors of its own behind."""
    gevent.get_hub().threadpool  # noqa: B018 - its descriptors are made once and stay
    before, registered = _descriptors(), set(REGISTRY.descriptors)
    yield
    until(lambda: set(REGISTRY.descriptors) <= registered)
    left = {name: what for name, what in _descriptors().items() if before.get(name) != what}
    assert not [what for what in left.values() if what.startswith(("socket:", "pipe:", "/dev/p"))]


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
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """Gives the log lines that contain a text."""
    caplog.set_level(logging.DEBUG, "edgevent")

    def find(text: str) -> list[str]:
        return [line for record in caplog.records if text in (line := record.getMessage())]

    return find
