"""Parts of the daemon by themselves: the clock, the load, silent services, repeated conditions."""

from __future__ import annotations

import ipaddress
import logging
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from network_ground import MovedClock
from router_ground import Peer, service

from edgevent import Address, ConnectionLostError, Message
from edgevent.communicatord import clock_status
from edgevent.communicatord.alive import AliveQuestions
from edgevent.communicatord.clock_status import ClockStatus
from edgevent.communicatord.conditions import PeerConditions
from edgevent.communicatord.daemon import Daemon
from edgevent.communicatord.load_average import LoadAverage, read_load
from edgevent.communicatord.router import Router


@pytest.fixture
def clock() -> MovedClock:
    """A clock that the test moves."""
    return MovedClock()


# --- conditions -----------------------------------------------------------------------------------


def test_a_condition_is_logged_once_a_minute(
    clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edgevent.communicatord")
    said = PeerConditions(clock.now)
    for peer in ("one", "one", "one", "other"):
        said.say(logging.WARNING, peer, "late", "%s was late", "it")
    assert caplog.messages == ["one: it was late", "other: it was late"]
    clock.advance(61.0)
    said.say(logging.WARNING, "one", "late", "late by 5%%")
    said.say(logging.WARNING, "other", "late", "late")
    assert caplog.messages[2:] == [
        "one: late by 5% (2 more since the last such line)",
        "other: late",
    ]


# --- the clock ------------------------------------------------------------------------------------


def program(folder: Path, text: str) -> str:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def looked(clock: MovedClock, command: str = "") -> tuple[ClockStatus, list[Message]]:
    told: list[Message] = []
    status = ClockStatus(told.append, command, monotonic=clock.now)
    status.look()
    return status, told


@pytest.mark.parametrize(
    ("command", "state"),
    [("true", "verified"), ("false", "invalid"), ("/nowhere/at/all", "invalid")],
)
def test_a_command_tells_of_the_clock(clock: MovedClock, command: str, state: str) -> None:
    status, (told,) = looked(clock, command)
    assert status.state == state
    assert told.command == ("CLOCK_STABLE" if state == "verified" else "CLOCK_UNSTABLE")


def test_the_clock_is_looked_at_again_when_its_time_has_come(clock: MovedClock) -> None:
    status, told = looked(clock, "false")
    for passed, command, count in ((1.0, "true", 1), (60.0, "true", 2), (61.0, "false", 2)):
        clock.advance(passed)
        status._command = [command]
        status.look()
        assert len(told) == count
    clock.advance(3600.0)
    status.look()
    assert [one.command for one in told] == ["CLOCK_UNSTABLE", "CLOCK_STABLE", "CLOCK_UNSTABLE"]


def test_a_clock_that_stays_wrong_is_looked_at_less_and_less(
    clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edgevent")
    status, told = looked(clock, "false")
    for _ in range(200):
        clock.advance(60.0)
        status.look()
    assert len(told) == 1
    assert 7 <= sum("exit code 1" in line for line in caplog.messages) <= 10  # in 200 minutes


@pytest.mark.parametrize(
    ("ntp_wait", "timedatectl", "state"),
    [
        ("exit 0", None, "verified"),
        ("exit 1", None, "invalid"),
        (None, "echo yes", "verified"),
        (None, "echo no", "invalid"),
        (None, None, "no_ntp"),
    ],
)
def test_the_programs_of_the_system_are_asked(
    clock: MovedClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ntp_wait: str | None,
    timedatectl: str | None,
    state: str,
) -> None:
    for name, text in (("NTP_WAIT", ntp_wait), ("TIMEDATECTL", timedatectl)):
        path = "/nowhere" if text is None else program(tmp_path, text)
        monkeypatch.setattr(clock_status, name, (path,))
    status, _ = looked(clock)
    assert status.state == state


def test_a_program_that_hangs_is_given_up(
    clock: MovedClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(clock_status, "LIMIT", 0.05)
    status, _ = looked(clock, program(tmp_path, "exec sleep 60"))
    assert status.state == "invalid"
    assert "within 0.05 s" in caplog.text


# --- the load -------------------------------------------------------------------------------------


def test_the_load_is_told_when_it_has_changed() -> None:
    values = [0.5]
    router = Router("snap")
    load = LoadAverage(router, "10.0.0.5:4042", read=lambda: values[0])
    wanted: list[bool] = []
    load.on_wanted = wanted.append
    peer = service(router, "svca")
    load.look()
    load.register_for_loadavg(Message("REGISTER_FOR_LOADAVG"), peer)
    for value in (0.5, 0.59, 0.61):
        values[0] = value
        load.look()
    assert [line.split()[2].partition(";")[0] for line in peer.got()] == ["avg=0.5", "avg=0.61"]
    router.remove(peer.station)
    assert (load.listeners, wanted) == ({}, [True, False])


def test_the_loads_of_other_computers_are_in_the_file_of_the_cpp_library(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router("snap")
    load = LoadAverage(router, "10.0.0.1:4042")
    peer: Any = Peer(router)
    news = Message("LOADAVG", {"avg": 0.5, "my_address": "10.0.0.9", "timestamp": "100.25"})
    load.loadavg(news, peer)
    load.path = tmp_path / "loadavg.lavg"
    load.loadavg(news.with_parameters(my_address="[fd00::1]:1", avg="2"), peer)
    data = load.path.read_bytes()
    assert data[:6] == b"LAVG" + (1).to_bytes(2, sys.byteorder)
    records = list(struct.iter_unpack("=qqH2sI16sIf", data[6:]))
    hosts = [ipaddress.ip_address(host).packed for host in ("::ffff:10.0.0.9", "fd00::1")]
    assert records == [
        (100, 250_000_000, socket.AF_INET6, b"\x0f\xc8", 0, hosts[0], 0, 0.5),
        (100, 250_000_000, socket.AF_INET6, b"\x0f\xc8", 0, hosts[1], 0, 2.0),
    ]
    assert [one.name for one in tmp_path.iterdir()] == ["loadavg.lavg"]
    load.path = tmp_path / "nowhere" / "loadavg.lavg"
    load.loadavg(news, peer)
    assert "it cannot be written: No such file or directory" in caplog.text


def test_a_load_that_cannot_be_read_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> float:
        raise OSError("no such file")

    router = Router("snap")
    load = LoadAverage(router, "10.0.0.5:4042", read=read)
    peer = service(router, "svca")
    load.listeners[peer.station] = None
    for _ in range(10):
        load.look()
    assert caplog.text.count("cannot be read: no such file") == 1
    assert peer.got() == []


def test_the_load_of_this_computer_is_read(tmp_path: Path) -> None:
    assert read_load() >= 0.0
    (tmp_path / "loadavg").write_text("x y z")
    with pytest.raises(ValueError, match="x"):
        read_load(str(tmp_path / "loadavg"))


def test_other_computers_are_asked_for_their_load() -> None:
    router = Router("snap")
    load = LoadAverage(router, "10.0.0.5:4042")
    near, far, unknown = (
        Peer(router, name, address=address and Address.parse(address))
        for name, address in (
            ("near", "tcp://10.0.0.6:4042"),
            ("far", "tcp://10.0.0.7:4042"),
            ("unknown", None),
        )
    )
    for peer in (near, far, unknown):
        router.connect(peer.station, peer.station.label)
    asker = service(router, "svca")
    load.listen_loadavg(Message("LISTEN_LOADAVG", {"ips": "10.0.0.7, 10.0.0.8"}), asker)
    assert far.got() == ["<snap:communicatord REGISTER_FOR_LOADAVG"]
    assert near.got() == unknown.got() == []
    news = {"my_address": "10.0.0.6", "timestamp": "1"}
    for number in range(1_010):
        fields = {**news, "avg": "0.5", "my_address": f"10.1.{number // 250}.{number % 250}:1"}
        load.loadavg(Message("LOADAVG", fields), asker)
    assert len(load.loads) == 1_000


# --- datagrams ------------------------------------------------------------------------------------


class Far:
    """The sender of a datagram on another computer, which has not proved who it is."""

    name = "far"
    may_control = False
    answers_errors = True

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.is_gone = False

    def send(self, message: Message) -> None:
        self.write(bytes(message))

    def write(self, data: bytes) -> None:
        if self.is_gone:
            raise ConnectionLostError("nobody is there")
        self.sent.append(data.decode())


def test_services_are_not_controlled_by_anybody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edgevent.communicatord")
    daemon, far = Daemon("snap"), Far()
    target = service(daemon.router, "svca", "STOP", "PING")
    for text in ("svca/STOP", "snap:svca/STOP", "svca/PING", "svca/NOPE"):
        daemon.dispatcher.dispatch(Message.parse(text), far)
    assert target.got() == ["svca/PING"]
    refused = "INVALID command=STOP;message=STOP is not accepted from this peer"
    unknown = "<snap:communicatord UNKNOWN command=NOPE"
    assert far.sent == [refused, refused, unknown]
    far.is_gone = True
    daemon.dispatcher.dispatch(Message.parse("svca/NOPE"), far)
    assert "far: no answer could be sent: nobody is there" in caplog.text
    daemon.stop()
    daemon.stop()
    daemon.dispatcher.dispatch(Message.parse("svca/PING"), far)
    assert target.got() == []


# --- silent services ------------------------------------------------------------------------------


class Asked:
    """A service as it is looked at."""

    name = "asked"
    received_bytes = 0
    may_be_asked = True

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.why = ""

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def give_up(self, why: str) -> None:
        self.why = why


@pytest.fixture
def look(clock: MovedClock) -> Callable[[Asked, float], None]:
    peers: list[Asked] = []
    alive = AliveQuestions(lambda: peers, monotonic=clock.now)

    def after(peer: Asked, seconds: float) -> None:
        peers[:] = [peer]
        clock.advance(seconds)
        alive.look()

    return after


def test_whoever_talks_is_not_asked(look: Callable[[Asked, float], None]) -> None:
    peer = Asked()
    for _ in range(10):
        peer.received_bytes += 1
        look(peer, 59.0)
    assert peer.sent == []


def test_whoever_is_silent_is_asked_once_and_given_up(
    look: Callable[[Asked, float], None],
) -> None:
    peer = Asked()
    for seconds in (0.0, 59.0, 1.0, 10.0, 9.0):
        look(peer, seconds)
    assert [one.command for one in peer.sent] == ["ALIVE"]
    assert peer.sent[0]["serial"] == "communicatord-1"
    assert peer.why == ""
    look(peer, 1.0)
    assert peer.why == "it did not answer ALIVE within 20 s"


def test_any_sign_of_life_counts(look: Callable[[Asked, float], None]) -> None:
    peer = Asked()
    look(peer, 0.0)
    look(peer, 60.0)
    peer.received_bytes = 1
    look(peer, 19.0)
    look(peer, 59.0)
    assert len(peer.sent) == 1
    look(peer, 1.0)
    assert len(peer.sent) == 2
    assert peer.why == ""


def test_whoever_cannot_be_asked_is_left_alone(look: Callable[[Asked, float], None]) -> None:
    peer = Asked()
    peer.may_be_asked = False
    for _ in range(10):
        look(peer, 60.0)
    assert (peer.sent, peer.why) == ([], "")


def test_one_that_goes_while_it_is_asked_does_not_keep_others_from_it(clock: MovedClock) -> None:
    gone, asked = Asked(), Asked()

    def fail(message: Message) -> None:
        raise ConnectionLostError("nobody is there")

    gone.send = fail  # type: ignore[method-assign]
    alive = AliveQuestions(lambda: [gone, asked], monotonic=clock.now)
    alive.look()
    clock.advance(60.0)
    alive.look()
    assert [one.command for one in asked.sent] == ["ALIVE"]
