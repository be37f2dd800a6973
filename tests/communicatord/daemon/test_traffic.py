"""LIST_TRAFFIC: what the daemon tells of its services and of itself."""

from __future__ import annotations

import json
import os
from typing import Any

from daemon_ground import SERVER, RunningDaemon
from network_ground import until
from router_ground import service

from edgevent import Message
from edgevent.communicatord import traffic
from edgevent.communicatord.router import Router
from edgevent.communicatord.traffic import TrafficCommands, describe


def ask(cd: RunningDaemon) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What is told of the daemon, and of each peer."""
    answer = Message.parse(cd.line().says("LIST_TRAFFIC").hears())
    assert answer.command == "TRAFFIC"
    assert "next" not in answer
    return json.loads(answer["daemon"]), {one["name"]: one for one in json.loads(answer["peers"])}


def test_what_is_told_of_services(cd: RunningDaemon) -> None:
    till, stock = cd.service("till"), cd.service("stock", ["TAKE"])
    till.says("stock/TAKE", "stock/TAKE", "later/NEWS", "nobody/NEWS")
    stock.hears_lines(2)
    till.quiet()
    daemon, peers = ask(cd)
    assert daemon["server"] == SERVER
    assert daemon["pid"] == os.getpid()
    assert (daemon["held"], daemon["counts"]["undelivered"]) == (1, 1)
    assert daemon["memory_bytes"] > 1_000_000
    assert peers["till"]["messages_in"] == peers["stock"]["messages_out"] == 2
    assert peers["till"]["commands"] is None
    assert peers["stock"]["commands"] == 1
    assert peers["stock"]["state"] == "up"
    assert peers["till"]["bytes_in"] > 60
    assert peers["later"] == {"name": "later", "kind": "local", "state": "down", "held": 1}


def test_a_service_that_does_not_read_is_slow(cd: RunningDaemon) -> None:
    till, stock = cd.service("till"), cd.service("stock")
    while True:
        till.says(*[f"stock/TAKE text={'x' * 900}"] * 100)
        till.quiet()
        found = ask(cd)[1]["stock"]
        if found["state"] == "slow":
            break
        assert found["messages_out"] < 10_000
    assert found["lag"] >= 0.25
    assert found["queued_out"] > 0
    stock.close()


def test_a_service_that_goes_is_ending(cd: RunningDaemon) -> None:
    line = cd.service("till")
    station = cd.router.stations["till"]
    line.close()
    until(lambda: "till" not in cd.router.stations)
    assert describe(station)["state"] == "ending"


def test_many_services_come_in_pages(cd: RunningDaemon, monkeypatch: Any) -> None:
    monkeypatch.setattr(traffic, "MAX_PAGE_BYTES", 300)
    for name in ("a", "b", "c"):
        cd.service(name)
    line, offset, names = cd.line(), "0", []
    while offset:
        answer = Message.parse(line.says(f"LIST_TRAFFIC offset={offset}").hears())
        assert ("daemon" in answer) == (offset == "0")
        names += [one["name"] for one in json.loads(answer["peers"])]
        offset = answer.get("next", "")
    assert names == ["a", "b", "c"]


def test_peers_of_another_kind_of_connection_are_told_of() -> None:
    router = Router("snap")
    one = service(router, "one", "TAKE")
    other = service(router, "tmp")
    router.remove(other.station)
    router.connect(other.station, "crackle")
    assert describe(one.station)["commands"] == 1
    assert describe(other.station)["kind"] == "remote"
    assert TrafficCommands(router, lambda peer: True)._names() == [(0, "one"), (1, "crackle")]


def test_memory_that_cannot_be_read_is_none(monkeypatch: Any) -> None:
    def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("builtins.open", fail)
    assert traffic._memory_bytes() == 0
