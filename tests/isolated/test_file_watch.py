"""File events between processes, under signals, at the kernel's limits, and in a forked child."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from file_ground import View, content
from gevent import subprocess as green
from network_ground import PATIENCE, until
from running import ROOT, Program, environment, lines_of

from edgevent import Communicator, FileEvent, FileWatch
from edgevent.sources.inotify import Inotify

BEGIN = """
    import logging, os, resource, shutil, signal, subprocess, sys, time
    from edgevent import *

    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")

    def say(*what):
        os.write(1, (" ".join(map(str, what)) + "\\n").encode())  # two processes write
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that all users can look into, as those of tmp_path are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def program(folder: Path, text: str) -> Path:
    path = folder / "program.py"
    path.write_text(textwrap.dedent(BEGIN) + textwrap.dedent(text), encoding="utf-8")
    return path


def run(folder: Path, text: str, *before: str) -> list[str]:
    """Runs a program to its end; gives the lines that it has printed."""
    path = program(folder, text)
    if not before:
        with Program(path, folder=folder) as running:
            assert running.end() == 0, running.printed
            return running.lines
    done = subprocess.run(
        [*before, sys.executable, str(path)],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return lines_of(done.stdout)


# --- races ----------------------------------------------------------------------------------------

RACES = {
    "made": "mkdir w/$i && echo $i > w/$i/file",
    "deep": "mkdir -p w/$i/a/b/c && echo $i > w/$i/a/b/c/file",
    "moved in": "mkdir -p tmp/$i/a && echo $i > tmp/$i/a/file && mv tmp/$i w/$i",
    "renamed": "mkdir -p w/x$i/a && mv w/x$i w/$i && echo $i > w/$i/a/file",
}


def race(folder: Path, command: str, count: int) -> None:
    """Makes folders, as quickly as a shell does, with a file in each."""
    (folder / "w").mkdir()
    (folder / "tmp").mkdir()
    created: Counter[str] = Counter()
    updated: set[str] = set()

    def take(event: FileEvent) -> None:
        assert not event.lost_sync
        if not event.folder:
            if event.moved_from:  # it was found already where it was before
                created[event.path] = created.pop(event.moved_from)
            else:
                created[event.path] += "created" in event.kinds
            updated.update({event.path} if "updated" in event.kinds else ())

    with Communicator() as communicator:
        communicator.add_connection(FileWatch(folder / "w", take, recursive=True))
        loop = f"for i in $(seq {count}); do {command} || exit 1; done"
        assert green.run(["sh", "-c", loop], cwd=folder, timeout=2 * PATIENCE).returncode == 0
        files = {str(path) for path in (folder / "w").rglob("file")}
        assert len(files) == count
        until(lambda: files <= updated)
    assert created == dict.fromkeys(files, 1)


@pytest.mark.parametrize("command", RACES.values(), ids=RACES)
def test_files_of_folders_just_made_are_told_once(tmp_path: Path, command: str) -> None:
    race(tmp_path, command, 200)


@pytest.mark.parametrize("command", RACES.values(), ids=RACES)
def test_they_are_told_once_when_they_come_faster_than_they_are_watched(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down(monkeypatch, 0.0005)
    race(tmp_path, command, 100)


def slow_down(monkeypatch: pytest.MonkeyPatch, delay: float) -> None:
    """Makes each call that watches a folder take longer, as on a machine that is busy."""
    add = Inotify.add

    def slowly(inotify: Inotify, path: str, mask: int, told: str = "") -> int:
        end = time.perf_counter() + delay
        while time.perf_counter() < end:
            pass
        return add(inotify, path, mask, told)

    monkeypatch.setattr(Inotify, "add", slowly)


CHANGES = """
    import sys, time
    from pathlib import Path
    from file_ground import Hand

    hand = Hand(Path("w"), Path("outside"), int(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        hand.change(6)
        time.sleep(0.0005)
"""


def follow(folder: Path, seed: int, bursts: int) -> None:
    """Has another process make changes at random, and waits until the true picture is told."""
    for name in ("w", "outside"):
        (folder / name).mkdir()
    view, root = View(), folder / "w"
    command = [sys.executable, "-c", textwrap.dedent(CHANGES), str(seed), str(bursts)]
    paths = f"{ROOT}:{ROOT / 'tests'}"
    with Communicator() as communicator:
        communicator.add_connection(FileWatch(root, view.take, recursive=True))
        done = green.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": paths})
        assert done.returncode == 0
        there = content(root)
        until(lambda: view.paths == there)
        for number, path in enumerate([root, *(Path(path) for path in there if there[path])]):
            (path / f"new{number}").touch()
        until(lambda: view.paths == content(root))


@pytest.mark.parametrize("delay", [0.0, 0.0005])
@pytest.mark.parametrize("seed", range(3))
def test_changes_at_random_by_another_process_are_followed(
    tmp_path: Path, seed: int, delay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down(monkeypatch, delay)
    follow(tmp_path, seed, 40)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_many_changes_by_another_process_are_followed(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down(monkeypatch, seed * 5e-6)
    follow(tmp_path, seed, 100)


@pytest.mark.slow
@pytest.mark.parametrize("command", RACES.values(), ids=RACES)
def test_many_files_of_folders_just_made_are_told_once(tmp_path: Path, command: str) -> None:
    race(tmp_path, command, 1_000)


# --- processes and signals ------------------------------------------------------------------------


def test_a_forked_child_holds_no_copy_and_tells_nothing(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        def held():
            return sum("inotify" in os.readlink(f"/proc/self/fd/{name}")
                       for name in os.listdir("/proc/self/fd")
                       if os.path.exists(f"/proc/self/fd/{name}"))

        os.mkdir("w")
        with Communicator() as communicator:
            before = held()
            watch = FileWatch("w", lambda event: (say(event.name), communicator.stop()),
                              events="created")
            communicator.add_connection(watch)
            say(held() - before)
            child = os.fork()
            if not child:
                open("w/by the child", "w").close()
                say("in the child:", held() - before, watch.close())
                os._exit(0)
            os.waitpid(child, 0)
            communicator.run()
            say(subprocess.run(["ls", "/proc/self/fd"], capture_output=True).stdout.count(b"\\n"))
        say(held() - before)
        """,
    )
    assert printed == ["1", "in the child: 0 None", "by the child", "4", "0"]


def test_a_profiler_disturbs_nothing(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        beats, names = [0], []
        signal.signal(signal.SIGPROF, lambda *ignored: beats.__setitem__(0, beats[0] + 1))
        signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
        os.mkdir("w")

        def told(event):
            names.append(event.name)
            if event.name == "last":
                communicator.stop()

        def make():
            made[0] += 1
            for number in range(100):
                open(f"w/{made[0]}-{number}", "w").close()
            if made[0] == 50:
                open("w/last", "w").close()
                timer.close()

        made = [0]
        with Communicator() as communicator:
            communicator.add_connection(FileWatch("w", told, events="updated", recursive=True))
            timer = communicator.every(0.001, make)
            communicator.run()
        signal.setitimer(signal.ITIMER_PROF, 0)
        say(len(names), len(set(names)), beats[0] > 10)
        """,
    )
    assert printed == ["5001 5001 True"]


# --- limits ---------------------------------------------------------------------------------------


@pytest.fixture
def own_user(need_tool: Callable[..., str]) -> tuple[str, ...]:
    """Begins a command line in a user namespace, whose limits are its own."""
    before = (need_tool("unshare", package="util-linux"), "-U", "-r")
    if subprocess.run([*before, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make a user namespace")
    return before


def limited(own_user: tuple[str, ...], name: str, value: int) -> tuple[str, ...]:
    return (*own_user, "sh", "-c", f'echo {value} > /proc/sys/user/{name} && exec "$0" "$@"')


def test_the_limit_of_instances_is_named(tmp_path: Path, own_user: tuple[str, ...]) -> None:
    text = """
        watches = [FileWatch("/") for _ in range(2)]
        for _ in range(2):
            try:
                FileWatch("/")
            except FileWatchError as error:
                say(error, error.errno)
            watches.pop().close()
            watches.append(FileWatch("/"))
    """
    printed = run(tmp_path, text, *limited(own_user, "max_inotify_instances", 2))
    sentence = "this user has as many watches as can be: user.max_inotify_instances is 2 24"
    assert printed == [f"files cannot be watched: {sentence}"] * 2


def test_the_limit_of_folders_is_named_at_the_start_and_told_later(
    tmp_path: Path, own_user: tuple[str, ...]
) -> None:
    text = """
        depth = len(os.getcwd().split("/"))
        os.mkdir("w")
        with Communicator() as communicator:
            def told(event):
                say(*sorted(event.kinds), event.path.removeprefix(os.getcwd()))
                if event.name == "end":
                    communicator.stop()

            watch = FileWatch("w", told, recursive=True, events="created")
            communicator.add_connection(watch)
            for number in range(10):
                os.mkdir(f"w/{number}")
            open("w/end", "w").close()
            communicator.run()
            watch.close()
            try:
                FileWatch("w", recursive=True)
            except FileWatchError as error:
                say(str(error).replace(os.getcwd(), ""), error.errno)
    """
    depth = len(tmp_path.parts)
    before = limited(own_user, "max_inotify_watches", depth + 4)
    printed = run(tmp_path, text, *before)
    folder = str(tmp_path)
    sentence = re.escape(
        "cannot be watched: this user watches as many files and folders as can be: "
        f"user.max_inotify_watches is {depth + 4}"
    )
    assert sum(line.startswith("created /w/") for line in printed) == 11
    assert 1 <= sum(line.startswith("lost_sync /w/") for line in printed) <= 10
    assert (
        len([line for line in printed if re.fullmatch(f"'{folder}/w/\\d' {sentence}", line)]) == 1
    )
    assert re.fullmatch(f"'/w/\\d' {sentence} 28", printed[-1])


def test_a_lack_of_descriptors_is_no_lack_of_watches(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        FileWatch("/").close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        try:
            FileWatch("/")
        except FileWatchError as error:
            say(error, error.errno)
        for each in held:
            os.close(each)
        """,
    )
    assert printed == ["files cannot be watched: Too many open files 24"]


def test_what_may_not_be_read_is_named(open_folder: Path) -> None:
    printed = run(
        open_folder,
        """
        for place in ("w/open", "w/shut/in it"):
            os.makedirs(place)
        os.chmod("w/shut", 0o700)
        import fcntl, termios
        FileWatch("/").close()  # another user may not read the modules that are still to come
        former = os.getresuid()
        if os.getuid() == 0:
            os.chown("w/open", 65534, 65534)
            os.seteuid(65534)
        else:
            os.chmod("w/shut", 0)
        for place in ("w/shut", "w/shut/in it", "w/shut/in it/file"):
            try:
                FileWatch(place)
            except FileWatchError as error:
                say(str(error).replace(os.getcwd(), ""), error.errno)
        with Communicator() as communicator:
            def told(event):
                say(event.name)
                communicator.stop()

            communicator.add_connection(FileWatch("w", told, events="created", recursive=True))
            open("w/open/file", "w").close()
            communicator.run()
        os.seteuid(former[0])  # coverage writes its file at the end
        """,
    )
    if os.getuid() != 0:
        (open_folder / "w" / "shut").chmod(0o700)
    denied = "cannot be watched: Permission denied"
    below = [f"'/w/shut{rest}' {denied} 13" for rest in ("", "/in it", "/in it/file")]
    assert printed == [*below, f"'{open_folder}/w/shut' {denied}", "file"]


# --- mounts ---------------------------------------------------------------------------------------


@pytest.fixture
def own_mounts(own_user: tuple[str, ...]) -> tuple[str, ...]:
    """Begins a command line with mounts of its own."""
    before = (*own_user, "-m")
    if subprocess.run([*before, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make a mount namespace")
    return before


def test_what_is_unmounted_is_told(tmp_path: Path, own_mounts: tuple[str, ...]) -> None:
    text = """
        def mount(place):
            os.makedirs(place)
            subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
            os.mkdir(f"{place}/in it")
            open(f"{place}/in it/file", "w").close()

        def short(event):
            kinds = "+".join(sorted(event.kinds)) or "-"
            flags = [name for name in ("folder", "gone", "unmounted") if getattr(event, name)]
            return " ".join([kinds, event.path.removeprefix(os.getcwd()), *flags])

        def told(event):
            say(short(event))
            if event.name == "end":
                communicator.stop()

        mount("whole")
        mount("w/inner")
        with Communicator() as communicator:
            for place in ("whole", "w"):
                communicator.add_connection(FileWatch(place, told, recursive=True))
            for place in ("whole", "w/inner"):
                subprocess.run(["umount", place], check=True)
            open("w/inner/below", "w").close()
            open("w/end", "w").close()
            communicator.run()
    """
    printed = run(tmp_path, text, *own_mounts)
    assert "deleted /whole folder gone unmounted" in printed
    assert "- /w/inner folder unmounted" in printed
    assert printed.count("created /w/inner/below") == 1
    assert len([line for line in printed if "unmounted" in line]) == 2


def test_a_folder_mounted_in_itself_is_told_once(
    tmp_path: Path, own_mounts: tuple[str, ...]
) -> None:
    text = """
        os.makedirs("w/a")
        subprocess.run(["mount", "--bind", "w", "w/a"], check=True)
        with Communicator() as communicator:
            def told(event):
                say(*sorted(event.kinds), event.path.removeprefix(os.getcwd()))
                communicator.stop()

            communicator.add_connection(FileWatch("w", told, recursive=True, events="created"))
            open("w/a/file", "w").close()
            communicator.run()
    """
    assert run(tmp_path, text, *own_mounts) == ["created /w/file"]
