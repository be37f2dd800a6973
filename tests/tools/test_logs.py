"""Logging as the options say: levels, targets, changes while running, a patched program."""

from __future__ import annotations

import argparse
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from log_ground import LogDaemon, fields_of, no_switch
from network_ground import run_program
from running import environment

from edgevent import Dispatcher, Message
from edgevent.errors import OptionError
from edgevent.log_levels import LEVELS
from edgevent.log_options import add_logging_options, read_log_settings
from edgevent.logs import Logs, set_up_logging
from edgevent.options import OptionParser

ours = logging.getLogger("edgevent")

FIRST_COMES_FIRST = ("journal", "stderr", "syslog")

Read = Callable[..., argparse.Namespace]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Reads options of logging, and of a secret, from the command line and a configuration file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("JOURNAL_STREAM", *os.environ):
        if name.startswith("EDGEVENT_") or name == "JOURNAL_STREAM":
            monkeypatch.delenv(name, raising=False)

    def parse(*words: object, file: str = "") -> argparse.Namespace:
        (tmp_path / "hello.conf").write_text(file, encoding="utf-8")
        parser = OptionParser("hello", "Greets.", config_folder=tmp_path)
        parser.add("--secret-code")
        parser.add("--secret-code-file")
        add_logging_options(parser)
        return parser.parse([str(word) for word in words])

    return parse


@pytest.fixture
def begin(read: Read) -> Iterator[Callable[..., Logs]]:
    """Starts to log as a command line says."""
    started = []

    def start(*words: object, file: str = "") -> Logs:
        started.append(set_up_logging(read(*words, file=file), "hello"))
        return started[-1]

    yield start
    for logs in started:
        logs.close()


def lines_of(path: Path) -> list[str]:
    """The lines of a log file, without their times."""
    return [line.partition(" ")[2] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ((), logging.INFO),
        (("--log-level", "recoverable-error"), LEVELS["recoverable-error"]),
        (("--log-severity=140",), logging.WARNING),
        (("--debug",), logging.DEBUG),
        (("--trace",), LEVELS["trace"]),
        (("--quiet",), logging.WARNING),
        (("--trace", "--log-level=error", "--debug"), logging.DEBUG),
        (("--trace", "--debug", "--log-level=error"), logging.ERROR),
    ],
)
def test_the_level(read: Read, words: tuple[str, ...], level: int) -> None:
    assert read_log_settings(read(*words)).level == level


@pytest.mark.parametrize(
    ("file", "variables", "words", "level"),
    [
        ("debug = true\n", {}, (), logging.DEBUG),
        ("debug = false\nlog_level = error\n", {}, (), logging.ERROR),
        ("debug = true\n", {"QUIET": "true"}, (), logging.WARNING),
        ("quiet = true\n", {"LOG_LEVEL": "debug"}, (), logging.DEBUG),
        ("log_severity = error\n", {}, ("--debug",), logging.DEBUG),
        ("trace = true\n", {"DEBUG": "on"}, ("--log-level=170",), logging.ERROR),
    ],
)
def test_the_place_that_wins_sets_the_level(
    read: Read,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    variables: dict[str, str],
    words: tuple[str, ...],
    level: int,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"EDGEVENT_HELLO_{name}", value)
    assert read_log_settings(read(*words, file=file)).level == level


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        ((), ("stderr",)),
        (("--log-file=a",), ("file",)),
        (("--log-file=a", "--console"), ("stderr", "file")),
        (("--log-file=a", "--log-to=file"), ("file",)),
        (("--syslog", "--log-to=journald, Console", "--log-to=syslog"), FIRST_COMES_FIRST),
        (("--no-log", "--syslog", "--log-file=a"), ()),
        (("--log-to=none",), ()),
    ],
)
def test_the_targets(read: Read, words: tuple[str, ...], targets: tuple[str, ...]) -> None:
    assert read_log_settings(read(*words)).targets == targets


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--log-to=none", "--syslog"), "--log-to none and syslog contradict each other"),
        (("--log-to=file",), "--log-to file: expected --log-file FILE beside it"),
    ],
)
def test_options_that_contradict_each_other(
    read: Read, words: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(OptionError, match=sentence):
        set_up_logging(read(*words), "hello")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--log-level=wraning",), "severity 'wraning': .*; did you mean 'warning'?"),
        (("--log-to=sylog",), "target 'sylog': expected one of .*; did you mean 'syslog'?"),
        (("--log-format=%(message)d",), r"format '%\(message\)d': expected fields as"),
        (("--log-format=%(other)s",), r"format '%\(other\)s': expected fields as"),
        (("--log-format=text",), "format 'text': expected fields as"),
        (("--log-facility=local8",), "local8"),
        (("--log", "edgevent=wraning"), "severity 'wraning'"),
    ],
)
def test_options_that_cannot_be_read(
    read: Read, words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read(*words)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.count("\n") == 1
    assert re.search(sentence, error), error


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--log-file=/nowhere/a.log",), "/nowhere/a.log: there is no folder /nowhere"),
        (("--log-to=file",), "--log-to file: expected --log-file FILE"),
        (("--quiet",), ""),
    ],
)
def test_options_are_checked_without_a_start(
    read: Read, words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read("--check-config", *words)
    assert sentence in capsys.readouterr().err
    assert bool(ended.value.code) is bool(sentence)


def test_what_is_written_out_says_the_same_when_it_is_read(read: Read, tmp_path: Path) -> None:
    words = ("--log-level=95", "--log-to=syslog,stderr", "--log", "edgevent.x=trace", "--debug")
    path = tmp_path / "out.conf"
    with pytest.raises(SystemExit) as ended:
        read(*words, "--write-out-config-file", path)
    assert ended.value.code == 0
    assert read_log_settings(read("--config", path)) == read_log_settings(read(*words))


def test_logging_is_as_before_after_the_close(begin: Callable[..., Logs], tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, ours.level)
    with begin("--log-file", tmp_path / "a.log", "--log", "edgevent=trace", "--quiet") as logs:
        assert repr(logs) == "<Logs hello: file>"
        ours.log(LEVELS["trace"], "a")
        logging.getLogger("other").info("not wanted")
        logging.getLogger("other").warning("b")
    logs.close()
    ours.error("not here")
    logs.apply(argparse.Namespace())
    assert repr(logs) == "<Logs hello: closed>"
    assert (root.handlers, root.level, ours.level) == before
    assert lines_of(tmp_path / "a.log") == ["trace edgevent: a", "warning other: b"]


def test_the_configuration_file_sets_loggers(begin: Callable[..., Logs], tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    text = f"log_level = error\nlog_file = {path}\n[log]\nedgevent.dispatcher = debug\n"
    begin(file=text)
    ours.warning("not wanted")
    logging.getLogger("edgevent.dispatcher").debug("a")
    assert lines_of(path) == ["debug edgevent.dispatcher: a"]


def test_a_format_of_the_users_own(begin: Callable[..., Logs], tmp_path: Path) -> None:
    form = "%(process)d|%(levelname)s|%(message)s"
    begin("--log-file", tmp_path / "a.log", "--log-format", form)
    ours.warning("a\nb")
    assert (tmp_path / "a.log").read_text() == f"{os.getpid()}|WARNING|a\\nb\n"


def test_secrets_of_the_options_are_hidden(begin: Callable[..., Logs], tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    logs = begin("--log-file", path, "--secret-code=hunter2", "--secret-code-file=visible")
    logs.hide("another")
    ours.info("hunter2 visible another %s", "password=x;a=b")
    assert lines_of(path) == ["information edgevent: *** visible *** password=***;a=b"]


def test_nothing_is_logged_where_that_is_wanted(
    begin: Callable[..., Logs], capfd: pytest.CaptureFixture[str]
) -> None:
    assert repr(begin("--no-log")) == "<Logs hello: nowhere>"
    ours.critical("x")
    assert capfd.readouterr().err == ""


def test_changes_while_running(
    begin: Callable[..., Logs], read: Read, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "a.log", tmp_path / "b.log"
    logs = begin("--log-file", first, "--log", "edgevent.x=error")
    before = logging.getLogger().handlers[:]
    logs.apply(read("--log-file", first, "--debug", "--log-format=%(message)s"))
    assert logging.getLogger().handlers == before
    logging.getLogger("edgevent.x").debug("a")
    logs.apply(read("--log-file", second, "--console"))
    ours.info("b")
    ours.debug("not wanted")
    assert first.read_text() == "a\n"
    assert lines_of(second) == ["information edgevent: b"]
    assert capfd.readouterr().err.endswith("information edgevent: b\n")
    assert logs.lost == 0


@pytest.mark.parametrize(
    "words", [("--log-file=/nowhere/a.log",), ("--log-to=file",), ("--log-to=none", "--console")]
)
def test_what_is_wrong_leaves_what_was(
    begin: Callable[..., Logs], read: Read, tmp_path: Path, words: tuple[str, ...]
) -> None:
    logs = begin("--log-file", tmp_path / "a.log", "--quiet")
    before = logging.getLogger().handlers[:]
    settings = logs.settings
    with pytest.raises(OptionError):
        logs.apply(read("--syslog", "--debug", *words))
    assert logging.getLogger().handlers == before
    assert logs.settings is settings
    ours.info("not wanted")
    ours.warning("a")
    assert lines_of(tmp_path / "a.log") == ["warning edgevent: a"]


def test_reopening(begin: Callable[..., Logs], tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    logs = begin("--log-file", folder / "a.log", "--console")
    (folder / "a.log").rename(folder / "a.log.1")
    with no_switch():
        assert logs.reopen()
        logs.also_reopened.append(lambda: False)
        assert not logs.reopen()
        logs.also_reopened.clear()
    ours.info("a")
    assert lines_of(folder / "a.log") == ["information edgevent: a"]
    folder.rename(tmp_path / "moved")
    assert not logs.reopen()
    (line,) = lines_of(tmp_path / "moved" / "a.log")[1:]
    assert line == (
        f"error edgevent: log file {folder}/a.log: folder {folder} does not exist:"
        " the log goes on in the file that was there before"
    )


def test_it_may_be_the_control_object_of_a_dispatcher(
    begin: Callable[..., Logs], tmp_path: Path
) -> None:
    path = tmp_path / "a.log"
    service = Dispatcher(control=begin("--log-file", path))
    path.rename(tmp_path / "a.log.1")
    local: Any = SimpleNamespace(name="peer-1", may_control=True)
    service.dispatch(Message("LOG_ROTATE"), local)
    assert lines_of(path)[-1].endswith("peer-1: LOG_ROTATE: the log files were reopened")


def test_several_targets_at_once(begin: Callable[..., Logs], tmp_path: Path) -> None:
    with LogDaemon() as syslog, LogDaemon() as journal:
        begin(
            *("--log-to=syslog,journal", "--log-facility=local7"),
            *("--log-syslog-socket", syslog.path, "--log-syslog-form=rfc5424"),
            *("--log-journal-socket", journal.path, "--log-file", tmp_path / "a.log"),
        )
        ours.warning("%s: gone\nfor ever", "peer-1")
        assert re.fullmatch(
            rb"<188>1 .* hello \d+ - - warning edgevent: peer-1: gone\\nfor ever", syslog.receive()
        )
        fields = fields_of(journal.receive())
        assert fields["MESSAGE"] == "peer-1: gone\nfor ever"
        assert fields["EDGEVENT_CONNECTION"] == "peer-1"
        assert fields["CODE_FILE"] == __file__
        assert fields["CODE_FUNC"] == "test_several_targets_at_once"
    assert lines_of(tmp_path / "a.log") == ["warning edgevent: peer-1: gone\\nfor ever"]


PROGRAM = """
import logging
from edgevent.logs import add_logging_options, set_up_logging
from edgevent.options import OptionParser
parser = OptionParser("hello", "Greets.")
add_logging_options(parser)
with set_up_logging(parser.parse(), "hello"):
    logging.getLogger("edgevent").error("a\\nb")
"""


def test_the_journal_that_reads_stderr_gets_priorities_and_no_time(tmp_path: Path) -> None:
    read, write = os.pipe()
    status = os.fstat(write)
    stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    with os.fdopen(read, encoding="utf-8") as reader:
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**environment(tmp_path), **stream},
            stderr=write,
            timeout=30,
            check=True,
        )
        os.close(write)
        assert reader.read() == "<3>error edgevent: a\\nb\n"


PATCHED = """
import sys
from gevent import monkey
if sys.argv[2] == "before":
    monkey.patch_all()
import logging
import threading
import gevent
import greenlet
from edgevent.logs import add_logging_options, set_up_logging
from edgevent.options import OptionParser
parser = OptionParser("hello", "Greets.")
add_logging_options(parser)
words = ["--log-file", sys.argv[1], "--console", "--log-to", "syslog,journal"]
words += ["--log-syslog-socket", sys.argv[1], "--log-journal-socket", sys.argv[1]]
log = set_up_logging(parser.parse(words), "hello")
if sys.argv[2] == "after":
    monkey.patch_all()
logger = logging.getLogger("edgevent")
logger.info("first")  # the levels are looked up under a lock of logging's own, once
ready, switches = [], []
others = [gevent.spawn(ready.append, number) for number in range(3)]
thread = gevent.get_hub().threadpool.spawn(
    lambda: [logger.info("thread %d %s", number, "x" * 500) for number in range(300)]
)
greenlet.settrace(lambda event, pair: switches.append(event))
for number in range(300):
    logger.info("main %d %s", number, "x" * 500)
greenlet.settrace(None)
assert not ready and not switches, (ready, switches)
gevent.joinall([*others, thread], raise_error=True)
log.close()
with open(sys.argv[1]) as file:
    lines = [line.split(": ", 1)[1].rstrip("\\n") for line in file]
lines = [line for line in lines if line.startswith(("main", "thread"))]
for who in ("main", "thread"):
    expected = [f"{who} {number} {'x' * 500}" for number in range(300)]
    assert [line for line in lines if line.startswith(who)] == expected
assert len(lines) == 600
"""


@pytest.mark.parametrize("when", ["before", "after", "never"])
def test_a_patched_program_logs_without_a_switch(tmp_path: Path, when: str) -> None:
    run_program(PATCHED, tmp_path / "a.log", when)
