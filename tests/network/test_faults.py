"""System calls that fail: the server lives, says so once, burns nothing, and goes on."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from gevent import socket, subprocess
from network_ground import LONE, PATIENCE, ROOT, read_all, read_lines, run_program

from edgevent import limits

NAMES = ["EMFILE", "ENFILE", "ECONNABORTED", "ENOBUFS", "ENOMEM", "EINTR"]


@pytest.fixture
def inject(need_tool: Callable[..., str], tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """Gives the words before a program that make some of its system calls fail."""
    strace = need_tool("strace", package="strace")

    def words(what: str) -> tuple[str, ...]:
        call = what.partition(":")[0]
        trace = ("-e", f"trace={call}", "-e", f"inject={what}")
        return (strace, "-f", "--seccomp-bpf", "-o", str(tmp_path / "log"), *trace)

    return words


ACCEPT = """
import logging, socket, sys
from edgevent import Communicator, Dispatcher, Server
from edgevent.testing.clock import ManualClock

clock = ManualClock()
with Communicator(clock=clock) as communicator:
    server = communicator.add_connection(Server("tcp://127.0.0.1:0", Dispatcher(), name="s"))
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    logging.root.handlers[0].addFilter(lambda record: "hub busy" not in record.msg)
    begin = clock.now()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        while not server.counts["accepted"]:
            clock.advance(0.01)
        print(round(clock.now() - begin, 2), server.counts["lost"])
"""


def count(tmp_path: Path, call: str) -> tuple[int, int]:
    """How often a system call was made, and how often it was made to fail."""
    lines = [line for line in (tmp_path / "log").read_text().splitlines() if f" {call}(" in line]
    return len(lines), sum("(INJECTED)" in line for line in lines)


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EINVAL"])
def test_a_server_that_cannot_accept_tries_again_in_pauses(
    inject: Callable[[str], tuple[str, ...]], tmp_path: Path, name: str
) -> None:
    said, end = run_program(ACCEPT, before=inject(f"accept4:error={name}:when=1..50")).splitlines()
    reason = os.strerror(getattr(errno, name))
    assert said == f"s: cannot accept: {reason}"  # once in this minute
    passed, lost = end.split()
    pauses = [*limits.ACCEPT_PAUSES, *[limits.ACCEPT_PAUSES[-1]] * 45]
    assert sum(pauses) - 0.01 <= float(passed) <= sum(pauses) + 1.0
    assert lost == "0"
    assert count(tmp_path, "accept4") == (52, 50)  # one has a peer, one finds that nobody waits


def test_peers_that_were_gone_before_they_were_accepted_are_counted(
    inject: Callable[[str], tuple[str, ...]], tmp_path: Path
) -> None:
    (end,) = run_program(
        ACCEPT, before=inject("accept4:error=ECONNABORTED:when=1..50")
    ).splitlines()
    assert end.split()[1] == "50"
    assert float(end.split()[0]) < limits.ACCEPT_PAUSES[0]
    assert count(tmp_path, "accept4") == (52, 50)


def test_a_kernel_that_loses_every_peer_is_asked_in_pauses(
    inject: Callable[[str], tuple[str, ...]], tmp_path: Path
) -> None:
    said, end = run_program(
        ACCEPT, before=inject("accept4:error=ECONNABORTED:when=1..640")
    ).splitlines()
    assert said == "s: cannot accept: Software caused connection abort"
    assert end.split()[1] == "640"
    assert float(end.split()[0]) >= sum(limits.ACCEPT_PAUSES)


def test_an_accept_that_was_interrupted_is_made_again(
    inject: Callable[[str], tuple[str, ...]], tmp_path: Path
) -> None:
    (end,) = run_program(ACCEPT, before=inject("accept4:error=EINTR:when=1..50")).splitlines()
    assert end.split()[1] == "0"
    assert count(tmp_path, "accept4") == (52, 50)


FULL = """
import logging, os, resource, socket, sys
from edgevent import Communicator, Dispatcher, Server
from edgevent.testing.clock import ManualClock

clock = ManualClock()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with Communicator(clock=clock) as communicator:
    server = communicator.add_connection(Server("tcp://127.0.0.1:0", Dispatcher(), name="s"))
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    logging.root.handlers[0].addFilter(lambda record: "hub busy" not in record.msg)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            clock.advance(30.0)
        server.enabled = False
        assert not clock.alarms
        server.enabled = True
        clock.advance(0.0)
        assert clock.alarms
        for descriptor in held:
            os.close(descriptor)
        assert not server.counts
        clock.advance(1.0)
        print(server.counts["accepted"])
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            os.close(held.pop())
        with socket.create_connection(("127.0.0.1", server.port)):
            clock.advance(5.0)
            assert clock.alarms
            server.close()
            assert not clock.alarms
"""


def test_a_server_without_any_descriptor_leaves_peers_in_the_queue() -> None:
    assert run_program(FULL) == "s: cannot accept: Too many open files\n1\n"


SERVE = """
import logging, sys
from edgevent import Communicator, Dispatcher, Server
with Communicator() as communicator:
    server = communicator.add_connection(Server("tcp://127.0.0.1:0", Dispatcher(), name="s"))
    print(server.port, flush=True)
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
    logging.root.handlers[0].addFilter(lambda record: "hub busy" not in record.msg)
    communicator.run()
"""


@contextmanager
def serving(before: tuple[str, ...]) -> Iterator[tuple[Any, Callable[[], socket.socket]]]:
    """Runs a server in a process of its own; gives the process, and what dials it."""
    with subprocess.Popen(
        [*before, sys.executable, "-c", LONE + SERVE],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        port = int(process.stdout.readline())
        socks: list[socket.socket] = []

        def dial() -> socket.socket:
            sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            socks.append(sock)
            return sock

        try:
            yield process, dial
        finally:
            for sock in socks:
                sock.close()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # the server too, not strace alone


def ask(sock: socket.socket) -> None:
    sock.sendall(b"ALIVE serial=5\n")
    assert read_lines(sock, 1)[0].startswith(b"ABSOLUTELY ")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("call", ["recvfrom", "sendto"])
def test_a_failing_call_costs_one_connection_at_the_most(
    inject: Callable[[str], tuple[str, ...]], tmp_path: Path, call: str, name: str
) -> None:
    with serving(inject(f"{call}:error={name}:when=2")) as (process, dial):
        good, bad = dial(), dial()
        ask(good)
        if name == "EINTR":
            ask(bad)
        else:
            bad.sendall(b"ALIVE serial=5\n")
            with suppress(ConnectionResetError):
                assert read_all(bad) == b""
        ask(good)
        ask(dial())
        good.sendall(b"STOP\n")
        assert read_all(good) == b""
        said = process.stdout.read().splitlines()
        assert process.wait(PATIENCE) == 0
    assert count(tmp_path, call)[1] == 1
    reason = os.strerror(getattr(errno, name))
    doing = "receiving from" if call == "recvfrom" else "sending to"
    expected = rf"MessageConnection-\d+: closed: {doing} tcp://127\.0\.0\.1:\d+ failed: {reason}"
    assert len(said) == (name != "EINTR")
    assert all(re.fullmatch(expected, line) for line in said)
