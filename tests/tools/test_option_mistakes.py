"""Configuration files as people and editors make them: each is read, or named with its mistakes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from option_ground import clean_environment, ending, error_of

from edgevent.log_options import add_logging_options
from edgevent.option_files import MAX_FILE_BYTES
from edgevent.options import OptionParser

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nothing_of_this_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean_environment(monkeypatch, tmp_path / "home")


def hello(folder: Path) -> OptionParser:
    parser = OptionParser("hello", "Greets.", config_folder=folder)
    parser.add_duration("--patience", default="30s")
    parser.add("--name", "--title", default="")
    parser.add("--many", action="append")
    parser.add("--words", nargs="+")
    parser.add("--number", type=int)
    parser.add_section("greetings", lambda key, text: text)
    parser.add_section("ports", lambda key, text: int(text))
    parser.add_secret("--code")
    add_logging_options(parser)
    return parser


@pytest.mark.parametrize(
    ("data", "name", "greeting"),
    [
        (b"name = x\r\n[greetings]\r\nbob = hi\r\n", "x", "hi"),
        (b"name = x\r[greetings]\rbob = hi", "x", "hi"),
        (b"\xef\xbb\xbfname = x\n[greetings]\nbob = hi", "x", "hi"),
        (b"\tname\t=\tx\t\n\t[greetings]\t\n bob=a\tb", "x", "a\tb"),
        (b"name = x \\\n  y \\\n[greetings]\n", "x y [greetings]", None),
        (b"name = x \\", "x", None),
        (
            b"[greetings]\nbob='hi' # %(x)s $HOME %%\n[ports]\n[greetings]\n",
            "",
            "'hi' # %(x)s $HOME %%",
        ),
    ],
)
def test_what_editors_make_is_read(
    tmp_path: Path, data: bytes, name: str, greeting: str | None
) -> None:
    (tmp_path / "hello.conf").write_bytes(data)
    options = hello(tmp_path).read([])
    assert options.name == name
    assert options.greetings.get("bob") == greeting


LONG = "x" * 100_000
CUT = f"{'x' * 100}..."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"name = a\n\nmany = caf\xe9\n", "3: expected UTF-8 text"),
        ("name = a\nmany = \0\n", "2: expected text without NUL"),
        ("name = a\nname = b\n", "2: key 'name' stands twice in this file, the first time at "),
        ("name = a\ntitle = b\n", "2: key 'title' stands twice in this file, the first time at "),
        ("words =\n", "1: key 'words': value '': expected a word or several"),
        ("words = a -b\n", "1: key 'words': value 'a -b': expected words that do not begin with"),
        ("[ports]\nnumber = x\n", "value 'x': expected <lambda>; the option number stands before"),
        ("[log]\nlog_level = debug\n", "expected the name of a logger, such as edgevent.dispat"),
        ("log_format = %(message)99999999s\n", "expected widths of 3 digits at most"),
        ("log_format = %(created).99999999f\n", "expected widths of 3 digits at most"),
        (f"number = {LONG}\n", f"1: key 'number': value '{CUT}': expected int"),
        (f"{LONG} = 1\n", f"1: key '{CUT}' is unknown: expected an option"),
        (f"[{LONG}]\na = 1\n", f"2: section [{CUT}] is unknown: expected one of greetings, ports"),
        ("[a\x1b]\na = 1\n", "2: section [a\\x1b] is unknown"),
        (f"[ports]\na = {LONG}\n", f"key 'a': value '{CUT}': expected"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(
    tmp_path: Path, text: str | bytes, sentence: str
) -> None:
    path = tmp_path / "hello.conf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = error_of(hello(tmp_path))
    assert said.startswith(f"{path}:")
    assert sentence in said
    assert len(said) < 500


def make_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("name", "make", "why"),
    [
        ("hello.conf", make_loop, "Too many levels of symbolic links"),
        ("hello.conf", lambda path: path.symlink_to("/no/where"), "No such file or directory"),
        ("hello.conf", os.mkfifo, "expected a regular file"),
        ("hello.conf", lambda path: path.symlink_to("/dev/zero"), "expected a regular file"),
        ("hello.d/10-a.conf", Path.mkdir, "Is a directory"),
        ("hello.d", Path.touch, "Not a directory"),
        (
            "hello.conf",
            lambda path: path.write_bytes(b"#" * (MAX_FILE_BYTES + 1)),
            f"expected {MAX_FILE_BYTES} bytes at most",
        ),
    ],
)
def test_what_is_no_file_is_named(
    tmp_path: Path, name: str, make: Callable[[Path], object], why: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    assert error_of(hello(tmp_path)) == f"{path}: {why}"


def test_a_file_may_be_masked(tmp_path: Path) -> None:
    (tmp_path / "hello.conf").symlink_to("/dev/null")
    assert hello(tmp_path).read([]).name == ""
    said = error_of(hello(tmp_path), ["--config="])
    assert said == "argument --config: expected the name of a file"


def test_all_malformed_lines_are_listed(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "hello.conf"
    path.write_text("one\nname = x\n= y\n[open\nnot = read\ntwo\n[ports]\na = x\n[]\nb = y\n")
    assert ending(hello(tmp_path), "--check-config") == 2
    assert [line.partition(f"{path}:")[2] for line in capsys.readouterr().err.splitlines()] == [
        "1: 'one': expected key = value",
        "3: '= y': expected key = value",
        "4: '[open': expected [section]",
        "6: 'two': expected key = value",
        "8: section [ports]: key 'a': value 'x': expected <lambda>",
        "9: '[]': expected [section]",
    ]


def test_ten_thousand_keys_are_read_each_looked_at_once(tmp_path: Path) -> None:
    lines = "".join(f"key{number} = {number}\n" for number in range(10_000))
    (tmp_path / "hello.conf").write_text(f"[greetings]\n{lines}")
    assert len(hello(tmp_path).read([]).greetings) == 10_000


@pytest.mark.parametrize(
    ("data", "secret"),
    [
        (b"s3cret\r\n", "s3cret"),
        (b"\xef\xbb\xbfs3cret", "s3cret"),
        (b"s3cret\nmore\n", None),
        (b"s3cret\n\n", None),
        (b"s3\0cret\n", None),
    ],
)
def test_a_secret_is_one_line(tmp_path: Path, data: bytes, secret: str | None) -> None:
    path = tmp_path / "secret"
    path.write_bytes(data)
    path.chmod(0o600)
    words = [f"--code-file={path}"]
    if secret is not None:
        assert hello(tmp_path).read(words).code == secret
    else:
        said = error_of(hello(tmp_path), words)
        assert said.endswith(f"{path}: expected one line with the secret, and nothing else")


@pytest.mark.parametrize("special", ["--show-config", "--check-config"])
def test_bytes_of_a_variable_that_are_no_text_end_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, special: str
) -> None:
    monkeypatch.setenv("EDGEVENT_HELLO_NUMBER", os.fsdecode(b"caf\xe9"))
    assert ending(hello(tmp_path), special) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hello: environment variable EDGEVENT_HELLO_NUMBER: value 'caf\\udce9'")
