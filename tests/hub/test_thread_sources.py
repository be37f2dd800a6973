"""Threads as sources: functions that run in one, the end of one, and messages to and from one."""

from __future__ import annotations

import _thread
import logging
import threading
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from hub_ground import PATIENCE, Log
from network_ground import run_program, until

from edgevent import (
    ClosedError,
    Communicator,
    Dispatcher,
    InvalidMessageError,
    Message,
    QueueFullError,
    ReceiveTimeout,
    RemoteError,
    RequestTimeout,
    ThreadDone,
    ThreadEnd,
    ThreadLink,
    ThreadOutcome,
    ThreadStartError,
    ThreadTimeout,
    UnknownCommandError,
    UsageError,
    WrongThreadError,
    limits,
    run_in_thread,
)
from edgevent.runtime.native import allocate_lock
from edgevent.sources import native_threads
from edgevent.sources.doorbell import Doorbell
from edgevent.sources.native_threads import POOL
from edgevent.testing.clock import ManualClock, settle


class Step:
    """Something that one thread waits for and another one does; it blocks threads natively."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def wait(self) -> None:
        assert self._lock.acquire(True, PATIENCE)

    def do(self) -> None:
        self._lock.release()


def number(n: int) -> Message:
    return Message("NUMBER", {"n": n})


def fail(text: str = "on purpose") -> None:
    raise ValueError(text)


@pytest.fixture
def untraced() -> Iterator[None]:
    """Threads that are not measured: with a thousand at once, coverage's own lock may deadlock."""
    trace = threading.gettrace()
    threading.settrace(None)  # type: ignore[arg-type]
    yield
    threading.settrace(trace)  # type: ignore[arg-type]


@pytest.fixture
def numbers() -> Dispatcher:
    """A table that takes NUMBER, and keeps what it had in ``taken``."""
    table = Dispatcher()
    table.taken = []  # type: ignore[attr-defined]

    @table.on("NUMBER")
    def take(message: Message, peer: Any, n: int) -> None:
        table.taken.append(n)  # type: ignore[attr-defined]

    @table.on("SQUARE")
    def square(message: Message, peer: Any, n: int) -> Message:
        return message.reply("IS", {"n": n * n})

    @table.on("FAIL")
    def broken(message: Message, peer: Any) -> None:
        fail()

    return table


def taken(table: Dispatcher) -> list[int]:
    return list(table.taken)  # type: ignore[attr-defined]


# --- run_in_thread --------------------------------------------------------------------------------


def test_a_function_runs_in_a_thread_and_its_end_is_told_in_a_turn(
    communicator: Communicator,
) -> None:
    here, gate = _thread.get_ident(), Event()
    told: list[ThreadOutcome] = []

    def done(outcome: ThreadOutcome) -> None:
        assert _thread.get_ident() == here
        gate.wait(PATIENCE)  # a turn may wait
        told.append(outcome)

    called = run_in_thread(lambda a, b: (a + b, _thread.get_ident()), 2, 3, done=done)
    assert called in communicator.connections
    gate.set()
    assert communicator.run() is True  # which lasts until the end is told
    (outcome,) = told
    total, thread = outcome.get()
    assert (total, called.is_closed) == (5, True)
    assert thread != here


def test_the_result_can_be_waited_for(communicator: Communicator, log: Log) -> None:
    assert run_in_thread(int, "42").wait(PATIENCE) == 42
    failing = run_in_thread(fail)
    for _ in range(2):  # once it is known, again
        with pytest.raises(ValueError, match="on purpose") as raised:
            failing.wait()
    assert any(entry.name == "fail" for entry in raised.traceback)
    settle()
    assert log.lines("failed") == []  # who waits has the error


def test_what_a_thread_raises_is_handed_to_the_callback(
    communicator: Communicator, log: Log
) -> None:
    told: list[ThreadOutcome] = []
    run_in_thread(fail, done=told.append)
    communicator.run()
    assert isinstance(told[0].error, ValueError)
    assert told[0].error.__traceback__ is not None
    assert log.lines("failed") == []


@pytest.mark.parametrize("raised", [ValueError("x"), SystemExit(3)])
def test_what_a_thread_raises_is_logged_if_nobody_takes_it(
    communicator: Communicator, log: Log, raised: BaseException
) -> None:
    def throw() -> None:
        raise raised

    run_in_thread(throw, name="job")
    communicator.run()
    (record,) = [one for one in log.records if one.levelno == logging.ERROR]
    assert record.getMessage() == "job: the thread failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is raised


def test_a_callback_that_fails_is_logged(communicator: Communicator, log: Log) -> None:
    called = run_in_thread(int, done=lambda outcome: fail())
    communicator.run()
    assert called.handler_errors == 1


def test_only_so_many_run_at_a_time_and_the_others_in_order(
    communicator: Communicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_THREADS", 1)
    gate, order = Step(), []
    first = run_in_thread(gate.wait)
    others = [run_in_thread(order.append, n) for n in range(20)]
    others[7].close()  # it has not begun, and never will
    gate.do()
    communicator.run()
    assert first.outcome == ThreadOutcome()
    assert order == [n for n in range(20) if n != 7]
    assert POOL._running == 0


def test_without_a_further_thread_the_error_says_so(
    communicator: Communicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(native_threads, "start_new_thread", refuse)
    with pytest.raises(ThreadStartError, match="a thread could not be started: can't start"):
        run_in_thread(int)
    with pytest.raises(ThreadStartError):
        communicator.add_connection(ThreadLink(print))
    assert communicator.connections == ()
    assert POOL._running == 0


def test_the_end_is_told_where_the_call_was_made(
    communicator: Communicator, clock: ManualClock
) -> None:
    with Communicator(name="other") as other:
        with pytest.raises(UsageError, match="this thread has several: communicator, other"):
            run_in_thread(int)
        assert run_in_thread(int, communicator=other).communicator is other
        made: list[ThreadDone] = []
        communicator.after(1.0, lambda: made.append(run_in_thread(int)))
        clock.advance(1.0)
        assert made[0].communicator in (communicator, None)
        communicator.every(1000.0, int)
        running = gevent.spawn(communicator.run)
        settle()
        assert run_in_thread(int).communicator is communicator  # the one that runs
        communicator.stop()
        assert running.get(timeout=PATIENCE) is True
        other.run()


def test_a_function_that_is_none_is_refused(communicator: Communicator) -> None:
    with pytest.raises(UsageError, match="a function to run in a thread was expected: 5"):
        run_in_thread(5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"a function of \(outcome\) was expected, not 5"):
        run_in_thread(int, done=5)  # type: ignore[arg-type]


# --- ThreadDone -----------------------------------------------------------------------------------


def test_a_thread_calls_it_in_place_of_its_function(communicator: Communicator) -> None:
    told: list[Any] = []
    done = communicator.add_connection(ThreadDone(divmod, told.append))
    thread = threading.Thread(target=done, args=(7, 2))
    thread.start()
    communicator.run()
    thread.join()
    assert told == [ThreadOutcome((3, 1))]


def test_a_thread_that_is_not_started_yet_is_watched(communicator: Communicator) -> None:
    told: list[ThreadOutcome] = []

    class Own(threading.Thread):
        def run(self) -> None:
            fail("own")

    thread = Own(name="own")
    communicator.add_connection(ThreadDone(thread, told.append))
    thread.start()
    communicator.run()
    thread.join()
    assert str(told[0].error) == "own"
    with pytest.raises(UsageError, match="own was started already"):
        ThreadDone(thread, print)


def test_a_thread_may_tell_its_end_by_itself_and_only_once(communicator: Communicator) -> None:
    told: list[ThreadOutcome] = []
    done = ThreadDone(None, told.append)
    thread = threading.Thread(target=lambda: done.finish("early"))
    thread.start()
    thread.join()  # before anybody could be told
    communicator.add_connection(done)
    communicator.run()
    assert told == [ThreadOutcome("early")]
    with pytest.raises(UsageError, match="the end of the thread was told already"):
        done.fail(ValueError())
    with pytest.raises(UsageError, match="there is no function to call"):
        ThreadDone()()
    with pytest.raises(UsageError, match="a function or a thread was expected: 5"):
        ThreadDone(5)  # type: ignore[arg-type]


def test_a_class_may_override_the_hook(communicator: Communicator) -> None:
    class Own(ThreadDone):
        seen: Any = None

        def process_done(self, outcome: ThreadOutcome) -> None:
            Own.seen = outcome.get()

    threading.Thread(target=communicator.add_connection(Own(lambda: 1))).start()
    communicator.run()
    assert Own.seen == 1


def test_a_disabled_one_tells_once_it_is_enabled(communicator: Communicator) -> None:
    told: list[ThreadOutcome] = []
    done = communicator.add_connection(ThreadDone(int, told.append))
    done.enabled = False
    thread = threading.Thread(target=done)
    thread.start()
    thread.join()
    settle()
    assert told == []
    done.enabled = True
    settle()
    assert told == [ThreadOutcome(0)]


def test_a_wait_has_a_limit_and_ends_with_the_object(
    communicator: Communicator, clock: ManualClock
) -> None:
    done = communicator.add_connection(ThreadDone())
    waits = [gevent.spawn(done.wait, seconds) for seconds in (5.0, None)]
    settle()
    assert "not begun" in repr(done)
    clock.advance(5.0)
    with pytest.raises(ThreadTimeout, match="the thread has not ended in 5 s"):
        waits[0].get(timeout=PATIENCE)
    done.close()
    with pytest.raises(ClosedError):
        waits[1].get(timeout=PATIENCE)


def test_a_wait_needs_no_communicator() -> None:
    done = ThreadDone(lambda: "well")
    thread = threading.Thread(target=done)
    thread.start()
    assert done.wait() == "well"
    thread.join()
    done.close()


def test_what_fails_after_the_close_is_logged(communicator: Communicator, log: Log) -> None:
    done = communicator.add_connection(ThreadDone(fail, name="late"))
    done.close()
    thread = threading.Thread(target=done)
    thread.start()
    thread.join()
    assert log.lines("late: failed after it was closed", logging.ERROR)


def test_stop_waits_for_a_thread_that_has_begun(communicator: Communicator) -> None:
    gate, told = Step(), []
    begun = run_in_thread(gate.wait, done=told.append)
    unbegun = communicator.add_connection(ThreadDone())
    unwanted = run_in_thread(gate.wait, done=told.append, keep_running=False)
    communicator.stop()
    assert [one.is_closed for one in (begun, unbegun, unwanted)] == [False, True, True]
    gate.do()
    communicator.run()
    assert len(told) == 1
    gate.do()


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_end_of_every_thread_is_told_once(communicator: Communicator, count: int) -> None:
    told: list[int] = []
    for n in range(count):
        done = ThreadDone(int, lambda outcome: told.append(outcome.get()))
        communicator.add_connection(done)
        _thread.start_new_thread(done, (n,))
    communicator.run()
    assert sorted(told) == list(range(count))


# --- ThreadLink: messages -------------------------------------------------------------------------


def test_messages_go_both_ways_in_their_order_and_senders_wait_for_room(
    communicator: Communicator, numbers: Dispatcher
) -> None:
    received: list[int] = []

    def work(worker: ThreadEnd) -> None:
        for n in range(3000):
            worker.send(number(n))
            if n % 3 == 0:
                received.append(worker.receive(PATIENCE).integer("n"))
        received.extend(message.integer("n") for message in worker)

    link = communicator.add_connection(ThreadLink(work, numbers, max_messages=7))

    def send() -> None:
        for n in range(2000):
            link.send(number(n))
        link.mark_done()

    sending = gevent.spawn(send)
    communicator.run()
    sending.get()
    assert taken(numbers) == list(range(3000))
    assert received == list(range(2000))


def test_requests_go_both_ways(communicator: Communicator, numbers: Dispatcher) -> None:
    answers: list[Any] = []

    def work(worker: ThreadEnd) -> None:
        answers.append(worker.request(Message("SQUARE", {"n": 3})).integer("n"))
        for message, expected in (
            (Message("NOTHING"), UnknownCommandError),
            (Message("N" * 1000), UnknownCommandError),
            (Message("SQUARE", {"n": "x"}), InvalidMessageError),
            (Message("FAIL"), RemoteError),
        ):
            with pytest.raises(expected):
                worker.request(message, timeout=PATIENCE)
            answers.append(expected)
        worker.run()
        answers.append(worker.handler_errors)

    link = ThreadLink(work, numbers, worker_dispatcher=numbers)
    communicator.add_connection(link)
    asking = [gevent.spawn(link.request, Message("SQUARE", {"n": n})) for n in range(50)]
    running = gevent.spawn(communicator.run)
    assert [one.get().integer("n") for one in asking] == [n * n for n in range(50)]
    with pytest.raises(RemoteError, match="FAIL failed at the peer"):
        link.request(Message("FAIL"))
    link.mark_done()
    assert running.get(timeout=PATIENCE) is True
    unknown = [UnknownCommandError] * 2
    assert answers == [9, *unknown, InvalidMessageError, RemoteError, 1]
    assert link.handler_errors == 1


def test_answers_without_a_serial_are_found_by_their_command(communicator: Communicator) -> None:
    def bare(message: Message, peer: Any) -> None:
        peer.send(number(1))
        peer.send(Message("BARE"))

    table = Dispatcher()
    table.on("ASK")(bare)
    found: list[str] = []

    def work(worker: ThreadEnd) -> None:
        found.append(worker.request(Message("ASK"), reply="BARE", timeout=PATIENCE).command)
        found.append(worker.receive(PATIENCE).command)  # what came besides
        worker.send(number(2))
        worker.run()

    other: list[Message] = []
    table.on("NUMBER")(lambda message, peer: other.append(message))
    link = communicator.add_connection(ThreadLink(work, table, worker_dispatcher=table))
    until(lambda: other)
    assert found == ["BARE", "NUMBER"]
    assert link.request(Message("ASK"), reply=("BARE",)).command == "BARE"
    until(lambda: len(other) == 2)
    link.mark_done()
    communicator.run()


def test_an_answer_comes_although_the_queues_are_full(
    communicator: Communicator, numbers: Dispatcher
) -> None:
    def work(worker: ThreadEnd) -> None:
        for _ in range(2):
            worker.send(number(0))
        question = worker.receive(PATIENCE)
        for n in range(20):  # far more than fit: the one who asks waits for what is behind
            worker.send(number(n))
        worker.send(question.reply("WELL"))

    class Asks(ThreadLink):
        def process_message(self, message: Message) -> bool:
            if message.command == "START":
                answers.append(self.request(Message("HOW")))
            return True

    answers: list[Message] = []
    table = Dispatcher()
    link = communicator.add_connection(Asks(work, table, max_messages=2))

    @table.on("NUMBER")
    def ask(message: Message, peer: Any, n: int) -> None:
        if not answers:
            answers.append(link.request(Message("HOW")))

    communicator.run()
    assert [one.command for one in answers] == ["WELL"]


def test_requests_have_limits_and_late_answers_are_dropped(
    communicator: Communicator, clock: ManualClock
) -> None:
    kept: list[Message] = []
    asked, told = Step(), Step()
    table = Dispatcher()
    table.on("ASK")(lambda message, peer: kept.append(message))

    def work(worker: ThreadEnd) -> None:
        with pytest.raises(RequestTimeout, match=r"no answer to ASK within 0\.01 s"):
            worker.request(Message("ASK"), timeout=0.01)
        asked.wait()
        worker.send(worker.receive().reply("LATE"))
        told.do()
        worker.run()

    link = communicator.add_connection(ThreadLink(work, table))
    asking = gevent.spawn(link.request, Message("HOW"), timeout=2.0)
    until(lambda: kept)
    clock.advance(2.0)
    with pytest.raises(RequestTimeout, match="no answer to HOW within 2 s"):
        asking.get(timeout=PATIENCE)
    asked.do()
    told.wait()
    settle()
    assert link.handler_errors == 0
    until(lambda: link._taken == 2)
    link.send(kept[0].reply("LATE"))
    assert link.worker.late_answers == 1
    link.mark_done()
    communicator.run()


def test_one_ring_wakes_the_hub_for_many_messages(
    communicator: Communicator, numbers: Dispatcher
) -> None:
    class Counting(ThreadLink):
        rings = 0

        def rung(self) -> None:
            Counting.rings += 1
            super().rung()

    link = communicator.add_connection(Counting(None, numbers))
    settle()
    Counting.rings = 0

    def work() -> None:
        for n in range(500):
            link.send(number(n))  # in this thread, the worker's end

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    settle()
    assert taken(numbers) == list(range(500))
    assert Counting.rings == 1
    link.close()


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_message_of_many_threads_is_lost(
    untraced: None, communicator: Communicator, numbers: Dispatcher, count: int
) -> None:
    def work(worker: ThreadEnd) -> None:
        n = worker.receive(PATIENCE).integer("n")
        for _ in range(4):
            worker.send(number(n))
        assert worker.request(Message("SQUARE", {"n": n}), timeout=PATIENCE).integer("n") == n * n
        worker.run()

    links = [communicator.add_connection(ThreadLink(work, numbers)) for _ in range(count)]
    for n, link in enumerate(links):
        link.send(number(n))
        link.mark_done()
    communicator.run()
    assert sorted(taken(numbers)) == sorted([*range(count)] * 4)


# --- ThreadLink: limits ---------------------------------------------------------------------------


def test_the_worker_waits_with_a_limit(communicator: Communicator) -> None:
    def work(worker: ThreadEnd) -> None:
        with pytest.raises(ReceiveTimeout, match=r"no message within 0\.01 s"):
            worker.receive(0.01)

    link = communicator.add_connection(ThreadLink(work))
    communicator.run()
    assert link.worker.error is None


def test_a_message_without_room_is_refused_after_the_limit(
    communicator: Communicator, clock: ManualClock
) -> None:
    refused = Step()

    def work(worker: ThreadEnd) -> None:
        worker.send(number(1))
        with pytest.raises(QueueFullError, match=r"1 messages wait already, and none was handled"):
            worker.send(number(2), timeout=0.01)
        refused.do()
        for _ in worker:
            pass

    link = ThreadLink(work, max_messages=1)
    link.enabled = False  # nothing is handled
    communicator.add_connection(link)
    refused.wait()
    link.enabled = True
    gate = Step()
    other = communicator.add_connection(
        ThreadLink(lambda worker: gate.wait() or worker.run(), max_messages=1)
    )
    other.send(number(1))
    waiting = gevent.spawn(other.send, number(2), timeout=3.0)
    settle()
    clock.advance(3.0)
    with pytest.raises(QueueFullError, match="1 messages wait already"):
        waiting.get(timeout=PATIENCE)
    raised: list[Exception] = []

    def in_hub() -> None:
        try:
            other.send(number(3))
        except QueueFullError as error:
            raised.append(error)

    gevent.get_hub().loop.run_callback(in_hub)
    settle()
    assert len(raised) == 1
    communicator.remove_connection(other)
    with pytest.raises(QueueFullError):
        other.send(number(4))  # nobody could be woken
    with pytest.raises(UsageError, match="only an enabled link in a communicator can ask"):
        other.request(number(4))
    gate.do()
    other.close()
    link.mark_done()
    communicator.run()


def test_a_disabled_link_keeps_what_comes(communicator: Communicator, numbers: Dispatcher) -> None:
    ended = Step()

    def work(worker: ThreadEnd) -> None:
        for n in range(10):
            worker.send(number(n))
        ended.do()

    link = ThreadLink(work, numbers)
    link.enabled = False
    communicator.add_connection(link)
    ended.wait()
    settle()
    assert taken(numbers) == []
    link.enabled = True
    communicator.run()
    assert taken(numbers) == list(range(10))


@pytest.mark.parametrize("settings", [{"function": 5}, {"max_messages": 0}, {"max_messages": 1.5}])
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="was expected"):
        ThreadLink(**settings)


def test_the_worker_end_is_not_for_the_hubs_own_thread(communicator: Communicator) -> None:
    link = communicator.add_connection(ThreadLink())
    for call in (link.worker.receive, link.worker.run, lambda: link.worker.send(number(1))):
        with pytest.raises(WrongThreadError, match="would wait for itself"):
            call()
    raised: list[Exception] = []

    def elsewhere() -> None:
        try:
            link.close()
        except WrongThreadError as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(raised) == 1
    assert not link.is_closed


# --- ThreadLink: the end --------------------------------------------------------------------------


class Telling(ThreadLink):
    """Keeps what its hooks are told."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.told: list[Any] = []

    __slots__ = ("told",)

    def process_message(self, message: Message) -> bool:
        self.told.append(message.command)
        return True

    def process_hup(self) -> None:
        self.told.append("hup")

    def process_error(self, error: BaseException) -> None:
        self.told.append(error)


def test_the_end_of_the_worker_is_told_behind_its_last_message(communicator: Communicator) -> None:
    def work(worker: ThreadEnd) -> None:
        for command in ("A", "B", "C"):
            worker.send(Message(command))

    link = communicator.add_connection(Telling(work))
    communicator.run()
    assert link.told == ["A", "B", "C", "hup"]
    assert link.is_closed
    with pytest.raises(ClosedError):
        link.send(number(1))


def test_a_worker_that_raises_is_told_with_its_error(communicator: Communicator, log: Log) -> None:
    def work(worker: ThreadEnd) -> None:
        worker.send(Message("A"))
        fail("halfway")

    link = communicator.add_connection(Telling(work))
    silent = communicator.add_connection(ThreadLink(fail, name="silent"))
    communicator.run()
    assert link.told[0] == "A"
    assert str(link.told[1]) == "halfway"
    (record,) = [one for one in log.records if "silent: the thread failed" in one.getMessage()]
    assert record.exc_info is not None
    assert silent.is_closed


def test_who_waits_when_the_worker_ends_is_told(communicator: Communicator) -> None:
    gate = Step()
    link = ThreadLink(lambda worker: gate.wait(), max_messages=1)
    communicator.add_connection(link)
    asking = gevent.spawn(link.request, number(1))
    sending = gevent.spawn(link.send, number(2))
    settle()
    gate.do()
    for waiting in (asking, sending):
        with pytest.raises(ClosedError):
            waiting.get(timeout=PATIENCE)


def test_a_close_does_not_wait_and_loses_nothing_without_a_word(
    communicator: Communicator, log: Log, numbers: Dispatcher
) -> None:
    sent, closed, received = Step(), Step(), []

    def work(worker: ThreadEnd) -> None:
        for n in range(3):
            worker.send(number(n))
        sent.do()
        closed.wait()
        received.extend(message.integer("n") for message in worker)
        with pytest.raises(ClosedError):
            worker.send(number(4))
        with pytest.raises(ClosedError):
            worker.request(number(4))
        sent.do()

    link = communicator.add_connection(ThreadLink(work, numbers, name="cut"))
    link.send(number(7))
    sent.wait()
    link.close()
    closed.do()
    sent.wait()
    assert received == [7]
    assert log.lines("cut: 3 messages of the thread are lost", logging.WARNING)


def test_stop_lets_the_worker_have_what_was_sent_and_waits_for_its_end(
    communicator: Communicator, numbers: Dispatcher
) -> None:
    received: list[int] = []

    def work(worker: ThreadEnd) -> None:
        for message in worker:
            received.append(message.integer("n"))
        for n in range(5):
            worker.send(number(n))  # its last words

    link = communicator.add_connection(ThreadLink(work, numbers))
    unused = communicator.add_connection(ThreadLink())
    for n in range(10):
        link.send(number(n))
    communicator.stop()
    assert unused.is_closed
    with pytest.raises(ClosedError):
        link.send(number(10))
    communicator.run()
    assert received == list(range(10))
    assert taken(numbers) == list(range(5))


def test_stop_commands_end_the_run_of_the_worker_or_the_communicator(
    communicator: Communicator,
) -> None:
    link = communicator.add_connection(Telling(lambda worker: worker.run()))
    link.send(Message("STOP"))
    communicator.run()
    assert link.told == ["hup"]

    def work(worker: ThreadEnd) -> None:
        worker.send(Message("STOP"))
        worker.run()

    table = Dispatcher()
    link = communicator.add_connection(ThreadLink(work, table))
    communicator.every(1000.0, int)
    assert communicator.run() is True


def test_a_thread_of_the_users_own_closes_its_end(communicator: Communicator) -> None:
    link = communicator.add_connection(Telling())

    def work() -> None:
        with link.worker as worker:
            assert worker.request(Message("SQUARE", {"n": 2}), reply="X", timeout=PATIENCE)

    link.close()
    table = Dispatcher()
    table.on("SQUARE")(lambda message, peer, n: message.reply("X"))
    link = communicator.add_connection(Telling(None, table))
    thread = threading.Thread(target=work)
    thread.start()
    communicator.run()
    thread.join()
    assert link.told == ["hup"]
    assert "open" not in repr(link.worker)


def test_a_worker_may_end_its_run_by_itself(communicator: Communicator) -> None:
    table = Dispatcher()
    table.on("ENOUGH")(lambda message, peer: peer.mark_done())
    link = communicator.add_connection(Telling(lambda end: end.run(), worker_dispatcher=table))
    link.send(Message("ENOUGH"))
    communicator.run()
    assert link.told == ["hup"]


def test_a_close_ends_the_requests_of_the_worker(communicator: Communicator) -> None:
    told: list[Message] = []
    raised = Step()

    def work(worker: ThreadEnd) -> None:
        with pytest.raises(ClosedError):
            worker.request(Message("ASK"))
        raised.do()

    table = Dispatcher()
    table.on("ASK")(lambda message, peer: told.append(message))
    link = communicator.add_connection(ThreadLink(work, table))
    until(lambda: told)
    link.close()
    raised.wait()


def test_a_question_without_room_is_not_open_any_more(
    communicator: Communicator, clock: ManualClock
) -> None:
    gate = Step()
    link = ThreadLink(lambda worker: gate.wait(), max_messages=1)
    communicator.add_connection(link)
    link.send(number(1))
    asking = gevent.spawn(link.request, number(2), timeout=1.0)
    settle()
    clock.advance(1.0)
    with pytest.raises((QueueFullError, RequestTimeout)):
        asking.get(timeout=PATIENCE)
    assert link._requests is not None
    assert link._requests.count == 0
    gate.do()
    communicator.run()


def test_both_sides_log_what_is_alive(communicator: Communicator, log: Log) -> None:
    def work(worker: ThreadEnd) -> None:
        worker.send(Message("LEAK"))
        worker.run()

    communicator.debug_connections()
    link = communicator.add_connection(ThreadLink(work, name="linked"))
    link.send(Message("LEAK"))
    link.mark_done()
    communicator.run()
    assert any("linked: received" in line for line in log.lines())


def test_a_thread_may_end_after_the_hub_that_was_to_be_told(communicator: Communicator) -> None:
    made: list[ThreadDone] = []

    def other_hub() -> None:
        made.append(ThreadDone())
        gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=other_hub)
    thread.start()
    thread.join()
    made[0].finish()


def test_threads_that_outlive_what_they_were_for_keep_nothing(communicator: Communicator) -> None:
    done, link = ThreadDone(int), ThreadLink()
    for one in (done, link):
        communicator.add_connection(one).close()
    settle()
    thread = threading.Thread(target=lambda: (done(), link.worker.close()))
    thread.start()
    thread.join()
    assert not Doorbell.current()._rung


# --- whole programs -------------------------------------------------------------------------------

PROGRAM = """
{patch}
import os, sys, threading, time
from edgevent import *
from edgevent.runtime.native import get_ident, start_new_thread
from gevent.monkey import get_original

sleep = get_original("time", "sleep")
"""

PATCH = "from gevent import monkey; monkey.patch_all()"


@pytest.mark.parametrize("patch", ["", PATCH])
def test_threads_are_real_ones_in_a_patched_program_too(patch: str) -> None:
    text = """
hub, threads = get_ident(), set()
table = Dispatcher()

@table.on("TWICE")
def twice(message, peer, n: int):
    threads.add(get_ident())
    return message.reply("IS", {"n": 2 * n})

with Communicator() as communicator:
    link = ThreadLink(lambda worker: worker.run(), worker_dispatcher=table)
    communicator.add_connection(link)
    ticks = []
    communicator.every(0.001, lambda: ticks.append(1))
    assert run_in_thread(lambda: sleep(0.2) or get_ident()).wait(20) != hub
    assert ticks  # the hub went on
    assert link.request(Message("TWICE", {"n": 4}))["n"] == "8"
    assert threads and hub not in threads
    thread = threading.Thread(target=lambda: print("in the user's thread"))
    done = communicator.add_connection(ThreadDone(thread, lambda outcome: communicator.stop()))
    thread.start()
    communicator.run()
print("done")
"""
    output = run_program(PROGRAM.format(patch=patch) + text)
    assert output.splitlines() == ["in the user's thread", "done"]


def test_the_end_of_the_program_waits_for_no_thread() -> None:
    text = """
communicator = Communicator()
links = [communicator.add_connection(ThreadLink(lambda worker: worker.run())) for _ in range(20)]
calls = [run_in_thread(sleep, 3600) for _ in range(20)]
links[0].request(Message("ALIVE"))
print("the end")
"""
    assert run_program(PROGRAM.format(patch="") + text) == "the end\n"


def test_a_forked_child_has_none_of_it() -> None:
    text = """
communicator = Communicator()
gate = threading.Event()
told = []
table = Dispatcher()
link = communicator.add_connection(ThreadLink(lambda worker: worker.run(), table))
call = run_in_thread(gate.wait, done=told.append)
link.request(Message("ALIVE"))
child = os.fork()
if child == 0:
    for use in (lambda: link.send(Message("X")), call.wait, lambda: link.worker.receive(1.0)):
        try:
            use()
        except ForkedError:
            print("refused", flush=True)
    link.close()
    with Communicator() as mine:
        print(run_in_thread(lambda: "again", communicator=mine).wait(20), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
gate.set()
link.request(Message("ALIVE"))
link.mark_done()
communicator.run()
print(len(told))
"""
    output = run_program(PROGRAM.format(patch="") + text)
    assert output.splitlines() == ["refused", "refused", "refused", "again", "1"]
