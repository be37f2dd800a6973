"""Sockets that listen before communicatord runs: for services, and for the daemons of others."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon_ground import SERVER, Line
from running import ROOT
from tool_ground import words_of

from edgevent import Address, Communicator, Dispatcher
from edgevent.communicatord.daemon import Daemon
from edgevent.communicatord.link_settings import LinkSettings
from edgevent.errors import ListenError, OptionError
from edgevent.service_listeners import Listeners
from edgevent.service_places import parse_listener
from edgevent.systemd import InheritedSocket
from edgevent.testing.starting import StartedService

Start = Callable[..., StartedService]
CONNECT = "CONNECT my_address=127.0.0.9:1;server_name=big;version=1"


def words(folder: Path) -> list[str]:
    return [
        *words_of("communicatord"),
        f"--server-name={SERVER}",
        f"--data-path={folder}",
        "--local-listen=off",
        "--signal=off",
        "--allow-loopback-links",
    ]


def test_systemd_hands_over_the_listeners_by_name(
    tmp_path: Path,
    start_service: Start,
    need_tool: Callable[..., str],
    free_address: Callable[..., str],
) -> None:
    activate = need_tool("systemd-socket-activate", package="systemd")
    path, remote = f"{tmp_path}/cd.sock", Address.parse(free_address("tcp"))
    start_service(
        [
            activate,
            f"--listen={path}",
            f"--listen={remote.endpoint}",
            "--fdname=unix:remote",
            f"--setenv=PYTHONPATH={ROOT}",
            *words(tmp_path),
            f"--unix-listen={tmp_path}/elsewhere.sock",
            "--remote-listen=127.0.0.2:1",
        ],
        ready=f"unix:{path}",
    )
    local = Line(path)  # it begins to run with that
    local.says("REGISTER service=svca;version=1")
    assert local.hears_lines(2)[1].endswith(f"READY my_address={remote.endpoint}")
    other = Line((remote.host, remote.port))
    other.says("REGISTER service=svcb;version=1", CONNECT)
    assert "REGISTER is for the listeners of services" in other.hears()
    assert "ACCEPT" in other.hears()
    local.close()
    other.close()
    assert not os.path.exists(f"{tmp_path}/elsewhere.sock")


def test_a_socket_for_daemons_is_not_served_to_services(
    tmp_path: Path, start_service: Start
) -> None:
    with pytest.raises(AssertionError) as caught:
        start_service(words(tmp_path), ready="notify", sockets={"remote": "tcp://127.0.0.1:0"})
    assert "communicatord: socket remote: remote-listen was expected with it" in str(caught.value)
    assert "exit code 2" in str(caught.value)


# --- the parts ------------------------------------------------------------------------------------


@pytest.fixture
def communicator() -> Iterator[Communicator]:
    with Communicator() as communicator:
        yield communicator


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.mark.parametrize("by", ["name", "address"])
def test_what_is_claimed_is_no_listener_of_the_service(
    communicator: Communicator, listening: socket.socket, by: str
) -> None:
    port = listening.getsockname()[1]
    given = [InheritedSocket(os.dup(listening.fileno()), "remote" if by == "name" else "all")]
    listeners = Listeners(communicator, Dispatcher(), None, given)
    assert listeners.claim("secure", Address("tls", "127.0.0.1", 1)) is None
    assert listeners.claim("other", None) is None
    found = listeners.claim("remote", None if by == "name" else Address("tcp", "127.0.0.1", port))
    assert found is not None
    os.close(found)
    again = ("remote", Address("tcp", "127.0.0.1", port))
    assert [listeners.claim(*again), listeners.claim("another", again[1])] == [None, None]
    assert listeners.with_inherited({}) == {}
    listeners.close()


def test_what_a_listener_of_the_service_has_is_not_claimed(
    communicator: Communicator, listening: socket.socket
) -> None:
    given = [InheritedSocket(os.dup(listening.fileno()), "main")]
    listeners = Listeners(communicator, Dispatcher(), None, given)
    listeners.commit(listeners.prepare({}))
    assert list(listeners.running) == ["main"]
    assert listeners.claim("main", None) is None
    assert listeners.claim("other", Address("tcp", *listening.getsockname())) is None
    listeners.close()


def test_a_listener_of_the_name_of_what_is_claimed_opens_its_own(
    communicator: Communicator, listening: socket.socket, tmp_path: Path
) -> None:
    given = [InheritedSocket(os.dup(listening.fileno()), "main")]
    listeners = Listeners(communicator, Dispatcher(), None, given)
    os.close(listeners.claim("main", None) or -1)
    address = f"unix:{tmp_path}/s"
    listeners.commit(listeners.prepare({"main": parse_listener("main", address)}))
    assert listeners.addresses == [address]
    listeners.close()


@pytest.mark.parametrize(
    ("wrong", "error", "why"),
    [
        ("datagrams", ListenError, "was expected, and the socket that was handed over is udp"),
        ("loopback", OptionError, "no other computer reaches loopback"),
        ("everywhere", OptionError, "an address of a private network was expected"),
    ],
)
def test_a_socket_that_is_not_for_daemons_is_refused(
    communicator: Communicator, wrong: str, error: type[Exception], why: str
) -> None:
    kind = socket.SOCK_DGRAM if wrong == "datagrams" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("0.0.0.0" if wrong == "everywhere" else "127.0.0.1", 0))
        if wrong != "datagrams":
            sock.listen()
        given = os.dup(sock.fileno())
        settings = LinkSettings(plain=Address("tcp", "10.0.0.5", 4042))
        with pytest.raises(error, match=why):
            Daemon("one").add_links(communicator, settings, lambda name, address: given)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(given)
