"""Messages: building, reading, writing, and the errors of each."""

from __future__ import annotations

import copy
import decimal
import enum
import ipaddress
import math
import pickle
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from edgevent import wire
from edgevent.address import Address
from edgevent.errors import MessageError
from edgevent.limits import MAX_PARAMETERS
from edgevent.message import Message


class Name(str, enum.Enum):
    """Names that are members of an enumeration, as some programs keep them."""

    ADD = "ADD"
    first = "first"
    SECOND = "second"


class Hashed(str):
    """A text with a hash of its own."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7


class Shouting(str):
    """A text that looks different when it is formatted."""

    def __format__(self, spec: str) -> str:
        return "SHOUTED"

    __str__ = __repr__ = lambda self: "SHOUTED"


# --- building -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Message("HI"), "HI"),
        (Message("ADD", {"b": 40, "a": 2}), "ADD a=2;b=40"),
        (Message("HI", service="s"), "s/HI"),
        (Message("HI", server="h", service="s"), "h:s/HI"),
        (Message("HI", server="h"), "HI"),
        (Message("HI", server="*", service="."), "*:./HI"),
        (Message("HI", sent_from_server="h", sent_from_service="s"), "<h:s HI"),
        (Message("HI", sent_from_service="s"), "<:s HI"),
        (Message("HI", sent_from_server="h"), "<h: HI"),
        (
            Message("HI", {"v": ""}, server="a", service="b", sent_from_server="c"),
            "<c: a:b/HI v=",
        ),
        (Message("HI", {"v": "a\\b\nc\rd"}), r"HI v=a\\b\nc\rd"),
        (Message("HI", {"v": "a;b"}), 'HI v="a;b"'),
        (Message("HI", {"v": '"a"'}), r'HI v="\"a\""'),
        (Message("HI", {"v": 'a"b'}), 'HI v=a"b'),
        (Message("HI", {"v": "a "}), "HI v=a ;"),
        (Message("HI", {"v": "a ", "w": "b"}), "HI v=a ;w=b"),
        (Message("HI", {"v": "a\v"}), "HI v=a\v;"),
        (Message("HI", {"v": "a\u00a0"}), "HI v=a\u00a0"),
        (Message("HI", {"v": "a; "}), 'HI v="a; "'),
        (Message("HI", {"v": "a;\\"}), r'HI v="a;\\"'),
    ],
)
def test_a_message_is_written_as_text_and_read_back(message: Message, text: str) -> None:
    assert str(message) == text
    assert bytes(message) == text.encode()
    again = Message.parse(text)
    assert again.parameters == message.parameters
    assert str(again) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        ("", ""),
        (5, "5"),
        (-5, "-5"),
        (10**100, "1" + "0" * 100),
        (True, "true"),
        (False, "false"),
        (1.5, "1.5"),
        (0.1, "0.1"),
        (1e22, "1e+22"),
        (decimal.Decimal("1.50"), "1.50"),
        (decimal.Decimal("-0"), "-0"),
        (b"\x00\xff", "AP8="),
        (bytearray(b"ab"), "YWI="),
        (memoryview(b""), ""),
        (Address.parse("tcp://[::1]:3001"), "[::1]:3001"),
        (Address.parse("unix:/run/x"), "unix:/run/x"),
        (ipaddress.IPv4Address("127.0.0.1"), "127.0.0.1"),
        (ipaddress.IPv6Address("::1"), "::1"),
        (PurePosixPath("/a/b"), "/a/b"),
        (PurePosixPath("/é\udcff"), "/é\udcff"),
        (Path("x"), "x"),
        (Name.SECOND, "second"),
        (Shouting("quiet"), "quiet"),
        (enum.IntEnum("Level", ["LOW"]).LOW, "1"),
    ],
)
def test_a_value_becomes_text(value: object, text: str) -> None:
    assert Message("HI", {"v": value})["v"] == text
    assert Message("HI").with_parameters(v=value)["v"] == text
    assert Message("HI").reply("HO", {"v": value})["v"] == text


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"/x"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "is a NoneType and cannot be sent as text"),
        ([1], "is a list and cannot be sent as text"),
        ({}, "is a dict and cannot be sent as text"),
        (1j, "is a complex and cannot be sent as text"),
        (BytesPath(), "is a BytesPath and cannot be sent as text"),
        (math.nan, "is not finite and cannot be sent as text"),
        (-math.inf, "is not finite and cannot be sent as text"),
        (decimal.Decimal("NaN"), "is not finite and cannot be sent as text"),
        (decimal.Decimal("Infinity"), "is not finite and cannot be sent as text"),
        ("a\0b", "holds a NUL"),
        (PurePosixPath("a\0b"), "holds a NUL"),
        ("é\0", "holds a NUL"),
        ("\ud800", "holds a lone surrogate"),
        (chr(0xDC7F), "holds a lone surrogate"),
        (PurePosixPath("\udd00"), "holds a lone surrogate"),
    ],
)
def test_a_value_that_no_message_can_carry_is_refused(value: object, why: str) -> None:
    for build in (
        lambda: Message("HI", {"v": value}),
        lambda: Message("HI").with_parameters(v=value),
        lambda: Message("AWAY").reply("HI", {"v": value}),
    ):
        with pytest.raises(MessageError) as raised:
            build()
        assert str(raised.value).startswith(f"HI: parameter v {why}")
        assert (raised.value.command, raised.value.parameter) == ("HI", "v")


@pytest.mark.skipif(not hasattr(sys, "get_int_max_str_digits"), reason="an older Python")
def test_an_int_of_more_digits_than_python_writes_is_refused() -> None:
    with pytest.raises(MessageError, match=r"^HI: parameter v has too many digits to be written"):
        Message("HI", {"v": 10**5000})


@pytest.mark.parametrize("command", ["", "hi", "1A", "A B", "A-B", "A\n", "É", "a/B", "A:B", "{"])
def test_a_bad_command_is_refused(command: str) -> None:
    with pytest.raises(MessageError, match="is no command: upper-case letters"):
        Message(command)


@pytest.mark.parametrize("place", ["server", "service", "sent_from_server", "sent_from_service"])
@pytest.mark.parametrize("name", ["1a", "a b", "a-b", "a.b", "..", "**", "a/b", "é", "a\n", ":"])
def test_a_bad_name_of_a_place_is_refused(place: str, name: str) -> None:
    with pytest.raises(MessageError, match=f"HI: .* is no {place}: letters"):
        Message("HI", **{place: name})


@pytest.mark.parametrize("name", ["", "1a", "a b", "a-b", "é", "a\n", "a=", "a;b", "a\0"])
def test_a_bad_parameter_name_is_refused(name: str) -> None:
    with pytest.raises(
        MessageError, match=r"^HI: parameter '.*' has a bad name: letters"
    ) as raised:
        Message("HI", {name: "x"})
    assert (raised.value.command, raised.value.parameter) == ("HI", name)


@pytest.mark.parametrize("name", [1, None, b"a", ("a",)])
@pytest.mark.parametrize("value", ["x", None])
def test_a_parameter_name_that_is_no_text_is_refused(name: Any, value: object) -> None:
    with pytest.raises(MessageError, match=r"^HI: a parameter's name is a .*, not a str"):
        Message("HI", {name: value})


def test_a_place_or_command_that_is_no_text_is_refused() -> None:
    wrong: Any = 5
    with pytest.raises(MessageError, match="must be a str, not int"):
        Message(wrong)
    with pytest.raises(MessageError, match="must be a str, not int"):
        Message("HI", service=wrong)


def test_names_from_an_enumeration_are_written_as_their_texts(empty_tables: None) -> None:
    message = Message(Name.ADD, {Name.first: 1, Name.SECOND: "a;b"}, service=Name.first)
    assert str(message) == 'first/ADD first=1;second="a;b"'
    assert str(Message("ADD", {"first": 1, "second": 2}, service="first")).endswith("second=2")
    assert str(Message(Name.ADD, {Name.first: "a;b"})) == 'ADD first="a;b"'
    assert str(message.with_parameters({Name.SECOND: 2})) == "first/ADD first=1;second=2"
    assert str(message.without_parameters("second")) == "first/ADD first=1"
    assert str(Message("ADD", {Hashed("second"): 2, Hashed("first"): 1})) == "ADD first=1;second=2"
    assert str(Message("ADD", {Hashed("first"): 1, Hashed("second"): 2})) == "ADD first=1;second=2"


def test_the_number_of_parameters_has_a_limit() -> None:
    most = {f"p{number}": "" for number in range(MAX_PARAMETERS)}
    full = Message("HI", most)
    assert len(full.parameters) == MAX_PARAMETERS
    for build in (
        lambda: Message("HI", {**most, "more": ""}),
        lambda: full.with_parameters(more=""),
        lambda: Message("AWAY").reply("HI", {**most, "more": ""}),
        lambda: Message.parse("HI " + ";".join([f"{name}=" for name in (*most, "more")])),
        lambda: Message.parse('HI q="";' + ";".join([f"{name}=" for name in most])),
    ):
        with pytest.raises(MessageError, match="HI: 257 parameters are more than the limit of 256"):
            build()


def test_an_error_about_a_long_command_is_short() -> None:
    with pytest.raises(MessageError) as raised:
        Message("A" * 60_000, {"v": None})
    assert len(str(raised.value)) < 500
    assert "parameter v is a NoneType" in str(raised.value)
    with pytest.raises(MessageError) as raised:
        Message("a" * 60_000)
    assert len(str(raised.value)) < 500


# --- parsing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"<h:s a:b/HI v=1;w=2",
        bytearray(b"<h:s a:b/HI v=1;w=2\n"),
        "<h:s a:b/HI v=1;w=2",
        " \t<h:s a:b/HI w=2;v=1;\r\n",
    ],
)
def test_a_line_may_be_bytes_or_text(line: bytes | bytearray | str) -> None:
    message = Message.parse(line)
    assert message.command == "HI"
    assert (message.server, message.service) == ("a", "b")
    assert (message.sent_from_server, message.sent_from_service) == ("h", "s")
    assert message.parameters == {"v": "1", "w": "2"}


@pytest.mark.parametrize("blanks", [" ", "\t", "\n", "\r", "\v", "\f", " \t\n\r\v\f"])
def test_ascii_blanks_around_a_line_are_trimmed(blanks: str) -> None:
    line = f"{blanks}HI v=1{blanks}"
    assert Message.parse(line)["v"] == "1"
    assert Message.parse(line.encode())["v"] == "1"


@pytest.mark.parametrize("blank", ["\u00a0", "\u2003", "\u0085", "\x1c", "\ufeff"])
def test_other_blanks_are_not(blank: str) -> None:
    line = f"HI v={blank}"
    assert Message.parse(line)["v"] == blank
    assert Message.parse(line.encode())["v"] == blank
    with pytest.raises(MessageError):
        Message.parse(f"{blank}HI")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "is no command"),
        (" \n", "is no command"),
        ("HI\0", "holds a NUL"),
        ("HI v=\0", "holds a NUL"),
        ('HI v="\0"', "holds a NUL"),
        ("HI v=\ud800", "the line holds a lone surrogate"),
        ("HI v", "HI: 'name=value' was expected where 'v' stands"),
        ("HI v=1;w", "HI: 'name=value' was expected where 'w' stands"),
        ("HI v=1;;w=2", "HI: 'name=value' was expected where '' stands"),
        ("HI ;", "HI: 'name=value' was expected where '' stands"),
        ("HI v=\\\\;w", "HI: 'name=value' was expected where 'w' stands"),
        ("HI v=\\\\;;w=1", "HI: 'name=value' was expected where ';w' stands"),
        ("HI  v=1", "parameter ' v' has a bad name"),
        ("HI v=1; w=2", "parameter ' w' has a bad name"),
        ('HI v="a', "HI: parameter v has no closing quote"),
        ('HI v="a\\"', "HI: parameter v has no closing quote"),
        ('HI v="a\\\\\\";w=1', "HI: parameter v has no closing quote"),
        ('HI v="a"b', "HI: parameter v has text after its closing quote"),
        ('HI v="a" ;w=1', "HI: parameter v has text after its closing quote"),
        ("<h HI", "the sender '<h' is not of the form '<server:service '"),
        ("<h:s:t HI", "the sender '<h:s:t' is not of the form"),
        ("<h:s", "is no command"),
        ("<h:s  HI", "is no command"),
        ("<h :s HI", "the sender '<h' is not of the form"),
        ("a/b/HI", "'a/b/HI' is not of the form '[[server:]service/]COMMAND'"),
        ("a:b:c/HI", "'a:b:c/HI' is not of the form"),
        ("/HI", "'/HI' is not of the form"),
        (":HI", "':HI' is not of the form"),
        ("s/", "is no command"),
    ],
)
def test_a_malformed_line_is_refused_with_a_reason(line: str, why: str) -> None:
    with pytest.raises(MessageError) as raised:
        Message.parse(line)
    assert why in str(raised.value)


def test_an_error_shows_the_beginning_of_a_name_only() -> None:
    with pytest.raises(MessageError) as raised:
        Message.parse("HI " + "x\x1b" * 10_000 + "=1")
    assert "x\\x1bx" in str(raised.value)
    assert len(str(raised.value)) < 300
    assert len(raised.value.parameter) == 64


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (r"HI v=a\\nb", r"a\nb"),
        (r"HI v=a\nb\rc", "a\nb\rc"),
        (r"HI v=a\tb\"c\x", r"a\tb\"c\x"),
        ("HI v=a\\", "a\\"),
        ("HI v=a\\;", "a\\"),
        (r'HI v="a;\"b\\"', 'a;"b\\'),
        (r'HI v="a\tb\nc"', "a\\tb\nc"),
        ('HI v=""', ""),
        ('HI v="";', ""),
        ('HI v=a"b"', 'a"b"'),
        ("HI v=a=b", "a=b"),
        ("HI v=1;v=2", "2"),
        ("HI v=;", ""),
        ("HI w=1;v= x", " x"),
        ("HI w=1;v=x ;", "x "),
    ],
)
def test_a_value_is_decoded(line: str, text: str) -> None:
    assert Message.parse(line)["v"] == text
    assert Message.parse(line.encode())["v"] == text


def test_bytes_that_are_no_utf8_survive() -> None:
    line = b"HI a=\xff\xfe;b=\xc3\xa9\x80"
    message = Message.parse(line)
    assert message.parameters == {"a": "\udcff\udcfe", "b": "é\udc80"}
    assert bytes(message) == line
    assert bytes(Message("HI", dict(message.parameters))) == line
    assert Message.parse(str(message)) == message


def test_surrogates_that_stand_for_a_character_together_are_that_character() -> None:
    text = "\udcc3\udca9"
    assert Message("HI", {"v": text})["v"] == "é"
    assert Message("HI").with_parameters(v=text)["v"] == "é"
    assert Message.parse(f"HI v={text}")["v"] == "é"


# --- parameters read later ------------------------------------------------------------------------

USES = 20  # readings of one line; from the ninth on, one expression checks and cuts it

LINES = [
    "HI v=1",
    "HI v=1;",
    "HI v=",
    "HI v=1;w=2",
    "HI w=2;v=1;",
    "HI v=;w=;x=",
    "HI v=a=b;w= c ;x==",
    "<h:s a:b/HI v=1;w=é;x=\u00a0",
    "HI v=\udcff;w=a\nb",
]


def read_often(line: str, **limits: int) -> Message:
    for _ in range(USES):
        message = Message.parse(line, **limits)
    return message


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_comes_often_is_read_as_at_first(empty_tables: None, line: str) -> None:
    first = Message.parse(line)
    assert wire.known_lines == {}
    read_often(line)
    assert len(wire.known_lines) == 1

    def later() -> Message:
        return Message.parse(line)

    assert later().parameters == first.parameters
    assert {name: later()[name] for name in first.parameters} == first.parameters
    assert {name: later().get(name) for name in first.parameters} == first.parameters
    assert all(name in later() for name in first.parameters)
    assert "absent" not in later()
    assert later().get("absent") is None
    assert later().get("absent", 5) == 5
    with pytest.raises(MessageError, match="HI: parameter absent is missing"):
        later()["absent"]
    assert later() == first
    assert hash(later()) == hash(first)
    assert bytes(later()) == bytes(first)
    assert later().to_json() == first.to_json()
    assert repr(later()) == repr(first)
    assert later().with_parameters(z="1") == first.with_parameters(z="1")
    assert later().without_parameters("v") == first.without_parameters("v")
    assert later().with_sender("x", "y") == first.with_sender("x", "y")
    assert later().with_target("x", "y") == first.with_target("x", "y")
    assert later().reply("HO") == first.reply("HO")


@pytest.mark.parametrize(
    ("line", "parameters"),
    [
        ("HI v=3;w=4", {"v": "3", "w": "4"}),
        ("HI v=3;w=4;", {"v": "3", "w": "4"}),
        ("HI v=3", {"v": "3"}),
        ("HI v=3;x=4", {"v": "3", "x": "4"}),
        ("HI v=3;w=4;x=5", {"v": "3", "w": "4", "x": "5"}),
        ("HI v=3;v=4", {"v": "4"}),
        ("HI v=3;w=4;w=5", {"v": "3", "w": "5"}),
        ('HI v="3";w=4', {"v": "3", "w": "4"}),
        (r"HI v=3\\;w=4\n", {"v": "3\\", "w": "4\n"}),
        ("HI v=3;w=4;;", None),
        ("HI v=3;", {"v": "3"}),
        ("HI v=3;;w=4", None),
        ("HI v=3;w", None),
        ("HI v", None),
        ("HI v=3; w=4", None),
        ("HI  v=3;w=4", None),
        ("HI v=3;w=\0", None),
        ("HI v =3;w=4", None),
        ("HO v=3;w=4", {"v": "3", "w": "4"}),
        ("hi v=3;w=4", None),
    ],
)
def test_other_lines_with_the_same_beginning_are_read_for_themselves(
    empty_tables: None, line: str, parameters: Mapping[str, str] | None
) -> None:
    read_often("HI v=1;w=2")
    if parameters is None:
        with pytest.raises(MessageError):
            Message.parse(line)
    else:
        assert Message.parse(line).parameters == parameters


@pytest.mark.parametrize("line", ["HI v=1;w=2", 'HI v="1";w=2', '{"command":"HI"}'])
def test_the_limit_of_parameters_holds_for_lines_that_come_often(
    empty_tables: None, line: str
) -> None:
    read_often(line)
    few = '{"command":"HI","parameters":{"v":"1","w":"2"}}' if line[0] == "{" else line
    assert len(Message.parse(few, max_parameters=2).parameters) == 2
    with pytest.raises(MessageError, match="2 parameters are more than the limit of 1"):
        Message.parse(few, max_parameters=1)


def test_a_line_with_many_names_or_a_long_beginning_is_read_in_full_each_time(
    empty_tables: None,
) -> None:
    many = "HI " + ";".join([f"p{number}={number}" for number in range(17)])
    assert len(read_often(many).parameters) == 17
    long = f"{'H' * 300} v=1"
    assert read_often(long).command == "H" * 300
    assert wire.known_lines == {}
    assert all(len(text) <= 256 for text in (*wire.parsed_headers, *wire.built_headers))


def test_very_many_and_very_long_names_are_not_remembered(empty_tables: None) -> None:
    assert (
        len(read_often("HI " + ";".join([f"p{number}=" for number in range(65)])).parameters) == 65
    )
    assert read_often(f"HI {'n' * 2000}=1").parameters == {"n" * 2000: "1"}
    assert wire.layouts == {}


# --- what is remembered has limits ----------------------------------------------------------------

FLOOD = 10_000
TABLE = 2048


def sizes() -> list[int]:
    tables = (wire.parsed_headers, wire.built_headers, wire.layouts, wire.known_lines)
    return [len(table) for table in tables]


@pytest.mark.parametrize(
    "made_up",
    [
        lambda number: f"MADE_UP_{number}",
        lambda number: f"MADE_UP_{number} v=1;w=2",
        lambda number: f"s{number}/HI v=1;w=2",
        lambda number: f"<h:s{number} HI v=1;w=2",
        lambda number: f"HI n{number}=1",
        lambda number: f"HI v=1;n{number}=1",
        lambda number: f'HI n{number}="1"',
        lambda number: f'{{"command":"MADE_UP_{number}","parameters":{{"n{number}":"1"}}}}',
    ],
    ids=["headers", "commands", "targets", "senders", "names", "later names", "quoted", "JSON"],
)
def test_a_flood_of_made_up_lines_leaves_the_tables_bounded_and_in_use(
    empty_tables: None, made_up: Callable[[int], str]
) -> None:
    line = "ADD a=2;b=40"
    read_often(line)
    assert "ADD a" in wire.known_lines
    for number in range(FLOOD):
        Message.parse(made_up(number))
        assert max(sizes()) <= TABLE
    assert wire.Layout.compiled <= 2
    assert Message.parse(line).parameters == {"a": "2", "b": "40"}
    assert "ADD a" in wire.known_lines
    assert ("a", "b") in wire.layouts


def test_only_so_many_expressions_are_ever_compiled(empty_tables: None) -> None:
    read_often("ADD a=2;b=40")
    for number in range(600):
        read_often(f"HI n{number}=1")
    assert wire.Layout.compiled == 256
    for number in range(3 * TABLE):
        Message.parse(f"HI m{number}=1")
    read_often("ADD a=2;b=40")
    assert wire.Layout.compiled == 256
    assert "ADD a" in wire.known_lines
    assert sum(layout.pieces is not None for layout in wire.layouts.values()) == 256


def test_a_flood_of_added_names_leaves_the_tables_bounded(empty_tables: None) -> None:
    message = Message("HI", {"v": 1})
    for number in range(FLOOD):
        message.with_parameters({f"n{number}": 1})
        assert max(sizes()) <= TABLE
    assert len(message._layout.plus) <= 8


def test_a_flood_of_built_messages_leaves_the_tables_bounded(empty_tables: None) -> None:
    for number in range(FLOOD):
        Message("HI", {f"n{number}": 1}, service=f"s{number}")
        assert max(sizes()) <= TABLE


# --- reading --------------------------------------------------------------------------------------


def test_a_parameter_is_read_by_its_name() -> None:
    message = Message("HI", {"v": "1"})
    assert message["v"] == "1"
    assert message.get("v") == "1"
    assert message.get("w") is None
    assert message.get("w", "x") == "x"
    assert "v" in message
    assert "w" not in message
    with pytest.raises(MessageError, match="HI: parameter w is missing") as raised:
        message["w"]
    assert (raised.value.command, raised.value.parameter) == ("HI", "w")


def test_the_mapping_of_parameters_cannot_be_written_to() -> None:
    parameters: Any = Message("HI", {"v": "1"}).parameters
    with pytest.raises(TypeError):
        parameters["v"] = "2"


def test_what_the_message_was_built_from_may_change_later() -> None:
    given = {"v": "1"}
    message = Message("HI", given)
    given["v"] = "2"
    assert message["v"] == "1"


READERS = ["integer", "number", "boolean", "address", "timespec", "binary"]


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_parameter_is_an_error_or_the_default(reader: str) -> None:
    read = getattr(Message("HI"), reader)
    assert read("v", None) is None
    assert read("v", "x") == "x"
    with pytest.raises(MessageError, match="HI: parameter v is missing"):
        read("v")


@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        ("integer", "0", 0),
        ("integer", "-17", -17),
        ("integer", "+17", 17),
        ("integer", "007", 7),
        ("integer", "9223372036854775807", 2**63 - 1),
        ("integer", "-9223372036854775808", -(2**63)),
        ("number", "1.5", 1.5),
        ("number", "-.5", -0.5),
        ("number", "5.", 5.0),
        ("number", "1e3", 1000.0),
        ("number", "1E-3", 0.001),
        ("number", "1e-999", 0.0),
        *(("boolean", text, True) for text in ("true", "True", "on", "YES", "1")),
        *(("boolean", text, False) for text in ("false", "FALSE", "off", "No", "0")),
        ("address", "127.0.0.1:3001", Address("tcp", host="127.0.0.1", port=3001)),
        ("address", "unix:/run/x", Address("unix", path="/run/x")),
        ("timespec", "5", 5_000_000_000),
        ("timespec", "-5.000000001s", -5_000_000_001),
        ("timespec", "1700000000.123456789", 1_700_000_000_123_456_789),
        ("binary", "", b""),
        ("binary", "AP8=", b"\x00\xff"),
    ],
)
def test_a_parameter_is_read_as_a_type(reader: str, text: str, value: object) -> None:
    read = getattr(Message("HI", {"v": text}), reader)("v")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("reader", "texts", "why"),
    [
        (
            "integer",
            [
                *("", "x", "1.0", " 1", "1 ", "1\n", "0x1", "1_0", "\u0661", "+", "1e3"),
                *("9223372036854775808", "-9223372036854775809", "9" * 5000),
            ],
            "is no integer of 64 bits",
        ),
        (
            "number",
            ["", "x", "nan", "inf", "1e999", "1_0", " 1", "\u0661", ".", "1e", "e1", "0x1p3"],
            "is no finite number",
        ),
        (
            "boolean",
            ["", "x", "2", "t", " true"],
            "is no truth value: true, on, yes, 1, false, off, no or 0",
        ),
        ("address", ["", "x", "127.0.0.1", "1.2.3.4:99999"], "is no address: expected ip:port"),
        ("timespec", ["", "x", "1m", "nan"], "is no time: expected seconds[.fraction]"),
        ("binary", ["x", "AP8", "A P8=", "é", "====", "A=A="], "is no base64"),
    ],
)
def test_a_parameter_of_another_type_is_refused_without_its_value(
    reader: str, texts: list[str], why: str
) -> None:
    for text in texts:
        with pytest.raises(MessageError) as raised:
            getattr(Message("HI", {"v": text}), reader)("v")
        assert str(raised.value) == f"HI: parameter v {why}"
        assert (raised.value.command, raised.value.parameter) == ("HI", "v")


def test_an_address_may_have_other_defaults() -> None:
    message = Message("HI", {"v": "localhost"})
    read = message.address("v", default_scheme="udp", default_port=4041)
    assert str(read) == "udp://localhost:4041"


@pytest.mark.parametrize("data", [b"", b"\x00", bytes(range(256)), b'\n;\\"'])
def test_any_bytes_travel_as_base64(data: bytes) -> None:
    assert Message.parse(bytes(Message("HI", {"v": data}))).binary("v") == data


# --- making others --------------------------------------------------------------------------------


def test_a_reply_goes_to_the_sender_with_the_serial() -> None:
    request = Message.parse("<h:s a:b/ADD a=2;serial=17")
    reply = request.reply("SUM", {"value": 42})
    assert str(reply) == "h:s/SUM serial=17;value=42"
    assert (reply.sent_from_server, reply.sent_from_service) == ("", "")
    assert str(request.reply("SUM", {"serial": 5})) == "h:s/SUM serial=5"
    assert str(Message("ADD").reply("SUM")) == "SUM"
    with pytest.raises(MessageError, match="is no command"):
        request.reply("sum")


def test_parameters_are_added_and_changed_in_a_new_message() -> None:
    message = Message("HI", {"v": "1", "w": "2"}, service="s")
    assert str(message.with_parameters({"w": 3, "x": 4}, v=5)) == "s/HI v=5;w=3;x=4"
    assert str(message.with_parameters({"w": 3})) == "s/HI v=1;w=3"
    assert str(message.with_parameters(w=3)) == "s/HI v=1;w=3"
    assert message.with_parameters() == message
    assert str(message) == "s/HI v=1;w=2"
    with pytest.raises(MessageError, match="has a bad name"):
        message.with_parameters({"a-b": 1})


@pytest.mark.parametrize("old", ["1", "a;b", "a\nb", "a\\b", '"a', " ", "é"])
@pytest.mark.parametrize("new", ["2", "c;d", "c\nd", "c\\d", '"c', " ", "é"])
def test_a_changed_value_is_written_as_it_must_be(old: str, new: str) -> None:
    message = Message("HI", {"v": old, "w": "1"})
    bytes(message)
    for changed in (message.with_parameters(v=new), message.with_parameters(w="2", v=new)):
        twice = changed.with_parameters(w="3")
        assert bytes(twice) == bytes(Message("HI", {"v": new, "w": "3"}))
        assert Message.parse(bytes(changed))["v"] == new


@pytest.mark.parametrize("kind", [str, Hashed])
def test_a_parameter_is_added_to_the_same_message_again_and_again(kind: type[str]) -> None:
    message = Message("HI", {"v": "1"})
    for number in range(20):
        assert str(message.with_parameters({kind("w"): number})) == f"HI v=1;w={number}"
        other = f"a{number}"
        assert str(message.with_parameters({kind(other): "x;"})) == f'HI {other}="x;";v=1'
    with pytest.raises(MessageError, match="has a bad name"):
        message.with_parameters({kind("a b"): 1})


def test_parameters_are_left_out_in_a_new_message() -> None:
    message = Message("HI", {"v": "1", "w": "2"})
    assert str(message.without_parameters("w", "absent")) == "HI v=1"
    assert str(message.without_parameters("v", "w")) == "HI"
    assert message.without_parameters() == message
    assert str(message) == "HI v=1;w=2"


def test_the_sender_and_the_target_are_set_in_a_new_message() -> None:
    message = Message.parse("<h:s a:b/HI v=1")
    assert str(message.with_sender("x", "y")) == "<x:y a:b/HI v=1"
    assert str(message.with_sender("", "")) == "a:b/HI v=1"
    assert str(message.with_target("", "y")) == "<h:s y/HI v=1"
    assert str(message.with_target("", "")) == "<h:s HI v=1"
    assert str(message) == "<h:s a:b/HI v=1"
    with pytest.raises(MessageError, match="is no sent_from_server"):
        message.with_sender("a b", "")
    with pytest.raises(MessageError, match="is no service"):
        message.with_target("", "a b")


# --- a value --------------------------------------------------------------------------------------


def test_equal_messages_are_equal_whatever_they_were_made_of() -> None:
    one = Message("HI", {"v": 1, "w": 2}, service="s")
    same = [
        Message("HI", {"w": "2", "v": "1"}, service="s"),
        Message.parse("s/HI w=2;v=1"),
        Message.parse(b's/HI w="2";v=1;'),
        Message.parse('{"command":"HI","service":"s","parameters":{"v":1,"w":2}}'),
        Message("HI", {"v": 1}, service="s").with_parameters(w=2),
    ]
    assert {one, *same} == {one}
    assert [message for message in same if message != one] == []


@pytest.mark.parametrize(
    "other",
    [
        Message("HO", {"v": 1}, service="s"),
        Message("HI", {"v": 2}, service="s"),
        Message("HI", {"w": 1}, service="s"),
        Message("HI", {"v": 1}),
        Message("HI", {"v": 1}, service="s", server="h"),
        Message("HI", {"v": 1}, service="s", sent_from_server="h"),
        Message("HI", {"v": 1}, service="s", sent_from_service="h"),
        "s/HI v=1",
        None,
    ],
)
def test_other_messages_are_not_equal(other: object) -> None:
    assert Message("HI", {"v": 1}, service="s") != other


def test_a_message_is_written_once() -> None:
    message = Message("HI", {"v": "a;b"})
    assert message.to_line() is message.to_line()
    assert bytes(message) == message.to_line()[:-1]
    assert bytes(message.with_parameters(v=1)) == b"HI v=1"


def test_the_repr_shows_names_and_no_values() -> None:
    message = Message("LOGIN", {"user": "alexis", "password": "secret"}, service="s")
    assert repr(message) == "<Message s/LOGIN password, user>"
    assert repr(Message("HI")) == "<Message HI>"


def test_a_message_takes_no_further_attributes() -> None:
    message: Any = Message("HI")
    with pytest.raises(AttributeError):
        message.extra = 1
    with pytest.raises(AttributeError):
        message.command = "HO"
    assert message.match is None


def test_the_match_of_a_handler_is_not_part_of_the_value() -> None:
    message = Message("EVENT5")
    message.match = re.fullmatch(r"EVENT(\d+)", message.command)
    assert message == Message("EVENT5")
    assert message.with_parameters(v=1).match is None


@pytest.mark.parametrize(
    "parameters",
    [{}, {"a": "1"}, {"z": "last\t"}, {"a": "x;y", "b": '"q"'}, {"a": "two\nlines\\"}],
)
def test_a_line_with_one_more_parameter_is_that_of_the_longer_message(
    parameters: dict[str, str],
) -> None:
    message = Message("PUT", parameters, service="srv")
    for name in ("serial", "A"):
        for _ in range(2):
            longer = message.with_parameters({name: "123"})
            assert message.line_with(name, "123") == bytes(longer) + b"\n" == longer.to_line()


@pytest.mark.parametrize("times", [1, 20])
def test_a_message_goes_to_other_processes_however_it_was_made(times: int) -> None:
    line = f'<a:b srv:to/PICKLE{times} text="\\"x;y";n=1;'
    for text in (line, f"PICKLE{times} a=1;b=2"):
        parsed = [Message.parse(text) for _ in range(times)][-1]
        assert parsed["n" if parsed.server else "a"] == "1"
        for made in (parsed, parsed.with_parameters(more="x"), Message.parse(bytes(parsed))):
            data = pickle.dumps(made)
            found = pickle.loads(data)
            assert (found, bytes(found), hash(found)) == (made, bytes(made), hash(made))
            assert copy.deepcopy(made) == copy.copy(made) == made
            assert len(data) < 400


@pytest.mark.parametrize(
    "names", [["class", "lambda", "_9", "Z"], ["texts"], [f"n{n:02}" for n in range(40)]]
)
@pytest.mark.parametrize("value", ["{x}", "%s", "it's", 'a"b', "é"])
def test_a_message_is_written_in_the_same_way_each_time(names: list[str], value: str) -> None:
    expected = ";".join(f"{name}={value}" for name in sorted(names)).encode()
    for _ in range(20):
        message = Message("PUT", dict.fromkeys(names, value))
        assert bytes(message) == b"PUT " + expected
        changed = message.with_parameters({names[0]: value})
        assert changed.to_line() == b"PUT " + expected + b"\n"


def test_only_so_many_kinds_of_messages_are_written_by_functions_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire.Layout, "writers", wire._COMPILED - 1)
    for number in range(3):
        for _ in range(10):
            assert bytes(Message("PUT", {f"only{number}": "x"})) == b"PUT only%d=x" % number
    assert wire.Layout.writers == wire._COMPILED
