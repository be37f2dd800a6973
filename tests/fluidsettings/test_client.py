"""The blocking client: values, what there is, changes, and what a C++ daemon answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from network_ground import PATIENCE
from scripted_peer import ScriptedPeer, scripted_peer
from settings_near import Near, near

import edgevent.fluidsettings
from edgevent import ConnectError, ConnectionLostError, Message, RemoteError, UsageError
from edgevent.communicatord.naming import own_name
from edgevent.errors import (
    MessageError,
    ReceiveTimeout,
    RequestTimeout,
    SettingError,
    SettingNotSetError,
    UnknownCommandError,
)
from edgevent.fluidsettings import Client, SettingChange
from edgevent.fluidsettings.described import read_changes
from edgevent.fluidsettings.names import MAX_VALUE_BYTES

P = "FLUID_SETTINGS_"
NAME = "hello::greeting"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Near]:
    with near(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Near) -> Iterator[Client]:
    with Client(daemon.address, name="tester") as client:
        yield client


@pytest.fixture
def cpp() -> Iterator[tuple[ScriptedPeer, Client]]:
    """A client of a peer that answers as the C++ daemon does: without serials."""
    with scripted_peer() as peer, Client(peer.address, name="testcli", timeout=PATIENCE) as client:
        yield peer, client


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["Hi", "", "two\nlines;\\", ' "quoted" ', "ä€𝄞", "x" * 16_000])
def test_a_value_comes_back_as_it_was_set(client: Client, value: str) -> None:
    assert client.set("hello::name", value) == "new"
    assert client.get("hello::name") == value


def test_the_highest_priority_holds_and_then_the_default(client: Client) -> None:
    assert client.get(NAME) == "Hello"
    assert client.set(NAME, "low", priority=10) == "new"
    assert client.set(NAME, "high") == "new priority"
    assert client.set(NAME, "high") == "newer"
    assert client.get(NAME) == "high"
    assert client.get(NAME, priority=10) == "low"
    assert client.get_default(NAME) == "Hello"
    assert client.delete(NAME) is True
    assert client.delete(NAME) is False
    assert client.get(NAME) == "low"
    assert client.delete(NAME, priority=10) is True
    assert client.get(NAME) == "Hello"


def test_an_older_value_does_not_replace_a_newer_one(client: Client) -> None:
    now = time.time_ns()
    assert client.set(NAME, "new", timestamp=now) == "new"
    assert client.set(NAME, "old", timestamp=now - 1) == "unchanged"
    assert client.get(NAME) == "new"


def test_without_a_value_there_is_an_error_or_what_the_caller_says(client: Client) -> None:
    with pytest.raises(SettingNotSetError, match="hello::name: this setting is not set"):
        client.get("hello::name")
    assert client.get("hello::name", None) is None
    assert client.get("hello::name", "x", priority=3) == "x"
    assert client.get_default("hello::name") is None
    with pytest.raises(SettingNotSetError, match='no parameter named "no::such"'):
        client.get("no::such")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda client: client.get("greeting"), "is no name of a setting"),
        (lambda client: client.get("a::../b"), "is no name of a setting"),
        (lambda client: client.set("a::b\0", "x"), "is no name of a setting"),
        (lambda client: client.set(NAME, "x", priority=100), "priority 100: 0 to 99"),
        (lambda client: client.set(NAME, "x" * (MAX_VALUE_BYTES + 1)), "at most 16384"),
        (lambda client: client.set("no::such", "x"), 'no parameter named "no::such"'),
        (lambda client: client.set("hello::pause", "x"), "an integer from 1 to 60 was expected"),
        (lambda client: client.set(NAME, "x", timestamp=1), "before 2022-07-21"),
        (lambda client: client.delete(NAME, priority=-1), "priority -1: 0 to 99"),
        (lambda client: client.describe("no::such"), 'no parameter named "no::such"'),
        (lambda client: client.history("no::such"), 'no parameter named "no::such"'),
        (lambda client: client.watch("x"), "is no name of a setting"),
    ],
)
def test_what_is_refused_changes_nothing(
    daemon: Near, client: Client, call: Any, sentence: str
) -> None:
    with pytest.raises(SettingError, match=sentence):
        call(client)
    assert not list(daemon.store.entries())


def test_without_a_daemon_there_is_no_client() -> None:
    with scripted_peer() as peer:
        address = peer.address
    with pytest.raises(ConnectError):
        Client(address)


# --- what there is --------------------------------------------------------------------------------


def test_all_is_known_of_a_setting(client: Client) -> None:
    client.set("hello::pause", "7", priority=90)
    client.set("hello::pause", "6")
    found = client.describe("hello::pause")
    assert (found.name, found.type, found.default) == ("hello::pause", "integer(1...60)", "5")
    assert (found.help, found.required) == ("How long it rests, in seconds", False)
    assert [(one.priority, one.value) for one in found.entries] == [(50, "6"), (90, "7")]
    assert all("tester" in one.who for one in found.entries)
    assert found.value == "7"
    assert client.describe("hello::loud").required is True
    assert client.describe("hello::loud").value is None


def test_settings_are_listed_by_namespace(client: Client) -> None:
    assert [one.name for one in client.list("hello")] == [
        "hello::greeting", "hello::loud", "hello::name", "hello::pause",
    ]  # fmt: skip
    assert [one.name for one in client.list("mail::")] == ["mail::relay::host"]
    assert [one.name for one in client.list(NAME)] == [NAME]
    assert len(client.list()) == len(client.names()) == 5
    assert client.list("hell") == []


def test_long_values_are_described_all_the_same(client: Client) -> None:
    for priority in (10, 50, 90):
        client.set("hello::name", f"{priority}" * 8_000, priority=priority)
    found = client.describe("hello::name")
    assert [(one.priority, one.value) for one in found.entries] == [
        (priority, f"{priority}" * 8_000) for priority in (10, 50, 90)
    ]


def test_a_long_default_beside_a_long_value_is_described_as_well(tmp_path: Path) -> None:
    default, value = '"' * 15_000 + "x", '"' * 9_000
    with near(tmp_path, f"[a::b]\ndefault={default}\n") as daemon, Client(daemon.address) as client:
        client.set("a::b", value)
        found = client.describe("a::b")
        assert (found.default, found.value) == (default, value)


def test_a_history_has_as_many_changes_as_a_message_holds(client: Client) -> None:
    for number in range(4):
        client.set("hello::name", f"{number}" * 15_000)
    assert [one.value for one in client.history("hello::name")] == ["3" * 15_000, "2" * 15_000]


def test_the_history_has_deletions_and_the_newest_first(client: Client) -> None:
    client.set(NAME, "one")
    client.set(NAME, "two", priority=20)
    client.delete(NAME)
    found = [(one.priority, one.value) for one in client.history(NAME)]
    assert found == [(50, None), (20, "two"), (50, "one")]
    assert [one.value for one in client.history(NAME, limit=1)] == [None]


def test_an_export_is_the_file_of_the_cpp_daemon(client: Client) -> None:
    client.set(NAME, "a\nb", timestamp=1_700_000_000_000_000_000)
    assert client.export() == ["hello::greeting::50=1700000000000000000|a\\nb"]


def test_more_names_than_a_message_holds_are_all_told(tmp_path: Path) -> None:
    names = [f"{'n' * 100}::{number:04}" for number in range(800)]
    text = "".join(f"[{name}]\ndefault=1\n" for name in names)
    with near(tmp_path, text) as daemon, Client(daemon.address) as client:
        assert client.names() == names


# --- changes --------------------------------------------------------------------------------------


def test_a_watch_gives_the_values_and_then_each_change(daemon: Near, client: Client) -> None:
    with client.watch(NAME, "hello::name", "hello::greeting") as watch:
        first = watch.first(PATIENCE)
        assert first == {
            NAME: SettingChange(NAME, "Hello", is_default=True, is_first=True),
            "hello::name": SettingChange("hello::name", None),
        }
        with Client(daemon.address) as other:
            other.set(NAME, "Hi")
            other.set(NAME, "Hi")  # is no change
            other.set("hello::name", "bob")
            other.delete("hello::name")
        told = [watch.next(PATIENCE) for _ in range(3)]
        assert [(one.name, one.value) for one in told] == [
            (NAME, "Hi"), ("hello::name", "bob"), ("hello::name", None),
        ]  # fmt: skip
        assert client.get(NAME) == "Hi"  # in between
        with pytest.raises(ReceiveTimeout):
            watch.next(0.01)
        with pytest.raises(UsageError, match="another watch"):
            client.watch(NAME)
    assert len(daemon.listeners) == 0
    watch.close()
    with client.watch(NAME) as again:
        assert next(iter(again)).value == "Hi"


@pytest.mark.parametrize(
    ("length", "count"),
    [pytest.param(90, 700, id="70 KiB of names"), pytest.param(10, 1_600, id="26 MB at once")],
)
def test_a_watch_takes_more_than_a_message_and_an_outbox_hold(
    length: int, count: int, tmp_path: Path
) -> None:
    names = [f"{'n' * length}::{number:04}" for number in range(count)]
    text = "".join(f"[{name}]\ndefault={'x' * 16_000}\n" for name in names)
    with near(tmp_path, text) as daemon, Client(daemon.address) as client:
        with client.watch(*names) as watch:
            first = watch.first(PATIENCE)
            assert [first[name].is_first for name in names] == [True] * count
            assert len(daemon.listeners) == count
            with Client(daemon.address) as other:
                other.set(names[-1], "y")
            assert watch.next(PATIENCE).value == "y"
        assert len(daemon.listeners) == 0


def test_a_watch_without_names_is_none(client: Client) -> None:
    with pytest.raises(UsageError, match="the name of a setting"):
        client.watch()


def test_a_watch_ends_with_the_daemon(daemon: Near, client: Client) -> None:
    watch = client.watch(NAME)
    watch.first(PATIENCE)
    daemon.go_away()
    with pytest.raises(ConnectionLostError):
        watch.next(PATIENCE)
    watch.close()


# --- the daemon in C++ ----------------------------------------------------------------------------


def test_the_answers_of_a_cpp_daemon_are_understood(cpp: tuple[ScriptedPeer, Client]) -> None:
    peer, client = cpp
    asked = "testsvc::port"
    talk: list[tuple[Any, str, str, object]] = [
        (lambda: client.names(), f"{P}LIST", f"{P}OPTIONS options=testsvc::name,{asked}",
         ["testsvc::name", asked]),
        (lambda: client.get(asked), f"{P}GET name={asked};",
         f"{P}DEFAULT_VALUE name={asked};value=4040", "4040"),
        (lambda: client.set(asked, "123"), f"{P}PUT name={asked};priority=50;",
         f"{P}UPDATED name={asked};reason=new", "new"),
        (lambda: client.get(asked), f"{P}GET name={asked};", f"{P}VALUE name={asked};value=123",
         "123"),
        (lambda: client.delete(asked), f"{P}DELETE name={asked};priority=50;",
         f"{P}VALUE_UPDATED name={asked};value=4040\n{P}DELETED name={asked}", True),
        (lambda: client.get("nosuch::x", None), f"{P}GET name=nosuch::x;",
         f'{P}NOT_SET error=no parameter named "nosuch::x";name=nosuch::x', None),
    ]  # fmt: skip
    for call, question, answer, result in talk:
        asking = gevent.spawn(call)
        line = peer.read_line()
        assert f":testcli {question}" in line
        peer.send(*answer.split("\n"))
        assert asking.get(timeout=PATIENCE) == result


def test_a_refusal_of_the_cpp_daemon_is_its_sentence(cpp: tuple[ScriptedPeer, Client]) -> None:
    peer, client = cpp
    why = 'put named setting "testsvc::port" to value "notanumber" failed'
    asking = gevent.spawn(client.set, "testsvc::port", "notanumber")
    peer.expect(f"{P}PUT")
    peer.send(Message("INVALID", {"command": f"{P}PUT", "message": why}))
    with pytest.raises(SettingError, match=f"^{why}$"):
        asking.get(timeout=PATIENCE)
    asking = gevent.spawn(client.describe, "testsvc::port")
    peer.expect(f"{P}DESCRIBE")
    peer.send(Message("UNKNOWN", {"command": f"{P}DESCRIBE"}))
    with pytest.raises(UnknownCommandError):
        asking.get(timeout=PATIENCE)


def test_the_values_of_a_cpp_daemon_are_watched(cpp: tuple[ScriptedPeer, Client]) -> None:
    peer, client = cpp
    asking = gevent.spawn(client.watch, "testsvc::port", "nosuch::x")
    assert peer.read_line().endswith(f":testcli {P}LISTEN names=testsvc::port,nosuch::x")
    peer.send(
        f"{P}REGISTERED",
        f"{P}VALUE_UPDATED message=current value;name=testsvc::port;value=123",
        "HELLO x=1",
        f"{P}VALUE_UPDATED error=no parameter;name=nosuch::x",
        f"{P}READY errcnt=1",
        f"{P}VALUE_UPDATED name=testsvc::port;reason=value undefined",
    )
    watch = asking.get(timeout=PATIENCE)
    found = watch.first(PATIENCE)
    assert (found["testsvc::port"].value, found["nosuch::x"].value) == ("123", None)
    assert watch.next(PATIENCE) == SettingChange("testsvc::port", None)


def test_a_daemon_that_fails_or_says_nothing_is_an_error(cpp: tuple[ScriptedPeer, Client]) -> None:
    peer, client = cpp
    asking = gevent.spawn(client.names)
    peer.expect(f"{P}LIST")
    peer.send(Message("INVALID", {"command": f"{P}LIST", "message": "internal error", "id": "a1"}))
    with pytest.raises(RemoteError, match="internal error") as caught:
        asking.get(timeout=PATIENCE)
    assert caught.value.id == "a1"
    client.timeout = 0.01
    with pytest.raises(RequestTimeout):
        client.names()


@pytest.mark.parametrize(
    "text", ["x", "{}", "[1]", '[{"priority": 1}]', "[[]]", '[{"priority":"x"}]']
)
def test_a_list_that_is_none_is_named(text: str) -> None:
    with pytest.raises(MessageError, match="parameter changes is no list of values"):
        read_changes(Message(f"{P}CHANGES", {"name": NAME, "changes": text}))


@pytest.mark.parametrize("host", ["web-1.example.org", "10.0.0.5", ""])
def test_a_computer_of_any_name_can_ask(
    daemon: Near, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    with Client(daemon.address, name="tester") as client:
        assert client.set(NAME, "Hi") == "new"
        assert client.history(NAME)[0].who.startswith(f"{own_name()}:tester ")


# --- the package ----------------------------------------------------------------------------------


def test_the_package_has_its_names_and_no_other() -> None:
    for name in edgevent.fluidsettings.__all__:
        assert getattr(edgevent.fluidsettings, name).__name__ == name
    assert set(edgevent.fluidsettings.__all__) <= set(dir(edgevent.fluidsettings))
    with pytest.raises(AttributeError, match="nothing"):
        edgevent.fluidsettings.nothing  # noqa: B018


def test_a_client_says_where_it_is(client: Client) -> None:
    assert "settings" in repr(client)
    client.close()
    client.close()
