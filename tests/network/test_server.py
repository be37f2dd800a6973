"""Servers: what they make of a peer, how many they take, and whom they let in."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from network_ground import PATIENCE, Ground, MovedClock, read_all, read_lines, run_program, until

from edgevent import (
    Client,
    Communicator,
    Connection,
    Dispatcher,
    LineConnection,
    ListenError,
    Message,
    MessageConnection,
    Server,
    StreamConnection,
    UsageError,
)
from edgevent.testing.clock import settle


@pytest.fixture(params=["tcp", "unix", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A free address of each kind."""
    kinds = {"tcp": "tcp://127.0.0.1:0", "unix": f"unix:{tmp_path}/s", "abstract": f"@{tmp_path}"}
    return f"unix:{kinds['abstract']}" if request.param == "abstract" else kinds[request.param]


def echo() -> Dispatcher:
    service = Dispatcher()

    @service.on("ECHO")
    def answer(message: Message, peer: Any) -> Message:
        return message.reply("ECHOED", {"text": message["text"]})

    return service


def ask(sock: socket.socket, text: str) -> None:
    """Shows that a peer is answered."""
    sock.sendall(f"ECHO text={text}\n".encode())
    assert read_lines(sock, 1) == [f"ECHOED text={text}".encode()]


# --- what a server makes of a peer --------------------------------------------------------------


def test_a_function_has_its_peer_for_a_conversation(ground: Ground, address: str) -> None:
    def conversation(connection: MessageConnection) -> None:
        connection.send(Message("HI"))
        for message in connection:
            if message.command == "MOM":
                connection.send(Message("BYE"))
                return
            connection.send(message.reply("SO", {"said": message.command}))

    sock = ground.dial(ground.serve(conversation, address))
    assert read_lines(sock, 1) == [b"HI"]
    sock.sendall(b"DAD\nCLIMB\n")
    assert read_lines(sock, 2) == [b"SO said=DAD", b"SO said=CLIMB"]
    sock.sendall(b"MOM\n")
    assert read_all(sock) == b"BYE\n"


def test_a_conversation_ends_with_the_stream_of_its_peer(ground: Ground) -> None:
    ended = Event()

    def conversation(connection: MessageConnection) -> None:
        for message in connection:
            connection.send(message)
        ended.set()

    server = ground.serve(conversation)
    sock = ground.dial(server)
    sock.sendall(b"ONE\nTWO\n")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b"ONE\nTWO\n"
    assert ended.wait(PATIENCE)
    until(lambda: not server.peers)


def test_a_conversation_that_raises_is_logged_and_ends_its_peer_alone(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    def conversation(connection: MessageConnection) -> None:
        for message in connection:
            connection.send(Message("N", {"n": 10 // message.integer("n")}))

    server = ground.serve(conversation)
    good, bad = ground.dial(server), ground.dial(server)
    bad.sendall(b"D n=0\n")
    assert read_all(bad) == b""
    assert re.search(r"conversation failed, id=[0-9a-f]{8}$", logged("failed")[0])
    good.sendall(b"D n=5\n")
    assert read_lines(good, 1) == [b"N n=2"]


def test_a_conversation_whose_peer_vanishes_is_no_failure(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    def conversation(connection: MessageConnection) -> None:
        while True:
            connection.receive()

    server = ground.serve(conversation)
    ground.dial(server).close()
    until(lambda: server.counts["accepted"] and not server.peers)
    assert not logged("failed")


def test_a_dispatcher_handles_the_messages_of_all_peers(ground: Ground, address: str) -> None:
    server = ground.serve(echo(), address)
    socks = [ground.dial(server) for _ in range(5)]
    for number, sock in enumerate(socks):
        ask(sock, str(number))
    assert server.counts["accepted"] == len(server.peers) == 5


def test_the_dispatcher_of_the_communicator_serves_where_none_was_given() -> None:
    with Ground(Communicator(echo())) as ground:
        ask(ground.dial(ground.serve()), "x")


def test_without_any_dispatcher_the_default_commands_are_answered(ground: Ground) -> None:
    sock = ground.dial(ground.serve())
    sock.sendall(b"ALIVE serial=5\n")
    assert read_lines(sock, 1)[0].startswith(b"ABSOLUTELY ")


class Echo(StreamConnection):
    def process_read(self, data: bytes) -> None:
        self.write(data.upper())


class Numbered(LineConnection):
    def __init__(self, transport: Any, **settings: Any) -> None:
        super().__init__(transport, **settings)
        self.count = 0

    def process_line(self, line: bytes) -> None:
        self.count += 1
        self.write_line(b"%d %s" % (self.count, line))


class Sensor(MessageConnection):
    def process_connected(self) -> None:
        self.send(Message("HI"))

    def process_message(self, message: Message) -> bool:
        if message.command == "READ":
            self.send(message.reply("IS", {"value": 42}))
            return True
        return False


def test_a_class_of_raw_bytes(ground: Ground, address: str) -> None:
    sock = ground.dial(ground.serve(Echo, address))
    sock.sendall(b"no newline")
    assert sock.recv(100) == b"NO NEWLINE"


def test_a_class_of_lines(ground: Ground, address: str) -> None:
    sock = ground.dial(ground.serve(Numbered, address))
    sock.sendall(b"a\r\n\nlast")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b"1 a\r\n2 \n3 last\n"


def test_a_class_of_messages(ground: Ground, address: str) -> None:
    sock = ground.dial(ground.serve(Sensor, address))
    sock.sendall(b"READ serial=1\nWRITE serial=2\n")
    assert read_lines(sock, 3) == [
        b"HI",
        b"IS serial=1;value=42",
        b"UNKNOWN command=WRITE",
    ]


def one() -> Dispatcher:
    service = Dispatcher()
    service.on("ONE")(lambda message, peer: Message("OK"))
    return service


def test_a_class_of_messages_with_a_dispatcher(ground: Ground) -> None:
    sock = ground.dial(ground.serve(Sensor, dispatcher=one()))
    sock.sendall(b"ONE\nREAD serial=1\n")
    assert read_lines(sock, 3) == [b"HI", b"OK", b"IS serial=1;value=42"]


def test_a_function_hands_messages_on_to_a_dispatcher(ground: Ground) -> None:
    def conversation(connection: MessageConnection) -> None:
        for message in connection:
            connection.dispatch(message)

    sock = ground.dial(ground.serve(conversation, dispatcher=one()))
    sock.sendall(b"ONE\nNONE\n")
    assert read_lines(sock, 2) == [b"OK", b"UNKNOWN command=NONE"]


def test_two_dispatchers_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="one dispatcher"):
        Server("tcp://127.0.0.1:0", one(), dispatcher=one())


class Recorder(MessageConnection):
    """Notes which hooks are called."""

    calls: list[str]

    def process_connected(self) -> None:
        self.calls.append("connected")

    def process_message(self, message: Message) -> bool:
        self.calls.append(message.command)
        return True

    def process_hup(self) -> None:
        self.calls.append("hup")

    def process_error(self, error: Exception) -> None:
        self.calls.append(f"error {type(error).__name__}")

    def connection_added(self) -> None:
        self.calls.append("added")

    def connection_removed(self) -> None:
        self.calls.append("removed")


@pytest.fixture
def recorder() -> type[Recorder]:
    return type("Fresh", (Recorder,), {"calls": []})


def test_the_hooks_of_a_peer_that_ends_its_stream(ground: Ground, recorder: type[Recorder]) -> None:
    sock = ground.dial(ground.serve(recorder))
    sock.sendall(b"ONE\nTWO\n")
    sock.close()
    until(lambda: "removed" in recorder.calls)
    assert recorder.calls == ["added", "connected", "ONE", "TWO", "hup", "removed"]


def reset(sock: socket.socket) -> None:
    """Ends a TCP connection as a crash of the peer's machine does."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def test_the_hooks_of_a_peer_whose_connection_breaks(
    ground: Ground, recorder: type[Recorder], logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(recorder)
    sock = ground.dial(server)
    until(lambda: "connected" in recorder.calls)
    reset(sock)
    until(lambda: "removed" in recorder.calls)
    assert recorder.calls == ["added", "connected", "error ConnectionLostError", "removed"]
    assert len(logged("closed: receiving from tcp://127.0.0.1:")) == 1
    assert server.counts["lost"] == 1


def test_connected_comes_before_the_first_message_although_a_hook_blocks(ground: Ground) -> None:
    calls: list[str] = []
    added, go_on = Event(), Event()

    class Slow(Recorder):
        def connection_added(self) -> None:
            added.set()
            go_on.wait()

    Slow.calls = calls
    sock = ground.dial(ground.serve(Slow))
    sock.sendall(b"ONE\n")
    sock.shutdown(socket.SHUT_WR)
    assert added.wait(PATIENCE)
    settle()
    go_on.set()
    until(lambda: "hup" in calls)
    assert calls[:3] == ["connected", "ONE", "hup"]


@pytest.mark.parametrize("handler", [5, "name", Connection, dict])
def test_what_is_no_handler_is_refused(handler: Any) -> None:
    with pytest.raises(UsageError, match="is no handler"):
        Server("tcp://127.0.0.1:0", handler)


def test_a_class_that_cannot_be_made_costs_that_peer_alone(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    class Picky(Sensor):
        count = 0

        def __init__(self, transport: Any, **settings: Any) -> None:
            Picky.count += 1
            if Picky.count == 1:
                raise LookupError("not this one")
            super().__init__(transport, **settings)

    server = ground.serve(Picky)
    assert read_all(ground.dial(server)) == b""
    assert len(logged("making a connection failed, id=")) == 1
    assert read_lines(ground.dial(server), 1) == [b"HI"]
    assert server.handler_errors == 1


@pytest.mark.parametrize("handler", [Numbered, Sensor])
def test_the_line_limit_of_a_server_is_that_of_its_peers(
    ground: Ground, handler: Any, logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(handler, max_line_bytes=10)
    sock = ground.dial(server)
    sock.sendall(b"A" * 11 + b"\n")
    assert read_all(sock).replace(b"HI\n", b"") == b""
    assert len(logged("a line over the limit came")) == 1


@pytest.mark.parametrize("size", [0, 16 * 1024 * 1024 + 1])
def test_a_line_limit_that_cannot_be_is_refused_at_once(size: int) -> None:
    with pytest.raises(ValueError, match="max_line_bytes="):
        Server("tcp://127.0.0.1:0", max_line_bytes=size)


def test_peers_have_the_priority_that_the_server_gives_or_their_class(ground: Ground) -> None:
    class Urgent(Sensor):
        def __init__(self, transport: Any, **settings: Any) -> None:
            super().__init__(transport, priority=7, **settings)

    for settings, expected in (({}, 7), ({"peer_priority": 3}, 3)):
        server = ground.serve(Urgent, **settings)
        read_lines(ground.dial(server), 1)
        assert [peer.priority for peer in server.peers] == [expected]


@pytest.mark.parametrize("allowed", [False, True])
def test_control_is_allowed_to_the_peers_of_a_server(ground: Ground, allowed: bool) -> None:
    server = ground.serve(Sensor, allow_control=allowed)
    read_lines(ground.dial(server), 1)
    (peer,) = server.peers
    assert peer._allow_control is allowed


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


# --- who ----------------------------------------------------------------------------------------

KNOCK = """
import os, pwd, socket, sys
user = pwd.getpwnam("nobody")
os.setgroups([int(group) for group in sys.argv[2:]])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    try:
        sock.sendall(b"WHO\\n")
        print(sock.recv(1000).decode(), end="")
    except ConnectionError:
        pass
"""


def whoami() -> Dispatcher:
    service = Dispatcher()

    @service.on("WHO")
    def who(message: Message, peer: Any) -> Message:
        found = peer.credentials
        return Message("YOU", {"uid": found.uid, "gid": found.gid, "safe": peer.authenticated})

    return service


def knock(server: Server, *groups: int) -> str:
    return run_program(KNOCK, server.address.path, *groups)


def test_the_kernel_tells_who_the_peer_is(ground: Ground, open_folder: Path, nobody: Any) -> None:
    server = ground.serve(whoami(), f"unix:{open_folder}/s", mode=0o666)
    assert knock(server) == f"YOU gid={nobody.pw_gid};safe=true;uid={nobody.pw_uid}\n"
    sock = ground.dial(server)
    sock.sendall(b"WHO\n")
    assert read_lines(sock, 1) == [f"YOU gid={os.getgid()};safe=true;uid=0".encode()]


@pytest.mark.parametrize(
    ("settings", "groups", "allowed"),
    [
        ({"allow_users": ["nobody"]}, (), True),
        ({"allow_users": [0, 65534]}, (), True),
        ({"allow_users": ["root"]}, (), False),
        ({"allow_users": []}, (), False),
        ({"allow_groups": ["nogroup"]}, (), True),
        ({"allow_groups": [4]}, (), False),
        ({"allow_groups": [4]}, (3, 4), True),
        ({"allow_groups": [4]}, tuple(range(300)), False),  # more than the kernel tells
        ({"allow_groups": ["nogroup"]}, tuple(range(300)), True),
        ({"allow_users": ["root"], "allow_groups": [4]}, (4,), True),
        ({"allow_users": ["nobody"], "allow_groups": [4]}, (), True),
    ],
)
def test_users_and_groups_that_are_let_in(
    ground: Ground,
    open_folder: Path,
    nobody: Any,
    settings: dict[str, Any],
    groups: tuple[int, ...],
    allowed: bool,
    logged: Callable[[str], list[str]],
) -> None:
    server = ground.serve(whoami(), f"unix:{open_folder}/s", mode=0o666, **settings)
    assert knock(server, *groups).startswith("YOU") is allowed
    assert server.counts["refused"] == (0 if allowed else 1)
    assert server.counts["accepted"] == (1 if allowed else 0)
    assert len(logged("refused unix:")) == (0 if allowed else 1)


@pytest.mark.parametrize("setting", ["allow_users", "allow_groups"])
def test_users_and_groups_need_a_unix_socket_and_must_exist(setting: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="known of Unix sockets only"):
        Server("tcp://127.0.0.1:0", **{setting: [0]})
    with pytest.raises(ListenError, match=r"there is no (user|group) 'nosuchname'"):
        Server(f"unix:{tmp_path}/s", **{setting: ["nosuchname"]})
    assert not (tmp_path / "s").exists()


def test_the_name_of_a_peer_cannot_break_a_log_line(ground: Ground) -> None:
    server = ground.serve(echo(), f"unix:@edgevent-{os.getpid()}-{id(ground)}")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0edgevent\n\x1b[2Jfake-{id(ground)}")
        sock.connect("\0" + server.address.path[1:])
        ask(sock, "x")
        assert server.peers[0].address == rf"unix:@edgevent\n\x1b[2Jfake-{id(ground)}"


def test_a_client_meets_a_server_at_each_kind_of_address(ground: Ground, address: str) -> None:
    server = ground.serve(echo(), address)
    with Client(server.addresses[0]) as client:
        assert client.request(Message("ECHO", {"text": "x"}))["text"] == "x"
