"""Interleaved rounds, and the table that they print."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median

from .process import ServerProcess

Run = Callable[[int], object]
"""What does so many operations."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    rounds: int = 5
    size: float = 1.0
    pins: tuple[bool, ...] = (True, False)

    def count(self, usual: int, least: int = 1) -> int:
        """The number of operations, for the usual one."""
        return max(least, int(usual * self.size))


@dataclass(frozen=True)
class Sample:
    """One run."""

    operations: int
    seconds: float
    client_cpu: float
    server_cpu: float

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds


@dataclass
class Case:
    """One thing that is measured.

    Args:
        label: What the table calls it.
        load: Makes ready, gives a function that does so many operations, and cleans up.
        server: Whose processor time counts too.
        must, aim: The goals of the ratio, if it has some.
        cpu_alone: Whether the ratio is that of the server's processor time, not of the time passed.
    """

    label: str
    load: Callable[[], AbstractContextManager[Run]]
    server: ServerProcess | None = None
    must: float | None = None
    aim: float | None = None
    cpu_alone: bool = False
    samples: list[Sample] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    def measure(self, count: int, warm: int) -> Sample:
        """Runs once, after a short run that does not count."""
        with self.load() as run:
            if warm:
                run(warm)
            server = self.server
            before = server.cpu_time() if server else 0.0
            used, began = time.process_time(), time.perf_counter()
            run(count)
            seconds = time.perf_counter() - began
            client = time.process_time() - used
            spent = server.cpu_time() - before if server else 0.0
        sample = Sample(count, seconds, client, spent)
        self.samples.append(sample)
        return sample


def compare(
    base: Case, cases: list[Case], options: Options, count: int, warm: int | None = None
) -> None:
    """Runs the baseline, each case and the baseline again, round after round; prints the table."""
    warm = max(1, count // 20) if warm is None else warm
    for _ in range(options.rounds):
        before = base.measure(count, warm)
        found = [case.measure(count, warm) for case in cases]
        after = base.measure(count, warm)
        for case, sample in zip(cases, found, strict=True):
            if case.cpu_alone:
                usual = (before.server_cpu + after.server_cpu) / 2
                # At a tiny size the server may not have been charged for anything yet.
                case.ratios.append(usual / max(sample.server_cpu, 1e-6))
            else:
                case.ratios.append(sample.rate / ((before.rate + after.rate) / 2))
    for row in table(base, cases):
        print(row, flush=True)


def table(base: Case, cases: list[Case]) -> Iterator[str]:
    """Gives the lines of the table."""
    yield (
        f"    {'':38}{'a second':>12}{'ratio min':>12}{'median':>8}{'max':>8}"
        f"{'must':>7}{'aim':>7}   {'CPU us: client':>14}{'server':>8}"
    )
    for case in (base, *cases):
        rate = median(sample.rate for sample in case.samples)
        text = f"    {case.label:38}{rate:12,.0f}"
        if case.ratios:
            low, middle, high = min(case.ratios), median(case.ratios), max(case.ratios)
            text += f"{low:12.2f}{middle:8.2f}{high:8.2f}"
            text += f"{goal(case.must)}{goal(case.aim)}{verdict(case, middle)}"
        else:
            text += " " * 45
        client = median(1e6 * found.client_cpu / found.operations for found in case.samples)
        text += f"{client:14.2f}"
        if case.server is not None:
            server = median(1e6 * found.server_cpu / found.operations for found in case.samples)
            text += f"{server:8.2f}"
        yield text


def goal(value: float | None) -> str:
    """Shows a goal."""
    return f"{'' if value is None else f'{value:g}':>7}"


def verdict(case: Case, ratio: float) -> str:
    """Marks a median below the must with ``-``, one that reaches the aim with ``+``."""
    if case.must is not None and ratio < case.must:
        return " - "
    return " + " if case.aim is not None and ratio >= case.aim else "   "


def heading(pin: bool) -> None:
    """Says how the processes are held."""
    print("  " + ("client and server on one CPU" if pin else "not pinned"), flush=True)
