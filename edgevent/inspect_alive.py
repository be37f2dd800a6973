"""What is alive in this process, for LEAK and for whoever looks for a leak."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Iterable, Iterator
from time import monotonic

from .connection import Connection
from .runtime.turns import Turns, Worker


def describe_alive(turns: Turns, connections: Iterable[Connection]) -> Iterator[str]:
    """Gives one line for each greenlet in a turn and each connection, and one of totals."""
    now = monotonic()
    workers = [found for found in gc.get_objects() if isinstance(found, Worker)]
    for worker in workers:
        task = worker.task
        if worker.turns is turns and task is not None:
            command = getattr(task, "command", "") or "-"
            yield f"greenlet: {task.name}, command {command}, for {now - worker.since:.3f} s"
    held = list(connections)
    for connection in held:
        yield f"connection: {connection!r}"
    descriptors = len(os.listdir("/proc/self/fd")) - 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield (
        f"{len(held)} connections, {len(workers)} greenlets, {descriptors} descriptors,"
        f" {memory} KiB at most"
    )
