"""Links and slow peers over a bad network."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from network_ground import PATIENCE, MovedClock, until
from proxy_ground import (
    Asking,
    Net,
    Talking,
    ask,
    come_back,
)

from edgevent import (
    Client,
    ConnectionLostError,
    Dispatcher,
    Message,
    NotConnectedError,
    SlowConsumerError,
)
from edgevent.testing.clock import settle
from edgevent.testing.proxy import FaultProxy, ProxyConnection

LOSSES: dict[str, Callable[[Net, ProxyConnection], object]] = {
    "cut": lambda net, passing: net.proxy.cut(),
    "cut in a line": lambda net, passing: passing.cut(5, "up"),
    "reset": lambda net, passing: net.proxy.reset(),
    "reset in an answer": lambda net, passing: passing.reset(5, "down"),
    "end of the service's side": lambda net, passing: passing.half_close("down"),
    "end of the link's side": lambda net, passing: passing.half_close("up"),
    "corruption": lambda net, passing: passing.corrupt(20) if net.is_tls else passing.cut(5),
    "refusal": lambda net, passing: (net.proxy.refuse(), net.proxy.cut()),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_link_comes_back(clock: MovedClock, net: Net, loss: str) -> None:
    net.serve()
    link = net.link()
    for text in ("first", "second", "third"):
        link.wait_until_up(PATIENCE)
        ask(link, text)
        passing = net.proxy.wait_for_connection()
        settle()
        LOSSES[loss](net, passing)
        asking = Asking(link)
        assert isinstance(asking.end(), (ConnectionLostError, NotConnectedError))
        until(lambda: not link.is_connected)
        if loss == "refusal":
            clock.advance(3.5)
            assert link.attempts > 3
        net.proxy.heal()
        link.send(Message("ECHO", {"text": f"kept {text}"}), cache=True)
        come_back(link, clock)
    ask(link, "last")
    assert link.kept == 0
    link.close()
    until(lambda: not net.server.peers)


# --- peers that are too slow ----------------------------------------------------------------------

SLOW = ["throttle", "deafen"]


def wait_for_the_limit(clock: MovedClock, is_over: Callable[[], bool]) -> None:
    """Moves the clock past 10 s without progress."""
    settle()
    clock.advance(9.9)
    assert not is_over()
    for seconds in (0.3, 10.0, 10.0):  # the kernel may find room for some more: that is progress
        clock.advance(seconds)
        if is_over():
            return


@pytest.mark.parametrize("fault", SLOW)
def test_a_service_gives_up_a_client_that_takes_nothing(
    clock: MovedClock,
    net: Net,
    fault: str,
    logged: Callable[[str], list[str]],
) -> None:
    service, ended = Dispatcher(), []

    @service.on("GET")
    def get(message: Message, peer: Any) -> None:
        try:
            while True:
                peer.send(Message("PART", {"data": "x" * 20_000}))
        except SlowConsumerError as error:
            ended.append(error)
            raise

    net.serve(service)
    with net.client() as client:
        net.proxy.throttle(1, "down") if fault == "throttle" else net.proxy.deafen("down")
        client.send(Message("GET"))
        until(lambda: net.server.peers and net.server.peers[0].outbox.waiting)
        wait_for_the_limit(clock, lambda: bool(ended))
        until(lambda: not net.server.peers)
        assert net.server.counts["lost"] == 1
        assert logged("is a slow consumer: it took nothing for 10 s")
        net.proxy.heal()


@pytest.mark.parametrize("fault", SLOW)
def test_a_client_gives_up_a_service_that_takes_nothing(
    clock: MovedClock, net: Net, client: Client, passing: ProxyConnection, fault: str
) -> None:
    passing.throttle(1, "up") if fault == "throttle" else passing.deafen("up")

    def send() -> BaseException:
        try:
            while True:
                client.send(Message("PART", {"data": "x" * 20_000}))
        except Exception as error:
            return error

    sending = gevent.spawn(send)
    until(lambda: client.outbox.waiting)
    wait_for_the_limit(clock, sending.ready)
    assert isinstance(sending.get(timeout=PATIENCE), SlowConsumerError)


def test_a_close_waits_no_longer_than_its_limit(
    clock: MovedClock,
    client: Client,
    passing: ProxyConnection,
    logged: Callable[[str], list[str]],
) -> None:
    passing.deafen("up")
    while not client.is_full:
        client.send(Message("PART", {"data": "x" * 20_000}))
        settle()
    closing = gevent.spawn(client.close)
    clock.advance(4.9)
    assert not closing.ready()
    clock.advance(0.2)
    closing.get(timeout=PATIENCE)
    assert len(logged("bytes were not sent within 5 s")) == 1


def test_a_peer_whose_first_line_drips_is_closed_at_its_limit(
    clock: MovedClock, net: Net, logged: Callable[[str], list[str]]
) -> None:
    net.serve(must_introduce=True, introduction_timeout=3.0)
    with net.client() as client:
        until(lambda: net.server.peers)
        net.proxy.throttle(1, "up")
        asking = Asking(client, "x" * 50)
        clock.advance(2.9)
        assert asking.waits
        clock.advance(0.2)
        assert isinstance(asking.end(), ConnectionLostError)
        assert len(logged("no complete line within 3 s")) == 1


# --- any faults in any order ----------------------------------------------------------------------


def any_fault(chance: random.Random, proxy: FaultProxy) -> None:
    """Does something bad, to one direction or both."""
    way = chance.choice(["up", "down", "both"])
    after = chance.choice([None, chance.randrange(200)])
    faults: list[Callable[[], object]] = [
        lambda: proxy.delay(chance.uniform(0.0, 3.0), way),
        lambda: proxy.throttle(chance.uniform(1.0, 200.0), way),
        lambda: proxy.split(chance.randrange(1, 9), way, randomly=True),
        lambda: proxy.swallow(way),
        lambda: proxy.deafen(way),
        lambda: proxy.corrupt(chance.randrange(200), way),
        lambda: proxy.corrupt(direction=way, chance=0.05),
        lambda: proxy.cut(after, way),
        lambda: proxy.reset(after, way),
        lambda: proxy.half_close(way, after),
        proxy.refuse,
    ]
    chance.choice(faults)()


@pytest.mark.parametrize(
    "rounds", [60, pytest.param(4000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_whatever_the_network_does_requests_end_in_time_and_the_link_comes_back(
    clock: MovedClock, net: Net, rounds: int
) -> None:
    net.serve()
    link = net.link()
    chance = random.Random(f"{net.server.address.scheme} {rounds}")
    seen: set[type] = set()
    for number in range(rounds):
        for _ in range(chance.randrange(1, 4)):
            any_fault(chance, net.proxy)
        askings = [Asking(link, f"{number}") for _ in range(3)]
        talking = Talking(net)
        for _ in range(16):
            clock.advance(1.0)
        assert not any(asking.waits for asking in askings)
        assert not talking.waits
        seen.update(type(asking.end()) for asking in askings)
        net.proxy.heal()
        net.proxy.cut()  # what is corrupt or half-closed does not heal
        come_back(link, clock)
        ask(link, f"healed {number}")
    assert len(seen) > 2
    link.close()
    until(lambda: not net.server.peers)
