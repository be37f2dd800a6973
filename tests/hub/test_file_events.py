"""What a watch of files and folders tells, on real folders."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest
from file_ground import ALL, Hand, Seen, View, content, flood
from gevent.event import Event
from hub_ground import Log

import edgevent
from edgevent import Communicator, FileEvent, FileWatch, FileWatchError, UsageError
from edgevent.sources.file_event import content_bits, kinds_of
from edgevent.sources.inotify import IN_ATTRIB, IN_CREATE, IN_MODIFY, parse
from edgevent.testing.clock import ManualClock, settle


@pytest.fixture
def seen(communicator: Communicator, clock: ManualClock, tmp_path: Path) -> Seen:
    """A folder of the test's own, with a file, a folder, and a file in that."""
    (tmp_path / "w" / "sub").mkdir(parents=True)
    (tmp_path / "w" / "file").write_text("one")
    (tmp_path / "w" / "sub" / "deep").write_text("two")
    return Seen(communicator, clock, tmp_path)


def write(path: Path, text: str = "x") -> None:
    path.write_text(text)


# --- kinds ----------------------------------------------------------------------------------------

KINDS: list[tuple[str, Callable[[Path], object], list[str]]] = [
    ("created", lambda w: (w / "new").touch(), ["created w/new"]),
    ("created", lambda w: (w / "new").mkdir(), ["created w/new/"]),
    ("created", lambda w: (w / "new").symlink_to("nowhere"), ["created w/new"]),
    ("created", lambda w: os.link(w / "file", w / "new"), ["created w/new"]),
    ("created", lambda w: os.mkfifo(w / "new"), ["created w/new"]),
    ("deleted", lambda w: (w / "file").unlink(), ["deleted w/file"]),
    ("deleted", lambda w: shutil.rmtree(w / "sub"), ["deleted w/sub/"]),
    ("updated", lambda w: write(w / "file"), ["updated w/file"]),
    ("updated", lambda w: (w / "new").touch(), ["updated w/new"]),
    ("write", lambda w: os.truncate(w / "file", 1), ["write w/file"]),
    ("read", lambda w: (w / "file").read_text(), ["read w/file"]),
    ("access", lambda w: (w / "file").read_text(), ["access w/file"] * 2),
    ("attributes", lambda w: (w / "file").chmod(0o600), ["attributes w/file"]),
    ("attributes", lambda w: (w / "sub").chmod(0o700), ["attributes w/sub/"]),
    ("attributes", lambda w: w.chmod(0o700), ["attributes w/"]),
    ("read access", lambda w: list((w / "sub").iterdir()), []),
    ("exists", lambda w: None, ["exists w/file", "exists w/sub/"]),
    ("created updated", lambda w: write(w / "new"), ["created w/new", "updated w/new"]),
    ("moved", lambda w: (w / "file").rename(w / "b"), ["moved w/b <- w/file"]),
    (
        "moved created updated deleted",
        lambda w: (w / "file").rename(w / "b"),
        ["created+moved+updated w/b <- w/file"],
    ),
    ("moved created", lambda w: (w / "sub").rename(w / "b"), ["created+moved w/b/ <- w/sub"]),
    ("created deleted", lambda w: (w / "file").rename(w / "b"), ["deleted w/file", "created w/b"]),
    ("updated", lambda w: (w / "file").rename(w / "b"), ["updated w/b"]),
    ("deleted", lambda w: (w / "file").rename(w.parent / "b"), ["deleted w/file"]),
]


@pytest.mark.parametrize(("events", "cause", "told"), KINDS)
def test_each_kind_is_told_where_it_is_wanted(
    seen: Seen, events: str, cause: Callable[[Path], object], told: list[str]
) -> None:
    seen.watch("w", events=events.split())
    cause(seen.folder / "w")
    assert sorted(seen.told()) == sorted(told)


def test_a_file_that_is_moved_here_is_complete(seen: Seen) -> None:
    seen.watch("w")
    write(seen.folder / "outside")
    (seen.folder / "outside").rename(seen.folder / "w" / "a")
    write(seen.folder / "outside", "again")
    (seen.folder / "outside").rename(seen.folder / "w" / "a")
    assert seen.told() == ["created+updated w/a", "updated w/a"]


def test_a_rename_between_two_watched_folders_is_one_event(seen: Seen) -> None:
    (seen.folder / "v").mkdir()
    seen.watch("w", "v")
    (seen.folder / "w" / "file").rename(seen.folder / "v" / "there")
    assert seen.told() == ["created+moved+updated v/there <- w/file"]


def test_an_event_says_name_and_path(seen: Seen) -> None:
    seen.watch("w", events="created")
    (seen.folder / "w" / "new").touch()
    seen.clock.advance(1.0)
    [event] = seen.events
    assert (event.name, event.path) == ("new", str(seen.folder / "w" / "new"))
    assert event.kinds == {"created"}
    flags = (event.folder, event.gone, event.unmounted, event.lost_sync)
    assert flags == (False, False, False, False)


NAMES = [b"new\nline", b"\xff\xfe", "gr\u00fcn".encode(), b"a" * 255, b" ", b"[x]*?"]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_any_name_is_told_as_python_writes_it(seen: Seen, name: bytes) -> None:
    seen.watch("w", pattern="*", recursive=True)
    path = os.path.join(os.fsencode(seen.folder / "w"), name)
    os.mkdir(path)
    open(os.path.join(path, name), "w").close()
    seen.clock.advance(1.0)
    assert {os.fsencode(event.path) for event in seen.events} == {path, os.path.join(path, name)}
    with FileWatch(path) as watch:
        assert os.fsencode(watch.paths[0]) == path


def test_only_names_of_the_pattern_are_told(seen: Seen) -> None:
    seen.watch("w", pattern=("*.conf", "x?"), recursive=True, events=ALL)
    for name in ("a.conf", "a.confx", "x1", "x", "sub/b.conf", "sub/b", "A.CONF"):
        (seen.folder / "w" / name).touch()
    assert {text.split()[1] for text in seen.told()} == {"w/a.conf", "w/x1", "w/sub/b.conf"}
    (seen.folder / "w" / "a.conf").rename(seen.folder / "w" / "a.old")
    (seen.folder / "w" / "a.old").rename(seen.folder / "w" / "b.conf")
    assert seen.told() == ["deleted w/a.conf", "created+updated w/b.conf"]
    (seen.folder / "w" / "sub").rename(seen.folder / "w" / "bus")
    assert seen.told() == ["created+moved+updated w/bus/b.conf <- w/sub/b.conf"]


def test_the_bytes_of_the_kernel_are_split() -> None:
    head = bytes.fromhex("01000000 00010000 07000000 10000000".replace(" ", ""))
    more = bytes.fromhex("02000000 02000000 00000000 00000000".replace(" ", ""))
    assert parse(head + b"a\xff".ljust(16, b"\0") + more) == [
        (1, IN_CREATE, 7, "a\udcff"),
        (2, IN_MODIFY, 0, ""),
    ]
    assert parse(b"") == []


def test_one_event_may_be_of_two_kinds() -> None:
    assert kinds_of(content_bits(IN_ATTRIB | IN_MODIFY)) == {"attributes", "write"}


# --- one file, as editors and tools change it -----------------------------------------------------


def save_in_place(path: Path) -> None:
    write(path, "in place")


def save_by_rename(path: Path) -> None:
    write(path.with_name(".tmp"), "renamed")
    path.with_name(".tmp").rename(path)


def save_as_vim(path: Path) -> None:
    path.rename(path.with_name("file~"))
    write(path, "vim")
    path.with_name("file~").unlink()


def delete_and_make(path: Path) -> None:
    path.unlink()
    write(path, "made")


def exchange_for_a_link(path: Path) -> None:
    write(path.with_name("target"), "linked")
    path.unlink()
    path.symlink_to("target")


SAVES = [save_in_place, save_by_rename, save_as_vim, delete_and_make, exchange_for_a_link]


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("then", SAVES)
def test_a_file_is_followed_through_each_way_to_save_it(
    seen: Seen, save: Callable[[Path], None], then: Callable[[Path], None]
) -> None:
    path = seen.folder / "w" / "file"
    contents: list[str] = []

    def read(event: FileEvent) -> None:
        if "updated" in event.kinds:
            contents.append(path.read_text())

    seen.watch("w/file", callback=read)
    for each in (save, then, save_in_place):
        contents.clear()
        each(path)
        seen.clock.advance(1.0)
        assert contents
        assert contents[-1] == path.read_text()


def test_others_beside_a_watched_file_are_not_told(seen: Seen) -> None:
    seen.watch("w/file")
    write(seen.folder / "w" / "other")
    write(seen.folder / "w" / "sub" / "deep")
    assert seen.told() == []


def test_a_file_that_is_deleted_and_comes_back_is_told(seen: Seen) -> None:
    path = seen.folder / "w" / "file"
    seen.watch("w/file", events=ALL)
    assert seen.told() == ["exists w/file"]
    path.unlink()
    assert seen.told() == ["deleted w/file"]
    write(path)
    assert seen.told() == ["created w/file", "updated w/file"]
    path.rename(path.with_name("b"))
    assert seen.told() == ["deleted w/file"]
    path.mkdir()
    write(path / "x")
    assert seen.told() == ["created w/file/", "created w/file/x", "updated w/file/x"]


def test_a_file_survives_its_folder(seen: Seen) -> None:
    seen.watch("w/sub/deep")
    (seen.folder / "w").rename(seen.folder / "v")
    assert seen.told() == ["deleted w/sub/deep gone"]
    write(seen.folder / "v" / "sub" / "deep")
    assert seen.told() == []
    (seen.folder / "w" / "sub").mkdir(parents=True)
    write(seen.folder / "w" / "sub" / "deep")
    assert sorted(seen.told()) == ["created w/sub/deep", "updated w/sub/deep"]


# --- links ----------------------------------------------------------------------------------------


def test_a_link_stands_for_what_it_leads_to(seen: Seen) -> None:
    w = seen.folder / "w"
    (w / "link").symlink_to(f"../{w.name}/./sub/deep")
    seen.watch("w/link")
    write(w / "sub" / "deep")
    assert seen.told() == ["updated w/link"]
    os.symlink("file", w / "new")
    os.replace(w / "new", w / "link")
    assert seen.told() == ["updated w/link"]
    write(w / "sub" / "deep")
    assert seen.told() == []
    write(w / "file")
    assert seen.told() == ["updated w/link"]
    (w / "file").unlink()
    assert seen.told() == ["deleted w/link"]


def test_a_link_itself_is_watched_where_it_is_not_to_be_followed(seen: Seen) -> None:
    w = seen.folder / "w"
    (w / "link").symlink_to("file")
    seen.watch("w/link", follow_symlinks=False)
    write(w / "file")
    assert seen.told() == []
    os.symlink("sub", w / "new")
    os.replace(w / "new", w / "link")
    assert seen.told() == ["updated w/link"]
    (w / "link").unlink()
    assert seen.told() == ["deleted w/link"]


def test_a_link_on_the_way_is_followed_when_it_is_exchanged(seen: Seen) -> None:
    for version in ("1", "2"):
        (seen.folder / version).mkdir()
        write(seen.folder / version / "app.conf", version)
    (seen.folder / "data").symlink_to("1")
    (seen.folder / "app.conf").symlink_to("data/app.conf")
    seen.watch("app.conf")  # as Kubernetes lays configuration out
    (seen.folder / "new").symlink_to("2")
    (seen.folder / "new").rename(seen.folder / "data")
    assert seen.told() == ["updated app.conf"]
    write(seen.folder / "1" / "app.conf", "not seen")
    assert seen.told() == []
    write(seen.folder / "2" / "app.conf", "seen")
    assert seen.told() == ["updated app.conf"]


def test_a_link_to_a_folder_that_is_exchanged_leads_to_another_one(seen: Seen) -> None:
    (seen.folder / "current").symlink_to("w")
    seen.watch("current", recursive=True)
    write(seen.folder / "w" / "sub" / "deep")
    assert seen.told() == ["updated current/sub/deep"]
    (seen.folder / "new").symlink_to("w/sub")
    (seen.folder / "new").rename(seen.folder / "current")
    told = ["deleted current/ gone", "created current/", "created current/deep"]
    assert seen.told() == [*told, "updated current/deep"]


def test_a_link_that_comes_to_lead_to_itself_is_an_end(seen: Seen, log: Log) -> None:
    w = seen.folder / "w"
    (w / "link").symlink_to("file")
    seen.watch("w/link")
    (w / "link").unlink()
    (w / "link").symlink_to("link")
    assert seen.told() == ["deleted w/link gone"]
    assert any("Too many levels of symbolic links" in line for line in log.lines("w/link"))
    (w / "link").unlink()
    (w / "link").symlink_to("sub/deep")
    assert seen.told() == ["created w/link", "updated w/link"]


def test_a_link_that_comes_to_lead_where_another_watch_is_adds_nothing(
    seen: Seen, log: Log
) -> None:
    (seen.folder / "one").symlink_to("w")
    (seen.folder / "other").symlink_to("w/sub")
    seen.watch("one", "other")
    (seen.folder / "new").symlink_to("w")
    (seen.folder / "new").rename(seen.folder / "other")
    assert seen.told() == ["deleted other/ gone"]
    assert len(log.lines("other' is watched already, as")) == 1


def test_links_in_a_folder_are_not_followed(seen: Seen) -> None:
    (seen.folder / "w" / "sub" / "up").symlink_to("..")
    (seen.folder / "w" / "sub" / "self").symlink_to("self")
    seen.watch("w", recursive=True, events=ALL)
    told = ["exists w/file", "exists w/sub/", "exists w/sub/deep", "exists w/sub/self"]
    assert sorted(seen.told()) == [*told, "exists w/sub/up"]
    write(seen.folder / "w" / "file")
    assert seen.told() == ["updated w/file"]


# --- folders in folders ---------------------------------------------------------------------------


def test_a_deep_tree_that_is_made_at_once_is_told_once_each(seen: Seen) -> None:
    seen.watch("w", recursive=True)
    os.makedirs(seen.folder / "w" / "a" / "b" / "c" / "d")
    write(seen.folder / "w" / "a" / "b" / "c" / "d" / "x")
    parts = ["w/a/", "w/a/b/", "w/a/b/c/", "w/a/b/c/d/", "w/a/b/c/d/x"]
    told = [f"created {part}" for part in parts]
    assert seen.told() == [*told, "updated w/a/b/c/d/x"]
    write(seen.folder / "w" / "a" / "b" / "c" / "y")
    assert seen.told() == ["created w/a/b/c/y", "updated w/a/b/c/y"]


def test_what_is_found_half_written_is_updated_when_it_is_closed_or_quiet(seen: Seen) -> None:
    seen.watch("w", recursive=True)
    (seen.folder / "w" / "a").mkdir()
    with open(seen.folder / "w" / "a" / "x", "w") as one:
        settle()  # the new folder is found, with the file in it
        for _ in range(5):
            one.write("more")
            one.flush()
            seen.clock.advance(0.06)
        seen.clock.advance(0.0)
        assert [seen.text(event) for event in seen.events] == ["created w/a/", "created w/a/x"]
    assert seen.told()[2:] == ["updated w/a/x"]


def test_a_folder_that_moves_takes_its_paths_along(seen: Seen) -> None:
    seen.watch("w", recursive=True)
    (seen.folder / "w" / "sub").rename(seen.folder / "w" / "bus")
    told = ["created+moved w/bus/ <- w/sub", "created+moved+updated w/bus/deep <- w/sub/deep"]
    assert seen.told() == told
    write(seen.folder / "w" / "bus" / "deep")
    assert seen.told() == ["updated w/bus/deep"]
    (seen.folder / "w" / "bus").rename(seen.folder / "out")
    assert seen.told() == ["deleted w/bus/deep", "deleted w/bus/"]
    write(seen.folder / "out" / "deep")
    assert seen.told() == []
    (seen.folder / "out").rename(seen.folder / "w" / "in")
    assert seen.told() == ["created w/in/", "created w/in/deep", "updated w/in/deep"]
    shutil.rmtree(seen.folder / "w" / "in")
    assert seen.told() == ["deleted w/in/deep", "deleted w/in/"]


def test_a_folder_made_anew_under_its_name_is_watched(seen: Seen) -> None:
    seen.watch("w", recursive=True)
    for _ in range(3):
        shutil.rmtree(seen.folder / "w" / "sub")
        (seen.folder / "w" / "sub").mkdir()
        write(seen.folder / "w" / "sub" / "new")
    seen.told()
    write(seen.folder / "w" / "sub" / "new")
    assert seen.told() == ["updated w/sub/new"]


@pytest.mark.parametrize("pair", [("file", "sub/deep"), ("file", "sub"), ("sub", "bus")])
@pytest.mark.parametrize("backwards", [False, True])
def test_an_exchange_with_something_outside_is_told(
    seen: Seen, pair: tuple[str, str], backwards: bool
) -> None:
    w, outside = seen.folder / "w", seen.folder / "outside"
    shutil.copytree(w, outside)
    (outside / "bus").mkdir()
    write(outside / "bus" / "y")
    exchange(seen, (w / pair[0], outside / pair[1]), backwards)


@pytest.mark.parametrize("pair", [("file", "sub/deep"), ("file", "sub"), ("sub", "bus")])
def test_an_exchange_of_two_names_is_told(seen: Seen, pair: tuple[str, str]) -> None:
    w = seen.folder / "w"
    (w / "bus").mkdir()
    write(w / "bus" / "x")
    exchange(seen, (w / pair[0], w / pair[1]), False)


def exchange(seen: Seen, pair: tuple[Path, Path], backwards: bool) -> None:
    """Exchanges two names (man 2 renameat2), and looks whether what is there then is watched."""
    w, view = seen.folder / "w", View()
    seen.watch("w", callback=view.take, recursive=True, events=ALL)
    seen.clock.advance(1.0)
    one, other = (os.fsencode(path) for path in (reversed(pair) if backwards else pair))
    if ctypes.CDLL(None).renameat2(-100, one, -100, other, 2):
        pytest.skip("needs a file system that can exchange names")
    seen.clock.advance(1.0)
    assert view.paths == content(w)
    assert view.problems == []
    view.updated.clear()
    files = {path for path, is_folder in content(w).items() if not is_folder}
    for path in files:
        write(Path(path))
    seen.clock.advance(1.0)
    assert view.updated == files


def test_two_renames_there_and_back_are_no_exchange(seen: Seen) -> None:
    w = seen.folder / "w"
    write(w / "other")
    seen.watch("w")
    (w / "file").rename(w / "other")
    (w / "other").rename(w / "file")
    told = ["moved+updated w/other <- w/file", "created+moved+updated w/file <- w/other"]
    assert seen.told() == told


def test_folders_of_a_watch_may_lie_in_each_other(seen: Seen) -> None:
    watch = seen.watch("w/sub", "w", "w/sub/deep", "w", recursive=True, events="updated")
    assert watch.paths == (f"{seen.folder}/w", f"{seen.folder}/w/sub/deep")
    write(seen.folder / "w" / "sub" / "deep")
    assert seen.told() == ["updated w/sub/deep"]
    seen.watch("w/sub", "w", events="updated")
    write(seen.folder / "w" / "sub" / "deep")
    assert seen.told() == ["updated w/sub/deep"] * 2


@pytest.mark.parametrize("seed", range(25))
def test_changes_at_random_leave_the_true_picture(seen: Seen, seed: int) -> None:
    follow_changes(seen, seed, bursts=5, most=10)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1_000, 1_500))
def test_many_changes_at_random_leave_the_true_picture(seen: Seen, seed: int) -> None:
    follow_changes(seen, seed, bursts=15, most=10)


@pytest.mark.parametrize(
    ("kinds", "seed"),
    [
        ("and exchanges", 196),
        ("and exchanges", 629),
        ("moves and exchanges", 52),
        ("moves and exchanges", 1462),
        ("moves", 5532),
        ("moves", 7149),
    ],
)
def test_many_moves_that_nobody_has_read_leave_the_true_picture(
    seen: Seen, kinds: str, seed: int
) -> None:
    follow_changes(seen, seed, bursts=2, most=30, kinds=kinds)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", ["and exchanges", "moves and exchanges", "moves"])
@pytest.mark.parametrize("seed", range(500))
def test_hundreds_of_bursts_of_moves_leave_the_true_picture(
    seen: Seen, kinds: str, seed: int
) -> None:
    follow_changes(seen, seed, bursts=2, most=30, kinds=kinds)


def test_a_folder_that_takes_the_place_of_another_one_is_told_once(seen: Seen) -> None:
    w, view = seen.folder / "w", View()
    seen.watch("w", callback=view.take, recursive=True, events=ALL)
    seen.told()
    (w / "sub" / "a").mkdir()
    (w / "sub" / "a").rmdir()
    (w / "sub").rename(w / "other")
    for name in ("sub", "sub/a"):
        (w / name).mkdir()
    seen.told()
    assert view.paths == content(w)
    assert view.problems == []


def follow_changes(seen: Seen, seed: int, bursts: int, most: int, kinds: str = "usual") -> None:
    root, outside, view = seen.folder / "w", seen.folder / "outside", View()
    outside.mkdir()
    seen.watch("w", callback=view.take, recursive=True, events=ALL)
    hand = Hand(root, outside, seed, kinds)
    for _ in range(bursts):
        hand.written.clear()
        view.updated.clear()
        hand.change(most)
        seen.clock.advance(1.0)
        there = content(root)
        assert view.paths == there
        assert view.problems == []
        assert {path for path in hand.written if there.get(path) is False} <= view.updated


# --- the end of what is watched -------------------------------------------------------------------


@pytest.mark.parametrize("end", ["remove", "rename"])
def test_a_folder_that_goes_away_is_told_and_then_there_is_silence(seen: Seen, end: str) -> None:
    watch = seen.watch("w/sub", recursive=True)
    if end == "remove":
        shutil.rmtree(seen.folder / "w" / "sub")
        assert seen.told() == ["deleted w/sub/deep", "deleted w/sub/ gone"]
    else:
        (seen.folder / "w" / "sub").rename(seen.folder / "w" / "bus")
        assert seen.told() == ["deleted w/sub/ gone"]
        write(seen.folder / "w" / "bus" / "deep")
    write(seen.folder / "w" / "other")
    assert seen.told() == []  # which raises when the loop does not come to rest
    assert not watch.is_closed
    (seen.folder / "w" / "sub").mkdir()
    write(seen.folder / "w" / "sub" / "x")
    assert seen.told() == ["created w/sub/", "created w/sub/x", "updated w/sub/x"]


def test_a_folder_that_somebody_is_in_is_gone_when_it_is_removed(seen: Seen) -> None:
    seen.watch("w/sub", recursive=True)
    held = os.open(seen.folder / "w" / "sub", os.O_RDONLY)
    shutil.rmtree(seen.folder / "w" / "sub")
    assert seen.told()[-1] == "deleted w/sub/ gone"
    os.close(held)
    assert seen.told() == []


def test_what_does_not_exist_yet_is_waited_for(seen: Seen) -> None:
    seen.watch("later/on/file", "later/folder", must_exist=False, recursive=True, events=ALL)
    assert seen.told() == []
    (seen.folder / "later").mkdir()
    assert seen.told() == []
    (seen.folder / "later" / "on").mkdir()
    write(seen.folder / "later" / "on" / "file")
    assert sorted(seen.told()) == ["created later/on/file", "updated later/on/file"]
    write(seen.folder / "outside")
    (seen.folder / "new").mkdir()
    write(seen.folder / "new" / "x")
    (seen.folder / "new").rename(seen.folder / "later" / "folder")
    told = ["created later/folder/", "created later/folder/x", "updated later/folder/x"]
    assert seen.told() == told


def test_a_folder_on_the_way_wakes_nobody_any_more_once_the_file_is_there(seen: Seen) -> None:
    watch = seen.watch("later/file", must_exist=False)
    (seen.folder / "later").mkdir()
    write(seen.folder / "later" / "file")
    seen.told()
    reads: list[int] = []
    feed = watch._changes.feed
    watch._changes.feed = lambda records: (  # type: ignore[method-assign]
        reads.append(len(records)),
        feed(records),
    )[1]
    write(seen.folder / "other")
    assert seen.told() == []
    assert reads == []


# --- lost events ----------------------------------------------------------------------------------


def queue_length() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def test_after_lost_events_a_comparison_misses_nothing(seen: Seen) -> None:
    w = seen.folder / "w"
    for number in range(20):
        write(w / f"kept{number}")
    watch = seen.watch("w", recursive=True, events=("write", "attributes", *ALL))
    assert len(seen.told()) == 23
    flood(w, queue_length())
    (w / "file").unlink()
    write(w / "kept3", "longer")
    (w / "kept4").chmod(0o600)
    (w / "kept5").rename(w / "kept6")
    (w / "sub").rename(w / "bus")
    os.makedirs(w / "a" / "b")
    write(w / "a" / "b" / "x")
    told = seen.told()
    assert told.count("lost_sync w/") == watch.lost_syncs == 1
    after = told[told.index("lost_sync w/") + 1 :]
    deleted = ["w/file", "w/kept5", "w/sub/", "w/sub/deep"]
    created = ["w/a/", "w/a/b/", "w/a/b/x", "w/bus/", "w/bus/deep"]
    updated = ["w/a/b/x", "w/bus/deep", "w/f0", "w/f1", "w/kept3", "w/kept6"]
    expected = [f"deleted {path}" for path in deleted] + [f"created {path}" for path in created]
    expected += [f"updated {path}" for path in updated] + ["attributes w/kept4"]
    assert sorted(after) == sorted(expected)
    write(w / "a" / "b" / "x", "watched again")
    assert "updated w/a/b/x" in seen.told()


def test_what_became_something_else_is_found_after_lost_events(seen: Seen) -> None:
    w = seen.folder / "w"
    for name in ("z", "z/in", "z/in/deep", "turns"):
        (w / name).mkdir()
    seen.watch("w", recursive=True, events=("write", *ALL))
    seen.told()
    flood(w, queue_length())
    (w / "file").unlink()
    (w / "file").mkdir()
    (w / "turns").rmdir()
    write(w / "turns")
    (w / "z" / "in").rename(w / "in")
    (w / "sub").rename(w / "z" / "sub")
    told = seen.told()
    after = set(told[told.index("lost_sync w/") + 1 :])
    assert after - {"updated w/f0", "updated w/f1"} == {
        *("deleted w/file", "created w/file/"),
        *("deleted w/turns/", "created w/turns", "updated w/turns"),
        *("deleted w/sub/", "deleted w/sub/deep", "created w/z/sub/", "created w/z/sub/deep"),
        *("deleted w/z/in/", "deleted w/z/in/deep/", "created w/in/", "created w/in/deep/"),
        "updated w/z/sub/deep",
    }
    for place in ("file", "z/sub", "in/deep"):
        write(w / place / "new")
        assert f"created w/{place}/new" in seen.told()


def test_a_write_is_found_after_lost_events(seen: Seen) -> None:
    seen.watch("w", events="write")
    flood(seen.folder / "w", queue_length())
    os.truncate(seen.folder / "w" / "file", 1)
    assert seen.told()[-1] == "write w/file"


def test_a_watched_file_is_compared_after_lost_events(seen: Seen) -> None:
    seen.watch("w/file", "w/f0", "w/f1", must_exist=False, events=("write", "updated"))
    flood(seen.folder / "w", queue_length() + 1)
    write(seen.folder / "w" / "file", "longer")
    told = seen.told()
    assert {"lost_sync w/file", "updated w/file"} <= set(told)


def test_changes_at_random_are_found_after_lost_events(seen: Seen) -> None:
    root, outside, view = seen.folder / "w", seen.folder / "outside", View()
    outside.mkdir()
    watch = seen.watch("w", callback=view.take, recursive=True, events=("write", *ALL))
    hand = Hand(root, outside, 7)
    for burst in range(6):
        hand.change(10)
        flood(root, queue_length() - 5 * burst)
        hand.written.clear()
        view.updated.clear()
        hand.change(20)
        seen.clock.advance(1.0)
        there = content(root)
        assert view.paths == there
        assert {path for path in hand.written if there.get(path) is False} <= view.updated
    assert watch.lost_syncs >= 5


# --- turns ----------------------------------------------------------------------------------------


def test_a_handler_that_blocks_gets_the_others_in_order_afterwards(
    communicator: Communicator, seen: Seen
) -> None:
    go_on = Event()
    names: list[str] = []

    def handle(event: FileEvent) -> None:
        names.append(event.name)
        go_on.wait()

    watch = seen.watch("w", events="created", callback=handle)
    watch.max_events = 50
    for number in range(300):
        (seen.folder / "w" / str(number)).touch()
        if number == 10:
            settle()
    settle()
    assert names == ["0"]
    assert 50 <= watch.waiting < 300 + 50
    go_on.set()
    assert seen.told() == []
    assert names == [str(number) for number in range(300)]


def test_a_handler_that_blocks_too_long_is_told_of_what_it_has_missed(seen: Seen) -> None:
    go_on, view = Event(), View()

    def handle(event: FileEvent) -> None:
        view.take(event)
        go_on.wait()

    w = seen.folder / "w"
    watch = seen.watch("w", events=(*ALL, "write"), callback=handle, recursive=True)
    watch.max_events = 100
    flood(w, 1_000)
    settle()
    flood(w, queue_length())
    (w / "last").touch()
    settle()
    assert watch.waiting < 5_000
    go_on.set()
    seen.told()
    assert watch.lost_syncs == 1
    assert view.paths == content(w)
    assert str(w / "last") in view.updated


def test_a_disabled_watch_tells_later(seen: Seen) -> None:
    watch = seen.watch("w")
    watch.enabled = False
    write(seen.folder / "w" / "new")
    (seen.folder / "w" / "file").rename(seen.folder / "moved-away")
    assert seen.told() == []
    watch.enabled = True
    assert seen.told() == ["created w/new", "updated w/new", "deleted w/file"]


def test_it_watches_from_the_moment_at_which_it_is_made(
    seen: Seen, communicator: Communicator
) -> None:
    watch = FileWatch(seen.folder / "w", seen.events.append, events=("exists", "updated"))
    write(seen.folder / "w" / "file")
    write(seen.folder / "w" / "file")
    communicator.add_connection(watch)
    told = seen.told()
    assert sorted(told[:2]) == ["exists w/file", "exists w/sub/"]
    assert set(told[2:]) == {"updated w/file"}
    communicator.remove_connection(watch)
    write(seen.folder / "w" / "file")
    assert seen.told() == []
    communicator.add_connection(watch)
    assert seen.told() == ["updated w/file"]


def test_a_hook_may_take_the_events_and_may_fail(seen: Seen, log: Log) -> None:
    class Failing(FileWatch):
        def process_event(self, event: FileEvent) -> None:
            seen.events.append(event)
            raise ValueError("no")

    watch = seen.communicator.add_connection(Failing(str(seen.folder / "w"), events="updated"))
    for _ in range(3):
        write(seen.folder / "w" / "file")
        assert seen.told() == ["updated w/file"]
    assert watch.handler_errors == 3
    assert len(log.lines("process_event failed")) == 3


def test_a_handler_may_close_its_watch(seen: Seen) -> None:
    watch = seen.watch("w", callback=lambda event: (seen.events.append(event), watch.close()))
    write(seen.folder / "w" / "file")
    write(seen.folder / "w" / "new")
    assert seen.told() == ["updated w/file"]
    assert watch.is_closed
    assert watch not in seen.communicator.connections
    watch.close()


def test_stop_tells_what_was_read_already(seen: Seen) -> None:
    communicator, go_on = seen.communicator, Event()

    def handle(event: FileEvent) -> None:
        seen.events.append(event)
        go_on.wait()

    seen.watch("w", callback=handle)
    runner = gevent.spawn(communicator.run)
    for name in ("a", "b", "c"):
        write(seen.folder / "w" / name)
    settle()
    communicator.stop()
    write(seen.folder / "w" / "too late")
    go_on.set()
    assert runner.get(timeout=20.0) is True
    assert [event.name for event in seen.events] == ["a", "a", "b", "b", "c", "c"]


def test_a_watch_says_what_it_watches(seen: Seen) -> None:
    with FileWatch([seen.folder / "w", seen.folder / "w" / "file"], name="files") as watch:
        assert repr(watch) == f"<files enabled {str(seen.folder / 'w')!r} and 1 more>"
        assert watch.paths == (str(seen.folder / "w"), str(seen.folder / "w" / "file"))
    assert repr(watch).startswith("<files closed ")


def test_another_thread_may_not_close_it(seen: Seen) -> None:
    watch = seen.watch("w")
    errors: list[Exception] = []

    def close() -> None:
        try:
            watch.close()
        except edgevent.WrongThreadError as error:
            errors.append(error)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert len(errors) == 1


# --- mistakes -------------------------------------------------------------------------------------

MISTAKES = [
    (("w/none",), {}, FileWatchError, "w/none' cannot be watched: No such file or directory"),
    (("w/file/below",), {}, FileWatchError, "file/below' cannot be watched: No such file"),
    (("w", "loop"), {}, FileWatchError, "loop' cannot be watched: Too many levels"),
    (("w", "other"), {}, FileWatchError, "other' is watched already, as '.*w'"),
    (("w",), {"events": "update"}, UsageError, "'update' is no kind of file event: 'updated' was"),
    (("w",), {"events": ("created", 7)}, UsageError, "7 is no kind of file event: attributes, "),
    (("w",), {"events": ()}, UsageError, "no kind of file event was given"),
    (("w",), {"pattern": "a/*.conf"}, UsageError, "'a/.*' is no pattern of names"),
    (("w",), {"pattern": ["*", ""]}, UsageError, "'' is no pattern of names"),
    (("w",), {"callback": "print"}, UsageError, r"a function of \(event\) .*, not 'print'"),
    (("w",), {"priority": 256}, UsageError, "256 is no priority"),
    ((), {}, UsageError, "no path was given"),
    (("w\0",), {}, UsageError, "is no path"),
]


@pytest.mark.parametrize(("paths", "settings", "error", "text"), MISTAKES)
def test_a_mistake_is_an_error_at_once(
    seen: Seen,
    paths: tuple[str, ...],
    settings: dict[str, object],
    error: type[Exception],
    text: str,
) -> None:
    (seen.folder / "loop").symlink_to("loop")
    (seen.folder / "other").symlink_to("w")
    with pytest.raises(error, match=text):
        seen.watch(*paths, **settings)


@pytest.mark.parametrize("path", [None, 7, "", [b""], [None]])
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(UsageError, match="is no path"):
        FileWatch(path)  # type: ignore[arg-type]


def test_a_socket_and_a_path_in_bytes_can_be_watched(seen: Seen, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        with FileWatch(
            os.fsencode(path), seen.events.append, events=("exists", "deleted")
        ) as watch:
            seen.communicator.add_connection(watch)
            path.unlink()
            assert seen.told() == ["exists s", "deleted s"]
