"""What signals do that nobody waits for: nothing, or the end, with a word and a stack before it."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import traceback
from types import FrameType
from typing import IO, Final

from ..errors import UsageError
from ..runtime.closing import Closing
from ..runtime.signal_names import CRASHES, TERMINAL_SIGNALS, catchable, signal_name, signal_number
from ..runtime.signals import Disposition, check_main_thread, disposition_of, set_disposition

logger = logging.getLogger("edgevent")

_BY_FAULTHANDLER: Final = (*CRASHES, "SIGABRT")


class Dispositions(Closing):
    """What some signals do for now. It stays so when this is not kept; ``close`` ends it.

    Attributes:
        signals: The names of the signals.
    """

    def __init__(self, numbers: list[int], disposition: Disposition) -> None:
        self._former = {number: set_disposition(number, disposition) for number in numbers}
        self._disposition = disposition
        self.signals = tuple(map(signal_name, numbers))

    def close(self) -> None:
        """Has the signals do what they did before, but those that were set anew. Idempotent.

        Raises:
            UsageError: The thread is not the main one.
        """
        for number, former in self._former.items():
            if former is not None and disposition_of(number) == self._disposition:
                set_disposition(number, former)
        self._former = {}

    def __repr__(self) -> str:
        return f"<Dispositions {', '.join(self.signals)}>"


def ignore_signals(*signals: str | int) -> Dispositions:
    """Has the kernel drop these signals, from now on.

    Programs that are started ignore them too (signal(7)), but for SIGPIPE, which ``subprocess``
    resets. A signal that a source or ``stop_on`` waits for is ignored once those have let go of it.

    Returns:
        What brings back, by ``close`` or as a context manager, what they did before.

    Raises:
        UsageError: There is no such signal, it cannot be ignored, or the thread is not the main
            one.

    Example:
        >>> ignore_signals("SIGHUP", "SIGUSR1")
        <Dispositions SIGHUP, SIGUSR1>
    """
    check_main_thread()
    return Dispositions([catchable(one) for one in signals], signal.SIG_IGN)


def report_deadly_signals(
    *signals: str | int, file: IO[str] | IO[bytes] | int | None = None
) -> Dispositions:
    """Has signals that end the program say so before: a log line, and the stack that ran.

    The program ends as it would have ended without this: by the signal. Nothing else is run, no
    ``finally`` and no ``atexit``. What somebody waits for, or sets a handler for, ends nothing.

    SIGILL, SIGBUS, SIGFPE, SIGSEGV and SIGABRT, which leave Python no time, are reported by
    ``faulthandler``, which writes the stacks of all threads by itself. Others are reported by
    Python, and so not before a call of C has returned; SIGKILL ends any program without a word.

    Args:
        signals: By name or number; by default all that end a program and that still do
            (SIGHUP, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 and the like, not SIGINT).
        file: Where ``faulthandler`` writes, an open file or a descriptor; it must stay open.
            ``sys.stderr`` by default.

    Returns:
        What brings back, by ``close`` or as a context manager, what they did before;
        ``faulthandler`` stays on.

    Raises:
        UsageError: There is no such signal, the file has no descriptor, or the thread is not the
            main one.
    """
    check_main_thread()
    numbers = [catchable(one) for one in signals if signal_name(one) not in _BY_FAULTHANDLER]
    if not signals:
        numbers = [
            number
            for number in map(signal_number, TERMINAL_SIGNALS)
            if disposition_of(number) == signal.SIG_DFL
        ]
    target = sys.stderr if file is None else file
    try:
        faulthandler.enable(target)
    except (AttributeError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"{target!r} is no open file with a descriptor: {error}") from error
    return Dispositions(numbers, _report)


_ending = False


def _report(number: int, frame: FrameType | None) -> None:
    """Runs between two instructions of the main thread, whatever it was at."""
    global _ending
    if not _ending:
        _ending = True
        text = f"{signal_name(number)} ends process {os.getpid()}"
        stack = "".join(traceback.format_stack(frame)).rstrip("\n")
        try:
            record = logger.makeRecord(
                logger.name, logging.CRITICAL, __file__, 0, text, (), None, sinfo=stack
            )
            logger.handle(record)
            logging.shutdown()
        except Exception:  # the interrupted code may hold a lock, or be in the midst of a write
            os.write(2, f"{text}\n{stack}\n".encode(errors="backslashreplace"))
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
