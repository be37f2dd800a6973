"""Unix sockets: whose file is removed, and several servers that start at once."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import subprocess
from network_ground import LONE, PATIENCE, ROOT, run_program

from edgevent import Address
from edgevent.testing.clock import settle
from edgevent.transport.listen import Listener, listen


def listen_at(path: Path | str, **settings: Any) -> Listener:
    (listener,) = listen(Address.parse(f"unix:{path}"), **settings)
    return listener


def is_open(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


# --- whose file is removed -----------------------------------------------------------------------


def test_a_path_that_somebody_else_has_now_is_not_removed(path: Path) -> None:
    first = listen_at(path)
    path.unlink()
    second = listen_at(path)
    first.close()
    assert is_open(path)
    second.close()
    assert not path.exists()


def test_a_file_that_has_taken_the_place_is_not_removed(path: Path) -> None:
    listener = listen_at(path)
    path.unlink()
    path.write_text("precious")
    listener.close()
    assert path.read_text() == "precious"


def test_a_file_that_is_gone_already_is_no_error(
    path: Path, logged: Callable[[str], list[str]]
) -> None:
    listener = listen_at(path)
    path.unlink()
    listener.close()
    assert not logged(str(path))


def test_a_relative_path_is_removed_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    listener = listen_at("s")
    os.chdir("other")
    listener.close()
    assert not (tmp_path / "s").exists()


LEAVE = """
import logging, os, pwd, sys
from edgevent import Address
from edgevent.transport.listen import listen
logging.basicConfig(stream=sys.stdout, format="%(message)s")
(listener,) = listen(Address.parse("unix:" + sys.argv[1]))
user = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
listener.close()
"""


def test_a_file_that_cannot_be_removed_is_told(open_folder: Path, nobody: Any) -> None:
    path = open_folder / "s"
    assert run_program(LEAVE, path) == f"unix:{path}: not removed: Permission denied\n"
    assert path.is_socket()


FORK = """
import os, sys
from edgevent import Address
from edgevent.transport.listen import listen
(listener,) = listen(Address.parse("unix:" + sys.argv[1]))
descriptor = listener.fileno()
child = os.fork()
if child == 0:
    listener.close()
    print(os.path.exists(sys.argv[1]), os.path.exists(f"/proc/self/fd/{descriptor}"), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(os.path.exists(sys.argv[1]), os.path.exists(f"/proc/self/fd/{descriptor}"))
listener.close()
"""


def test_a_forked_child_lets_go_of_the_socket_and_leaves_the_file(path: Path) -> None:
    assert run_program(FORK, path) == "True False\nTrue True\n"
    assert not path.exists()


# --- several that start at once ------------------------------------------------------------------


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[int]:
    """Holds the lock of the folder, as another server does while it looks at a stale socket."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield descriptor
    os.close(descriptor)


def test_a_server_waits_for_another_that_looks_at_the_folder(path: Path, lock: int) -> None:
    listening = gevent.spawn(listen_at, path)
    settle()
    assert not listening.ready()
    assert not path.exists()
    fcntl.flock(lock, fcntl.LOCK_UN)
    listening.get(timeout=PATIENCE).close()


def test_a_lock_that_is_never_given_back_is_no_hindrance(
    path: Path, lock: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevent.transport.socket_file._LOCK_ATTEMPTS", 3)  # of 100, each of 10 ms
    listen_at(path).close()


RACER = """
import sys, time
from edgevent import Address, ListenError
from edgevent.transport.listen import listen
print("ready", flush=True)
for line in sys.stdin:
    path, start = line.split()
    while time.monotonic() < float(start):
        pass
    try:
        listeners = listen(Address.parse("unix:" + path))
    except ListenError as error:
        print(error, flush=True)
    else:
        print("won", flush=True)
        sys.stdin.readline()
        listeners[0].close()
        print("closed", flush=True)
"""


@pytest.fixture
def racers() -> Iterator[list[Any]]:
    with ExitStack() as stack:
        found = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", LONE + RACER],
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    bufsize=1,
                )
            )
            for _ in range(3)
        ]
        for racer in found:
            assert racer.stdout.readline() == "ready\n"
        yield found
        for racer in found:
            racer.stdin.close()
        assert [racer.wait(PATIENCE) for racer in found] == [0] * len(found)


def test_of_servers_that_start_at_once_on_a_stale_path_one_wins(
    path: Path, racers: list[Any]
) -> None:
    for _ in range(60):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        start = run_at_once(racers, path)
        winner = racers[start.index("won\n")]
        name = Path(f"/proc/{winner.pid}/comm").read_text()[:-1]
        lost = f"unix:{path}: a live server has it: process {winner.pid} ({name})\n"
        assert sorted(start) == [lost, lost, "won\n"]
        assert is_open(path)
        winner.stdin.write("\n")
        assert winner.stdout.readline() == "closed\n"
        assert not path.exists()


def run_at_once(racers: list[Any], path: Path) -> list[str]:
    start = time.monotonic() + 0.002
    for racer in racers:
        racer.stdin.write(f"{path} {start}\n")
    return [racer.stdout.readline() for racer in racers]
