"""Requests: which message answers which, and what errors the peer answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from asking import asking, result
from gevent.event import AsyncResult
from network_ground import PATIENCE, Ground, MovedClock, until
from scripted_peer import ScriptedPeer

from edgevent import (
    Client,
    Dispatcher,
    InvalidMessageError,
    Message,
    RemoteError,
    UnknownCommandError,
    UsageError,
)

# --- which message is the answer ------------------------------------------------------------------


def test_answers_by_serial_find_their_callers_in_any_order(
    client: Client, peer: ScriptedPeer
) -> None:
    callers = [asking(client, f"ASK{n}") for n in range(5)]
    serials = [peer.expect()["serial"] for _ in callers]
    assert len(set(serials)) == 5
    peer.send(*(f"IS n={n};serial={serials[n]}" for n in (3, 0, 4, 1, 2)))
    assert [caller.get(timeout=PATIENCE)["n"] for caller in callers] == ["0", "1", "2", "3", "4"]


def test_the_serial_of_a_message_that_has_one_stays(client: Client, peer: ScriptedPeer) -> None:
    caller = gevent.spawn(client.request, Message("ASK", {"serial": "x7"}))
    assert peer.read_line() == "ASK serial=x7"
    with pytest.raises(UsageError, match="open already"):
        client.request(Message("ASK", {"serial": "x7"}))
    peer.send("IS serial=x7")
    assert result(caller) == "IS serial=x7"


@pytest.mark.parametrize("wrong", ["1s", None])
def test_a_limit_that_is_no_number_is_refused_and_nothing_is_sent(
    client: Client, peer: ScriptedPeer, wrong: Any
) -> None:
    with pytest.raises(UsageError, match="ASK: a timeout in seconds was expected: "):
        client.request(Message("ASK"), timeout=wrong)
    client.send(Message("NEXT"))
    peer.expect("NEXT")


@pytest.mark.parametrize("reply", ["IS", ("NO", "IS"), {"IS"}, iter(["IS"])])
def test_without_its_serial_the_first_that_reply_names_is_the_answer(
    client: Client, peer: ScriptedPeer, reply: Any
) -> None:
    caller = asking(client, "ASK", reply)
    peer.expect()["serial"]
    peer.send("NEWS", "OTHER serial=1", "IS n=1", "IS n=2")
    assert result(caller) == "IS n=1"
    assert [str(client.receive()) for _ in range(3)] == ["NEWS", "OTHER serial=1", "IS n=2"]


def test_answers_without_serials_come_in_the_order_of_the_requests(
    client: Client, peer: ScriptedPeer
) -> None:
    callers = [asking(client, "ASK", "IS", serial=serial) for serial in (True, False, True)]
    lines = [peer.read_line() for _ in callers]
    assert [line.partition("=")[0] for line in lines] == ["ASK serial", "ASK", "ASK serial"]
    peer.send("IS n=0", "IS n=1", "IS n=2")
    assert [result(caller) for caller in callers] == ["IS n=0", "IS n=1", "IS n=2"]


def test_without_a_serial_reply_must_say_what_is_an_answer(client: Client) -> None:
    with pytest.raises(UsageError, match="reply="):
        client.request(Message("ASK"), serial=False)
    assert client._requests is not None
    assert client._requests.count == 0


def test_a_broadcast_of_ours_that_comes_back_is_no_answer(
    client: Client, peer: ScriptedPeer
) -> None:
    caller = gevent.spawn(client.request, Message("ASK", service="*"))
    serial = peer.expect()["serial"]
    peer.send(f"*/ASK serial={serial}", f"IS serial={serial}", f"*/ASK serial={serial}", "END")
    assert result(caller) == f"IS serial={serial}"
    assert [client.receive().command for _ in range(3)] == ["ASK", "ASK", "END"]
    assert client.late_answers == 0


def test_a_broadcast_that_comes_back_leaves_its_request_where_it_was(
    client: Client, peer: ScriptedPeer
) -> None:
    first = gevent.spawn(client.request, Message("ASK", service="."), "IS")
    second = asking(client, "ASK", "IS")
    serial = peer.expect()["serial"]
    peer.read_line()
    peer.send(f"./ASK serial={serial}", "IS n=1", "IS n=2")
    assert [result(first), result(second)] == ["IS n=1", "IS n=2"]


def test_an_echo_is_an_answer(client: Client, peer: ScriptedPeer) -> None:
    caller = asking(client, "ECHO")
    line = peer.read_line()
    peer.send(line)
    assert result(caller) == line


def test_what_the_other_side_asks_with_a_serial_is_no_answer(ground: Ground) -> None:
    # Both sides are of this process, and so are their serials.
    there = Dispatcher()

    @there.on("ASK")
    def ask(message: Message, peer: Any) -> Message:
        return message.reply("IS", {"n": peer.request(Message("BACK"))["n"]})

    here = Dispatcher()

    @here.on("BACK")
    def back(message: Message, peer: Any) -> Message:
        return message.reply("THERE", {"n": 4})

    server = ground.serve(there)
    with Client(server.addresses[0], here) as client:
        callers = [asking(client, "ASK") for _ in range(20)]
        assert [caller.get(timeout=PATIENCE)["n"] for caller in callers] == ["4"] * 20


def test_both_sides_ask_each_other_at_once(ground: Ground) -> None:
    both = Dispatcher()
    both.on("ASK")(lambda message, peer: message.reply("IS"))
    server = ground.serve(both)
    with Client(server.addresses[0], both) as client:
        until(lambda: server.peers)
        callers = [asking(side, "ASK") for _ in range(50) for side in (client, server.peers[0])]
        assert {caller.get(timeout=PATIENCE).command for caller in callers} == {"IS"}


def test_a_request_in_the_hub_is_an_error(client: Client, clock: MovedClock) -> None:
    raised: AsyncResult[UsageError] = AsyncResult()

    def ask() -> None:
        try:
            client.request(Message("ASK"))
        except UsageError as error:
            raised.set(error)

    gevent.get_hub().loop.run_callback(ask)
    assert "in the hub itself" in str(raised.get(timeout=PATIENCE))
    assert client._requests is not None
    assert client._requests.count == 0


# --- errors that the peer answers -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("UNKNOWN command=ASK", "UnknownCommandError: ASK is unknown to the peer"),
        ("UNKNOWN command=ASK;serial=%s", "UnknownCommandError: ASK is unknown to the peer"),
        (
            "INVALID command=ASK",
            "InvalidMessageError: ASK was refused by the peer: no reason given",
        ),
        (
            "INVALID command=ASK;message=why;serial=%s",
            "InvalidMessageError: ASK was refused by the peer: why",
        ),
        (
            "INVALID command=ASK;message=internal error;id=1a2b;serial=%s",
            "RemoteError: ASK failed at the peer: internal error, id=1a2b",
        ),
    ],
)
def test_errors_of_the_peer(client: Client, peer: ScriptedPeer, answer: str, expected: str) -> None:
    caller = asking(client, "ASK", "IS")
    serial = peer.expect()["serial"]
    peer.send(answer.replace("%s", serial))
    assert result(caller) == expected
    assert isinstance(caller.exception, RemoteError)
    assert caller.exception.command == "ASK"


@pytest.mark.parametrize("kept", [1000, 253])
def test_an_answer_names_a_very_long_command_whole_or_in_part(
    client: Client, peer: ScriptedPeer, kept: int
) -> None:
    caller = asking(client, "A" * 1000, "IS")
    peer.expect()
    named = "A" * kept + ("..." if kept < 1000 else "")
    peer.send(f"UNKNOWN command={named}")
    assert result(caller).startswith("UnknownCommandError: AAA")


@pytest.mark.parametrize(
    "other", ["UNKNOWN command=OTHER", "INVALID", "INVALID command=ASK;serial=5"]
)
def test_errors_about_something_else_are_no_answers(
    client: Client, peer: ScriptedPeer, other: str
) -> None:
    caller = asking(client)
    serial = peer.expect()["serial"]
    peer.send(other, f"IS serial={serial}")
    assert result(caller) == f"IS serial={serial}"
    assert str(client.receive()) == other


def test_an_error_that_reply_names_is_an_answer(client: Client, peer: ScriptedPeer) -> None:
    caller = asking(client, "ASK", ("IS", "UNKNOWN"))
    peer.read_line()
    peer.send("UNKNOWN command=ASK")
    assert result(caller) == "UNKNOWN command=ASK"


def test_the_id_of_a_failure_finds_the_traceback_in_the_log(
    ground: Ground, logged: Callable[[str], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    service = Dispatcher()

    @service.on("FAIL")
    def fail(message: Message, peer: Any) -> None:
        raise ZeroDivisionError("secret")

    with (
        Client(ground.serve(service).addresses[0]) as client,
        pytest.raises(RemoteError, match="internal error") as raised,
    ):
        client.request(Message("FAIL"))
    assert "secret" not in str(raised.value)
    (record,) = [one for one in caplog.records if raised.value.id in one.getMessage()]
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize(
    ("command", "kind"), [("WHAT", UnknownCommandError), ("ADD", InvalidMessageError)]
)
def test_a_service_of_ours_answers_what_it_cannot_do(
    ground: Ground, command: str, kind: type[RemoteError]
) -> None:
    service = Dispatcher()

    @service.on("ADD")
    def add(message: Message, peer: Any, a: int) -> Message:
        return message.reply("SUM")

    with Client(ground.serve(service).addresses[0]) as client, pytest.raises(kind):
        client.request(Message(command))
