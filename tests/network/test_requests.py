"""Requests: which message answers which, and what comes in the place of an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import AsyncResult, Event
from network_ground import PATIENCE, Ground, MovedClock, until
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import (
    Client,
    ClosedError,
    ConnectionLostError,
    DeadlineError,
    Dispatcher,
    EdgeventError,
    InvalidMessageError,
    Message,
    MessageConnection,
    QueueFullError,
    RemoteError,
    RequestTimeout,
    UnknownCommandError,
    UsageError,
    deadline,
    limits,
    request_many,
)


@pytest.fixture
def peer() -> Iterator[ScriptedPeer]:
    with scripted_peer() as peer:
        yield peer


@pytest.fixture
def client(peer: ScriptedPeer, clock: MovedClock) -> Iterator[Client]:
    """A client of the scripted peer, on the clock that the test moves."""
    with Client(peer.address, clock=clock) as client:
        peer.accept()
        yield client


def asking(client: MessageConnection, command: str = "ASK", *args: Any, **options: Any) -> Any:
    """Asks in a greenlet of its own."""
    return gevent.spawn(client.request, Message(command), *args, **options)


def result(greenlet: Any) -> str:
    """What a request brought: the answer, or the error."""
    try:
        return str(greenlet.get(timeout=PATIENCE))
    except EdgeventError as error:
        return f"{type(error).__name__}: {error}"


# --- which message is the answer ------------------------------------------------------------------


def test_answers_by_serial_find_their_callers_in_any_order(
    client: Client, peer: ScriptedPeer
) -> None:
    callers = [asking(client, f"ASK{n}") for n in range(5)]
    serials = [peer.read_serial() for _ in callers]
    assert len(set(serials)) == 5
    peer.write(*(f"IS n={n};serial={serials[n]}" for n in (3, 0, 4, 1, 2)))
    assert [caller.get(timeout=PATIENCE)["n"] for caller in callers] == ["0", "1", "2", "3", "4"]


def test_the_serial_of_a_message_that_has_one_stays(client: Client, peer: ScriptedPeer) -> None:
    caller = gevent.spawn(client.request, Message("ASK", {"serial": "x7"}))
    assert peer.read() == "ASK serial=x7"
    with pytest.raises(UsageError, match="open already"):
        client.request(Message("ASK", {"serial": "x7"}))
    peer.write("IS serial=x7")
    assert result(caller) == "IS serial=x7"


@pytest.mark.parametrize("reply", ["IS", ("NO", "IS"), {"IS"}, iter(["IS"])])
def test_without_its_serial_the_first_that_reply_names_is_the_answer(
    client: Client, peer: ScriptedPeer, reply: Any
) -> None:
    caller = asking(client, "ASK", reply)
    peer.read_serial()
    peer.write("NEWS", "OTHER serial=1", "IS n=1", "IS n=2")
    assert result(caller) == "IS n=1"
    assert [str(client.receive()) for _ in range(3)] == ["NEWS", "OTHER serial=1", "IS n=2"]


def test_answers_without_serials_come_in_the_order_of_the_requests(
    client: Client, peer: ScriptedPeer
) -> None:
    callers = [asking(client, "ASK", "IS", serial=serial) for serial in (True, False, True)]
    lines = [peer.read() for _ in callers]
    assert [line.partition("=")[0] for line in lines] == ["ASK serial", "ASK", "ASK serial"]
    peer.write("IS n=0", "IS n=1", "IS n=2")
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
    serial = peer.read_serial()
    peer.write(f"*/ASK serial={serial}", f"IS serial={serial}", f"*/ASK serial={serial}", "END")
    assert result(caller) == f"IS serial={serial}"
    assert [client.receive().command for _ in range(3)] == ["ASK", "ASK", "END"]
    assert client.late_answers == 0


def test_a_broadcast_that_comes_back_leaves_its_request_where_it_was(
    client: Client, peer: ScriptedPeer
) -> None:
    first = gevent.spawn(client.request, Message("ASK", service="."), "IS")
    second = asking(client, "ASK", "IS")
    serial = peer.read_serial()
    peer.read()
    peer.write(f"./ASK serial={serial}", "IS n=1", "IS n=2")
    assert [result(first), result(second)] == ["IS n=1", "IS n=2"]


def test_an_echo_is_an_answer(client: Client, peer: ScriptedPeer) -> None:
    caller = asking(client, "ECHO")
    line = peer.read()
    peer.write(line)
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
    serial = peer.read_serial()
    peer.write(answer.replace("%s", serial))
    assert result(caller) == expected
    assert isinstance(caller.exception, RemoteError)
    assert caller.exception.command == "ASK"


@pytest.mark.parametrize(
    "other", ["UNKNOWN command=OTHER", "INVALID", "INVALID command=ASK;serial=5"]
)
def test_errors_about_something_else_are_no_answers(
    client: Client, peer: ScriptedPeer, other: str
) -> None:
    caller = asking(client)
    serial = peer.read_serial()
    peer.write(other, f"IS serial={serial}")
    assert result(caller) == f"IS serial={serial}"
    assert str(client.receive()) == other


def test_an_error_that_reply_names_is_an_answer(client: Client, peer: ScriptedPeer) -> None:
    caller = asking(client, "ASK", ("IS", "UNKNOWN"))
    peer.read()
    peer.write("UNKNOWN command=ASK")
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


# --- no answer in time ----------------------------------------------------------------------------


def test_each_request_has_its_own_limit(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    long, short = asking(client, "LONG", timeout=9.0), asking(client, "SHORT", timeout=2.5)
    serial = peer.read_serial()
    peer.read()
    clock.advance(2.5)
    assert result(short) == f"RequestTimeout: {client.name}: no answer to SHORT within 2.5 s"
    clock.advance(6.0)
    peer.write(f"IS serial={serial}")
    assert result(long) == f"IS serial={serial}"
    clock.advance(60.0)
    assert clock.pending == 0


def test_a_late_answer_is_dropped_and_counted(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    first = asking(client, "ASK", "IS")
    serial = peer.read_serial()
    clock.advance(10.0)
    with pytest.raises(RequestTimeout):
        first.get(timeout=PATIENCE)
    second = asking(client, "ASK", "IS")
    own = peer.read_serial()
    peer.write(f"IS n=1;serial={serial}", f"IS n=2;serial={own}", f"IS n=3;serial={own}", "IS n=4")
    assert result(second) == f"IS n=2;serial={own}"
    assert str(client.receive()) == "IS n=4"
    assert client.late_answers == 2


def test_a_late_answer_to_a_serial_of_the_callers_is_dropped(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    first = gevent.spawn(client.request, Message("ASK", {"serial": "x"}))
    peer.read()
    clock.advance(10.0)
    assert "RequestTimeout" in result(first)
    peer.write("IS n=1;serial=x", "IS n=2;serial=x")
    assert str(client.receive()) == "IS n=2;serial=x"
    assert client.late_answers == 1


@pytest.mark.parametrize("serial", [True, False])
@pytest.mark.parametrize("late", ["IS n=1", "UNKNOWN command=ASK"])
def test_a_late_answer_without_a_serial_is_not_taken_for_the_next(
    client: Client, peer: ScriptedPeer, clock: MovedClock, serial: bool, late: str
) -> None:
    for n in range(3):
        first = asking(client, "ASK", "IS", serial=serial)
        peer.read()
        clock.advance(10.0)
        assert "RequestTimeout" in result(first)
        second = asking(client, "ASK", "IS", serial=serial)
        peer.read()
        peer.write(late, "IS n=2")
        assert result(second) == "IS n=2"
        assert client.late_answers == n + 1


def test_what_an_older_request_waits_for_is_not_late(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    old = asking(client, "ASK", "IS", serial=False, timeout=20.0)
    young = asking(client, "ASK", "IS", serial=False, timeout=5.0)
    peer.read()
    peer.read()
    clock.advance(5.0)
    assert "RequestTimeout" in result(young)
    peer.write("IS n=1", "IS n=2", "IS n=3")
    assert result(old) == "IS n=1"
    assert str(client.receive()) == "IS n=3"


def test_peers_that_copy_serials_may_send_the_same_command_unasked(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    first = asking(client, "ASK", "IS")
    peer.write(f"IS serial={peer.read_serial()}")
    result(first)
    second = asking(client, "ASK", "IS")
    peer.read()
    clock.advance(10.0)
    result(second)
    peer.write("IS unasked=1")
    assert str(client.receive()) == "IS unasked=1"


def test_the_marks_of_late_answers_are_bounded_in_time(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    first = asking(client, "ASK", "IS", serial=False)
    peer.read()
    clock.advance(10.0)
    result(first)
    clock.advance(limits.LATE_ANSWER_TIMEOUT)
    peer.write("IS n=1")
    assert str(client.receive()) == "IS n=1"


def test_the_marks_of_late_answers_are_bounded_in_number(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    count = limits.LATE_ANSWERS + 6
    callers = [asking(client, f"ASK{n}", f"IS{n}", serial=False) for n in range(count)]
    for _ in callers:
        peer.read()
    clock.advance(10.0)
    gevent.joinall(callers, timeout=PATIENCE)
    peer.write(*(f"IS{n}" for n in range(count)), "END")
    assert [client.receive().command for _ in range(7)] == [f"IS{n}" for n in range(6)] + ["END"]
    assert client.late_answers == limits.LATE_ANSWERS


def test_an_answer_that_never_comes_does_not_shift_all_others_for_ever(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    lost = asking(client, "ASK", "IS", serial=False)
    peer.read()
    clock.advance(10.0)
    result(lost)
    for asked in range(1, 20):  # each answer is taken for the late one of the request before
        caller = asking(client, "ASK", "IS", serial=False)
        peer.read()
        peer.write(f"IS n={asked}")
        until(lambda caller=caller, asked=asked: caller.ready() or client.late_answers == asked)
        clock.advance(10.0)
        if result(caller) == f"IS n={asked}":
            break
    assert asked * 10.0 <= limits.LATE_ANSWER_TIMEOUT + 10.0


def test_the_limit_holds_while_the_request_waits_for_room(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    fill(client)
    waiting = asking(client, "ASK", timeout=3.0)
    also = asking(client, "ASK", "IS", timeout=6.0, serial=False)
    until(lambda: waiting.started and clock.pending >= 2)
    clock.advance(3.0)
    assert result(waiting) == (f"RequestTimeout: {client.name}: ASK could not be sent within 3 s")
    while not (line := peer.read()).startswith("ASK"):
        assert line.startswith("FILL")
    assert line == "ASK"  # what ran out of time was never sent
    peer.write("IS")
    assert result(also) == "IS"
    client.cut()


def fill(client: MessageConnection) -> None:
    """Sends until a further message would have to wait."""
    while not client.is_full:
        client.send(Message("FILL", {"with": "x" * 60000}))


# --- the end of the connection --------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_ends_ends_its_requests(
    client: Client, peer: ScriptedPeer, reset: bool
) -> None:
    callers = [asking(client, f"ASK{n}", "IS") for n in range(3)]
    for _ in callers:
        peer.read()
    peer.drop(reset=reset)
    errors = [caller.get(block=True, timeout=PATIENCE) for caller in map(caught, callers)]
    assert {type(error) for error in errors} == {ConnectionLostError}
    assert len(set(map(id, errors))) == 3
    with pytest.raises(ConnectionLostError):
        client.request(Message("ASK"))


def caught(greenlet: Any) -> Any:
    """The error of a greenlet, as a result."""
    found: AsyncResult[BaseException] = AsyncResult()
    greenlet.rawlink(lambda ended: found.set(ended.exception))
    return found


def test_closing_ends_the_requests(client: Client, peer: ScriptedPeer) -> None:
    caller = asking(client)
    peer.read()
    client.close()
    assert result(caller) == f"ClosedError: {client.name} is closed"
    with pytest.raises(ClosedError):
        client.request(Message("ASK"))


def test_a_stop_ends_the_requests_of_handlers(ground: Ground) -> None:
    service, raised = Dispatcher(), AsyncResult()

    @service.on("ASK")
    def ask(message: Message, peer: Any) -> None:
        try:
            peer.request(Message("BACK"))
        except EdgeventError as error:
            raised.set(error)

    with Client(ground.serve(service).addresses[0]) as client:
        client.send(Message("ASK"))
        assert client.receive(PATIENCE).command == "BACK"
        ground.communicator.stop()
        assert isinstance(raised.get(timeout=PATIENCE), ClosedError)


def test_marks_do_not_outlive_their_connection(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    first = asking(client, "ASK", "IS", serial=False)
    peer.read()
    clock.advance(10.0)
    result(first)
    peer.drop()
    again = asking(client, "ASK", "IS", serial=False, idempotent=True)
    peer.accept()
    peer.read()
    peer.write("IS n=1")
    assert result(again) == "IS n=1"


# --- callers that leave ---------------------------------------------------------------------------


def give_up_by_timeout(client: Client) -> None:
    with gevent.Timeout(0.001, False):
        client.request(Message("ASK"), "IS", serial=False)


def give_up_by_kill(client: Client) -> None:
    caller = asking(client, "ASK", "IS", serial=False)
    until(lambda: client._requests and client._requests.count)
    caller.kill()


def give_up_by_deadline(client: Client) -> None:
    with pytest.raises(DeadlineError, match=r"0\.001 s"), deadline(0.001):
        client.request(Message("ASK"), "IS", serial=False)


@pytest.mark.parametrize("give_up", [give_up_by_timeout, give_up_by_kill, give_up_by_deadline])
def test_a_caller_that_leaves_leaves_nothing_but_a_mark(
    client: Client, peer: ScriptedPeer, give_up: Callable[[Client], None]
) -> None:
    give_up(client)
    assert client._requests is not None
    assert client._requests.count == 0
    peer.read()
    second = asking(client, "ASK", "IS", serial=False)
    peer.read()
    peer.write("IS late=1", "IS n=2")
    assert result(second) == "IS n=2"


def test_a_deadline_bounds_several_requests(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    def ask() -> None:
        with deadline(3.0, clock=clock):
            client.request(Message("ASK"))
            client.request(Message("ASK"))

    asker = gevent.spawn(ask)
    serial = peer.read_serial()
    clock.advance(2.0)
    peer.write(f"IS serial={serial}")
    peer.read()
    clock.advance(1.0)
    assert result(asker) == "DeadlineError: the deadline of 3 s was reached"


# --- a full inbox, a full outbox ------------------------------------------------------------------

NEWS = "NEWS text=" + "x" * 5000


def test_an_answer_behind_a_full_inbox_is_read(client: Client, peer: ScriptedPeer) -> None:
    count = 4 * limits.INBOX_BYTES // len(NEWS)
    caller = asking(client)
    serial = peer.read_serial()
    peer.write(*[NEWS] * count, f"IS serial={serial}")
    assert result(caller) == f"IS serial={serial}"
    again = asking(client)  # the inbox is full already
    peer.write(f"IS serial={peer.read_serial()}")
    assert "IS" in result(again)
    assert [client.receive(PATIENCE).command for _ in range(count)] == ["NEWS"] * count


def test_a_handler_that_asks_its_own_peer_gets_its_answer_past_a_full_inbox(
    ground: Ground, peer: ScriptedPeer
) -> None:
    service, seen = Dispatcher(), Event()
    count = 4 * limits.INBOX_BYTES // len(NEWS)
    heard: list[str] = []

    @service.on("ASK")
    def ask(message: Message, peer: Any) -> None:
        heard.append(peer.request(Message("BACK"))["n"])

    @service.on("NEWS")
    def news(message: Message, peer: Any) -> None:
        heard.append("news")
        if len(heard) == count + 1:
            seen.set()

    ground.communicator.add_connection(MessageConnection(peer.address, service))
    peer.accept()
    peer.write("ASK")
    serial = peer.read_serial()
    peer.write(*[NEWS] * count, f"IS n=5;serial={serial}")
    assert seen.wait(PATIENCE)
    assert heard == ["5"] + ["news"] * count


def test_a_wait_for_an_answer_does_not_pile_up_messages_without_end(
    client: Client, peer: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INBOX_HARD_BYTES", 3 * limits.INBOX_BYTES)
    caller = asking(client)
    peer.read()
    writer = gevent.spawn(peer.write, *[NEWS] * (16 * 1024 * 1024 // len(NEWS)))
    assert "QueueFullError" in result(caller)
    assert "nobody has received" in result(caller)
    with pytest.raises(QueueFullError):
        client.request(Message("ASK"))
    assert client._inbox.size < limits.INBOX_HARD_BYTES + 2 * limits.READ_BYTES
    while client.receive().command == "NEWS" and client._inbox.is_full:
        pass
    client.cut()
    writer.kill()


def test_an_answer_comes_while_another_greenlet_is_held_by_a_full_outbox(
    client: Client, peer: ScriptedPeer
) -> None:
    caller = asking(client)
    serial = peer.read_serial()
    fill(client)
    sender = gevent.spawn(client.send, Message("MORE"))
    until(lambda: client.outbox._waiters)
    peer.write(f"IS serial={serial}")
    assert result(caller) == f"IS serial={serial}"
    assert not sender.ready()
    peer.drop()
    client.cut()
    assert "Error" in result(sender)


# --- many at once ---------------------------------------------------------------------------------


@pytest.fixture
def crowd(clock: MovedClock) -> Iterator[list[tuple[Client, ScriptedPeer]]]:
    """Four clients, each with a peer of its own."""
    with scripted_peer() as a, scripted_peer() as b, scripted_peer() as c, scripted_peer() as d:
        made = []
        for peer in (a, b, c, d):
            made.append((Client(peer.address, clock=clock), peer))
            peer.accept()
        yield made
        for client, _ in made:
            client.cut()


def asking_all(crowd: list[tuple[Client, ScriptedPeer]], **options: Any) -> Any:
    return gevent.spawn(request_many, [client for client, _ in crowd], Message("ASK"), **options)


def test_request_many_asks_all_at_once(crowd: list[tuple[Client, ScriptedPeer]]) -> None:
    asker = asking_all(crowd)
    serials = [peer.read_serial() for _, peer in crowd]
    for n in (2, 0, 3, 1):
        crowd[n][1].write(f"IS n={n};serial={serials[n]}")
    answers = asker.get(timeout=PATIENCE)
    assert [answer["n"] for answer in answers] == ["0", "1", "2", "3"]


def test_request_many_gives_an_error_in_the_place_of_an_answer(
    crowd: list[tuple[Client, ScriptedPeer]], clock: MovedClock
) -> None:
    crowd[3][0].close()
    asker = asking_all(crowd, timeout=4.0, reply="IS")
    crowd[0][1].read()
    crowd[0][1].write("IS n=0")
    crowd[1][1].read()
    crowd[1][1].write("UNKNOWN command=ASK")
    crowd[2][1].read()
    until(lambda: crowd[1][0]._requests and not crowd[1][0]._requests.count)
    clock.advance(4.0)
    answers = asker.get(timeout=PATIENCE)
    assert [type(answer) for answer in answers] == [
        Message,
        UnknownCommandError,
        RequestTimeout,
        ClosedError,
    ]


def test_request_many_has_one_limit_for_all_and_lets_no_slow_peer_keep_the_others_waiting(
    crowd: list[tuple[Client, ScriptedPeer]], clock: MovedClock
) -> None:
    fill(crowd[0][0])
    fill(crowd[1][0])
    asker = asking_all(crowd, timeout=4.0)
    for client, peer in crowd[2:]:
        peer.write(f"IS serial={peer.read_serial()}")
        until(lambda client=client: not client._requests.count)
    until(lambda: crowd[0][0].outbox._waiters)
    clock.advance(4.0)
    answers = asker.get(timeout=PATIENCE)
    assert [type(answer) for answer in answers] == [RequestTimeout] * 2 + [Message] * 2


def test_request_many_of_nobody(crowd: list[tuple[Client, ScriptedPeer]]) -> None:
    assert request_many([], Message("ASK")) == []


def test_request_many_that_is_given_up_leaves_nothing_open(
    crowd: list[tuple[Client, ScriptedPeer]],
) -> None:
    asker = asking_all(crowd)
    for _, peer in crowd:
        peer.read()
    asker.kill()
    assert [client._requests.count for client, _ in crowd if client._requests] == [0] * 4


# --- beside a receiver ----------------------------------------------------------------------------


def test_a_second_receiver_is_an_error(client: Client, peer: ScriptedPeer) -> None:
    receiver = gevent.spawn(client.receive)
    until(lambda: client._receiver)
    with pytest.raises(UsageError, match="another greenlet is receiving"):
        client.receive()
    with pytest.raises(UsageError, match="another greenlet is receiving"):
        next(iter(client))
    peer.write("NEWS")
    assert result(receiver) == "NEWS"


def test_who_iterates_gets_what_no_request_awaits(client: Client, peer: ScriptedPeer) -> None:
    heard: list[str] = []
    iterating = gevent.spawn(lambda: heard.extend(map(str, client)))
    callers = [asking(client, "ASK", "IS", serial=serial) for serial in (True, False)]
    serial = peer.read_serial()
    peer.read()
    peer.write("NEWS n=1", f"IS serial={serial}", "NEWS n=2", "IS", "IS", "NEWS n=3")
    assert [result(caller) for caller in callers] == [f"IS serial={serial}", "IS"]
    peer.drop()
    iterating.get(timeout=PATIENCE)
    assert heard == ["NEWS n=1", "NEWS n=2", "IS", "NEWS n=3"]


def test_a_receive_has_one_limit_whatever_is_dropped_meanwhile(
    client: Client, peer: ScriptedPeer, clock: MovedClock, logged: Callable[[str], list[str]]
) -> None:
    receiver = gevent.spawn(client.receive, 3.0)
    until(lambda: clock.pending)
    clock.advance(2.0)
    peer.write("", "no message")
    until(lambda: logged("malformed") and client._receiver)
    clock.advance(1.0)
    assert result(receiver) == f"ReceiveTimeout: {client.name}: nothing came within 3 s"
