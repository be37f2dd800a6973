"""The server's process, and what it costs: processor time, memory, the CPU that it is held to."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class ServerProcess:
    """A server of ``server.py``.

    Args:
        kind: ``raw``, ``own``, or ``tls``: edgevent's own with TLS.
        folder: Where its Unix socket goes, and where the files of its certificate are.
        module: The program, where it is another one.
    """

    def __init__(self, kind: str, folder: str, module: str = "tests.bench.server") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, kind, folder],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        if len(words) != 3:
            self.close()
            raise SystemExit(f"the {kind} server did not start")
        self.host, self.port, self.path = words[0], int(words[1]), words[2]

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def tcp(self) -> str:
        """Its TCP address, as text for edgevent."""
        return f"tcp://{self.host}:{self.port}"

    @property
    def tls(self) -> str:
        """Its TLS address, if it is an encrypted one."""
        return f"tls://{self.host}:{self.port}"

    @property
    def unix(self) -> str:
        """Its Unix address, as text for edgevent."""
        return f"unix:{self.path}"

    def cpu_time(self) -> float:
        """Seconds of processor time that it has used."""
        # The clock id of another process: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the
        # kernel's include/linux/posix-timers_types.h; what clock_getcpuclockid(3) returns.
        return time.clock_gettime((~self.pid << 3) | 2)

    def resident(self) -> int:
        """Bytes of memory that it holds and shares with nobody."""
        total = 0
        for row in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if row.startswith(("Private_Clean:", "Private_Dirty:")):
                total += int(row.split()[1]) * 1024
        return total

    def close(self) -> None:
        """Kills it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def pinned(pin: bool, *servers: ServerProcess) -> Iterator[None]:
    """Holds this process and the servers to one CPU, if ``pin`` is set."""
    before = os.sched_getaffinity(0)
    chosen = {max(before)} if pin else before
    pids = [0, *(server.pid for server in servers)]
    for pid in pids:
        os.sched_setaffinity(pid, chosen)
    try:
        yield
    finally:
        for pid in pids:
            os.sched_setaffinity(pid, before)


def raise_descriptor_limit(wanted: int) -> int:
    """Raises this process's limit, and that of servers started later; returns what it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
