"""Processes by their id, by the unit of systemd or by their name, each held by a pidfd.

A pidfd (man 2 pidfd_open) stands for one process: once that is gone, another one that gets the
same id is not hit.
"""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..errors import EdgeventError, UsageError

_SYSTEMCTL_TIMEOUT: Final = 30.0
_ATTEMPTS: Final = 5
_MAX_PID: Final = 2**22  # PID_MAX_LIMIT, include/linux/threads.h
_UNIT: Final = re.compile(r"[A-Za-z0-9:_.@\\-]{1,255}", re.ASCII)
_INTERPRETER: Final = re.compile(
    r"(python|pypy|perl|ruby|node|nodejs|php|lua|tclsh|wish|guile|(ba|da|z|k|mk|c|tc|fi)?sh)[0-9.]*"
)
# The options of Python and Perl whose value is a word of its own.
_WITH_VALUE: Final = frozenset({"-X", "-W", "-I", "--check-hash-based-pycs"})
_STATES: Final = {"D": "in an uninterruptible wait", "T": "stopped", "t": "traced"}


class StopError(EdgeventError):
    """A process that is not to be stopped, or cannot be."""


class Held:
    """A process that is held by a pidfd, so that no other one can be meant.

    Args:
        fd: The pidfd; it is closed by :meth:`close`.
        pid: Its id.
        name: How the user called it.
    """

    def __init__(self, fd: int, pid: int, name: str) -> None:
        self._fd = fd
        self.pid = pid
        self.shown = f"process {pid}" if name == str(pid) else f"{name} (process {pid})"
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of it."""
        os.close(self._fd)

    def wait(self, timeout: float) -> bool:
        """Waits in the kernel until the process has ended; a zombie has.

        Args:
            timeout: The limit in seconds.

        Returns:
            Whether it has.
        """
        return bool(self._poll.poll(timeout * 1000.0))

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; a process that is gone needs none.

        Raises:
            StopError: It is not allowed.
        """
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            pass
        except OSError as error:
            why = error.strerror
            raise StopError(f"{self.shown}: {number.name} was not sent: {why}") from error

    def state(self) -> str:
        """Says why it may not have ended, if its state tells; empty otherwise."""
        found = _read_stat(self.pid)
        why = _STATES.get(found.state, "") if found else ""
        return f" ({why})" if why else ""


def hold(pid: int, name: str) -> Held | None:
    """Holds the process with an id.

    Args:
        pid: The id.
        name: How the user called it.

    Returns:
        The process, or ``None`` when there is none.

    Raises:
        StopError: It must not be stopped, or it cannot be held.
        UsageError: There is no such id.
    """
    if pid > _MAX_PID:
        raise UsageError(f"process {pid}: expected an id up to {_MAX_PID}")
    who = {0: "every process of a group", 1: "the one that starts all others"}.get(pid)
    who = "ed-stop itself" if pid == os.getpid() else who
    if who:
        raise StopError(f"process {pid} is {who}, and is not stopped")
    try:
        return Held(os.pidfd_open(pid), pid, name)
    except ProcessLookupError:
        return None
    except OSError as error:
        # ENOENT of newer kernels, EINVAL of others: the id is that of a thread.
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise StopError(f"process {pid}: {error.strerror}") from error
        raise StopError(f"{pid} is a thread, not a process, and is not stopped") from error


# --- by systemd -----------------------------------------------------------------------------------


def find_main_pid(unit: str) -> Held | None:
    """Holds the main process of a unit of systemd.

    Returns:
        The process, or ``None`` when the unit does not run.

    Raises:
        StopError: systemd cannot be asked, or the process must not be stopped.
        UsageError: The name can be of no unit.
    """
    if not _UNIT.fullmatch(unit):
        raise UsageError(f"{unit!r}: expected the name of one unit, such as hello.service")
    pid = _ask_systemd(unit)
    for _ in range(_ATTEMPTS):
        if pid == 0:
            return None
        held = hold(pid, unit)
        # It may have ended, and its id have gone to another, before it was held.
        again = _ask_systemd(unit)
        if again == pid:
            return held
        if held is not None:
            held.close()
        pid = again
    raise StopError(f"{unit}: its main process changes all the time")


def _ask_systemd(unit: str) -> int:
    words = ["systemctl", "show", "--property", "MainPID", "--value", unit]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SYSTEMCTL_TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise StopError(
            f"{unit}: there is no systemctl to ask; --process-name looks for a process"
        ) from None
    except OSError as error:
        raise StopError(f"{unit}: systemctl was not started: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise StopError(f"{unit}: no answer of systemctl in {_SYSTEMCTL_TIMEOUT:g} s") from None
    answer = done.stdout.decode("ascii", "backslashreplace").strip()
    if done.returncode == 0 and answer.isascii() and (answer.isdigit() or not answer):
        return int(answer or 0)
    said = done.stderr.decode("utf-8", "backslashreplace").strip() or f"it answered {answer!r}"
    raise StopError(f"{unit}: systemctl failed with code {done.returncode}: {said}")


# --- by name --------------------------------------------------------------------------------------


class _Stat(NamedTuple):
    state: str
    parent: int


def find_by_name(name: str) -> Held | None:
    """Holds the process of a name: its own, that of its program, or that of the script it runs.

    Of a process and those that come from it, it is the first one. This process and those that it
    comes from are none of them.

    Returns:
        The process, or ``None`` when there is none.

    Raises:
        StopError: Several processes have the name that do not come from one of them.
    """
    if "/" in name or "\0" in name:
        raise UsageError(f"{name!r}: expected a name without its folder")
    pids = _top({pid for pid in _pids() if _is_called(pid, name)} - _own_line())
    if len(pids) > 1:
        shown = ", ".join(map(str, sorted(pids)))
        raise StopError(f"{name}: {len(pids)} processes have this name: {shown}; expected one id")
    for pid in pids:
        held = hold(pid, name)
        # The id may have gone to another one in between.
        if held is not None and _is_called(pid, name):
            return held
        if held is not None:
            held.close()
    return None


def _pids() -> Iterator[int]:
    return (int(one) for one in os.listdir("/proc") if one.isdigit())


def _own_line() -> set[int]:
    line: set[int] = set()
    pid = os.getpid()
    while pid and pid not in line:
        line.add(pid)
        found = _read_stat(pid)
        pid = found.parent if found else 0
    return line


def _top(pids: set[int]) -> set[int]:
    """Leaves out those that come from another one of them."""
    kept = set()
    for pid in pids:
        above, seen = _parent(pid), {pid}
        while above and above not in pids and above not in seen:
            seen.add(above)
            above = _parent(above)
        if above not in pids:
            kept.add(pid)
    return kept


def _parent(pid: int) -> int:
    found = _read_stat(pid)
    return found.parent if found else 0


def _is_called(pid: int, name: str) -> bool:
    found = _read_stat(pid)
    if found is None or found.state in "ZX":
        return False
    wanted = os.fsencode(name)
    words = _read(pid, "cmdline").rstrip(b"\0").split(b"\0")
    if not words[0]:
        return False  # a thread of the kernel
    names = {os.path.basename(words[0]), os.path.basename(_script(words))}
    # Of a longer name the kernel keeps 15 bytes (man 5 proc_pid_comm), which may be anybody's.
    return wanted in names or _read(pid, "comm").rstrip(b"\n") == wanted


def _script(words: list[bytes]) -> bytes:
    """Gives the script, or the module, that an interpreter runs."""
    program = os.fsdecode(os.path.basename(words[0]))
    rest = iter(words[1:] if _INTERPRETER.fullmatch(program) else ())
    for word in rest:
        text = os.fsdecode(word)
        if text == "-m":
            return next(rest, b"")
        if text in ("-c", "-e"):
            return b""
        if text in _WITH_VALUE:
            next(rest, None)
        elif not text.startswith("-") or text == "-":
            return word
    return b""


def _read_stat(pid: int) -> _Stat | None:
    # man 5 proc_pid_stat; the name in parentheses may hold anything.
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return _Stat(fields[0].decode(), int(fields[1])) if len(fields) > 1 else None


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:  # it has ended, or it is none of ours to look at
        return b""
