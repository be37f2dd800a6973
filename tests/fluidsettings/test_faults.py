"""The daemon's file under faults: kill -9, a full disk, one that cannot be written, I/O errors."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest
from gevent import socket
from network_ground import run_program
from running import ROOT
from settings_ground import counts, start, tell, words_of
from tool_ground import failed

from edgevent.fluidsettings.database import Database

P = "FLUID_SETTINGS_"
NAME = "testsvc::name"


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_what_was_acknowledged_is_there_after_a_kill(times: int, tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for number in range(times):
        daemon = start(tmp_path, "--listen=tcp://127.0.0.1:0", "--history=1000")
        host, port = daemon.address.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port))) as sock:
            values = [f"{number}-{put}" for put in range(800 // times)]
            lines = "".join(f"{P}PUT name={NAME};value={value}\n" for value in values)
            writer = gevent.spawn(sock.sendall, lines.encode())
            data = b""
            # In the middle of the writes, each time somewhere else.
            while data.count(b"\n") < 1 + number * len(values) // (2 * times):
                data += sock.recv(1000)
            os.kill(daemon.pid, signal.SIGKILL)
            while part := _receive(sock):
                data += part
            writer.kill()
        daemon.kill()
        daemon.close()
        assert b"INVALID" not in data
        # An answer that was cut off in the middle is none.
        acknowledged.update(values[: data.count(b"\n")])
    database = Database(tmp_path / "settings.db")
    try:
        found = {one.entry.value for one in database.history(NAME, 1000)}
    finally:
        database.close()
    assert acknowledged
    assert acknowledged - found == set()


def _receive(sock: socket.socket) -> bytes:
    try:
        return bytes(sock.recv(65536))
    except ConnectionError:
        return b""


# In a mount namespace with a disk of 64 KiB.
FULL = """
import os, signal, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
from pathlib import Path
from settings_ground import counts, start, tell

P, NAME = "FLUID_SETTINGS_", "testsvc::name"
folder = Path(sys.argv[2])
disk = f"--database={folder}/disk/settings.db"


def put(priority, letter):
    fields = f"name={NAME};priority={priority};value={letter * 1000}"
    (answer,) = tell(daemon.address, f"{P}PUT {fields}")
    if answer.startswith(f"{P}UPDATED"):
        return True
    assert answer == f"INVALID command={P}PUT;message={folder}/disk/settings.db: {FULL}", answer
    return False


FULL = "database or disk is full"
kept = {}
daemon = start(folder, "--listen=tcp://127.0.0.1:0", disk, "--history=0")
for priority in range(90):
    if not put(priority, "a"):
        break
    kept[priority] = "a"
else:
    raise AssertionError("the disk was never full")
print("kept", "many" if len(kept) >= 10 else len(kept))
failures = counts(daemon.address)["failures"]
assert failures == "1", failures
assert "1 value could not be stored" in daemon.output


def check(daemon):
    lines = [f"{P}GET name={NAME};priority={priority}" for priority in range(90)]
    for priority, line in enumerate(tell(daemon.address, *lines)):
        if priority in kept:
            assert line.endswith(f"value={kept[priority] * 1000}"), line
        else:
            assert line.startswith(f"{P}NOT_SET"), line


check(daemon)
os.kill(daemon.pid, signal.SIGKILL)
daemon.kill()
daemon.close()
with start(folder, "--listen=tcp://127.0.0.1:0", disk, "--history=0") as daemon:
    check(daemon)
    for priority in list(kept)[:3]:
        tell(daemon.address, f"{P}DELETE name={NAME};priority={priority}")
    (folder / "disk" / "more").unlink()
    assert put(95, "b")  # there is room again
    print("same", sorted(os.listdir(folder / "disk")))
"""


def test_a_full_disk_is_answered_and_counted_and_loses_nothing(
    tmp_path: Path, own_namespaces: Callable[..., list[str]]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    setup = (
        f"mount -t tmpfs -o size=64k none {disk} && head -c 16384 /dev/zero > {disk}/more"
        ' && exec "$0" "$@"'
    )
    before = (*own_namespaces("-m"), "sh", "-c", setup)
    printed = run_program(FULL, ROOT, tmp_path, before=before)
    assert printed == "kept many\nsame ['settings.db', 'settings.db-wal']\n"


def test_a_folder_that_cannot_be_written_is_told_at_the_start(
    tmp_path: Path, own_namespaces: Callable[..., list[str]]
) -> None:
    with start(tmp_path, "--listen=tcp://127.0.0.1:0"):
        pass
    setup = f'mount -t tmpfs -o ro,size=64k none {tmp_path}/defs/../disk && exec "$0" "$@"'
    (tmp_path / "disk").mkdir()
    words = words_of(tmp_path, f"--database={tmp_path}/disk/settings.db")
    done = subprocess.run(
        [*own_namespaces("-m"), "sh", "-c", setup, *words],
        capture_output=True,
        text=True,
        timeout=30.0,
        check=False,
    )
    line = done.stderr.splitlines()[-1]
    assert failed("fluid-settings", _only(done, line), 1) == (
        f"{tmp_path}/disk/settings.db: Read-only file system"
    )


def _only(done: subprocess.CompletedProcess[str], line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout, f"{line}\n")


@pytest.mark.parametrize(
    ("call", "error"),
    [("fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "EROFS"), ("pwrite64", "ENOSPC")],
)
def test_a_write_that_fails_is_answered_and_counted_and_changes_nothing(
    call: str, error: str, tmp_path: Path, need_tool: Callable[..., str]
) -> None:
    strace = need_tool("strace", package="strace")
    with start(tmp_path, "--listen=tcp://127.0.0.1:0") as daemon:
        assert len(tell(daemon.address, f"{P}PUT name={NAME};value=before")) == 1
    # The first that the daemon writes is this value.
    inject = ["-f", "-D", "-qq", "-o", f"{tmp_path}/trace", "--seccomp-bpf", f"-etrace={call}"]
    fault = f"-einject={call}:error={error}:when=2..9"
    before = (strace, *inject, fault)
    with start(tmp_path, "--listen=tcp://127.0.0.1:0", before=before) as daemon:
        answers = [
            tell(daemon.address, f"{P}PUT name={NAME};value=value-{number}")[0]
            for number in range(12)
        ]
        wrong = [one for one in answers if one.startswith(f"INVALID command={P}PUT;message=")]
        good = [n for n, one in enumerate(answers) if one.startswith(f"{P}UPDATED")]
        assert wrong
        assert len(wrong) + len(good) == 12
        assert counts(daemon.address)["failures"] == str(len(wrong))
        wanted = f"value-{good[-1]}" if good else "before"
        (line,) = tell(daemon.address, f"{P}GET name={NAME}")
        assert line.endswith(f"value={wanted}")
    with start(tmp_path, "--listen=tcp://127.0.0.1:0") as daemon:
        (line,) = tell(daemon.address, f"{P}GET name={NAME}")
        assert line.endswith(f"value={wanted}")
