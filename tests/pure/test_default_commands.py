"""The default commands: what is answered, what is done, and for whom."""

from __future__ import annotations

import logging
import time

import pytest
from recording_peer import RecordingPeer

from edgevent.dispatcher import HANDLED, UNMATCHED, Dispatcher
from edgevent.errors import DuplicateMatchError, UsageError
from edgevent.message import Message

DEFAULTS = [
    *("ALIVE", "HELP", "INVALID", "LEAK", "LOG_ROTATE", "QUITTING", "READY", "RESTART"),
    *("SERVICE_UNAVAILABLE", "STOP", "UNKNOWN"),
]


class Control:
    """A control object that keeps what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def stop(self, quitting: bool) -> None:
        self.calls.append(("stop", quitting))

    def ready(self, message: Message) -> None:
        self.calls.append(("ready", str(message)))

    def restart(self, message: Message) -> None:
        self.calls.append(("restart", str(message)))

    def reopen_logs(self) -> None:
        self.calls.append("reopen_logs")


@pytest.fixture
def peer() -> RecordingPeer:
    return RecordingPeer()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "edgevent")
    return caplog


def deliver(
    line: str, peer: RecordingPeer, *, control: object = None, table: Dispatcher | None = None
) -> list[str]:
    """Gives a message to a dispatcher that handles it; returns what is answered."""
    table = table or Dispatcher(control=control)
    assert table.dispatch(Message.parse(line), peer) == HANDLED
    return peer.take()


# --- those that are answered ----------------------------------------------------------------------


def test_help_lists_the_commands(peer: RecordingPeer) -> None:
    assert deliver("<h:me HELP serial=5", peer) == [
        f"h:me/COMMANDS list={','.join(DEFAULTS)};serial=5"
    ]
    table = Dispatcher()
    table.on("BARK")(lambda message, peer: None)
    table.on("LOCK_*")(lambda message, peer: None)
    table.add_help(lambda: ["LOCK_ENTER", "LOCK_EXIT"])
    names = sorted([*DEFAULTS, "BARK", "LOCK_ENTER", "LOCK_EXIT"])
    assert deliver("HELP", peer, table=table) == [f"COMMANDS list={','.join(names)}"]


def test_alive_is_answered_with_what_came_and_the_time(peer: RecordingPeer) -> None:
    table = Dispatcher()
    before = time.time_ns()
    table.dispatch(Message.parse("<h:me ALIVE serial= 5;timestamp=+007.5s;more=1"), peer)
    after = time.time_ns()
    (answer,) = peer.sent
    assert before <= answer.timespec("reply_timestamp") <= after
    whole, _, fraction = answer["reply_timestamp"].partition(".")
    assert (whole.isdigit(), len(fraction)) == (True, 9)
    rest = answer.without_parameters("reply_timestamp")
    assert str(rest) == "h:me/ABSOLUTELY serial= 5;timestamp=+007.5s"


def test_alive_may_come_bare(peer: RecordingPeer) -> None:
    Dispatcher().dispatch(Message("ALIVE"), peer)
    (answer,) = peer.sent
    assert answer.command == "ABSOLUTELY"
    assert list(answer.parameters) == ["reply_timestamp"]


# --- those that are logged ------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["INVALID", "UNKNOWN"])
@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ("", ""),
        (" command=ADD", " to 'ADD'"),
        (" message=why", ": 'why'"),
        (" command=ADD;message=parameter a is missing", " to 'ADD': 'parameter a is missing'"),
        (r" message=a\nb", r": 'a\nb'"),
        (" message=\x1b[31mé", r": '\x1b[31m\xe9'"),
    ],
)
def test_an_error_of_the_other_side_is_logged_on_one_line(
    peer: RecordingPeer,
    log: pytest.LogCaptureFixture,
    command: str,
    parameters: str,
    text: str,
) -> None:
    assert deliver(command + parameters, peer) == []
    assert log.record_tuples == [
        ("edgevent.commands", logging.ERROR, f"peer-1: answered {command}{text}")
    ]


def test_a_long_error_of_the_other_side_is_cut(
    peer: RecordingPeer, log: pytest.LogCaptureFixture
) -> None:
    deliver("INVALID message=" + "x" * 60_000, peer)
    assert len(log.text) < 500


def test_an_unavailable_service_is_nothing_to_act_on(
    peer: RecordingPeer, log: pytest.LogCaptureFixture
) -> None:
    assert deliver("SERVICE_UNAVAILABLE destination_service=x;unsent_command=Y", peer) == []
    assert log.record_tuples == [
        ("edgevent.commands", logging.DEBUG, "peer-1: SERVICE_UNAVAILABLE")
    ]


def test_leak_logs_what_is_alive(peer: RecordingPeer) -> None:
    assert deliver("LEAK", peer) == []
    assert peer.times_alive_was_logged == 1


# --- those that are obeyed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("STOP", ("stop", False)),
        ("QUITTING", ("stop", True)),
        ("READY my_address=127.0.0.1:5", ("ready", "READY my_address=127.0.0.1:5")),
        ("RESTART reason=upgrade", ("restart", "RESTART reason=upgrade")),
        ("LOG_ROTATE", "reopen_logs"),
    ],
)
def test_the_control_object_is_asked(peer: RecordingPeer, line: str, call: object) -> None:
    control = Control()
    assert deliver(line, peer, control=control) == []
    assert control.calls == [call]
    assert peer.stops == []


@pytest.mark.parametrize("line", ["STOP", "QUITTING", "READY", "RESTART", "LOG_ROTATE"])
def test_a_peer_that_may_not_is_not_obeyed_and_told_so(
    log: pytest.LogCaptureFixture, line: str
) -> None:
    stranger = RecordingPeer(may_control=False)
    control = Control()
    table = Dispatcher(control=control)
    assert deliver(f"{line} serial=5", stranger, table=table) == [
        f"INVALID command={line};message={line} is not accepted from this peer;serial=5"
    ]
    assert (control.calls, stranger.stops, table.my_address) == ([], [], "")
    assert log.messages == [f"peer-1: refused {line}: {line} is not accepted from this peer"]


def test_a_stranger_to_whom_errors_are_not_sent_gets_no_answer() -> None:
    stranger = RecordingPeer(may_control=False, answers_errors=False)
    assert deliver("STOP", stranger, control=Control()) == []
    assert stranger.stops == []


@pytest.mark.parametrize("line", ["HELP", "ALIVE", "LEAK", "UNKNOWN", "SERVICE_UNAVAILABLE"])
def test_the_other_commands_are_for_all(line: str) -> None:
    stranger = RecordingPeer(may_control=False)
    if line == "SERVICE_UNAVAILABLE":
        line += " destination_service=;unsent_command="
    assert [text for text in deliver(line, stranger) if text.startswith("INVALID")] == []


@pytest.mark.parametrize("control", [None, type("OnlyReady", (), {"ready": print})()])
def test_without_a_stop_of_its_own_the_communicator_is_stopped(
    peer: RecordingPeer, log: pytest.LogCaptureFixture, control: object
) -> None:
    deliver("STOP", peer, control=control)
    deliver("QUITTING", peer, control=control)
    assert peer.stops == [False, True]
    assert log.messages == ["peer-1: STOP", "peer-1: QUITTING"]


def test_ready_remembers_the_address(peer: RecordingPeer) -> None:
    table = Dispatcher()
    assert deliver("READY my_address=[::1]:5", peer, table=table) == []
    assert table.my_address == "[::1]:5"
    assert deliver("READY", peer, table=table) == []
    assert table.my_address == ""


def test_a_restart_that_nobody_does_is_logged(
    peer: RecordingPeer, log: pytest.LogCaptureFixture
) -> None:
    assert deliver("RESTART reason=config", peer) == []
    assert log.messages == ["peer-1: RESTART is not supported by this service"]


@pytest.mark.parametrize("control", [None, Control()])
def test_the_rotation_of_the_logs_is_logged_before_and_after(
    peer: RecordingPeer, log: pytest.LogCaptureFixture, control: object
) -> None:
    assert deliver("LOG_ROTATE", peer, control=control) == []
    assert log.messages == [
        "peer-1: LOG_ROTATE: the log files are reopened",
        "peer-1: LOG_ROTATE: the log files were reopened",
    ]


# --- the table ------------------------------------------------------------------------------------


def test_a_control_object_without_any_of_the_methods_is_refused() -> None:
    with pytest.raises(UsageError, match="none of stop, ready, restart, reopen_logs"):
        Dispatcher(control=object())


def test_a_handler_of_ones_own_comes_before_a_default_one(peer: RecordingPeer) -> None:
    table = Dispatcher()
    table.on("STOP")(lambda message, peer: message.reply("NO"))
    table.on("QUIT*")(lambda message, peer: message.reply("NEVER"))
    assert deliver("STOP", peer, table=table) == ["NO"]
    assert deliver("QUITTING", peer, table=table) == ["NEVER"]
    assert peer.stops == []
    with pytest.raises(DuplicateMatchError, match="HELP is handled by"):
        table.on("HELP", priority=15)(lambda message, peer: None)


@pytest.mark.parametrize("command", DEFAULTS)
def test_the_default_commands_can_be_left_out_or_removed(peer: RecordingPeer, command: str) -> None:
    assert Dispatcher(default_commands=False).dispatch(Message(command), peer) == UNMATCHED
    table = Dispatcher()
    assert table.remove_matches("default") == len(DEFAULTS)
    assert table.dispatch(Message(command), peer) == UNMATCHED
    assert peer.sent == []
