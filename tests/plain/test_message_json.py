"""The JSON form: what is read, what is refused, and that it says the same as the text form.

In ``json_messages.jsonl`` all strings but ``why`` and ``error`` are latin-1 text of bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevent.errors import MessageError
from edgevent.limits import MAX_PARAMETERS
from edgevent.message import Message

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "json_messages.jsonl")
    .read_text(encoding="utf-8")
    .split("\n")
    if line
]
ACCEPTED = [case for case in CASES if case["expect"] == "accept"]
REJECTED = [case for case in CASES if case["expect"] == "reject"]


def why(case: dict[str, Any]) -> str:
    return str(case["why"])


def text_of(latin: str) -> str:
    return latin.encode("latin-1").decode("utf-8", "surrogateescape")


def read(case: dict[str, Any]) -> Message:
    return Message.parse(case["line"].encode("latin-1"))


def test_there_are_cases_of_both_kinds() -> None:
    assert len(ACCEPTED) >= 80
    assert len(REJECTED) >= 80
    assert len({case["line"] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", ACCEPTED, ids=why)
def test_a_right_object_is_read(case: dict[str, Any]) -> None:
    message = read(case)
    assert message.command == case["command"]
    assert message.parameters == {name: text_of(text) for name, text in case["params"].items()}
    places = {
        "server": message.server,
        "service": message.service,
        "from_server": message.sent_from_server,
        "from_service": message.sent_from_service,
    }
    assert places == {place: case.get(place, "") for place in places}


@pytest.mark.parametrize("case", REJECTED, ids=why)
def test_a_wrong_object_is_refused_with_a_reason(case: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as raised:
        read(case)
    assert case["error"] in str(raised.value)


@pytest.mark.parametrize("case", ACCEPTED, ids=why)
def test_both_forms_of_what_was_read_are_read_back(case: dict[str, Any]) -> None:
    message = read(case)
    assert Message.parse(message.to_json()) == message
    assert Message.parse(message.to_json().encode()) == message
    if not message.server or message.service:  # a lone server cannot be written as text
        assert Message.parse(bytes(message)) == message


@pytest.mark.parametrize("case", ACCEPTED, ids=why)
def test_the_json_form_is_one_line_of_strict_json(case: dict[str, Any]) -> None:
    text = read(case).to_json()
    assert "\n" not in text
    assert "\r" not in text
    assert json.loads(text)["command"] == case["command"]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Message("HI"), '{"command":"HI"}'),
        (Message("ADD", {"b": 40, "a": 2}), '{"command":"ADD","parameters":{"a":"2","b":"40"}}'),
        (
            Message("HI", server="h", service="s", sent_from_server="a", sent_from_service="b"),
            '{"sent-from-server":"a","sent-from-service":"b","server":"h","service":"s",'
            '"command":"HI"}',
        ),
        (Message("HI", server="h"), '{"server":"h","command":"HI"}'),
        (Message("HI", {"v": 'é"\\\n\u2028'}), None),
        (Message("HI", {"v": "é"}), '{"command":"HI","parameters":{"v":"é"}}'),
        (Message("HI", {"v": "é\udcff"}), r'{"command":"HI","parameters":{"v":"\u00e9\udcff"}}'),
    ],
)
def test_the_json_form_as_it_is_written(message: Message, text: str | None) -> None:
    if text is not None:
        assert message.to_json() == text
    assert Message.parse(message.to_json()) == message


def test_a_number_may_have_more_digits_than_an_int_may_be_read_from() -> None:
    digits = "7" * 10_000
    message = Message.parse(f'{{"command":"HI","parameters":{{"v":{digits},"w":1.{digits}}}}}')
    assert message.parameters == {"v": digits, "w": f"1.{digits}"}


def test_an_object_may_have_as_many_parameters_as_a_line() -> None:
    def line(count: int) -> str:
        return json.dumps({"command": "HI", "parameters": {f"p{i}": i for i in range(count)}})

    assert len(Message.parse(line(MAX_PARAMETERS)).parameters) == MAX_PARAMETERS
    with pytest.raises(MessageError, match=f"{MAX_PARAMETERS + 1} parameters are more than"):
        Message.parse(line(MAX_PARAMETERS + 1))
    assert len(Message.parse(line(300), max_parameters=300).parameters) == 300
    with pytest.raises(MessageError, match="3 parameters are more than the limit of 2"):
        Message.parse(line(3), max_parameters=2)


@pytest.mark.parametrize(
    "nested",
    [
        lambda: "[" * 100_000,
        lambda: "[" * 100_000 + "]" * 100_000,
        lambda: '{"x":' * 100_000,
        lambda: '{"x":' * 100_000 + "1" + "}" * 100_000,
    ],
)
def test_deep_nesting_is_refused(nested: Callable[[], str]) -> None:
    with pytest.raises(MessageError, match="nested too deeply"):
        Message.parse(f'{{"command":"HI","x":{nested()}}}')


def test_an_error_names_the_command_and_the_parameter() -> None:
    with pytest.raises(MessageError) as raised:
        Message.parse('{"command":"HI","parameters":{"v":[]}}')
    assert (raised.value.command, raised.value.parameter) == ("HI", "v")
