"""ed-top: the table of services, printed, as JSON, and live on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from network_ground import PATIENCE, Ground
from running import Program, terminate
from tool_ground import SCRIPTS, begin, failed, run, variables_of, words_of

from edgevent import Communicator, CommunicatorClient, Dispatcher, Message
from edgevent.tools.ed_top import main
from edgevent.tools.top_screen import Screen
from edgevent.tools.top_table import NAMES, amount, sort, span, table
from edgevent.tools.traffic import Look

CONTROL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
CONTROL += "os.execv(sys.argv[1], sys.argv[1:])"


def started(folder: Path) -> Program:
    """A communicatord as a process."""
    program = Program(
        SCRIPTS / "communicatord",
        "--server-name=snap",
        "--local-listen=off",
        "--signal=off",
        f"--unix-listen=unix:{folder}/cd.sock",
        folder=folder,
    )
    program.wait_for("listening on unix:")
    return program


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a daemon with two services, one of which has sent the other a message."""
    folder = tmp_path_factory.mktemp("daemon")
    where = f"unix:{folder}/cd.sock"
    with (
        started(folder) as program,
        CommunicatorClient("till", address=where) as till,
        CommunicatorClient("stock", address=where) as stock,
    ):
        till.send(Message("TAKE", service="stock"))
        stock.receive()
        yield where
        till.close()
        stock.close()
        assert terminate(program) == 0


def test_the_table_is_printed_once(address: str, tmp_path: Path) -> None:
    words = ("--once", "--interval", "50ms", "--sort", "name", "--communicator-listen", address)
    done = run("ed-top", *words, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    about, counts, titles, *rows = done.stdout.splitlines()
    assert about.startswith("communicatord on snap, pid ")
    assert counts == "2 services, 0 other daemons, 0 held"
    assert titles.split()[:3] == ["SERVICE*", "STATE", "UP"]
    assert [row.split()[:2] for row in rows] == [["stock", "up"], ["till", "up"]]


def test_objects_are_printed_at_each_interval(address: str, tmp_path: Path) -> None:
    words = ("--json", "-i", "50ms", "--count", "2", "--communicator-listen", address)
    first, second = run("ed-top", *words, folder=tmp_path).stdout.splitlines()
    found = json.loads(second)
    assert found["seconds"] >= 0.05
    assert found["daemon"]["server"] == "snap"
    stock, till = found["peers"]
    assert (stock["name"], stock["messages_out"], stock["messages_out_rate"]) == ("stock", 1, 0.0)
    assert till["messages_in"] == 1
    assert json.loads(first)["daemon"]["cpu"] is not None


def test_tables_go_on_until_a_signal(address: str, tmp_path: Path) -> None:
    tool = begin("ed-top", "-i", "50ms", "--communicator-listen", address, folder=tmp_path)
    assert tool.stdout is not None
    for _ in range(2):
        while not tool.stdout.readline().startswith("communicatord on snap"):
            pass
    tool.send_signal(signal.SIGTERM)
    tool.communicate(timeout=PATIENCE)
    assert tool.returncode == 0


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--once", "--count", "2"], "--once with --count"),
        (["--communicator-listen", "off"], "expected the address"),
    ],
)
def test_bad_usage(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("ed-top: ")
    assert sentence in err


def test_nobody_is_there(tmp_path: Path) -> None:
    words = ("--once", "--communicator-listen", f"unix:{tmp_path}/none")
    assert "none" in failed("ed-top", run("ed-top", *words, folder=tmp_path), 1)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("UNKNOWN command=LIST_TRAFFIC", "knows no LIST_TRAFFIC"),
        ('INVALID command=LIST_TRAFFIC;message="not you"', "not you"),
        ("TRAFFIC peers=x", "cannot be read"),
    ],
)
def test_a_daemon_that_tells_nothing(
    answer: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Dispatcher()
    table.on("LIST_TRAFFIC")(
        lambda message, peer: Message.parse(answer).with_parameters(serial=message["serial"])
    )
    with Ground(Communicator()) as ground:
        there = str(ground.serve(table).addresses[0])
        assert main(["--once", "--communicator-listen", there]) == 1
    assert sentence in capsys.readouterr().err


# --- on a terminal --------------------------------------------------------------------------------


class Terminal:
    """ed-top on a terminal of its own."""

    def __init__(self, folder: Path, *words: str, rows: int = 12) -> None:
        self._fd, self._terminal = pty.openpty()
        self.resize(rows, 100)
        self.modes = termios.tcgetattr(self._terminal)
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONTROL, *words_of("ed-top", *words)],
            cwd=folder,
            env=variables_of(folder, TERM="xterm"),
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            start_new_session=True,
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._fd)
        os.close(self._terminal)

    def resize(self, rows: int, columns: int) -> None:
        """Gives the terminal another size."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def type(self, keys: str) -> None:
        """Types keys."""
        os.write(self._fd, keys.encode())

    def wait_for(self, pattern: str) -> None:
        """Reads on until something was shown."""
        end = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.shown)) is None:
            left = max(end - time.monotonic(), 0.0)
            ready, _, _ = select.select([self._fd], [], [], left)
            assert ready, f"{pattern!r} was never shown, but {self.shown!r}"
            self.shown += os.read(self._fd, 65_536).decode()
        self.shown = self.shown[found.end() :]

    def quit(self) -> int:
        """Types q; gives the exit code, when the terminal is as it was."""
        self.type("q")
        self.wait_for(r"\x1b\[\?1049l")
        code = self.process.wait(PATIENCE)
        assert termios.tcgetattr(self._terminal) == self.modes
        return code


def test_it_is_live_sorts_and_quits(address: str, tmp_path: Path) -> None:
    with Terminal(tmp_path, "-i", "30s", "--communicator-listen", address) as terminal:
        terminal.wait_for(r"\x1b\[\?1049h")
        terminal.wait_for(r"IN/s\*[\s\S]*stock[\s\S]*till[\s\S]*q quits")
        for keys, title in (
            ("n", r"SERVICE\*"),
            (">", r"STATE\*"),
            ("<<", r"LAG\*"),
            ("u", r"UP\*"),
        ):
            terminal.type(keys)
            terminal.wait_for(title)
        terminal.type("nr")
        terminal.wait_for(r"SERVICE\*[\s\S]*till [\s\S]*stock ")
        terminal.resize(6, 90)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.wait_for(r"SERVICE\*[^\n]*\x1b\[0m\x1b\[K\r\ntill [^\n]*\n[^\n]*stock|till ")
        terminal.resize(5, 90)  # one row is left
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.wait_for(r"\r\ntill [^\n]*\r\nq quits")
        terminal.type("\x1b[B")
        terminal.wait_for(r"\r\nstock [^\n]*\r\nq quits")
        terminal.type("\x1b[5~")
        terminal.wait_for(r"\r\ntill [^\n]*\r\nq quits")
        assert terminal.quit() == 0


def test_it_waits_for_a_daemon_that_goes_and_comes(tmp_path: Path) -> None:
    words = ("-i", "50ms", "--communicator-listen", f"unix:{tmp_path}/cd.sock")
    with Terminal(tmp_path, *words) as terminal:
        terminal.wait_for("No such file")
        with started(tmp_path) as program:
            terminal.wait_for("communicatord on snap")
            assert terminate(program) == 0
        terminal.wait_for("cd.sock")
        assert terminal.quit() == 0


def test_it_gives_the_terminal_back_while_it_is_stopped(address: str, tmp_path: Path) -> None:
    with Terminal(tmp_path, "-i", "30s", "--communicator-listen", address) as terminal:
        terminal.wait_for("q quits")
        terminal.process.send_signal(signal.SIGTSTP)
        terminal.wait_for(r"\x1b\[\?1049l")
        _, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        terminal.process.send_signal(signal.SIGCONT)
        terminal.wait_for(r"\x1b\[\?1049h[\s\S]*q quits")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for(r"\x1b\[\?1049l")
        assert terminal.process.wait(PATIENCE) == 0


def test_a_terminal_that_goes_is_the_end() -> None:
    master, slave = pty.openpty()
    keys: list[str] = []
    try:
        with Screen(slave, slave, keys.append) as screen:
            screen.draw(["one"], 0)
            os.write(master, b"\x1b[6~x")
            while keys != ["page down", "x"]:
                assert screen.wait(PATIENCE)
            os.close(master)
            while keys[-1] != "q":
                assert screen.wait(PATIENCE)
            assert screen.size.columns > 0
    finally:
        os.close(slave)


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.04, "0.0"),
        (9.94, "9.9"),
        (9.96, "10"),
        (999.4, "999"),
        (999.6, "1.0k"),
        (1_200, "1.2k"),
        (34_000_000, "34M"),
        (5e9, "5G"),
        (7e12, "7T"),
    ],
)
def test_amounts_are_short(value: float | None, text: str) -> None:
    assert amount(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (59.9, "59s"), (192, "3m12s"), (3_700, "1h1m"), (371_000, "4d7h")],
)
def test_times_have_two_units(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


Peer = dict[str, object]


@pytest.fixture
def peers() -> list[Peer]:
    """Three peers, of which one is not there."""
    return [
        {"name": "b", "kind": "local", "state": "up", "messages_in_rate": 5.0, "up_since": 10},
        {"name": "a", "kind": "remote", "state": "slow", "messages_in_rate": 7.0, "lag": 0.4},
        {"name": "c", "kind": "local", "state": "down", "held": 3},
    ]


@pytest.mark.parametrize(
    ("by", "names"), [("name", "abc"), ("in", "abc"), ("waiting", "cab"), ("lag", "abc")]
)
def test_what_is_not_known_comes_last(peers: list[Peer], by: str, names: str) -> None:
    assert "".join(str(one["name"]) for one in sort(peers, by)) == names
    assert by in NAMES


def test_the_order_is_turned(peers: list[Peer]) -> None:
    assert [one["name"] for one in sort(peers, "in", reverse=True)] == ["b", "a", "c"]
    assert [one["name"] for one in sort(peers, "name", reverse=True)] == ["c", "b", "a"]


def test_names_are_cut_and_escaped(peers: list[Peer]) -> None:
    peers[0]["name"] = "x" * 300
    peers[1]["name"] = "\x1b[2J"
    about, titles, rows = table(Look({"date": 20.0, "counts": {"unknown": 2}}, peers), "name")
    assert all(len(row) <= 100 for row in [titles, *rows])
    assert "\\x1b[2J" in rows[0]
    assert re.match("x+\\+ ", rows[2])
    assert about[1] == "1 service, 1 other daemon, 0 held, 2 unknown"
