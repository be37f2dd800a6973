"""ed-trace: what passes a communicatord, as it passes, or from a recording."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ..communicatord.client_options import add_communicator_options, communicator_address
from ..communicatord.tracing import TraceFilter
from ..durations import format_duration
from ..errors import (
    AddressError,
    ConnectionLostError,
    EdgeventError,
    InvalidMessageError,
    OptionError,
    ReceiveTimeout,
    UnknownCommandError,
    UsageError,
)
from ..links.client import Client
from ..message import Message
from ..options import OptionParser
from .ending import until_signal
from .hearing import Printer
from .output import not_there, parse_count
from .recording import Recorder
from .trace_events import Passed, read_file, read_traced
from .trace_output import TIMES, Form, TraceOutput

_NAME: Final = "ed-trace"
_STDOUT: Final = 1
_SILENT: Final = logging.NullHandler()
_BAD_USAGE: Final = (AddressError, OptionError, UsageError)


class RefusedError(EdgeventError):
    """The daemon does not show what passes, or is none that could."""


def _parser() -> OptionParser:
    parser = OptionParser(
        _NAME,
        "Show the messages that pass the communicatord of this computer.",
        examples=[
            "ed-trace",
            "ed-trace 'stock/TAKE*' snap:till /STOP",
            "ed-trace --duration 10s --mermaid stock > stock.mmd",
            "ed-trace --from trace.jsonl --diagram",
        ],
    )
    add = parser.add
    add(
        "globs",
        nargs="*",
        metavar="GLOB",
        help="[SERVER:]SERVICE[/COMMAND] or /COMMAND, of the sender or the target; each may be a"
        " shell pattern (default: all messages)",
    )
    add("--json", action="store_true", help="print an object a line")
    add(
        "--diagram",
        action="store_true",
        help="print no messages, but at the end a sequence diagram as text",
    )
    add("--mermaid", action="store_true", help="the same in the language of Mermaid")
    add(
        "--time",
        choices=TIMES,
        default="clock",
        help="what stands before a line: date and time (the default), the time since the one"
        " before, or nothing",
    )
    add(
        "--values",
        action=argparse.BooleanOptionalAction,  # of Python 3.10, it adds a default to the help
        help="show the values of parameters (the default), or their names alone",
    )
    add("--record", metavar="FILE", help="write all into a new file as well, for --from")
    add(
        "--from",
        dest="file",
        metavar="FILE",
        help="show what is in a recording of ed-trace or ed-listen",
    )
    add("-c", "--count", type=parse_count, metavar="N", help="end after so many messages")
    parser.add_duration("--duration", minimum=0.001, help="end after so long")
    parser.add_duration(
        "--timeout", default="5s", minimum=0.001, help="the limit of connecting and of the answer"
    )
    add_communicator_options(parser, tls=False)
    return parser


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"{_NAME}: {text}".replace("\n", " "), file=sys.stderr, flush=True)


def _form(options: argparse.Namespace) -> Form:
    forms: list[Form] = []
    if options.json:
        forms.append("json")
    if options.diagram:
        forms.append("diagram")
    if options.mermaid:
        forms.append("mermaid")
    if len(forms) > 1:
        raise UsageError(f"--{forms[0]} with --{forms[1]}: expected one of them")
    if options.file and options.record:
        raise UsageError("--from with --record: expected one of them")
    if options.file and options.duration is not None:
        raise UsageError("--from with --duration: expected one of them")
    return forms[0] if forms else "text"


def _shows_values(options: argparse.Namespace) -> bool:
    return options.values is not False


# --- where the messages come from -----------------------------------------------------------------


def _live(
    client: Client, options: argparse.Namespace, chosen: TraceFilter, duration: float | None
) -> Iterator[Passed]:
    """Gives what passes, until the time is over."""
    end = None if duration is None else time.monotonic() + duration
    fields = {"globs": ",".join(chosen.globs), "values": str(_shows_values(options)).lower()}
    try:
        client.request(Message("TRACE_ON", fields), "TRACING", options.timeout)
    except UnknownCommandError:
        raise RefusedError(f"{client.address}: this communicatord knows no TRACE_ON") from None
    except InvalidMessageError as error:
        raise RefusedError(f"{client.address}: {error}") from None
    while end is None or time.monotonic() < end:
        try:
            message = client.receive(None if end is None else max(end - time.monotonic(), 0.0))
        except ReceiveTimeout:
            return
        passed = read_traced(message, time.time_ns)
        if passed is not None:
            yield passed


class _Tracing:
    """One run: from what passes to what is printed."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._chosen = TraceFilter(options.globs)
        self._form = _form(options)
        self._broken = False
        self._printer = Printer(_STDOUT, self._stop)

    def _stop(self) -> None:
        self._broken = True

    def run(self, until: Callable[[Callable[[], None]], None]) -> int:
        """Shows all; ``until`` calls a function, which a signal may end at any wait."""
        options = self._options
        with contextlib.ExitStack() as resources:
            if options.file:
                source = read_file(options.file, self._chosen, values=_shows_values(options))
                recorder = None
            else:
                client = resources.enter_context(self._connect())
                recorder = options.record and resources.enter_context(Recorder(options.record))
                source = _live(client, options, self._chosen, options.duration)
            output = TraceOutput(
                self._form,
                times=options.time,
                escape=self._printer.is_terminal,
                recorder=recorder or None,
            )
            error: list[EdgeventError] = []

            def work() -> None:
                try:
                    self._show(source, output)
                except EdgeventError as one:  # raised, the hub would print it, too
                    error.append(one)

            until(work)
            self._print(output.end())
        return self._end(output, error)

    def _connect(self) -> Client:
        address = communicator_address(self._options)
        if address is None:
            raise UsageError("--communicator-listen off: expected the address of a communicatord")
        return Client(address, connect_timeout=self._options.timeout)

    def _show(self, source: Iterator[Passed], output: TraceOutput) -> None:
        count = self._options.count
        for passed in source:
            self._print(output.add(passed))
            if self._broken or (count and output.count >= count):
                return

    def _print(self, lines: list[bytes]) -> None:
        for line in lines:
            if not self._broken:
                self._printer.write(line)

    def _end(self, output: TraceOutput, error: list[EdgeventError]) -> int:
        broken = self._printer.error
        if broken is not None and not isinstance(broken, BrokenPipeError):
            _say(f"standard output: {broken.strerror}")
        if error and isinstance(error[0], ConnectionLostError):
            _say(f"the communicatord has ended the connection: {error[0]}")
            return 1
        if error:
            raise error[0]
        if output.missed:
            _say(f"{output.missed} of {output.count + output.missed} messages were missed")
        options = self._options
        if options.count and output.count < options.count and options.duration is not None:
            limit = format_duration(options.duration)
            _say(f"{output.count} of {options.count} messages came within {limit}")
            return 1
        return 0 if broken is None else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Shows what passes.

    Returns:
        0 after a signal, the messages that were to come, the time without ``--count``, or the end
        of a file; 1 when the daemon is not there, refuses or goes, fewer messages came in the time
        or something could not be written; 2 after bad usage.
    """
    if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # The hub of gevent would tell of a KeyboardInterrupt in its own words.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.getLogger("edgevent").addHandler(_SILENT)  # what has failed is told here
    options = _parser().parse(argv)
    try:
        return _Tracing(options).run(until_signal)
    except EdgeventError as error:
        _say(not_there(error, "communicatord"))
        return 2 if isinstance(error, _BAD_USAGE) else 1
