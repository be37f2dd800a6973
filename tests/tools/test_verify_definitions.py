"""verify-message-definitions: what it accepts, what it says, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tool_ground import examples_of, run

from edgevent.tools.verify_definitions import main

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify-message-definitions"
RIGHT = (
    "[count]\ntype = integer\nflags = required\n[note]\nflags = optional\n[old]\nflags=forbidden\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "COUNT.conf").write_text(RIGHT)
    (tmp_path / "WRONG.conf").write_text("[count]\ntype = integre\n")
    return tmp_path


def test_right_ones_end_with_0_and_say_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"--path-to-message-definitions={folder}"
    assert main([str(folder / "COUNT.conf"), "COUNT", "ALIVE", path]) == 0
    assert capsys.readouterr() == ("", "")


def test_it_shows_what_they_say(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "COUNT.conf"
    assert main(["-v", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{file}: COUNT",
        "  count: integer, required",
        "  note: string, optional",
        "  old: string, forbidden",
    ]


@pytest.mark.parametrize(
    ("name", "status"), [("WRONG", 1), ("NOSUCH", 2), ("/no/such/FILE.conf", 2)]
)
def test_a_wrong_one_is_named_and_the_others_are_checked_too(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, status: int
) -> None:
    assert main(["-v", name, "COUNT", "--path-to-message-definitions", str(folder)]) == status
    said = capsys.readouterr()
    assert name in said.err
    assert len(said.err.splitlines()) == 1
    assert "COUNT: COUNT" in said.out


def test_the_examples_of_its_page(folder: Path) -> None:
    (folder / "messages").mkdir()
    (folder / "messages" / "REGISTER.conf").write_text("[service]\n")
    lines = examples_of("verify-message-definitions")
    assert len(lines) == 2
    for line in lines:
        words = line.split()[1:]
        files = sorted(folder.glob(words[0])) if "*" in words[0] else words
        done = run("verify-message-definitions", *files, folder=folder)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_script_ends_with_2_on_bad_usage(folder: Path) -> None:
    ended = subprocess.run(
        [sys.executable, SCRIPT, "--no-such-option", "COUNT"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "--no-such-option" in ended.stderr
    assert "Traceback" not in ended.stderr
    ended = subprocess.run([sys.executable, SCRIPT, folder / "COUNT.conf"], check=False)
    assert ended.returncode == 0
