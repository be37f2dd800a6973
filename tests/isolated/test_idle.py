"""A program that has nothing to do makes no system call."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from running import environment

# Each program calls quiet(seconds) once it has nothing more to do.
QUIET = r"""
    import signal, sys

    signal.alarm(60)  # a tracer that is killed leaves the program behind

    def quiet(communicator, seconds):
        sys.stderr.write("MARK\n")  # the tracer sees it
        communicator.after(seconds, lambda: end(communicator))

    def end(communicator):
        sys.stderr.write("MARK\n")
        communicator.stop()
"""

CONNECTIONS = r"""
    import socket
    from edgevent import Communicator, Dispatcher, Server

    service, greeted = Dispatcher(), []

    @service.on("HI")
    def hi(message, peer):
        greeted.append(peer)
        if len(greeted) == 50:
            communicator.after(0.01, lambda: quiet(communicator, 2.0))

    with Communicator() as communicator:
        communicator.stop_on("SIGTERM")
        server = communicator.add_connection(Server("tcp://127.0.0.1:0", service))
        peers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
        for peer in peers:
            peer.sendall(b"HI\n")
        communicator.run()
"""

# Without process events: other programs of this machine are not idle, and the kernel tells.
SOURCES = r"""
    import os, threading
    from edgevent import (
        ChildWatch, Communicator, DatagramServer, Dispatcher, FileWatch, Message,
        PermanentConnection, Process, Server, SignalSource, ThreadDone, ThreadLink, Timer,
    )

    service = Dispatcher()

    @service.on("GREETING")
    def greeting(message, peer):
        communicator.after(0.01, lambda: quiet(communicator, 5.0))

    def work(worker):
        for message in worker:
            worker.send(Message("GREETING"))

    with Communicator(dispatcher=service) as communicator:
        communicator.stop_on("SIGTERM")
        os.mkdir("watched")
        server = Server("unix:idle.sock", service)
        gate = threading.Event()
        waiting = ThreadDone(gate.wait, lambda outcome: None, keep_running=False)
        link = ThreadLink(work)
        process = Process(["cat"], lambda process, line: link.send(Message("GREET")))
        for source in (
            server,
            DatagramServer("udp://127.0.0.1:0", service),
            Server("fifo:in,out", service),
            SignalSource("SIGUSR1", print),
            SignalSource("SIGUSR2", print, with_sender=True),
            ChildWatch(None, lambda event: None),
            FileWatch("watched", print, recursive=True),
            Timer(3600.0, print),
            waiting,
            link,
            process,
            up := PermanentConnection("unix:idle.sock"),
        ):
            communicator.add_connection(source)
        threading.Thread(target=waiting, daemon=True).start()
        up.wait_until_up(30.0)
        process.write_line(b"go")
        communicator.run()
        gate.set()
"""


@pytest.mark.parametrize(
    "program",
    [pytest.param(CONNECTIONS, id="fifty connections"), pytest.param(SOURCES, id="every source")],
)
def test_what_is_idle_costs_no_system_call(
    program: str, tmp_path: Path, need_tool: Callable[..., str]
) -> None:
    strace = need_tool("strace", package="strace")
    path, traced = tmp_path / "program.py", tmp_path / "trace"
    path.write_text(textwrap.dedent(QUIET) + textwrap.dedent(program), encoding="utf-8")
    done = subprocess.run(
        [strace, "-f", "-o", str(traced), sys.executable, str(path)],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    text = traced.read_text(encoding="utf-8", errors="replace")
    between = text.split("MARK")[1]
    calls = re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)", between, re.MULTILINE)
    # One wait for the timer, what libev asks when it wakes, and the write of the mark.
    assert "epoll_wait" in calls
    assert len(calls) <= 6, f"{len(calls)} system calls: {calls}"
