"""The kernel's process connector as bytes: what is asked of it, and what it tells.

The form is that of ``linux/netlink.h``, ``linux/connector.h`` and ``linux/cn_proc.h``: a netlink
header, a connector header, and a ``struct proc_event``, in the byte order of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final, Literal

from ..runtime.signal_names import signal_name

ProcessEventKind = Literal[
    "fork", "exec", "exit", "uid", "gid", "session", "trace", "name", "core-dump", "lost-sync"
]
"""What a process has done; ``lost-sync`` stands for events that the kernel had to drop."""

NETLINK_CONNECTOR: Final = 11
CN_IDX_PROC: Final = 1
_CN_VAL_PROC: Final = 1
LISTEN: Final = 1
IGNORE: Final = 2

_NETLINK: Final = Struct("=IHHII")  # length, type, flags, sequence, port
_CONNECTOR: Final = Struct("=IIIIHH")  # index, value, sequence, acknowledgement, length, flags
_EVENT: Final = Struct("=IIQ")  # what, processor, nanoseconds since the boot
_OPERATION: Final = Struct("=I")
_ERROR: Final = Struct("=i")
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLMSG_OVERRUN: Final = 4

_ACK: Final = 0  # PROC_EVENT_NONE
_TWO: Final = Struct("=ii")
_FOUR: Final = Struct("=iiii")
_IDS: Final = Struct("=iiII")
_COMM: Final = Struct("=ii16s")
_EXIT: Final = Struct("=iiIiii")
# Kernels before 3.15 do not tell the parent in an exit.
_SHORT_EXIT: Final = Struct("=iiIi")


@dataclass(frozen=True, slots=True)
class ProcessEvent:
    """Something that a process of this machine has done.

    Ids are those of the initial pid namespace. ``pid`` is the process, ``tid`` its thread that did
    it (the same for its first one). What a kind does not have is ``None``.

    Attributes:
        kind: ``fork``, ``exec``, ``exit``, ``uid``, ``gid``, ``session`` (setsid), ``trace``,
            ``name``, ``core-dump``, or ``lost-sync``: the kernel has dropped events, because they
            were not taken fast enough.
        pid: The process: the new one for ``fork``; 0 for ``lost-sync``.
        tid: The thread of it.
        time: Seconds since the boot (``CLOCK_MONOTONIC``).
        parent: The parent's pid, of ``fork``, ``exit`` and ``core-dump``.
        exit_code: 0 to 255, of an ``exit`` that no signal has caused.
        signal: The signal that has caused the ``exit``.
        core_dumped: Whether it left a core dump, of ``exit``.
        real: The new real user or group, of ``uid`` and ``gid``.
        effective: The new effective one.
        name: The new name, of ``name``; 15 bytes at the most.
        tracer: Who traces it now, of ``trace``; 0 for nobody.
    """

    kind: ProcessEventKind
    pid: int = 0
    tid: int = 0
    time: float = 0.0
    parent: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    core_dumped: bool = False
    real: int | None = None
    effective: int | None = None
    name: str | None = None
    tracer: int | None = None

    @property
    def signal_name(self) -> str | None:
        """The name of the signal, such as ``SIGKILL``."""
        return None if self.signal is None else signal_name(self.signal)

    @property
    def is_thread(self) -> bool:
        """Whether a thread did it that is not the first one of its process."""
        return self.pid != self.tid


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The kernel's answer to LISTEN or IGNORE: 0, or the number of an error."""

    error: int
    sequence: int


def pack_operation(operation: int, sequence: int) -> bytes:
    """Returns the message that begins or ends to listen."""
    body = _OPERATION.pack(operation)
    size = _NETLINK.size + _CONNECTOR.size + len(body)
    return (
        _NETLINK.pack(size, _NLMSG_DONE, 0, sequence, 0)
        + _CONNECTOR.pack(CN_IDX_PROC, _CN_VAL_PROC, sequence, 0, len(body), 0)
        + body
    )


def parse_events(data: bytes) -> Iterator[ProcessEvent | Acknowledgement]:
    """Gives what is in one datagram of the kernel; what is cut short or unknown is left out."""
    start = 0
    while start + _NETLINK.size <= len(data):
        size, kind, _, _, _ = _NETLINK.unpack_from(data, start)
        if size < _NETLINK.size or start + size > len(data):
            return
        body = data[start + _NETLINK.size : start + size]
        start += (size + 3) & ~3
        if kind == _NLMSG_OVERRUN:
            yield ProcessEvent("lost-sync")
        elif kind == _NLMSG_ERROR:
            if len(body) >= _ERROR.size:
                yield Acknowledgement(-_ERROR.unpack_from(body)[0], 0)
        elif len(body) >= _CONNECTOR.size + _EVENT.size:
            index, value, sequence, _, length, _ = _CONNECTOR.unpack_from(body)
            if (index, value) == (CN_IDX_PROC, _CN_VAL_PROC):
                found = _parse(body[_CONNECTOR.size : _CONNECTOR.size + length], sequence)
                if found is not None:
                    yield found


def _parse(body: bytes, sequence: int) -> ProcessEvent | Acknowledgement | None:
    if len(body) < _EVENT.size:
        return None
    what, _, nanoseconds = _EVENT.unpack_from(body)
    rest = body[_EVENT.size :]
    form = _FORMS.get(what)
    if form is None or len(rest) < form.size:
        if what != _PROC_EXIT or len(rest) < _SHORT_EXIT.size:
            return None
        form = _SHORT_EXIT
    found = form.unpack_from(rest)
    if what == _ACK:
        return Acknowledgement(found[0], sequence)
    time = nanoseconds / 1e9
    tid, pid = found[:2]
    if what == 0x1:
        return ProcessEvent("fork", found[3], found[2], time, parent=pid)
    if what == _PROC_EXIT:
        return _parse_exit(pid, tid, time, found)
    if what in (0x4, 0x40):
        kind: ProcessEventKind = "uid" if what == 0x4 else "gid"
        return ProcessEvent(kind, pid, tid, time, real=found[2], effective=found[3])
    if what == 0x100:
        return ProcessEvent("trace", pid, tid, time, tracer=found[3])
    if what == 0x200:
        name = os.fsdecode(found[2].partition(b"\0")[0])
        return ProcessEvent("name", pid, tid, time, name=name)
    if what == 0x40000000:
        return ProcessEvent("core-dump", pid, tid, time, parent=found[3])
    return ProcessEvent("exec" if what == 0x2 else "session", pid, tid, time)


def _parse_exit(pid: int, tid: int, time: float, found: tuple[int, ...]) -> ProcessEvent:
    status = found[2]  # as of wait(2)
    parent = found[5] if len(found) > 4 else None
    if os.WIFSIGNALED(status):
        return ProcessEvent(
            "exit",
            pid,
            tid,
            time,
            parent=parent,
            signal=os.WTERMSIG(status),
            core_dumped=os.WCOREDUMP(status),
        )
    return ProcessEvent("exit", pid, tid, time, parent=parent, exit_code=os.WEXITSTATUS(status))


_PROC_EXIT: Final = 0x80000000
# By the numbers of ``enum proc_cn_event``; all but the first begin with a thread and its process.
_FORMS: Final = {
    _ACK: _ERROR,
    0x1: _FOUR,  # fork: the parent's, then the child's
    0x2: _TWO,  # exec
    0x4: _IDS,  # uid: real, effective
    0x40: _IDS,  # gid
    0x80: _TWO,  # setsid
    0x100: _FOUR,  # ptrace: the tracer's
    0x200: _COMM,
    0x40000000: _FOUR,  # coredump: the parent's
    _PROC_EXIT: _EXIT,
}
