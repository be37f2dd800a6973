"""What becomes of children, told once each, beside all others who start and wait for some."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable

import gevent
import gevent.subprocess
import pytest
from gevent.event import Event
from hub_ground import PATIENCE, Log
from network_ground import until

from edgevent import ChildEvent, ChildWatch, Communicator, UsageError
from edgevent.sources import reaping
from edgevent.testing.clock import settle


def start(script: str = "exit 0") -> int:
    """Starts a shell for which nobody waits; returns its pid."""
    return os.posix_spawn("/bin/sh", ["sh", "-c", script], {"PATH": "/usr/bin:/bin"})


@pytest.fixture
def waiting_child() -> int:
    """A child that ends with SIGTERM; the test is to see its end."""
    return start("exec sleep 1000")


@pytest.fixture
def events() -> list[ChildEvent]:
    return []


Watch = Callable[..., ChildWatch]


@pytest.fixture
def watch(communicator: Communicator, events: list[ChildEvent]) -> Watch:
    """Adds a watch of one child, or of all, that notes the events."""

    def add(pid: int | None = None, **settings: object) -> ChildWatch:
        return communicator.add_connection(ChildWatch(pid, events.append, **settings))

    return add


def kinds(events: list[ChildEvent]) -> list[str]:
    return [event.kind for event in events]


# --- what is told ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_an_exit_has_its_code_and_ends_the_watch_of_one(
    watch: Watch, events: list[ChildEvent], communicator: Communicator, code: int
) -> None:
    one = watch(start(f"exit {code}"))
    until(lambda: events)
    (event,) = events
    assert (event.pid, event.kind, event.exit_code, event.returncode) == (
        one.pid,
        "exit",
        code,
        code,
    )
    assert (event.signal, event.signal_name, event.core_dumped) == (None, None, False)
    assert str(event) == f"child {one.pid} ended with exit code {code}"
    assert one.is_closed
    assert communicator.connections == ()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGRTMIN + 3])
def test_a_kill_has_its_signal(
    watch: Watch, events: list[ChildEvent], waiting_child: int, number: int
) -> None:
    watch(waiting_child)
    os.kill(waiting_child, number)
    until(lambda: events)
    (event,) = events
    assert (event.kind, event.signal, event.exit_code) == ("kill", number, None)
    assert event.returncode == -number
    assert f"was killed by {event.signal_name}" in str(event)


@pytest.mark.parametrize("one", [True, False])
def test_stop_and_continue_are_told_before_the_end(
    watch: Watch, events: list[ChildEvent], waiting_child: int, one: bool
) -> None:
    watched = watch(waiting_child if one else None)
    for count, number in enumerate((signal.SIGSTOP, signal.SIGCONT, signal.SIGTERM), 1):
        os.kill(waiting_child, number)
        until(lambda count=count: len(events) == count)
    assert kinds(events) == ["stop", "continue", "kill"]
    assert [event.signal_name for event in events] == ["SIGSTOP", None, "SIGTERM"]
    assert [event.is_end for event in events] == [False, False, True]
    assert [str(event).partition(f"{waiting_child} ")[2] for event in events] == [
        "was stopped by SIGSTOP",
        "goes on",
        "was killed by SIGTERM",
    ]
    assert {event.pid for event in events} == {waiting_child}
    assert watched.is_closed is one


def test_what_a_child_has_used_is_told(watch: Watch, events: list[ChildEvent]) -> None:
    watch(None)
    for script in ("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done", "exit 0"):
        start(script)
        count = len(events)
        until(lambda count=count: len(events) > count)
    busy, idle = (event.usage for event in events)
    assert busy is not None
    assert idle is not None
    assert busy.user_time > idle.user_time >= 0.0
    assert busy.minor_faults > 0
    assert all(event.usage_is_exact for event in events)


def test_usage_is_not_said_to_be_exact_when_several_ended_at_once(
    watch: Watch, events: list[ChildEvent]
) -> None:
    watch(None)
    pids = {start() for _ in range(3)}
    for pid in pids:  # all have ended before the loop looks
        reaping.wait_for_end(pid)
    until(lambda: len(events) == 3)
    assert {event.pid for event in events} == pids
    assert not any(event.usage_is_exact for event in events)
    start()
    until(lambda: len(events) == 4)
    assert events[-1].usage_is_exact


def test_what_others_have_waited_for_is_not_counted_in(
    watch: Watch, events: list[ChildEvent]
) -> None:
    watch(None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
    subprocess.run(["sh", "-c", "for i in 1 2 3 4 5 6; do (true); done"], check=True)
    faults = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before
    settle()  # SIGCHLD has been seen
    start()
    until(lambda: events)
    (event,) = events
    assert event.usage is not None
    assert event.usage_is_exact
    assert 0 < event.usage.minor_faults < faults / 2


def test_a_child_that_has_ended_already_is_told_of(watch: Watch, events: list[ChildEvent]) -> None:
    pid = start("exit 5")
    reaping.wait_for_end(pid)  # before anybody listens to SIGCHLD
    watch(pid)
    until(lambda: events)
    assert (events[0].pid, events[0].exit_code) == (pid, 5)


def test_several_watches_are_each_told(watch: Watch, events: list[ChildEvent]) -> None:
    pid = start("exit 3")
    watch(None)
    watch(pid)
    watch(pid)
    until(lambda: len(events) == 3)
    assert {(event.pid, event.exit_code) for event in events} == {(pid, 3)}


def test_a_watch_of_one_is_told_of_no_other(
    watch: Watch, events: list[ChildEvent], waiting_child: int
) -> None:
    watch(waiting_child)
    others: list[ChildEvent] = []
    with Communicator() as another:
        another.add_connection(ChildWatch(None, others.append))
        pid = start()
        until(lambda: others)
        assert [event.pid for event in others] == [pid]
        assert events == []
        os.kill(waiting_child, signal.SIGKILL)
        until(lambda: events and len(others) == 2)
    assert [event.pid for event in events] == [waiting_child]


def crowd(size: int, watch: Watch, events: list[ChildEvent]) -> None:
    watch(None)
    pids = []
    for number in range(size):
        pids.append(start(f"exit {number % 100}"))
        if number % 10 == 0:
            gevent.sleep(0.0)
    until(lambda: len(events) >= size)
    settle()
    assert Counter(event.pid for event in events) == Counter(pids)
    assert {event.pid: event.exit_code for event in events} == {
        pid: number % 100 for number, pid in enumerate(pids)
    }
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_200_children_are_each_told_of_once(watch: Watch, events: list[ChildEvent]) -> None:
    crowd(200, watch, events)


@pytest.mark.slow
def test_1000_children_are_each_told_of_once(watch: Watch, events: list[ChildEvent]) -> None:
    crowd(1000, watch, events)


def test_60_watches_of_one_child_each(
    communicator: Communicator, watch: Watch, events: list[ChildEvent]
) -> None:
    pids = [start(f"exit {number}") for number in range(60)]
    for pid in pids:
        watch(pid)
    until(lambda: len(events) == 60)
    assert {event.pid: event.exit_code for event in events} == {
        pid: number for number, pid in enumerate(pids)
    }
    until(lambda: communicator.connections == ())


# --- others who start and wait --------------------------------------------------------------------


def test_gevents_subprocess_goes_on_working(watch: Watch, events: list[ChildEvent]) -> None:
    watch(None)
    theirs = gevent.subprocess.Popen(["sh", "-c", "echo out; exit 4"], stdout=subprocess.PIPE)
    ours = start("exit 5")
    assert theirs.communicate()[0] == b"out\n"
    assert theirs.wait(PATIENCE) == 4
    until(lambda: len(events) == 2)
    assert {event.pid: event.exit_code for event in events} == {theirs.pid: 4, ours: 5}
    with pytest.raises(gevent.subprocess.CalledProcessError):
        gevent.subprocess.check_output(["false"])


def test_the_standard_library_keeps_what_it_waits_for(
    watch: Watch, events: list[ChildEvent]
) -> None:
    watch(None)
    pid = start("exit 6")
    assert subprocess.run(["sh", "-c", "exit 7"], check=False).returncode == 7
    until(lambda: events)
    assert [(event.pid, event.exit_code) for event in events] == [(pid, 6)]


@pytest.mark.parametrize("with_others", [False, True])
def test_a_child_that_somebody_else_has_waited_for_is_told_of_without_its_code(
    watch: Watch, events: list[ChildEvent], with_others: bool
) -> None:
    pid = start("exit 6")
    one = watch(pid)
    if with_others:  # one SIGCHLD may stand for both
        other = start()
        reaping.wait_for_end(other)
    assert os.waitpid(pid, 0) == (pid, 6 << 8)
    until(lambda: events)
    assert [(event.pid, event.kind, event.returncode) for event in events] == [
        (pid, "collected", None)
    ]
    assert str(events[0]).endswith("ended, and somebody else has waited for it")
    assert one.is_closed


# --- as a connection ------------------------------------------------------------------------------


def test_what_comes_while_a_handler_waits_waits_in_order(communicator: Communicator) -> None:
    gate, seen = Event(), []

    class Slow(ChildWatch):
        def process_child(self, event: ChildEvent) -> None:
            seen.append(event.exit_code)
            gate.wait(PATIENCE)

    slow = communicator.add_connection(Slow())
    for code in (1, 2, 3):
        pid = start(f"exit {code}")
        reaping.wait_for_end(pid)
        until(lambda code=code: len(seen) + slow.waiting == code)
    assert (seen, slow.waiting) == ([1], 2)
    gate.set()
    until(lambda: seen == [1, 2, 3])


def test_a_disabled_watch_keeps_what_comes(watch: Watch, events: list[ChildEvent]) -> None:
    one = watch(None)
    one.enabled = False
    start("exit 1")
    until(lambda: one.waiting)
    settle()
    assert events == []
    one.enabled = True
    until(lambda: kinds(events) == ["exit"])


def test_a_handler_that_raises_is_logged_and_the_next_is_called(
    communicator: Communicator, log: Log
) -> None:
    watch = communicator.add_connection(ChildWatch(None, lambda event: 1 // 0, name="children"))
    for count in (1, 2):
        start()
        until(lambda count=count: watch.handler_errors == count)
    assert len(log.lines("children: ChildWatch.process_child failed")) == 2


def test_a_watch_tells_from_when_it_is_made(events: list[ChildEvent]) -> None:
    one = ChildWatch(start("exit 2"), events.append)
    until(lambda: one.waiting)
    with Communicator() as communicator:
        communicator.add_connection(one)
        communicator.run()
    assert [event.exit_code for event in events] == [2]


def test_stop_lets_what_has_come_be_handled(communicator: Communicator) -> None:
    seen: list[int | None] = []
    watch = ChildWatch(None, lambda event: seen.append(event.exit_code))
    start("exit 2")
    until(lambda: watch.waiting)
    communicator.add_connection(watch)
    communicator.stop()
    assert communicator.run()
    assert seen == [2]


def test_a_removed_watch_is_told_nothing(
    communicator: Communicator, watch: Watch, events: list[ChildEvent], waiting_child: int
) -> None:
    everyone, one = watch(None), watch(waiting_child)
    for removed in (everyone, one):
        communicator.remove_connection(removed)
    assert reaping.Reaper._current is None
    os.kill(waiting_child, signal.SIGKILL)
    os.waitpid(waiting_child, 0)
    settle()
    assert events == []
    communicator.add_connection(everyone)
    communicator.add_connection(one)  # whose child is gone meanwhile
    until(lambda: kinds(events) == ["collected"])
    start()
    until(lambda: kinds(events) == ["collected", "exit"])


def test_events_beyond_the_limit_are_counted_and_logged_once(
    communicator: Communicator, log: Log
) -> None:
    seen: list[ChildEvent] = []
    watch = communicator.add_connection(ChildWatch(None, seen.append, name="few"))
    watch.max_events = 2
    watch.enabled = False
    for _ in range(4):
        start()
    until(lambda: watch.lost_events == 2)
    assert log.lines("few: more than 2 events wait") == [
        "few: more than 2 events wait: others are lost"
    ]
    watch.enabled = True
    until(lambda: len(seen) == 2)


def test_a_watch_says_what_it_watches(watch: Watch, waiting_child: int) -> None:
    assert repr(watch(None, name="all")) == "<all enabled all children>"
    one = watch(waiting_child, name="one", priority=7)
    assert repr(one) == f"<one enabled child {waiting_child}>"
    assert (one.priority, one.pid) == (7, waiting_child)
    os.kill(waiting_child, signal.SIGKILL)
    until(lambda: one.is_closed)


# --- misuse ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pid", [0, -1, "1", 2.0, True])
def test_what_is_no_pid_is_refused(pid: object) -> None:
    with pytest.raises(UsageError, match=f"{pid!r} is no process|expected, not {pid!r}"):
        ChildWatch(pid, print)  # type: ignore[arg-type]


def test_a_process_that_is_no_child_is_refused() -> None:
    ended = start()
    os.waitpid(ended, 0)
    for pid in (os.getppid(), os.getpid(), ended):
        with pytest.raises(UsageError, match=f"process {pid} is no child of this process"):
            ChildWatch(pid, print)
    assert reaping.Reaper._current is None


@pytest.mark.parametrize("callback", [None, 5, "print"])
def test_what_is_no_callback_is_refused(callback: object) -> None:
    with pytest.raises(UsageError, match=rf"a function of \(event\) .*, not {callback!r}"):
        ChildWatch(None, callback)  # type: ignore[arg-type]


def test_another_thread_is_told_that_it_cannot() -> None:
    raised: list[BaseException] = []

    def work() -> None:
        try:
            ChildWatch(None, print)
        except UsageError as error:
            raised.append(error)
        gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [str(error) for error in raised] == ["children can be watched in the main thread only"]
