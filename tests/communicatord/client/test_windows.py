"""The windows of the README: a daemon, two services that talk through it, and who looks on."""

from __future__ import annotations

import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from running import ROOT, Program, environment, terminate
from tool_ground import readme_lines

PATIENCE = 30.0


def words_of(line: str) -> tuple[Path, list[str]]:
    """The program of a line, and its arguments."""
    program, *words = shlex.split(line)
    if program == "python":
        program, *words = words
        return ROOT / program, words
    return ROOT / "scripts" / program, words


def test_the_windows_of_the_readme_show_what_they_say(tmp_path: Path) -> None:
    socket = f"{tmp_path}/communicatord.sock"
    variables = {
        "COMMUNICATOR_LISTEN": f"cd://{socket}",
        "RUNTIME_DIRECTORY": str(tmp_path),
        "EDGEVENT_COMMUNICATORD_SERVER_NAME": "snap",
        "EDGEVENT_COMMUNICATORD_LOCAL_LISTEN": "off",  # the ports may be in use on this machine
        "EDGEVENT_COMMUNICATORD_SIGNAL": "udp://127.0.0.1:0",
    }

    def run(line: str) -> tuple[int, str]:
        path, words = words_of(line)
        done = subprocess.run(
            [sys.executable, str(path), *words],
            cwd=tmp_path,
            env={**environment(tmp_path), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout

    with ExitStack() as stack:

        def window(line: str) -> Program:
            path, words = words_of(line)
            return stack.enter_context(Program(path, *words, folder=tmp_path, **variables))

        first, second, third, fourth = readme_lines("windows")
        daemon = window(first)
        signal = daemon.wait_for("receiving at udp:").rpartition(" ")[2]
        variables["ED_SIGNAL"] = f"--host={signal}"
        stock = window(second)
        daemon.wait_for("registered as stock")
        shop = window(third)
        daemon.wait_for("registered as shop")
        trace = window(fourth)
        daemon.wait_for("a trace begins")

        order, ping, stop, again = readme_lines("ordering")
        assert run(order) == (0, "TAKEN 7\n")
        trace.wait_for("snap:stock > snap:shop TAKEN left=7")
        code, printed = run(ping)
        assert (code, printed.partition(":")[0]) == (0, "ABSOLUTELY from .")
        assert run(stop) == (0, "")
        assert stock.end() == 0
        shop.wait_for("stock is down")
        assert run(again) == (0, "CLOSED\n")
        assert terminate(shop) == 0
        assert run(order) == (1, "ORDER: there is no service shop\n")
        assert terminate(daemon) == 0
