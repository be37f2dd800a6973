"""The benchmarks work: each row runs at a tiny size, by which no speed is judged."""

import subprocess
import sys
from pathlib import Path

import pytest
from running import lines_of

ROOT = Path(__file__).resolve().parent.parent

# To each row: what its tables call edgevent.
ROWS = {
    "request": ["raw client, edgevent server", "edgevent client and server"],
    "unix": ["raw client, edgevent server", "edgevent client and server"],
    "many": ["raw client, edgevent server", "edgevent client and server"],
    "shared": ["raw gevent, matching serials", "edgevent client and server"],
    "one-way": ["raw client, edgevent server", "edgevent, each message built anew"],
    "broadcast": ["edgevent, until all is received", "edgevent, the server's CPU time"],
    "idle": ["edgevent, new", "edgevent, used once"],
    "accept": ["edgevent"],
    "tls-request": ["edgevent, TLS"],
    "tls-one-way": ["edgevent, TLS"],
    "tls-idle": ["edgevent, new", "edgevent, used once"],
    "tls-handshake": ["P-256", "P-256, resumed"],
    "datagrams": ["edgevent"],
    "routed-request": ["edgevent, direct", "through the daemon"],
    "routed-one-way": ["edgevent, direct", "through the daemon"],
    "registered-idle": ["registered with the daemon"],
    "log-call": ["TcpLogHandler, no acknowledgements", "TcpLogHandler, all acknowledged"],
    "log-lines": ["edgevent, read and dispatched", "snaploggerd", "snaploggerd, acknowledged"],
    "settings": ["GET, one by one", "PUT, one by one", "10 listeners told, ms"],
    "parse": ["Message.parse"],
    "build": ["bytes(message.with_parameters())", "bytes(Message(...))"],
    "files": ["written by turns", "made and written"],
    "timers": ["Clock.call_later", "Timer, added", "Communicator.every"],
}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the benchmarks as their user does."""
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_without_a_name_the_rows_are_listed() -> None:
    done = bench()
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(ROWS)


def test_an_unknown_row_is_refused() -> None:
    done = bench("nothing")
    assert done.returncode == 2
    assert "'nothing' is no row" in done.stderr


@pytest.mark.parametrize("name", ROWS)
def test_a_row_runs_and_prints_its_table(name: str) -> None:
    done = bench(name, "--rounds=1", "--size=0.01", "--pin=no")
    assert done.returncode == 0, done.stderr
    assert lines_of(done.stderr) == []
    printed = [line.strip() for line in done.stdout.splitlines()]
    assert printed[0].startswith(f"{name}: ")
    for label in ROWS[name]:
        assert any(line.startswith(label) for line in printed), done.stdout
