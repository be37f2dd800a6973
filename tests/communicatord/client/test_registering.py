"""How a service registers, and is registered again: the other side is scripted, as one in C++."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event
from network_ground import PATIENCE, Ground, MovedClock, until
from scripted_peer import ScriptedPeer

from edgevent import (
    ClosedError,
    ClusterStatus,
    Communicator,
    CommunicatorClient,
    CommunicatorConnection,
    ConnectError,
    Dispatcher,
    Message,
    MessageError,
    NotConnectedError,
    RegistrationError,
    ServiceStatus,
    ServiceUnavailableError,
    TransmissionError,
    UsageError,
    WrongThreadError,
)

REGISTER = "REGISTER service=svca;version=1"
HELP = "<testhost:communicatord HELP"
READY = "<testhost:communicatord READY my_address=127.0.0.1:4042"
DEFAULTS = (
    "ALIVE,HELP,INVALID,LEAK,LOG_ROTATE,QUITTING,READY,RESTART,SERVICE_UNAVAILABLE,STATUS,STOP,"
    "TRANSMISSION_REPORT,UNKNOWN"
)
COMMANDS = f"<:svca testhost:communicatord/COMMANDS list={DEFAULTS}"
TAKEN = "<testhost:communicatord INVALID command=REGISTER;message=the name svca is taken"


def service(ground: Ground, peer: ScriptedPeer, **settings: Any) -> CommunicatorConnection:
    """A service that has not come to its daemon yet."""
    settings = {"dispatcher": Dispatcher(), "address": peer.address, **settings}
    return ground.communicator.add_connection(CommunicatorConnection("svca", **settings))


def welcome(peer: ScriptedPeer) -> None:
    """The whole registration."""
    assert peer.read_line() == REGISTER
    peer.send(HELP, READY)
    assert peer.read_line() == COMMANDS


def registered(ground: Ground, peer: ScriptedPeer, **settings: Any) -> CommunicatorConnection:
    """A service that is registered."""
    link = service(ground, peer, **settings)
    welcome(peer)
    link.wait_until_ready(PATIENCE)
    return link


# --- in and out -----------------------------------------------------------------------------------


def test_the_words_are_those_of_the_library_in_cpp(ground: Ground, peer: ScriptedPeer) -> None:
    link = service(ground, peer)
    assert peer.read_line() == REGISTER
    peer.send(HELP)
    assert peer.read_line() == COMMANDS  # also of a daemon that waits for it
    assert not link.is_registered
    peer.send(READY)
    link.wait_until_ready(PATIENCE)
    assert link.is_registered
    assert link.my_address == link.dispatcher.my_address == "127.0.0.1:4042"
    link.send(Message("PING", {"seq": 1}, service="svcb"))
    assert peer.read_line() == "<:svca svcb/PING seq=1"
    link.close()
    assert peer.read_line() == "UNREGISTER service=svca"
    assert peer.expect_end() == "closed"
    assert not link.is_registered
    with pytest.raises(ClosedError):
        link.wait_until_ready(0.0)


def test_a_greeting_may_come_in_pieces_and_with_rubbish(ground: Ground, peer: ScriptedPeer) -> None:
    link = service(ground, peer)
    assert peer.read_line() == REGISTER
    peer.send(b"<testhost:commu", b"nicatord HELP\nno message\n<testhost:communicatord ALIVE\n")
    assert peer.read_line() == COMMANDS
    assert peer.read_line().startswith("<:svca testhost:communicatord/ABSOLUTELY ")
    peer.send(READY.encode() + b"\n<testhost:svcb testhost:svca/ALIVE serial=5\n")
    assert peer.read_line().startswith("<:svca testhost:svcb/ABSOLUTELY ")
    assert link.is_registered


def test_what_was_kept_leaves_after_ready_and_what_on_ready_sends(
    ground: Ground, peer: ScriptedPeer
) -> None:
    link = service(ground, peer)
    calls = list[str]()

    @link.on_ready
    def ready(link: CommunicatorConnection) -> None:
        assert link.is_registered
        link.wait_until_ready(0.0)  # it is so far, for who is called
        link.send(Message("FIRST", service="svcb"))
        calls.append("ready")

    link.send(Message("KEPT", service="svcb"), cache=True)
    assert peer.read_line() == REGISTER
    link.send(Message("KEPT_TOO", service="svcb"), cache=True)
    peer.expect_nothing(within=0.0)
    assert calls == []
    with pytest.raises(NotConnectedError):
        link.wait_until_up(0.0)
    peer.send(HELP, READY)
    lines = [peer.read_line() for _ in range(4)]
    assert lines == [
        COMMANDS,
        "<:svca svcb/FIRST",
        "<:svca svcb/KEPT",
        "<:svca svcb/KEPT_TOO",
    ]
    assert calls == ["ready"]


def test_it_is_registered_again_after_each_loss(ground: Ground, peer: ScriptedPeer) -> None:
    link = registered(ground, peer, pauses="0.01")
    for _ in range(3):
        peer.close()
        until(lambda: not link.is_registered)
        link.send(Message("KEPT", service="svcb"), cache=True)
        welcome(peer)
        assert peer.read_line() == "<:svca svcb/KEPT"
    assert link.is_registered


def test_who_receives_gets_neither_help_nor_ready(ground: Ground, peer: ScriptedPeer) -> None:
    link = service(ground, peer)
    receiving = gevent.spawn(link.receive, PATIENCE)
    welcome(peer)
    peer.send("<testhost:svcb svca/NEWS")
    assert receiving.get(timeout=PATIENCE).command == "NEWS"


def test_the_control_object_is_told_that_the_service_is_ready(
    ground: Ground, peer: ScriptedPeer
) -> None:
    told = list[str]()

    class Control:
        def ready(self, message: Message) -> None:
            told.append(message["my_address"])

    registered(ground, peer, dispatcher=Dispatcher(control=Control()))
    assert told == ["127.0.0.1:4042"]


def test_unregister_waits_for_what_is_kept(ground: Ground, peer: ScriptedPeer) -> None:
    link = service(ground, peer)
    link.send(Message("KEPT", service="svcb"), cache=True)
    link.unregister()
    welcome(peer)
    assert peer.read_line() == "<:svca svcb/KEPT"
    assert peer.read_line() == "UNREGISTER service=svca"
    assert peer.expect_end() == "closed"


def test_it_unregisters_when_the_communicator_stops(peer: ScriptedPeer) -> None:
    with Communicator() as communicator:
        runner = gevent.spawn(communicator.run)
        link = CommunicatorConnection("svca", Dispatcher(), address=peer.address)
        communicator.add_connection(link)
        welcome(peer)
        link.wait_until_ready(PATIENCE)
        communicator.stop()
        assert peer.read_line() == "UNREGISTER service=svca"
        assert peer.expect_end() == "closed"
        assert runner.get(timeout=PATIENCE)


def test_the_list_of_commands_can_be_sent_again(ground: Ground, peer: ScriptedPeer) -> None:
    link = registered(ground, peer)
    link.dispatcher.on("NEWS")(lambda message, peer: None)
    link.send_commands()
    assert ",NEWS," in peer.read_line()


@pytest.mark.parametrize("name", ["", "1st", "a-b", "communicator d"])
def test_a_name_that_is_none_is_refused(peer: ScriptedPeer, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name!r} is no name of a service"):
        CommunicatorConnection(name, address=peer.address)


# --- refusals -------------------------------------------------------------------------------------


def test_a_name_that_is_taken_is_told_and_tried_again(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer, caplog: pytest.LogCaptureFixture
) -> None:
    link = service(moved, peer, pauses="5", name="taken")
    waiting = gevent.spawn(link.wait_until_ready, PATIENCE)
    assert peer.read_line() == REGISTER
    peer.send(TAKEN)
    text = f"{peer.address} did not register svca: the name svca is taken"
    with pytest.raises(RegistrationError, match=text):
        waiting.get(timeout=PATIENCE)
    assert peer.expect_end() == "closed"
    assert f"taken: {text}" in [one.getMessage() for one in caplog.records]
    assert isinstance(link.refusal, RegistrationError)
    with pytest.raises(RegistrationError, match=text):
        link.wait_until_ready(PATIENCE)  # it has not changed since
    up = gevent.spawn(link.wait_until_up, PATIENCE)
    until(lambda: clock.pending)
    clock.advance(5.0)
    welcome(peer)
    up.get(timeout=PATIENCE)
    assert link.refusal is None


def test_no_answer_is_a_loss_after_a_while(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer, caplog: pytest.LogCaptureFixture
) -> None:
    link = service(moved, peer, pauses="5", registration_timeout=3.0, name="silent")
    assert peer.read_line() == REGISTER
    until(lambda: clock.alarms and clock.alarms[0] == 3.0)
    clock.advance(3.0)
    assert peer.expect_end() == "closed"
    until(lambda: "silent: no READY within 3 s of REGISTER" in caplog.text)
    clock.advance(5.0)
    welcome(peer)
    link.wait_until_ready(PATIENCE)


@pytest.mark.parametrize("stage", ["before READY", "registered"])
def test_a_local_daemon_that_is_back_at_once_is_dialled_within_a_second_each_time(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer, stage: str
) -> None:
    link = service(moved, peer)
    for _ in range(8):
        if stage == "registered":
            welcome(peer)
            link.wait_until_ready(PATIENCE)
        else:
            assert peer.read_line() == REGISTER
        peer.close()
        until(lambda: link._alarm_to_dial)
        clock.advance(1.0)


@pytest.mark.parametrize("why", ["refused", "no answer"])
def test_a_local_daemon_that_does_not_take_the_service_is_dialled_less_and_less_often(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer, why: str
) -> None:
    link = service(moved, peer, registration_timeout=9.0, pauses="1,2,4", wait_for_listener=True)
    for attempts, pause in enumerate((1.0, 2.0, 4.0), 1):
        assert peer.read_line() == REGISTER
        if why == "refused":
            peer.send(TAKEN)
        else:
            until(lambda: link._alarm_to_register)
            clock.advance(9.0)
        assert peer.expect_end() == "closed"
        until(lambda: link._alarm_to_dial)
        clock.advance(pause - 0.5)
        assert link.attempts == attempts
        clock.advance(0.5)


def test_a_daemon_that_goes_in_the_middle_is_waited_for(ground: Ground, peer: ScriptedPeer) -> None:
    link = service(ground, peer, pauses="0.01")
    assert peer.read_line() == REGISTER
    peer.send(HELP)
    peer.close()
    assert peer.read_line() == REGISTER
    peer.send(READY)
    peer.close()
    welcome(peer)
    link.wait_until_ready(PATIENCE)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (TAKEN, "the name svca is taken"),
        ("UNKNOWN command=REGISTER", "REGISTER is unknown to the peer"),
        (None, "the peer has ended the connection"),
        ("ALIVE", "did not register svca within 0.2 s"),
    ],
)
def test_a_script_is_told_why_it_is_not_registered(
    peer: ScriptedPeer, answer: str | None, text: str
) -> None:
    def refuse() -> None:
        assert peer.read_line() == REGISTER
        if answer is None:
            peer.close()
        else:
            peer.send(answer)

    refusing = gevent.spawn(refuse)
    limit = 0.2 if answer == "ALIVE" else PATIENCE
    with pytest.raises(RegistrationError, match=text):
        CommunicatorClient("svca", address=peer.address, connect_timeout=limit)
    refusing.get(timeout=PATIENCE)


def test_a_script_without_a_daemon_is_told_so(path: str) -> None:
    with pytest.raises(ConnectError, match="No such file"):
        CommunicatorClient("svca", address=f"unix:{path}")


# --- what a daemon in C++ tells -------------------------------------------------------------------


def test_services_that_come_and_go_are_told(ground: Ground, peer: ScriptedPeer) -> None:
    found = list[ServiceStatus]()

    class Watching(CommunicatorConnection):
        def process_status(self, status: ServiceStatus) -> None:
            found.append(status)

    link = Watching("svca", Dispatcher(), address=peer.address)
    link.on_status(lambda link, status: found.append(status))
    ground.communicator.add_connection(link)
    welcome(peer)
    told = "<testhost:communicatord STATUS cache=no;server_name=testhost;service=svcb;"
    peer.send(f"{told}status=up;up_since=1795451928")
    peer.send(f"{told}down_since=1795451930;status=down;up_since=1795451928")
    peer.send(f"{told}status=asleep")
    peer.send("<testhost:svcb svca/STATUS service=svcc;status=up")  # a service cannot tell it
    assert peer.read_line().startswith("<:svca testhost:communicatord/INVALID command=STATUS;")
    assert peer.read_line() == "<:svca testhost:svcb/UNKNOWN command=STATUS"
    up = ServiceStatus("svcb", "up", "testhost", 1795451928)
    down = ServiceStatus("svcb", "down", "testhost", 1795451928, 1795451930)
    assert found == [up, up, down, down]
    assert (up.is_up, down.is_up) == (True, False)


@pytest.mark.parametrize(
    ("report", "kind"),
    [
        (
            "SERVICE_UNAVAILABLE destination_service=svcb;unsent_command=ASK",
            ServiceUnavailableError,
        ),
        ("TRANSMISSION_REPORT command=ASK;status=failed", TransmissionError),
    ],
)
def test_a_report_without_a_serial_ends_the_request_that_it_is_about(
    ground: Ground, peer: ScriptedPeer, report: str, kind: type[Exception]
) -> None:
    link = registered(ground, peer)
    asked = [
        gevent.spawn(link.request, target, Message("ASK"), "ANSWER", PATIENCE)
        for target in ("svcb", "svcc")
    ]
    listed = "<:svca communicatord/COMMANDS list=ANSWER,HELP,QUITTING,READY,STOP,UNKNOWN"
    assert peer.read_line() == listed
    line = peer.read_line()
    assert line.startswith('<:svca svcb/ASK cache="no;reply";serial=')
    assert line.endswith(";transmission_report=failure")
    peer.read_line()
    peer.send(
        "no message",
        "<testhost:svcd svca/SERVICE_UNAVAILABLE destination_service=svcc;unsent_command=ASK",
        "<testhost:communicatord SERVICE_UNAVAILABLE destination_service=svcd;unsent_command=ASK",
        "<testhost:communicatord TRANSMISSION_REPORT command=ASK;status=cached",
        f"<testhost:communicatord {report}",
        "<testhost:svcc testhost:svca/ANSWER",
    )
    with pytest.raises(kind, match="ASK"):
        asked[0].get(timeout=PATIENCE)
    assert asked[1].get(timeout=PATIENCE).sent_from_service == "svcc"


def test_the_status_of_a_service_is_told_apart_from_that_of_others(
    ground: Ground, peer: ScriptedPeer
) -> None:
    link = registered(ground, peer)
    others = list[str]()
    link.on_status(lambda link, status: others.append(status.service))
    asked = gevent.spawn(link.service_status, "svcb", PATIENCE)
    for name, state in (("svcc", "up"), ("svcb", "unknown")):
        assert peer.read_line().startswith("<:svca SERVICE_STATUS serial=")
        peer.send(f"<testhost:communicatord STATUS cache=no;service={name};status={state}")
    assert asked.get(timeout=PATIENCE) == ServiceStatus("svcb", "unknown")
    assert others == ["svcc"]


@pytest.mark.parametrize(
    ("second", "complete"),
    [("CLUSTER_INCOMPLETE", False), ("CLUSTER_COMPLETE", True), ("", None)],
)
def test_the_cluster_is_told_in_two_words_or_in_one(
    moved: Ground,
    clock: MovedClock,
    peer: ScriptedPeer,
    second: str,
    complete: bool | None,
) -> None:
    link = registered(moved, peer)
    asked = gevent.spawn(link.cluster_status, PATIENCE)
    names = (
        "CLUSTER_COMPLETE,CLUSTER_DOWN,CLUSTER_INCOMPLETE,CLUSTER_UP,HELP,QUITTING,READY,STOP"
        ",UNKNOWN"
    )
    assert peer.read_line() == f"<:svca communicatord/COMMANDS list={names}"
    assert peer.read_line().startswith("<:svca CLUSTER_STATUS serial=")
    peer.send("<testhost:communicatord ./CLUSTER_DOWN neighbors_count=3")
    if second:
        peer.send(f"<testhost:communicatord ./{second} neighbors_count=3")
    else:
        until(lambda: 1.0 in clock.alarms)
        clock.advance(1.0)
    assert asked.get(timeout=PATIENCE) == ClusterStatus(False, complete, 3)
    peer.send("<testhost:communicatord ./CLUSTER_UP neighbors_count=3", "ALIVE")
    assert peer.read_line().startswith("<:svca ABSOLUTELY")  # the change alone needs no answer


def test_a_lost_link_says_so(ground: Ground, peer: ScriptedPeer) -> None:
    link = registered(ground, peer, pauses="100")
    link.send(Message("NEWS", service="svcb"))
    peer.cut()
    until(lambda: not link.is_registered)
    calls: list[Callable[[], Any]] = [
        lambda: link.send(Message("NEWS", service="svcb")),
        lambda: link.request("svcb", Message("NEWS"), "OLD"),
        lambda: link.broadcast(Message("NEWS")),
        link.services,
        lambda: link.wait_until_ready(0.0),
    ]
    for call in calls:
        with pytest.raises(NotConnectedError, match="is not connected to"):
            call()
    assert [message.command for message in link.undelivered] == ["NEWS"]


def test_a_line_over_the_limit_and_another_thread_are_refused(
    ground: Ground, peer: ScriptedPeer
) -> None:
    link = registered(ground, peer, max_line_bytes=1000)
    for settings in ({}, {"cache": True}):
        with pytest.raises(MessageError, match="over the limit of 1000"):
            link.send(Message("NEWS", {"text": "x" * 1000}, service="svcb"), **settings)
    pool = gevent.get_hub().threadpool
    with pytest.raises(WrongThreadError):
        pool.apply(link.send, (Message("NEWS", service="svcb"),))
    signed = Message("NEWS", service="svcb", sent_from_service="svcc")
    link.send(signed)
    assert peer.read_line() == "<:svcc svcb/NEWS"  # a daemon knows better
    link.send(Message("NEWS", service="svcb", sent_from_server="here"))
    assert peer.read_line() == "<here: svcb/NEWS"


@pytest.mark.parametrize("wrong", ["NEWS", b"NEWS", 5, None])
def test_what_is_no_message_is_refused(ground: Ground, peer: ScriptedPeer, wrong: Any) -> None:
    link = registered(ground, peer)
    calls: list[Callable[[Any], object]] = [
        link.send,
        functools.partial(link.send, cache=True),
        functools.partial(link.send, report=True),
        functools.partial(link.request, "svcb"),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="a Message was expected, not a"):
            call(wrong)


def test_a_daemon_that_takes_nothing_is_left_without_a_word(
    ground: Ground, peer: ScriptedPeer
) -> None:
    link = registered(ground, peer)
    count = 0
    while not link.is_full:
        link.send(Message("NEWS", {"text": "x" * 50_000}, service="svcb"))
        count += 1
    link.close()
    for _ in range(count):
        assert peer.read_line().startswith("<:svca svcb/NEWS text=")
    assert peer.expect_end() == "closed"


@pytest.mark.parametrize("asks", [False, True])
def test_a_handler_that_blocks_for_long_does_not_make_the_service_dead(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer, asks: bool
) -> None:
    table, go = Dispatcher(), Event()

    @table.on("WORK")
    def work(message: Message, peer: Any) -> Message:
        assert go.wait(PATIENCE)
        return message.reply("DONE")

    link = service(moved, peer, dispatcher=table)
    assert peer.read_line() == REGISTER
    peer.send(HELP, READY)
    assert peer.read_line() == f"{COMMANDS},WORK"
    if asks:  # lines are parsed at once from then on
        asking = gevent.spawn(link.request, "svcb", Message("ASK"))
        assert peer.read_line().startswith("<:svca svcb/ASK")
        asking.kill()
    peer.send("<testhost:svcb testhost:svca/WORK")
    until(lambda: link.command == "WORK")
    clock.advance(5.0)
    peer.send(
        "no ALIVE message",
        "<testhost:communicatord SERVICE_UNAVAILABLE destination_service=x;unsent_command=Y",
        "<testhost:svcb testhost:svca/ALIVE serial=1",
        "<testhost:communicatord ALIVE serial=2;timestamp=5",
    )
    line = peer.read_line()
    assert line.startswith("<:svca testhost:communicatord/ABSOLUTELY reply_timestamp=")
    assert line.endswith(";serial=2;timestamp=5")
    go.set()
    assert peer.read_line() == "<:svca testhost:svcb/DONE"
    assert "serial=1" in peer.read_line()
    clock.advance(5.0)  # as before: each in its turn
    peer.send("<testhost:communicatord ALIVE serial=3", "<testhost:svcb testhost:svca/WORK")
    assert "serial=3" in peer.read_line()
    assert peer.read_line() == "<:svca testhost:svcb/DONE"
