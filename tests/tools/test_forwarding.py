"""ed-listen --forward: stands between two peers, shows both directions, and changes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import gevent
import gevent.socket
import pytest
from listen_ground import Listening, dial, fill, read_all
from network_ground import Ground
from tls_ground import authority, server_pair
from tool_ground import PATIENCE

from edgevent import Address, Communicator, StreamConnection
from edgevent.tools.datagram_forwarding import ForwardedDatagrams
from edgevent.tools.forwarding import Cutter, end_direction
from edgevent.tools.hearing import Hearing, Printer
from edgevent.tools.recording import read_recording
from edgevent.transport.memory import memory_pair

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
RESET = struct.pack("ii", 1, 0)  # man 7 socket, SO_LINGER


class Target:
    """A plain socket that listens, and gives each peer as it comes."""

    def __init__(self, folder: Path, kind: str) -> None:
        if kind == "tcp":
            self.sock = socket.create_server(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{self.sock.getsockname()[1]}"
        else:
            kinds = {"unixseq": socket.SOCK_SEQPACKET, "unix": socket.SOCK_STREAM}
            path = folder / "target.sock"
            self.sock = socket.socket(socket.AF_UNIX, kinds[kind])
            self.sock.bind(str(path))
            self.sock.listen(5)
            self.address = f"{kind}:{path}"
        self.sock.settimeout(PATIENCE)
        self._peers: list[socket.socket] = []

    def accept(self) -> socket.socket:
        peer, _ = self.sock.accept()
        peer.settimeout(PATIENCE)
        self._peers.append(peer)
        return peer

    def close(self) -> None:
        for peer in [*self._peers, self.sock]:
            peer.close()


@contextlib.contextmanager
def target_of(folder: Path, kind: str = "tcp") -> Iterator[Target]:
    target = Target(folder, kind)
    try:
        yield target
    finally:
        target.close()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    with target_of(tmp_path) as found:
        yield found


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground(Communicator()) as found:
        yield found


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def send_without_end(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"\n")  # an empty line, which is not shown


def shown(tool: Listening) -> str:
    """The next line without its time."""
    time, _, rest = tool.line().partition(" ")
    assert re.fullmatch(TIME, time)
    return rest


@pytest.mark.parametrize(
    ("here", "there"),
    [("tcp", "tcp"), ("tcp", "unix"), ("unix", "tcp"), ("unixseq", "unixseq")],
)
def test_both_directions_are_shown_and_nothing_is_changed(
    tmp_path: Path, here: str, there: str
) -> None:
    place = f"{tmp_path}/here.sock" if here.startswith("unix") else "//127.0.0.1:0"
    with target_of(tmp_path, there) as target:
        words = ["--raw", "--forward", target.address, f"{here}:{place}"]
        with Listening(tmp_path, *words) as tool:
            client = tool.dial()
            service = target.accept()
            client.sendall(b'ASK  a="1"\nASK b=2\n' if here != "unixseq" else b"ASK b=2")
            if here != "unixseq":
                assert service.recv(100) == b'ASK  a="1"\nASK b=2\n'
                assert shown(tool) == '#1 > ! ASK  a="1"'
            else:
                assert service.recv(100) == b"ASK b=2"
            assert shown(tool) == "#1 > ASK b=2"
            service.sendall(b"\xff\0")
            assert client.recv(100) == b"\xff\0"
            # The end of one direction; the other one goes on.
            client.shutdown(socket.SHUT_WR)
            assert service.recv(100) == b""
            service.sendall(b"STILL x=1\n")
            assert client.recv(100) == b"STILL x=1\n"
            service.close()
            assert client.recv(100) == b""
            assert tool.end()[0] == 0
        assert "1 connection\n" in tool.told


def test_a_connection_that_breaks_is_broken_on_the_other_side(
    tmp_path: Path, target: Target
) -> None:
    with Listening(tmp_path, "--forward", target.address, "tcp://127.0.0.1:0") as tool:
        client = tool.dial()
        service = target.accept()
        client.sendall(b"A\n")
        assert service.recv(10) == b"A\n"
        reset(client)
        with pytest.raises(ConnectionResetError):
            service.recv(10)
        client = tool.dial()
        service = target.accept()
        client.sendall(b"B\n")
        assert service.recv(10) == b"B\n"
        reset(service)
        with pytest.raises(ConnectionResetError):
            client.recv(10)
        assert tool.end()[1].count("\n") == 2


def test_a_target_that_is_not_there_is_told_and_the_peer_is_cut(
    tmp_path: Path, target: Target
) -> None:
    target.close()
    with Listening(tmp_path, "--forward", target.address, "tcp://127.0.0.1:0") as tool:
        with pytest.raises(ConnectionResetError):
            tool.dial().recv(10)
        told = tool.wait_for("cannot be forwarded")
        assert f"cannot be forwarded: {target.address}: Connection refused" in told
        assert tool.end()[0] == 0


def test_who_reads_slowly_slows_the_one_that_sends(tmp_path: Path, target: Target) -> None:
    with Listening(tmp_path, "--forward", target.address, f"unix:{tmp_path}/a.sock") as tool:
        client = tool.dial()
        service = target.accept()
        sent = fill(client, b"x" * 65536)
        client.setblocking(True)
        client.close()
        received = 0
        while part := service.recv(1 << 20):
            received += len(part)
        assert received == sent
        assert tool.end() == (0, "")


def test_the_end_waits_for_what_was_sent_before_it() -> None:
    ours, theirs = memory_pair(capacity=10)
    with StreamConnection(ours) as sink, StreamConnection(theirs) as reader:
        sink.write(b"x" * 100)
        ender = gevent.spawn(end_direction, sink)
        assert b"".join(iter(reader.receive_or_end, b"")) == b"x" * 100
        ender.get(timeout=PATIENCE)
        reader.write(b"BACK")  # the other direction goes on
        assert sink.receive(PATIENCE) == b"BACK"


def test_the_last_words_of_a_target_arrive_although_it_reads_nothing_more(
    tmp_path: Path, target: Target
) -> None:
    with Listening(tmp_path, "--forward", target.address, "tcp://127.0.0.1:0") as tool:
        client = tool.dial()
        service = target.accept()
        service.sendall(b"BYE\n")
        service.close()
        assert read_all(client) == b"BYE\n"
        with pytest.raises(OSError, match=r"Broken pipe|reset by peer"):
            send_without_end(client)
        assert tool.end()[0] == 0


def test_a_signal_ends_both_sides_and_what_came_has_gone_on(tmp_path: Path, target: Target) -> None:
    words = ["--forward", target.address, "tcp://127.0.0.1:0", "--record=out"]
    with Listening(tmp_path, *words) as tool:
        client = tool.dial()
        service = target.accept()
        client.sendall(b"A\nhalf")
        assert shown(tool) == "#1 > A"
        service.sendall(b"B\n")
        assert shown(tool) == "#1 < B"
        assert tool.end(signal.SIGINT) == (0, "")
        assert read_all(service) == b"A\nhalf"
        assert read_all(client) == b"B\n"
    found = [(one.direction, one.data) for one in read_recording(str(tmp_path / "out"))]
    assert found == [("in", b"A\n"), ("out", b"B\n"), ("in", b"half")]
    assert tool.told.splitlines()[-1].startswith("ed-listen: 1 message, 1 back, 1 line")


def test_both_directions_count(tmp_path: Path, target: Target) -> None:
    words = ["--json", "--count=2", "--forward", target.address, "tcp://127.0.0.1:0"]
    with Listening(tmp_path, *words) as tool:
        client = tool.dial()
        service = target.accept()
        client.sendall(b"A\n")
        assert service.recv(10) == b"A\n"
        service.sendall(b"B\n")
        assert read_all(client) == b"B\n"
        code, printed = tool.end(None)
    assert code == 0
    found = [json.loads(line) for line in printed.splitlines()]
    assert [(one["direction"], one["message"]["command"]) for one in found] == [
        ("in", "A"),
        ("out", "B"),
    ]


def test_a_fifo_on_each_side(tmp_path: Path) -> None:
    for name in ("there.in", "there.out"):
        os.mkfifo(tmp_path / name)
    asked = os.open(tmp_path / "there.in", os.O_RDWR)
    answers = os.open(tmp_path / "there.out", os.O_RDWR)
    words = ["--forward", f"fifo:{tmp_path}/there.out,{tmp_path}/there.in"]
    with Listening(tmp_path, *words, f"fifo:{tmp_path}/a.in,{tmp_path}/a.out") as tool:
        back = os.open(tmp_path / "a.out", os.O_RDWR)
        there = os.open(tmp_path / "a.in", os.O_WRONLY)
        os.write(there, b"A\n")
        assert shown(tool) == "#1 > A"
        assert os.read(asked, 10) == b"A\n"
        os.write(answers, b"B\n")
        assert shown(tool) == "#1 < B"
        assert os.read(back, 10) == b"B\n"
        assert tool.end()[0] == 0
        for descriptor in (there, back, asked, answers):
            os.close(descriptor)


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_bytes(authority().certificate_pem)
    (tmp_path / "server.pem").write_bytes(server_pair().certificate_pem)
    (tmp_path / "server.key").write_bytes(server_pair().key_pem)
    (tmp_path / "server.key").chmod(0o600)
    return tmp_path


def test_tls_is_taken_off(keys: Path, target: Target) -> None:
    words = ["--certificate=server.pem", "--key=server.key", "--forward", target.address]
    context = ssl.create_default_context(cafile=str(keys / "ca.pem"))
    with Listening(keys, *words, "tls://127.0.0.1:0") as tool:
        with context.wrap_socket(tool.dial(), server_hostname="localhost") as client:
            service = target.accept()
            client.sendall(b"A\n")
            assert service.recv(10) == b"A\n"
            assert shown(tool) == "#1 > A"
            service.sendall(b"B\n")
            assert client.recv(10) == b"B\n"
            service.close()
            assert client.recv(10) == b""  # with its end mark
        with context.wrap_socket(
            tool.dial(), server_hostname="localhost", suppress_ragged_eofs=False
        ) as client:
            service = target.accept()
            client.sendall(b"C\n")
            assert service.recv(10) == b"C\n"
            reset(service)
            with pytest.raises((ssl.SSLError, ConnectionResetError)):  # without it
                client.recv(10)
        assert tool.end()[0] == 0


def test_tls_is_put_on(keys: Path, target: Target) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(keys / "server.pem", keys / "server.key")
    address = target.address.replace("tcp:", "tls:")
    with Listening(keys, "--forward-ca=ca.pem", "--forward", address, "tcp://127.0.0.1:0") as tool:
        client = tool.dial()
        client.sendall(b"A\n")
        with context.wrap_socket(target.accept(), server_side=True) as service:
            assert service.recv(10) == b"A\n"
            client.shutdown(socket.SHUT_WR)
            assert service.recv(10) == b""
            service.sendall(b"B\n")
            assert client.recv(10) == b"B\n"
            service.unwrap().close()
        assert client.recv(10) == b""
        assert tool.end()[1].count("\n") == 2
    with Listening(keys, "--forward", address, "tcp://127.0.0.1:0") as tool:
        client = tool.dial()
        with contextlib.suppress(OSError):
            context.wrap_socket(target.accept(), server_side=True)
        assert "self-signed" in (told := tool.wait_for("cannot be forwarded")) or "trust" in told
        assert read_all(client) == b""
        assert tool.end()[0] == 0


# --- datagrams ------------------------------------------------------------------------------------


def test_each_sender_of_datagrams_has_a_socket_of_its_own(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("127.0.0.1", 0))
        service.settimeout(PATIENCE)
        address = f"udp://127.0.0.1:{service.getsockname()[1]}"
        words = ["--raw", "--forward", address, "udp://127.0.0.1:0"]
        with Listening(tmp_path, *words) as tool:
            first, second = tool.dial(), tool.dial()
            first.send(b"A x=1")
            assert shown(tool) == "#1 > A x=1"
            data, one = service.recvfrom(100)
            second.send(b"\xff\0" + b"x" * 5000)
            assert shown(tool).startswith("#2 > ! \\xff\\x00xxx")
            other_data, two = service.recvfrom(10_000)
            assert (data, len(other_data)) == (b"A x=1", 5002)
            assert one != two
            service.sendto(b"FOR second=1", two)
            service.sendto(b"FOR first=1", one)
            assert second.recv(100) == b"FOR second=1"
            assert first.recv(100) == b"FOR first=1"
            first.send(b"AGAIN")
            assert service.recvfrom(100) == (b"AGAIN", one)
            assert tool.end()[0] == 0
    assert "ed-listen: 2 messages, 2 back, 1 line that was none, 2 connections" in tool.told


def test_datagrams_for_which_nobody_is_there_are_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{unused.getsockname()[1]}"
    with Listening(tmp_path, "--forward", address, "udp://127.0.0.1:0") as tool:
        tool.send(b"A")
        assert "Connection refused" in tool.wait_for(f"not forwarded to {address}: ")
        assert tool.end()[0] == 0


def test_unix_datagrams_go_on_when_the_target_is_back(tmp_path: Path) -> None:
    path = tmp_path / "there.sock"

    def listen() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(str(path))
        sock.settimeout(PATIENCE)
        return sock

    words = ["--forward", f"unixgram:{path}", f"unixgram:{tmp_path}/here.sock"]
    with Listening(tmp_path, *words) as tool:
        client = tool.dial()
        client.send(b"LOST")
        assert "No such file" in tool.wait_for("cannot be forwarded: ")
        with listen() as service:
            client.send(b"A")
            data, where = service.recvfrom(100)
            service.sendto(b"B", where)
            assert (data, client.recv(10)) == (b"A", b"B")
        client.send(b"LOST")
        assert "Connection refused" in tool.wait_for("not forwarded: ")
        path.unlink()
        with listen() as service:
            client.send(b"C")
            assert service.recv(100) == b"C"
        assert tool.end()[0] == 0


def test_the_sender_that_was_silent_longest_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, ground: Ground
) -> None:
    monkeypatch.setattr("edgevent.tools.datagram_forwarding.MAX_SENDERS", 2)
    with gevent.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("127.0.0.1", 0))
        service.settimeout(PATIENCE)
        target = Address("udp", "127.0.0.1", service.getsockname()[1])
        hearing = Hearing(Printer(os.open(os.devnull, os.O_WRONLY), print))
        place = Address("udp", "127.0.0.1")
        forwarder = ForwardedDatagrams(place, target, hearing, allow_remote=False)
        ground.communicator.add_connection(forwarder)
        senders = [dial(forwarder.addresses[0]) for _ in range(3)]
        came = []
        for index in (0, 1, 0, 2, 0, 1):  # the third one takes the place of the second
            senders[index].send(b"A")
            came.append(service.recvfrom(10)[1])
        for sender in senders:
            sender.close()
        os.close(hearing._printer._descriptor)
    assert came[0] == came[2] == came[4]
    assert came[5] != came[1]
    assert hearing.counts["connections"] == 4


# --- lines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_cut_wherever_the_bytes_were(size: int) -> None:
    data = b"A\n\nBC\r\n" + b"x" * 25 + b"\nEND"
    cutter = Cutter(keeps_records=False, max_line_bytes=10)
    pieces = [p for i in range(0, len(data), size) for p in cutter.feed(data[i : i + size])]
    pieces.append(cutter.end())
    assert b"".join(pieces) == data
    assert pieces[:3] == [b"A\n", b"\n", b"BC\r\n"]
    assert pieces[-1] == b"END"
    assert max(map(len, pieces)) <= 26
    assert cutter.end() == b""


def test_records_are_not_cut() -> None:
    assert Cutter(keeps_records=True).feed(b"A\nB") == [b"A\nB"]
