"""Unix sockets: what stands at the path, and who may connect."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent import subprocess
from network_ground import LONE, run_program

from edgevent import Address, ListenError
from edgevent.transport.listen import Listener, listen


def listen_at(path: Path | str, **settings: Any) -> Listener:
    (listener,) = listen(Address.parse(f"unix:{path}"), **settings)
    return listener


def is_open(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def live(path: Path) -> Iterator[socket.socket]:
    """Somebody else's server at the path."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen(0)
        yield sock


def refuse(path: Path, reason: str, code: int | None) -> None:
    """Shows that a server is refused, and that what is at the path stays as it is."""
    before = os.lstat(path)
    with pytest.raises(ListenError) as caught:
        listen_at(path)
    assert str(caught.value) == f"unix:{path}: {reason}"
    assert caught.value.errno == code
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


# --- what stands at the path ---------------------------------------------------------------------


def test_a_free_path_is_listened_to(path: Path) -> None:
    listener = listen_at(path)
    assert is_open(path)
    assert listener.local == f"unix:{path}"
    assert listener.port == 0
    listener.close()
    assert not path.exists()


def test_a_stale_socket_is_replaced(path: Path, live: socket.socket) -> None:
    live.close()
    assert path.is_socket()
    listener = listen_at(path)
    assert is_open(path)
    listener.close()


def test_a_stale_datagram_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
    listen_at(path).close()


def test_a_live_server_keeps_its_path(path: Path, live: socket.socket) -> None:
    refuse(path, "a live server has it: this process", errno.EADDRINUSE)
    live.accept()[0].close()  # the connection that has asked
    assert is_open(path)


def test_a_live_server_whose_queue_is_full_keeps_its_path(path: Path, live: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.connect(str(path))
        second.setblocking(False)
        assert second.connect_ex(str(path)) == errno.EAGAIN
        refuse(path, "a live server has it", errno.EADDRINUSE)


def test_a_live_datagram_socket_keeps_its_path(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        refuse(path, "a live server has it", errno.EADDRINUSE)


def test_two_servers_of_one_program_do_not_share_a_path(path: Path) -> None:
    listener = listen_at(path)
    refuse(path, "a live server has it: this process", errno.EADDRINUSE)
    listener.close()


def make_file(path: Path) -> None:
    path.write_text("precious")


def make_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def make_link_to_a_stale_socket(path: Path) -> None:
    target = path.parent / "target"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(target))
    path.symlink_to(target)


@pytest.mark.parametrize(
    "make",
    [make_file, Path.mkdir, os.mkfifo, make_link_to_nothing, make_link_to_a_stale_socket],
    ids=["file", "folder", "fifo", "link to nothing", "link to a stale socket"],
)
def test_what_is_no_socket_is_left_alone(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    refuse(path, "there is something that is no socket", errno.EADDRINUSE)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match=f"^unix:{tmp_path}/no/s: No such file or directory$"):
        listen_at(tmp_path / "no" / "s")


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ListenError, match=f"^unix:{tmp_path}/file/s: Not a directory$"):
        listen_at(tmp_path / "file" / "s")


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="x': a Unix socket's path of at most 107 bytes was"):
        listen_at(tmp_path / ("x" * 108))


def test_the_longest_path_is_listened_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listener = listen_at("x" * 107)
    assert is_open(Path("x" * 107))
    listener.close()


AS_NOBODY = """
import os, pwd, sys
from edgevent import Address, ListenError
from edgevent.transport.listen import listen
user = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
try:
    listen(Address.parse("unix:" + sys.argv[1]))[0].close()
    print("listening")
except ListenError as error:
    print(error)
"""


def test_a_folder_of_another_user_is_refused(open_folder: Path, nobody: Any) -> None:
    path = open_folder / "s"
    assert run_program(AS_NOBODY, path) == f"unix:{path}: Permission denied\n"


def test_a_socket_of_another_user_is_refused(open_folder: Path, nobody: Any) -> None:
    path = open_folder / "s"
    listener = listen_at(path)
    open_folder.chmod(0o777)
    assert run_program(AS_NOBODY, path) == f"unix:{path}: a socket of another user is there\n"
    assert is_open(path)
    listener.close()


def test_a_folder_that_cannot_be_listed_is_no_hindrance(open_folder: Path, nobody: Any) -> None:
    open_folder.chmod(0o733)
    assert run_program(AS_NOBODY, open_folder / "s") == "listening\n"
    assert not (open_folder / "s").exists()


# --- who may connect -----------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
@pytest.mark.parametrize(
    ("settings", "mode"),
    [({}, 0o600), ({"group": os.getgid()}, 0o660), ({"mode": 0o666}, 0o666), ({"mode": 0}, 0)],
    ids=["default", "group", "open", "closed"],
)
def test_the_mode_is_exact(path: Path, umask: int, settings: dict[str, Any], mode: int) -> None:
    former = os.umask(umask)
    try:
        listener = listen_at(path, **settings)
    finally:
        os.umask(former)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    listener.close()


def test_the_group_is_set_by_name(path: Path, nobody: Any) -> None:
    listener = listen_at(path, group="nogroup")
    assert path.stat().st_gid == nobody.pw_gid
    assert path.stat().st_uid == 0
    listener.close()


def test_a_group_that_does_not_exist_is_named(path: Path) -> None:
    with pytest.raises(ListenError, match=f"^unix:{path}: there is no group 'nosuchgroup'$"):
        listen_at(path, group="nosuchgroup")
    assert not path.exists()


OTHER_GROUP = AS_NOBODY.replace("argv[1])", "argv[1]), group=0")


def test_a_group_that_may_not_be_given_leaves_no_file(open_folder: Path, nobody: Any) -> None:
    path = open_folder / "s"
    open_folder.chmod(0o777)
    assert run_program(OTHER_GROUP, path) == f"unix:{path}: Operation not permitted\n"
    assert not path.exists()


LISTEN_ONCE = """
import sys
from edgevent import Address
from edgevent.transport.listen import listen
listen(Address.parse("unix:" + sys.argv[1]), group=0)[0].close()
"""


def test_mode_and_group_are_set_before_it_listens_and_the_file_goes_before_it_is_closed(
    need_tool: Callable[..., str], path: Path, tmp_path: Path
) -> None:
    strace = need_tool("strace", package="strace")
    calls = (
        "trace=socket,bind,chmod,fchmod,fchmodat,chown,lchown,fchownat,listen,unlink,unlinkat,close"
    )
    run_program(LISTEN_ONCE, path, before=(strace, "-o", f"{tmp_path}/log", "-e", calls))
    log = (tmp_path / "log").read_text()
    found = re.search(rf"bind\((\d+), {{sa_family=AF_UNIX, sun_path=\"{path}\"", log)
    assert found, log
    number = found[1]
    plain = {"lchown": "chown", "fchownat": "chown", "fchmodat": "chmod", "unlinkat": "unlink"}
    ours = [
        plain.get(name := line.partition("(")[0], name)
        for line in log[found.start() :].splitlines()
        if str(path) in line or re.match(rf"(listen|close)\({number}[,)]", line)
    ]
    assert ours[:6] == ["bind", "chown", "chmod", "listen", "unlink", "close"]
    # A connect may pass its check before the mode is set, and end after the listen.
    assert re.search(rf"fchmod\({number}, 000\) += 0\n\Z", log[: found.start()])


KNOCK = """
import errno, os, pwd, socket, sys
user = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
found = {}
print("ready", flush=True)
while not os.path.exists(sys.argv[1] + ".end"):
    with socket.socket(socket.AF_UNIX) as sock:
        code = errno.errorcode.get(sock.connect_ex(sys.argv[1]), "connected")
    found[code] = found.get(code, 0) + 1
print(sorted(found))
"""


def test_another_user_can_connect_at_no_moment(open_folder: Path, nobody: Any) -> None:
    path = open_folder / "s"
    former = os.umask(0)
    try:
        with subprocess.Popen(
            [sys.executable, "-c", LONE + KNOCK, str(path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout.readline() == "ready\n"
            for _ in range(2000):
                listen_at(path).close()
            (open_folder / "s.end").touch()
            found = child.stdout.readline()
    finally:
        os.umask(former)
    # Not once was it let so far as to be refused for want of a listener.
    assert found in ("['EACCES']\n", "['EACCES', 'ENOENT']\n")


# --- abstract names ------------------------------------------------------------------------------


def test_an_abstract_name_is_listened_to_and_has_no_file(tmp_path: Path) -> None:
    listener = listen_at(f"@{tmp_path}")
    assert listener.local == f"unix:@{tmp_path}"
    assert is_open(Path(f"\0{tmp_path}"))
    assert list(tmp_path.iterdir()) == []
    whose = "a live server has it: this process"
    with pytest.raises(ListenError, match=f"^unix:@{tmp_path}: {whose}$") as caught:
        listen_at(f"@{tmp_path}")
    assert caught.value.errno == errno.EADDRINUSE
    listener.close()
    listen_at(f"@{tmp_path}").close()
