"""A proxy between two transports, and one between a service and its clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from network_ground import Ground
from proxy_ground import (
    KINDS,
    Between,
    Line,
    Net,
    ask,
    place,
)

from edgevent import (
    Client,
)
from edgevent.testing.clock import ManualClock, settle
from edgevent.testing.proxy import FaultProxy, ProxyConnection


@pytest.fixture
def between(tmp_path: Path) -> Iterator[Callable[[str, str], Between]]:
    with ExitStack() as stack:

        def make(server: str = "tcp", proxy: str = "tcp", **settings: object) -> Between:
            made = Between(place(server, tmp_path), place(proxy, tmp_path), **settings)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture(params=["tcp", "unix"])
def line(
    between: Callable[..., Between], request: pytest.FixtureRequest, clock: ManualClock
) -> Iterator[Line]:
    line = Line(between(request.param, request.param, clock=clock, seed=5))
    yield line
    line.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """What is spoken; a test of some kinds only names them by itself."""
    return str(request.param)


@pytest.fixture
def net(kind: str, moved: Ground, tmp_path: Path, fault_proxy: Callable[..., FaultProxy]) -> Net:
    return Net(moved, kind, tmp_path, fault_proxy)


@pytest.fixture
def client(net: Net) -> Iterator[Client]:
    """A client that has been answered once."""
    net.serve()
    with net.client() as client:
        ask(client, "first")
        settle()
        yield client


@pytest.fixture
def passing(net: Net, client: Client) -> ProxyConnection:
    """Its connection through the proxy."""
    return net.proxy.wait_for_connection()
