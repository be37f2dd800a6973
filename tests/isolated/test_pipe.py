"""A pipe between a parent and its child: each has its own end, and nobody else has any."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from gevent import subprocess
from running import FORKING, ROOT, Program

from edgevent import (
    ClosedError,
    ConnectionLostError,
    LineConnection,
    Message,
    MessageConnection,
    Pipe,
    StreamConnection,
    UsageError,
)

PATIENCE = 30.0

BEGIN = """
    import logging, os, sys, warnings
    import gevent
    from edgevent import *

    warnings.simplefilter("ignore", DeprecationWarning)
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout)

    service = Dispatcher()

    @service.on("ADD")
    def add(message, peer, a: int, b: int):
        return message.reply("SUM", {"value": a + b, "pid": os.getpid()})

    def fork(work):
        child = os.fork()
        if child:
            return child
        try:
            work()
            say("child done")
        except BaseException as error:
            say("child failed", repr(error))
        finally:
            os._exit(0)

    def pipes():
        return sum(one.startswith(("socket:", "pipe:")) for one in open_files())

    def serve():
        with Communicator() as communicator:
            communicator.add_connection(MessageConnection(pipe.open(), service))
            communicator.run()
"""


def run(folder: Path, text: str) -> list[str]:
    path = folder / "program.py"
    path.write_text(FORKING + textwrap.dedent(BEGIN) + textwrap.dedent(text), encoding="utf-8")
    with Program(path, folder=folder) as program:
        assert program.end() == 0, program.printed
        return program.lines


@pytest.mark.parametrize("used", ["a new hub", "a hub that has waited"])
def test_a_parent_asks_its_child_until_it_closes(tmp_path: Path, used: str) -> None:
    printed = run(
        tmp_path,
        f"""
        if {used!r} == "a hub that has waited":
            gevent.sleep(0.001)
        pipe = Pipe()
        child = fork(serve)
        with MessageConnection(pipe.open()) as connection:
            for a in range(3):
                answer = connection.request(Message("ADD", {{"a": a, "b": 40}}), timeout=20.0)
                say(answer["value"], answer.integer("pid") == child, connection.authenticated)
        os.waitpid(child, 0)
        """,
    )
    assert printed == ["40 True True", "41 True True", "42 True True", "child done"]


def test_a_child_asks_its_parent_and_its_end_is_seen(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        def ask():
            with MessageConnection(pipe.open()) as connection:
                say(connection.request(Message("ADD", {"a": 2, "b": 40}), timeout=20.0)["value"])

        with Communicator() as communicator:
            pipe = Pipe()
            child = fork(ask)
            communicator.add_connection(MessageConnection(pipe.open(), service))
            communicator.run()
        os.waitpid(child, 0)
        """,
    )
    assert printed == ["42", "child done"]


def test_lines_go_to_the_childs_input_and_come_from_its_output(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        to_child, from_child = Pipe("child-input"), Pipe("child-output")

        def turn():
            source, sink = LineConnection(to_child.open()), LineConnection(from_child.open())
            for line in source:
                sink.write_line(line[::-1])
            sink.close()

        child = fork(turn)
        sink, source = LineConnection(to_child.open()), LineConnection(from_child.open())
        for line in (b"abc", b"def"):
            sink.write_line(line)
            say(source.receive(20.0), source.address)
        sink.close()
        say(list(source))
        os.waitpid(child, 0)
        """,
    )
    assert printed == ["b'cba' pipe:child", "b'fed' pipe:child", "child done", "[]"] or printed == [
        "b'cba' pipe:child",
        "b'fed' pipe:child",
        "[]",
        "child done",
    ]


@pytest.mark.parametrize("kind", ["both", "child-input", "child-output"])
def test_each_process_holds_its_own_end_alone(tmp_path: Path, kind: str) -> None:
    printed = run(
        tmp_path,
        f"""
        before = pipes()
        pipe = Pipe({kind!r})

        def hold():
            transport = pipe.open()
            say("child", pipes() - before, pipe)
            transport.close()

        os.waitpid(fork(hold), 0)
        transport = pipe.open()
        say("parent", pipes() - before, pipe)
        os.waitpid(fork(lambda: say("another", pipes() - before)), 0)
        transport.close()
        """,
    )
    assert printed == [
        f"child 1 <Pipe {kind} opened or closed>",
        "child done",
        f"parent 1 <Pipe {kind} opened or closed>",
        "another 0",
        "child done",
    ]


def test_a_forked_child_holds_nothing_of_fifos_and_descriptors(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        def links():
            return [one for one in open_files() if one.endswith(("/in", "/out")) or "pipe:" in one]

        gevent.sleep(0.001)
        before = sorted(links())
        with Communicator() as communicator:
            server = communicator.add_connection(Server("fifo:in,out", service))
            gevent.spawn(communicator.run)
            client = Client("fifo:out,in")
            say(client.request(Message("ADD", {"a": 1, "b": 1}), timeout=20.0)["value"])
            taken = [StreamConnection(f"fd:{number}") for number in os.pipe()]
            say(len(links()) > len(before) + 4)
            os.waitpid(fork(lambda: say(sorted(links()) == before, os.path.exists("in"))), 0)
            say(client.request(Message("ADD", {"a": 1, "b": 2}), timeout=20.0)["value"])
            for one in (client, *taken):
                one.close()
        say(os.path.exists("in"))
        """,
    )
    assert printed == ["2", "True", "True True", "child done", "3", "False"]


# --- programs that are no fork --------------------------------------------------------------------

SERVER = """
import sys
from edgevent import Communicator, Dispatcher, MessageConnection
service = Dispatcher()
service.on("ASK")(lambda message, peer: message.reply("ANSWER"))
with Communicator() as communicator:
    communicator.add_connection(MessageConnection(sys.argv[1], service))
    communicator.run()
print("ended", flush=True)
"""

SPEAKER = """
import sys
from edgevent import LineConnection
with LineConnection(sys.argv[1]) as lines:
    lines.write_line(b"one")
    lines.write_line(b"two")
"""

LISTENER = """
import sys
from edgevent import LineConnection
with LineConnection(sys.argv[1]) as lines:
    for line in lines:
        print(line.decode(), flush=True)
"""


def start(program: str, pipe: Pipe) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program, pipe.child_address],
        pass_fds=pipe.child_fds,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )


def test_a_program_is_asked_over_a_pipe() -> None:
    pipe = Pipe()
    with start(SERVER, pipe) as child:
        with MessageConnection(pipe.open()) as connection:
            assert connection.request(Message("ASK"), timeout=PATIENCE).command == "ANSWER"
        assert child.stdout.read() == b"ended\n"


def test_a_program_writes_to_its_parent() -> None:
    pipe = Pipe("child-output")
    with start(SPEAKER, pipe), LineConnection(pipe.open()) as lines:
        assert list(lines) == [b"one", b"two"]


def test_a_program_reads_from_its_parent() -> None:
    pipe = Pipe("child-input")
    with start(LISTENER, pipe) as child:
        with LineConnection(pipe.open()) as lines:
            lines.write_line(b"one")
            assert child.stdout.readline() == b"one\n"
            lines.write_line(b"two")
            lines.close()
        assert child.stdout.read() == b"two\n"


def test_a_plain_program_has_pipes_that_wait() -> None:
    source, sink = Pipe("child-input"), Pipe("child-output")
    with subprocess.Popen(["sort"], stdin=source.child_fds[0], stdout=sink.child_fds[0]):
        with StreamConnection(source.open()) as lines:
            lines.write(b"b\na\n" * 50_000)
            while lines.outbox.size:
                lines.outbox.wait(PATIENCE)
        with StreamConnection(sink.open()) as answers:
            received = b"".join(answers)
    assert received == b"a\n" * 50_000 + b"b\n" * 50_000


def test_the_end_of_a_child_is_seen() -> None:
    pipe = Pipe("child-input")
    with subprocess.Popen(["true"], pass_fds=pipe.child_fds):
        connection = MessageConnection(pipe.open())
        with pytest.raises(ConnectionLostError):
            connection.receive(PATIENCE)
        connection.close()


# --- misuse ---------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with Pipe("child-input") as found:
        yield found


def test_an_end_is_opened_once(pipe: Pipe) -> None:
    transport = pipe.open()
    for use in (pipe.open, lambda: pipe.child_fds, lambda: pipe.child_address):
        with pytest.raises(ClosedError, match="was opened or closed already"):
            use()
    transport.close()


def test_a_pipe_that_is_not_opened_is_closed(pipe: Pipe) -> None:
    (descriptor,) = pipe.child_fds
    assert (pipe.child_address, pipe.is_parent) == (f"fd:{descriptor}", True)
    assert repr(pipe) == "<Pipe child-input made>"
    assert not os.get_inheritable(descriptor)
    pipe.close()
    pipe.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_kind_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="'output' is no kind of pipe: both, child-input, child-"):
        Pipe("output")  # type: ignore[arg-type]
