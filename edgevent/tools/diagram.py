"""Sequence diagrams of what has passed: as text, and in the language of Mermaid.

Source: https://mermaid.js.org/syntax/sequenceDiagram.html
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Final

from .output import printable
from .trace_events import Passed

MAX_STEPS: Final = 1_000
"""The most messages of a diagram; the first ones are kept."""
MAX_PARTIES: Final = 20
"""The most services of a diagram; messages of others are left out."""

_SPECIAL: Final = re.compile(r"[#;]")
_LABEL: Final = 32


class Diagram:
    """Collects messages, and draws them.

    Attributes:
        left_out: How many messages had no place in it.
    """

    def __init__(self) -> None:
        self._steps: list[Passed] = []
        self._parties: dict[str, int] = {}
        self.left_out = 0

    def add(self, passed: Passed) -> None:
        """Takes a message, or a gap."""
        if len(self._steps) >= MAX_STEPS or not (passed.missed or self._knows(passed)):
            self.left_out += 1
            return
        self._steps.append(passed)

    def _knows(self, passed: Passed) -> bool:
        new = dict.fromkeys((passed.sender, passed.target)).keys() - self._parties.keys()
        if len(self._parties) + len(new) > MAX_PARTIES:
            return False
        for name in (passed.sender, passed.target):
            self._parties.setdefault(name, len(self._parties))
        return True

    # --- text -------------------------------------------------------------------------------------

    def text(self) -> Iterator[str]:
        """Draws it as lines of text."""
        if self._parties:
            columns = self._columns()
            names = [printable(name) for name in self._parties]
            yield _place(
                {at - len(name) // 2: name for at, name in zip(columns, names, strict=True)}
            )
            for step in self._steps:
                yield from self._draw(step, columns)
        if self.left_out:
            yield f"... and {self.left_out} more"

    def _columns(self) -> list[int]:
        """Where the line of each service stands: far enough apart for names and labels."""
        names = [len(printable(name)) for name in self._parties]
        gaps = [(one + other) // 2 + 3 for one, other in itertools.pairwise(names)]
        for step in self._steps:
            if step.missed:
                continue
            first, last = sorted((self._parties[step.sender], self._parties[step.target]))
            need = len(_label(step)) + 5
            if first == last and last < len(gaps):
                gaps[last] = max(gaps[last], need)
            elif first < last:
                have = sum(gaps[first:last])
                gaps[last - 1] += max(need - have, 0)
        columns = [names[0] // 2]
        for gap in gaps:
            columns.append(columns[-1] + gap)
        return columns

    def _draw(self, step: Passed, columns: list[int]) -> Iterator[str]:
        bars = dict.fromkeys(columns, "|")
        if step.missed:
            yield _place({**bars, columns[-1] + 2: f"{step.missed} missed"})
            return
        start, end = columns[self._parties[step.sender]], columns[self._parties[step.target]]
        label = _label(step)
        if start == end:
            bars = {at: one for at, one in bars.items() if not start < at < start + len(label) + 5}
            yield _place({**bars, start: f"|<-{label}-."})
            return
        tip = "x" if step.lost else "o" if step.held else ">" if start < end else "<"
        left, right = sorted((start, end))
        shaft = label.center(right - left - 2, "-")
        shaft = f"{shaft}{tip}" if start < end else f"{tip}{shaft}"
        bars = {at: one for at, one in bars.items() if not left < at < right}
        yield _place({**bars, left + 1: shaft})

    # --- Mermaid ----------------------------------------------------------------------------------

    def mermaid(self) -> Iterator[str]:
        """Writes it in the language of Mermaid, as lines."""
        yield "sequenceDiagram"
        for name, number in self._parties.items():
            yield f"    participant p{number} as {_entity(name)}"
        first, last = "p0", f"p{len(self._parties) - 1}"
        over = first if first == last else f"{first},{last}"
        for step in self._steps:
            if not step.missed:
                sender, target = self._parties[step.sender], self._parties[step.target]
                arrow = "-x" if step.lost else "-)" if step.held else "->>"
                yield f"    p{sender}{arrow}p{target}: {_entity(_label(step))}"
            elif self._parties:
                yield f"    Note over {over}: {step.missed} missed"
        if self.left_out and self._parties:
            yield f"    Note over {over}: and {self.left_out} more"


def _label(step: Passed) -> str:
    command = step.command or "?"
    return command if len(command) <= _LABEL else f"{command[: _LABEL - 3]}..."


def _place(texts: dict[int, str]) -> str:
    line = ""
    for at, text in sorted(texts.items()):
        line = line[:at].ljust(at) + text + line[at + len(text) :]
    return line.rstrip()


def _entity(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", printable(text))
