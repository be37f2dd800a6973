"""A service reads its configuration again: what it has one of is exchanged, or stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from network_ground import PATIENCE, until
from scripted_peer import scripted_peer
from service_ground import AS_BEFORE, ONE, Logged, Reloads, Running, made, write

from edgevent import InvalidMessageError, Message, PidFile, Service, send_datagram
from edgevent.option_groups import add_definition_options

ROTATE = "logrotate_listen = unixgram:FOLDER/{}\nlog_file = FOLDER/log\n"
DEFINED = "path_to_message_definitions = FOLDER/{}\n" + ONE


@pytest.fixture
def reload(tmp_path: Path, logged: Logged) -> Reloads:
    """Gives ``reload(text)``: the new file was read; returns what was said."""
    return Reloads(tmp_path, logged)


# --- the file with the process id -----------------------------------------------------------------


def test_the_pid_file_moves_and_goes(tmp_path: Path, reload: Reloads, logged: Logged) -> None:
    write(tmp_path, ONE)
    one, two = tmp_path / "1.pid", tmp_path / "2.pid"
    with Running(made(tmp_path)):
        for text, there in (("1", {one}), ("1", {one}), ("2", {two}), ("./2", {two}), ("", set())):
            reload((f"pid_file = FOLDER/{text}.pid\n" if text else "") + ONE)
            assert {path for path in (one, two) if path.exists()} == there
        assert reload("pid_file = FOLDER/1.pid\n" + ONE) == "pid_file"
        assert one.read_text() == f"{os.getpid()}\n"
    assert not one.exists()
    assert not logged("needs a restart")


def test_a_pid_file_that_cannot_be_had_changes_nothing(tmp_path: Path, reload: Reloads) -> None:
    write(tmp_path, "pid_file = FOLDER/1.pid\n" + ONE)
    with Running(made(tmp_path)), PidFile(tmp_path / "taken.pid"):
        said = reload("pid_file = FOLDER/taken.pid\n" + ONE, says=AS_BEFORE)
        assert "taken.pid: process" in said
        # Nor does a mistake behind it take it.
        reload("pid_file = FOLDER/2.pid\nlog_file = FOLDER/no/log\n" + ONE, says=AS_BEFORE)
        assert sorted(path.name for path in tmp_path.glob("*.pid")) == ["1.pid", "taken.pid"]


# --- log rotation ---------------------------------------------------------------------------------


def rotate(folder: Path, name: str, code: str | None = None) -> None:
    """Moves the log away, and sends LOG_ROTATE until it is there again."""
    log = folder / "log"
    log.rename(folder / "log.1")
    send_datagram(f"unixgram:{folder}/{name}", Message("LOG_ROTATE"), secret_code=code)
    until(log.exists)


def test_the_listener_for_rotation_comes_moves_and_goes(tmp_path: Path, reload: Reloads) -> None:
    write(tmp_path, "log_file = FOLDER/log\n" + ONE)
    with Running(made(tmp_path)):
        reload(ROTATE.format("a") + ONE)
        rotate(tmp_path, "a")
        reload(ROTATE.format("b") + ONE)
        assert not (tmp_path / "a").exists()
        rotate(tmp_path, "b")
        reload(ROTATE.format("b") + "logrotate_secret = hunter2\n" + ONE)
        rotate(tmp_path, "b", "hunter2")
        said = reload(ROTATE.format("no/folder") + ONE, says=AS_BEFORE)
        assert "no/folder" in said
        rotate(tmp_path, "b", "hunter2")
        reload(ONE)
        assert not (tmp_path / "b").exists()


# --- message definitions --------------------------------------------------------------------------


def adding(folder: Path) -> Service:
    service = made(folder)
    add_definition_options(service.options)
    service.on("ADD")(lambda message, peer: message.reply("SUM"))
    return service


def define(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "ADD.conf").write_text(text)


def test_definitions_are_read_anew(tmp_path: Path, reload: Reloads, logged: Logged) -> None:
    write(tmp_path, ONE)
    message = Message("ADD", {"a": "x"})
    define(tmp_path / "d", "[a]\ntype = integer\n")
    with Running(adding(tmp_path)) as running, running.dial("one") as client:
        assert client.request(message, timeout=PATIENCE).command == "SUM"
        reload(DEFINED.format("d"))
        with pytest.raises(InvalidMessageError, match="a of ADD is no integer"):
            client.request(message, timeout=PATIENCE)
        define(tmp_path / "d", "[a]\ntype = string\n")
        reload(DEFINED.format("d"))
        assert client.request(message, timeout=PATIENCE).command == "SUM"
        define(tmp_path / "d", "[a]\ntype = sting\n")
        assert "ADD.conf:2: section [a]: type" in reload(DEFINED.format("d"), says=AS_BEFORE)
        assert "/no: there is no such folder" in reload(DEFINED.format("no"), says=AS_BEFORE)
        assert client.request(message, timeout=PATIENCE).command == "SUM"
    assert not logged("needs a restart")


# --- settings -------------------------------------------------------------------------------------


def told(name: str, value: str) -> str:
    return f"FLUID_SETTINGS_VALUE_UPDATED name=tested::{name};value={value}"


def test_settings_of_this_computer_are_given_and_left_to_the_daemon(
    tmp_path: Path, reload: Reloads, logged: Logged
) -> None:
    where = f"fluid_settings = unix:{tmp_path}/1\n"
    write(tmp_path, where + ONE)
    service = made(tmp_path)
    pause, name = service.setting("pause", 5), service.setting("name", "x")
    changes = list[object]()
    for one in (pause, name):
        one.on_change(changes.append)
    with scripted_peer(f"unix:{tmp_path}/1") as peer:
        running = Running(service)
        assert "names=tested::pause,tested::name" in peer.read_line()
        peer.send(told("pause", "7"), "FLUID_SETTINGS_READY")
        with running:
            assert pause.value == 7
            reload(where + ONE + "[settings]\npause = 9\n")
            peer.send(told("pause", "8"), told("name", "y"))
            until(lambda: changes == [9, "y"])
            assert (pause.value, pause.origin) == (9, "option")
            assert "setting 'pause'" in reload(
                where + ONE + "[settings]\npause=p\n", says=AS_BEFORE
            )
            copy = tmp_path / "copy"
            reload(f"settings_copy = {copy}\n" + where + ONE)
            assert "names=tested::pause" in peer.read_line()
            peer.send(told("pause", "8"), "FLUID_SETTINGS_READY")
            until(lambda: changes == [9, "y", 8])
            until(lambda: copy.exists() and "tested::pause" in copy.read_text())
            # Another daemon is asked for all; what is given up while nobody is there is the copy's.
            where = f"fluid_settings = unix:{tmp_path}/2\nsettings_copy = {copy}\n"
            reload(where + ONE + "[settings]\npause = 3\n")
            peer.expect_end()
            until(lambda: not service._settings.listener.is_ready)
            reload(where + ONE)
            assert changes[3:] == [3, 8]
            with scripted_peer(f"unix:{tmp_path}/2") as other:
                assert "names=tested::pause,tested::name" in other.read_line()
                other.send(told("pause", "6"), told("name", "z"), "FLUID_SETTINGS_READY")
                until(lambda: changes[5:] == [6, "z"])
    assert not logged("needs a restart")


def test_the_way_to_the_settings_stays_and_its_communicatord_changes(
    tmp_path: Path, reload: Reloads, logged: Logged
) -> None:
    text = "fluid_settings = {}\ncommunicator_listen = unix:FOLDER/{}\n" + ONE
    write(tmp_path, "fluid_settings_timeout = 100ms\n" + text.format("communicatord", "1"))
    service = made(tmp_path, communicatord=True)
    service.setting("pause", 5)
    with Running(service):
        reload(text.format("communicatord", "2"))
        assert service._settings is not None
        link = service._settings.link
        assert link is not None
        assert link.address == service.communicatord.address == f"unix:{tmp_path}/2"
        assert not logged("needs a restart")
        reload(text.format("unix:FOLDER/3", "2"))
        assert logged("the new value of fluid_settings needs a restart")
        assert link.address == f"unix:{tmp_path}/2"
