"""Dates in whole programs, under a clock that jumps (libfaketime) and under the system's own."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from running import Program, environment

# The date of the program is that of a file; its monotonic clock goes on, as that of a system does
# whose date is set.
PROGRAM = """
    import os, sys, time
    from edgevent import Communicator, Timer

    HOUR, jump = 3600.0, float(sys.argv[1])

    def say(*what):
        print(*what, flush=True)

    def set_date(offset):
        with open("offset.new", "w") as file:
            file.write(f"{offset:+.1f}\\n")
        os.rename("offset.new", "offset")

    def told(name):
        def call(timer):
            late = time.time() - due[name]
            say(name, "late" if late > 1.0 else "early" if late < -0.01 else "in time")
        return call

    with Communicator() as communicator:
        begin = time.time()
        due = {"soon": begin + 1.0, "later": begin + HOUR / 2, "next day": begin + 24 * HOUR}
        for name, date in due.items():
            communicator.add_connection(
                Timer(None, told(name), date=date, name=name, keep_running=False))
        marks = []
        communicator.add_connection(
            Timer(0.5, lambda timer: marks.append(time.time()), date=0.0, keep_running=False))
        ticks = []
        communicator.every(0.25, lambda: ticks.append(time.monotonic()), keep_running=False)

        def after_the_jump():
            left = [one.name for one in communicator.connections if one.name in due]
            say("left:", *left)
            say("marks on the half second:", all(mark % 0.5 < 0.25 for mark in marks))
            say("marks once each:", all(b - a > 0.25 or b < a for a, b in zip(marks, marks[1:])))
            communicator.stop()

        def make_it_jump():
            jumped = time.time() + jump
            set_date(jump)
            while abs(time.time() - jumped) > 60.0:  # not before the next look at the file
                pass
            for name in due:
                if due[name] < jumped - 1.0:
                    due[name] = jumped  # the call must come within a second of the jump
            marks.clear()
            say("jumped")
            communicator.after(2.5, after_the_jump)

        communicator.after(0.1, make_it_jump)
        communicator.run()
        steps = [b - a for a, b in zip(ticks, ticks[1:])]
        say("steps of the delay:", all(0.1 < step < 1.0 for step in steps), len(steps) >= 8)
"""


@pytest.mark.parametrize(
    ("jump", "called", "left"),
    [
        (3600.0, {"soon", "later"}, "next day"),
        (-3600.0, set(), "soon later next day"),
        (0.0, {"soon"}, "later next day"),
    ],
    ids=["ahead", "back", "none"],
)
def test_a_jump_of_the_date_is_noticed_within_a_second(
    tmp_path: Path, need_tool: Callable[..., str], jump: float, called: set[str], left: str
) -> None:
    faketime = need_tool("faketime", package="faketime")
    library = find_library(faketime)
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    (tmp_path / "offset").write_text("+0.0\n")
    settings = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "offset"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with Program(tmp_path / "program.py", str(jump), folder=tmp_path, **settings) as program:
        assert program.end() == 0, program.printed
    lines = program.printed.splitlines()
    assert {line for line in lines if "time" in line} == {f"{name} in time" for name in called}
    assert f"left: {left}" in lines
    assert "marks on the half second: True" in lines
    assert "marks once each: True" in lines
    assert lines[-1] == "steps of the delay: True True"


def find_library(faketime: str) -> str:
    """The library that the tool puts before a program's own."""
    shown = subprocess.run(
        [faketime, "-f", "+0", "sh", "-c", 'printf %s "$LD_PRELOAD"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "faketime" in shown
    return shown


IDLE = """
    import sys
    from edgevent import Communicator, SignalSource, Timer

    with Communicator() as communicator:
        communicator.stop_on("SIGTERM")
        communicator.add_connection(SignalSource("SIGHUP", print))
        communicator.add_connection(SignalSource(("SIGUSR1", "SIGRTMIN"), print, with_sender=True))
        dates = [
            communicator.add_connection(Timer(None, print, date=communicator.clock.date() + 9000.0))
            for _ in range(int(sys.argv[1]))
        ]
        def begin():
            sys.stderr.write("MARK\\n")  # the tracer sees it
            communicator.after(float(sys.argv[2]), end)
        def end():
            sys.stderr.write("MARK\\n")
            communicator.stop()
        communicator.after(0.01, begin)
        communicator.run()
"""


@pytest.mark.parametrize(("dates", "seconds"), [(0, 5.0), (1, 1.5), (1000, 1.5)])
def test_idle_sources_cost_nothing_and_all_dates_two_looks_a_second(
    tmp_path: Path, need_tool: Callable[..., str], dates: int, seconds: float
) -> None:
    strace = need_tool("strace", package="strace")
    path, traced = tmp_path / "program.py", tmp_path / "trace"
    path.write_text(textwrap.dedent(IDLE), encoding="utf-8")
    done = subprocess.run(
        [strace, "-f", "-o", str(traced), sys.executable, str(path), str(dates), str(seconds)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    between = traced.read_text(encoding="utf-8", errors="replace").split("MARK")[1]
    calls = re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)", between, re.MULTILINE)
    # One wait for the timer that ends it, what libev asks when it wakes, and the write of the mark.
    assert len(calls) <= (6 if not dates else 24), f"{len(calls)} system calls: {calls}"
