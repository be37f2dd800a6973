"""System calls of datagrams that fail: the server lives, says so once, burns nothing, goes on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from network_ground import run_program

from edgevent import limits


@pytest.fixture
def inject(need_tool: Callable[..., str], tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """Gives the words before a program that make some of its system calls fail."""
    strace = need_tool("strace", package="strace")

    def words(what: str) -> tuple[str, ...]:
        call = what.partition(":")[0]
        trace = ("-e", f"trace={call}", "-e", f"inject={what}")
        return (strace, "-f", "--seccomp-bpf", "-o", str(tmp_path / "log"), *trace)

    return words


RECEIVE = """
import logging, socket, sys
from edgevent import *
from edgevent.testing.clock import ManualClock

clock = ManualClock()
service = Dispatcher()
service.on("ASK")(lambda message, peer: message.reply("ANSWER"))
with Communicator(clock=clock) as communicator:
    server = communicator.add_connection(DatagramServer("udp://127.0.0.1:0", service, name="s"))
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    logging.root.handlers[0].addFilter(lambda record: "hub busy" not in record.msg)
    begin = clock.now()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server.port))
        sock.settimeout(10.0)
        sock.send(b"ASK")
        while not server.counts["received"]:
            clock.advance(0.01)
        passed = round(clock.now() - begin, 2)
        print(passed, sock.recv(100).decode())
        server.enabled = False
        server.enabled = True
"""


@pytest.mark.parametrize("name", ["ENOBUFS", "ENOMEM", "EIO"])
def test_a_server_that_cannot_receive_tries_again_in_pauses(
    inject: Callable[[str], tuple[str, ...]], tmp_path: Path, name: str
) -> None:
    before = inject(f"recvfrom:error={name}:when=1..50")
    said, end = run_program(RECEIVE, before=before).splitlines()
    assert said == f"s: cannot receive: {os.strerror(getattr(errno, name))}"  # once in this minute
    passed, answer = end.split()
    pauses = [*limits.ACCEPT_PAUSES, *[limits.ACCEPT_PAUSES[-1]] * 45]
    assert sum(pauses) - 0.01 <= float(passed) <= sum(pauses) + 1.0
    assert answer == "ANSWER"
    calls = [line for line in (tmp_path / "log").read_text().splitlines() if "recvfrom(" in line]
    assert 51 <= len(calls) <= 56


SEND = """
import logging, sys
from edgevent import *

service = Dispatcher()
service.on("ASK")(lambda message, peer: message.reply("ANSWER"))
with Communicator() as communicator:
    server = communicator.add_connection(DatagramServer("udp://127.0.0.1:0", service, name="s"))
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    with DatagramClient(server.addresses[0]) as client:
        answer = client.request(Message("ASK"), timeout=20.0, idempotent=True, resend_interval=0.01)
        print(answer.command, dict(server.counts))
    with Client(server.addresses[0], name="c") as client:
        print(client.request(Message("ASK"), timeout=20.0).command)
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        # The answers of the server are sent by sendto with an address, all else without one.
        ("sendto:error=ENOBUFS:when=1..4", ["ANSWER {'received': 1}", "ANSWER"]),
        ("sendto:error=EAGAIN:when=1..4", ["ANSWER {'received': 1}", "ANSWER"]),
        ("sendto:error=EINTR:when=1..4", ["ANSWER {'received': 1}", "ANSWER"]),
        (
            "sendto:error=ENETUNREACH:when=2",
            [
                "s: not delivered: sending to udp://127... failed: Network is unreachable",
                "ANSWER {'received': 2, 'undelivered': 1}",
                "ANSWER",
            ],
        ),
    ],
)
def test_what_cannot_be_sent_now_is_sent_later_or_told(
    inject: Callable[[str], tuple[str, ...]], what: str, said: list[str]
) -> None:
    printed = run_program(SEND, before=inject(what)).splitlines()
    for line, expected in zip(printed, said, strict=True):
        begin, dots, end = expected.partition("...")
        assert line.startswith(begin)
        assert line.endswith(end if dots else begin)


LOSE = """
from edgevent import *
with DatagramServer("udp://127.0.0.1:0") as server:
    with Client(server.addresses[0]) as client:
        for call in (client.send, client.request):
            try:
                call(Message("ASK"))
            except ConnectionLostError as error:
                print(error)
        client.send(Message("ASK"))
        print(client.is_connected, client.outbox.size)
"""


def test_a_datagram_that_cannot_be_sent_is_lost_alone(
    inject: Callable[[str], tuple[str, ...]],
) -> None:
    printed = run_program(LOSE, before=inject("sendto:error=ENETUNREACH:when=1..2")).splitlines()
    assert [line.rpartition(": ")[2] for line in printed[:2]] == ["Network is unreachable"] * 2
    assert printed[2:] == ["True 0"]
