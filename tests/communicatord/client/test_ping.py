"""ed-ping SERVER:SERVICE: by way of a communicatord."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest
from network_ground import PATIENCE

from edgevent import CommunicatorConnection, Dispatcher
from edgevent.communicatord.daemon import Daemon
from edgevent.tools.ed_ping import main

Connect = Callable[..., CommunicatorConnection]
Ping = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def ping(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ping:
    """Runs the tool in this process, at this daemon."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COMMUNICATOR_LISTEN", f"cd://{path}")

    def run(*words: str) -> tuple[int, list[str], str]:
        code = main(words)
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err

    return run


@pytest.mark.parametrize("target", ["snap:stock", ".:stock", "?:stock"])
def test_a_service_answers_by_way_of_the_daemon(
    daemon: Daemon, connect: Connect, ping: Ping, target: str
) -> None:
    connect("stock")
    code, lines, said = ping("-c", "2", "-i", "0", target)
    assert (code, said) == (0, "")
    assert [line.partition(" time=")[0] for line in lines[:2]] == [
        f"ABSOLUTELY from {target}: seq={n}" for n in (1, 2)
    ]
    assert lines[2:4] == [f"--- {target} ---", "2 sent, 2 answered, 0 lost (0 %)"]
    code, lines, _ = ping("--json", "-c", "1", target)
    assert json.loads(lines[0])["address"] == target


def test_the_option_says_where_the_daemon_is(
    daemon: Daemon, connect: Connect, ping: Ping, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMUNICATOR_LISTEN", "nowhere")
    table = Dispatcher(default_commands=False)
    table.on("HELLO")(lambda message, peer: None)
    connect("stock", table)
    where = f"--communicator-listen=unix:{path}"
    code, lines, _ = ping("-c", "1", where, "snap:stock")
    assert (code, lines[0].partition(" ")[0]) == (0, "UNKNOWN")  # it is there, as the daemon knows


def test_a_service_that_is_not_there_is_lost_or_waited_for(
    daemon: Daemon, connect: Connect, ping: Ping
) -> None:
    code, lines, _ = ping("-c", "1", "snap:gone")
    assert code == 1
    assert lines[0] == "no answer from snap:gone: seq=1: ALIVE: there is no service gone"
    code, lines, said = ping("--wait", "100ms", "snap:gone")
    assert (code, lines) == (1, [])
    assert said == ("ed-ping: snap:gone: no answer within 0.1 s: ALIVE: there is no service gone\n")
    waiting = gevent.spawn(ping, "--wait", "30s", "snap:late")
    connect("late")
    code, lines, _ = waiting.get(timeout=PATIENCE)
    assert (code, len(lines)) == (0, 1)


def test_no_daemon_is_told(ping: Ping, path: str) -> None:
    code, lines, _ = ping("-c", "1", "snap:stock")
    assert code == 1
    assert lines[0] == f"no answer from snap:stock: seq=1: unix:{path}: No such file or directory"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--type=tcp", "snap:stock"), "--type is for an address, not for SERVER:SERVICE"),
        (("--encrypt", "snap:stock"), "--encrypt is for an address, not for SERVER:SERVICE"),
        (("--ca=x", "snap:stock"), "--ca is for TLS"),
        (("--communicator-listen=off", "snap:stock"), "snap:stock: --communicator-listen is off"),
        (
            ("--communicator-listen=off", "127.0.0.1"),
            "--communicator-listen is for SERVER:SERVICE",
        ),
    ],
)
def test_bad_usage_ends_with_2(ping: Ping, words: tuple[str, ...], said: str) -> None:
    code, lines, shown = ping(*words)
    assert (code, lines) == (2, [])
    assert shown.startswith(f"ed-ping: {said}")
