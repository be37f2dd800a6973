"""A service that its configuration file drives, beside real peers."""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent import socket
from gevent.event import Event
from network_ground import PATIENCE, Ground, read_all, until
from service_ground import Manager, Running, made, write
from tls_ground import authority, client_options, server_pair

from edgevent import (
    Client,
    Dispatcher,
    DuplicateMatchError,
    InvalidMessageError,
    Message,
    MessageConnection,
    OptionError,
    Server,
    Service,
    UsageError,
    send_datagram,
)
from edgevent.option_groups import add_definition_options

Logged = Callable[[str], list[str]]
ONE = "[listeners]\none = unix:FOLDER/one.sock\n"


def adder(folder: Path, **settings: Any) -> Service:
    """The hello service."""
    service = made(folder, **settings)

    @service.on("ADD")
    def add(message: Message, peer: Any, a: int, b: int) -> Message:
        return message.reply("SUM", {"value": a + b})

    return service


def ask(client: Client) -> str:
    return client.request(Message("ADD", {"a": 2, "b": 40}), timeout=PATIENCE)["value"]


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A service manager that is told how the service is."""
    found = Manager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", found.path)
    yield found
    found.close()


# --- listeners, links and timers ------------------------------------------------------------------


def test_every_listener_of_the_file_answers(tmp_path: Path) -> None:
    authority().write(tmp_path, "ca")
    server_pair().write(tmp_path, "server")
    write(
        tmp_path,
        """
        [listeners]
        tcp = tcp://127.0.0.1:0 max_connections=7
        udp = udp://127.0.0.1:0
        local = unix:FOLDER/s.sock mode=0660
        datagrams = unixgram:FOLDER/d.sock
        tls = tls://127.0.0.1:0 certificate=FOLDER/server.crt key=FOLDER/server.key
        """,
    )
    with Running(adder(tmp_path)) as running:
        assert list(running.service.listeners) == ["tcp", "udp", "local", "datagrams", "tls"]
        assert [one.name for one in running.service.listeners.values()] == list(
            running.service.listeners
        )
        for name in ("tcp", "udp", "local", "datagrams"):
            with running.dial(name) as client:
                assert ask(client) == "42"
        with Client(running.address("tls"), tls=client_options()) as client:
            assert ask(client) == "42"
        assert stat.S_IMODE((tmp_path / "s.sock").stat().st_mode) == 0o660
        server = running.service.listeners["tcp"]
        assert isinstance(server, Server)
        assert server.max_connections == 7
    assert not (tmp_path / "s.sock").exists()


def test_the_command_line_goes_before_the_file_and_the_file_before_the_code(tmp_path: Path) -> None:
    def listens_on(*words: str) -> list[str]:
        service = adder(tmp_path)
        service.listen(f"unix:{tmp_path}/code.sock", name="coded")
        with Running(service, *words) as running:
            return [running.address(name) for name in service.listeners]

    assert listens_on() == [f"unix:{tmp_path}/code.sock"]
    write(tmp_path, ONE)
    assert listens_on() == [f"unix:{tmp_path}/one.sock"]
    two = (f"unix:{tmp_path}/x.sock", f"unix:{tmp_path}/y.sock mode=0666")
    assert listens_on(*(f"--listen={one}" for one in two)) == [one.split()[0] for one in two]


def test_a_host_alone_has_the_port_of_the_listener_of_the_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = made(tmp_path, logrotate_listen="127.0.0.1:4988")
    service.listen("tcp://127.0.0.1:4049")
    write(tmp_path, "[listeners]\none = 10.0.0.6 max_connections=3\n")
    options = service.options.parse(["--listen=10.0.0.5", "-R", "10.0.0.7"])
    assert str(options.listen[0].address) == "tcp://10.0.0.5:4049"
    assert str(options.listeners["one"].address) == "tcp://10.0.0.6:4049"
    assert str(options.logrotate_listen) == "udp://10.0.0.7:4988"  # as the C++ programs have it
    service.listen("tcp://127.0.0.1:4050")  # which of the two is meant?
    with pytest.raises(SystemExit):
        service.options.parse(["--listen=10.0.0.5"])
    assert "there is no port" in capsys.readouterr().err


def test_settings_of_the_code_hold_where_the_text_says_nothing(tmp_path: Path) -> None:
    service = made(tmp_path)
    service.listen(f"unix:{tmp_path}/a max_connections=3", max_connections=9, must_introduce=True)
    with Running(service):
        server = service.listeners["listen"]
        assert isinstance(server, Server)
        assert (server.max_connections, server.must_introduce) == (3, True)


def test_a_class_may_serve_the_peers(tmp_path: Path) -> None:
    class Greeter(MessageConnection):
        def process_connected(self) -> None:
            self.send(Message("HI"))

    write(tmp_path, ONE)
    with Running(adder(tmp_path, handler=Greeter)) as running, running.dial("one") as client:
        assert client.receive(timeout=PATIENCE).command == "HI"
        assert ask(client) == "42"


def test_a_link_calls_its_functions_each_time_that_it_is_up(ground: Ground, tmp_path: Path) -> None:
    heard: list[str] = []
    others = Dispatcher()
    others.on("HELLO")(lambda message, peer: heard.append(peer.name))
    address = f"unix:{tmp_path}/backup.sock"
    write(tmp_path, ONE + f"[links]\nbackup = {address} pauses=0.01\nspare_1 = {address}\n")
    service = made(tmp_path)
    service.link("spare_*")

    @service.link("backup")
    def connected(link: Any) -> None:
        link.send(Message("HELLO", {"service": "tested"}))

    server = ground.serve(others, address)
    with Running(service) as running:
        until(lambda: len(heard) == 1)
        assert list(running.service.links) == ["backup", "spare_1"]
        for peer in server.peers:
            peer.close()
        until(lambda: len(heard) == 2)


def test_a_timer_calls_as_often_as_the_file_says(tmp_path: Path) -> None:
    write(tmp_path, ONE + "[timers]\nquick = 10ms\nslow = off\n")
    calls: list[str] = []
    service = made(tmp_path)
    service.timer("quick")(lambda: calls.append("quick"))
    service.timer("slow", 0.01)(lambda: calls.append("slow"))
    service.timer("usual", "1h")(lambda: calls.append("usual"))
    with Running(service):
        until(lambda: len(calls) >= 3)
        assert {name: timer.timeout_delay for name, timer in service.timers.items()} == {
            "quick": 0.01,
            "usual": 3600.0,
        }
    assert set(calls) == {"quick"}


def test_the_allow_table_of_the_file_holds(tmp_path: Path) -> None:
    write(tmp_path, ONE + "[allow]\nADD = uid:4000000\nSTOP = none\n")
    with Running(adder(tmp_path)) as running, running.dial("one") as client:
        for command in ("ADD", "STOP"):
            with pytest.raises(InvalidMessageError, match=f"{command} is not accepted"):
                client.request(Message(command, {"a": 1, "b": 2}), timeout=PATIENCE)
        assert client.request(Message("ALIVE"), timeout=PATIENCE).command == "ABSOLUTELY"


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_once_its_functions_are_done(tmp_path: Path, by: signal.Signals) -> None:
    write(tmp_path, ONE)
    service = adder(tmp_path)
    said: list[Any] = []

    @service.on_start
    def started(options: Any) -> None:
        said.append((options.drain_timeout, dict(service.listeners)))

    @service.on_stop
    def stopping(quitting: bool) -> None:
        with Client(f"unix:{tmp_path}/one.sock") as client:  # it listens still
            said.append((quitting, ask(client)))

    assert Running(service, "--drain-timeout=20s").__enter__().end(by=by) == 0
    assert said == [(20.0, {}), (False, "42")]


@pytest.mark.parametrize(("command", "quitting"), [("STOP", False), ("QUITTING", True)])
def test_a_command_ends_it_and_says_which_end_it_is(
    tmp_path: Path, command: str, quitting: bool
) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path)
    said: list[bool] = []
    service.on_stop(said.append)
    running = Running(service).__enter__()
    with running.dial("one") as client:
        client.send(Message(command))
        assert running.wait() == 0
    assert said == [quitting]


def test_what_takes_too_long_before_the_end_does_not_hold_it_up(
    tmp_path: Path, logged: Logged
) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path)
    never = Event()
    service.on_stop(lambda quitting: never.wait())
    running = Running(service, "--drain-timeout=50ms").__enter__()
    assert running.end() == 0
    assert logged("what is to be done before the end takes too long")
    never.set()


def test_a_function_that_fails_at_the_end_is_logged(tmp_path: Path, logged: Logged) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path)

    @service.on_stop
    def failing(quitting: bool) -> None:
        raise ValueError("no")

    assert Running(service).__enter__().end() == 0
    assert logged("failing of on_stop failed")


def test_a_service_with_nothing_to_do_says_so(tmp_path: Path, logged: Logged) -> None:
    assert made(tmp_path).main([]) == 0
    assert logged("tested: there is nothing to do: [listeners], [links] and [timers] name nothing")


def test_its_end_is_told_when_nothing_more_comes(tmp_path: Path) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path)
    found: list[Any] = []

    @service.on_end
    def ended() -> None:
        found.append((list(service.communicator.connections), service.logs is not None))

    assert Running(service).__enter__().end() == 0
    assert found == [([], True)]
    assert service.logs is None


def test_restart_ends_with_the_status_on_which_systemd_begins_anew(
    tmp_path: Path, manager: Manager
) -> None:
    write(tmp_path, ONE)
    running = Running(made(tmp_path)).__enter__()
    with running.dial("one") as client:
        client.send(Message("RESTART", {"reason": "upgrade"}))
        assert running.wait() == 75
    assert "STOPPING" in manager.receive_until("STOPPING")


def test_it_may_be_ended_before_it_is_ready(tmp_path: Path, manager: Manager) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path, dispatcher=Dispatcher())
    assert service.dispatcher.control is service
    service.on_start(lambda options: service.restart())
    assert service.main([]) == 75
    manager.close()


def test_a_program_that_cannot_begin_anew_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path)
    service.on_start(lambda options: service.restart())
    monkeypatch.setattr("sys.executable", f"{tmp_path}/python")
    assert service.main(["--quiet"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line == f"tested: {tmp_path}/python: it cannot be executed anew: No such file or directory"
    )


def test_a_dispatcher_with_a_control_object_keeps_it(tmp_path: Path) -> None:
    class Control:
        def reopen_logs(self) -> None:
            pass

    control = Control()
    service = made(tmp_path, dispatcher=Dispatcher(control=control))
    assert service.dispatcher.control is control
    service.restart()
    service.communicator.close()


def test_ready_reaches_its_functions(tmp_path: Path) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path)
    said: list[str] = []
    service.on_ready(lambda message: said.append(message.get("my_address", "")))
    with Running(service) as running, running.dial("one") as client:
        client.send(Message("READY", {"my_address": "10.0.0.5:4040"}))
        until(lambda: said)
    assert said == ["10.0.0.5:4040"]


def test_log_rotate_and_sighup_open_the_log_anew(tmp_path: Path) -> None:
    write(tmp_path, ONE + "\n")
    log = tmp_path / "log"
    with Running(made(tmp_path), f"--log-file={log}") as running, running.dial("one") as client:
        for number in range(2):
            log.rename(tmp_path / f"log.{number}")
            if number:
                os.kill(os.getpid(), signal.SIGHUP)
            else:
                client.send(Message("LOG_ROTATE"))
            until(log.exists)


# --- the service manager --------------------------------------------------------------------------


def test_the_manager_is_told_of_each_state(tmp_path: Path, manager: Manager) -> None:
    write(tmp_path, ONE)
    with Running(made(tmp_path)):
        assert manager.receive() == {
            "READY": "1",
            "STATUS": f"listening on unix:{tmp_path}/one.sock",
        }
        os.kill(os.getpid(), signal.SIGHUP)
        assert "MONOTONIC_USEC" in manager.receive_until("RELOADING")
        assert manager.receive()["READY"] == "1"
        write(tmp_path, ONE + "[allow]\nSTOP = everybody\n")
        os.kill(os.getpid(), signal.SIGHUP)
        wrong = manager.receive_until("READY")["STATUS"]
        assert wrong.startswith("the configuration stays as it was: ")
        assert "'everybody'" in wrong
    assert manager.receive()["STOPPING"] == "1"


def test_the_watchdog_is_told_again_and_again(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    write(tmp_path, ONE)
    with Running(made(tmp_path)):
        for _ in range(3):
            manager.receive_until("WATCHDOG")


def test_the_pid_file_is_there_while_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, ONE)
    path = tmp_path / "pid"
    with Running(made(tmp_path), f"--pid-file={path}"):
        assert path.read_text() == f"{os.getpid()}\n"
        other = made(tmp_path)
        assert other.main([f"--pid-file={path}"]) == 1
        assert re.fullmatch(r"tested: .* holds it\n", capsys.readouterr().err.splitlines(True)[-1])
    assert not path.exists()


# --- what it tells --------------------------------------------------------------------------------


def test_counters_are_answered_to_those_who_may_stop_it(tmp_path: Path) -> None:
    write(tmp_path, ONE)
    with Running(adder(tmp_path)) as running, running.dial("one") as client:
        ask(client)
        found = client.request(Message("COUNTERS"), timeout=PATIENCE)
        assert found.command == "COUNTS"
        assert "ADD" in str(found)
    write(tmp_path, ONE + "[allow]\nCOUNTERS = none\n")
    with (
        Running(adder(tmp_path)) as running,
        running.dial("one") as client,
        pytest.raises(InvalidMessageError),
    ):
        client.request(Message("COUNTERS"), timeout=PATIENCE)


def test_signals_log_the_counters_and_what_is_alive(tmp_path: Path, logged: Logged) -> None:
    write(tmp_path, ONE)
    with Running(adder(tmp_path)) as running, running.dial("one") as client:
        ask(client)
        os.kill(os.getpid(), signal.SIGUSR1)
        until(lambda: [line for line in logged("ADD") if "tested: " in line])
        os.kill(os.getpid(), signal.SIGUSR2)
        until(lambda: logged("KiB at most"))


def test_prometheus_reads_the_counters(tmp_path: Path) -> None:
    write(tmp_path, ONE + "\n")
    words = f"--metrics=unix:{tmp_path}/metrics mode=0660"
    with Running(adder(tmp_path), words), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(tmp_path / "metrics"))
        assert stat.S_IMODE((tmp_path / "metrics").stat().st_mode) == 0o660
        sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        answer = read_all(sock)
        assert answer.startswith(b"HTTP/1.0 200 OK")
        assert b"edgevent_connections{" in answer


# --- what cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "status", "sentence"),
    [
        ("", 2, "link 'backup' has no address: [links] backup = ADDRESS was expected"),
        ("[listeners]\na = unix:/no/s max_fds=254\n", 2, "max_fds=254: 0 to 253"),
        ("[listeners]\na = unix:/no/such/folder/s\n", 1, "/no/such/folder"),
        (
            "[listeners]\na = tls://127.0.0.1:0 certificate=/no/c key=/no/k\n",
            2,
            "/no/c: No such file",
        ),
        ("[listeners]\na = udp://127.0.0.1:0 secret_code_file=/no/code\n", 2, "'/no/code'"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, status: int, sentence: str
) -> None:
    write(tmp_path, f"no_log = yes\n{text}")
    service = made(tmp_path)
    service.timer("greet", "1s")(lambda: None)
    service.link("backup", optional=bool(text))
    assert service.main([]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tested: ")
    assert sentence in line
    assert not service.is_running


def test_an_error_at_the_start_is_in_the_log_too_and_told_to_the_manager(
    tmp_path: Path, manager: Manager
) -> None:
    write(tmp_path, "[listeners]\na = unix:/no/such/folder/s\n")
    log = tmp_path / "log"
    assert made(tmp_path).main([f"--log-file={log}"]) == 1
    assert "tested: unix:/no/such/folder/s: " in log.read_text()
    assert manager.receive()["STATUS"].startswith("unix:/no/such/folder/s: ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[listeners]\na = tcp:/x\n", "tested.conf:2: "),
        (
            "[listeners]\na = tcp://127.0.0.1:0 max_conections=2\n",
            "did you mean 'max_connections'?",
        ),
        ("[allow]\nSTOP = uid:no-such-user\n", "there is no user 'no-such-user'"),
        ("[timers]\ngreet = 1 fortnight\n", "tested.conf:2: "),
        ("[timers]\ngreet = 0s\n", "or off"),
        ("[timers]\ngreat = 1s\n", "key 'great': this service has no such timer; did you mean"),
        ("[links]\nother = unix:/s\n", "tested.conf:2: section [links]: key 'other': this service"),
        ("[links]\nbackip = unix:/s\n", "this service has no such link; did you mean 'backup'?"),
        ("[links]\nbackup = udp://127.0.0.1:1\n", "a link goes over a stream"),
        ("drain_timeut = 5s\n", "did you mean 'drain-timeout'?"),
    ],
)
def test_a_mistake_in_the_file_names_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    write(tmp_path, text)
    service = made(tmp_path)
    service.timer("greet", "1s")(lambda: None)
    service.link("backup", optional=True)
    with pytest.raises(SystemExit) as caught:
        service.main([])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line


def test_a_timer_needs_an_interval_and_a_link_an_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = made(tmp_path)
    service.timer("greet")(lambda: None)
    assert service.main(["--no-log"]) == 2
    assert "timer 'greet' has no interval: [timers] greet = DURATION" in capsys.readouterr().err


def test_what_is_wrong_is_told_without_a_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        tmp_path,
        """
        metrics = unix:/no/such/metrics
        [listeners]
        a = tls://127.0.0.1:0 certificate=/no/c key=/no/k
        b = unix:/no/such/s
        [links]
        backip = unix:/x
        [timers]
        great = 1s
        """,
    )
    service = made(tmp_path)
    service.timer("greet", "1s")(lambda: None)
    service.link("backup", optional=True)
    with pytest.raises(SystemExit) as caught:
        service.main(["--check-config"])
    assert caught.value.code == 2
    captured = capsys.readouterr()
    said = captured.out + captured.err
    for sentence in (
        "/no/c: No such file",
        "unix:/no/such/s: ",
        "unix:/no/such/metrics: ",
        "did you mean 'backup'?",
        "did you mean 'greet'?",
    ):
        assert sentence in said


@pytest.mark.parametrize(
    ("listener", "sentence"),
    [
        ("tcp://0.0.0.0:0", "tcp://0.0.0.0:0: plain text on an address that is neither"),
        ("tcp://0.0.0.0:0 allow_remote=yes", ""),
        ("udp://0.0.0.0:0", "udp://0.0.0.0:0 can be reached by others: secret_code_file=FILE or"),
        ("udp://0.0.0.0:0 allow_unauthenticated=yes", ""),
        ("udp://127.0.0.1:0 secret_code_file=/no/code", "secret_code_file: '/no/code': No such"),
        ("udp://127.0.0.1:0 auth=/no/keys", "udp://127.0.0.1:0: '/no/keys': No such"),
        ("unix:FOLDER/s group=no-such", "group=no-such: there is no group 'no-such'"),
        ("unix:FOLDER/s allow_users=0,no-such", "there is no user 'no-such'"),
        ("unix:FOLDER/s group=0 allow_users=root allow_groups=0", ""),
    ],
)
def test_what_a_listener_would_be_refused_for_is_told_without_a_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listener: str, sentence: str
) -> None:
    write(tmp_path, f"[listeners]\na = {listener}\n")
    with pytest.raises(SystemExit) as caught:
        made(tmp_path).main(["--check-config"])
    said = capsys.readouterr()
    assert caught.value.code == (2 if sentence else 0)
    assert sentence in said.err
    assert (said.out + said.err).count("\n") == 1


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[listeners]\na = tcp://0.0.0.0:0\n", ":2: section [listeners]: key 'a': tcp://0.0.0.0:0"),
        ("[listeners]\na = udp://0.0.0.0:0\n", ":2: section [listeners]: key 'a': udp://0.0.0.0:0"),
        ("\nmetrics = tcp://0.0.0.0:0\n", ":2: key 'metrics': tcp://0.0.0.0:0: plain text on"),
        ("[listeners]\nb = tls://127.0.0.1:0\n", ":2: section [listeners]: key 'b': tls:"),
    ],
)
def test_a_listener_that_others_reach_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, place: str
) -> None:
    write(tmp_path, text)
    with pytest.raises(SystemExit) as caught:
        made(tmp_path).main([])
    assert caught.value.code == 2
    assert place in capsys.readouterr().err


def test_the_values_are_shown_as_they_were_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "[listeners]\na = unix:/s mode=0660\n[timers]\ngreet = off\n")
    service = made(tmp_path)
    service.timer("greet", "1s")(lambda: None)
    with pytest.raises(SystemExit) as caught:
        service.main(["--show-config", "--listen=unix:/x mode=0666", "--metrics=unix:/m"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for line in ("a = unix:/s mode=0660", "listen = unix:/x mode=0666", "metrics = unix:/m"):
        assert line in shown


def test_definitions_of_messages_are_used_when_the_program_has_the_option(tmp_path: Path) -> None:
    (tmp_path / "ADD.conf").write_text("[c]\ntype = integer\nflags = required\n")
    write(tmp_path, f"path_to_message_definitions = {tmp_path}\n{ONE}")
    service = adder(tmp_path)
    add_definition_options(service.options)
    with (
        Running(service) as running,
        running.dial("one") as client,
        pytest.raises(InvalidMessageError, match="parameter c of ADD is missing"),
    ):
        ask(client)


def test_log_rotate_may_come_by_a_listener_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, ONE)
    log = tmp_path / "log"
    address = f"unixgram:{tmp_path}/rotate"
    with Running(made(tmp_path), f"--log-file={log}", f"--logrotate-listen={address}"):
        log.rename(tmp_path / "log.1")
        send_datagram(address, Message("LOG_ROTATE"))
        until(log.exists)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("unix:/s 'mode", "No closing quotation"),
        ("", "an address was expected"),
        ("unix:/s mode=0999", "the mode of a file was expected, such as 0660"),
        ("unix:/s must_introduce=maybe", "yes or no was expected"),
        ("unix:/s max_line_bytes=1GiB", "such as 1000 or 64KiB"),
        ("unix:/s when_full=block", "when_full=block: wait, raise or drop was expected"),
        ("unix:/s slow_timeout=0s", "slow_timeout=0s: more than 0 seconds were expected"),
        ("unix:/s max_outbox_bytes=9MiB", "a number from 1 to 8388608 was expected"),
        ("unix:/s priority=256", "a number from 0 to 255 was expected"),
        ("unix:/s introduction_timeout=soon", "introduction_timeout=soon: "),
        ("unix:/s mode", "NAME=VALUE was expected"),
        ("unix:/s pauses=1", "there is no such setting of unix:"),
        ("udp://127.0.0.1:1 max_fds=1", "udp: has none, this is a setting of Unix sockets only"),
        ("tcp://127.0.0.1:1 allow_users=root", "this is a setting of Unix sockets only"),
        ("unixgram:/s ttl=1", "this is a setting of udp: only"),
        ("unix:/s backlog=9999999999", "backlog=9999999999: a number from 1 to 65535"),
        ("unix:/s max_line_bytes=17MiB", "a number from 1 to 16777216 was expected"),
        ("unix:/s introduction_timeout=-1s", "more than 0 seconds were expected"),
        ("unix:/s group=99999999999", "there is no group '99999999999'"),
        ("unix:/s allow_users=a\0b", "there is no user 'a\\x00b'"),
        ("unix:/s mode=0600 mode=0660", "mode stands twice behind unix:/s"),
        ("udp://127.0.0.1:1 secret_code_file=", "the name of a file was expected"),
        ("udp://127.0.0.1:1 groups=10.0.0.1", "'10.0.0.1' is no address of multicast"),
        ("udp://127.0.0.1:1 groups=x", "'x' is no address of multicast"),
        ("udp://127.0.0.1:1 interface=", "an interface was expected"),
        ("tls://127.0.0.1:1 key=/k", "certificate=FILE and key=FILE were expected"),
        ("tls://127.0.0.1:1 certificate=/c", "belong together"),
    ],
)
def test_a_listener_that_cannot_be_read_names_the_word(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(OptionError) as caught:
        made(tmp_path).listen(text)
    assert sentence in str(caught.value)


def test_a_value_may_be_quoted_and_have_a_unit(tmp_path: Path) -> None:
    service = made(tmp_path)
    service.listen(
        f'"unix:{tmp_path}/a b" max-line-bytes=1MiB allow_users=root,0 priority=7 group=0'
    )
    with Running(service) as running:
        assert running.address("listen") == f"unix:{tmp_path}/a b"
        assert service.listeners["listen"].priority == 7


def test_mistakes_in_the_code_are_errors(tmp_path: Path) -> None:
    service = adder(tmp_path)
    service.timer("greet", 1)(lambda: None)
    with pytest.raises(UsageError, match="there is a function for it already"):
        service.timer("greet", 1)(lambda: None)
    for declare, kind in ((service.timer, "timer"), (service.link, "link")):
        forgotten: Any = declare
        with pytest.raises(UsageError, match=rf"{kind}\(\) was given .* one is written as @serv"):
            forgotten(lambda: None)
    service.listen("unix:a")
    with pytest.raises(UsageError, match="a listener 'listen' is there already"):
        service.listen("unix:b", name="listen")
    with pytest.raises(UsageError, match="is no name of a service"):
        Service("two words", "Is not.")
    with pytest.raises(DuplicateMatchError):
        service.on("ADD")(lambda message, peer: None)
    service.otherwise(lambda message, peer: None)
    assert repr(service) == "<Service tested stopped>"
    assert (service.listeners, service.links, service.timers) == ({}, {}, {})
    service.reload()
    service.reopen_logs()
    service.ready(Message("READY"))


def test_a_service_that_stands_alone_may_be_run_twice(tmp_path: Path) -> None:
    write(tmp_path, ONE)
    service = adder(tmp_path)
    for _ in range(2):
        with Running(service) as running, running.dial("one") as client:
            assert repr(service) == "<Service tested running>"
            assert ask(client) == "42"
