"""The settings of a service: values, calls on a change, and the copy on the disk."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from network_ground import PATIENCE, Ground, run_program, until
from scripted_peer import scripted_peer
from settings_near import Near, near

from edgevent import Communicator, Dispatcher, Message, PermanentConnection, UsageError
from edgevent.durations import parse_duration
from edgevent.errors import OptionError, SettingError, SettingsCopyError
from edgevent.fluidsettings.listening import Setting, SettingsListener, converter_of, read_boolean
from edgevent.fluidsettings.local_copy import read_copy, write_copy

P = "FLUID_SETTINGS_"
SOON = 0.02


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground(Communicator()) as ground:
        yield ground


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Near]:
    with near(tmp_path) as daemon:
        yield daemon


def attach(listener: SettingsListener, ground: Ground, address: str) -> PermanentConnection:
    dispatcher = Dispatcher()
    link = PermanentConnection(address, dispatcher, pauses=(0.0, 0.02), name="settings")
    listener.attach(link, dispatcher)
    return ground.communicator.add_connection(link)


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("default", "type", "text", "value"),
    [
        ("x", None, "y", "y"),
        (1, None, "7", 7),
        (0.5, None, "2.5", 2.5),
        (False, None, "Yes", True),
        (True, None, "0", False),
        (5.0, parse_duration, "1m", 60.0),
        (None, int, "3", 3),
    ],
)
def test_a_text_is_read_as_the_default_or_the_type_says(
    default: Any, type: Any, text: str, value: object
) -> None:
    setting = SettingsListener("hello").add("x", default, type)
    assert (setting.value, setting.origin) == (default, "code")
    assert setting.take(text, "daemon") is True
    assert (setting.value, setting.origin) == (value, "daemon")
    assert setting.take(None, "daemon") is True
    assert (setting.value, setting.origin) == (default, "code")


@pytest.mark.parametrize("text", ["", "2", "tru", "yes no"])
def test_what_is_no_boolean_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="true or false was expected"):
        read_boolean(text)
    assert converter_of(True) is read_boolean


def test_names_get_the_namespace_of_the_service() -> None:
    listener = SettingsListener("my-service")
    assert listener.add("pause", 1).name == "my-service::pause"
    assert listener.add("other::a_b", 1).name == "other::a-b"
    with pytest.raises(UsageError, match="'my-service::pause' is there already"):
        listener.add("my_service::pause", 2)
    with pytest.raises(SettingError, match="no name of a setting"):
        listener.add("a/b", 1)
    assert repr(listener.settings["other::a-b"]) == "<Setting other::a-b 1 (code)>"


def test_an_option_wins_over_the_daemon(daemon: Near, ground: Ground) -> None:
    listener = SettingsListener("hello")
    pause, name = listener.add("pause", 1), listener.add("name", "x")
    assert listener.read_option("pause", "9") == "9"
    with pytest.raises(OptionError, match="setting 'pause': invalid literal"):
        listener.read_option("pause", "x")
    with pytest.raises(OptionError, match=r"no setting 'hello::nme'; did you mean 'hello::name'\?"):
        listener.read_option("hello::nme", "x")
    listener.fix({"pause": "9"})
    attach(listener, ground, daemon.address)
    assert listener.start(PATIENCE) is True
    daemon.store.put("hello::pause", "7")
    daemon.store.put("hello::name", "bob")
    until(lambda: name.value == "bob")
    assert (pause.value, pause.origin) == (9, "option")
    with pytest.raises(UsageError, match="asked for already"):
        listener.add("late", 1)


def test_a_computer_of_any_name_can_listen(
    daemon: Near, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "web-1.example.org")
    listener = SettingsListener("hello")
    listener.add("greeting", "")
    attach(listener, ground, daemon.address)
    assert listener.start(PATIENCE)


def test_nothing_is_asked_when_all_are_given_by_options(ground: Ground) -> None:
    with scripted_peer() as peer:
        listener = SettingsListener("hello")
        listener.add("pause", 1)
        listener.fix({"pause": "9"})
        attach(listener, ground, peer.address)
        assert listener.start(PATIENCE) is True
        peer.expect_nothing()


# --- changes --------------------------------------------------------------------------------------


def test_the_start_has_the_values_and_changes_call(
    daemon: Near, ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    daemon.store.put("hello::pause", "7")
    listener = SettingsListener("hello")
    pause, greeting, name = (
        listener.add("pause", 1), listener.add("greeting", "x"), listener.add("name", "nobody"),
    )  # fmt: skip
    told: list[object] = []

    @pause.on_change
    def fails(value: int) -> None:
        raise RuntimeError("of the test")

    for setting in (pause, greeting, name):
        setting.on_change(told.append)
    attach(listener, ground, daemon.address)
    assert listener.start(PATIENCE) is True
    assert (pause.value, greeting.value, name.value) == (7, "Hello", "nobody")
    assert [one.origin for one in (pause, greeting, name)] == ["daemon", "daemon", "code"]
    assert told == []
    daemon.store.put("hello::pause", "8")
    daemon.store.put("hello::name", "bob")
    daemon.store.delete("hello::name")
    daemon.store.put("hello::greeting", "Hello", 10)  # as the default: no other value
    daemon.store.put("hello::greeting", "Hi")
    until(lambda: len(told) == 4)
    assert told == [8, "bob", "nobody", "Hi"]
    assert "hello::pause: test_" in caplog.text
    assert listener.counts["changes"] >= 4


def test_a_value_that_cannot_be_read_is_logged_and_changes_nothing(
    daemon: Near, ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    listener = SettingsListener("hello")
    name = listener.add("name", 3)
    attach(listener, ground, daemon.address)
    listener.start(PATIENCE)
    daemon.store.put("hello::name", "bob")
    until(lambda: listener.counts["refused"])
    assert name.value == 3
    assert "hello::name: the value stays 3" in caplog.text


def test_more_names_than_one_message_holds_are_asked_for_in_several(
    daemon: Near, ground: Ground
) -> None:
    daemon.store.put("hello::pause", "7")
    listener = SettingsListener("hello")
    for number in range(300):
        listener.add(f"{number}-{'x' * 230}", 0)
    pause = listener.add("pause", 1)
    link = attach(listener, ground, daemon.address)
    assert listener.start(PATIENCE) is True
    assert (pause.value, pause.origin) == (7, "daemon")
    assert link.is_connected


def test_after_a_loss_what_has_changed_meanwhile_is_told(daemon: Near, ground: Ground) -> None:
    listener = SettingsListener("hello")
    greeting = listener.add("greeting", "x")
    told: list[str] = []
    greeting.on_change(told.append)
    attach(listener, ground, daemon.address)
    listener.start(PATIENCE)
    daemon.go_away()
    until(lambda: not listener.is_ready)
    daemon.store.put("hello::greeting", "Hi")
    daemon.serve(daemon.address)
    until(lambda: told == ["Hi"])
    until(lambda: listener.is_ready)


def test_without_a_definition_the_log_says_so(
    daemon: Near, ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    listener = SettingsListener("hello")
    missing = listener.add("missing", "x")
    attach(listener, ground, daemon.address)
    assert listener.start(PATIENCE) is True
    assert missing.value == "x"
    assert 'setting no parameter named "hello::missing"' in caplog.text


def test_by_way_of_communicatord_it_listens_when_the_daemon_is_up(ground: Ground) -> None:
    with scripted_peer() as peer:
        listener = SettingsListener("hello")
        greeting = listener.add("greeting", "x")
        dispatcher = Dispatcher()
        link = PermanentConnection(peer.address, dispatcher)
        listener.attach(link, dispatcher, "fluid_settings")
        ground.communicator.add_connection(link)
        listen = f'fluid_settings/{P}LISTEN cache="no;reply";names=hello::greeting'
        starting = gevent.spawn(listener.start, PATIENCE)
        assert peer.read_line() == listen
        for service in ("fluid_settings", "other"):
            fields = {"destination_service": service, "unsent_command": f"{P}LISTEN"}
            peer.send(Message("SERVICE_UNAVAILABLE", fields))
        peer.send("STATUS service=other;status=up", "STATUS service=fluid_settings;status=up")
        assert peer.read_line() == listen
        peer.send(
            f"{P}REGISTERED",
            f"{P}VALUE_UPDATED name=hello::greeting;value=Hi",
            f"{P}VALUE_UPDATED name=others::own;value=1",
            f"{P}READY",
        )
        assert starting.get(timeout=PATIENCE) is True
        assert greeting.value == "Hi"
        peer.send("STATUS service=fluid_settings;status=up")  # nothing new
        peer.send("STATUS service=fluid_settings;status=down")
        until(lambda: not listener.is_ready)
        peer.send("STATUS service=fluid_settings;status=up")
        assert peer.read_line() == listen


def test_a_link_that_is_up_already_is_asked_at_once(daemon: Near, ground: Ground) -> None:
    dispatcher = Dispatcher()
    link = ground.communicator.add_connection(PermanentConnection(daemon.address, dispatcher))
    link.wait_until_up(PATIENCE)
    listener = SettingsListener("hello")
    listener.add("greeting", "x")
    listener.attach(link, dispatcher)
    assert listener.start(PATIENCE) is True


# --- no daemon ------------------------------------------------------------------------------------


def nobody() -> str:
    with scripted_peer() as peer:
        return peer.address


def test_without_a_daemon_the_values_of_the_code_count(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    listener = SettingsListener("hello")
    greeting = listener.add("greeting", "x")
    attach(listener, ground, nobody())
    assert listener.start(SOON) is False
    assert (greeting.value, greeting.origin) == ("x", "code")
    assert "the values are those of the program" in caplog.text


def test_a_start_without_a_daemon_has_the_values_of_the_copy(
    daemon: Near, ground: Ground, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "copy.json")

    def begin(address: str) -> tuple[SettingsListener, Setting[str], Setting[int], bool]:
        listener = SettingsListener("hello", copy=path)
        greeting, pause = listener.add("greeting", "x"), listener.add("pause", 1)
        attach(listener, ground, address)
        return listener, greeting, pause, listener.start(PATIENCE)

    daemon.store.put("hello::greeting", "Hi")
    first, *_, answered = begin(daemon.address)
    assert answered is True
    until(lambda: os.path.exists(path))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert json.loads(Path(path).read_text())["settings"] == {
        "hello::greeting": "Hi",
        "hello::pause": "5",
    }
    daemon.store.put("hello::pause", "9")
    until(lambda: first.counts["copies"] == 2)
    # Nobody can be connected to, so it does not wait for the whole limit.
    _, greeting, pause, answered = begin(nobody())
    assert answered is False
    assert (greeting.value, pause.value, pause.origin) == ("Hi", 9, "copy")
    assert "the values are those of the copy" in caplog.text


def test_a_copy_that_cannot_be_written_or_read_stops_nothing(
    daemon: Near, ground: Ground, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listener = SettingsListener("hello", copy=str(tmp_path / "gone" / "copy.json"))
    listener.add("greeting", "x")
    attach(listener, ground, daemon.address)
    assert listener.start(PATIENCE) is True
    until(lambda: listener.counts["copy_failures"])
    assert "the copy of settings: No such file or directory" in caplog.text
    (tmp_path / "copy.json").write_text("?")
    other = SettingsListener("hello", copy=str(tmp_path / "copy.json"))
    other.add("greeting", "x")
    attach(other, ground, nobody())
    assert other.start(SOON) is False
    assert "copy.json: is no copy of settings" in caplog.text


# --- the file -------------------------------------------------------------------------------------


def test_a_copy_comes_back(tmp_path: Path) -> None:
    path, values = str(tmp_path / "c"), {"a::b": "x\ny", "c::d": "ä\udc80"}
    assert read_copy(path) == {}
    write_copy(path, values)
    write_copy(path, values)
    assert read_copy(path) == values
    assert os.listdir(tmp_path) == ["c"]


def _folder(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _text(text: str, mode: int = 0o600) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(text)
        path.chmod(mode)

    return write


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_text(""), "is no copy of settings"),
        (_text("[]"), "is no copy of settings"),
        (_text('{"settings": {"a": 1}}'), "is no copy of settings"),
        (_text('{"settings": ["a"]}'), "is no copy of settings"),
        (_text("[" * 100_000), "is no copy of settings"),
        (_text('{"settings": {}}', 0o622), "others may write it"),
        (_folder, "is no regular file"),
        (_fifo, "is no regular file"),
    ],
)
def test_what_is_no_copy_is_refused(
    tmp_path: Path, make: Callable[[Path], None], sentence: str
) -> None:
    make(tmp_path / "c")
    with pytest.raises(SettingsCopyError, match=sentence):
        read_copy(str(tmp_path / "c"))


def test_a_path_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("a\0b", str(tmp_path / "file" / "c")):
        with pytest.raises(SettingsCopyError):
            read_copy(path)
        with pytest.raises(SettingsCopyError):
            write_copy(path, {})


_FULL = """\
import os, subprocess, sys
from edgevent.errors import SettingsCopyError
from edgevent.fluidsettings.local_copy import read_copy, write_copy
folder = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=True)
write_copy(folder + "/c", {"a::b": "1"})
try:
    write_copy(folder + "/c", {"a::b": "2" * 100_000})
except SettingsCopyError as error:
    print(error.errno, read_copy(folder + "/c"), os.listdir(folder))
subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
try:
    write_copy(folder + "/c", {"a::b": "3"})
except SettingsCopyError as error:
    print(error.errno, read_copy(folder + "/c"), os.listdir(folder))
"""


def test_a_full_disk_and_a_read_only_one_leave_the_copy_as_it_was(
    tmp_path: Path, own_namespaces: Callable[..., list[str]]
) -> None:
    words = tuple(own_namespaces("-m"))
    shown = run_program(_FULL, tmp_path, before=words).splitlines()
    assert shown == ["28 {'a::b': '1'} ['c']", "30 {'a::b': '1'} ['c']"]
