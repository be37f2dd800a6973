"""Where options stand: sections, secrets, the folders of the C++ library, and reading again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from option_ground import clean_environment, error_of, read_address

from edgevent.errors import OptionError, UsageError
from edgevent.options import OptionParser


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean_environment(monkeypatch, tmp_path / "home")


def hello(folder: Path, **settings: Any) -> OptionParser:
    parser = OptionParser("hello", "Greets.", config_folder=folder, variable="HELLO", **settings)
    parser.add_duration("--patience", default="30s")
    parser.add("--name", "-n", action="append")
    parser.add("--level", "-l", default="low")
    parser.add("--pair", nargs=2)
    parser.add("-v", "--verbose", action="count", default=0)
    parser.add_section("listeners", read_address, help="where to listen")
    parser.add_section("up_links", read_address)
    parser.add_section("numbers", lambda key, text: int(text))
    parser.add_secret("-c", "--secret-code", help="the code")
    return parser


def put(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def shown(options: Any, section: str = "listeners") -> dict[str, str]:
    return {key: str(value) for key, value in getattr(options, section).items()}


# --- sections -------------------------------------------------------------------------------------


def test_a_section_without_a_key_is_empty(tmp_path: Path) -> None:
    parser = hello(tmp_path)
    assert parser.read([]).up_links == {}
    assert parser.source("up_links") == "default"


def test_later_places_replace_single_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = put(tmp_path / "hello.conf", "[listeners]\nmy-web = h:1\nb = h:2\n[up_links]\nx=h:9\n")
    put(tmp_path / "hello.d" / "50-x.conf", "[listeners]\nmy_web = h:3\nc = h:4\n")
    parser = hello(tmp_path)
    assert shown(parser.read([])) == {"my_web": "tcp://h:3", "b": "tcp://h:2", "c": "tcp://h:4"}
    assert shown(parser.read([]), "up_links") == {"x": "tcp://h:9"}
    monkeypatch.setenv("EDGEVENT_HELLO_LISTENERS", "b=h:5 'd = unix:/a b'")
    monkeypatch.setenv("HELLO", "--listeners c=h:6")
    options = parser.read(["--listeners", "e=h:7", "--listeners=d=h:8"])
    found = {"my_web": "h:3", "b": "h:5", "c": "h:6", "d": "h:8", "e": "h:7"}
    assert shown(options) == {key: f"tcp://{address}" for key, address in found.items()}
    assert parser.source("listeners").split(", ")[1:] == [
        "environment variable EDGEVENT_HELLO_LISTENERS",
        "environment variable HELLO",
        "command line",
    ]
    assert parser.source("up-links") == f"{main}:5"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[listeners]\na = x", "2: section [listeners]: key 'a': address 'x': expected tcp://host"),
        ("[numbers]\na = x", "2: section [numbers]: key 'a': value 'x': expected <lambda>"),
        ("[lisseners]\na=h:1", "2: section [lisseners] is unknown: expected one of listeners, "),
        ("[lisseners]\na=h:1", "numbers; did you mean 'listeners'?"),
        ("[up-lnks]\na=h:1", "did you mean 'up-links'?"),
        ("listeners = a", "1: key 'listeners': expected a section [listeners] of its own"),
        ("[listeners]\na-b=h:1\na_b=h:2", "3: section [listeners]: key 'a_b' stands twice in this"),
        ("name = 'x\npair = 'x", "2: key 'pair': No closing quotation"),
        ("pair = a b c", "1: key 'pair': value 'a b c': expected 2 words"),
        ("pair = a --", "1: key 'pair': value 'a --': expected words that do not begin with '-'"),
        ("verbose = -1", "1: key 'verbose': value '-1': expected a number below 100"),
        ("verbose = 100", "1: key 'verbose': value '100': expected a number below 100"),
    ],
)
def test_an_error_names_file_line_section_and_the_nearest_word(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = put(tmp_path / "hello.conf", text)
    said = error_of(hello(tmp_path))
    assert said.startswith(f"{path}:")
    assert sentence in said


@pytest.mark.parametrize(
    ("words", "variables", "sentence"),
    [
        (["--listeners", "x"], {}, "argument --listeners: 'x': expected KEY=VALUE"),
        (["--listeners", "=x"], {}, "argument --listeners: '=x': expected KEY=VALUE"),
        (["--numbers", "a=x"], {}, "argument --numbers: key 'a': value 'x': expected"),
        ([], {"HELLO": "--numbers a=x"}, "environment variable HELLO: argument --numbers: key 'a'"),
        ([], {"HELLO": "'"}, "environment variable HELLO: No closing quotation"),
        (
            [],
            {"EDGEVENT_HELLO_NUMBERS": "a=1 b=x"},
            "environment variable EDGEVENT_HELLO_NUMBERS: key 'b': value 'x': expected",
        ),
        (
            [],
            {"EDGEVENT_HELLO_LISTENRS": "a"},
            "environment variable EDGEVENT_HELLO_LISTENRS is unknown; did you mean"
            " 'EDGEVENT_HELLO_LISTENERS'?",
        ),
        ([], {"EDGEVENT_HELLO_PAIR": "a"}, "EDGEVENT_HELLO_PAIR: value 'a': expected 2 words"),
    ],
)
def test_an_error_names_the_variable_or_the_argument(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    variables: dict[str, str],
    sentence: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert sentence in error_of(hello(tmp_path), words)


def test_a_variable_of_another_program_is_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEVENT_HELLO_WORLD_LEVEL", "x")
    monkeypatch.setenv("EDGEVENT_HELO_LEVEL", "x")
    assert hello(tmp_path).read([]).level == "low"


# --- several values -------------------------------------------------------------------------------


def test_several_words_and_counts_in_files(tmp_path: Path) -> None:
    put(tmp_path / "hello.conf", "pair = a 'b c'\nverbose = 3\n")
    options = hello(tmp_path).read([])
    assert (options.pair, options.verbose) == (["a", "b c"], 3)


def test_a_variable_holds_several_values_as_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEVENT_HELLO_NAME", "a '[::1]' 'b c'")
    monkeypatch.setenv("EDGEVENT_HELLO_PAIR", "x 'y z'")
    options = hello(tmp_path).read([])
    assert (options.name, options.pair) == (["a", "[::1]", "b c"], ["x", "y z"])


@pytest.mark.parametrize("words", [["-nx"], ["-n=x"], ["-n", "x"], ["--name=x"]])
def test_a_short_option_replaces_the_list_of_a_file(tmp_path: Path, words: list[str]) -> None:
    put(tmp_path / "hello.conf", "name = a\nname = b\n")
    parser = hello(tmp_path)
    assert parser.read(words).name == ["x"]
    assert parser.source("name") == "command line"


def test_two_hyphens_are_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "hello.conf", "level = --\n")
    monkeypatch.setenv("EDGEVENT_HELLO_NAME", "--")
    options = hello(tmp_path).read([])
    assert (options.level, options.name) == ("--", ["--"])


def test_what_stands_behind_two_hyphens_is_no_option(tmp_path: Path) -> None:
    parser = hello(tmp_path)
    parser.add("words", nargs="*")
    options = parser.read(["--", "-nx", "--show-config"])
    assert (options.words, options.name) == (["-nx", "--show-config"], None)


# --- files ----------------------------------------------------------------------------------------


def test_the_folders_of_the_other_library_come_first(tmp_path: Path) -> None:
    group = tmp_path / "snap"
    put(group / "hello.conf", "level = 1\nname = 1\npatience = 1\n")
    put(group / "snap.d" / "40-hello.conf", "level = 2\npatience = 2\n")
    put(group / "snap.d" / "40-other.conf", "broken")
    parser = hello(tmp_path / "ours", other_folders=[group])
    assert parser.read([]).patience == 2.0
    last = put(group / "snap.d" / "50-hello.conf", "patience = 3\n")
    ours = put(tmp_path / "ours" / "hello.d" / "10-x.conf", "\nlevel = 4\n")
    options = parser.read([])
    assert (options.level, options.name, options.patience) == ("4", ["1"], 3.0)
    assert parser.source("level") == f"{ours}:2"
    assert parser.source("patience") == f"{last}:1"


def test_each_reading_finds_the_files_anew(tmp_path: Path) -> None:
    parser = hello(tmp_path)
    assert parser.read([]).level == "low"
    first = put(tmp_path / "hello.d" / "10-a.conf", "level = a\n[listeners]\nx = h:1\n")
    second = put(tmp_path / "hello.d" / "20-b.conf", "level = b\n")
    assert parser.read([]).level == "b"
    second.write_text("levle = c\n")
    assert "did you mean 'level'?" in error_of(parser)
    assert parser.source("level") == f"{second}:1"  # of the reading that was right
    second.unlink()
    assert parser.read([]).level == "a"
    first.write_text("")
    assert shown(parser.read([])) == {}


def test_one_file_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = put(tmp_path / "1.conf", "level = 1\n"), put(tmp_path / "2.conf", "level = 2\n")
    parser = hello(tmp_path)
    said = error_of(parser, ["--config", str(one), f"--config={two}"])
    assert said == "argument --config is given twice: expected it once"
    monkeypatch.setenv("HELLO", f"--config {one}")
    assert parser.read([]).level == "1"
    assert parser.read([f"--config={two}"]).level == "2"


def test_a_reading_that_fails_does_not_end_the_program(tmp_path: Path) -> None:
    parser = hello(tmp_path)
    for words in (["--config", "/missing/x"], ["--patience", "soon"], ["--nonsense"]):
        with pytest.raises(OptionError):
            parser.read(words)
    assert error_of(parser, ["--config", "/missing/x"]) == "/missing/x: No such file or directory"
    assert parser.read(["--patience", "2s"]).patience == 2.0


# --- secrets --------------------------------------------------------------------------------------


def test_a_secret_of_each_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = hello(tmp_path)
    assert parser.read([]).secret_code is None

    def code(*words: str) -> tuple[str, str]:
        return parser.read(words).secret_code, parser.source("secret_code")

    conf = put(tmp_path / "hello.conf", "secret_code = of the file\n")
    assert code() == ("of the file", f"{conf}:1")
    over = put(tmp_path / "hello.d" / "50-x.conf", f"secret-code-file = {tmp_path / 'a'}\n")
    put(tmp_path / "a", " of a \r\n", 0o400)
    assert code() == (" of a ", f"{over}:1")
    credentials = tmp_path / "credentials"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert code() == (" of a ", f"{over}:1")
    # systemd's access list makes its mask look like a right of the group.
    general = put(credentials / "secret-code", "general", 0o440)
    assert code() == ("general", f"credential {general}")
    assert parser.read([]).secret_code_file is None
    own = put(credentials / "hello.secret-code", "own", 0o440)
    assert code() == ("own", f"credential {own}")
    monkeypatch.setenv("EDGEVENT_HELLO_SECRET_CODE_FILE", str(general))
    assert code() == ("general", "environment variable EDGEVENT_HELLO_SECRET_CODE_FILE")
    assert code("-cword") == ("word", "command line")
    assert parser.read(["-cword"]).secret_code_file is None


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: put(path, "x", 0o640), "(mode 0640) is not used; chmod 600 mends it"),
        (lambda path: put(path, "x", 0o604), "a secret that others can read or change"),
        (lambda path: put(path, ""), "the file is empty"),
        (lambda path: put(path, "\n"), "the file is empty"),
        (lambda path: put(path, "x" * 70_000), "expected 65536 bytes at most"),
        (lambda path: path.write_bytes(b"\xff") and path.chmod(0o600), "expected UTF-8 text"),
        (lambda path: path.mkdir(), "expected a regular file"),
        (lambda path: os.mkfifo(path), "expected a regular file"),
        (lambda path: None, "No such file or directory"),
    ],
)
def test_a_file_of_a_secret_that_is_refused(
    tmp_path: Path, make: Callable[[Path], object], why: str
) -> None:
    path = tmp_path / "secret"
    make(path)
    said = error_of(hello(tmp_path), [f"--secret-code-file={path}"])
    assert said.startswith("command line: secret-code-file: ")
    assert str(path) in said
    assert why in said


def test_a_secret_is_given_once_in_one_place(tmp_path: Path) -> None:
    words = ["--secret-code=x", "--secret-code-file=y"]
    sentence = "command line: secret-code and secret-code-file: expected one of them"
    assert error_of(hello(tmp_path), words) == sentence
    assert "expected a name without NUL" in error_of(hello(tmp_path), ["--secret-code-file=\0"])


def test_a_secret_needs_a_long_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="-x: expected a name that begins with --"):
        hello(tmp_path).add_secret("-x")
