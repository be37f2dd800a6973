"""fluid-settings-cli: values, lists, changes, files, and the spellings of the C++ tool."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from network_ground import PATIENCE, until
from scripted_peer import scripted_peer
from settings_near import Near, near
from tool_ground import cpu_seconds, variables_of, words_of

from edgevent.tools.fluid_settings_cli import main

NAME = "hello::greeting"
Cli = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Near]:
    with near(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def bare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cli:
    """Runs the tool in this process; gives its code, its lines and what it says of errors."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("COMMUNICATOR_LISTEN", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, list[str], str]:
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(str(ended.code))
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.removeprefix("fluid-settings-cli: ")

    return run


@pytest.fixture
def cli(daemon: Near, bare: Cli) -> Cli:
    """The same, at the daemon."""
    return lambda *words: bare("--address", daemon.address, *words)


# --- values ---------------------------------------------------------------------------------------


def test_a_value_is_set_printed_and_deleted(cli: Cli) -> None:
    assert cli("get", NAME) == (0, ["Hello"], "")
    assert cli("set", NAME, "Good morning") == (0, [], "")
    assert cli("get", NAME) == (0, ["Good morning"], "")
    assert cli("set", "-v", NAME, "Hi", "--priority", "90") == (
        0, [f"{NAME}: new priority"], "",
    )  # fmt: skip
    assert cli("get", NAME) == (0, ["Hi"], "")
    assert cli("get", NAME, "--priority=50") == (0, ["Good morning"], "")
    assert cli("delete", NAME, "--priority=90") == (0, [], "")
    assert cli("delete", NAME, "--priority=90") == (1, [], f"{NAME}: nothing was deleted\n")
    assert cli("get", "hello::name") == (1, [], "hello::name: this setting is not set\n")
    code, _, said = cli("set", "hello::pause", "99")
    assert (code, said) == (
        1,
        'put named setting "hello::pause" to value "99" failed: an integer from 1 to 60 was'
        " expected\n",
    )


def test_a_value_that_the_encoding_of_the_output_does_not_have_is_escaped(
    daemon: Near, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("set", NAME, "Grüße") == (0, [], "")
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", output)
    assert main(["--address", daemon.address, "history", NAME]) == 0
    output.flush()
    assert b" Gr\\xfc\\xdfe " in output.buffer.getvalue()  # type: ignore[attr-defined]


def test_values_are_objects_on_request(cli: Cli) -> None:
    assert cli("--json", "set", NAME, "Hi")[1] == [json.dumps({"name": NAME, "reason": "new"})]
    assert json.loads(cli("--json", "get", NAME)[1][0]) == {"name": NAME, "value": "Hi"}
    assert json.loads(cli("--json", "delete", NAME)[1][0]) == {"name": NAME, "deleted": True}


def test_the_spellings_of_the_cpp_tool_are_taken(cli: Cli) -> None:
    assert cli("--set", NAME, "a\nb") == (0, [], "")
    assert cli("--get", NAME) == (0, [f"{NAME}=a\\nb"], "")
    assert cli("-p", NAME, "Hi") == (0, [], "")
    assert cli("-g", NAME) == (0, [f"{NAME}=Hi"], "")
    assert cli("-G", NAME) == (0, [f"{NAME}=Hello"], "")
    assert cli("--get-default", "hello::name")[0] == 1
    assert cli("--delete", NAME) == (0, [], "")
    names = ["hello::greeting", "hello::loud", "hello::name", "hello::pause", "mail::relay::host"]
    assert cli("--list-all") == (0, names, "")
    assert cli("-l", "hello") == (0, ["greeting", "loud", "name", "pause"], "")
    assert cli("--list-services") == (0, ["hello", "mail"], "")
    assert cli("-L", "--json") == (0, ['"hello"', '"mail"'], "")


# --- lists ----------------------------------------------------------------------------------------


def test_settings_are_listed_with_their_values(daemon: Near, cli: Cli) -> None:
    daemon.store.put(NAME, "a\x1b[31m", who="ann")
    code, lines, _ = cli("list")
    assert code == 0
    assert lines == [
        f"{NAME}=a\\x1b[31m", "hello::loud", "hello::name", "hello::pause=5", "mail::relay::host",
    ]  # fmt: skip
    code, lines, _ = cli("list", "-v", NAME)
    assert re.fullmatch(r"    priority 50  a\\x1b\[31m  \(\d{4}-.* UTC, ann\)", lines[1])
    assert lines[2] == "    default      Hello"
    found = json.loads(cli("--json", "list", NAME)[1][0])
    assert (found["value"], found["values"][0]["who"]) == ("a\x1b[31m", "ann")
    assert cli("list", "nothing") == (1, [], "'nothing': there are no settings of this name\n")


def test_options_say_what_settings_are(cli: Cli) -> None:
    code, lines, _ = cli("options", "hello")
    assert code == 0
    assert lines == [
        "hello::greeting (string, default Hello)",
        "    What is said to those who come",
        "hello::loud (boolean, required)",
        "hello::name (string)",
        "    What it is called",
        "hello::pause (integer(1...60), default 5)",
        "    How long it rests, in seconds",
    ]
    assert json.loads(cli("options", "--json", "hello::loud")[1][0])["required"] is True


def test_the_history_is_a_line_a_change(daemon: Near, cli: Cli) -> None:
    daemon.store.put(NAME, "Hi", who="ann")
    daemon.store.delete(NAME)
    code, lines, _ = cli("history", NAME)
    assert code == 0
    assert re.fullmatch(r"priority 50  \(deleted\)  \(.* UTC, -\)", lines[0])
    assert re.fullmatch(r"priority 50  Hi  \(.* UTC, ann\)", lines[1])
    assert len(cli("history", NAME, "--limit=1")[1]) == 1
    assert [json.loads(line)["value"] for line in cli("--json", "history", NAME)[1]] == [None, "Hi"]


# --- files ----------------------------------------------------------------------------------------


def test_an_export_is_imported_again(daemon: Near, cli: Cli, tmp_path: Path) -> None:
    cli("set", NAME, "a\nb")
    cli("set", "hello::pause", "7", "--priority=10")
    assert cli("export", "all.conf") == (0, [], "")
    assert stat.S_IMODE((tmp_path / "all.conf").stat().st_mode) == 0o600
    assert cli("export")[1] == (tmp_path / "all.conf").read_text().splitlines()
    assert cli("import", "all.conf") == (0, ["2 values read, 0 changed"], "")
    daemon.store.delete(NAME)
    text = (tmp_path / "all.conf").read_text().replace("|7", "|8")
    later = re.sub(r"=(\d+)\|", lambda one: f"={int(one[1]) + 10**12}|", text)
    (tmp_path / "all.conf").write_text(later)
    assert cli("import", "all.conf") == (0, ["2 values read, 2 changed"], "")
    assert (daemon.store.get(NAME), daemon.store.get("hello::pause")) == ("a\nb", "8")
    assert os.listdir(tmp_path).count("all.conf") == 1
    assert not list(tmp_path.glob(".settings.*"))


def test_an_import_tells_what_was_refused(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = "hello::name::50=1700000000000000000|x\n"
    text = f"{good}no::such::50=1700000000000000000|x\nhello::pause::1=1700000000000000000|x\n"
    (tmp_path / "some.conf").write_text(text)
    code, lines, said = cli("import", "some.conf")
    assert (code, lines) == (1, [])
    assert said.startswith("2 of 3 values were refused, first: put named setting")
    code, lines, _ = cli("--json", "import", "some.conf")
    assert json.loads(lines[0]) == {"read": 3, "changed": 0, "refused": 2}
    (tmp_path / "some.conf").write_text(f"{good}nonsense\n")
    code, _, said = cli("import", "some.conf")
    assert (code, said.startswith("some.conf:2: ")) == (1, True)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(good.encode())))
    assert cli("import", "-") == (0, ["1 values read, 0 changed"], "")


@pytest.mark.parametrize("words", [["import", "no/file"], ["export", "no/file"], ["export", "."]])
def test_files_that_cannot_be_used_are_named(cli: Cli, words: list[str]) -> None:
    code, _, said = cli(*words)
    assert code == 2
    assert said.startswith(f"{words[1]}: ")


def test_an_export_goes_to_what_is_no_file_as_well(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert cli("export", "pipe") == (0, [], "")
    assert os.read(reader, 1000).startswith(b"# settings")
    os.close(reader)


# --- changes --------------------------------------------------------------------------------------


def test_a_watch_goes_on_after_a_loss(
    daemon: Near, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    watching = gevent.spawn(cli, "watch", NAME, "hello::name")
    until(lambda: len(daemon.listeners) == 2)
    daemon.store.put(NAME, "Hi")
    until(lambda: daemon.listeners.told == 1)
    daemon.go_away()
    daemon.store.put("hello::name", "bob")
    daemon.listeners.forget_closed()
    daemon.serve(daemon.address)
    until(lambda: len(daemon.listeners) == 2)
    daemon.store.delete("hello::name")
    printed = ""

    def shown() -> bool:
        nonlocal printed
        printed += capsys.readouterr().out
        return printed.count("\n") == 5

    until(shown)
    watching.kill()
    assert printed.splitlines() == [
        f"{NAME}=Hello", "hello::name", f"{NAME}=Hi", "hello::name=bob", "hello::name",
    ]  # fmt: skip


def test_watch_if_up_ends_with_the_daemon(daemon: Near, cli: Cli) -> None:
    watching = gevent.spawn(cli, "--json", "--watch-if-up", NAME)
    until(lambda: len(daemon.listeners) == 1)
    daemon.go_away()
    code, lines, said = watching.get(timeout=PATIENCE)
    assert code == 1
    assert json.loads(lines[0]) == {"name": NAME, "value": "Hello", "default": True}
    assert said.count("\n") == 1


def test_the_names_of_a_cpp_daemon_are_listed_with_their_values(bare: Cli) -> None:
    with scripted_peer() as peer:
        listing = gevent.spawn(bare, "--address", peer.address, "list", "testsvc")
        for command, answer in (
            ("LIST", "FLUID_SETTINGS_OPTIONS options=other::x,testsvc::port"),
            ("DESCRIBE", None),
            ("LIST", "FLUID_SETTINGS_OPTIONS options=other::x,testsvc::port"),
            ("GET", "FLUID_SETTINGS_VALUE name=testsvc::port;value=123"),
        ):
            peer.expect(f"FLUID_SETTINGS_{command}")
            peer.send(answer or "UNKNOWN command=FLUID_SETTINGS_DESCRIBE")
        assert listing.get(timeout=PATIENCE) == (0, ["testsvc::port=123"], "")


# --- usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "expected one of get, set, delete, list"),
        (["gte", "x"], r"command 'gte': expected one of .*; did you mean 'get'\?"),
        (["get"], "expected get NAME"),
        (["set", "x"], "expected set NAME VALUE"),
        (["list", "a", "b"], r"expected list \[NAMESPACE\]"),
        (["get", "a::b", "--get", "a::b"], "get with --get: expected one of them"),
        (["--get", "a::b", "--list-all"], "--get and --list-all: expected one of them"),
        (["get", "a::b", "--priority=100"], "priority 100: 0 to 99"),
        (["get", "a::b", "--priority=x"], "priority 'x': a number from 0 to 99"),
        (["get", "a::b", "--address=nonsense://x"], "nonsense"),
        (["history", "a::b", "--limit=0"], "a number from 1 on"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(bare: Cli, words: list[str], sentence: str) -> None:
    code, lines, said = bare(*words)
    assert (code, lines, said.count("\n")) == (2, [], 1)
    assert re.search(sentence, said), said


def test_without_a_daemon_the_exit_code_is_1(bare: Cli) -> None:
    with scripted_peer() as peer:
        address = peer.address
    told = f"no fluid-settings listens at {address}: Connection refused\n"
    assert bare("--address", address, "get", NAME) == (1, [], told)
    code, _, said = bare("--communicator-listen=unix:no.sock", "get", NAME)
    assert (code, said.count("\n")) == (1, 1)


def test_a_closed_pipe_ends_it_quietly(daemon: Near, tmp_path: Path) -> None:
    command = words_of("fluid-settings-cli", "--address", daemon.address, "list")
    process = gevent.subprocess.Popen(
        ["sh", "-c", '"$@" | true; exit 0', "sh", *command],
        cwd=tmp_path, env=variables_of(tmp_path), stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.communicate(timeout=PATIENCE)[1] == b""


def test_a_get_takes_less_than_half_a_second_of_the_processor(tmp_path: Path) -> None:
    # Nobody is there: that makes no difference to what it takes to begin and to end.
    seconds = [
        cpu_seconds("fluid-settings-cli", "--address=unix:no.sock", "get", NAME, folder=tmp_path)
        for _ in range(3)
    ]
    assert min(seconds) < 0.5


def test_values_go_to_a_pipe_as_they_are(daemon: Near, tmp_path: Path) -> None:
    daemon.store.put("hello::name", "a\x1b[31m\nb")
    words = words_of("fluid-settings-cli", "--address", daemon.address, "get", "hello::name")
    settings: dict[str, Any] = {"cwd": tmp_path, "env": variables_of(tmp_path)}
    shown = gevent.subprocess.check_output(words, **settings)
    assert shown == b"a\x1b[31m\nb\n"
