"""Links over TLS: both sides prove who they are."""

from __future__ import annotations

from typing import Any

import pytest
from computers_ground import Caller, Computer
from network_ground import Ground, until
from tls_ground import authority, client_options, server_options, server_pair

from edgevent import Address, Client, ConnectionLostError, Message, OptionError, TlsOptions

HOST = "127.0.0.5"


def options(host: str = HOST, **settings: Any) -> TlsOptions:
    return server_options(server_pair(host, usage="both"), mutual=True, **settings)


def secure(ground: Ground, name: str, host: str = HOST, **settings: Any) -> Computer:
    settings.setdefault("tls", options(host))
    return Computer(
        ground, name, host, **{"plain": None, "secure": Address("tls", host, 0), **settings}
    )


def address(computer: Computer) -> str:
    return f"tls://{computer.links.secure_address}"


def test_two_daemons_are_linked_and_route(ground: Ground) -> None:
    one, two = secure(ground, "one", "127.0.0.2"), secure(ground, "two", "127.0.0.3")
    one.start()
    two.start(address(one))
    until(lambda: one.linked() and two.linked())
    a, b = one.serve("a"), two.serve("b", "PING", "STOP")
    until(lambda: one.router.ways.services())
    a.says("b/PING x=1")
    a.says("two:b/STOP")  # who has a certificate is obeyed
    until(lambda: len(b.lines) == 2)
    assert b.got() == ["<one:a b/PING x=1", "<one:a two:b/STOP"]
    assert one.links.cluster.state == two.links.cluster.state == (True, True, 2)
    assert list(one.links.neighbors) == [Address.parse(address(two))]
    (link,) = two.links.dialled.values()
    two.links.reload([])  # reads the certificates again
    assert link.is_connected
    one.links.stop()
    two.links.stop()


def test_the_smaller_one_tells_the_greater_one_to_dial(ground: Ground) -> None:
    two = secure(ground, "two", "127.0.0.3").start()
    one = secure(ground, "one", "127.0.0.2").start(address(two))
    until(lambda: one.linked() and two.linked() and not one.links.gossips)
    assert len(two.links.dialled) == 1
    one.links.stop()
    two.links.stop()


@pytest.mark.parametrize("kind", ["none", "stranger"])
def test_who_proves_nothing_is_not_let_in(ground: Ground, kind: str) -> None:
    one = secure(ground, "one").start()
    if kind == "none":
        tls = TlsOptions(authorities=authority().certificate_pem)
    else:
        tls = client_options(pair=None, authorities=authority().certificate_pem)
        stranger = server_pair("127.0.0.7", usage="both", authority=authority("another"))
        tls = TlsOptions(
            stranger.certificate_pem, stranger.key_pem, authorities=authority().certificate_pem
        )
    with pytest.raises(ConnectionLostError), Client(address(one), tls=tls) as client:
        client.request(Message("ALIVE"), timeout=10.0)
    assert one.linked() == set()
    one.links.stop()


def test_plain_links_may_not_control_services(ground: Ground) -> None:
    one = Computer(ground, "one", learns=False).start()
    a = one.serve("a")
    with Caller(one) as caller:
        caller.says("CONNECT my_address=127.0.0.9:4042;server_name=big;version=1")
        for _ in range(3):
            caller.hears()
        one.router.remotes["big"].may_control = False  # over loopback it may
        one.router.changed()
        caller.says("<big:x a/STOP", "<big:x */STOP", "<big:x a/PING")
        for _ in range(2):
            assert "INVALID command=STOP;message=STOP is not accepted" in caller.hears()
        until(lambda: a.lines)
        assert a.got() == ["<big:x a/PING"]
    one.links.stop()


def test_a_secure_listener_on_all_addresses_needs_an_address_to_tell(ground: Ground) -> None:
    with pytest.raises(OptionError, match="my-address: "):
        Computer(
            ground, "one", "0.0.0.0", plain=None, secure=Address("tls", "0.0.0.0", 0), tls=options()
        ).start()
    mine = Address.parse("127.0.0.5:7")
    one = Computer(
        ground,
        "one",
        plain=None,
        secure=Address("tls", "0.0.0.0", 0),
        tls=options(),
        my_address=mine,
    ).start()
    assert one.links.my_address == f"127.0.0.5:{one.links.servers[0].port}"
    one.links.stop()
