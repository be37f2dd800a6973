"""FIFOs: from a shell, from programs, one way and both, and what becomes of their files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import subprocess
from gevent.event import Event
from network_ground import PATIENCE, Ground, MovedClock, echo, run_program, until

from edgevent import (
    Address,
    Client,
    ConnectError,
    ConnectionLostError,
    Dispatcher,
    LineConnection,
    ListenError,
    Message,
    MessageConnection,
    PermanentConnection,
    Server,
    StreamConnection,
    UsageError,
    connect,
)
from edgevent.testing.exchange import Pull, fill
from edgevent.transport import fifo_listen
from edgevent.transport.dial import dial
from edgevent.transport.fd import FdTransport
from edgevent.transport.fifo_listen import FifoListener, FifoSession, listen_fifo


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every path of these tests is one of this folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sh(command: str, *arguments: str) -> str:
    """Runs shell lines while the hub goes on; gives what they print."""
    done = subprocess.run(
        ["sh", "-c", command, "sh", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    return str(done.stdout)


class Heard(Dispatcher):
    """Keeps what it hears, and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.otherwise(self._hear)

    def _hear(self, message: Message, peer: Any) -> Message:
        self.heard.append(str(message))
        return message.reply("HEARD", {"command": message.command})


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Opens a FIFO for writing."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def listener() -> Iterator[FifoListener]:
    """A listener with one FIFO for requests, named ``in``, and one for answers."""
    found = listen_fifo(Address.parse("fifo:in,out"), None, None)
    yield found
    found.close()


# --- from a shell ---------------------------------------------------------------------------------


def test_every_one_of_many_quick_writers_is_heard(ground: Ground) -> None:
    service = Heard()
    ground.serve(service, "fifo:in")
    sh("for i in $(seq 500); do echo PING n=$i > in; done")
    until(lambda: len(service.heard) == 500)
    assert service.heard == [f"PING n={i}" for i in range(1, 501)]


def test_writers_at_the_same_time_are_all_heard(ground: Ground) -> None:
    service = Heard()
    ground.serve(service, "fifo:in")
    sh("for w in a b c d; do (for i in $(seq 50); do echo PING n=$w$i > in; done) & done; wait")
    until(lambda: len(service.heard) == 200)
    assert set(service.heard) == {f"PING n={w}{i}" for w in "abcd" for i in range(1, 51)}


def test_a_shell_gets_its_answer_though_it_reads_later(ground: Ground) -> None:
    ground.serve(echo(), "fifo:in,out")
    for text in ("one", "two"):
        assert sh(f"echo ECHO text={text} > in; cat out") == f"ECHOED text={text}\n"
    assert sh("cat out & echo ECHO text=three > in; wait") == "ECHOED text=three\n"


def test_a_shell_that_stays_gets_answer_after_answer(ground: Ground) -> None:
    server = ground.serve(echo(), "fifo:in,out")
    printed = sh(
        "exec 3> in; echo ECHO text=one >&3; exec 4< out; read line <&4; echo got $line;"
        "echo ECHO text=two >&3; read line <&4; echo got $line; exec 4<&- 3>&-"
    )
    assert printed == "got ECHOED text=one\ngot ECHOED text=two\n"
    until(lambda: not server.peers)
    assert server.counts["accepted"] == 1


def test_a_shell_that_stays_but_reads_anew_gets_further_answers(ground: Ground) -> None:
    ground.serve(echo(), "fifo:in,out")
    printed = sh(
        "exec 3> in; for i in 1 2 3; do echo ECHO text=$i >&3; head -n 1 out; done; exec 3>&-"
    )
    assert printed == "ECHOED text=1\nECHOED text=2\nECHOED text=3\n"


def test_socat_speaks_to_both_fifos(ground: Ground, need_tool: Callable[..., str]) -> None:
    socat = need_tool("socat", package="socat")
    ground.serve(echo(), "fifo:in,out")
    printed = sh(
        f"printf 'ECHO text=%s\\n' a b c | {socat} -u - OPEN:in,wronly;"
        f" {socat} -u OPEN:out,rdonly -"
    )
    assert printed == "ECHOED text=a\nECHOED text=b\nECHOED text=c\n"


# --- sessions -------------------------------------------------------------------------------------


def test_a_last_line_without_a_newline_is_not_glued_to_the_next_writers_first(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    service = Heard()
    server = ground.serve(service, "fifo:in")
    for count in (1, 2):
        sh("printf PI > in")
        until(lambda count=count: logged("without a newline")[count - 1 :] and not server.peers)
        sh("echo PING > in")
        until(lambda count=count: len(service.heard) == count)
    assert service.heard == ["PING", "PING"]


def test_what_comes_between_two_sessions_is_the_second_ones(listener: FifoListener) -> None:
    with opened("in") as writer:
        os.write(writer, b"first")
        first = listener.accept()
        assert first.receive(100) == b"first"
    assert first.receive(100) == b""
    with opened("in") as writer:
        os.write(writer, b"second")
    assert first.receive(100) == b""  # its end is its end
    first.close()
    second = listener.accept()
    pull = Pull(second)
    pull.wait_for_end()  # which no poll tells: its writer had left before the FIFO was opened again
    assert (bytes(pull.data), pull.ends) == (b"second", 1)
    second.close()


def test_a_session_of_exactly_one_read_ends(listener: FifoListener) -> None:
    with opened("in") as writer:
        os.write(writer, b"x" * 4096)
    session = listener.accept()
    pull = Pull(session, 4096)
    pull.wait_for_end()
    assert pull.data == b"x" * 4096
    session.close()


def test_writers_that_leave_without_a_word_are_no_session(listener: FifoListener) -> None:
    for _ in range(3):
        with opened("in"), pytest.raises(BlockingIOError):
            listener.accept()
        with pytest.raises(BlockingIOError):
            listener.accept()
    with opened("in") as writer:
        os.write(writer, b"x")
        session = listener.accept()
        with pytest.raises(BlockingIOError):
            listener.accept()  # one at a time
        session.close()


def test_a_closed_handler_leaves_the_rest_to_the_next_session(listener: FifoListener) -> None:
    with opened("in") as writer:
        os.write(writer, b"first")
        first = listener.accept()
        first.receive(100)
        first.finish()
        os.write(writer, b"second")
        first.close()
        second = listener.accept()
        assert second.receive(100) == b"second"
        second.close()


def test_nothing_turns_while_nobody_writes(ground: Ground) -> None:
    service = Heard()
    server = ground.serve(service, "fifo:in")
    other = ground.serve(service, "fifo:requests,answers")
    for command in (":> in; :> requests", "echo ONE > in; echo ONE > requests; cat answers"):
        sh(command)
        until(lambda: not (server.peers or other.peers))
        loop = gevent.get_hub().loop
        before = loop.iteration
        gevent.sleep(0.1)
        assert loop.iteration - before < 20
    assert len(service.heard) == 2


def test_a_fifo_that_cannot_be_opened_again_is_read_all_the_same(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, logged: Callable[[str], list[str]]
) -> None:
    service = Heard()
    ground.serve(service, "fifo:in")
    reopen = fifo_listen._reopen

    def fail(*arguments: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(fifo_listen, "_reopen", fail)
    for n in range(3):
        sh(f"echo ONE n={n} > in")
        until(lambda n=n: len(service.heard) == n + 1)
    assert len(logged("not opened again yet: Too many open files")) == 1
    monkeypatch.setattr(fifo_listen, "_reopen", reopen)
    until(lambda: len(service.heard) == 3)
    sh("echo ONE n=3 > in")
    until(lambda: len(service.heard) == 4)


# --- answers --------------------------------------------------------------------------------------


def test_a_one_way_fifo_has_no_answers_and_says_so_quietly(
    ground: Ground, logged: Callable[[str], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    service = echo()
    server = ground.serve(service, "fifo:in")
    with Client("fifo:in") as client:
        for text in ("a", "b"):
            client.send(Message("ECHO", {"text": text}))
        client.send(Message("NOBODY_KNOWS_IT"))
        client.send(Message("ECHO"))  # lacks its parameter
        until(lambda: len(logged("this side only reads it")) == 4)
        assert len(server.peers) == 1
    worse = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(worse) == 1, worse
    assert "refused ECHO" in worse[0]


def test_a_request_over_a_one_way_fifo_is_an_error_at_once(ground: Ground) -> None:
    ground.serve(echo(), "fifo:in")
    with Client("fifo:in") as client:
        for _ in range(2):
            with pytest.raises(UsageError, match=r"no answer can come, fifo:in is only written"):
                client.request(Message("ECHO", {"text": "a"}))
        client.send(Message("ECHO", {"text": "b"}))  # it can still send


def test_a_send_to_a_one_way_session_is_an_error_that_names_the_reason(ground: Ground) -> None:
    raised: list[Exception] = []
    lines: list[bytes] = []

    class Lines(LineConnection):
        def process_line(self, line: bytes) -> None:
            lines.append(line)
            try:
                self.write_line(b"answer")
            except ConnectionLostError as error:
                raised.append(error)

    ground.serve(Lines, "fifo:in")
    sh("printf 'one\\ntwo' > in")
    until(lambda: len(raised) == 2)
    assert lines == [b"one", b"two"]
    assert all(str(one) == "sending to fifo:in failed: this side only reads it" for one in raised)


def test_answers_that_nobody_reads_end_their_session_alone(
    moved: Ground, clock: MovedClock, logged: Callable[[str], list[str]]
) -> None:
    server = moved.serve(echo(), "fifo:in,out")
    sh("echo ECHO text=unread > in")
    until(lambda: clock.pending > 1)
    clock.advance(5.0)
    assert server.peers
    clock.advance(6.0)
    until(lambda: not server.peers)
    assert len(logged("is a slow consumer")) == 1
    assert sh("echo ECHO text=read > in; cat out") == "ECHOED text=read\n"


@pytest.fixture
def session(listener: FifoListener) -> Iterator[FifoSession]:
    """A session whose writer stays."""
    with opened("in") as writer:
        os.write(writer, b"x")
        found = listener.accept()
        assert found.receive(1) == b"x"
        yield found
        found.close()


def reader_of_answers() -> FdTransport:
    return FdTransport(os.open("out", os.O_RDONLY | os.O_NONBLOCK), -1, peer="out", fresh=True)


def test_the_rest_waits_for_another_reader_when_one_has_left(session: FifoSession) -> None:
    first = reader_of_answers()
    _, refused = fill(session)
    tried: list[object] = []
    room = Event()

    def try_again() -> None:
        try:
            tried.append(session.transmit(refused))
        except BlockingIOError as error:
            tried.append(str(error))
        else:
            session.unwatch_write()
            room.set()

    session.watch_write(try_again)
    first.close()
    until(lambda: tried)
    assert tried == ["[Errno 11] nobody reads the answers yet"]
    second = reader_of_answers()
    assert room.wait(PATIENCE)
    pull = Pull(second)
    session.shutdown_write()
    pull.wait_for_end()
    assert pull.data == refused[: tried[-1]]
    second.close()


def test_a_reader_that_has_left_with_its_writer_is_an_error(listener: FifoListener) -> None:
    reader = reader_of_answers()
    with opened("in") as writer:
        os.write(writer, b"x")
        session = listener.accept()
        session.transmit(b"answer")
    reader.close()
    with pytest.raises(BrokenPipeError):
        session.transmit(b"more")
    session.close()


def test_answers_wait_while_there_is_no_descriptor(
    session: FifoSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = reader_of_answers()
    code = errno.EMFILE

    def fail(*arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(BlockingIOError):
        session.transmit(b"x")
    code = errno.EACCES
    with pytest.raises(PermissionError):
        session.transmit(b"x")
    called = Event()
    session.watch_write(called.set)
    assert called.wait(PATIENCE)  # its transmit meets the error, too
    session.unwatch_write()
    session.shutdown_write()  # which cannot tell the reader
    monkeypatch.undo()
    with pytest.raises(BrokenPipeError):
        session.transmit(b"x")
    reader.close()


# --- programs -------------------------------------------------------------------------------------


def test_clients_ask_one_after_the_other(ground: Ground) -> None:
    ground.serve(echo(), "fifo:in,out")
    for text in ("one", "two", "three"):
        with Client("fifo:out,in") as client:
            answer = client.request(Message("ECHO", {"text": text}))
            assert (answer.command, answer["text"]) == ("ECHOED", text)


def test_straight_line_code_speaks_over_two_fifos(ground: Ground) -> None:
    def conversation(connection: MessageConnection) -> None:
        for message in connection:
            connection.send(message.reply("YES"))
            if message.command == "LAST":
                return

    ground.serve(conversation, "fifo:in,out")
    with Client("fifo:out,in") as client:
        assert client.request(Message("FIRST")).command == "YES"
        assert client.request(Message("LAST")).command == "YES"
        with pytest.raises(ConnectionLostError):
            client.receive(PATIENCE)


def test_a_conversation_that_said_nothing_ends_for_its_client_too(ground: Ground) -> None:
    ground.serve(lambda connection: connection.receive(), "fifo:in,out")
    with Client("fifo:out,in") as client:
        client.send(Message("ONE"))
        with pytest.raises(ConnectionLostError):
            client.receive(PATIENCE)


def test_a_plain_stream_goes_over_fifos_too(ground: Ground) -> None:
    ground.serve(echo(), "fifo:in,out")
    with connect("fifo:out,in") as stream:
        stream.write(b"ECHO text=plain\n")
        assert stream.read_line(PATIENCE) == b"ECHOED text=plain\n"


def test_a_fifo_is_read_where_that_is_asked_for(ground: Ground) -> None:
    os.mkfifo("f")
    reader = LineConnection("fifo:f", access="read")
    with pytest.raises(ConnectionLostError, match="this side only reads it"):
        reader.write_line(b"x")
    sh("printf 'one\\ntwo\\nthree' > f")
    assert list(reader) == [b"one", b"two", b"three"]
    reader.close()


def test_the_local_side_may_control(ground: Ground) -> None:
    server = ground.serve(Dispatcher(), "fifo:in")
    sh("echo STOP > in")
    assert ground.runner.get(timeout=PATIENCE) is True
    assert server.is_closed


@pytest.mark.parametrize("size", [100, 4000])
def test_lines_of_several_writers_stay_whole(ground: Ground, size: int) -> None:
    service = Heard()
    ground.serve(service, "fifo:in")
    program = (
        "import sys; from edgevent import *\n"
        "with Client('fifo:in') as client:\n"
        "    for n in range(int(sys.argv[2])):\n"
        "        client.send(Message('LINE', {'text': sys.argv[1] * int(sys.argv[3])}))"
    )
    count = 400_000 // size
    running = [gevent.spawn(run_program, program, letter, count, size) for letter in "abc"]
    gevent.joinall(running, raise_error=True)
    until(lambda: len(service.heard) == 3 * count)
    texts = {letter: f"LINE text={letter * size}" for letter in "abc"}
    assert {text: service.heard.count(text) for text in texts.values()} == dict.fromkeys(
        texts.values(), count
    )


FLOOD = """
import sys
import gevent.subprocess
from edgevent import Client, Communicator, Dispatcher, Message, Server

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

WRITER = '''
import sys
size, sent = int(sys.argv[1]), 0
try:
    with open("in", "wb", 0) as fifo:
        while sent < size:
            sent += fifo.write(b"x" * 65536)
except BrokenPipeError:
    print("cut")
'''

def flood(size):
    return gevent.subprocess.check_output([sys.executable, "-c", WRITER, str(size)])

with Communicator() as communicator:
    server = communicator.add_connection(Server("fifo:in,out", Dispatcher()))
    gevent.spawn(communicator.run)
    for _ in range(5):
        flood(1_000_000)
    before = peak()
    assert flood(int(sys.argv[1])) == b"cut\\n"
    print(peak() - before)
    with Client("fifo:out,in", wait=True) as client:
        assert client.request(Message("ALIVE"), reply="ABSOLUTELY")
"""


@pytest.mark.parametrize(
    "size", [64 << 20, pytest.param(1 << 30, marks=pytest.mark.slow)], ids=["64 MiB", "1 GiB"]
)
def test_a_flood_without_a_newline_is_cut_before_it_costs_memory(size: int) -> None:
    assert int(run_program(FLOOD, size)) < 2 * 64 + 4096


# --- links that come back -------------------------------------------------------------------------


def test_a_link_finds_a_reader_that_comes_back(ground: Ground) -> None:
    os.mkfifo("f")
    link = ground.communicator.add_connection(PermanentConnection("fifo:f", pauses="0.02"))
    failures: list[Exception] = []
    link.on_connection_failed(lambda _, error: failures.append(error))
    until(lambda: failures)
    assert str(failures[0]) == "fifo:f: f: nobody reads it"
    for n in range(3):
        link.send(Message("NUMBER", {"n": n}), cache=True)
        assert sh("head -n 1 f") == f"NUMBER n={n}\n"
        until(lambda: not link.is_connected)
    link.close()


def test_a_link_finds_a_service_that_comes_back(ground: Ground) -> None:
    link = ground.communicator.add_connection(PermanentConnection("fifo:out,in", pauses="0.02"))
    for text in ("one", "two", "three"):
        server = ground.serve(echo(), "fifo:in,out")
        link.wait_until_up(PATIENCE)
        assert link.request(Message("ECHO", {"text": text}), timeout=PATIENCE)["text"] == text
        server.close()
        for peer in server.peers:
            peer.close()
        until(lambda: not link.is_connected)
    link.close()


def test_a_link_that_reads_comes_back_for_the_next_writer(ground: Ground) -> None:
    os.mkfifo("f")
    service = Heard()
    link = ground.communicator.add_connection(
        PermanentConnection("fifo:f", service, access="read", pauses="0.02")
    )
    for count in (1, 2, 3):
        link.wait_until_up(PATIENCE)
        sh("echo NEWS > f")
        until(lambda count=count: len(service.heard) == count and link.attempts > count)
    link.close()


def test_a_link_notices_that_a_service_leaves_that_has_never_answered(ground: Ground) -> None:
    server = ground.serve(Dispatcher(), "fifo:in,out")
    link = ground.communicator.add_connection(PermanentConnection("fifo:out,in", pauses="0.02"))
    link.wait_until_up(PATIENCE)
    server.close()
    until(lambda: not link.is_connected)
    link.close()


def test_a_waiting_client_waits_until_somebody_reads(ground: Ground) -> None:
    gevent.spawn_later(0.05, ground.serve, echo(), "fifo:in,out")
    with Client("fifo:out,in", wait=True, connect_timeout=PATIENCE) as client:
        assert client.request(Message("ECHO", {"text": "late"}))["text"] == "late"


def test_an_answer_that_was_waiting_still_leaves_when_the_service_has_closed(
    ground: Ground,
) -> None:
    server = ground.serve(echo(), "fifo:in,out")
    late = os.open("out", os.O_PATH)
    sh("echo ECHO text=last > in")
    until(lambda: server.peers and server.peers[0].outbox.size)
    server.close()
    assert os.listdir() == []
    reader = os.open(f"/proc/self/fd/{late}", os.O_RDONLY | os.O_NONBLOCK)
    os.close(late)
    with StreamConnection(FdTransport(reader, -1, peer="late", fresh=True)) as stream:
        assert stream.receive(PATIENCE) == b"ECHOED text=last\n"
        assert stream.receive_or_end(PATIENCE) == b""


# --- what cannot be dialled -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("fifo:missing", "missing: No such file or directory"),
        ("fifo:file", "file is no FIFO"),
        ("fifo:.", ". is no FIFO"),
        ("fifo:lonely", "lonely: nobody reads it"),
        ("fifo:lonely,missing", "missing: No such file or directory"),
        ("fifo:lonely,lonelier", "lonelier: nobody reads it"),
    ],
)
def test_what_cannot_be_dialled_is_named(address: str, reason: str) -> None:
    Path("file").touch()
    os.mkfifo("lonely")
    os.mkfifo("lonelier")
    with pytest.raises(ConnectError) as raised:
        Client(address)
    assert str(raised.value) == f"{address}: {reason}"


def test_an_access_that_is_none_is_refused(listener: FifoListener) -> None:
    with pytest.raises(UsageError, match="goes both ways"):
        dial(Address.parse("fifo:out,in"), access="read")
    with pytest.raises(UsageError, match="'read' or 'write' was expected"):
        dial(Address.parse("fifo:in"), access="both")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="goes both ways"):
        StreamConnection("tcp://127.0.0.1:1", access="read")


# --- files ----------------------------------------------------------------------------------------


def mode(path: str) -> int:
    found = os.stat(path)
    assert stat.S_ISFIFO(found.st_mode)
    return stat.S_IMODE(found.st_mode)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 0o600),
        ({"mode": 0o622}, 0o622),
        ({"group": os.getgid()}, 0o660),
        ({"group": os.getgid(), "mode": 0o620}, 0o620),
    ],
)
@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_a_fifo_is_made_with_its_mode_and_removed(
    settings: dict[str, Any], expected: int, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[int] = []
    chmod = os.chmod

    def see(path: str, mode: int) -> None:
        before.append(stat.S_IMODE(os.stat(path).st_mode))
        chmod(path, mode)

    monkeypatch.setattr(os, "chmod", see)
    former = os.umask(umask)
    try:
        with Server("fifo:in,out", **settings):
            assert [mode("in"), mode("out")] == [expected] * 2
    finally:
        os.umask(former)
    assert before == [0, 0]  # nobody could open them before
    assert os.listdir() == []


def test_a_fifo_that_was_there_stays_with_its_mode_unless_another_one_is_asked_for() -> None:
    os.mkfifo("in", 0o640)
    Server("fifo:in").close()
    assert mode("in") == 0o640
    Server("fifo:in", mode=0o600).close()
    assert mode("in") == 0o600


def test_a_fifo_of_others_that_has_its_path_now_stays() -> None:
    with Server("fifo:in"):
        os.unlink("in")
        os.mkfifo("in", 0o600)
    assert os.listdir() == ["in"]
    with Server("fifo:new"):
        os.unlink("new")
    assert os.listdir() == ["in"]


def test_a_fifo_is_removed_from_where_it_was_made(tmp_path: Path) -> None:
    with Server("fifo:in"):
        os.mkdir("elsewhere")
        os.chdir("elsewhere")
    assert os.listdir(tmp_path) == ["elsewhere"]


def test_a_link_to_a_fifo_will_do(ground: Ground) -> None:
    os.mkfifo("in")
    os.symlink("in", "link")
    service = Heard()
    server = ground.serve(service, "fifo:link")
    sh("echo ONE > in")
    until(lambda: service.heard)
    server.close()
    assert sorted(os.listdir()) == ["in", "link"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("fifo:file", "{}/file is no FIFO"),
        ("fifo:.", "{} is no FIFO"),
        ("fifo:new,file", "{}/file is no FIFO"),
        ("fifo:dangling", "{}/dangling: No such file or directory"),
        ("fifo:missing/in", "{}/missing/in: No such file or directory"),
        ("fifo:in,in", "requests and answers need a FIFO each"),
        ("fifo:read,out", "somebody reads it already"),
    ],
)
def test_where_no_fifo_can_be_the_error_names_the_path(
    address: str, reason: str, folder: Path
) -> None:
    Path("file").write_text("kept")
    os.symlink("nowhere", "dangling")
    with Server("fifo:read"):
        there = sorted(os.listdir())
        with pytest.raises(ListenError) as raised:
            Server(address)
        assert str(raised.value) == f"{address}: {reason.format(folder)}"
        assert sorted(os.listdir()) == there
    assert Path("file").read_text() == "kept"


def test_a_group_that_is_none_is_named() -> None:
    with pytest.raises(ListenError, match="there is no group 'no-such-group'"):
        Server("fifo:in", group="no-such-group")
    assert os.listdir() == []


NOBODY = """
import os, sys
import gevent
from edgevent import ConnectError, ListenError, Client, Server
gevent.get_hub()  # what it imports may be out of the other user's reach
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[1]))
for make, address in ((Server, "fifo:new"), (Server, "fifo:in"), (Client, "fifo:in")):
    try:
        make(address)
    except (ConnectError, ListenError) as error:
        print(error)
"""


def test_a_folder_or_a_fifo_without_permission_is_named(
    open_folder: Path, nobody: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(open_folder)
    with Server("fifo:in"):
        printed = run_program(NOBODY, nobody.pw_uid, nobody.pw_gid)
    assert printed.splitlines() == [
        f"fifo:new: {open_folder}/new: Permission denied",
        "fifo:in: in: Permission denied",
        "fifo:in: in: Permission denied",
    ]


def test_users_are_known_of_sockets_only() -> None:
    with pytest.raises(UsageError, match="users and groups are known of Unix sockets only"):
        Server("fifo:in", allow_users=["root"])
    assert os.listdir() == []
