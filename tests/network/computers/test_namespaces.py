"""Three computers in three network namespaces, each with the real program."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from gevent import subprocess as children
from network_ground import PATIENCE
from tool_ground import variables_of, words_of

from edgevent import Client, connect

# a and b are on one network, b and c on another one: a and c reach each other by b alone.
ADDRESSES = {"a": "10.9.1.1", "b": "10.9.1.2", "c": "10.9.2.3"}
NETWORK = (
    ("b", "ip link add to_a type veth peer name to_b netns {a}"),
    ("b", "ip link add to_c type veth peer name to_b netns {c}"),
    ("b", "ip addr add 10.9.1.2/24 dev to_a; ip addr add 10.9.2.2/24 dev to_c"),
    ("b", "ip link set to_a up; ip link set to_c up; ip link set lo up"),
    ("a", "ip addr add 10.9.1.1/24 dev to_b; ip link set to_b up; ip link set lo up"),
    ("c", "ip addr add 10.9.2.3/24 dev to_b; ip link set to_b up; ip link set lo up"),
    ("c", "ip route add 10.9.1.0/24 via 10.9.2.2"),
)


class Three:
    """The namespaces, and the daemons in them."""

    def __init__(self, folder: Path, words: list[str], stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self._holders = {}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        for name in ADDRESSES:
            holder = children.Popen([*words, "cat"], stdin=children.PIPE, stdout=children.PIPE)
            stack.callback(_end, holder)
            holder.stdin.write(b"\n")
            holder.stdin.flush()
            holder.stdout.read(1)  # it is in its namespace by now
            self._holders[name] = holder
        pids = {name: holder.pid for name, holder in self._holders.items()}
        for name, command in NETWORK:
            children.run([*self.inside(name), "sh", "-ec", command.format(**pids)], check=True)

    def inside(self, name: str) -> list[str]:
        """The words before a command that is to run on a computer."""
        return ["nsenter", "-t", str(self._holders[name].pid), "-n"]

    def start(self, name: str, *neighbors: str) -> None:
        """Starts a daemon."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        options = (
            f"--server-name={name}",
            f"--remote-listen={ADDRESSES[name]}",
            f"--unix-listen={folder}/socket",
            f"--data-path={folder}",
            f"--neighbors={' '.join(ADDRESSES[one] for one in neighbors)}",
            "--fixed-neighbors",
            "--timedate-wait-command=true",
            f"--log-file={folder}/log",
        )
        words = [*self.inside(name), *words_of("communicatord", *options)]
        process = children.Popen(
            words,
            env=variables_of(folder),
            stdin=children.DEVNULL,
            stdout=children.DEVNULL,
            stderr=children.DEVNULL,
        )
        self.daemons[name] = process
        self._stack.callback(_end, process)

    def service(self, name: str, *commands: str) -> Service:
        """Registers the service ``s`` on a computer."""
        found = Service(f"unix:{self.folder}/{name}/socket", *commands)
        self._stack.callback(found.close)
        return found

    def kill(self, name: str) -> None:
        """Ends a daemon in the middle of whatever it does."""
        self.daemons[name].send_signal(signal.SIGKILL)
        self.daemons[name].wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for file in (process.stdin, process.stdout):
        if file is not None:
            file.close()


class Service:
    """A service, of which the test says what it sends."""

    def __init__(self, address: str, *commands: str) -> None:
        with Client(address, connect_timeout=PATIENCE, wait=True):
            self._stream = connect(address)
        self.says("REGISTER service=s;version=1")
        self.hears("READY")
        if commands:
            self.says(f"COMMANDS list={','.join(commands)}")

    def close(self) -> None:
        self._stream.close()

    def says(self, line: str) -> None:
        self._stream.write(f"{line}\n".encode())

    def hears(self, text: str = "", patience: float = PATIENCE) -> str:
        """Gives the next line that has a text in it."""
        while True:
            line = self._stream.read_line(timeout=patience).decode().rstrip("\n")
            assert line, "the daemon has ended the connection"
            if text in line:
                return line

    def asks(self, target: str, other: Service) -> str:
        """Sends a message until there is a way for it, and gives it as the other one has it."""
        while True:
            self.says(f'{target}/ASKED cache="no;reply"')
            self.says("communicatord/ALIVE")
            if "ABSOLUTELY" in self.hears():  # it was not returned
                return other.hears("ASKED")
            self.hears("ABSOLUTELY")

    def asks_in_vain(self, target: str) -> None:
        """Sends a message until the daemon here knows that there is no way for it."""
        while True:
            self.says(f'{target}/ASKED cache="no;reply"')
            self.says("communicatord/ALIVE")
            while "ABSOLUTELY" not in (line := self.hears()):
                if "<a:communicatord SERVICE_UNAVAILABLE" in line:
                    self.hears("ABSOLUTELY")
                    return


@pytest.fixture
def three(
    tmp_path: Path, own_namespaces: Callable[..., list[str]], need_tool: Callable[..., str]
) -> Iterator[Three]:
    need_tool("nsenter", package="util-linux")
    with ExitStack() as stack:
        yield Three(tmp_path, own_namespaces("-n"), stack)


def test_three_computers_route_broadcast_lose_a_link_and_heal(three: Three) -> None:
    three.start("a")
    three.start("b", "a")
    three.start("c", "b")
    a, c = three.service("a", "NEWS", "ASKED"), three.service("c", "NEWS", "ASKED")
    b = three.service("b", "NEWS", "HANGUP", "NEW_REMOTE_CONNECTION", "CLUSTER_INCOMPLETE")

    assert a.asks("c:s", c).startswith("<a:s c:s/ASKED cache=")
    assert c.asks("a:s", a) == '<c:s a:s/ASKED cache="no;reply";relay_hops=1'
    for number in range(10):
        a.says(f"*/NEWS n={number}")
    a.says("*/NEWS last=yes")
    for one in (a, b, c):
        heard = [one.hears("NEWS") for _ in range(11)]
        assert [f"n={n}" in text for n, text in enumerate(heard)] == [True] * 10 + [False]
        assert "last=yes" in heard[-1]

    answer = children.run(
        [
            *three.inside("b"),
            *words_of("ed-signal", "--type=tcp", "--host=127.0.0.1:4040", "--reply"),
            "communicatord/CLUSTER_STATUS",
        ],
        env=variables_of(three.folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "CLUSTER_UP neighbors_count=3" in answer.stdout, answer.stderr

    three.kill("c")
    assert b.hears("HANGUP").endswith("./HANGUP server_name=c")
    assert b.hears("CLUSTER").endswith("./CLUSTER_INCOMPLETE neighbors_count=3")
    a.asks_in_vain("c:s")
    three.start("c", "b")
    again = three.service("c", "NEWS", "ASKED")
    assert b.hears("NEW_REMOTE").endswith("./NEW_REMOTE_CONNECTION server_name=c")
    assert a.asks("c:s", again).startswith("<a:s c:s/ASKED cache=")
    assert (
        three.folder / "b" / "cluster-status.txt"
    ).read_text() == "CLUSTER_UP\nCLUSTER_COMPLETE\n"
    for name in "abc":
        three.daemons[name].send_signal(signal.SIGTERM)
        assert three.daemons[name].wait(PATIENCE) == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_cable_that_is_pulled_and_put_back(three: Three) -> None:
    three.start("a")
    three.start("b", "a")
    three.start("c", "b")
    a, c = three.service("a", "NEWS", "ASKED"), three.service("c", "NEWS", "ASKED")
    told = ("HANGUP", "NEW_REMOTE_CONNECTION")
    b = three.service("b", *told)
    a.asks("c:s", c)
    cable = [*three.inside("b"), "ip", "link", "set", "to_c"]
    children.run([*cable, "down"], check=True)
    a.says("c:s/ASKED x=1")  # something waits to be acknowledged
    assert b.hears("HANGUP", 90.0).endswith("./HANGUP server_name=c")
    a.asks_in_vain("c:s")
    children.run([*cable, "up"], check=True)
    children.run([*three.inside("c"), "ip", "route", "replace", "10.9.1.0/24", "via", "10.9.2.2"])
    assert b.hears("NEW_REMOTE", 120.0).endswith("./NEW_REMOTE_CONNECTION server_name=c")
    assert a.asks("c:s", c).startswith("<a:s c:s/ASKED ")
