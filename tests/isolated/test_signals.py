"""Signals end a program as they should: whole programs, one a test."""

from __future__ import annotations

import signal
import socket
import textwrap
from pathlib import Path

import pytest
from running import Program

PROGRAM = """
    import logging, signal, sys
    import gevent
    from gevent.event import Event
    from edgevent import Communicator, Dispatcher, Message, Server

    logging.basicConfig(level=logging.INFO, stream=sys.stdout)

    def say(text):
        print(text, flush=True)

    service, gate = Dispatcher(), Event()

    @service.on("WAIT")
    def wait(message, peer):
        say("waiting")
        gate.wait()
        say("waited")

    @service.on("LATER")
    def later(message, peer):
        say("working")
        gevent.sleep(0.05)  # the work
        return message.reply("DONE")

    with Communicator(drain_timeout=1000.0) as communicator:
        communicator.stop_on("SIGTERM", "INT", signal.SIGHUP)
        server = communicator.add_connection(Server("tcp://127.0.0.1:0", service))
        say(f"listening on {server.addresses[0]}")
        result = communicator.run()
        say(f"run returned {result}")
    say("end")
"""


def start(folder: Path, text: str = PROGRAM) -> Program:
    path = folder / "program.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return Program(path, folder=folder)


def ask(address: str, line: bytes) -> socket.socket:
    host, _, port = address.removeprefix("tcp://").partition(":")
    peer = socket.create_connection((host, int(port)), timeout=20.0)
    peer.sendall(line)
    return peer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_an_idle_program_well(tmp_path: Path, number: int) -> None:
    with start(tmp_path) as program:
        program.listening_on()
        assert program.end(number) == 0
        assert program.printed.splitlines()[-2:] == ["run returned True", "end"]


def test_the_first_signal_lets_handlers_end_and_answers_leave(tmp_path: Path) -> None:
    with start(tmp_path) as program:
        with ask(program.listening_on(), b"LATER serial=1\n") as peer:
            program.wait_for("working")
            assert program.end(signal.SIGTERM) == 0
            assert peer.recv(100) == b"DONE serial=1\n"
            assert peer.recv(100) == b""
        assert "run returned True" in program.printed


def test_the_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with start(tmp_path) as program:
        with ask(program.listening_on(), b"WAIT\n") as peer:
            program.wait_for("waiting")
            program.process.send_signal(signal.SIGTERM)
            program.wait_for("stopping")
            assert program.end(signal.SIGINT) == 0
            assert peer.recv(100) == b""
        assert "did not end in time" in program.printed
        assert program.printed.endswith("run returned True\nend\n")
        assert "waited" not in program.printed


def test_many_that_come_at_once_are_one(tmp_path: Path) -> None:
    program = """
        import os, signal
        import gevent
        from edgevent import Communicator

        def work():
            for _ in range(1000):
                os.kill(os.getpid(), signal.SIGTERM)
            gevent.sleep(0.01)
            print("worked")

        with Communicator() as communicator:
            communicator.stop_on("SIGTERM")
            communicator.every(0.001, work)
            print("run returned", communicator.run())
    """
    with start(tmp_path, program) as running:
        assert running.end() == 0
        assert running.printed == "worked\nrun returned True\n"


def test_a_signal_before_run_ends_it_as_it_begins(tmp_path: Path) -> None:
    program = """
        import os, signal
        from edgevent import Communicator

        with Communicator() as communicator:
            communicator.stop_on("SIGTERM")
            communicator.every(1000.0, int)
            os.kill(os.getpid(), signal.SIGTERM)
            print("run returned", communicator.run())
    """
    with start(tmp_path, program) as running:
        assert running.end() == 0
        assert running.printed == "run returned True\n"


def test_what_a_signal_did_before_comes_back(tmp_path: Path) -> None:
    program = """
        import os, signal
        from edgevent import Communicator

        def own(number, frame):
            print("own handler", number, flush=True)

        signal.signal(signal.SIGTERM, own)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        first, second = Communicator(), Communicator()
        first.stop_on("SIGTERM", "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
        second.stop_on("SIGTERM")
        first.close()
        second.every(1000.0, int)
        os.kill(os.getpid(), signal.SIGTERM)
        print("second", second.run())  # the first's end has taken nothing from it
        second.close()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        os.kill(os.getpid(), signal.SIGUSR1)
        print("not reached")
    """
    with start(tmp_path, program) as running:
        assert running.end() == -signal.SIGUSR1
        assert running.printed.splitlines() == ["second True", "own handler 15", "interrupted"]


def test_two_communicators_are_both_stopped(tmp_path: Path) -> None:
    program = """
        import os, signal
        import gevent
        from edgevent import Communicator

        both = [Communicator(), Communicator()]
        running = []
        for communicator in both:
            communicator.stop_on("SIGTERM")
            communicator.every(1000.0, int)
            running.append(gevent.spawn(communicator.run))
        gevent.idle()
        os.kill(os.getpid(), signal.SIGTERM)
        print([one.get() for one in running])
    """
    with start(tmp_path, program) as running:
        assert running.end() == 0
        assert running.printed == "[True, True]\n"


def test_without_stop_on_an_interrupt_reaches_the_program(tmp_path: Path) -> None:
    program = """
        from edgevent import Communicator

        with Communicator() as communicator:
            communicator.every(1000.0, int)
            communicator.after(0, lambda: print("running", flush=True))
            try:
                communicator.run()
            except KeyboardInterrupt:
                print("interrupted")
    """
    with start(tmp_path, program) as running:
        running.wait_for("running")
        assert running.end(signal.SIGINT) == 0
        assert running.printed.endswith("interrupted\n")


def test_without_stop_on_a_term_ends_the_program(tmp_path: Path) -> None:
    program = """
        from edgevent import Communicator

        with Communicator() as communicator:
            communicator.after(0, lambda: print("running", flush=True))
            communicator.every(1000.0, int)
            communicator.run()
    """
    with start(tmp_path, program) as running:
        running.wait_for("running")
        assert running.end(signal.SIGTERM) == -signal.SIGTERM


def test_children_are_still_reaped(tmp_path: Path) -> None:
    program = """
        from gevent import subprocess
        from edgevent import Communicator

        def work():
            print([subprocess.call(["sh", "-c", f"exit {code}"]) for code in (0, 3)], flush=True)
            communicator.stop()

        with Communicator() as communicator:
            communicator.stop_on("SIGTERM", "SIGINT")
            communicator.after(0, work)
            communicator.every(1000.0, int)
            communicator.run()
    """
    with start(tmp_path, program) as running:
        assert running.end() == 0
        assert running.printed == "[0, 3]\n"
