"""The lines of the README, with the installed snaploggerd on its usual port."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tool_ground import PATIENCE, ROOT, readme_lines, variables_of

# Runs in a network of its own: the daemon, and then the lines.
_LINES = """\
import os, subprocess, sys

root, *lines = sys.argv[1:]
os.environ["PATH"] = os.pathsep.join(
    [os.path.dirname(sys.executable), f"{root}/scripts", os.environ["PATH"]]
)
words = ["--folder", ".", "--udp-listen", "off", "--unix-listen", "off"]
daemon = subprocess.Popen(
    [sys.executable, f"{root}/scripts/snaploggerd", *words], stderr=subprocess.PIPE, text=True
)
try:
    while "listening on tcp://127.0.0.1:4043" not in daemon.stderr.readline():
        pass
    for line in lines:
        subprocess.run(["bash", "-c", line], check=True)
finally:
    daemon.terminate()
    daemon.communicate()
"""


def test_the_lines_of_the_readme(own_namespaces: Callable[..., list[str]], tmp_path: Path) -> None:
    lines = [line.replace(".venv/bin/", "") for line in readme_lines("sending")]
    assert [line.split()[0] for line in lines] == ["snaplog", "python", "python"]
    # The service of the last one runs until it is stopped.
    lines[1:] = [
        lines[1].replace("examples/", f"{ROOT}/examples/"),
        lines[2].replace("python examples/hello_service.py", "echo listening"),
    ]
    program = [sys.executable, "-c", _LINES, str(ROOT), *lines]
    done = subprocess.run(
        [*own_namespaces("-n"), "sh", "-c", f"ip link set lo up && exec {shlex.join(program)}"],
        cwd=tmp_path,
        env=variables_of(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    written = (tmp_path / "snaplogger.log").read_text(encoding="utf-8").splitlines()
    assert len(written) == 5
    for text, line in zip(
        ["the disk is in", "begins", "/var is nearly full", "ends", "listening"],
        written,
        strict=True,
    ):
        assert f": {text} [" in line
    assert " warning " in written[2]
    assert ",used:97]" in written[2]
    assert "backup" in written[0]
