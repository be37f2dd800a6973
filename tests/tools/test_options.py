"""The options of a program: files, environment, command line, and the one line of an error."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgevent.address import Address
from edgevent.errors import AddressError, DurationError
from edgevent.options import OptionParser

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """\
import sys
from edgevent.options import OptionParser

parser = OptionParser("hello", "Greets.", config_folder=sys.argv[1], version="1.2")
parser.add_address("--listen", default="tcp://127.0.0.1:3001", help="where")
parser.add_duration("--long-patience", default="30s")
options = parser.parse(sys.argv[2:])
print(options.listen, options.long_patience)
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in os.environ:
        if name.startswith("EDGEVENT_"):
            monkeypatch.delenv(name)


def full(folder: Path) -> OptionParser:
    parser = OptionParser("hello", "Greets.", config_folder=folder)
    parser.add_address(
        "--listen", default=["tcp://[fe80::1%lo]:1", "unix:/x"], multiple=True, help="where"
    )
    parser.add_address("--signal", default="1.2.3.4", default_scheme="udp", default_port=4041)
    parser.add_address("--peer")
    parser.add_duration("--long-patience", default=30, minimum=0.5, help="how long")
    parser.add_duration("--pause")
    parser.add("--debug", action="store_true")
    parser.add("--color", action=argparse.BooleanOptionalAction)
    parser.add("--level", choices=("low", "high"), default="low")
    parser.add("-c", "--count", type=int)
    parser.add("names", nargs="*")
    return parser


def test_defaults(tmp_path: Path) -> None:
    options = full(tmp_path).parse([])
    assert options.listen == [Address.parse("tcp://[fe80::1%lo]:1"), Address.parse("unix:/x")]
    assert options.signal == Address.parse("udp://1.2.3.4:4041")
    assert options.peer is None
    assert options.long_patience == 30.0
    assert options.pause is None
    assert options.debug is False
    assert options.color is None
    assert (options.level, options.count, options.names) == ("low", None, [])


def test_the_defaults_are_not_shared(tmp_path: Path) -> None:
    parser = full(tmp_path)
    parser.parse([]).listen.clear()
    assert len(parser.parse([]).listen) == 2


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--listen", "h:1", "--listen=fd:3", "--signal", "5.6.7.8:9", "--debug", "a", "b"]
    arguments += ["--long-patience=1m", "--no-color", "--level", "high", "-c", "3"]
    monkeypatch.setattr(sys, "argv", ["hello", *arguments])
    options = full(tmp_path).parse()
    assert [str(address) for address in options.listen] == ["tcp://h:1", "fd:3"]
    assert str(options.signal) == "udp://5.6.7.8:9"
    assert options.long_patience == 60.0
    assert (options.debug, options.color, options.level) == (True, False, "high")
    assert (options.count, options.names) == (3, ["a", "b"])


def test_a_file_sets_every_kind(tmp_path: Path) -> None:
    (tmp_path / "hello.conf").write_text(
        "# a comment\nlisten = [::1]:1\nlisten = fifo:/a,/b\nsignal=9.9.9.9\n"
        "long_patience = 2 \\\n minutes\n; another\ndebug = Yes\ncolor = off\n"
        "level=high\ncount=7\n"
    )
    options = full(tmp_path).parse([])
    assert [str(address) for address in options.listen] == ["tcp://[::1]:1", "fifo:/a,/b"]
    assert str(options.signal) == "udp://9.9.9.9:4041"
    assert options.long_patience == 120.0
    assert (options.debug, options.color) == (True, False)
    assert (options.level, options.count) == ("high", 7)


def test_later_places_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "hello.d"
    own = tmp_path / "home" / ".config" / "edgevent"
    folder.mkdir()
    own.mkdir(parents=True)

    def parse(*arguments: str) -> tuple[list[str], float]:
        options = full(tmp_path).parse(arguments)
        return [str(address) for address in options.listen], options.long_patience

    (tmp_path / "hello.conf").write_text("listen = a:1\nlisten = b:1\nlong-patience = 1\n")
    assert parse() == (["tcp://a:1", "tcp://b:1"], 1.0)
    (folder / "60-last.conf").write_text("long-patience = 3\n")
    (folder / "50-first.conf").write_text("long-patience = 2\nlisten = c:1\n")
    (folder / "other.conf").write_text("not read")
    assert parse() == (["tcp://c:1"], 3.0)
    (own / "hello.conf").write_text("long-patience = 4\n")
    assert parse() == (["tcp://c:1"], 4.0)
    (tmp_path / "more.conf").write_text("long_patience = 5\n")
    more = f"--config={tmp_path / 'more.conf'}"
    assert parse(more) == (["tcp://c:1"], 5.0)
    monkeypatch.setenv("EDGEVENT_HELLO_LONG_PATIENCE", "6s")
    assert parse(more) == (["tcp://c:1"], 6.0)
    assert parse(more, "--long-patience", "7s") == (["tcp://c:1"], 7.0)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("lissten = x", "1: key 'lissten' is unknown: expected an option; did you mean 'listen'?"),
        (
            "\nlong_patienc=1",
            "2: key 'long_patienc' is unknown: expected an option; did you mean 'long-patience'?",
        ),
        ("[s]\nlisten=x", "2: key 's::listen' is unknown: expected an option"),
        ("qqq = x", "1: key 'qqq' is unknown: expected an option"),
        ("config = x", "1: key 'config' is unknown: expected an option"),
        ("help = x", "1: key 'help' is unknown: expected an option"),
        ("no-color = yes", "1: key 'no-color' is unknown: expected an option"),
        ("names = x", "1: key 'names' is unknown: expected an option"),
        ("listen", "1: 'listen': expected key = value"),
        ("listen = x", "1: key 'listen': address 'x': expected tcp://host:port; there is no port"),
        ("signal = tcq://h", "1: key 'signal': address 'tcq://h': scheme 'tcq': expected one of "),
        ("pause = soon", "1: key 'pause': duration 'soon': expected seconds, or numbers with"),
        ("pause = -1s", "1: key 'pause': duration '-1s': expected 0s or more"),
        ("long-patience=1ms", "1: key 'long-patience': duration '1ms': expected 500ms or more"),
        ("debug = maybe", "1: key 'debug': value 'maybe': expected one of true, on, yes, 1, false"),
        (
            "level = hihg",
            "1: key 'level': value 'hihg': expected one of low, high; did you mean 'high'?",
        ),
        ("count = x", "1: key 'count': value 'x': expected int"),
        ("\u00e9", "1: '\u00e9': expected key = value"),
    ],
)
def test_an_error_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, error: str
) -> None:
    path = tmp_path / "hello.conf"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as raised:
        full(tmp_path).parse([])
    assert raised.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"hello: {path}:{error}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--lissten=x"], "argument '--lissten' is unknown; did you mean '--listen'?"),
        (["--list", "x"], "argument '--list' is unknown; did you mean '--listen'?"),
        (["--qqq"], "argument '--qqq' is unknown"),
        (["--pause", "soon"], "argument --pause: duration 'soon': expected seconds, or numbers"),
        (["--count", "x"], "argument -c/--count: value 'x': expected int"),
        (["--count"], "argument -c/--count: expected one argument"),
        (["--config", "/missing/x"], "/missing/x: No such file or directory"),
    ],
)
def test_an_error_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], error: str
) -> None:
    with pytest.raises(SystemExit) as raised:
        full(tmp_path).parse(arguments)
    assert raised.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"hello: {error}")
    assert err.count("\n") == 1


def test_a_conversion_without_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Odd:
        def __call__(self, text: str) -> int:
            return int(text)

    parser = OptionParser("hello", "Greets.", config_folder=tmp_path)
    parser.add("--odd", type=Odd())
    with pytest.raises(SystemExit):
        parser.parse(["--odd=x"])
    assert capsys.readouterr().err == "hello: argument --odd: value 'x': expected another value\n"


def test_an_error_in_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEVENT_HELLO_PAUSE", "soon")
    with pytest.raises(SystemExit) as raised:
        full(tmp_path).parse([])
    assert raised.value.code == 2
    start = "hello: environment variable EDGEVENT_HELLO_PAUSE: duration 'soon': expected seconds"
    assert capsys.readouterr().err.startswith(start)


def test_files_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hello.conf"
    path.write_bytes(b"\xe9")
    with pytest.raises(SystemExit):
        full(tmp_path).parse([])
    assert capsys.readouterr().err == f"hello: {path}:1: expected UTF-8 text\n"
    path.unlink()
    path.mkdir()
    with pytest.raises(SystemExit):
        full(tmp_path).parse([])
    assert capsys.readouterr().err == f"hello: {path}: Is a directory\n"


def test_a_newline_in_a_value_stays_on_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        full(tmp_path).parse(["--config", "/missing\nline"])
    assert capsys.readouterr().err.count("\n") == 1


def test_wrong_defaults_are_mistakes_of_the_program(tmp_path: Path) -> None:
    parser = OptionParser("hello", "Greets.", config_folder=tmp_path)
    with pytest.raises(AddressError):
        parser.add_address("--listen", default="x")
    with pytest.raises(DurationError):
        parser.add_duration("--pause", default=-1)


def test_a_duration_has_a_maximum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = OptionParser("hello", "Greets.", config_folder=tmp_path)
    parser.add_duration("--pause", "-p", default="1s", minimum=0.1, maximum=3600)
    assert parser.parse(["-p", "1h"]).pause == 3600.0
    with pytest.raises(SystemExit):
        parser.parse(["--pause", "61m"])
    assert "duration '61m': expected 100ms to 1h" in capsys.readouterr().err


def with_words(folder: Path, **settings: object) -> OptionParser:
    parser = OptionParser("hello", "Greets.", config_folder=folder / "ours", **settings)  # type: ignore[arg-type]
    parser.add("words", nargs="*", type=int)
    parser.add("--level", "-l", default="low")
    parser.add("--name", action="append")
    return parser


@pytest.mark.parametrize(
    "words",
    ["1 2 --level=x", "--level x 1 2", "1 --level x 2", "1 -lx -- 2", "1 --level x -- 2"],
)
def test_words_stand_on_both_sides_of_options(tmp_path: Path, words: str) -> None:
    options = with_words(tmp_path).parse(words.split())
    assert (options.words, options.level) == ([1, 2], "x")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("1 --levle 2", "argument '--levle' is unknown; did you mean '--level'?"),
        ("1 --level x y", "value 'y': expected int"),
    ],
)
def test_a_wrong_word_behind_an_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, sentence: str
) -> None:
    with pytest.raises(SystemExit):
        with_words(tmp_path).parse(words.split())
    assert sentence in capsys.readouterr().err


def test_other_folders_are_read_before(tmp_path: Path) -> None:
    for name, text in (("theirs", "level=theirs\nname=theirs\n"), ("ours", "level=ours\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hello.conf").write_text(text)
    parser = with_words(tmp_path, other_folders=[tmp_path / "theirs"])
    options = parser.parse([])
    assert (options.level, options.name) == ("ours", ["theirs"])
    assert parser.source("level") == f"{tmp_path / 'ours' / 'hello.conf'}:1"
    assert parser.source("name") == f"{tmp_path / 'theirs' / 'hello.conf'}:2"


def test_a_piece_of_command_line_stands_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELLO", "--level 'of the piece' --name a 1")
    monkeypatch.setenv("EDGEVENT_HELLO_LEVEL", "variable")
    parser = with_words(tmp_path, variable="HELLO")
    options = parser.parse(["2", "--name", "b"])
    assert (options.words, options.level, options.name) == ([1, 2], "of the piece", ["a", "b"])
    assert parser.parse(["--level=x"]).level == "x"
    monkeypatch.delenv("HELLO")
    assert parser.parse([]).level == "variable"


@pytest.mark.parametrize(
    ("piece", "sentence"),
    [
        ("'", "environment variable HELLO: No closing quotation"),
        ("--nmae", "environment variable HELLO: argument '--nmae' is unknown; did you mean"),
        ("x", "environment variable HELLO: argument words: value 'x': expected int"),
        ("--level x y", "environment variable HELLO: argument words: value 'y': expected int"),
    ],
)
def test_an_error_names_the_variable_of_the_piece(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    piece: str,
    sentence: str,
) -> None:
    monkeypatch.setenv("HELLO", piece)
    with pytest.raises(SystemExit) as raised:
        with_words(tmp_path, variable="HELLO").parse([])
    assert raised.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "source"),
    [
        (["--level=x"], "command line"),
        (["--level", "x"], "command line"),
        (["-lx"], "command line"),
        ([], "default"),
        (["--name", "x"], "default"),
    ],
)
def test_the_source_of_a_value(tmp_path: Path, words: list[str], source: str) -> None:
    parser = with_words(tmp_path)
    parser.parse(words)
    assert parser.source("level") == source


def test_the_source_of_a_value_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEVENT_HELLO_LEVEL", "x")
    parser = with_words(tmp_path)
    parser.parse([])
    assert parser.source("level") == "environment variable EDGEVENT_HELLO_LEVEL"


def test_the_help_ends_with_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        with_words(tmp_path, examples=["hello 1", "hello --level x"]).parse(["--help"])
    assert "Examples: hello 1; hello --level x" in " ".join(capsys.readouterr().out.split())


def test_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hello.conf").write_text("broken")
    with pytest.raises(SystemExit) as raised:
        full(tmp_path).parse(["--help"])
    assert raised.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "where (default: tcp://[fe80::1%lo]:1, unix:/x)" in out
    assert "how long (default: 30s)" in out
    assert "EDGEVENT_HELLO_LONG_PATIENCE" in out
    assert "lines of name = value" in out


def test_the_version_is_that_of_the_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        full(tmp_path).parse(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"hello {sys.modules['edgevent'].__version__}\n"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = folder / "hello.py"
    program.write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, str(program), str(folder), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_whole_program(tmp_path: Path) -> None:
    (tmp_path / "hello.conf").write_text("long-patience = 1m\n")
    done = run(tmp_path, "--listen", "unix:hello.sock")
    assert (done.returncode, done.stdout, done.stderr) == (0, "unix:hello.sock 60.0\n", "")


def test_a_whole_program_with_an_error(tmp_path: Path) -> None:
    path = tmp_path / "hello.conf"
    path.write_text("\n\nlistn = h:1\n")
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"hello: {path}:3: key 'listn' is unknown: expected an option; did you mean 'listen'?\n"
    )


def test_a_whole_program_tells_its_version(tmp_path: Path) -> None:
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello 1.2\n", "")
