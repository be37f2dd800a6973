"""The rows of the codec, beside that of the json module."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgevent import Message

from .measure import Case, Options, Run, compare
from .work import NAMES, fields, line, message

DIFFERENT = 1_000
"""So many different messages, so that nothing is remembered from one to the next."""


def case(label: str, work: Callable[[int], object], *goals: float) -> Case:
    """Makes a case of a function that is called once with the number of operations."""

    @contextmanager
    def load() -> Iterator[Run]:
        yield work

    return Case(label, load, None, *goals)


def parse(options: Options) -> None:
    """Message.parse against json.loads of the same fields, two parameters read."""
    lines = [line("PUT", b"%d" % number)[:-1] for number in range(100_000, 100_000 + DIFFERENT)]
    texts = [Message.parse(found).to_json() for found in lines]

    def loads(count: int) -> None:
        for _ in range(count // DIFFERENT):
            for text in texts:
                found = json.loads(text)["parameters"]
                found["name"]
                found["serial"]

    def parses(count: int) -> None:
        for _ in range(count // DIFFERENT):
            for text in lines:
                found = Message.parse(text)
                found["name"]
                found["serial"]

    count = options.count(200_000, DIFFERENT)
    compare(case("json.loads", loads), [case("Message.parse", parses, 1.4, 2.0)], options, count)


def build(options: Options) -> None:
    """bytes(message), a changed parameter each time, against json.dumps."""
    template = message("PUT", "100000")

    def dumps(count: int) -> None:
        found = json.loads(template.to_json())
        parameters = found["parameters"]
        for number in range(count):
            parameters["serial"] = str(number)
            json.dumps(found).encode()

    def changes(count: int) -> None:
        for number in range(count):
            bytes(template.with_parameters({"serial": str(number)}))

    def builds(count: int) -> None:
        for number in range(count):
            bytes(Message("PUT", fields(str(number)), **NAMES))

    count = options.count(100_000, 1_000)
    compare(
        case("json.dumps", dumps),
        [
            case("bytes(message.with_parameters())", changes, 2.0, 2.6),
            case("bytes(Message(...))", builds, 2.0, 2.6),
        ],
        options,
        count,
    )
