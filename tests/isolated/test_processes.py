"""Commands that run beside a program: their lines, their input, their end."""

from __future__ import annotations

import os
import resource
import signal
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from network_ground import PATIENCE, until
from running import Program

from edgevent import (
    ChildWatch,
    ClosedError,
    CommandError,
    CommandTimeout,
    Communicator,
    ConnectionLostError,
    Process,
    ReceiveTimeout,
    UsageError,
)
from edgevent.sources import reaping
from edgevent.testing.clock import ManualClock, settle

SLEEP = ["sleep", "1000"]
CAT = ["cat"]
# It says when it is ready, and ends only when it is killed.
STUBBORN = ["sh", "-c", "trap 'echo no' TERM; echo ready; while :; do sleep 0.01; done"]
DEAF = ["sh", "-c", "trap '' TERM; echo ready; exec sleep 1000"]


class Notes:
    """What a process has said."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.errors: list[bytes] = []
        self.codes: list[tuple[int | None, ...]] = []

    def line(self, process: Process, line: bytes) -> None:
        self.lines.append(line)

    def error(self, process: Process, line: bytes) -> None:
        self.errors.append(line)

    def exit(self, process: Process) -> None:
        self.codes.append(process.exit_codes)


@pytest.fixture
def notes() -> Notes:
    return Notes()


Start = Callable[..., Process]


@pytest.fixture
def start(communicator: Communicator, notes: Notes) -> Start:
    """Adds a process, or a chain if there are several commands, that notes what comes."""

    def add(*commands: Any, **settings: Any) -> Process:
        settings = {"callback": notes.line, "on_exit": notes.exit, **settings}
        if len(commands) > 1:
            return communicator.add_connection(Process.chain(commands, **settings))
        return communicator.add_connection(Process(commands[0], **settings))

    return add


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def python(text: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(text)]


def state(pid: int) -> str:
    """One letter, as ps has it; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return ""


# --- lines ----------------------------------------------------------------------------------------


def test_lines_and_errors_are_handled_and_then_the_exit(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    process = start(sh("echo one; echo bad >&2; printf two; exit 3"), on_error_line=notes.error)
    assert communicator.run()
    assert (notes.lines, notes.errors, notes.codes) == ([b"one", b"two"], [b"bad"], [(3,)])
    assert (process.exit_code, process.is_alive, process.is_closed) == (3, False, True)
    assert [(exit.pid, exit.kind) for exit in process.exits if exit] == [(process.pid, "exit")]


def test_all_lines_are_handled_before_the_exit_is_told(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    told: list[int] = []
    start(["seq", "100000"], on_exit=lambda process: told.append(len(notes.lines)))
    communicator.run()
    assert told == [100_000]
    assert notes.lines == [b"%d" % number for number in range(1, 100_001)]


def test_hooks_may_be_overridden_instead(communicator: Communicator) -> None:
    seen: list[object] = []

    class Own(Process):
        def process_line(self, line: bytes) -> None:
            seen.append(line)

        def process_error_line(self, line: bytes) -> None:
            seen.append((line,))

        def process_exit(self) -> None:
            seen.append(self.exit_code)

    communicator.add_connection(Own(sh("echo a; exec 1>&-; echo b >&2; exit 1")))
    communicator.run()
    assert sorted(map(str, seen)) == ["(b'b',)", "1", "b'a'"]
    assert seen[-1] == 1


def test_errors_can_be_merged_with_the_lines(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    start(sh("echo one; echo two >&2; echo three"), stderr="merge")
    communicator.run()
    assert notes.lines == [b"one", b"two", b"three"]


def test_a_process_is_asked_and_answers(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    process = start(CAT)
    process.write_line(b"one")
    until(lambda: notes.lines == [b"one"])
    process.write(b"two\nthree")
    process.end_input()
    process.end_input()
    communicator.run()
    assert (notes.lines, notes.codes) == ([b"one", b"two", b"three"], [(0,)])
    with pytest.raises(ClosedError):
        process.write_line(b"four")


def test_done_means_that_its_input_ends(start: Start, communicator: Communicator) -> None:
    process = start(CAT)
    process.mark_done()
    assert communicator.run()
    assert process.exit_code == 0


def test_redirections_take_files_and_nothing(
    communicator: Communicator, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_text("from a file\n")
    with source.open() as stdin, target.open("w") as stdout:
        run = [
            Process(CAT, stdin=stdin, stdout=stdout.fileno()),
            Process(sh("echo lost; echo lost >&2"), stdout="discard", stderr="discard"),
            Process(sh("echo out; echo err >&2"), stdin="discard", stdout="inherit"),
            Process(sh("cat; echo dropped >&2"), stdin="discard", stderr="discard"),
        ]
        for process in run:
            communicator.add_connection(process)
        communicator.run()
    assert target.read_text() == "from a file\n"
    assert capfd.readouterr() == ("out\n", "err\n")
    with pytest.raises(UsageError, match="its input is no pipe; give it stdin='lines'"):
        run[1 + 1].write_line(b"x")


def test_the_environment_and_the_folder_are_the_given_ones(
    start: Start, notes: Notes, communicator: Communicator, tmp_path: Path
) -> None:
    start(sh("pwd; echo $A:$HOME"), cwd=tmp_path, env={"A": "b", "PATH": os.environ["PATH"]})
    communicator.run()
    assert notes.lines == [os.fsencode(tmp_path), b"b:"]


def test_a_handler_that_raises_is_counted_and_the_next_line_comes(
    start: Start, communicator: Communicator, notes: Notes
) -> None:
    def handle(process: Process, line: bytes) -> None:
        raise ValueError(line)

    process = start(sh("echo 1; echo 2; echo 3 >&2"), callback=handle, on_error_line=handle)
    communicator.run()
    assert process.handler_errors == 3
    assert notes.codes == [(0,)]


# --- without a communicator -----------------------------------------------------------------------


def test_straight_line_code_reads_its_lines_and_waits() -> None:
    with Process(sh("read a; echo $a; echo error >&2; exit 2"), stderr="lines") as process:
        with pytest.raises(ReceiveTimeout):
            process.receive(0.01)
        process.write_line(b"hello")
        assert process.receive(PATIENCE) == b"hello"
        assert process.error_output is not None
        assert process.error_output.receive(PATIENCE) == b"error"
        assert list(process) == []
        assert process.wait(PATIENCE) == 2
        assert process.wait() == 2


def test_a_wait_has_a_limit_and_blocks_its_greenlet_alone() -> None:
    with Process(SLEEP) as process:
        ticks: list[int] = []
        other = gevent.spawn(ticks.append, 1)
        with pytest.raises(CommandTimeout, match=r"it still runs after 0\.05 s"):
            process.wait(0.05)
        assert other.successful()
        assert process.exit_code is None
        process.kill()
        assert process.wait(PATIENCE) == -signal.SIGKILL
    assert issubclass(CommandTimeout, TimeoutError)


def test_the_end_of_a_block_ends_the_process() -> None:
    with Process(SLEEP) as process:
        pass
    assert process.exit_code == -signal.SIGTERM
    assert state(process.pid) == ""
    process.close()


def test_what_ends_at_once_is_not_missed() -> None:
    for _ in range(20):
        process = Process(["true"])
        reaping.wait_for_end(process.pid)
        assert process.wait(PATIENCE) == 0
        process.close()


# --- too much -------------------------------------------------------------------------------------


def test_a_slow_handler_makes_the_process_wait(start: Start, communicator: Communicator) -> None:
    gate, lines = Event(), []

    def handle(process: Process, line: bytes) -> None:
        lines.append(line)
        gate.wait(PATIENCE)

    process = start(["yes", "x" * 1000], callback=handle)
    until(lambda: process._inbox.is_full)
    settle()
    size = process._inbox.size
    # Blocked in write(2), with a full pipe and a full inbox: 64 KiB more than the mark at most.
    while state(process.pid) != "S":
        gevent.sleep(0.001)
    assert process._inbox.size == size < process._inbox.mark + 65_536 + 1
    assert len(lines) == 1
    process.kill()
    gate.set()
    communicator.run()
    assert len(lines) > 60


def test_a_process_that_does_not_read_makes_the_writer_wait(
    start: Start, communicator: Communicator, clock: ManualClock
) -> None:
    process = start(SLEEP)
    process.outbox.max_bytes = 100_000
    count = 0

    def write() -> None:
        nonlocal count
        while True:
            process.write_line(b"x" * 999)
            count += 1

    writer = gevent.spawn(write)
    until(lambda: process.outbox.waiting)
    assert 160 <= count <= 170  # the kernel's 64 KiB, and ours
    clock.advance(9.0)
    assert not writer.ready()
    clock.advance(1.5)
    with pytest.raises(ConnectionLostError, match="is a slow consumer: it took nothing for 10 s"):
        writer.get()
    assert communicator.run()
    assert process.exit_code == -signal.SIGTERM


def test_a_million_bytes_go_through_and_come_back(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    process = start(CAT)
    sent = [b"%d" % number * 20 for number in range(20_000)]
    for line in sent:
        process.write_line(line)
    process.end_input()
    communicator.run()
    assert notes.lines == sent


@pytest.mark.parametrize("stream", [1, 2])
def test_a_line_that_is_too_long_ends_the_process(
    start: Start, notes: Notes, communicator: Communicator, stream: int
) -> None:
    errors: list[Exception] = []

    class Own(Process):
        def process_error(self, error: Exception) -> None:
            errors.append(error)

    script = sh(f"trap '' PIPE; echo fine; head -c 5000 /dev/zero >&{stream}; exec sleep 1000")
    process = communicator.add_connection(
        Own(script, notes.line, on_error_line=notes.error, on_exit=notes.exit, max_line_bytes=999)
    )
    assert communicator.run()
    assert notes.lines == [b"fine"]
    assert notes.codes == [(-signal.SIGTERM,)]
    assert [str(error) for error in errors] == [
        f"{process.name}{'.stderr' * (stream - 1)}: a line over the limit came"
    ]


def test_a_process_that_reads_no_more_is_told_to_the_writer(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    process = start(sh("exec <&-; echo closed; read wait < /dev/null; exec sleep 1000"))
    until(lambda: notes.lines == [b"closed"])
    with pytest.raises(ConnectionLostError, match=r"sending to sh\[\d+\] failed: Broken pipe"):
        process.write_line(b"x")
    assert process.is_alive
    process.terminate()
    communicator.run()
    assert notes.codes == [(-signal.SIGTERM,)]


# --- chains ---------------------------------------------------------------------------------------


def test_a_chain_takes_input_and_gives_the_lines_of_the_last(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    chain = start(["sort"], ["uniq", "-c"], sh("sed 's/ *//'; exit 7"))
    for word in (b"b", b"a", b"b"):
        chain.write_line(word)
    chain.end_input()
    communicator.run()
    assert notes.lines == [b"1 a", b"2 b"]
    assert notes.codes == [(0, 0, 7)]
    assert chain.command == "sort | uniq -c | sh -c 'sed '\"'\"'s/ *//'\"'\"'; exit 7'"
    assert len(set(chain.pids)) == 3


def test_the_end_of_the_last_one_ends_the_first_by_sigpipe(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    start(["yes"], CAT, ["head", "-n", "2"])
    communicator.run()
    assert notes.lines == [b"y", b"y"]
    assert notes.codes == [(-signal.SIGPIPE, -signal.SIGPIPE, 0)]


@pytest.mark.parametrize("stderr", ["lines", "merge"])
def test_standard_error_of_a_chain_is_that_of_all(
    start: Start, notes: Notes, communicator: Communicator, stderr: str
) -> None:
    start(
        sh("echo a >&2; echo 1"),
        sh("cat >&2; echo b >&2; echo 2"),
        sh("cat; echo c >&2"),
        on_error_line=notes.error,
        stderr=stderr,
    )
    communicator.run()
    both = notes.lines + notes.errors
    assert sorted(both) == [b"1", b"2", b"a", b"b", b"c"]
    assert len(notes.errors) == (4 if stderr == "lines" else 0)


def test_when_one_cannot_be_started_none_runs(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(CommandError, match="cannot run 'no-such-command': not in PATH"):
        Process.chain([SLEEP, ["touch", str(tmp_path / "x")], ["no-such-command"]])
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert reaping.Reaper._current is None


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["terminate", "kill", "close"])
def test_a_process_is_ended(start: Start, communicator: Communicator, method: str) -> None:
    process = start(SLEEP)
    getattr(process, method)()
    assert process.is_alive
    assert communicator.run()  # it is there until it has ended
    assert process.exit_code == -(signal.SIGKILL if method == "kill" else signal.SIGTERM)
    getattr(process, method)()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_closed_it_tells_nothing_more(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    process = start(sh("trap 'echo ended; exit 0' TERM; echo ready; while :; do sleep 0.01; done"))
    until(lambda: notes.lines == [b"ready"])
    process.close()
    communicator.run()
    assert (notes.lines, notes.codes) == ([b"ready"], [])
    assert not process.is_alive


def test_a_handler_may_close_it(start: Start, notes: Notes, communicator: Communicator) -> None:
    def handle(process: Process, line: bytes) -> None:
        notes.lines.append(line)
        process.close()

    process = start(["yes"], callback=handle)
    assert communicator.run()
    assert (notes.lines, notes.codes) == ([b"y"], [])
    assert process.exit_code in (-signal.SIGTERM, -signal.SIGPIPE)


def test_a_failure_closes_it_when_that_is_wanted(start: Start, communicator: Communicator) -> None:
    process = start(["yes"], callback=lambda process, line: 1 // 0)
    process.on_handler_error = "close"
    assert communicator.run()
    assert process.handler_errors == 1


def test_while_it_is_iterated_over_the_lines_are_not_handled(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    process = start(sh("echo 1; echo 2; exit 3"))
    reader = gevent.spawn(list, process)
    communicator.run()
    assert (reader.get(), notes.lines, notes.codes) == ([b"1", b"2"], [], [(3,)])


@pytest.mark.parametrize("way", ["close", "stop"])
def test_what_does_not_end_is_killed(
    start: Start, notes: Notes, communicator: Communicator, clock: ManualClock, way: str
) -> None:
    process = start(DEAF, close_timeout=2.0)
    until(lambda: notes.lines == [b"ready"])
    running = gevent.spawn(communicator.run)
    (process.close if way == "close" else communicator.stop)()
    clock.advance(1.9)
    assert process.is_alive
    assert not running.ready()
    clock.advance(0.2)
    assert running.get(timeout=PATIENCE) is True
    assert process.exit_code == -signal.SIGKILL
    assert notes.codes == ([] if way == "close" else [(-signal.SIGKILL,)])


def test_stop_ends_it_and_handles_what_it_says_to_the_end(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    start(
        sh(
            "trap 'echo bye; echo error >&2; exit 5' TERM; echo ready; while :; do sleep 0.01; done"
        ),
        on_error_line=notes.error,
    )
    until(lambda: notes.lines == [b"ready"])
    communicator.stop()
    communicator.run()
    assert (notes.lines, notes.errors) == ([b"ready", b"bye"], [b"error"])
    assert notes.codes == [(5,)]


@pytest.mark.parametrize("stderr", ["lines", "inherit"])
def test_a_communicator_that_closes_kills_and_leaves_no_zombie(stderr: str) -> None:
    with Communicator() as communicator:
        processes = [
            communicator.add_connection(Process.chain([STUBBORN, DEAF], stderr=stderr)),
            communicator.add_connection(Process(SLEEP, keep_running=False, stderr=stderr)),
        ]
    assert [process.exit_code for process in processes] == [-signal.SIGKILL] * 2
    assert [state(pid) for process in processes for pid in process.pids] == ["", "", ""]


def test_what_it_leaves_in_the_background_is_waited_for(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    process = start(sh("exec 3<&0; (read go <&3; echo late) & exec 3<&-; echo $!; exit 4"))
    until(lambda: notes.lines and not process.is_alive)
    settle()
    assert notes.codes == []
    process.write_line(b"go")
    communicator.run()
    assert notes.lines[1:] == [b"late"]
    assert notes.codes == [(4,)]


def test_a_session_of_its_own_is_ended_as_a_whole(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    process = start(sh("sleep 1000 & echo $!; wait"), new_session=True)
    until(lambda: notes.lines)
    process.terminate()
    communicator.run()  # which ends only when all who hold its output have ended
    assert os.getsid(0) != process.pid
    assert notes.codes == [(-signal.SIGTERM,)]


def test_a_signal_is_sent_by_name(start: Start, notes: Notes, communicator: Communicator) -> None:
    process = start(sh("trap 'echo usr1; exit 0' USR1; echo ready; while :; do sleep 0.01; done"))
    until(lambda: notes.lines == [b"ready"])
    process.send_signal("USR1")
    communicator.run()
    assert notes.lines == [b"ready", b"usr1"]
    with pytest.raises(UsageError, match="'SIGNONE' is no signal"):
        process.send_signal("SIGNONE")


def test_a_process_that_somebody_else_has_waited_for_ends_without_a_code(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    process = start(sh("exit 3"))
    os.waitpid(process.pid, 0)
    process.kill()  # nobody: its pid may be another's by now
    communicator.run()
    assert notes.codes == [(None,)]
    assert [exit.kind for exit in process.exits if exit] == ["collected"]


def test_a_child_watch_is_told_of_processes_too(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    seen: list[int] = []
    communicator.add_connection(
        ChildWatch(None, lambda event: seen.append(event.pid), keep_running=False)
    )
    process = start(["true"])
    communicator.run()
    until(lambda: seen == [process.pid])


def test_fifty_at_once(start: Start, notes: Notes, communicator: Communicator) -> None:
    for number in range(50):
        start(sh(f"echo {number}; exit {number}"))
    communicator.run()
    assert sorted(map(int, notes.lines)) == list(range(50))
    assert sorted(notes.codes) == [(number,) for number in range(50)]


# --- as a connection ------------------------------------------------------------------------------


def test_a_disabled_process_is_not_read(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    process = start(sh("read a; echo $a; echo $a >&2"), on_error_line=notes.error)
    process.enabled = False
    process.write_line(b"x")
    until(lambda: not process.is_alive)
    settle()
    assert (notes.lines, notes.errors, notes.codes) == ([], [], [])
    process.enabled = True
    communicator.run()
    assert (notes.lines, notes.errors, notes.codes) == ([b"x"], [b"x"], [(0,)])


def test_a_removed_process_runs_on_and_may_come_back(
    start: Start, notes: Notes, communicator: Communicator
) -> None:
    process = start(CAT, stderr="lines")
    communicator.remove_connection(process)
    assert communicator.connections == ()
    assert process.is_alive
    communicator.add_connection(process)
    process.write_line(b"x")
    process.end_input()
    communicator.run()
    assert (notes.lines, notes.codes) == ([b"x"], [(0,)])


def test_it_says_what_it_is(start: Start, communicator: Communicator) -> None:
    process = start(CAT, name="copy", stderr="lines")
    assert repr(process) == f"<copy enabled cat[{process.pid}]>"
    assert [one.name for one in communicator.connections] == ["copy", "copy.stderr"]
    process.end_input()
    communicator.run()
    assert repr(process) == "<copy closed>"


# --- misuse ---------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path: Path) -> dict[str, str]:
    """Commands that cannot be run, and what is said of them."""
    files = {"plain": "echo", "no-shebang": "echo", "orphan": "#!/no/such/interpreter\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600 if name == "plain" else 0o700)
    return {
        f"{tmp_path}/plain": "Permission denied",
        f"{tmp_path}/no-shebang": "no program, and no script that begins with #!",
        f"{tmp_path}/orphan": "the interpreter of its first line is missing",
        f"{tmp_path}/missing": "there is no such file",
        f"{tmp_path}": "Permission denied",
        "orphan": "the interpreter of its first line is missing",
        "no-such-command": f"not in PATH ({tmp_path})",
    }


def test_a_command_that_cannot_be_run_is_named(refused: dict[str, str], tmp_path: Path) -> None:
    for name, reason in refused.items():
        with pytest.raises(CommandError) as caught:
            Process([name], env={"PATH": str(tmp_path)})
        assert str(caught.value) == f"cannot run {name!r}: {reason}"
        assert isinstance(caught.value, OSError)
        assert caught.value.errno
    with pytest.raises(CommandError, match="cannot run 'ls' in the folder '/no/where': No such"):
        Process(["ls"], cwd="/no/where")
    with pytest.raises(CommandError, match=r"1[0-9]{7} bytes of arguments and the environment"):
        Process(["echo", *["x" * 100_000] * 100])


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("ls -l", r"'ls -l' is no command: a list was expected, such as \['ls', '-l'\]"),
        (5, "5 is no command: a list was expected"),
        ([], r"\[\] is no command: it has no first word"),
        ([""], "is no command: it has no first word"),
        (["ls", 5], "its words are to be text"),
        (["ls", "a\0b"], "a word of the command has a NUL in it"),
    ],
)
def test_what_is_no_command_is_refused(command: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Process(command)
    with pytest.raises(UsageError, match=sentence):
        Process.chain([["ls"], command])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"callback": 5}, r"ls: a function of \(process, line\) was expected, not 5"),
        ({"on_error_line": "print"}, "was expected, not 'print'"),
        ({"on_exit": 1}, r"a function of \(process\) was expected, not 1"),
        ({"stdin": "merge"}, "stdin='merge': 'lines', 'discard', 'inherit' or a file was expected"),
        ({"stderr": "pipe"}, "stderr='pipe': 'lines', 'discard', 'inherit', 'merge' or a file"),
        ({"stdout": -1}, "stdout=-1: "),
        ({"stdout": True}, "stdout=True: "),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(
    settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        Process(["ls"], **settings)
    assert reaping.Reaper._current is None


def test_a_chain_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="a chain without a command"):
        Process.chain([])


def test_another_thread_is_told_that_it_cannot() -> None:
    raised: list[str] = []

    def work() -> None:
        try:
            Process(["true"])
        except UsageError as error:
            raised.append(str(error))
        gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert raised == ["children can be watched in the main thread only"]


@pytest.mark.parametrize("left", range(1, 13))
def test_with_too_few_descriptors_nothing_is_started(left: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with os.scandir("/proc/self/fd") as found:
        taken = {int(one.name) for one in found}
    free = [number for number in range(max(taken) + 20) if number not in taken]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[left], hard))
    try:
        with pytest.raises(CommandError, match=r"(no pipe for|cannot run) 'cat': Too many open"):
            Process.chain([CAT] * 8, stderr="lines")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


# --- whole programs -------------------------------------------------------------------------------

BEGIN = """
    import logging, os, signal, subprocess, sys, warnings
    import gevent
    from edgevent import *

    warnings.simplefilter("ignore", DeprecationWarning)
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout)

    def say(*what):
        os.write(1, (" ".join(map(str, what)) + "\\n").encode())
"""


def run(folder: Path, text: str, before: str = "") -> list[str]:
    path = folder / "program.py"
    path.write_text(before + textwrap.dedent(BEGIN) + textwrap.dedent(text), encoding="utf-8")
    with Program(path, folder=folder) as program:
        assert program.end() == 0, program.printed
        return program.lines


def test_a_child_gets_only_what_is_meant_for_it(tmp_path: Path) -> None:
    """Its descriptors, the action of SIGPIPE, and no signal blocked."""
    printed = run(
        tmp_path,
        """
        one, other = os.pipe()
        for descriptor in (one, other):
            os.set_inheritable(descriptor, True)
        with Communicator() as communicator:
            signals = SignalSource("USR1", print, with_sender=True, keep_running=False)
            communicator.add_connection(signals)
            communicator.add_connection(Server("unix:sock"))
            gevent.sleep(0.01)
            say(signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, []))
            for passed in ((), (one,)):
                with Process(["ls", "/proc/self/fd"], pass_fds=passed) as process:
                    found = set(map(int, process))
                say(len(found) - len(passed), {0, 1, 2, *passed} <= found)
            with Process.chain([["cat"], ["ls", "/proc/self/fd"]], stdin="discard") as process:
                say(*map(int, process))
            with Process(["grep", "Sig[BI]", "/proc/self/status"]) as process:
                blocked, ignored = [int(line.split()[1], 16) for line in process]
            say(blocked, ignored & 1 << signal.SIGPIPE - 1)
        """,
    )
    assert printed == [
        "True",
        "4 True",  # and the one of the listing itself
        "4 True",
        "0 1 2 3",
        "0 0",
    ]


def test_in_a_patched_program_it_is_the_same(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        with Communicator() as communicator:
            process = Process.chain(
                [["cat"], ["tr", "a-z", "A-Z"]],
                lambda process, line: say(line),
                on_exit=lambda process: say(process.exit_codes),
            )
            process.write_line(b"hello")
            process.end_input()
            communicator.add_connection(process)
            communicator.run()
            say(subprocess.run(["sh", "-c", "exit 4"]).returncode)
            child = os.fork()
            if not child:
                os._exit(6)
            say(os.waitpid(child, 0)[1] >> 8)
        try:
            Process(["no-such-command"])
        except CommandError as error:
            say(error)
        """,
        before="from gevent import monkey; monkey.patch_all()\n",
    )
    assert printed[:4] == ["b'HELLO'", "(0, 0)", "4", "6"]
    assert printed[4].startswith("cannot run 'no-such-command': not in PATH")


def test_a_forked_child_neither_ends_nor_hears_its_parents_processes(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        def pipes():
            return sum(
                os.path.exists(path) and os.readlink(path).startswith("pipe:")
                for path in (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
            )

        before = pipes()
        with Communicator() as communicator:
            def ended(process):
                say("ended", process.exit_code, os.getpid() == parent)
            parent = os.getpid()
            process = Process(["cat"], on_exit=ended, stderr="lines")
            communicator.add_connection(process)
            watch = communicator.add_connection(
                ChildWatch(None, lambda event: say(event.kind), keep_running=False)
            )
            gevent.sleep(0.01)
            child = os.fork()
            if not child:
                say(pipes() - before)
                try:
                    process.terminate()
                except ForkedError as error:
                    say(error)
                process.close()
                watch.close()
                os._exit(0)
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
            say(process.is_alive)
            process.end_input()
            communicator.run()
        """,
    )
    assert printed[:3] == ["0", "this object belongs to the parent of this forked process", "True"]
    assert sorted(printed[3:]) == ["ended 0 True", "exit", "exit"]
