"""Names, values, validators and definition files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settings_ground import DEFINITIONS, defined

from edgevent import DefinitionError, Message, SettingError, UnknownSettingError
from edgevent.fluidsettings.definitions import SettingDefinitions, parse_definitions
from edgevent.fluidsettings.described import Described, read_description, write_description
from edgevent.fluidsettings.names import (
    MAX_AHEAD,
    MAX_VALUE_BYTES,
    OLDEST_TIMESTAMP,
    canonical,
    check_priority,
    check_timestamp,
    check_value,
    qualify,
)
from edgevent.fluidsettings.validators import parse_validator
from edgevent.fluidsettings.values import (
    Entry,
    read_entries,
    read_lines,
    write_entries,
    write_line,
)
from edgevent.limits import MAX_LINE_BYTES


def test_a_dash_and_an_underscore_are_the_same() -> None:
    assert canonical("my_service::time-out_x") == "my-service::time-out-x"
    assert qualify("time_out", "svc") == qualify("svc::time-out", "other") == "svc::time-out"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        "::x",
        "a::",
        "a::b::",
        "a:b",
        "../x",
        "a::../b",
        "a::b/c",
        "a::b\0",
        "a::\nb",
        "é::x",
    ],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="is no name of a setting"):
        canonical(name)


def test_limits_are_told() -> None:
    now = OLDEST_TIMESTAMP + 1
    with pytest.raises(SettingError, match="256 characters: at most 255"):
        canonical(f"a::{'x' * 253}")
    for priority in (-1, 100):
        with pytest.raises(SettingError, match=f"priority {priority}: 0 to 99"):
            check_priority(priority)
    with pytest.raises(SettingError, match="before 2022-07-21"):
        check_timestamp(OLDEST_TIMESTAMP - 1, now=now)
    with pytest.raises(SettingError, match="more than a day in the future"):
        check_timestamp(now + MAX_AHEAD + 1, now=now)
    assert check_timestamp(now + MAX_AHEAD, now=now) == now + MAX_AHEAD
    for value, why in (("x" * (MAX_VALUE_BYTES + 1), "16385"), ("\0", "NUL"), ("\udcff", "UTF-8")):
        with pytest.raises(SettingError, match=why):
            check_value(value)


GOOD = {
    "integer": ["0", "-5", "+7", str(2**63 - 1)],
    "integer(1...10,20)": ["1", "10", "20"],
    "integer(...5)": ["-100", "5"],
    "float(0.5...)": ["0.5", "1e3"],
    "double": ["1.25", "-.5"],
    "duration(1s...1h)": ["1s", "90", "1h", "500ms 1s"],
    "boolean": ["true", "OFF", "1"],
    "/[a-z]+/i": ["abc", "ABC"],
    'regex("/x.z/")': ["xyz"],
    "regex([0-9]{2})": ["42"],
    "email": ["a.b+c@example.com", "x@localhost"],
    "email(multiple)": ["a@b.c, d@e.f"],
    "keywords(red, green)": ["red", "green"],
    "address": ["10.0.0.1:80", "tcp://[::1]:80", "unix:/run/x"],
    "size(1k...1GiB)": ["1000", "64KiB", "1.5 MB"],
    "length(2...3)": ["ab", "äöü"],
}
BAD = {
    "integer": ["", "x", "1.0", "0x10", str(2**63), "1 "],
    "integer(1...10,20)": ["0", "11", "19"],
    "integer(...5)": ["6"],
    "float(0.5...)": ["0.4", "nan", "inf", "1e999"],
    "double": ["x"],
    "duration(1s...1h)": ["0.5s", "2h", "soon"],
    "boolean": ["maybe", ""],
    "/[a-z]+/i": ["a1", ""],
    'regex("/x.z/")': ["xz"],
    "regex([0-9]{2})": ["4", "421"],
    "email": ["a", "a@", "a@b@c", "a..b@c.d", "a@-b.c", "a b@c.d"],
    "email(multiple)": ["a@b.c, d"],
    "keywords(red, green)": ["blue", "Red", "red,green"],
    "address": ["http://x/", "10.0.0.1:99999"],
    "size(1k...1GiB)": ["999", "2GiB", "1x"],
    "length(2...3)": ["a", "abcd"],
}


@pytest.mark.parametrize("text", GOOD)
def test_a_validator_takes_what_it_is_for(text: str) -> None:
    validator = parse_validator(text)
    assert [value for value in GOOD[text] if validator.check(value) is not None] == []
    assert [value for value in BAD[text] if validator.check(value) is None] == []
    assert all("expected" in str(validator.check(value)) for value in BAD[text][:1])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("integr", "did you mean 'integer'"),
        ("!", "address, boolean"),
        ("integer(5...1)", "is no range"),
        ("integer(a)", "is no range"),
        ("boolean(x)", "it takes no 'x'"),
        ("email(x)", "it takes no 'x'"),
        ("keywords", "words in parentheses"),
        ("/x", "/expression/flags was expected"),
        ("/x/q", "flag 'q'"),
        ("/(/", "unterminated"),
    ],
)
def test_what_is_no_validator_is_told(text: str, sentence: str) -> None:
    with pytest.raises(DefinitionError, match=sentence):
        parse_validator(text)


def test_a_file_says_what_there_is() -> None:
    found = defined()
    assert sorted(found) == ["testsvc::name", "testsvc::port", "testsvc::time-out"]
    port = found["testsvc::port"]
    assert (port.type, port.default, port.required, port.help) == (
        "integer",
        "4040",
        True,
        "The port to listen on",
    )
    assert port.source == "definitions:3"
    assert found.find("testsvc::time_out") is found["testsvc::time-out"]
    name = found["testsvc::name"]
    assert (name.type, name.default, name.required) == ("string", None, False)
    with pytest.raises(UnknownSettingError, match=r'^no parameter named "nosuch::x"$'):
        found.find("nosuch::x")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a=1", "f:1: .namespace::name. was expected before 'a'"),
        ("[x]\nhelp=1", r"f:2: \[x\]: 'x' is no name"),
        ("[a::b]\nhepl=1", "f:2: .*did you mean 'help'"),
        ("[a::b]\nhelp=1\nhelp=2", "f:3: .*stands twice"),
        ("[a::b]\nvalidator=integr", "f:2: .*did you mean 'integer'"),
        ("[a::b]\nvalidator=integer\ndefault=x", "f:3: .*default 'x': an integer was expected"),
        ("[a::b]\nwhat", "f:2: .*expected key = value"),
        ("[a::b]\n[a::c]\nhelp=x", r"f:1: \[a::b\] has no key"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(DefinitionError, match=sentence):
        parse_definitions(text, "f")


def test_the_first_definition_of_a_name_counts(tmp_path: Path) -> None:
    for name, default in (("a.ini", "1"), ("b.ini", "2")):
        (tmp_path / name).write_text(f"[x::y]\ndefault={default}\n", encoding="utf-8")
    (tmp_path / "c.txt").write_text("no definition", encoding="utf-8")
    found = SettingDefinitions.load([tmp_path / "missing", tmp_path])
    assert found["x::y"].default == "1"
    assert len(found) == 1
    assert "1 settings" in repr(found)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_bytes(b"[x::y]\nhelp=\xff\n")
    with pytest.raises(DefinitionError, match="byte 12 is not UTF-8"):
        SettingDefinitions.load([tmp_path])
    (tmp_path / "a.ini").unlink()
    (tmp_path / "a.ini").mkdir()
    with pytest.raises(DefinitionError, match=r"a\.ini: it cannot be read"):
        SettingDefinitions.load([tmp_path])
    with pytest.raises(DefinitionError, match="definitions cannot be read"):
        SettingDefinitions.load([__file__])


# --- the text forms -------------------------------------------------------------------------------

_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
_ENTRIES = st.builds(
    Entry,
    st.just("a::b"),
    st.integers(0, 99),
    st.integers(OLDEST_TIMESTAMP, 2**62),
    _TEXTS,
    _TEXTS,
)


@given(st.lists(_ENTRIES | st.builds(Entry, st.just("a::b"), st.just(1), st.just(5), st.none())))
def test_entries_are_read_as_they_were_written(entries: list[Entry]) -> None:
    fields = write_entries(entries)
    if entries:
        assert read_entries("a::b", fields["values"], fields["who"]) == entries


@given(_ENTRIES)
def test_a_line_of_a_file_is_read_as_it_was_written(entry: Entry) -> None:
    line = write_line(entry)
    assert "\n" not in line
    (found,) = read_lines(f"# comment\n\n{line}\n", "file")
    assert (found.name, found.priority, found.timestamp, found.value) == (
        entry.name,
        entry.priority,
        entry.timestamp,
        entry.value,
    )


def test_a_file_of_the_cpp_daemon_is_read() -> None:
    text = "fluid_settings::fluid_settings_timeout::50=1700000000000000000|15s\n"
    assert list(read_lines(text, "f")) == [
        Entry("fluid-settings::fluid-settings-timeout", 50, 1700000000000000000, "15s", "import")
    ]


@pytest.mark.parametrize(
    "line",
    ["x", "a::b=1|2", "a::b::x=1|2", "a::b::100=1|2", "a::b::5=x|2", "a::b::5=1", r"a::b::5=1|\q"],
)
def test_a_line_that_is_none_is_told(line: str) -> None:
    with pytest.raises(SettingError, match=r"^f:1: "):
        list(read_lines(line, "f"))


@pytest.mark.parametrize(
    "values", ["", "1|2", "x|1|v", "1|x|v", "100|1|v", f"1|{2**62 + 1}|v", "1|1|\\q"]
)
def test_values_of_another_daemon_that_are_none_are_told(values: str) -> None:
    with pytest.raises(SettingError):
        read_entries("a::b", values)


def test_the_newest_entry_wins_and_of_two_alike_always_the_same_one() -> None:
    old, new = Entry("a::b", 1, 1, "z"), Entry("a::b", 1, 2, "a")
    deleted, other = Entry("a::b", 1, 2, None), Entry("a::b", 1, 2, "b")
    assert new.wins_over(old)
    assert not old.wins_over(new)
    assert new.wins_over(deleted)
    assert not deleted.wins_over(new)
    assert other.wins_over(new)
    assert not new.wins_over(new)
    assert deleted.wins_over(old)
    assert old.wins_over(None)
    assert len({one.digest() for one in (old, new, deleted, other)}) == 4


def test_the_text_of_the_ground_is_read() -> None:
    assert len(parse_definitions(DEFINITIONS)) == 3


def test_long_values_beside_a_long_default_are_left_out_of_a_description() -> None:
    text = "\n" * 1_000
    entries = tuple(Entry("a::b", priority, OLDEST_TIMESTAMP, text, "me") for priority in range(10))
    setting = Described("a::b", "", "help", "\n" * 16_000, False, entries)
    answer = write_description(Message("X"), setting)
    assert len(answer.to_line()) < MAX_LINE_BYTES
    found = read_description(answer)
    assert (found.cut, found.default) == (True, setting.default)
    assert [(one.priority, one.value) for one in found.entries] == [(p, None) for p in range(10)]
