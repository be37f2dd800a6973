"""A pytest plugin: finds what tests leave behind, gives a clock that they move, and bad networks.

A project asks for it in its top-level ``conftest.py``:

    >>> pytest_plugins = ["edgevent.testing.plugin"]

A test marked ``may_leak`` is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.register_assert_rewrite("edgevent.testing.contract")

from ..communicator import Communicator  # noqa: E402
from .clock import ManualClock  # noqa: E402
from .leaks import (  # noqa: E402
    Snapshot,
    look_only_at_what_is_new,
    look_only_at_what_is_new_again,
    warm_up,
)
from .proxy import FaultProxy  # noqa: E402


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
