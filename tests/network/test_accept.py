"""Servers: the accept hook, where they listen, and how many peers they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from network_ground import (
    PATIENCE,
    Ground,
    MovedClock,
    ask,
    echo,
    read_all,
    read_lines,
    run_program,
    until,
)

from edgevent import (
    Communicator,
    Dispatcher,
    Message,
    MessageConnection,
    Server,
)
from edgevent.testing.clock import settle

# --- process_accept -----------------------------------------------------------------------------


class Door(Server):
    """Calls a function for each new connection."""

    def __init__(self, on_accept: Callable[[Any, Any], object], **settings: Any) -> None:
        super().__init__("tcp://127.0.0.1:0", echo(), **settings)
        self.on_accept = on_accept

    def process_accept(self, connection: Any) -> None:
        self.on_accept(self, connection)


def open_door(ground: Ground, on_accept: Callable[[Any, Any], object]) -> Door:
    return ground.communicator.add_connection(Door(on_accept))


def test_the_accept_hook_sees_the_connection_before_it_is_added(ground: Ground) -> None:
    seen: list[Any] = []
    door = open_door(ground, lambda server, peer: seen.append((peer, peer.communicator)))
    ask(ground.dial(door), "x")
    assert seen == [(door.peers[0], None)]


def test_the_accept_hook_may_refuse(ground: Ground) -> None:
    door = open_door(ground, lambda server, peer: server.counts["accepted"] > 1 or peer.close())
    assert read_all(ground.dial(door)) == b""
    ask(ground.dial(door), "x")
    assert len(door.peers) == 1


def test_the_accept_hook_may_raise(ground: Ground, logged: Callable[[str], list[str]]) -> None:
    door = open_door(ground, lambda server, peer: 1 // 0)
    ask(ground.dial(door), "x")
    assert len(logged("process_accept failed, id=")) == 1


@pytest.mark.parametrize("end", [Server.close, lambda server: server.communicator.stop()])
def test_the_accept_hook_may_close_the_server(
    ground: Ground, end: Callable[[Server], object]
) -> None:
    door = open_door(ground, lambda server, peer: end(server))
    address = door.addresses[0]
    assert read_all(ground.dial(address)) == b""
    until(lambda: door.is_closed)
    with pytest.raises(ConnectionRefusedError):
        ground.dial(address)
    assert not door.peers


def test_the_accept_hook_may_give_the_connection_away(ground: Ground) -> None:
    with Ground(Communicator(name="other")) as other:
        door = open_door(ground, lambda server, peer: other.communicator.add_connection(peer))
        ask(ground.dial(door), "x")
        assert door.peers[0].communicator is other.communicator


def test_an_accept_hook_that_blocks_keeps_nobody_but_new_peers_waiting(ground: Ground) -> None:
    go_on = Event()

    def wait_for_the_second(server: Any, peer: Any) -> None:
        if server.counts["accepted"] == 2:
            go_on.wait()

    door = open_door(ground, wait_for_the_second)
    first, second, third = (ground.dial(door) for _ in range(3))
    for text in ("one", "two", "three"):
        ask(first, text)
    go_on.set()
    ask(second, "x")
    ask(third, "x")


# --- listening ----------------------------------------------------------------------------------


def test_a_server_tells_where_it_listens(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(echo(), name="front")
    assert server.addresses == [f"tcp://127.0.0.1:{server.port}"]
    assert repr(server) == f"<front enabled tcp://127.0.0.1:{server.port}, 0 peers>"
    assert logged("front: listening on tcp://127.0.0.1:") != []
    server.close()
    assert (server.addresses, server.port) == ([], 0)
    assert repr(server) == "<front closed tcp://127.0.0.1:0, 0 peers>"


def test_a_server_listens_on_all_addresses_of_a_name(ground: Ground, resolver: Any) -> None:
    resolver.names["both.invalid"] = ["127.0.0.1", "::1"]
    server = ground.serve(echo(), "tcp://both.invalid:0")
    for address in server.addresses:
        ask(ground.dial(address), "x")
    assert len(server.addresses) == 2


def test_a_disabled_server_lets_peers_wait(ground: Ground) -> None:
    server = ground.serve(echo())
    server.enabled = False
    sock = ground.dial(server)
    sock.sendall(b"ECHO text=x\n")
    settle()
    assert not server.peers
    server.enabled = True
    assert read_lines(sock, 1) == [b"ECHOED text=x"]


def test_a_server_that_was_removed_can_be_added_again(ground: Ground) -> None:
    server = ground.serve(echo())
    ground.communicator.remove_connection(server)
    sock = ground.dial(server)
    sock.sendall(b"ECHO text=x\n")
    settle()
    ground.communicator.add_connection(server)
    assert read_lines(sock, 1) == [b"ECHOED text=x"]


def test_a_server_whose_timeout_hook_blocks_accepts_afterwards(
    moved: Ground, clock: MovedClock
) -> None:
    begun, go_on = Event(), Event()

    class Ticking(Door):
        def process_timeout(self) -> None:
            begun.set()
            go_on.wait()

    server = moved.communicator.add_connection(Ticking(lambda server, peer: None))
    server.timeout_delay = 1.0
    clock.advance(1.0)
    assert begun.wait(PATIENCE)
    sock = moved.dial(server)
    settle()
    assert not server.peers
    go_on.set()
    ask(sock, "x")


class Echoing(MessageConnection):
    def process_message(self, message: Message) -> bool:
        self.send(Message("ECHOED", {"text": message["text"]}))
        return True


@pytest.mark.parametrize("handler", [echo(), Echoing], ids=["dispatcher", "class"])
def test_the_peers_of_a_closed_server_go_on_and_keep_run_running(handler: Any) -> None:
    with Communicator() as communicator:
        server = communicator.add_connection(Server("tcp://127.0.0.1:0", handler))
        runner = gevent.spawn(communicator.run)
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            ask(sock, "one")
            server.close()
            settle()
            assert communicator.is_running
            ask(sock, "two")
        assert runner.get(timeout=PATIENCE) is True


def test_a_server_that_does_not_keep_run_running_nor_do_its_peers() -> None:
    with Communicator() as communicator:
        server = Server("tcp://127.0.0.1:0", echo(), keep_running=False)
        communicator.add_connection(server)
        timer = communicator.every(3600.0, lambda: None)
        runner = gevent.spawn(communicator.run)
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            ask(sock, "one")
            timer.close()
            assert runner.get(timeout=PATIENCE) is True


def test_stop_lets_the_handlers_of_peers_end_and_their_answers_leave() -> None:
    service, begun, go_on = Dispatcher(), Event(), Event()

    @service.on("SLOW")
    def slow(message: Message, peer: Any) -> Message:
        begun.set()
        go_on.wait()
        return Message("DONE")

    with Communicator() as communicator:
        server = communicator.add_connection(Server("tcp://127.0.0.1:0", service))
        runner = gevent.spawn(communicator.run)
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"SLOW\n")
            assert begun.wait(PATIENCE)
            communicator.stop()
            settle()
            assert not runner.ready()
            go_on.set()
            assert read_all(sock) == b"DONE\n"
        assert runner.get(timeout=PATIENCE) is True


# --- how many -----------------------------------------------------------------------------------


def test_peers_over_the_limit_wait_until_one_leaves(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(echo(), max_connections=2)
    socks = [ground.dial(server) for _ in range(5)]
    for sock in socks:
        sock.sendall(b"ECHO text=x\n")
    for sock in socks:
        assert read_lines(sock, 1) == [b"ECHOED text=x"]
        assert len(server.peers) <= 2
        sock.close()
    until(lambda: not server.peers)
    assert len(logged("2 peers are the most, others wait")) == 1
    ask(ground.dial(server), "after")


def test_a_limit_that_is_raised_holds_when_the_next_peer_leaves(ground: Ground) -> None:
    server = ground.serve(echo(), max_connections=1)
    first, second, third = (ground.dial(server) for _ in range(3))
    ask(first, "x")
    server.max_connections = 10
    first.close()
    ask(second, "x")
    ask(third, "x")


def test_it_is_said_again_after_a_minute(
    moved: Ground, clock: MovedClock, logged: Callable[[str], list[str]]
) -> None:
    server = moved.serve(echo(), max_connections=1)
    held = [moved.dial(server) for _ in range(2)]
    for number, seconds in ((1, 30.0), (1, 31.0), (2, 1.0)):
        held.append(moved.dial(server))
        held.pop(0).close()
        ask(held[0], "x")
        until(lambda expected=number: len(logged("others wait")) == expected)
        clock.advance(seconds)


DESCRIPTORS = """
import logging, resource, socket, sys
import gevent
from edgevent import Communicator, Dispatcher, Server
logging.basicConfig(stream=sys.stdout, format="%(message)s")
logging.root.handlers[0].addFilter(lambda record: "hub busy" not in record.msg)
clients = [socket.socket() for _ in range(60)]
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
with Communicator() as communicator:
    server = communicator.add_connection(Server("tcp://127.0.0.1:0", Dispatcher(), name="s"))
    for client in clients:
        client.connect(("127.0.0.1", server.port))
    gevent.spawn(communicator.run)
    highest = []
    for leave in (0, 30):
        for client in clients[:leave]:
            client.close()
        while not (server._pause if not leave else server.counts["accepted"] == 60):
            gevent.idle()
        highest.append(max(peer._transport.fileno() for peer in server.peers))
    print(max(highest), len(server.peers))
"""


def test_the_last_descriptors_are_held_back() -> None:
    said, found = run_program(DESCRIPTORS).splitlines()
    assert said == "s: cannot accept: the last descriptors are held back"
    assert found == "95 30"  # 128 less 32, counted from 0; nobody was turned away
