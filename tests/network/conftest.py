"""A communicator that runs beside the test, and what the tests of sockets share."""

from __future__ import annotations

import logging
import os
import pwd
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from network_ground import PATIENCE, Ground, MovedClock, Resolver, run_program
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import Client, Communicator


@pytest.fixture(autouse=True)
def no_internal_failure(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test in which this package logged that it has failed."""
    yield
    worst = [one for one in caplog.get_records("call") if one.levelno >= logging.CRITICAL]
    assert not worst, worst[0].exc_text or worst[0].getMessage()


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
def peer() -> Iterator[ScriptedPeer]:
    """A peer that does what the test says, over TCP."""
    with scripted_peer() as peer:
        yield peer


@pytest.fixture
def client(peer: ScriptedPeer, clock: MovedClock) -> Iterator[Client]:
    """A client of the scripted peer, on the clock that the test moves."""
    with Client(peer.address, clock=clock) as client:
        peer.accept()
        yield client


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    hub: Any = gevent.get_hub()
    former = hub.resolver
    hub.resolver = Resolver(former)
    yield hub.resolver
    hub.resolver = former


@pytest.fixture
def own_network(own_namespaces: Callable[..., list[str]]) -> Callable[..., str]:
    """Runs a program in a network namespace of its own, after some commands; gives its output."""
    unshare = own_namespaces("-n")

    def run(program: str, setup: str, patience: float = PATIENCE) -> str:
        command = f'ip link set lo up && {setup} && exec "$0" "$@"'
        return run_program(program, before=(*unshare, "sh", "-c", command), patience=patience)

    return run


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that all users can look into, as those of tmp_path are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def nobody() -> pwd.struct_passwd:
    """Another user, which a child of root can become."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")
    return pwd.getpwnam("nobody")


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """Gives the log lines that contain a text."""
    caplog.set_level(logging.DEBUG, "edgevent")

    def find(text: str) -> list[str]:
        return [line for record in caplog.records if text in (line := record.getMessage())]

    return find


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A UDP socket that answers what the test says."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE)
        yield sock
