"""What services ask each other, and the daemon, by way of a real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event
from network_ground import PATIENCE, Ground, until
from tls_ground import client_options, server_options

from edgevent import (
    ClusterStatus,
    CommunicatorClient,
    CommunicatorConnection,
    Dispatcher,
    EdgeventError,
    InvalidMessageError,
    Message,
    NotConnectedError,
    RegistrationError,
    RemoteError,
    RequestTimeout,
    ServiceUnavailableError,
    TransmissionError,
    UnknownCommandError,
    UsageError,
)
from edgevent.communicatord.calls import rules_of
from edgevent.communicatord.daemon import Daemon

Caller = CommunicatorConnection | CommunicatorClient
Connect = Callable[..., CommunicatorConnection]


@pytest.fixture
def adder() -> Dispatcher:
    """A table that answers ADD."""
    table = Dispatcher()

    @table.on("ADD")
    def add(message: Message, peer: Any, a: int, b: int) -> Message:
        return message.reply("SUM", {"value": a + b})

    return table


# --- services -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["sums", "snap:sums", ".:sums", "?:sums"])
def test_a_service_is_asked_by_its_name(
    caller: Caller, connect: Connect, adder: Dispatcher, target: str
) -> None:
    connect("sums", adder)
    asked = Message("ADD", {"a": 2, "b": 40})
    for answer in (
        caller.request(target, asked),
        caller.request(target=target, message=asked, reply="SUM"),
        caller.request(asked.with_target(*target.rpartition(":")[::2]), "SUM"),
    ):
        assert (answer.command, answer["value"]) == ("SUM", "42")
        assert (answer.sent_from_server, answer.sent_from_service) == ("snap", "sums")


@pytest.mark.parametrize(
    ("target", "message", "kind", "text"),
    [
        ("gone", Message("ADD"), ServiceUnavailableError, "ADD: there is no service gone"),
        ("mars:sums", Message("ADD"), ServiceUnavailableError, "ADD: there is no service sums"),
        ("later", Message("ADD"), ServiceUnavailableError, "ADD: there is no service later"),
        ("sums", Message("SUBTRACT"), UnknownCommandError, "SUBTRACT is unknown to the peer"),
        ("sums", Message("ADD", {"a": 1}), InvalidMessageError, "parameter b is missing"),
        ("a/b", Message("ADD"), UsageError, "'a/b': 'service' or 'server:service' was expected"),
        ("*", Message("ADD"), UsageError, "'server:service' was expected"),
        ("1:sums", Message("ADD"), UsageError, "'server:service' was expected"),
    ],
)
def test_what_cannot_be_asked_fails_at_once_with_its_reason(
    caller: Caller,
    connect: Connect,
    adder: Dispatcher,
    target: str,
    message: Message,
    kind: type[Exception],
    text: str,
) -> None:
    connect("sums", adder)
    with pytest.raises(kind, match=text):
        caller.request(target, message, timeout=PATIENCE)


def test_the_new_errors_are_told_apart_by_their_kind() -> None:
    assert issubclass(ServiceUnavailableError, TransmissionError)
    assert issubclass(TransmissionError, RemoteError)
    assert issubclass(RegistrationError, NotConnectedError)


def test_several_greenlets_ask_at_once(caller: Caller, connect: Connect) -> None:
    slow, quick, go = Dispatcher(), Dispatcher(), Event()

    @slow.on("ASK")
    def answer_later(message: Message, peer: Any) -> Message:
        assert go.wait(PATIENCE)
        return message.reply("DONE", {"by": "first"})

    @quick.on("ASK")
    def answer(message: Message, peer: Any) -> Message:
        return message.reply("DONE", {"by": "second"})

    connect("first", slow)
    connect("second", quick)
    waiting = gevent.spawn(caller.request, "first", Message("ASK"), timeout=PATIENCE)
    assert caller.request("second", Message("ASK"))["by"] == "second"
    assert not waiting.ready()
    go.set()
    assert waiting.get(timeout=PATIENCE)["by"] == "first"


def test_a_handler_may_ask_the_next_service(
    caller: Caller, connect: Connect, adder: Dispatcher
) -> None:
    table = Dispatcher()
    connect("sums", adder)
    shop = connect("shop", table)

    @table.on("PRICE")
    def price(message: Message, peer: Any) -> Message:
        sums = shop.request("sums", Message("ADD", {"a": 1, "b": 2}))
        return message.reply("COSTS", {"value": sums["value"]})

    # It was registered before the handler was there, and the daemon asks for a list.
    shop.send_commands()
    assert caller.request("shop", Message("PRICE"), timeout=PATIENCE)["value"] == "3"


def test_a_request_is_held_for_a_service_that_is_to_come(
    caller: Caller, connect: Connect, adder: Dispatcher
) -> None:
    asked = Message("ADD", {"a": 1, "b": 2})
    waiting = gevent.spawn(caller.request, "later", asked, timeout=PATIENCE, hold="1h")
    until(lambda: not waiting.ready())
    caller.services()  # what was sent before this is held now
    connect("later", adder)
    assert waiting.get(timeout=PATIENCE)["value"] == "3"


def test_descriptors_do_not_pass_the_daemon(caller: Caller) -> None:
    with pytest.raises(UsageError, match="descriptors do not pass"):
        caller.request(Message("ADD", service="sums"), fds=[0])


def test_a_message_is_held_or_told_of(daemon: Daemon, connect: Connect) -> None:
    table, told = Dispatcher(), list[tuple[str, str]]()

    @table.on("SERVICE_UNAVAILABLE")
    def unavailable(message: Message, peer: Any) -> None:
        told.append((message["destination_service"], message["unsent_command"]))

    @table.on("TRANSMISSION_REPORT")
    def report(message: Message, peer: Any) -> None:
        told.append((message["command"], message["status"]))

    link = connect("teller", table)
    link.send(Message("ONE", service="later"), hold=True, report=True)
    link.send(Message("TWO", service="later"), hold=False)
    link.send(Message("THREE", service="later"), hold=60.0)
    link.send(Message("FOUR", service="gone"), report=True)
    link.services()
    until(lambda: len(told) == 3)
    assert told == [("ONE", "cached"), ("later", "TWO"), ("FOUR", "failed")]
    assert daemon.router.held.waiting("later") == 2


def test_a_report_that_nobody_handles_is_logged(
    daemon: Daemon, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    link = connect("teller")
    link.send(Message("FOUR", service="gone"), report=True)
    until(lambda: "'FOUR' was not delivered" in caplog.text)


@pytest.mark.parametrize(
    ("hold", "rules"),
    [
        (True, "reply"),
        (False, "no;reply"),
        (10, "reply;ttl=10"),
        ("2m", "reply;ttl=120"),
        (86_400.0, "reply;ttl=86400"),
    ],
)
def test_the_rules_of_the_cache_parameter(hold: Any, rules: str) -> None:
    assert rules_of(hold) == rules


@pytest.mark.parametrize("hold", [9.9, "2d", "soon"])
def test_a_time_that_no_daemon_holds_is_refused(hold: Any) -> None:
    with pytest.raises(EdgeventError, match=str(hold)):
        rules_of(hold)


# --- broadcasts and the daemon --------------------------------------------------------------------


@pytest.mark.parametrize("where", ["local", "private", "public"])
def test_a_broadcast_reaches_all_that_listed_it(
    caller: Caller, connect: Connect, where: Any
) -> None:
    heard = list[str]()
    for name in ("one", "other"):
        table = Dispatcher()
        link = connect(name, table)

        def news(message: Message, peer: Any) -> None:
            heard.append(f"{message.sent_from_service} {message['text']}")

        table.on("NEWS")(news)
        link.send_commands()
        link.services()
    caller.broadcast(Message("NEWS", {"text": "x"}), where)
    until(lambda: heard == ["caller x"] * 2)


def test_a_broadcast_goes_to_one_of_three_places(caller: Caller) -> None:
    with pytest.raises(UsageError, match="where='all': 'local', 'private' or 'public'"):
        caller.broadcast(Message("NEWS"), "all")  # type: ignore[arg-type]


def test_the_daemon_tells_who_is_there(caller: Caller, connect: Connect) -> None:
    other = connect("other")
    assert caller.services() == ["caller", "other"]
    found = caller.service_status("other")
    assert (found.service, found.state, found.server, found.is_up) == ("other", "up", "snap", True)
    assert found.up_since is not None
    assert found.down_since is None
    other.close()
    until(lambda: caller.services() == ["caller"])
    gone = caller.service_status("other")
    assert (gone.state, gone.up_since) == ("down", found.up_since)
    assert gone.down_since is not None
    assert caller.service_status("nobody").state == "unknown"
    assert caller.cluster_status() == ClusterStatus(True, True, 1)


def test_a_request_to_a_silent_service_runs_out_of_time(caller: Caller, connect: Connect) -> None:
    table = Dispatcher()
    table.on("HEARD")(lambda message, peer: None)
    connect("silent", table)
    with pytest.raises(RequestTimeout, match=r"no answer to HEARD within 0\.05 s"):
        caller.request("silent", Message("HEARD"), timeout=0.05)


@pytest.mark.parametrize("scheme", ["cd", "cds"])
def test_the_daemon_may_be_reached_by_tcp_and_tls(
    ground: Ground, daemon: Daemon, adder: Dispatcher, scheme: str
) -> None:
    is_tls = scheme == "cds"
    server = ground.serve(
        daemon.relay,
        f"{'tls' if is_tls else 'tcp'}://127.0.0.1:0",
        dispatcher=daemon.dispatcher,
        tls=server_options() if is_tls else None,
    )
    where = f"{scheme}://{server.addresses[0].partition('//')[2]}"
    tls = client_options() if is_tls else None
    link = CommunicatorConnection("sums", adder, address=where, tls=tls)
    ground.communicator.add_connection(link)
    link.wait_until_ready(PATIENCE)
    with CommunicatorClient(address=where, tls=tls) as client:
        assert client.request("sums", Message("ADD", {"a": 1, "b": 2}))["value"] == "3"
        client.send(Message("STOP", service="sums"))
        until(lambda: not link.is_registered)


# --- the client alone -----------------------------------------------------------------------------


def test_a_script_gets_what_services_send_to_it(
    daemon: Daemon, connect: Connect, path: str
) -> None:
    link = connect("teller")
    with CommunicatorClient(address=f"unix:{path}") as client:
        assert client.is_registered
        assert repr(client).startswith("<CommunicatorClient-")
        link.send(Message("NEWS", service=client.service_name))
        assert client.receive(PATIENCE).command == "NEWS"
        assert client.service_name in link.services()
    until(lambda: link.services() == ["teller"])


def test_a_script_that_lists_commands_gets_their_broadcasts(
    daemon: Daemon, connect: Connect, path: str
) -> None:
    link = connect("teller")
    with CommunicatorClient("hears", address=f"unix:{path}", commands=["NEWS"]) as client:
        client.services()
        link.broadcast(Message("NEWS"))
        assert client.receive(PATIENCE).command == "NEWS"
        with pytest.raises(UnknownCommandError):
            link.request("hears", Message("WEATHER"))


def test_a_script_with_a_dispatcher_is_a_service(
    daemon: Daemon, connect: Connect, path: str, adder: Dispatcher
) -> None:
    link = connect("asker")
    with CommunicatorClient("sums", adder, address=f"unix:{path}"):
        assert link.request("sums", Message("ADD", {"a": 1, "b": 2}))["value"] == "3"


def test_a_script_whose_name_is_taken_is_told(daemon: Daemon, connect: Connect, path: str) -> None:
    connect("teller")
    with pytest.raises(
        RegistrationError,
        match=f"unix:{path} did not register teller: the name teller is registered by another",
    ):
        CommunicatorClient("teller", address=f"unix:{path}")


def test_a_script_registers_anew_after_a_loss(daemon: Daemon, path: str) -> None:
    with CommunicatorClient("again", address=f"unix:{path}", wait=True) as client:
        daemon.router.stations["again"].handle(Message("UNREGISTER", {"service": "again"}))
        until(lambda: not client.is_connected)
        assert client.services(PATIENCE) == ["again"]
