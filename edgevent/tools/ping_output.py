"""What ed-ping prints: lines as those of ping(8), JSON, or one line for a monitoring system."""

from __future__ import annotations

import json
from typing import Final, Protocol

from ..errors import EdgeventError
from .peer_options import Peer
from .pinging import Answer, Statistics

OK: Final = 0
WARNING: Final = 1
CRITICAL: Final = 2
UNKNOWN: Final = 3
"""The exit codes of a monitoring plugin (Monitoring Plugins Development Guidelines)."""

_STATES: Final = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


class Output(Protocol):
    """Where the round trips are told."""

    def answered(self, number: int, answer: Answer) -> None: ...
    def failed(self, number: int, error: EdgeventError) -> None: ...
    def end(self, statistics: Statistics) -> None: ...


class QuietOutput:
    """Tells nothing."""

    def answered(self, number: int, answer: Answer) -> None:
        """An answer has come."""

    def failed(self, number: int, error: EdgeventError) -> None:
        """No answer has come."""

    def end(self, statistics: Statistics) -> None:
        """That was all."""


class LineOutput:
    """A line for each, and statistics; times in milliseconds."""

    def __init__(self, peer: Peer, *, quiet: bool = False) -> None:
        self._peer = peer
        self._quiet = quiet

    def answered(self, number: int, answer: Answer) -> None:
        """An answer has come."""
        self._say(f"{answer.command} from {self._peer}: seq={number} time={_ms(answer.seconds)}")

    def failed(self, number: int, error: EdgeventError) -> None:
        """No answer has come."""
        why = str(error).removeprefix(f"{self._peer}: ")
        self._say(f"no answer from {self._peer}: seq={number}: {why}")

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(text.replace("\n", " "), flush=True)

    def end(self, statistics: Statistics) -> None:
        """Prints the statistics."""
        found = statistics
        print(f"--- {self._peer} ---")
        print(
            f"{found.sent} sent, {found.answered} answered, {found.lost} lost"
            f" ({found.lost_percent:.3g} %)",
            flush=not found.answered,
        )
        if found.answered:
            times = (found.minimum, found.average, found.maximum, found.deviation)
            shown = "/".join(f"{1e3 * one:.3f}" for one in times)
            print(f"min/avg/max/mdev = {shown} ms", flush=True)


class JsonOutput:
    """An object a line for each, and one at the end; times in seconds."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def answered(self, number: int, answer: Answer) -> None:
        """An answer has come."""
        self._say(seq=number, command=answer.command, time=round(answer.seconds, 9))

    def failed(self, number: int, error: EdgeventError) -> None:
        """No answer has come."""
        self._say(seq=number, error=str(error))

    def end(self, statistics: Statistics) -> None:
        """Prints the statistics."""
        found = statistics
        times: dict[str, object] = {}
        if found.answered:
            times = {
                "min": round(found.minimum, 9),
                "avg": round(found.average, 9),
                "max": round(found.maximum, 9),
                "mdev": round(found.deviation, 9),
            }
        self._say(sent=found.sent, answered=found.answered, lost=found.lost, **times)

    def _say(self, **fields: object) -> None:
        print(json.dumps({"address": str(self._peer), **fields}), flush=True)


def judge(
    peer: Peer, statistics: Statistics, warning: float | None, critical: float | None
) -> tuple[int, str]:
    """Gives the exit code of a monitoring plugin, and its line.

    Not one answer is critical, and so is an average above ``critical``; a lost one is a warning,
    and so is an average above ``warning`` (both in seconds).
    """
    found = statistics
    average = found.average
    if not found.answered or (critical is not None and average > critical):
        code = CRITICAL
    elif found.lost or (warning is not None and average > warning):
        code = WARNING
    else:
        code = OK
    took = f", on average in {_ms(average)}" if found.answered else ""
    limits = ";".join("" if one is None else f"{one:.6f}" for one in (warning, critical))
    time = f"{average:.6f}s" if found.answered else "U"
    return code, (
        f"ALIVE {_STATES[code]} - {peer}: {found.answered} of {found.sent} answered{took}"
        f" | rta={time};{limits};0 pl={found.lost_percent:.0f}%;;;0;100"
    )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3f} ms" if seconds < 0.01 else f"{1e3 * seconds:.1f} ms"
