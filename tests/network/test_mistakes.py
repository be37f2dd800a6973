"""What a program does wrong is told to it, and harms nobody else."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from greenlet import GreenletExit
from network_ground import PATIENCE, Ground, ask, echo, read_all, read_lines, until
from scripted_peer import ScriptedPeer

from edgevent import (
    Client,
    Communicator,
    Connection,
    DatagramClient,
    DatagramServer,
    LineConnection,
    Message,
    MessageConnection,
    PermanentConnection,
    StreamConnection,
    Timer,
    UsageError,
    WrongThreadError,
    broadcast,
)
from edgevent.testing.clock import settle

# --- what is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, "text", 5, ["x"]])
def test_what_is_no_bytes_is_refused_and_the_others_go_on(ground: Ground, wrong: Any) -> None:
    class Careless(LineConnection):
        def process_line(self, line: bytes) -> None:
            self.write_line(b"first")  # leaves at once; what follows would be joined
            self.write(wrong)

    server = ground.serve(Careless)
    good = ground.dial(ground.serve(echo()))
    sock = ground.dial(server)
    sock.sendall(b"x\n")
    assert read_lines(sock, 1) == [b"first"]
    (careless,) = server.peers
    until(lambda: careless.handler_errors)
    ask(good, "still")
    assert not ground.runner.dead


def test_a_buffer_that_is_filled_anew_after_a_write_has_left_as_it_was(ground: Ground) -> None:
    class Reusing(StreamConnection):
        def process_read(self, data: bytes) -> None:
            buffer = bytearray(4)
            for letter in b"abc":
                buffer[:] = bytes([letter]) * 4
                self.write(buffer if letter != 98 else memoryview(buffer))  # type: ignore[arg-type]
            self.close()

    sock = ground.dial(ground.serve(Reusing))
    sock.sendall(b"x")
    assert read_all(sock) == b"aaaabbbbcccc"


@pytest.mark.parametrize("wrong", ["NEWS", b"NEWS", {"command": "NEWS"}, None])
def test_what_is_no_message_is_refused_with_a_sentence(
    ground: Ground, tmp_path: Path, wrong: Any
) -> None:
    server = ground.serve(echo(), f"unix:{tmp_path}/sock")
    link = ground.communicator.add_connection(PermanentConnection(server.addresses[0]))
    link.wait_until_up(PATIENCE)
    with Client(server.addresses[0]) as client:
        calls: list[Callable[[Any], object]] = [
            client.send,
            client.request,
            functools.partial(client.request, reply="X", serial=False),
            link.send,
            link.request,
        ]
        for call in calls:
            text = f"a Message was expected, not a {type(wrong).__name__}"
            with pytest.raises(UsageError, match=text) as caught:
                call(wrong)
            assert ("Message.parse" in str(caught.value)) is isinstance(wrong, (str, bytes))
        assert client.request(Message("ECHO", {"text": "x"}))["text"] == "x"


@pytest.mark.parametrize("wrong", ["NEWS", b"NEWS", 5, None])
def test_what_is_no_message_does_not_become_a_datagram(ground: Ground, wrong: Any) -> None:
    server = ground.communicator.add_connection(DatagramServer("udp://127.0.0.1:0"))
    text = "a Message was expected"
    with (
        DatagramClient(f"udp://127.0.0.1:{server.port}") as client,
        pytest.raises(UsageError, match=text),
    ):
        client.send(wrong)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("event_limit", None),
        ("event_limit", "5"),
        ("event_limit", 0),
        ("processing_time_limit", None),
        ("processing_time_limit", -1.0),
        ("processing_time_limit", float("nan")),
        ("on_handler_error", "ignore"),
    ],
)
def test_a_setting_that_no_turn_could_use_is_refused_at_once(name: str, wrong: Any) -> None:
    connection = Timer(1.0)
    before = getattr(connection, name)
    with pytest.raises(UsageError, match=f"{connection.name}: {name}={wrong!r}"):
        setattr(connection, name, wrong)
    assert getattr(connection, name) == before


@pytest.mark.parametrize("first", [True, False])
def test_whether_a_connection_keeps_run_may_change(first: bool) -> None:
    with Communicator() as communicator:
        timer = communicator.every(3600.0, print, keep_running=first)
        if not first:
            timer.keep_running = True
            communicator.after(0.0, lambda: None)
        running = gevent.spawn(communicator.run)
        settle()
        assert not running.dead
        timer.keep_running = False
        assert running.get(timeout=PATIENCE) is True
        timer.close()
        assert communicator.run() is True  # and the count is right again


# --- threads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda client, link: broadcast([client], Message("NEWS")),
        lambda client, link: client.mark_done(),
        lambda client, link: setattr(client, "enabled", False),
        lambda client, link: link.mark_done(),
        lambda client, link: link.set_ready(),
        lambda client, link: setattr(link, "keep_running", False),
    ],
)
def test_another_thread_is_refused(
    ground: Ground, peer: ScriptedPeer, call: Callable[[Client, PermanentConnection], object]
) -> None:
    link = ground.communicator.add_connection(PermanentConnection("unix:@edgevent-nobody"))
    with Client(peer.address) as client:
        with pytest.raises(WrongThreadError):
            gevent.get_hub().threadpool.apply(call, (client, link))
        assert client.enabled
        assert not link.is_closed


# --- failures that are hard to tell ---------------------------------------------------------------


class Shy:
    """Has a method and can be called; both fail, and so does its ``repr``."""

    def __repr__(self) -> str:
        raise ValueError("half made")

    def __call__(self, *arguments: object) -> None:
        raise KeyError("on purpose")

    method = __call__


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (Shy().method, "Shy.__call__"),
        (Shy(), "Shy"),
        (functools.partial(Shy(), "a secret"), "Shy"),
    ],
)
def test_a_failure_is_told_although_the_repr_of_what_failed_fails(
    ground: Ground, caplog: pytest.LogCaptureFixture, function: Any, name: str
) -> None:
    sock = ground.dial(ground.serve(function))
    assert read_all(sock) == b""
    ground.communicator.call_threadsafe(function)
    until(lambda: f"call of {name} failed" in caplog.text)
    assert f": {name} failed, id=" in caplog.text
    assert "a secret" not in caplog.text
    assert not ground.runner.dead


def test_a_descriptor_that_somebody_else_has_closed_costs_its_connection_alone(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    server = ground.serve(echo())
    sock, other = ground.dial(server), ground.dial(server)
    ask(sock, "a")
    ask(other, "b")
    victim = next(one for one in server.peers if one.address == _name(sock))
    assert victim._transport is not None
    descriptor = victim._transport.fileno()
    os.close(descriptor)
    victim.close()
    assert f"descriptor {descriptor} was not closed here: Bad file descriptor" in caplog.text
    assert victim not in server.peers
    assert victim not in ground.communicator.connections
    ask(other, "still")


def _name(sock: Any) -> str:
    host, port = sock.getsockname()
    return f"tcp://{host}:{port}"


class Clinging(Timer):
    """Fails when it is first told to end."""

    def cut(self) -> None:
        if not self.handler_errors:
            raise ValueError("on purpose")
        super().cut()


def test_an_end_of_ones_own_that_fails_keeps_no_other_connection_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    communicator = Communicator()
    clinging = communicator.add_connection(Clinging(3600.0))
    other = communicator.every(3600.0, print)
    communicator.close()
    assert other.is_closed
    assert clinging.handler_errors == 1
    assert "Clinging.cut failed" in caplog.text
    clinging.cut()


# --- interrupts that a program survives -----------------------------------------------------------


def leave(*arguments: object) -> None:
    raise GreenletExit


def test_a_connection_whose_last_hook_is_left_is_closed_all_the_same(ground: Ground) -> None:
    class Leaving(MessageConnection):
        process_hup = leave

    server = ground.serve(Leaving)
    ground.dial(server).close()
    until(lambda: server.counts["accepted"] and not server.peers)


@pytest.mark.parametrize("hook", ["connection_failed", "connected", "disconnected"])
def test_a_link_whose_hook_is_left_goes_on(ground: Ground, tmp_path: Path, hook: str) -> None:
    address = f"unix:{tmp_path}/sock"
    kind: Any = type("Leaving", (PermanentConnection,), {f"process_{hook}": leave})
    link: PermanentConnection = kind(address, pauses="0.001")
    ground.communicator.add_connection(link)
    link.send(Message("ECHO", {"text": "kept"}), cache=True)
    until(lambda: link.attempts > 1)
    for _ in range(2):
        server = ground.serve(echo(), address)
        link.wait_until_up(PATIENCE)
        until(lambda: not link.kept)
        ends: list[Connection] = [server, *server.peers]
        for connection in ends:
            connection.close()
        until(lambda: not link.is_connected)
