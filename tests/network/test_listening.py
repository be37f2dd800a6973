"""Who listens where: watches of the kernel's socket tables, and links that wait for a service."""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import pytest
from network_ground import PATIENCE, Ground, MovedClock, run_program, until
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import (
    AddressError,
    Backoff,
    ConnectError,
    ListeningEvent,
    ListeningWatch,
    Message,
    PermanentConnection,
    UsageError,
    limits,
)
from edgevent.runtime.turns import Turns
from edgevent.sources import listening_poll
from edgevent.sources.listening_poll import ListeningPoll, Place, listens_on
from edgevent.sources.sock_diag import SocketDiag, UnixListener, read_parts, read_unix_listener
from edgevent.sources.socket_files import SocketFiles
from edgevent.testing.clock import settle

INTERVAL = limits.LISTENING_INTERVAL


@pytest.fixture(params=["netlink", "files"])
def tables(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By which way the tables are read; netlink may be refused to a service."""
    if request.param == "files":

        def refuse() -> SocketDiag:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(listening_poll, "SocketDiag", refuse)
    return str(request.param)


class Told(list[bool]):
    """What a watch has told."""

    def __call__(self, event: ListeningEvent) -> None:
        self.append(event.is_listening)


def watch(ground: Ground, address: str, **settings: Any) -> tuple[ListeningWatch, Told]:
    told = Told()
    made = ground.communicator.add_connection(ListeningWatch(address, told, **settings))
    settle()
    return made, told


def listen(family: int, where: Any, *, kind: int = socket.SOCK_STREAM, only: int = 0) -> Any:
    """A socket that listens."""
    sock = socket.socket(family, kind)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    sock.bind(where)
    sock.listen(1)
    return sock


@pytest.fixture
def port() -> int:
    """A port on which nobody listens, of any address and family."""
    with listen(socket.AF_INET6, ("::", 0)) as sock:
        return int(sock.getsockname()[1])


# --- what is seen ---------------------------------------------------------------------------------

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.mark.parametrize(
    ("address", "family", "host", "only", "seen"),
    [
        ("tcp://127.0.0.1:{}", V4, "127.0.0.1", 0, True),
        ("tls://127.0.0.1:{}", V4, "0.0.0.0", 0, True),
        ("tcp://127.0.0.1:{}", V4, "127.0.0.2", 0, False),
        ("tcp://127.0.0.1:{}", V6, "::", 0, True),
        ("tcp://127.0.0.1:{}", V6, "::", 1, False),
        ("tcp://[::ffff:127.0.0.1]:{}", V4, "127.0.0.1", 0, True),
        ("tcp://[::1]:{}", V6, "::1", 1, True),
        ("tcp://[::1]:{}", V6, "::", 1, True),
        ("tcp://[::1]:{}", V4, "0.0.0.0", 0, False),
        ("tcp://localhost:{}", V4, "127.0.0.1", 0, True),
        ("tcp://localhost:{}", V6, "::1", 1, True),
        ("tcp://0.0.0.0:{}", V4, "0.0.0.0", 0, True),
        ("tcp://0.0.0.0:{}", V4, "127.0.0.1", 0, False),
        ("tcp://[fe80::1%lo]:{}", V6, "::", 1, True),
        ("tcp://[fe80::1%none]:{}", V6, "::1", 1, False),
    ],
)
def test_a_tcp_service_is_seen_to_come_and_go(
    moved: Ground,
    clock: MovedClock,
    tables: str,
    port: int,
    address: str,
    family: int,
    host: str,
    only: int,
    seen: bool,
) -> None:
    made, told = watch(moved, address.format(port))
    assert told == [False]  # how it is at the beginning
    with listen(family, (host, port), only=only):
        clock.advance(10 * INTERVAL)  # where the files are long, the looks are rarer
        # Whether "::" is for IPv6 alone stands in no file.
        if not (tables == "files" and only and "127" in address):
            assert told == [False, True][: 1 + seen]
            assert made.is_listening is seen
        clock.advance(10 * INTERVAL)
    clock.advance(10 * INTERVAL)
    assert made.is_listening is False
    assert len(told) in (1, 3)  # nothing is told twice
    made.close()


@pytest.mark.parametrize(
    ("address", "where", "kind"),
    [
        ("unix:service", "service", socket.SOCK_STREAM),
        ("tls+unix:service", "service", socket.SOCK_STREAM),
        ("unix:@edgevent-{}", "\0edgevent-{}", socket.SOCK_STREAM),
        ("unixseq:service", "service", socket.SOCK_SEQPACKET),
    ],
)
def test_a_unix_service_is_seen_to_come_and_go(
    moved: Ground,
    clock: MovedClock,
    tables: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    where: str,
    kind: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    made, told = watch(moved, address.format(os.getpid()))
    with listen(socket.AF_UNIX, where.format(os.getpid()), kind=kind):
        clock.advance(INTERVAL)
        assert told == [False, True]
    clock.advance(INTERVAL)
    assert told == [False, True, False]
    assert repr(made).endswith("not listening>")
    made.close()


def test_a_unix_service_is_known_by_its_file(
    moved: Ground, clock: MovedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, moved_away = tmp_path / "service", tmp_path / "old"
    (tmp_path / "link").symlink_to(path)
    _, by_link = watch(moved, f"unix:{tmp_path}/link")
    made, told = watch(moved, f"unix:{path}")
    monkeypatch.chdir(tmp_path)
    with listen(socket.AF_UNIX, "service"):  # bound by another name than the watch has
        clock.advance(INTERVAL)
        assert (told, by_link) == ([False, True], [False, True])
        path.rename(moved_away)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))  # which nobody can connect to
            clock.advance(INTERVAL)
            assert told == [False, True, False]
        path.unlink()
        path.write_text("no socket")
        clock.advance(INTERVAL)
        moved_away.rename(path)
        clock.advance(INTERVAL)
        assert told == [False, True, False, True]
    moved.communicator.remove_connection(made)


def test_another_kind_of_socket_at_that_path_is_not_taken_for_it(
    moved: Ground, tmp_path: Path, tables: str
) -> None:
    with listen(socket.AF_UNIX, f"{tmp_path}/service", kind=socket.SOCK_SEQPACKET):
        assert watch(moved, f"unix:{tmp_path}/service")[1] == [False]
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/bound")
        assert watch(moved, f"unix:{tmp_path}/bound")[1] == [False]


def test_where_a_file_has_other_numbers_its_name_counts(tmp_path: Path) -> None:
    path = f"{tmp_path}/service"
    place = Place(socket.AF_UNIX, path.encode())
    with listen(socket.AF_UNIX, path):
        real = os.stat(path)
        device = os.major(real.st_dev) << 20 | os.minor(real.st_dev)
        for inode, number, seen in (
            (real.st_ino & 0xFFFFFFFF, device, True),
            (real.st_ino + 1, device, False),  # another socket that was bound there
            (real.st_ino + 1, device + 1, True),  # as on overlayfs
        ):
            listener = UnixListener(socket.SOCK_STREAM, path.encode(), inode, number)
            assert listens_on(place, [listener]) is seen


def test_the_present_state_is_told_first(moved: Ground, clock: MovedClock, port: int) -> None:
    with listen(V4, ("127.0.0.1", port)):
        made, told = watch(moved, f"tcp://127.0.0.1:{port}")
        assert told == [True]
        made.enabled = False
    clock.advance(60.0)
    assert told == [True]
    made.enabled = True
    settle()
    assert told == [True, False]  # what has changed meanwhile
    moved.communicator.remove_connection(made)
    moved.communicator.add_connection(made)
    settle()
    assert told == [True, False, False]  # added anew, it tells how it is


def test_a_class_may_override_the_hook(moved: Ground, port: int) -> None:
    class Own(ListeningWatch):
        def process_listening(self, event: ListeningEvent) -> None:
            seen.append(event)

    seen: list[ListeningEvent] = []
    moved.communicator.add_connection(Own(f"tcp://127.0.0.1:{port}"))
    settle()
    assert seen == [ListeningEvent(f"tcp://127.0.0.1:{port}", False)]


# --- what it costs --------------------------------------------------------------------------------


def descriptors() -> int:
    return sum(
        os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        for name in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{name}") or os.path.islink(f"/proc/self/fd/{name}")
    )


def test_all_watches_share_one_timer_and_one_socket(
    moved: Ground, clock: MovedClock, port: int
) -> None:
    before, alarms = descriptors(), clock.pending
    made = [watch(moved, f"tcp://127.0.0.1:{port}")[0] for _ in range(20)]
    fast, _ = watch(moved, f"unix:@edgevent-{os.getpid()}", interval=0.1)
    assert (descriptors(), clock.pending) == (before + 1, alarms + 1)
    assert min(clock.alarms) == pytest.approx(0.1)
    clock.advance(0.1)
    fast.close()
    clock.advance(0.1)
    assert min(clock.alarms) > 0.3
    made[0].enabled = False
    for one in made[1:]:
        one.close()
    assert (descriptors(), clock.pending) == (before, alarms)


def test_two_clocks_have_a_look_each(moved: Ground, ground: Ground, port: int) -> None:
    for one in (moved, ground):
        made, told = watch(one, f"tcp://127.0.0.1:{port}")
        until(lambda told=told: told)
        made.close()
    assert not ListeningPoll._all


# --- faults ---------------------------------------------------------------------------------------


def test_a_look_that_fails_is_logged_once_and_the_next_one_begins_anew(
    moved: Ground, clock: MovedClock, port: int, logged: Callable[[str], list[str]]
) -> None:
    made, told = watch(moved, f"tcp://127.0.0.1:{port}")
    with listen(V4, ("127.0.0.1", port)):
        for _ in range(3):
            poll = ListeningPoll.of(Turns.current(), clock)
            assert isinstance(poll._tables, SocketDiag)
            poll._tables._socket.close()
            clock.advance(INTERVAL)
            assert told == [False]  # what was known stays
            clock.advance(INTERVAL)
            assert told.pop() is True
            made.is_listening = False
    assert len(logged("the kernel's socket tables cannot be read")) == 1


@pytest.mark.parametrize(
    "data",
    [b"\0" * 15, struct.pack("=IHHII", 15, 20, 0, 1, 0), struct.pack("=IHHII", 17, 20, 0, 1, 0)],
)
def test_what_is_no_netlink_message_is_an_error(data: bytes) -> None:
    with pytest.raises(OSError, match="netlink message"):
        list(read_parts(data))


def test_random_bytes_are_read_or_refused() -> None:
    chance = random.Random(1)
    for _ in range(5000):
        data = chance.randbytes(chance.randrange(80))
        for read in (lambda data: list(read_parts(data)), read_unix_listener):
            with suppress(OSError):  # nothing else
                read(data)


def test_what_the_kernel_refuses_is_an_error() -> None:
    diag = SocketDiag()
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            diag.tcp_listens(255, bytes(4), 80)
        assert diag.tcp_listens(V4, bytes(4), 0) is False  # and the next question is answered
    finally:
        diag.close()


def test_a_dump_of_many_parts_is_read_whole() -> None:
    with_names = [listen(socket.AF_UNIX, f"\0edgevent-{os.getpid()}-{n}") for n in range(600)]
    diag = SocketDiag()
    try:
        names = {one.name for one in diag.unix_listeners()}
        assert names >= {f"\0edgevent-{os.getpid()}-{n}".encode() for n in range(600)}
    finally:
        diag.close()
        for one in with_names:
            one.close()


def test_answers_that_overflowed_are_told_and_the_next_look_begins_anew(
    moved: Ground, clock: MovedClock, port: int, logged: Callable[[str], list[str]]
) -> None:
    made, told = watch(moved, f"tcp://127.0.0.1:{port}")
    diag = ListeningPoll.of(Turns.current(), clock)._tables
    assert isinstance(diag, SocketDiag)
    diag._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's smallest
    for _ in range(50):  # answers that nobody reads
        diag._socket.send(struct.pack("=IHHII", 72, 20, 1, 0, 0) + bytes(56))
    with listen(V4, ("127.0.0.1", port)):
        clock.advance(INTERVAL)
        assert told == [False]
        assert logged("the kernel's socket tables cannot be read: [Errno 105] No buffer space")
        clock.advance(INTERVAL)
        assert told == [False, True]
    made.close()


@pytest.mark.parametrize("interrupted", [0, 1, 2, 3, 5])
def test_a_dump_that_was_interrupted_is_asked_for_anew(interrupted: int) -> None:
    head = struct.pack("=BBBBIII", socket.AF_UNIX, socket.SOCK_STREAM, 10, 0, 1, 0, 0)
    diag = SocketDiag()
    diag.close()
    diag._socket, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for number in range(5):  # as the kernel answers, NLM_F_DUMP_INTR included
        name = struct.pack("=HH4s", 8, 0, b"\0ab%d" % number)
        flags = 2 | (0x10 if number < interrupted else 0)
        for kind, content in ((20, head + name), (3, bytes(4))):
            parts = struct.pack("=IHHII", 16 + len(content), kind, flags, diag._sequence + 1, 0)
            kernel.send(parts + content)
        diag._sequence += 1
    diag._sequence -= 5
    with kernel:
        found = diag.unix_listeners()
        diag.close()
    assert [one.name for one in found] == [b"\0ab%d" % min(interrupted, 2)]


def test_tables_that_are_not_there_are_told(tmp_path: Path) -> None:
    files = SocketFiles(str(tmp_path))
    assert files.tcp_listens(V6, bytes(16), 80) is False  # a kernel without IPv6 has no such file
    with pytest.raises(OSError, match="No such file"):
        files.unix_listeners()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("udp://127.0.0.1:1", "an address of tcp, tls, unix, tls\\+unix, unixseq was expected"),
        ("fifo:here", "an address of tcp"),
        ("tcp://127.0.0.1:0", "a port was expected"),
        ("tcp://example.invalid:1", "a numeric address of this machine, or localhost"),
        ("unix:" + "x" * 200, "a path of at most 107 bytes"),
    ],
)
def test_where_nobody_can_be_seen_to_listen_the_address_is_refused(
    address: str, sentence: str
) -> None:
    with pytest.raises(AddressError, match=sentence):
        ListeningWatch(address, print)


@pytest.mark.parametrize("interval", [0.0, -1.0, float("inf"), float("nan")])
def test_an_interval_that_is_none_is_refused(interval: float) -> None:
    with pytest.raises(UsageError, match=r"an interval of 0\.01 s or more was expected"):
        ListeningWatch("unix:x", print, interval=interval)


def test_a_watch_that_calls_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match=r"a function of \(event\) was expected"):
        ListeningWatch("unix:x")


WATCHING = """
import os, socket, sys
from edgevent import *
from edgevent.sources.listening_poll import open_tables

with Communicator() as communicator:
    if len(sys.argv) > 2:
        os.setuid(int(sys.argv[2]))
    assert type(open_tables()).__name__ == "SocketDiag"
    watch = ListeningWatch(sys.argv[1], lambda event: communicator.stop())
    communicator.add_connection(watch)
    communicator.run()
    print(watch.is_listening)
"""


def test_another_user_sees_it_as_well(port: int, nobody: Any) -> None:
    with listen(V4, ("127.0.0.1", port)):
        text = run_program(WATCHING, f"tcp://127.0.0.1:{port}", nobody.pw_uid)
    assert text == "True\n"


def test_the_sockets_of_another_network_are_not_seen(
    port: int, own_network: Callable[..., str]
) -> None:
    with listen(V4, ("127.0.0.1", port)):
        program = WATCHING.replace("sys.argv[1]", repr(f"tcp://127.0.0.1:{port}"))
        assert own_network(program, "true") == "False\n"


def test_a_forked_child_holds_nothing_of_it() -> None:
    text = """
import os
from edgevent import *
from gevent.event import Event
def sockets():
    found = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    return sum("socket:" in one for one in found)
communicator = Communicator()
told = Event()
communicator.add_connection(ListeningWatch("unix:@nobody", lambda event: told.set()))
assert told.wait(20)
print(sockets(), flush=True)
child = os.fork()
if child == 0:
    print(sockets(), flush=True)
    with Communicator() as mine:
        mine.after(0.6, lambda: None)
        mine.run()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    assert run_program(text).split() == ["1", "0"]


# --- links ----------------------------------------------------------------------------------------


@pytest.fixture
def service(tmp_path: Path) -> str:
    """Where a service may listen."""
    return f"{tmp_path}/service"


@pytest.fixture
def watched() -> Iterator[Callable[[], int]]:
    """Says how many look for listeners now."""
    yield lambda: sum(len(poll._lookers) for poll in ListeningPoll._all.values())
    assert not ListeningPoll._all


def link_to(ground: Ground, address: str, **settings: Any) -> PermanentConnection:
    return ground.communicator.add_connection(PermanentConnection(address, **settings))


@pytest.mark.parametrize(("over", "outage"), [("unix", 1.0), ("tcp", 30.0)])
def test_a_link_is_back_within_a_second_of_its_service(
    moved: Ground,
    clock: MovedClock,
    port: int,
    service: str,
    over: str,
    outage: float,
) -> None:
    address = f"unix:{service}" if over == "unix" else f"tcp://127.0.0.1:{port}"
    with scripted_peer(address) as peer:
        link = link_to(moved, address)
        peer.accept()
        link.wait_until_up(PATIENCE)
        peer.stop_listening()
        if over == "unix":
            os.unlink(service)
        peer.close()
        until(lambda: not link.is_connected)
        clock.advance(outage)
    with scripted_peer(address) as peer:
        clock.advance(0.96)
        peer.accept()
        until(lambda: link.is_connected)
    link.close()


def test_the_pauses_do_not_matter_when_the_service_comes_back(
    moved: Ground, clock: MovedClock, service: str, tables: str
) -> None:
    pauses = Backoff("3600")
    link = link_to(moved, f"unix:{service}", pauses=pauses, wait_for_listener=True)
    for _ in range(5):
        clock.advance(10.0)
        assert not link.is_connected
        with scripted_peer(f"unix:{service}") as peer:
            clock.advance(0.96)
            peer.accept()
            until(lambda: link.is_connected)
        os.unlink(service)
        until(lambda: not link.is_connected)
    link.close()


def test_only_a_link_that_is_down_looks(
    moved: Ground, clock: MovedClock, service: str, watched: Callable[[], int]
) -> None:
    link = link_to(moved, f"unix:{service}")
    settle()
    assert watched() == 1
    link.enabled = False
    assert watched() == 0
    link.enabled = True
    assert watched() == 1
    with scripted_peer(f"unix:{service}") as peer:
        clock.advance(0.96)
        peer.accept()
        until(lambda: link.is_connected)
        assert watched() == 0
        assert all(alarm > 100.0 for alarm in clock.alarms)
        peer.close()
        until(lambda: not link.is_connected)
        settle()
        assert watched() == 1
        link.close()
        assert watched() == 0


@pytest.mark.parametrize(
    ("address", "settings", "looks"),
    [
        ("unix:{}", {}, True),
        ("tcp://127.0.0.1:1", {}, True),
        ("tls://localhost:1", {}, True),
        ("unix:{}", {"pauses": "3600"}, False),
        ("unix:{}", {"pauses": "3600", "wait_for_listener": True}, True),
        ("unix:{}", {"wait_for_listener": False}, False),
        ("tcp://192.0.2.1:1", {}, False),
        ("tcp://example.invalid:1", {}, False),
        ("fifo:{}", {}, False),
    ],
)
def test_links_to_local_services_look_unless_they_have_pauses_of_their_own(
    service: str, address: str, settings: dict[str, Any], looks: bool
) -> None:
    link = PermanentConnection(address.format(service), **settings)
    assert (link._listener is not None) is looks
    link.close()


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:1", "fifo:x", "tcp://example.invalid:1"])
def test_where_it_cannot_be_seen_a_wait_for_the_listener_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="wait_for_listener=True is for loopback and Unix"):
        PermanentConnection(address, wait_for_listener=True)


def test_a_service_that_listens_and_ends_every_link_is_dialled_after_the_pauses(
    moved: Ground, clock: MovedClock, service: str
) -> None:
    with scripted_peer(f"unix:{service}") as peer:
        link = link_to(moved, f"unix:{service}", pauses="5", wait_for_listener=True)
        for count in range(1, 4):
            peer.accept()
            link.wait_until_up(PATIENCE)
            peer.close()
            until(lambda: not link.is_connected)
            clock.advance(4.9)
            assert link.attempts == count
            clock.advance(0.2)
        link.close()


def test_a_service_that_comes_right_after_the_attempt_is_not_missed(
    moved: Ground, clock: MovedClock, service: str
) -> None:
    peers: list[ScriptedPeer] = []

    class Late(PermanentConnection):
        def process_connection_failed(self, error: ConnectError) -> None:
            if not peers:
                peers.append(scripted_peer(f"unix:{service}"))

    link = Late(f"unix:{service}", pauses="3600", wait_for_listener=True)
    moved.communicator.add_connection(link)
    settle()
    clock.advance(0.96)
    peers[0].accept()
    until(lambda: link.is_connected)
    peers[0].close()
    peers[0].stop_listening()
    link.close()


def test_haste_is_not_repeated_while_a_listener_refuses(
    moved: Ground, clock: MovedClock, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **settings: Any) -> Any:
        raise ConnectError("refused", errno.ECONNREFUSED)

    with scripted_peer(f"unix:{service}"):
        monkeypatch.setattr("edgevent.links.dialled.dial", refuse)
        link = link_to(moved, f"unix:{service}", pauses="60", wait_for_listener=True)
        clock.advance(50.0)
        assert link.attempts == 2
        link.close()


def test_links_of_one_service_do_not_come_back_at_one_instant(
    moved: Ground, clock: MovedClock, service: str
) -> None:
    back: list[float] = []
    for _ in range(50):
        link = link_to(moved, f"unix:{service}", pauses="3600", wait_for_listener=True)
        link.on_connected(lambda link: back.append(clock.now()))
    clock.advance(1.0)
    with listen(socket.AF_UNIX, service) as listener:
        listener.listen(100)
        clock.advance(0.96)
        assert len(back) == 50
        assert max(sum(at <= other < at + 0.1 for other in back) for at in back) <= 8
        for link in moved.communicator.connections[1:]:
            link.close()


def test_a_link_that_was_removed_looks_no_more(
    moved: Ground, service: str, watched: Callable[[], int]
) -> None:
    link = link_to(moved, f"unix:{service}")
    settle()
    moved.communicator.remove_connection(link)
    assert watched() == 0
    moved.communicator.add_connection(link)
    settle()
    assert watched() == 1
    link.close()


def test_a_whole_service_that_starts_late_is_found(
    ground: Ground, service: str, tmp_path: Path
) -> None:
    pauses = Backoff("3600")
    link = link_to(ground, f"unix:{service}", pauses=pauses, wait_for_listener=True)
    until(lambda: link.attempts == 1)
    server = gevent.spawn(
        run_program,
        f"""
from edgevent import *
with Communicator() as communicator:
    communicator.add_connection(Server("unix:{service}"))
    communicator.run()
""",
    )
    link.wait_until_up(PATIENCE)
    assert link.request(Message("ALIVE")).command == "ABSOLUTELY"
    link.send(Message("STOP"))
    server.get(timeout=PATIENCE)
    link.close()
