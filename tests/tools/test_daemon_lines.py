"""The lines of the pages of the daemons, and of the tools that come with them.

They run as they stand there, in a network of their own that has the usual ports free.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import dial
from tool_ground import PATIENCE, SCRIPTS, examples_of, variables_of, words_of

from edgevent.testing.starting import StartedService

DEFINITION = "[hello::greeting]\nhelp=What is said to those who come\ndefault=Hello\n"


class Computer:
    """A folder and networks in which lines are run; daemons find their folders as by systemd.

    Args:
        folder: Where all runs.
        network: The words before a command that give it a network of its own.
        enter: nsenter(1).
    """

    def __init__(self, folder: Path, network: list[str], enter: str) -> None:
        self.folder = folder
        self._network = [*network, "sh", "-ec", 'ip link set lo up; exec "$@"', "sh"]
        self._enter = enter
        self._variables = {
            "COMMUNICATOR_LISTEN": f"unix:{folder}/communicatord.sock",
            "RUNTIME_DIRECTORY": str(folder),
            "STATE_DIRECTORY": str(folder),
            "LOGS_DIRECTORY": f"{folder}/logs",
        }

    def start(self, line: str, ready: str) -> StartedService:
        """Starts a daemon, in a network of its own."""
        return StartedService(
            [*self._network, *words_of(*shlex.split(line))],
            folder=self.folder,
            env=self._variables,
            ready=ready,
            timeout=PATIENCE,
        )

    def begin(self, line: str, beside: StartedService | None = None) -> subprocess.Popen[str]:
        """Gives a line to a shell, in the network of a daemon."""
        places = [str(self.folder), str(SCRIPTS), str(Path(sys.executable).parent)]
        path = os.pathsep.join([*places, os.environ["PATH"]])
        enter = [] if beside is None else [self._enter, f"--target={beside.pid}", "--net"]
        return subprocess.Popen(
            [*enter, "sh", "-c", line if " | " in line else f"exec {line}"],
            cwd=self.folder,
            env=variables_of(self.folder, **self._variables, PATH=path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, line: str, beside: StartedService | None = None) -> str:
        """Runs a line to its end, without any error; gives what it prints."""
        with self.begin(line, beside) as process:
            try:
                out, err = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
        assert (process.returncode, err) == (0, ""), err
        return out


@pytest.fixture
def computer(
    tmp_path: Path, own_namespaces: Callable[..., list[str]], need_tool: Callable[..., str]
) -> Computer:
    enter = need_tool("nsenter", package="util-linux")
    return Computer(tmp_path, own_namespaces("-n"), enter)


def test_those_of_communicatord(computer: Computer) -> None:
    bare, named, checking = examples_of("communicatord")
    with computer.start(bare, "receiving at udp://127.0.0.1:4041") as daemon:
        assert daemon.stop() == 0
    named = named.replace("communicator-user", str(os.getgid()))
    path = computer.folder / "communicatord.sock"
    with computer.start(named, "receiving at udp://127.0.0.1:4041") as daemon:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with dial(f"unix:{path}") as sock:
            sock.sendall(b"REGISTER service=svca;version=1\n")
            assert sock.recv(1000).startswith(b"<snap:communicatord ")
        assert daemon.stop() == 0
    assert computer.run(checking) == "communicatord: the options are right\n"


def test_those_of_the_loggers(computer: Computer) -> None:
    (computer.folder / "make").write_text("#!/bin/sh\necho built\necho late >&2\n")
    (computer.folder / "make").chmod(0o755)
    plain, by_sender, rotating = examples_of("snaploggerd")
    lines = examples_of("snaplog")
    lines[2] = lines[2].replace("/run/snaplogger/snaploggerd.sock", "log.sock")
    with computer.start(plain, "receiving at udp://127.0.0.1:4988") as daemon:
        for line in lines:
            computer.run(line, daemon)
        written = computer.folder / "logs" / "snaplogger.log"
        shown = written.read_text("utf-8")
        for text in ("the backup has ended", "disk is nearly full", "built", "late"):
            assert f": {text} [" in shown
        written.rename(f"{written}.1")
        computer.run(rotating, daemon)
        daemon.wait_until("the log files were reopened")
        computer.run(lines[0], daemon)
        assert written.exists()
        assert daemon.stop() == 0
    with computer.start(by_sender, "receiving at udp://127.0.0.1:4988") as daemon:
        computer.run(lines[1], daemon)
        (record,) = (computer.folder / "logs/127.0.0.1/backup.log").read_text("utf-8").splitlines()
        assert json.loads(record)["message"] == "disk is nearly full"
        assert daemon.stop() == 0


def test_those_of_the_settings(computer: Computer) -> None:
    (computer.folder / "hello.ini").write_text(DEFINITION)
    serving, exporting = examples_of("fluid-settings")
    setting, getting, watching = examples_of("fluid-settings-cli")
    with computer.start(serving, "listening on tcp://127.0.0.1:4049") as daemon:
        computer.run(setting, daemon)
        assert computer.run(getting, daemon) == "Good morning\n"
        with computer.begin(watching, daemon) as watch:
            try:
                assert watch.stdout is not None
                assert watch.stdout.readline() == "hello::greeting=Good morning\n"
                computer.run(setting.replace("morning", "day"), daemon)
                assert watch.stdout.readline() == "hello::greeting=Good day\n"
                watch.send_signal(signal.SIGINT)
                assert watch.wait(PATIENCE) == 0
            finally:
                watch.kill()
        assert daemon.stop() == 0
    computer.run(exporting)
    assert "|Good day\n" in (computer.folder / "backup.conf").read_text("utf-8")
