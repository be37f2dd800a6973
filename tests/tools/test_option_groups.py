"""The groups of options: what is made of them, and what --check-config finds."""

from __future__ import annotations

import grp
import os
import socket
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from option_ground import clean_environment, ending, error_of

from edgevent import Client, Communicator, DatagramClient, Dispatcher, Message, TlsOptions
from edgevent.address import Address
from edgevent.errors import ListenError, OptionError
from edgevent.option_checks import address_problems, file_problems, tls_problems
from edgevent.option_groups import (
    add_address_options,
    add_definition_options,
    add_tls_options,
    definitions_from_options,
    servers_from_options,
    tls_from_options,
)
from edgevent.options import OptionParser
from edgevent.testing.certificates import Certificates

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean_environment(monkeypatch, tmp_path / "home")


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    made = Certificates()
    yield made
    made.close()


def hello(folder: Path) -> OptionParser:
    return OptionParser("hello", "Greets.", config_folder=folder)


# --- addresses ------------------------------------------------------------------------------------


def listening(folder: Path) -> OptionParser:
    parser = hello(folder)
    add_address_options(parser, default="tcp://127.0.0.1:0")
    return parser


def test_servers_are_made_of_addresses(tmp_path: Path, certificates: Certificates) -> None:
    service = Dispatcher()
    service.on("PING")(lambda message, peer: message.reply("PONG"))
    path = tmp_path / "hello.sock"
    group = str(os.getgid())
    words = ["--listen=tcp://127.0.0.1:0", f"--listen=unix:{path}", "--listen=udp://127.0.0.1:0"]
    words += ["--listen=tls://127.0.0.1:0", "--listen=unix:@edgevent-option-groups-test"]
    options = listening(tmp_path).read([*words, "--socket-mode=0620", f"--socket-group={group}"])
    server = certificates.server()
    servers = servers_from_options(options, service, tls=server.options())
    with Communicator() as communicator:
        for one in servers:
            communicator.add_connection(one)
        assert [one.address.scheme for one in servers] == ["tcp", "unix", "udp", "tls", "unix"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o620
        with Client(servers[0].addresses[0]) as client:
            assert client.request(Message("PING"), timeout=20.0).command == "PONG"
        with DatagramClient(servers[2].addresses[0]) as datagrams:
            assert datagrams.request(Message("PING"), timeout=20.0).command == "PONG"
        trusting = TlsOptions(authorities=certificates.authority)
        with Client(servers[3].addresses[0], tls=trusting) as client:
            assert client.request(Message("PING"), timeout=20.0).command == "PONG"


def test_when_one_cannot_listen_none_does(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    words = [f"--listen=unix:{path}", f"--listen=unix:{tmp_path}/none/b.sock"]
    with pytest.raises(ListenError):
        servers_from_options(listening(tmp_path).read(words), Dispatcher())
    assert not path.exists()


@pytest.mark.parametrize("mode", ["x", "1777", "-1", "888"])
def test_a_mode_is_octal(tmp_path: Path, mode: str) -> None:
    said = error_of(listening(tmp_path), [f"--socket-mode={mode}"])
    assert f"mode '{mode}': expected octal digits" in said


def test_a_group_is_one_of_this_machine(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    assert listening(tmp_path).read([f"--socket-group={group}"]).socket_group == group
    said = error_of(listening(tmp_path), [f"--socket-group={group}x"])
    assert f"there is no group '{group}x'; did you mean '{group}'?" in said


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("tcp://127.0.0.1:0", ""),
        ("tcp://localhost:0", ""),
        ("udp://127.0.0.1:0", ""),
        ("tls://0.0.0.0:0", ""),
        ("udp://0.0.0.0:0", ""),
        ("unix:@name", ""),
        ("fifo:/missing/x", ""),
        ("tcp://0.0.0.0:0", "neither loopback nor private needs --allow-remote"),
        ("tcp://:0", "neither loopback nor private needs --allow-remote"),
        ("tcp://192.0.2.1:0", "192.0.2.1:0: Cannot assign requested address"),
        ("tcp://192.0.2.1:0", "neither loopback nor private needs --allow-remote"),
        ("udp://[2001:db8::1]:0", "2001:db8::1]:0: "),
        ("unix:/missing/x", "unix:/missing/x: there is no folder /missing"),
        ("unix:{folder}/file", "unix:{folder}/file: the path is there and is no socket"),
        ("unix:{folder}/hello.sock", ""),
        ("unix:{folder}/" + "x" * 120, "a Unix socket's path of at most 107 bytes was expected"),
    ],
)
def test_addresses_are_tried(tmp_path: Path, capsys: Captured, address: str, problem: str) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "hello.sock"))
    where = address.format(folder=tmp_path)
    status = ending(listening(tmp_path), f"--listen={where}", "--check-config")
    err = capsys.readouterr().err
    assert status == (2 if problem else 0), err
    assert problem.format(folder=tmp_path) in err
    assert not problem or "hello: listen" in err


def test_a_port_in_use_is_no_mistake(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = Address("tcp", host="127.0.0.1", port=taken.getsockname()[1])
        assert list(address_problems(where, listens=True)) == []


def test_a_host_that_is_dialled_must_be_known(tmp_path: Path, capsys: Captured) -> None:
    parser = hello(tmp_path)
    parser.add_address("--peer", listens=False)
    assert ending(parser, "--check-config") == 0
    assert ending(parser, "--peer=tcp://127.0.0.1:1", "--check-config") == 0
    capsys.readouterr()
    assert ending(parser, "--peer=tcp://no.such.host.invalid:1", "--check-config") == 2
    start = "hello: peer (command line): tcp://no.such.host.invalid:1: "
    assert capsys.readouterr().err.startswith(start)
    assert list(address_problems(Address.parse("unix:/missing/x"), listens=False)) == []


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "writes", "problem"),
    [
        ("file", False, ""),
        ("file", True, ""),
        ("new", True, ""),
        ("new", False, "there is no such file"),
        ("none/new", True, "there is no folder"),
        (".", False, "expected a file, and this is a folder"),
    ],
)
def test_files_are_tried(tmp_path: Path, name: str, writes: bool, problem: str) -> None:
    (tmp_path / "file").touch()
    found = list(file_problems(str(tmp_path / name), writes=writes))
    assert len(found) == bool(problem)
    assert problem in "".join(found)


# --- TLS ------------------------------------------------------------------------------------------


def tls(folder: Path, *, server_side: bool = True, prefix: str = "") -> OptionParser:
    parser = hello(folder)
    add_tls_options(parser, server_side=server_side, prefix=prefix)
    return parser


def test_tls_of_a_server(tmp_path: Path, certificates: Certificates) -> None:
    parser = tls(tmp_path, prefix="tls-")
    assert tls_from_options(parser.read([]), server_side=True, prefix="tls-") is None
    server = certificates.server()
    words = [f"--tls-certificate={server.certificate}", f"--tls-key={server.key}"]
    words += ["--tls-allow-name=Alice", "--tls-allow-name=bob", "--tls-minimum-tls=1.3"]
    words += [f"--tls-ca={server.certificate}"]
    made = tls_from_options(parser.read(words), server_side=True, prefix="tls-")
    assert made is not None
    assert (made.mutual, made.names) == (True, {"alice", "bob"})
    assert (made.verify, made.minimum_version, made.key) == ("required", "1.3", server.key)


def test_tls_of_a_client(tmp_path: Path) -> None:
    parser = tls(tmp_path, server_side=False)
    assert tls_from_options(parser.read([]), server_side=False) is None
    made = tls_from_options(parser.read(["--no-verify"]), server_side=False)
    assert made is not None
    assert made.verify == "none"
    words = ["--server-name=hello.example", "--certificate=both.pem"]
    made = tls_from_options(parser.read(words), server_side=False)
    assert made is not None
    assert (made.server_name, made.certificate, made.key) == (
        "hello.example",
        "both.pem",
        "both.pem",
    )


@pytest.mark.parametrize(
    ("server_side", "words", "sentence"),
    [
        (True, ["--key=x"], "--key: expected --certificate with it"),
        (True, ["--ca=x"], "--ca: expected --certificate with it"),
        (True, ["--mutual"], "--mutual: expected --certificate with it"),
        (True, ["--allow-name=x"], "--allow-name: expected --certificate with it"),
        (True, ["--certificate=x", "--mutual"], "authorities= or allow_names= was expected"),
        (False, ["--key=x"], "--key: expected --certificate with it"),
        (False, ["--no-verify", "--ca=x"], "--no-verify and --ca contradict each other"),
    ],
)
def test_tls_options_that_contradict_each_other(
    tmp_path: Path, capsys: Captured, server_side: bool, words: list[str], sentence: str
) -> None:
    options = tls(tmp_path, server_side=server_side).read(words)
    with pytest.raises(OptionError) as raised:
        tls_from_options(options, server_side=server_side)
    assert sentence in str(raised.value)
    assert ending(tls(tmp_path, server_side=server_side), *words, "--check-config") == 2
    assert sentence in capsys.readouterr().err


def test_a_server_name_is_a_name(tmp_path: Path) -> None:
    said = error_of(tls(tmp_path, server_side=False), ["--server-name=a b"])
    assert "name 'a b': expected a DNS name or an IP address" in said


def test_certificates_are_looked_at(
    tmp_path: Path, capsys: Captured, certificates: Certificates
) -> None:
    def check(certificate: str, key: str) -> str:
        words = [f"--certificate={certificate}", f"--key={key}", "--check-config"]
        status = ending(tls(tmp_path), *words)
        err = capsys.readouterr().err
        assert status == (2 if err else 0)
        return err

    now = datetime.now(timezone.utc)
    day = timedelta(days=1)
    good = certificates.server()
    expired = certificates.server(not_before=now - 2 * day, not_after=now - day)
    early = certificates.server(not_before=now + day, not_after=now + 2 * day)
    assert check(good.certificate, good.key) == ""
    assert f"{expired.certificate}: the certificate has expired on" in check(
        expired.certificate, expired.key
    )
    assert "the certificate is valid from" in check(early.certificate, early.key)
    assert "does not belong to the certificate" in check(good.certificate, expired.key)
    assert "No such file" in check("/missing/x", good.key)
    os.chmod(good.key, 0o644)
    assert "a private key that others can read" in check(good.certificate, good.key)
    os.chmod(good.key, 0o600)
    pair = good.pair
    in_memory = TlsOptions(pair.certificate_pem, pair.key_pem)
    assert list(tls_problems(in_memory, server_side=True)) == []


# --- definitions ----------------------------------------------------------------------------------


def test_definitions(tmp_path: Path, capsys: Captured) -> None:
    parser = hello(tmp_path)
    add_definition_options(parser)
    assert definitions_from_options(parser.read([])).folders == ()
    (tmp_path / "ADD.conf").write_text("[a]\ntype = integer\n")
    (tmp_path / "notes.txt").write_text("not read")
    word = f"--path-to-message-definitions={tmp_path}"
    found = definitions_from_options(parser.read([word])).get("ADD")
    assert found is not None
    assert [rule.name for rule in found.rules] == ["a"]
    assert ending(parser, word, "--check-config") == 0
    (tmp_path / "SUB.conf").write_text("[a]\ntype = intger\n")
    assert ending(parser, f"{word}:/missing", "--check-config") == 2
    err = capsys.readouterr().err
    assert f"hello: {tmp_path / 'SUB.conf'}:2: section [a]: type 'intger': expected one of" in err
    assert "hello: /missing: No such file or directory\n" in err
