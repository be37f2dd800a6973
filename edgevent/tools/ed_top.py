"""ed-top: the services of a communicatord, and what passes them a second."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

import gevent

from ..communicatord.client_options import add_communicator_options, communicator_address
from ..errors import AddressError, EdgeventError, OptionError, UsageError
from ..links.client import Client
from ..option_output import escape_output
from ..options import OptionParser
from .ending import until_signal
from .output import not_there, output_failed, parse_count
from .top_screen import Screen
from .top_table import KEYS, NAMES, table
from .traffic import Look, RefusedError, Traffic

_NAME: Final = "ed-top"
_HELP: Final = "q quits, < > choose the column, r turns the order, arrows scroll"
_SILENT: Final = logging.NullHandler()
_BAD_USAGE: Final = (AddressError, OptionError, UsageError)
_WIDTH: Final = 100  # of what is printed elsewhere than on a terminal


def _parser() -> OptionParser:
    parser = OptionParser(
        _NAME,
        "Show the services of the communicatord of this computer, and what passes them a second.",
        examples=[
            "ed-top",
            "ed-top --sort lag --interval 5s",
            "ed-top --once --json",
        ],
    )
    add = parser.add
    parser.add_duration("-i", "--interval", default="1s", minimum=0.05, help="from look to look")
    add(
        "--once",
        action="store_true",
        help="print the table once, after one interval, by which the rates are known, and end",
    )
    add("--json", action="store_true", help="print an object of JSON a line, at each interval")
    add("-c", "--count", type=parse_count, metavar="N", help="end after so many looks")
    add("--sort", choices=NAMES, default="in", help="the column that is sorted by (default: in)")
    add("-r", "--reverse", action="store_true", help="sort the other way round")
    parser.add_duration(
        "--timeout", default="5s", minimum=0.001, help="the limit of connecting and of an answer"
    )
    add_communicator_options(parser, tls=False)
    return parser


class _Live:
    """The table on a terminal, which is drawn anew at each look and each key."""

    def __init__(self, options: argparse.Namespace, traffic: Traffic) -> None:
        self._options = options
        self._traffic = traffic
        self._by: str = options.sort
        self._reverse: bool = options.reverse
        self._first = 0
        self._page = 1
        self._quits = False
        self._look: Look | None = None
        self._error = ""

    def run(self) -> None:
        """Shows it until ``q``, or so many looks."""
        left = self._options.count or -1
        with Screen(sys.stdin.fileno(), sys.stdout.fileno(), self._key) as screen:
            while not self._quits and left:
                self._ask()
                left -= 1
                end = time.monotonic() + self._options.interval
                self._draw(screen)
                while not self._quits and screen.wait(max(end - time.monotonic(), 0.0)):
                    self._draw(screen)

    def _ask(self) -> None:
        try:
            self._look = self._traffic.look()
            self._error = ""
        except (RefusedError, *_BAD_USAGE):
            raise
        except EdgeventError as error:  # it may come back
            self._error = str(error)

    def _draw(self, screen: Screen) -> None:
        columns, lines = screen.size
        if self._look is None:
            screen.draw([self._error, _HELP], -1)
            return
        about, titles, rows = table(self._look, self._by, reverse=self._reverse, width=columns)
        if self._error:
            about[-1] = self._error
        self._page = max(lines - len(about) - 2, 1)
        self._first = max(min(self._first, len(rows) - self._page), 0)
        rows = rows[self._first : self._first + self._page]
        rows += [""] * (self._page - len(rows))
        screen.draw([*about, titles, *rows, _HELP], len(about))

    def _key(self, key: str) -> None:
        steps = {"up": -1, "down": 1, "page up": -self._page, "page down": self._page}
        if key == "q":
            self._quits = True
        elif key in steps:
            self._first = max(self._first + steps[key], 0)
        elif key == "r":
            self._reverse = not self._reverse
        elif key in "<>":
            step = 1 if key == ">" else -1
            self._by = NAMES[(NAMES.index(self._by) + step) % len(NAMES)]
        elif key in KEYS:
            self._by = KEYS[key]


def _print(options: argparse.Namespace, traffic: Traffic) -> None:
    """Prints a look at each interval, from the first one on that knows rates."""
    left = 1 if options.once else options.count or -1
    traffic.look()
    while left:
        gevent.sleep(options.interval)
        look = traffic.look()
        left -= 1
        if options.json:
            text = look.as_json()
        else:
            about, titles, rows = table(look, options.sort, reverse=options.reverse, width=_WIDTH)
            text = "\n".join([*about, titles, *rows, *([""] if left else [])])
        print(text, flush=True)


def _run(options: argparse.Namespace) -> int:
    address = communicator_address(options)
    if address is None:
        raise UsageError("--communicator-listen off: expected the address of a communicatord")
    if options.once and options.count:
        raise UsageError("--once with --count: expected one of them")
    is_terminal = os.isatty(0) and os.isatty(1) and not (options.once or options.json)
    if is_terminal and os.environ.get("TERM", "") in ("", "dumb"):
        is_terminal = False
    traffic = Traffic(lambda: Client(address, connect_timeout=options.timeout), options.timeout)
    error: list[Exception] = []

    def work() -> None:
        try:
            if is_terminal:
                _Live(options, traffic).run()
            else:
                _print(options, traffic)
        except (EdgeventError, OSError) as one:  # raised, the hub would print it, too
            error.append(one)

    with contextlib.closing(traffic):
        until_signal(work)
    if error:
        raise error[0]
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Shows the services.

    Returns:
        0 after ``q``, a signal or so many looks; 1 when the daemon is not there, refuses or goes
        (on a terminal it is waited for), or nothing can be written; 2 after bad usage.
    """
    if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # The hub of gevent would tell of a KeyboardInterrupt in its own words.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.getLogger("edgevent").addHandler(_SILENT)  # what has failed is told here
    options = _parser().parse(argv)
    escape_output()
    try:
        return _run(options)
    except EdgeventError as error:
        text = not_there(error, "communicatord")
        print(f"{_NAME}: {text}".replace("\n", " "), file=sys.stderr)
        return 2 if isinstance(error, _BAD_USAGE) else 1
    except OSError as error:
        output_failed(_NAME, error)
        return 1
