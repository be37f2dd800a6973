"""The times of handlers: what is counted, under which key, and that it changes nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from recording_peer import RecordingPeer

from edgevent.dispatcher import CATCH_ALL, HANDLED, Dispatcher, Match
from edgevent.handler_times import OTHERS, HandlerTable
from edgevent.message import Message


def counted(dispatcher: Dispatcher) -> HandlerTable:
    table = HandlerTable()
    dispatcher.count_handlers(table)
    return table


def counts(table: HandlerTable) -> dict[str, tuple[int, int]]:
    """How often each handler ran and failed; those that never ran are left out."""
    return {key: (one.count, one.errors) for key, one in table.rows.items() if one.count}


def deliver(dispatcher: Dispatcher, *lines: str) -> list[str]:
    peer = RecordingPeer()
    for line in lines:
        message = Message.parse(line)
        if dispatcher.dispatch(message, peer) != HANDLED:
            dispatcher.dispatch_otherwise(message, peer)
    return [str(one) for one in peer.sent]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("expression", "key"),
    [
        ("ADD", "ADD"),
        ("A*", "A*"),
        (re.compile("AD+"), "AD+"),
        (None, "*"),
    ],
)
def test_a_handler_counts_under_what_it_was_added_for(
    expression: Any, key: str, first: bool
) -> None:
    dispatcher = Dispatcher()
    table = counted(dispatcher) if first else None

    @dispatcher.on(expression)
    def add(message: Message, peer: Any, a: int) -> Message:
        return message.reply("SUM", {"value": a})

    table = table or counted(dispatcher)
    assert deliver(dispatcher, "ADD a=1", "ADD a=2") == ["SUM value=1", "SUM value=2"]
    assert counts(table) == {key: (2, 0)}
    assert 0.0 < table.rows[key].max <= table.rows[key].total


@pytest.mark.parametrize("first", [True, False])
def test_the_catch_all_counts_too(first: bool) -> None:
    dispatcher = Dispatcher()
    table = counted(dispatcher) if first else None
    dispatcher.otherwise(lambda message, peer: message.reply("SO"))
    table = table or counted(dispatcher)
    assert deliver(dispatcher, "ANY", "OTHER") == ["SO", "SO"]
    assert counts(table) == {CATCH_ALL: (2, 0)}


def test_a_handler_that_raises_is_counted_and_its_error_goes_on() -> None:
    dispatcher = Dispatcher()
    table = counted(dispatcher)

    @dispatcher.on("FAIL")
    def fail(message: Message, peer: Any) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        deliver(dispatcher, "FAIL")
    assert counts(table) == {"FAIL": (1, 1)}


def test_handlers_of_one_command_count_together() -> None:
    dispatcher = Dispatcher()
    table = counted(dispatcher)
    dispatcher.add_match(Match("GO", lambda message, peer: None, priority=0))
    dispatcher.add_match(Match("GO", lambda message, peer: message.reply("GONE")))
    assert deliver(dispatcher, "GO") == ["GONE"]
    assert counts(table) == {"GO": (2, 0)}


def test_what_peers_send_makes_no_rows() -> None:
    dispatcher = Dispatcher()
    table = counted(dispatcher)
    dispatcher.on("LOCK_*")(lambda message, peer: None)
    before = len(table.rows)
    deliver(dispatcher, *(f"LOCK_{number}" for number in range(50)), "UNHEARD_OF")
    assert len(table.rows) == before
    assert counts(table) == {"LOCK_*": (50, 0)}


def test_a_full_table_counts_the_rest_together() -> None:
    dispatcher = Dispatcher(default_commands=False)
    table = counted(dispatcher)
    for number in range(1_010):
        dispatcher.on(f"C{number}")(lambda message, peer: None)
    deliver(dispatcher, "C0", "C1004", "C1005")
    assert counts(table) == {"C0": (1, 0), OTHERS: (2, 0)}


def test_the_first_table_holds_until_it_is_closed() -> None:
    dispatcher = Dispatcher()
    dispatcher.on("GO")(lambda message, peer: None)
    dispatcher.otherwise(lambda message, peer: None)
    first = counted(dispatcher)
    second = counted(dispatcher)
    deliver(dispatcher, "GO", "ANY")
    assert (counts(first), counts(second)) == ({"GO": (1, 0), CATCH_ALL: (1, 0)}, {})
    first.closed = True
    dispatcher.count_handlers(second)
    deliver(dispatcher, "GO", "ANY", "ANY")
    assert counts(first) == {"GO": (1, 0), CATCH_ALL: (1, 0)}
    assert counts(second) == {"GO": (1, 0), CATCH_ALL: (2, 0)}


def test_an_answer_that_is_none_names_the_handler() -> None:
    dispatcher = Dispatcher()
    counted(dispatcher)

    @dispatcher.on("GO")
    def wrong(message: Message, peer: Any) -> int:
        return 1

    with pytest.raises(Exception, match="wrong"):
        deliver(dispatcher, "GO")


def test_a_function_of_a_connection_is_counted_once_by_its_name() -> None:
    def talk(connection: object) -> object:
        if connection is None:
            raise ZeroDivisionError
        return connection

    table = HandlerTable()
    timed = table.timed_function(talk)
    assert table.timed_function(timed) is timed
    assert timed(5) == 5
    with pytest.raises(ZeroDivisionError):
        timed(None)
    (key,) = counts(table)
    assert key.endswith("talk")
    assert counts(table)[key] == (2, 1)


def test_a_method_is_counted_as_long_as_its_object_can_say_so() -> None:
    class Slotted:
        __slots__ = ()

        def process_message(self, message: object) -> bool:
            return True

    class Usual(Slotted):
        pass

    table = HandlerTable()
    for one in (Slotted(), Usual(), Usual()):
        table.time_method(one, "process_message")
        table.time_method(one, "process_message")
        assert one.process_message(Message("A")) is True
    (key,) = counts(table)
    assert key.endswith("Slotted.process_message")
    assert counts(table)[key] == (2, 0)
