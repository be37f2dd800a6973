"""Links over TLS: both sides prove who they are."""

from __future__ import annotations

from dataclasses import replace
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
    a, b = one.serve("a", "STOP"), two.serve("b", "PING", "STOP")
    until(lambda: one.router.ways.services() and two.router.ways.services())
    a.says("b/PING x=1")
    a.says("two:b/STOP")  # who has a certificate is obeyed, whichever of the two has dialled
    b.says("one:a/STOP")
    until(lambda: len(b.lines) == 2 and a.lines)
    assert b.got() == ["<one:a b/PING x=1", "<one:a two:b/STOP"]
    assert a.got() == ["<two:b one:a/STOP"]
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


@pytest.mark.parametrize("allowed", [False, True])
def test_plain_links_control_nothing_unless_that_is_allowed(ground: Ground, allowed: bool) -> None:
    # On loopback neither, where any local process may stand in a daemon's place.
    one = Computer(ground, "one", "127.0.0.2", allow_control=allowed).start()
    two = Computer(ground, "two", "127.0.0.3", allow_control=allowed).start(one)
    until(lambda: one.linked() and two.linked())
    a, b = one.serve("a", "STOP", "PING"), two.serve("b", "STOP", "PING")
    until(lambda: one.router.ways.services() and two.router.ways.services())
    for sender, receiver, other in ((a, b, "two:b"), (b, a, "one:a")):
        sender.says(f"{other}/STOP")
        sender.says(f"{other}/PING")
        until(lambda lines=receiver.lines: any("/PING" in line for line in lines))
        assert any("/STOP" in line for line in receiver.got()) is allowed
        if not allowed:
            until(lambda lines=sender.lines: lines)
            assert "/INVALID command=STOP;message=STOP is not accepted" in sender.got()[0]
    one.links.stop()
    two.links.stop()


@pytest.mark.parametrize("command", ["STOP", "SHUTDOWN", "FORGET ip=127.0.0.8"])
def test_who_has_not_introduced_itself_controls_nothing(ground: Ground, command: str) -> None:
    one = Computer(ground, "one").start()
    with Caller(one) as caller:
        caller.says(command)
        name = command.partition(" ")[0]
        assert f"INVALID command={name};message={name} is not accepted" in caller.hears()
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


def test_two_daemons_that_dial_each_other_at_once_keep_one_link(ground: Ground) -> None:
    plain, tls = "127.0.0.{}", Address("tls", "127.0.0.8", 0)
    one = Computer(ground, "one", plain.format(5), secure=tls, tls=options(tls.host)).start()
    tls = replace(tls, host="127.0.0.2")
    two = Computer(ground, "two", plain.format(9), secure=tls, tls=options(tls.host)).start()

    def are_linked() -> bool:
        return one.linked() == {"two"} and two.linked() == {"one"}

    for _ in range(2):
        # Each is the greater one, by the address that the other one knows.
        one.links.reach(Address.parse(address(two)))
        two.links.reach(Address.parse(one.address))
        until(lambda: are_linked() and not (one.links.gossips or two.links.gossips))
        until(lambda: len(one.links.dialled) + len(two.links.dialled) == 1)
        assert one.links.cluster.state == two.links.cluster.state == (True, True, 2)
        a, b = one.serve("a", "NEWS"), two.serve("b", "NEWS")
        b.says("*/NEWS n=1")
        until(lambda a=a, b=b: len(a.lines) == len(b.lines) == 1)
        for peer in (a, b):
            peer.router.remove(peer.station)
        one.cut("two")
        until(lambda: not one.linked() and not two.linked())
    until(are_linked)
    one.links.stop()
    two.links.stop()
