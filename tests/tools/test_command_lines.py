"""Each command line that is shown to users is run by a test; this finds the one that none runs."""

from __future__ import annotations

import ast
import os
import re
import shlex
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path

import pytest
from tool_ground import COMMAND_LINE, ROOT, SCRIPTS, TOOLS, examples_of

from edgevent.options import OptionParser
from edgevent.tools.completion import find_tools

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(path.name for path in (SCRIPTS / "man").glob("*.[1-8]"))
MARKS = re.findall(r"^<!-- run: (\S+) -->$", README, re.MULTILINE)
# What runs a command, whatever else a test calls.
RUNNERS = {"Listening", "Popen", "Program", "begin", "check", "run", "run_lines", "start"}


def name_of(call: ast.Call) -> str:
    """The last word of what is called."""
    found = call.func
    return found.attr if isinstance(found, ast.Attribute) else getattr(found, "id", "")


@cache
def lines_that_are_run() -> frozenset[tuple[str, str]]:
    """What tests run, as they call it: ``("examples_of", "ed-stop")``, ``("readme", "stop")``."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        if "examples_of" not in text and "readme_lines" not in text and "BLOCKS" not in text:
            continue
        for one in ast.walk(ast.parse(text)):
            if isinstance(one, ast.FunctionDef) and one.name.startswith("test_"):
                found |= _run_by(one)
    return frozenset(found)


def _run_by(function: ast.FunctionDef) -> set[tuple[str, str]]:
    calls = [one for one in ast.walk(function) if isinstance(one, ast.Call)]
    if RUNNERS.isdisjoint(map(name_of, calls)):
        return set()
    found = {
        (name_of(call), str(word.value))
        for call in calls
        for word in call.args[:1]
        if isinstance(word, ast.Constant)
    }
    for one in ast.walk(function):  # block.name == "keys"
        if isinstance(one, ast.Compare) and isinstance(one.comparators[0], ast.Constant):
            found.add(("readme_lines", str(one.comparators[0].value)))
    return found


def shown_in_text() -> list[str]:
    """The command lines in backquotes, without those that have words to be replaced."""
    text = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    spans = [one.replace("\n", " ") for one in re.findall(r"`([^`]+)`", text)]
    spans = [re.sub(r"^Exec\w+=/usr/bin/", "", one) for one in spans]
    of_tools = [one for one in spans if one.split()[0] in TOOLS and " " in one]
    return [one for one in of_tools if not re.search(r"\b[A-Z]{4,}(?!/)\b|\.\.\.", one)]


@cache
def tools() -> dict[str, OptionParser]:
    """The parsers of all tools."""
    return find_tools(SCRIPTS)


def check_line(line: str) -> None:
    """The tool takes the words of a line: it ends with 2 otherwise."""
    tool, *words = shlex.split(line.rpartition(" | ")[2])
    with suppress(SystemExit) if "--check-config" in words else nullcontext():
        tools()[tool].parse(words)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variables and files of who runs the tests."""
    for name in list(os.environ):
        if name.startswith(("EDGEVENT_", "ED_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("page", PAGES)
def test_the_lines_of_a_page_are_run(page: str) -> None:
    name = page.rpartition(".")[0]
    lines = examples_of(name)
    assert lines or name not in TOOLS, "it has no examples"
    assert not lines or ("examples_of", name) in lines_that_are_run(), "no test runs its lines"


@pytest.mark.parametrize("mark", MARKS)
def test_the_lines_of_the_readme_are_run(mark: str) -> None:
    assert ("readme_lines", mark) in lines_that_are_run()


def test_the_forms_that_others_rely_on_are_among_them() -> None:
    of_signal, of_stop = examples_of("ed-signal"), examples_of("ed-stop")
    for form in (
        "ed-signal --host 127.0.0.1 STOP",
        "ed-signal snap:cluckd/STOP",
        "ed-signal snaprfs/LOG_ROTATE",
        "ed-signal --host ./fluid-settings.conf@listen STOP",
    ):
        assert form in of_signal
    assert any(line.startswith("ed-stop --server ") for line in of_stop)
    assert any("--info --limit 60 " in line for line in examples_of("check-certificate"))


@pytest.mark.parametrize("line", shown_in_text())
def test_a_line_within_the_text_is_right(line: str) -> None:
    check_line(line)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_examples_of_the_help_and_the_page_are_right(
    tool: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        tools()[tool].parse(["--help"])
    of_help = capsys.readouterr().out.partition("Examples: ")[2].partition("\n")[0].split("; ")
    for line in [*of_help, *examples_of(tool)]:
        assert COMMAND_LINE.fullmatch(line)
        check_line(line)


def test_a_test_that_runs_nothing_does_not_count() -> None:
    text = 'def test_x():\n    assert len(examples_of("ed-x")) == 2\n'
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert _run_by(function) == set()
    text += '    run(examples_of("ed-x"))\n'
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert ("examples_of", "ed-x") in _run_by(function)
