"""Severities and their levels, and what a record looks like on its one line."""

from __future__ import annotations

import logging
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevent.errors import OptionError
from edgevent.log_levels import (
    ALIASES,
    LEVELS,
    SEVERITIES,
    name_level,
    read_level,
    severity_of,
    show_level,
    syslog_priority,
)
from edgevent.log_text import TIMELESS_FORMAT, LineFormatter, escape, hideable, mask


def record_of(text: object, *arguments: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("edgevent", level, "/a.py", 7, text, arguments, None)


@pytest.mark.parametrize("name", SEVERITIES)
def test_a_severity_has_one_level_and_back(name: str) -> None:
    level = read_level(name)
    assert level == LEVELS[name] == read_level(str(SEVERITIES[name]))
    assert (severity_of(level), name_level(level)) == (SEVERITIES[name], name)
    assert show_level(level) == name


def test_levels_and_syslog_priorities_have_the_order_of_severities() -> None:
    levels = [read_level(str(number)) for number in range(256)]
    assert levels == sorted(levels)
    assert [read_level(show_level(level)) for level in levels] == levels
    priorities = [syslog_priority(level) for level in levels]
    assert priorities == sorted(priorities, reverse=True)
    assert set(priorities) == set(range(8))


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("DEBUG", logging.DEBUG),
        ("info", logging.INFO),
        ("Recoverable_Error", 35),
        (" warn ", logging.WARNING),
        ("95", 21),
        ("254", 92),
        *((alias, LEVELS[name]) for alias, name in ALIASES.items()),
    ],
)
def test_other_spellings_of_a_severity(text: str, level: int) -> None:
    assert read_level(text) == level


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("wraning", "severity 'wraning': .*; did you mean 'warning'?"),
        ("256", "severity '256': expected a name .*or a number from 0 to 255$"),
        ("-1", "a number from 0 to 255"),
        ("٣", "a number from 0 to 255"),
        ("", "severity ''"),
    ],
)
def test_what_is_no_severity(text: str, sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        read_level(text)


@pytest.mark.parametrize(("level", "name"), [(0, "all"), (21, "information"), (1000, "off")])
def test_a_level_of_another_program_has_the_name_below_it(level: int, name: str) -> None:
    assert name_level(level) == name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sent A secret_code=hunter2;b=c", "sent A secret_code=***;b=c"),
        ('sent A my_password="hunter2;b=\\"c";d=e', "sent A my_password=***;d=e"),
        ('sent A password="hunter2 cut o', "sent A password=***"),
        ("secret=hunter2, and more\nnext", "secret=***\nnext"),
        ("ed-signal --secret-code hunter2 STOP", "ed-signal --secret-code *** STOP"),
        ("['--secret-code', 'hunter 2', 'STOP']", "['--secret-code', ***, 'STOP']"),
        ("--api-password=hunter2;", "--api-password=***;"),
        ('{"PassWord": "hunter2", "b": 1}', '{"PassWord": ***, "b": 1}'),
        ("{'secret': 15, 'b': 1}", "{'secret': ***, 'b': 1}"),
        ("f(secret_code='hunter2', b=1)", "f(secret_code=***, b=1)"),
        ("passphrase = hunter2", "passphrase = ***"),
        ("secret='hunter2;\\", "secret=***"),
        # what is none
        ("secret_code_file=/etc/code;b=c", "secret_code_file=/etc/code;b=c"),
        ("--secret-code-file /etc/code", "--secret-code-file /etc/code"),
        ("the secret code is wrong: try again", "the secret code is wrong: try again"),
    ],
)
def test_a_secret_is_masked(text: str, shown: str) -> None:
    assert mask(text) == shown


def test_known_secrets_are_masked_wherever_they_stand() -> None:
    values = hideable(["abcd", "abcdef", "abcd", "abc"])
    assert values == ["abcdef", "abcd"]
    assert mask("xabcdefx abcd abc", values) == "x***x *** abc"


@pytest.mark.parametrize(
    "text",
    ["secret" * 10_000, "--secret" * 10_000, 'secret="' * 10_000, "secret='" + "\\" * 65_535],
)
def test_masking_takes_no_square_of_the_time(text: str) -> None:
    begin = time.process_time()
    mask(text)
    assert time.process_time() - begin < 2.0


@given(st.text(), st.text(alphabet="\n\r\t\x00\x1b\x7f\x85\u2028\u202e\ud800 a\\"))
def test_every_text_is_one_printable_line(text: str, odd: str) -> None:
    line = escape(text + odd)
    assert line.isprintable()
    line.encode()
    if text.isprintable():
        assert line.startswith(text)


def test_escapes_are_those_of_python() -> None:
    assert escape("a\tb\n\x1b[2Jé\u202e") == "a\\tb\\n\\x1b[2Jé\\u202e"
    assert escape("a\tb\n\x1b", keep="\n\t") == "a\tb\n\\x1b"


def test_a_traceback_stands_on_the_line_of_its_record() -> None:
    try:
        raise ValueError("first\nsecond password=hunter2")
    except ValueError:
        record = record_of("%s failed", "it")
        record.exc_info = sys.exc_info()
    record.stack_info = "Stack:\n  here"
    line = LineFormatter().format(record)
    assert line.isprintable()
    assert "it failed\\nTraceback (most recent call last):\\n" in line
    assert line.endswith("\\nsecond password=***\\nStack:\\n  here")
    record.exc_info, record.exc_text = None, "given\nby another"
    assert "it failed\\ngiven\\nby another\\nStack" in LineFormatter().format(record)


def test_a_record_that_cannot_be_formatted_is_shown_all_the_same() -> None:
    line = LineFormatter(TIMELESS_FORMAT).format(record_of("%d things", "no"))
    assert line.startswith("information edgevent: '%d things' of /a.py:7 cannot be formatted: ")


def test_the_time_is_local_with_its_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    record = record_of("x", level=35)
    record.created = 1_700_000_000.9996
    monkeypatch.setenv("TZ", "Test-05:30")
    time.tzset()
    try:
        line = LineFormatter().format(record)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert line == "2023-11-15T03:43:20.999+05:30 recoverable-error edgevent: x"


def test_a_priority_stands_before_the_line_for_the_journal() -> None:
    formatter = LineFormatter(TIMELESS_FORMAT, priorities=True)
    assert formatter.format(record_of("x")) == "<6>information edgevent: x"
