"""Unix datagrams: who sends, who may, full queues, and the socket's file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from datagram_ground import ask, plain, serve
from gevent import socket
from gevent.event import Event
from network_ground import PATIENCE, Ground, MovedClock, echo, run_program, until

from edgevent import (
    Communicator,
    ConnectError,
    DatagramClient,
    DatagramPeer,
    DatagramServer,
    Dispatcher,
    ListenError,
    Message,
    QueueFullError,
    UsageError,
    limits,
    send_datagram,
)
from edgevent.runtime.turns import IDLE

QUESTION = Message("ECHO", {"text": "x"})

WHO = """
import os, pwd, socket, sys
user = pwd.getpwnam("nobody")
os.setgroups([4])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.bind("")
    sock.settimeout(10.0)
    sock.connect(sys.argv[1])
    sock.send(b"WHO")
    if sys.argv[2] == "True":
        print(os.getpid(), sock.recv(1000).decode())
"""


def whoami() -> Dispatcher:
    service = echo()

    @service.on("WHO")
    def who(message: Message, peer: DatagramPeer) -> Message:
        found = peer.credentials
        assert found is not None
        return Message("YOU", {"pid": found.pid, "uid": found.uid, "gid": found.gid})

    return service


# --- who sends ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, True),
        ({"allow_users": ["nobody"]}, True),
        ({"allow_users": ["root"]}, False),
        ({"allow_users": []}, False),
        ({"allow_groups": ["nogroup"]}, True),
        ({"allow_groups": [4]}, False),  # of the sender's groups the kernel tells only one
        ({"allow_users": [0], "allow_groups": ["nogroup"]}, True),
    ],
)
def test_the_kernel_tells_who_sends_and_only_some_may(
    ground: Ground,
    open_folder: Path,
    nobody: Any,
    settings: dict[str, list[str | int]],
    allowed: bool,
    logged: Callable[[str], list[str]],
) -> None:
    path = open_folder / "s"
    server = serve(ground, f"unixgram:{path}", whoami(), mode=0o666, **settings)
    printed = run_program(WHO, path, allowed)
    if allowed:
        pid, answer = printed.split(maxsplit=1)
        assert answer == f"YOU gid={nobody.pw_gid};pid={pid};uid={nobody.pw_uid}\n"
    until(lambda: server.counts["received"] == 1)
    assert server.counts["refused"] == (not allowed)
    assert len(logged("its user is not allowed")) == (not allowed)


def test_an_unbound_sender_is_heard_and_not_answered(
    ground: Ground, tmp_path: Path, logged: Callable[[str], list[str]]
) -> None:
    names: list[str] = []
    service = echo()
    service.on("NAME")(lambda message, peer: names.append(peer.address))
    server = serve(ground, f"unixgram:{tmp_path}/s", service)
    with plain(server.addresses[0], bound=False) as sock:
        sock.send(b"NAME")
        sock.send(b"ECHO text=x")
        until(lambda: server.counts["unbound_sender"] == 1)
    # A socket that asks who sends gets a name by itself (man 7 unix): this one had asked nothing.
    assert names == [f"unixgram:pid {os.getpid()}"]
    assert len(logged(f"did not answer unixgram:pid {os.getpid()}: its socket has no")) == 1


def test_a_sender_that_went_away_is_not_answered_and_that_is_no_failure(
    ground: Ground, tmp_path: Path
) -> None:
    go = Event()
    service = echo()

    @service.on("WAIT")
    def wait(message: Message, peer: DatagramPeer) -> Message:
        go.wait()
        return message.reply("DONE")

    server = serve(ground, f"unixgram:{tmp_path}/s", service)
    with plain(server.addresses[0]) as sock:
        sock.send(b"WAIT")
        until(lambda: server.counts["received"])
    go.set()
    until(lambda: server.counts["undelivered"] == 1)
    assert server.handler_errors == 0


def test_a_failure_of_which_nobody_can_be_told_is_logged_alone(
    ground: Ground, tmp_path: Path, logged: Callable[[str], list[str]]
) -> None:
    go = Event()

    def handler(message: Message, peer: DatagramPeer) -> None:
        go.wait()
        raise ValueError

    server = serve(ground, f"unixgram:{tmp_path}/s", handler)
    with plain(server.addresses[0]) as sock:
        sock.send(b"WAIT")
        until(lambda: server.counts["received"])
    go.set()
    until(lambda: server.counts["undelivered"] == 1)
    assert server.handler_errors == 1
    assert len(logged("the answer could not be sent")) == 1


def test_the_name_of_a_sender_cannot_break_a_log_line(
    ground: Ground, tmp_path: Path, logged: Callable[[str], list[str]]
) -> None:
    server = serve(ground, f"unixgram:{tmp_path}/s", echo())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0edgevent\n\x1b[2Jfake-{os.getpid()}")
        sock.sendto(b"malformed", server.address.path)
        until(lambda: server.counts["malformed"])
    assert len(logged(rf"unixgram:@edgevent\n\x1b[2Jfake-{os.getpid()}: it is no message")) == 1


def test_descriptors_that_are_sent_along_are_closed(ground: Ground, tmp_path: Path) -> None:
    server = serve(ground, f"unixgram:{tmp_path}/s", echo())
    with plain(server.addresses[0]) as sock, open(os.devnull) as null:
        ask(sock, b"ECHO text=x")
        before = os.listdir("/proc/self/fd")
        for _ in range(5):
            socket.send_fds(sock, [b"ECHO text=fd"], [null.fileno()] * 10)
            assert sock.recv(100) == b"ECHOED text=fd"
        assert len(os.listdir("/proc/self/fd")) == len(before)


# --- full queues ----------------------------------------------------------------------------------


def test_a_sender_waits_while_the_queue_is_full(ground: Ground, tmp_path: Path) -> None:
    order: list[int] = []
    service = Dispatcher()
    service.on("N")(lambda message, peer, n: order.append(int(n)))
    server = serve(ground, f"unixgram:{tmp_path}/s", service)
    server.enabled = False
    with DatagramClient(server.addresses[0]) as client:

        def send_all() -> None:
            for n in range(300):
                client.send(Message("N", {"n": n}))

        sending = gevent.spawn(send_all)
        sending.join(0.02)
        assert not sending.ready()
        server.enabled = True
        sending.get(timeout=PATIENCE)
        until(lambda: len(order) == 300)
    assert order == list(range(300))


def fill(client: DatagramClient) -> None:
    """Sends until the queue is full."""
    for _ in range(10_000):
        try:
            client.send(QUESTION)
        except QueueFullError:
            return
    raise AssertionError("there was room for all")


def test_it_gives_up_at_the_limit_and_in_the_hub_at_once(tmp_path: Path) -> None:
    server = DatagramServer(f"unixgram:{tmp_path}/s")
    address = server.addresses[0]
    with server, DatagramClient(address, send_timeout=0.01) as client:
        fill(client)
        sentence = rf"the queue of {address} is full: no room within 0.01 s"
        for call in (client.send, client.request):
            with pytest.raises(QueueFullError, match=sentence):
                call(QUESTION)
        with pytest.raises(QueueFullError, match=r"no room within 0\.02 s"):
            send_datagram(address, QUESTION, timeout=0.02)
        client.send_timeout = 1000.0
        errors: list[BaseException] = []
        done = Event()

        def call() -> None:
            try:
                client.send(QUESTION)
            except QueueFullError as error:
                errors.append(error)
            done.set()

        gevent.get_hub().loop.run_callback(call)
        assert done.wait(PATIENCE)
        assert len(errors) == 1


def test_a_repetition_that_finds_no_room_is_a_lost_one(tmp_path: Path, clock: MovedClock) -> None:
    server = DatagramServer(f"unixgram:{tmp_path}/s", echo())
    with server, DatagramClient(server.addresses[0], clock=clock, send_timeout=0.0) as client:
        asking = gevent.spawn(client.request, QUESTION, idempotent=True)
        until(lambda: clock.pending == 2)
        fill(client)
        clock.advance(1.0)
        with Ground(Communicator()) as ground:
            ground.communicator.add_connection(server)
            assert asking.get(timeout=PATIENCE)["text"] == "x"


def test_who_takes_no_answers_holds_the_server_up_only_once(
    ground: Ground, tmp_path: Path, logged: Callable[[str], list[str]]
) -> None:
    server = serve(ground, f"unixgram:{tmp_path}/s", echo(), send_timeout=0.05, name="s")
    address = server.addresses[0]
    # The queue of a socket that is connected to the server holds more than those of others.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf, plain(address) as other:
        deaf.bind("")
        deaf.settimeout(PATIENCE)
        path, sent = server.address.path, 0
        while not server.counts["undelivered"]:
            deaf.sendto(b"ECHO text=x", path)
            sent += 1
            until(lambda: server.counts["received"] == sent and server.ticket == IDLE)  # noqa: B023
        server.send_timeout = 1000.0  # nobody waits for that
        deaf.sendto(b"ECHO text=x", path)
        assert ask(other, b"ECHO text=y") == b"ECHOED text=y"
        assert server.counts["undelivered"] == 2
        for _ in range(sent - 1):
            assert deaf.recv(100) == b"ECHOED text=x"
        deaf.sendto(b"ECHO text=z", path)
        assert deaf.recv(100) == b"ECHOED text=z"  # it takes them again
        assert not server._deaf
    assert server.handler_errors == 0
    assert len(logged("s: not delivered: the queue of unixgram:@")) == 1


def test_no_more_deaf_ones_are_remembered_than_the_limit(
    moved: Ground, clock: MovedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOGGED_PEERS", 2)
    server = serve(moved, f"unixgram:{tmp_path}/s", echo())
    server._deaf = {n: clock.now() + n for n in range(5)}
    clock.advance(2.5)
    with plain(server.addresses[0]) as sock:
        assert ask(sock, b"ECHO text=y") == b"ECHOED text=y"
    assert list(server._deaf) == [3, 4]


# --- the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "mode"), [({}, 0o600), ({"mode": 0o622}, 0o622), ({"group": "nogroup"}, 0o660)]
)
def test_the_file_has_its_mode_and_goes_with_the_server(
    tmp_path: Path, settings: dict[str, Any], mode: int
) -> None:
    path = tmp_path / "s"
    with DatagramServer(f"unixgram:{path}", **settings):
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert not path.exists()
    with pytest.raises(UsageError, match="has no file"):
        DatagramServer("unixgram:@edgevent-none", **(settings or {"mode": 0o600}))


def test_a_stale_file_is_replaced_and_a_live_server_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(path))
    with DatagramServer(f"unixgram:{path}", echo()) as server:
        with pytest.raises(ListenError, match=f"^unixgram:{path}: a live server has it$"):
            DatagramServer(f"unixgram:{path}")
        inode = path.stat().st_ino
        assert server.addresses == [f"unixgram:{path}"]
    path.write_text("precious")
    with pytest.raises(ListenError, match="there is something that is no socket"):
        DatagramServer(f"unixgram:{path}")
    assert path.read_text() == "precious"
    assert inode


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_live_socket_of_another_type_is_not_replaced(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, kind) as live:
        live.bind(str(path))
        live.listen(1)
        with pytest.raises(ListenError, match="a live server has it"):
            DatagramServer(f"unixgram:{path}")
        with pytest.raises(ConnectError, match="rong type"):
            DatagramClient(f"unixgram:{path}")


def test_a_client_finds_the_server_that_comes_after(ground: Ground, tmp_path: Path) -> None:
    address = f"unixgram:{tmp_path}/s"
    server = serve(ground, address, echo())
    with DatagramClient(address) as client:
        assert client.request(QUESTION)["text"] == "x"
        server.close()
        with pytest.raises(OSError, match="No such file"):
            client.request(QUESTION)
        serve(ground, address, echo())
        assert client.request(QUESTION)["text"] == "x"


FORK = """
import os, sys
import gevent
from edgevent import *
server = DatagramServer(f"unixgram:{sys.argv[1]}")
client = DatagramClient(server.addresses[0])
if os.fork() == 0:
    server.close()
    client.close()
    try:
        client.send(Message("A"))
    except ForkedError:
        os._exit(7)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.wait()[1]), os.path.exists(sys.argv[1]))
client.send(Message("A"))
"""


def test_a_forked_child_leaves_the_file_to_its_parent(tmp_path: Path) -> None:
    assert run_program(FORK, tmp_path / "s") == "7 True\n"
