"""Daemons keep each other equal: at the start, from then on, and after a partition has healed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from network_ground import run_program
from running import ROOT, dial, talk
from settings_ground import counts, start, tell

from edgevent.testing.starting import StartedService

P = "FLUID_SETTINGS_"
NAME = "testsvc::name"
PORT = "testsvc::port"


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., StartedService]]:
    """Starts a daemon with a folder of its own."""
    with ExitStack() as stack:

        def make(
            name: str, *peers: StartedService | str, more: tuple[str, ...] = ()
        ) -> StartedService:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            addresses = [one if isinstance(one, str) else one.address for one in peers]
            words = [f"--peers={','.join(addresses)}"] if addresses else []
            listen = "--listen=tcp://127.0.0.1:0"
            return stack.enter_context(start(folder, listen, "--gossip-timeout=1h", *words, *more))

        yield make


def put(daemon: StartedService, name: str, value: str, priority: int = 50) -> None:
    (answer,) = tell(daemon.address, f"{P}PUT name={name};value={value};priority={priority}")
    assert answer.startswith(f"{P}UPDATED"), answer


def export(daemon: StartedService) -> str:
    (answer,) = tell(daemon.address, f"{P}EXPORT")
    return answer


def are_equal(*daemons: StartedService) -> bool:
    return len({counts(one.address)["digest"] for one in daemons}) == 1


def test_what_both_had_before_is_exchanged_with_deletions(
    begin: Callable[..., StartedService],
) -> None:
    one = begin("one")
    put(one, NAME, "of one")
    put(one, PORT, "1", 10)
    other = begin("other")
    put(other, PORT, "2", 20)
    put(other, NAME, "of other")  # the newer one
    other.stop()
    other = begin("other", one)
    one.wait_until(lambda _: are_equal(one, other))
    assert export(one) == export(other)
    assert "name::50=" in export(one)
    assert "|of other" in export(one)
    assert "testsvc::port::10=" in export(one)
    assert "testsvc::port::20=" in export(one)
    # A deletion while the other one is away.
    other.stop()
    tell(one.address, f"{P}DELETE name={PORT};priority=20")
    other = begin("other", one)
    one.wait_until(lambda _: are_equal(one, other))
    assert "testsvc::port::20=" not in export(other)
    assert tell(other.address, f"{P}GET name={PORT}") == [f"{P}VALUE name={PORT};value=1"]
    assert '"value":null' in tell(other.address, f"{P}HISTORY name={PORT}")[0]


def test_each_change_goes_to_all_and_is_told_their_listeners_once(
    begin: Callable[..., StartedService],
) -> None:
    middle = begin("middle")
    left, right = begin("left", middle), begin("right", middle)
    middle.wait_until(lambda _: counts(middle.address)["peers"] == "2")
    with dial(right.address) as listener:
        listener.sendall(f"{P}LISTEN names={NAME}\n".encode())
        heard = listener.makefile("r", encoding="utf-8")
        assert [next(heard).partition(" ")[0] for _ in range(3)][2].strip() == f"{P}READY"
        put(left, NAME, "a")
        assert next(heard) == f"{P}VALUE_UPDATED name={NAME};value=a\n"
        tell(left.address, f"{P}DELETE name={NAME}")
        assert next(heard) == f"{P}VALUE_UPDATED name={NAME};reason=value undefined\n"
        put(middle, NAME, "b")
        assert next(heard) == f"{P}VALUE_UPDATED name={NAME};value=b\n"
        heard.close()
    left.wait_until(lambda _: are_equal(left, middle, right))
    history = tell(right.address, f"{P}HISTORY name={NAME}")[0]
    assert history.count('"who":"tcp://127.0.0.1:') == 3  # who has set it there


def test_a_daemon_that_dials_itself_says_so(
    begin: Callable[..., StartedService], tmp_path: Path
) -> None:
    path = tmp_path / "self" / "s"
    with_socket = (f"--listen=unix:{os.path.relpath(path, tmp_path / 'self')}", "--peers=unix:s")
    daemon = begin("self", more=with_socket)
    daemon.wait_until("this address is of this daemon itself")
    assert counts(path)["peers"] == "0"


def test_what_a_daemon_tells_that_cannot_be_read_is_refused(
    begin: Callable[..., StartedService],
) -> None:
    daemon = begin("one")
    lines = [
        f"VALUE_CHANGED name={NAME};values=1|2\n",
        "VALUE_CHANGED name=../x;values=1|2|3\n",
        f"VALUE_CHANGED name={NAME}\n",
        f"VALUE_CHANGED name={NAME};values=50|1700000000000000000|x\\\\Py\\n\n",
        "FLUID_SETTINGS_GOSSIP my_ip=10.0.0.1:4049\n",
    ]
    answers = talk(daemon.address, "".join(lines).encode()).decode().splitlines()
    assert [one.partition(" ")[0] for one in answers] == [
        "INVALID",
        "INVALID",
        "INVALID",
        "VALUE_CHANGED",
        f"{P}CONNECTED",
    ]
    assert (
        answers[3] == f"VALUE_CHANGED name={NAME};values=50|1700000000000000000|x\\\\Py\\n;who=\\n"
    )
    assert tell(daemon.address, f"{P}GET name={NAME}") == [f"{P}VALUE name={NAME};value=x|y"]


def test_of_the_values_of_a_setting_those_are_taken_that_can_be_read(
    begin: Callable[..., StartedService],
) -> None:
    daemon = begin("one")
    good, time = "50|1700000000000000000|a\\n", 1700000000000000000
    (answer,) = tell(
        daemon.address, f"VALUE_CHANGED name={NAME};values=10|x|b\\n{good}100|{time}|c\\n"
    )
    assert answer == (
        f"INVALID command=VALUE_CHANGED;message={NAME}: line 1 is no priority|timestamp|value,"
        " and 1 more"
    )
    daemon.wait_until(lambda _: counts(daemon.address).get("peers_merged") == "1")
    assert tell(daemon.address, f"{P}GET name={NAME};all=true") == [
        f"{P}ALL_VALUES name={NAME};values=a"
    ]


def test_a_date_of_the_far_future_keeps_nobody_from_setting_a_value(
    begin: Callable[..., StartedService],
) -> None:
    daemon = begin("one")
    answers = tell(
        daemon.address,
        f"VALUE_CHANGED name={NAME};values=50|{2**63 - 1}|too late\\n",
        f"VALUE_CHANGED name={NAME};values=50|{2**62}|late\\n",
        f"{P}GET name={NAME}",
        f"{P}PUT name={NAME};value=now",
        f"{P}GET name={NAME}",
    )
    assert answers[0].startswith("INVALID")
    assert "is after the year 2115" in answers[0]
    assert answers[2:] == [
        f"{P}UPDATED name={NAME};reason=changed",
        f"{P}VALUE name={NAME};value=now",
    ]


def test_bytes_that_are_no_text_stop_nothing(begin: Callable[..., StartedService]) -> None:
    daemon = begin("one")
    line = f"VALUE_CHANGED name={NAME};values=50|1700000000000000000|".encode()
    data = line + b"\xff\\n\n" + line + b"x\\n;who=\xff\\n\n"
    answers = talk(daemon.address, data).decode().splitlines()
    assert len(answers) == 1
    assert "not UTF-8" in answers[0]
    daemon.wait_until(lambda _: counts(daemon.address).get("peers_merged") == "1")
    assert tell(daemon.address, f"{P}GET name={NAME}") == [f"{P}VALUE name={NAME};value=x"]
    assert '"who":"?"' in tell(daemon.address, f"{P}HISTORY name={NAME}")[0]


def test_peers_of_another_configuration_are_dialled_after_a_reload(
    begin: Callable[..., StartedService], tmp_path: Path
) -> None:
    one, other = begin("one"), begin("other")
    put(one, NAME, "x")
    config = tmp_path / "three.conf"
    config.write_text(f"peers = {other.address}\n", encoding="utf-8")
    three = begin("three", more=(f"--config={config}",))
    three.wait_until(lambda _: counts(three.address)["peers"] == "1")
    config.write_text(f"history = 7\n[links]\none = {one.address} pauses=0.1\n", encoding="utf-8")
    three.signal("SIGHUP")
    three.wait_until(lambda _: are_equal(one, three))
    three.wait_until(lambda _: counts(three.address)["peers"] == "1")
    assert not are_equal(other, three)
    assert "the new value of history needs a restart" in three.output


def test_thousands_of_settings_come_over(
    begin: Callable[..., StartedService], tmp_path: Path
) -> None:
    names = [f"many::name-{number}" for number in range(3_000)]
    definitions = "".join(f"[{name}]\nhelp=x\n" for name in names)
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "many.ini").write_text(definitions, encoding="utf-8")
    one = begin("one", more=(f"--definitions={folder}",))
    lines = [f"{P}PUT name={name};value={'x' * 500}" for name in names]
    assert len(tell(one.address, *lines)) == 3_000
    other = begin("other", one, more=(f"--definitions={folder}",))
    one.wait_until(lambda _: are_equal(one, other))
    assert counts(other.address)["peers_merged"] == "3000"
    assert int(counts(other.address)["commits"]) < 3_000


def test_what_was_missed_is_made_good_by_the_next_comparison(
    begin: Callable[..., StartedService],
) -> None:
    one = begin("one", more=("--gossip-timeout=0.2s",))
    other = begin("other", one, more=("--gossip-timeout=0.2s", "--peer-timeout=20s"))
    one.wait_until(lambda _: counts(one.address)["peers"] == "1")
    # Stopped, it takes nothing; what is sent to it stays in between.
    os.kill(other.pid, signal.SIGSTOP)
    try:
        put(one, NAME, "a")
    finally:
        os.kill(other.pid, signal.SIGCONT)
    one.wait_until(lambda _: are_equal(one, other))


# --- a partition ----------------------------------------------------------------------------------

# In a network namespace, with another one at the far end of a cable.
PROGRAM = """
import os, subprocess, sys, time
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
from pathlib import Path
import gevent
from settings_ground import counts, start, tell
from network_ground import run_program

P, NAME, PORT = "FLUID_SETTINGS_", "testsvc::name", "testsvc::port"
folder = Path(sys.argv[2])
cut_for = float(sys.argv[3])
for name in ("near", "far"):
    (folder / name).mkdir()
holder = subprocess.Popen(
    ["unshare", "-n", "sh", "-c", "ip link set lo up; echo here; read end"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
)
holder.stdout.readline()
inside = ("nsenter", "-t", str(holder.pid), "-n")


def run(*words):
    subprocess.run(words, check=True)


def begin(name, own, other, before=()):
    more = [f"--listen=tcp://{own}:4049", "--listen=unix:s", f"--peers={other}"]
    # The socket of the service manager is of one network namespace.
    settings = {"before": before, "ready": "listening on unix:s"}
    more += ["--peer-timeout=3s" if cut_for else "--peer-timeout=0.3s"]
    return start(folder / name, *more, "--gossip-timeout=60s", **settings)


def put(name, value, priority=50):
    where = folder / name / "s"
    (answer,) = tell(where, f"{P}PUT name={value[0]};value={value[1]};priority={priority}")
    assert answer.startswith(f"{P}UPDATED"), answer


def digests():
    return {counts(folder / name / "s")["digest"] for name in ("near", "far")}


def are_equal():
    return len(digests()) == 1


try:
    run("ip", "link", "set", "far", "netns", str(holder.pid))
    run(*inside, "ip", "address", "add", "10.9.0.2/24", "dev", "far")
    run(*inside, "ip", "link", "set", "far", "up")
    with (
        begin("near", "10.9.0.1", "10.9.0.2") as near,
        begin("far", "10.9.0.2", "10.9.0.1", inside) as far,
    ):
        put("near", (NAME, "first"))
        near.wait_until(lambda _: are_equal())
        print("joined", flush=True)
        run("ip", "link", "set", "near", "down")
        put("near", (NAME, "in the cut"))
        put("near", (PORT, "1"), 10)
        put("far", (PORT, "2"), 20)
        put("far", (PORT, "3"), 30)
        (answer,) = tell(folder / "far" / "s", f"{P}DELETE name={PORT};priority=30")
        put("far", (NAME, "last"))
        if cut_for:
            gevent.sleep(cut_for)  # the length of the cut is what is tested
        else:
            near.wait_until(lambda _: counts(folder / "near" / "s")["peers"] == "0")
        assert not are_equal()
        run("ip", "link", "set", "near", "up")
        began = time.monotonic()
        near.wait_until(lambda _: are_equal())
        took = time.monotonic() - began
        print("equal", took < float(sys.argv[4]) or took, flush=True)
        for name in ("near", "far"):
            print(tell(folder / name / "s", f"{P}GET name={NAME}", f"{P}GET name={PORT};all=true"))
finally:
    holder.communicate(b"end\\n")
"""

SETUP = (
    "ip link add near type veth peer name far && ip address add 10.9.0.1/24 dev near"
    " && ip link set near up"
)
ENDED = f"['{P}VALUE name={NAME};value=last', '{P}ALL_VALUES name={PORT};values=1,2']\n"


@pytest.mark.parametrize(
    ("cut_for", "limit"),
    [
        pytest.param(0.0, 15.0, id="noticed by both, lowered limit"),
        pytest.param(0.5, 5.0, id="short", marks=pytest.mark.slow),
        pytest.param(3.1, 5.0, id="as long as what notices it", marks=pytest.mark.slow),
        pytest.param(20.0, 5.0, id="long", marks=pytest.mark.slow),
    ],
)
def test_two_computers_are_equal_soon_after_a_partition(
    cut_for: float,
    limit: float,
    tmp_path: Path,
    own_namespaces: Callable[..., list[str]],
    need_tool: Callable[..., str],
) -> None:
    need_tool("nsenter", package="util-linux")
    setup = f'ip link set lo up && {SETUP} && exec "$0" "$@"'
    before = (*own_namespaces("-n"), "sh", "-c", setup)
    arguments = (ROOT, tmp_path, cut_for, limit)
    printed = run_program(PROGRAM, *arguments, before=before, patience=cut_for + 45.0)
    assert printed == f"joined\nequal True\n{ENDED}{ENDED}"
