"""Message definitions: the files, the built-in table, the checks, and what is refused."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevent import definitions as module
from edgevent.definitions import (
    MAX_CACHED,
    MAX_FILE_BYTES,
    Definition,
    Definitions,
    ParameterRule,
    load_definition,
    parse_definition,
    read_ini,
)
from edgevent.errors import DefinitionError

FULL = """\
# what a client sends
description = a greeting
; another comment

[user-name]
description = who \\
    greets
type = string
flags = required

[count]
type = integer
flags = optional

[note]
description = free

[old]
flags = forbidden

[nothing]
"""


def rules(text: str) -> list[ParameterRule]:
    return list(parse_definition(text, "HELLO", "HELLO.conf").rules)


def test_a_whole_file() -> None:
    definition = parse_definition(FULL, "HELLO", "HELLO.conf")
    assert definition.command == "HELLO"
    assert definition.rules == (
        ParameterRule("user_name", "string", True, False, False, "who greets"),
        ParameterRule("count", "integer", False, False),
        ParameterRule("note", "string", True, True, False, "free"),
        ParameterRule("old", "string", False, False, True),
    )


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"user_name": "x", "note": ""}, None),
        ({"user_name": "x", "note": "", "count": "5", "further": ""}, None),
        ({"note": ""}, "parameter user_name of HELLO is missing"),
        ({"user_name": "", "note": ""}, "parameter user_name of HELLO is empty"),
        ({"user_name": "x"}, "parameter note of HELLO is missing"),
        ({"user_name": "x", "note": "", "count": ""}, "parameter count of HELLO is empty"),
        (
            {"user_name": "x", "note": "", "count": "x"},
            "parameter count of HELLO is no integer of 64 bits",
        ),
        ({"user_name": "x", "note": "", "old": ""}, "parameter old of HELLO is forbidden"),
    ],
)
def test_messages_are_checked(parameters: dict[str, str], why: str | None) -> None:
    assert parse_definition(FULL, "HELLO", "HELLO.conf").check(parameters) == why


@pytest.mark.parametrize(
    ("flags", "required", "may_be_empty", "forbidden"),
    [
        ("required", True, False, False),
        ("optional", False, False, False),
        ("defined", False, False, False),
        ("allowed", False, False, False),
        ("empty", False, True, False),
        (" required , empty,", True, True, False),
        ("forbidden", False, False, True),
        ("", False, False, False),
    ],
)
def test_flags(flags: str, required: bool, may_be_empty: bool, forbidden: bool) -> None:
    (rule,) = rules(f"[x]\nflags={flags}\n")
    assert (rule.required, rule.may_be_empty, rule.forbidden) == (
        required,
        may_be_empty,
        forbidden,
    )


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("string", ["x", "\0"], []),
        ("default", ["x"], []),
        (
            "integer",
            ["0", "-1", "+1", "007", "0" * 5000, "9223372036854775807", "-9223372036854775808"],
            [
                *("x", " 1", "1 ", "1\n", "1.0", "0x1", "\u0661", "-", "1_0"),
                *("9223372036854775808", "-9223372036854775809", "1" * 5000),
            ],
        ),
        (
            "address",
            ["1.2.3.4:5", "[::1]:5", "1.2.3.4", "localhost:4040"],
            ["1.2.3.4:x", "::1", "unix:x", "unix:/x", "tcp://1.2.3.4:5", "x y", "fd:1"],
        ),
        ("timespec", ["5", "-5.000000001s"], ["x", "5m", "nan"]),
    ],
)
def test_types(kind: str, right: list[str], wrong: list[str]) -> None:
    (rule,) = rules(f"[x]\ntype = {kind}\n")
    assert rule.type == ("string" if kind == "default" else kind)
    assert [rule.check(value) for value in right] == [None] * len(right)
    assert [value for value in wrong if rule.check(value) is None] == []
    assert rule.check("") is None


def test_a_forbidden_parameter_need_not_be_there() -> None:
    rule = ParameterRule("x", required=True, forbidden=True)
    assert rule.check(None) is None
    assert rule.check("") == "is forbidden"


def test_an_unknown_key_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "edgevent.definitions"):
        (rule,) = rules("version = 1\n[timestamp]\nflag = required\n")
    assert (rule.required, rule.may_be_empty) == (True, True)
    assert [record.getMessage() for record in caplog.records] == [
        "HELLO.conf:1: before the first section: key 'version' is unknown and ignored",
        "HELLO.conf:3: section [timestamp]: key 'flag' is unknown and ignored; did you mean flags?",
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "[x]\ntype = intger\n",
            "HELLO.conf:2: section [x]: type 'intger': expected one of string, default, "
            "integer, address, timespec; did you mean integer?",
        ),
        (
            "[x]\n\nflags = required, requird\n",
            "HELLO.conf:3: section [x]: flags 'requird': expected one of required, "
            "optional, defined, allowed, empty, forbidden; did you mean required?",
        ),
        (
            "[x]\nflags = 12\n",
            "HELLO.conf:2: section [x]: flags '12': expected one of required, optional, "
            "defined, allowed, empty, forbidden",
        ),
        ("[1x]\ntype=string", "HELLO.conf:2: section '1x': expected a name"),
        ("[x", "HELLO.conf:1: '[x': expected [section]"),
        ("[ ]", "HELLO.conf:1: '[ ]': expected [section]"),
        ("[x]\ntype", "HELLO.conf:2: 'type': expected key = value"),
        ("= x", "HELLO.conf:1: '= x': expected key = value"),
    ],
)
def test_files_refused(text: str, error: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        rules(text)
    assert str(raised.value) == error


def test_a_long_line_is_cut_in_the_error() -> None:
    with pytest.raises(DefinitionError) as raised:
        rules("x" * 10_000)
    assert len(str(raised.value)) < 200


def test_lines() -> None:
    text = 'a=1\r\n b = 2 # no comment\n[s-1]\nc = "x" \\\n\\\n y\nc=3\nd=\\'
    assert list(read_ini(text, "f")) == [
        ("f:1", "", "a", "1"),
        ("f:2", "", "b", "2 # no comment"),
        ("f:4", "s-1", "c", '"x" y'),
        ("f:7", "s-1", "c", "3"),
        ("f:8", "s-1", "d", ""),
    ]


def test_a_section_in_two_parts_is_one_and_later_keys_win() -> None:
    (rule,) = rules("[a_b]\ntype=integer\nflags=required\n[a-b]\nflags=optional\n")
    assert rule == ParameterRule("a_b", "integer", False, False)


def test_the_first_folder_wins_and_files_are_read_once(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    (first / "ONE.conf").write_text("[a]\ntype=string\n")
    (second / "ONE.conf").write_text("[b]\ntype=string\n")
    (second / "TWO.conf").write_text("\ufeff[c]\ntype=string\n", encoding="utf-8")
    found = Definitions([tmp_path / "missing", first, second])
    one = found.get("ONE")
    assert one == Definition("ONE", (ParameterRule("a"),))
    assert found.get("TWO") == Definition("TWO", (ParameterRule("c"),))
    (first / "ONE.conf").unlink()
    assert found.get("ONE") is one
    assert repr(found).endswith("cached=2>")


def test_an_unknown_command_is_remembered(tmp_path: Path) -> None:
    found = Definitions([tmp_path])
    assert found.get("LATER") is None
    (tmp_path / "LATER.conf").write_text("[a]\ntype=string\n")
    assert found.get("LATER") is None


def test_a_text_is_a_list_of_folders(tmp_path: Path) -> None:
    found = Definitions(f"/missing:{tmp_path}:")
    assert found.folders == ("/missing", str(tmp_path))


def test_the_cache_is_bounded() -> None:
    found = Definitions()
    for number in range(MAX_CACHED + 10):
        assert found.get(f"X{number}") is None
    assert repr(found).endswith(f"cached={MAX_CACHED}>")
    assert found.get("ALIVE") is not None


@pytest.mark.parametrize(
    "command",
    ["", "../X", "A/B", "A.B", "a", "1A", "\u00c4", "A\n", "A\0", "A" * 251, "A" * 5000],
)
def test_other_names_never_open_a_file(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(module, "_read", opened.append)
    found = Definitions(["/x"])
    assert found.get(command) is None
    assert opened == []
    assert found.get("A" * 250) is None
    assert opened == ["/x/" + "A" * 250 + ".conf"]
    assert repr(found).endswith("cached=1>")


@pytest.mark.parametrize(
    ("command", "parameters", "why"),
    [
        ("ABSOLUTELY", {"reply_timestamp": "5.000000001"}, None),
        ("ABSOLUTELY", {"serial": "1"}, "parameter reply_timestamp of ABSOLUTELY is missing"),
        ("ABSOLUTELY", {"reply_timestamp": ""}, "parameter reply_timestamp of ABSOLUTELY is empty"),
        ("ALIVE", {}, None),
        ("ALIVE", {"serial": "x", "timestamp": "5"}, None),
        ("ALIVE", {"serial": ""}, "parameter serial of ALIVE is empty"),
        (
            "ALIVE",
            {"timestamp": "x"},
            "parameter timestamp of ALIVE is no time: expected seconds[.fraction]",
        ),
        ("COMMANDS", {"list": "A,B"}, None),
        ("COMMANDS", {}, "parameter list of COMMANDS is missing"),
        ("INVALID", {}, None),
        ("UNKNOWN", {"command": "X", "message": "y"}, None),
        ("READY", {}, None),
        ("READY", {"my_address": "[::1]:4040"}, None),
        (
            "READY",
            {"my_address": "x y"},
            "parameter my_address of READY is no address: expected ip:port",
        ),
        ("SERVICE_UNAVAILABLE", {"destination_service": "", "unsent_command": ""}, None),
        (
            "SERVICE_UNAVAILABLE",
            {"destination_service": "x"},
            "parameter unsent_command of SERVICE_UNAVAILABLE is missing",
        ),
        *((command, {}, None) for command in ("HELP", "LEAK", "LOG_ROTATE", "QUITTING")),
        *((command, {"x": ""}, None) for command in ("RESTART", "STOP")),
    ],
)
def test_the_default_commands(command: str, parameters: dict[str, str], why: str | None) -> None:
    definition = Definitions().get(command)
    assert definition is not None
    assert definition.check(parameters) == why


def test_the_default_commands_can_be_left_out_or_replaced(tmp_path: Path) -> None:
    assert Definitions(builtin=False).get("ALIVE") is None
    (tmp_path / "ALIVE.conf").write_text("")
    assert Definitions([tmp_path]).get("ALIVE") == Definition("ALIVE")


def test_load_definition(tmp_path: Path) -> None:
    path = tmp_path / "HELLO.conf"
    path.write_text("[data]\nflags = optional\n")
    assert load_definition(path) == Definition(
        "HELLO", (ParameterRule("data", required=False, may_be_empty=False),)
    )


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("hello.conf", b"", "expected a file named <COMMAND>.conf"),
        ("HELLO.ini", b"", "expected a file named <COMMAND>.conf"),
        ("MISSING.conf", None, "there is no such file"),
        ("LATIN.conf", b"\xe9", "expected UTF-8 text"),
        ("LARGE.conf", b"#" * (MAX_FILE_BYTES + 1), "expected 65536 bytes at most"),
    ],
)
def test_load_definition_refuses(tmp_path: Path, name: str, data: bytes | None, error: str) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DefinitionError) as raised:
        load_definition(path)
    assert str(raised.value) == f"{path}: {error}"


def test_the_largest_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "LARGE.conf"
    path.write_bytes(b"#" * MAX_FILE_BYTES)
    assert load_definition(path).rules == ()


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "PIPE.conf")
    with pytest.raises(DefinitionError, match=r"PIPE\.conf: expected a regular file"):
        load_definition(tmp_path / "PIPE.conf")
    (tmp_path / "FOLDER.conf").mkdir()
    with pytest.raises(DefinitionError, match=r"FOLDER\.conf: Is a directory"):
        load_definition(tmp_path / "FOLDER.conf")
    (tmp_path / "LOOP.conf").symlink_to("LOOP.conf")
    with pytest.raises(DefinitionError, match=r"LOOP\.conf: Too many levels"):
        load_definition(tmp_path / "LOOP.conf")


def test_a_broken_file_is_reported_at_each_call(tmp_path: Path) -> None:
    path = tmp_path / "X.conf"
    path.write_text("[a]\ntype=x\n")
    found = Definitions([tmp_path])
    for _ in range(2):
        with pytest.raises(DefinitionError, match="type 'x'"):
            found.get("X")
    path.write_text("[a]\ntype=string\n")
    assert found.get("X") == Definition("X", (ParameterRule("a"),))


_names = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
_rules = st.builds(
    ParameterRule,
    name=_names,
    type=st.sampled_from(("string", "integer", "address", "timespec")),
    required=st.booleans(),
    may_be_empty=st.booleans(),
    forbidden=st.booleans(),
    description=st.from_regex(r"([a-z=#;\"]([a-z ]*[a-z])?)?", fullmatch=True),
)


@given(st.lists(_rules, unique_by=lambda rule: rule.name))
def test_round_trip(expected: list[ParameterRule]) -> None:
    lines = []
    for rule in expected:
        names = ("required", "may_be_empty", "forbidden")
        flags = [name.removeprefix("may_be_") for name in names if getattr(rule, name)]
        lines += [f"[{rule.name.replace('_', '-')}]", f"type = {rule.type}"]
        lines += [f"flags = {','.join(flags)}", f"description={rule.description}"]
    assert rules("\n".join(lines)) == expected


@given(st.text() | st.text("[]=\\\n#; atypefgs"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        definition = parse_definition(text, "X", "X.conf")
    except DefinitionError:
        return
    assert definition.command == "X"
