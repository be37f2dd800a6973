"""What snaploggerd does when disks, senders and itself fail: nothing is lost without a word."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from snaploggerd_ground import OFF, Daemon, Sender, record, remove_in
from tool_ground import PATIENCE, SCRIPTS, run

from edgevent import Client, Message, TcpLogHandler
from edgevent.snaplogger.program import Program
from edgevent.testing.starting import StartedService

FORM = "--form=${message}"

Start = Callable[..., Daemon]
Namespaces = Callable[[str], list[str]]
NeedTool = Callable[..., str]


@pytest.fixture
def start() -> Iterator[Start]:
    daemons: list[Daemon] = []

    def start(*words: str, **settings: object) -> Daemon:
        daemons.append(Daemon(*OFF, FORM, *words, **settings))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.close()


def mounting(namespaces: Namespaces, options: str, *then: str) -> list[str]:
    """Words before a daemon whose folder of logs is a small disk of its own."""
    script = ["mkdir -p logs", f"mount -t tmpfs -o {options} none logs", *then, 'exec "$@"']
    return [*namespaces("-rm"), "sh", "-ec", "; ".join(script), "sh"]


def serials(answers: list[Message], command: str) -> list[int]:
    """The serials of what was answered so."""
    return [one.integer("serial") for one in answers if one.command == command]


def lines_in(daemon: Daemon) -> list[str]:
    """The lines of the file, as the daemon sees it."""
    path = Path(f"/proc/{daemon.pid}/root{daemon.logs}/snaplogger.log")
    return path.read_text(encoding="utf-8").splitlines()


# --- disks ----------------------------------------------------------------------------------------


def test_a_full_disk_keeps_what_it_can_and_counts_the_rest(
    start: Start, own_namespaces: Namespaces
) -> None:
    ballast = "head -c 57344 /dev/zero > logs/ballast"  # two pages are left
    before = mounting(own_namespaces, "size=64k", ballast)
    daemon = start("--max-kept=16KiB", before=before)
    with Sender(daemon) as sender:
        for number in range(40):
            text = f"{number:04d}{'x' * 995}"
            sender.send(record(text, acknowledge=True, serial=number, instance="me"))
        answers = [sender.receive() for _ in range(25)]  # those in memory are not answered
        assert serials(answers, "LOG_ACKNOWLEDGE") == list(range(8))
        assert serials(answers, "INVALID") == list(range(24, 40))
        [why] = {one["message"] for one in answers if one.command == "INVALID"}
        assert why == "there is no room for it"
        assert [one.command for one in answers].count("PAUSE") == 1
        whole = lines_in(daemon)
        assert [line[:4] for line in whole] == [f"{number:04d}" for number in range(8)]
        assert {len(line) for line in whole} == {999}
        remove_in(daemon.pid, daemon.logs / "ballast")
        answers = [sender.receive() for _ in range(17)]
        assert serials(answers, "LOG_ACKNOWLEDGE") == list(range(8, 24))
        assert answers[-1].command == "UNPAUSE"
        # What was lost is taken now, when it comes again.
        assert sender.log(f"0024{'x' * 995}", serial=24, instance="me") == "LOG_ACKNOWLEDGE"
    lines = lines_in(daemon)
    assert [line[:4] for line in lines] == [
        *(f"{number:04d}" for number in range(24)),
        "snap",
        "0024",
    ]
    assert lines[24] == "snaploggerd: 16 log records were lost: No space left on device"
    assert "No space left on device: records wait in memory" in daemon.output
    assert "it can be written again" in daemon.output
    assert daemon.counts()["lost"] == 16


@pytest.mark.parametrize("allow", [(), ("--allow=LOG=all",)], ids=["passing by", "in turns"])
def test_who_comes_while_the_disk_is_full_is_told_to_wait(
    start: Start, own_namespaces: Namespaces, allow: tuple[str, ...]
) -> None:
    ballast = "head -c 65536 /dev/zero > logs/ballast"
    before = mounting(own_namespaces, "size=64k", ballast)
    daemon = start("--max-kept=16KiB", *allow, before=before)
    with Sender(daemon) as sender:
        sender.send(record("x" * 9000, serial=1, instance="me"))
        assert sender.receive().command == "PAUSE"
        with Sender(daemon) as late, Sender(daemon) as cpp:
            cpp.send(record("cannot wait"))
            late.send(record("can wait", serial=1, instance="late"))
            assert late.receive().command == "PAUSE"
            assert cpp.ask("HELP").command == "COMMANDS"
            remove_in(daemon.pid, daemon.logs / "ballast")
            assert late.receive().command == "UNPAUSE"
        assert sender.receive().command == "UNPAUSE"
    assert sorted(lines_in(daemon)[1:]) == ["can wait", "cannot wait"]


def test_a_disk_that_is_read_only_is_waited_for(
    start: Start, own_namespaces: Namespaces, need_tool: NeedTool
) -> None:
    nsenter = need_tool("nsenter", package="util-linux")
    daemon = start(before=mounting(own_namespaces, "ro"))
    with Sender(daemon) as sender:
        sender.send(record("waits", acknowledge=True))
        daemon.wait_until(re.compile("Read-only file system: records wait"))
        words = [nsenter, f"--target={daemon.pid}", "--user", "--mount"]
        words += ["mount", "-o", "remount,rw", str(daemon.logs)]
        subprocess.run(words, check=True, timeout=PATIENCE)
        assert sender.receive().command == "LOG_ACKNOWLEDGE"
    assert lines_in(daemon) == ["waits"]


def test_an_error_of_the_disk_is_tried_again(start: Start, need_tool: NeedTool) -> None:
    words = [need_tool("strace", package="strace"), "-qq", "-o", "trace"]
    words += ["-P", "{folder}/logs/snaplogger.log", "-e", "inject=write:error=EIO:when=2"]
    daemon = start("--folder={folder}/logs", before=words)
    with Sender(daemon) as sender:
        assert sender.log("first") == "LOG_ACKNOWLEDGE"
        assert sender.log("second") == "LOG_ACKNOWLEDGE"
    assert daemon.lines() == ["first", "second"]
    assert "Input/output error: records wait in memory" in daemon.output


@pytest.mark.parametrize("leaves", ["by its size", "by LOG_ROTATE"])
def test_what_may_not_be_durable_when_its_file_is_left_is_not_acknowledged(
    start: Start, need_tool: NeedTool, leaves: str
) -> None:
    # The first one of the main thread: where nothing is left, others make files durable.
    words = [need_tool("strace", package="strace"), "-qq", "-o", "trace"]
    words += ["-e", "inject=fdatasync:error=EIO:when=1"]
    by_size = leaves == "by its size"
    daemon = start("--sync", f"--max-file-size={'1KiB' if by_size else '0'}", before=words)
    record_2 = record("x" * 1020, serial=2, instance="me", acknowledge=True)
    with Sender(daemon) as sender:
        assert sender.log("first", serial=1, instance="me") == "LOG_ACKNOWLEDGE"
        sender.send(bytes(record_2) + (b"" if by_size else b"\nLOG_ROTATE"))
        with pytest.raises((AssertionError, ConnectionError), match=r"ended|reset"):
            sender.receive()  # its sender comes back, with all that has no answer
    assert "not durable, and not acknowledged: Input/output error" in daemon.output
    with Sender(daemon) as sender:
        assert sender.ask(record_2).integer("serial") == 2  # it is taken once more
    assert daemon.counts()["repeats"] == 0
    told = "snaploggerd: 1 log record before may not be durable, and may come once more"
    assert told in daemon.lines() + daemon.lines("snaplogger.log.1")


def test_what_is_not_durable_is_sent_again_at_once(start: Start, need_tool: NeedTool) -> None:
    # The first one of each thread.
    words = [need_tool("strace", package="strace"), "-f", "-qq", "-o", "trace"]
    words += ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=1"]
    daemon = start("--sync", before=words)
    handler = TcpLogHandler(f"unix:{daemon.folder}/s.sock")
    try:
        handler.handle(logging.LogRecord("x", logging.INFO, __file__, 1, "arrives", None, None))
        assert handler.flush(PATIENCE)
        assert handler.lost == 0
    finally:
        handler.close()
    lines = daemon.lines()
    assert lines[-1] == "arrives"
    assert "snaploggerd: 1 log record before may not be durable, and may come once more" in lines


def test_a_path_that_is_no_file_is_waited_for(start: Start, tmp_path: Path) -> None:
    (tmp_path / "logs" / "snaplogger.log").mkdir(parents=True)
    daemon = start(f"--folder={tmp_path}/logs", "--drain-timeout=0.1")
    with Sender(daemon) as sender:
        sender.send(record("lost at the end"))
        daemon.wait_until(re.compile("Is a directory: records wait"))
    assert daemon.stop() == 0
    assert "snaplogger.log: 1 log record was lost at the end" in daemon.output


# --- rotation -------------------------------------------------------------------------------------


def test_files_are_rotated_by_their_size(start: Start) -> None:
    daemon = start("--max-file-size=1KiB", "--keep-files=2")
    with Sender(daemon) as sender:
        for number in range(7):
            sender.log(f"{number}{'x' * 510}")
    found = [daemon.lines(f"snaplogger.log{end}") for end in ("", ".1", ".2", ".3")]
    assert [[line[0] for line in lines] for lines in found] == [["6"], ["4", "5"], ["2", "3"], []]


def test_log_rotate_leaves_a_file_that_was_renamed(start: Start, tmp_path: Path) -> None:
    daemon = start()
    [host] = re.findall(r"LogRotateListener.*receiving at udp://(\S+)", daemon.output)
    with Sender(daemon) as sender:
        sender.log("before")
        for number, by in ((1, "datagram"), (2, "stream")):
            (daemon.logs / "snaplogger.log").rename(daemon.logs / f"old.{number}")
            if by == "datagram":
                assert (
                    run("ed-signal", "--host", host, "LOG_ROTATE", folder=tmp_path).returncode == 0
                )
                daemon.wait_until(re.compile("the log files were reopened"))
            else:
                sender.send("LOG_ROTATE")
            sender.log(f"after {by}")
    assert daemon.lines("old.1") == ["before"]
    assert daemon.lines("old.2") == ["after datagram"]
    assert daemon.lines() == ["after stream"]


# --- limits ---------------------------------------------------------------------------------------


def test_a_sender_that_sends_too_much_is_cut_down(start: Start) -> None:
    daemon = start("--rate-limit=1", "--rate-burst=5")
    with Sender(daemon) as sender:
        sender.send(*(record(f"number {index}") for index in range(20)))
        answer = sender.ask(record("one more", acknowledge=True, serial=5))
        assert (answer.command, answer["serial"]) == ("INVALID", "5")
        assert "has sent more than 1 a second" in answer["message"]
    assert daemon.counts()["limited"] == 16
    assert daemon.stop() == 0
    *lines, last = daemon.lines()
    assert lines == [f"number {index}" for index in range(5)]
    assert re.fullmatch(
        r"snaploggerd: dropped 16 log records of process \d+ of user \d+: more than 1 a second",
        last,
    )


def test_a_sender_has_its_quota(start: Start) -> None:
    daemon = start("--quota=1KiB", "--quota-period=1h")
    with Sender(daemon) as sender:
        assert sender.log("x" * 1000) == "LOG_ACKNOWLEDGE"
        assert sender.log("x" * 100) == "INVALID"
        assert sender.log("x" * 20) == "LOG_ACKNOWLEDGE"
    assert [line[:50] for line in daemon.lines()][1].startswith(
        "snaploggerd: dropped 1 log record of"
    )


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("sync", ["", "--sync"])
def test_what_was_acknowledged_outlives_a_kill(
    start: Start, times: int, sync: str, tmp_path: Path
) -> None:
    words = [f"--folder={tmp_path}", *([sync] if sync else [])]
    acknowledged: set[int] = set()
    serial = 0
    for turn in range(times):
        daemon = start(*words)
        with Sender(daemon) as sender:
            killer: threading.Timer | None = None
            begun = len(acknowledged)
            try:
                while True:
                    for _ in range(50):
                        serial += 1
                        sender.send(record(f"number {serial} end", acknowledge=True, serial=serial))
                    for _ in range(50):
                        acknowledged.add(sender.receive().integer("serial"))
                    if killer is None and len(acknowledged) > begun + 100 * turn:
                        killer = threading.Timer(0.02, os.kill, (daemon.pid, signal.SIGKILL))
                        killer.start()
            except (AssertionError, ConnectionError):
                pass
            assert killer is not None
            killer.join()
        assert len(acknowledged) > begun
        assert daemon.wait() == -signal.SIGKILL
    lines = (tmp_path / "snaplogger.log").read_text(encoding="utf-8").splitlines()
    assert acknowledged <= {
        int(found[1]) for line in lines if (found := re.fullmatch(r"number (\d+) end", line))
    }


def test_stop_writes_and_acknowledges_what_has_come(start: Start) -> None:
    daemon = start("--sync")
    with Sender(daemon) as sender, Client(f"unix:{daemon.folder}/s.sock") as control:
        assert sender.log("first") == "LOG_ACKNOWLEDGE"
        sender.send(*(record("and so on", acknowledge=True) for _ in range(500)))
        control.send(Message("STOP"))
        answers = 0
        try:
            while sender.receive().command == "LOG_ACKNOWLEDGE":
                answers += 1
        except (AssertionError, ConnectionError):
            pass
    assert daemon.wait() == 0
    assert len(daemon.lines()) >= 1 + answers
    assert "records " in daemon.output


def test_a_reload_changes_files_and_forms(start: Start) -> None:
    daemon = Daemon(*OFF, config="form = a ${message}\npath-template = a.log\n")
    with daemon, Sender(daemon) as sender:
        sender.log("before")
        [config] = daemon.folder.glob("*.conf")
        config.write_text("form = b ${message}\npath-template = b.log\nmin-severity = error\n")
        daemon.signal("SIGHUP")
        daemon.wait_until(re.compile("the configuration was read again: form, min_severity, path"))
        sender.log("after")
        sender.log("left out", severity="debug")
        config.write_text("form = ${nothing}\n")
        daemon.signal("SIGHUP")
        daemon.wait_until(re.compile(r"stays as it was: .*there is no variable \$\{nothing\}"))
        sender.log("goes on")
        assert daemon.lines("a.log") == ["a before"]
        assert daemon.lines("b.log") == ["b after", "b goes on"]


def test_it_registers_with_communicatord_when_asked(start: Start, tmp_path: Path) -> None:
    router = StartedService(
        [sys.executable, str(SCRIPTS / "communicatord"), "--local-listen=127.0.0.1:{port}"],
        "--unix-listen=off",
        "--signal=off",
        "--server-name=here",
        f"--services={tmp_path}",
        ready="notify",
        timeout=PATIENCE,
    )
    with router:
        daemon = start(f"--communicator-listen={router.address}")
        router.wait_until(re.compile("registered as snaploggerd"))
        with Client(router.address) as client:
            client.send(Message("REGISTER", {"service": "sender", "version": 1}))
            while client.receive(timeout=PATIENCE).command != "READY":
                pass
            message = record("through it", acknowledge=True, serial=5)
            client.send(message.with_target("", "snaploggerd"))
            answer = client.receive(timeout=PATIENCE)
        assert (answer.command, answer["serial"]) == ("LOG_ACKNOWLEDGE", "5")
        assert daemon.lines() == ["through it"]
        assert daemon.stop() == 0


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("--form=${mesage}", "there is no variable ${mesage}; did you mean ${message}?"),
        ("--path-template=../a.log", "a path below the folder was expected"),
        ("--path-template=/a.log", "a path below the folder was expected"),
        ("--path-template=${component}/../x", "a path below the folder was expected"),
        ("--tcp-listen=unix:x", "an address of TCP was expected, such as 127.0.0.1:4043"),
        ("--udp-listen=tcp://127.0.0.1:1", "an address of datagrams was expected"),
        ("--tls-listen=tcp://127.0.0.1:1", "an address of TLS was expected"),
        ("--max-file-size=big", "size 'big': a number was expected, such as 65536"),
        ("--min-severity=warnin", "did you mean 'warning'?"),
        ("--rate-limit=-1", "'-1': a number from 0 to 10000000 was expected"),
    ],
)
def test_what_cannot_be_is_refused_before_the_start(
    word: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        Program(config_folder=tmp_path).service.options.parse([word])
    said = capsys.readouterr().err
    assert why in said
    assert said.startswith("snaploggerd: ")
    assert said.count("\n") == 1


def test_the_configuration_can_be_checked(tmp_path: Path) -> None:
    words = [*OFF, "--unix-listen=off", "--check-config"]
    (tmp_path / "file").touch()
    done = run("snaploggerd", *words, "--folder=a/b", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    words += ["--udp-listen-secret-code=a", "--udp-listen-keys=b", "--folder=file/x"]
    done = run("snaploggerd", *words, folder=tmp_path)
    assert done.returncode == 2
    assert "udp-listen-secret-code, udp-listen-keys: one of them was expected" in done.stderr
    assert f"folder file/x: files cannot be made in {tmp_path}/file" in done.stderr
    done = run("snaploggerd", *words[:5], "--path-template=off", folder=tmp_path)
    assert "records would go nowhere" in done.stderr


def test_a_folder_of_the_socket_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    done = run("snaploggerd", *OFF, "--folder=a", folder=tmp_path, RUNTIME_DIRECTORY="/dev/null")
    assert done.returncode == 1
    why = "unix:/dev/null/snaploggerd.sock: its folder cannot be made: File exists"
    assert why in done.stderr
    assert "Traceback" not in done.stderr


class Stranger:
    """A peer that may not control the daemon; keeps what it is answered."""

    name = "a stranger"
    may_control = False
    answers_errors = True

    def __init__(self) -> None:
        self.answers: list[Message] = []

    def send(self, message: Message) -> None:
        self.answers.append(message)


@pytest.mark.parametrize("command", ["PAUSE", "UNPAUSE"])
def test_a_stranger_may_not_control_it(tmp_path: Path, command: str) -> None:
    program, peer = Program(config_folder=tmp_path), Stranger()
    program.service.dispatcher.dispatch(Message(command), peer)
    assert [one.command for one in peer.answers] == ["INVALID"]
    assert not program.streams.is_paused
