"""The daemon in the test's own process: what does not show from outside, or takes a minute."""

from __future__ import annotations

import os
import signal
import socket as plain
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import gevent
import pytest
from gevent import socket
from network_ground import PATIENCE, read_lines, until
from service_ground import Running
from settings_ground import DEFINITIONS, start, write_definitions

from edgevent import Message
from edgevent.fluidsettings import listeners as listeners_module
from edgevent.fluidsettings import store as store_module
from edgevent.fluidsettings.program import Program

P = "FLUID_SETTINGS_"
NAME = "testsvc::name"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Runs the daemon with further options."""
    write_definitions(tmp_path)
    with ExitStack() as stack:

        def run(*words: str) -> Program:
            found = Program(config_folder=tmp_path)
            stack.callback(lambda: found.store and found.store.close())
            running = Running(
                found.service,
                "--listen=tcp://127.0.0.1:0",
                f"--definitions={tmp_path}/defs",
                f"--database={tmp_path}/settings.db",
                "--communicator-listen=off",
                "--no-log",
                "--gossip-timeout=1h",
                *words,
            )
            stack.enter_context(running)
            return found

        yield run


def address_of(program: Program) -> str:
    return program.service.listeners["listen"].addresses[0]


def dial(program: Program) -> socket.socket:
    host, _, port = address_of(program).removeprefix("tcp://").partition(":")
    sock = socket.create_connection((host, int(port)))
    sock.settimeout(PATIENCE)
    return sock


def ask(sock: socket.socket, line: str, count: int = 1) -> list[str]:
    sock.sendall(f"{line}\n".encode())
    return [one.decode() for one in read_lines(sock, count)]


def test_listeners_are_bounded_and_those_that_are_gone_forgotten(
    program: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = program()
    assert running.commands is not None
    listeners = running.commands.listeners
    monkeypatch.setattr(listeners_module, "MAX_LISTENED", 2)
    with dial(running) as sock:
        (answer,) = ask(sock, f"{P}LISTEN names=a::a,a::b,a::c")
        assert answer == f"INVALID command={P}LISTEN;message=2 names are listened to already"
        assert len(listeners) == 2
        (answer,) = ask(sock, f"{P}FORGET names=a::b")
        assert answer == f"{P}FORGET names=a::b"
    (peer,) = running.service.listeners["listen"].peers
    until(lambda: peer.is_closed)
    assert len(listeners) == 1
    listeners.forget_closed()
    assert len(listeners) == 0


def test_a_daemon_that_does_not_answer_is_dialled_anew(
    program: Callable[..., Program], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with start(tmp_path / "other", "--listen=tcp://127.0.0.1:0") as other:
        running = program(f"--peers={other.address}", "--peer-timeout=0.2")
        replication, store = running.replication, running.store
        assert replication is not None
        assert store is not None
        until(lambda: len(replication.peers) == 1)
        os.kill(other.pid, signal.SIGSTOP)
        try:
            until(lambda: not replication.peers)
            # Three of them do not fit one message.
            for priority in range(3):
                store.put(NAME, "x" * 12_000, priority)
        finally:
            os.kill(other.pid, signal.SIGCONT)
        until(lambda: replication.counts["synced"] and len(replication.peers) == 1)
        with other.client() as client:
            digest = ""
            while digest != store.digest:
                found = client.request(Message(f"{P}COUNTS"), reply=f"{P}COUNTED", timeout=PATIENCE)
                digest = found["digest"]


def test_what_cannot_be_taken_over_is_counted(
    program: Callable[..., Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = program()
    replication, store = running.replication, running.store
    assert replication is not None
    assert store is not None
    line = "VALUE_CHANGED name=%s;values=50|1700000000000000000|x\\n"
    with dial(running) as sock:
        monkeypatch.setattr(store_module, "MAX_SETTINGS", 0)
        (answer,) = ask(sock, line % "new::one")
        assert (
            answer == "INVALID command=VALUE_CHANGED;message=new::one: there are 0 settings already"
        )
        monkeypatch.undo()
        # What stands in the place of the file now cannot be opened.
        store._database.close()
        (tmp_path / "settings.db").unlink()
        (tmp_path / "settings.db").mkdir()
        sock.sendall(f"{line % NAME}\n".encode())
        until(lambda: replication.counts["failed"] == 2)
        (answer,) = ask(sock, f"{P}PUT name={NAME};value=y")
        assert answer.startswith(f"INVALID command={P}PUT;message=")
        assert answer.endswith("Is a directory")
        (answer,) = ask(sock, f"{P}HISTORY name={NAME}")
        assert answer.endswith("Is a directory")
        assert store.get(NAME) is None
        (tmp_path / "settings.db").rmdir()
        (answer,) = ask(sock, f"{P}PUT name={NAME};value=y")
        assert answer == f"{P}UPDATED name={NAME};reason=new"


def test_a_daemon_that_goes_while_it_is_told_all_is_no_harm(
    program: Callable[..., Program], tmp_path: Path
) -> None:
    names = [f"big::name-{number}" for number in range(4)]
    more = "".join(f"[{name}]\nhelp=x\n" for name in names)
    write_definitions(tmp_path, DEFINITIONS + more)
    running = program()
    replication, store = running.replication, running.store
    assert replication is not None
    assert store is not None
    value = "x" * 16_000  # in all, more than the kernel and the outbox take
    jobs = [gevent.spawn(store.put, name, value, number) for name in names for number in range(100)]
    gevent.joinall(jobs, raise_error=True)
    sock = dial(running)
    sock.setsockopt(plain.SOL_SOCKET, plain.SO_RCVBUF, 4_096)
    sock.sendall(f"{P}GOSSIP my_ip=10.0.0.1:4049;id=x;digest=y\n".encode())
    assert sock.recv(100).startswith(b"VALUE_CHANGED name=big::name-0;new=true;values=0|")
    # A reset, in the middle of it.
    sock.setsockopt(plain.SOL_SOCKET, plain.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    until(lambda: not replication._sending)
    assert replication.counts["synced"] == 0
    with dial(running) as other:
        assert ask(other, f"{P}LIST")[0].count("testsvc::") == DEFINITIONS.count("[testsvc::")
