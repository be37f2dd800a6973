"""A pytest plugin: starts services, speaks with them, and finds what tests leave behind.

A project asks for it in its top-level ``conftest.py``:

    >>> pytest_plugins = ["edgevent.testing.plugin"]

It is no entry point that pytest loads by itself: it looks at what each test leaves behind, and
takes gevent into the process, which is not the business of all projects beside edgevent.

A test marked ``may_leak`` is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

for _name in ("contract", "datagram_contract", "exchange", "record_contract"):
    pytest.register_assert_rewrite(f"edgevent.testing.{_name}")

from ..communicator import Communicator  # noqa: E402
from .certificates import Certificates  # noqa: E402
from .clock import ManualClock  # noqa: E402
from .leaks import (  # noqa: E402
    Snapshot,
    look_only_at_what_is_new,
    look_only_at_what_is_new_again,
    warm_up,
)
from .places import Places  # noqa: E402
from .proxy import FaultProxy  # noqa: E402
from .scripted import ScriptedPeer  # noqa: E402
from .starting import StartedService  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line("markers", "may_leak: the test is not asked what it has left behind")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Prepares for the looks at what tests leave behind."""
    if not session.config.option.collectonly:
        warm_up()
        look_only_at_what_is_new()


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves greenlets, descriptors, threads, children or watchers behind."""
    if request.node.get_closest_marker("may_leak"):
        yield
        return
    before = Snapshot()
    yield
    found = before.leaks()
    look_only_at_what_is_new_again()
    if found:
        pytest.fail("left behind:\n" + "\n".join(found), pytrace=False)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that only the test moves."""
    return ManualClock()


@pytest.fixture
def communicator(clock: ManualClock) -> Iterator[Communicator]:
    """A communicator on that clock; all that it has at the end is closed at once."""
    with Communicator(clock=clock) as made:
        yield made


@pytest.fixture
def fault_proxy() -> Iterator[Callable[..., FaultProxy]]:
    """Makes proxies, called as :class:`~edgevent.testing.proxy.FaultProxy` is, and closes them."""
    made: list[FaultProxy] = []

    def make(*arguments: Any, **settings: Any) -> FaultProxy:
        made.append(FaultProxy(*arguments, **settings))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def start_service(request: pytest.FixtureRequest) -> Iterator[Callable[..., StartedService]]:
    """Starts services, called as :class:`~edgevent.testing.starting.StartedService` is.

    A script may stand in the folder of the test's file as well. At the end of the test they are
    stopped; one that had died, or then fails, fails the test.
    """
    made: list[StartedService] = []

    def start(command: Any, *arguments: Any, **settings: Any) -> StartedService:
        if isinstance(command, str) and (beside := request.path.parent / command).is_file():
            command = beside
        made.append(StartedService(command, *arguments, **settings))
        return made[-1]

    yield start
    troubles = []
    for service in reversed(made):
        try:
            service.close()
        except AssertionError as error:
            troubles.append(str(error))
    if troubles:
        pytest.fail("\n".join(troubles), pytrace=False)


@pytest.fixture
def scripted_peer() -> Iterator[Callable[..., ScriptedPeer]]:
    """Makes peers, called as :class:`~edgevent.testing.scripted.ScriptedPeer` is, and ends them."""
    made: list[ScriptedPeer] = []

    def make(*arguments: Any, **settings: Any) -> ScriptedPeer:
        made.append(ScriptedPeer(*arguments, **settings))
        return made[-1]

    yield make
    for peer in made:
        peer.release()


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    """An authority and what it signs, made when it is asked for, for all tests of the session."""
    made = Certificates()
    yield made
    made.close()


@pytest.fixture
def free_address() -> Iterator[Callable[..., str]]:
    """Gives addresses at which nobody listens: ``free_address("tcp")``, also of other kinds."""
    places = Places()
    yield places.address
    places.close()
