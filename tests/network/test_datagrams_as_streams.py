"""``Client("udp:...")``: the layers above streams, over datagrams."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from datagram_ground import KINDS, address_of, serve, udp
from network_ground import PATIENCE, Ground, MovedClock, echo, until

from edgevent import (
    AddressError,
    Client,
    ConnectError,
    ConnectionLostError,
    DatagramPeer,
    DatagramServer,
    Message,
    MessageError,
    PermanentConnection,
    RequestTimeout,
    SigningKeys,
    UnknownCommandError,
    UsageError,
    broadcast,
    connect,
)

UDP = "udp://127.0.0.1:0"
QUESTION = Message("ECHO", {"text": "x"})


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address of each kind of socket."""
    return address_of(request.param, tmp_path)


def test_a_client_asks_over_datagrams(ground: Ground, address: str) -> None:
    server = serve(ground, address, echo())
    with Client(server.addresses[0]) as client:
        for text in ("x", "a;b\n"):
            assert client.request(Message("ECHO", {"text": text}))["text"] == text
        asking = [gevent.spawn(client.request, QUESTION) for _ in range(5)]
        assert {one.get(timeout=PATIENCE)["text"] for one in asking} == {"x"}
        with pytest.raises(UnknownCommandError):
            client.request(Message("NOSUCH"))
        client.send(QUESTION)
        assert str(client.receive(PATIENCE)) == "ECHOED text=x"
        assert broadcast([client], QUESTION) is not False
        assert str(client.receive(PATIENCE)) == "ECHOED text=x"
        assert client.keeps_records
        assert client.address == server.addresses[0]
        assert "Records" in repr(client._transport)


@pytest.mark.parametrize(
    "settings", [{"secret_code": "sesame"}, {"auth": SigningKeys("a key of 16 bytes")}]
)
def test_it_proves_itself_and_wants_a_proof(
    ground: Ground, address: str, settings: dict[str, Any]
) -> None:
    server = serve(ground, address, echo(), **settings)
    with Client(server.addresses[0], **settings) as client:
        assert client.request(QUESTION)["text"] == "x"
        assert client.request(QUESTION, idempotent=True)["text"] == "x"
    open_server = serve(ground, address.replace("edgevent-", "edgevent-2-") + "2", echo())
    with Client(open_server.addresses[0], **settings) as client:
        with pytest.raises(RequestTimeout):
            client.request(QUESTION, timeout=0.05)
        assert sum(client._transport.counts.values()) == 1  # type: ignore[union-attr]


def test_only_datagrams_have_codes_and_signatures(tmp_path: Path) -> None:
    for settings in ({"secret_code": "x"}, {"auth": SigningKeys("a key of 16 bytes")}):
        with pytest.raises(UsageError, match="secret_code= and auth= are for datagrams"):
            Client(f"unix:{tmp_path}/s", **settings)


def test_a_refusal_ends_open_requests_and_not_the_client(ground: Ground) -> None:
    server = serve(ground, UDP, echo())
    address = server.addresses[0]
    with Client(address) as client:
        server.close()
        for _ in range(2):
            asking = [gevent.spawn(client.request, QUESTION) for _ in range(3)]
            for one in asking:
                with pytest.raises(ConnectionLostError, match="Connection refused"):
                    one.get(timeout=PATIENCE)
        client.send(QUESTION)
        client.send(QUESTION)
        assert client.is_connected
        serve(ground, address, echo())
        assert client.request(QUESTION)["text"] == "x"


def test_a_server_on_the_same_path_is_found(ground: Ground, tmp_path: Path) -> None:
    address = f"unixgram:{tmp_path}/s"
    with pytest.raises(ConnectError):
        Client(address)
    server = serve(ground, address, echo())
    with Client(address, wait=True) as client:
        assert client.request(QUESTION)["text"] == "x"
        server.close()
        for call in (client.send, client.request):
            with pytest.raises(ConnectionLostError, match="No such file"):
                call(QUESTION)
        serve(ground, address, echo())
        assert client.request(QUESTION)["text"] == "x"


def test_what_waits_for_room_is_sent_later_or_told(
    ground: Ground, tmp_path: Path, logged: Callable[[str], list[str]]
) -> None:
    heard: list[str] = []

    def handler(message: Message, peer: DatagramPeer) -> None:
        heard.append(message["text"])

    server = serve(ground, f"unixgram:{tmp_path}/s", handler)
    server.enabled = False
    with Client(server.addresses[0]) as client:
        for n in range(600):
            client.send(Message("ECHO", {"text": n}))
        assert client.outbox.size
        server.enabled = True
        until(lambda: len(heard) == 600)
        assert heard == [str(n) for n in range(600)]
        server.enabled = False
        for n in range(600):
            client.send(Message("ECHO", {"text": n}))
        waiting = client.outbox.size
        assert waiting
        server.close()
        until(lambda: not client.outbox.size)
        assert len(logged("sending to ")) > 0
        assert client.is_connected


def test_a_request_may_be_sent_again_until_it_is_answered(silent: Any, clock: MovedClock) -> None:
    with Client(udp(silent), clock=clock) as client:
        asking = gevent.spawn(client.request, QUESTION, idempotent=True, timeout=10.0)
        first, sender = silent.recvfrom(100)
        for _ in range(2):
            clock.advance(1.0)
            assert silent.recv(100) == first
        silent.sendto(first.replace(b"ECHO", b"ECHOED"), sender)
        assert asking.get(timeout=PATIENCE).command == "ECHOED"
        asking = gevent.spawn(
            client.request, QUESTION, "ECHOED", idempotent=True, serial=False, timeout=1.5
        )
        assert silent.recv(100) == b"ECHO text=x"
        clock.advance(1.5)
        with pytest.raises(RequestTimeout, match=r"no answer to ECHO within 1\.5 s"):
            asking.get(timeout=PATIENCE)


def test_what_is_no_message_and_no_datagram_of_ours_is_dropped(silent: Any) -> None:
    with Client(udp(silent)) as client:
        client.send(QUESTION)
        _, sender = silent.recvfrom(100)
        for data in (b"", b"x" * 1025, b"GOOD"):
            silent.sendto(data, sender)
        assert client.receive(PATIENCE).command == "GOOD"
        assert client._transport.counts == {"malformed": 1, "truncated": 1}  # type: ignore[union-attr]
    assert client._transport is None


@pytest.mark.parametrize("settings", [{}, {"secret_code": "sesame"}])
def test_what_is_too_long_is_refused_before_it_is_sent(
    address: str, settings: dict[str, str]
) -> None:
    limit = 65536 if address.startswith("unixgram:") else 1024
    with DatagramServer(address) as server, Client(server.addresses[0], **settings) as client:
        long = Message("E", {"x": "x" * (limit - 3)})
        for call in (client.send, client.request):
            with pytest.raises(MessageError, match=r"over the limit of "):
                call(long)
        client.send(QUESTION)


def test_bytes_go_as_they_are(ground: Ground) -> None:
    class Raw(DatagramServer):
        def process_datagram(self, data: bytes, peer: DatagramPeer) -> None:
            peer.write(data[::-1])

    server = ground.communicator.add_connection(Raw(UDP))
    with connect(server.addresses[0]) as stream:
        stream.write(b"\xff\0abc")
        assert stream.read(100) == b"cba\0\xff"


def test_multicast_is_asked_too(ground: Ground) -> None:
    with Client("udp://239.255.41.41:9") as client:
        assert client.address == "udp://239.255.41.41:9"
        assert not client.may_control


@pytest.mark.parametrize("text", ["udp://127.0.0.1:1", "unixgram:/x"])
@pytest.mark.parametrize("pauses", [None, "1"])
def test_there_is_no_permanent_link_of_datagrams(text: str, pauses: str | None) -> None:
    with pytest.raises(AddressError, match=f"'{text}': an address of scheme tcp, .* was expected"):
        PermanentConnection(text, pauses=pauses)
