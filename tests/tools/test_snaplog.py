"""snaplog: what it sends, and whether it says that this has arrived."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import gevent.subprocess
import pytest
import tool_ground
from log_server_ground import LogServer
from network_ground import Ground
from tls_ground import authority, server_options
from tool_ground import PATIENCE, check_man_page, cpu_seconds, examples_of, variables_of, words_of

from edgevent import Communicator
from edgevent.tools.snaplog import main

failed = partial(tool_ground.failed, "snaplog")

Snaplog = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground(Communicator()) as ground:
        yield ground


@pytest.fixture
def server(ground: Ground, tmp_path: Path) -> LogServer:
    return LogServer(ground, f"unix:{tmp_path}/log.sock")


@pytest.fixture
def snaplog(tmp_path: Path) -> Snaplog:
    """Runs the tool, while the hub goes on."""

    def run(*words: str, given: bytes = b"", **variables: str) -> subprocess.CompletedProcess[str]:
        # Not that of the standard library in a thread: the hub may take its exit status (waitpid).
        done = gevent.subprocess.run(
            words_of("snaplog", *words),
            cwd=tmp_path,
            env=variables_of(tmp_path, **variables),
            input=given,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        out, err = done.stdout.decode(), done.stderr.decode()
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    return run


def succeeded(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_line_arrives(server: LogServer, snaplog: Snaplog) -> None:
    succeeded(snaplog("-a", "unix:log.sock", "the", "backup", "has ended"))
    (message,) = server.messages
    assert server.texts == ["the backup has ended"]
    assert (message["severity"], message["components"]) == ("error", "normal,snaplog")
    assert not {"filename", "function", "line"} & set(message.parameters)


def test_everything_that_can_be_said_of_it(server: LogServer, snaplog: Snaplog) -> None:
    cpp = ["-s", "warn", "-f", "a.cpp", "--function", "int f()", "-l", "12", "-m", "cpp"]
    more = ["-c", "net", "disk", "--fields", "job=7", "x=a=b"]
    succeeded(snaplog("--address", "unix:log.sock", *cpp, *more))
    ours = ["--component", "net,disk", "--field", "job=7", "--field", "x=a=b", "--severity", "90"]
    succeeded(snaplog("ours", *ours, SNAPLOG="--address unix:log.sock"))
    first, second = server.messages
    expected = {
        "components": "net,disk",
        "filename": "a.cpp",
        "function": "int f()",
        "line": "12",
        "message": "cpp",
        "severity": "warning",
    }
    assert {name: first[name] for name in expected} == expected
    assert first["fields"] == "id:1,logger:snaplog,job:7,x:a=b"
    assert (second["message"], second["severity"]) == ("ours", "information")
    assert second["components"] == "net,disk"


def test_the_lines_of_the_standard_input(server: LogServer, snaplog: Snaplog) -> None:
    given = b"a\r\n\nb \xff\x1b[31m\n" + b"".join(b"%d\n" % number for number in range(2500))
    succeeded(snaplog("-a", "unix:log.sock", given=given + b"last"))
    numbers = [str(number) for number in range(2500)]
    assert server.texts == ["a", "b \\udcff\\x1b[31m", *numbers, "last"]


@pytest.mark.parametrize("kind", ["tcp", "udp", "tls"])
def test_other_kinds_of_addresses(
    ground: Ground, snaplog: Snaplog, tmp_path: Path, kind: str
) -> None:
    settings = {
        "tcp": {},
        "udp": {"secret_code": "hunter2"},
        "tls": {"tls": server_options()},
    }[kind]
    server = LogServer(ground, f"{kind}://127.0.0.1:0", **settings)
    (tmp_path / "ca.pem").write_bytes(authority().certificate_pem)
    words = {
        "tcp": [],
        "udp": ["--type", "udp", "--secret-code", "hunter2"],
        "tls": ["--encrypt", "--ca", "ca.pem", "--server-name", "localhost"],
    }[kind]
    succeeded(snaplog("-a", server.address.partition("//")[2], *words, "text"))
    assert server.texts == ["text"]


def test_what_does_not_arrive(server: LogServer, snaplog: Snaplog) -> None:
    text = failed(snaplog("-a", "unix:none.sock", "text"), 1)
    assert text == "unix:none.sock: 1 line has not arrived: No such file or directory"
    server.answer = lambda message: None
    text = failed(snaplog("-a", "unix:log.sock", "--timeout", "0.2s", given=b"a\nb\n"), 1)
    assert text == (
        "unix:log.sock: 2 lines have not arrived within 200ms: the server has not acknowledged them"
    )
    server.answer = lambda message: message.reply("INVALID", {"message": "no room"})
    text = failed(snaplog("-a", "unix:log.sock", "text"), 1)
    assert text == "unix:log.sock: 1 line was lost: refused: no room"
    succeeded(snaplog("-a", "unix:log.sock", "--acknowledge", "none", "text"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--severity", "eror", "a"], "did you mean 'error'"),
        (["--address", "fifo:/a", "a"], "tcp, tls, unix or tls+unix was expected"),
        (["--field", "a", "b"], "field 'a': expected NAME=VALUE"),
        (["--field", "name=a", "b"], "this name is that of what every record has"),
        (["--field", "severity=a", "b"], "this name is that of what every record has"),
        (["--line", "-1", "a"], "line"),
        (["a", "-m", "b"], "the message is given twice"),
        (["--secret-code", "abcd", "a"], "is for datagrams"),
        (["--ca", "a.pem", "a"], "is for TLS"),
    ],
)
def test_bad_usage(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main(words)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert sentence in capsys.readouterr().err


def test_the_page_and_what_it_costs(tmp_path: Path) -> None:
    check_man_page("snaplog", tmp_path)
    assert len(examples_of("snaplog")) == 3
    assert cpu_seconds("snaplog", "--version", folder=tmp_path) < 0.4
