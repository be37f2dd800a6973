"""The dispatcher: which handler gets a message, in which order, and what is answered."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from counted_calls import count_calls
from recording_peer import RecordingPeer

from edgevent.answers import answer_failure
from edgevent.definitions import MAX_CACHED, Definitions
from edgevent.dispatcher import HANDLED, OBSERVED, UNMATCHED, Dispatcher, Match
from edgevent.errors import DefinitionError, DuplicateMatchError, MessageError, UsageError
from edgevent.message import Message


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher(default_commands=False)


@pytest.fixture
def peer() -> RecordingPeer:
    return RecordingPeer()


def deliver(dispatcher: Dispatcher, line: str, peer: RecordingPeer | None = None) -> list[str]:
    """Takes a message the whole way, as a connection does; returns what is answered."""
    message = Message.parse(line)
    peer = peer or RecordingPeer()
    try:
        if dispatcher.dispatch(message, peer) != HANDLED:
            dispatcher.dispatch_otherwise(message, peer)
    except Exception as error:
        answer_failure(message, peer, error, "id-7")
    return peer.take()


class Trail:
    """Handlers that leave a mark when they run."""

    def __init__(self) -> None:
        self.marks: list[str] = []

    def leave(self, mark: str) -> Callable[[Message, Any], None]:
        def handler(message: Message, peer: object) -> None:
            self.marks.append(mark)

        return handler


@pytest.fixture
def trail() -> Trail:
    return Trail()


# --- what matches ---------------------------------------------------------------------------------


def test_an_exact_command_reaches_its_handler(dispatcher: Dispatcher) -> None:
    @dispatcher.on("ADD")
    def add(message: Message, peer: object, a: int, b: int) -> Message:
        return message.reply("SUM", {"value": a + b})

    assert deliver(dispatcher, "<h:me ADD a=2;b=40;serial=5") == ["h:me/SUM serial=5;value=42"]
    assert add(Message("ADD"), None, 1, 2)["value"] == "3"  # the decorator hands it back


def test_the_handler_gets_the_message_and_the_peer(
    dispatcher: Dispatcher, peer: RecordingPeer
) -> None:
    seen = []
    dispatcher.on("HI")(lambda *arguments: seen.append(arguments))
    message = Message("HI")
    assert dispatcher.dispatch(message, peer) == HANDLED
    assert seen == [(message, peer)]
    assert peer.sent == []


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("LOCK_*", ["LOCK_", "LOCK_ENTER", "LOCK_A_B"], ["LOCK", "UNLOCK_A", "LOC_K"]),
        ("*_DONE", ["_DONE", "A_DONE"], ["DONE", "A_DONE_"]),
        ("LOCK_?", ["LOCK_1", "LOCK__"], ["LOCK_", "LOCK_12"]),
        ("LOCK_[0-9]", ["LOCK_0", "LOCK_9"], ["LOCK_A", "LOCK_10"]),
        ("LOCK_[!0-9]", ["LOCK_A"], ["LOCK_0"]),
        ("*", ["A", "LOCK_9"], []),
        (re.compile("LOCK_[A-Z]+"), ["LOCK_A", "LOCK_ABC"], ["LOCK_", "LOCK_1", "A_LOCK_A"]),
        (re.compile("A|AB"), ["A", "AB"], ["ABC", "B"]),
        (re.compile("a", re.IGNORECASE), ["A"], ["B"]),
        (None, ["A", "LOCK_9"], []),
    ],
)
def test_a_pattern_matches_whole_commands(
    dispatcher: Dispatcher,
    pattern: str | re.Pattern[str] | None,
    matching: list[str],
    others: list[str],
) -> None:
    dispatcher.on(pattern)(lambda message, peer: message.reply("TAKEN"))
    assert [deliver(dispatcher, command) for command in matching] == [["TAKEN"]] * len(matching)
    assert [deliver(dispatcher, command) for command in others] == [
        [f"UNKNOWN command={command}"] for command in others
    ]


def test_a_regular_expression_tells_what_it_matched(dispatcher: Dispatcher) -> None:
    @dispatcher.on(re.compile(r"EVENT(\d+)"))
    def event(message: Message, peer: object) -> Message:
        assert message.match is not None
        number = int(message.match[1])
        return message.reply("GOT", {"next": number + 1})

    assert deliver(dispatcher, "EVENT41") == ["GOT next=42"]
    assert deliver(dispatcher, "EVENT7") == ["GOT next=8"]
    assert deliver(dispatcher, "EVENT") == ["UNKNOWN command=EVENT"]


def test_the_match_is_that_of_the_handler_that_runs_and_none_after_all(
    dispatcher: Dispatcher,
) -> None:
    seen: list[object] = []

    def see(message: Message, peer: object) -> None:
        seen.append(message.match and message.match[0])

    dispatcher.on(re.compile("EVENT.*"), priority=0)(see)
    dispatcher.on(None, priority=0)(see)
    dispatcher.on("EVENT_*", priority=0)(see)
    dispatcher.otherwise(see)
    deliver(dispatcher, "EVENT_1")
    dispatcher.on("EVENT_1")(see)
    deliver(dispatcher, "EVENT_1")
    assert seen == ["EVENT_1", None, "EVENT_1", None] * 2


def test_a_match_function_decides_after_the_expression(
    dispatcher: Dispatcher, trail: Trail
) -> None:
    asked = []

    def is_large(message: Message) -> bool:
        asked.append(message.command)
        return message.integer("size", 0) > 100

    dispatcher.add_match(Match("PUT", trail.leave("large"), function=is_large))
    dispatcher.add_match(Match(re.compile("P.*"), trail.leave("any"), function=lambda m: m.match))
    for line in ("PUT size=500", "PUT size=5", "PUT", "POST", "GET"):
        deliver(dispatcher, line)
    assert trail.marks == ["large", "any", "any", "any"]
    assert asked == ["PUT", "PUT", "PUT"]


def test_a_match_function_alone_may_take_any_command(dispatcher: Dispatcher) -> None:
    def takes(message: Message) -> bool:
        return "v" in message

    dispatcher.add_match(Match(None, lambda message, peer: message.reply("TAKEN"), function=takes))
    assert deliver(dispatcher, "HI v=1") == ["TAKEN"]
    assert deliver(dispatcher, "HI w=1") == ["UNKNOWN command=HI"]


# --- the order ------------------------------------------------------------------------------------


def test_callback_matches_run_first_and_the_search_goes_on(
    dispatcher: Dispatcher, peer: RecordingPeer, trail: Trail
) -> None:
    dispatcher.on("HI")(trail.leave("handler"))
    dispatcher.on("*", priority=0)(trail.leave("first"))
    dispatcher.on("HI", priority=0)(trail.leave("second"))
    assert dispatcher.dispatch(Message("HI"), peer) == HANDLED
    assert trail.marks == ["first", "second", "handler"]
    assert dispatcher.dispatch(Message("HO"), peer) == OBSERVED
    assert trail.marks[3:] == ["first"]


def test_a_message_that_was_only_observed_is_still_unknown(dispatcher: Dispatcher) -> None:
    dispatcher.on("*", priority=0)(lambda message, peer: None)
    assert deliver(dispatcher, "HI") == ["UNKNOWN command=HI"]


def test_what_a_callback_match_returns_is_sent_too(dispatcher: Dispatcher) -> None:
    dispatcher.on("HI", priority=0)(lambda message, peer: message.reply("ONE"))
    dispatcher.on("HI")(lambda message, peer: message.reply("TWO"))
    assert deliver(dispatcher, "HI") == ["ONE", "TWO"]


def test_lower_priorities_come_first_then_the_order_in_which_they_were_added(
    dispatcher: Dispatcher, trail: Trail
) -> None:
    def observe(expression: str | re.Pattern[str], priority: int) -> None:
        mark = f"{getattr(expression, 'pattern', expression)} {priority}"
        match = Match(expression, trail.leave(mark), priority=priority, continues=True)
        dispatcher.add_match(match)

    for priority in (15, 7, 0, 10):
        observe("HI", priority)
        observe("H*", priority)
        observe(re.compile("H."), priority)
    deliver(dispatcher, "HI")
    assert trail.marks == [
        f"{name} {priority}" for priority in (0, 7, 10, 15) for name in ("HI", "H*", "H.")
    ]


def test_the_first_match_that_is_no_callback_ends_the_search(
    dispatcher: Dispatcher, trail: Trail
) -> None:
    dispatcher.on("H*")(trail.leave("pattern"))
    dispatcher.on("HI")(trail.leave("exact"))
    dispatcher.on("HI", priority=6)(trail.leave("sooner"))
    deliver(dispatcher, "HI")
    deliver(dispatcher, "HO")
    assert trail.marks == ["sooner", "pattern"]


def test_whether_the_search_goes_on_can_be_said(dispatcher: Dispatcher, trail: Trail) -> None:
    dispatcher.add_match(Match("HI", trail.leave("7"), continues=True))
    dispatcher.add_match(Match("HI", trail.leave("8"), priority=8))
    dispatcher.add_match(Match("HO", trail.leave("0"), priority=0, continues=False))
    dispatcher.add_match(Match("HO", trail.leave("7")))
    deliver(dispatcher, "HI")
    deliver(dispatcher, "HO")
    assert trail.marks == ["7", "8", "0"]


# --- the table ------------------------------------------------------------------------------------


def test_the_same_command_at_the_same_priority_is_an_error(dispatcher: Dispatcher) -> None:
    def first(message: Message, peer: object) -> None: ...

    dispatcher.on("HI")(first)
    dispatcher.on("HI", priority=8)(first)
    with pytest.raises(DuplicateMatchError, match=r"^HI is handled by .*first already, at prior"):
        dispatcher.on("HI")(lambda message, peer: None)
    dispatcher.on("H*")(first)
    dispatcher.on("H*")(first)  # of patterns there may be any number
    assert dispatcher.commands() == ["HI"]


@pytest.mark.parametrize(
    ("match", "why"),
    [
        (Match("hi", print), "'hi' is no command: upper-case letters, digits and '_'"),
        (Match("", print), "'' is no command"),
        (Match("1A", print), "'1A' is no command"),
        (Match("HI\n", print), "is no command"),
        (Match("lock_*", print), "'lock_*' is no command"),
        (Match("LOCK *", print), "'LOCK *' is no command"),
        (Match(re.compile(b"HI"), print), "is no expression: a command, a shell pattern or"),  # type: ignore[arg-type]
        (Match(5, print), "5 is no expression"),  # type: ignore[arg-type]
        (Match("HI", print, priority=16), "16 is no priority of a match: 0 to 15"),
        (Match("HI", print, priority=-1), "-1 is no priority"),
        (Match("HI", lambda message: None), "is no handler: it must take (message, peer, ...)"),
        (Match("HI", None), "None is no handler"),  # type: ignore[arg-type]
    ],
)
def test_what_can_never_work_is_refused_when_it_is_added(
    dispatcher: Dispatcher, match: Match, why: str
) -> None:
    with pytest.raises(UsageError) as raised:
        dispatcher.add_match(match)
    assert why in str(raised.value)
    assert dispatcher.commands() == []


def test_matches_are_removed_by_their_tag(dispatcher: Dispatcher, trail: Trail) -> None:
    dispatcher.on("HI", tag="mine")(trail.leave("mine"))
    dispatcher.on("H*", tag="mine")(trail.leave("mine too"))
    dispatcher.on("HI", priority=8, tag="yours")(trail.leave("yours"))
    dispatcher.on("HO", tag="mine")(trail.leave("mine as well"))
    deliver(dispatcher, "HI")
    assert dispatcher.remove_matches("mine") == 3
    assert dispatcher.remove_matches("mine") == 0
    assert dispatcher.commands() == ["HI"]
    deliver(dispatcher, "HI")
    assert trail.marks == ["mine", "yours"]
    assert deliver(dispatcher, "HO") == ["UNKNOWN command=HO"]
    dispatcher.on("HO")(trail.leave("anew"))


def test_a_handler_may_change_the_table_for_the_next_message(
    dispatcher: Dispatcher, trail: Trail
) -> None:
    @dispatcher.on("HI", priority=0, tag="once")
    def once(message: Message, peer: object) -> None:
        dispatcher.remove_matches("once")
        dispatcher.on("HI", priority=1)(trail.leave("new"))

    dispatcher.on("HI")(trail.leave("old"))
    deliver(dispatcher, "HI")
    deliver(dispatcher, "HI")
    assert trail.marks == ["old", "new"]


def test_the_commands_are_the_exact_ones_and_those_that_help_callbacks_name(
    dispatcher: Dispatcher,
) -> None:
    dispatcher.on("SUB")(lambda message, peer: None)
    dispatcher.on("ADD")(lambda message, peer: None)
    dispatcher.on("ADD", priority=8)(lambda message, peer: None)
    dispatcher.on("LOCK_*")(lambda message, peer: None)
    assert dispatcher.commands() == ["ADD", "SUB"]
    locks = {"LOCK_ENTER"}
    dispatcher.add_help(lambda: locks)
    dispatcher.add_help(lambda: ["ADD"])
    assert dispatcher.commands() == ["ADD", "LOCK_ENTER", "SUB"]
    locks.add("LOCK_EXIT")
    assert dispatcher.commands() == ["ADD", "LOCK_ENTER", "LOCK_EXIT", "SUB"]


# --- the catch-all --------------------------------------------------------------------------------


def test_the_catch_all_gets_what_nothing_took(dispatcher: Dispatcher, trail: Trail) -> None:
    @dispatcher.otherwise
    def rest(message: Message, peer: object, v: int = 0) -> Message:
        return message.reply("REST", {"v": v + 1})

    dispatcher.on("HI")(trail.leave("HI"))
    assert deliver(dispatcher, "HI") == []
    assert deliver(dispatcher, "HO v=1;serial=5") == ["REST serial=5;v=2"]
    assert deliver(dispatcher, "HO v=x") == [
        r"INVALID command=HO;message=HO: parameter v is no integer of 64 bits"
    ]
    assert rest(Message("HO"), None)["v"] == "1"


def test_the_catch_all_may_keep_silent(dispatcher: Dispatcher) -> None:
    dispatcher.otherwise(lambda message, peer: None)
    assert deliver(dispatcher, "HO") == []


def test_there_is_one_catch_all(dispatcher: Dispatcher) -> None:
    dispatcher.otherwise(lambda message, peer: None)
    with pytest.raises(DuplicateMatchError, match="a handler for everything else is there already"):
        dispatcher.otherwise(lambda message, peer: None)
    with pytest.raises(UsageError, match="is no handler"):
        Dispatcher().otherwise(lambda message: None)


# --- what is answered -----------------------------------------------------------------------------


def test_an_unknown_command_is_answered_without_the_serial(dispatcher: Dispatcher) -> None:
    assert deliver(dispatcher, "<h:me HI serial=5;v=1") == ["h:me/UNKNOWN command=HI"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ADD a=1;serial=5", "parameter b is missing"),
        ("ADD b=1;serial=5", "parameter a is missing"),
        ("ADD a=1;b=x;serial=5", "parameter b is no integer of 64 bits"),
        ("ADD a=1;b=;serial=5", "parameter b is no integer of 64 bits"),
    ],
)
def test_a_missing_or_wrong_parameter_is_answered_by_its_name(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture, line: str, why: str
) -> None:
    ran = []

    @dispatcher.on("ADD")
    def add(message: Message, peer: object, a: int, b: int) -> None:
        ran.append(message)

    assert deliver(dispatcher, line) == [f"INVALID command=ADD;message=ADD: {why};serial=5"]
    assert ran == []
    assert caplog.messages == [f"peer-1: refused ADD: ADD: {why}"]


def test_the_sender_is_told_which_parameter_the_handler_itself_could_not_read(
    dispatcher: Dispatcher,
) -> None:
    dispatcher.on("ADD")(lambda message, peer: message.integer("a"))
    assert deliver(dispatcher, "ADD a=x") == [
        "INVALID command=ADD;message=ADD: parameter a is no integer of 64 bits"
    ]


def test_the_sender_is_told_what_the_handler_itself_found_wrong(dispatcher: Dispatcher) -> None:
    @dispatcher.on("ADD")
    def add(message: Message, peer: object) -> None:
        raise MessageError("a is odd", command="ADD", parameter="a")

    assert deliver(dispatcher, "ADD a=1") == ["INVALID command=ADD;message=a is odd"]


@pytest.mark.parametrize(
    "fails",
    [
        lambda: Message("ADD", {"a": "\0"}),
        lambda: Message("ADD", {"not a name": 1}),
        lambda: Message.parse("ADD a"),
        lambda: Message("ADD", {"b": 1})["a"],
        lambda: Message.parse("ADD a=x").integer("a"),
    ],
)
def test_another_message_of_the_same_command_is_not_the_senders_mistake(
    dispatcher: Dispatcher, fails: Callable[[], object]
) -> None:
    dispatcher.on("ADD")(lambda message, peer: fails())
    assert deliver(dispatcher, "ADD a=1") == ["INVALID command=ADD;id=id-7;message=internal error"]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        KeyError("secret"),
        MessageError("secret"),
        MessageError("secret", command="ADD"),
        MessageError("secret", command="OTHER", parameter="a"),
    ],
)
def test_all_other_errors_are_this_sides_and_answered_with_an_id(
    dispatcher: Dispatcher, error: Exception
) -> None:
    @dispatcher.on("ADD")
    def add(message: Message, peer: object) -> None:
        raise error

    assert deliver(dispatcher, "ADD serial=5") == [
        "INVALID command=ADD;id=id-7;message=internal error;serial=5"
    ]
    with pytest.raises(type(error)):
        dispatcher.dispatch(Message("ADD"), RecordingPeer())


def test_a_decorator_without_its_command_is_refused(dispatcher: Dispatcher) -> None:
    def add(message: Message, peer: object) -> None: ...

    forgotten: Any = dispatcher.on
    with pytest.raises(UsageError, match=r"on\(\) was given .*add in place of a command"):
        forgotten(add)


@pytest.mark.parametrize("answer", [5, "SUM value=5", b"SUM", [], False])
def test_a_handler_that_returns_what_is_no_message_fails(
    dispatcher: Dispatcher, peer: RecordingPeer, answer: object
) -> None:
    @dispatcher.on("ADD")
    def add(message: Message, peer: object, a: int) -> object:
        return answer

    kind = type(answer).__name__
    with pytest.raises(UsageError, match=rf"add returned a {kind}; a Message or None was expected"):
        dispatcher.dispatch(Message("ADD", {"a": 1}), peer)
    assert peer.sent == []


@pytest.mark.parametrize("command", ["INVALID", "UNKNOWN"])
def test_an_error_is_never_answered_with_an_error(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture, command: str
) -> None:
    caplog.set_level(logging.INFO)
    assert deliver(dispatcher, command) == []
    assert caplog.messages == [f"peer-1: {command} is unknown here"]

    @dispatcher.on(command)
    def failing(message: Message, peer: object, v: int) -> None:
        raise ValueError

    assert deliver(dispatcher, command) == []
    assert deliver(dispatcher, f"{command} v=1") == []
    with_defaults = Dispatcher()
    assert deliver(with_defaults, f"{command} command=") == []  # its definition says: not empty


def test_a_peer_to_whom_errors_are_not_sent_gets_none(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    @dispatcher.on("ADD")
    def add(message: Message, peer: object, a: int) -> Message:
        raise ValueError

    @dispatcher.on("HI")
    def hi(message: Message, peer: object) -> Message:
        return message.reply("HO")

    stranger = RecordingPeer(answers_errors=False)
    for line in ("ADD", "ADD a=x", "ADD a=1", "OTHER"):
        assert deliver(dispatcher, line, stranger) == []
    assert deliver(dispatcher, "HI", stranger) == ["HO"]


def test_the_log_of_a_refusal_shows_no_value_and_no_more_of_a_command_than_its_beginning(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    @dispatcher.on("A*")
    def handler(message: Message, peer: object, a: int) -> None: ...

    quiet = RecordingPeer(answers_errors=False)
    deliver(dispatcher, "A" * 60_000 + " a=secret", quiet)
    deliver(dispatcher, "B" * 60_000 + " a=secret", quiet)
    assert len(caplog.messages) == 2
    assert max(map(len, caplog.messages)) < 600
    assert "secret" not in caplog.text


# --- definitions ----------------------------------------------------------------------------------


@pytest.fixture
def defined(tmp_path: Path) -> Dispatcher:
    (tmp_path / "ADD.conf").write_text("[a]\ntype=integer\nflags=required\n", encoding="utf-8")
    return Dispatcher(default_commands=False, definitions=Definitions([tmp_path]))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ADD serial=5", "parameter a of ADD is missing"),
        ("ADD a=;serial=5", "parameter a of ADD is empty"),
        ("ADD a=x;serial=5", "parameter a of ADD is no integer of 64 bits"),
    ],
)
def test_a_message_is_checked_against_its_definition_before_its_handler_runs(
    defined: Dispatcher, trail: Trail, line: str, why: str
) -> None:
    defined.on("ADD")(trail.leave("ADD"))
    defined.on("*", priority=0)(trail.leave("all"))
    for _ in range(20):
        assert deliver(defined, line) == [f"INVALID command=ADD;message={why};serial=5"]
    assert trail.marks == []
    assert deliver(defined, "ADD a=5") == []
    assert trail.marks == ["all", "ADD"]


def test_a_command_that_leads_nowhere_is_not_checked(defined: Dispatcher) -> None:
    assert deliver(defined, "ADD") == ["UNKNOWN command=ADD"]


def test_the_default_commands_are_checked_against_the_definitions_that_are_built_in(
    trail: Trail,
) -> None:
    dispatcher = Dispatcher()
    dispatcher.on("READY")(trail.leave("READY"))
    assert deliver(dispatcher, "READY my_address=x y") == [
        "INVALID command=READY;"
        "message=parameter my_address of READY is no address: expected ip:port"
    ]
    assert trail.marks == []


def test_a_definition_that_cannot_be_read_fails_each_message_of_its_command(
    defined: Dispatcher, trail: Trail, tmp_path: Path
) -> None:
    path = tmp_path / "SUB.conf"
    path.write_text("[a]\ntype=x\n", encoding="utf-8")
    defined.on("SUB")(trail.leave("SUB"))
    for _ in range(2):
        with pytest.raises(DefinitionError):
            defined.dispatch(Message("SUB"), RecordingPeer())
    path.write_text("", encoding="utf-8")
    deliver(defined, "SUB")
    assert trail.marks == ["SUB"]


# --- trace and show-matches -----------------------------------------------------------------------


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "edgevent.dispatcher")
    return caplog


def handle(message: Message, peer: object) -> None: ...


def observe(message: Message, peer: object) -> None: ...


def is_large(message: Message) -> bool:
    return "size" in message


@pytest.fixture
def table(dispatcher: Dispatcher) -> Dispatcher:
    dispatcher.on("HI", tag="mine")(handle)
    dispatcher.on("H*", priority=0)(observe)
    dispatcher.on(re.compile(r"EVENT\d+"))(handle)
    dispatcher.add_match(Match(None, handle, priority=8, function=is_large))
    return dispatcher


def test_a_trace_names_what_handles_each_message_and_no_value(
    table: Dispatcher, log: pytest.LogCaptureFixture
) -> None:
    table.set_trace(True)
    for line in ("HI v=secret", "EVENT5", "PUT size=secret", "PUT"):
        deliver(table, line)
    assert log.messages == [
        "peer-1: HI -> H* -> observe (0)",
        "peer-1: HI -> HI -> handle (7, tag mine)",
        r"peer-1: EVENT5 -> EVENT\d+ -> handle (7)",
        "peer-1: PUT -> any -> handle (8)",
        "peer-1: PUT -> UNKNOWN",
    ]


def test_a_trace_names_the_catch_all(table: Dispatcher, log: pytest.LogCaptureFixture) -> None:
    table.set_trace(True)
    table.otherwise(handle)
    deliver(table, "PUT")
    assert log.messages == ["peer-1: PUT -> otherwise"]


def test_show_matches_names_each_entry_that_is_tried_and_whether_it_matched(
    table: Dispatcher, log: pytest.LogCaptureFixture
) -> None:
    table.set_show_matches(True)
    deliver(table, "HI size=secret")
    deliver(table, "PUT")
    assert log.messages == [
        r"peer-1: HI does not match EVENT\d+ -> handle (7)",
        "peer-1: HI matches H* -> observe (0)",
        "peer-1: HI matches HI -> handle (7, tag mine)",
        "peer-1: PUT does not match H* -> observe (0)",
        r"peer-1: PUT does not match EVENT\d+ -> handle (7)",
        "peer-1: PUT does not match any -> handle (8)",
    ]


def test_both_can_be_switched_off_again(table: Dispatcher, log: pytest.LogCaptureFixture) -> None:
    table.set_trace(True)
    table.set_show_matches(True)
    table.set_trace(False)
    deliver(table, "EVENT5")
    assert log.messages == [
        "peer-1: EVENT5 does not match H* -> observe (0)",
        r"peer-1: EVENT5 matches EVENT\d+ -> handle (7)",
    ]
    table.set_show_matches(False)
    log.clear()
    deliver(table, "EVENT5")
    deliver(table, "HI")
    assert log.messages == []


def test_a_trace_holds_for_commands_that_came_before_it_too(
    table: Dispatcher, log: pytest.LogCaptureFixture
) -> None:
    deliver(table, "EVENT5")
    table.set_trace(True)
    deliver(table, "EVENT5")
    assert log.messages == [r"peer-1: EVENT5 -> EVENT\d+ -> handle (7)"]


def test_answers_are_sent_while_traced_too(dispatcher: Dispatcher) -> None:
    dispatcher.on("HI")(lambda message, peer: message.reply("HO"))
    dispatcher.set_trace(True)
    assert deliver(dispatcher, "HI") == ["HO"]


# --- cost and bounds ------------------------------------------------------------------------------


def test_a_dispatch_takes_no_more_steps_among_many_exact_entries(peer: RecordingPeer) -> None:
    def steps(entries: int) -> tuple[int, int, int]:
        dispatcher = Dispatcher()
        for number in range(entries):
            dispatcher.on(f"COMMAND_{number}")(handle)
        dispatcher.on("LOCK_*")(handle)
        known, unknown = Message("COMMAND_3"), Message("UNHEARD_OF")
        first = count_calls(lambda: dispatcher.dispatch(known, peer))
        later = count_calls(lambda: dispatcher.dispatch(known, peer))
        nowhere = count_calls(lambda: dispatcher.dispatch(unknown, peer))
        return first, later, nowhere

    assert steps(5_000) == steps(5)


def test_a_flood_of_made_up_commands_leaves_the_table_bounded_and_in_use() -> None:
    dispatcher = Dispatcher()
    dispatcher.on("ADD")(lambda message, peer: message.reply("SUM"))
    assert deliver(dispatcher, "ADD") == ["SUM"]
    for number in range(10_000):
        assert deliver(dispatcher, f"MADE_UP_{number}") == [f"UNKNOWN command=MADE_UP_{number}"]
    assert len(dispatcher._chains) <= 1024
    assert "ADD" in dispatcher._chains
    assert deliver(dispatcher, "ADD") == ["SUM"]
    assert deliver(dispatcher, "HELP")[0].startswith("COMMANDS list=ADD,ALIVE,")
    assert "HELP" in dispatcher._chains


def test_a_flood_of_commands_that_a_pattern_takes_leaves_the_table_bounded() -> None:
    dispatcher = Dispatcher()
    dispatcher.on("*", priority=0)(observe)
    dispatcher.on("ADD")(lambda message, peer: message.reply("SUM"))
    for number in range(10_000):
        deliver(dispatcher, f"MADE_UP_{number}")
    assert len(dispatcher._chains) <= 1024
    assert repr(dispatcher.definitions).endswith(f"cached={MAX_CACHED}>")
    assert deliver(dispatcher, "ADD") == ["SUM"]


def test_long_commands_are_handled_and_not_remembered(dispatcher: Dispatcher) -> None:
    dispatcher.on("A*")(lambda message, peer: message.reply("TAKEN"))
    for command in ("A" * 257, "A" * 60_000):
        assert deliver(dispatcher, command) == ["TAKEN"]
    assert dispatcher.dispatch(Message("B" * 257), RecordingPeer()) == UNMATCHED
    assert dispatcher._chains == {}
