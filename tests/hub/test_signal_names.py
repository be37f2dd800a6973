"""How signals are named, and which cannot be caught."""

from __future__ import annotations

import signal

import pytest

from edgevent import Communicator, UsageError
from edgevent.runtime.signals import SignalWatch, signal_number, watched


@pytest.mark.parametrize("name", ["SIGTERM", "TERM", "term", "sigterm", 15, signal.SIGTERM])
def test_a_signal_has_a_name_or_a_number(name: str | int) -> None:
    assert signal_number(name) == 15


def test_real_time_signals_have_numbers() -> None:
    assert signal_number(signal.SIGRTMIN + 3) == signal.SIGRTMIN + 3


@pytest.mark.parametrize("name", ["SIGNONE", "", "SIG", 0, -1, 1000, "15"])
def test_what_is_no_signal_is_refused(communicator: Communicator, name: str | int) -> None:
    with pytest.raises(UsageError, match="is no signal: a name such as SIGTERM was expected"):
        communicator.stop_on(name)


@pytest.mark.parametrize("name", ["SIGKILL", "STOP"])
def test_what_the_kernel_keeps_is_refused(communicator: Communicator, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be caught"):
        communicator.stop_on(name)


def test_the_signal_of_children_is_the_loops(communicator: Communicator) -> None:
    with pytest.raises(UsageError, match="SIGCHLD belongs to the loop"):
        communicator.stop_on("SIGCHLD")


def test_a_watch_ends_once_with_its_communicator(communicator: Communicator) -> None:
    communicator.stop_on("SIGUSR1", "SIGUSR1")
    communicator.stop_on("USR1", signal.SIGUSR2)
    assert watched() == [signal.SIGUSR1, signal.SIGUSR2]
    communicator.close()
    assert watched() == []
    watch = SignalWatch(signal.SIGUSR1, lambda number: None)
    watch.stop()
    watch.stop()
    assert watched() == []
