"""A service that is told to reload, to stop and to rotate at the wrong moments."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from network_ground import PATIENCE, until
from service_ground import (
    AS_BEFORE,
    ONE,
    READ_AGAIN,
    Logged,
    Manager,
    Reloads,
    Running,
    made,
    write,
)

from edgevent import Client, Message, send_datagram

RELOADS = 200
WARM = 19


@pytest.fixture
def reload(tmp_path: Path, logged: Logged) -> Reloads:
    """Gives ``reload(text)``: the new file was read; returns what was said."""
    return Reloads(tmp_path, logged)


def is_alive(client: Client) -> bool:
    return client.request(Message("ALIVE"), timeout=PATIENCE).command == "ABSOLUTELY"


def level() -> tuple[int, int]:
    """How many descriptors there are, and how many objects."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), len(gc.get_objects())


def test_many_reloads_cost_nothing_and_lose_no_connection(tmp_path: Path) -> None:
    # What pytest keeps of the log would grow.
    one = "log_level = critical\n" + ONE + "two = unix:FOLDER/two\n[timers]\nt = 1h\n"
    two = (
        "log_level = alert\npid_file = FOLDER/pid\nlogrotate_listen = unixgram:FOLDER/r\n"
        f"{ONE.rstrip()} max_connections=50\nthree = unix:FOLDER/three\n"
        "[timers]\nt = off\n[allow]\nSTOP = none\n[links]\nnews = unix:FOLDER/nobody\n"
    )
    write(tmp_path, one)
    service = made(tmp_path)
    service.timer("t")(lambda: None)
    service.link("news", optional=True)
    with Running(service) as running, running.dial("one") as client, running.dial("two") as gone:
        for number in range(RELOADS):
            write(tmp_path, one if number % 2 else two)
            service.reload()
            assert is_alive(client)
            assert is_alive(gone)  # its listener goes and comes, and it stays
            if number == WARM:
                before = level()
        after = level()
    assert after[0] == before[0]
    assert after[1] < before[1] + RELOADS - WARM


def test_a_signal_before_ready_is_obeyed_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    manager = Manager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.path)
    write(tmp_path, ONE)
    service = made(tmp_path)

    @service.on_start
    def start(options: Any) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: logged("SIGHUP"))
        write(tmp_path, "drain_timeout = 7s\n" + ONE)
        gevent.sleep(0)
        gevent.sleep(0)

    with Running(service) as running, running.dial("one") as client:
        until(lambda: logged(READ_AGAIN))
        assert is_alive(client)
        assert service.communicator.drain_timeout == 7.0
        found = [manager.receive() for _ in range(3)]
        assert ["READY" in found[0], "RELOADING" in found[1], "READY" in found[2]] == [True] * 3
    manager.close()


@pytest.mark.parametrize("when", ["opening", "told"])
def test_the_end_comes_during_a_reload(tmp_path: Path, when: str, logged: Logged) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path)
    began = Event()

    def wait(*arguments: Any) -> dict[str, Any]:
        if service.is_running and not began.is_set():
            began.set()
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda: logged("tested: stopping"))
        return {}

    if when == "told":
        service.on_reload(wait)
    else:
        service.listen_as(wait)
    running = Running(service).__enter__()
    write(tmp_path, ONE + "two = unix:FOLDER/two\n")
    os.kill(os.getpid(), signal.SIGHUP)
    assert began.wait(PATIENCE)
    assert running.wait() == 0
    assert not (tmp_path / "two").exists()
    assert not (tmp_path / "one.sock").exists()
    assert bool(logged(READ_AGAIN)) == (when == "told")


def test_a_configuration_that_vanishes_changes_nothing(tmp_path: Path, reload: Reloads) -> None:
    path = write(tmp_path, ONE)
    with Running(made(tmp_path)) as running:
        for _ in range(2):
            path.unlink()
            running.service.reload()
            with running.dial("one") as client:
                assert is_alive(client)
            path.mkdir()
            running.service.reload()
            path.rmdir()
            assert reload(ONE) == "nothing changed"


def test_a_secret_that_vanishes_changes_nothing(tmp_path: Path, reload: Reloads) -> None:
    code = tmp_path / "code"
    code.write_text("first")
    code.chmod(0o600)
    text = "[listeners]\none = udp://127.0.0.1:0 secret_code_file=FOLDER/code\n"
    write(tmp_path, text)
    with Running(made(tmp_path)) as running:
        code.unlink()
        assert "code': No such file" in reload(text, says=AS_BEFORE)
        with Client(running.address("one"), secret_code="first") as client:
            assert is_alive(client)


@pytest.mark.parametrize("target", ["syslog", "journal"])
def test_a_log_daemon_that_is_gone_stops_nothing(
    tmp_path: Path, reload: Reloads, target: str, capfd: pytest.CaptureFixture[str]
) -> None:
    text = f"log_to = {target}\nlog_{target}_socket = FOLDER/{{}}\n" + ONE
    write(tmp_path, text.format("nobody"))
    with Running(made(tmp_path)) as running, running.dial("one") as client:
        assert is_alive(client)
        reload(text.format("nobody/either"))
        assert is_alive(client)
    said = [line for line in capfd.readouterr().err.splitlines() if "are lost, and counted" in line]
    assert len(said) == 2
    assert said[0].startswith(f"{target} at {tmp_path}/nobody: No such file or directory")


def test_the_log_rotates_into_a_full_disk(tmp_path: Path, logged: Logged) -> None:
    log = tmp_path / "log"
    log.symlink_to("/dev/full")
    address = f"unixgram:{tmp_path}/r"
    write(tmp_path, ONE)
    words = (f"--log-file={log}", f"--logrotate-listen={address}")
    with Running(made(tmp_path), *words) as running, running.dial("one") as client:
        for _ in range(3):
            send_datagram(address, Message("LOG_ROTATE"))
        until(lambda: len(logged("LOG_ROTATE: the log files were reopened")) == 3)
        assert is_alive(client)
        logs = running.service.logs
        assert logs is not None
        assert logs.lost > 3
        log.unlink()  # there is room again
        send_datagram(address, Message("LOG_ROTATE"))
        until(lambda: log.exists() and "log records were lost: No space left" in log.read_text())
