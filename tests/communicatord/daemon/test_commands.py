"""What services say to the daemon itself, in the literal lines of the C++ programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from daemon_ground import READY, SERVER, RunningDaemon
from network_ground import until
from router_ground import service

from edgevent import CommunicatorClient, Message

FROM = f"<{SERVER}:communicatord "


def test_a_service_registers_and_goes(cd: RunningDaemon) -> None:
    watcher = cd.service("watcher", ["STATUS"])
    service = cd.line("local").says("REGISTER service=svcb;version=1")
    assert service.hears_lines(2) == READY
    up = watcher.hears()
    found = re.fullmatch(
        f"{FROM}STATUS cache=no;server_name={SERVER};service=svcb;status=up;up_since=(\\d+)", up
    )
    assert found
    service.says("UNREGISTER service=svcb")
    assert service.hears() == ""
    down = watcher.hears()
    assert re.fullmatch(
        f"{FROM}STATUS cache=no;down_since=\\d+;server_name={SERVER};service=svcb;status=down;"
        f"up_since={found[1]}",
        down,
    )
    watcher.says("SERVICE_STATUS service=svcb")
    assert watcher.hears() == down
    watcher.says("<:watcher SERVICE_STATUS service=nosuch")
    assert watcher.hears() == f"{FROM}STATUS cache=no;service=nosuch;status=unknown"


@pytest.mark.parametrize("name", ["svcb", "", "other"])  # which the C++ daemon does not look at
def test_whoever_says_that_it_goes_is_let_go(cd: RunningDaemon, name: str) -> None:
    watcher = cd.service("watcher", ["STATUS"])
    nameless, service = cd.line(), cd.service("svca")
    assert "service=svca;status=up" in watcher.hears()
    nameless.says(f"UNREGISTER service={name}")
    assert nameless.hears() == ""
    service.says(f"UNREGISTER service={name}")
    assert service.hears() == ""
    assert "service=svca;status=down" in watcher.hears()


def test_an_answer_has_a_target_and_what_the_daemon_tells_has_none(cd: RunningDaemon) -> None:
    service = cd.service("svca")
    service.says("FOO", '<:svca nobody/PING cache="no;reply";transmission_report=failure')
    assert service.hears_lines(3) == [
        f"{FROM}{SERVER}:svca/UNKNOWN command=FOO",
        f"{FROM}SERVICE_UNAVAILABLE destination_service=nobody;unsent_command=PING",
        f"{FROM}TRANSMISSION_REPORT command=PING;status=failed",
    ]
    nameless = cd.line().says("FOO", "<vm:ed_signal FOO")
    assert nameless.hears() == f"{FROM}UNKNOWN command=FOO"
    assert nameless.hears() == f"{FROM}vm:ed_signal/UNKNOWN command=FOO"


def test_that_a_peer_quits_does_not_end_the_daemon(cd: RunningDaemon) -> None:
    service = cd.service("svca")
    service.says("QUITTING", f"<x:communicatord {SERVER}:communicatord/QUITTING", "FOO")
    assert service.hears() == f"{FROM}{SERVER}:svca/UNKNOWN command=FOO"
    assert not cd.router.stopping


def test_messages_go_between_services_under_their_own_names(cd: RunningDaemon) -> None:
    svca = cd.service("svca", ["PING", "PONG"])
    svcb = cd.service("svcb", ["PING"])
    svca.says("<x:y svcb/PING seq=1", "<:svca svcb/PING seq=2")
    assert svcb.hears_lines(2) == [f"<{SERVER}:svca svcb/PING seq={n}" for n in (1, 2)]
    svcb.says(f"{SERVER}:svca/PONG seq=1")
    assert svca.hears() == f"<{SERVER}:svcb {SERVER}:svca/PONG seq=1"


@pytest.mark.parametrize("to", [".", "*", "?"])
def test_a_broadcast_reaches_all_that_have_listed_it(cd: RunningDaemon, to: str) -> None:
    svca, svcb = cd.service("svca", ["PING"]), cd.service("svcb", ["PING"], "local")
    other = cd.service("other", ["PONG"])
    svca.says(f"{to}/PING")
    assert svca.hears() == svcb.hears() == f"<{SERVER}:svca {to}/PING"
    assert other.quiet() == []


@pytest.mark.parametrize("count", [0, 1, 500])
def test_a_service_that_has_gone_and_comes_again_has_its_name(
    cd: RunningDaemon, count: int
) -> None:
    other = cd.service("other", ["NEWS", "STATUS"])
    gone = cd.service("svca")
    other.quiet()
    gone.says(*(f"other/NEWS number={number}" for number in range(count)))
    gone.close()
    again = cd.line().says("REGISTER service=svca;version=1")
    assert again.hears_lines(2) == READY
    heard = [*other.hears_lines(count + 2)]
    assert heard[:count] == [f"<{SERVER}:svca other/NEWS number={n}" for n in range(count)]
    assert [line.partition("status=")[2][:2] for line in heard[count:]] == ["do", "up"]


def test_who_comes_again_and_goes_meanwhile_has_no_name(cd: RunningDaemon) -> None:
    gone = cd.service("svca")
    gone.says(*("nobody/NEWS" for number in range(2_000)))
    gone.close()
    cd.line().says("REGISTER service=svca;version=1").close()
    until(lambda: not cd.router.stations)
    assert cd.service("svca").quiet() == []


@pytest.mark.parametrize("odd", ["EVENT.*", "rub=bish", "lower"])
def test_what_is_no_command_takes_nothing_from_the_others(cd: RunningDaemon, odd: str) -> None:
    service = cd.service("svca").says(f"<:svca COMMANDS list=HELP, {odd} ,PING,")
    assert f"INVALID command=COMMANDS;message='{odd}' is no command" in service.hears()
    service.says("./PING")
    assert service.hears() == f"<{SERVER}:svca ./PING"


def test_the_cluster_of_one_computer_is_up_and_complete(cd: RunningDaemon) -> None:
    service = cd.service("iplock", ["CLUSTER_UP"])
    service.says("<:iplock communicatord/CLUSTER_STATUS serial=5")
    assert service.hears() == f"{FROM}./CLUSTER_UP neighbors_count=1;serial=5"
    assert service.quiet() == []
    other = cd.service("other")
    other.says("CLUSTER_STATUS")
    assert other.hears_lines(2) == [
        f"{FROM}./CLUSTER_UP neighbors_count=1",
        f"{FROM}./CLUSTER_COMPLETE neighbors_count=1",
    ]


def test_messages_for_a_known_service_are_held(cd: RunningDaemon) -> None:
    service = cd.service("iplock")
    name = "FLUID_SETTINGS_GET"
    service.says(
        "<:iplock later/FIRST a=1",
        f'<:iplock later/{name} cache="no;reply";name=iplock::period',
        "<:iplock later/SECOND transmission_report=failure",
        "nobody/THIRD transmission_report=failure",
    )
    assert service.hears_lines(3) == [
        f"{FROM}SERVICE_UNAVAILABLE destination_service=later;unsent_command={name}",
        f"{FROM}TRANSMISSION_REPORT command=SECOND;status=cached",
        f"{FROM}TRANSMISSION_REPORT command=THIRD;status=failed",
    ]
    later = cd.service("later")
    assert later.hears_lines(2) == [
        f"<{SERVER}:iplock later/FIRST a=1",
        f"<{SERVER}:iplock later/SECOND transmission_report=failure",
    ]


def test_a_service_that_reads_late_gets_all_that_was_held_and_first(cd: RunningDaemon) -> None:
    sender, count = cd.service("sender", ["STATUS"]), 1_000
    text = "x" * 1_900  # of which the sockets and the usual room hold a part
    sender.says(*(f"later/NEWS number={number};text={text}" for number in range(count)))
    sender.quiet()
    later = cd.line().says("REGISTER service=later;version=1")
    assert sender.hears_until("service=later;status=up")
    sender.says("later/NEWS number=new")
    assert cd.router.stations["later"].received >= count  # nothing waits for room
    assert later.hears_lines(2) == READY
    numbers = [later.hears().partition("number=")[2].partition(";")[0] for _ in range(count)]
    assert numbers == [str(number) for number in range(count)]


def test_who_is_there_is_listed(cd: RunningDaemon) -> None:
    cd.service("svcb")
    service = cd.service("svca")
    service.says("LIST_SERVICES serial=1")
    assert service.hears().endswith("SERVICES list=svca,svcb;serial=1")
    service.says("PUBLIC_IP")
    assert service.hears().endswith("SERVER_PUBLIC_IP")


def test_names_that_do_not_fit_a_line_come_in_pages(cd: RunningDaemon) -> None:
    names = [f"name_{number:03}_{'x' * 200}" for number in range(400)]
    for name in names:
        service(cd.router, name)
    asker = cd.line()
    found: list[str] = []
    offset: str | None = "0"
    while offset is not None:
        page = Message.parse(asker.says(f"LIST_SERVICES offset={offset}").hears())
        found += page["list"].split(",")
        offset = page.get("next", None)
    assert found == names
    with CommunicatorClient(address=f"unix:{cd.path}") as client:
        assert [name for name in client.services() if name != client.service_name] == names


def test_the_clock_is_told(cd: RunningDaemon) -> None:
    until(lambda: cd.daemon.clock.state == "verified")
    service = cd.service("svca", ["CLOCK_STABLE"])
    service.says("<:svca communicatord/CLOCK_STATUS")
    assert service.hears() == f"{FROM}CLOCK_STABLE cache=no;clock_resolution=verified"


def test_the_load_is_told_to_those_who_want_it(cd: RunningDaemon) -> None:
    service = cd.service("svca", ["LOADAVG"])
    service.says("REGISTER_FOR_LOADAVG")
    assert re.fullmatch(
        f"{FROM}LOADAVG avg=[0-9.]+;my_address=127.0.0.1:4042;timestamp=[0-9.]+", service.hears()
    )
    service.says("UNREGISTER_FROM_LOADAVG")
    service.quiet()
    assert not cd.daemon.load.listeners
    service.says("LOADAVG avg=0.5;my_address=10.0.0.9:4042;timestamp=100.5", "LISTEN_LOADAVG ips=1")
    service.quiet()
    assert cd.daemon.load.loads == {"10.0.0.9:4042": (0.5, 100_500_000_000)}


def test_the_counts_of_the_router_are_told(cd: RunningDaemon) -> None:
    service = cd.service("svca", ["PING"])
    service.says("./PING", "nobody/PING", "COUNTERS")
    counts = service.hears_until("COUNTS")
    assert "router_broadcast=" in counts
    assert "router_undelivered=1;" in counts
    assert "router_services=1;" in counts
    answer = cd.datagram("COUNTERS", answer=True)
    assert "router_services=1;" in answer
    assert len(answer) <= 1024


def test_default_commands_are_answered(cd: RunningDaemon) -> None:
    service = cd.service("svca")
    service.says("ALIVE serial=5", "HELP")
    assert re.fullmatch(
        f"{FROM}{SERVER}:svca/ABSOLUTELY reply_timestamp=[0-9.]+;serial=5", service.hears()
    )
    commands = set(service.hears().partition("list=")[2].split(","))
    assert commands > {
        "ALIVE", "CLOCK_STATUS", "CLUSTER_STATUS", "COMMANDS", "HELP", "LIST_SERVICES",
        "LOG_ROTATE", "PUBLIC_IP", "REGISTER", "SERVICE_STATUS", "SHUTDOWN", "STOP", "UNREGISTER",
    }  # fmt: skip


# --- datagrams ------------------------------------------------------------------------------------


def test_a_datagram_reaches_a_service(cd: RunningDaemon) -> None:
    service = cd.service("svca", ["PING"])
    cd.datagram("svca/PING seq=13")
    assert service.hears() == "svca/PING seq=13"
    cd.datagram(f"<x:y {SERVER}:svca/PING seq=14")
    assert service.hears() == f"<x:y {SERVER}:svca/PING seq=14"
    assert "UNKNOWN command=NOPE" in cd.datagram("svca/NOPE", answer=True)


# --- bad input ------------------------------------------------------------------------------------


def registers_twice(cd: RunningDaemon) -> list[str]:
    return cd.service("svca").says("REGISTER service=svcb;version=1").hears_lines(1)


def takes_a_name(cd: RunningDaemon) -> list[str]:
    cd.service("svca")
    return cd.line().says("REGISTER service=svca;version=1").hears_lines(1)


def by_datagram(text: str) -> Callable[[RunningDaemon], list[str]]:
    return lambda cd: [cd.datagram(text, answer=True)]


def says(text: str) -> Callable[[RunningDaemon], list[str]]:
    return lambda cd: cd.line().says(text).hears_lines(1)


MISTAKES = {
    "REGISTER: parameter service is missing": says("REGISTER version=1"),
    "REGISTER: parameter version is missing": says("REGISTER service=svca"),
    "version 2: this daemon speaks 1": says("REGISTER service=svca;version=2"),
    "'no-name' is no name of a service": says("REGISTER service=no-name;version=1"),
    "'' is no name of a service": says("REGISTER service=;version=1"),
    "the name communicatord is that of": says("REGISTER service=communicatord;version=1"),
    "this connection is registered as svca already": registers_twice,
    "the name svca is registered by another connection": takes_a_name,
    "REGISTER needs a stream": by_datagram("REGISTER service=svca;version=1"),
    "COMMANDS needs a stream": by_datagram("COMMANDS list=A"),
    "REGISTER_FOR_LOADAVG needs a stream": by_datagram("REGISTER_FOR_LOADAVG"),
    "REGISTER_FOR_LOADAVG comes after REGISTER": says("REGISTER_FOR_LOADAVG"),
    "'rub=bish' is no command": says("COMMANDS list=GOOD,rub=bish"),
    "parameter list of COMMANDS is missing": says("COMMANDS"),
    "avg='nan': a number from 0": says("LOADAVG avg=nan;my_address=1.2.3.4;timestamp=1"),
    "my_address: ": says("LOADAVG avg=1;my_address=a:b:c;timestamp=1"),
    "malformed line: ": says("1FOO bar"),
    "a broadcast to * goes to no single server": says("other:*/PING"),
}


@pytest.mark.parametrize("why", MISTAKES)
def test_a_mistake_is_answered_and_counted(cd: RunningDaemon, why: str) -> None:
    (answer,) = MISTAKES[why](cd)
    assert "INVALID " in answer
    assert why in answer.replace("\\", "")
    counts = cd.router.counts
    assert counts["refused"] + counts["malformed"] == 1


def test_a_line_of_64_kib_is_taken_and_a_longer_one_ends_its_sender(cd: RunningDaemon) -> None:
    other = cd.service("other")
    line = cd.service("svca")
    rest = "x" * (64 * 1024 - len("other/PING a="))
    line.says(f"other/PING a={rest}")
    assert "INVALID" in (answer := line.hears())
    assert "with its sender's name it has 65" in answer
    line.says(f"other/PING a={rest[100:]}")
    assert other.hears() == f"<{SERVER}:svca other/PING a={rest[100:]}"
    line.says(f"other/PING a={rest}x")
    assert line.hears() == f"{FROM}INVALID message=a line of more than 65536 bytes"
    assert line.hears() == ""
    assert cd.router.counts["too_long"] == 1
    assert other.quiet() == []


def test_what_a_peer_repeats_is_logged_once_a_minute(
    cd: RunningDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    line = cd.service("svca")
    line.says(*["nobody/PING"] * 100, *["REGISTER service=svca;version=1"] * 100, *["FOO"] * 100)
    line.says(*["UNKNOWN command=READY"] * 100, *["INVALID"] * 100)
    line.quiet()
    assert cd.router.counts["undelivered"] == cd.router.counts["refused"] == 100
    assert cd.router.counts["unknown"] == 100
    assert sum("svca" in one.getMessage() for one in caplog.records) <= 7
    assert sum("answered" in one.getMessage() for one in caplog.records) == 2


def test_a_forged_sender_is_taken_away_and_told(
    cd: RunningDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    service = cd.service("svca", ["PING"])
    cd.line().says(f"<{SERVER}:svca svca/PING", "<:communicatord svca/PING")
    assert service.hears_lines(2) == ["svca/PING", "svca/PING"]
    assert cd.router.counts["forged"] == 2
    assert "said that it came from svca" in caplog.text


# --- the C++ programs, word for word --------------------------------------------------------------

# What clients of the C++ library and their daemon say: "NAME> " says a client, "NAME< " it hears.
DIALOGUE = """\
iplock> REGISTER service=iplock;version=1
<monster:communicatord HELP
<monster:communicatord READY my_address=192.168.2.1:4042
iplock> <:iplock monster:communicatord/COMMANDS list=ALIVE,HELP,INVALID,READY,STATUS,CLUSTER_UP,\
CLOCK_STABLE,FLUID_SETTINGS_VALUE,SERVICE_UNAVAILABLE,UNKNOWN
iplock> <:iplock SERVICE_STATUS service=fluid_settings
<monster:communicatord STATUS cache=no;service=fluid_settings;status=unknown
iplock> <:iplock communicatord/CLUSTER_STATUS
<monster:communicatord ./CLUSTER_UP neighbors_count=1
iplock> <:iplock communicatord/CLOCK_STATUS
<monster:communicatord CLOCK_STABLE cache=no;clock_resolution=verified
iplock> <:iplock fluid_settings/FLUID_SETTINGS_GET cache="no;reply";name=iplock::period
<monster:communicatord SERVICE_UNAVAILABLE destination_service=fluid_settings;\
unsent_command=FLUID_SETTINGS_GET
fluid> REGISTER service=fluid_settings;version=1
<monster:communicatord HELP
<monster:communicatord READY my_address=192.168.2.1:4042
iplock< <monster:communicatord STATUS cache=no;server_name=monster;service=fluid_settings;\
status=up;up_since=1768770000
iplock> <:iplock fluid_settings/FLUID_SETTINGS_GET cache="no;reply";name=iplock::period
fluid< <monster:iplock fluid_settings/FLUID_SETTINGS_GET cache="no;reply";name=iplock::period
fluid> <:fluid_settings monster:iplock/FLUID_SETTINGS_VALUE name=iplock::period;value=1h
iplock< <monster:fluid_settings monster:iplock/FLUID_SETTINGS_VALUE name=iplock::period;value=1h
fluid> UNREGISTER service=fluid_settings
iplock< <monster:communicatord STATUS cache=no;down_since=1768770000;server_name=monster;\
service=fluid_settings;status=down;up_since=1768770000
iplock> UNREGISTER service=iplock
"""


def without_dates(line: str) -> str:
    return re.sub(r"since=\d+", "since=D", line)


def test_a_dialogue_of_the_cpp_programs(tmp_path: Path) -> None:
    words = ("--server-name=monster", "--my-address=192.168.2.1", "--known-service=fluid_settings")
    with RunningDaemon(tmp_path, *words) as cd:
        until(lambda: cd.daemon.clock.state == "verified")
        peers = {"iplock": cd.line(), "fluid": cd.line("local")}
        speaker = ""
        for text in DIALOGUE.splitlines():
            who, said, line = text.partition("> ")
            if said and who in peers:
                speaker = who
                peers[who].says(line)
                continue
            who, heard, line = text.partition("< ")
            if not heard or who not in peers:
                who, line = speaker, text
            assert without_dates(peers[who].hears()) == without_dates(line)
        assert [one.hears() for one in peers.values()] == ["", ""]
