"""What ``ed-trace`` makes of what has passed: lines, objects of JSON, a recording, a diagram."""

from __future__ import annotations

import json
from typing import Final, Literal

from ..errors import MessageError
from ..message import Message
from .diagram import Diagram
from .output import printable
from .recording import Recorder, Source, show_time
from .trace_events import MISSED, Passed

Form = Literal["text", "json", "diagram", "mermaid"]
Times = Literal["clock", "delta", "none"]
TIMES: Final = ("clock", "delta", "none")

_BILLION: Final = 1_000_000_000


class TraceOutput:
    """Shows messages in one form.

    Args:
        form: Which one; the diagrams are there at the end alone.
        times: What stands before a line: date and time, the time since the line before, nothing.
        escape: Whether the lines go to a terminal.
        recorder: Where all is recorded as well.
        daemon: The name of the daemon in that, for what was missed.

    Attributes:
        count: How many messages there were.
        missed: How many are known to be missing.
    """

    def __init__(
        self,
        form: Form,
        *,
        times: Times = "clock",
        escape: bool = False,
        recorder: Recorder | None = None,
        daemon: str = "communicatord",
    ) -> None:
        self._form = form
        self._times = times
        self._escape = escape
        self._recorder = recorder
        self._daemon = daemon
        self._before = 0
        self._diagram = Diagram() if form in ("diagram", "mermaid") else None
        self._pairs: dict[tuple[str, str], int] = {}
        self.count = self.missed = 0

    def add(self, passed: Passed) -> list[bytes]:
        """Takes a message, or a gap; returns the lines to print now, without newlines.

        Raises:
            RecordingError: It cannot be recorded.
        """
        if passed.missed:
            self.missed += passed.missed
        else:
            self.count += 1
        if self._recorder is not None:
            self._record(self._recorder, passed)
        if self._diagram is not None:
            self._diagram.add(passed)
            return []
        text = self._json(passed) if self._form == "json" else self._line(passed)
        return [self._encode(text)]

    def end(self) -> list[bytes]:
        """Returns the lines that come at the end."""
        if self._diagram is None:
            return []
        lines = self._diagram.text() if self._form == "diagram" else self._diagram.mermaid()
        return [line.encode("utf-8", "surrogateescape") for line in lines]

    def _encode(self, text: str) -> bytes:
        return (printable(text) if self._escape else text).encode("utf-8", "surrogateescape")

    def _line(self, passed: Passed) -> str:
        if passed.missed:
            text = f"--- {passed.missed} missed ---"
        else:
            text = f"{passed.sender} > {passed.target}{_how(passed)} {passed.body}"
        return f"{self._time(passed.ns)}{text}"

    def _time(self, ns: int) -> str:
        if self._times == "none":
            return ""
        if self._times == "clock":
            return f"{show_time(ns)} "
        since = ns - self._before if self._before else 0
        self._before = ns
        return f"{since / _BILLION:+13.6f} "

    def _json(self, passed: Passed) -> str:
        if passed.missed:
            return json.dumps({"time": show_time(passed.ns), "missed": passed.missed})
        found: dict[str, object] = {
            "time": show_time(passed.ns),
            "from": passed.sender,
            "to": passed.target,
            "command": passed.command,
        }
        try:
            found["parameters"] = dict(Message.parse(passed.text).parameters)
        except MessageError:  # the begin of a long one, for example
            found["text"] = passed.text
        if passed.held:
            found["held"] = True
        if passed.lost:
            found["lost"] = passed.lost
        if passed.size:
            found["bytes"] = passed.size
        return json.dumps(found)

    def _record(self, recorder: Recorder, passed: Passed) -> None:
        if passed.missed:
            pair = self._daemon, "ed-trace"
            text = f"{MISSED} count={passed.missed}"
        else:
            pair, text = (passed.sender, f"{passed.target}{_how(passed)}"), passed.text
        number = self._pairs.setdefault(pair, len(self._pairs) + 1)
        data = text.encode("utf-8", "surrogateescape") + b"\n"
        recorder.write(Source(pair[1], pair[0], number), "in", data)


def _how(passed: Passed) -> str:
    return " (held)" if passed.held else f" (lost: {passed.lost})" if passed.lost else ""
