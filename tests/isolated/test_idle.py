"""Programs that have nothing to do make no system call; they are idle at the same time."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

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
            communicator.after(0.01, lambda: quiet(communicator, 5.0))

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


DATES = r"""
    from edgevent import Communicator, SignalSource, Timer

    with Communicator() as communicator:
        communicator.stop_on("SIGTERM")
        communicator.add_connection(SignalSource("SIGHUP", print))
        communicator.add_connection(SignalSource(("SIGUSR1", "SIGRTMIN"), print, with_sender=True))
        dates = [
            communicator.add_connection(Timer(None, print, date=communicator.clock.date() + 9000.0))
            for _ in range({count})
        ]
        communicator.after(0.01, lambda: quiet(communicator, {seconds}))
        communicator.run()
"""

PROCESSES = r"""
    import os
    from edgevent import ChildWatch, Communicator, Process

    with Communicator() as communicator:
        communicator.add_connection(ChildWatch(None, print))
        communicator.add_connection(Process(["cat"], print, stderr="lines"))
        child = os.posix_spawn("/bin/true", ["true"], {})
        communicator.add_connection(ChildWatch(child, print))
        communicator.after(0.5, lambda: quiet(communicator, 5.0))
        communicator.run()
"""

# A file watch that is told that its folder is gone, and another one for which there is nothing.
WATCHES = r"""
    import os, shutil
    from edgevent import Communicator, FileWatch

    def told(event):
        print(event, flush=True)
        communicator.after(0.3, lambda: quiet(communicator, 5.0))

    os.makedirs("w/a/b")
    with Communicator() as communicator:
        for watch in (FileWatch("w", recursive=True), FileWatch("w/a/b", told)):
            communicator.add_connection(watch)
        shutil.rmtree("w/a")
        communicator.run()
"""

# One wait for the timer, what libev asks when it wakes, and the write of the mark. All dates
# together cost two looks a second.
IDLE, LOOKS = 6, 24

PROGRAMS = {
    "fifty connections": (CONNECTIONS, IDLE),
    "every source": (SOURCES, IDLE),
    "no date": (DATES.format(count=0, seconds=5.0), IDLE),
    "a date": (DATES.format(count=1, seconds=1.5), LOOKS),
    "a thousand dates": (DATES.format(count=1000, seconds=1.5), LOOKS),
    "processes": (PROCESSES, IDLE),
    "file watches": (WATCHES, IDLE),
}


class Traced(NamedTuple):
    """What a program has called while it was quiet, and what it has printed."""

    calls: list[str]
    printed: str


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory, need_tool: Callable[..., str]
) -> dict[str, Traced]:
    """Runs all of them beside each other: what they do is to wait."""
    strace = need_tool("strace", package="strace")
    started = {}
    for name, (program, _) in PROGRAMS.items():
        folder = tmp_path_factory.mktemp("idle")
        text = textwrap.dedent(QUIET) + textwrap.dedent(program)
        (folder / "program.py").write_text(text, encoding="utf-8")
        process = subprocess.Popen(
            [strace, "-f", "-o", "trace", sys.executable, "program.py"],
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started[name] = folder, process
    return {name: outcome(folder, process) for name, (folder, process) in started.items()}


def outcome(folder: Path, process: subprocess.Popen[str]) -> Traced:
    """Waits for the end of a program."""
    with process:
        printed, complained = process.communicate()  # the program's alarm is the limit
    assert process.returncode == 0, complained
    text = (folder / "trace").read_text(encoding="utf-8", errors="replace")
    between = text.split("MARK")[1]
    return Traced(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)", between, re.MULTILINE), printed)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_idle_costs_no_system_call(traced: dict[str, Traced], name: str) -> None:
    calls = traced[name].calls
    assert "epoll_wait" in calls
    assert len(calls) <= PROGRAMS[name][1], f"{len(calls)} system calls: {calls}"


def test_a_watch_of_a_folder_that_is_gone_was_told_once(traced: dict[str, Traced]) -> None:
    (line,) = traced["file watches"].printed.splitlines()
    assert "gone=True" in line
