"""Requests over a bad network: no wait past its limit, no error unsaid."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from network_ground import MovedClock, until
from proxy_ground import (
    RECORD_HEADER,
    Asking,
    Net,
    Talking,
    ask,
)

from edgevent import (
    Client,
    ConnectError,
    ConnectionLostError,
    HandshakeError,
    Message,
    NetworkError,
    RemoteError,
    RequestTimeout,
    TruncatedError,
)
from edgevent.testing.clock import settle
from edgevent.testing.proxy import ProxyConnection

SILENT: dict[str, Callable[[ProxyConnection, str], object]] = {
    "delay": lambda passing, way: passing.delay(11.0, way),
    "throttle": lambda passing, way: passing.throttle(1, way),
    "swallow": lambda passing, way: passing.swallow(way),
    "deafen": lambda passing, way: passing.deafen(way),
}


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("fault", SILENT)
def test_a_request_that_gets_no_answer_ends_at_its_limit(
    clock: MovedClock, client: Client, passing: ProxyConnection, fault: str, way: str
) -> None:
    SILENT[fault](passing, way)
    asking = Asking(client, "x" * 50)
    clock.advance(9.9)
    assert asking.waits
    clock.advance(0.2)
    assert isinstance(asking.end(), RequestTimeout)


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("fault", ["delay", "throttle", "deafen"])
def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(
    clock: MovedClock, client: Client, passing: ProxyConnection, fault: str, way: str
) -> None:
    SILENT[fault](passing, way)
    late = Asking(client, "late" * 20)
    clock.advance(10.1)
    assert isinstance(late.end(), RequestTimeout)
    passing.heal()
    ask(client, "next")


def test_a_swallowed_request_is_no_loss_of_the_connection_unless_it_is_encrypted(
    clock: MovedClock, net: Net, client: Client, passing: ProxyConnection
) -> None:
    passing.swallow()
    lost = Asking(client, "lost", timeout=1.0)
    clock.advance(1.1)
    assert isinstance(lost.end(), RequestTimeout)
    passing.heal()
    if not net.is_tls:
        ask(client, "next")
        return
    assert isinstance(Asking(client, "next").end(), ConnectionLostError)
    until(lambda: net.server.counts["lost"] == 1)


@pytest.mark.parametrize("after", [None, 0, 1, 20])
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_request_whose_connection_breaks_ends_at_once(
    net: Net, client: Client, passing: ProxyConnection, fault: str, way: str, after: int | None
) -> None:
    if after is None:
        passing.deafen("down")
        asking = Asking(client)
        settle()
        getattr(passing, fault)()
    else:
        getattr(passing, fault)(after, way)
        asking = Asking(client)
    assert isinstance(asking.end(), ConnectionLostError)
    until(lambda: not net.server.peers)
    with net.client() as other:
        ask(other, "nobody else is concerned")


@pytest.mark.parametrize("after", [0, 1, 20])
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_request_whose_connection_is_half_closed_ends_at_once(
    net: Net, client: Client, passing: ProxyConnection, way: str, after: int
) -> None:
    passing.half_close(way, after)
    found = Asking(client).end()
    assert isinstance(found, ConnectionLostError)
    assert isinstance(found, TruncatedError) == net.is_tls
    client.close()
    until(lambda: not net.server.peers)


def test_a_half_closed_client_is_still_answered_unless_its_end_was_cut_off(
    net: Net, client: Client, passing: ProxyConnection
) -> None:
    passing.deafen("down")
    asking = Asking(client)
    settle()
    passing.half_close("up")
    settle()
    passing.heal()
    found = asking.end()
    assert isinstance(found, Message)
    assert net.server.counts["lost"] == net.is_tls
    until(lambda: not net.server.peers)


# --- corruption -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("at", range(0, 45, 3))
def test_a_corrupt_byte_is_an_error_or_a_malformed_line_or_another_value(
    clock: MovedClock, net: Net, client: Client, passing: ProxyConnection, way: str, at: int
) -> None:
    passing.corrupt(at, way)
    asking = Asking(client, "x" * 20, timeout=1.0)
    settle()
    if not net.is_tls:
        until(lambda: passing.up.corrupted + passing.down.corrupted == 1)
        settle()
        clock.advance(1.1)
        found = asking.end()
        assert isinstance(found, (Message, RemoteError, RequestTimeout, ConnectionLostError))
        client.send(Message("END"))  # whatever was left open in a line is closed by this
        ask(client, "next")
        return
    if at < RECORD_HEADER:  # its length may have grown: then it waits for more
        clock.advance(1.1)
    found = asking.end()
    assert isinstance(found, (ConnectionLostError, RequestTimeout))
    assert isinstance(found, ConnectionLostError) or at < RECORD_HEADER
    if isinstance(found, ConnectionLostError):
        until(lambda: not net.server.peers)
        assert net.server.counts["lost"] == 1


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_line_that_became_malformed_is_counted(
    net: Net,
    client: Client,
    passing: ProxyConnection,
    clock: MovedClock,
    logged: Callable[[str], list[str]],
    way: str,
) -> None:
    passing.corrupt(0, way, mask=0x20)  # a command in lower case
    asking = Asking(client)
    clock.advance(10.1)
    assert isinstance(asking.end(), RequestTimeout)
    sufferer = net.server.peers[0] if way == "up" else client
    assert sufferer.malformed_count == 1
    assert len(logged("dropped a malformed line")) == 1
    ask(client, "next")


# --- connecting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tls", "tls+unix"])
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_byte_that_is_corrupt_in_a_handshake_is_an_error_on_both_sides(
    clock: MovedClock, net: Net, way: str
) -> None:
    net.serve()
    for at in range(way == "up" and RECORD_HEADER, 1500, 59):
        net.proxy.corrupt(at, way)
        talking = Talking(net)
        settle()
        clock.advance(5.1)
        clock.advance(10.1)
        assert isinstance(talking.end(), (NetworkError, RequestTimeout)), at
        settle()
        clock.advance(1.1)  # for who did not see why it ends
        until(lambda: not (net.server.peers or net.proxy.connections))
    net.proxy.heal()
    assert isinstance(Talking(net).end(), Message)


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("fault", ["cut", "reset", "half_close"])
def test_a_connection_that_breaks_while_it_is_made_is_an_error_at_once(
    net: Net, fault: str, way: str
) -> None:
    net.serve()
    for after in (0, 1, 300, 1000, 1600) if net.is_tls else (0, 1, 10):
        if fault == "half_close":
            net.proxy.half_close(way, after)
        else:
            getattr(net.proxy, fault)(after, way)
        assert isinstance(Talking(net).end(), NetworkError)
        until(lambda: not (net.server.peers or net.proxy.connections))
    net.proxy.heal()
    assert isinstance(Talking(net).end(), Message)


@pytest.mark.parametrize("kind", ["tls", "tls+unix"])
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("fault", SILENT)
def test_a_handshake_that_does_not_go_on_ends_at_its_limit(
    clock: MovedClock, net: Net, logged: Callable[[str], list[str]], fault: str, way: str
) -> None:
    net.serve()
    getattr(net.proxy, fault)(*{"delay": (11.0,), "throttle": (1,)}.get(fault, ()), way)
    talking = Talking(net)
    clock.advance(4.9)
    assert talking.waits
    assert not logged("no TLS handshake")
    clock.advance(0.2)
    found = talking.end()
    assert isinstance(found, HandshakeError)
    assert "no TLS handshake within 5 s" in str(found)
    assert len(logged("no TLS handshake within 5 s")) == 1  # of the server
    net.proxy.heal()
    assert isinstance(Talking(net).end(), Message)


def test_a_refused_client_is_told_at_once(net: Net) -> None:
    net.serve()
    net.proxy.refuse()
    for _ in range(3):
        assert isinstance(Talking(net).end(), ConnectError)
    net.proxy.heal()
    assert isinstance(Talking(net).end(), Message)
