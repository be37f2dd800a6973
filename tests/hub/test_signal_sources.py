"""Signal sources in one process: what is called, in which order, and what comes back afterwards."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from hub_ground import PATIENCE, Log

from edgevent import (
    Communicator,
    ReceivedSignal,
    SignalSource,
    UsageError,
    WrongThreadError,
    ignore_signals,
    limits,
)
from edgevent.runtime.signals import watched
from edgevent.testing.clock import settle

USR1, USR2, RT = signal.SIGUSR1, signal.SIGUSR2, int(signal.SIGRTMIN)
ME = (os.getpid(), os.getuid())


def kill(number: int) -> None:
    """Sends a signal to this thread: that which guards the time of the test blocks none."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def send(*numbers: int) -> None:
    """Sends signals, and lets what follows happen."""
    for number in numbers:
        kill(number)
    settle()


def mask() -> set[int]:
    """The signals that this thread blocks."""
    return set(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ())))


@pytest.fixture(autouse=True)
def nothing_changes() -> Iterator[None]:
    """Every test leaves the mask and the dispositions as they were."""
    numbers = signal.valid_signals()
    before = mask(), [signal.getsignal(number) for number in numbers]
    yield
    assert watched() == []
    assert (mask(), [signal.getsignal(number) for number in numbers]) == before


@pytest.fixture(params=[False, True], ids=["plain", "with sender"])
def with_sender(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class Heard(list[ReceivedSignal]):
    """What a source has told."""

    @property
    def numbers(self) -> list[int]:
        return [received.number for received in self]


# --- what comes -----------------------------------------------------------------------------------


def test_one_source_waits_for_several_signals(
    communicator: Communicator, with_sender: bool
) -> None:
    heard = Heard()
    source = SignalSource(("SIGUSR1", "USR2", RT + 3), heard.append, with_sender=with_sender)
    assert source.signals == ("SIGUSR1", "SIGUSR2", "SIGRTMIN+3")
    communicator.add_connection(source)
    for number in (USR1, RT + 3, USR2, USR1):
        send(number)
    assert heard.numbers == [USR1, RT + 3, USR2, USR1]
    assert [one.name for one in heard[:2]] == ["SIGUSR1", "SIGRTMIN+3"]
    assert {(one.pid, one.uid) for one in heard} == {ME if with_sender else (None, None)}
    assert str(heard[0]) == (f"SIGUSR1 from process {ME[0]}" if with_sender else "SIGUSR1")


def test_several_sources_wait_for_one_signal(communicator: Communicator, with_sender: bool) -> None:
    first, second, third = Heard(), Heard(), Heard()
    communicator.add_connection(SignalSource("SIGUSR1", first.append))
    source = SignalSource("SIGUSR1", second.append, with_sender=with_sender)
    communicator.add_connection(source)
    communicator.add_connection(SignalSource("SIGUSR1", third.append))
    send(USR1)
    source.close()
    send(USR1)
    assert [len(heard) for heard in (first, second, third)] == [2, 1, 2]
    # The sender is known to all of them while one of them asks for it.
    assert [one.pid for one in first] == [ME[0] if with_sender else None, None]


def test_sources_are_served_by_their_priority(communicator: Communicator) -> None:
    order: list[str] = []
    for name, priority in (("late", 200), ("early", 10)):
        communicator.add_connection(
            SignalSource("SIGUSR1", lambda _, name=name: order.append(name), priority=priority)
        )
    send(USR1)
    assert order == ["early", "late"]


def test_a_class_may_override_the_hook(communicator: Communicator) -> None:
    class Reloads(SignalSource):
        count = 0

        def process_signal(self, received: ReceivedSignal) -> None:
            self.count += 1

    source = communicator.add_connection(Reloads("SIGUSR1"))
    send(USR1)
    assert source.count == 1


def test_the_callback_runs_in_a_turn_and_may_block(
    communicator: Communicator, with_sender: bool
) -> None:
    gate, heard = Event(), Heard()

    def slow(received: ReceivedSignal) -> None:
        heard.append(received)
        assert gevent.getcurrent() is not gevent.get_hub()
        gate.wait(PATIENCE)

    communicator.add_connection(SignalSource(("SIGUSR1", "SIGUSR2"), slow, with_sender=with_sender))
    send(USR1)
    send(USR2)
    send(USR1)
    assert heard.numbers == [USR1]  # the others wait, in order
    gate.set()
    settle()
    assert heard.numbers == [USR1, USR2, USR1]


def test_a_storm_is_at_least_one_call_after_its_last_signal(
    communicator: Communicator, with_sender: bool
) -> None:
    sent, calls = 0, []
    communicator.add_connection(
        SignalSource("SIGUSR1", lambda _: calls.append(sent), with_sender=with_sender)
    )
    for sent in range(1, 1001):
        kill(USR1)
        if sent % 100 == 0:
            gevent.sleep(0)
    settle()
    assert calls[-1] == 1000
    assert len(calls) <= 1000


def test_real_time_signals_with_senders_are_all_told(communicator: Communicator) -> None:
    heard = Heard()
    communicator.add_connection(SignalSource(RT, heard.append, with_sender=True))
    send(*[RT] * 200)
    assert heard == [ReceivedSignal(RT, *ME)] * 200


def test_the_kernel_has_no_pid(communicator: Communicator) -> None:
    heard, came = Heard(), Event()
    communicator.add_connection(
        SignalSource("SIGALRM", lambda one: (heard.append(one), came.set()), with_sender=True)
    )
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    assert came.wait(PATIENCE)
    assert heard == [ReceivedSignal(signal.SIGALRM)]


def test_a_callback_that_fails_is_logged_and_the_next_signal_is_told(
    communicator: Communicator, log: Log
) -> None:
    def fail(received: ReceivedSignal) -> None:
        raise ValueError(received.name)

    source = communicator.add_connection(SignalSource("SIGUSR1", fail, name="reload"))
    send(USR1)
    send(USR1)
    assert source.handler_errors == 2
    assert len(log.lines("reload: ")) >= 2


# --- disabled, removed, stopped -------------------------------------------------------------------


def test_a_disabled_source_is_called_once_it_is_enabled(
    communicator: Communicator, with_sender: bool
) -> None:
    heard = Heard()
    source = SignalSource(("USR1", "USR2"), heard.append, with_sender=with_sender)
    communicator.add_connection(source)
    source.enabled = False
    for number in (USR1, USR2, USR1):
        send(number)
    assert heard == []
    source.enabled = True
    settle()
    assert heard.numbers == [USR1, USR2]


def test_what_waits_is_bounded(
    communicator: Communicator, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_PENDING_SIGNALS", 10)
    gate, slow, heard = Event(), Heard(), Heard()

    def wait(received: ReceivedSignal) -> None:
        slow.append(received)
        gate.wait(PATIENCE)

    busy = communicator.add_connection(SignalSource(RT, wait, with_sender=True))
    other = communicator.add_connection(SignalSource(RT, heard.append))
    send(*[RT] * 200)
    assert len(slow) == 1
    assert len(heard) < 64  # the rest waits in the kernel, and none is lost
    gate.set()
    settle()
    assert (len(slow), busy.dropped) == (200, 0)
    assert heard
    busy.enabled = False  # keeps no signal from others, so it must drop some
    other.enabled = False
    send(*[RT] * 100)
    assert busy.dropped == 90
    assert len(log.lines("SIGRTMIN is dropped, 10 wait until it is enabled")) == 7
    busy.enabled = other.enabled = True
    settle()
    assert len(slow) == 210


def test_a_full_source_that_is_disabled_or_closed_lets_the_others_go_on(
    communicator: Communicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_PENDING_SIGNALS", 4)
    gate, heard = Event(), Heard()
    busy = SignalSource(RT, lambda _: gate.wait(PATIENCE), with_sender=True)
    communicator.add_connection(busy)
    communicator.add_connection(SignalSource(RT, heard.append, with_sender=True))
    send(*[RT] * 100)
    assert len(heard) < 100
    busy.enabled = False
    settle()
    assert len(heard) == 100
    busy.enabled = True
    send(*[RT] * 100)
    busy.close()
    gate.set()
    settle()
    assert len(heard) == 200


def test_a_removed_source_lets_go_and_may_be_added_again(
    communicator: Communicator, with_sender: bool
) -> None:
    heard, own = Heard(), []
    former = signal.signal(USR1, lambda *_: own.append("own"))
    try:
        source = SignalSource("SIGUSR1", heard.append, with_sender=with_sender)
        assert watched() == []  # it catches while it is in a communicator
        communicator.add_connection(source)
        assert (USR1 in mask()) is with_sender
        send(USR1)
        communicator.remove_connection(source)
        send(USR1)
        assert (len(heard), own) == (1, ["own"])
        communicator.add_connection(source)
        send(USR1)
        source.close()
        send(USR1)
        assert (len(heard), own) == (2, ["own", "own"])
    finally:
        signal.signal(USR1, former)


def test_a_signal_that_comes_as_its_source_goes_away_ends_nothing(
    communicator: Communicator,
) -> None:
    heard = Heard()
    source = communicator.add_connection(SignalSource("USR1", print, with_sender=True))
    kill(USR1)  # it waits in the mask, and would end the program outside of it
    source.close()
    source = communicator.add_connection(SignalSource("USR1", print, with_sender=True))
    communicator.add_connection(SignalSource("USR1", heard.append))
    kill(USR1)
    source.close()
    settle()
    assert heard == [ReceivedSignal(USR1, *ME)]


def test_a_source_closed_by_its_callback_is_called_no_more(communicator: Communicator) -> None:
    heard = Heard()

    def close(received: ReceivedSignal) -> None:
        heard.append(received)
        source.close()

    source = communicator.add_connection(SignalSource(("USR1", "USR2"), close))
    send(USR1, USR2)
    assert len(heard) == 1


def test_a_signal_that_the_program_blocks_stays_blocked(communicator: Communicator) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [USR1])
    try:
        heard = Heard()
        source = communicator.add_connection(SignalSource("USR1", heard.append, with_sender=True))
        send(USR1)
        source.close()
        assert (len(heard), USR1 in mask()) == (1, True)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [USR1])


def test_what_has_come_is_told_before_the_stop(
    communicator: Communicator, with_sender: bool
) -> None:
    gate, heard = Event(), Heard()

    def slow(received: ReceivedSignal) -> None:
        heard.append(received)
        gate.wait(PATIENCE)

    source = SignalSource(("USR1", "USR2"), slow, with_sender=with_sender)
    communicator.add_connection(source)
    send(USR1)
    send(USR2)
    communicator.stop()
    settle()
    assert (heard.numbers, source.is_closed) == ([USR1], False)
    gate.set()
    settle()
    assert (heard.numbers, source.is_closed) == ([USR1, USR2], True)


def test_a_source_keeps_the_communicator_running_unless_told(communicator: Communicator) -> None:
    source = communicator.add_connection(SignalSource("USR1", lambda _: source.close()))
    communicator.add_connection(SignalSource("USR2", print, keep_running=False))
    gevent.spawn_later(0, kill, USR1)
    assert communicator.run() is True


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("callback", [None, 5, "print"])
def test_a_callback_that_is_none_is_refused(callback: Any) -> None:
    with pytest.raises(UsageError, match=r"a function of \(signal\) was expected"):
        SignalSource("SIGUSR1", callback)


def test_no_signal_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="a signal was expected, and none was given"):
        SignalSource((), print)


def test_another_thread_is_refused(communicator: Communicator) -> None:
    source = communicator.add_connection(SignalSource("USR1", print))
    raised: list[BaseException] = []

    def elsewhere() -> None:
        for attempt in (lambda: SignalSource("USR2", print), source.close):
            try:
                attempt()
            except UsageError as error:
                raised.append(error)
        gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert str(raised[0]) == "signals can be caught in the main thread only"
    assert isinstance(raised[1], WrongThreadError)


def test_too_many_open_files_leave_nothing_behind(communicator: Communicator) -> None:
    source = SignalSource(("USR1", "USR2"), print, with_sender=True)
    communicator.add_connection(SignalSource("USR1", print))
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(lowest_free := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, former[1]))
    try:
        with pytest.raises(OSError, match="signalfd: Too many open files"):
            communicator.add_connection(source)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, former)
    assert (watched(), source in communicator.connections) == ([USR1], False)
    communicator.add_connection(source)
    assert watched() == [USR1, USR2]


# --- ignored --------------------------------------------------------------------------------------


def test_signals_are_ignored_until_that_is_taken_back(communicator: Communicator) -> None:
    heard = Heard()
    source = communicator.add_connection(SignalSource("USR1", heard.append))
    ignored = ignore_signals("USR1", "USR2", RT)
    assert ignored.signals == ("SIGUSR1", "SIGUSR2", "SIGRTMIN")
    send(USR1, USR2, RT)
    assert heard.numbers == [USR1]  # a source goes before
    source.close()
    send(USR1, RT)
    former = signal.signal(USR2, signal.SIG_DFL)  # set anew by somebody: it stays so
    assert former == signal.SIG_IGN
    ignored.close()
    ignored.close()
    assert signal.getsignal(USR1) == signal.getsignal(RT) == signal.SIG_DFL


def test_a_child_is_started_without_the_mask(communicator: Communicator) -> None:
    heard = Heard()
    source = SignalSource("USR1", heard.append, with_sender=True)
    communicator.add_connection(source)
    kill(USR1)
    shown = subprocess.check_output(["grep", "SigBlk", "/proc/self/status"], text=True)
    assert int(shown.split()[1], 16) & 1 << (USR1 - 1) == 0
    settle()
    assert USR1 in mask()
    assert heard == [ReceivedSignal(USR1, *ME)]  # it had come before
