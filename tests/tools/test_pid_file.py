"""A file with a process id: held by one, never half written, gone at the end."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import LIMIT, environment

from edgevent import PidFile, PidFileError

HOLDER = """
import signal, sys
from edgevent import PidFile
with PidFile(sys.argv[1]):
    print("held", flush=True)
    signal.sigwait([signal.SIGTERM])
"""


def test_it_has_the_process_id_and_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.pid"
    with PidFile(path) as held:
        assert path.read_text(encoding="ascii") == f"{os.getpid()}\n"
        assert path.stat().st_mode & 0o7777 == 0o644
        assert os.listdir(tmp_path) == ["a.pid"]
        assert (held.path, held.pid) == (str(path), os.getpid())
        assert repr(held) == f"<PidFile {path} held>"
    assert os.listdir(tmp_path) == []
    held.close()
    assert repr(held) == f"<PidFile {path} closed>"


def test_it_is_refused_while_a_process_holds_it_and_replaced_when_that_is_gone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.pid"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        sentence = f"{path}: process {holder.pid} lives and holds it"
        with pytest.raises(PidFileError, match=sentence) as caught:
            PidFile(path)
        assert caught.value.errno == errno.EAGAIN
        assert os.listdir(tmp_path) == ["a.pid"]
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=LIMIT)
        holder.stdout.close()
    assert path.read_text(encoding="ascii") == f"{holder.pid}\n"
    with PidFile(path):
        assert path.read_text(encoding="ascii") == f"{os.getpid()}\n"


def test_it_is_refused_to_the_same_process_as_well(tmp_path: Path) -> None:
    with PidFile(tmp_path / "a.pid"), pytest.raises(PidFileError, match="lives and holds it"):
        PidFile(tmp_path / "a.pid")


@pytest.mark.parametrize(
    "content",
    ["", "\n", "17\n", pytest.param(f"{os.getpid()}", id="its own"), f"{'9' * 10}\n"],
)
def test_a_file_that_was_left_behind_is_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.pid"
    path.write_text(content, encoding="ascii")
    with PidFile(path):
        assert path.read_text(encoding="ascii") == f"{os.getpid()}\n"


def make_link(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (Path.mkdir, "is there, is no file with a process id, and stays"),
        (os.mkfifo, "is there, is no file with a process id, and stays"),
        (make_link, "is a symbolic link: a file was expected"),
        (lambda path: path.write_text("root:x:0:0"), "is no file with a process id, and stays"),
        (lambda path: path.write_text("1\n2\n"), "is no file with a process id, and stays"),
    ],
)
def test_what_is_no_such_file_stays(
    tmp_path: Path, make: Callable[[Path], object], sentence: str
) -> None:
    path = tmp_path / "a.pid"
    make(path)
    before = path.lstat()
    with pytest.raises(PidFileError, match=sentence):
        PidFile(path)
    assert path.lstat().st_ino == before.st_ino
    assert os.listdir(tmp_path) == ["a.pid"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.pid"
    with pytest.raises(PidFileError, match=f"{path}: No such file or directory") as caught:
        PidFile(path)
    assert caught.value.errno == errno.ENOENT


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, own_namespaces: Callable[..., list[str]]
) -> None:
    program = (
        "import os\nfrom edgevent import PidFile, PidFileError\n"
        "open('fill', 'wb', 0).write(b'x' * 65536)\n"
        "try:\n    PidFile('a.pid')\nexcept PidFileError as error:\n"
        "    print(error, os.listdir())\n"
    )
    script = f'mount -t tmpfs -o size=64k none {tmp_path} && cd {tmp_path} && exec "$@"'
    done = subprocess.run(
        [*own_namespaces("-m"), "sh", "-c", script, "sh", sys.executable, "-c", program],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.stdout == f"{tmp_path}/a.pid: No space left on device ['fill']\n", done.stderr


def test_another_ones_file_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.pid"
    with PidFile(path):
        path.unlink()
        with PidFile(path) as other:
            pass
        path.write_text("17\n", encoding="ascii")
    assert path.exists()
    assert other.path == str(path)


def test_a_file_that_has_gone_with_its_folder_is_no_trouble(tmp_path: Path) -> None:
    held = PidFile(tmp_path / "folder.pid")
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(moved)
    held.close()  # it is not there: there is nothing to remove
    assert (moved / "folder.pid").exists()
    moved.rename(tmp_path)


def test_a_forked_child_does_not_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pid"
    reader, writer = os.pipe()
    held = PidFile(path)
    child = os.fork()
    if not child:
        os.close(writer)
        held.close()
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        assert path.exists()
        with pytest.raises(PidFileError, match="holds it"):
            PidFile(path)
        held.close()
        PidFile(path).close()
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def test_of_many_that_start_at_once_one_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pid"
    program = (
        "import sys\nfrom edgevent import PidFile, PidFileError\nsys.stdin.read(1)\n"
        "try:\n    held = PidFile(sys.argv[1])\n"
        "except PidFileError as error:\n    print('refused', flush=True)\n"
        "else:\n    print('held', flush=True)\n"
        "sys.stdin.read(1)\n"
    )
    for before in (None, "17\n"):
        if before:
            path.write_text(before, encoding="ascii")
        several = [
            subprocess.Popen(
                [sys.executable, "-c", program, str(path)],
                env=environment(tmp_path),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        try:
            for one in several:
                assert one.stdin is not None
                one.stdin.write("x")
                one.stdin.flush()
            answers = [one.stdout.readline() for one in several if one.stdout]
            assert sorted(answers) == ["held\n"] + 3 * ["refused\n"]
        finally:
            for one in several:
                one.communicate(timeout=LIMIT)
        path.unlink()


def test_a_file_that_may_not_be_removed_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = PidFile(tmp_path / "a.pid")
    tmp_path.chmod(0o500)
    user = os.geteuid()
    try:
        if not user:
            os.seteuid(65534)
        held.close()
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o700)
    assert caplog.messages == [f"{held.path}: not removed: Permission denied"]
    with PidFile(tmp_path / "a.pid"):
        pass


@pytest.mark.parametrize("times", [1, 1000])
def test_another_process_may_be_quicker_by_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    path = tmp_path / "a.pid"
    link, left = os.link, [times]

    def late(source: str, target: str) -> None:
        if left[0]:  # the other one has made its file, and then ended without a word
            left[0] -= 1
            path.write_text("17\n", encoding="ascii")
            try:
                link(source, target)
            finally:
                path.unlink()
        link(source, target)

    monkeypatch.setattr("os.link", late)
    if times == 1:
        with PidFile(path):
            assert path.read_text(encoding="ascii") == f"{os.getpid()}\n"
    else:
        with pytest.raises(PidFileError, match="is made and removed by others again and again"):
            PidFile(path)
    assert os.listdir(tmp_path) == []


def test_a_file_that_was_replaced_while_it_was_looked_at_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pid"
    path.write_text("17\n", encoding="ascii")
    others: list[PidFile] = []
    flock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        if not others:
            monkeypatch.undo()
            others.append(PidFile(path))
        flock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", late)
    with pytest.raises(PidFileError, match=f"process {os.getpid()} lives and holds it"):
        PidFile(path)
    others[0].close()
    assert os.listdir(tmp_path) == []
