"""A program that has nothing to do makes no system call."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from running import environment

PROGRAM = r"""
    import socket, sys
    from edgevent import Communicator, Dispatcher, Server

    service, greeted = Dispatcher(), []

    @service.on("HI")
    def hi(message, peer):
        greeted.append(peer)
        if len(greeted) == 50:
            communicator.after(0.01, begin)

    def begin():
        sys.stderr.write("MARK\n")  # the tracer sees it
        communicator.after(2.0, end)

    def end():
        sys.stderr.write("MARK\n")
        communicator.stop()

    with Communicator() as communicator:
        communicator.stop_on("SIGTERM")
        server = communicator.add_connection(Server("tcp://127.0.0.1:0", service))
        peers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
        for peer in peers:
            peer.sendall(b"HI\n")
        communicator.run()
"""


def test_fifty_idle_connections_cost_no_system_call(
    tmp_path: Path, need_tool: Callable[..., str]
) -> None:
    strace = need_tool("strace", package="strace")
    path, traced = tmp_path / "program.py", tmp_path / "trace"
    path.write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    done = subprocess.run(
        [strace, "-f", "-o", str(traced), sys.executable, str(path)],
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
