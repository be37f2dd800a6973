"""The handshake of two daemons, with the lines of the C++ daemon on the other side.

They are those that the C++ daemon writes, with loopback addresses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from computers_ground import Caller, Computer
from network_ground import Ground, MovedClock, until
from router_ground import Peer
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import Address, Client, DatagramClient, DatagramServer, Message

CONNECT = (
    "<big:communicatord CONNECT my_address=127.0.0.9:4042;neighbors=127.0.0.8:4042"
    ";server_name=big;services=cluckd,fluid_settings;version=1"
)
COMMANDS = (
    "<big:communicatord small:communicatord/COMMANDS list=ACCEPT,ALIVE,CLUSTER_STATUS,COMMANDS,"
    "CONNECT,DISCONNECT,FORGET,GOSSIP,HELP,LOADAVG,REFUSE,REGISTER_FOR_LOADAVG,UNKNOWN"
)
LONG = f"x={'x' * 5_000}"


@pytest.fixture
def small(ground: Ground) -> Iterator[Computer]:
    """A daemon whose address is smaller than that of the scripted one."""
    found = Computer(ground, "small", learns=False).start()
    yield found
    found.links.stop()


@pytest.fixture
def caller(small: Computer) -> Iterator[Caller]:
    """The C++ daemon with the greater address, which has dialled."""
    with Caller(small) as caller:
        yield caller


def told(computer: Computer) -> list[str]:
    """What the watcher of a computer has heard, without the sender."""
    return [one.partition(" ")[2] for one in computer.services["watcher"].got()]


# --- as the one that accepts ----------------------------------------------------------------------


def test_the_greater_one_is_accepted(small: Computer, caller: Caller) -> None:
    small.serve("cluckd")
    small.watch("NEW_REMOTE_CONNECTION", "CLUSTER_UP", "CLUSTER_COMPLETE", "HANGUP")
    caller.says("<big:communicatord REGISTER_FOR_LOADAVG", CONNECT)
    assert caller.hears() == (
        f"<small:communicatord ACCEPT my_address={small.links.my_address};server_name=small"
        ";services=cluckd,watcher"
    )
    assert caller.hears() == "<small:communicatord HELP"
    assert caller.hears() == "<small:communicatord REGISTER_FOR_LOADAVG"
    caller.says(COMMANDS, "<big:communicatord HELP")
    answer = caller.hears()
    assert answer.startswith(
        "<small:communicatord big:communicatord/COMMANDS list=ABSOLUTELY,ACCEPT,"
    )
    station = small.router.remotes["big"]
    assert station.services == {"cluckd", "fluid_settings"}
    assert station.lists("LOADAVG")
    assert station in small.daemon.load.listeners  # what came before CONNECT was kept
    assert told(small) == [
        "./NEW_REMOTE_CONNECTION server_name=big",
        "./CLUSTER_UP neighbors_count=2",
        "./CLUSTER_COMPLETE neighbors_count=2",
    ]


def test_services_that_listed_status_are_told_of_links(small: Computer, caller: Caller) -> None:
    small.watch("STATUS", "HANGUP")
    caller.says(CONNECT)
    assert caller.hears().partition(" ")[2].startswith("ACCEPT ")
    (line,) = told(small)
    since = rf"up_since={small.router.remotes['big'].up_since}"
    link = r"STATUS cache=no;{}server_name=big;service=remote communicator \(in\): [0-9.]+:[0-9]+"
    assert re.fullmatch(rf"{link.format('')};status=up;{since}", line)
    small.cut("big")
    until(lambda: not small.linked())
    status, hangup = told(small)
    assert re.fullmatch(rf"{link.format('down_since=[0-9]+;')};status=down;{since}", status)
    assert hangup == "./HANGUP server_name=big"


def test_messages_go_both_ways_as_the_other_daemon_writes_them(
    small: Computer, caller: Caller
) -> None:
    a = small.serve("a", "LOCK_STARTED")
    caller.says(CONNECT)
    for _ in range(3):
        caller.hears()
    end = 4_000_000_000
    text = (
        "<big:cluckd */LOCK_STARTED broadcast_hops=1;broadcast_informed_neighbors=127.0.0.5"
        f";broadcast_msgid=big-12;broadcast_originator=127.0.0.9;broadcast_timeout={end}"
        ";lock_id=1;secure_remote=false;server_name=big;start_time=1768769999.5"
    )
    caller.says(text, text, "<big:cluckd small:a/LOCK_STARTED x=1")
    until(lambda: len(a.lines) == 2)
    assert a.got() == [text, "<big:cluckd small:a/LOCK_STARTED x=1"]
    a.says("big:cluckd/LOCK n=1")
    assert caller.hears() == "<small:a big:cluckd/LOCK n=1"
    a.says("fluid_settings/FLUID_SETTINGS_LIST")
    assert caller.hears() == "<small:a fluid_settings/FLUID_SETTINGS_LIST"
    # C++ daemons send one message for a service to all neighbors, as a broadcast
    caller.says(text.replace("*/", "a/").replace("big-12", "big-13"))
    until(lambda: a.lines)
    assert a.got()[0].startswith("<big:cluckd a/LOCK_STARTED broadcast_hops=1;")


def test_many_services_are_introduced_as_far_as_a_line_holds_them(
    small: Computer, caller: Caller
) -> None:
    names = [f"service_{'x' * 200}_{number:03}" for number in range(400)]
    for name in names:
        small.serve(name)
    caller.says(CONNECT)
    services = caller.hears().partition("services=")[2].split(",")
    assert 50 < len(services) < 400
    assert services == names[: len(services)]


@pytest.mark.parametrize(
    "text",
    [
        "COMMANDS list=ROUTES",
        "DISCONNECT",
        "LOADAVG avg=0.5;my_address=10.0.0.7:4042;timestamp=1795527622",
        "REGISTER_FOR_LOADAVG",
        "ROUTES list=big:stolen",
        "UNREGISTER_FROM_LOADAVG",
    ],
)
def test_what_a_daemon_says_of_itself_no_service_of_its_computer_can_say(
    small: Computer, caller: Caller, text: str
) -> None:
    caller.says(CONNECT)
    for _ in range(3):
        caller.hears()
    command = text.partition(" ")[0]
    caller.says(f"<big:rogue small:communicatord/{text}")
    answer = caller.hears()
    assert answer.startswith(f"<small:communicatord big:rogue/INVALID command={command};message=")
    assert "is for the daemon of big itself to say" in answer
    station = small.router.remotes["big"]
    assert station.commands is None
    assert station.services == {"cluckd", "fluid_settings"}
    assert small.daemon.load.loads == small.daemon.load.listeners == {}
    # One without a name, whom the other daemon passes on as it is.
    if command != "COMMANDS":  # which C++ daemons answer without theirs
        caller.says(f"small:communicatord/{text}", "<big:communicatord ALIVE")
        assert "ABSOLUTELY" in caller.hears()


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        ("SERVICE_STATUS service=nobody", ["STATUS cache=no;serial=7;service=nobody;"]),
        ("CLUSTER_STATUS", ["CLUSTER_UP neighbors_count=2;serial=7", "CLUSTER_COMPLETE "]),
        ("CLOCK_STATUS", ["CLOCK_UNSTABLE cache=no;clock_error=checking;serial=7"]),
        ("LIST_SERVICES", ["SERVICES list=;remote=cluckd,fluid_settings;serial=7"]),
    ],
)
def test_a_service_of_another_computer_is_answered_by_its_name(
    small: Computer, caller: Caller, asked: str, answers: list[str]
) -> None:
    caller.says(CONNECT)
    for _ in range(3):
        caller.hears()
    caller.says(COMMANDS)  # in which no answer is: they are for a service
    blank = ";" if " " in asked else " "
    caller.says(f"<big:asker small:communicatord/{asked}{blank}serial=7")
    for answer in answers:
        assert caller.hears().startswith(f"<small:communicatord big:asker/{answer}")


@pytest.mark.parametrize(
    "text",
    [
        "CONNECT version=1;server_name=big;services=a,b;my_address=127.0.0.9:4042;\r",
        '  <big:communicatord CONNECT zone=3;username=x;password="a;b";heard_of=far,further'
        ";my_address=127.0.0.9;neighbors= 127.0.0.9:4042 ;server_name=big;version=1",
        '{"command":"CONNECT","parameters":{"version":1,"server_name":"big","more":null,'
        '"my_address":"127.0.0.9:4042"}}',
    ],
)
def test_an_introduction_is_taken_in_any_order_and_with_more_in_it(
    small: Computer, caller: Caller, text: str
) -> None:
    caller.says(text)
    assert caller.hears().startswith("<small:communicatord ACCEPT my_address=")
    assert small.linked() == {"big"}
    assert [one.endpoint for one in small.links.neighbors] == ["127.0.0.9:4042"]


def test_what_a_daemon_sends_twice_is_held_once(small: Computer, caller: Caller) -> None:
    small.router.known.add("ipwall")
    caller.says(CONNECT)
    for _ in range(3):
        caller.hears()
    texts = [
        "<big:x ipwall/BLOCK broadcast_hops=1;broadcast_informed_neighbors=127.0.0.5"
        f";broadcast_msgid=big-{number};broadcast_timeout=4000000000;cache=ttl=10m;n={number}"
        for number in range(300)
    ]
    caller.says(*texts, *texts, "<big:communicatord ALIVE")
    assert "ABSOLUTELY" in caller.hears()
    assert small.router.counts["duplicate"] == 300
    ipwall = small.serve("ipwall")
    assert small.router.release(ipwall.station) == 300
    assert ipwall.got() == texts


def test_a_daemon_that_is_not_like_this_one_gets_no_routes(small: Computer, caller: Caller) -> None:
    caller.says(CONNECT, COMMANDS)
    for _ in range(3):
        caller.hears()
    small.serve("late")
    caller.says("<big:communicatord ALIVE")
    assert caller.hears().startswith("<small:communicatord big:communicatord/ABSOLUTELY ")


@pytest.mark.parametrize("name", ["small", "third"])
def test_a_name_that_is_in_use_is_refused(small: Computer, caller: Caller, name: str) -> None:
    with Caller(small) as third:
        if name == "third":
            third.says(CONNECT.replace("big", "third").replace("127.0.0.9", "127.0.0.7"))
            third.hears()
        caller.says(CONNECT.replace("server_name=big", f"server_name={name}"))
        assert caller.hears() == "<small:communicatord REFUSE conflict=name"
        assert caller.hears() == ""


def test_who_comes_while_it_ends_is_refused(small: Computer, caller: Caller) -> None:
    caller.says("<big:communicatord ALIVE")
    caller.hears()
    small.daemon.stop()
    caller.says(CONNECT)
    assert caller.hears() == "<small:communicatord REFUSE shutdown=true"


def test_one_link_too_many_is_refused(ground: Ground) -> None:
    small = Computer(ground, "small", learns=False, max_links=1).start()
    with Caller(small) as first, Caller(small) as second:
        first.says(CONNECT)
        assert "ACCEPT" in first.hears()
        second.says(CONNECT.replace("big", "third").replace("127.0.0.9", "127.0.0.7"))
        assert second.hears() == "<small:communicatord REFUSE"
    small.links.stop()


WRONG = {
    "version": ("version=1", "version=2", "version 2: 1 was expected"),
    "no version": (";version=1", "", "version is missing"),
    "name": ("server_name=big", "server_name=1x", "'1x' is no name of a server"),
    "address": ("my_address=127.0.0.9:4042", "my_address=here", "a numeric address was expected"),
    "public": ("127.0.0.9", "203.0.113.5", "plain links are for private networks"),
    "no address": ("my_address=127.0.0.9:4042;", "", "my_address is missing"),
}


@pytest.mark.parametrize(("former", "wrong", "why"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_understood_is_said(
    small: Computer, caller: Caller, former: str, wrong: str, why: str
) -> None:
    caller.says(CONNECT.replace(former, wrong, 1))
    answer = caller.hears()
    assert answer.startswith("<small:communicatord big:communicatord/INVALID command=CONNECT;")
    assert why in answer
    caller.says(CONNECT)
    assert "ACCEPT" in caller.hears()


@pytest.mark.parametrize(
    "text",
    [
        "cluckd/LOCK",
        "*/LOCK",
        "other:x/LOCK",
        "REGISTER service=x;version=1",
        "UNREGISTER service=x",
        "ACCEPT my_address=127.0.0.9:4042;server_name=big",
        "REFUSE",
        "DISCONNECT",
        "GOSSIP",
        "GOSSIP heard_of=127.0.0.3",
        "GOSSIP my_address=127.0.0.1.1:4042",
        "ROUTES list=big:a",
        "RUBBISH",
    ],
)
def test_a_stranger_does_nothing_but_introduce_itself(
    small: Computer, caller: Caller, text: str
) -> None:
    small.serve("cluckd")
    caller.says(text)
    command = re.sub("^.*/", "", text).split(" ")[0]
    assert re.search(f"(INVALID|UNKNOWN) command={command}", caller.hears())
    assert small.services["cluckd"].got() == []
    assert small.linked() == set()


def test_what_cannot_be_read_is_answered_at_any_point(small: Computer, caller: Caller) -> None:
    caller.says("1FOO")
    assert "INVALID command=?;message=malformed line" in caller.hears()  # C++ ones want both
    caller.says(CONNECT)
    for _ in range(3):
        caller.hears()
    caller.says("<big:x ./NEWS broadcast_msgid=big-1;broadcast_timeout=soon")
    assert caller.hears().startswith(
        "<small:communicatord big:x/INVALID command=NEWS;message=NEWS: parameter broadcast_timeout"
    )


def test_a_line_that_is_too_long_is_answered_with_a_command(
    small: Computer, caller: Caller
) -> None:
    caller.says(CONNECT)
    for _ in range(3):
        caller.hears()
    caller.says(f"<big:x cluckd/NEWS a={'x' * 65_536}")
    answer = "INVALID command=?;message=a line of more than 65536 bytes"
    assert caller.hears() == f"<small:communicatord {answer}"
    assert caller.hears() == ""


@pytest.mark.parametrize("leave", ["DISCONNECT", "SHUTDOWN"])  # which is not obeyed from it
def test_the_one_that_dialled_takes_leave(small: Computer, caller: Caller, leave: str) -> None:
    small.watch("DISCONNECTED", "HANGUP", "CLUSTER_DOWN", "CLUSTER_INCOMPLETE")
    caller.says(CONNECT)
    for _ in range(3):
        caller.hears()
    caller.says(f"<big:communicatord {leave}")
    if leave == "SHUTDOWN":
        assert "INVALID command=SHUTDOWN" in caller.hears()
    assert caller.hears() == ""
    assert told(small) == [
        "./DISCONNECTED server_name=big",
        "./CLUSTER_DOWN neighbors_count=2",
        "./CLUSTER_INCOMPLETE neighbors_count=2",
    ]


def test_a_link_that_is_lost_without_a_word_is_told_too(small: Computer) -> None:
    small.watch("DISCONNECTED", "HANGUP", "CLUSTER_DOWN", "UNREACHABLE")
    with Caller(small) as caller:
        caller.says(CONNECT)
        caller.hears()
    until(lambda: len(small.services["watcher"].lines) >= 3)
    assert told(small)[:3] == [
        "./HANGUP server_name=big",
        "./CLUSTER_DOWN neighbors_count=2",
        "./UNREACHABLE who=127.0.0.9:4042",  # where it is told to dial again, and is not
    ]


def test_a_daemon_that_has_begun_anew_is_taken_once_the_dead_link_is_found_so(
    small: Computer, caller: Caller
) -> None:
    caller.says(CONNECT)
    for _ in range(3):
        caller.hears()
    with Caller(small) as again, Caller(small) as third:
        again.says(CONNECT)
        assert caller.hears() == "<small:communicatord HELP"  # a dead link breaks on it, a live not
        assert again.hears() == "<small:communicatord REFUSE conflict=name"
        third.says(CONNECT)
        assert caller.hears() == "<small:communicatord HELP"
        caller.__exit__()
        assert "ACCEPT" in third.hears()


def test_a_daemon_that_is_back_at_once_is_taken(small: Computer, caller: Caller) -> None:
    cluckd = small.serve("cluckd", "LOCK")
    caller.says(CONNECT)
    for _ in range(3):
        caller.hears()
    with Caller(small) as again:
        again.says("<big:communicatord ALIVE")
        again.hears()  # it is accepted, so that all that follows comes together
        caller.says(*[f"<big:a small:cluckd/LOCK {LONG};n={n}" for n in range(50)])
        caller.__exit__()
        again.says(CONNECT)
        assert "ACCEPT" in again.hears()  # in C++ one that is refused comes again after a day
        assert len(cluckd.lines) == 50


def test_what_comes_while_it_ends_has_nobody_end_too(small: Computer, caller: Caller) -> None:
    caller.says(CONNECT)
    for _ in range(3):
        caller.hears()
    caller.says('<big:a small:cluckd/LOCK cache="no;reply"', "<big:communicatord HELP")
    small.router.stop()  # its links take leave a moment later
    unsent = "destination_service=cluckd;unsent_command=LOCK"
    assert caller.hears() == f"<small:communicatord big:a/SERVICE_UNAVAILABLE {unsent}"
    assert caller.hears() == ""  # QUITTING would go on to the service, and end it


def test_the_end_is_told_to_all(small: Computer, caller: Caller) -> None:
    caller.says(CONNECT)
    for _ in range(3):
        caller.hears()
    small.daemon.stop(quitting=True)
    assert caller.hears() == "<small:communicatord SHUTDOWN"
    assert caller.hears() == ""


# --- as the one that dials ------------------------------------------------------------------------


@pytest.fixture
def smaller() -> Iterator[ScriptedPeer]:
    """The C++ daemon with the smaller address, which is dialled."""
    with scripted_peer("tcp://127.0.0.2:0") as peer:
        yield peer


@pytest.fixture
def dial(ground: Ground, smaller: ScriptedPeer) -> Iterator[Callable[..., Computer]]:
    made: list[Computer] = []

    def dial(**settings: object) -> Computer:
        made.append(Computer(ground, "big", learns=False, **settings))
        made[0].serve("cluckd")
        made[0].watch(
            "NEW_REMOTE_CONNECTION", "CLUSTER_UP", "HANGUP", "DISCONNECTED", "UNREACHABLE"
        )
        made[0].start(smaller.address)
        smaller.accept()
        return made[0]

    yield dial
    made[0].links.stop()


def accept(big: Computer, smaller: ScriptedPeer) -> None:
    here = smaller.address.removeprefix("tcp://")
    assert smaller.read_line() == (
        f"<big:communicatord CONNECT my_address={big.links.my_address};neighbors={here}"
        ";server_name=big;services=cluckd,watcher;version=1"
    )
    smaller.send(
        "<small:communicatord REGISTER_FOR_LOADAVG",
        f"<small:communicatord ACCEPT my_address={here};server_name=small;services=cluckd,iplock",
        "<small:communicatord HELP",
    )
    assert smaller.read_line() == "<big:communicatord HELP"
    assert smaller.read_line() == "<big:communicatord REGISTER_FOR_LOADAVG"
    assert smaller.read_line().startswith("<big:communicatord small:communicatord/COMMANDS list=")
    smaller.send("<small:communicatord big:communicatord/COMMANDS list=ALIVE,HELP,READY")


def test_the_smaller_one_is_dialled(dial: Callable[..., Computer], smaller: ScriptedPeer) -> None:
    big = dial()
    accept(big, smaller)
    assert told(big) == [
        "./NEW_REMOTE_CONNECTION server_name=small",
        "./CLUSTER_UP neighbors_count=2",
    ]
    assert big.router.remotes["small"] in big.daemon.load.listeners
    cluckd = big.services["cluckd"]
    cluckd.says("iplock/BLOCK ip=1")
    assert smaller.read_line() == "<big:cluckd iplock/BLOCK ip=1"
    cluckd.says("*/LOCK_STARTED x=1")
    assert re.fullmatch(
        r"<big:cluckd \*/LOCK_STARTED broadcast_hops=1;broadcast_informed_neighbors=127.0.0.2,"
        r"127.0.0.5;broadcast_msgid=big-\d+;broadcast_originator=127.0.0.5;broadcast_timeout=\d+"
        ";secure_remote=false;x=1",
        smaller.read_line(),
    )


REFUSALS = {
    "conflict=name": 300.0,
    "": 300.0,
    "shutdown=true": 300.0,
    "conflict=name;shutdown=true": 300.0,
}


@pytest.mark.parametrize(("fields", "pause"), REFUSALS.items())
def test_how_long_it_waits_after_a_refusal(
    moved: Ground, clock: MovedClock, smaller: ScriptedPeer, fields: str, pause: float
) -> None:
    big = Computer(moved, "big", learns=False).start(smaller.address)
    smaller.accept()
    smaller.read_line()
    smaller.send(f"<small:communicatord REFUSE {fields}".rstrip())
    smaller.expect_end()
    (link,) = big.links.dialled.values()
    until(lambda: link._alarm_to_dial)
    clock.advance(pause - 1.0)
    assert link.attempts == 1
    clock.advance(2.0)
    smaller.accept()
    big.links.stop()


def test_gossip_has_it_dial_at_once(dial: Callable[..., Computer], smaller: ScriptedPeer) -> None:
    big = dial()
    smaller.read_line()
    smaller.send("<small:communicatord REFUSE conflict=name")
    smaller.expect_end()
    with Caller(big) as caller:
        caller.says(f"GOSSIP my_address={smaller.address.removeprefix('tcp://')}")
        assert caller.hears() == "<big:communicatord RECEIVED"
    smaller.accept()
    accept(big, smaller)


def test_gossip_makes_a_neighbor_that_is_dialled(ground: Ground, smaller: ScriptedPeer) -> None:
    big = Computer(ground, "big").start()
    with Caller(big) as caller:
        caller.says(f"GOSSIP my_address={smaller.address.removeprefix('tcp://')}")
        assert caller.hears() == "<big:communicatord RECEIVED"
    smaller.accept()
    assert smaller.read_line().startswith("<big:communicatord CONNECT my_address=127.0.0.5:")
    big.links.stop()


def test_a_lost_link_is_dialled_again(dial: Callable[..., Computer], smaller: ScriptedPeer) -> None:
    big = dial()
    accept(big, smaller)
    until(lambda: len(big.services["watcher"].lines) == 2)
    told(big)
    smaller.cut()
    smaller.accept()
    accept(big, smaller)
    assert told(big)[0] == "./HANGUP server_name=small"


def test_the_one_that_was_dialled_takes_leave(
    dial: Callable[..., Computer], smaller: ScriptedPeer
) -> None:
    big = dial()
    accept(big, smaller)
    smaller.send("<small:communicatord DISCONNECT")
    smaller.expect_end()
    assert "./DISCONNECTED server_name=small" in told(big)


@pytest.mark.parametrize(
    "answer", ["INVALID command=CONNECT;message=no", "UNKNOWN command=CONNECT"]
)
def test_one_that_does_not_understand_is_left_alone(
    dial: Callable[..., Computer], smaller: ScriptedPeer, answer: str
) -> None:
    dial()
    smaller.read_line()
    smaller.send(answer)
    smaller.expect_end()


def test_a_second_address_of_the_same_daemon_is_let_go(
    dial: Callable[..., Computer], smaller: ScriptedPeer
) -> None:
    big = dial()
    accept(big, smaller)
    with scripted_peer("tcp://127.0.0.3:0") as other:
        big.links.add_neighbors((Address.parse(other.address),))
        other.accept()
        other.read_line()
        here = smaller.address.removeprefix("tcp://")
        other.send(f"<small:communicatord ACCEPT my_address={here};server_name=small")
        other.expect_end()
    assert big.linked() == {"small"}


@pytest.mark.parametrize(
    "answer", ["ACCEPT my_address={};server_name=small", "REFUSE conflict=name"]
)
def test_a_further_address_of_a_daemon_is_not_dialled_while_that_is_linked(
    dial: Callable[..., Computer], smaller: ScriptedPeer, answer: str
) -> None:
    big = dial()
    accept(big, smaller)
    with scripted_peer("tcp://127.0.0.3:0") as other:
        big.links.add_neighbors((Address.parse(other.address),))
        other.accept()
        other.read_line()
        other.send(f"<small:communicatord {answer}".format(smaller.address.removeprefix("tcp://")))
        other.expect_end()
        assert big.links.cluster.state == (True, True, 2)
        assert [link.address for link in big.links.dialled.values()] == [smaller.address]
        smaller.stop_listening()
        smaller.cut()
        other.accept()  # but it is at once when the other way has ended
        assert "CONNECT" in other.read_line()
        other.send("<small:communicatord ACCEPT my_address=127.0.0.3:4042;server_name=small")
        other.read_line()
        until(lambda: big.linked())
        assert big.links.cluster.state.total <= 3


def test_two_addresses_that_are_dialled_at_once_become_one_link(
    dial: Callable[..., Computer], smaller: ScriptedPeer
) -> None:
    big = dial()
    assert "CONNECT" in smaller.read_line()
    with scripted_peer("tcp://127.0.0.3:0") as other:
        big.links.add_neighbors((Address.parse(other.address),))
        other.accept()
        other.read_line()
        here = smaller.address.removeprefix("tcp://")
        other.send(f"<small:communicatord ACCEPT my_address={here};server_name=small")
        smaller.expect_end()
        assert [link.address for link in big.links.dialled.values()] == [other.address]
        assert big.links.cluster.state == (True, True, 2)
        other.cut()
        smaller.accept()
        other.accept()


@pytest.mark.parametrize("name", ["alpha", "small"])
def test_of_two_links_that_cross_one_stays(
    dial: Callable[..., Computer], smaller: ScriptedPeer, name: str
) -> None:
    big = dial()
    assert "CONNECT" in smaller.read_line()
    with Caller(big) as caller:
        caller.says(CONNECT.replace("server_name=big", f"server_name={name}"))
        assert "ACCEPT" in caller.hears()
        here = smaller.address.removeprefix("tcp://")
        smaller.send(f"<{name}:communicatord ACCEPT my_address={here};server_name={name}")
        if name == "small":  # the greater one's link is that which it has dialled
            smaller.expect_end()
            assert big.linked() == {"small"}
            assert big.router.remotes["small"].stream not in big.links.dialled.values()
    # Of alpha the other daemon has ended the link now, of small the test.
    if name == "small":
        smaller.accept()
        assert "CONNECT" in smaller.read_line()
        return
    assert smaller.read_line() == "<big:communicatord HELP"
    (link,) = big.links.dialled.values()
    assert big.router.remotes["alpha"].stream is link
    smaller.send("<alpha:x cluckd/NEWS n=1")
    until(lambda: big.services["cluckd"].lines)


def test_a_link_that_waits_for_the_end_of_another_one_waits_for_a_while(
    moved: Ground, clock: MovedClock, smaller: ScriptedPeer
) -> None:
    big = Computer(moved, "big", learns=False).start(smaller.address)
    smaller.accept()
    smaller.read_line()
    with Caller(big) as caller:
        caller.says(CONNECT.replace("server_name=big", "server_name=alpha"))
        assert "ACCEPT" in caller.hears()
        here = smaller.address.removeprefix("tcp://")
        smaller.send(f"<alpha:communicatord ACCEPT my_address={here};server_name=alpha")
        (link,) = big.links.dialled.values()
        until(lambda: not link.enabled)
        clock.advance(5.0)
        smaller.expect_end()
        assert big.linked() == {"alpha"}
        assert not big.links.dialled
        big.links.stop()


# --- gossip ---------------------------------------------------------------------------------------


def test_the_greater_one_is_told_until_it_dials(ground: Ground) -> None:
    with scripted_peer("tcp://127.0.0.9:0") as greater:
        small = Computer(ground, "small").start(greater.address)
        for _ in range(2):  # it is told again, as it has not dialled
            greater.accept()
            assert greater.read_line() == f"GOSSIP my_address={small.links.my_address}"
            greater.send("<big:communicatord RECEIVED")
            greater.expect_end()
        with Caller(small) as caller:
            here = greater.address.removeprefix("tcp://")
            caller.says(CONNECT.replace("127.0.0.9:4042", here).replace("neighbors", "x"))
            assert "ACCEPT" in caller.hears()
            assert not small.links.gossips
            greater.expect_nobody()
        small.links.stop()


def test_a_daemon_that_is_linked_is_not_told_by_a_further_address(ground: Ground) -> None:
    with scripted_peer("tcp://127.0.0.9:0") as greater:
        small = Computer(ground, "small", learns=False).start()
        with Caller(small) as caller:
            caller.says(CONNECT.replace("127.0.0.9", "127.0.0.7"))
            assert "ACCEPT" in caller.hears()
            small.links.add_neighbors((Address.parse(greater.address),))
            greater.accept()
            assert greater.read_line().startswith("GOSSIP my_address=")
            greater.send("<big:communicatord RECEIVED")
            greater.expect_end()
            assert not small.links.gossips
            assert small.links.cluster.state == (True, True, 2)
            caller.says("<big:communicatord small:communicatord/FORGET ip=127.0.0.7")
            while caller.hears():
                pass
        assert not small.links.gossips
        assert not len(small.links.neighbors)
        small.links.stop()


def test_one_that_cannot_be_told_is_unreachable(ground: Ground) -> None:
    with scripted_peer("tcp://127.0.0.9:0") as gone:
        gone.stop_listening()
    small = Computer(ground, "small")
    small.watch("UNREACHABLE")
    small.start(gone.address)
    until(lambda: len(small.services["watcher"].lines) >= 2)
    assert told(small)[0] == f"./UNREACHABLE who={gone.address.removeprefix('tcp://')}"
    small.links.stop()


def test_two_daemons_link_once_whoever_knows_the_other(ground: Ground) -> None:
    for first, second in (("127.0.0.2", "127.0.0.3"), ("127.0.0.3", "127.0.0.2")):
        one = Computer(ground, "one", first).start()
        two = Computer(ground, "two", second).start(one)
        until(lambda one=one, two=two: one.linked() and two.linked())
        until(lambda one=one, two=two: not (one.links.gossips or two.links.gossips))
        assert one.links.cluster.state == two.links.cluster.state == (True, True, 2)
        assert len(one.links.dialled) + len(two.links.dialled) == 1
        one.links.stop()
        two.links.stop()
        until(lambda one=one: not one.router.remotes)


def test_two_daemons_of_one_address_are_told_apart_by_their_ports(ground: Ground) -> None:
    a, b = Computer(ground, "a"), Computer(ground, "b")
    third = Computer(ground, "third", "127.0.0.9")
    a.start()
    b.start(a)
    third.start(a, b)
    for one in (a, b, third):
        until(lambda one=one: len(one.linked()) == 2)
        assert one.links.cluster.state == (True, True, 3)
    services = [one.serve("s", "NEWS") for one in (a, b)]
    teller = third.serve("teller")
    teller.says("*/NEWS x=1")
    until(lambda: all(one.lines for one in services))
    for one in (a, b, third):
        one.links.stop()


# --- forgetting -----------------------------------------------------------------------------------


def test_a_computer_is_forgotten_everywhere(ground: Ground) -> None:
    a, b, c = (
        Computer(ground, name, f"127.0.0.{host}") for name, host in zip("abc", "234", strict=True)
    )
    a.start()
    b.start(a)
    c.start(a, b)
    for one in (a, b, c):
        until(lambda one=one: len(one.linked()) == 2 and one.links.cluster.state.total == 3)
    caller = a.serve("caller")
    c.links.stop()
    until(lambda: a.linked() == {"b"} and b.linked() == {"a"})
    assert b.links.cluster.state == (True, False, 3)
    a.daemon.dispatcher.dispatch(Message("FORGET", {"ip": "127.0.0.4"}), _Local(caller))
    until(lambda: b.links.cluster.state == (True, True, 2))
    assert a.links.cluster.state == (True, True, 2)
    assert not a.links.gossips
    assert not b.links.gossips
    a.links.stop()
    b.links.stop()


class _Local:
    name, may_control, answers_errors = "local", True, True

    def __init__(self, peer: Peer) -> None:
        self.station = peer.station
        self.send = peer.station.send


# --- what else may come ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["twice", "where services connect", "by a datagram"])
def test_connect_is_for_the_listener_of_daemons_and_once(
    ground: Ground, small: Computer, caller: Caller, kind: str
) -> None:
    if kind == "twice":
        caller.says(CONNECT, CONNECT)
        for _ in range(3):
            caller.hears()
        assert caller.hears().startswith(
            "<small:communicatord big:communicatord/INVALID command=CON"
        )
        return
    if kind == "by a datagram":
        server = DatagramServer("udp://127.0.0.1:0", small.daemon.dispatcher)
        ground.communicator.add_connection(server)
        with DatagramClient(f"udp://127.0.0.1:{server.port}") as client:
            client.send(Message.parse(CONNECT))
            until(lambda: small.router.counts["refused"])
    else:
        server = ground.serve(small.daemon.relay, dispatcher=small.daemon.dispatcher)
        with Client(server.addresses[0]) as local:
            local.send(Message.parse(CONNECT))
            assert local.receive(30.0).command == "INVALID"
    assert small.linked() == set()


def test_neighbors_that_are_none_are_left_out(ground: Ground) -> None:
    small = Computer(ground, "small").start()
    with Caller(small) as caller:
        text = CONNECT.replace("=127.0.0.8:4042", "=203.0.113.5:4042,rubbish, 127.0.0.7:1")
        caller.says(text)
        assert "ACCEPT" in caller.hears()
        until(lambda: len(small.links.neighbors) == 2)
        assert {one.endpoint for one in small.links.neighbors} == {"127.0.0.9:4042", "127.0.0.7:1"}
        small.links.stop()


def test_a_plain_peer_from_elsewhere_is_closed(small: Computer) -> None:
    small.links.settings = replace(small.links.settings, allow_loopback=False)
    with Caller(small) as caller:
        caller.says(CONNECT)
        assert caller.hears() == ""
    assert small.router.counts["refused"] == 1


def test_who_is_known_by_another_address_goes_by_the_one_it_states(
    dial: Callable[..., Computer], smaller: ScriptedPeer
) -> None:
    big = dial()
    smaller.read_line()
    smaller.send("<small:communicatord ACCEPT my_address=127.0.0.3:4042;server_name=small")
    smaller.read_line()
    assert [one.endpoint for one in big.links.neighbors] == ["127.0.0.3:4042"]
    assert [place[1] for place in big.links.dialled] == [4042]
    assert big.links.cluster.state == (True, True, 2)


@pytest.mark.parametrize("ip", ["{}", "127.0.0.9"])
def test_one_that_is_only_gossiped_to_is_forgotten(ground: Ground, ip: str) -> None:
    with scripted_peer("tcp://127.0.0.9:0") as greater:
        small = Computer(ground, "small").start(greater.address)
        greater.accept()
        text = ip.format(greater.address.removeprefix("tcp://"))
        table = small.daemon.dispatcher
        table.dispatch(Message("FORGET", {"ip": text}), _Local(small.serve("x")))
        assert len(small.links.neighbors) == 0
        assert not small.links.gossips
        small.links.stop()


def test_one_that_is_dialled_is_forgotten(
    dial: Callable[..., Computer], smaller: ScriptedPeer
) -> None:
    big = dial()
    accept(big, smaller)
    smaller.send("<small:communicatord *:communicatord/FORGET broadcast_hops=1;ip=127.0.0.2")
    assert smaller.read_line() == "<big:communicatord DISCONNECT"
    smaller.expect_end()
    assert not big.links.dialled
    smaller.expect_nobody()


def test_a_stranger_cannot_have_anybody_forgotten(small: Computer) -> None:
    small.links.neighbors.add([Address.parse("127.0.0.8:1")])
    peer = _Local(Peer(small.router))
    peer.may_control = False
    small.daemon.dispatcher.dispatch(Message("FORGET", {"ip": "127.0.0.8"}), peer)
    assert len(small.links.neighbors) == 1


def test_an_address_that_is_none_is_not_forgotten(small: Computer, caller: Caller) -> None:
    caller.says(CONNECT)
    for _ in range(3):
        caller.hears()
    caller.says("<big:communicatord FORGET ip=rubbish.")
    assert "INVALID command=FORGET;message=FORGET: ip: " in caller.hears()


def test_rubbish_in_routes_is_answered(small: Computer, caller: Caller) -> None:
    caller.says(CONNECT, "<big:communicatord ROUTES list=x")
    for _ in range(3):
        caller.hears()
    assert "/INVALID command=ROUTES;message=ROUTES: " in caller.hears()
    assert small.linked() == {"big"}


def test_a_stranger_does_not_stay(moved: Ground, clock: MovedClock) -> None:
    small = Computer(moved, "small", learns=False).start()
    with Caller(small) as daemon, Caller(small) as stranger:
        daemon.says(CONNECT)
        stranger.says("ALIVE")
        stranger.hears()
        for _ in range(3):
            daemon.hears()
        clock.advance(10.0)
        assert stranger.hears() == ""
        daemon.says("ALIVE")
        assert "ABSOLUTELY" in daemon.hears()
    small.links.stop()


def test_a_silent_daemon_is_dialled_again(
    moved: Ground, clock: MovedClock, smaller: ScriptedPeer
) -> None:
    big = Computer(moved, "big", learns=False).start(smaller.address)
    smaller.accept()
    smaller.read_line()
    clock.advance(10.0)
    smaller.expect_end()
    big.links.stop()
