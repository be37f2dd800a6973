"""The row of files: events a second, the handler called for each."""

import os
import tempfile
import time
from collections.abc import Callable
from statistics import median

from gevent.event import Event

from edgevent import Communicator, FileEvent, FileWatch

from .measure import Options

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where the files are made: a disk may be slower than what is told of it."""
BATCH = 1_000  # fewer than the kernel's queue takes


def files(options: Options) -> None:
    """File events a second through FileWatch, those who cause them included: must 20,000."""
    count = options.count(100_000, 2 * BATCH)
    print(f"    {'':38}{'min':>10}{'median':>10}{'max':>10}")
    for label, run in (("written by turns", write), ("made and written", make)):
        rates = [watch(run, count) for _ in range(options.rounds)]
        text = f"    {label:38}{min(rates):10,.0f}{median(rates):10,.0f}{max(rates):10,.0f}"
        print(text + "   must 20,000" + (" -" if median(rates) < 20_000 else ""), flush=True)


Cause = Callable[[str], int]
"""Causes some events in a folder; returns how many."""


def write(folder: str) -> int:
    """Writes to two files by turns: the kernel joins events of one kind and file in a row."""
    descriptors = [os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT) for name in "ab"]
    for number in range(BATCH):
        os.pwrite(descriptors[number & 1], b"x", 0)
    for descriptor in descriptors:
        os.close(descriptor)
    return BATCH


def make(folder: str) -> int:
    """Makes files and writes to each: it is created, written and updated."""
    for number in range(BATCH // 3):
        descriptor = os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"x")
        os.close(descriptor)
    for number in range(BATCH // 3):
        os.unlink(f"{folder}/{number}")
    return BATCH // 3 * 3


def watch(cause: Cause, count: int) -> float:
    """Causes so many events, batch after batch, each when the one before it has been told."""
    kinds = {"created", "updated", "write"} if cause is make else {"write"}
    left, all_told = 0, Event()

    def told(event: FileEvent) -> None:
        nonlocal left
        left -= 1
        if not left:
            all_told.set()

    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, Communicator() as communicator:
        communicator.add_connection(FileWatch(folder, told, events=kinds))
        done, began = 0, time.perf_counter()
        while done < count:
            all_told.clear()
            left += BATCH if cause is write else BATCH // 3 * 3
            done += cause(folder)
            all_told.wait()
        return done / (time.perf_counter() - began)
