"""A service reads its configuration again: what changes, what stays, and what cannot be."""

from __future__ import annotations

import logging
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from gevent import socket
from gevent.event import Event
from network_ground import PATIENCE, Ground, until
from service_ground import AS_BEFORE, ONE, READ_AGAIN, Logged, Reloads, Running, made, write
from tls_ground import client_options, server_pair

from edgevent import (
    Client,
    Dispatcher,
    InvalidMessageError,
    Message,
    NetworkError,
    Server,
    Service,
)


@pytest.fixture
def reload(tmp_path: Path, logged: Logged) -> Reloads:
    """Gives ``reload(text)``: the new file was read; returns what was said."""
    return Reloads(tmp_path, logged)


def server_of(service: Service, name: str) -> Server:
    found = service.listeners[name]
    assert isinstance(found, Server)
    return found


def is_alive(client: Client) -> bool:
    return client.request(Message("ALIVE"), timeout=PATIENCE).command == "ABSOLUTELY"


# --- listeners ------------------------------------------------------------------------------------


def test_listeners_come_go_and_move_and_their_peers_stay(tmp_path: Path, reload: Reloads) -> None:
    lines = ["a = unix:FOLDER/a", "b = unix:FOLDER/b", "c = unix:FOLDER/c"]
    write(tmp_path, "\n".join(["[listeners]", *lines]))
    with Running(made(tmp_path)) as running, running.dial("b") as of_b, running.dial("c") as of_c:
        assert is_alive(of_b)
        assert is_alive(of_c)
        stays = running.service.listeners["a"]
        assert (
            reload("[listeners]\na = unix:FOLDER/a\nc = unix:FOLDER/c2\nd = unix:FOLDER/d\n")
            == "listeners"
        )
        assert sorted(running.service.listeners) == ["a", "c", "d"]
        assert running.service.listeners["a"] is stays
        for name, place in (("a", "a"), ("c", "c2"), ("d", "d")):
            assert running.service.listeners[name].name == name
            with Client(f"unix:{tmp_path}/{place}") as client:
                assert is_alive(client)
        for gone in ("b", "c"):
            assert not (tmp_path / gone).exists()
        assert is_alive(of_b)
        assert is_alive(of_c)


def test_a_limit_changes_in_place_and_back(tmp_path: Path, reload: Reloads) -> None:
    write(tmp_path, ONE.replace("\n", " max_connections=5\n").replace("] max_connections=5", "]"))
    with Running(made(tmp_path)) as running:
        server = server_of(running.service, "one")
        assert server.max_connections == 5
        reload(ONE.rstrip() + " max_connections=9 must_introduce=yes\n")
        assert (server.max_connections, server.must_introduce) == (9, True)
        reload(ONE.rstrip() + " when_full=drop slow_timeout=3s max_outbox_bytes=64KiB\n")
        found = (server.when_full, server.slow_timeout, server.max_outbox_bytes)
        assert found == ("drop", 3.0, 64 * 1024)
        reload(ONE)
        assert (server.max_connections, server.must_introduce) == (1_000, False)
        assert (server.when_full, server.slow_timeout, server.max_outbox_bytes) == (None,) * 3
        assert server_of(running.service, "one") is server


def test_what_needs_another_socket_gets_one_at_the_same_place(
    tmp_path: Path, reload: Reloads
) -> None:
    write(tmp_path, ONE)
    with Running(made(tmp_path)) as running, running.dial("one") as client:
        assert is_alive(client)
        reload(ONE.rstrip() + " mode=0666\n")
        assert stat.S_IMODE((tmp_path / "one.sock").stat().st_mode) == 0o666
        with running.dial("one") as other:
            assert is_alive(other)
        assert is_alive(client)


def test_two_listeners_change_places(tmp_path: Path, reload: Reloads) -> None:
    write(tmp_path, "[listeners]\na = unix:FOLDER/x\nb = unix:FOLDER/y\n")
    with Running(made(tmp_path)) as running:
        reload("[listeners]\na = unix:FOLDER/y\nb = unix:FOLDER/x\n")
        assert running.address("a") == f"unix:{tmp_path}/y"
        for name in ("a", "b"):
            with running.dial(name) as client:
                assert is_alive(client)


def test_a_new_certificate_is_shown_to_those_who_come(tmp_path: Path, reload: Reloads) -> None:
    text = "[listeners]\none = tls://127.0.0.1:0 certificate=FOLDER/s.crt key=FOLDER/s.key\n"
    server_pair().write(tmp_path, "s")
    write(tmp_path, text)
    with Running(made(tmp_path)) as running:
        other = server_pair("127.0.0.1", common_name="renewed")
        other.write(tmp_path, "s", force=True)
        assert reload(text) == "nothing changed"
        with Client(running.address("one"), tls=client_options()) as client:
            assert client.tls is not None
            assert client.tls.peer_certificate == other.certificate


def test_tls_changes_at_the_same_place_unless_its_files_are_wrong(
    tmp_path: Path, reload: Reloads
) -> None:
    text = "[listeners]\none = tls+unix:FOLDER/s certificate=FOLDER/s.crt key=FOLDER/s.key\n"
    server_pair().write(tmp_path, "s")
    write(tmp_path, text)
    with Running(made(tmp_path)) as running:
        why = reload(text.replace("s.crt", "no.crt"), says=AS_BEFORE)
        assert f"{tmp_path}/no.crt: No such file" in why
        reload(text.rstrip() + " minimum_version=1.3\n")
        with Client(running.address("one"), tls=client_options()) as client:
            assert is_alive(client)


def test_a_new_secret_code_counts(tmp_path: Path, reload: Reloads) -> None:
    code = tmp_path / "code"
    text = "[listeners]\none = udp://127.0.0.1:0 secret_code_file=FOLDER/code\n"
    for number, secret in enumerate(("first", "second")):
        code.write_text(secret)
        code.chmod(0o600)
        if number == 0:
            write(tmp_path, text)
            running = Running(made(tmp_path)).__enter__()
        else:
            reload(text)
        with Client(running.address("one"), secret_code=secret) as client:
            assert is_alive(client)
    assert running.end() == 0


# --- links and timers -----------------------------------------------------------------------------


def test_a_link_moves_and_takes_along_what_it_has_kept(
    ground: Ground, tmp_path: Path, reload: Reloads
) -> None:
    heard: list[str] = []
    others = Dispatcher()
    others.on("NEWS")(lambda message, peer: heard.append(message["number"]))
    write(tmp_path, ONE + "[links]\nnews = unix:FOLDER/nobody\nmore = unix:FOLDER/there\n")
    service = made(tmp_path)
    service.link("news")
    service.link("more")
    ground.serve(others, f"unix:{tmp_path}/there")
    with Running(service):
        stays, moves = service.links["more"], service.links["news"]
        for number in range(3):
            moves.send(Message("NEWS", {"number": number}), cache=True)
        links = "[links]\nnews = unix:FOLDER/there\nmore = unix:FOLDER/there wait_ready=no\n"
        assert reload(ONE + links) == "links"
        until(lambda: heard == ["0", "1", "2"])
        assert service.links["more"] is stays
        assert moves.is_closed
        assert list(moves.undelivered) == []


def test_what_a_smaller_link_cannot_keep_is_said(
    tmp_path: Path, reload: Reloads, logged: Logged
) -> None:
    write(tmp_path, ONE + "[links]\nnews = unix:FOLDER/nobody\n")
    service = made(tmp_path)
    service.link("news", optional=True)
    with Running(service):
        for number in range(5):
            service.links["news"].send(Message("NEWS", {"number": number}), cache=True)
        reload(ONE + "[links]\nnews = unix:FOLDER/nowhere max_kept=2\n")
        assert logged("3 kept messages are lost")
        assert service.links["news"].kept == 2
        reload(ONE)
        assert logged("2 kept messages are lost")
        assert service.links == {}


def test_timers_get_other_intervals_end_and_begin(tmp_path: Path, reload: Reloads) -> None:
    write(tmp_path, ONE + "[timers]\na = 1h\nb = 1h\nc = off\n")
    called: list[str] = []
    service = made(tmp_path)
    for name in "abc":
        service.timer(name)(lambda name=name: called.append(name))
    with Running(service):
        stays = service.timers["a"]
        reload(ONE + "[timers]\na = 10ms\nb = off\nc = 10ms\n")
        until(lambda: set(called) == {"a", "c"})
        assert service.timers["a"] is stays
        assert set(service.timers) == {"a", "c"}


# --- the rest -------------------------------------------------------------------------------------


def test_the_allow_table_and_the_limit_of_the_end_change(tmp_path: Path, reload: Reloads) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path)
    with Running(service) as running, running.dial("one") as client:
        assert is_alive(client)
        reload("drain_timeout = 7s\n" + ONE + "[allow]\nALIVE = none\n")
        with pytest.raises(InvalidMessageError):
            is_alive(client)
        assert service.communicator.drain_timeout == 7.0
        assert service.values is not None
        assert service.values.drain_timeout == 7.0
        reload(ONE)
        assert is_alive(client)
    assert service.dispatcher.permits is None


def test_the_level_of_the_log_changes(tmp_path: Path, reload: Reloads) -> None:
    write(tmp_path, ONE)
    root = logging.getLogger()
    former = root.level
    with Running(made(tmp_path)):
        assert root.level == logging.INFO
        reload("log_level = debug\n" + ONE)
        assert root.level == logging.DEBUG
    assert root.level == former


def test_metrics_move(tmp_path: Path, reload: Reloads) -> None:
    write(tmp_path, "metrics = unix:FOLDER/m\n" + ONE)
    with Running(made(tmp_path)):
        reload("metrics = unix:FOLDER/n\n" + ONE)
        assert not (tmp_path / "m").exists()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(tmp_path / "n"))


def test_the_program_is_told_what_has_changed(tmp_path: Path, reload: Reloads) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path)
    service.options.add("--greeting", default="hello")
    told: list[Any] = []

    @service.on_reload
    def reloaded(options: Any, changed: set[str]) -> None:
        told.append((options.greeting, changed))

    with Running(service):
        assert reload("greeting = good day\n" + ONE) == "greeting"
        assert reload("greeting = good day\n" + ONE) == "nothing changed"
        until(lambda: len(told) == 2)
    assert told == [("good day", {"greeting"}), ("good day", set())]


def test_what_needs_a_restart_is_said(tmp_path: Path, reload: Reloads, logged: Logged) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path)
    service.options.add("--greeting", default="hello")
    with Running(service):
        reload("greeting = good day\npid_file = FOLDER/pid\nlog_level = debug\n" + ONE)
        found = [line.partition("the new value of ")[2] for line in logged("needs a restart")]
        assert found == ["greeting needs a restart"]


def test_a_mistyped_command_of_the_allow_table_is_told(
    tmp_path: Path, reload: Reloads, logged: Logged
) -> None:
    write(tmp_path, ONE + "[allow]\nSOTP = none\nOF_A_PATTERN = local\nSTOP = local\n")
    with Running(made(tmp_path)):
        assert [line.partition("[allow]: ")[2] for line in logged("section [allow]")] == [
            "this service has no command SOTP; did you mean 'STOP'?"
        ]
        reload(ONE + "[allow]\nALVE = none\n")
        assert "did you mean 'ALIVE'?" in logged("section [allow]")[-1]


def test_a_second_signal_meanwhile_has_the_file_read_once_more(
    tmp_path: Path, logged: Logged
) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path)
    began, gate, count = Event(), Event(), []

    @service.on_reload
    def slow(options: Any, changed: set[str]) -> None:
        count.append(changed)
        began.set()
        gate.wait()

    with Running(service):
        os.kill(os.getpid(), signal.SIGHUP)
        assert began.wait(PATIENCE)
        write(tmp_path, "drain_timeout = 7s\n" + ONE)
        service.reload()  # returns at once: the one that runs goes on
        gate.set()
        until(lambda: len(count) == 2)
    assert count == [set(), {"drain_timeout"}]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("drain_timeout = soon\n" + ONE, "tested.conf:1: "),
        ("[listeners]\none = unix:FOLDER/new\ntwo = unix:FOLDER/no/s\n", "No such file"),
        ("[listeners]\none = unix:FOLDER/new\ntwo = unix:FOLDER/used\n", "a live server has it"),
        (
            "[listeners]\none = unix:FOLDER/new\n"
            "two = tls://127.0.0.1:0 certificate=FOLDER/none key=FOLDER/none\n",
            "FOLDER/none: No such file",
        ),
        (ONE + "[links]\nnews = tls://localhost:1 ca=FOLDER/none\n", "FOLDER/none: No such file"),
        (ONE + "[links]\nother = unix:/x\n", "this service has no such link"),
        (ONE + "[timers]\nother = 1s\n", "this service has no such timer"),
        (ONE + "[allow]\nSTOP = everybody\n", "'everybody': uid:USER"),
        (ONE.rstrip() + " allow_groups=no-such\n", "there is no group 'no-such'"),
        (ONE + "two = udp://127.0.0.1:0 auth=FOLDER/no\n", "FOLDER/no"),
        ("log_file = FOLDER/no/log\n[listeners]\none = unix:FOLDER/new\n", "FOLDER/no/log"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing(
    ground: Ground, tmp_path: Path, reload: Reloads, text: str, sentence: str
) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path)
    service.link("news", optional=True)
    ground.serve(address=f"unix:{tmp_path}/used")
    with Running(service) as running, running.dial("one") as client:
        before = (dict(service.listeners), dict(service.links), service.values)
        why = reload(text, says=AS_BEFORE)
        assert sentence.replace("FOLDER", str(tmp_path)) in why
        assert (dict(service.listeners), dict(service.links), service.values) == before
        assert not (tmp_path / "new").exists()
        assert is_alive(client)
        with running.dial("one") as other:
            assert is_alive(other)


def test_a_listener_that_cannot_come_back_in_another_form_comes_back_as_it_was(
    tmp_path: Path, reload: Reloads, logged: Logged
) -> None:
    one = "[listeners]\none = udp://127.0.0.1:0\n"
    write(tmp_path, one)
    with Running(made(tmp_path)) as running:
        reload(one.rstrip() + " groups=239.255.0.1 interface=no-such\n")
        assert logged("listener one: the former one stays: ")
        with running.dial("one") as client:
            assert is_alive(client)
        reload(one.rstrip() + " max_datagram_bytes=2000\n")
        with running.dial("one") as client:
            assert is_alive(client)


def test_a_listener_whose_folder_has_gone_is_lost_with_a_word(
    tmp_path: Path, reload: Reloads, logged: Logged
) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    write(tmp_path, ONE + "two = unix:FOLDER/f/s\n")
    with Running(made(tmp_path)) as running:
        folder.rename(tmp_path / "g")
        reload(ONE + "two = unix:FOLDER/f/s mode=0666\n")
        assert logged("listener two is lost")
        assert set(running.service.listeners) == {"one"}
        (tmp_path / "g" / "s").unlink()
        folder.mkdir()
        reload(ONE + "two = unix:FOLDER/f/s mode=0666\n")
        with running.dial("two") as client:
            assert is_alive(client)


def test_nothing_is_read_while_it_ends(tmp_path: Path, logged: Logged) -> None:
    write(tmp_path, ONE)
    service = made(tmp_path)

    @service.on_stop
    def stopping(quitting: bool) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: logged("SIGHUP"))

    assert Running(service).__enter__().end() == 0
    assert not logged(READ_AGAIN)
    with pytest.raises(NetworkError), Client(f"unix:{tmp_path}/one.sock") as client:
        is_alive(client)
