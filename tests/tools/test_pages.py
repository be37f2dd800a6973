"""What holds for every tool: its manual page, its help, and that both are installed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from tool_ground import PATIENCE, ROOT, SCRIPTS, man_page, variables_of, words_of

from edgevent import Service, make_authority
from edgevent.options import OptionParser
from edgevent.tools.completion import completed, find_tools

TOOLS = sorted(path.name for path in SCRIPTS.iterdir() if path.is_file())
PAGES = sorted(path.stem for path in (SCRIPTS / "man").glob("*.[18]"))
DAEMONS = {path.stem for path in (SCRIPTS / "man").glob("*.8")}
_FLAG = re.compile(r"(?<![\w-])-(?:-[a-z][a-z-]*[a-z]|[a-zA-Z0-9](?![\w-]))")


def section_of(tool: str) -> int:
    """The section of the manual that its page is in."""
    return 8 if tool in DAEMONS else 1


def flags_of(parser: OptionParser) -> set[str]:
    """The names of all options."""
    return {flag for one in completed(parser) for flag in one.flags}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_page_names_each_option_and_none_that_is_not_there(tool: str) -> None:
    tools = find_tools(SCRIPTS)
    flags = flags_of(tools[tool])
    # The synopsis and the options; the examples may hold those of other programs.
    page = man_page(tool, section_of(tool)).partition(".SH EXAMPLES")[0]
    named = set(_FLAG.findall(page))
    # What all services have is in edgevent.conf(5).
    common = flags_of(Service("any", "Any.").options) if tool in DAEMONS else set()
    assert flags - named - common == set(), "the page does not name them"
    # A page may point to what another tool does with its work.
    known = set().union(*map(flags_of, tools.values()))
    assert {one for one in named - known if one.startswith("--")} == set(), "there are none such"


@pytest.mark.parametrize("tool", TOOLS)
def test_the_help_has_examples(
    tool: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        find_tools(SCRIPTS)[tool].parse(["--help"])
    examples = capsys.readouterr().out.partition("Examples: ")[2]
    assert tool in examples


@pytest.mark.parametrize("tool", TOOLS)
def test_the_configuration_is_checked_without_arguments(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        find_tools(SCRIPTS)[tool].parse(["--check-config"])
    assert ended.value.code in (0, 2)


@pytest.mark.parametrize(
    ("tool", "words", "code"),
    [
        ("check-certificate", ["keys/ca.crt"], 2),
        ("ed-keys", ["show", "keys/ca.crt"], 1),
        ("ed-new", ["greeter"], 0),
        ("verify-message-definitions", ["--verbose", "ALIVE"], 1),
    ],
)
def test_a_full_disk_takes_one_line(tool: str, words: list[str], code: int, tmp_path: Path) -> None:
    make_authority("Any").write(tmp_path / "keys", "ca")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            words_of(tool, *words),
            cwd=tmp_path,
            env=variables_of(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    said = f"{tool}: standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_page_has_its_sections(tool: str) -> None:
    sections = re.findall(r"^\.SH (.*)$", man_page(tool, section_of(tool)), re.MULTILINE)
    assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert {"OPTIONS", "EXIT STATUS", "EXAMPLES"} <= set(sections)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_tool_and_its_page_are_installed(tool: str) -> None:
    config = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert f"    scripts/{tool}\n" in config
    assert f"    scripts/man/{tool}.{section_of(tool)}\n" in config
    assert os.access(SCRIPTS / tool, os.X_OK)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_script_does_nothing_but_call_its_tool(tool: str) -> None:
    lines = Path(SCRIPTS / tool).read_text("utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env python3"
    assert len(lines) <= 7


def test_each_page_has_its_tool() -> None:
    assert set(PAGES) <= set(TOOLS)
