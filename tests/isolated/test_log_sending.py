"""Programs that log over the network: patched, forked, at their end; and killed servers."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import FORKING, Program

SERVER = """
    import os, sys
    from edgevent import Communicator, Dispatcher, Server

    service = Dispatcher()
    file = os.open("log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @service.on("LOG")
    def log(message, peer):
        line = f"{message['instance']} {message['serial']} {message['message']}\\n"
        os.write(file, line.encode())
        return message.reply("LOG_ACKNOWLEDGE")

    with Communicator() as communicator:
        communicator.stop_on("SIGTERM")
        communicator.add_connection(Server("unix:log.sock", service))
        print("listening on unix:log.sock", flush=True)
        communicator.run()
"""

BEGIN = """
    import logging, os, signal, sys, threading, time, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    from edgevent.snaplogger.handlers import TcpLogHandler

    handler = TcpLogHandler("unix:log.sock", pauses="0.02", close_timeout=20.0)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
"""


def write(folder: Path, name: str, *texts: str) -> Path:
    path = folder / name
    path.write_text("".join(map(textwrap.dedent, texts)), encoding="utf-8")
    return path


def serve(folder: Path) -> Program:
    server = Program(write(folder, "server.py", SERVER), folder=folder)
    server.listening_on()
    return server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Program]:
    with serve(tmp_path) as server:
        yield server


def run(folder: Path, *texts: str) -> str:
    with Program(write(folder, "program.py", *texts), folder=folder) as program:
        assert program.end() == 0, program.printed
        return program.printed


def texts_of(folder: Path) -> list[str]:
    lines = (folder / "log.txt").read_text(encoding="utf-8").splitlines()
    return [line.split(" ", 2)[2] for line in lines]


def test_a_program_ends_when_its_records_have_arrived(server: Program, tmp_path: Path) -> None:
    work = """
        for number in range(3000):
            logging.info("%d", number)
    """
    assert run(tmp_path, BEGIN, work) == ""
    assert texts_of(tmp_path) == [str(number) for number in range(3000)]


@pytest.mark.parametrize("first", [True, False])
def test_a_patched_program(server: Program, tmp_path: Path, first: bool) -> None:
    patch = "from gevent import monkey; monkey.patch_all()\n"
    work = """
        def work(name):
            for number in range(50):
                logging.info("%s %d", name, number)
                time.sleep(0.0001)
        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(handler.flush(20.0), handler.lost)
    """
    order = (patch, BEGIN) if first else (BEGIN, patch)
    assert run(tmp_path, *order, work) == "True 0\n"
    for name in "ab":
        mine = [text for text in texts_of(tmp_path) if text[0] == name]
        assert mine == [f"{name} {number}" for number in range(50)]


def test_a_forked_child_sends_its_own_and_not_its_parents(server: Program, tmp_path: Path) -> None:
    work = """
        logging.info("before")
        assert handler.flush(20.0)
        os.kill(SERVER, signal.SIGSTOP)
        logging.info("waits in the parent")
        child = os.fork()
        if not child:
            say(handler.waiting, sum(one.startswith("socket:") for one in open_files()))
            logging.info("of the child")
            logging.shutdown()
            os._exit(0)
        os.kill(SERVER, signal.SIGCONT)
        os.waitpid(child, 0)
        logging.info("of the parent")
    """
    pid = f"SERVER = {server.process.pid}\n"
    assert run(tmp_path, FORKING, BEGIN, pid, work) == "0 0\n"
    assert sorted(texts_of(tmp_path)) == [
        "before",
        "of the child",
        "of the parent",
        "waits in the parent",
    ]


def test_the_end_does_not_wait_for_a_server_that_is_away(tmp_path: Path) -> None:
    printed = run(tmp_path, BEGIN, 'logging.info("a")\n')
    assert printed.splitlines() == [
        "unix:log.sock: No such file or directory: log records wait until it is there again",
        "unix:log.sock: No such file or directory: log records are lost, and counted, until this"
        " ends",
        "unix:log.sock: 1 log record was lost: No such file or directory",
    ]


def kills(folder: Path, count: int) -> None:
    """Kills the server in the middle, and starts it anew, so often."""
    work = """
        number = 0
        def log(*_):
            global number
            for _ in range(20):
                logging.info("%d", number)
                number += 1
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        print("runs", flush=True)
        while not ended.wait(0.002):
            if handler.waiting < 5000:
                log()
        handler.flush(20.0)
        print("last", number, handler.waiting, handler.lost, flush=True)
    """
    (folder / "log.txt").touch()
    with Program(write(folder, "program.py", BEGIN, work), folder=folder) as program:
        program.wait_for("runs")
        for _ in range(count):
            before = os.stat(folder / "log.txt").st_size
            with serve(folder) as server:
                while os.stat(folder / "log.txt").st_size < before + 5000:
                    os.sched_yield()
                os.kill(server.process.pid, signal.SIGKILL)
            (folder / "log.sock").unlink(missing_ok=True)
        with serve(folder):
            assert program.end(signal.SIGTERM) == 0
            _, logged, waiting, lost = program.printed.splitlines()[-1].split()
    assert (waiting, lost) == ("0", "0")
    found = list(dict.fromkeys(texts_of(folder)))
    assert found == [str(number) for number in range(int(logged))]


def test_a_server_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    kills(tmp_path, 3)


@pytest.mark.slow
def test_a_server_that_is_killed_often_loses_nothing(tmp_path: Path) -> None:
    kills(tmp_path, 20)
