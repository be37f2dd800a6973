"""``--log-server`` and what goes with it, in a program with the options of logging."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from log_server_ground import LogServer, arrive, until_seen
from network_ground import Ground
from tls_ground import authority, client_pair, server_options

from edgevent import Communicator
from edgevent.errors import OptionError
from edgevent.log_levels import LEVELS
from edgevent.log_options import add_logging_options, read_log_settings
from edgevent.logs import Logs, set_up_logging
from edgevent.options import OptionParser
from edgevent.snaplogger.network_handler import NetworkLogHandler

AWAY = "unix:/nonexistent/log.sock"

Read = Callable[..., argparse.Namespace]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Reads a command line."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def parse(*words: object) -> argparse.Namespace:
        parser = OptionParser("hello", "Greets.", config_folder=tmp_path)
        add_logging_options(parser)
        return parser.parse([str(word) for word in words])

    return parse


@pytest.fixture
def begin(read: Read) -> Iterator[Callable[..., Logs]]:
    """Starts to log as a command line says."""
    started = []

    def start(*words: object) -> Logs:
        started.append(set_up_logging(read(*words), "hello"))
        return started[-1]

    yield start
    for logs in started:
        logs.close()


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground(Communicator()) as ground:
        yield ground


def handler_of_root() -> NetworkLogHandler:
    (found,) = [one for one in logging.getLogger().handlers if isinstance(one, NetworkLogHandler)]
    return found


def test_the_log_goes_to_the_server(
    ground: Ground, begin: Callable[..., Logs], tmp_path: Path
) -> None:
    server = LogServer(ground, f"unix:{tmp_path}/log")
    logs = begin("--log-server", server.address, "--log-acknowledge", "severity")
    handler = handler_of_root()
    logging.getLogger("x").info("one secret_code=abcd")
    logs.hide("hunter2")
    logging.getLogger("x").error("two hunter2")
    arrive(handler)
    until_seen(lambda: len(server.messages) == 2)
    assert server.texts == ["one secret_code=***", "two ***"]
    assert ["acknowledge" in one for one in server.messages] == [False, True]
    assert "server" in repr(logs)
    assert logs.lost == 0


def test_other_options_take_its_place_and_the_same_keep_it(
    begin: Callable[..., Logs], read: Read, tmp_path: Path
) -> None:
    words = ["--log-server", AWAY, "--log-file", tmp_path / "log"]
    logs = begin(*words)
    assert logs.settings.targets == ("file", "server")
    handler = handler_of_root()
    logs.apply(read(*words))
    assert handler_of_root() is handler
    logs.apply(read("--log-server", AWAY, "--log-to", "server"))
    assert handler_of_root() is not handler
    logs.apply(read("--no-log"))
    assert not any(isinstance(one, NetworkLogHandler) for one in logging.getLogger().handlers)


def test_it_is_on_the_error_output_while_the_only_server_is_away(
    begin: Callable[..., Logs], capfd: pytest.CaptureFixture[str]
) -> None:
    begin("--log-server", AWAY)
    handler = handler_of_root()
    logging.getLogger("x").warning("shown")
    until_seen(lambda: handler.is_away)
    shown = ""

    def is_there() -> bool:
        nonlocal shown
        shown += capfd.readouterr().err
        return "warning x: shown" in shown

    until_seen(is_there)


def test_tls_with_certificates(ground: Ground, begin: Callable[..., Logs], tmp_path: Path) -> None:
    pair = client_pair()
    (tmp_path / "ca.pem").write_bytes(authority().certificate_pem)
    (tmp_path / "me.pem").write_bytes(pair.certificate_pem)
    (tmp_path / "key.pem").write_bytes(pair.key_pem)
    (tmp_path / "key.pem").chmod(0o600)
    server = LogServer(ground, f"tls+unix:{tmp_path}/log", tls=server_options(mutual=True))
    words = ["--log-server-certificate", tmp_path / "me.pem"]
    words += ["--log-server-key", tmp_path / "key.pem", "--log-server-ca", tmp_path / "ca.pem"]
    begin("--log-server", server.address, *words)
    logging.getLogger("x").info("one")
    arrive(handler_of_root())
    assert server.texts == ["one"]


def test_datagrams_with_a_code(ground: Ground, begin: Callable[..., Logs]) -> None:
    server = LogServer(ground, "udp://127.0.0.1:0", secret_code="hunter2")
    begin("--log-server", server.address, "--log-server-secret-code", "hunter2")
    logging.getLogger("x").info("one")
    arrive(handler_of_root())
    assert server.texts == ["one"]


def test_the_usual_values(read: Read) -> None:
    assert read_log_settings(read()).server is None
    server = read_log_settings(read("--log-server", "127.0.0.1")).server
    assert server is not None
    assert str(server.address) == "tcp://127.0.0.1:4043"
    assert (server.acknowledge, server.acknowledge_level) == ("all", LEVELS["error"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--log-to", "server"], "expected --log-server ADDRESS beside it"),
        (["--log-server", "tcp://a:1", "--log-server-secret-code", "x"], "is for datagrams"),
        (["--log-server", "udp://a:1", "--log-server-ca", "x"], "is for TLS"),
        (["--log-server", "tls://a:1", "--log-server-key", "x"], "belong together"),
    ],
)
def test_options_that_contradict_each_other(read: Read, words: list[str], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        read_log_settings(read(*words))


def test_addresses_that_are_none(read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("fifo:/a", "fd:3", "unixseq:/a"):
        with pytest.raises(SystemExit):
            read("--log-server", text)
        assert "tcp:, tls:, unix:, udp: or unixgram: was expected" in capsys.readouterr().err


def test_files_that_cannot_be_used_are_found(
    read: Read, begin: Callable[..., Logs], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for words in (
        ["--log-server", "tls://a:1", "--log-server-ca", tmp_path / "none.pem"],
        ["--log-server", "udp://127.0.0.1:1", "--log-server-auth-key-file", tmp_path / "none.pem"],
    ):
        with pytest.raises(OptionError, match=r"^log server .*none\.pem"):
            begin(*words)
        with pytest.raises(SystemExit):
            read(*words, "--check-config")
        assert "none.pem" in "".join(capsys.readouterr())
