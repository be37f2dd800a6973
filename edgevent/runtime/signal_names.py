"""The signals of this system: their names and numbers, both ways, and sets of them."""

from __future__ import annotations

import difflib
import re
import signal
from typing import Final

from ..errors import UsageError

CRASHES: Final = ("SIGILL", "SIGBUS", "SIGFPE", "SIGSEGV")
"""What the processor raises at an instruction, which would be run again after a handler."""

# signal(7), "Standard signals": those whose action, when nobody catches them, is Term or Core.
# Without those above; SIGINT, which Python makes a KeyboardInterrupt; SIGPIPE and SIGXFSZ, which
# Python ignores; and those that only a debugger or the kernel's own accounting uses.
TERMINAL_SIGNALS: Final = (
    "SIGHUP",
    "SIGQUIT",
    "SIGTERM",
    "SIGUSR1",
    "SIGUSR2",
    "SIGALRM",
    "SIGVTALRM",
    "SIGPROF",
    "SIGXCPU",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
)
"""The signals that end a program when nobody catches them, and that somebody may send."""

_REAL_TIME: Final = re.compile(r"SIGRT(MIN|MAX)([+-][0-9]{1,3})?", re.ASCII)
_NUMBERS: Final = {name: int(number) for name, number in signal.Signals.__members__.items()}
if 16 not in _NUMBERS.values():
    _NUMBERS["SIGSTKFLT"] = 16  # which Python names from 3.11 on
_NAMES: Final = {number: name for name, number in reversed(_NUMBERS.items())}  # no later alias
_FIRST: Final = int(signal.SIGRTMIN)
_LAST: Final = int(signal.SIGRTMAX)


def signal_number(signal_or_name: str | int) -> int:
    """Returns the number of a signal.

    Args:
        signal_or_name: A name, with or without ``SIG``, in any case (``"SIGTERM"``, ``"term"``,
            ``"SIGRTMIN+3"``), or a number.

    Raises:
        UsageError: This system has no such signal.
    """
    if isinstance(signal_or_name, str):
        found = _by_name(signal_or_name)
    else:
        found = signal_or_name if signal_or_name in signal.valid_signals() else None
    if found is None:
        near = difflib.get_close_matches(str(signal_or_name).upper(), _NUMBERS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"{signal_or_name!r} is no signal: a name such as SIGTERM was expected{hint}"
        )
    return int(found)


def _by_name(name: str) -> int | None:
    text = name.upper()
    if not text.startswith("SIG"):
        text = f"SIG{text}"
    real_time = _REAL_TIME.fullmatch(text)
    if real_time is not None:
        number = (_FIRST if real_time[1] == "MIN" else _LAST) + int(real_time[2] or 0)
        return number if _FIRST <= number <= _LAST else None
    return _NUMBERS.get(text)


def signal_name(signal_or_name: str | int) -> str:
    """Returns the name of a signal: ``"SIGTERM"`` of 15, ``"SIGRTMIN+3"`` of a real-time one.

    Raises:
        UsageError: This system has no such signal.
    """
    number = signal_number(signal_or_name)
    if _FIRST < number <= _LAST:
        return f"SIGRTMIN+{number - _FIRST}"
    return _NAMES[number]


def catchable(signal_or_name: str | int) -> int:
    """Returns the number of a signal that can be called back for.

    Raises:
        UsageError: There is no such signal, or it cannot be caught.
    """
    number = signal_number(signal_or_name)
    name = signal_name(number)
    if number in (signal.SIGKILL, signal.SIGSTOP):
        raise UsageError(f"{name} cannot be caught")
    if number == signal.SIGCHLD:
        raise UsageError("SIGCHLD belongs to the loop, which tells of the end of children")
    if name in CRASHES:
        raise UsageError(f"{name} ends the program: report_deadly_signals() says where it was")
    return number
