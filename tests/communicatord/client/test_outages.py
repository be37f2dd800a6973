"""A daemon that is killed and started again: its services are back, and loss is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest
from network_ground import PATIENCE, Ground, until
from running import ROOT, Program

from edgevent import (
    CommunicatorConnection,
    ConnectionLostError,
    Dispatcher,
    Message,
    NotConnectedError,
    ServiceUnavailableError,
)

Connect = Callable[..., CommunicatorConnection]
BACK = 2.0  # seconds, of the issue


def start(path: str, folder: Path) -> Program:
    """The daemon as a process of its own, which listens, and knows who is to come."""
    options = (
        f"--unix-listen={path}",
        "--local-listen=off",
        "--signal=off",
        "--known-service=receiver",
    )
    program = Program(ROOT / "scripts" / "communicatord", *options, folder=folder)
    program.listening_on()
    return program


@pytest.mark.parametrize("outage", [0.0, pytest.param(20.0, marks=pytest.mark.slow)])
def test_services_are_registered_again_when_their_daemon_is_back(
    ground: Ground, connect: Connect, path: str, tmp_path: Path, outage: float
) -> None:
    heard = list[int]()
    table = Dispatcher()

    @table.on("NUMBER")
    def number(message: Message, peer: Any, n: int) -> None:
        heard.append(n)

    took, sent = list[float](), 0
    with start(path, tmp_path):
        receiver = connect("receiver", table)
        sender = connect("sender")
        sender.service_status("receiver")

    for _ in range(2):
        until(lambda: not (receiver.is_registered or sender.is_registered))
        with pytest.raises(NotConnectedError):
            sender.send(Message("NUMBER", {"n": -1}, service="receiver"))
        for n in range(sent, sent + 50):
            sender.send(Message("NUMBER", {"n": n}, service="receiver"), cache=True, hold="1m")
        sent += 50
        gevent.sleep(outage)  # it is the length of the outage that is tried
        with start(path, tmp_path) as daemon:
            began = monotonic()
            receiver.wait_until_up(PATIENCE)
            sender.wait_until_up(PATIENCE)
            took.append(monotonic() - began)
            until(lambda wanted=sent: len(heard) == wanted)
            daemon.kill()
            until(lambda: not sender.is_registered)
    assert heard == list(range(sent))
    assert min(took) < BACK
    lost = [message["n"] for message in sender.undelivered if "n" in message]
    assert sorted(map(int, lost)) == list(range(sent))  # in doubt: nothing has answered since


def test_what_is_under_way_when_the_daemon_dies_is_told(
    ground: Ground, connect: Connect, path: str, tmp_path: Path
) -> None:
    table = Dispatcher()
    table.on("ASK")(lambda message, peer: None)
    with start(path, tmp_path) as daemon:
        connect("silent", table)
        sender = connect("sender")
        asked = gevent.spawn(sender.request, "silent", Message("ASK"), timeout=PATIENCE)
        sender.send(Message("ASK", {"n": 1}, service="silent"))
        sender.service_status("silent")
        daemon.kill()
        with pytest.raises(ConnectionLostError):
            asked.get(timeout=PATIENCE)
    until(lambda: not sender.is_registered)


def test_what_the_daemon_held_when_it_died_is_told(
    ground: Ground, connect: Connect, path: str, tmp_path: Path
) -> None:
    table = Dispatcher()
    table.on("ASK")(lambda message, peer: message.reply("ANSWER"))
    table.on("NUMBER")(lambda message, peer: None)
    with start(path, tmp_path) as daemon:
        connect("other", table)
        sender = connect("sender")
        sender.send(Message("NUMBER", {"n": 1}, service="receiver"))  # which has not come yet
        sender.send(Message("NUMBER", {"n": 2}, service="other"))
        sender.send(Message("NUMBER", {"n": 3}, service="receiver"))
        with pytest.raises(ServiceUnavailableError):
            sender.request("receiver", Message("ASK"), timeout=PATIENCE)
        sender.service_status("receiver")
        sender.request("other", Message("ASK"), "ANSWER", timeout=PATIENCE)
        daemon.kill()
        until(lambda: not sender.is_registered)
    assert [message["n"] for message in sender.undelivered.in_doubt if "n" in message] == ["1", "3"]


@pytest.mark.parametrize("count", [50, pytest.param(500, marks=pytest.mark.slow)])
def test_many_services_are_all_back(ground: Ground, path: str, tmp_path: Path, count: int) -> None:
    links, back = list[CommunicatorConnection](), list[str]()
    for number in range(count):
        link = CommunicatorConnection(f"service_{number}", Dispatcher(), address=f"unix:{path}")
        link.on_ready(lambda link: back.append(link.service_name))
        links.append(ground.communicator.add_connection(link))
    with start(path, tmp_path):
        until(lambda: len(back) == count)
    until(lambda: not any(link.is_registered for link in links))
    back.clear()
    with start(path, tmp_path):
        until(lambda: len(back) == count)
        assert links[0].services() == sorted(back)
