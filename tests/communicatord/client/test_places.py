"""Where a daemon is found, and the names of services."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgevent import Address, AddressError, UsageError
from edgevent.communicatord import naming, places
from edgevent.communicatord.places import (
    default_daemon,
    parse_daemon,
    read_target,
    script_name,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("cd:///run/communicator/communicatord.sock", "unix:/run/communicator/communicatord.sock"),
        ("unix:@name", "unix:@name"),
        ("cd://127.0.0.1", "tcp://127.0.0.1:4040"),
        ("127.0.0.1:5", "tcp://127.0.0.1:5"),
        ("cd://10.0.0.5", "tcp://10.0.0.5:4040"),
        ("tcp://daemon.example.com", "tcp://daemon.example.com:4040"),
        ("cds://198.51.100.7", "tls://198.51.100.7:4043"),
        ("tls://daemon.example.com:7", "tls://daemon.example.com:7"),
        ("tls+unix:/run/x", "tls+unix:/run/x"),
    ],
)
def test_an_address_of_a_daemon_is_read(text: str, address: str) -> None:
    assert str(parse_daemon(text)) == address
    assert parse_daemon(Address.parse(address)) == parse_daemon(address)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("cdu://127.0.0.1:4041", "registers over a stream, by which its messages come"),
        ("unixgram:/run/x", "registers over a stream"),
        ("cd://198.51.100.7", "plain text is for loopback and private addresses; cds: or tls:"),
        ("fd:3", "an address of scheme unix, tcp or tls was expected"),
        ("cdb://127.0.0.1", "scheme"),
    ],
)
def test_another_address_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(AddressError, match=why) as caught:
        parse_daemon(text)
    assert text in str(caught.value)


def test_the_variable_of_the_library_in_cpp_names_the_daemon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COMMUNICATOR_LISTEN", "cd://127.0.0.1:4000")
    assert str(default_daemon()) == "tcp://127.0.0.1:4000"
    monkeypatch.setenv("COMMUNICATOR_LISTEN", "cdu://127.0.0.1:4000")
    with pytest.raises(AddressError, match="environment variable COMMUNICATOR_LISTEN: 'cdu"):
        default_daemon()


def test_the_socket_that_is_there_is_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    system, own = tmp_path / "system", tmp_path / "own"
    files = (f"{system}/{naming.SOCKET_NAME}", f"{own}/{naming.SOCKET_NAME}")
    monkeypatch.delenv("COMMUNICATOR_LISTEN", raising=False)
    monkeypatch.setattr(places, "SYSTEM_FOLDER", str(system))
    monkeypatch.setattr(places, "socket_paths", lambda: files)
    assert default_daemon().path == files[1]  # of this user, who has no daemon of the system
    system.mkdir()
    assert default_daemon().path == files[0]
    own.mkdir()
    Path(files[1]).touch()
    assert default_daemon().path == files[1]
    Path(files[0]).touch()
    assert default_daemon().path == files[0]


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("svc", ("", "svc")),
        ("srv:svc", ("srv", "svc")),
        ("*:svc", ("*", "svc")),
        (".:svc", (".", "svc")),
    ],
)
def test_a_target_is_read(target: str, parts: tuple[str, str]) -> None:
    assert read_target(target) == parts


@pytest.mark.parametrize("target", ["", ":", "srv:", "a b", "a:b:c", "x/y", "1", "svc\n"])
def test_a_target_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(UsageError, match="'service' or 'server:service' was expected"):
        read_target(target)


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("/usr/bin/order-list.py", "order_list_"),
        ("7zip", "zip_"),
        ("", "script_"),
        ("é", "__"),
        ("x" * 500, "x" * 200 + "_"),
    ],
)
def test_a_script_has_a_name_of_its_own(
    monkeypatch: pytest.MonkeyPatch, program: str, name: str
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert script_name() == f"{name}{os.getpid()}"
    assert places.check_service_name(script_name())
