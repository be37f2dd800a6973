"""The row of timers: what one costs, and how late 10,000 are."""

import gc
import math
import time
from collections.abc import Callable, Iterator
from statistics import median

import gevent

from edgevent import Clock, Communicator, Timer

from .measure import Options


def timers(options: Options) -> None:
    """Create and cancel; 10,000 at 1 Hz: CPU and lateness."""
    print(f"    {'create and cancel, us each':38}{'min':>8}{'median':>8}{'max':>8}")
    count = options.count(20_000, 100)
    makers = {
        "loop.timer": bare,
        "Clock.call_later": by_clock,
        "Communicator.after": by_after,
        "Timer, added": by_timer,
    }
    costs: dict[str, list[float]] = {label: [] for label in makers}
    for _ in range(options.rounds):
        for label, maker in makers.items():
            gc.collect()
            costs[label].append(maker(count))
    for label, found in costs.items():
        text = f"    {label:38}{min(found):8.2f}{median(found):8.2f}{max(found):8.2f}"
        if label != "loop.timer":
            text += "   must 2, aim 0.8" + (" -" if median(found) > 2.0 else "")
        print(text, flush=True)
    many = options.count(10_000, 50)
    seconds = 5.0 if options.size >= 1.0 else 0.5
    print(
        f"    {f'{many} at 1 Hz for {seconds:g} s':38}{'CPU %':>8}{'late ms: median':>16}{'p99':>8}"
    )
    for label, run in (("loop.timer", ticking_bare), ("Communicator.every", ticking)):
        results = [tick(run, many, seconds) for _ in range(min(options.rounds, 3))]
        used, middle, late = (median(values) for values in zip(*results, strict=True))
        text = f"    {label:38}{used:8.1f}{middle:16.2f}{late:8.2f}"
        if label != "loop.timer":
            text += "   must 8 and 2, aim 4 and 1.2" + (" -" if used > 8.0 or late > 2.0 else "")
        print(text, flush=True)


def nothing(*arguments: object) -> None:
    """What the timers call."""


def each(began: float, count: int) -> float:
    """Gives the microseconds an operation."""
    return 1e6 * (time.perf_counter() - began) / count


def bare(count: int) -> float:
    """A timer of the loop, as the raw program would use it."""
    loop = gevent.get_hub().loop
    began = time.perf_counter()
    for _ in range(count):
        timer = loop.timer(60.0)
        timer.start(nothing)
        timer.stop()
        timer.close()
    return each(began, count)


def by_clock(count: int) -> float:
    """What every limit of the package is made of."""
    clock = Clock()
    began = time.perf_counter()
    for _ in range(count):
        clock.call_later(60.0, nothing).stop()
    return each(began, count)


def by_after(count: int) -> float:
    """A function called later, by the communicator."""
    with Communicator() as communicator:
        began = time.perf_counter()
        for _ in range(count):
            communicator.after(60.0, nothing).close()
        return each(began, count)


def by_timer(count: int) -> float:
    """A timer as an object, added and closed."""
    with Communicator() as communicator:
        began = time.perf_counter()
        for _ in range(count):
            communicator.add_connection(Timer(60.0, nothing)).close()
        return each(began, count)


# --- lateness -------------------------------------------------------------------------------------

Lateness = list[float]
Ticking = Callable[[int, float, Lateness], None]


def tick(run: Ticking, count: int, seconds: float) -> tuple[float, float, float]:
    """Runs many timers; returns the CPU in percent, and the lateness in ms: median, p99."""
    late: Lateness = []
    gc.collect()
    used, began = time.process_time(), time.monotonic()
    run(count, seconds, late)
    share = (time.process_time() - used) / (time.monotonic() - began)
    late = sorted(late) or [math.nan]  # at a tiny size, on a machine that is busy
    return 100.0 * share, 1e3 * late[len(late) // 2], 1e3 * late[len(late) * 99 // 100]


def phases(count: int) -> Iterator[tuple[float, int]]:
    """Gives 100 moments of the first second, with the number of timers that begin there."""
    for step in range(100):
        amount = count // 100 + (step < count % 100)
        if amount:
            yield step / 100, amount


def spread(count: int, began: float, start: Callable[[], None]) -> None:
    """Starts the timers over one second, so that they do not all fire at one moment."""
    for moment, amount in phases(count):
        gevent.sleep(max(0.0, began + moment - time.monotonic()))
        for _ in range(amount):
            start()


def mark(late: Lateness) -> Callable[[], None]:
    """Makes what a timer calls: it writes down how late it is."""
    due = time.monotonic()

    def called() -> None:
        nonlocal due
        due += 1.0
        late.append(time.monotonic() - due)

    return called


def ticking_bare(count: int, seconds: float, late: Lateness) -> None:
    """Timers of the loop."""
    loop = gevent.get_hub().loop
    made = []

    def start() -> None:
        loop.update_now()
        timer = loop.timer(1.0, 1.0)
        timer.start(mark(late))
        made.append(timer)

    spread(count, time.monotonic(), start)
    gevent.sleep(seconds)
    for timer in made:
        timer.stop()
        timer.close()


def ticking(count: int, seconds: float, late: Lateness) -> None:
    """Timers of the communicator, while it runs."""
    with Communicator() as communicator:

        def start() -> None:
            communicator.every(1.0, mark(late))

        def work() -> None:
            spread(count, time.monotonic(), start)
            gevent.sleep(seconds)
            communicator.stop(0.0)

        holder = communicator.every(3600.0, nothing)
        worker = gevent.spawn(work)
        communicator.run()
        holder.close()
        worker.get()
