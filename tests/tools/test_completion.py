"""Completion: the files are those of the parsers, and bash and zsh complete with them."""

from __future__ import annotations

import argparse
import os
import select
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tool_ground import PATIENCE, ROOT, SCRIPTS

from edgevent.errors import UsageError
from edgevent.options import OptionParser
from edgevent.tools.completion import (
    bash_completion,
    completed,
    completion_files,
    find_tools,
    main,
    zsh_completion,
)

TOOLS = sorted(path.name for path in SCRIPTS.iterdir() if path.is_file())


def demo() -> OptionParser:
    """A tool with an option of each kind."""
    parser = OptionParser("demo", "Shows.", version="1")
    parser.add("what", nargs="*", metavar="start|stop|FILE", help="what to do")
    parser.add("--type", choices=("tcp", "udp"), help="which [kind]: 100%% of them")
    parser.add("-f", "--ca-file", metavar="FILE", help="a 'file'")
    parser.add("--folder", help="the default is %(default)s", default="keys")
    parser.add("--work", metavar="FOLDER")
    parser.add("--either", metavar="yes|FOLDER")
    parser.add("--reply", nargs="?", const="", metavar="yes|no")
    parser.add("--param", action="append", metavar="NAME=VALUE")
    parser.add("-v", "--verbose", action="store_true")
    parser.add("--color", action=argparse.BooleanOptionalAction)
    parser.add("--secret", help=argparse.SUPPRESS)
    return parser


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with some files."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "kind.pem").touch()
    (tmp_path / "two words").touch()
    return tmp_path


# --- the files ------------------------------------------------------------------------------------


def test_the_files_are_those_of_the_parsers() -> None:
    wanted = completion_files(SCRIPTS)
    found = {path: path.read_text("utf-8") for path in (SCRIPTS / "completion").glob("*/*")}
    hint = "python -m edgevent.tools.completion scripts would mend it"
    assert sorted(found) == sorted(wanted), hint
    for path, text in wanted.items():
        assert found[path] == text, hint


@pytest.mark.parametrize("tool", TOOLS)
def test_the_files_are_installed(tool: str) -> None:
    config = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    files = config.partition("[options.data_files]")[2]
    bash = files.partition("share/bash-completion/completions =\n")[2].partition("\nshare/")[0]
    zsh = files.partition("share/zsh/site-functions =\n")[2].partition("\nshare/")[0]
    assert f"    scripts/completion/bash/{tool}\n" in f"{bash}\n"
    assert f"    scripts/completion/zsh/_{tool}\n" in f"{zsh}\n"


def test_it_writes_the_files_and_removes_those_of_tools_that_are_gone(tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    gone = scripts / "completion" / "bash" / "gone"
    gone.parent.mkdir(parents=True)
    gone.touch()
    tool = scripts / "verify-message-definitions"
    tool.write_bytes((SCRIPTS / tool.name).read_bytes())
    assert main([str(scripts)]) == 0
    assert not gone.exists()
    for path, text in completion_files(scripts).items():
        assert path.read_text("utf-8") == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import sys\n", "a line 'from edgevent.MODULE import main' was expected"),
        ("from edgevent.tools.completion import main\n", "has no function _parser()"),
    ],
)
def test_a_script_that_is_no_tool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    (tmp_path / "odd").write_text(text)
    with pytest.raises(UsageError, match="odd"):
        find_tools(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["no-such-folder"], ["a", "b"]])
def test_bad_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "the folder of the tools was expected" in capsys.readouterr().err


# --- bash -----------------------------------------------------------------------------------------


def in_bash(bash: str, script: str, name: str, words: list[str], cwd: Path) -> list[str]:
    """What the function of a file offers for the last word of a command line."""
    function = f"_{name.replace('-', '_')}"
    line = " ".join(map(shlex.quote, [name, *words]))
    commands = f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; {function}\n"
    commands += 'printf "%s\\n" "${COMPREPLY[@]}"\n'
    done = subprocess.run(
        [bash, "--norc", "--noprofile"],
        input=commands,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=cwd,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(filter(None, done.stdout.splitlines()))


@pytest.mark.parametrize("tool", TOOLS)
def test_bash_offers_each_option(tool: str, need_tool: Callable[..., str], folder: Path) -> None:
    script = (SCRIPTS / "completion" / "bash" / tool).read_text("utf-8")
    flags = {flag for one in completed(find_tools(SCRIPTS)[tool]) for flag in one.flags}
    assert {"--help", "--version", "--config"} <= flags
    bash = need_tool("bash", package="bash")
    assert set(in_bash(bash, script, tool, ["-"], folder)) == flags


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["--ty"], ["--type"]),
        (["--type", ""], ["tcp", "udp"]),
        (["--type", "=", "u"], ["udp"]),
        (["--type", "="], ["tcp", "udp"]),
        (["--ca-file", "ki"], ["kind.pem"]),
        (["-f", "two"], ["two words"]),
        (["--config", "ki"], ["kind.pem"]),
        (["--work", ""], ["keys"]),
        (["--either", ""], ["keys", "yes"]),
        (["--param", ""], []),
        (["--reply", ""], ["no", "yes"]),
        (["--reply", "--verb"], ["--verbose"]),
        (["--no-c"], ["--no-color"]),
        (["--sec"], []),
        (["st"], ["start", "stop"]),
        (["--verbose", "k"], ["keys", "kind.pem"]),
        (["--", "--type", "st"], ["start", "stop"]),
        (["--", "--ty"], []),
    ],
)
def test_bash_completes(
    words: list[str], offered: list[str], need_tool: Callable[..., str], folder: Path
) -> None:
    script = bash_completion("demo", demo())
    assert in_bash(need_tool("bash", package="bash"), script, "demo", words, folder) == offered


# --- zsh ------------------------------------------------------------------------------------------


class Zsh:
    """An interactive zsh on a terminal, which shows its line when it is asked to."""

    def __init__(self, zsh: str, functions: Path, cwd: Path) -> None:
        self._master, slave = os.openpty()
        environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(cwd)}
        self._process = subprocess.Popen(
            [zsh, "-f", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self._seen = ""
        self.type(
            f"fpath=({shlex.quote(str(functions))} $fpath); autoload -Uz compinit;"
            " compinit -u -D; setopt no_beep no_auto_list; unset zle_bracketed_paste;"
            ' show() { zle -I; print -r -- "<$BUFFER""|"; BUFFER= }; zle -N show;'
            " bindkey '^T' show; bindkey '^I' complete-word; print be''gun\n"
        )
        self._wait_for("begun")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def _wait_for(self, text: str) -> str:
        end = time.monotonic() + PATIENCE
        while text not in self._seen:
            ready, _, _ = select.select([self._master], [], [], max(end - time.monotonic(), 0.0))
            assert ready, f"{text!r} did not come: {self._seen!r}"
            self._seen += os.read(self._master, 65_536).decode()
        before, _, self._seen = self._seen.partition(text)
        return before

    def complete(self, line: str) -> str:
        """Types a line and the key for completion; gives what the line is then."""
        self.type(f"{line}\t\x14")
        return self._wait_for("|").rpartition("<")[2]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


@pytest.fixture
def make_zsh(need_tool: Callable[..., str], folder: Path) -> Iterator[Callable[[Path], Zsh]]:
    path = need_tool("zsh", package="zsh")
    made: list[Zsh] = []

    def make(functions: Path) -> Zsh:
        made.append(Zsh(path, functions, folder))
        return made[0]

    yield make
    for zsh in made:
        zsh.close()


def test_zsh_completes(make_zsh: Callable[[Path], Zsh], folder: Path) -> None:
    functions = folder / "functions"
    functions.mkdir()
    (functions / "_demo").write_text(zsh_completion("demo", demo()))
    zsh = make_zsh(functions)
    for line, whole in {
        "demo --ty": "demo --type=",
        "demo --type=u": "demo --type=udp ",
        "demo --type t": "demo --type tcp ",
        "demo --ca-file=ki": "demo --ca-file=kind.pem ",
        "demo -f ki": "demo -f kind.pem ",
        "demo --work k": "demo --work keys/",
        "demo --either y": "demo --either yes ",
        "demo --reply=n": "demo --reply=no ",
        "demo --verb": "demo --verbose ",
        "demo --param=a=b --pa": "demo --param=a=b --param=",
        "demo sto": "demo stop ",
        "demo start ki": "demo start kind.pem ",
        "demo --sec": "demo --sec",
    }.items():
        assert zsh.complete(line) == whole


def test_zsh_completes_each_tool(make_zsh: Callable[[Path], Zsh]) -> None:
    zsh = make_zsh(SCRIPTS / "completion" / "zsh")
    for tool in TOOLS:
        assert zsh.complete(f"{tool} --vers") == f"{tool} --version "
