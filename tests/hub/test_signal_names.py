"""How signals are named, and which cannot be caught."""

from __future__ import annotations

import signal

import pytest

from edgevent import Communicator, SignalSource, UsageError, signal_name, signal_number
from edgevent.runtime.signals import SignalWatch, watched


@pytest.mark.parametrize("name", ["SIGTERM", "TERM", "term", "sigterm", 15, signal.SIGTERM])
def test_a_signal_has_a_name_or_a_number(name: str | int) -> None:
    assert (signal_number(name), signal_name(name)) == (15, "SIGTERM")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGRTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("rtmin+3", signal.SIGRTMIN + 3),
        ("SIGRTMAX", signal.SIGRTMAX),
        ("SIGRTMAX-2", signal.SIGRTMAX - 2),
        (signal.SIGRTMIN + 3, signal.SIGRTMIN + 3),
    ],
)
def test_a_real_time_signal_is_counted_from_the_first_or_the_last(
    name: str | int, number: int
) -> None:
    assert signal_number(name) == number


def test_names_and_numbers_lead_to_each_other() -> None:
    names = {number: signal_name(number) for number in signal.valid_signals()}
    assert {signal_number(name): name for name in names.values()} == names
    assert (names[signal.SIGRTMIN], names[signal.SIGRTMIN + 3]) == ("SIGRTMIN", "SIGRTMIN+3")
    assert names[signal.SIGRTMAX] == f"SIGRTMIN+{signal.SIGRTMAX - signal.SIGRTMIN}"


NO_SIGNALS = [
    *("SIGNONE", "", "SIG", 0, -1, 1000, "15", "SIGRTMIN-1", "SIGRTMAX+1", "SIGRTMIN+31"),
    *("SIGRTMIN+", "SIGRTMIN+\u0663", "SIG_IGN"),
]


@pytest.mark.parametrize("name", NO_SIGNALS)
def test_what_is_no_signal_is_refused(communicator: Communicator, name: str | int) -> None:
    with pytest.raises(UsageError, match="is no signal: a name such as SIGTERM was expected"):
        communicator.stop_on("SIGUSR1", name)
    assert watched() == []
    with pytest.raises(UsageError, match="is no signal: a name such as SIGTERM was expected"):
        SignalSource(name, print)


@pytest.mark.parametrize("name", ["SIGTREM", "sigtrem"])
def test_the_nearest_name_is_told(name: str) -> None:
    with pytest.raises(UsageError, match=r"did you mean SIGTERM\?$"):
        signal_number(name)


@pytest.mark.parametrize("name", ["SIGKILL", "STOP"])
def test_what_the_kernel_keeps_is_refused(communicator: Communicator, name: str) -> None:
    with pytest.raises(UsageError, match=f"{signal_name(name)} cannot be caught"):
        communicator.stop_on(name)


def test_the_signal_of_children_is_the_loops(communicator: Communicator) -> None:
    with pytest.raises(UsageError, match="SIGCHLD belongs to the loop"):
        communicator.stop_on("SIGCHLD")


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL"])
def test_a_crash_is_no_event(communicator: Communicator, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} ends the program: report_deadly_signals"):
        communicator.stop_on(name)


def test_a_watch_ends_once_with_its_communicator(communicator: Communicator) -> None:
    communicator.stop_on("SIGUSR1", "SIGUSR1")
    communicator.stop_on("USR1", signal.SIGUSR2)
    assert watched() == [signal.SIGUSR1, signal.SIGUSR2]
    communicator.close()
    assert watched() == []
    watch = SignalWatch(signal.SIGUSR1, lambda received: None)
    watch.stop()
    watch.stop()
    watch.pause(True)
    assert watched() == []
