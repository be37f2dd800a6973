"""What daemons tell each other of what they reach."""

from __future__ import annotations

import pytest
from router_ground import Peer, service

from edgevent import Address, Message, MessageError
from edgevent.communicatord.router import Router
from edgevent.communicatord.routes import Routes


@pytest.fixture
def router() -> Router:
    return Router("me")


@pytest.fixture
def routes(router: Router) -> Routes:
    return Routes(router)


def neighbor(router: Router, name: str) -> Peer:
    peer = Peer(router, name, address=Address.parse("10.0.0.2:4042"))
    router.connect(peer.station, name)
    return peer


def tell(routes: Routes, peer: Peer, text: str, **fields: str) -> bool:
    return routes.learn(Message("ROUTES", {"list": text, **fields}), peer.station)


def said(routes: Routes, peer: Peer) -> list[str]:
    return [message["list"] for message in routes.news_for(peer.station)]


def test_the_nearest_way_is_the_first(router: Router, routes: Routes) -> None:
    b, c = neighbor(router, "b"), neighbor(router, "c")
    tell(routes, b, "b:x b/d/e:far b/d:y")
    tell(routes, c, "c: c/e:far,other")
    assert routes.to_server("e") == [c.station, b.station]
    assert routes.to_service("far") == [c.station, b.station]
    assert routes.to_service("y") == [b.station]
    assert routes.to_service("nosuch") == ()
    assert routes.services() == ["far", "other", "x", "y"]
    routes.forget(c.station)
    assert routes.to_server("e") == [b.station]


def test_an_entry_that_leads_here_or_lies_is_left_out(router: Router, routes: Routes) -> None:
    b = neighbor(router, "b")
    tell(
        routes,
        b,
        "b:x b/me/c:y other/d:z " + "/".join(["b", *("c" * n for n in range(1, 17))]) + ":w",
    )
    assert routes.services() == ["x"]
    assert routes.to_server("d") == ()


def test_each_neighbor_is_told_what_does_not_lead_over_it(router: Router, routes: Routes) -> None:
    b, c = neighbor(router, "b"), neighbor(router, "c")
    service(router, "mine")
    tell(routes, b, "b:x b/d:y")
    tell(routes, c, "c:z c/d:y")
    assert said(routes, b) == ["me/c/d:y me/c:z me:mine"]
    assert said(routes, c) == ["me/b/d:y me/b:x me:mine"]
    assert said(routes, c) == []  # it has been told that
    tell(routes, b, "b:x b/d:y,new")
    assert said(routes, b) == []
    assert said(routes, c) == ["me/b/d:new,y me/b:x me:mine"]


def test_what_does_not_fit_one_line_is_in_several(router: Router, routes: Routes) -> None:
    reader, writer = Router("reader"), neighbor(router, "reader")
    other = Routes(reader)
    me = neighbor(reader, "me")
    names = {f"service_{'x' * 200}_{number}" for number in range(1_000)}
    b = neighbor(router, "b")
    b.station.services = frozenset(names)
    messages = routes.news_for(writer.station)
    assert len(messages) > 4
    assert max(len(message.to_line()) for message in messages) < 64 * 1024
    done = [other.learn(message, me.station) for message in messages]
    assert done == [False] * (len(messages) - 1) + [True]
    assert set(other.services()) == set(reader.ways.services()) == names
    assert other.to_server("b") == [me.station]


@pytest.mark.parametrize(
    "text", ["b", "b:x,", "b:x;y", "1b:x", "b//c:x", "b:x b/c", "b:\u00e9", "/:"]
)
def test_rubbish_is_an_error_and_changes_nothing(router: Router, routes: Routes, text: str) -> None:
    b = neighbor(router, "b")
    tell(routes, b, "b:x")
    with pytest.raises(MessageError, match="path:services was expected"):
        tell(routes, b, text)
    assert routes.services() == ["x"]


def test_a_list_without_end_is_refused(router: Router, routes: Routes) -> None:
    b = neighbor(router, "b")
    part = " ".join(["b:" + "x" * 200] * 250)
    for _ in range(31):
        assert not tell(routes, b, part, more="true")
    with pytest.raises(MessageError, match="the list is too long"):
        tell(routes, b, part, more="true")


def test_too_many_entries_are_refused(router: Router, routes: Routes) -> None:
    b = neighbor(router, "b")
    names = ",".join("s" for _ in range(12_000))
    tell(routes, b, "b:" + names)
    names = ",".join(f"s{number}" for number in range(100_001))
    with pytest.raises(MessageError, match="more than 100000 entries"):
        tell(routes, b, "b:" + names)
    assert routes.services() == ["s"]
