"""The proxy changes nothing until it is told to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from network_ground import PATIENCE, Ground, echo, until
from proxy_ground import (
    Between,
    Pair,
)
from tls_ground import tls_pair

from edgevent import (
    Address,
    Client,
    Message,
)
from edgevent.testing.clock import ManualClock, settle
from edgevent.testing.contract import PROMISES, Promise
from edgevent.testing.proxy import FaultProxy
from edgevent.testing.record_contract import (
    RECORD_PROMISES,
    a_record_that_is_too_long_is_never_cut,
    what_came_before_a_reset_is_received,
)
from edgevent.transport.dial import dial
from edgevent.transport.listen import listen

Make = Callable[[], Pair]


WAYS = [("tcp", "tcp"), ("unix", "unix"), ("tcp", "unix"), ("unix", "tcp")]


def swapped(make: Make) -> Pair:
    client, server = make()
    return server, client


def encrypted(make: Make) -> Pair:
    return tls_pair(*make())


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(("server", "proxy"), WAYS, ids=["-".join(way) for way in WAYS])
def test_a_connection_through_it_keeps_every_promise(
    between: Callable[..., Between],
    promise: Promise,
    side: str,
    tls: bool,
    server: str,
    proxy: str,
) -> None:
    make: Make = between(server, proxy)
    if tls:
        make = partial(encrypted, make)
    promise(make if side == "client" else partial(swapped, make))


# A Unix socket that has read everything can say to its peer that it ends, but not that it broke.
NO_RESET = {a_record_that_is_too_long_is_never_cut, what_came_before_a_reset_is_received}
RECORDS = [promise for promise in RECORD_PROMISES if promise not in NO_RESET]


@pytest.mark.parametrize("promise", RECORDS, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("side", ["client", "server"])
def test_records_through_it_keep_every_promise(
    between: Callable[..., Between], promise: Promise, side: str
) -> None:
    make: Make = between("unixseq", "unixseq")
    promise(make if side == "client" else partial(swapped, make))


@pytest.mark.parametrize("kind", ["unixseq", "fifo"])
def test_records_and_fifos_pass_as_well(
    ground: Ground, tmp_path: Path, fault_proxy: Callable[..., FaultProxy], kind: str
) -> None:
    def where(name: str) -> str:
        path = f"{tmp_path}/{name}"
        return f"fifo:{path}.in,{path}.out" if kind == "fifo" else f"unixseq:{path}"

    ground.serve(echo(), where("server"))
    target = (
        f"fifo:{tmp_path}/server.out,{tmp_path}/server.in" if kind == "fifo" else where("server")
    )
    proxy = fault_proxy(target, where("proxy"))
    for _ in range(2):
        with Client(proxy.address) as client:
            for text in ("first", "second"):
                answer = client.request(Message("ECHO", {"text": text}), timeout=PATIENCE)
                assert answer["text"] == text
            passed = proxy.wait_for_connection()
            assert (passed.up.arrived > 0, passed.down.passed > 0) == (True, True)
        until(lambda: not proxy.connections)


def test_a_record_is_never_cut_by_a_throttle(
    tmp_path: Path, clock: ManualClock, fault_proxy: Callable[..., FaultProxy]
) -> None:
    listener = listen(Address.parse(f"unixseq:{tmp_path}/s"))[0]
    proxy = fault_proxy(f"unixseq:{tmp_path}/s", f"unixseq:{tmp_path}/p", clock=clock)
    client = dial(Address.parse(proxy.address))
    proxy.throttle(10)
    proxy.wait_for_connection()
    server = listener.accept()
    client.transmit(b"x" * 30)
    client.transmit(b"y" * 10)
    settle()
    assert server.receive(100) == b"x" * 30
    clock.advance(2.9)
    with pytest.raises(BlockingIOError):
        server.receive(100)
    clock.advance(0.2)
    assert server.receive(100) == b"y" * 10
    for found in (client, server, listener):
        found.close()
