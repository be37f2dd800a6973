"""What setup.cfg installs, and .ci/run provides, is what is there and what is needed."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from tool_ground import ROOT, SCRIPTS, TOOLS

CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")

# The folder below the installation's for the files of a folder, or with an ending.
PLACES = {
    "completion/bash": "share/bash-completion/completions",
    "completion/zsh": "share/zsh/site-functions",
    "conf": "share/edgevent/conf",
    "systemd": "share/edgevent/systemd",
}


def place_of(path: Path) -> str:
    """Where a file of ``scripts/`` is to be installed."""
    if path.parent.name == "man":
        return f"share/man/man{path.suffix[1:]}"
    folder = str(path.parent.relative_to(SCRIPTS))
    above = next(above for above in PLACES if f"{folder}/".startswith(f"{above}/"))
    return f"{PLACES[above]}{folder.removeprefix(above)}"


def test_every_tool_is_installed() -> None:
    assert CONFIG["options"]["scripts"].split() == [f"scripts/{tool}" for tool in TOOLS]


def test_every_file_beside_the_tools_is_installed_in_its_place() -> None:
    files = sorted(path for path in SCRIPTS.glob("*/**/*") if path.is_file())
    wanted = {(place_of(path), str(path.relative_to(ROOT))) for path in files}
    listed = [
        (place, path)
        for place, paths in CONFIG["options.data_files"].items()
        for path in paths.split()
    ]
    assert len(listed) == len(set(listed))
    assert set(listed) == wanted


def test_every_file_of_the_package_is_installed() -> None:
    package = ROOT / "edgevent"
    modules = {path.parent for path in package.rglob("*.py")}
    assert {path for path in modules if not (path / "__init__.py").exists()} == set()
    others = {
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert others == set(CONFIG["options.package_data"]["edgevent"].split())


def test_ci_installs_every_program_that_a_test_needs() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    rows = script.partition("<<'TOOLS'\n")[2].partition("TOOLS\n")[0].splitlines()
    needed = set()
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        # What is not named by a plain word, or without its package, counts as ("", "").
        needed |= set(re.findall(r'need_tool\((?!\))(?:\s*"(.+?)",\s*package="(.+?)")?', text))
    assert rows == sorted(rows)
    assert {tuple(row.split()) for row in rows} == needed
