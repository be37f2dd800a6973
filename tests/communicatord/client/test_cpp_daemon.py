"""A script that asks a communicatord in C++: that one tells what was listed, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gevent
import pytest
from network_ground import PATIENCE
from scripted_peer import ScriptedPeer

from edgevent import CommunicatorClient, Message, ServiceStatus, UnknownCommandError
from edgevent.communicatord.daemon import Daemon
from edgevent.communicatord.statuses import ClusterStatus

FROM = "<testhost:communicatord "
CLOCK = ("CLOCK_STABLE", "CLOCK_UNSTABLE")


@pytest.fixture
def script(peer: ScriptedPeer) -> Iterator[CommunicatorClient]:
    """A script that has listed no command, and has no dispatcher."""
    begun = gevent.spawn(CommunicatorClient, "asker", address=peer.address)
    peer.accept()
    assert peer.read_line() == "REGISTER service=asker;version=1"
    peer.send(f"{FROM}HELP", f"{FROM}READY my_address=127.0.0.1:4042")
    with begun.get(timeout=PATIENCE) as client:
        yield client


ASKED: dict[str, tuple[Callable[[CommunicatorClient], object], str, list[str], object]] = {
    "SERVICE_STATUS": (
        lambda script: script.service_status("svcb", PATIENCE),
        "*,HELP,QUITTING,READY,STATUS,STOP,TRANSMISSION_REPORT,UNKNOWN",
        ["STATUS cache=no;server_name=testhost;service=svcb;status=up;up_since=1768770000"],
        ServiceStatus("svcb", "up", "testhost", 1768770000),
    ),
    "CLUSTER_STATUS": (
        lambda script: script.cluster_status(PATIENCE),
        "*,CLUSTER_COMPLETE,CLUSTER_DOWN,CLUSTER_INCOMPLETE,CLUSTER_UP,HELP,QUITTING,READY,STOP"
        ",TRANSMISSION_REPORT,UNKNOWN",
        ["./CLUSTER_UP neighbors_count=1", "./CLUSTER_COMPLETE neighbors_count=1"],
        ClusterStatus(True, True, 1),
    ),
    "CLOCK_STATUS": (
        lambda script: script.request(Message("CLOCK_STATUS"), CLOCK, PATIENCE).command,
        "*,CLOCK_STABLE,CLOCK_UNSTABLE,HELP,QUITTING,READY,STOP,TRANSMISSION_REPORT,UNKNOWN",
        ["CLOCK_STABLE cache=no;clock_resolution=verified"],
        "CLOCK_STABLE",
    ),
}


@pytest.mark.parametrize(("ask", "listed", "answers", "found"), ASKED.values(), ids=ASKED)
def test_the_answers_of_the_daemon_are_listed_before_it_is_asked(
    peer: ScriptedPeer,
    script: CommunicatorClient,
    ask: Callable[[CommunicatorClient], object],
    listed: str,
    answers: list[str],
    found: object,
) -> None:
    asked = gevent.spawn(ask, script)
    assert peer.read_line() == f"<:asker communicatord/COMMANDS list={listed}"
    assert peer.read_line().startswith("<:asker ")
    peer.send(*(f"{FROM}{answer}" for answer in answers))
    assert asked.get(timeout=PATIENCE) == found
    # What comes of the same name later was not asked for; all else is.
    peer.send(*(f"{FROM}{answer}" for answer in answers), "<testhost:svcb asker/NEWS x=1")
    assert script.receive(PATIENCE).command == "NEWS"


def test_the_news_of_another_service_are_no_answer(
    peer: ScriptedPeer, script: CommunicatorClient
) -> None:
    asked = gevent.spawn(script.service_status, "svcb", PATIENCE)
    peer.read_line()
    for name in ("svcc", "svcb"):
        assert peer.read_line().startswith("<:asker SERVICE_STATUS serial=")
        peer.send(f"{FROM}STATUS cache=no;service={name};status=unknown")
    assert asked.get(timeout=PATIENCE) == ServiceStatus("svcb", "unknown")


@pytest.mark.parametrize("target", ["", "testhost:asker/"])
def test_what_the_daemon_does_not_know_is_told_without_a_serial(
    peer: ScriptedPeer, script: CommunicatorClient, target: str
) -> None:
    asked = gevent.spawn(script.request, Message("COUNTERS"), "COUNTS", PATIENCE)
    peer.read_line()
    peer.read_line()
    peer.send(f"{FROM}{target}UNKNOWN command=COUNTERS")
    with pytest.raises(UnknownCommandError):
        asked.get(timeout=PATIENCE)


@pytest.mark.parametrize(
    "fields",
    [
        "server_name=vm;up_since=1768770000",
        "server=vm;up_since=1768770000.5",  # as its definition has it
        "up_since=1768770000s;server_name=vm;server=other;priority=1",
    ],
)
def test_status_is_read_in_each_form(fields: str) -> None:
    message = Message.parse(f"{FROM}STATUS cache=no;service=svcb;status=up;{fields}")
    assert ServiceStatus.of(message) == ServiceStatus("svcb", "up", "vm", 1768770000)


def test_a_script_that_has_asked_is_still_given_everything(daemon: Daemon, path: str) -> None:
    with CommunicatorClient("asker", address=f"unix:{path}") as script:
        assert script.service_status("asker").is_up
        with CommunicatorClient("teller", address=f"unix:{path}") as teller:
            teller.send(Message("WEATHER", service="asker"))
            teller.broadcast(Message("NEWS"))  # which was not listed
            teller.send(Message("RAIN", service="asker"))
            assert [script.receive(PATIENCE).command for _ in range(2)] == ["WEATHER", "RAIN"]
