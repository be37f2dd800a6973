"""ed-stop: ends a process, first with SIGINT, then with SIGTERM, and waits until it is gone."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final

from ..durations import format_duration
from ..errors import OptionError, UsageError
from ..options import OptionParser
from .processes import Held, StopError, find_by_name, find_main_pid, hold

_NAME: Final = "ed-stop"
_KILL_TIMEOUT: Final = 10.0


def _parser() -> OptionParser:
    parser = OptionParser(
        _NAME,
        "Stop a service: SIGINT, then SIGTERM, and --kill for SIGKILL; wait until it is gone.",
        examples=[
            "ed-stop hello.service",
            "ed-stop --timeout 5s 1234",
            "ed-stop --process-name hello.py",
        ],
    )
    add = parser.add
    add("words", nargs="*", metavar="NAME|PID", help="a unit of systemd, or the id of a process")
    add(
        "-s",
        "--server",
        "--service",
        nargs="?",
        const="",
        action="append",
        metavar="NAME|PID",
        help="the same; an empty one, which systemd passes when nothing runs, is nothing to stop",
    )
    add(
        "--process-name",
        action="store_true",
        help="the name is that of a process, or of the script that it runs",
    )
    parser.add_duration(
        "--timeout",
        default="1m",
        minimum=0.1,
        maximum=3600.0,
        help="how long to wait after SIGINT, 100ms to 1h",
    )
    parser.add_duration(
        "--term-timeout",
        default="10s",
        minimum=0.1,
        maximum=3600.0,
        help="how long to wait after SIGTERM",
    )
    add("--kill", action="store_true", help="send SIGKILL to what is still there then")
    return parser


def _read_target(options: argparse.Namespace, parser: OptionParser) -> str:
    words: list[str] = options.words
    if options.server and (not words or parser.source("server") == "command line"):
        words = [*words, *options.server]
    if len(words) > 1:
        raise UsageError(f"argument {words[1]!r}: expected one name, and {words[0]!r} is before")
    if not words:
        raise UsageError("expected the name of a service or the id of a process; --help tells more")
    target = words[0]
    if target.startswith("-"):
        raise UsageError(f"{target!r}: expected a name, or the id of a process")
    return target


def _hold(target: str, options: argparse.Namespace) -> Held | None:
    if options.process_name:
        return find_by_name(target)
    if target.isascii() and target.isdigit():
        return hold(int(target), target)
    return find_main_pid(target)


# --- the wait -------------------------------------------------------------------------------------


class _Progress:
    """One line on a terminal that says how long the wait is; nothing elsewhere."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._start = time.monotonic()
        self._shows = sys.stderr.isatty()

    def wait(self, held: Held, timeout: float) -> bool:
        """Waits until the process has ended; returns whether it has."""
        end = time.monotonic() + timeout
        while True:
            left = max(end - time.monotonic(), 0.0)
            # Without a line to write there is one wait, which nothing but the end interrupts.
            if held.wait(min(left, 1.0) if self._shows else left):
                return True
            if time.monotonic() >= end:
                return False
            self._write(f"waiting for {self._who}: {self._passed:.0f} s")

    @property
    def _passed(self) -> float:
        return time.monotonic() - self._start

    def _write(self, text: str) -> None:
        if self._shows:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Writes a line that stays."""
        self._write("")
        print(f"{_NAME}: {text}", file=sys.stderr, flush=True)

    def done(self) -> None:
        """Says at the end how long it took."""
        self._write(f"{self._who} has stopped after {self._passed:.1f} s\n")


def _stop(held: Held, options: argparse.Namespace) -> bool:
    """Sends the signals; returns whether the process has ended."""
    steps = [(signal.SIGINT, options.timeout), (signal.SIGTERM, options.term_timeout)]
    if options.kill:
        steps.append((signal.SIGKILL, _KILL_TIMEOUT))
    progress = _Progress(held.shown)
    for number, (step, timeout) in enumerate(steps):
        held.send(step)
        if progress.wait(held, timeout):
            progress.done()
            return True
        what = f"{held.shown} runs on {format_duration(timeout)} after {step.name}"
        if number + 1 < len(steps):
            progress.say(f"{what}; now {steps[number + 1][0].name}")
        else:
            hint = "" if options.kill else "; --kill would send SIGKILL"
            progress.say(f"{what}{held.state()}{hint}")
    return False


def main(argv: Sequence[str] | None = None) -> int:
    """Stops what the command line names.

    Returns:
        0 when it has stopped or did not run, 1 when it runs on or must not be stopped, 2 after bad
        usage.
    """
    parser = _parser()
    options = parser.parse(argv)
    try:
        target = _read_target(options, parser)
        if not target.strip():
            return 0
        with _hold(target, options) or nullcontext() as held:
            # What waits for its parent to take note of its end, a zombie, has ended.
            if held is not None and not held.wait(0.0):
                return 0 if _stop(held, options) else 1
        print(f"{_NAME}: {target} does not run", file=sys.stderr)
        return 0
    except (StopError, UsageError, OptionError) as error:
        print(f"{_NAME}: {error}".replace("\n", " "), file=sys.stderr)
        return 1 if isinstance(error, StopError) else 2
    except KeyboardInterrupt:
        return 130
