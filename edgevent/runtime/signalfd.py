"""Signals with their sender, read from a descriptor: signalfd(2), which Python does not have."""

from __future__ import annotations

import os
import struct
from typing import Final

# struct signalfd_siginfo of <sys/signalfd.h>, 128 bytes: ssi_signo, ssi_errno, ssi_code, ssi_pid,
# ssi_uid, and what is not needed here.
_SIGINFO: Final = struct.Struct("=IiiII")
_SIGINFO_BYTES: Final = 128
_SENT_BY_PROCESS: Final = (0, -1, -6)  # SI_USER, SI_QUEUE, SI_TKILL of sigaction(2)

Sender = tuple[int | None, int | None]
"""The pid and the uid; ``None`` each when the kernel itself sent it, as it does for a timer."""


def open_signalfd(number: int) -> int:
    """Returns a new descriptor, non-blocking and closed in children, that reads one signal.

    The signal must be blocked in the mask of the threads that would get it otherwise.

    Raises:
        OSError: There are too many open files.
    """
    import ctypes  # 10 ms and a megabyte, for those alone who ask for senders

    libc = ctypes.CDLL(None, use_errno=True)
    signals = ctypes.create_string_buffer(128)  # sigset_t
    libc.sigemptyset(signals)
    libc.sigaddset(signals, number)
    # The flags are those of open: SFD_NONBLOCK and SFD_CLOEXEC are defined by them.
    descriptor: int = libc.signalfd(-1, signals, os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"signalfd: {os.strerror(error)}")
    return descriptor


def read_senders(descriptor: int, most: int) -> list[Sender]:
    """Returns the senders of the signals that wait, the first one first, and takes them away."""
    try:
        data = os.read(descriptor, most * _SIGINFO_BYTES)
    except BlockingIOError:
        return []
    found: list[Sender] = []
    for start in range(0, len(data), _SIGINFO_BYTES):
        _, _, code, pid, uid = _SIGINFO.unpack_from(data, start)
        # A process outside of this one's pid namespace has no number here.
        found.append((pid or None, uid) if code in _SENT_BY_PROCESS else (None, None))
    return found
