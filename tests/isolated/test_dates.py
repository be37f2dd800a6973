"""Dates in whole programs, under a clock that jumps (libfaketime)."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from running import Program

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


JUMPS = {"ahead": 3600.0, "back": -3600.0, "none": 0.0}


@pytest.fixture(scope="module")
def printed(
    tmp_path_factory: pytest.TempPathFactory, need_tool: Callable[..., str]
) -> dict[str, list[str]]:
    """What the program prints at each jump; all run at the same time, for they mostly wait."""
    library = find_library(need_tool("faketime", package="faketime"))
    found = {}
    with ExitStack() as stack:
        for name, jump in JUMPS.items():
            folder = tmp_path_factory.mktemp("dates")
            (folder / "program.py").write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
            (folder / "offset").write_text("+0.0\n")
            settings = {
                "LD_PRELOAD": library,
                "FAKETIME_TIMESTAMP_FILE": str(folder / "offset"),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
            program = Program(folder / "program.py", str(jump), folder=folder, **settings)
            found[name] = stack.enter_context(program)
        for program in found.values():
            assert program.end() == 0, program.printed
    return {name: program.printed.splitlines() for name, program in found.items()}


@pytest.mark.parametrize(
    ("jump", "called", "left"),
    [
        ("ahead", {"soon", "later"}, "next day"),
        ("back", set(), "soon later next day"),
        ("none", {"soon"}, "later next day"),
    ],
)
def test_a_jump_of_the_date_is_noticed_within_a_second(
    printed: dict[str, list[str]], jump: str, called: set[str], left: str
) -> None:
    lines = printed[jump]
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
