"""ed-signal: what it sends to each kind of address, what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal as signals
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import tool_ground
from running import EXAMPLES, Program
from tls_ground import authority, server_pair
from tool_ground import (
    PATIENCE,
    begin,
    check_man_page,
    cpu_seconds,
    examples_of,
    readme_lines,
    run,
    variables_of,
    words_of,
)

from edgevent import Address
from edgevent.errors import ConnectionLostError
from edgevent.message import Message
from edgevent.tools.addresses import read_place
from edgevent.tools.ed_signal import main
from edgevent.tools.sending import open_sender, own_name

HOST = own_name()


def signal(folder: Path, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run("ed-signal", *words, folder=folder, **variables)


failed = partial(tool_ground.failed, "ed-signal")


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    """A plain UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A plain TCP socket that listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(PATIENCE)
        yield sock


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def unused_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return port_of(sock)


def read_all(listener: socket.socket) -> bytes:
    """What the next peer sends until it closes."""
    peer, _ = listener.accept()
    with peer:
        peer.settimeout(PATIENCE)
        received = b""
        while part := peer.recv(65536):
            received += part
        return received


# --- what is sent ---------------------------------------------------------------------------------

FULL = ("snap:cluckd/STOP", "-p", "a=1", "--param", "b=x;y", "-p", 'c="q', "-p", "empty")


def test_a_datagram_has_no_newline_and_the_secret_code(
    tmp_path: Path, receiver: socket.socket
) -> None:
    host = f"127.0.0.1:{port_of(receiver)}"
    done = signal(tmp_path, "--host", host, *FULL, "--secret-code", "shh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert receiver.recv(2000).decode() == (
        f'<{HOST}:ed_signal snap:cluckd/STOP a=1;b="x;y";c="\\"q";empty=;secret_code=shh'
    )


def test_a_stream_has_the_newline(tmp_path: Path, listener: socket.socket) -> None:
    port = port_of(listener)
    with begin("ed-signal", "-H", f"tcp://127.0.0.1:{port}", *FULL, folder=tmp_path) as tool:
        assert read_all(listener).decode() == (
            f'<{HOST}:ed_signal snap:cluckd/STOP a=1;b="x;y";c="\\"q";empty=\n'
        )
        assert tool.communicate() == ("", "")
    assert tool.returncode == 0


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["STOP"], "STOP"),
        (["--message", "snaprfs/LOG_ROTATE"], "snaprfs/LOG_ROTATE"),
        (["-s", "snap", "-S", "cluckd", "STOP"], "snap:cluckd/STOP"),
        (["cluckd/STOP", "--server", "snap"], "snap:cluckd/STOP"),
        (["--param", "a=1", "STOP", "--param", "a=2"], "STOP a=2"),
        (["./STOP"], "./STOP"),
    ],
)
def test_the_forms_of_a_message(
    tmp_path: Path, receiver: socket.socket, words: list[str], sent: str
) -> None:
    assert signal(tmp_path, f"--host=127.0.0.1:{port_of(receiver)}", *words).returncode == 0
    assert receiver.recv(2000).decode() == f"<{HOST}:ed_signal {sent}"


def test_it_is_sent_as_often_as_asked(tmp_path: Path, receiver: socket.socket) -> None:
    words = ["--repeat", "3", "--interval", "10ms", "PING"]
    assert signal(tmp_path, f"--host=127.0.0.1:{port_of(receiver)}", *words).returncode == 0
    assert [receiver.recv(2000) for _ in range(3)] == [f"<{HOST}:ed_signal PING".encode()] * 3
    receiver.setblocking(False)
    with pytest.raises(BlockingIOError):
        receiver.recv(2000)


ALONE = """\
import os, socket, subprocess, sys

tool = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(30)
    sock.bind(("127.0.0.1", 4041))
    for words in (["snaprfs/LOG_ROTATE"], ["--host", "127.0.0.1", "STOP"]):
        subprocess.run([*tool, *words], check=True)
        print(sock.recv(2000).decode())
    for name, line in (("eventdispatcher", "param = of=cpp"), ("edgevent", "param = of=us")):
        os.mkdir(f"/etc/{name}")
        with open(f"/etc/{name}/ed-signal.conf", "w") as file:
            file.write(f"service = {name}\\n{line}\\n" if name == "edgevent" else f"{line}\\n")
        subprocess.run([*tool, "STOP"], check=True)
        print(sock.recv(2000).decode())
"""


def test_port_4041_the_files_in_etc_and_a_host_name_that_is_no_name(
    tmp_path: Path, need_tool: Callable[..., str], own_namespaces: Callable[..., list[str]]
) -> None:
    need_tool("hostname", package="hostname")
    program = [sys.executable, "-c", ALONE, *words_of("ed-signal")]
    setup = "ip link set lo up && hostname 7-up.example && mount -t tmpfs none /etc"
    done = subprocess.run(
        [*own_namespaces("-num"), "sh", "-c", f"{setup} && exec {shlex.join(program)}"],
        env=variables_of(tmp_path),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "<_7_up:ed_signal snaprfs/LOG_ROTATE",
        "<_7_up:ed_signal STOP",
        "<_7_up:ed_signal STOP of=cpp",
        "<_7_up:ed_signal edgevent/STOP of=us",
    ]


# --- where to -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["--host", "{tcp}"],
        ["--host", "127.0.0.1:{port}", "--type", "tcp"],
        ["--host", "localhost:{port}", "-t", "tcp"],
        ["--host", "unix:hello.sock"],
        ["--host", "./hello.sock", "--type=unix"],
        ["--host", "hello.conf@hello"],  # no file: that begins with ./ or /
        ["--host", "{udp}"],
        ["--host", "./hello.conf@listen"],
        ["--host", "{folder}/hello.conf@by-udp::local-listen"],
        ["--host", "./hello.conf@unix"],
    ],
)
def test_a_real_service_answers_at_each_kind_of_address(
    tmp_path: Path, service: dict[str, str], words: list[str]
) -> None:
    found = [word.format(**service) for word in words]
    done = signal(Path(service["folder"]), *found, "-r", "-p", "a=2", "-p", "b=40", "ADD")
    if words[1] == "hello.conf@hello":
        assert "without a user name or password" in failed(done, 2)
    else:
        assert (done.stdout, done.stderr) == (f"{HOST}:ed_signal/SUM value=42\n", "")
        assert done.returncode == 0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The hello service, and a configuration file that has its addresses."""
    folder = tmp_path_factory.mktemp("service")
    addresses = ("tcp://127.0.0.1:0", "unix:hello.sock", "udp://127.0.0.1:0")
    with Program(EXAMPLES / "hello_service.py", *addresses, folder=folder, limit=600) as program:
        tcp, _, udp = (program.listening_on() for _ in addresses)
        port = tcp.rpartition(":")[2]
        (folder / "hello.conf").write_text(
            "# where the service is\n"
            f"listen = cd://0.0.0.0:{port}\n"
            "unix=unix:hello.sock\n"
            "[by_udp]\n"
            f"local_listen = {udp.partition('//')[2]}\n",
            encoding="utf-8",
        )
        yield {"tcp": tcp, "udp": udp, "port": port, "folder": str(folder)}


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (socket.SOCK_DGRAM, "unixgram:{path}"),
        (socket.SOCK_DGRAM, "--type=unixgram"),
        (socket.SOCK_DGRAM, "unixgram:@{name}"),
        (socket.SOCK_SEQPACKET, "unixseq:{path}"),
    ],
)
def test_unix_sockets_of_messages(tmp_path: Path, kind: socket.SocketKind, place: str) -> None:
    path, name = tmp_path / "it.sock", f"ed-signal-{os.getpid()}"
    words = ["--host", str(path), place] if place.startswith("--") else ["--host", place]
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.settimeout(PATIENCE)
        sock.bind(f"\0{name}" if "@" in place else str(path))
        peer = sock
        if kind == socket.SOCK_SEQPACKET:
            sock.listen()
        done = signal(tmp_path, *[one.format(path=path, name=name) for one in words], "STOP")
        assert (done.returncode, done.stderr) == (0, "")
        if kind == socket.SOCK_SEQPACKET:
            peer, _ = sock.accept()
        with peer:
            assert peer.recv(2000).decode().rstrip("\n") == f"<{HOST}:ed_signal STOP"


def test_a_fifo_takes_the_message(tmp_path: Path) -> None:
    path = tmp_path / "it.fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert signal(tmp_path, "--host", f"fifo:{path}", "STOP").returncode == 0
        assert os.read(reader, 2000).decode() == f"<{HOST}:ed_signal STOP\n"
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", "udp://127.0.0.1:4041"),
        ("127.0.0.1:1", "udp://127.0.0.1:1"),
        ("::1", "udp://[::1]:4041"),
        ("[::1]", "udp://[::1]:4041"),
        ("tcp://example.com", "tcp://example.com:4041"),
        ("./it.conf@alone", "udp://10.0.0.1:4041"),
        ("./it.conf@tls", "tls://example.com:4041"),
        ("./it.conf@all", "tcp://127.0.0.1:7"),
        ("./it.conf@All-6", "tcp://[::1]:7"),
        ("./it.conf@some-section::local_listen", "unix:/run/it.sock"),
        ("../{}/it.conf@twice", "udp://10.0.0.2:4041"),
    ],
)
def test_what_is_missing_of_an_address_is_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, address: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it.conf").write_text(
        "alone = 10.0.0.1\ntls = cds://example.com\nall = tcp://0.0.0.0:7\nall_6 = tcp://[::]:7\n"
        "twice = 10.0.0.1\ntwice = 10.0.0.2\n[some_section]\nlocal-listen = unix:/run/it.sock\n",
        encoding="utf-8",
    )
    found = read_place(text.format(tmp_path.name), default_scheme="udp", default_port=4041)
    assert str(found) == address


# --- answers --------------------------------------------------------------------------------------


def test_so_many_answers_are_printed_as_they_come(tmp_path: Path, receiver: socket.socket) -> None:
    host = f"--host=127.0.0.1:{port_of(receiver)}"
    with begin("ed-signal", host, "--replies=2", "--timeout=30s", "ASK", folder=tmp_path) as tool:
        _, sender = receiver.recvfrom(2000)
        assert tool.stdout is not None
        for text in ("ONE a=1", 'TWO b="x;\\n"'):
            receiver.sendto(text.encode(), sender)
            assert tool.stdout.readline() == f"{text}\n"
        assert tool.communicate() == ("", "")
    assert tool.returncode == 0


def test_answers_in_json(tmp_path: Path, service: dict[str, str]) -> None:
    words = ["--host", service["tcp"], "--json", "--reply", "--param", "a=1", "-pb=2", "ADD"]
    done = signal(tmp_path, *words)
    assert json.loads(done.stdout) == {
        "server": HOST, "service": "ed_signal", "command": "SUM", "parameters": {"value": "3"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "answer"), [(["NO_SUCH"], "UNKNOWN"), (["ADD", "-pa=x"], "INVALID")]
)
def test_a_refusal_is_printed_and_ends_with_1(
    tmp_path: Path, service: dict[str, str], words: list[str], answer: str
) -> None:
    done = signal(tmp_path, "--host", service["tcp"], "--reply", *words)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{HOST}:ed_signal/{answer} command={words[0]}")
    assert done.stderr == f"ed-signal: {words[0]} was refused: {answer}\n"


def test_no_answer_ends_with_1_within_the_limit(
    tmp_path: Path, receiver: socket.socket, listener: socket.socket
) -> None:
    for scheme, sock in (("udp", receiver), ("tcp", listener)):
        host = f"{scheme}://127.0.0.1:{port_of(sock)}"
        done = signal(tmp_path, "--host", host, "--reply", "--timeout", "500ms", "ASK")
        assert failed(done, 1) == f"{host}: no answer within 0.5 s"


def test_some_of_the_answers_are_too_few(tmp_path: Path, receiver: socket.socket) -> None:
    host = f"127.0.0.1:{port_of(receiver)}"
    words = ["--host", host, "--replies=3", "--timeout=1500ms", "ASK"]
    with begin("ed-signal", *words, folder=tmp_path) as tool:
        receiver.sendto(b"ONE", receiver.recvfrom(2000)[1])
        assert tool.communicate() == (
            "ONE\n", f"ed-signal: udp://{host}: 1 of 3 answers within 1.5 s\n",
        )  # fmt: skip
    assert tool.returncode == 1


def test_a_peer_that_goes_gives_no_answer(tmp_path: Path, listener: socket.socket) -> None:
    host = f"tcp://127.0.0.1:{port_of(listener)}"
    with begin("ed-signal", "--host", host, "--reply", "ASK", folder=tmp_path) as tool:
        peer, _ = listener.accept()
        peer.recv(2000)
        peer.close()
        out, error = tool.communicate()
    assert (tool.returncode, out) == (1, "")
    assert error.startswith(f"ed-signal: no answer from {host}: ")


def test_an_answer_nobody_reads_is_no_traceback(tmp_path: Path, service: dict[str, str]) -> None:
    words = words_of("ed-signal", "--host", service["tcp"], "--reply", "HELP")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        words,
        env=variables_of(tmp_path),
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_full_disk_is_told(tmp_path: Path, service: dict[str, str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            words_of("ed-signal", "--host", service["tcp"], "--reply", "HELP"),
            env=variables_of(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "ed-signal: standard output: No space left on device\n"


def test_a_terminal_gets_no_escape_sequence_of_a_peer(
    tmp_path: Path, receiver: socket.socket
) -> None:
    ours, theirs = pty.openpty()
    tool = subprocess.Popen(
        words_of("ed-signal", f"--host=127.0.0.1:{port_of(receiver)}", "--reply", "ASK"),
        env=variables_of(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
    )
    receiver.sendto("SUM a=\x1b[2J\xe9".encode(), receiver.recvfrom(2000)[1])
    assert os.read(ours, 2000).decode().rstrip("\r\n") == "SUM a=\\x1b[2J\xe9"
    assert tool.wait(PATIENCE) == 0
    os.close(ours)
    os.close(theirs)


def test_an_interrupt_ends_it_without_a_word(tmp_path: Path, receiver: socket.socket) -> None:
    host = f"--host=127.0.0.1:{port_of(receiver)}"
    with begin("ed-signal", host, "--reply", "ASK", folder=tmp_path) as tool:
        receiver.recv(2000)
        tool.send_signal(signals.SIGINT)
        assert tool.communicate() == ("", "")
    assert tool.returncode == -signals.SIGINT


# --- nobody is there ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
@pytest.mark.parametrize("reply", [[], ["--reply"]])
def test_nobody_there_ends_with_1(tmp_path: Path, scheme: str, reply: list[str]) -> None:
    host = f"{scheme}://127.0.0.1:{unused_port()}"
    said = failed(signal(tmp_path, "--host", host, *reply, "STOP"), 1)
    assert host in said
    assert "Connection refused" in said


def test_a_datagram_that_nobody_receives_is_noticed_without_an_answer() -> None:
    with open_sender(Address.parse(f"udp://127.0.0.1:{unused_port()}"), timeout=1.0) as sender:
        sender.send(Message("STOP"))
        with pytest.raises(ConnectionLostError, match="refused"):
            list(sender.answers(0, 1.0))


@pytest.mark.parametrize("place", ["unix:none.sock", "unixgram:none.sock"])
def test_a_missing_socket_ends_with_1(tmp_path: Path, place: str) -> None:
    assert "No such file" in failed(signal(tmp_path, "--host", place, "STOP"), 1)


# --- who may --------------------------------------------------------------------------------------

GUARDED = """\
import sys
from edgevent import Communicator, DatagramServer, Dispatcher

with Communicator(dispatcher=Dispatcher()) as communicator:
    communicator.stop_on("SIGTERM")
    for settings in ({"secret_code": "open sesame"}, {"auth": "keys"}):
        server = communicator.add_connection(DatagramServer("udp://127.0.0.1:0", **settings))
        print("listening on", *server.addresses, flush=True)
    communicator.run()
"""


def test_secret_codes_and_signatures(tmp_path: Path) -> None:
    (tmp_path / "guarded.py").write_text(GUARDED, encoding="utf-8")
    for name, text in (("keys", "k" * 32), ("others", "o" * 32)):
        (tmp_path / name).write_text(f"{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o600)
    with Program(tmp_path / "guarded.py", folder=tmp_path) as program:
        secret, signed = program.listening_on(), program.listening_on()

        def ask(host: str, *words: str) -> subprocess.CompletedProcess[str]:
            return signal(tmp_path, "--host", host, "--reply", *words, "ALIVE")

        assert "ABSOLUTELY" in ask(secret, "--secret-code", "open sesame").stdout
        assert "ABSOLUTELY" in ask(signed, "--auth-key-file", "keys").stdout
        for host, words in (
            (secret, ["-c", "open barley"]),
            (signed, ["--auth-key-file=others"]),
            (signed, []),
        ):
            assert "no answer" in failed(ask(host, *words, "--timeout=100ms"), 1)
        (tmp_path / "keys").chmod(0o644)
        assert "0600 was expected" in failed(ask(signed, "--auth-key-file", "keys"), 2)


def test_an_answer_without_the_code_is_told_apart_from_none(
    tmp_path: Path, receiver: socket.socket
) -> None:
    words = ["-c", "shh", "--host", f"127.0.0.1:{port_of(receiver)}", "--reply", "--timeout=1500ms"]
    with begin("ed-signal", *words, "ASK", folder=tmp_path) as tool:
        receiver.sendto(b"SUM", receiver.recvfrom(2000)[1])
        out, error = tool.communicate()
    assert (tool.returncode, out) == (1, "")
    assert "no answer within 1.5 s; one was dropped: it has no secret code" in error


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The hello service by TLS, and the folder with its keys."""
    folder = tmp_path_factory.mktemp("secure")
    server_pair().write(folder / "keys", "server")
    (folder / "ca.crt").write_bytes(authority().certificate_pem)
    with Program(
        EXAMPLES / "hello_service.py", "tls://127.0.0.1:0", folder=folder, limit=600
    ) as program:
        yield program.listening_on().partition("//")[2], folder


@pytest.mark.parametrize(
    "words",
    [
        ["--host=tls://{}", "--ca=ca.crt"],
        ["--host=tcp://{}", "--encrypt", "--ca=ca.crt"],
        ["--host={}", "--encrypt", "--ca=ca.crt", "--server-name=localhost"],
        ["--host={}", "--type=tls", "--no-verify"],
        ["--host={}", "--type=tcp", "-e", "--no-verify"],
    ],
)
def test_tls(secure: tuple[str, Path], words: list[str]) -> None:
    place, folder = secure
    done = signal(folder, *[word.format(place) for word in words], "-r", "-pa=1", "-pb=1", "ADD")
    assert (done.returncode, done.stdout) == (0, f"{HOST}:ed_signal/SUM value=2\n"), done.stderr


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--encrypt"], 1, "certificate"),
        (["--encrypt", "--ca=ca.crt", "--server-name=other.example"], 1, "other.example"),
        (["--encrypt", "--ca=missing.crt"], 2, "missing.crt: No such file"),
        (["--encrypt", "--ca=ca.crt", "--no-verify"], 2, "contradict each other"),
        (["--type=udp", "--encrypt"], 2, "there is no TLS over it; expected one of tcp, tls"),
        (["--type=tcp", "--ca=ca.crt"], 2, "--ca is for TLS: expected --encrypt"),
    ],
)
def test_what_tls_does_not_accept(
    secure: tuple[str, Path], words: list[str], code: int, sentence: str
) -> None:
    place, folder = secure
    assert sentence in failed(signal(folder, "--host", place, *words, "STOP"), code)


# --- settings -------------------------------------------------------------------------------------


def test_files_variables_and_a_piece_of_command_line(
    tmp_path: Path, receiver: socket.socket
) -> None:
    own = tmp_path / ".config" / "edgevent"
    own.mkdir(parents=True)
    (own / "ed-signal.conf").write_text(
        f"host = 127.0.0.1:{port_of(receiver)}\nservice = filed\nsecret_code = of file\n"
        "message = FILED\n",
        encoding="utf-8",
    )

    def sent(*words: str, **variables: str) -> str:
        done = signal(tmp_path, *words, **variables)
        assert (done.returncode, done.stderr) == (0, "")
        return receiver.recv(2000).decode().partition(" ")[2]

    assert sent() == "filed/FILED secret_code=of file"
    # What stands on the command line wins, also over what another option says in a file.
    assert sent("snap:cluckd/STOP", "-c", "x") == "snap:cluckd/STOP secret_code=x"
    assert sent("STOP", EDGEVENT_ED_SIGNAL_SERVICE="v") == "v/STOP secret_code=of file"
    piece = "--secret-code 'a piece' --param a=1"
    assert sent("STOP", "-p", "b=2", ED_SIGNAL=piece) == "filed/STOP a=1;b=2;secret_code=a piece"
    assert sent("-S", "w", EDGEVENT_ED_SIGNAL_MESSAGE="v/STOP") == "w/STOP secret_code=of file"


@pytest.mark.parametrize(
    ("piece", "sentence"),
    [
        ("--hots x", "environment variable ED_SIGNAL: argument '--hots' is unknown; did you mean"),
        ("--host 'x", "environment variable ED_SIGNAL: No closing quotation"),
        ("--replies 0", "environment variable ED_SIGNAL: argument --replies: value '0': expected"),
    ],
)
def test_a_mistake_in_the_piece_of_command_line(tmp_path: Path, piece: str, sentence: str) -> None:
    assert failed(signal(tmp_path, "STOP", ED_SIGNAL=piece), 2).startswith(sentence)


def test_a_secret_code_of_a_file_is_for_datagrams_alone(
    tmp_path: Path, service: dict[str, str]
) -> None:
    (tmp_path / "some.conf").write_text("secret-code = x\nca = none.crt\n", encoding="utf-8")
    words = ["--config", "some.conf", "--host", service["tcp"], "--reply", "ALIVE"]
    done = signal(tmp_path, *words)
    assert "ABSOLUTELY" in done.stdout
    assert "secret" not in done.stdout


# --- bad usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "expected a command: [[SERVER:]SERVICE/]COMMAND; --help tells more"),
        (["stop"], "did you mean 'STOP'?"),
        (["snap:x/stop"], "did you mean 'snap:x/STOP'?"),
        (["a b/STOP"], "'a b/STOP': expected [[SERVER:]SERVICE/]COMMAND; parameters are given by"),
        (["a/b/STOP"], "'a/b/STOP': expected [[SERVER:]SERVICE/]COMMAND: "),
        (["STOP", "NOW"], "argument 'NOW': expected one command, and 'STOP' is before"),
        (["STOP", "--reply", "NOW"], "argument 'NOW': expected one command"),
        (["STOP", "-m", "STOP"], "the command is given twice: 'STOP', and by --message"),
        (["x/STOP", "-Sy"], "the service is given twice: 'x' in 'x/STOP', and 'y' by --service"),
        (["s:x/STOP", "--server=t"], "the server is given twice: 's' in 's:x/STOP', and 't' by"),
        (["STOP", "--server=t"], "server 't': expected a service of it too: --service, or"),
        (["STOP", "-p", "=1"], "parameter '=1': expected NAME or NAME=VALUE"),
        (["STOP", "-p", "a-b=1"], "'a-b'"),
        (["STOP", "--hots=x"], "argument '--hots' is unknown; did you mean '--host'?"),
        (["STOP", "--type=upd"], "type 'upd': expected one of udp, tcp, unix, unixgram, tls; did"),
        (["STOP", "--replies=0"], "value '0': expected a number from 1 on"),
        (["STOP", "--timeout=x"], "argument --timeout: duration 'x': expected seconds"),
        (["STOP", "--host=tpc://h:1"], "did you mean tcp?"),
        (["STOP", "--host=h:99999"], "port 99999"),
        (["STOP", "--type=unix"], "address '127.0.0.1': expected unix:/path, ./path or @name"),
        (["STOP", "--host=a.sock"], "'a.sock': a socket here has this name; expected unix:a.sock"),
        (["STOP", "--host=./none.conf@listen"], "./none.conf: No such file or directory"),
        (["STOP", "--host=./some.conf@lisen"], "no variable 'lisen'; did you mean 'listen'?"),
        (["STOP", "--host=./some.conf@where"], "did you mean 'main::where'?"),
        (["STOP", "--host=./some.conf@listen"], "./some.conf:2: listen: address 'x:y:z': "),
        (["STOP", "--host=./some.conf"], "expected FILE@NAME, or an address such as unix:./some"),
        (["STOP", "--host=./bad.conf@x"], "./bad.conf:1: '[x': expected [section]"),
        (["STOP", "--host=./zero.conf@x"], "a port other than 0 was expected"),
        (["STOP", "--host=./bytes@x"], "./bytes: expected UTF-8 text"),
        (["STOP", "--host=.//@x"], ".//: Is a directory"),
        (["STOP", "--host=./long@x"], "./long: is longer than 1048576 bytes"),
        (["STOP", "--config=none.conf"], "none.conf: "),
        (["STOP", "--config=some.conf"], "some.conf:2: key 'listen' is unknown"),
        (["STOP", "--auth-key-file=none"], "'none': No such file or directory"),
        (["STOP", "--host=tcp://h:1", "-cx"], "--secret-code is for datagrams, not for tcp://h:1"),
        (["STOP", f"-pa={'x' * 1100}"], "over the limit of 1024"),
    ],
)
def test_bad_usage_ends_with_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    for name, data in (
        ("some.conf", b"# a comment\nlisten=x:y:z\n[main]\nwhere=h:1\n"),
        ("bad.conf", b"[x\n"),
        ("zero.conf", b"x=127.0.0.1:0\n"),
        ("bytes", b"x=\xff\n"),
        ("long", b"#" * 1_100_000),
    ):
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind("a.sock")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ED_SIGNAL", raising=False)
    try:
        code = main(words)
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    assert sentence in failed(subprocess.CompletedProcess(words, code, said.out, said.err), 2)


# --- the rest -------------------------------------------------------------------------------------


def test_a_service_is_stopped(tmp_path: Path) -> None:
    with Program(EXAMPLES / "hello_service.py", "udp://127.0.0.1:0", folder=tmp_path) as program:
        assert signal(tmp_path, "--host", program.listening_on(), "STOP").returncode == 0
        assert program.end() == 0


def test_it_is_quick(tmp_path: Path) -> None:
    port = str(unused_port())
    words = ("--host", f"127.0.0.1:{port}", "STOP")
    assert min(cpu_seconds("ed-signal", *words, folder=tmp_path) for _ in range(3)) < 0.4


def test_the_manual_page_has_each_option(tmp_path: Path) -> None:
    check_man_page("ed-signal", tmp_path)


def test_the_commands_of_the_manual_page_run_as_they_stand(
    tmp_path: Path, own_namespaces: Callable[..., list[str]]
) -> None:
    lines = examples_of("ed-signal")
    assert lines == readme_lines("signal")
    (tmp_path / "fluid-settings.conf").write_text("listen = 127.0.0.1:4041\n", encoding="utf-8")
    done = tool_ground.run_lines(lines, own_namespaces("-n"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.replace(HOST, "HOST").splitlines()
    assert printed[:-2] == [
        "<HOST:ed_signal snap:cluckd/STOP",
        "<HOST:ed_signal snaprfs/LOG_ROTATE",
        "<HOST:ed_signal STOP",
        "<HOST:ed_signal STOP",
    ]
    assert printed[-2].startswith("HOST:ed_signal/COMMANDS list=ADD,ALIVE,HELP,")
    assert printed[-1] == "HOST:ed_signal/SUM value=42"
    assert len(lines) == len(printed)
