"""The bytes of server.py and client.py are those that the C++ programs exchange."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gevent import subprocess
from network_ground import Ground
from running import EXAMPLES, LIMIT, Program, environment, talk, terminate
from tls_ground import client_options, server_options

from edgevent import (
    Client,
    Communicator,
    DatagramClient,
    DatagramServer,
    Dispatcher,
    Message,
    MessageConnection,
    Pipe,
    Server,
)
from edgevent.transport.base import StreamTransport
from edgevent.transport.memory import memory_pair

SERVER = EXAMPLES / "server.py"
CLIENT = EXAMPLES / "client.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for all conversations."""
    with Program(SERVER, "--listen=127.0.0.1:0", folder=tmp_path_factory.mktemp("srv")) as program:
        yield program.listening_on()
        assert terminate(program) == 0


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"", b""),
        (b"HELP\n", b"UNKNOWN command=HELP\n"),
        (b"ALIVE\n", b"UNKNOWN command=ALIVE\n"),
        (b"FOO\n", b"UNKNOWN command=FOO\n"),
        (b"STOP\n", b"UNKNOWN command=STOP\n"),
        (b"<srv:svc ALIVE serial=5\n", b"srv:svc/UNKNOWN command=ALIVE\n"),
        (b"<a:b c:d/FOO x=1\n", b"a:b/UNKNOWN command=FOO\n"),
        (b"DAD\n", b"CLIMB\n"),
        (b"DAD\r\n", b"CLIMB\n"),
        (b"  DAD  \n", b"CLIMB\n"),
        (b"TOP\n", b"WHO\n"),
        (b"MOM\n", b"BYE\n"),
        (b"DAD\nTOP\nMOM\n", b"CLIMB\nWHO\nBYE\n"),
        (b"MOM\nFOO\nDAD\n", b"BYE\nUNKNOWN command=FOO\nCLIMB\n"),
        (b"\n\n\r\n   \nDAD\n\n", b"CLIMB\n"),
    ],
)
def test_the_server_answers_in_these_bytes(server: str, sent: bytes, answered: bytes) -> None:
    assert talk(server, sent) == b"HI\n" + answered


def test_the_server_speaks_first_and_stays_after_bye(server: str) -> None:
    host, _, port = server.removeprefix("tcp://").rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=LIMIT) as sock,
        sock.makefile("rb") as lines,
    ):
        assert lines.readline() == b"HI\n"
        for question, answer in ((b"MOM\n", b"BYE\n"), (b"DAD\n", b"CLIMB\n")):
            sock.sendall(question)
            assert lines.readline() == answer


def test_quit_ends_the_server_after_what_came_before_it(tmp_path: Path) -> None:
    with Program(SERVER, "--listen", "127.0.0.1:0", folder=tmp_path) as program:
        address = program.listening_on()
        assert talk(address, b"DAD\nQUIT\n") == b"HI\nCLIMB\n"
        assert program.end() == 0


def has_ipv6_loopback() -> bool:
    """Whether ::1 is there; containers often lack it."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("listen", "dialled"),
    [
        ("127.0.0.1:0", None),
        ("tcp://127.0.0.1:0", None),
        ("cd://127.0.0.1:0", None),
        ("[::1]:0", None),
        ("unix:talk.sock", "unix:talk.sock"),
        ("cd:talk.sock", "unix:talk.sock"),
    ],
)
def test_the_two_talk_over_any_address(tmp_path: Path, listen: str, dialled: str | None) -> None:
    if listen.startswith("[") and not has_ipv6_loopback():
        pytest.skip("this machine has no IPv6 loopback")
    with Program(SERVER, "--listen", listen, folder=tmp_path) as server:
        address = server.listening_on()
        if dialled is None:
            dialled = address.removeprefix("tcp://")  # a bare ip:port is TCP
        with Program(CLIENT, "--server", dialled, folder=tmp_path) as client:
            assert client.end() == 0
            assert client.printed.splitlines() == [
                "< HI", "> DAD", "< CLIMB", "> TOP", "< WHO", "> MOM", "< BYE",
            ]  # fmt: skip
        assert terminate(server) == 0


def listener() -> socket.socket:
    """A listening socket in place of the C++ server."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.settimeout(LIMIT)
    return sock


def place(sock: socket.socket) -> str:
    """Its ip:port."""
    return f"127.0.0.1:{sock.getsockname()[1]}"


def test_the_client_sends_these_bytes_and_ends_on_bye(tmp_path: Path) -> None:
    with listener() as sock, Program(CLIENT, "--server", place(sock), folder=tmp_path) as client:
        peer, _ = sock.accept()
        peer.settimeout(LIMIT)
        with peer, peer.makefile("rb") as lines:
            for said, wanted in (
                (b"HI\n", b"DAD\n"),
                (b"FOO\nCLIMB\n", b"TOP\n"),
                (b"ALIVE serial=5\n", None),
                (b"WHO\n", b"MOM\n"),
            ):
                peer.sendall(said)
                line = lines.readline()
                if wanted is None:  # a client answers this by itself
                    assert line.startswith(b"ABSOLUTELY reply_timestamp=")
                else:
                    assert line == wanted
            peer.sendall(b"BYE\n")
            assert lines.read() == b""
        assert client.end() == 0


def test_a_client_whose_server_leaves_says_so(tmp_path: Path) -> None:
    with listener() as sock, Program(CLIENT, "--server", place(sock), folder=tmp_path) as client:
        peer, _ = sock.accept()
        peer.close()
        assert client.end() == 1
        assert client.printed.startswith("client: ")
        assert client.printed.count("\n") == 1


def test_a_client_does_not_wait_for_ever(tmp_path: Path) -> None:
    with Program(
        CLIENT, "--server=unix:nobody.sock", "--patience=100ms", folder=tmp_path
    ) as client:
        assert client.end() == 1
        assert "client: unix:nobody.sock" in client.printed


# --- where the options come from ------------------------------------------------------------------


def test_both_read_a_configuration_file(tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "edgevent"  # the home folder of the programs is tmp_path
    folder.mkdir(parents=True)
    (folder / "server.conf").write_text("# where\nlisten = unix:by_file.sock\n")
    given = tmp_path / "given.conf"
    given.write_text("server = unix:by_file.sock\npatience = 20s\n")
    with Program(SERVER, folder=tmp_path) as server:
        assert server.listening_on() == "unix:by_file.sock"
        with Program(CLIENT, f"--config={given}", folder=tmp_path) as client:
            assert client.end() == 0
        assert terminate(server) == 0


def test_the_environment_comes_before_the_file_and_the_command_line_before_both(
    tmp_path: Path,
) -> None:
    variables = {"EDGEVENT_SERVER_LISTEN": "unix:by_environment.sock"}
    given = tmp_path / "given.conf"
    given.write_text("listen = unix:by_file.sock\n")
    for arguments, expected in (
        ([f"--config={given}"], "unix:by_environment.sock"),
        ([f"--config={given}", "--listen=unix:by_hand.sock"], "unix:by_hand.sock"),
    ):
        with Program(SERVER, *arguments, folder=tmp_path, **variables) as server:
            assert server.listening_on() == expected
            assert terminate(server) == 0


@pytest.mark.parametrize(
    ("program", "arguments", "sentence"),
    [
        (SERVER, ["--listen", "127.0.0.1"], "server: argument --listen: address '127.0.0.1'"),
        (SERVER, ["--listne", "127.0.0.1:1"], "did you mean '--listen'"),
        (CLIENT, ["--server", "tpc://127.0.0.1:1"], "client: argument --server: address"),
    ],
)
def test_a_bad_option_is_one_line_and_exit_code_2(
    tmp_path: Path, program: Path, arguments: list[str], sentence: str
) -> None:
    with Program(program, *arguments, folder=tmp_path) as started:
        assert started.end() == 2
        assert sentence in started.printed
        assert started.printed.count("\n") == 1


def test_a_port_in_use_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with listener() as sock, Program(SERVER, "--listen", place(sock), folder=tmp_path) as server:
        assert server.end() == 1
        assert server.printed == f"server: tcp://{place(sock)}: Address already in use\n"


# --- the same conversation over everything --------------------------------------------------------

CONVERSATION = ["< HI", "> DAD", "< CLIMB", "> TOP", "< WHO", "> MOM", "< BYE"]
ANSWERS = {"HI": "DAD", "CLIMB": "TOP", "WHO": "MOM"}


class Guest(MessageConnection):
    """The server's side, as in server.py."""

    def process_connected(self) -> None:
        self.send(Message("HI"))


def talking() -> Dispatcher:
    service = Dispatcher()
    for question, answer in (("DAD", "CLIMB"), ("TOP", "WHO"), ("MOM", "BYE")):
        service.on(question)(lambda message, peer, answer=answer: message.reply(answer))
    return service


def converse(connection: MessageConnection) -> list[str]:
    """The client's side, as in client.py; returns what was said."""
    said = []
    with connection:
        while not said or said[-1] != "< BYE":
            message = connection.receive(LIMIT)
            said.append(f"< {message}")
            if message.command in ANSWERS:
                answer = Message(ANSWERS[message.command])
                connection.send(answer)
                said.append(f"> {answer}")
    return said


Way = Callable[[Ground, Path], list[str]]


def at(address: str, dialled: str = "") -> Way:
    """A server listens, and a client dials."""

    def way(ground: Ground, folder: Path) -> list[str]:
        if "[" in address and not has_ipv6_loopback():
            pytest.skip("this machine has no IPv6 loopback")
        is_tls = address.startswith("tls")
        server = Server(
            address.format(folder),
            Guest,
            dispatcher=talking(),
            tls=server_options() if is_tls else None,
        )
        ground.communicator.add_connection(server)
        where = dialled.format(folder) or server.addresses[0]
        client = Client(where, tls=client_options() if is_tls else None)
        if address.startswith("fifo"):
            client.write(b"\n")  # nobody is seen at a FIFO before he has written
        return converse(client)

    return way


def welcome(ground: Ground, side: StreamTransport | str) -> None:
    """Serves one peer that is there already."""
    guest = ground.communicator.add_connection(MessageConnection(side, talking()))
    guest.send(Message("HI"))


def in_memory(ground: Ground, folder: Path) -> list[str]:
    near, far = memory_pair()
    welcome(ground, far)
    return converse(MessageConnection(near))


def descriptors(ground: Ground, folder: Path) -> list[str]:
    here, there = (sock.detach() for sock in socket.socketpair())
    welcome(ground, f"fd:{there}")
    return converse(Client(f"fd:{here}"))


def pipe_to_a_child(ground: Ground, folder: Path) -> list[str]:
    """The child is client.py."""
    with Pipe() as pipe:
        child = subprocess.Popen(
            [sys.executable, str(CLIENT), "--server", pipe.child_address],
            pass_fds=pipe.child_fds,
            env=environment(folder),
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            welcome(ground, pipe.open())
            said = child.communicate(timeout=LIMIT)[0].splitlines()
    assert child.returncode == 0
    return list(said)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(at("tcp://127.0.0.1:0"), id="tcp"),
        pytest.param(at("tcp://[::1]:0"), id="tcp6"),
        pytest.param(at("tls://127.0.0.1:0"), id="tls"),
        pytest.param(at("unix:{}/s"), id="unix"),
        pytest.param(at("tls+unix:{}/s", "tls+unix:{}/s"), id="tls+unix"),
        pytest.param(at("unixseq:{}/s"), id="unixseq"),
        pytest.param(at("fifo:{0}/in,{0}/out", "fifo:{0}/out,{0}/in"), id="fifo"),
        pytest.param(pipe_to_a_child, id="pipe"),
        pytest.param(descriptors, id="fd"),
        pytest.param(in_memory, id="memory"),
    ],
)
def test_it_is_the_same_over_every_stream(way: Way, tmp_path: Path) -> None:
    with Ground(Communicator()) as ground:
        assert way(ground, tmp_path) == CONVERSATION


GROUP = f"239.255.{os.getpid() % 250}.19"


@pytest.mark.parametrize(
    ("address", "dialled", "settings"),
    [
        pytest.param("udp://127.0.0.1:0", "udp://127.0.0.1:{}", {}, id="udp4"),
        pytest.param("udp://[::1]:0", "udp://[::1]:{}", {}, id="udp6"),
        pytest.param("udp://0.0.0.0:0", "udp://127.255.255.255:{}", {}, id="broadcast"),
        pytest.param(
            f"udp://{GROUP}:0", f"udp://{GROUP}:{{}}", {"interface": "lo"}, id="multicast"
        ),
        pytest.param("unixgram:{}/s", "unixgram:{}/s", {}, id="unixgram"),
    ],
)
def test_requests_are_the_same_over_every_datagram(
    address: str, dialled: str, settings: dict[str, str], tmp_path: Path
) -> None:
    if "[" in address and not has_ipv6_loopback():
        pytest.skip("this machine has no IPv6 loopback")
    with Ground(Communicator()) as ground:
        server = DatagramServer(
            address.format(tmp_path), talking(), allow_unauthenticated=True, **settings
        )
        ground.communicator.add_connection(server)
        with DatagramClient(dialled.format(server.port or tmp_path), **settings) as client:
            for question, answer in (("DAD", "CLIMB"), ("TOP", "WHO"), ("MOM", "BYE")):
                # No answer may be longer than what it answers, beyond loopback.
                request = Message(question, {"room": "x" * 20})
                assert client.request(request, timeout=LIMIT).command == answer
