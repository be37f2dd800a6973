"""Every byte transport keeps every promise, the one in memory first."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tls_ground import tls_pair

from edgevent import Address
from edgevent.testing.contract import PROMISES, MakePair, Promise
from edgevent.transport.base import StreamTransport
from edgevent.transport.dial import dial
from edgevent.transport.fd import FdTransport
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


def fifos(folder: Path) -> Pair:
    """Two FIFOs: the dialled side opens both; the other one has them when something was written."""
    name = folder / f"f{next(_names)}"
    listener = listen(Address.parse(f"fifo:{name}.in,{name}.out"))[0]
    try:
        dialled = dial(Address.parse(f"fifo:{name}.out,{name}.in"))
        assert dialled.transmit(b"\n") == 1
        session = listener.accept()
        assert session.receive(100) == b"\n"
        return dialled, session
    finally:
        listener.close()


def pipes(folder: Path) -> Pair:
    here, there = os.pipe2(os.O_NONBLOCK), os.pipe2(os.O_NONBLOCK)
    return FdTransport(here[0], there[1], peer="b"), FdTransport(there[0], here[1], peer="a")


def taken_over(folder: Path) -> Pair:
    one, other = (sock.detach() for sock in socket.socketpair())
    return dial(Address.parse(f"fd:{one}")), dial(Address.parse(f"fd:{other}"))


def encrypted(make: Callable[[Path], Pair]) -> Callable[[Path], Pair]:
    """Makes pairs that have shaken hands over those of another maker."""

    def pair(folder: Path) -> Pair:
        return tls_pair(*make(folder))

    pair.__name__ = f"tls_over_{make.__name__}"
    return pair


PLAIN = (memory, tcp4, tcp6, unix_path, unix_abstract, fifos, pipes, taken_over)
MAKERS = (*PLAIN, *map(encrypted, PLAIN))


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
