"""Multicast: who is in which group, where, and how far datagrams go; IPv4 and IPv6."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from datagram_ground import serve
from gevent import socket
from network_ground import LINKS_UP, PATIENCE, Ground, until

from edgevent import (
    ConnectError,
    DatagramClient,
    DatagramPeer,
    DatagramServer,
    Dispatcher,
    Message,
    UsageError,
    send_datagram,
)
from edgevent.transport.multicast import Reach, interface_index

GROUP = f"239.255.{os.getpid() % 250}.17"


def ears(ground: Ground, address: str, **settings: object) -> tuple[DatagramServer, list[str]]:
    """A server that notes what it hears, and answers WHO."""
    heard: list[str] = []
    service = Dispatcher(default_commands=False)
    service.on("WHO")(lambda message, peer: message.reply("ME", {"to": peer.server.name}))

    @service.on("NEWS")
    def news(message: Message, peer: DatagramPeer) -> None:
        heard.append(message["n"])

    server = serve(ground, address, service, allow_unauthenticated=True, **settings)
    return server, heard


# --- on the loopback interface --------------------------------------------------------------------


@pytest.mark.parametrize("interface", ["lo", "127.0.0.1"])
def test_a_group_is_joined_and_answers(ground: Ground, interface: str) -> None:
    first, heard = ears(ground, f"udp://{GROUP}:0", interface=interface)
    address = f"udp://{GROUP}:{first.port}"
    assert first.addresses == [address]
    second, heard_too = ears(ground, address, interface=interface)
    send_datagram(address, Message("NEWS", {"n": 1}), interface=interface)
    until(lambda: heard and heard_too)
    with DatagramClient(address, interface=interface, ttl=1) as client:
        answer = client.request(Message("WHO", {"pad": "p" * 40}), timeout=PATIENCE)
        assert client.sender.endswith(f":{first.port}")
        assert {answer["to"], client.receive(PATIENCE)["to"]} == {first.name, second.name}
        assert client.sender.endswith(f":{first.port}")
        client.send(Message("NEWS", {"n": 2}))
        until(lambda: heard == heard_too == ["1", "2"])
    first.send(Message("NEWS", {"n": 3}), address)
    until(lambda: heard == heard_too == ["1", "2", "3"])


def test_groups_beside_the_address_and_no_others_are_heard(ground: Ground) -> None:
    other = GROUP.replace(".17", ".18")
    server, heard = ears(ground, "udp://0.0.0.0:0", groups=[GROUP], interface="lo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        # Another socket of this machine is in the other group, on the same interface.
        membership = socket.inet_aton(other) + socket.inet_aton("127.0.0.1")
        elsewhere.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        for where, n in ((other, 1), (GROUP, 2), ("127.0.0.1", 3), (other, 4), (GROUP, 5)):
            send_datagram(f"{where}:{server.port}", Message("NEWS", {"n": n}), interface="lo")
        until(lambda: "5" in heard)
    assert heard == ["2", "3", "5"]


def test_what_this_machine_is_not_to_get_does_not_come_back(ground: Ground) -> None:
    server, heard = ears(ground, f"udp://{GROUP}:0", interface="lo")
    address = server.addresses[0]
    for n, loop in ((1, True), (2, False), (3, None)):
        send_datagram(address, Message("NEWS", {"n": n}), interface="lo", loop=loop)
    until(lambda: "3" in heard)
    assert "2" not in heard or heard == ["1", "2", "3"]  # the loopback device itself brings it back


@pytest.mark.parametrize("interface", ["nosuch", "192.0.2.77"])
def test_an_interface_that_is_not_there_is_an_error(interface: str) -> None:
    with pytest.raises(ConnectError, match=rf"udp://{GROUP}:5: "):
        send_datagram(f"{GROUP}:5", Message("A"), interface=interface)
    for ttl in (-1, 256):
        with pytest.raises(UsageError, match=f"ttl {ttl}: 0 to 255"):
            send_datagram(f"{GROUP}:5", Message("A"), ttl=ttl)


def test_an_ipv6_interface_is_found_by_its_address() -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this kernel has no IPv6")
    assert interface_index("::1") == interface_index("lo") == socket.if_nametoindex("lo")
    with pytest.raises(OSError, match="no interface has the address 2001:db8::1"):
        interface_index("2001:db8::1")


@pytest.mark.parametrize(
    ("family", "ttl", "expected"),
    [
        (socket.AF_INET, None, (1, 64)),
        (socket.AF_INET, 7, (7, 7)),
        (socket.AF_INET, 0, (0, 64)),
        (socket.AF_INET6, 7, (7, 7)),
        (socket.AF_INET6, 0, (0, 0)),
    ],
)
def test_the_ttl_is_that_of_what_is_sent(
    family: int, ttl: int | None, expected: tuple[int, int]
) -> None:
    level, multicast, unicast = (
        (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, socket.IP_TTL)
        if family == socket.AF_INET
        else (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, socket.IPV6_UNICAST_HOPS)
    )
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        Reach(ttl=ttl).apply(sock._sock)
        assert (sock.getsockopt(level, multicast), sock.getsockopt(level, unicast)) == expected


# --- between two machines -------------------------------------------------------------------------

TWO = (
    "ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up"
    " && ip addr add 10.9.0.1/24 dev v0 && ip addr add 10.9.1.1/24 dev v1"
    " && ip addr add fd00:9::1/64 dev v0 nodad && ip addr add fd00:a::1/64 dev v1 nodad"
    " && sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.v0.rp_filter=0"
    " net.ipv4.conf.v1.rp_filter=0"
    " net.ipv4.conf.v0.accept_local=1 net.ipv4.conf.v1.accept_local=1" + LINKS_UP
)

PROGRAM = """
from time import monotonic
import gevent
from edgevent import *

heard = {}
communicator = Communicator()
gevent.spawn(communicator.run)

def listen(name, address, **settings):
    heard[name] = {}
    note = lambda message, peer: heard[name].setdefault(message.command)
    server = DatagramServer(address, note, allow_unauthenticated=True, name=name, **settings)
    return communicator.add_connection(server)

def tell(who, port, address, command, **settings):
    # Again and again: a kernel that has much to do drops datagrams between two interfaces, for all
    # namespaces together (netdev_max_backlog; the second column of /proc/net/softnet_stat).
    missing = lambda: [name for name in who.split() if command not in heard[name]]
    while True:
        send_datagram(address.format(port=port), Message(command), **settings)
        end = monotonic() + 0.2
        while missing() and monotonic() < end:
            gevent.sleep(0)
        if not missing():
            return

def show():
    for name, commands in heard.items():
        print(name, *commands)
"""

FOUR = """
there = listen("v1", "udp://239.1.1.1:0", interface="v1")
here = listen("v0", f"udp://239.1.1.1:{there.port}", interface="10.9.0.1")
tell("v0 v1", there.port, "239.1.1.1:{port}", "BOTH", interface="v0")
tell("v1", there.port, "239.1.1.1:{port}", "FAR", interface="10.9.0.1", loop=False)
tell("v0", there.port, "239.1.1.1:{port}", "NEAR", interface="v0", ttl=0)
tell("v0 v1", there.port, "239.1.1.1:{port}", "LAST", interface="v0")
show()
"""


def test_interface_loop_and_ttl_say_who_hears(own_network: Callable[[str, str], str]) -> None:
    assert own_network(PROGRAM + FOUR, TWO).splitlines() == [
        "v1 BOTH FAR LAST",
        "v0 BOTH NEAR LAST",
    ]


SIX = """
there = listen("v1", "udp://[ff02::1234%v1]:0")
port = there.port
by_address = listen("address", f"udp://[ff15::1]:{port}", interface="fd00:a::1")
groups = listen("groups", "udp://[::]:0", groups=["ff15::2%v1", "ff15::3"], interface="v1")
for interface, n in (("v0", 1), ("fd00:9::1", 2)):
    tell("", groups.port, "[ff15::4]:{port}", f"NOBODY{n}", interface=interface)
    tell("v1", port, "[ff02::1234%v0]:{port}", f"A{n}")
    tell("v1", port, "[ff02::1234]:{port}", f"B{n}", interface=interface, ttl=1)
    tell("address", port, "[ff15::1]:{port}", f"C{n}", interface=interface, loop=False)
    tell("groups", groups.port, "[ff15::2]:{port}", f"D{n}", interface=interface)
    tell("groups", groups.port, "[ff15::3]:{port}", f"E{n}", interface=interface)
with DatagramClient(f"[ff15::1]:{port}", interface="v0") as client:
    client.send(Message("QUESTION"))
show()
"""


def test_ipv6_has_groups_too(own_network: Callable[[str, str], str]) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this kernel has no IPv6")
    assert own_network(PROGRAM + SIX, TWO).splitlines() == [
        "v1 A1 B1 A2 B2",
        "address C1 C2",
        "groups D1 E1 D2 E2",
    ]
