"""Signal sources in whole programs: senders, children, threads, and the end of a program."""

from __future__ import annotations

import os
import signal
import textwrap
from pathlib import Path

import pytest
from running import Program

BEGIN = """
    import faulthandler, logging, os, resource, signal, sys, threading
    import gevent
    from gevent.event import Event
    from edgevent import *

    logging.basicConfig(level=logging.WARNING, stream=sys.stdout)

    def say(*what):
        print(*what, flush=True)

    def status(field, text=None):  # the numbers of the signals in a set of /proc/PID/status
        text = text or open("/proc/thread-self/status").read()
        bits = int(text.partition(field + ":")[2].split()[0], 16)
        return [number for number in range(1, 65) if bits >> (number - 1) & 1]
"""


def start(folder: Path, text: str) -> Program:
    path = folder / "program.py"
    path.write_text(textwrap.dedent(BEGIN) + textwrap.dedent(text), encoding="utf-8")
    return Program(path, folder=folder)


def run(folder: Path, text: str, code: int = 0) -> list[str]:
    """Runs a program to its end; returns the lines it has printed."""
    with start(folder, text) as program:
        assert program.end() == code, program.printed
        return program.lines


# --- stop_on --------------------------------------------------------------------------------------

STOPPED = """
    logging.getLogger("edgevent").setLevel("INFO")
    with Communicator(drain_timeout=1000.0) as communicator:
        communicator.stop_on(*sys.argv[1:])
        communicator.after(0, lambda: (say("waiting"), Event().wait()))
        say("run returned", communicator.run())
"""

STOPPERS = [signal.SIGUSR1, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, int(signal.SIGRTMIN) + 3]


@pytest.mark.parametrize("number", STOPPERS)
def test_any_signal_drains_and_a_second_one_stops_at_once(tmp_path: Path, number: int) -> None:
    text = STOPPED.replace("*sys.argv[1:]", str(int(number)))
    with start(tmp_path, text) as program:
        program.wait_for("waiting")
        program.process.send_signal(number)
        program.wait_for("stopping")
        assert program.end(number) == 0
        assert program.printed.endswith("run returned True\n")


def test_stop_on_and_a_source_wait_for_one_signal(tmp_path: Path) -> None:
    text = """
        logging.getLogger("edgevent").setLevel("INFO")
        with Communicator() as communicator:
            communicator.stop_on("SIGTERM")
            communicator.add_connection(
                SignalSource("SIGTERM", lambda one: say(one), with_sender=True, priority=0))
            communicator.after(0, lambda: say("running"))
            say("run returned", communicator.run())
    """
    with start(tmp_path, text) as program:
        program.wait_for("running")
        assert program.end(signal.SIGTERM) == 0
        by_us = f"SIGTERM from process {os.getpid()}"
        assert f"INFO:edgevent:communicator: {by_us}" in program.printed
        assert f"\n{by_us}\n" in program.printed
        assert program.printed.endswith("run returned True\n")


# --- senders --------------------------------------------------------------------------------------


def test_the_sender_is_named_by_pid_and_uid(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
        with Communicator() as communicator:
            def told(one):
                say((one.pid, one.uid) == (child.pid, os.getuid()), one.name)
                communicator.stop()
            communicator.add_connection(
                SignalSource(("SIGUSR1", "SIGRTMIN+1"), told, with_sender=True))
            from gevent import subprocess
            child = subprocess.Popen(["sh", "-c", f"kill -USR1 {os.getpid()}; read line"],
                                     stdin=subprocess.PIPE)
            communicator.run()
            child.communicate(b"end")
        """,
    )
    assert lines[-1] == "True SIGUSR1"


STORM = """
    count, told = COUNT, []
    with Communicator() as communicator:
        source = communicator.add_connection(
            SignalSource(("SIGUSR1", "SIGRTMIN"), told.append, with_sender=SENDER))
        def work():
            for _ in range(count):
                os.kill(os.getpid(), signal.SIGUSR1)
                os.kill(os.getpid(), signal.SIGRTMIN)
            told.clear()  # nothing of it was told yet: the hub has not run
            while len(told) < (count + 1 if SENDER else 2):
                gevent.sleep(0.001)
            gevent.sleep(0.01)
            communicator.stop()
        communicator.after(0, work)
        communicator.run()
    names = [one.name for one in told]
    say(names.count("SIGUSR1"), names.count("SIGRTMIN"), source.dropped)
"""


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("with_sender", [False, True])
def test_a_storm_from_all_at_once_is_told(tmp_path: Path, count: int, with_sender: bool) -> None:
    text = STORM.replace("COUNT", str(count)).replace("SENDER", str(with_sender))
    lines = run(tmp_path, text)
    assert lines[-1] == f"1 {count if with_sender else 1} 0"


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("with_sender", [False, True])
def test_after_the_last_signal_of_another_process_there_is_a_call(
    tmp_path: Path, count: int, with_sender: bool
) -> None:
    text = f"""
        def told(one):
            calls.append(open("last").read())
            if calls[-1] == "{count}":
                say("told of the last")

        calls = []
        with Communicator() as communicator:
            communicator.stop_on("SIGTERM")
            communicator.add_connection(SignalSource("USR1", told, with_sender={with_sender}))
            communicator.after(0, lambda: say("running"))
            communicator.run()
        say(0 < len(calls) <= {count})
    """
    last = tmp_path / "last"
    with start(tmp_path, text) as program:
        program.wait_for("running")
        for number in range(1, count + 1):
            if number in (1, count):
                last.write_text(str(number))
            program.process.send_signal(signal.SIGUSR1)
        program.wait_for("told of the last")
        assert program.end(signal.SIGTERM) == 0
        assert program.printed.endswith("True\n")


# --- the mask and its children --------------------------------------------------------------------

CHILDREN = {
    "subprocess": "subprocess.Popen(SHOW).wait()",
    "subprocess with descriptors": "subprocess.Popen(SHOW, close_fds=False).wait()",
    "subprocess with a pipe": "out(subprocess.run(SHOW, stdout=subprocess.PIPE).stdout)",
    "subprocess with preexec_fn": "subprocess.Popen(SHOW, preexec_fn=int).wait()",
    "gevent.subprocess": "green.Popen(SHOW).wait()",
    "os.posix_spawn": "os.waitpid(os.posix_spawn(SHOW[0], SHOW, os.environ), 0)",
    "os.system": "os.system(' '.join(SHOW))",
    "os.spawnv": "os.spawnv(os.P_WAIT, SHOW[0], SHOW)",
    "os.fork": "os.waitpid(os.fork() or (out(open(SHOW[2], 'rb').read()), os._exit(0)), 0)",
    "os.execv": "os.execv(SHOW[0], SHOW)",
    "multiprocessing": "fork(target=lambda: out(open(SHOW[2], 'rb').read()))",
}

MASKED = """
    import subprocess, time
    from gevent import subprocess as green

    SHOW = ["/bin/grep", "SigBlk", "/proc/self/status"]

    def out(data):
        line, = [line for line in data.splitlines() if line.startswith(b"SigBlk")]
        os.write(1, line + b"\\n")

    def fork(target):
        import multiprocessing
        process = multiprocessing.get_context("fork").Process(target=target)
        process.start()
        process.join()

    if ELSEWHERE:
        gevent.get_hub()
    with Communicator() as communicator:
        source = communicator.add_connection(
            SignalSource(("SIGTERM", "SIGUSR1"), lambda one: say("told of", one.pid == os.getpid()),
                         with_sender=True))
        def work():
            for _ in range(2):
                say("blocked", *status("SigBlk"))
                WORK
                open("/dev/null").close()  # any event of an audit
                gevent.sleep(0)
            say("blocked", *status("SigBlk"))
            if not ELSEWHERE:
                os.kill(os.getpid(), signal.SIGTERM)
                source.call_hook(gevent.sleep, 0.001)
            communicator.call_threadsafe(communicator.stop)
        if ELSEWHERE:
            communicator.after(0, lambda: thread.start())
            thread = threading.Thread(target=lambda: (work(), gevent.get_hub().destroy(True)))
        else:
            communicator.after(0, work)
        communicator.run()
    say("blocked", *status("SigBlk"))
"""


@pytest.mark.parametrize("elsewhere", [False, True], ids=["main thread", "later thread"])
@pytest.mark.parametrize("way", CHILDREN)
def test_children_start_without_the_mask(tmp_path: Path, way: str, elsewhere: bool) -> None:
    if elsewhere and way in ("gevent.subprocess", "os.execv", "multiprocessing"):
        pytest.skip("of the main thread only")
    text = MASKED.replace("WORK", CHILDREN[way]).replace("ELSEWHERE", str(elsewhere))
    with start(tmp_path, text) as program:
        code = program.end()
    lines = program.lines
    children = [int(line.split()[1], 16) for line in lines if line.startswith("SigBlk")]
    if way == "os.execv":
        assert (children, code) == ([0], 0)
        return
    assert (children, code) == ([0, 0], 0), program.printed
    ours = "blocked 10 15"
    assert [line for line in lines if line.startswith("blocked")] == [ours] * 3 + ["blocked"]
    if not elsewhere:
        assert lines[-2] == "told of True"


def test_a_child_of_a_service_with_senders_can_be_ended(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
        import subprocess
        with Communicator() as communicator:
            communicator.add_connection(SignalSource("SIGTERM", say, with_sender=True))
            for _ in range(20):
                child = subprocess.Popen(["sleep", "1000"])
                child.terminate()
                assert child.wait() == -signal.SIGTERM
        say("ended")
        """,
    )
    assert lines == ["ended"]


def test_without_senders_no_mask_is_touched(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
        assert not os.path.exists("never")
        before = len(os.listdir("/proc/self/fd")), set(sys.modules)
        with Communicator() as communicator:
            source = communicator.add_connection(SignalSource("USR1", print))
            say(status("SigBlk"), status("SigCgt").count(signal.SIGUSR1))
            source.close()
            say(status("SigBlk"), status("SigCgt").count(signal.SIGUSR1), "ctypes" in sys.modules)
        """,
    )
    assert lines == ["[] 1", "[] 0 False"]


def test_a_signal_that_comes_while_a_child_is_started_is_told(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
        import subprocess
        told = []
        with Communicator() as communicator:
            communicator.add_connection(SignalSource("USR1", told.append, with_sender=True))
            def work():
                os.kill(os.getpid(), signal.SIGUSR1)  # waits in the mask: its sender is known
                subprocess.run(["true"])
                subprocess.run(["sh", "-c", f"kill -USR1 {os.getpid()}"])
                gevent.sleep(0.01)
                communicator.stop()
            communicator.after(0, work)
            communicator.run()
        say([one.pid == os.getpid() for one in told], told[1].pid)
        """,
    )
    assert lines == ["[True, False] None"]


def test_a_thread_that_was_there_before_may_get_it_without_the_sender(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
        gate = threading.Event()
        thread = threading.Thread(target=gate.wait)
        thread.start()
        with Communicator() as communicator:
            def told(one):
                say(one.name, one.pid in (None, os.getpid()))  # whichever of the two comes first
                communicator.stop()
            communicator.add_connection(SignalSource("USR1", told, with_sender=True))
            communicator.after(0, lambda: os.kill(os.getpid(), signal.SIGUSR1))
            communicator.run()
        gate.set()
        """,
    )
    assert lines == ["SIGUSR1 True"]


@pytest.mark.parametrize("with_sender", [False, True])
def test_a_forked_child_has_neither_source_nor_descriptor(
    tmp_path: Path, with_sender: bool
) -> None:
    lines = run(
        tmp_path,
        f"""
        def signalfds():
            names = [f"/proc/self/fd/{{name}}" for name in os.listdir("/proc/self/fd")]
            return sum("signalfd" in os.readlink(name) for name in names if os.path.islink(name))

        with Communicator() as communicator:
            told = []
            source = SignalSource("SIGTERM", told.append, with_sender={with_sender})
            communicator.add_connection(source)
            child = os.fork()
            if not child:
                say(signalfds(), status("SigBlk"), int(signal.getsignal(signal.SIGTERM)))
                source.close()
                os.kill(os.getpid(), signal.SIGTERM)
                say("not reached")
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            os.kill(os.getpid(), signal.SIGTERM)
            gevent.sleep(0.01)
            say(len(told), signalfds())
        """,
    )
    assert lines == ["0 [] 0", "-15", f"1 {int(with_sender)}"]


# --- ignored, and deadly --------------------------------------------------------------------------


def test_ignored_signals_do_nothing_until_that_ends(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
        with Communicator() as communicator:
            source = communicator.add_connection(SignalSource("USR1", print))
            with ignore_signals("SIGPIPE", "SIGHUP", "USR1") as ignored:
                say(ignored)
                os.kill(os.getpid(), signal.SIGHUP)
                source.close()  # what a source waits for is ignored afterwards
                os.kill(os.getpid(), signal.SIGUSR1)
            ignored.close()
            say(*[signal.getsignal(number) == signal.SIG_DFL for number in (1, signal.SIGUSR1)])
        os.kill(os.getpid(), signal.SIGHUP)
        say("not reached")
        """,
        code=-signal.SIGHUP,
    )
    assert lines == [
        "<Dispositions SIGPIPE, SIGHUP, SIGUSR1>",
        "True True",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP])
@pytest.mark.parametrize("place", ["handler", "idle"])
def test_a_deadly_signal_says_so_with_the_stack(tmp_path: Path, number: int, place: str) -> None:
    text = """
        report_deadly_signals()
        def compute():
            say("computing")
            while True:
                pass
        with Communicator() as communicator:
            communicator.after(0, compute if PLACE == "handler" else lambda: say("computing"))
            communicator.every(1000.0, int)
            communicator.run()
    """
    with start(tmp_path, text.replace("PLACE", repr(place))) as program:
        program.wait_for("computing")
        assert program.end(number) == -number
    printed = program.printed
    name = signal.Signals(number).name
    assert f"CRITICAL:edgevent:{name} ends process {program.process.pid}\n" in printed
    assert ("in compute\n" in printed) is (place == "handler")
    assert printed.count("Stack") <= 1
    assert 'program.py", line' in printed or place == "idle"


def test_a_deadly_signal_says_so_though_the_log_is_locked(tmp_path: Path) -> None:
    text = """
        report_deadly_signals("USR1")
        class Broken(logging.Handler):
            def handle(self, record):
                raise RuntimeError("a lock")
        logging.getLogger("edgevent").addHandler(Broken())
        def compute():
            os.kill(os.getpid(), signal.SIGUSR1)
        compute()
    """
    with start(tmp_path, text) as program:
        assert program.end() == -signal.SIGUSR1
    assert f"SIGUSR1 ends process {program.process.pid}\n" in program.printed
    assert "in compute\n" in program.printed


CRASHES = {
    signal.SIGSEGV: "import ctypes; ctypes.string_at(0)",
    signal.SIGABRT: "os.abort()",
    signal.SIGBUS: "os.kill(os.getpid(), signal.SIGBUS)",
    signal.SIGFPE: "os.kill(os.getpid(), signal.SIGFPE)",
    signal.SIGILL: "os.kill(os.getpid(), signal.SIGILL)",
}


@pytest.mark.parametrize("number", CRASHES)
def test_a_crash_shows_the_stack(tmp_path: Path, number: int) -> None:
    text = f"""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        report_deadly_signals(file=open("crash.txt", "w"))
        def crash():
            {CRASHES[number]}
        with Communicator() as communicator:
            communicator.after(0, crash)
            communicator.run()
    """
    with start(tmp_path, text) as program:
        assert program.end() == -number, program.printed
    crash = (tmp_path / "crash.txt").read_text()
    assert crash.startswith("Fatal Python error: ")
    assert "in crash" in crash


def test_what_is_waited_for_is_not_deadly(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
        signal.signal(signal.SIGUSR2, lambda *_: say("own handler"))
        with Communicator() as communicator:
            communicator.stop_on("SIGTERM")
            reported = report_deadly_signals()
            say("SIGTERM" in reported.signals, "SIGUSR2" in reported.signals)
            communicator.add_connection(SignalSource("SIGUSR1", lambda one: say(one)))
            for number in (signal.SIGUSR2, signal.SIGUSR1):
                os.kill(os.getpid(), number)
            gevent.sleep(0.001)
            communicator.after(0, lambda: os.kill(os.getpid(), signal.SIGTERM))
            say("run returned", communicator.run())
        os.kill(os.getpid(), signal.SIGTERM)
        """,
        code=-signal.SIGTERM,
    )
    kept = [line for line in lines if not line.startswith("INFO")]
    assert kept[:4] == ["True False", "own handler", "SIGUSR1", "run returned True"]
    assert kept[4].startswith("CRITICAL:edgevent:SIGTERM ends process")


def test_what_cannot_be_reported_is_refused(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
        import io
        def refused(function, *arguments, **more):
            try:
                function(*arguments, **more)
            except UsageError as error:
                say(error)
        refused(report_deadly_signals, "SIGNONE")
        refused(report_deadly_signals, file=io.BytesIO())
        refused(report_deadly_signals, "SIGKILL")
        refused(ignore_signals, "SIGKILL")
        thread = threading.Thread(target=refused, args=(ignore_signals, "SIGHUP"))
        thread.start()
        thread.join()
        """,
    )
    assert lines[0].startswith("'SIGNONE' is no signal")
    assert "is no open file with a descriptor: " in lines[1]
    assert lines[2:4] == ["SIGKILL cannot be caught"] * 2
    assert lines[4] == "signals can be caught in the main thread only"
