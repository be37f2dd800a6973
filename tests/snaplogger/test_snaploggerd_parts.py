"""The parts of snaploggerd: forms, names of files, files, order, limits and repeats."""

from __future__ import annotations

import logging
import os
import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevent import ConnectionLostError, Message, OptionError
from edgevent.links.datagram_peer import DatagramPeer
from edgevent.snaplogger import store as stores
from edgevent.snaplogger.collected import Collected, Source, own_record, read_fields
from edgevent.snaplogger.collector import Collector
from edgevent.snaplogger.line_form import VARIABLES, LineForm, PathTemplate, safe_name
from edgevent.snaplogger.log_files import RecordFile, Settings
from edgevent.snaplogger.log_stream import LateAnswers
from edgevent.snaplogger.ordering import MAX_HELD, Ordering
from edgevent.snaplogger.program import Program
from edgevent.snaplogger.repeats import REMEMBERED, AllRepeats, Repeats
from edgevent.snaplogger.sender_limits import Limits
from edgevent.snaplogger.server_options import listeners_of
from edgevent.snaplogger.store import Store

SOURCE = Source(None, "tcp", "10.0.0.5", "tcp://10.0.0.5:7", "10.0.0.5", "there", keeps_order=True)


def entry(text: str = "text", **parameters: object) -> Collected:
    return Collected(Message("LOG", {"message": text, **parameters}), SOURCE)


# --- forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", {}),
        ("id:3", {"id": "3"}),
        ("id:3,name", {"id": "3", "name": ""}),
        (r"a\,b:c\:d,e\\:f", {"a,b": "c:d", "e\\": "f"}),
        (r"a:b:c,,\:x", {"a": "b:c", ":x": ""}),
        ("a:\\", {"a": ""}),
    ],
)
def test_fields_are_read_to_the_last(text: str, fields: dict[str, str]) -> None:
    assert read_fields(text) == fields


def test_every_variable_has_a_text() -> None:
    parameters = {"fields": "id:3,x:y", "components": "normal,net", "timestamp": 1.5, "line": 7}
    message = Message("LOG", {"message": "hi", **parameters}, sent_from_server="far")
    found = Collected(message, SOURCE)
    form = LineForm("|".join(f"{name}=${{{name}}}" for name in sorted(VARIABLES)))
    line = form.line(found).decode()
    shown = dict(piece.split("=") for piece in line.rstrip("\n").split("|"))
    assert shown.pop("timestamp").startswith("19")
    assert shown == {
        "column": "-",
        "component": "net",
        "components": "normal,net",
        "fields": "id:3,x:y",
        "filename": "-",
        "function": "-",
        "host": "far",
        "instance": "-",
        "line": "7",
        "message": "hi",
        "protocol": "tcp",
        "serial": "-",
        "service": "-",
        "severity": "error",
        "severity_number": "170",
        "source": "tcp://10.0.0.5:7",
        "source_ip": "10.0.0.5",
    }
    assert LineForm("100% ${field:x} ${field:z}").line(found) == b"100% y -\n"


@pytest.mark.parametrize(
    ("stamp", "shown"),
    [
        ("1795452159.416212459", ":39.416212"),
        ("1795452159", ":39.000000"),
        (" +1795452159.5s ", ":39.500000"),
        (None, "."),
    ],
)
def test_times_have_their_fraction(stamp: str | None, shown: str) -> None:
    found = entry(timestamp=stamp) if stamp is not None else entry()
    assert shown in found.timestamp()
    record = found.as_record()
    assert stamp is None or int(record.created) == 1795452159
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "text")


def test_no_name_leaves_the_folder() -> None:
    template = PathTemplate("${component}/${field:x}.log")
    chosen = random.Random(7)
    pieces = [
        "..",
        "/",
        "%2e",
        "\\",
        ".",
        "\n",
        "\x1b",
        "a",
        "-",
        "~",
        "é",
        "\u202e",
        " ",
        "x" * 90,
    ]
    for _ in range(1_000):
        values = tuple("".join(chosen.choices(pieces, k=chosen.randrange(8))) for _ in range(2))
        path = template.path(values)
        assert os.path.normpath(path) == path
        parts = path.split("/")
        assert len(parts) == 2
        assert not any(part.startswith(".") or part == "" or len(part) > 255 for part in parts)
        assert path.isascii()
        assert path.isprintable()
        assert "%" not in path
    assert safe_name("") == "_"


@pytest.mark.parametrize("text", ["", "/a", "a/", "a//b", "./a", "a/../b", "a\0b", "${nothing}"])
def test_a_template_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="path template"):
        PathTemplate(text)


# --- files ----------------------------------------------------------------------------------------


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_a_file_without_an_end_of_line_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("half")
    file: RecordFile[int] = RecordFile(str(path), Settings())
    assert file.add(b"whole\n")
    file.note(5)
    assert list(file.receipts()) == []
    file.write()
    assert list(file.receipts()) == [5]
    assert lines(path) == ["half", "whole"]
    file.close()


def test_a_file_that_was_renamed_or_cut_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevent.snaplogger.log_files.RETRY_INTERVAL", 0.0)
    path = tmp_path / "deep" / "er" / "a.log"
    file: RecordFile[int] = RecordFile(str(path), Settings(sync=True))
    for number in range(3):
        file.add(f"{number}\n".encode())
        file.write()
        if number == 0:
            path.rename(tmp_path / "old")
        else:
            os.truncate(path, 0)
    assert lines(tmp_path / "old") == ["0"]
    file.add(b"3\n")
    file.write()
    assert lines(path) == ["3"]
    assert "0 lines wait" in repr(file)
    file.close()
    file.close()


def test_a_file_without_generations_begins_anew(tmp_path: Path) -> None:
    file: RecordFile[int] = RecordFile(str(tmp_path / "a"), Settings(max_bytes=6, generations=0))
    for number in range(5):
        file.add(f"{number}\n".encode())
        file.write()
    assert lines(tmp_path / "a") == ["3", "4"]
    assert os.listdir(tmp_path) == ["a"]
    file.close()


def test_a_file_that_cannot_be_renamed_grows_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.1" / "full").mkdir(parents=True)
    file: RecordFile[int] = RecordFile(str(tmp_path / "a"), Settings(max_bytes=2, generations=1))
    for number in range(4):
        file.add(f"{number}\n".encode())
        file.write()
    assert lines(tmp_path / "a") == ["0", "1", "2", "3"]
    assert caplog.text.count("it cannot be renamed, and grows on") == 1
    file.close()


def test_what_is_lost_is_told_when_there_is_room(tmp_path: Path) -> None:
    file: RecordFile[int] = RecordFile(str(tmp_path / "a"), settings := Settings(kept_bytes=10))
    os.symlink("/dev/full", tmp_path / "a")
    assert [file.add(b"12345\n") for _ in range(3)] == [True, False, False]
    assert not file.add(b"x\n")  # although it would have room: it is behind what was lost
    file.write(now=True)
    assert file.is_stuck
    os.unlink(tmp_path / "a")
    file.close()
    file.write()
    assert file.is_stuck  # it is tried again after a second only
    file.write(now=True)
    assert not file.is_stuck
    assert lines(tmp_path / "a") == [
        "12345",
        "3 log records were lost: No space left on device",
    ]
    assert (file.lost, file.written, settings.waiting_bytes) == (3, 2, 0)
    file.close()


def test_losses_that_cannot_be_told_yet_are_told_later(tmp_path: Path) -> None:
    file: RecordFile[int] = RecordFile(str(tmp_path / "a"), Settings())
    os.symlink("/dev/full", tmp_path / "a")
    file._missed = 1  # and nothing waits any more
    file.write()
    assert file.waits
    assert file.give_up() == (1, [])
    file.close()


def test_a_file_that_is_stuck_takes_the_room_of_no_other(tmp_path: Path) -> None:
    settings = Settings(kept_bytes=100)
    os.symlink("/dev/full", tmp_path / "a")
    stuck, other = (RecordFile[int](str(tmp_path / name), settings) for name in "ab")
    while stuck.add(b"12345\n"):
        stuck.write()
    assert settings.waiting_bytes == 96
    assert all(other.add(b"67890\n") for _ in range(50))
    other.write()
    assert lines(tmp_path / "b") == ["67890"] * 50
    for file in (stuck, other):
        file.close()


def test_a_pipe_is_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "a")
    reader = os.open(tmp_path / "a", os.O_RDONLY | os.O_NONBLOCK)
    file: RecordFile[int] = RecordFile(str(tmp_path / "a"), Settings())
    file.add(b"1\n")
    file.note(1)
    file.write()
    os.close(reader)
    assert "it is no file: records wait in memory" in caplog.text
    assert file.give_up() == (1, [1])


def test_a_part_behind_which_another_program_writes_stays(tmp_path: Path) -> None:
    file: RecordFile[int] = RecordFile(str(tmp_path / "a"), Settings())
    file.add(b"first\n")
    file.write()
    with (tmp_path / "a").open("a") as theirs:
        theirs.write("theirs\n")
    file._is_torn = False
    file._take_back(2)  # as after a write of which the disk has taken a part
    file.add(b"next\n")
    file.write()
    assert lines(tmp_path / "a") == ["first", "theirs", "", "next"]
    file.close()


def test_there_are_not_too_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stores, "MAX_FILES", 4)
    monkeypatch.setattr(stores, "MAX_OPEN", 2)
    monkeypatch.setattr(stores, "_CACHED", 3)
    store = Store(str(tmp_path), PathTemplate("${component}"), LineForm("${message}"), Settings())
    for number in range(8):
        found = entry(str(number), components=f"c{number}")
        assert store.add(found, store.file_of(found))
        assert len(list(store.write())) == 1
        assert sum(file.is_open for file in store.files.values()) <= 2
    assert sorted(os.listdir(tmp_path)) == ["c0", "c1", "c2", "c3", "other.log"]
    assert lines(tmp_path / "other.log") == ["4", "5", "6", "7"]
    assert caplog.text.count("more than 4 files") == 1
    assert store.counts()["written"] == 8
    assert store.close() == []


# --- order ----------------------------------------------------------------------------------------


@pytest.fixture
def ordered() -> tuple[Ordering, list[int]]:
    taken: list[int] = []
    return Ordering(lambda message, source: taken.append(message.integer("serial"))), taken


def put(ordering: Ordering, *serials: object, **more: object) -> None:
    for serial in serials:
        message = Message("LOG", {"message": "x", "serial": serial, "instance": "me", **more})
        ordering.put(message, SOURCE, 10)


def test_records_wait_for_those_before_them(ordered: tuple[Ordering, list[int]]) -> None:
    ordering, taken = ordered
    put(ordering, 1, 2, 5, 4, 5, 7)
    assert taken == [1, 2]
    assert ordering.held_bytes == 30
    put(ordering, 3, 2)
    assert taken == [1, 2, 3, 4, 5, 2]
    ordering.look()
    assert taken[-1] == 2
    ordering.release()
    assert taken[-1] == 7
    assert ordering.held_bytes == 0


def test_they_do_not_wait_for_ever(ordered: tuple[Ordering, list[int]]) -> None:
    ordering, taken = ordered
    ordering.wait = 1e-9
    put(ordering, 1, 3, 4, 6)
    ordering.look()
    assert taken == [1, 3, 4, 6]
    ordering.wait = 100.0
    put(ordering, *range(10, 10 + MAX_HELD + 1))
    assert taken[-1] == 10 + MAX_HELD
    ordering.wait = 0.0
    put(ordering, 9999)
    assert taken[-1] == 9999


def test_only_so_many_senders_are_waited_for(
    ordered: tuple[Ordering, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevent.snaplogger.ordering.MAX_SENDERS", 2)
    ordering, taken = ordered
    for number in range(3):
        put(ordering, 1, 3, instance=f"sender {number}")
    assert taken == [1, 1, 3, 1]


def test_what_has_no_order_does_not_wait(ordered: tuple[Ordering, list[int]]) -> None:
    ordering, taken = ordered
    for serial in (5, 3, 9):
        ordering.put(Message("LOG", {"serial": serial}), SOURCE, 1)
    put(ordering, "1" * 19)
    assert taken == [5, 3, 9, int("1" * 19)]


# --- senders --------------------------------------------------------------------------------------


def test_so_many_repeats_are_known_at_least() -> None:
    repeats = Repeats()
    for serial in range(3 * REMEMBERED):
        repeats.add(str(serial), serial)
    assert all(repeats.has(str(one), one) for one in range(2 * REMEMBERED, 3 * REMEMBERED))
    assert not repeats.has("0", 0)
    assert not repeats.has(str(3 * REMEMBERED - 1), 0)
    assert len(repeats) <= 2 * REMEMBERED
    assert repeats.forget(str(3 * REMEMBERED - 1)) == -1
    assert repeats.forget("nothing") == 0


def test_all_repeats_have_a_limit() -> None:
    repeats = AllRepeats(most=100)
    for number in range(50):
        sender = repeats.of(("ip", str(number)))
        for serial in range(10):
            repeats.add(sender, str(serial), 1)
        assert repeats.of(("ip", "0")) is not None
    assert repeats.count <= 100
    assert repeats.of(("ip", "49")).has("5", 1)
    assert not repeats.of(("ip", "1")).has("5", 1)
    before = repeats.count
    repeats.forget(repeats.of(("ip", "49")), "5")
    assert repeats.count == before - 1


def test_a_rate_allows_again_after_some_time() -> None:
    limits = Limits(10.0, 2)
    assert [bool(limits.refuse("a", 1, 0.0)) for _ in range(4)] == [False, False, True, True]
    assert not limits.refuse("b", 1, 0.0)
    assert not limits.refuse("a", 1, 0.1)
    assert limits.take_dropped("a", 0.1) == (2, "more than 10 a second")
    assert limits.refuse("a", 1, 0.1)
    assert limits.take_dropped("a", 0.5) == (0, "")  # once a second at most
    assert limits.take_dropped("c", 0.5) == (0, "")
    assert limits.all_dropped(0.5) == [("a", 1, "more than 10 a second")]
    assert limits.all_dropped(9.0) == []
    assert not limits._senders


def test_a_quota_is_of_a_period() -> None:
    limits = Limits(quota=10, period=60.0)
    assert not limits.refuse("a", 6, 0.0)
    assert limits.refuse("a", 6, 30.0) == "more than 10 bytes within 60 s"
    assert not limits.refuse("a", 4, 59.0)
    assert not limits.refuse("a", 10, 125.0)
    assert limits.refuse("a", 1, 179.0)
    assert not limits.refuse("a", 1, 180.0)
    assert not Limits()


def test_drops_of_senders_that_are_forgotten_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevent.snaplogger.sender_limits.MAX_LIMITED", 1)
    limits = Limits(1.0)
    for sender in "aab":
        limits.refuse(sender, 1, 0.0)
    assert limits.all_dropped(0.0) == [("others", 1, "they sent too much")]


# --- options and answers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b"}, "/run/a/snaploggerd.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/5"}, "/run/user/5/snaplogger/snaploggerd.sock"),
        ({"HOME": "/home/me"}, "/home/me/.local/state/snaplogger/snaploggerd.sock"),
        (None, "/run/snaplogger/snaploggerd.sock"),
    ],
)
def test_the_unix_socket_has_its_place(
    variables: dict[str, str] | None, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (variables or {}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: 0 if variables is None else 1000)
    options = Program(config_folder=tmp_path).service.options.parse(["--tls-listen="])
    found = listeners_of(options)
    assert list(found) == ["tcp", "unix", "udp"]
    assert found["unix"].address.path == path


def test_datagrams_have_a_code_or_keys(tmp_path: Path) -> None:
    parser = Program(config_folder=tmp_path).service.options
    for word, name in (("secret-code=abcd", "secret_code"), ("keys=abcd", "auth")):
        options = parser.parse([f"--udp-listen-{word}", "--tls-listen=h:1 certificate=a key=b"])
        found = listeners_of(options)
        assert found["udp"].settings == {"max_datagram_bytes": 65_507, name: "abcd"}
        assert str(found["tls"].address).startswith("tls://h")


class Gone:
    """A peer to which nothing can be sent."""

    name = "gone"

    def send(self, message: Message) -> None:
        raise ConnectionLostError("gone")


def test_an_answer_that_cannot_be_sent_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    calls: list[Callable[[], None]] = []
    answers: Any = LateAnswers(calls.append)
    answers.to(Gone()).send_lines([b"LOG_ACKNOWLEDGE\n"])
    answers.to(Gone()).send_lines([b"LOG_ACKNOWLEDGE\n"])
    [call] = calls
    call()
    assert caplog.text.count("gone: not answered: gone") == 2


class Router(Gone):
    """A connection by which others send."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, message: Message) -> None:
        self.sent.append(str(message))


def test_who_sends_by_way_of_another_is_refused_what_cannot_be_kept() -> None:
    calls: list[Callable[[], None]] = []
    router: Any = Router()
    acknowledgement = b"there:backup/LOG_ACKNOWLEDGE serial=7\n"
    LateAnswers(calls.append).to(router).send_again([acknowledgement])
    [call] = calls
    call()
    assert router.sent == ["there:backup/INVALID command=LOG;message=it could not be kept;serial=7"]


def test_the_sender_of_a_datagram_sends_again_by_itself() -> None:
    calls: list[Callable[[], None]] = []
    peer: Any = object.__new__(DatagramPeer)
    LateAnswers(calls.append).to(peer).send_again([b"LOG_ACKNOWLEDGE serial=7\n"])
    assert calls == []


# --- the whole, without a process -----------------------------------------------------------------


class Answers:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.wanted_again: list[bytes] = []

    def send_lines(self, lines: Any) -> None:
        self.lines += lines

    def send_again(self, lines: Any) -> None:
        self.wanted_again += lines


def collector_in(folder: Path, **settings: Any) -> Collector:
    form, template = LineForm("${message}"), PathTemplate("a")
    return Collector(Store(str(folder), template, form, Settings(**settings)))


def test_what_is_lost_at_an_exchange_of_files_may_come_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").mkdir()
    collector, answers = collector_in(tmp_path), Answers()
    source = Source(answers, "tcp", "ip", "ip", "ip", "h", keeps_order=True)
    fields = {"message": "x", "serial": 1, "instance": "i", "acknowledge": True}
    for _ in range(2):
        collector.take(Message("LOG", fields), source)
        collector.flush()
    assert (answers.lines, collector.counts["repeats"]) == ([], 1)
    collector.exchange(collector_in(tmp_path / "b").store)
    assert "1 log record was lost at the end" in caplog.text
    assert answers.wanted_again == [b"LOG_ACKNOWLEDGE serial=1\n"] * 2
    collector.take(Message("LOG", fields), source)
    collector.flush()
    assert answers.lines == [b"LOG_ACKNOWLEDGE serial=1\n"]
    assert lines(tmp_path / "b" / "a") == ["x"]
    collector.close()


def test_drops_are_told_from_time_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevent.snaplogger.collector._TELL_INTERVAL", 0.0)
    collector = collector_in(tmp_path)
    collector.limits = Limits(0.001, 1)
    for text in "abc":
        collector.take(Message("LOG", {"message": text}), SOURCE)
    collector.look()
    assert lines(tmp_path / "a")[0] == "a"
    collector.look()
    assert lines(tmp_path / "a")[1].startswith("snaploggerd: dropped 2 log records of 10.0.0.5:")
    collector.close()


def test_what_is_not_durable_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    os.symlink("/dev/null", tmp_path / "a")  # fdatasync(2): EINVAL
    collector, answers = collector_in(tmp_path, sync=True), Answers()
    source = Source(answers, "tcp", "ip", "ip", "ip", "h", keeps_order=True)
    fields = {"message": "x", "serial": 1, "instance": "i", "acknowledge": True}
    for _ in range(2):
        collector.take(Message("LOG", fields), source)
        collector.wait()
    assert answers.lines == []
    assert answers.wanted_again == [b"LOG_ACKNOWLEDGE serial=1\n"] * 2
    assert collector.counts["repeats"] == 0
    assert "not durable, and not acknowledged: Invalid argument" in caplog.text
    collector.take(Message("LOG", fields), source)
    collector.exchange(None)
    collector.close()
    assert answers.lines == []


def test_without_a_descriptor_nothing_is_durable_and_the_daemon_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collector, answers = collector_in(tmp_path, sync=True), Answers()
    source = Source(answers, "tcp", "ip", "ip", "ip", "h", keeps_order=True)
    fields = {"message": "x", "instance": "i", "acknowledge": True}
    collector.take(Message("LOG", {**fields, "serial": 1}), source)
    collector.wait()
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, former[1]))
    try:
        collector.take(Message("LOG", {**fields, "serial": 2}), source)
        collector.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, former)
    assert answers.lines == [b"LOG_ACKNOWLEDGE serial=1\n"]
    assert answers.wanted_again == [b"LOG_ACKNOWLEDGE serial=2\n"]
    assert "not durable, and not acknowledged: Too many open files" in caplog.text
    collector.close()


def test_the_folders_of_a_durable_file_are_durable_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr("edgevent.snaplogger.log_files._sync_folder", synced.append)
    file: RecordFile[None] = RecordFile(f"{tmp_path}/a/b/c.log", Settings(sync=True))
    file.add(b"x\n")
    file.write()
    file.close()
    assert synced == [f"{tmp_path}/a/b", f"{tmp_path}/a", f"{tmp_path}"]


def test_an_internal_failure_is_not_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collector = collector_in(tmp_path)
    monkeypatch.setattr(collector, "_flush", lambda: 1 // 0)
    collector.flush()
    assert "internal failure" in caplog.text


def test_the_daemons_own_records_have_a_form() -> None:
    line = LineForm("${source_ip} ${components} ${message}").line(own_record("what"))
    assert line == b"local snaploggerd snaploggerd: what\n"


def test_the_sample_of_a_configuration_has_right_values(
    tmp_path: Path, run_daemon: Callable[..., str]
) -> None:
    sample = Path(__file__).parents[2] / "scripts" / "conf" / "snaploggerd.conf"
    text = sample.read_text(encoding="utf-8").replace("/etc/edgevent/", f"{tmp_path}/")
    kept = [
        one.removeprefix("#") if one[:2].strip("#").isalpha() else one for one in text.split("\n")
    ]
    kept = [one.replace("#[", "[") for one in kept]
    # Of the examples that exclude each other one may stand there.
    kept = [one for one in kept if not one.startswith(("form = $", "path-template = s"))]
    (tmp_path / "keys").mkdir()
    secret = tmp_path / "snaploggerd.secret"
    secret.touch(0o600)
    secret.write_text("hunter2")
    config = tmp_path / "sample.conf"
    config.write_text("\n".join(kept), encoding="utf-8")
    shown = run_daemon("--config", str(config), "--show-config")
    for name in ("rate-limit = 10000", "form = json", "far = tcp://0.0.0.0:4043", "PAUSE = local"):
        assert name in shown


@pytest.fixture
def run_daemon(tmp_path: Path) -> Callable[..., str]:
    from tool_ground import run

    def call(*words: str) -> str:
        done = run("snaploggerd", *words, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return call
