"""Every program of examples/ does what it says, run as a process of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import EXAMPLES, Program, copy_at, dial, environment, talk, terminate
from tls_ground import authority, client_options, server_pair

from edgevent import Client, Message, UnknownCommandError

SERVICE = EXAMPLES / "hello_service.py"
SERVER_TESTED = {"server.py", "client.py"}  # in test_conversation.py
COUNT_TESTED = {"counted.py"}  # in isolated/test_counted.py
LOG_TESTED = {"logged.py", "sends_log.py"}  # in tools/: test_logrotate.py, test_snaplog_lines.py
SYSTEMD_TESTED = {"activated.py"}  # in tools/test_systemd.py
FILE_TESTED = {"config_driven.py"}  # in tools/test_config_driven.py
OPTION_TESTED = {"configured.py"}  # in tools/test_option_output.py
NAME_TESTED = {"order.py", "shop.py", "stock.py"}  # in communicatord/client/test_windows.py
SETTINGS_TESTED = {"greeter.py", "settings_client.py"}  # in fluidsettings/test_settings_lines.py
LONG = {"quickstart.py", "every_source.py"}  # each in a file of isolated/ of its own
TESTED = {
    "ask.py",
    "beacon.py",
    "beacon_listener.py",
    "classes.py",
    "events.py",
    "fifo_service.py",
    "folder_watch.py",
    "hand_over.py",
    "hello_service.py",
    "parent_and_child.py",
    "permanent.py",
    "profiler_safe.py",
    "straight.py",
    "supervisor.py",
    "tls_client.py",
    "tls_server.py",
    "words.py",
}


def waiting_client(address: str) -> Client:
    """A client of a program that may not listen yet."""
    return Client(address, connect_timeout=20.0, wait=True)


def test_every_example_is_tested_and_short() -> None:
    programs = {path.name: path for path in EXAMPLES.glob("*.py")}
    elsewhere = SERVER_TESTED | COUNT_TESTED | LOG_TESTED | SYSTEMD_TESTED | FILE_TESTED
    elsewhere |= OPTION_TESTED | NAME_TESTED
    elsewhere |= SETTINGS_TESTED
    assert set(programs) == TESTED | elsewhere | LONG
    for path in programs.values():
        most = 80 if path.name in LONG else 40
        assert len(path.read_text(encoding="utf-8").splitlines()) < most, path.name


# --- the hello service ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_hello_service_answers_everywhere_and_ends(tmp_path: Path, number: int) -> None:
    authority().write(tmp_path / "keys", "ca")
    server_pair().write(tmp_path / "keys", "server")
    addresses = ["tcp://127.0.0.1:0", "unix:hello.sock", "udp://127.0.0.1:0", "tls://127.0.0.1:0"]
    with Program(SERVICE, *addresses, folder=tmp_path) as service:
        tcp, unix, udp, tls = (service.listening_on() for _ in addresses)
        assert tcp.startswith("tcp://127.0.0.1:")
        assert unix == "unix:hello.sock"
        for address in (tcp, f"unix:{tmp_path}/hello.sock"):
            assert talk(address, b"ADD a=2;b=40;serial=7\n") == b"SUM serial=7;value=42\n"
        for address, options in ((udp, None), (tls, client_options())):
            with Client(address, tls=options) as client:
                assert client.request(Message("ADD", {"a": 2, "b": 40}))["value"] == "42"
        assert service.end(number) == 0
        assert service.printed.count("\n") == 4
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_the_hello_service_uses_the_addresses_of_the_design_by_itself() -> None:
    text = SERVICE.read_text(encoding="utf-8")
    assert '["tcp://127.0.0.1:3001", "unix:hello.sock", "udp://127.0.0.1:3001"]' in text


QUESTIONS = b"HELP\nALIVE serial=5\nADD a=2;b=3\n"
ANSWERS = re.compile(
    rb"COMMANDS list=ADD,ALIVE,HELP,[A-Z_,]+\n"
    rb"ABSOLUTELY reply_timestamp=[0-9]+\.[0-9]{9};serial=5\n"
    rb"SUM value=5\n"
)


def test_netcat_gets_the_three_answers_and_ends(
    tmp_path: Path, need_tool: Callable[..., str]
) -> None:
    netcat = need_tool("nc.openbsd", package="netcat-openbsd")
    with Program(SERVICE, "tcp://127.0.0.1:0", "unix:hello.sock", folder=tmp_path) as service:
        port = service.listening_on().rpartition(":")[2]
        service.listening_on()
        for place in (["127.0.0.1", port], ["-U", "hello.sock"]):
            done = subprocess.run(
                [netcat, "-N", *place],
                input=QUESTIONS,
                cwd=tmp_path,
                capture_output=True,
                timeout=30,
                check=True,
            )
            assert ANSWERS.fullmatch(done.stdout), done.stdout
        assert terminate(service) == 0


def test_five_lines_of_python_get_the_three_answers(tmp_path: Path) -> None:
    program = tmp_path / "five_lines.py"
    with Program(SERVICE, "tcp://127.0.0.1:0", folder=tmp_path) as service:
        port = service.listening_on().rpartition(":")[2]
        program.write_text(
            "import socket\n"
            f"sock = socket.create_connection(('127.0.0.1', {port}))\n"
            f"sock.sendall({QUESTIONS!r})\n"
            "sock.shutdown(socket.SHUT_WR)\n"
            "print(sock.makefile().read(), end='')\n"
        )
        with Program(program, folder=tmp_path) as client:
            code = client.end()
            # The socket is left to the interpreter, which says so when warnings are on.
            assert ANSWERS.fullmatch(client.printed.encode()), client.printed
            assert code == 0


def test_the_blocking_client_prints_the_sum(tmp_path: Path) -> None:
    with Program(SERVICE, "tcp://127.0.0.1:0", folder=tmp_path) as service:
        ask = copy_at("ask.py", service.listening_on(), tmp_path)
        with Program(ask, folder=tmp_path) as client:
            assert (client.end(), client.printed) == (0, "42\n")
        assert terminate(service) == 0


# --- the permanent link ---------------------------------------------------------------------------


def test_the_permanent_link_waits_for_the_service_and_comes_back(tmp_path: Path) -> None:
    with Program(EXAMPLES / "permanent.py", folder=tmp_path) as link:
        link.wait_for("cannot connect")
        for again in (False, True):
            with Program(SERVICE, "unix:hello.sock", folder=tmp_path) as service:
                service.listening_on()
                link.wait_for("does not know REGISTER")
                if not again:  # what was kept has left the first time
                    link.wait_for("does not know NEWS")
                assert terminate(service) == 0
            link.wait_for("the service is gone")
        assert "NEWS" not in link.printed.partition("gone")[2]
        assert terminate(link) == 0


# --- straight-line code, classes, patterns --------------------------------------------------------


def test_straight_line_code_says_hi_and_closes_after_mom(tmp_path: Path) -> None:
    with Program(copy_at("straight.py", "unix:s.sock", tmp_path), folder=tmp_path) as service:
        address = f"unix:{tmp_path}/s.sock"
        waiting_client(address).close()
        with dial(address) as first, dial(address) as second:  # each has a greenlet of its own
            for sock in (second, first):
                with sock.makefile("rwb") as stream:
                    assert stream.readline() == b"HI\n"
                    stream.write(b"DAD\nMOM\nDAD\n")
                    stream.flush()
                    assert stream.read() == b"BYE\n"
        assert terminate(service) == 0


def test_a_class_answers_ticks_and_notes_the_end(tmp_path: Path) -> None:
    with Program(copy_at("classes.py", "unix:c.sock", tmp_path), folder=tmp_path) as service:
        with waiting_client(f"unix:{tmp_path}/c.sock") as client:
            assert client.request(Message("READ"))["celsius"] == "21.5"
            assert client.request(Message("ALIVE")).command == "ABSOLUTELY"
            with pytest.raises(UnknownCommandError):
                client.request(Message("FOO"), timeout=20.0)
            assert bytes(client.receive(timeout=20.0)) == b"TICK count=1"
        service.wait_for(": gone after ")
        assert terminate(service) == 0


def test_a_pattern_turns_the_command_into_a_number(tmp_path: Path) -> None:
    with Program(copy_at("events.py", "unix:e.sock", tmp_path), folder=tmp_path) as service:
        with waiting_client(f"unix:{tmp_path}/e.sock") as client:
            for number in (0, 7, 17):
                answer = client.request(Message(f"EVENT{number}"))
                assert answer.command == "NOTED"
                assert answer.integer("number") == number
                assert answer["next"] == f"EVENT{number + 1}"
            assert client.request(Message("LOCK_ALL"))["command"] == "LOCK_ALL"
            assert "EVENT1" in client.request(Message("HELP"))["list"].split(",")
            for command in ("EVENT", "EVENTS", "EVENT1X"):
                with pytest.raises(UnknownCommandError):
                    client.request(Message(command), reply="NOTED")
        assert terminate(service) == 0


# --- pipes, FIFOs, descriptors --------------------------------------------------------------------


def sh(command: str, folder: Path) -> str:
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout


def test_the_service_of_two_fifos_answers_a_shell_and_a_client(tmp_path: Path) -> None:
    with Program(EXAMPLES / "fifo_service.py", folder=tmp_path) as service:
        assert service.listening_on() == "fifo:requests,answers"
        for a in range(3):
            printed = sh(f"echo 'ADD a={a};b=40' > requests; cat answers", tmp_path)
            assert printed == f"SUM value={a + 40}\n"
        with Client(f"fifo:{tmp_path}/answers,{tmp_path}/requests") as client:
            assert client.request(Message("ADD", {"a": 2, "b": 40}))["value"] == "42"
        assert terminate(service) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_parent_asks_its_child(tmp_path: Path) -> None:
    with Program(EXAMPLES / "parent_and_child.py", folder=tmp_path) as program:
        assert (program.end(), program.printed) == (0, "144 True\n")


def test_a_file_is_handed_over(tmp_path: Path) -> None:
    with Program(EXAMPLES / "hand_over.py", folder=tmp_path) as program:
        assert (program.end(), program.printed) == (0, "")
    assert (tmp_path / "web.log").read_text() == "written by the client\n"
    assert not (tmp_path / "keeper.sock").exists()


@pytest.mark.parametrize("command", ["cat file | {}", "{} < file", "{} < file > out; cat out"])
def test_the_words_of_the_input_are_counted(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("one two\n\nthree " * 10_000)
    words = f"{sys.executable} {EXAMPLES / 'words.py'}"
    assert sh(command.format(words), tmp_path) == "30000\n"


# --- datagrams ------------------------------------------------------------------------------------


def test_the_listener_hears_the_beacon(tmp_path: Path) -> None:
    for name in ("beacon.py", "beacon_listener.py"):
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        assert '"udp://239.255.41.41:4141"' in text
        assert len(text.splitlines()) <= 25
    group = ("udp://239.255.41.41:0", "lo")
    with Program(EXAMPLES / "beacon_listener.py", *group, folder=tmp_path) as listener:
        address = listener.listening_on()
        with Program(EXAMPLES / "beacon.py", address, "lo", folder=tmp_path) as beacon:
            for _ in range(2):
                heard = listener.wait_for(" is there")
                assert heard.startswith(f"process {beacon.process.pid} of ")
            assert terminate(beacon) == 0
        assert terminate(listener) == 0


# --- TLS ------------------------------------------------------------------------------------------


def ed_keys(folder: Path, *words: str) -> None:
    subprocess.run(
        [sys.executable, EXAMPLES.parent / "scripts" / "ed-keys", *words],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        timeout=30,
        check=True,
    )


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the keys of the README's TLS."""
    for words in (("ca",), ("server",), ("client", "alice")):
        ed_keys(tmp_path, *words)
    return tmp_path


def test_alice_and_nobody_else_is_let_in(keys: Path) -> None:
    for name in ("tls_server.py", "tls_client.py"):
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        assert '"tls://127.0.0.1:3002"' in text
        assert len(text.splitlines()) <= 25
    with Program(EXAMPLES / "tls_server.py", "tls://127.0.0.1:0", folder=keys) as server:
        address = server.listening_on()
        with Program(EXAMPLES / "tls_client.py", address, folder=keys) as client:
            assert (client.end(), client.printed) == (0, "I am alice over TLSv1.3\n")
        ed_keys(keys, "client", "bob", "--force")
        with Program(EXAMPLES / "tls_client.py", address, folder=keys) as client:
            assert client.end() == 1
            assert "the server does not accept this side's certificate" in client.printed
        assert terminate(server) == 0
        assert "'CN=bob' is of bob, who is not allowed here" in server.printed


def test_the_openssl_line_of_the_readme_is_a_client(
    keys: Path, need_tool: Callable[..., str]
) -> None:
    openssl = need_tool("openssl", package="openssl")
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"`(openssl s_client [^`]+)`", readme)
    with Program(EXAMPLES / "tls_server.py", "tls://127.0.0.1:0", folder=keys) as server:
        place = server.listening_on().removeprefix("tls://")
        words = line.replace("127.0.0.1:3002", place).split()
        assert place in words
        with subprocess.Popen(
            [openssl, *words[1:]],
            cwd=keys,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(b"HELLO\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"WELCOME name=alice;version=TLSv1.3\n"
            client.kill()
        assert terminate(server) == 0


# --- files ----------------------------------------------------------------------------------------


def test_the_folder_watch_tells_all_who_are_connected(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    path = copy_at("folder_watch.py", "unix:f.sock", tmp_path)
    with Program(path, "w", folder=tmp_path) as program:
        address = f"unix:{tmp_path}/f.sock"
        with waiting_client(address) as one, waiting_client(address) as other:
            for client in (one, other):
                client.request(Message("ALIVE"), timeout=20.0)
            for name in ("a.txt", "folder/b.txt"):
                (tmp_path / "w" / name).parent.mkdir(exist_ok=True)
                (tmp_path / "w" / "not wanted").write_text("x")
                (tmp_path / "w" / name).write_text("x")
                for client in (one, other):
                    message = client.receive(timeout=20.0)
                    assert (message.command, message["path"]) == ("WRITTEN", f"{tmp_path}/w/{name}")
        assert terminate(program) == 0


# --- processes ------------------------------------------------------------------------------------


def test_the_supervisor_restarts_what_ends_and_ends_what_runs(tmp_path: Path) -> None:
    commands = ("sleep 1000", "sh -c 'echo hello; exit 3'")
    with Program(EXAMPLES / "supervisor.py", *commands, folder=tmp_path) as supervisor:
        sleeping = supervisor.wait_for("sleep 1000: started as").rpartition(" ")[2]
        for _ in range(2):
            pid = supervisor.wait_for("exit 3': started as").rpartition(" ")[2]
            supervisor.wait_for("exit 3': hello")
            supervisor.wait_for(f"exit 3': child {pid} ended with exit code 3")
        assert terminate(supervisor) == 0
        assert f"sleep 1000: child {sleeping} was killed by SIGTERM" in supervisor.printed
    assert not Path(f"/proc/{sleeping}").exists()


# --- signals --------------------------------------------------------------------------------------


def test_the_service_that_profiles_itself_loses_nothing_by_it(tmp_path: Path) -> None:
    example = EXAMPLES / "profiler_safe.py"
    with Program(example, "tcp://127.0.0.1:0", folder=tmp_path) as service:
        address = service.listening_on()
        with waiting_client(address) as client:
            for upto in range(20_000, 20_200):
                reply = client.request(Message("ADD_UP", {"upto": upto}))
                assert reply.integer("value") == upto * (upto + 1) // 2
        service.process.send_signal(signal.SIGUSR1)
        line = service.wait_for("asks: ")
        assert re.fullmatch(f"process {os.getpid()} asks: [0-9]+ samples in add_up", line), line
        assert terminate(service) == 0
