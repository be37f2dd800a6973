"""What a proxy is besides its faults: an address, a limit, an end."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest
from link_ground import hang
from network_ground import PATIENCE, Ground, echo, run_program, until
from proxy_ground import (
    Between,
    Line,
)

from edgevent import (
    Address,
    AddressError,
    ConnectError,
    ReceiveTimeout,
    UsageError,
    WrongThreadError,
)
from edgevent.runtime.turns import Turns
from edgevent.testing.exchange import Pull, push
from edgevent.testing.proxy import FaultProxy
from edgevent.testing.way import Way
from edgevent.transport.dial import dial


def test_a_target_that_is_not_there_resets_its_clients(
    tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    proxy = fault_proxy(f"unix:{tmp_path}/nobody")
    client = dial(Address.parse(proxy.address))
    pull = Pull(client)
    pull.wait_for_end()
    assert isinstance(pull.error, ConnectionResetError)
    assert (proxy.accepted, proxy.failed, proxy.connections) == (1, 1, ())
    client.close()


def test_a_wait_for_a_connection_has_a_limit(between: Callable[..., Between]) -> None:
    with pytest.raises(ReceiveTimeout, match=r"tcp://127.0.0.1:\d+: no connection within 0.02 s"):
        between().proxy.wait_for_connection(0.02)


def test_a_proxy_closes_what_it_holds_while_it_dials(
    tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    for _ in hang(f"{tmp_path}/s"):
        proxy = fault_proxy(f"unix:{tmp_path}/s")
        clients = [dial(Address.parse(proxy.address)) for _ in range(2)]
        until(lambda proxy=proxy: proxy.accepted == 2)
        late = dial(Address.parse(proxy.address))
        proxy.close()
        proxy.close()
        for client in (*clients, late):
            pull = Pull(client)
            pull.wait_for_end()
            client.close()


def test_a_closed_proxy_cuts_and_refuses(between: Callable[..., Between]) -> None:
    made = between()
    line = Line(made)
    push(line.client, b"x")
    with made.proxy as proxy:
        line.at_server.wait_for(b"x")
    line.at_client.wait_for_end()
    line.at_server.wait_for_end()
    with pytest.raises(ConnectError):
        dial(Address.parse(proxy.address))
    proxy.heal()
    proxy.refuse()
    assert "closed" in repr(proxy)
    line.connection.delay(1.0)  # nothing is there any more that could be delayed
    line.close()


def test_it_says_what_it_is(between: Callable[..., Between]) -> None:
    made = between()
    line = Line(made)
    push(line.client, b"12345")
    line.at_server.wait_for(b"12345")
    proxy = made.proxy
    assert repr(proxy) == f"<FaultProxy {proxy.address} to {proxy.target} listening, 1 connections>"
    assert repr(line.connection) == (
        f"<ProxyConnection 1 of {proxy.address} open, 5 bytes up, 0 down>"
    )
    assert repr(line.connection.up) == "<Way 5 bytes in, 5 out, 0 held>"
    line.close()


@pytest.mark.parametrize(
    ("target", "listening", "address"),
    [
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:0", r"tcp://127\.0\.0\.1:\d+"),
        ("tls://127.0.0.1:1", "tcp://127.0.0.1:0", r"tls://127\.0\.0\.1:\d+"),
        ("tls+unix:server", "unix:proxy", r"tls\+unix:proxy"),
        ("unix:server", "tls://127.0.0.1:0", r"tls://127\.0\.0\.1:\d+"),
        ("fifo:a,b", "fifo:in,out", "fifo:out,in"),
    ],
)
def test_its_address_is_what_clients_dial(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault_proxy: Callable[..., FaultProxy],
    target: str,
    listening: str,
    address: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.fullmatch(address, fault_proxy(target, listening).address)


@pytest.mark.parametrize("address", ["udp://127.0.0.1:1", "unixgram:s", "fd:0"])
def test_it_is_for_streams_alone(address: str) -> None:
    with pytest.raises(AddressError, match="a proxy needs an address of a stream"):
        FaultProxy(address)
    with pytest.raises(AddressError, match="a proxy needs an address of a stream"):
        FaultProxy("tcp://127.0.0.1:1", address)


WRONG: list[tuple[Callable[[FaultProxy], object], str]] = [
    (lambda proxy: proxy.delay(-1.0), "seconds=-1.0: 0 or more was expected"),
    (lambda proxy: proxy.delay(1.0, "upp"), "direction='upp': 'up', 'down' or 'both' was expected"),
    (lambda proxy: proxy.throttle(0), "rate=0: more than 0, or None, was expected"),
    (lambda proxy: proxy.split(0), "sizes=0: 1 or more, or a list of such numbers, was expected"),
    (lambda proxy: proxy.split([]), "sizes=[]: 1 or more, or a list of such numbers, was expected"),
    (lambda proxy: proxy.cut(-1), "after=-1: 0 or more, or None, was expected"),
    (lambda proxy: proxy.corrupt(-1), "at=-1: 0 or more was expected"),
    (lambda proxy: proxy.corrupt(chance=2.0), "chance=2.0: 0 to 1 was expected"),
    (lambda proxy: proxy.corrupt(mask=256), "mask=256: 0 to 255 was expected"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_a_wrong_value_is_named(
    fault_proxy: Callable[..., FaultProxy], call: Callable[[FaultProxy], object], sentence: str
) -> None:
    proxy = fault_proxy("tcp://127.0.0.1:1")
    with pytest.raises(UsageError, match=f"^{re.escape(sentence)}$"):
        call(proxy)


def test_another_thread_is_refused(fault_proxy: Callable[..., FaultProxy]) -> None:
    proxy = fault_proxy("tcp://127.0.0.1:1")
    for call in (proxy.cut, proxy.heal, proxy.refuse):
        with pytest.raises(WrongThreadError):
            gevent.get_hub().threadpool.apply(call)


def test_code_that_blocks_without_gevent_may_run_in_the_thread_pool(
    ground: Ground, fault_proxy: Callable[..., FaultProxy]
) -> None:
    proxy = fault_proxy(ground.serve(echo()).addresses[0])
    address = Address.parse(proxy.address)

    def talk() -> bytes:
        with socket.create_connection((address.host, address.port), PATIENCE) as sock:
            sock.sendall(b"ECHO text=blocking\n")
            return sock.recv(100)

    assert gevent.get_hub().threadpool.apply(talk) == b"ECHOED text=blocking\n"
    until(lambda: not proxy.connections)


FULL = """
import logging, os, resource, sys
import gevent
from edgevent.testing.clock import settle
from edgevent.testing.proxy import FaultProxy
from edgevent import Address
from edgevent.transport.dial import dial
from edgevent.transport.listen import listen

listener = listen(Address.parse("tcp://127.0.0.1:0"))[0]
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
with FaultProxy(listener.local) as proxy:
    settle()
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    client = dial(Address.parse(proxy.address))
    held = []
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        settle()
    assert proxy.accepted == 0
    if sys.argv[1] == "refuse":
        proxy.refuse()
    for descriptor in held:
        os.close(descriptor)
    if sys.argv[1] == "go on":
        proxy.wait_for_connection()
        print(proxy.accepted)
"""


@pytest.mark.parametrize(("then", "accepted"), [("go on", "1\n"), ("refuse", ""), ("close", "")])
def test_a_proxy_without_a_descriptor_for_a_client_tries_again(then: str, accepted: str) -> None:
    said, _, rest = run_program(FULL, then).partition("\n")
    assert said.endswith("cannot accept: Too many open files")
    assert rest == accepted


def test_a_failure_of_its_own_is_not_silent(
    between: Callable[..., Between], ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[BaseException] = []
    turns = Turns.current()
    monkeypatch.setattr(turns, "failed", failed.append)
    line = Line(between("tcp", "tcp"))
    monkeypatch.setattr(Way, "_take", lambda way, data: 1 // 0)
    push(line.client, b"x")
    until(lambda: failed)
    assert isinstance(failed[0], ZeroDivisionError)
    line.proxy.close()
    line.close()
