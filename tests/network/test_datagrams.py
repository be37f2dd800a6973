"""Datagram servers: dispatching, answers, turns, and their end, over every kind of socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from datagram_ground import KINDS, address_of, ask, plain, serve
from gevent.event import Event
from network_ground import Ground, MovedClock, echo, until

from edgevent import (
    ClosedError,
    Communicator,
    ConnectError,
    DatagramClient,
    DatagramPeer,
    DatagramServer,
    Dispatcher,
    ListenError,
    Message,
    MessageError,
    SigningKeys,
    UsageError,
)
from edgevent.runtime.turns import IDLE, RUNNING


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address of each kind of socket."""
    return address_of(request.param, tmp_path)


UDP = "udp://127.0.0.1:0"


# --- messages -------------------------------------------------------------------------------------


def test_each_datagram_is_answered_to_its_sender(ground: Ground, address: str) -> None:
    server = serve(ground, address, echo())
    with plain(server.addresses[0]) as first, plain(server.addresses[0]) as second:
        first.send(b"ECHO text=1;serial=7")
        second.send(b"ECHO text=2")
        assert second.recv(1000) == b"ECHOED text=2"
        assert first.recv(1000) == b"ECHOED serial=7;text=1"
    assert server.counts == {"received": 2}


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"NOSUCH serial=3", b"UNKNOWN command=NOSUCH"),
        (b"ECHO", b"INVALID command=ECHO;message=ECHO: parameter text is missing"),
        (b"ALIVE serial=3", b"ABSOLUTELY reply_timestamp="),
        (b"HELP", b"COMMANDS list=ALIVE,ECHO,"),
        (b'{"command": "ECHO", "parameters": {"text": "j"}}', b"ECHOED text=j"),
        (b"ECHO text=newline\n", b"ECHOED text=newline"),
        (b"FAIL", b"INVALID command=FAIL;id="),
    ],
)
def test_messages_are_dispatched_as_over_streams(
    ground: Ground, address: str, line: bytes, answer: bytes
) -> None:
    service = echo()
    service.on("FAIL")(lambda message, peer: 1 / 0)
    server = serve(ground, address, service)
    with plain(server.addresses[0]) as sock:
        assert ask(sock, line).startswith(answer)
    assert server.handler_errors == (line == b"FAIL")


def test_the_table_is_the_communicators_by_default(tmp_path: Path) -> None:
    with Ground(Communicator(dispatcher=echo())) as ground:
        server = serve(ground, UDP)
        with plain(server.addresses[0]) as sock:
            assert ask(sock, b"ECHO text=x") == b"ECHOED text=x"


def test_a_function_gets_every_message(ground: Ground, address: str) -> None:
    def handler(message: Message, peer: DatagramPeer) -> Message:
        return message.reply("GOT", {"command": message.command, "from": peer.address})

    server = serve(ground, address, handler)
    with plain(server.addresses[0]) as sock:
        assert ask(sock, b"HELP").startswith(b"GOT command=HELP;from=u")


def test_a_class_takes_what_the_dispatcher_does_not(ground: Ground, address: str) -> None:
    class Sensor(DatagramServer):
        def process_message(self, message: Message, peer: DatagramPeer) -> bool:
            if message.command != "READ":
                return False
            peer.send(message.reply("VALUE"))
            return True

    server = ground.communicator.add_connection(Sensor(address, dispatcher=echo()))
    with plain(server.addresses[0]) as sock:
        assert ask(sock, b"READ serial=1") == b"VALUE serial=1"
        assert ask(sock, b"ECHO text=x") == b"ECHOED text=x"
        assert ask(sock, b"WRITE") == b"UNKNOWN command=WRITE"


def test_a_class_gets_datagrams_as_they_are(ground: Ground, address: str) -> None:
    class Raw(DatagramServer):
        def process_datagram(self, data: bytes, peer: DatagramPeer) -> None:
            if data == b"fail":
                raise ValueError
            peer.write(data[::-1])

    for settings in ({"secret_code": "x"}, {"auth": SigningKeys("a key of 16 bytes")}):
        with pytest.raises(UsageError, match="nobody would look at secret_code= or auth="):
            Raw(address, **settings)
    server = ground.communicator.add_connection(Raw(address))
    with plain(server.addresses[0]) as sock:
        sock.send(b"fail")
        for data in (b"\xff\0\n", b"ALIVE", b"x" * server.max_datagram_bytes):
            assert ask(sock, data) == data[::-1]
    assert server.handler_errors == 1


def test_malformed_ones_are_dropped_and_told_once_a_second(
    moved: Ground, clock: MovedClock, address: str, logged: Callable[[str], list[str]]
) -> None:
    server = serve(moved, address, echo(), name="echoes")
    with plain(server.addresses[0]) as sock:
        for burst in (3, 2):
            for _ in range(burst):
                sock.send(b"ECHO text=secret-text;;")
            assert ask(sock, b"ECHO text=x") == b"ECHOED text=x"
            clock.advance(1.0)
        assert server.counts == {"received": 7, "malformed": 5}
    first, second = logged("echoes: dropped a datagram from u")
    assert first.endswith(": it is no message")
    assert second.endswith(": it is no message (2 more since the last line)")
    assert logged("secret-text") == []


def test_longer_ones_are_dropped_and_never_parsed(ground: Ground, address: str) -> None:
    server = serve(ground, address, echo(), max_datagram_bytes=100)
    with plain(server.addresses[0]) as sock:
        for size in (101, 102, 1000):
            sock.send(b"ECHO text=" + b"x" * (size - 10))
        line = b"ECHO text=" + b"x" * 88 + b";;"
        assert len(line) == 100
        sock.send(line)
        assert ask(sock, b"ECHO text=x") == b"ECHOED text=x"
    assert server.counts == {"received": 5, "truncated": 3, "malformed": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_is_too_long_is_a_failure(
    kind: str, ground: Ground, tmp_path: Path, logged: Callable[[str], list[str]]
) -> None:
    server = serve(ground, address_of(kind, tmp_path), echo(), max_datagram_bytes=100)
    with plain(server.addresses[0]) as sock:
        answer = ask(sock, b"ECHO text=" + b"x" * 90)
        assert answer.startswith(b"INVALID command=ECHO;id=")
    assert logged("the handler of ECHO failed")
    with pytest.raises(MessageError, match="ECHO: a datagram of 200 bytes is over the limit of"):
        server.send(Message("ECHO", {"text": "x" * 190}), server.addresses[0])


def test_what_the_peer_says_of_itself(ground: Ground, address: str) -> None:
    peers: list[DatagramPeer] = []
    server = serve(ground, address, lambda message, peer: peers.append(peer), name="peers")
    with plain(server.addresses[0]) as sock:
        sock.send(b"A")
        until(lambda: peers)
    (peer,) = peers
    assert peer.name == f"peers {peer.address}"
    assert repr(peer) == f"<DatagramPeer {peer.address}>"
    assert peer.address.startswith(server.address.scheme)
    assert peer.communicator is ground.communicator
    assert peer.server is server
    assert peer.is_local
    assert peer.may_control
    assert peer.answers_errors
    assert peer.authenticated == (peer.credentials is not None) == server.address.is_unix


def test_commands_that_control_are_obeyed_from_this_machine(address: str) -> None:
    with Communicator() as communicator:
        server = communicator.add_connection(DatagramServer(address))
        with plain(server.addresses[0]) as sock:
            sock.send(b"LEAK")
            sock.send(b"STOP")
            assert communicator.run() is True


def test_received_messages_are_traced(ground: Ground, logged: Callable[[str], list[str]]) -> None:
    ground.communicator.debug_connections()
    server = serve(ground, UDP, echo(), name="traced")
    with plain(server.addresses[0]) as sock:
        ask(sock, b"ECHO text=secret")
    (line,) = logged("received <Message ECHO text>")
    assert line.startswith("traced udp://127.0.0.1:")


# --- sending of its own accord --------------------------------------------------------------------


def test_a_server_sends_from_its_own_address(ground: Ground, address: str) -> None:
    heard: list[tuple[str, str]] = []
    server = serve(ground, address)
    with DatagramClient(server.addresses[0]) as client:
        server.send(Message("NEWS", {"n": 1}), client.local_address)
        heard.append((str(client.receive(10.0)), client.sender))
    assert heard == [("NEWS n=1", server.addresses[0])]


def test_it_cannot_send_to_another_kind_of_address(ground: Ground) -> None:
    server = serve(ground, UDP)
    with pytest.raises(ConnectError, match="not of the same kind as udp://127"):
        server.send(Message("A"), "unixgram:@nobody")
    with pytest.raises(ConnectError, match=r"nosuch\.invalid"):
        server.send(Message("A"), "udp://nosuch.invalid:1")
    server.close()
    with pytest.raises(ClosedError):
        server.send(Message("A"), "udp://127.0.0.1:1")


# --- turns ----------------------------------------------------------------------------------------


def waiting_service(go: Event) -> tuple[Dispatcher, list[str]]:
    """A service whose handler of WAIT waits; what begins and ends is noted."""
    service, notes = echo(), []

    @service.on("WAIT")
    def wait(message: Message, peer: DatagramPeer) -> Message:
        notes.append(f"+{message['n']}")
        go.wait()
        notes.append(f"-{message['n']}")
        return message.reply("DONE", {"n": message["n"]})

    return service, notes


def test_all_senders_share_the_turns_of_a_server(ground: Ground, address: str) -> None:
    go = Event()
    service, notes = waiting_service(go)
    server = serve(ground, address, service)
    with plain(server.addresses[0]) as first, plain(server.addresses[0]) as second:
        first.send(b"WAIT n=1")
        until(lambda: notes == ["+1"])
        second.send(b"WAIT n=2")
        second.send(b"WAIT n=3")
        until(lambda: not server._watching)  # what comes stays in the kernel
        assert notes == ["+1"]
        go.set()
        assert [second.recv(100) for _ in range(2)] == [b"DONE n=2", b"DONE n=3"]
        assert first.recv(100) == b"DONE n=1"
    assert notes == ["+1", "-1", "+2", "-2", "+3", "-3"]


def test_several_handlers_run_at_a_time_when_that_is_asked_for(
    ground: Ground, address: str
) -> None:
    go = Event()
    service, notes = waiting_service(go)
    server = serve(ground, address, service, concurrency=3)
    with plain(server.addresses[0]) as sock:
        for n in range(1, 5):
            sock.send(b"WAIT n=%d" % n)
        until(lambda: len(notes) == 3 and not server._watching)
        assert notes == ["+1", "+2", "+3"]
        go.set()
        assert {sock.recv(100) for _ in range(4)} == {b"DONE n=%d" % n for n in range(1, 5)}
        assert ask(sock, b"ECHO text=x") == b"ECHOED text=x"


def test_a_waiting_handler_leaves_a_turn_for_others(ground: Ground) -> None:
    go = Event()
    service, notes = waiting_service(go)
    server = serve(ground, UDP, service, concurrency=2)
    with plain(server.addresses[0]) as sock:
        sock.send(b"WAIT n=1")
        until(lambda: notes)
        for n in range(50):
            assert ask(sock, b"ECHO text=%d" % n) == b"ECHOED text=%d" % n
        go.set()
        assert sock.recv(100) == b"DONE n=1"


def test_a_burst_is_served_in_order_and_lets_others_run(ground: Ground) -> None:
    order: list[str] = []
    service = Dispatcher()
    service.on("N")(lambda message, peer, n: order.append(n))
    server = serve(ground, UDP, service)
    server.enabled = False
    other = serve(ground, UDP, lambda message, peer: order.append("other"), priority=200)
    other.enabled = False
    with plain(server.addresses[0]) as sock, plain(other.addresses[0]) as second:
        for n in range(100):
            sock.send(b"N n=%d" % n)
        second.send(b"X")
        server.enabled = other.enabled = True
        until(lambda: len(order) == 101)
    assert [n for n in order if n != "other"] == [str(n) for n in range(100)]
    assert order.index("other") <= 2 * server.event_limit


def test_what_came_while_it_was_disabled_is_served_later(ground: Ground, address: str) -> None:
    server = serve(ground, address, echo())
    server.enabled = False
    with plain(server.addresses[0]) as sock:
        sock.send(b"ECHO text=x")
        gevent.idle()
        assert not server.counts
        server.enabled = True
        assert sock.recv(100) == b"ECHOED text=x"
        # Another communicator may have it next.
        assert ground.communicator.remove_connection(server)
        sock.send(b"ECHO text=y")
        with Ground(Communicator()) as other:
            other.communicator.add_connection(server)
            assert sock.recv(100) == b"ECHOED text=y"


def test_a_ready_turn_is_cancelled_with_the_connection(ground: Ground) -> None:
    go = Event()
    service, notes = waiting_service(go)
    server = serve(ground, UDP, service, concurrency=2)
    with plain(server.addresses[0]) as sock:
        sock.send(b"WAIT n=1")
        until(lambda: notes)
        (lane,) = server._lanes
        sock.send(b"WAIT n=2")
        server._readable()  # what the poll does; its turn would be next
        assert lane.ticket not in (IDLE, RUNNING)
        server.enabled = False
        assert (lane.ticket, server._free) == (IDLE, [lane])
        gevent.idle()
        assert notes == ["+1"]
        server.enabled = True
        go.set()
        assert {sock.recv(100), sock.recv(100)} == {b"DONE n=1", b"DONE n=2"}
    assert (lane.name, lane.priority, lane.command) == (server.name, server.priority, "WAIT")


def test_a_timeout_comes_between_datagrams(moved: Ground, clock: MovedClock) -> None:
    class Ticking(DatagramServer):
        ticks = 0

        def process_timeout(self) -> None:
            self.ticks += 1

    server = moved.communicator.add_connection(Ticking(UDP, dispatcher=echo()))
    server.timeout_delay = 1.0
    with plain(server.addresses[0]) as sock:
        for ticks in range(3):
            assert server.ticks == ticks
            assert ask(sock, b"ECHO text=x") == b"ECHOED text=x"
            clock.advance(1.0)


def test_what_the_kernel_drops_is_counted(ground: Ground) -> None:
    server = serve(ground, UDP, echo())
    server.enabled = False
    with plain(server.addresses[0]) as sock:
        sent = 0
        while not server.dropped_by_kernel:
            sock.send(b"x" * 1000)
            sent += 1
        assert 0 < server.dropped_by_kernel < sent
        server.enabled = True
        until(lambda: server.counts["received"] == sent - server.dropped_by_kernel)
    server.close()
    assert server.dropped_by_kernel == 0


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3])
def test_stop_lets_handlers_end_and_answer(address: str, concurrency: int) -> None:
    go = Event()
    service, notes = waiting_service(go)
    with Communicator() as communicator:
        server = communicator.add_connection(
            DatagramServer(address, service, concurrency=concurrency)
        )
        runner = gevent.spawn(communicator.run)
        with plain(server.addresses[0]) as sock:
            for n in range(concurrency):
                sock.send(b"WAIT n=%d" % n)
            until(lambda: len(notes) == concurrency)
            communicator.stop()
            sock.send(b"WAIT n=9")
            gevent.idle()
            assert not server.is_closed
            go.set()
            assert {sock.recv(100) for _ in range(concurrency)} == {
                b"DONE n=%d" % n for n in range(concurrency)
            }
            assert runner.get(timeout=30) is True
            assert "+9" not in notes
    assert server.is_closed


def test_a_handler_that_outlives_its_server_cannot_send(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    go = Event()
    service, notes = waiting_service(go)
    server = serve(ground, UDP, service)
    with plain(server.addresses[0]) as sock:
        sock.send(b"WAIT n=1")
        until(lambda: notes)
        server.close()
        server.close()
        go.set()
        until(lambda: len(notes) == 2)
    assert server.addresses == []
    assert server.port == 0
    assert "closed" in repr(server)
    assert server.handler_errors == 0


def test_a_handler_may_close_its_server(ground: Ground, address: str) -> None:
    service = echo()
    service.on("END")(lambda message, peer: peer.server.close())
    server = serve(ground, address, service)
    where = server.addresses[0]
    with plain(where) as sock:
        for _ in range(3):
            sock.send(b"END")
        until(lambda: server.is_closed)
    assert server.counts["received"] == 1
    assert not Path(where.partition(":")[2]).exists()


# --- where it receives ----------------------------------------------------------------------------


def test_a_name_with_two_addresses_has_one_port_on_both(ground: Ground, resolver: Any) -> None:
    resolver.names["both.invalid"] = ["127.0.0.1", "127.0.0.2"]
    server = serve(ground, "udp://both.invalid:0", echo())
    assert server.addresses == [f"udp://127.0.0.{n}:{server.port}" for n in (1, 2)]
    assert repr(server).endswith(" ".join(server.addresses) + ">")
    for address in server.addresses:
        with plain(address) as sock:
            for _ in range(20):
                assert ask(sock, b"ECHO text=x") == b"ECHOED text=x"


@pytest.mark.parametrize(
    ("address", "settings", "error", "sentence"),
    [
        ("tcp://127.0.0.1:0", {}, UsageError, "scheme udp or unixgram was expected"),
        ("unixseq:x", {}, UsageError, "scheme udp or unixgram was expected"),
        (UDP, {"concurrency": 0}, UsageError, "concurrency 0: 1 to 1000"),
        (UDP, {"handler": 5}, UsageError, "5 is no handler"),
        (UDP, {"handler": Dispatcher}, UsageError, "is no handler"),
        (UDP, {"handler": echo(), "dispatcher": echo()}, UsageError, "one dispatcher"),
        (UDP, {"mode": 0o600}, UsageError, "has no file"),
        (UDP, {"allow_users": [0]}, UsageError, "known of Unix sockets only"),
        (UDP, {"ttl": 256}, UsageError, "ttl 256: 0 to 255"),
        ("udp://nosuch.invalid:0", {}, ListenError, "nosuch.invalid"),
        ("udp://192.0.2.77:0", {}, ListenError, "annot assign requested address"),
        (UDP, {"groups": ["ff02::1"]}, ListenError, "it is of another kind"),
        (UDP, {"groups": ["10.0.0.1"]}, ListenError, "udp://127.0.0.1:0: "),
        ("udp://239.1.1.1:0", {"interface": "nosuch"}, ListenError, "udp://239.1.1.1:0: "),
        ("unixgram:/nosuch/folder", {}, ListenError, "No such file"),
    ],
)
def test_what_cannot_be_is_an_error(
    address: str, settings: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        DatagramServer(address, **settings)


def test_an_address_that_is_taken_is_an_error() -> None:
    server = DatagramServer(UDP)
    with server, pytest.raises(ListenError, match="Address already in use"):
        DatagramServer(server.addresses[0])
    with Communicator() as communicator, pytest.raises(UsageError, match="is closed"):
        communicator.add_connection(server)
