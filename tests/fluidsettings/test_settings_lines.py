"""The README's lines: the daemon, a service that prints a change, the tool, and the page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from running import EXAMPLES, ROOT
from tool_ground import PATIENCE, readme_lines, variables_of

# Runs in a network of its own, for the ports are those that a reader has.
_LINES = """\
import json, os, shlex, signal, subprocess, sys, urllib.request

root, daemon, service, *lines = sys.argv[1:]
os.environ["PATH"] = os.pathsep.join(
    [os.path.dirname(sys.executable), f"{root}/scripts", os.environ["PATH"]]
)
started = []

def start(line, text):
    # What begins is waited for by its own words.
    words = [sys.executable, *shlex.split(line)[1:]] if line.startswith("python ") else (
        [sys.executable, f"{root}/scripts/{shlex.split(line)[0]}", *shlex.split(line)[1:]]
    )
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    started.append(process)
    wait(process, text)
    return process

def wait(process, text):
    for line in process.stdout:
        print(line, end="", flush=True)
        if text in line:
            return
    raise SystemExit("it has ended")

try:
    start(daemon, "listening on")
    greeter = start(service, "listening on")
    for line in lines:
        print("$", line, flush=True)
        subprocess.run(line, shell=True, check=True)
        if " set " in line:
            wait(greeter, "greeting: Good morning")
    with urllib.request.urlopen("http://127.0.0.1:4050/settings.json") as answer:
        print(json.dumps({one["name"]: one["value"] for one in json.load(answer)["settings"]}))
    watcher = start("python examples/settings_client.py", "greeter::pause is 30")
    watcher.send_signal(signal.SIGINT)
    watcher.wait()
    for process in reversed(started[:2]):
        process.terminate()
        assert process.wait() == 0
finally:
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
"""


def test_the_lines_of_the_readme_do_what_it_says(
    tmp_path: Path, own_namespaces: Callable[..., list[str]]
) -> None:
    namespaces = own_namespaces("-n")
    daemon, service = readme_lines("settings-daemon"), readme_lines("settings-service")
    lines = readme_lines("settings")
    assert (len(daemon), len(service)) == (1, 1)
    (tmp_path / "examples").symlink_to(EXAMPLES)
    program = [sys.executable, "-c", _LINES, str(ROOT), *daemon, *service, *lines]
    done = subprocess.run(
        [*namespaces, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *program],
        cwd=tmp_path,
        env=variables_of(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout.splitlines()
    assert "starting with Good day and 5" in shown
    assert "greeting: Good morning" in shown
    assert shown[shown.index("$ fluid-settings-cli get greeter::greeting") + 1] == "Good morning"
    assert "greeter::greeting=Good morning" in shown
    assert "    default      Good day" in shown
    values = {"greeter::greeting": "Good morning", "greeter::pause": "5"}
    assert json.dumps(values) in shown
    refused = 'refused: put named setting "greeter::pause" to value "90" failed: an integer from'
    assert any(line.startswith(refused) for line in shown)
    assert done.stderr == ""
