"""ed-new: what it writes runs, passes its test and is taken by systemd; what it refuses."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import LIMIT, ROOT, Program, environment
from tool_ground import (
    SCRIPTS,
    check_man_page,
    cpu_seconds,
    examples_of,
    readme_lines,
    run,
    variables_of,
)

from edgevent.tools.ed_new import check_name, main
from edgevent.tools.skeleton import PORT, make_files

NAMES = ["greeter.conf", "greeter.py", "greeter.service", "test_greeter.py"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the tool has written."""
    folder = tmp_path_factory.mktemp("new")
    done = run("ed-new", "greeter", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def settings_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line[:1] not in ("", "#")]


# --- what is written ------------------------------------------------------------------------------


def test_four_files_are_written(written: Path) -> None:
    assert sorted(os.listdir(written)) == NAMES
    modes = {name: stat.S_IMODE((written / name).stat().st_mode) for name in NAMES}
    assert modes.pop("greeter.py") == 0o755
    assert set(modes.values()) == {0o644}


def test_the_service_runs_as_the_steps_say(written: Path, tmp_path: Path) -> None:
    steps = run("ed-new", "greeter", "--force", folder=written).stdout
    tried = re.search(r"^Try it:\n  (.*)\nand .*\n  (.*)\n  (.*)\n", steps, re.MULTILINE)
    assert tried is not None, steps
    start, ask, stop = (shlex.split(line) for line in tried.groups())
    assert ask[0] == stop[0] == str(SCRIPTS / "ed-signal")  # it is not on PATH
    assert start == [sys.executable, "greeter.py", "--config", "greeter.conf"]
    # Port 3001 of this machine may be another one's.
    text = (written / "greeter.conf").read_text(encoding="utf-8")
    assert text.count(f"\nmain = tcp://127.0.0.1:{PORT}\n") == 1
    own = tmp_path / "own.conf"
    own.write_text(text.replace(f":{PORT}\n", ":0\n"), encoding="utf-8")
    with Program(written / "greeter.py", "--config", str(own), folder=tmp_path) as program:
        address = program.listening_on()
        ask, stop = ([word.replace(f":{PORT}", "") for word in words] for words in (ask, stop))
        ask[2] = stop[2] = address
        done = run(*ask, folder=tmp_path)
        assert "Hello, you!" in done.stdout, done.stderr
        assert run(*stop, folder=tmp_path).returncode == 0
        assert program.end() == 0, program.printed


def test_the_test_passes(written: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_greeter.py"],
        cwd=written,
        env=environment(written),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_systemd_takes_the_unit(
    written: Path, tmp_path: Path, need_tool: Callable[..., str]
) -> None:
    analyze = need_tool("systemd-analyze", package="systemd")
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(written / "greeter.service")],
        env=variables_of(tmp_path),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_is_that_of_the_template_with_another_python(written: Path) -> None:
    path = ROOT / "scripts" / "systemd" / "system" / "edgevent@.service"
    template = path.read_text(encoding="utf-8").replace("%i", "greeter")
    template = template.replace("/usr/bin/python3 ", f"{sys.executable} ")
    template = template.replace("edgevent service greeter", "greeter")
    own = (written / "greeter.service").read_text(encoding="utf-8")
    assert settings_of(own) == settings_of(template)


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("/usr/bin/python3", "/usr/bin/python3"),
        ("/my place/50%/python", '"/my place/50%%/python"'),
        ('/a"b\\c/python', '"/a\\"b\\\\c/python"'),
    ],
)
def test_the_path_of_python_is_written_as_systemd_reads_it(python: str, words: str) -> None:
    unit, _ = make_files("greeter", python)["greeter.service"]
    assert f"\nExecStart={words} /usr/local/lib/edgevent/greeter.py\n" in unit


def test_it_is_written_to_a_folder_that_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "some where" / "new"
    assert main(["--folder", str(folder), "my-greeter_2"]) == 0
    files = ["my-greeter_2.conf", "my-greeter_2.py", "my-greeter_2.service"]
    assert sorted(os.listdir(folder)) == [*files, "test_my-greeter_2.py"]
    assert f"  cd {shlex.quote(str(folder))}\n" in capsys.readouterr().out


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_is_there_is_not_replaced_without_force(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / name
    mine.write_text("mine", encoding="ascii")
    assert main(["greeter", "--folder", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"ed-new: {mine}: is there; --force replaces it\n")
    assert os.listdir(tmp_path) == [name]
    assert mine.read_text(encoding="ascii") == "mine"
    assert main(["greeter", "--folder", str(tmp_path), "--force"]) == 0
    assert mine.read_text(encoding="ascii") != "mine"
    assert sorted(os.listdir(tmp_path)) == NAMES


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("", "hello"),
        ("ärger er", "arger_er"),
        ("2fast", "service_2fast"),
        ("../../etc/x", "etc_x"),
        ("a.service", "a_service"),
        ("x" * 65, "x" * 64),
        ("logging", "logging_service"),
        ("edgevent", "edgevent_service"),
        ("gevent", "gevent_service"),
    ],
)
def test_a_bad_name_is_refused_with_the_nearest_good_one(
    tmp_path: Path, name: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--folder", str(tmp_path), name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ed-new: name ")
    assert err.endswith(f"did you mean {nearest!r}?\n")
    assert err.count("\n") == 1
    assert os.listdir(tmp_path) == []
    check_name(nearest)


@pytest.mark.parametrize("words", [[], ["a", "b"], ["--forse", "a"], ["--folder"]])
def test_bad_usage_is_one_line(tmp_path: Path, words: list[str]) -> None:
    done = run("ed-new", *words, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ed-new: ")
    assert done.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["greeter", "--folder", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.startswith(f"ed-new: {tmp_path}/file")
    assert main(["greeter", "--folder", "/proc/none"]) == 1
    assert capsys.readouterr().err == "ed-new: /proc/none: No such file or directory\n"


# --- the tool -------------------------------------------------------------------------------------


def test_the_manual_page_has_the_options_of_the_tool(tmp_path: Path) -> None:
    check_man_page("ed-new", tmp_path)


def test_the_lines_of_the_manual_page_and_of_the_readme_run(tmp_path: Path) -> None:
    lines = [*examples_of("ed-new"), *readme_lines("new")]
    assert len(lines) == 4
    for number, line in enumerate(lines):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = run(*shlex.split(line), folder=folder)
        assert done.returncode == 0, done.stderr


def test_it_is_quick(tmp_path: Path) -> None:
    assert cpu_seconds("ed-new", "--help", folder=tmp_path) < 0.4
