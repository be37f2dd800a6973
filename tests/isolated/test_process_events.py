"""What the kernel's process connector tells: its messages, and live where it may be listened to."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from network_ground import LONE, until
from running import Program

from edgevent import Communicator, ListenError, ProcessEvent, ProcessEvents, UsageError
from edgevent.sources.connector import (
    CN_IDX_PROC,
    IGNORE,
    LISTEN,
    NETLINK_CONNECTOR,
    Acknowledgement,
    pack_operation,
    parse_events,
)

ROOT = Path(__file__).resolve().parents[2]

# --- messages -------------------------------------------------------------------------------------


def event(what: int, body: bytes, *, sequence: int = 0) -> bytes:
    """A datagram as the kernel sends it, from linux/cn_proc.h."""
    inner = struct.pack("=IIQ", what, 1, 5_250_000_000) + body
    inner = inner.ljust(40, b"\0")
    connector = struct.pack("=IIIIHH", 1, 1, sequence, 0, len(inner), 0) + inner
    return struct.pack("=IHHII", 16 + len(connector), 3, 0, sequence, 0) + connector


EVENTS = [
    (
        0x1,
        struct.pack("=iiii", 11, 10, 21, 20),
        {"kind": "fork", "pid": 20, "tid": 21, "parent": 10},
    ),
    (0x2, struct.pack("=ii", 11, 10), {"kind": "exec"}),
    (0x4, struct.pack("=iiII", 11, 10, 1000, 2**32 - 2), {"kind": "uid", "real": 1000}),
    (0x40, struct.pack("=iiII", 11, 10, 1, 50), {"kind": "gid", "real": 1, "effective": 50}),
    (0x80, struct.pack("=ii", 11, 10), {"kind": "session"}),
    (0x100, struct.pack("=iiii", 11, 10, 31, 30), {"kind": "trace", "tracer": 30}),
    (0x200, struct.pack("=ii16s", 11, 10, b"bash\0rest"), {"kind": "name", "name": "bash"}),
    (0x40000000, struct.pack("=iiii", 11, 10, 9, 8), {"kind": "core-dump", "parent": 8}),
    (
        0x80000000,
        struct.pack("=iiIiii", 11, 10, 7 << 8, 17, 9, 8),
        {"kind": "exit", "exit_code": 7, "signal": None, "parent": 8, "signal_name": None},
    ),
    (
        0x80000000,
        struct.pack("=iiIiii", 11, 10, 0x80 | 11, 17, 9, 8),
        {"kind": "exit", "exit_code": None, "signal": 11, "signal_name": "SIGSEGV"},
    ),
]


@pytest.mark.parametrize(("what", "body", "expected"), EVENTS)
def test_an_event_is_read(what: int, body: bytes, expected: dict[str, Any]) -> None:
    (found,) = parse_events(event(what, body))
    expected = {"pid": 10, "tid": 11, "time": 5.25, **expected}
    assert {name: getattr(found, name) for name in expected} == expected
    assert isinstance(found, ProcessEvent)
    assert found.is_thread


def test_a_core_dump_and_no_thread_are_told() -> None:
    (found,) = parse_events(event(0x80000000, struct.pack("=iiIiii", 10, 10, 0x8B, 17, 9, 8)))
    assert isinstance(found, ProcessEvent)
    assert (found.core_dumped, found.is_thread) == (True, False)


def test_an_exit_of_an_old_kernel_has_no_parent() -> None:
    data = bytearray(event(0x80000000, struct.pack("=iiIi", 10, 10, 256, 17))[:68])
    data[0:4] = struct.pack("=I", 68)
    data[32:34] = struct.pack("=H", 32)
    (found,) = parse_events(bytes(data))
    assert isinstance(found, ProcessEvent)
    assert (found.kind, found.exit_code, found.parent) == ("exit", 1, None)


def test_several_messages_stand_in_one_datagram() -> None:
    both = event(0x2, struct.pack("=ii", 5, 5)) + event(0x80, struct.pack("=ii", 6, 6))
    assert [(one.kind, one.pid) for one in parse_events(both) if isinstance(one, ProcessEvent)] == [
        ("exec", 5),
        ("session", 6),
    ]


def test_the_kernels_answer_and_its_overrun_are_read() -> None:
    assert list(parse_events(event(0, struct.pack("=i", 1), sequence=4))) == [Acknowledgement(1, 4)]
    error = struct.pack("=IHHIIi", 20, 2, 0, 0, 0, -111)
    assert list(parse_events(error)) == [Acknowledgement(111, 0)]
    assert list(parse_events(struct.pack("=IHHII", 16, 4, 0, 0, 0))) == [ProcessEvent("lost-sync")]


def test_what_is_unknown_or_of_others_is_left_out() -> None:
    assert list(parse_events(event(0x20000000, b""))) == []
    other = bytearray(event(0x2, struct.pack("=ii", 5, 5)))
    other[16:20] = struct.pack("=I", 4)  # another connector
    assert list(parse_events(bytes(other))) == []


@pytest.mark.parametrize(("what", "body", "expected"), EVENTS)
def test_what_is_cut_short_is_left_out_without_an_error(
    what: int, body: bytes, expected: dict[str, Any]
) -> None:
    whole = event(what, body)
    for size in range(len(whole)):
        assert list(parse_events(whole[:size])) == []
        shorter = struct.pack("=I", size) + whole[4:size]
        assert len(list(parse_events(shorter))) <= 1
        for place in (0, 32):  # what is said of the size is not believed
            lying = whole[:place] + struct.pack("=H", size) + whole[place + 2 :]
            assert len(list(parse_events(lying))) <= 3


def test_the_question_has_the_form_of_the_kernels_headers() -> None:
    assert pack_operation(LISTEN, 7) == struct.pack(
        "=IHHIIIIIIHHI", 40, 3, 0, 7, 0, 1, 1, 7, 0, 4, 0, 1
    )
    assert pack_operation(IGNORE, 0)[-4:] == struct.pack("=I", 2)


# --- live -----------------------------------------------------------------------------------------

Watch = Callable[..., ProcessEvents]


@pytest.fixture
def watch(communicator: Communicator) -> Watch:
    """Adds a source; where the kernel refuses to tell this process, there is no test."""

    def add(callback: Callable[[ProcessEvent], Any], **settings: Any) -> ProcessEvents:
        try:
            return communicator.add_connection(ProcessEvents(callback, **settings))
        except ListenError as error:
            pytest.skip(str(error))

    return add


@pytest.fixture
def events(watch: Watch) -> list[ProcessEvent]:
    found: list[ProcessEvent] = []
    watch(found.append)
    return found


def run(*command: str) -> int:
    """Runs a command to its end; gives its pid."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        process.wait()
    return process.pid


def of(events: list[ProcessEvent], pid: int) -> list[str]:
    return [one.kind for one in events if one.pid == pid]


def test_a_child_is_forked_executes_and_ends(events: list[ProcessEvent]) -> None:
    pid = run("sh", "-c", "exit 7")
    until(lambda: "exit" in of(events, pid))
    assert of(events, pid) == ["fork", "exec", "exit"]
    fork, _, end = [one for one in events if one.pid == pid]
    assert fork.parent == end.parent == os.getpid()
    assert (end.exit_code, end.signal) == (7, None)
    assert 0.0 < fork.time <= end.time


def test_a_kill_a_name_and_a_session_are_told(events: list[ProcessEvent]) -> None:
    program = (
        "import os, signal; os.setsid(); open('/proc/self/comm', 'w').write('renamed')\n"
        "os.kill(os.getpid(), signal.SIGUSR1)"
    )
    pid = run(sys.executable, "-c", program)
    until(lambda: "exit" in of(events, pid))
    assert of(events, pid) == ["fork", "exec", "session", "name", "exit"]
    name, end = [one for one in events if one.pid == pid][-2:]
    assert (name.name, end.signal) == ("renamed", signal.SIGUSR1)


def test_uids_and_gids_are_told(events: list[ProcessEvent]) -> None:
    if os.getuid() != 0:
        pytest.skip("needs to be root, to become somebody else")
    pid = run(sys.executable, "-c", "import os; os.setgid(65534); os.setuid(65534)")
    until(lambda: "exit" in of(events, pid))
    found = {one.kind: (one.real, one.effective) for one in events if one.pid == pid}
    assert found["uid"] == found["gid"] == (65534, 65534)


def test_only_the_wanted_kinds_are_told(watch: Watch) -> None:
    found: list[ProcessEvent] = []
    watch(found.append, kinds=["exit"])
    pid = run("true")
    until(lambda: of(found, pid))
    assert {one.kind for one in found} == {"exit"}


@pytest.mark.parametrize("threads", [False, True])
def test_threads_are_told_when_they_are_wanted(watch: Watch, threads: bool) -> None:
    found: list[ProcessEvent] = []
    watch(found.append, threads=threads)
    program = "import threading; t = threading.Thread(target=int); t.start(); t.join()"
    pid = run(sys.executable, "-c", program)
    until(lambda: [one for one in found if one.pid == one.tid == pid and one.kind == "exit"])
    of_threads = [one.kind for one in found if one.pid == pid and one.is_thread]
    assert of_threads == (["fork", "exit"] if threads else [])


def test_what_the_kernel_had_to_drop_is_told(watch: Watch) -> None:
    found: list[ProcessEvent] = []
    source = watch(found.append, buffer_bytes=2048)
    for _ in range(20):
        run("true")
    until(lambda: "lost-sync" in [one.kind for one in found])
    before = len(found)
    pid = run("true")
    until(lambda: "exit" in of(found[before:], pid))
    assert source.lost_events == 0


def test_a_full_queue_leaves_events_to_the_kernel(watch: Watch) -> None:
    found: list[ProcessEvent] = []
    source = watch(found.append)
    source.max_events = 4
    pids = [run("true") for _ in range(20)]
    until(lambda: "exit" in of(found, pids[-1]))
    assert [of(found, pid) for pid in pids] == [["fork", "exec", "exit"]] * 20
    assert source.lost_events == 0


def test_disabled_and_enabled_again_it_tells_what_the_kernel_has_kept(watch: Watch) -> None:
    found: list[ProcessEvent] = []
    source = watch(found.append)
    source.enabled = False
    pid = run("true")
    assert of(found, pid) == []
    source.enabled = True
    until(lambda: "exit" in of(found, pid))
    source.close()
    assert source.is_closed


def test_stop_lets_what_has_come_be_handled(watch: Watch, communicator: Communicator) -> None:
    found: list[ProcessEvent] = []

    def handle(event: ProcessEvent) -> None:
        found.append(event)
        communicator.stop()

    source = watch(handle)
    source.event_limit = 1
    pid = run("true")
    communicator.run()
    assert found
    assert set(of(found, pid)) <= {"fork", "exec", "exit"}
    assert source.is_closed


def test_what_another_process_sends_is_not_believed(events: list[ProcessEvent]) -> None:
    """Root may send to the group of those who listen."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR) as forger:
        try:
            forger.sendto(event(0x2, struct.pack("=ii", 2**30, 2**30)), (0, CN_IDX_PROC))
        except OSError:
            pass  # refused by the kernel already
    pid = run("true")
    until(lambda: "exit" in of(events, pid))
    assert of(events, 2**30) == []


def test_a_forked_child_hears_nothing_and_its_parent_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(FORK, encoding="utf-8")
    with Program(path, folder=tmp_path) as program:
        assert program.end() == 0, program.printed
        if program.printed.startswith("refused"):
            pytest.skip(program.printed)
        assert program.printed == "child holds 0\nhears the end of its child True\n"


FORK = """
import os, warnings
import gevent
from edgevent import Communicator, ListenError, ProcessEvents

warnings.simplefilter("ignore", DeprecationWarning)


def sockets():
    names = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return sum(os.path.exists(name) and os.readlink(name).startswith("socket:") for name in names)


def heard(event):
    if event.pid == child:
        print("hears the end of its child", sockets() == before)
        communicator.stop()


child = -1
with Communicator() as communicator:
    try:
        source = ProcessEvents(heard, kinds=["exit"])
    except ListenError as error:
        print("refused", error)
        raise SystemExit
    communicator.add_connection(source)
    gevent.sleep(0.001)
    before = sockets()
    child = os.fork()
    if not child:
        os.write(1, f"child holds {sockets()}\\n".encode())
        source.close()
        os._exit(0)
    communicator.run()
"""


# --- what is refused ------------------------------------------------------------------------------

PROBE = """
from edgevent import ListenError, ProcessEvents
try:
    ProcessEvents(print)
except ListenError as error:
    print(error)
else:
    print("listening")
"""


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("-Urn", "no process connector"),
        ("-Urpf", "the kernel does not answer: it tells only processes of the initial"),
        ("-Ur", "the kernel does not answer: it tells only processes of the initial"),
    ],
)
def test_in_a_namespace_the_kernel_tells_nothing_and_that_is_said(
    options: str, reason: str, own_namespaces: Callable[..., list[str]]
) -> None:
    done = subprocess.run(
        [*own_namespaces(options), sys.executable, "-c", LONE + PROBE],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    # Before Linux 6.6, CAP_NET_ADMIN is asked for first.
    assert done.stdout.startswith("process events: ")
    assert reason in done.stdout or "CAP_NET_ADMIN" in done.stdout


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"callback": 5}, r"a function of \(event\) was expected, not 5"),
        ({}, r"a function of \(event\) was expected, not None"),
        ({"callback": print, "kinds": ["spawn"]}, "'spawn' is no kind of event: fork, exec, exit"),
        ({"callback": print, "kinds": "spawn"}, "'spawn' is no kind of event"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(
    settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        ProcessEvents(**settings)
