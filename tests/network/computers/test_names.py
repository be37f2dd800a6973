"""Neighbors that have a name: it may lead elsewhere at each attempt, and is one neighbor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from computers_ground import Computer
from network_ground import Ground, until

from edgevent import Address
from edgevent.transport import dial
from edgevent.transport.resolve import Endpoint

Lead = Callable[..., None]
HIGH, LOW = "127.0.0.9", "127.0.0.2"


@pytest.fixture
def lead(monkeypatch: pytest.MonkeyPatch) -> Lead:
    """Says where the name ``other.test`` leads: a name server of the test's own."""
    found: list[str] = []
    resolve = dial.resolve

    def look_up(address: Address, *words: object, **settings: object) -> list[Endpoint]:
        hosts = found if address.host == "other.test" else [address.host]
        return [
            endpoint
            for host in hosts
            for endpoint in resolve(replace(address, host=host), *words, **settings)
        ]

    def leads_to(*hosts: str) -> None:
        found[:] = hosts

    monkeypatch.setattr(dial, "resolve", look_up)
    return leads_to


def named(computer: Computer) -> str:
    return f"tcp://other.test:{Address.parse(computer.address).port}"


def are_linked(one: Computer, other: Computer) -> Callable[[], bool]:
    return lambda: one.linked() == {other.name} and other.linked() == {one.name}


def stop(*found: Computer) -> None:
    for one in found:
        one.links.stop()


@pytest.mark.parametrize("own", ["127.0.0.1", "127.0.0.5"])
@pytest.mark.parametrize("other", [LOW, HIGH])
def test_a_name_is_dialled_or_told_as_its_address_is(
    ground: Ground, lead: Lead, tmp_path: Path, own: str, other: str
) -> None:
    far = Computer(ground, "far", other).start()
    lead("127.0.0.77", other)  # nobody is at the first one
    near = Computer(ground, "near", own, folder=tmp_path).start(named(far))
    until(are_linked(near, far))
    assert list(near.links.neighbors) == [Address.parse(far.address)]
    assert near.links.cluster.state == far.links.cluster.state == (True, True, 2)
    assert not near.links.gossips
    near.links.reload([Address.parse(named(far))])
    assert len(near.links.neighbors) == len(far.links.neighbors) == 1
    assert len(near.links.dialled) + len(far.links.dialled) == 1
    assert other not in (tmp_path / "neighbors.txt").read_text()  # tomorrow it may lead elsewhere
    near.cut("far")
    until(lambda: not near.linked())
    until(are_linked(near, far))
    stop(near, far)


@pytest.mark.parametrize(("first", "second"), [(LOW, "127.0.0.3"), (LOW, HIGH), (HIGH, LOW)])
def test_a_neighbor_that_moves_is_found_by_its_name(
    ground: Ground, lead: Lead, first: str, second: str
) -> None:
    far = Computer(ground, "far", first).start()
    lead(first)
    near = Computer(ground, "near").start(named(far))
    until(are_linked(near, far))
    port = Address.parse(far.address).port
    stop(far)
    moved = Computer(ground, "far", second, plain=Address("tcp", second, port)).start()
    lead(second)
    until(lambda: not near.linked())
    for link in near.links.dialled.values():
        link.retry.pause = None
        link.dial_now()
    until(are_linked(near, moved))
    assert [one.host for one in near.links.neighbors] == [second]
    assert near.links.cluster.state == (True, True, 2)
    stop(near, moved)


def test_a_name_and_an_address_of_one_daemon_are_one_neighbor(ground: Ground, lead: Lead) -> None:
    far = Computer(ground, "far", LOW).start()
    lead(LOW)
    near = Computer(ground, "near").start(far, named(far))
    until(are_linked(near, far))
    until(lambda: len(near.links.neighbors) == len(near.links.dialled) == 1)
    assert near.links.cluster.state == (True, True, 2)
    stop(near, far)


def test_the_own_name_is_no_neighbor(ground: Ground, lead: Lead) -> None:
    near = Computer(ground, "near").start()
    lead(near.host)
    near.links.add_neighbors([Address.parse(named(near))])
    assert near.links.cluster.state.total == 2
    until(lambda: not len(near.links.neighbors))
    until(lambda: not near.links.dialled)
    assert near.links.cluster.state == (True, True, 1)
    stop(near)


def test_a_name_that_leads_where_no_plain_link_may_be_is_refused(
    ground: Ground, lead: Lead, caplog: pytest.LogCaptureFixture
) -> None:
    far, near = Computer(ground, "far", LOW).start(), Computer(ground, "near").start()
    near.links.settings = replace(near.links.settings, allow_loopback=False)
    lead(LOW)
    near.links.add_neighbors([Address.parse(named(far))])
    until(lambda: "refused: tcp://127.0.0.2:" in caplog.text)
    assert not near.linked()
    stop(near, far)
