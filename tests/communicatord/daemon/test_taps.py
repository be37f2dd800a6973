"""Taps: who is shown what passes, what exactly, and that nobody waits for it."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from daemon_ground import SERVER, Line, RunningDaemon
from gevent import subprocess as green
from network_ground import PATIENCE, until

from edgevent import Message
from edgevent.communicatord.program import Program
from edgevent.communicatord.station import Station
from edgevent.communicatord.tap import MAX_SHOWN, Tap
from edgevent.communicatord.taps import MAX_TAPS
from edgevent.communicatord.tracing import TraceFilter

FROM = f"<{SERVER}:communicatord "


def traced(cd: RunningDaemon, words: str = "") -> Line:
    """A peer that is shown what passes from now on."""
    line = cd.line().says(f"TRACE_ON {words}".strip())
    assert line.hears() == f"{FROM}TRACING server={SERVER}"
    return line


def shown(line: Line) -> tuple[str, str, str]:
    """From whom, to whom, and what, of the next message."""
    message = Message.parse(line.hears())
    assert message.command == "TRACED", message
    assert message.timespec("time") > 0
    return message["from"], message["to"], message["line"]


def test_what_passes_is_shown_without_its_secrets(cd: RunningDaemon) -> None:
    till, stock = cd.service("till"), cd.service("stock", ["NEWS", "TAKE"])
    tap = traced(cd)
    assert cd.router.on_seen is not None
    till.says('stock/TAKE item=pen;secret_code="a;b"', "./NEWS", "LIST_SERVICES")
    here, there = f"{SERVER}:till", f"{SERVER}:stock"
    assert shown(tap) == (here, there, f"<{here} stock/TAKE item=pen;secret_code=***")
    assert shown(tap) == (here, there, f"<{here} ./NEWS")
    assert shown(tap) == (here, f"{SERVER}:communicatord", f"<{here} LIST_SERVICES")
    assert stock.hears() == f'<{here} stock/TAKE item=pen;secret_code="a;b"'
    tap.says("TRACE_OFF serial=7")
    assert tap.hears() == f"{FROM}TRACE_ENDED missed=0;serial=7;shown=3"
    assert cd.router.on_seen is None


def test_what_is_held_or_lost_is_shown_as_such(cd: RunningDaemon) -> None:
    till = cd.service("till")
    tap = traced(cd)
    till.says("<x:y later/NEWS", "nobody/NEWS", "later/NEWS cache=no")
    held, lost, gone = (Message.parse(tap.hears()) for _ in range(3))
    assert (held["to"], held["held"], "lost" in held) == (f"{SERVER}:later", "true", False)
    assert (lost["from"], lost["to"]) == (f"{SERVER}:till", f"{SERVER}:nobody")
    assert lost["lost"] == "no service nobody is known here"
    assert gone["lost"] == "later is not registered now"


def test_names_alone_and_long_lines(cd: RunningDaemon) -> None:
    till, stock = cd.service("till"), cd.service("stock")
    names, all_of_it = traced(cd, "globs=till;values=no"), traced(cd, "globs=till")
    till.says(f"stock/TAKE item={'x' * 20_000};n=1")
    assert shown(names)[2] == f"<{SERVER}:till stock/TAKE item=...;n=..."
    message = Message.parse(all_of_it.hears())
    assert len(message["line"]) == MAX_SHOWN
    assert message.integer("size") == len(stock.hears())


def test_globs_choose(cd: RunningDaemon) -> None:
    till, stock = cd.service("till"), cd.service("stock")
    tap, other = traced(cd, "globs=stock/TAKE*,/NO"), traced(cd, "globs=nobody")
    # Several at once go another way through the router; those of the same kind, one more.
    till.says("stock/TAKEN a=1", "stock/GIVE a=1", "stock/TAKE a=1", "stock/TAKE a=2")
    stock.hears_lines(4)
    till.says("stock/GIVE a=1", "stock/GIVE a=2")
    stock.hears_lines(2)
    till.says("stock/NO")
    found = [shown(tap)[2].partition("/")[2] for _ in range(4)]
    assert found == ["TAKEN a=1", "TAKE a=1", "TAKE a=2", "NO"]
    other.says("TRACE_OFF")
    assert other.hears() == f"{FROM}TRACE_ENDED missed=0;shown=0"


@pytest.mark.parametrize("words", ["", "globs=stock"])
def test_who_does_not_read_makes_nobody_wait_and_is_told_what_it_missed(
    cd: RunningDaemon, words: str
) -> None:
    till, stock = cd.service("till"), cd.service("stock")
    tap = traced(cd, words)
    block, total = [f"stock/TAKE text={'x' * 900}"] * 100, 0
    while cd.daemon.taps.taps[0].gap < 150:
        till.says(*block)
        assert len(stock.hears_lines(100)) == 100
        total += 100
        assert total < 20_000
    assert cd.router.counts["undelivered"] == 0
    number = missed = 0
    while not missed:
        message = Message.parse(tap.hears())
        if message.command == "TRACE_MISSED":
            missed = message.integer("count")
        else:
            number += 1
    till.says("stock/LAST")
    while "LAST" not in (line := tap.hears()):
        message = Message.parse(line)
        number += message.command == "TRACED"
        missed += message.integer("count", 0)
    assert number + missed == total
    tap.says("TRACE_OFF")
    assert tap.hears() == f"{FROM}TRACE_ENDED missed={missed};shown={number + 1}"


def test_what_still_waits_at_the_end_is_missed(cd: RunningDaemon) -> None:
    till, stock = cd.service("till"), cd.service("stock")
    tap = traced(cd)
    for _ in range(30):
        till.says(*[f"stock/TAKE text={'x' * 900}"] * 100)
        stock.hears_lines(100)
    tap.says("TRACE_OFF")
    found = re.fullmatch(r"missed=(\d+);shown=(\d+)", tap.hears_until("ENDED").split()[-1])
    assert found is not None
    assert int(found[1]) + int(found[2]) == 3_000


def test_a_tap_ends_with_its_connection(cd: RunningDaemon) -> None:
    till, stock = cd.service("till"), cd.service("stock")
    tap, other = traced(cd), traced(cd)
    for line in (tap, other):
        line.close()
        till.says("stock/TAKE")
        stock.hears()
    until(lambda: not cd.daemon.taps.taps)
    assert cd.router.on_seen is None


def test_a_tap_does_not_hold_up_the_end_of_the_daemon(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path) as cd:
        till, _ = cd.service("till"), traced(cd)
        till.quiet()
        daemon = cd.daemon
    assert daemon.router.on_seen is None
    assert daemon.taps.taps == []


def test_a_mistake_of_a_trace_ends_the_traces_alone(
    cd: RunningDaemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    till, stock = cd.service("till"), cd.service("stock")
    traced(cd)
    monkeypatch.setattr(cd.daemon.taps.taps[0], "show", lambda end: 1 / 0)
    till.says("stock/TAKE")
    until(lambda: cd.router.on_seen is None)
    assert "all traces end" in caplog.text
    till.says("stock/TAKE")
    assert len(stock.hears_lines(2)) == 2


class Watcher:
    """A connection that keeps what it is given."""

    name = "watcher"
    is_connected = True

    def __init__(self) -> None:
        self.station = Station(self.deliver, lambda message: None, self.name)
        self.got: list[Message] = []
        self.takes = True

    def deliver(self, data: bytes) -> bool:
        """Takes lines."""
        self.got += [Message.parse(line) for line in data.splitlines()]
        return self.takes


def test_gaps_stand_where_they_were() -> None:
    watcher = Watcher()
    peer: Any = watcher
    tap = Tap(peer, "snap", TraceFilter(), True, lambda: None)
    source = Station(lambda line: True, lambda message: None, "Relay-1")
    remote = Station(lambda line: True, lambda message: None, "Remote-1")
    remote.became("remote", "crackle")

    def pass_by(number: int) -> None:
        tap.take(source, remote, b"stock/TAKE text=%s;number=%d\n" % (b"x" * 60_000, number))

    for number in range(1, 31):
        pass_by(number)
    tap.show(0.0)
    first = len(watcher.got)
    assert 0 < first < tap.gap + first < 30
    pass_by(31)
    while tap.is_waiting:
        tap.show(0.0)
    commands = [message.command for message in watcher.got]
    gap = commands.index("TRACE_MISSED")
    assert gap == len(commands) - 2
    assert watcher.got[gap].integer("count") == tap.missed == 30 - gap
    assert watcher.got[0]["from"] == "Relay-1"
    assert watcher.got[0]["to"] == "crackle:stock"
    tap.take(watcher.station, None, b"LIST_SERVICES\n")  # its own
    assert not tap.is_waiting


def test_what_heads_lead_to_is_not_remembered_without_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "edgevent.communicatord")
    monkeypatch.setattr("edgevent.communicatord.tap._MAX_WAYS", 3)
    watcher = Watcher()
    watcher.takes = False
    peer: Any = watcher
    tap = Tap(peer, "snap", TraceFilter(["*:*/X*"]), True, lambda: None)
    source = Station(lambda line: True, lambda message: None, "Relay-1")
    source.became("local", "snap", "till")
    for number in range(10):
        tap.take(source, None, b"X%d\nY a=1\n" % number)
    tap.show(time.monotonic() + 60.0)
    assert tap.shown == len(watcher.got) == 10
    assert watcher.got[0]["to"] == "snap:communicatord"
    assert "was not delivered" in caplog.text


# --- who may not ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["TRACE_ON", "LIST_TRAFFIC"])
def test_over_tcp_nothing_is_shown(cd: RunningDaemon, command: str) -> None:
    line = cd.line("local").says(command, f"<{SERVER}:communicatord {command}")
    for answer in line.hears_lines(2):
        assert answer.startswith(f"{FROM}INVALID command={command};message=")
        assert "Unix socket" in answer
    assert cd.router.on_seen is None
    assert cd.router.counts["refused"] == 2


def test_a_trace_that_cannot_be_begun_or_ended(cd: RunningDaemon) -> None:
    tap = cd.line().says("TRACE_OFF", "TRACE_ON globs=a/b/c", "TRACE_ON values=2", "TRACE_ON")
    for part in ("has no trace", "globs: 'a/b/c'", "values", "TRACING"):
        assert part in tap.hears()
    assert "has a trace already" in tap.says("TRACE_ON").hears()
    for _ in range(MAX_TAPS - 1):
        traced(cd)
    assert f"{MAX_TAPS} traces" in cd.line().says("TRACE_ON").hears()


_ASK = """
import os, socket, sys
if sys.argv[2] != "-":
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    sock.sendall(b"TRACE_ON\\n")
    print(sock.recv(1000).decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
@pytest.mark.parametrize(
    ("words", "answer"), [([], "INVALID"), (["--trace-group=65534"], "TRACING")]
)
def test_another_user_needs_the_group(words: list[str], answer: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # the others are root's alone
        os.chmod(folder, 0o755)
        with RunningDaemon(Path(folder), "--unix-group=65534", *words) as cd:
            done = green.run(
                [sys.executable, "-c", _ASK, cd.path, "65534"],
                stdout=green.PIPE,
                text=True,
                timeout=PATIENCE,
                check=True,
            )
    assert f" {answer} " in done.stdout


def test_a_group_that_is_not_there_is_found_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--trace-group=no-such", f"--unix-listen={tmp_path}/s", "--local-listen=off"]
    for last in (["--signal=off", "--check-config"], ["--signal=off", f"--data-path={tmp_path}"]):
        program = Program(config_folder=tmp_path, other_folders=())
        try:
            code = program.service.main([*words, *last])
        except SystemExit as error:
            code = error.code
        assert code == 2
        assert "group:no-such: there is no group" in capsys.readouterr().err
