"""A service that registers by itself: its option, its link, and what it does without a daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from network_ground import PATIENCE, until
from scripted_peer import ScriptedPeer, scripted_peer
from service_ground import Manager, Running, made, write

from edgevent import (
    Client,
    Message,
    NotConnectedError,
    OptionError,
    Service,
    ServiceStatus,
    UsageError,
)
from edgevent.communicatord.client_options import add_communicator_options, communicator_address
from edgevent.communicatord.daemon import Daemon
from edgevent.options import OptionParser


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's user."""
    monkeypatch.delenv("COMMUNICATOR_LISTEN", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A service manager that is told how the service is."""
    manager = Manager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.path)
    yield manager
    manager.close()


def at(path: str) -> str:
    return f"--communicator-listen=unix:{path}"


def test_one_argument_makes_a_service_known(tmp_path: Path, daemon: Daemon, path: str) -> None:
    service = made(tmp_path, communicatord=True)
    told = list[Any]()

    @service.on("ADD")
    def add(message: Message, peer: Any, a: int, b: int) -> Message:
        return message.reply("SUM", {"value": a + b})

    @service.on_start
    def start(options: Any) -> None:
        service.communicatord.on_status(lambda link, status: told.append(status))

    @service.on_ready
    def ready(message: Message) -> None:
        told.append(message.command)

    with Running(service, at(path)):
        link = service.communicatord
        link.wait_until_ready(PATIENCE)
        assert (link.name, link.service_name) == ("communicator-tested", "tested")
        with Client(f"unix:{path}") as caller:
            asked = Message("ADD", {"a": 1, "b": 2}, service="tested")
            caller.send(Message("REGISTER", {"service": "caller", "version": 1}))
            assert caller.request(asked, "SUM", PATIENCE)["value"] == "3"
        until(lambda: len(told) == 3)
    assert told[0] == "READY"
    assert [(one.service, one.state) for one in told[1:]] == [("caller", "up"), ("caller", "down")]
    assert isinstance(told[1], ServiceStatus)
    until(lambda: daemon.router.services() == [])


def test_stop_comes_by_way_of_the_daemon(tmp_path: Path, daemon: Daemon, path: str) -> None:
    service = made(tmp_path, communicatord="other_name")
    running = Running(service, at(path))
    with running:
        service.communicatord.wait_until_ready(PATIENCE)
        with Client(f"unix:{path}") as caller:
            caller.send(Message("STOP", service="other_name"))
            assert running.wait() == 0


def test_the_manager_is_told_at_once_and_the_daemon_may_come_later(
    tmp_path: Path, path: str, manager: Manager
) -> None:
    service = made(tmp_path, communicatord=True)
    with Running(service, at(path)):
        assert manager.receive_until("READY")["READY"] == "1"
        assert not service.communicatord.is_registered
        with scripted_peer(f"unix:{path}") as peer:
            assert peer.read_line() == "REGISTER service=tested;version=1"
            peer.send("READY")
            service.communicatord.wait_until_ready(PATIENCE)


def registered(peer: ScriptedPeer) -> None:
    assert peer.read_line() == "REGISTER service=tested;version=1"
    peer.send("READY")


def test_the_link_goes_to_another_daemon_with_what_it_has_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = made(tmp_path, communicatord=True)
    told = list[Any]()

    @service.on_start
    def start(options: Any) -> None:
        service.communicatord.on_ready(lambda link: told.append(link.address))

    one, two = f"unix:{tmp_path}/1", f"unix:{tmp_path}/2"
    write(tmp_path, f"communicator_listen = {one}\n")
    with scripted_peer(one) as first, Running(service):
        registered(first)
        link = service.communicatord
        link.wait_until_ready(PATIENCE)
        service.reload()  # nothing has changed: the connection stays
        link.send(Message("NEWS", service="other"))
        assert first.read_line() == "<:tested other/NEWS"
        write(tmp_path, f"communicator_listen = {two}\n")
        service.reload()
        first.expect_end()
        link.send(Message("KEPT", service="other"), cache=True)
        with scripted_peer(two) as second:
            registered(second)
            assert second.read_line() == "<:tested other/KEPT"
            until(lambda: len(told) == 2)
            assert told == [one, two]
            assert service.communicatord is link
            # While it is down it goes elsewhere at once, whatever its pause is.
            second.close()
            until(lambda: not link.is_connected)
            with scripted_peer(f"unix:{tmp_path}/3") as third:
                write(tmp_path, f"communicator_listen = unix:{tmp_path}/3\n")
                service.reload()
                registered(third)
                link.wait_until_ready(PATIENCE)
    assert not [one for one in caplog.records if "needs a restart" in one.getMessage()]


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("unix:no.sock", "off", "the new value of communicator_listen needs a restart"),
        ("off", "unix:no.sock", "the new value of communicator_listen needs a restart"),
        (
            "unix:no.sock",
            "cds://h\ncommunicator_ca=/no/ca",
            "stays as it was: /no/ca: No such file",
        ),
    ],
)
def test_a_daemon_that_cannot_be_exchanged_stays(
    tmp_path: Path,
    before: str,
    after: str,
    sentence: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(tmp_path, f"communicator_listen = {before}\n")
    service = made(tmp_path, communicatord=True)
    service.timer("keep", 100.0)(lambda: None)
    with Running(service):
        write(tmp_path, f"communicator_listen = {after}\n")
        service.reload()
        assert [one for one in caplog.records if sentence in one.getMessage()]
        if before != "off":
            assert service.communicatord.address == before


def test_it_can_be_off(tmp_path: Path) -> None:
    service = made(tmp_path, communicatord=True)
    with pytest.raises(NotConnectedError, match="tested: no communicatord: the service does not"):
        service.communicatord.send(Message("NEWS"))
    service.timer("keep", 100.0)(lambda: None)
    with (
        Running(service, "--communicator-listen=off"),
        pytest.raises(NotConnectedError, match="tested: no communicatord: it is off"),
    ):
        service.communicatord.send(Message("NEWS"))


def test_a_service_that_has_not_asked_for_it_has_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="communicatord=True"):
        made(tmp_path).communicatord.send(Message("NEWS"))
    for name in ("a-b", "1st"):
        with pytest.raises(UsageError, match=f"{name!r} is no name of a service"):
            made(tmp_path, communicatord=name)
    assert Service("with-dash", "Is named.", communicatord=True).name == "with-dash"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--communicator-listen=cdu://127.0.0.1:4041",), 2, "registers over a stream"),
        (("--communicator-listen=cd://198.51.100.7",), 2, "plain text is for loopback"),
        (("--communicator-ca=x.pem", "--communicator-no-verify"), 2, "contradict each other"),
        (("--check-config", "--communicator-listen=cds://localhost"), 0, "the options are right"),
        (
            ("--check-config", "--communicator-listen=cds://localhost", "--communicator-ca=x.pem"),
            2,
            "x.pem",
        ),
        (("--communicator-listen=off", "--show-config"), 0, "communicator-listen = off"),
    ],
)
def test_mistakes_are_found_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    service = made(tmp_path, communicatord=True)
    try:
        found = service.main(words)
    except SystemExit as ended:
        found = int(str(ended.code))
    shown = capsys.readouterr()
    assert found == code
    assert said in shown.out + shown.err


def test_the_option_comes_before_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = OptionParser("program", "Is a program.")
    add_communicator_options(parser, tls=False)
    monkeypatch.setenv("COMMUNICATOR_LISTEN", "cd://127.0.0.1:1")
    assert str(communicator_address(parser.parse([]))) == "tcp://127.0.0.1:1"
    given = parser.parse(["--communicator-listen", "cd://127.0.0.1"])
    assert str(communicator_address(given)) == "tcp://127.0.0.1:4040"
    assert communicator_address(parser.parse(["--communicator-listen", "OFF"])) is None
    monkeypatch.setenv("COMMUNICATOR_LISTEN", "cdu://127.0.0.1:1")
    with pytest.raises(OptionError, match="environment variable COMMUNICATOR_LISTEN"):
        communicator_address(parser.parse([]))
