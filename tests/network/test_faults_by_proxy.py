"""A bad network between clients, links and servers: no wait past its limit, no error unsaid."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from network_ground import PATIENCE, Ground, MovedClock, echo, run_program, until
from tls_ground import client_options, server_options

from edgevent import (
    Address,
    Client,
    ConnectError,
    ConnectionLostError,
    Dispatcher,
    HandshakeError,
    Message,
    MessageConnection,
    NetworkError,
    NotConnectedError,
    PermanentConnection,
    RemoteError,
    RequestTimeout,
    Server,
    SlowConsumerError,
    TruncatedError,
    connect,
    limits,
)
from edgevent.testing.clock import settle
from edgevent.testing.contract import Pull, push
from edgevent.testing.contract import end as finish
from edgevent.testing.proxy import FaultProxy, ProxyConnection
from edgevent.transport.dial import dial

KINDS = ["tcp", "unix", "tls", "tls+unix"]


class Net:
    """A service, clients of it, and the proxy between them; all on the clock of the test."""

    def __init__(
        self, ground: Ground, kind: str, folder: Path, make: Callable[..., FaultProxy]
    ) -> None:
        self.ground = ground
        self.clock: Any = ground.communicator.clock
        self.is_tls = kind.startswith("tls")
        self._kind = kind
        self._folder = folder
        self._make = make
        self.server: Server
        self.proxy: FaultProxy
        self.tls: dict[str, Any] = {"tls": client_options()} if self.is_tls else {}

    def _place(self, name: str) -> str:
        if self._kind.endswith("unix"):
            return f"{self._kind}:{self._folder}/{name}"
        return f"{self._kind}://127.0.0.1:0"

    def serve(self, handler: Any = None, **settings: Any) -> None:
        if self.is_tls:
            settings["tls"] = server_options()
        handler = echo() if handler is None else handler
        self.server = self.ground.serve(handler, self._place("s"), **settings)
        self.proxy = self._make(self.server.addresses[0], self._place("p"), clock=self.clock)

    def client(self, **settings: Any) -> Client:
        return Client(self.proxy.address, clock=self.clock, **self.tls, **settings)

    def link(self, **settings: Any) -> PermanentConnection:
        link = PermanentConnection(self.proxy.address, pauses="1", **self.tls, **settings)
        return self.ground.communicator.add_connection(link)


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


def ask(client: Any, text: str, timeout: float = 10.0) -> None:
    """Shows that a request is answered."""
    message = Message("ECHO", {"text": text})
    assert client.request(message, timeout=timeout)["text"] == text


class Asking:
    """A request in a greenlet of its own."""

    def __init__(self, client: Any, text: str = "text", timeout: float = 10.0) -> None:
        message = Message("ECHO", {"text": text})
        self._greenlet = gevent.spawn(self._ask, client, message, timeout)

    @staticmethod
    def _ask(client: Any, message: Message, timeout: float) -> object:
        try:
            return client.request(message, timeout=timeout)
        except Exception as error:
            return error

    @property
    def waits(self) -> bool:
        return not self._greenlet.ready()

    def end(self) -> object:
        """What it has returned or raised."""
        return self._greenlet.get(timeout=PATIENCE)


# --- requests -------------------------------------------------------------------------------------

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

RECORD_HEADER = 5  # RFC 8446, 5.1: type, version, length


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


# --- connecting -----------------------------------------------------------------------------------


class Talking:
    """A client in a greenlet of its own that connects, asks, and closes."""

    def __init__(self, net: Net) -> None:
        self._greenlet = gevent.spawn(self._talk, net)

    @staticmethod
    def _talk(net: Net) -> object:
        try:
            with net.client() as client:
                return client.request(Message("ECHO", {"text": "text"}))
        except Exception as error:
            return error

    @property
    def waits(self) -> bool:
        return not self._greenlet.ready()

    def end(self) -> object:
        """The answer, or what was raised."""
        return self._greenlet.get(timeout=PATIENCE)


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


# --- links ----------------------------------------------------------------------------------------

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


def come_back(link: PermanentConnection, clock: MovedClock) -> None:
    """Moves the clock until the link is up: for no longer than its pause and its attempts take.

    There may be two attempts. Where nobody listens, a SYN that meets a connection in TIME-WAIT is
    answered with an ACK in place of a reset (Linux): it has no answer before its limit.
    """
    settle()
    for _ in range(24):
        if link.is_connected:
            break
        clock.advance(0.5)
    assert link.is_connected
    link.wait_until_up(PATIENCE)


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


# --- any pieces -----------------------------------------------------------------------------------

STREAM = (
    "ONE\n"
    "<sender:service target:other/TWO a=b;c=d\n"
    "\n"
    'THREE quoted="a\\"b;c=d";umlaut=äöü€😀;empty=\n'
    '{"command": "FOUR", "parameters": {"text": "zwölf"}}\n'
    "FIVE a=b\r\n"
    f"SIX long={'x' * 100};lines=one\\ntwo\n"
    "SEVEN\n"
).encode()
WHOLE = [str(Message.parse(line)) for line in STREAM.splitlines() if line]


class Listening(MessageConnection):
    """Keeps what it hears."""

    def __init__(self, transport: Any, **settings: Any) -> None:
        super().__init__(transport, **settings)
        self.heard: list[str] = []

    def process_message(self, message: Message) -> bool:
        self.heard.append(str(message))
        return True


@pytest.mark.parametrize("cut", ["anywhere", "everywhere", "at random"])
def test_a_stream_in_any_pieces_gives_the_same_messages(net: Net, cut: str) -> None:
    net.serve(Listening)
    with connect(net.proxy.address, **net.tls) as stream:
        until(lambda: net.server.peers)
        peer: Any = net.server.peers[0]
        up = net.proxy.wait_for_connection().up
        settle()
        size = len(STREAM) + (RECORD_HEADER + 17 if net.is_tls else 0)  # RFC 8446, 5.2
        count = {"anywhere": size, "everywhere": 10, "at random": 1000 - size}[cut]
        for number in range(count):
            if cut == "anywhere":
                net.proxy.split([number or size, size], "up")
            else:
                net.proxy.split(1 if cut == "everywhere" else 99, "up", randomly=number > 9)
            passed = up.passed
            stream.write(STREAM)
            until(lambda: len(peer.heard) >= len(WHOLE))
            assert peer.heard == WHOLE
            assert up.passed - passed == size
            peer.heard.clear()


@pytest.mark.parametrize("sizes", [1, 2, 3, 7, 100])
def test_a_conversation_in_pieces_from_its_first_byte_on(net: Net, sizes: int) -> None:
    net.serve()
    net.proxy.split(sizes)
    with net.client() as client:
        for number in range(5):
            ask(client, f"{number}")


# --- the end right behind the messages ------------------------------------------------------------

BURST = b"".join(b"N number=%d\n" % number for number in range(50))


class Counting(MessageConnection):
    """Keeps the numbers that it is sent, of each connection."""

    heard: list[list[int]]

    def __init__(self, transport: Any, **settings: Any) -> None:
        super().__init__(transport, **settings)
        self.numbers: list[int] = []
        self.heard.append(self.numbers)

    def process_message(self, message: Message) -> bool:
        self.numbers.append(message.integer("number"))
        return True


@pytest.mark.parametrize("end", ["orderly", "cut off", "half-closed"])
@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_all_messages_before_the_end_are_handled_in_order(
    net: Net, end: str, pieces: bool, count: int
) -> None:
    handler = type("Fresh", (Counting,), {"heard": []})
    net.serve(handler)
    if pieces:
        net.proxy.split(40, "up")
    address = Address.parse(net.proxy.address)
    for _ in range(count):
        transport = dial(address, **net.tls)
        push(transport, BURST)
        if end == "orderly":
            finish(transport)
        elif end == "half-closed":
            transport.shutdown_write()
            Pull(transport).wait_for_end()
            transport.close()
        else:
            below = getattr(transport, "below", transport)
            below.shutdown_write()
            Pull(below).wait_for_end()
            transport.close()
    until(lambda: len(handler.heard) == count and not net.server.peers)
    assert handler.heard == [list(range(50))] * count
    assert net.server.counts["lost"] == (count if net.is_tls and end == "cut off" else 0)


# --- too long a line ------------------------------------------------------------------------------

FLOOD = """
import sys
import gevent
from edgevent import (
    Communicator, Dispatcher, NetworkError, Server, TlsOptions, connect, make_authority,
    make_certificate,
)
from edgevent.testing.proxy import FaultProxy

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

authority = make_authority("test authority")
pair = make_certificate(authority, ["localhost", "127.0.0.1"], usage="server")
theirs = TlsOptions(pair.certificate_pem, pair.key_pem)
ours = TlsOptions(authorities=authority.certificate_pem)
tls = sys.argv[1].startswith("tls")

def flood(size):
    with connect(proxy.address, tls=ours if tls else None) as stream:
        sent = 0
        try:
            while sent < size:
                stream.write(b"x" * 65536)
                sent += 65536
        except NetworkError:
            return sent
    raise SystemExit(f"{sent} bytes were taken")

with Communicator() as communicator:
    server = Server(sys.argv[1], Dispatcher(), tls=theirs if tls else None)
    communicator.add_connection(server)
    with FaultProxy(server.addresses[0], sys.argv[2]) as proxy:
        gevent.spawn(communicator.run)
        for _ in range(20):  # what such a peer costs once and for all
            flood(8 << 20)
        before = peak()
        for _ in range(int(sys.argv[3])):
            flood(64 << 20)
        print(peak() - before, server.counts["lost"])
"""


@pytest.mark.parametrize("times", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_a_flood_without_a_newline_is_cut_before_it_costs_memory(
    tmp_path: Path, kind: str, times: int
) -> None:
    where = "{}:{}/{}" if kind.endswith("unix") else "{}://127.0.0.1:0"
    server, proxy = (where.format(kind, tmp_path, name) for name in ("s", "p"))
    grown, lost = run_program(FLOOD, server, proxy, times).split()
    assert int(lost) == 20 + times
    assert int(grown) < 2 * limits.MAX_LINE_BYTES // 1024 + 4096
