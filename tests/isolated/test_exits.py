"""What is no ``Exception`` goes through hooks and handlers and ends the program."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from running import Program

BEGIN = """
    import socket, sys
    import gevent
    from greenlet import GreenletExit
    from edgevent import *

    def fail(*arguments):
        BLOCK
        raise RAISED

    with Communicator() as communicator:
        WHERE
        try:
            communicator.every(1000.0, int)
            communicator.after(10.0, lambda: sys.exit("nothing came"))
            communicator.run()
            print("run returned")
        finally:
            print("unwound")
"""

MESSAGE = """
        service = Dispatcher()
        service.on("FAIL")(lambda message, peer: fail())
        server = communicator.add_connection(Server("tcp://127.0.0.1:0", service))
        peer = socket.create_connection(("127.0.0.1", server.port))
        peer.sendall(b"FAIL\\n")
"""
CONVERSATION = """
        server = communicator.add_connection(Server("tcp://127.0.0.1:0", fail))
        peer = socket.create_connection(("127.0.0.1", server.port))
"""
HOOK = """
        class Failing(LineConnection):
            process_line = process_hup = fail
        server = communicator.add_connection(Server("tcp://127.0.0.1:0", Failing))
        peer = socket.create_connection(("127.0.0.1", server.port))
        peer.sendall(b"x\\n")
"""
ACCEPT = """
        class Failing(Server):
            process_accept = fail
        server = communicator.add_connection(Failing("tcp://127.0.0.1:0"))
        peer = socket.create_connection(("127.0.0.1", server.port))
"""
TIMER = "        communicator.after(0.001, fail)"
CALL = "        communicator.call_threadsafe(fail)"

PLACES = {
    "message": MESSAGE,
    "conversation": CONVERSATION,
    "hook": HOOK,
    "accept": ACCEPT,
    "timer": TIMER,
    "call": CALL,
}


def run(folder: Path, place: str, raised: str, blocks: bool) -> Program:
    text = BEGIN.replace("        WHERE\n", PLACES[place].strip("\n") + "\n")
    text = text.replace("RAISED", raised).replace(
        "BLOCK", "gevent.sleep(0.001)" if blocks else "pass"
    )
    path = folder / "program.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return Program(path, folder=folder)


@pytest.mark.parametrize("blocks", [False, True], ids=["at once", "after a wait"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("raised", "code"), [("SystemExit(7)", 7), ("KeyboardInterrupt", -2)])
def test_it_ends_the_program(
    tmp_path: Path, place: str, raised: str, code: int, blocks: bool
) -> None:
    with run(tmp_path, place, raised, blocks) as program:
        assert program.end() == code, program.printed
        assert "unwound" in program.printed
        assert "run returned" not in program.printed
        assert "failed, id=" not in program.printed


@pytest.mark.parametrize("blocks", [False, True], ids=["at once", "after a wait"])
def test_a_greenlet_exit_ends_its_greenlet_alone(tmp_path: Path, blocks: bool) -> None:
    program = f"""
        import gevent
        from greenlet import GreenletExit
        from edgevent import Communicator

        def leave():
            {"gevent.sleep(0.001)" if blocks else "pass"}
            raise GreenletExit

        with Communicator() as communicator:
            communicator.after(0.001, leave)
            communicator.after(0.01, communicator.stop)
            print("run returned", communicator.run())
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program), encoding="utf-8")
    with Program(path, folder=tmp_path) as running:
        assert running.end() == 0
        assert running.printed == "run returned True\n"


def test_a_program_may_catch_it_and_run_on(tmp_path: Path) -> None:
    """The rest of the pass, which the exit had interrupted, is served as well."""
    program = """
        import sys
        from edgevent import Communicator

        served = []
        with Communicator() as communicator:
            communicator.add_connection
            for number in range(5):
                communicator.after(0.001, lambda number=number: served.append(number))
                communicator.after(0.001, sys.exit)
            exits = 0
            while communicator.connections:
                try:
                    communicator.run()
                except SystemExit:
                    exits += 1
        print(served, exits)
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program), encoding="utf-8")
    with Program(path, folder=tmp_path) as running:
        assert running.end() == 0
        assert running.printed.endswith("[0, 1, 2, 3, 4] 5\n")
