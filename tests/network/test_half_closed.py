"""Peers that end their side at once: what they have sent is handled, answered, and forgotten."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket, subprocess
from network_ground import PATIENCE, Ground, read_all, until

from edgevent import Dispatcher, Message, MessageConnection

QUESTIONS = b"HELP\nALIVE serial=5\nADD a=2;b=3\n"


@pytest.fixture
def adding() -> Dispatcher:
    """The hello service."""
    service = Dispatcher()

    @service.on("ADD")
    def add(message: Message, peer: Any, a: int, b: int) -> Message:
        return message.reply("SUM", {"value": a + b})

    return service


def check_answers(printed: bytes) -> None:
    commands, alive, total = printed.splitlines()
    assert commands.startswith(b"COMMANDS list=")
    assert b"ADD" in commands
    assert alive.startswith(b"ABSOLUTELY ")
    assert b"serial=5" in alive
    assert total == b"SUM value=5"


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_netcat_is_answered_and_ends(
    ground: Ground, adding: Dispatcher, need_tool: Callable[..., str], tmp_path: Path, kind: str
) -> None:
    nc = need_tool("nc.openbsd", package="netcat-openbsd")
    address = "tcp://127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/s"
    server = ground.serve(adding, address)
    where = ["127.0.0.1", str(server.port)] if kind == "tcp" else ["-U", f"{tmp_path}/s"]
    done = subprocess.run(
        [nc, "-N", *where], input=QUESTIONS, capture_output=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    check_answers(done.stdout)
    until(lambda: not server.peers)


FIVE_LINES = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
    sock.sendall(b"HELP\\nALIVE serial=5\\nADD a=2;b=3\\n")
    sock.shutdown(socket.SHUT_WR)
    print(sock.makefile().read(), end="")
"""


def test_a_five_line_client_is_answered_and_ends(ground: Ground, adding: Dispatcher) -> None:
    server = ground.serve(adding)
    check_answers(
        subprocess.check_output(
            [sys.executable, "-c", FIVE_LINES, str(server.port)], timeout=PATIENCE
        )
    )


def test_a_handler_that_blocks_still_answers_a_half_closed_peer(ground: Ground) -> None:
    service, waiting = Dispatcher(), []

    @service.on("SLOW")
    def slow(message: Message, peer: Any) -> Message:
        waiting.append(gevent.getcurrent())
        gevent.get_hub().switch()
        return message.reply("DONE", {})

    server = ground.serve(service)
    sock = ground.dial(server)
    sock.sendall(b"SLOW serial=1\nSLOW serial=2\n")
    sock.shutdown(socket.SHUT_WR)
    for _ in range(2):
        until(lambda: waiting)
        gevent.idle()
        assert server.peers
        gevent.get_hub().loop.run_callback(waiting.pop().switch)
    assert read_all(sock) == b"DONE serial=1\nDONE serial=2\n"
    until(lambda: not server.peers)


def test_a_large_answer_reaches_a_half_closed_peer_before_the_close(ground: Ground) -> None:
    service = Dispatcher()

    @service.on("GET")
    def get(message: Message, peer: Any) -> None:
        for number in range(500):
            peer.send(Message("PART", {"n": number, "data": "x" * 20_000}))

    server = ground.serve(service)
    sock = ground.dial(server)
    sock.sendall(b"GET\n")
    sock.shutdown(socket.SHUT_WR)
    lines = read_all(sock).splitlines()
    assert [line.rpartition(b"n=")[2] for line in lines] == [b"%d" % n for n in range(500)]
    until(lambda: not server.peers)


# --- fifty messages and the end -----------------------------------------------------------------

BURST = b"".join(b"N number=%d\n" % number for number in range(50))
FIFTY = list(range(50))


class Counting(MessageConnection):
    """Keeps the numbers that it is sent, and tells its server's when it has ended."""

    heard: list[list[int]]
    answers: bool

    def __init__(self, transport: Any, **settings: Any) -> None:
        super().__init__(transport, **settings)
        self.numbers: list[int] = []
        self.heard.append(self.numbers)

    def process_message(self, message: Message) -> bool:
        self.numbers.append(message.integer("number"))
        if self.answers:
            self.send(message.reply("OK", {}))
        return True


@pytest.mark.parametrize("end", ["close", "half-close", "reset"])
@pytest.mark.parametrize("answers", [False, True], ids=["silent", "answering"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_all_messages_before_the_end_are_handled_in_order(
    ground: Ground, tmp_path: Path, kind: str, answers: bool, end: str, count: int
) -> None:
    handler = type("Fresh", (Counting,), {"heard": [], "answers": answers})
    address = "tcp://127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/s"
    server = ground.serve(handler, address)
    for _ in range(count):
        sock = ground.dial(server)
        sock.sendall(BURST)
        if end == "reset":
            gevent.idle()  # a reset may overtake what the kernel has not handed over
            until(lambda: not server.peers or server.peers[0].numbers)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if end == "half-close":
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock).count(b"\n") == (50 if answers else 0)
        sock.close()
    until(lambda: len(handler.heard) == count and not server.peers)
    assert handler.heard == [FIFTY] * count
    assert [found for found in ground.communicator.connections if found is not server][1:] == []
