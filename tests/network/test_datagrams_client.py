"""Datagram clients and one-shot sends, over every kind of socket, and with socat."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from datagram_ground import KINDS, address_of, serve, udp
from gevent import socket, subprocess
from gevent.event import Event
from network_ground import LINKS_UP, PATIENCE, Ground, MovedClock, echo, until

from edgevent import (
    AddressError,
    Client,
    ClosedError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    DatagramClient,
    DatagramPeer,
    InvalidMessageError,
    Message,
    MessageError,
    ReceiveTimeout,
    RemoteError,
    RequestTimeout,
    SigningKeys,
    UnknownCommandError,
    UsageError,
    largest_payload,
    limits,
    path_mtu,
    send_datagram,
)

UDP = "udp://127.0.0.1:0"
QUESTION = Message("ECHO", {"text": "x"})


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address of each kind of socket."""
    return address_of(request.param, tmp_path)


# --- requests -------------------------------------------------------------------------------------


def test_a_client_asks_and_is_answered(ground: Ground, address: str) -> None:
    service = echo()
    service.on("FAIL")(lambda message, peer: 1 / 0)
    server = serve(ground, address, service)
    with DatagramClient(server.addresses[0]) as client:
        for text in ("x", "a;b\n", "é"):
            assert client.request(Message("ECHO", {"text": text}), "ECHOED")["text"] == text
            assert client.sender == server.addresses[0] == client.address
        with pytest.raises(UnknownCommandError):
            client.request(Message("NOSUCH"))
        with pytest.raises(InvalidMessageError):
            client.request(Message("ECHO"))
        with pytest.raises(RemoteError, match="id="):
            client.request(Message("FAIL"))
        answer = client.request(QUESTION.with_parameters(serial=5))
        assert answer["serial"] == "5"
        answer = client.request(QUESTION, "ECHOED", serial=False)
        assert "serial" not in answer
        assert client.counts["received"] == 8
        assert client.local_address in repr(client)


def test_several_greenlets_ask_at_a_time(ground: Ground, address: str) -> None:
    go = Event()
    service = echo()

    @service.on("WAIT")
    def wait(message: Message, peer: DatagramPeer) -> Message:
        go.wait()
        return message.reply("DONE", {"n": message["n"]})

    server = serve(ground, address, service, concurrency=10)
    with DatagramClient(server.addresses[0]) as client:
        asking = [gevent.spawn(client.request, Message("WAIT", {"n": n})) for n in range(5)]
        until(lambda: server.counts["received"] == 5)
        assert client.request(QUESTION)["text"] == "x"
        go.set()
        assert [one.get(timeout=PATIENCE)["n"] for one in asking] == list("01234")


def test_other_messages_are_kept_for_receive(ground: Ground, address: str) -> None:
    service = echo()

    @service.on("NEWS")
    def news(message: Message, peer: DatagramPeer) -> Message:
        for n in range(message.integer("count")):
            peer.send(Message("ITEM", {"n": n}))
        return message.reply("END")

    server = serve(ground, address, service)
    with DatagramClient(server.addresses[0]) as client:
        client.request(Message("NEWS", {"count": 3}))
        assert [client.receive(0.0)["n"] for _ in range(3)] == list("012")
        with pytest.raises(ReceiveTimeout, match="nothing came within 0 s"):
            client.receive(0.0)
        client.send(Message("NEWS", {"count": 1}))
        assert str(client.receive(PATIENCE)) == "ITEM n=0"
        assert str(client.receive()) == "END"


def test_no_more_is_kept_than_the_limit(silent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEPT_DATAGRAMS", 3)
    with DatagramClient(udp(silent)) as client:
        asking = gevent.spawn(client.request, QUESTION)
        _, sender = silent.recvfrom(100)
        for n in range(5):
            silent.sendto(b"N n=%d" % n, sender)
        silent.sendto(b"malformed", sender)
        silent.sendto(b"N n=" + b"x" * 1021, sender)
        until(lambda: client.counts["received"] == 7)
        assert client.counts == {"received": 7, "overflow": 2, "malformed": 1, "truncated": 1}
        assert [client.receive()["n"] for _ in range(3)] == list("012")
        client.close()
        with pytest.raises(ClosedError):
            asking.get(timeout=PATIENCE)


def test_no_answer_in_time_is_an_error_and_a_late_one_is_dropped(
    silent: Any, clock: MovedClock
) -> None:
    with DatagramClient(udp(silent), clock=clock) as client:
        asking = gevent.spawn(client.request, QUESTION, timeout=5.0)
        data, sender = silent.recvfrom(100)
        clock.advance(5.0)
        with pytest.raises(RequestTimeout, match="no answer to ECHO within 5 s"):
            asking.get(timeout=PATIENCE)
        silent.sendto(data, sender)
        receiving = gevent.spawn(client.receive, 5.0)
        until(lambda: client.counts["received"])
        clock.advance(5.0)
        with pytest.raises(ReceiveTimeout):
            receiving.get(timeout=PATIENCE)


def test_an_idempotent_request_is_sent_again_until_it_is_answered(
    silent: Any, clock: MovedClock
) -> None:
    with DatagramClient(udp(silent), clock=clock, auth=None) as client:
        asking = gevent.spawn(client.request, QUESTION, idempotent=True, resend_interval=2.0)
        first, sender = silent.recvfrom(100)
        for _ in range(2):
            clock.advance(2.0)
            assert silent.recv(100) == first
        silent.sendto(first.replace(b"ECHO", b"ECHOED"), sender)
        assert asking.get(timeout=PATIENCE).command == "ECHOED"
        clock.advance(10.0)
        silent.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            silent.recv(100)


def test_what_is_sent_again_is_signed_again(silent: Any, clock: MovedClock) -> None:
    with DatagramClient(udp(silent), clock=clock, auth=SigningKeys("k" * 16)) as client:
        asking = gevent.spawn(client.request, QUESTION, idempotent=True, timeout=1.5)
        first = Message.parse(silent.recv(1000))
        clock.advance(1.0)
        second = Message.parse(silent.recv(1000))
        assert first["auth_signature"] != second["auth_signature"]
        assert first["serial"] == second["serial"]
        clock.advance(0.5)
        with pytest.raises(RequestTimeout):
            asking.get(timeout=PATIENCE)


# --- nobody there ---------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_refusal_ends_a_request_at_once_and_the_client_stays_usable(
    ground: Ground, host: str
) -> None:
    if host == "[::1]" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this kernel has no IPv6")
    server = serve(ground, f"udp://{host}:0", echo())
    address = server.addresses[0]
    with DatagramClient(address) as client:
        client.request(QUESTION)
        server.close()
        for _ in range(3):
            with pytest.raises(ConnectionLostError, match="Connection refused"):
                client.request(QUESTION, timeout=PATIENCE)
        client.send(QUESTION)
        with pytest.raises(ConnectionLostError, match="Connection refused"):
            client.receive(PATIENCE)
        client.send(QUESTION)
        client.send(QUESTION)  # what was told of the one before does not keep this one back
        serve(ground, address, echo())
        assert client.request(QUESTION, timeout=PATIENCE)["text"] == "x"


@pytest.mark.parametrize("kind", [DatagramClient, Client])
def test_an_idempotent_request_waits_for_a_service_that_comes_back(
    ground: Ground, clock: MovedClock, kind: type[Client] | type[DatagramClient]
) -> None:
    server = serve(ground, UDP, echo())
    address = server.addresses[0]
    server.close()
    with kind(address, clock=clock) as client:
        asking = gevent.spawn(client.request, QUESTION, idempotent=True, timeout=10.0)
        until(lambda: clock.pending >= 2)
        clock.advance(1.0)
        until(lambda: clock.pending >= 2)
        server = serve(ground, address, echo())
        clock.advance(1.0)
        assert asking.get(timeout=PATIENCE)["text"] == "x"
        server.close()
        asking = gevent.spawn(client.request, QUESTION, idempotent=True, timeout=1.0)
        with pytest.raises(ConnectionLostError, match="refused"):
            asking.get(timeout=PATIENCE)


def test_a_refusal_that_nobody_waits_for_is_no_error(
    silent: Any, logged: Callable[[str], list[str]]
) -> None:
    with DatagramClient(udp(silent)) as client:
        client.send(QUESTION)
        receiving = gevent.spawn(client.receive)
        until(lambda: client._waiting)
        silent.close()
        receiving.kill()
        client._failed(ConnectionRefusedError(111, "refused"))  # came at that very moment
        assert len(logged("sending to udp://127.0.0.1")) == 1


def test_a_refusal_of_a_repetition_ends_no_request_that_is_repeated(
    silent: Any, clock: MovedClock
) -> None:
    with DatagramClient(udp(silent), clock=clock) as client:
        asking = gevent.spawn(client.request, QUESTION, idempotent=True, timeout=2.5)
        silent.recv(100)
        silent.close()
        clock.advance(1.0)  # refused
        until(lambda: clock.pending >= 1)
        clock.advance(1.0)
        with pytest.raises((ConnectionLostError, RequestTimeout)):
            asking.get(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("address", "error", "sentence"),
    [
        ("udp://nosuch.invalid:5", ConnectError, r"nosuch\.invalid"),
        ("unixgram:/nosuch/socket", ConnectError, "No such file"),
        ("unixgram:@edgevent-nobody", ConnectError, "Connection refused"),
        ("tcp://127.0.0.1:5", AddressError, "an address of scheme udp or unixgram"),
        ("unix:x", AddressError, "an address of scheme udp or unixgram"),
        ("5", AddressError, "there is no port"),
    ],
)
def test_an_address_that_cannot_be_sent_to_is_an_error(
    address: str, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        DatagramClient(address)
    with pytest.raises(error, match=sentence):
        send_datagram(address, QUESTION)


def test_a_name_that_is_not_resolved_in_time_is_an_error(resolver: Any) -> None:
    with pytest.raises(ConnectTimeoutError, match=r"hangs\.invalid"):
        DatagramClient("udp://hangs.invalid:5", connect_timeout=0.01)
    resolver.names["twice.invalid"] = ["127.0.0.1", "127.0.0.2"]
    with DatagramClient("udp://twice.invalid:5") as client:
        assert client._transport.peer == "udp://127.0.0.1:5"


def test_a_closed_client_refuses_and_wakes_who_waits(silent: Any) -> None:
    client = DatagramClient(udp(silent), name="mine")
    waiting = [
        gevent.spawn(client.receive),
        gevent.spawn(client.request, QUESTION),
        gevent.spawn(client.request, QUESTION, idempotent=True),
    ]
    for _ in range(2):
        silent.recv(100)
    client.close()
    client.close()
    for one in waiting:
        with pytest.raises(ClosedError, match="mine is closed"):
            one.get(timeout=PATIENCE)
    for call in (client.receive, lambda: client.send(QUESTION), lambda: client.request(QUESTION)):
        with pytest.raises(ClosedError, match="mine is closed"):
            call()
    assert client.local_address == ""
    assert "closed" in repr(client)


def test_a_call_from_the_hub_is_refused(silent: Any) -> None:
    errors: list[BaseException] = []
    done = Event()
    with DatagramClient(udp(silent)) as client:

        def call() -> None:
            for function in (client.receive, lambda: client.request(QUESTION)):
                try:
                    function()
                except UsageError as error:
                    errors.append(error)
            client.send(QUESTION)
            done.set()

        gevent.get_hub().loop.run_callback(call)
        assert done.wait(PATIENCE)
        assert len(errors) == 2
        assert silent.recv(100) == bytes(QUESTION)


# --- one shot -------------------------------------------------------------------------------------


def test_one_datagram_is_sent_and_forgotten(ground: Ground, address: str) -> None:
    heard: list[str] = []
    server = serve(ground, address, lambda message, peer: heard.append(str(message)))
    before = len(os.listdir("/proc/self/fd"))
    send_datagram(server.addresses[0], QUESTION)
    send_datagram(server.addresses[0], QUESTION, secret_code="sesame")
    until(lambda: len(heard) == 2)
    assert heard == ["ECHO text=x"] * 2
    assert len(os.listdir("/proc/self/fd")) == before
    gc.collect()


def test_a_bare_address_is_of_udp(silent: Any) -> None:
    send_datagram(udp(silent).removeprefix("udp://"), QUESTION, secret_code="sesame")
    assert silent.recv(100) == b"ECHO secret_code=sesame;text=x"


@pytest.mark.parametrize("settings", [{}, {"secret_code": "c"}, {"auth": "file"}])
def test_what_is_too_long_is_refused_before_anything_is_sent(
    ground: Ground, address: str, settings: dict[str, str], tmp_path: Path
) -> None:
    if "auth" in settings:
        keys = tmp_path / "keys"
        keys.touch(0o600)
        keys.write_text("k" * 16)
        settings = {"auth": str(keys)}
    limit = 65536 if address.startswith("unixgram:") else 1024
    server = serve(ground, address, lambda message, peer: None, **settings)

    def message(size: int) -> Message:
        return Message("E", {"x": "x" * size})

    with DatagramClient(server.addresses[0], **settings) as client:
        added = len(client._encode(message(0)))
        longest, longer = message(limit - added), message(limit - added + 1)
        sentence = f"E: a datagram of {limit + 1} bytes is over the limit of {limit}"
        with pytest.raises(MessageError, match=sentence) as caught:
            client.send(longer)
        assert caught.value.command == "E"
        with pytest.raises(MessageError, match=f"bytes is over the limit of {limit}"):
            client.request(longest)  # a serial is added
        with pytest.raises(MessageError, match=sentence):
            send_datagram(server.addresses[0], longer, **settings)
        client.send(longest)
        send_datagram(server.addresses[0], longest, **settings)
        until(lambda: server.counts["received"] == 2)
        assert server.counts == {"received": 2}


def test_the_way_to_this_machine_takes_long_packets() -> None:
    assert path_mtu("127.0.0.1:5") == 65535 or path_mtu("127.0.0.1:5") == 65536
    assert largest_payload("udp://127.0.0.1:5") == 65507
    assert largest_payload("unixgram:/any") == 65536
    with pytest.raises(AddressError, match="scheme udp was expected"):
        path_mtu("unixgram:/any")
    if Path("/proc/net/if_inet6").exists():
        assert largest_payload("udp://[::1]:5") == min(65527, path_mtu("[::1]:5") - 48)


NARROW = """
from edgevent import largest_payload, path_mtu
for address in ("10.9.0.2:5", "10.9.0.255:5", "239.1.1.1:5", "[fd00:9::2]:5"):
    print(path_mtu(address), largest_payload(address))
"""


def test_the_mtu_is_that_of_the_way(own_network: Callable[[str, str], str]) -> None:
    setup = (
        "ip link add v0 mtu 1300 type veth peer name v1 && ip link set v0 up && ip link set v1 up"
        " && ip addr add 10.9.0.1/24 dev v0 && ip addr add fd00:9::1/64 dev v0 nodad"
        " && ip route add 239.0.0.0/8 dev v0"
    )
    assert own_network(NARROW, setup).split() == ["1300", "1272"] * 3 + ["1300", "1252"]


# --- broadcast ------------------------------------------------------------------------------------

BROADCAST = """
import gevent
from edgevent import *

service = Dispatcher(default_commands=False)
service.on("WHO")(lambda message, peer: message.reply("ME"))
service.on("NEWS")(lambda message, peer: None)
with Communicator() as communicator:
    server = DatagramServer("udp://0.0.0.0:4041", service, allow_unauthenticated=True)
    communicator.add_connection(server)
    for address in ("10.9.0.255:4041", "255.255.255.255:4041", "10.9.0.1:4041"):
        with DatagramClient(address) as client:
            answer = client.request(Message("WHO"), timeout=10.0)
            print(answer.command, client.sender, client._transport.may_broadcast)
        send_datagram(address, Message("NEWS"))
    for where in ("10.9.7.7:4041", "10.9.0.255:4041", "10.9.7.7:4041"):
        try:
            server.send(Message("NEWS"), where)
        except ConnectionLostError as error:
            print(error, server._transports[0].may_broadcast)
    service.on("END")(lambda message, peer: peer.communicator.stop())
    send_datagram("10.9.0.255:4041", Message("END"))
    communicator.run()
    print(server.counts["received"])
for call in (send_datagram, DatagramClient):
    try:
        call("10.9.7.7:4041", Message("A")) if call is send_datagram else call("10.9.7.7:4041")
    except EdgeventError as error:
        print(type(error).__name__, error)
"""


def test_broadcast_is_permitted_when_the_address_is_one(
    own_network: Callable[[str, str], str],
) -> None:
    setup = (
        "ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up"
        " && ip addr add 10.9.0.1/24 brd + dev v0"
        " && ip route add default dev v0 && ip route add prohibit 10.9.7.0/24" + LINKS_UP
    )
    assert own_network(BROADCAST, setup).splitlines() == [
        "ME udp://10.9.0.1:4041 True",
        "ME udp://10.9.0.1:4041 True",
        "ME udp://10.9.0.1:4041 False",
        "sending to udp://10.9.7.7:4041 failed: Permission denied False",
        "sending to udp://10.9.7.7:4041 failed: Permission denied True",
        "8",
        *["ConnectError udp://10.9.7.7:4041: Permission denied"] * 2,
    ]


# --- real peers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("udp://127.0.0.1:0", "UDP4:127.0.0.1:{port}"),
        ("udp://[::1]:0", "UDP6:[::1]:{port}"),
        ("unixgram:{folder}/s", "UNIX-SENDTO:{folder}/s,bind={folder}/c"),
        ("unixgram:@edgevent-{pid}-socat", "ABSTRACT-SENDTO:edgevent-{pid}-socat,bind={folder}/c"),
    ],
)
def test_socat_asks(
    ground: Ground, tmp_path: Path, need_tool: Callable[..., str], address: str, peer: str
) -> None:
    socat = need_tool("socat", package="socat")
    if "::1" in address and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this kernel has no IPv6")
    words = {"folder": str(tmp_path), "pid": os.getpid()}
    server = serve(ground, address.format(**words), echo())
    command = [socat, "-t5", "-", peer.format(**words, port=server.port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"ECHO text=socat\n")
        process.stdin.flush()
        expected = b"ECHOED text=socat"
        assert process.stdout.read(len(expected)) == expected
        process.kill()


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("udp://127.0.0.1:{port}", "UDP4-RECVFROM:{port},bind=127.0.0.1,fork"),
        ("unixgram:{folder}/s", "UNIX-RECVFROM:{folder}/s,fork"),
    ],
)
def test_socat_answers(
    tmp_path: Path, need_tool: Callable[..., str], address: str, peer: str
) -> None:
    socat = need_tool("socat", package="socat")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    words = {"folder": str(tmp_path), "port": port}
    command = [socat, "-dd", peer.format(**words), "SYSTEM:sed s/ASK/ANSWER/"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            assert b"receiving on" in process.stderr.readline()
            with DatagramClient(address.format(**words)) as client:
                for _ in range(2):
                    answer = client.request(Message("ASK", {"n": 1}), timeout=PATIENCE)
                    assert answer.command == "ANSWER"
        finally:
            process.terminate()
