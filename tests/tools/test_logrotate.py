"""LOG_ROTATE by datagram: from ed-signal, with a secret code; nothing else is obeyed."""

from __future__ import annotations

import logging
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent.event import Event
from network_ground import Ground, until
from running import EXAMPLES, Program
from tool_ground import begin, readme_lines, run

from edgevent import Communicator, ListenError, LogRotateListener, Message, send_datagram
from edgevent.logrotate import add_log_rotation_options, log_rotation_from_options
from edgevent.logs import add_logging_options, set_up_logging
from edgevent.options import OptionParser


class Reopened:
    """Counts."""

    def __init__(self, answer: bool = True) -> None:
        self.count = 0
        self.answer = answer
        self.event = Event()

    def reopen(self) -> bool:
        self.count += 1
        self.event.set()
        return self.answer


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground(Communicator()) as ground:
        yield ground


def parse(folder: Path, *words: object, default: str | None = None) -> object:
    parser = OptionParser("hello", "Greets.", config_folder=folder)
    add_logging_options(parser)
    add_log_rotation_options(parser, default=default)
    return parser.parse([str(word) for word in words])


def listen(ground: Ground, logs: Reopened, **settings: object) -> LogRotateListener:
    listener = LogRotateListener("127.0.0.1:0", logs, **settings)
    return ground.communicator.add_connection(listener)


def test_ed_signal_reopens_the_log_file(ground: Ground, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    words = ("--log-file", path, "--logrotate-listen=127.0.0.1:0", "--logrotate-secret=hunter2")
    options = parse(tmp_path, *words)
    with set_up_logging(options, "hello") as logs:
        listener = log_rotation_from_options(options, logs)
        assert listener is not None
        ground.communicator.add_connection(listener)
        logging.getLogger("edgevent").info("before")
        path.rename(tmp_path / "a.log.1")
        host = listener.addresses[0]
        place = ("hello/LOG_ROTATE", "--host", host)
        with begin("ed-signal", *place, "--secret-code=hunter2", folder=tmp_path) as sent:
            until(path.exists)
            assert sent.communicate() == ("", "")
            assert sent.returncode == 0
        until(lambda: "were reopened" in path.read_text())
    assert "before" in (tmp_path / "a.log.1").read_text()
    assert "before" not in path.read_text()
    assert "hunter2" not in path.read_text() + (tmp_path / "a.log.1").read_text()


@pytest.mark.parametrize(
    ("text", "secret_code"),
    [
        ("STOP", "hunter2"),
        ("HELP", "hunter2"),
        ("LOG_ROTATE", "hunter3"),
        ("LOG_ROTATE", None),
        ("LOG_ROTATE\x00", "hunter2"),
    ],
)
def test_nothing_else_is_obeyed(ground: Ground, text: str, secret_code: str | None) -> None:
    logs = Reopened()
    listener = listen(ground, logs, secret_code="hunter2")
    address = listener.addresses[0]
    if "\x00" in text:
        with gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM) as sock:
            host, _, port = address.removeprefix("udp://").partition(":")
            sock.sendto(text.encode() + b" secret_code=hunter2", (host, int(port)))
    else:
        send_datagram(address, Message(text), secret_code=secret_code)
    until(lambda: listener.counts["received"] == 1)
    send_datagram(address, Message("LOG_ROTATE"), secret_code="hunter2")
    assert logs.event.wait(30.0)
    assert logs.count == 1
    assert ground.communicator.is_running


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<vm:ed_signal snapserver/ALIVE serial=5", "vm:ed_signal/ABSOLUTELY reply_timestamp="),
        ("HELP", "COMMANDS list=ALIVE,HELP,INVALID,LEAK,LOG_ROTATE,QUITTING,READY,RESTART,"),
        ("FOO", "UNKNOWN command=FOO"),
    ],
)
def test_the_default_commands_are_answered(ground: Ground, text: str, answer: str) -> None:
    host, _, port = listen(ground, Reopened()).addresses[0].removeprefix("udp://").partition(":")
    with gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM) as sock:
        sock.settimeout(30.0)
        sock.connect((host, int(port)))
        sock.send(text.encode())
        assert sock.recv(2000).decode().startswith(answer)


@pytest.mark.parametrize("command", ["STOP", "QUITTING", "RESTART", "READY"])
def test_a_program_is_not_stopped_by_it(
    ground: Ground, caplog: pytest.LogCaptureFixture, command: str
) -> None:
    logs = Reopened()
    address = listen(ground, logs).addresses[0]
    for word in (command, "LOG_ROTATE"):
        send_datagram(address, Message(word, service="snapserver"))
    assert logs.event.wait(30.0)
    assert f"{command} came to the listener for LOG_ROTATE" in caplog.text
    assert ground.communicator.is_running


def test_a_file_that_cannot_be_reopened_is_not_said_to_be(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edgevent")
    logs = Reopened(answer=False)
    listener = listen(ground, logs)
    send_datagram(listener.addresses[0], Message("LOG_ROTATE"))
    send_datagram(listener.addresses[0], Message("LOG_ROTATE"))
    until(lambda: logs.count == 2)
    assert "are reopened" in caplog.text
    assert "were reopened" not in caplog.text


def test_others_than_this_machine_need_the_code() -> None:
    with pytest.raises(ListenError, match="secret_code="):
        LogRotateListener("0.0.0.0:0", Reopened())


def test_a_peer_that_is_neither_local_nor_knows_the_code_is_refused(
    ground: Ground, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = Reopened()
    listener = listen(ground, logs, allow_unauthenticated=True)
    peer = type("Remote", (), {"may_control": False, "answers_errors": False, "name": "far"})()
    listener.dispatch(Message("LOG_ROTATE"), peer)
    assert logs.count == 0
    assert "far: refused LOG_ROTATE: LOG_ROTATE is not accepted from this peer" in caplog.text


@pytest.mark.parametrize(
    ("words", "default", "address"),
    [
        ((), None, None),
        ((), "127.0.0.1:4988", "udp://127.0.0.1:4988"),
        (("--logrotate-listen=127.0.0.2",), "127.0.0.1:4988", "udp://127.0.0.2:4988"),
        (("--logrotate-listen=unixgram:/run/x",), "127.0.0.1:4988", "unixgram:/run/x"),
        (("--logrotate-listen=off",), "127.0.0.1:4988", None),
        (("--logrotate-listen=off",), None, None),
    ],
)
def test_the_address_of_the_options(
    tmp_path: Path, words: tuple[str, ...], default: str | None, address: str | None
) -> None:
    options = parse(tmp_path, *words, default=default)
    found = options.logrotate_listen
    assert (str(found) if found else None) == address
    if address is None:
        assert log_rotation_from_options(options, Reopened()) is None


def test_the_lines_of_the_readme_rotate_the_log_of_the_example(tmp_path: Path) -> None:
    (_, program, *words), (tool, option, _, command) = map(shlex.split, readme_lines("logging"))
    assert (program, tool, option) == ("examples/logged.py", "ed-signal", "--host")
    path = tmp_path / words[words.index("--log-file") + 1]
    free = ("--logrotate-listen", "127.0.0.1:0")  # in place of the port that may be in use
    with Program(EXAMPLES / "logged.py", *words, *free, "--console", folder=tmp_path) as logged:
        host = logged.wait_for("receiving at udp:").rpartition(" ")[2]
        former = path.rename(f"{path}.1")
        assert run(tool, option, host, command, folder=tmp_path).returncode == 0
        logged.wait_for("were reopened")
        assert logged.end(signal.SIGTERM) == 0, logged.printed
    assert "receiving at" in former.read_text()
    assert "were reopened" in path.read_text()


def test_the_example_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    with Program(EXAMPLES / "logged.py", "--log-file=none/a.log", folder=tmp_path) as logged:
        assert logged.end() == 1
    folder = tmp_path / "none"
    assert logged.printed == f"logged: log file {folder}/a.log: folder {folder} does not exist\n"
