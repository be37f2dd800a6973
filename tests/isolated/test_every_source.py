"""One program waits for everything at once, while it is profiled: each event is told once."""

from __future__ import annotations

import signal
import socket
import time
from collections import Counter
from pathlib import Path

from running import EXAMPLES, Program, talk, terminate

# Runs a program and then says what it has left behind.
WRAPPER = """
import runpy, sys
from edgevent.testing.leaks import Snapshot, warm_up

warm_up()
before = Snapshot()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print("left behind", before.leaks(), flush=True)
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_every_event_is_told_exactly_once(tmp_path: Path) -> None:
    folder = tmp_path / "watched"
    folder.mkdir()
    wrapper = tmp_path / "wrapper.py"
    wrapper.write_text(WRAPPER, encoding="utf-8")
    port = free_port()
    arguments = [str(EXAMPLES / "every_source.py"), str(folder), f"tcp://127.0.0.1:{port}"]
    caused: Counter[str] = Counter({"listens False": 1, "date": 1})
    with Program(wrapper, *arguments, folder=tmp_path) as program:
        address = program.listening_on()
        has_events = "no process events" not in program.printed
        program.wait_for("listens False")
        number = 0
        while number < 10 or program.printed.count("tick\n") < 2:
            number += 1
            round_of(program, address, folder / f"{number}", port, caused)
            caused["fork"] += has_events
        began = time.monotonic()
        assert terminate(program) == 0
        assert time.monotonic() - began < 5.0  # on a busy machine; within one second otherwise
    lines = Counter(program.lines)
    told = {line for line in lines if line.startswith(("listening on", "no process", "left"))}
    assert "left behind []" in told, program.printed
    assert lines.pop("tick") >= 2
    assert {line: count for line, count in lines.items() if line not in told} == dict(+caused)


def round_of(program: Program, address: str, path: Path, port: int, caused: Counter[str]) -> None:
    """Causes one event of each kind, and waits until all are told."""
    expected = Counter({"signal": 1, f"file {path}": 1, "thread": 1, "sum 45": 1})
    expected.update({"line hello": 1, "child exit 0": 1, "listens True": 1})
    program.process.send_signal(signal.SIGUSR1)
    path.write_text("written", encoding="utf-8")
    assert talk(address, b"ASK\n") == b"ASKED\n"
    caused.update(expected)
    with socket.create_server(("127.0.0.1", port)):
        while expected:
            line = program.wait_for("")
            if line in expected:
                expected.pop(line)
    caused["listens False"] += 1
    program.wait_for("listens False")
