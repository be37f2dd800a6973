"""ed-stop: which process it stops, with which signals, and what it says."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import tool_ground
from running import EXAMPLES, Program
from tool_ground import (
    PATIENCE,
    SCRIPTS,
    check_man_page,
    cpu_seconds,
    examples_of,
    readme_lines,
    run,
    variables_of,
    words_of,
)
from tool_ground import (
    begin as begin_tool,
)

from edgevent.tools.ed_stop import main
from edgevent.tools.processes import Held, hold

# It ignores the signals that are named, says that it runs, and waits to be ended.
STUBBORN = """\
import signal, sys
for name in sys.argv[1:]:
    signal.signal(getattr(signal, name), signal.SIG_IGN)
if "SIGINT" not in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
print("runs", flush=True)
signal.pause()
"""


def stop(folder: Path, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run("ed-stop", *words, folder=folder, **variables)


failed = partial(tool_ground.failed, "ed-stop")

Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Starts a program and waits until it has printed a line; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*map(str, words)],
            cwd=tmp_path,
            env=variables_of(tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def stubborn(begin: Begin) -> Begin:
    """Starts a process that ignores the signals that are named."""
    return lambda *names: begin(sys.executable, "-c", STUBBORN, *names)


# --- the signals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["{}"], ["--server", "{}"], ["--service={}"], ["-s", "{}"]])
def test_a_process_is_stopped_by_sigint(tmp_path: Path, stubborn: Begin, words: list[str]) -> None:
    process = stubborn()
    done = stop(tmp_path, *[word.format(process.pid) for word in words])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert process.wait() == -signal.SIGINT


def test_sigterm_follows_after_the_timeout(tmp_path: Path, stubborn: Begin) -> None:
    process = stubborn("SIGINT")
    done = stop(tmp_path, str(process.pid), "--timeout", "100ms")
    assert (done.returncode, done.stdout) == (0, "")
    who = f"ed-stop: process {process.pid}"
    assert done.stderr == f"{who} runs on 100ms after SIGINT; now SIGTERM\n"
    assert process.wait() == -signal.SIGTERM


def test_what_ignores_both_runs_on_until_it_is_killed(tmp_path: Path, stubborn: Begin) -> None:
    process = stubborn("SIGINT", "SIGTERM")
    words = (str(process.pid), "--timeout=0.1", "--term-timeout=100ms")
    who = f"ed-stop: process {process.pid} runs on 100ms after"
    done = stop(tmp_path, *words)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{who} SIGINT; now SIGTERM", f"{who} SIGTERM; --kill would send SIGKILL",
    ]  # fmt: skip
    assert process.poll() is None
    done = stop(tmp_path, *words, "--kill")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        f"{who} SIGINT; now SIGTERM", f"{who} SIGTERM; now SIGKILL",
    ]  # fmt: skip
    assert process.wait() == -signal.SIGKILL


def test_a_stopped_process_is_told_to_be_one(tmp_path: Path, stubborn: Begin) -> None:
    process = stubborn()
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    done = stop(tmp_path, str(process.pid), "--timeout=100ms", "--term-timeout=100ms")
    assert done.returncode == 1
    assert done.stderr.endswith("after SIGTERM (stopped); --kill would send SIGKILL\n")


def test_a_real_service_is_stopped(tmp_path: Path) -> None:
    with Program(EXAMPLES / "hello_service.py", "unix:hello.sock", folder=tmp_path) as program:
        program.listening_on()
        assert stop(tmp_path, str(program.process.pid)).returncode == 0
        assert program.end() == 0


# --- nothing to stop, and what is refused ---------------------------------------------------------


@pytest.mark.parametrize(
    "words", [[""], ["-s", ""], ["--service="], ["-s"], ["--process-name", ""]]
)
def test_an_empty_name_is_nothing_to_stop(tmp_path: Path, words: list[str]) -> None:
    done = stop(tmp_path, *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_does_not_run_is_stopped_already(tmp_path: Path, stubborn: Begin) -> None:
    process = stubborn()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    # A zombie, then nothing at all.
    for _ in range(2):
        assert failed(stop(tmp_path, str(process.pid)), 0) == f"{process.pid} does not run"
        process.wait()


@pytest.mark.parametrize("pid", ["0", "00", "1"])
def test_the_processes_0_and_1_are_refused(tmp_path: Path, pid: str) -> None:
    assert re.fullmatch(
        f"process {int(pid)} is .*, and is not stopped", failed(stop(tmp_path, pid), 1)
    )


def test_it_does_not_stop_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main([str(os.getpid())]) == 1
    said = f"ed-stop: process {os.getpid()} is ed-stop itself, and is not stopped\n"
    assert capsys.readouterr().err == said


def test_a_thread_is_no_process(tmp_path: Path, begin: Begin) -> None:
    program = "import threading, time\n" + (
        "threading.Thread(target=lambda: (print(threading.get_native_id(), flush=True),"
        " time.sleep(60)), daemon=True).start()\ntime.sleep(60)\n"
    )
    (tmp_path / "threaded.py").write_text(f"print(flush=True)\n{program}", encoding="utf-8")
    process = begin(sys.executable, tmp_path / "threaded.py")
    assert process.stdout is not None
    thread = process.stdout.readline().strip()
    assert (
        failed(stop(tmp_path, thread), 1)
        == f"{thread} is a thread, not a process, and is not stopped"
    )
    assert process.poll() is None


def test_another_users_process_is_told_to_be_one(tmp_path: Path, stubborn: Begin) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")
    process = stubborn()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        sys.stderr = os.fdopen(write, "w", encoding="utf-8")
        os.setuid(65534)
        code = main([str(process.pid)])
        sys.stderr.flush()
        os._exit(code)
    os.close(write)
    with open(read, encoding="utf-8") as file:
        said = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert said == f"ed-stop: process {process.pid}: SIGINT was not sent: Operation not permitted\n"


def test_the_one_that_is_held_is_the_only_one_hit(stubborn: Begin) -> None:
    process = stubborn()
    held = hold(process.pid, str(process.pid))
    assert isinstance(held, Held)
    with held:
        assert not held.wait(0.0)
        process.kill()
        process.wait()
        assert held.wait(PATIENCE)
        held.send(signal.SIGINT)  # whoever has the id now gets none


# --- units of systemd -----------------------------------------------------------------------------


@pytest.fixture
def systemd(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Gives the variables with which a shell script of the test's is systemctl."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(lines: str) -> dict[str, str]:
        path = folder / "systemctl"
        path.write_text(f'#!/bin/sh\necho "$#" "$@" >> "{tmp_path}/asked"\n{lines}\n')
        path.chmod(0o755)
        return {"PATH": f"{folder}:{os.environ['PATH']}"}

    return make


def test_a_unit_is_stopped(
    tmp_path: Path, stubborn: Begin, systemd: Callable[[str], dict[str, str]]
) -> None:
    process = stubborn()
    done = stop(tmp_path, "--server", "hello.service", **systemd(f"echo {process.pid}"))
    assert (done.returncode, done.stderr) == (0, "")
    assert process.wait() == -signal.SIGINT
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert set(asked) == {"5 show --property MainPID --value hello.service"}


@pytest.mark.parametrize("answer", ["echo 0", "echo", "exit 0"])
def test_a_unit_that_does_not_run_is_stopped_already(
    tmp_path: Path, systemd: Callable[[str], dict[str, str]], answer: str
) -> None:
    assert failed(stop(tmp_path, "hello", **systemd(answer)), 0) == "hello does not run"


def test_a_unit_that_is_started_anew_meanwhile_is_stopped_as_it_runs_now(
    tmp_path: Path, stubborn: Begin, systemd: Callable[[str], dict[str, str]]
) -> None:
    former, process = stubborn(), stubborn()
    first = f'[ "$(wc -l < "{tmp_path}/asked")" = 1 ]'
    answer = f"if {first}; then echo {former.pid}; else echo {process.pid}; fi"
    assert stop(tmp_path, "hello", **systemd(answer)).returncode == 0
    assert process.wait() == -signal.SIGINT
    assert former.poll() is None


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("echo no bus >&2; exit 1", "hello: systemctl failed with code 1: no bus"),
        ("echo 12 13", "hello: systemctl failed with code 0: it answered '12 13'"),
        ("echo 1", "process 1 is the one that starts all others, and is not stopped"),
        # Ids that nobody has, another one each time.
        ("echo $((4000000 + $(wc -l < asked)))", "hello: its main process changes all the time"),
    ],
)
def test_what_systemctl_cannot_tell_ends_with_1(
    tmp_path: Path, systemd: Callable[[str], dict[str, str]], answer: str, sentence: str
) -> None:
    assert failed(stop(tmp_path, "hello", **systemd(answer)), 1) == sentence


def test_without_systemd_it_says_what_helps(tmp_path: Path) -> None:
    said = failed(stop(tmp_path, "hello", PATH=str(tmp_path)), 1)
    assert said == "hello: there is no systemctl to ask; --process-name looks for a process"


# --- by name --------------------------------------------------------------------------------------


def unique(ending: str = "") -> str:
    return f"ed-stop-test-of-a-name-{os.getpid()}{ending}"


def script(tmp_path: Path, name: str, first: str = "", body: str = STUBBORN) -> Path:
    path = tmp_path / name
    path.write_text(f"{first}{body}", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "words",
    [
        [sys.executable, "{}"],
        [sys.executable, "-Werror", "-W", "error", "--", "{}"],
        [sys.executable, "-X", "dev", "-u", "./{}"],
        ["{}"],  # the kernel gives Python its name
    ],
)
def test_a_script_is_found_by_its_name(tmp_path: Path, begin: Begin, words: list[str]) -> None:
    name = unique(".py")
    path = script(tmp_path, name, f"#!{sys.executable}\n")
    process = begin(*[word.format(path if word == "{}" else name) for word in words])
    done = stop(tmp_path, "--process-name", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert process.wait() == -signal.SIGINT


def test_a_module_is_found_by_its_name(tmp_path: Path, begin: Begin) -> None:
    name = unique().replace("-", "_")
    script(tmp_path, f"{name}.py")
    process = begin(sys.executable, "-m", name)
    assert stop(tmp_path, "--process-name", name).returncode == 0
    assert process.wait() == -signal.SIGINT


@pytest.mark.parametrize("name", ["named", "with blanks ) in", "123456"])
def test_a_process_is_found_by_the_name_that_it_has_given_itself(
    tmp_path: Path, begin: Begin, name: str
) -> None:
    shown = f"{os.getpid() % 100:02}{name}"[:15]
    body = f"open('/proc/self/comm', 'w').write({shown!r})\n{STUBBORN}"
    process = begin(sys.executable, script(tmp_path, "other.py", body=body))
    assert stop(tmp_path, "--process-name", shown).returncode == 0
    assert process.wait() == -signal.SIGINT


def test_what_only_names_the_file_is_left_alone(tmp_path: Path, begin: Begin) -> None:
    name = unique(".py")
    script(tmp_path, name, body="a line\n")
    process = begin("tail", "-f", name)
    assert failed(stop(tmp_path, "--process-name", name), 0) == f"{name} does not run"
    assert process.poll() is None


PARENT = """\
import subprocess, sys, time
if len(sys.argv) == 1:
    with subprocess.Popen([sys.executable, __file__, "child"]) as child:
        print("runs", flush=True)
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            child.terminate()
            sys.exit(3)
time.sleep(60)
"""


def test_of_a_process_and_its_children_it_is_the_parent(tmp_path: Path, begin: Begin) -> None:
    name = unique(".py")
    process = begin(sys.executable, script(tmp_path, name, body=PARENT))
    assert stop(tmp_path, "--process-name", name).returncode == 0
    assert process.wait() == 3


def test_several_processes_of_a_name_are_left_alone(tmp_path: Path, begin: Begin) -> None:
    name = unique(".py")
    path = script(tmp_path, name)
    both = [begin(sys.executable, path) for _ in range(2)]
    ids = ", ".join(str(pid) for pid in sorted(one.pid for one in both))
    said = failed(stop(tmp_path, "--process-name", name), 1)
    assert said == f"{name}: 2 processes have this name: {ids}; expected one id"
    assert [one.poll() for one in both] == [None, None]


def test_what_has_started_it_is_left_alone(tmp_path: Path) -> None:
    name = unique(".sh")
    line = shlex.join(words_of("ed-stop", "--process-name", name))
    path = script(tmp_path, name, "#!/bin/sh\n", f"{line}\necho $?\n")
    done = subprocess.run(
        ["/bin/sh", path],
        env=variables_of(tmp_path),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0\n", f"ed-stop: {name} does not run\n")


# --- on a terminal --------------------------------------------------------------------------------


def test_a_terminal_is_shown_how_long_it_waits(tmp_path: Path, stubborn: Begin) -> None:
    process = stubborn("SIGINT")
    ours, theirs = pty.openpty()
    tool = subprocess.Popen(
        words_of("ed-stop", str(process.pid), "--timeout=2s"),
        cwd=tmp_path,
        env=variables_of(tmp_path),
        stdin=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    limit = threading.Timer(PATIENCE, tool.kill)
    limit.start()
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # EIO: the other side is closed
        pass
    os.close(ours)
    assert tool.wait() == 0
    limit.cancel()
    limit.join()
    who = rf"process {process.pid}"
    lines = re.split(r"[\r\n]+", shown.decode().replace("\x1b[K", ""))
    assert re.fullmatch(rf"waiting for {who}: \d s", lines[1])
    assert f"ed-stop: {who} runs on 2s after SIGINT; now SIGTERM" in lines
    assert re.fullmatch(rf"{who} has stopped after \d+\.\d s", lines[-2])


TELLING = """\
import signal
signal.signal(signal.SIGINT, lambda *_: print("told", flush=True))
print("runs", flush=True)
while True:
    signal.pause()
"""


def test_an_interrupt_ends_the_wait_and_nothing_else(tmp_path: Path, begin: Begin) -> None:
    process = begin(sys.executable, "-c", TELLING)
    with begin_tool("ed-stop", str(process.pid), "--timeout=1h", folder=tmp_path) as tool:
        assert process.stdout is not None
        assert process.stdout.readline() == "told\n"
        tool.send_signal(signal.SIGINT)
        assert tool.communicate() == ("", "")
    assert tool.returncode == 130
    assert process.poll() is None


# --- the rest -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "expected the name of a service or the id of a process; --help tells more"),
        (["a", "b"], "argument 'b': expected one name, and 'a' is before"),
        (["a", "-s", "b"], "argument 'b': expected one name, and 'a' is before"),
        (["--server=a", "--service=b"], "argument 'b': expected one name, and 'a' is before"),
        (["--", "-1"], "'-1': expected a name, or the id of a process"),
        (["99999999"], "process 99999999: expected an id up to 4194304"),
        (["a;b"], "'a;b': expected the name of one unit, such as hello.service"),
        (["a*"], "'a*': expected the name of one unit, such as hello.service"),
        (["--process-name", "a/b"], "'a/b': expected a name without its folder"),
        (["1", "--timeout=99ms"], "argument --timeout: duration '99ms': expected 100ms to 1h"),
        (["1", "--timeout=2h"], "argument --timeout: duration '2h': expected 100ms to 1h"),
        (["1", "--timeot=2"], "argument '--timeot' is unknown; did you mean '--timeout'?"),
    ],
)
def test_bad_usage_ends_with_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    try:
        code = main(words)
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    assert (code, said.out, said.err) == (2, "", f"ed-stop: {sentence}\n")


def test_a_mistake_of_a_process_is_one_line(tmp_path: Path) -> None:
    assert "did you mean '--kill'?" in failed(stop(tmp_path, "--kil", "2"), 2)


@pytest.mark.parametrize("limit", ["0.1", "1h"])
def test_the_limits_of_the_wait_belong_to_it(tmp_path: Path, limit: str) -> None:
    assert stop(tmp_path, "--timeout", limit, "").returncode == 0


def test_it_is_quick(tmp_path: Path) -> None:
    assert min(cpu_seconds("ed-stop", "", folder=tmp_path) for _ in range(3)) < 0.4


def test_the_manual_page_has_each_option(tmp_path: Path) -> None:
    check_man_page("ed-stop", tmp_path)


def test_the_commands_of_the_manual_page_run(
    tmp_path: Path, systemd: Callable[[str], dict[str, str]]
) -> None:
    lines = examples_of("ed-stop")
    assert lines == readme_lines("stop")
    assert len(lines) == 3
    variables = systemd("echo 0")
    path = f"{SCRIPTS}:{Path(sys.executable).parent}:{variables['PATH']}"
    for line in lines:
        # No service of this machine's has that name.
        line = line.replace("hello_service.py", unique())
        done = subprocess.run(
            line,
            shell=True,
            cwd=tmp_path,
            env=variables_of(tmp_path, PATH=path),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert failed(done, 0).endswith(" does not run")
