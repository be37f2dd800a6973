"""What --show-config, --check-config and --write-out-config-file do, in every program."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from option_ground import clean_environment, ending, read_address
from running import EXAMPLES, Program, environment, talk
from tool_ground import PATIENCE, ROOT, man_page, options_of, readme_lines, run, words_of

from edgevent.address import Address
from edgevent.errors import AddressError, OptionError
from edgevent.options import OptionParser
from edgevent.service import Service

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean_environment(monkeypatch, tmp_path / "home")


def test_closed_standard_streams_are_no_mistake(tmp_path: Path) -> None:
    """A shell closes them by ``<&- >&- 2>&-``; children have them too."""
    text = (
        "import os, subprocess, sys\n"
        "from edgevent.options import OptionParser\n"
        "OptionParser('hello', 'Greets.').parse([])\n"
        "print('lost', sys.stdout.isatty(), flush=True)\n"
        "print('lost', file=sys.stderr, flush=True)\n"
        "found = [os.readlink(f'/proc/self/fd/{number}') for number in range(3)]\n"
        "child = subprocess.call(['sh', '-c', 'echo lost'])\n"
        "sys.exit(child or found != ['/dev/null'] * 3 or sys.stdin.read() != '')\n"
    )
    program = shlex.join([sys.executable, "-W", "error", "-c", text])
    done = subprocess.run(
        ["sh", "-c", f"exec {program} <&- >&- 2>&-"],
        cwd=tmp_path,
        env=environment(tmp_path),
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0


def full(folder: Path) -> OptionParser:
    """A parser with an option of each kind."""
    parser = OptionParser("hello", "Greets.", config_folder=folder, variable="HELLO")
    parser.add("what", help="an argument, which no file has")
    parser.add_address("--listen", default=["h:1", "h:2"], multiple=True, help="where to listen")
    parser.add_address("--peer", default="udp://1.2.3.4:5")
    parser.add_duration("--patience", default=90, help="how long, 100%% sure")
    parser.add("--debug", action="store_true", help="say more")
    parser.add("--no-color", action="store_false", dest="color")
    parser.add("--fine", action=argparse.BooleanOptionalAction)
    parser.add("-v", "--verbose", action="count", default=0)
    parser.add("--level", choices=("low", "high"), default="low", help="(default: %(default)s)")
    parser.add("--pair", nargs=2, default=["a", "b c"])
    parser.add("--sizes", nargs="*", type=int, default=[1, 2])
    parser.add("--maybe", nargs="?", const="yes")
    parser.add("--name", "-n", action="append")
    parser.add("--number", type=int, default=5, required=False, help="a bad help %(nothing)s")
    parser.add("--octal", type=lambda text: int(text, 8), default=0o600, to_text="{:o}".format)
    parser.add("--odd", type=lambda text: int(text, 8), default=99)
    parser.add("--hidden", default=argparse.SUPPRESS)
    parser.add("--wanted", required=True)
    parser.add_secret("--secret-code", help="the code")
    parser.add_section("links", read_address, help="where links go")
    return parser


CONFIG = """\
listen = [::1]:1
listen = unix:/a b
debug = Yes
no-color = on
fine = off
verbose = 2
level = high
pair = 'x y' z
sizes = 3 4 5
name = n
number = 7
octal = 640
wanted = w
patience = 1h30m
secret-code = open sesame
[links]
a = unix:/x
b = tcp://h:1
"""


def values(options: argparse.Namespace) -> dict[str, object]:
    return {key: value for key, value in vars(options).items() if key not in ("config_file",)}


# --- shown ----------------------------------------------------------------------------------------


def test_each_value_is_shown_with_its_place(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hello.conf"
    path.write_text(
        "listen = a:1\nlisten = b:2\nsecret-code = shh\n[links]\na = unix:/x?secret_code=shh\n"
    )
    monkeypatch.setenv("EDGEVENT_HELLO_LEVEL", "high")
    monkeypatch.setenv("EDGEVENT_HELLO_LINKS", "c=h:3")
    monkeypatch.setenv("HELLO", "-n piece")
    assert ending(full(tmp_path), "-n", "line\x1b", "--debug", "--show-config") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert "shh" not in out
    assert lines[0] == f"# hello: read {path}"
    assert [line for line in lines if line.startswith("listen")] == [
        f"listen = a:1  # {path}:1",
        f"listen = b:2  # {path}:2",
    ]
    for line in (
        "peer = udp://1.2.3.4:5  # default",
        "patience = 1m30s  # default",
        "debug = true  # command line",
        "no-color = false  # default",
        "verbose = 0  # default",
        "level = high  # environment variable EDGEVENT_HELLO_LEVEL",
        "pair = a 'b c'  # default",
        "sizes = 1 2  # default",
        "octal = 600  # default",
        "name = piece  # environment variable HELLO",
        "name = line\\x1b  # command line",
        "# fine is not set",
        "# wanted is not set",
        f"secret-code = ***  # {path}:3",
        "# secret-code-file is not set",
        "[links]",
        f"a = unix:/x?secret_code=***  # {path}:5",
        "c = h:3  # environment variable EDGEVENT_HELLO_LINKS",
    ):
        assert line in lines, line
    assert not any("what" in line or "show-config" in line for line in lines)


def test_defaults_are_shown_when_there_is_no_file(tmp_path: Path, capsys: Captured) -> None:
    assert ending(full(tmp_path), "--show-config") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# hello: read no file"
    assert lines[1:3] == ["listen = tcp://h:1  # default", "listen = tcp://h:2  # default"]


def test_a_secret_of_a_file_is_not_shown(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "code"
    path.write_text("shh")
    path.chmod(0o600)
    assert ending(full(tmp_path), f"--secret-code-file={path}", "--show-config") == 0
    out = capsys.readouterr().out
    assert "secret-code = ***  # command line" in out
    assert f"secret-code-file = {path}  # command line" in out
    assert "shh" not in out


# --- written --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [CONFIG, "", "[links]\n", "maybe = x\nfine = on\nname =\n"])
def test_what_is_written_reads_back_equal(tmp_path: Path, text: str) -> None:
    (tmp_path / "hello.conf").write_text(text)
    out = tmp_path / "out.conf"
    out.write_text("what was there before")
    assert ending(full(tmp_path), "--write-out-config-file", str(out)) == 0
    words = ["what", "--wanted=w"] if "wanted" not in text else ["what"]
    once = values(full(tmp_path).read(words))
    again = values(full(tmp_path / "none").read(["--config", str(out), *words]))
    assert again == once
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hello.conf", "out.conf"]


def test_an_option_without_its_optional_value_is_written_with_it(tmp_path: Path) -> None:
    out = tmp_path / "out.conf"
    assert ending(full(tmp_path), "--maybe", f"--write-out-config-file={out}") == 0
    assert "maybe = yes" in out.read_text().splitlines()


def test_what_is_written_has_the_help_as_comments(tmp_path: Path) -> None:
    out = tmp_path / "out.conf"
    assert ending(full(tmp_path), f"--write-out-config-file={out}", "--listen=x:1") == 0
    blocks = out.read_text().split("\n\n")
    for block in (
        "# where to listen (default: tcp://h:1, tcp://h:2)\nlisten = x:1",
        "# how long, 100% sure\npatience = 1m30s",
        "# say more\ndebug = false",
        "# a bad help %(nothing)s\nnumber = 5",
        "level = low",
        "# odd =",  # its default is no text that stands for it
        "# the code\n# secret-code =",
        "# where links go\n[links]\n",
    ):
        assert block in blocks, block


def test_of_a_secret_in_a_file_the_name_of_the_file_is_written(tmp_path: Path) -> None:
    path, out = tmp_path / "code", tmp_path / "out.conf"
    path.write_text("shh")
    path.chmod(0o600)
    words = [f"--secret-code-file={path}", f"--write-out-config-file={out}"]
    assert ending(full(tmp_path), *words) == 0
    assert "# secret-code =" in out.read_text().splitlines()
    assert f"secret-code-file = {path}" in out.read_text().splitlines()
    assert full(tmp_path).read(["w", "--wanted=", "--config", str(out)]).secret_code == "shh"


@pytest.mark.parametrize("value", ["a\nb", " a", "a ", "a\\", "\n[x", "\udcff"])
def test_a_value_that_no_file_can_hold_is_refused(
    tmp_path: Path, capsys: Captured, value: str
) -> None:
    out = tmp_path / "out.conf"
    assert ending(full(tmp_path), "--name", value, f"--write-out-config-file={out}") == 2
    assert "key 'name': the value cannot stand in a file" in capsys.readouterr().err
    assert ending(full(tmp_path), "--links=a=unix:/x\ny", f"--write-out-config-file={out}") == 2
    assert "section [links]: key 'a': the value cannot" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("where", "status", "why"),
    [
        ("missing/out.conf", 1, "No such file or directory"),
        ("", 2, "expected a regular file"),
        ("pipe", 2, "expected a regular file"),
    ],
)
def test_a_file_that_cannot_be_written(
    tmp_path: Path, capsys: Captured, where: str, status: int, why: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert ending(full(tmp_path), "--write-out-config-file", str(tmp_path / where)) == status
    assert why in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


# --- checked --------------------------------------------------------------------------------------


def test_all_mistakes_are_listed(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hello.conf"
    path.write_text("levle = x\npatience = soon\nsecret-code-file = /missing/x\n[links]\na = x\n")
    more = tmp_path / "hello.d" / "10-a.conf"
    more.parent.mkdir()
    more.write_bytes(b"\xff")
    bad = tmp_path / "bad.conf"
    bad.write_text("[links\nnot read")
    (more.parent / "20-b.conf").mkdir()
    monkeypatch.setenv("EDGEVENT_HELLO_PEER", "x")
    monkeypatch.setenv("EDGEVENT_HELLO_LEVLE", "x")
    parser = full(tmp_path)

    def check(options: argparse.Namespace) -> Iterator[str]:
        yield f"level {options.level} is wrong"
        raise AddressError("and so is this")

    parser.add_check(check)
    words = ["what", "--wanted=", "--links", "y", "--check-config", "--config", str(bad)]
    assert ending(parser, *words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    found = [line.removeprefix("hello: ").partition(": ") for line in err.splitlines()]
    assert {(place, what[:27]) for place, _, what in found} == {
        (f"{path}:1", "key 'levle' is unknown: exp"),
        (f"{path}:2", "key 'patience': duration 's"),
        (f"{path}:3", "secret-code-file: '/missing"),
        (f"{path}:5", "section [links]: key 'a': a"),
        (f"{more}:1", "expected UTF-8 text"),
        (f"{more.parent / '20-b.conf'}", "Is a directory"),
        (f"{bad}:1", "'[links': expected [section"),
        (f"{bad}:2", "'not read': expected key = "),
        ("environment variable EDGEVENT_HELLO_PEER", "address 'x': expected tcp:/"),
        (
            "environment variable EDGEVENT_HELLO_LEVLE is unknown; did you mean"
            " 'EDGEVENT_HELLO_LEVEL'?",
            "",
        ),
        ("argument --links", "'y': expected KEY=VALUE"),
        ("level low is wrong", ""),
        ("and so is this", ""),
    }


def test_required_options_are_checked_and_arguments_are_not(
    tmp_path: Path, capsys: Captured
) -> None:
    assert ending(full(tmp_path), "--check-config") == 2
    assert "required: --wanted" in capsys.readouterr().err
    assert ending(full(tmp_path), "--check-config", "--wanted=") == 0
    assert capsys.readouterr().out == "hello: the options are right\n"


def test_a_secret_in_a_file_for_everybody_is_a_mistake(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "hello.conf"
    path.write_text("\ufeffsecret-code = shh\r\nwanted = x\n", encoding="utf-8")
    path.chmod(0o644)
    assert ending(full(tmp_path), "--check-config") == 2
    said = capsys.readouterr().err
    assert said == (
        f"hello: {path}: secret-code: others can read the secret in it (mode 0644); chmod 600 mends"
        " it\n"
    )
    path.chmod(0o600)
    assert ending(full(tmp_path), "--check-config") == 0


def test_a_check_is_no_part_of_a_start(tmp_path: Path) -> None:
    parser = full(tmp_path)
    parser.add_check(lambda options: ["wrong"])
    assert parser.parse(["what", "--wanted=w"]).what == "what"


def test_a_value_that_the_encoding_of_the_output_does_not_have_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "é.conf").write_text("component = é\n", encoding="utf-8")
    variables = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run("snaplog", "--config=é.conf", "--show-config", folder=tmp_path, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert "component = \\xe9  # \\xe9.conf:1\n" in done.stdout


def test_an_error_before_the_output_is_one_line(tmp_path: Path, capsys: Captured) -> None:
    for option in ("--show-config", "--write-out-config-file=x"):
        assert ending(full(tmp_path), option, "--patience=soon") == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("where", "said"),
    [("/dev/full", "ed-stop: standard output: No space left on device\n"), ("", "")],
)
def test_an_output_that_nobody_takes_is_no_traceback(tmp_path: Path, where: str, said: str) -> None:
    if where:
        output = os.open(where, os.O_WRONLY)
    else:
        reader, output = os.pipe()
        os.close(reader)
    try:
        done = subprocess.run(
            words_of("ed-stop", "--show-config"),
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(output)
    assert (done.returncode, done.stderr) == (1, said)


# --- every tool -----------------------------------------------------------------------------------


def test_an_installed_tool_has_them(tmp_path: Path) -> None:
    assert {"--show-config", "--check-config", "--write-out-config-file"} < options_of(
        "ed-stop", tmp_path
    )
    done = run("check-certificate", "--write-out-config-file=x.conf", "--limit=3d", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = run("check-certificate", "--config=x.conf", "--show-config", folder=tmp_path)
    assert "limit = 3d  # x.conf:" in done.stdout
    done = run("check-certificate", "--config=x.conf", "--check-config", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "check-certificate: the options are right\n")


def test_the_lines_of_the_readme_run(tmp_path: Path) -> None:
    printed = []
    for line in readme_lines("options"):
        words = shlex.split(line.replace("examples/", f"{EXAMPLES}/"))
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        printed.append(done.stdout)
    assert "listen = unix:talk.sock  # command line\n" in printed[0]
    assert printed[1:] == ["", "server: the options are right\n"]
    assert "listen = unix:talk.sock\n" in (tmp_path / "server.conf").read_text()


def test_the_example_with_groups_greets(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.write_text("open sesame\n")
    code.chmod(0o600)
    (tmp_path / "x.conf").write_text("[greetings]\nbob = Hello, Bob\nann = Hi\n")
    words = ["--config=x.conf", "--listen=unix:x.sock", "--password-file=code"]
    words += ["--greetings", "ann=Good morning"]
    with Program(EXAMPLES / "configured.py", *words, folder=tmp_path) as program:
        assert program.listening_on() == "unix:x.sock"
        asked = b"GREET name=bob\n" + b"GREET name=%s;password=open sesame\n" * 3
        assert talk(f"unix:{tmp_path}/x.sock", asked % (b"bob", b"ann", b"eve")) == (
            b"REFUSED\nGREETING text=Hello, Bob\nGREETING text=Good morning\n"
            b"GREETING text=Who are you?\n"
        )
        assert program.end(signal.SIGTERM) == 0


def test_the_examples_of_the_manual_page_are_read(tmp_path: Path) -> None:
    page = (ROOT / "scripts/man/edgevent.conf.5").read_text(encoding="utf-8")
    assert "    scripts/man/edgevent.conf.5\n" in (ROOT / "setup.cfg").read_text(encoding="utf-8")
    examples = page.partition(".SH EXAMPLES")[2].replace("\\-", "-").replace("\\e", "\\")
    first, second = [one.partition(".RE")[0] for one in examples.split(".RS\n")[1:]]
    (tmp_path / "hello.conf").write_text(first)
    service = Service("hello", "Greets.", config_folder=tmp_path)
    service.link("backup")(lambda link: None)
    service.timer("greet")(lambda: None)
    options = service.options.read([])
    assert options.drain_timeout == 2.0
    assert list(options.listeners) == ["tcp", "local"]
    assert options.links["backup"].text == "tcp://127.0.0.1:3002 pauses=1,5,30"
    assert options.timers == {"greet": 10.0}
    assert list(options.allow) == ["STOP"]
    (tmp_path / "hello.d").mkdir()
    (tmp_path / "hello.d" / "50-local.conf").write_text(second)
    options = service.options.read([])
    assert options.listeners["tcp"].address == Address.parse("tcp://127.0.0.1:4001")
    assert list(options.listeners) == ["tcp", "local"]


def test_the_manual_page_names_the_options_that_all_programs_have() -> None:
    page = (ROOT / "scripts/man/edgevent.conf.5").read_text(encoding="utf-8").replace("\\-", "-")
    for option in ("--config", "--show-config", "--check-config", "--write-out-config-file"):
        assert option in page
        assert option in man_page("ed-stop")


def test_errors_are_one_line_each_when_several_are_said(tmp_path: Path, capsys: Captured) -> None:
    parser = full(tmp_path)

    def check(options: argparse.Namespace) -> Iterator[str]:
        yield "two\nlines"
        raise OptionError("once")

    parser.add_check(check)
    parser.add_check(lambda options: ["once"])
    assert ending(parser, "--check-config", "--wanted=") == 2
    assert capsys.readouterr().err == "hello: two lines\nhello: once\n"
