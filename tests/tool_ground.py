"""The installed executables, run as a user runs them."""

from __future__ import annotations

import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

from running import ROOT, environment

SCRIPTS = ROOT / "scripts"
PATIENCE = 30.0
TOOLS = sorted(path.name for path in SCRIPTS.iterdir() if path.is_file())
COMMAND_LINE = re.compile(
    rf"^(?:.* \| )?(?:{'|'.join(map(re.escape, TOOLS))})(?: .*)?$", re.MULTILINE
)


def words_of(name: str, *words: str | Path) -> list[str]:
    """A command line of a tool, for this Python."""
    return [sys.executable, str(SCRIPTS / name), *map(str, words)]


def variables_of(folder: Path, **variables: str) -> dict[str, str]:
    """An environment without any settings of this machine's user."""
    kept = {name: one for name, one in environment(folder).items() if name != "ED_SIGNAL"}
    return {**kept, **variables}


def run(
    name: str, *words: str | Path, folder: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a tool to its end."""
    return subprocess.run(
        words_of(name, *words),
        cwd=folder,
        env=variables_of(folder, **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def begin(name: str, *words: str | Path, folder: Path, **variables: str) -> subprocess.Popen[str]:
    """Starts a tool; ``communicate`` waits for its end."""
    return subprocess.Popen(
        words_of(name, *words),
        cwd=folder,
        env=variables_of(folder, **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def cpu_seconds(name: str, *words: str | Path, folder: Path) -> float:
    """What a run of a tool takes of the processor: unlike its time, other programs add nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(name, *words, folder=folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def options_of(name: str, folder: Path) -> set[str]:
    """The long options that ``--help`` shows."""
    shown = run(name, "--help", folder=folder, COLUMNS="200").stdout
    return set(re.findall(r"(?<![\w-])--[a-z-]+[a-z]", shown.partition("options:")[2]))


def man_page(name: str, section: int = 1) -> str:
    """The text of a manual page, with its hyphens as the user types them."""
    text = (SCRIPTS / "man" / f"{name}.{section}").read_text(encoding="utf-8")
    return re.sub(r"\\f[BIPR]", "", text).replace("\\-", "-")


def check_man_page(name: str, folder: Path) -> None:
    """The page has each option of the tool and no other one, and both are installed."""
    options, page = options_of(name, folder), man_page(name)
    assert {"--help", "--version", "--config"} < options
    assert options == set(re.findall(r"(?<![\w-])--[a-z-]+[a-z]", page))
    config = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert f"    scripts/man/{name}.1\n" in config
    assert f"    scripts/{name}\n" in config
    assert os.access(SCRIPTS / name, os.X_OK)


def examples_of(name: str) -> list[str]:
    """The command lines of the page's examples, in whatever section it is, and of whatever tool."""
    (path,) = (SCRIPTS / "man").glob(f"{name}.[1-8]")
    examples = man_page(name, int(path.suffix[1:])).partition(".SH EXAMPLES")[2]
    return COMMAND_LINE.findall(examples.partition("\n.SH ")[0])


def readme_lines(mark: str) -> list[str]:
    """The command lines of the README's block with this mark, without the folder of the tools."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.partition(f"<!-- run: {mark} -->\n```sh\n")[2].partition("```")[0]
    return [line.removeprefix(".venv/bin/") for line in block.splitlines()]


# Runs in a network of its own: the hello service, and lines for the shell; what comes to the port
# of ed-signal is printed.
_LINES = """\
import os, socket, subprocess, sys

root, *lines = sys.argv[1:]
os.environ["PATH"] = os.pathsep.join(
    [os.path.dirname(sys.executable), f"{root}/scripts", os.environ["PATH"]]
)
words = [sys.executable, f"{root}/examples/hello_service.py"]
with (
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as hello,
):
    try:
        sock.bind(("127.0.0.1", 4041))
        for _ in range(3):
            hello.stdout.readline()
        for line in lines:
            subprocess.run(line, shell=True, check=True)
            try:
                print(sock.recv(2000, socket.MSG_DONTWAIT).decode(), flush=True)
            except BlockingIOError:
                pass
    finally:
        hello.terminate()
"""


def run_lines(
    lines: list[str], namespaces: list[str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Runs the lines of a page beside the hello service, with the addresses that stand there.

    Args:
        namespaces: What ``own_namespaces("-n")`` gives.
    """
    program = [sys.executable, "-c", _LINES, str(ROOT), *lines]
    return subprocess.run(
        [*namespaces, "sh", "-c", f"ip link set lo up && exec {shlex.join(program)}"],
        cwd=folder,
        env=variables_of(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def failed(name: str, done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line of a tool's run that has failed, without its name."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith(f"{name}: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr[len(name) + 2 : -1]
