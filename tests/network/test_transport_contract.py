"""Every byte transport keeps every promise, the one in memory first."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from edgevent import Address
from edgevent.testing.contract import PROMISES, MakePair, Promise
from edgevent.transport.base import StreamTransport
from edgevent.transport.dial import dial
from edgevent.transport.listen import listen
from edgevent.transport.memory import memory_pair

Pair = tuple[StreamTransport, StreamTransport]

_names = itertools.count()


def accepted(address: str) -> Pair:
    """Dials a listener of this test's own: the dialled side comes first."""
    listener = listen(Address.parse(address))[0]
    try:
        dialled = dial(Address.parse(listener.local), 5.0)
        return dialled, listener.accept()
    finally:
        listener.close()


def swapped(make: MakePair) -> Pair:
    first, second = make()
    return second, first


def tcp4(folder: Path) -> Pair:
    return accepted("tcp://127.0.0.1:0")


def tcp6(folder: Path) -> Pair:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this kernel has no IPv6")
    return accepted("tcp://[::1]:0")


def unix_path(folder: Path) -> Pair:
    return accepted(f"unix:{folder / f's{next(_names)}'}")


def unix_abstract(folder: Path) -> Pair:
    return accepted(f"unix:@edgevent-contract-{os.getpid()}-{next(_names)}")


def memory(folder: Path) -> Pair:
    return memory_pair()


MAKERS = (memory, tcp4, tcp6, unix_path, unix_abstract)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_the_dialled_side_keeps(
    make: Callable[[Path], Pair], promise: Promise, tmp_path: Path
) -> None:
    promise(partial(make, tmp_path))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_the_accepted_side_keeps(
    make: Callable[[Path], Pair], promise: Promise, tmp_path: Path
) -> None:
    promise(partial(swapped, partial(make, tmp_path)))
