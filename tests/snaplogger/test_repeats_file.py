"""What senders have sent already is known after the daemon's end, and after a kill."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from snaploggerd_ground import OFF, Daemon, Sender, record

from edgevent import Message
from edgevent.snaplogger import repeats_file
from edgevent.snaplogger.collected import Source
from edgevent.snaplogger.collector import Collector, Receipt
from edgevent.snaplogger.line_form import LineForm, PathTemplate
from edgevent.snaplogger.log_files import Settings
from edgevent.snaplogger.repeats import AllRepeats
from edgevent.snaplogger.repeats_file import NAME, RepeatsFile
from edgevent.snaplogger.store import Store

Begin = Callable[[], Collector]


class Answers:
    """Counts what is answered."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.wanted_again = 0

    def send_lines(self, lines: list[bytes]) -> None:
        self.acknowledged += len(lines)

    def send_again(self, lines: list[bytes]) -> None:
        self.wanted_again += len(lines)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Makes a daemon's middle, with its files in one folder; closes the last one."""
    made: list[Collector] = []

    def begin() -> Collector:
        form = LineForm("${message}")
        made.append(Collector(Store(str(tmp_path), PathTemplate("a"), form, Settings())))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def load(folder: Path) -> AllRepeats:
    """What the file gives, which is written anew then."""
    repeats = AllRepeats()
    file = RepeatsFile(str(folder), repeats)
    file.load()
    file._shut()  # as by a kill
    return repeats


def give(collector: Collector, *serials: object, instance: str = "me", text: str = "x") -> Answers:
    answers = Answers()
    source = Source(answers, "tcp", "10.0.0.5", "a", "k", "h", keeps_order=True)
    for serial in serials:
        fields = {"message": f"{text} {serial}", "serial": serial, "instance": instance}
        collector.take(Message("LOG", {**fields, "acknowledge": True}), source)
    collector.flush()
    return answers


def written(folder: Path) -> list[str]:
    return (folder / "a").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("end", ["closed", "killed", "killed twice"])
@pytest.mark.parametrize("instance", ["me", "a b\n%2e+é\udcff"])
def test_what_was_written_is_known_by_the_next_one(
    end: str, instance: str, begin: Begin, tmp_path: Path
) -> None:
    first = begin()
    give(first, 1, 2, "weird serial\n", instance=instance)
    if end == "closed":
        first.close()
    elif end == "killed twice":
        begin()
    other = begin()
    assert give(other, 1, "weird serial\n", instance=instance).acknowledged == 2
    assert other.counts["repeats"] == 2
    assert give(other, 1, instance=instance, text="another text").acknowledged == 1
    assert give(other, 1, 3, instance="another one").acknowledged == 2
    assert other.counts["repeats"] == 2
    assert len(written(tmp_path)) == 6


@pytest.mark.parametrize(("end", "known"), [("closed", 1), ("killed", 0)])
def test_after_a_power_cut_only_what_was_closed_counts(
    end: str, known: int, begin: Begin, tmp_path: Path
) -> None:
    first = begin()
    give(first, 1)
    if end == "closed":
        first.close()
    path = tmp_path / NAME
    head, _, rest = path.read_text("ascii").partition("\n")
    path.write_text(f"{head.rpartition(' ')[0]} of-another-boot\n{rest}", "ascii")
    other = begin()
    assert give(other, 1).acknowledged == 1
    assert other.counts["repeats"] == known


def test_what_came_to_nothing_is_new_after_a_kill(tmp_path: Path) -> None:
    before = AllRepeats()
    file = RepeatsFile(str(tmp_path), before)
    sender = before.of(("ip", "me"))
    receipts = [Receipt(Answers(), b"", sender, str(serial), 7) for serial in (1, 2)]
    file.add(receipts)
    file.forget(receipts[:1])
    file._shut()
    after = load(tmp_path)
    assert [after.of(("ip", "me")).has(serial, 7) for serial in ("1", "2")] == [False, True]


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    before = AllRepeats()
    file = RepeatsFile(str(tmp_path), before, max_bytes=1_000)
    sender = before.of(("ip", "me"))
    for serial in range(1_000):
        file.add([Receipt(Answers(), b"", sender, str(serial), 7)])
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.keys() == {NAME, f"{NAME}.1"}
    assert max(sizes.values()) < 1_200
    file._shut()
    after = load(tmp_path)
    assert all(after.of(("ip", "me")).has(str(serial), 7) for serial in range(900, 1_000))
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_file_that_is_cut_or_damaged_stops_nothing(begin: Begin, tmp_path: Path) -> None:
    give(begin(), *range(50))
    path, dice = tmp_path / NAME, random.Random(5)
    whole = path.read_bytes()
    for _ in range(200):
        data = bytearray(whole[: dice.randrange(len(whole) + 1)])
        for _ in range(dice.randrange(5)):
            place = dice.randrange(len(data) + 1)
            data[place:place] = dice.randbytes(dice.randrange(9))
        path.write_bytes(data)
        load(tmp_path)
    path.write_bytes(whole[:-3])  # by a kill, in the middle of the last record's mark
    other = begin()
    give(other, *range(50))
    assert other.counts["repeats"] == 49


def test_a_disk_that_does_not_take_it_is_told_and_holds_up_nothing(
    begin: Begin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).mkdir()
    collector = begin()
    assert [give(collector, serial).acknowledged for serial in (1, 2, 2)] == [1, 1, 1]
    assert written(tmp_path) == ["x 1", "x 2"]
    assert "a record that comes again after the daemon's end may stand twice" in caplog.text
    assert caplog.text.count("Is a directory: a record") == 2  # read, and written once a minute


def test_a_disk_that_takes_it_again_gets_all(
    begin: Begin, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = begin()
    give(collector, 1)
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    give(collector, 2)
    give(collector, 3)
    assert caplog.messages == [
        f"{tmp_path / NAME}: Is a directory: a record that comes again after the daemon's end may"
        " stand twice; it cannot be removed: Is a directory"
    ]
    (tmp_path / NAME).rmdir()
    now = time.monotonic() + 61.0
    monkeypatch.setattr(repeats_file, "monotonic", lambda: now)
    give(collector, 4)
    known = load(tmp_path).of(("10.0.0.5", "me"))
    assert sorted(serial for serial, _ in known.all()) == ["1", "2", "3", "4"]


def test_files_that_are_removed_are_left_at_once(begin: Begin, tmp_path: Path) -> None:
    collector = begin()
    give(collector, 1)
    shutil.rmtree(tmp_path)
    give(collector, 2)
    assert written(tmp_path) == ["x 2"]
    known = load(tmp_path).of(("10.0.0.5", "me"))
    assert [serial for serial, _ in known.all()] == ["1", "2"]


def test_a_disk_that_takes_nothing_at_the_end_leaves_what_is_there(
    begin: Begin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = begin()
    give(first, 1)
    (tmp_path / f"{NAME}.new").mkdir()
    first.close()
    assert "Is a directory: a record that comes again" in caplog.text
    other = begin()
    give(other, 1)
    assert other.counts["repeats"] == 1


def test_other_files_have_a_memory_of_their_own(begin: Begin, tmp_path: Path) -> None:
    collector = begin()
    give(collector, 1)
    other = Store(str(tmp_path / "b"), PathTemplate("a"), LineForm("${message}"), Settings())
    collector.exchange(other)
    assert give(collector, 1, 2).acknowledged == 2
    assert written(tmp_path / "b") == ["x 2"]
    collector.exchange(None)
    assert (tmp_path / NAME).read_text("ascii").endswith("\nend\n")
    assert (tmp_path / "b" / NAME).read_text("ascii").endswith("\nend\n")


def test_a_record_that_comes_again_after_a_restart_stands_once(tmp_path: Path) -> None:
    again = record("once", serial=1, instance="me", acknowledge=True)
    for number, end in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)):
        with Daemon(*OFF, "--form=${message}", f"--folder={tmp_path}") as daemon:
            with Sender(daemon) as sender:
                assert sender.ask(again).command == "LOG_ACKNOWLEDGE"
                sender.log(f"new {number}", serial=number + 2, instance="me")
            os.kill(daemon.pid, end)
            daemon.wait()
    text = (tmp_path / "snaplogger.log").read_text(encoding="utf-8")
    assert re.findall("once|new .", text) == ["once", "new 0", "new 1", "new 2"]
