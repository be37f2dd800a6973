"""The fault proxy: it changes nothing until it is told to, and then just that."""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import gevent
import pytest
from link_ground import hang
from network_ground import PATIENCE, Ground, echo, run_program, until
from tls_ground import tls_pair

from edgevent import (
    Address,
    AddressError,
    Client,
    ConnectError,
    Message,
    ReceiveTimeout,
    UsageError,
    WrongThreadError,
)
from edgevent.runtime.turns import Turns
from edgevent.testing.clock import ManualClock, settle
from edgevent.testing.contract import PROMISES, Promise, Pull, fill, push
from edgevent.testing.proxy import FaultProxy, reset
from edgevent.testing.record_contract import (
    RECORD_PROMISES,
    a_record_that_is_too_long_is_never_cut,
    what_came_before_a_reset_is_received,
)
from edgevent.testing.way import Way
from edgevent.transport.base import StreamTransport
from edgevent.transport.dial import dial
from edgevent.transport.listen import listen

Pair = tuple[StreamTransport, StreamTransport]
Make = Callable[[], Pair]

_names = itertools.count()


def place(kind: str, folder: Path) -> str:
    """An address to listen at."""
    if kind == "tcp":
        return "tcp://127.0.0.1:0"
    return f"{kind}:{folder}/s{next(_names)}"


class Between:
    """Makes connected pairs with a proxy between the two sides."""

    def __init__(self, server: str, proxy: str, **settings: object) -> None:
        self.listener = listen(Address.parse(server))[0]
        self.proxy = FaultProxy(self.listener.local, proxy, **settings)

    def __call__(self) -> Pair:
        client = dial(Address.parse(self.proxy.address))
        self.proxy.wait_for_connection()
        return client, self.listener.accept()

    def close(self) -> None:
        self.proxy.close()
        self.listener.close()


@pytest.fixture
def between(tmp_path: Path) -> Iterator[Callable[[str, str], Between]]:
    with ExitStack() as stack:

        def make(server: str = "tcp", proxy: str = "tcp", **settings: object) -> Between:
            made = Between(place(server, tmp_path), place(proxy, tmp_path), **settings)
            stack.callback(made.close)
            return made

        yield make


# --- nothing is changed ---------------------------------------------------------------------------

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


# --- one fault each -------------------------------------------------------------------------------


class Line:
    """A client and a server, connected through a proxy on the clock that the test moves."""

    def __init__(self, between: Between) -> None:
        self.proxy = between.proxy
        self.client = dial(Address.parse(self.proxy.address))
        self.connection = self.proxy.wait_for_connection()
        self.server = between.listener.accept()
        self.at_client = Pull(self.client)
        self.at_server = Pull(self.server)

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture(params=["tcp", "unix"])
def line(
    between: Callable[..., Between], request: pytest.FixtureRequest, clock: ManualClock
) -> Iterator[Line]:
    line = Line(between(request.param, request.param, clock=clock, seed=5))
    yield line
    line.close()


def test_each_direction_is_delayed_by_its_own_time(line: Line, clock: ManualClock) -> None:
    line.proxy.delay(0.5, "up")
    push(line.client, b"question")
    push(line.server, b"answer")
    line.at_client.wait_for(b"answer")
    clock.advance(0.4)
    push(line.client, b", and more")
    clock.advance(0.09)
    assert bytes(line.at_server.data) == b""
    clock.advance(0.01)
    line.at_server.wait_for(b"question")
    clock.advance(0.3)
    assert bytes(line.at_server.data) == b"question"
    clock.advance(0.1)
    line.at_server.wait_for(b"question, and more")
    assert clock.alarms == []


def test_the_end_is_delayed_behind_the_bytes(line: Line, clock: ManualClock) -> None:
    line.proxy.delay(0.5)
    push(line.client, b"last words")
    line.client.close()
    clock.advance(0.4)
    assert (bytes(line.at_server.data), line.at_server.ends) == (b"", 0)
    clock.advance(0.1)
    line.at_server.wait_for_end()
    assert (bytes(line.at_server.data), line.at_server.error) == (b"last words", None)


def test_healed_delays_let_go_what_they_hold(line: Line, clock: ManualClock) -> None:
    line.proxy.delay(3600.0)
    push(line.client, b"held")
    settle()
    line.proxy.heal()
    line.at_server.wait_for(b"held")
    assert clock.alarms == []


@pytest.mark.parametrize(("rate", "seconds"), [(1, 19.0), (2.5, 7.6), (40, 0.45)])
def test_a_throttle_lets_so_many_bytes_a_second_leave(
    line: Line, clock: ManualClock, rate: float, seconds: float
) -> None:
    line.proxy.throttle(rate, "down")
    data = bytes(range(20))
    push(line.server, data)
    clock.advance(seconds / 2)
    assert len(line.at_client.data) == pytest.approx(10, abs=2)
    clock.advance(seconds / 2 - 0.01)
    assert len(line.at_client.data) < 20
    clock.advance(0.02)
    line.at_client.wait_for(data)
    assert (line.connection.down.arrived, line.connection.down.passed) == (20, 20)


def test_a_throttled_line_holds_its_sender(line: Line, clock: ManualClock) -> None:
    line.proxy.throttle(1)
    taken, refused = fill(line.client)
    connection = line.connection
    assert connection.up.arrived - connection.up.passed < 128 * 1024
    assert connection.up.passed == 1
    line.proxy.throttle(None)
    push(line.client, refused)
    line.at_server.wait_for(taken + refused)


def test_a_cut_ends_both_sides_now(line: Line) -> None:
    push(line.client, b"x")
    line.at_server.wait_for(b"x")
    line.proxy.cut()
    line.at_client.wait_for_end()
    line.at_server.wait_for_end()
    assert (line.at_client.error, line.at_server.error) == (None, None)
    assert not line.connection.is_open
    assert line.proxy.connections == ()


def test_a_cut_comes_behind_so_many_bytes_of_one_direction(line: Line) -> None:
    push(line.client, b"before")
    line.at_server.wait_for(b"before")
    line.proxy.cut(after=5, direction="up")
    push(line.server, b"this is no concern of it")
    line.at_client.wait_for(b"this is no concern of it")
    push(line.client, b"123")
    settle()
    push(line.client, b"45678")
    line.at_server.wait_for_end()
    assert (bytes(line.at_server.data), line.at_server.error) == (b"before12345", None)
    line.at_client.wait_for_end()
    assert line.connection.up.swallowed == 3


def test_a_cut_is_meant_for_connections_to_come_too(between: Callable[..., Between]) -> None:
    made = between()
    made.proxy.cut(after=2, direction="up")
    for _ in range(2):
        line = Line(made)
        push(line.client, b"abc")
        line.at_server.wait_for_end()
        assert bytes(line.at_server.data) == b"ab"
        line.close()
    made.proxy.heal()
    line = Line(made)
    push(line.client, b"abc")
    line.at_server.wait_for(b"abc")
    made.proxy.cut(after=0)
    line.at_server.wait_for_end()
    line.close()


def test_one_connection_may_be_cut_alone(between: Callable[..., Between]) -> None:
    made = between()
    one, other = Line(made), Line(made)
    assert made.proxy.connections == (one.connection, other.connection)
    one.connection.cut()
    one.at_server.wait_for_end()
    push(other.client, b"still here")
    other.at_server.wait_for(b"still here")
    assert made.proxy.connections == (other.connection,)
    for line in (one, other):
        line.close()


@pytest.mark.parametrize("after", [None, 3])
def test_a_reset_breaks_both_sides(between: Callable[..., Between], after: int | None) -> None:
    line = Line(between("tcp", "tcp"))
    push(line.server, b"x")
    line.at_client.wait_for(b"x")
    line.proxy.reset(after, "up")
    if after is not None:
        push(line.client, b"1234")
    line.at_client.wait_for_end()
    line.at_server.wait_for_end()
    assert isinstance(line.at_client.error, ConnectionResetError)
    assert isinstance(line.at_server.error, ConnectionResetError)
    assert bytes(line.at_server.data) == (b"" if after is None else b"123")
    line.close()


def test_a_reset_on_one_side_passes_behind_the_bytes_before_it(
    between: Callable[..., Between], clock: ManualClock
) -> None:
    line = Line(between("tcp", "tcp", clock=clock))
    line.proxy.delay(1.0)
    push(line.client, b"last words")
    settle()
    reset(line.client)
    clock.advance(0.9)
    assert not line.at_server.has_ended
    clock.advance(0.2)
    line.at_server.wait_for_end()
    assert bytes(line.at_server.data) == b"last words"
    assert isinstance(line.at_server.error, ConnectionResetError)
    line.close()


def test_what_the_server_said_before_it_broke_still_arrives(line: Line, clock: ManualClock) -> None:
    line.proxy.delay(1.0, "down")
    line.server.unwatch_read()
    push(line.client, b"never read")
    push(line.server, b"go away")
    settle()
    line.server.close()  # with unread input: the client's side is broken
    settle()
    push(line.client, b"more")
    clock.advance(1.0)
    line.at_client.wait_for_end()
    assert bytes(line.at_client.data) == b"go away"


def test_swallowed_bytes_are_gone_and_counted(line: Line) -> None:
    line.proxy.swallow("up")
    push(line.client, b"forgotten")
    push(line.server, b"answer")
    line.at_client.wait_for(b"answer")
    settle()
    line.proxy.heal()
    push(line.client, b"kept")
    line.at_server.wait_for(b"kept")
    up = line.connection.up
    assert (up.arrived, up.passed, up.swallowed) == (13, 4, 9)
    line.proxy.swallow()
    line.client.shutdown_write()
    line.at_server.wait_for_end()
    assert line.at_server.error is None


@pytest.mark.parametrize("after", [None, 4])
def test_a_half_close_ends_one_direction(line: Line, after: int | None) -> None:
    line.proxy.half_close("up", after)
    push(line.client, b"12345")
    line.at_server.wait_for_end()
    assert bytes(line.at_server.data) == (b"" if after is None else b"1234")
    push(line.server, b"answer")
    line.at_client.wait_for(b"answer")
    push(line.client, b"to nobody")
    line.server.close()
    line.at_client.wait_for_end()
    assert line.connection.is_open
    line.client.close()
    until(lambda: not line.connection.is_open)


def test_chosen_bytes_are_corrupted(line: Line) -> None:
    push(line.client, b"before ")
    line.at_server.wait_for(b"before ")
    line.proxy.corrupt([0, 3, 9], "up", mask=0xFF)
    for part in (b"ab", b"cd", b"efghijkl"):
        push(line.client, part)
        settle()
    expected = bytearray(b"before abcdefghijkl")
    for at in (0, 3, 9):
        expected[7 + at] ^= 0xFF
    line.at_server.wait_for(bytes(expected))
    assert line.connection.up.corrupted == 3


def test_the_next_byte_has_one_bit_flipped_by_default(line: Line) -> None:
    line.proxy.corrupt()
    push(line.server, b"\0\0")
    line.at_client.wait(lambda: len(line.at_client.data) == 2)
    first, second = line.at_client.data
    assert (first.bit_count(), second) == (1, 0)


def test_random_corruption_is_the_same_with_the_same_seed(between: Callable[..., Between]) -> None:
    found = []
    for seed in (7, 7, 8):
        line = Line(between(seed=seed))
        line.proxy.corrupt(chance=0.05)
        push(line.client, bytes(1000))
        line.at_server.wait(lambda line=line: len(line.at_server.data) == 1000)
        assert 20 < line.connection.up.corrupted < 100
        found.append(bytes(line.at_server.data))
        line.close()
    assert found[0] == found[1] != found[2]


def test_a_deaf_proxy_takes_connections_and_reads_nothing(between: Callable[..., Between]) -> None:
    made = between()
    made.proxy.deafen("up")
    line = Line(made)
    taken, refused = fill(line.client)
    push(line.server, b"down goes on")
    line.at_client.wait_for(b"down goes on")
    assert (line.connection.up.arrived, bytes(line.at_server.data)) == (0, b"")
    made.proxy.heal()
    push(line.client, refused)
    line.at_server.wait_for(taken + refused)
    line.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_proxy_that_refuses_comes_back_at_the_same_address(
    between: Callable[..., Between], kind: str
) -> None:
    made = between(kind, kind)
    line = Line(made)
    address = made.proxy.address
    for _ in range(3):
        made.proxy.refuse()
        made.proxy.refuse()
        with pytest.raises(ConnectError):
            dial(Address.parse(address))
        push(line.client, b"x")  # what stands goes on
        line.at_server.wait(lambda: bool(line.at_server.data))
        made.proxy.heal()
        assert made.proxy.address == address
        again = Line(made)
        push(again.client, b"again")
        again.at_server.wait_for(b"again")
        again.close()
    line.close()


def read_sizes(line: Line, count: int) -> list[int]:
    """The sizes of the pieces in which so many bytes come."""
    sizes: list[int] = []
    line.server.watch_read(lambda: sizes.append(len(line.server.receive(65536))))
    push(line.client, bytes(count))
    until(lambda: sum(sizes) == count)
    line.server.unwatch_read()
    return sizes


def test_a_stream_is_split_into_pieces_of_a_size(line: Line) -> None:
    line.proxy.split(3, "up")
    assert read_sizes(line, 10) == [3, 3, 3, 1]


def test_a_stream_is_split_into_pieces_of_given_sizes(line: Line) -> None:
    line.proxy.split([1, 5, 2], "up")
    assert read_sizes(line, 12) == [1, 5, 2, 2, 2]
    line.proxy.split([7, 65536], "up")
    assert read_sizes(line, 1000) == [7, 993]


def test_a_stream_is_split_into_pieces_of_random_sizes(line: Line) -> None:
    line.proxy.split(9, "up", randomly=True)
    sizes = read_sizes(line, 500)
    assert set(sizes) == set(range(1, 10))


# --- the proxy itself -----------------------------------------------------------------------------


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
