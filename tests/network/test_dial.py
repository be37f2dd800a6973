"""Dialling: every way to connect, to be refused, and to be kept waiting."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from network_ground import MovedClock, Resolver, until

from edgevent import Address, AddressError, ConnectError, ConnectTimeoutError, UsageError
from edgevent.transport.base import StreamTransport
from edgevent.transport.dial import dial
from edgevent.transport.resolve import resolve


@pytest.fixture
def listener() -> Iterator[Callable[..., socket.socket]]:
    """Gives listening sockets of the standard library."""
    made = []

    def listen(where: Any = ("127.0.0.1", 0), backlog: int = 16) -> socket.socket:
        family = socket.AF_UNIX if not isinstance(where, tuple) else socket.AF_INET
        if isinstance(where, tuple) and ":" in where[0]:
            family = socket.AF_INET6
        found = socket.socket(family, socket.SOCK_STREAM)
        made.append(found)
        found.bind(where)
        found.listen(backlog)
        return found

    yield listen
    for found in made:
        found.close()


@pytest.fixture
def refused() -> Iterator[int]:
    """A port that nobody listens to, and that nobody else is given."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def try_dial(text: str, timeout: float = 20.0, **settings: Any) -> StreamTransport:
    return dial(Address.parse(text), timeout, **settings)


def speak(transport: StreamTransport, listening: socket.socket) -> None:
    """Shows that both are the ends of one connection."""
    there, _ = listening.accept()
    with there:
        assert transport.transmit(b"to") == 2
        assert there.recv(10) == b"to"
        there.sendall(b"fro")
        got = Event()
        transport.watch_read(got.set)
        assert got.wait(20.0)
        assert transport.receive(10) == b"fro"
    transport.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_numeric_address_is_connected(listener: Callable[..., Any], host: str) -> None:
    listening = listener((host, 0))
    port = listening.getsockname()[1]
    shown = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
    transport = try_dial(shown)
    assert transport.peer == shown
    assert transport.is_local
    assert transport.credentials is None
    speak(transport, listening)


def test_localhost_is_connected(listener: Callable[..., Any]) -> None:
    listening = listener()
    speak(try_dial(f"tcp://localhost:{listening.getsockname()[1]}"), listening)


def test_an_empty_host_is_this_machine(listener: Callable[..., Any]) -> None:
    listening = listener()
    speak(try_dial(f"tcp://:{listening.getsockname()[1]}"), listening)


def test_a_unix_path_is_connected(listener: Callable[..., Any], tmp_path: Path) -> None:
    listening = listener(str(tmp_path / "s"))
    transport = try_dial(f"unix:{tmp_path}/s")
    assert transport.peer == f"unix:{tmp_path}/s"
    assert transport.credentials == (os.getpid(), os.getuid(), os.getgid())
    speak(transport, listening)


def test_an_abstract_name_is_connected(listener: Callable[..., Any], tmp_path: Path) -> None:
    listening = listener(f"\0{tmp_path}")
    transport = try_dial(f"unix:@{tmp_path}")
    assert transport.peer == f"unix:@{tmp_path}"
    speak(transport, listening)


def test_all_addresses_of_a_name_are_tried(
    listener: Callable[..., Any], resolver: Resolver
) -> None:
    listening = listener(("127.0.0.3", 0))
    resolver.names["many.invalid"] = ["::1", "127.0.0.2", "127.0.0.3"]
    speak(try_dial(f"tcp://many.invalid:{listening.getsockname()[1]}"), listening)


def test_a_name_is_looked_up_at_every_attempt(
    listener: Callable[..., Any], resolver: Resolver
) -> None:
    listening = listener(("127.0.0.3", 0))
    text = f"tcp://moves.invalid:{listening.getsockname()[1]}"
    resolver.names["moves.invalid"] = ["127.0.0.2"]
    with pytest.raises(ConnectError, match="refused"):
        try_dial(text)
    resolver.names["moves.invalid"] = ["127.0.0.3"]
    speak(try_dial(text), listening)


def test_the_same_address_is_tried_once(resolver: Resolver) -> None:
    resolver.names["twice.invalid"] = ["127.0.0.1", "127.0.0.1"]
    assert len(resolve(Address.parse("tcp://twice.invalid:1"))) == 1


def test_a_refusal_names_the_address_and_the_reason(refused: int) -> None:
    with pytest.raises(ConnectError) as caught:
        try_dial(f"tcp://127.0.0.1:{refused}")
    assert str(caught.value) == f"tcp://127.0.0.1:{refused}: Connection refused"
    assert caught.value.errno == errno.ECONNREFUSED
    assert not isinstance(caught.value, ConnectTimeoutError)


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match=f"^unix:{tmp_path}/no: No such file or directory$"):
        try_dial(f"unix:{tmp_path}/no")


def test_a_path_without_a_listener_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s"))
    with pytest.raises(ConnectError, match=r"/s: Connection refused$"):
        try_dial(f"unix:{tmp_path}/s")


def test_a_name_that_does_not_exist_is_a_connect_error() -> None:
    with pytest.raises(ConnectError, match=r"^tcp://no\.such\.host\.invalid:3001: .") as caught:
        try_dial("tcp://no.such.host.invalid:3001")
    assert caught.value.errno is None


def test_a_look_up_that_hangs_ends_with_the_limit(resolver: Resolver, clock: MovedClock) -> None:
    dialling = gevent.spawn(try_dial, "tcp://hangs.invalid:3001", 2.5, clock=clock)
    assert resolver.asked.wait(20.0)
    clock.advance(2.5)
    with pytest.raises(ConnectTimeoutError) as caught:
        dialling.get(timeout=20.0)
    assert str(caught.value) == ("tcp://hangs.invalid:3001: the name was not resolved within 2.5 s")
    assert clock.pending == 0


def test_a_path_that_is_too_long_is_an_address_error() -> None:
    with pytest.raises(AddressError, match="at most 107 bytes"):
        try_dial("unix:/" + "x" * 107)


@pytest.fixture
def deaf(listener: Callable[..., Any]) -> Iterator[Callable[..., socket.socket]]:
    """Gives TCP listeners that never accept, with a queue so full that the kernel drops dials."""
    held = []

    def listen(host: str = "127.0.0.1") -> socket.socket:
        listening = listener((host, 0), backlog=0)
        for _ in range(8):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listening.getsockname())
            held.append(sock)
        return listening

    yield listen
    for sock in held:
        sock.close()


def test_a_tcp_listener_that_never_accepts_times_out(
    deaf: Callable[..., Any], clock: MovedClock
) -> None:
    listening = deaf()
    text = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
    dialling = gevent.spawn(try_dial, text, 3.0, clock=clock)
    until(lambda: clock.pending == 1)
    clock.advance(3.0)
    with pytest.raises(ConnectTimeoutError) as caught:
        dialling.get(timeout=20.0)
    assert str(caught.value) == f"{text}: no connection within 3 s"
    assert clock.pending == 0


def test_each_address_has_an_equal_share_of_the_limit(
    listener: Callable[..., Any],
    deaf: Callable[..., Any],
    resolver: Resolver,
    clock: MovedClock,
) -> None:
    port = deaf("127.0.0.2").getsockname()[1]
    listening = listener(("127.0.0.3", port))
    resolver.names["half.invalid"] = ["127.0.0.2", "127.0.0.3"]
    dialling = gevent.spawn(try_dial, f"tcp://half.invalid:{port}", 3.0, clock=clock)
    until(lambda: clock.alarms == [1.5])
    clock.advance(1.5)
    speak(dialling.get(timeout=20.0), listening)


def test_a_limit_that_is_over_leaves_nothing_for_further_addresses(
    deaf: Callable[..., Any], resolver: Resolver, clock: MovedClock
) -> None:
    port = deaf("127.0.0.2").getsockname()[1]
    resolver.names["slow.invalid"] = ["127.0.0.2", "127.0.0.3"]
    dialling = gevent.spawn(try_dial, f"tcp://slow.invalid:{port}", 3.0, clock=clock)
    until(lambda: clock.alarms == [1.5])
    clock._now += 3.0  # the process was stopped for so long
    clock.advance(0.0)
    with pytest.raises(ConnectTimeoutError, match=r"no connection within 3 s$"):
        dialling.get(timeout=20.0)


def test_a_full_unix_queue_is_waited_for(
    listener: Callable[..., Any], tmp_path: Path, clock: MovedClock
) -> None:
    listening = listener(str(tmp_path / "s"), backlog=0)
    first = try_dial(f"unix:{tmp_path}/s")
    dialling = gevent.spawn(try_dial, f"unix:{tmp_path}/s", 3.0, clock=clock)
    until(lambda: clock.pending == 1)  # EAGAIN: it waits before it tries again
    listening.accept()[0].close()
    clock.advance(0.1)
    speak(dialling.get(timeout=20.0), listening)
    first.close()


def test_a_unix_queue_that_stays_full_times_out(
    listener: Callable[..., Any], tmp_path: Path, clock: MovedClock
) -> None:
    listener(str(tmp_path / "s"), backlog=0)
    first = try_dial(f"unix:{tmp_path}/s")
    dialling = gevent.spawn(try_dial, f"unix:{tmp_path}/s", 3.0, clock=clock)
    while not dialling.ready():
        until(lambda: clock.pending or dialling.ready())
        clock.advance(0.1)
    with pytest.raises(ConnectTimeoutError, match=f"^unix:{tmp_path}/s: no connection within 3 s$"):
        dialling.get()
    first.close()


def test_no_time_at_all_still_reaches_a_live_unix_server(
    listener: Callable[..., Any], tmp_path: Path
) -> None:
    listening = listener(str(tmp_path / "s"))
    speak(try_dial(f"unix:{tmp_path}/s", 0.0), listening)


MEET = """
import socket
from edgevent import Address, ConnectError
from edgevent.transport.dial import dial

def choose_from(first):
    # Of two ports to choose from, the kernel soon takes the one that is dialled.
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
        file.write(f"{first} {first + 1}")

def met():
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", 40000)) == 0

choose_from(40000)
assert any(met() for _ in range(200)), "this kernel connects no socket to itself"
choose_from(41000)  # the others are in TIME_WAIT
for _ in range(200):
    try:
        dial(Address.parse("tcp://127.0.0.1:41000")).close()
    except ConnectError as error:
        assert "Connection refused" in str(error), error
    else:
        raise AssertionError("a dial has met itself")
print("refused")
"""


def test_a_dial_that_meets_itself_is_refused(own_network: Callable[..., str]) -> None:
    assert own_network(MEET, "true") == "refused\n"


def test_a_call_in_the_hub_is_refused(listener: Callable[..., Any]) -> None:
    listening = listener()
    result: list[BaseException] = []

    def call() -> None:
        try:
            try_dial(f"tcp://127.0.0.1:{listening.getsockname()[1]}")
        except BaseException as error:
            result.append(error)

    gevent.get_hub().loop.run_callback(call)
    until(lambda: result)
    assert isinstance(result[0], UsageError)


def test_a_dial_that_is_killed_closes_its_socket(
    deaf: Callable[..., Any], clock: MovedClock
) -> None:
    listening = deaf()
    before = set(os.listdir("/proc/self/fd"))
    text = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
    dialling = gevent.spawn(try_dial, text, 3.0, clock=clock)
    until(lambda: clock.pending == 1)
    dialling.kill()
    assert clock.pending == 0
    assert set(os.listdir("/proc/self/fd")) == before
