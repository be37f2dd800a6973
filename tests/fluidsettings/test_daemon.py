"""The daemon as a process: what clients ask, and what they are answered."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from running import dial
from settings_ground import counts, start, tell, words_of, write_definitions
from tool_ground import SCRIPTS, cpu_seconds, failed, run

from edgevent import Client, DatagramClient, InvalidMessageError, Message
from edgevent.testing.starting import StartedService

P = "FLUID_SETTINGS_"
LONG = 30.0


def raise_descriptor_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, hard)), hard))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("d")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[StartedService]:
    with start(tmp_path, "--listen=tcp://127.0.0.1:0") as daemon:
        yield daemon


def test_the_lines_are_those_of_the_cpp_daemon(daemon: StartedService) -> None:
    name = "testsvc::port"
    answers = tell(
        daemon.address,
        f"<testhost:testcli {P}LIST",
        f"<testhost:testcli {P}GET name={name}",
        f"<testhost:testcli {P}PUT name={name};value=123;priority=50",
        f"<testhost:testcli {P}GET name={name}",
        f"<testhost:testcli {P}LISTEN names={name},nosuch::x",
        f"<testhost:testcli {P}LISTEN names=testsvc::port",
        f"<testhost:testcli {P}DELETE name={name}",
        f"<testhost:testcli {P}GET name=nosuch::x",
        f"<testhost:testcli {P}PUT name={name};value=notanumber",
    )
    head = "testhost:testcli/"
    now = f"{head}{P}VALUE_UPDATED message=current value;name={name};value=123"
    assert answers == [
        f"{head}{P}OPTIONS options=testsvc::name,testsvc::port,testsvc::time-out",
        f"{head}{P}DEFAULT_VALUE name={name};value=4040",
        f"{head}{P}UPDATED name={name};reason=new",
        f"{head}{P}VALUE name={name};value=123",
        f"{head}{P}REGISTERED",
        now,
        f'{head}{P}VALUE_UPDATED error=no parameter named "nosuch::x";name=nosuch::x',
        f"{head}{P}READY errcnt=1",
        f"{head}{P}REGISTERED message=already registered",
        now,
        f"{head}{P}READY",
        f"{head}{P}VALUE_UPDATED name={name};value=4040",
        f"{head}{P}DELETED name={name}",
        f'{head}{P}NOT_SET error=no parameter named "nosuch::x";name=nosuch::x',
        f'{head}INVALID command={P}PUT;message=put named setting "{name}" to value "notanumber"'
        " failed: an integer from 1 to 65535 was expected",
    ]


def test_get_knows_its_forms(daemon: StartedService) -> None:
    name = "testsvc::time-out"
    asked = "testsvc::time_out"
    assert tell(
        daemon.address,
        f"{P}PUT name={asked};value=20s;priority=10",
        f"{P}PUT name={asked};value=5s;priority=70",
        f"{P}GET name={asked}",
        f"{P}GET name={asked};priority=10",
        f"{P}GET name={asked};priority=-1",
        f"{P}GET name={asked};priority=50",
        f"{P}GET name={asked};all=true",
        f"{P}GET name={asked};default_value=true",
        f"{P}GET name=testsvc::name",
        f"{P}GET name=testsvc::name;all=true",
        f'{P}PUT name=testsvc::name;value="a,b;c"',
        f"{P}GET name=testsvc::name;all=true",
        f"{P}DELETE name=testsvc::name;priority=51",
    ) == [
        f"{P}UPDATED name={name};reason=new",
        f"{P}UPDATED name={name};reason=new priority",
        f"{P}VALUE name={name};value=5s",
        f"{P}VALUE name={name};value=20s",
        f"{P}VALUE name={name};value=5s",
        f"{P}NOT_SET error=no value at the requested priority;name={name}",
        f"{P}ALL_VALUES name={name};values=20s,5s",
        f"{P}DEFAULT_VALUE name={name};value=10s",
        f"{P}NOT_SET error=this setting is not set;name=testsvc::name",
        f"{P}NOT_SET error=this setting is not set;name=testsvc::name",
        f"{P}UPDATED name=testsvc::name;reason=new",
        f'{P}ALL_VALUES name=testsvc::name;values="a\\\\,b;c"',
        f"{P}DELETED message=nothing was deleted;name=testsvc::name",
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("PUT value=1", "parameter name is missing"),
        ("PUT name=testsvc::port", "parameter value is missing"),
        ("PUT name=testsvc::port;value=1;priority=x", "priority is no integer"),
        ("PUT name=testsvc::port;value=1;priority=100", "priority 100: 0 to 99 was expected"),
        ("PUT name=testsvc::port;value=1;priority=-1", "priority -1: 0 to 99"),
        ("PUT name=testsvc::port;value=1;timestamp=x", "timestamp is no time"),
        ("PUT name=testsvc::port;value=1;timestamp=5", "before 2022-07-21"),
        ("PUT name=testsvc::port;value=1;timestamp=99999999999", "a day in the future"),
        ("PUT name=nosuch::x;value=1", 'failed: no parameter named "nosuch::x"'),
        ("PUT name=../../etc/passwd;value=1", "is no name of a setting"),
        ("PUT name=testsvc/port;value=1", "is no name of a setting"),
        ("PUT name=testsvc::port%2e;value=1", "is no name of a setting"),
        (f"PUT name=testsvc::name;value={'x' * 16385}", "at most 16384 were expected"),
        ("GET name=port", "is no name of a setting"),
        ("GET name=testsvc::port;priority=100", "priority 100"),
        ("GET name=testsvc::port;priority=high", "priority is no integer"),
        ("GET name=testsvc::port;all=maybe", "all is no truth value"),
        ("GET name=testsvc::port;all=true;priority=1", "at most one was expected"),
        ("DELETE name=testsvc::port;priority=x", "priority is no integer"),
        ("DELETE name=testsvc::port;priority=100", "priority 100"),
        ("DELETE name=nosuch::x", 'no parameter named "nosuch::x"'),
        ("DELETE", "parameter name is missing"),
        ("LISTEN names=", "at least one name was expected"),
        ("LISTEN names=testsvc::port,a/b", "is no name of a setting"),
        ("FORGET names=..", "is no name of a setting"),
        ("DESCRIBE name=nosuch::x", "no parameter named"),
        ("HISTORY name=nosuch::x", "no parameter named"),
        ("HISTORY name=testsvc::port;limit=x", "limit is no integer"),
        ("LIST start=x", "start is no integer"),
    ],
)
def test_bad_input_is_answered_and_changes_nothing(
    line: str, sentence: str, shared: StartedService
) -> None:
    before = counts(shared.address)["digest"]
    (alone,) = tell(shared.address, f"{P}{line}")
    assert counts(shared.address)["digest"] == before
    put, behind = tell(shared.address, f"{P}PUT name=testsvc::name;value=x", f"{P}{line}")
    for answer in (alone, behind):
        assert answer.startswith(f"INVALID command={P}{line.partition(' ')[0]};message=")
        assert sentence in answer
    assert put.startswith(f"{P}UPDATED name=testsvc::name;reason=")


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[StartedService]:
    """A daemon for all of the refusals."""
    with start(folder, "--listen=tcp://127.0.0.1:0") as daemon:
        yield daemon


def test_datagrams_are_answered_but_cannot_listen(tmp_path: Path) -> None:
    with (
        start(tmp_path, "--listen=unixgram:d.sock"),
        DatagramClient(f"unixgram:{tmp_path}/d.sock") as client,
    ):

        def ask(line: str, reply: str) -> str:
            return str(client.request(Message.parse(f"{P}{line}"), reply=reply, timeout=LONG))

        put = ask("PUT name=testsvc::port;value=5", f"{P}UPDATED")
        assert put.startswith(f"{P}UPDATED name=testsvc::port;reason=new")
        assert ";value=5" in ask("GET name=testsvc::port", f"{P}VALUE")
        with pytest.raises(InvalidMessageError, match="to listen needs a stream"):
            ask("LISTEN names=testsvc::port", f"{P}READY")
        with pytest.raises(InvalidMessageError, match="is for a connection between daemons"):
            client.request(Message(f"{P}GOSSIP", {"my_ip": "1.2.3.4:5"}), timeout=LONG)


def test_more_writes_than_may_be_under_way_are_all_answered_in_order(
    daemon: StartedService,
) -> None:
    puts = [f"{P}PUT name=testsvc::port;value={number}" for number in range(1, 1_001)]
    gets = [f"{P}GET name=testsvc::port" for _ in puts]
    lines = [line for pair in zip(puts, gets, strict=True) for line in pair]
    answers = tell(daemon.address, *lines)
    assert answers[1::2] == [f"{P}VALUE name=testsvc::port;value={n}" for n in range(1, 1_001)]
    assert all("reason=" in one for one in answers[::2])
    assert int(counts(daemon.address)["commits"]) < 1_000


def test_a_refused_value_is_not_logged(daemon: StartedService) -> None:
    tell(daemon.address, f"{P}PUT name=testsvc::port;value=s3cret")
    tell(daemon.address, f"{P}PUT name=testsvc::name;value=s3cret")
    assert "refused FLUID_SETTINGS_PUT: a value of testsvc::port" in daemon.output
    assert "s3cret" not in daemon.output


def test_each_listener_is_told_once_until_it_forgets_or_goes(daemon: StartedService) -> None:
    with ExitStack() as stack:
        one, two, gone = (
            stack.enter_context(Client(daemon.address, connect_timeout=LONG)) for _ in range(3)
        )
        for client in (one, two, gone):
            listen = Message(f"{P}LISTEN", {"names": "testsvc::name,testsvc::name"})
            client.request(listen, reply=f"{P}READY", timeout=LONG)
            client.receive(LONG)  # REGISTERED
            assert client.receive(LONG)["error"] == "this setting is not set"
        gone.close()
        put = Message(f"{P}PUT", {"name": "testsvc::name", "value": "a"})
        assert two.request(put, reply=f"{P}UPDATED", timeout=LONG)["reason"] == "new"
        # What changes nothing is not told.
        assert two.request(put, reply=f"{P}UPDATED", timeout=LONG)["reason"] == "newer"
        forget = Message(f"{P}FORGET", {"names": "testsvc::name"})
        answer = one.request(forget, reply=f"{P}FORGET", timeout=LONG)
        assert dict(answer.parameters).keys() - {"serial"} == {"names"}
        assert "not listening" in str(one.request(forget, reply=f"{P}FORGET", timeout=LONG))
        delete = Message(f"{P}DELETE", {"name": "testsvc::name"})
        two.request(delete, reply=f"{P}DELETED", timeout=LONG)
        assert [str(one.receive(LONG))] == [f"{P}VALUE_UPDATED name=testsvc::name;value=a"]
        assert [str(two.receive(LONG)) for _ in range(2)] == [
            f"{P}VALUE_UPDATED name=testsvc::name;value=a",
            f"{P}VALUE_UPDATED name=testsvc::name;reason=value undefined",
        ]
        assert counts(daemon.address)["told"] == "3"


def test_a_thousand_listeners_are_told_at_once(daemon: StartedService) -> None:
    with ExitStack() as stack:
        address = daemon.address  # to look for it takes a while with so many
        peers = [stack.enter_context(dial(address)) for _ in range(50)]
        # Twenty services behind each connection, as behind communicatord.
        for peer in peers:
            text = "".join(
                f"<host:svc{number} {P}LISTEN names=testsvc::port\n" for number in range(20)
            )
            peer.sendall(text.encode())
            _read(peer, 60)
        began = time.monotonic()
        tell(daemon.address, f"{P}PUT name=testsvc::port;value=77")
        told = [line for peer in peers for line in _read(peer, 20)]
        assert time.monotonic() - began < 10 * 0.5  # a busy machine
        assert len(told) == 1_000
        assert {line.partition("/")[2] for line in told} == {
            f"{P}VALUE_UPDATED name=testsvc::port;value=77"
        }


def _read(sock: socket.socket, count: int) -> list[str]:
    data = b""
    while data.count(b"\n") < count:
        part = sock.recv(65536)
        assert part
        data += part
    return data.decode().splitlines()


def test_history_and_description_tell_who_and_when(daemon: StartedService) -> None:
    lines = tell(
        daemon.address,
        f"<host:cli {P}PUT name=testsvc::port;value=1;timestamp=1700000000.5",
        f"<host:cli {P}HISTORY name=testsvc::port;limit=5",
        f"<host:cli {P}DESCRIBE name=testsvc::port",
        f"<host:cli {P}EXPORT",
    )
    assert '"priority":50,"timestamp":1700000000500000000,"value":"1"' in lines[1]
    assert '"who":"host:cli (tcp://127.0.0.1:' in lines[1]
    assert "default=4040;help=The port to listen on;" in lines[2]
    assert "required=true;type=integer(1...65535);" in lines[2]
    assert lines[3].endswith("/FLUID_SETTINGS_LINES lines=testsvc::port::50=1700000000500000000|1")


def test_an_answer_that_is_too_long_for_a_line_is_told_so_or_cut(tmp_path: Path) -> None:
    many = "".join(f"[many::{'x' * 200}-{number}]\nhelp=x\n" for number in range(600))
    with start(tmp_path, "--listen=tcp://127.0.0.1:0") as daemon:
        write_definitions(tmp_path, many)
        daemon.signal("SIGHUP")
        daemon.wait_until("the configuration was read again")
        found: list[str] = []
        after = "0"
        while after:
            (line,) = tell(daemon.address, f"{P}LIST start={after}")
            fields = dict(item.split("=", 1) for item in line.partition(" ")[2].split(";"))
            found += fields["options"].split(",")
            after = fields.get("more", "")
        assert (len(found), len(set(found))) == (600, 600)
        value = "x" * 16_000
        puts = [f"{P}PUT name={found[0]};value={value};priority={number}" for number in range(6)]
        assert len(tell(daemon.address, *puts)) == 6
        assert (
            "its values do not fit one message"
            in tell(daemon.address, f"{P}GET name={found[0]};all=true")[0]
        )


def test_definitions_that_cannot_be_used_leave_those_that_were(tmp_path: Path) -> None:
    with start(tmp_path, "--listen=tcp://127.0.0.1:0") as daemon:
        write_definitions(tmp_path, "[x::y]\nhepl=1\n")
        daemon.signal("SIGHUP")
        daemon.wait_until("the definitions stay as they were")
        assert "did you mean 'help'" in daemon.output
        assert len(tell(daemon.address, f"{P}GET name=testsvc::port")) == 1
        assert "DEFAULT_VALUE" in tell(daemon.address, f"{P}GET name=testsvc::port")[0]


def test_other_definitions_are_told_to_listeners_and_values_stay(tmp_path: Path) -> None:
    with start(tmp_path, "--listen=tcp://127.0.0.1:0") as daemon, dial(daemon.address) as peer:
        tell(daemon.address, f"{P}PUT name=testsvc::name;value=mine")
        names = "testsvc::port,testsvc::name,testsvc::time-out,testsvc::later"
        peer.sendall(f"{P}LISTEN names={names}\n".encode())
        _read(peer, 6)
        text = "[testsvc::port]\ndefault=5050\n[testsvc::name]\nvalidator=integer\n"
        write_definitions(tmp_path, f"{text}[testsvc::later]\ndefault=now\n")
        daemon.signal("SIGHUP")
        assert sorted(_read(peer, 3)) == [
            f"{P}VALUE_UPDATED name=testsvc::later;value=now",
            f"{P}VALUE_UPDATED name=testsvc::port;value=5050",
            f"{P}VALUE_UPDATED name=testsvc::time-out;reason=value undefined",
        ]
        daemon.wait_until("1 of the values are refused by their definitions, such as testsvc::name")
        assert tell(daemon.address, f"{P}GET name=testsvc::name")[0].endswith("value=mine")


@pytest.mark.slow
def test_a_thousand_clients_are_told_at_once(daemon: StartedService) -> None:
    raise_descriptor_limit(3_000)
    with ExitStack() as stack:
        address = daemon.address  # to look for it takes a while with so many
        peers = [stack.enter_context(dial(address)) for _ in range(1_100)]
        for peer in peers:
            peer.sendall(f"{P}LISTEN names=testsvc::port\n".encode())
        for peer in peers:
            _read(peer, 3)
        began = time.monotonic()
        tell(daemon.address, f"{P}PUT name=testsvc::port;value=77")
        for peer in peers:
            _read(peer, 1)
        assert time.monotonic() - began < 0.5


def test_it_serves_by_way_of_communicatord_too(tmp_path: Path) -> None:
    router = [sys.executable, str(SCRIPTS / "communicatord")]
    options = [
        "--local-listen=off",
        "--signal=off",
        "--unix-listen=c.sock",
        "--server-name=testhost",
        "--remote-listen=off",
    ]
    with StartedService([*router, *options], ready="notify", folder=tmp_path) as communicatord:
        line = ["--communicator-listen=unix:c.sock", "--listen=unix:s.sock"]
        with (
            start(tmp_path, *line),
            dial(f"unix:{tmp_path}/c.sock") as one,
            dial(f"unix:{tmp_path}/c.sock") as other,
        ):
            communicatord.wait_until("registered as fluid_settings")
            for sock, name in ((one, "testcli"), (other, "watcher")):
                sock.sendall(f"REGISTER service={name};version=1\n".encode())
                _read(sock, 2)
            name = "testsvc::port"
            other.sendall(f"fluid_settings/{P}LISTEN names={name}\n".encode())
            assert len(_read(other, 3)) == 3
            one.sendall(
                f"fluid_settings/{P}PUT name={name};value=5\n"
                f"fluid_settings/{P}GET name={name}\n"
                f"fluid_settings/{P}HISTORY name={name}\n"
                f"fluid_settings/VALUE_CHANGED name={name};values=1\n".encode()
            )
            head = "<testhost:fluid_settings testhost:"
            updated, value, history, refused = _read(one, 4)
            assert updated == f"{head}testcli/{P}UPDATED name={name};reason=new"
            assert value == f"{head}testcli/{P}VALUE name={name};value=5"
            assert '"who":"testhost:testcli"' in history
            assert "VALUE_CHANGED is for a connection between daemons" in refused
            assert _read(other, 1) == [f"{head}watcher/{P}VALUE_UPDATED name={name};value=5"]
            # Who is gone does not listen any more.
            assert counts(tmp_path / "s.sock")["listened"] == "1"
            other.sendall(b"UNREGISTER service=watcher\n")
            assert other.recv(100) == b""
            one.sendall(f"fluid_settings/{P}GET name={name}\n".encode())
            _read(one, 1)
            assert counts(tmp_path / "s.sock")["listened"] == "0"


# --- the program ----------------------------------------------------------------------------------


def test_it_exports_and_imports(tmp_path: Path) -> None:
    text = "testsvc::port::50=1700000000000000000|123\ntestsvc::name::7=1700000000000000001|ä b\n"
    (tmp_path / "in.conf").write_text(text, encoding="utf-8")

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words_of(tmp_path, *words), capture_output=True, text=True, timeout=LONG, check=False
        )

    done = call(f"--import={tmp_path}/in.conf", "--export=-")
    assert (done.returncode, done.stderr) == (0, "2 values were taken over\n")
    assert done.stdout.splitlines()[2:] == sorted(text.splitlines())
    (tmp_path / "in.conf").write_text("testsvc::port::50=1800000000000000000|x\n", encoding="utf-8")
    done = call(f"--import={tmp_path}/in.conf")
    assert failed("fluid-settings", done, 1).endswith("an integer from 1 to 65535 was expected")
    (tmp_path / "defs" / "other.ini").write_text("[x::y]\nhepl=1\n", encoding="utf-8")
    assert "did you mean 'help'" in failed("fluid-settings", call("--export=-"), 2)


def test_options_that_are_wrong_are_told_in_one_line(tmp_path: Path) -> None:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return run("fluid-settings", *words, folder=tmp_path)

    assert "a number from 0 to 1000" in failed("fluid-settings", call("--history=5000"), 2)
    assert "a stream was expected" in failed("fluid-settings", call("--peers=udp://h:1"), 2)
    assert "'http://h'" in failed("fluid-settings", call("--peers=10.0.0.1,http://h"), 2)
    shown = run("fluid-settings", "--show-config", folder=tmp_path, STATE_DIRECTORY="/x:/y").stdout
    assert "database = /x/settings.db" in shown
    (tmp_path / "defs").mkdir()
    (tmp_path / "defs" / "a.ini").write_text("[x]\nhelp=1\n", encoding="utf-8")
    done = call(
        "--check-config", "--definitions=defs:gone", "--database=no/x.db", "--listen=unix:s"
    )
    assert done.returncode == 2
    assert [line.partition(": ")[2] for line in done.stderr.splitlines()] == [
        "defs/a.ini:2: [x]: 'x' is no name of a setting: namespace::name was expected, of letters,"
        " digits, '-' and '_'",
        "definitions: there is no folder gone",
        f"database: there is no folder {tmp_path}/no",
    ]


def test_options_of_the_cpp_daemon_are_taken(tmp_path: Path) -> None:
    (tmp_path / "f.conf").write_text(
        f"listen=127.0.0.1:0\ndefinitions={tmp_path}/defs\nsave-timeout=5s\n"
        f"path_to_message_definitions={tmp_path}/messages\n"
        "settings=/var/lib/x\ngossip_timeout=60s\n",
        encoding="utf-8",
    )
    with start(tmp_path, "--listen=unix:s.sock", f"--config={tmp_path}/f.conf") as daemon:
        assert "option settings: this daemon has no use for it; --import takes" in daemon.output
        assert "option save-timeout: this daemon has no use for it\n" in daemon.output


def test_it_starts_and_ends_soon(tmp_path: Path) -> None:
    assert cpu_seconds("fluid-settings", "--version", folder=tmp_path) < 0.8
