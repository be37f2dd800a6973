"""What a communicator counts: by connection, in sums, of handlers, and how late its hub is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from network_ground import Ground, MovedClock, ask, echo, read_all, read_lines, run_program, until
from recording_peer import RecordingPeer

from edgevent import (
    Client,
    Communicator,
    ConnectionCounters,
    Counters,
    DatagramClient,
    DatagramServer,
    Dispatcher,
    Message,
    PermanentConnection,
    QueueFullError,
    StreamConnection,
    WrongThreadError,
    snapshot,
)
from edgevent.counters import counters
from edgevent.links.message import MessageConnection


@pytest.fixture
def measured() -> Iterator[Ground]:
    """A running communicator that measures handlers and lateness, too."""
    with Ground(Communicator(count_handlers=True, name="hello")) as ground:
        yield ground


def service(**settings: Any) -> Dispatcher:
    """A service that answers ECHO, and tells what is counted."""
    found = echo()
    found.on("COUNTERS")(counters)
    return found


def the_one(found: Counters, kind: str) -> ConnectionCounters:
    """The only connection of a class."""
    (one,) = [one for one in found.connections if one.kind == kind]
    return one


def test_functions_and_methods_that_take_messages_are_timed_by_their_names(
    measured: Ground,
) -> None:
    class Sensor(MessageConnection):
        def process_message(self, message: Message) -> bool:
            if message.command == "FAIL":
                raise ValueError
            self.send(Message("TAKEN"))
            return message.command == "MINE"

    class Slotted(Sensor):
        __slots__ = ()

    def talk(connection: MessageConnection) -> None:
        for _ in connection:
            connection.send(Message("HEARD"))

    for handler in (Sensor, Slotted):
        sock = measured.dial(measured.serve(handler))
        sock.sendall(b"MINE\nOTHER\nFAIL\n")
        lines = [line.partition(b" ")[0] for line in read_lines(sock, 4)]
        assert lines == [b"TAKEN", b"TAKEN", b"UNKNOWN", b"INVALID"]
    sock = measured.dial(measured.serve(talk))
    sock.sendall(b"ONE\nTWO\n")
    assert read_lines(sock, 2) == [b"HEARD"] * 2
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b""
    told = {one.command.rpartition(".")[2]: one for one in snapshot(measured.communicator).handlers}
    assert (told["process_message"].count, told["process_message"].errors) == (6, 2)
    assert (told["talk"].count, told["talk"].errors) == (1, 0)


# --- connections and sums -------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_bytes_and_messages_both_ways(ground: Ground, tmp_path: Path, scheme: str) -> None:
    where = "tcp://127.0.0.1:0" if scheme == "tcp" else f"unix:{tmp_path}/s"
    server = ground.serve(echo(), where, name="echo")
    sock = ground.dial(server)
    sock.sendall(b"ECHO text=1\nECHO text=2\nECHO text=3\nEC")
    assert len(read_lines(sock, 3)) == 3
    one = the_one(snapshot(ground.communicator), "MessageConnection")
    assert (one.messages_in, one.bytes_in) == (3, 38)
    assert (one.messages_out, one.bytes_out) == (3, 42)
    assert (one.state, one.server, one.queued_in, one.queued_out) == ("connected", "echo", 0, 0)
    assert one.since is not None
    assert abs(one.since - time.time()) < 60.0
    own = the_one(snapshot(ground.communicator), "Server")
    assert (own.name, own.state, own.peers, own.events) == ("echo", "listening", 1, {"accepted": 1})
    assert own.peer == server.addresses[0]


def test_a_record_is_counted_as_its_lines(ground: Ground, tmp_path: Path) -> None:
    server = ground.serve(echo(), f"unixseq:{tmp_path}/s")
    with Client(server.addresses[0]) as client:
        client.request(Message("ECHO", {"text": "a"}), serial=False, reply="ECHOED")
        own = client.traffic
    assert repr(own) == "<Traffic in 1 (13 bytes), out 1 (11 bytes), 0 errors>"
    assert (own.messages_in, own.bytes_in) == (1, len(b"ECHOED text=a"))
    assert (own.messages_out, own.bytes_out) == (1, len(b"ECHO text=a"))


def test_the_sums_keep_what_has_ended(ground: Ground) -> None:
    server = ground.serve(echo())
    for number in range(3):
        sock = ground.dial(server)
        ask(sock, str(number))
        before = snapshot(ground.communicator).totals
        sock.close()
        until(lambda: not server.peers)
        after = snapshot(ground.communicator).totals
        assert after.messages_in == before.messages_in == number + 1
        assert after.bytes_out == before.bytes_out == 14 * (number + 1)
        assert after.ended_connections == number + 1


def test_a_link_that_comes_back_counts_on(moved: Ground, clock: MovedClock) -> None:
    server = moved.serve(echo())
    link = PermanentConnection(server.addresses[0], pauses="1", wait_for_listener=False)
    assert link.traffic.messages_out == 0
    moved.communicator.add_connection(link)
    for number in range(1, 4):
        link.wait_until_up(30.0)
        link.request(Message("ECHO", {"text": "a"}))
        found = link.traffic
        assert (found.messages_in, found.messages_out) == (number, number)
        assert the_one(snapshot(moved.communicator), "PermanentConnection").state == "connected"
        server.peers[0].close()
        until(lambda: not link.is_connected and link.age is None)
        one = the_one(snapshot(moved.communicator), "PermanentConnection")
        assert (one.state, one.since, one.messages_in) == ("disconnected", None, number)
        clock.advance(1.0)


def test_what_waits_is_told(ground: Ground) -> None:
    server = ground.serve(StreamConnection)
    sock = ground.dial(server)
    until(lambda: server.peers)
    (peer,) = server.peers
    peer.when_full = "raise"
    until_full = iter(lambda: peer.write(b"x" * 65_536), False)
    with pytest.raises(QueueFullError):
        list(until_full)
    found = snapshot(ground.communicator)
    waiting = the_one(found, "StreamConnection").queued_out
    assert found.queued_out == waiting > 1_000_000
    assert f", 0 bytes to be handled, {waiting} bytes to leave, since " in found.as_text()
    assert peer.traffic.bytes_out > 0
    peer.cut()
    assert snapshot(ground.communicator).queued_out == 0
    sock.close()


def test_what_a_blocked_handler_leaves_waiting_is_told(ground: Ground) -> None:
    table, gate, inside = Dispatcher(), Event(), Event()

    @table.on("WAIT")
    def wait(message: Message, peer: Any) -> Message:
        inside.set()
        gate.wait()
        return message.reply("WAITED")

    sock = ground.dial(ground.serve(table))
    sock.sendall(b"WAIT\n")
    inside.wait()
    sock.sendall(b"WAIT\nWAIT\n")
    until(lambda: snapshot(ground.communicator).queued_in == 10)
    gate.set()
    assert len(read_lines(sock, 3)) == 3
    assert snapshot(ground.communicator).queued_in == 0


def test_datagrams(ground: Ground) -> None:
    server = ground.communicator.add_connection(DatagramServer("udp://127.0.0.1:0", echo()))
    with DatagramClient(server.addresses[0]) as client:
        client.request(Message("ECHO", {"text": "a"}), reply="ECHOED", serial=False)
        client.send(Message("ECHOED"))
        until(lambda: server.traffic.messages_in == 2)
    one = the_one(snapshot(ground.communicator), "DatagramServer")
    assert (one.messages_in, one.bytes_in) == (2, len(b"ECHO text=a") + len(b"ECHOED"))
    assert (one.state, one.events["received"], one.peers) == ("receiving", 2, None)
    assert one.messages_out >= 1
    assert one.bytes_out >= len(b"ECHOED text=a")


def test_the_states(moved: Ground, clock: MovedClock) -> None:
    server = moved.serve(echo())
    link = PermanentConnection("tcp://127.0.0.1:1", pauses="-5", wait_for_listener=False)
    moved.communicator.add_connection(link)
    timer = moved.communicator.every(60.0, lambda: None)
    states = {one.kind: one.state for one in snapshot(moved.communicator).connections}
    assert states == {
        "Server": "listening",
        "PermanentConnection": "disconnected",
        "Timer": "waiting",
    }
    timer.enabled = server.enabled = False
    found = snapshot(moved.communicator)
    assert found.states["Timer", "disabled"] == found.states["Server", "disabled"] == 1
    server.enabled = True


def test_a_connection_that_has_been_ended_and_sends_still_is_ending(ground: Ground) -> None:
    server = ground.serve(StreamConnection)
    sock = ground.dial(server)
    until(lambda: server.peers)
    (peer,) = server.peers
    for _ in range(16):
        peer.write(b"x" * 65_536)
    while not peer.queued_bytes[1]:
        peer.write(b"x" * 65_536)
    peer.close()
    assert the_one(snapshot(ground.communicator), "StreamConnection").state == "ending"
    sent = peer.traffic.bytes_out + peer.queued_bytes[1]
    while sock.recv(1 << 20):
        pass
    until(lambda: not server.peers)
    assert snapshot(ground.communicator).totals.bytes_out == sent


def test_hooks_that_raise_are_in_the_sums(ground: Ground) -> None:
    timer = ground.communicator.every(0.001, lambda: 1 / 0)
    until(lambda: timer.handler_errors)
    one = snapshot(ground.communicator)
    assert re.search(r"^Timer-\d+ \(Timer\) waiting, handler errors [1-9]", one.as_text(), re.M)
    timer.close()
    found = snapshot(ground.communicator)
    assert found.totals.handler_errors == timer.handler_errors > 0
    assert found.totals.ended_connections == 1


def test_so_many_connections_are_told_and_no_more(ground: Ground) -> None:
    server = ground.serve(echo(), name="echo")
    socks = [ground.dial(server) for _ in range(5)]
    for sock in socks:
        ask(sock, "a")
    found = snapshot(ground.communicator, max_connections=3)
    assert [one.kind for one in found.connections][1:] == ["Server", "MessageConnection"]
    assert found.left_out == 4
    assert found.totals.messages_in == 5
    assert found.as_text().splitlines()[-1] == "4 more connections"


def test_it_is_read_in_its_own_thread_only(ground: Ground) -> None:
    with pytest.raises(WrongThreadError):
        gevent.get_hub().threadpool.apply(snapshot, (ground.communicator,))


# --- handlers and the hub -------------------------------------------------------------------------


def test_times_of_handlers_with_their_waits(measured: Ground) -> None:
    table, gate, inside = service(), Event(), Event()

    @table.on("WAIT")
    def wait(message: Message, peer: Any) -> Message:
        inside.set()
        gate.wait()
        return message.reply("WAITED")

    server = measured.serve(table)
    with Client(server.addresses[0]) as client:
        client.send(Message("WAIT"))
        inside.wait()
        began = time.perf_counter()
        until(lambda: time.perf_counter() - began > 0.02)
        gate.set()
        assert client.receive(30.0).command == "WAITED"
        client.request(Message("ECHO", {"text": "a"}))
    rows = {one.command: one for one in snapshot(measured.communicator).handlers}
    assert set(rows) == {"ECHO", "WAIT"}
    assert rows["WAIT"].max == rows["WAIT"].total >= 0.02
    assert (rows["ECHO"].count, rows["ECHO"].errors) == (1, 0)


def test_the_communicators_own_table_and_datagrams_are_measured(measured: Ground) -> None:
    measured.communicator.dispatcher = echo()
    server = measured.serve()
    ask(measured.dial(server), "a")
    table = Dispatcher()
    table.on("PING")(lambda message, peer: message.reply("PONG"))
    datagrams = measured.communicator.add_connection(DatagramServer("udp://127.0.0.1:0", table))
    with DatagramClient(datagrams.addresses[0]) as client:
        client.request(Message("PING"))
    commands = [one.command for one in snapshot(measured.communicator).handlers]
    assert commands == ["ECHO", "PING"]


def test_nothing_is_measured_unasked(ground: Ground) -> None:
    ask(ground.dial(ground.serve(echo())), "a")
    found = snapshot(ground.communicator)
    assert (found.handlers, found.lag) == ((), None)
    assert "lag" not in found.as_text() + found.as_prometheus()
    assert not any("lag" in name for name in found.as_message_parameters())


def test_a_busy_hub_is_late(measured: Ground) -> None:
    measured.communicator.after(0.0, lambda: time.sleep(0.3))
    until(lambda: measured.communicator.lag is not None and measured.communicator.lag.max > 0.15)
    lag = snapshot(measured.communicator).lag
    assert lag is not None
    assert 0.0 <= lag.now <= lag.p99 <= lag.max or 0.0 <= lag.p99 <= lag.now <= lag.max


def test_measuring_does_not_keep_run() -> None:
    program = """
from edgevent import Communicator, snapshot
with Communicator(count_handlers=True) as communicator:
    timer = communicator.every(0.01, lambda: timer.close())
    assert communicator.run()
    timer = communicator.every(0.01, lambda: None)
    timer.enabled = False
    assert communicator.run() is False
    print(snapshot(communicator).totals.ended_connections)
"""
    assert run_program(program) == "1\n"


def test_a_failure_of_the_meter_ends_run() -> None:
    program = """
from edgevent import Communicator
with Communicator(count_handlers=True) as communicator:
    communicator.every(60.0, lambda: None)
    communicator._lag._late = ()
    try:
        communicator.run()
    except AttributeError as error:
        print(error)
"""
    assert "append" in run_program(program)


# --- as text, JSON and parameters -----------------------------------------------------------------


def test_text_and_json(measured: Ground) -> None:
    server = measured.serve(echo(), name="echo")
    sock = measured.dial(server)
    ask(sock, "abc")
    found = snapshot(measured.communicator)
    text = found.as_text()
    assert text.startswith("hello: 3 connections, 0 ended, in 1 (14 bytes), out 1 (16 bytes)")
    assert re.search(r"^hub lag: now \S+ ms, p99 \S+ ms, max \S+ ms$", text, re.MULTILINE)
    assert re.search(r"^handler of ECHO: count 1, total .* errors 0$", text, re.MULTILINE)
    assert f"\necho (Server) listening {server.addresses[0]}, peers 1, accepted 1\n" in text
    assert re.search(r" connected tcp://\S+, in 1 .*, since \d{4}-\S+Z, of echo$", text)
    assert json.loads(found.as_json()) == found.as_dict()
    assert json.loads(found.as_json())["connections"][1]["events"] == {"accepted": 1}


NAMES = ["plain", "two\nlines", 'a "quoted; one', "back\\slash", "\u00e4\u20ac", "\udcff"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_one_line(ground: Ground, name: str) -> None:
    ground.serve(echo(), name=name)
    found = snapshot(ground.communicator)
    assert len(found.as_text().encode().splitlines()) == 1 + len(found.connections)
    line = Message("COUNTS", found.as_message_parameters()).to_line()
    back = Message.parse(line)
    assert json.loads(back["connection_2"])["name"] == name
    page = found.as_prometheus().encode().decode()
    assert sum(line.startswith("edgevent_server_peers{") for line in page.splitlines()) == 1


@pytest.mark.parametrize("size", [400, 600, 1_000, 4_000])
def test_parameters_keep_within_a_size(ground: Ground, size: int) -> None:
    for number in range(40):
        ground.serve(echo(), name=f'server "{number}\\')
    found = snapshot(ground.communicator)
    parameters = found.as_message_parameters(size)
    line = Message("C", parameters).to_line()
    assert len(line) - len("C \n") <= size
    told = sum(name.startswith("connection_") for name in parameters)
    assert told + int(parameters["left_out"]) == 41
    assert told >= (size - 400) // 200


def test_parameters_keep_within_their_number(ground: Ground) -> None:
    found = snapshot(ground.communicator)
    assert len(found.as_message_parameters(max_parameters=12)) <= 12
    row = found.connections[0]
    many = Counters(
        **{
            **{name: getattr(found, name) for name in Counters.__slots__},
            "connections": (row,) * 500,
        }
    )
    parameters = many.as_message_parameters()
    Message("COUNTS", {**parameters, "serial": 1})
    assert int(parameters["left_out"]) == 500 - sum("connection_" in name for name in parameters)


# --- the command ----------------------------------------------------------------------------------


def test_the_command_over_a_stream(measured: Ground) -> None:
    server = measured.serve(service(), name="hello")
    with Client(server.addresses[0]) as client:
        answer = client.request(Message("COUNTERS"))
    assert (answer.command, answer["connections"], answer["left_out"]) == ("COUNTS", "3", "0")
    assert json.loads(answer["connection_2"])["name"] == "hello"


def test_the_command_keeps_within_a_datagram(ground: Ground) -> None:
    for _ in range(20):
        ground.serve(echo())
    server = ground.communicator.add_connection(DatagramServer("udp://127.0.0.1:0", service()))
    with DatagramClient(server.addresses[0]) as client:
        answer = client.request(Message("COUNTERS"))
    assert answer["connections"] == "22"
    assert 15 < int(answer["left_out"]) < 22


def test_the_command_keeps_within_a_short_line(ground: Ground) -> None:
    server = ground.serve(service(), max_line_bytes=700)
    with Client(server.addresses[0]) as client:
        assert client.request(Message("COUNTERS"))["left_out"] != "0"


def test_the_command_is_refused_where_stop_is() -> None:
    peer = RecordingPeer(may_control=False)
    peer.dispatcher = service()  # type: ignore[attr-defined]
    assert counters(Message("COUNTERS"), peer) is None
    (answer,) = peer.sent
    assert (answer.command, answer["command"]) == ("INVALID", "COUNTERS")


def test_scraping_while_connections_come_and_go(measured: Ground) -> None:
    server = measured.serve(MessageConnection, dispatcher=service())

    def visit(number: int) -> None:
        with Client(server.addresses[0]) as client:
            for _ in range(5):
                client.request(Message("ECHO", {"text": number}))

    visitors = [gevent.spawn(visit, number) for number in range(20)]
    last = 0
    while not all(visitor.ready() for visitor in visitors):
        count = snapshot(measured.communicator).totals.messages_in
        assert count >= last
        last = count
        gevent.sleep(0)
    gevent.joinall(visitors, raise_error=True)
    until(lambda: not server.peers)
    totals = snapshot(measured.communicator).totals
    assert (totals.messages_in, totals.messages_out, totals.ended_connections) == (100, 100, 20)
