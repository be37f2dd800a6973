"""Whole programs around a blocking client: patched and unpatched, and how they end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import LIMIT, Program


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that does what the test says, in plain blocking calls."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        yield listener


def program(folder: Path, text: str) -> Path:
    """Writes a program that has a client of the address it is given."""
    path = folder / "program.py"
    path.write_text(f"import sys, time\nfrom edgevent import Client, Message\n{text}\n")
    return path


def accept(listener: socket.socket) -> socket.socket:
    sock, _ = listener.accept()
    sock.settimeout(LIMIT)
    return sock


def read_all(sock: socket.socket) -> list[str]:
    with sock, sock.makefile() as lines:
        return [line.rstrip("\n") for line in lines]


def address_of(listener: socket.socket) -> str:
    return "tcp://{}:{}".format(*listener.getsockname())


SENDS = """
for n in range(20):
    client.send(Message("NUMBER", {"n": n}))
    if n % 5 == 0:
        time.sleep(0.005)
"""
ENDS = {
    "closed": "client.close()",
    "with": "with client: pass",
    "forgotten": "",
    "exit": "sys.exit(0)",
    "raise": "raise SystemExit(0)",
    "global of another module": "sys.client = client; del client",
}


@pytest.mark.parametrize("patched", ["", "from gevent import monkey; monkey.patch_all()\n"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_what_was_sent_has_left_when_the_program_ends(
    listener: socket.socket, tmp_path: Path, patched: str, end: str
) -> None:
    text = f"client = Client(sys.argv[1])\n{SENDS}\n{end}"
    path = program(tmp_path, text)
    path.write_text(patched + path.read_text())
    with Program(path, address_of(listener), folder=tmp_path) as running:
        assert read_all(accept(listener)) == [f"NUMBER n={n}" for n in range(20)]
        assert running.end() == 0
        assert running.printed == ""


def test_a_program_that_ends_waits_until_a_slow_reader_has_taken_the_rest(
    listener: socket.socket, tmp_path: Path
) -> None:
    text = """
client = Client(sys.argv[1])
n = 0
while not client.is_full:
    client.send(Message("NUMBER", {"n": n, "with": "x" * 50_000}))
    n += 1
print("sent", n, flush=True)
"""
    with Program(program(tmp_path, text), address_of(listener), folder=tmp_path) as running:
        sock = accept(listener)
        sent = int(running.wait_for("sent").split()[1])
        assert len(read_all(sock)) == sent
        assert running.end() == 0


def test_neither_a_forked_child_nor_another_thread_ends_the_client(
    listener: socket.socket, tmp_path: Path
) -> None:
    text = """
import os, threading
def make():
    global other
    other = Client(sys.argv[1])
thread = threading.Thread(target=make)
thread.start()
thread.join()
client = Client(sys.argv[1])
client.send(Message("FIRST"))
client.send(Message("SECOND"))
if not os.fork():
    sys.exit(0)  # the whole of Python's end, in a child
os.wait()
client.send(Message("THIRD"))
"""
    # Python 3.12 warns of a fork beside threads, and the kernel may still have the one that ended.
    quiet = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}
    path = program(tmp_path, text)
    with Program(path, address_of(listener), folder=tmp_path, **quiet) as running:
        other, sock = accept(listener), accept(listener)
        assert read_all(sock) == ["FIRST", "SECOND", "THIRD"]
        assert read_all(other) == []
        assert running.end() == 0
        assert running.printed == ""


def test_a_plain_stream_that_was_never_closed_is_flushed_at_the_end(
    listener: socket.socket, tmp_path: Path
) -> None:
    text = """
from edgevent import connect
stream = connect(sys.argv[1])
for n in range(20):
    stream.write(b"%d\\n" % n)
"""
    with Program(program(tmp_path, text), address_of(listener), folder=tmp_path) as running:
        assert read_all(accept(listener)) == [str(n) for n in range(20)]
        assert running.end() == 0


@pytest.mark.parametrize("patched", ["", "from gevent import monkey; monkey.patch_all()\n"])
def test_a_client_that_sleeps_finds_a_service_that_was_started_anew(
    listener: socket.socket, tmp_path: Path, patched: str
) -> None:
    text = """
with Client(sys.argv[1], wait=True) as client:
    for n in range(2):
        print("asks", flush=True)
        print("got", client.request(Message("ASK"), "IS")["n"], flush=True)
        print("sleeps", flush=True)
        while not __import__("os").path.exists("go"):
            time.sleep(0.001)
"""
    path = program(tmp_path, text)
    path.write_text(patched + path.read_text())
    with Program(path, address_of(listener), folder=tmp_path) as running:
        for n in range(2):
            with accept(listener) as sock, sock.makefile() as lines:
                assert lines.readline().startswith("ASK serial=")
                sock.sendall(b"IS n=%d\n" % n)
                running.wait_for("sleeps")
            (tmp_path / "go").touch()
        assert running.end() == 0
        assert [line for line in running.printed.splitlines() if "got" in line] == [
            "got 0",
            "got 1",
        ]
