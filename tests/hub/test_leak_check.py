"""The check that fails tests which leave something behind, run on tests that do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gevent
import pytest

from edgevent.testing.clock import settle
from edgevent.testing.leaks import Snapshot, look_only_at_what_is_new

ROOT = Path(__file__).resolve().parent.parent.parent

TESTS = """
import os, signal, socket, subprocess, threading, time
import gevent, pytest
from gevent.event import Event
from edgevent import Communicator, LineConnection, Timer
from edgevent.runtime.clock import SYSTEM_CLOCK
from edgevent.transport.memory import memory_pair
from edgevent.testing.clock import settle

kept = []

def test_clean(communicator, clock):
    near, far = memory_pair()
    communicator.add_connection(LineConnection(near))
    communicator.every(1.0, int)
    communicator.stop_on("SIGTERM")
    clock.advance(5.0)
    far.close()

def test_clean_slow_thread():
    threading.Thread(target=time.sleep, args=(0.2,)).start()

def test_clean_slow_child():
    gevent.spawn(gevent.sleep, 0.2)

def test_greenlet():
    kept.append(gevent.spawn(Event().wait))

def test_turn(clock):
    communicator = Communicator(clock=clock)
    communicator.add_connection(Timer(1.0, lambda timer: Event().wait(), name="stuck"))
    clock.advance(1.0)
    kept.append(communicator)

def test_descriptor():
    kept.append(os.open("/dev/null", os.O_RDONLY))

def test_socket_pair():
    kept.append(socket.socketpair())

def test_thread():
    kept.append(threading.Event())
    threading.Thread(target=kept[-1].wait, name="waiter", daemon=True).start()

def test_monitor():
    kept.append(Communicator(monitor=True))

def test_child():
    kept.append(subprocess.Popen(["sleep", "30"]))

def test_timer():
    kept.append(SYSTEM_CLOCK.call_later(100.0, int))

def test_signal():
    communicator = Communicator()
    communicator.stop_on("SIGUSR1")
    kept.append(communicator)

@pytest.mark.may_leak
def test_allowed():
    kept.append(os.open("/dev/null", os.O_RDONLY))

def test_clean_again():
    kept[0].kill()
    kept.remove(kept[0])

@pytest.fixture(scope="session", autouse=True)
def end_the_child():
    yield
    for one in kept:
        if isinstance(one, subprocess.Popen):
            one.kill()
            one.wait()
"""

# What is about to end is waited for, what never ends is not worth the time.
CONFTEST = """
import edgevent.testing.leaks as leaks

pytest_plugins = ["edgevent.testing.plugin"]

def pytest_runtest_setup(item):
    leaks.PATIENCE = 20.0 if "clean" in item.name else 0.05
"""

EXPECTED = {
    "test_greenlet": "the greenlet <Greenlet",
    "test_turn": "a greenlet in a turn of stuck, at ",
    "test_descriptor": "of /dev/null",
    "test_socket_pair": "of socket:[",
    "test_thread": "the thread waiter",
    "test_monitor": "a thread that threading does not know",
    "test_child": "the child process ",
    "test_timer": "1 watchers or timers are still started",
    "test_signal": "a watch of signal 10",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of those tests, with the plugin asked for on the command line."""
    folder = tmp_path_factory.mktemp("leaks")
    (folder / "test_leaks.py").write_text(TESTS, encoding="utf-8")
    (folder / "conftest.py").write_text(
        CONFTEST,
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", "--tb=short"]
    done = subprocess.run(
        [*command, str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_left_behind_fails_its_test(report: str, name: str) -> None:
    assert f"ERROR test_leaks.py::{name} - Failed: left behind:" in report
    section = report.split(f"ERROR at teardown of {name} ")[1].split("\n____")[0]
    assert EXPECTED[name] in section


def test_nothing_else_fails(report: str) -> None:
    failed = {
        line.split("::")[1].split(" ")[0]
        for line in report.splitlines()
        if line.startswith("ERROR test")
    }
    assert failed == set(EXPECTED)
    assert "14 passed" in report


def test_a_greenlet_is_found_though_its_object_was_set_aside() -> None:
    before = Snapshot()
    waiting = gevent.spawn(gevent.sleep, 60.0)
    settle()
    look_only_at_what_is_new()
    assert [text for text in before._find() if "greenlet" in text]
    waiting.kill()
    assert before.leaks() == []
