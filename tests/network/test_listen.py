"""Listening on Internet addresses: ports, reach, and what is refused."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from network_ground import until

from edgevent import Address, AddressError, ListenError, UsageError, limits
from edgevent.transport.listen import Listener, listen


@pytest.fixture
def listening() -> Iterator[Callable[..., list[Listener]]]:
    """Listens, and closes all at the end."""
    made: list[Listener] = []

    def call(text: str, **settings: Any) -> list[Listener]:
        found = listen(Address.parse(text), **settings)
        made.extend(found)
        return found

    yield call
    for listener in made:
        listener.close()


def accept(listener: Listener) -> Any:
    """Waits for a peer, and takes it."""
    found: list[Any] = []

    def look() -> None:
        listener.unwatch_read()
        found.append(listener.accept())

    listener.watch_read(look)
    until(lambda: found)
    return found[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost", "127.0.0.9"])
def test_port_0_is_a_free_port_that_is_told(
    listening: Callable[..., list[Listener]], host: str
) -> None:
    shown = f"[{host}]" if ":" in host else host
    listener = listening(f"tcp://{shown}:0")[0]
    assert listener.port > 0
    with socket.create_connection((host, listener.port)) as client:
        transport = accept(listener)
        assert transport.peer == str(Address("tcp", *client.getsockname()[:2]))
        assert listener.local == transport.local
        assert transport.is_local
        assert (transport.credentials, transport.groups) == (None, frozenset())
        transport.close()


def test_all_addresses_of_a_name_get_the_same_port(
    listening: Callable[..., list[Listener]], resolver: Any
) -> None:
    resolver.names["both.invalid"] = ["127.0.0.1", "::1", "127.0.0.2"]
    found = listening("tcp://both.invalid:0")
    assert len({listener.port for listener in found}) == 1
    assert [listener.local.rpartition(":")[0] for listener in found] == [
        "tcp://127.0.0.1",
        "tcp://[::1]",
        "tcp://127.0.0.2",
    ]


def test_an_empty_host_is_all_addresses_of_both_kinds(
    listening: Callable[..., list[Listener]],
) -> None:
    found = listening("tcp://:0", allow_remote=True)
    assert sorted(listener.local.rpartition(":")[0] for listener in found) == [
        "tcp://0.0.0.0",
        "tcp://[::]",
    ]
    for family, listener in (("127.0.0.1", found[0]), ("::1", found[1])):
        with socket.create_connection((family, listener.port)):
            accept(listener).close()


def test_a_port_in_use_is_named(listening: Callable[..., list[Listener]]) -> None:
    port = listening("tcp://127.0.0.1:0")[0].port
    with pytest.raises(ListenError) as caught:
        listening(f"tcp://127.0.0.1:{port}")
    assert str(caught.value) == f"tcp://127.0.0.1:{port}: Address already in use"
    assert caught.value.errno == errno.EADDRINUSE


def test_one_port_in_use_closes_the_others(
    listening: Callable[..., list[Listener]], resolver: Any
) -> None:
    resolver.names["both.invalid"] = ["127.0.0.1", "127.0.0.2"]
    port = listening("tcp://127.0.0.2:0")[0].port
    with pytest.raises(ListenError, match="already in use"):
        listening(f"tcp://both.invalid:{port}")
    assert listening(f"tcp://127.0.0.1:{port}")[0].port == port


def test_a_port_is_free_again_as_soon_as_it_is_closed(
    listening: Callable[..., list[Listener]],
) -> None:
    listener = listening("tcp://127.0.0.1:0")[0]
    with socket.create_connection(("127.0.0.1", listener.port)) as client:
        transport = accept(listener)
        transport.close()  # this side closes first, so the port is in TIME_WAIT
        assert client.recv(1) == b""
    port = listener.port
    listener.close()
    assert (listener.port, listener.local) == (0, "")
    assert listening(f"tcp://127.0.0.1:{port}")[0].port == port


@pytest.mark.parametrize(
    "text", ["tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://:0", "tcp://192.0.2.1:0"]
)
def test_addresses_that_others_reach_need_a_word(text: str) -> None:
    with pytest.raises(ListenError, match=r"neither loopback nor private needs allow_remote=True"):
        listen(Address.parse(text))


def test_a_name_must_not_lead_outside(resolver: Any) -> None:
    resolver.names["outside.invalid"] = ["127.0.0.1", "0.0.0.0"]
    with pytest.raises(ListenError, match=r"^tcp://outside\.invalid:0: .* allow_remote=True$"):
        listen(Address.parse("tcp://outside.invalid:0"))


@pytest.mark.parametrize("text", ["tcp://0.0.0.0:0", "tcp://[::]:0"])
def test_the_word_opens_them(listening: Callable[..., list[Listener]], text: str) -> None:
    assert listening(text, allow_remote=True)[0].port > 0


PRIVATE = """
import logging, sys
from edgevent import Address
from edgevent.transport.listen import listen
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
for host in ("10.9.8.7", "192.168.3.4", "[fd00::9]"):
    (listener,) = listen(Address.parse(f"tcp://{host}:4000"))
    listener.close()
"""


def test_private_addresses_are_listened_to_with_a_log_line(own_network: Callable[..., str]) -> None:
    setup = " && ".join(
        f"ip address add {text} dev lo" for text in ("10.9.8.7/8", "192.168.3.4/16", "fd00::9/64")
    )
    assert own_network(PRIVATE, setup).splitlines() == [
        f"tcp://{host}:4000: plain text is accepted from the private network"
        for host in ("10.9.8.7", "192.168.3.4", "[fd00::9]")
    ]


def test_addresses_of_a_name_that_are_not_here_are_left_out(
    listening: Callable[..., list[Listener]], resolver: Any, logged: Callable[[str], list[str]]
) -> None:
    resolver.names["some.invalid"] = ["10.254.253.252", "127.0.0.1"]
    found = listening("tcp://some.invalid:0")
    assert [listener.local for listener in found] == [f"tcp://127.0.0.1:{found[0].port}"]
    assert logged("10.254.253.252: Cannot assign requested address")


def test_an_address_that_is_not_here_is_named() -> None:
    with pytest.raises(ListenError, match=r"^tcp://10\.254\.253\.252:0: Cannot assign requested"):
        listen(Address.parse("tcp://10.254.253.252:0"))


def test_a_name_that_does_not_exist_is_named() -> None:
    with pytest.raises(ListenError, match=r"^tcp://no\.such\.host\.invalid:0: .") as caught:
        listen(Address.parse("tcp://no.such.host.invalid:0"))
    assert caught.value.errno is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("udp://127.0.0.1:0", "datagrams are served by DatagramServer"),
        ("unixgram:/x", "datagrams are served by DatagramServer"),
        ("fd:3", "a descriptor has one peer, and a connection takes it over"),
    ],
)
def test_an_address_of_another_kind_cannot_be_listened_to(text: str, why: str) -> None:
    with pytest.raises(ListenError, match=f"{text}: {why}"):
        listen(Address.parse(text))


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:0", "unix:@x"])
@pytest.mark.parametrize("setting", [{"mode": 0o600}, {"group": "root"}])
def test_what_has_no_file_has_no_mode_and_no_group(text: str, setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="has no file"):
        listen(Address.parse(text), **setting)


def test_accepted_sockets_have_the_options_of_tcp(
    listening: Callable[..., list[Listener]],
) -> None:
    listener = listening("tcp://127.0.0.1:0")[0]
    tcp = socket.IPPROTO_TCP
    with socket.create_connection(("127.0.0.1", listener.port)):
        transport = accept(listener)
        sock = socket.socket(fileno=transport.fileno())
        try:
            assert sock.getsockopt(tcp, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(tcp, socket.TCP_KEEPIDLE) == limits.KEEPALIVE_IDLE
            assert sock.getsockopt(tcp, socket.TCP_KEEPINTVL) == limits.KEEPALIVE_INTERVAL
            assert sock.getsockopt(tcp, socket.TCP_KEEPCNT) == limits.KEEPALIVE_PROBES
            assert sock.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == limits.TCP_USER_TIMEOUT * 1000
            assert not os.get_blocking(sock.fileno())
            assert not sock.get_inheritable()
        finally:
            sock.detach()
        transport.close()


def test_nobody_to_accept_is_no_error(listening: Callable[..., list[Listener]]) -> None:
    with pytest.raises(BlockingIOError):
        listening("tcp://127.0.0.1:0")[0].accept()


def test_a_listener_tells_what_it_is(listening: Callable[..., list[Listener]]) -> None:
    listener = listening("tcp://127.0.0.1:0")[0]
    assert repr(listener) == f"<Listener tcp://127.0.0.1:{listener.port}>"
    listener.close()
    listener.close()
    assert repr(listener) == "<Listener closed>"


def test_an_address_that_cannot_be_read_is_an_address_error() -> None:
    with pytest.raises(AddressError):
        Address.parse("tcp://127.0.0.1")
