"""The log handlers: whole records, counted losses, no wait, no switch of greenlets."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from log_ground import LogDaemon, fields_of, no_switch, record_of
from network_ground import run_program

from edgevent import limits
from edgevent.errors import OptionError
from edgevent.log_file import LogFileHandler
from edgevent.log_handler import RecordHandler
from edgevent.log_journal import KEPT, JournalHandler
from edgevent.log_levels import LEVELS
from edgevent.log_stream import StderrHandler, reads_journal
from edgevent.log_syslog import SyslogHandler
from edgevent.log_text import LineFormatter

BARE = LineFormatter("%(message)s")


@pytest.fixture
def daemon() -> Iterator[LogDaemon]:
    with LogDaemon() as daemon:
        yield daemon


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that holds two pages, and that no reader empties by itself."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 8192)
    os.set_blocking(ends[0], False)
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


def handle(handler: logging.Handler, *texts: str) -> None:
    for text in texts:
        handler.handle(record_of(text))


# --- stderr ---------------------------------------------------------------------------------------


def test_a_record_goes_to_a_pipe(pipe: tuple[int, int]) -> None:
    handler = StderrHandler(BARE, pipe[1])
    handle(handler, "a", "b\nc")
    handler.close()
    assert os.read(pipe[0], 4096) == b"a\nb\\nc\n"


def test_a_reader_that_stands_still_loses_counted_records(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOG_WAIT", 0.01)
    handler = StderrHandler(BARE, pipe[1])
    long = "x" * 8191
    handle(handler, long, "lost", "lost too")
    assert handler.lost == 2
    assert os.read(pipe[0], 8192) == f"{long}\n".encode()
    handle(handler, "here")
    assert os.read(pipe[0], 8192) == (
        b"here\nstderr: 2 log records were lost: its reader takes nothing\n"
    )
    assert handler.lost == 2
    handler.close()


def test_a_record_that_is_begun_is_ended_before_the_next(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOG_WAIT", 0.01)
    handler = StderrHandler(BARE, pipe[1])
    handle(handler, "x" * 9000, "lost")
    read = os.read(pipe[0], 8192)
    assert len(read) == 8192
    handle(handler, "here")
    read += os.read(pipe[0], 8192)
    lines = read.decode().splitlines()
    assert lines[0] == "x" * 9000
    assert lines[1:] == ["here", "stderr: 1 log record was lost: its reader takes nothing"]
    handler.close()


def test_a_reader_that_went_away_is_no_error(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    handler = StderrHandler(BARE, pipe[1])
    handle(handler, "a", "b")
    assert handler.lost == 2
    handler.close()


def test_the_end_of_a_record_leaves_at_the_close(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOG_WAIT", 0.0)
    for reads in (True, False):
        handler = StderrHandler(BARE, pipe[1])
        handle(handler, "x" * 9000)
        read = os.read(pipe[0], 8192) if reads else b""
        handler.close()
        read += os.read(pipe[0], 8192)
        assert len(read) == (9001 if reads else 8192)


def test_the_journal_is_known_by_its_inode(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.fstat(pipe[1])
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    assert reads_journal(pipe[1])
    assert not reads_journal(pipe[0] + 1000)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
    assert not reads_journal(pipe[1])
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not reads_journal(pipe[1])


# --- file -----------------------------------------------------------------------------------------


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[tuple[Path, LogFileHandler]]:
    path = tmp_path / "a.log"
    handler = LogFileHandler(path, BARE)
    yield path, handler
    handler.close()


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_a_new_file_is_readable_by_its_group(tmp_path: Path, umask: int) -> None:
    former = os.umask(umask)
    try:
        handler = LogFileHandler(tmp_path / "a.log", BARE)
    finally:
        os.umask(former)
    handle(handler, "a")
    handler.close()
    handler.close()
    assert (tmp_path / "a.log").stat().st_mode & 0o7777 == 0o640


def test_a_file_that_is_there_is_added_to_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("before\n", encoding="ascii")
    path.chmod(0o600)
    link = tmp_path / "link.log"
    link.symlink_to(path)
    for text in ("a", "b"):
        handler = LogFileHandler(link, BARE)
        handle(handler, text)
        handler.close()
    assert path.read_text(encoding="ascii") == "before\na\nb\n"
    assert path.stat().st_mode & 0o7777 == 0o600


def test_a_link_to_a_file_that_is_not_there_makes_it(tmp_path: Path) -> None:
    (tmp_path / "link.log").symlink_to(tmp_path / "a.log")
    handler = LogFileHandler(tmp_path / "link.log", BARE)
    handler.close()
    assert (tmp_path / "a.log").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none/a.log", "log file .*/none/a.log: folder .*/none does not exist"),
        ("", "log file /.*: (expected a file; --log-to stderr|Is a directory)"),
        ("fifo", "log file .*/fifo: expected a file; --log-to stderr"),
        ("opened_fifo", "log file .*/opened_fifo: expected a file; --log-to stderr"),
        ("a\0b", r"log file '.*a\\x00b': expected a path without NUL bytes"),
    ],
)
def test_what_is_no_log_file(tmp_path: Path, name: str, sentence: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(tmp_path / "opened_fifo")
    reader = os.open(tmp_path / "opened_fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OptionError, match=sentence):
            LogFileHandler(f"{tmp_path}/{name}", BARE)
    finally:
        os.close(reader)


def test_reopening_leaves_a_file_that_was_renamed(log_file: tuple[Path, LogFileHandler]) -> None:
    path, handler = log_file
    handle(handler, "a")
    former = path.rename(f"{path}.1")
    handle(handler, "b")
    assert handler.reopen() == ""
    handle(handler, "c")
    assert (former.read_text(), path.read_text()) == ("a\nb\n", "c\n")


def test_a_file_that_was_renamed_is_noticed_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    handler = LogFileHandler(path, BARE, look_interval=0.0)
    handle(handler, "a")
    path.rename(tmp_path / "b.log")
    handle(handler, "b")
    path.unlink()
    path.write_text("other\n", encoding="ascii")
    handle(handler, "c", "d")
    handler.close()
    assert (tmp_path / "b.log").read_text() == "a\n"
    assert path.read_text() == "other\nc\nd\n"


def test_what_cannot_be_reopened_stays_and_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    handler = LogFileHandler(folder / "a.log", BARE, look_interval=0.0)
    moved = folder.rename(tmp_path / "moved")
    assert handler.reopen() == f"log file {folder}/a.log: folder {folder} does not exist"
    handle(handler, "a", "b")
    handler.close()
    assert (moved / "a.log").read_text() == "a\nb\n"
    assert capfd.readouterr().err == (
        f"log file {folder}/a.log: folder {folder} does not exist:"
        " the log goes on in the file that was there before\n"
    )


def test_a_full_disk_is_told_once_and_counted(capfd: pytest.CaptureFixture[str]) -> None:
    handler = LogFileHandler("/dev/full", BARE)
    handle(handler, "a", "b\x1b")
    assert handler.lost == 2
    assert capfd.readouterr().err == (
        "log file /dev/full: No space left on device:"
        " log records are lost, and counted, until this ends\n"
    )
    handler.close()
    assert capfd.readouterr().err == (
        "log file /dev/full: 2 log records were lost: No space left on device\n"
    )


DISK = """
import logging, os, sys
from edgevent.log_file import LogFileHandler
from edgevent.log_text import LineFormatter
path = sys.argv[1] + "/a.log"
filler = sys.argv[1] + "/filler"
with open(filler, "wb") as file:
    file.write(bytes(30_000))
handler = LogFileHandler(path, LineFormatter("%(message)s"))
def log(text):
    handler.handle(logging.LogRecord("edgevent", 20, "", 0, text, (), None))
lines = [f"{number}:" + "x" * 1500 for number in range(30)]
for line in lines:
    log(line)
lost = handler.lost
assert 0 < lost < 30, lost
with open(path) as file:
    text = file.read()
assert text == "".join(f"{line}\\n" for line in lines[: 30 - lost]), text[-100:]
os.unlink(filler)
log("here")
handler.close()
with open(path) as file:
    assert file.read() == text + (
        f"here\\nlog file {path}: {lost} log records were lost: No space left on device\\n"
    )
"""


def test_a_disk_that_fills_up_never_holds_half_a_record(
    tmp_path: Path, own_namespaces: Callable[..., list[str]]
) -> None:
    mount = f'mount -t tmpfs -o size=64k none {tmp_path} && exec "$0" "$@"'
    run_program(DISK, tmp_path, before=(*own_namespaces("-m"), "sh", "-c", mount))


def test_a_part_that_others_have_written_behind_is_ended(
    log_file: tuple[Path, LogFileHandler],
) -> None:
    path, handler = log_file
    handle(handler, "half")
    with open(path, "ab") as other:
        other.write(b"other\n")
    handler._take_back(5)  # as after a write of five bytes that was no more
    handle(handler, "here")
    assert path.read_text() == "half\nother\n\nhere\n"


# --- syslog ---------------------------------------------------------------------------------------


def test_syslog_gets_the_form_of_the_c_library(daemon: LogDaemon) -> None:
    handler = SyslogHandler("my service", LineFormatter("%(message)s"), path=daemon.path)
    record = record_of("it's\nhere", level=LEVELS["error"])
    record.created = 0.0
    handler.handle(record)
    handler.close()
    line = daemon.receive().decode()
    assert re.fullmatch(
        rf"<27>(Dec 31|Jan  1) \d\d:\d\d:00 my_service\[{os.getpid()}\]: it's\\nhere", line
    )


def test_syslog_gets_rfc_5424_if_that_is_wanted(daemon: LogDaemon) -> None:
    handler = SyslogHandler("é", BARE, path=daemon.path, facility="local3", form="rfc5424")
    record = record_of("x", level=LEVELS["debug"])
    record.created = 1_700_000_000.25
    handler.handle(record)
    handler.close()
    host = re.escape(socket.gethostname())
    assert re.fullmatch(
        rf"<159>1 2023-11-14T22:13:20\.250000Z {host} _ {os.getpid()} - - x",
        daemon.receive().decode(),
    )


def test_a_line_that_syslog_would_cut_says_how_much_is_missing(daemon: LogDaemon) -> None:
    handler = SyslogHandler("a", BARE, path=daemon.path)
    handle(handler, "é" * 10_000)
    handler.close()
    line = daemon.receive().decode()
    cut = int(line.removesuffix(" bytes are cut off)").rpartition("(")[2])
    assert line.endswith(f"é... ({cut} bytes are cut off)")
    assert 20_000 - cut + 20 < 8192 < 20_000 - cut + 60


def make_syslog(path: str) -> RecordHandler:
    return SyslogHandler("a", BARE, path=path)


def make_journal(path: str) -> RecordHandler:
    return JournalHandler("a", LineFormatter("%(message)s", keep=KEPT), path=path)


@pytest.mark.parametrize("make", [make_syslog, make_journal])
def test_a_log_daemon_that_is_gone_is_found_again(
    daemon: LogDaemon, make: Callable[[str], RecordHandler], capfd: pytest.CaptureFixture[str]
) -> None:
    daemon.stop()
    handler = make(daemon.path)
    handle(handler, "lost", "lost")
    daemon.start()
    handle(handler, "here")
    handler.close()
    assert b"here" in daemon.receive()
    assert b"2 log records were lost: No such file or directory" in daemon.receive()
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("make", [make_syslog, make_journal])
def test_a_log_daemon_that_takes_nothing_is_not_waited_for(
    daemon: LogDaemon, make: Callable[[str], RecordHandler], capfd: pytest.CaptureFixture[str]
) -> None:
    handler = make(daemon.path)
    number = 0
    with no_switch():
        while not handler.lost:
            handle(handler, str(number))
            number += 1
            assert number < 100_000
    for _ in range(number - 1):
        daemon.receive()
    handle(handler, "here")
    assert b"here" in daemon.receive()
    assert b"1 log record was lost: Resource temporarily unavailable" in daemon.receive()
    handler.close()
    assert "Resource temporarily unavailable" in capfd.readouterr().err


# --- journal --------------------------------------------------------------------------------------


def journal(daemon: LogDaemon) -> JournalHandler:
    formatter = LineFormatter("%(message)s", keep=KEPT, secrets=["hunter2"])
    return JournalHandler("hello", formatter, path=daemon.path)


def test_the_journal_gets_fields(daemon: LogDaemon) -> None:
    handler = journal(daemon)
    handler.handle(record_of("%s: up\x1b", "peer-1 hunter2", level=LEVELS["recoverable-error"]))
    handler.close()
    assert fields_of(daemon.receive()) == {
        "MESSAGE": "peer-1 ***: up\\x1b",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "hello",
        "CODE_FILE": "/a.py",
        "CODE_LINE": "7",
        "CODE_FUNC": "call",
        "LOGGER": "edgevent",
        "THREAD_NAME": "MainThread",
        "EDGEVENT_SEVERITY": "recoverable-error",
        "EDGEVENT_CONNECTION": "peer-1 ***",
    }


def test_the_journal_keeps_lines_and_a_value_forges_no_field(daemon: LogDaemon) -> None:
    handler = journal(daemon)
    record = record_of("first\nPRIORITY=0\n\tlast")
    record.connection = "a\nPRIORITY=0"
    handler.handle(record)
    handler.close()
    fields = fields_of(daemon.receive())
    assert fields["MESSAGE"] == "first\nPRIORITY=0\n\tlast"
    assert fields["EDGEVENT_CONNECTION"] == "a\nPRIORITY=0"
    assert fields["PRIORITY"] == "6"


@pytest.mark.parametrize("arguments", [(), ({"a": 1},)])
def test_a_record_without_a_connection_names_none(
    daemon: LogDaemon, arguments: tuple[object, ...]
) -> None:
    handler = journal(daemon)
    handler.handle(record_of("%s: up" if arguments else "up", *arguments))
    record = record_of("%s: up", "somebody")
    record.name = "another"
    handler.handle(record)
    handler.close()
    for _ in range(2):
        assert "EDGEVENT_CONNECTION" not in fields_of(daemon.receive())


def test_a_long_record_comes_as_a_sealed_file(daemon: LogDaemon) -> None:
    handler = journal(daemon)
    handle(handler, "x\n" * 300_000)
    handler.close()
    assert fields_of(daemon.receive())["MESSAGE"] == "x\n" * 300_000


# --- all of them ----------------------------------------------------------------------------------


def test_no_handler_switches_greenlets(
    daemon: LogDaemon, pipe: tuple[int, int], tmp_path: Path
) -> None:
    handlers = [
        StderrHandler(BARE, pipe[1]),
        LogFileHandler(tmp_path / "a.log", BARE),
        make_syslog(daemon.path),
        journal(daemon),
    ]
    gevent.sleep(0)
    waiting = gevent.spawn(lambda: None)  # ready to run, whenever somebody switches
    with no_switch():
        for handler in handlers:
            handle(handler, "x", "y" * 3000)
            handler.close()
    assert not waiting.ready()
    waiting.join()
    assert [handler.lost for handler in handlers] == [0, 0, 0, 0]


def test_a_lock_that_is_given_to_a_handler_is_not_taken(pipe: tuple[int, int]) -> None:
    handler = StderrHandler(BARE, pipe[1])
    lock = handler.lock
    handler.lock = gevent.lock.RLock()
    handler.createLock()
    assert handler.lock is lock
    handler.close()


def test_an_error_in_the_handler_is_counted_and_raised_to_nobody(
    capfd: pytest.CaptureFixture[str],
) -> None:
    handler = RecordHandler("nowhere", BARE)
    handle(handler, "a")
    assert handler.lost == 1
    handler.close()
    assert capfd.readouterr().err == (
        "nowhere: NotImplementedError: log records are lost, and counted, until this ends\n"
        "nowhere: 1 log record was lost: NotImplementedError\n"
    )


def test_a_complaint_that_nobody_reads_is_left_out(pipe: tuple[int, int]) -> None:
    poller = select.poll()
    poller.register(pipe[1], select.POLLOUT)
    while poller.poll(0):
        os.write(pipe[1], b"x" * 4096)
    saved = os.dup(2)
    os.dup2(pipe[1], 2)
    try:
        RecordHandler("nowhere", BARE).complain("x")
        os.close(pipe[0])
        RecordHandler("nowhere", BARE).complain("x")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
