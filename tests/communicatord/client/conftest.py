"""A communicatord in the test's own process, and peers that speak as one in C++ does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from network_ground import PATIENCE, Ground, MovedClock
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import Communicator, CommunicatorClient, CommunicatorConnection, Dispatcher
from edgevent.communicatord.daemon import Daemon


@pytest.fixture
def ground() -> Iterator[Ground]:
    """A running communicator for the services."""
    with Ground(Communicator()) as ground:
        yield ground


@pytest.fixture
def clock() -> MovedClock:
    """A clock that the test moves."""
    return MovedClock()


@pytest.fixture
def moved(clock: MovedClock) -> Iterator[Ground]:
    """A running communicator on that clock."""
    with Ground(Communicator(clock=clock)) as ground:
        yield ground


@pytest.fixture
def path(tmp_path: Path) -> str:
    """The file of the daemon's socket."""
    return f"{tmp_path}/daemon"


@pytest.fixture
def peer(path: str) -> Iterator[ScriptedPeer]:
    """A daemon of which the test says each word."""
    with scripted_peer(f"unix:{path}") as peer:
        yield peer


@pytest.fixture
def daemon(path: str) -> Iterator[Daemon]:
    """A daemon for the server ``snap``, which knows the service ``later``."""
    daemon = Daemon("snap", known=["later"])
    with Ground(Communicator(daemon.dispatcher)) as ground:
        ground.serve(daemon.relay, f"unix:{path}", dispatcher=daemon.dispatcher)
        yield daemon


Connect = Callable[..., CommunicatorConnection]


@pytest.fixture
def connect(ground: Ground, path: str) -> Connect:
    """Adds a service that is registered."""

    def make(name: str, dispatcher: Dispatcher | None = None, **settings: Any) -> Any:
        link = CommunicatorConnection(
            name, dispatcher or Dispatcher(), address=f"unix:{path}", **settings
        )
        ground.communicator.add_connection(link)
        link.wait_until_ready(PATIENCE)
        return link

    return make


@pytest.fixture(params=["connection", "client"])
def caller(
    request: pytest.FixtureRequest, daemon: Daemon, connect: Connect, path: str
) -> Iterator[CommunicatorConnection | CommunicatorClient]:
    """Each of the two that can ask, registered as ``caller``."""
    if request.param == "connection":
        yield connect("caller")
    else:
        with CommunicatorClient("caller", address=f"unix:{path}") as client:
            yield client
