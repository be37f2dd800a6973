"""Programs that gevent has patched, before or after edgevent was imported."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from running import Program

PROGRAM = """
    import os, signal, threading, time
    FIRST
    SECOND
    import gevent

    service = Dispatcher()

    @service.on("ADD")
    def add(message, peer, a: int, b: int):
        time.sleep(0.001)  # waits in a patched program
        return message.reply("SUM", {"value": a + b})

    def converse():
        for address in (tcp.addresses[0], unix.addresses[0]):
            with Client(address) as client:
                reply = client.request(Message("ADD", {"a": 2, "b": 40}), reply="SUM")
                print(reply["value"], flush=True)
        with connect(tcp.addresses[0]) as stream:
            stream.write(b"ALIVE\\n")
            print(stream.read_line(20.0).startswith(b"ABSOLUTELY"))
        link = communicator.add_connection(PermanentConnection(unix.addresses[0]))
        link.wait_until_up(20.0)
        print(link.request(Message("ADD", {"a": 1, "b": 1}), reply="SUM")["value"])
        # A thread of a patched program is a greenlet of this one, and may use what is here.
        asking = threading.Thread(target=ask)
        asking.start()
        asking.join()
        communicator.call_threadsafe(os.kill, os.getpid(), signal.SIGTERM)

    def ask():
        with Client(tcp.addresses[0]) as client:
            print(client.request(Message("ADD", {"a": 3, "b": 4}), reply="SUM")["value"])
        assert Communicator.instance() is communicator

    communicator = Communicator.instance()
    with communicator:
        communicator.stop_on("SIGTERM")
        tcp = communicator.add_connection(Server("tcp://127.0.0.1:0", service))
        unix = communicator.add_connection(Server("unix:here.sock", service))
        communicator.after(0, converse)
        print("run returned", communicator.run())
"""

PATCH = "from gevent import monkey; monkey.patch_all()"
IMPORT = "from edgevent import *"


@pytest.mark.parametrize(("first", "second"), [(PATCH, IMPORT), (IMPORT, PATCH)])
def test_a_patched_program_works_as_others_do(tmp_path: Path, first: str, second: str) -> None:
    path = tmp_path / "program.py"
    text = textwrap.dedent(PROGRAM).replace("FIRST", first).replace("SECOND", second)
    path.write_text(text, encoding="utf-8")
    with Program(path, folder=tmp_path) as program:
        assert program.end() == 0, program.printed
        assert program.printed.splitlines() == ["42", "42", "True", "2", "7", "run returned True"]


def test_the_monitor_is_a_real_thread_in_a_patched_program(tmp_path: Path) -> None:
    program = """
        from gevent import monkey; monkey.patch_all()
        import logging, sys, time
        from edgevent import Communicator

        found = []

        class Found(logging.Handler):
            def emit(self, record):
                if "keeps the hub busy" in record.getMessage():
                    found.append("burn" in record.getMessage())

        def burn():
            end = time.monotonic() + 20.0
            while not found and time.monotonic() < end:
                pass
            communicator.stop()

        logging.getLogger("edgevent").addHandler(Found())
        with Communicator(monitor=True) as communicator:
            communicator.every(0.001, burn)
            communicator.run()
        print(found)
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program), encoding="utf-8")
    with Program(path, folder=tmp_path) as running:
        assert running.end() == 0
        assert running.printed == "[True]\n"


def test_calls_from_real_threads_reach_a_patched_program(tmp_path: Path) -> None:
    program = """
        from gevent import monkey; monkey.patch_all()
        import gevent
        from edgevent import Communicator, WrongThreadError

        def work():
            communicator.call_threadsafe(communicator.stop)
            try:
                communicator.every(1.0, int)
            except WrongThreadError:
                return "refused"

        with Communicator() as communicator:
            communicator.every(1000.0, int)
            working = gevent.get_hub().threadpool.spawn(work)
            print("run returned", communicator.run(), working.get())
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program), encoding="utf-8")
    with Program(path, folder=tmp_path) as running:
        assert running.end() == 0
        assert running.printed == "run returned True refused\n"
