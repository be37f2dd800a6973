"""What a service and its manager tell each other: a real notify socket, real descriptors."""

from __future__ import annotations

import array
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest
from running import EXAMPLES, LIMIT, environment

from edgevent import Client, ListenError, Message, Notifier, OptionError, inherited_sockets
from edgevent.systemd import InheritedSocket
from edgevent.testing.clock import settle


class Manager:
    """The end of the notify socket that the service manager has."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.sock.settimeout(LIMIT)

    def heard(self) -> dict[str, str]:
        """The fields of the next notification."""
        text = self.sock.recv(65536).decode()
        return dict(line.split("=", 1) for line in text.split("\n"))

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(str(tmp_path / "notify")) as manager:
        yield manager


@pytest.fixture
def notifier(manager: Manager) -> Iterator[Notifier]:
    with Notifier(manager.address) as notifier:
        yield notifier


# --- what is told ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tell", "heard"),
    [
        (lambda n: n.ready(), {"READY": "1"}),
        (lambda n: n.ready("serves"), {"READY": "1", "STATUS": "serves"}),
        (lambda n: n.stopping("ends"), {"STOPPING": "1", "STATUS": "ends"}),
        (lambda n: n.status("a\nREADY=1 \x1b[0m"), {"STATUS": "a\\nREADY=1 \\x1b[0m"}),
        (lambda n: n.status("x" * 5000), {"STATUS": "x" * 1000}),
        (lambda n: n.status(""), {"STATUS": ""}),
        (lambda n: n.watchdog(), {"WATCHDOG": "1"}),
        (lambda n: n.trip_watchdog(), {"WATCHDOG": "trigger"}),
        (lambda n: n.failed(errno.EADDRINUSE, "no port"), {"ERRNO": "98", "STATUS": "no port"}),
        (lambda n: n.main_pid(17), {"MAINPID": "17"}),
        (lambda n: n.extend_timeout(2.5), {"EXTEND_TIMEOUT_USEC": "2500000"}),
    ],
)
def test_the_manager_hears_it_as_the_protocol_says(
    manager: Manager, notifier: Notifier, tell: Callable[[Notifier], bool], heard: dict[str, str]
) -> None:
    assert tell(notifier)
    assert manager.heard() == heard


def test_a_reload_begins_with_the_time(manager: Manager, notifier: Notifier) -> None:
    before = time.monotonic_ns() // 1000
    assert notifier.reloading()
    heard = manager.heard()
    assert before <= int(heard.pop("MONOTONIC_USEC")) <= time.monotonic_ns() // 1000
    assert heard == {"RELOADING": "1"}


def test_an_abstract_name_is_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Manager(f"@{tmp_path}") as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        with Notifier.from_environment() as notifier:
            assert notifier.is_active
            assert notifier.ready()
        assert manager.heard() == {"READY": "1"}
    assert "NOTIFY_SOCKET" not in os.environ


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    with Notifier.from_environment() as notifier:
        assert not notifier.is_active
        assert notifier.watchdog_interval is None
        assert not notifier.ready()
        assert not notifier.barrier()
        assert repr(notifier) == "<Notifier of no manager>"


@pytest.mark.parametrize("address", ["vsock:2:1234", "relative"])
def test_a_kind_of_socket_that_is_not_known_is_said(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Notifier(address) as notifier:
        assert not notifier.ready()
    assert "an absolute path or @NAME was expected in NOTIFY_SOCKET" in caplog.text


def test_a_manager_that_is_gone_is_told_of_once(
    manager: Manager, notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    manager.sock.close()
    assert not notifier.ready()
    assert not notifier.watchdog()
    lines = [f"service manager {manager.address}: not told: Connection refused"]
    assert [one.getMessage() for one in caplog.records] == lines
    os.unlink(manager.address)
    with Manager(manager.address) as again:
        assert notifier.watchdog()
        assert again.heard() == {"WATCHDOG": "1"}
    assert not notifier.watchdog()
    assert [one.getMessage() for one in caplog.records] == 2 * lines


def test_what_finds_no_room_leaves_later_and_never_waits(
    manager: Manager, notifier: Notifier
) -> None:
    sent = 0
    while notifier.status("full"):
        sent += 1
    assert not notifier.reloading()
    assert not notifier.ready("back")
    assert not notifier.watchdog()
    for _ in range(sent):
        assert manager.heard() == {"STATUS": "full"}
    assert notifier.watchdog()
    assert manager.heard() == {"STATUS": "back", "READY": "1", "WATCHDOG": "1"}
    assert notifier.watchdog()
    assert manager.heard() == {"WATCHDOG": "1"}


def test_a_forked_child_tells_nothing(manager: Manager, notifier: Notifier) -> None:
    child = os.fork()
    if not child:
        os._exit(17 if not notifier.ready() else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
    assert notifier.watchdog()
    assert manager.heard() == {"WATCHDOG": "1"}


def test_the_barrier_ends_when_the_manager_has_come_so_far(
    manager: Manager, notifier: Notifier
) -> None:
    assert notifier.ready()
    waiting = gevent.spawn(notifier.barrier, LIMIT)
    settle()
    assert manager.heard() == {"READY": "1"}
    data, control, _, _ = manager.sock.recvmsg(100, socket.CMSG_SPACE(4))
    assert data == b"BARRIER=1"
    settle()
    assert not waiting.ready()
    os.close(array.array("i", control[0][2])[0])
    assert waiting.get(timeout=LIMIT) is True


def test_the_barrier_needs_room_for_what_was_told_before(notifier: Notifier) -> None:
    while notifier.status("full"):
        pass
    assert notifier.barrier() is False


def test_the_barrier_has_a_limit(manager: Manager, notifier: Notifier) -> None:
    assert notifier.barrier(0.01) is False
    manager.sock.close()
    assert notifier.barrier(LIMIT) is False


@pytest.mark.parametrize(
    ("limit", "pid", "interval"),
    [
        ("3000000", "", 1.5),
        pytest.param("3000000", str(os.getpid()), 1.5, id="its own"),
        ("3000000", "1", None),
        ("0", "", None),
        ("soon", "", None),
        ("", "", None),
    ],
)
def test_the_watchdog_is_told_twice_in_its_time(
    manager: Manager,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    pid: str,
    interval: float | None,
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    for name, value in {"WATCHDOG_USEC": limit, "WATCHDOG_PID": pid}.items():
        if value:
            monkeypatch.setenv(name, value)
    with Notifier.from_environment() as notifier:
        assert notifier.watchdog_interval == interval
        assert notifier.watchdog_timeout == (interval or 0.0) * 2
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


# --- sockets that are open already ----------------------------------------------------------------


def listen_fds(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_there_are_none_for_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    listen_fds(monkeypatch, LISTEN_PID="1", LISTEN_FDS="1")
    assert inherited_sockets() == []
    assert "LISTEN_FDS" not in os.environ
    assert inherited_sockets() == []


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"LISTEN_FDS": "two"}, "environment variable LISTEN_FDS: 'two': expected a number"),
        ({"LISTEN_FDS": "-1"}, "environment variable LISTEN_FDS: '-1': expected a number"),
        (
            {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"},
            "environment variable LISTEN_FDNAMES: 1 names for 2 descriptors",
        ),
        ({"LISTEN_FDS": "65000"}, "environment variable LISTEN_FDS: 65000: descriptor "),
    ],
)
def test_variables_that_are_wrong_are_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    listen_fds(monkeypatch, **variables)
    numbers = [number for number in map(int, os.listdir("/proc/self/fd")) if is_open(number)]
    before = {number: os.get_inheritable(number) for number in numbers}
    try:
        with pytest.raises(OptionError) as caught:
            inherited_sockets()
    finally:
        for number, inheritable in before.items():
            os.set_inheritable(number, inheritable)
    assert str(caught.value).startswith(sentence)


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_what_is_no_socket_says_so(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    found = InheritedSocket(descriptor, "folder")
    with pytest.raises(ListenError, match=f"descriptor {descriptor} is no socket"):
        found.address  # noqa: B018 - it is asked for its error
    found.close()
    with pytest.raises(ListenError, match=f"socket {descriptor}: no such descriptor is open"):
        found.address  # noqa: B018


# Puts its descriptors from 3 on, as a service manager does, and becomes the program.
ACTIVATE = """
import fcntl, os, sys
names, numbers, command = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
moved = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in numbers]
for place, number in enumerate(moved, 3):
    os.dup2(number, place)
os.closerange(3 + len(moved), 200)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(moved)), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""


@contextmanager
def activated(
    program: Path, sockets: list[tuple[str, socket.socket]], folder: Path, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Starts a program with sockets, as a service manager does; it does not outlive the block."""
    numbers = [found.fileno() for _, found in sockets]
    words = [":".join(name for name, _ in sockets), ",".join(map(str, numbers))]
    service = subprocess.Popen(
        [sys.executable, "-c", ACTIVATE, *words, sys.executable, str(program)],
        env={**environment(folder), **variables},
        pass_fds=numbers,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield service
    finally:
        service.kill()
        service.communicate()


def address_of(sock: socket.socket) -> str:
    kind = "udp" if sock.type == socket.SOCK_DGRAM else "tcp"
    return f"{kind}://127.0.0.1:{sock.getsockname()[1]}"


def test_a_program_takes_the_sockets_of_its_manager_and_tells_how_it_is(
    tmp_path: Path, manager: Manager
) -> None:
    path = str(tmp_path / "here.sock")
    with (
        socket.create_server(("127.0.0.1", 0)) as stream,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        datagrams.bind(("127.0.0.1", 0))
        unix.bind(path)
        unix.listen()
        sockets = [("web", stream), ("news", datagrams), ("here", unix)]
        variables = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"}
        with activated(EXAMPLES / "activated.py", sockets, tmp_path, **variables) as service:
            assert manager.heard() == {"READY": "1", "STATUS": "serving 3 sockets"}
            addresses = [address_of(stream), address_of(datagrams), f"unix:{path}"]
            for address in addresses:
                with Client(address) as client:
                    reply = client.request(Message("ADD", {"a": 2, "b": 40}), timeout=LIMIT)
                    assert reply["value"] == "42"
            assert manager.heard() == {"WATCHDOG": "1"}
            service.send_signal(signal.SIGTERM)
            printed, _ = service.communicate(timeout=LIMIT)
        shown = [
            f"{name} listens on {at}" for (name, _), at in zip(sockets, addresses, strict=True)
        ]
        assert printed.splitlines() == shown
        assert service.returncode == 0
        while (heard := manager.heard()) == {"WATCHDOG": "1"}:
            pass
        assert heard == {"STOPPING": "1"}
        # The manager listens on, and the file is there for the next start.
        assert Path(path).is_socket()


CHILD = """\
import os
from edgevent import inherited_sockets

before = os.get_inheritable(3)
[found] = inherited_sockets()
left = [name for name in os.environ if name.startswith("LISTEN_")]
print(found.name, found.address, before, os.get_inheritable(3), left, inherited_sockets())
"""


def test_what_is_handed_over_goes_to_no_child(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(CHILD, encoding="utf-8")
    with (
        socket.create_server(("127.0.0.1", 0)) as sock,
        activated(program, [("web", sock)], tmp_path) as process,
    ):
        printed, said = process.communicate(timeout=LIMIT)
        assert printed == f"web {address_of(sock)} True False [] []\n", said


SERVICE = """\
from edgevent.service import Service

service = Service("greeter", "Greets.")

@service.on("GREET")
def greet(message, peer):
    return message.reply("GREETING", {"text": "hello"})

raise SystemExit(service.main())
"""


def test_a_service_serves_all_sockets_of_a_unit_whose_names_are_equal(
    tmp_path: Path, manager: Manager
) -> None:
    program = tmp_path / "greeter.py"
    program.write_text(SERVICE, encoding="utf-8")
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
        activated(
            program,
            [("greeter.socket", one), ("greeter.socket", other)],
            tmp_path,
            NOTIFY_SOCKET=manager.address,
        ) as service,
    ):
        heard = manager.heard()
        assert heard["READY"] == "1", service.communicate(timeout=LIMIT)
        for found in (one, other):
            assert address_of(found) in heard["STATUS"]
            with Client(address_of(found)) as client:
                assert client.request(Message("GREET"), timeout=LIMIT)["text"] == "hello"
        service.send_signal(signal.SIGTERM)
        service.communicate(timeout=LIMIT)
        assert service.returncode == 0
        assert manager.heard()["STOPPING"] == "1"


def test_a_configuration_that_does_without_systemd_is_right_with_it_too(
    tmp_path: Path, manager: Manager
) -> None:
    program, path = tmp_path / "greeter.py", tmp_path / "here.sock"
    program.write_text(SERVICE, encoding="utf-8")
    folder = tmp_path / ".config" / "edgevent"
    folder.mkdir(parents=True)
    listener = f"[listeners]\nlocal = unix:{path} mode=0660\n"
    (folder / "greeter.conf").write_text(listener, encoding="utf-8")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        path.chmod(0o604)
        variables = {"NOTIFY_SOCKET": manager.address}
        with activated(program, [("greeter.socket", sock)], tmp_path, **variables) as service:
            assert manager.heard()["STATUS"] == f"listening on unix:{path}"
            with Client(f"unix:{path}") as client:
                assert client.request(Message("GREET"), timeout=LIMIT)["text"] == "hello"
            service.send_signal(signal.SIGTERM)
            _, said = service.communicate(timeout=LIMIT)
    assert service.returncode == 0
    assert "listener local: mode is as the .socket unit has it" in said
    assert path.stat().st_mode & 0o777 == 0o604
