"""ed-ping: round trips of ALIVE, the wait for a service, and what a monitoring system reads."""

from __future__ import annotations

import json
import re
import signal
import socket as plain_socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from network_ground import PATIENCE, Ground
from tls_ground import authority, server_options
from tool_ground import (
    begin,
    check_man_page,
    cpu_seconds,
    examples_of,
    readme_lines,
    run_lines,
    variables_of,
    words_of,
)

from edgevent import Communicator, DatagramServer, Dispatcher
from edgevent.tools.ed_ping import main

TIME = r"time=[0-9.]+ ms"
SUMMARY = r"min/avg/max/mdev = (\d+\.\d{3}/){3}\d+\.\d{3} ms"


@pytest.fixture
def ground() -> Iterator[Ground]:
    """A communicator that runs beside the tool, in the same hub."""
    with Ground(Communicator()) as ground:
        yield ground


@pytest.fixture
def ping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, list[str], str]]:
    """Runs the tool in this process; gives its code, its lines and what it says of errors."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, list[str], str]:
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(str(ended.code))
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err

    return run


Ping = Callable[..., tuple[int, list[str], str]]


def matches(patterns: list[str], lines: list[str]) -> bool:
    return len(patterns) == len(lines) and all(map(re.fullmatch, patterns, lines))


# --- round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:0", "unix:hello.sock", "unixseq:seq.sock", "udp://127.0.0.1:0"]
)
def test_each_answer_and_the_statistics_are_shown(ground: Ground, ping: Ping, address: str) -> None:
    if address.startswith("udp"):
        server: Any = ground.communicator.add_connection(DatagramServer(address, Dispatcher()))
    else:
        server = ground.serve(Dispatcher(), address)
    there = server.addresses[0]
    code, lines, said = ping("--count", "2", "--interval", "1ms", there)
    assert (code, said) == (0, "")
    at = re.escape(there)
    assert matches(
        [
            rf"ABSOLUTELY from {at}: seq=1 {TIME}",
            rf"ABSOLUTELY from {at}: seq=2 {TIME}",
            rf"--- {at} ---",
            re.escape("2 sent, 2 answered, 0 lost (0 %)"),
            SUMMARY,
        ],
        lines,
    ), lines


def test_quiet_shows_the_statistics_alone(ground: Ground, ping: Ping) -> None:
    there = ground.serve(Dispatcher()).addresses[0]
    code, lines, said = ping("-q", "-c", "3", "-i", "0", there)
    assert (code, said, len(lines)) == (0, "", 3)
    assert lines[1] == "3 sent, 3 answered, 0 lost (0 %)"


def test_json_is_an_object_a_line(ground: Ground, ping: Ping) -> None:
    there = ground.serve(Dispatcher()).addresses[0]
    code, lines, _ = ping("--json", "-c", "1", there)
    first, last = map(json.loads, lines)
    assert code == 0
    assert first == {"address": there, "seq": 1, "command": "ABSOLUTELY", "time": first["time"]}
    assert first["time"] == last["min"] == last["avg"] == last["max"]
    assert {**last, "min": 0, "avg": 0, "max": 0} == {
        "address": there, "sent": 1, "answered": 1, "lost": 0, "min": 0, "avg": 0, "max": 0,
        "mdev": 0.0,
    }  # fmt: skip


def test_unknown_is_an_answer_and_invalid_is_none(ground: Ground, ping: Ping) -> None:
    stranger = ground.serve(Dispatcher(default_commands=False)).addresses[0]
    code, lines, _ = ping("-c", "1", stranger)
    assert code == 0
    assert lines[0].startswith(f"UNKNOWN from {stranger}: seq=1 time=")
    table = Dispatcher()
    table.on("ALIVE")(lambda message, peer: message.reply("INVALID", {"command": "ALIVE"}))
    code, lines, _ = ping("-c", "1", ground.serve(table).addresses[0])
    assert code == 1
    assert "no answer from" in lines[0]


def test_nobody_is_there(ping: Ping) -> None:
    with socket.socket() as sock, socket.socket(type=socket.SOCK_DGRAM) as other:
        sock.bind(("127.0.0.1", 0))  # and does not listen
        other.bind(("127.0.0.1", 0))
        there = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
        port = other.getsockname()[1]
        other.close()
        code, lines, said = ping("-c", "2", "-i", "0", there)
        assert (code, said) == (1, "")
        assert lines == [
            f"no answer from {there}: seq=1: Connection refused",
            f"no answer from {there}: seq=2: Connection refused",
            f"--- {there} ---",
            "2 sent, 0 answered, 2 lost (100 %)",
        ]
        code, lines, said = ping("--json", "-c", "1", f"127.0.0.1:{port}")  # UDP
        assert (code, said, "refused" in json.loads(lines[0])["error"]) == (1, "", True)
        assert json.loads(lines[1]) == {
            "address": f"udp://127.0.0.1:{port}", "sent": 1, "answered": 0, "lost": 1,
        }  # fmt: skip


def test_nobody_answers_in_time(ping: Ping) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # the kernel takes connections, and nobody else does
        there = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        code, lines, _ = ping("-c", "1", "--timeout", "50ms", there)
    assert code == 1
    assert lines[0] == f"no answer from {there}: seq=1: no answer to ALIVE within 0.05 s"


class Moody:
    """A peer that breaks its first connections at once, and answers on the one after these."""

    def __init__(self, refusals: int) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._refusals = refusals
        self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        for _ in range(self._refusals):
            self._listener.accept()[0].close()
        peer, _ = self._listener.accept()
        with peer:
            while peer.recv(1000):
                peer.sendall(b"ABSOLUTELY\n")  # without the serial

    def __enter__(self) -> Moody:
        return self

    def __exit__(self, *_: object) -> None:
        self._greenlet.join(PATIENCE)
        self._listener.close()


def test_a_lost_connection_is_made_anew(ping: Ping) -> None:
    with Moody(1) as peer:
        code, lines, _ = ping("-c", "3", "-i", "0", peer.address)
    assert code == 0
    assert [line.partition(" ")[0] for line in lines[:3]] == ["no", "ABSOLUTELY", "ABSOLUTELY"]
    assert lines[4] == "3 sent, 2 answered, 1 lost (33.3 %)"


def test_over_tls(ground: Ground, ping: Ping, tmp_path: Path) -> None:
    server = ground.serve(Dispatcher(), "tls://127.0.0.1:0", tls=server_options())
    there = server.addresses[0]
    (tmp_path / "ca.crt").write_bytes(authority().certificate_pem)
    code, lines, _ = ping("-c", "1", "--ca", "ca.crt", there)
    assert (code, lines[2]) == (0, "1 sent, 1 answered, 0 lost (0 %)")
    code, lines, _ = ping("-c", "1", there)  # not trusted by the system
    assert (code, lines[-1]) == (1, "1 sent, 0 answered, 1 lost (100 %)")
    # No later attempt would be met by another certificate.
    code, lines, said = ping("--wait", "1h", there)
    assert (code, lines) == (1, [])
    assert "certificate" in said


def test_sigint_shows_the_statistics(ground: Ground, tmp_path: Path) -> None:
    listener = plain_socket.create_server(("127.0.0.1", 0))
    there = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    listener.settimeout(PATIENCE)
    with listener, begin("ed-ping", "-i", "0", there, folder=tmp_path) as tool:
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(PATIENCE)
            peer.recv(1000)
            peer.sendall(b"ABSOLUTELY\n")
            peer.recv(1000)  # the second time; it is not answered
            tool.send_signal(signal.SIGINT)
            shown, said = tool.communicate(timeout=PATIENCE)
    assert (tool.returncode, said) == (0, "")
    lines = shown.splitlines()
    assert lines[0].startswith("ABSOLUTELY from")
    assert lines[2] == "1 sent, 1 answered, 0 lost (0 %)"


# --- the wait for a service -----------------------------------------------------------------------


def test_it_waits_until_the_service_answers(ping: Ping) -> None:
    with Moody(3) as peer:
        code, lines, said = ping("--wait", "30s", peer.address)
    assert (code, said) == (0, "")
    assert re.fullmatch(rf"ABSOLUTELY from {re.escape(peer.address)}: seq=1 {TIME}", lines[0])
    assert len(lines) == 1


def test_it_waits_for_a_socket_that_is_not_there(ground: Ground, ping: Ping) -> None:
    waiting = gevent.spawn(ping, "--quiet", "--wait", "30s", "unix:late.sock")
    gevent.idle()  # it has begun
    ground.serve(Dispatcher(), "unix:late.sock")
    assert waiting.get(timeout=PATIENCE) == (0, [], "")


def test_it_waits_no_longer_than_asked(ping: Ping) -> None:
    code, lines, said = ping("--wait", "100ms", "unix:none.sock")
    assert (code, lines) == (1, [])
    assert said == ("ed-ping: unix:none.sock: no answer within 0.1 s: No such file or directory\n")


# --- monitoring -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "state", "limits"),
    [
        ([], 0, "OK", ";"),
        (["--warning", "1h", "--critical", "2h"], 0, "OK", "3600.000000;7200.000000"),
        (["--warning", "0"], 1, "WARNING", "0.000000;"),
        (["--critical", "0"], 2, "CRITICAL", ";0.000000"),
    ],
)
def test_a_monitoring_system_reads_one_line(
    ground: Ground, ping: Ping, words: list[str], code: int, state: str, limits: str
) -> None:
    there = ground.serve(Dispatcher()).addresses[0]
    found, lines, said = ping("--monitor", "-i", "0", *words, there)
    assert (found, said, len(lines)) == (code, "", 1)
    assert re.fullmatch(
        rf"ALIVE {state} - {re.escape(there)}: 5 of 5 answered, on average in [0-9.]+ ms"
        rf" \| rta=[0-9.]+s;{limits};0 pl=0%;;;0;100",
        lines[0],
    ), lines


def test_a_lost_answer_is_a_warning_and_none_is_critical(ping: Ping) -> None:
    with Moody(1) as peer:
        code, lines, _ = ping("--monitor", "-c", "2", "-i", "0", peer.address)
    assert (code, lines[0].split()[1]) == (1, "WARNING")
    assert lines[0].endswith(" pl=50%;;;0;100")
    code, lines, _ = ping("--monitor", "-c", "1", "unix:none.sock")
    assert (code, lines) == (
        2, ["ALIVE CRITICAL - unix:none.sock: 0 of 1 answered | rta=U;;;0 pl=100%;;;0;100"],
    )  # fmt: skip


@pytest.mark.parametrize("words", [["tcp://h:x"], ["--count", "0", "h"], ["--rubbish", "h"]])
def test_bad_usage_is_unknown_to_a_monitoring_system(ping: Ping, words: list[str]) -> None:
    code, lines, said = ping("--monitor", *words)
    assert code == 3
    assert len(lines) + said.count("\n") == 1


# --- bad usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "required: ADDRESS"),
        (["--count", "0", "h"], "expected a number from 1 on"),
        (["--cuont", "1", "h"], "did you mean '--count'?"),
        (["tcp://h:x"], "port 'x'"),
        (["--type", "tpc", "h"], "did you mean 'tcp'?"),
        (["--wait", "1s", "--count", "2", "h"], "--wait with --count: expected one of them"),
        (["--monitor", "--json", "h"], ""),
        (["--warning", "1s", "h"], "--warning is for --monitor"),
        (["--ca", "x", "tcp://h"], "--ca is for TLS"),
        (["--secret-code", "x", "tcp://h"], "--secret-code is for datagrams"),
        (["--encrypt", "udp://h"], "there is no TLS over it"),
        (["-c", "1", "--ca", "none.crt", "tls://127.0.0.1"], "none.crt: No such file"),
        (["-c", "1", "--auth-key-file", "none.key", "127.0.0.1"], "none.key': No such file"),
        (["--monitor", "--warning", "2s", "--critical", "1s", "h"], ""),
    ],
)
def test_bad_usage_ends_with_2(ping: Ping, words: list[str], sentence: str) -> None:
    code, lines, said = ping(*words)
    if "--monitor" in words:
        assert (code, said, lines[0].startswith("ALIVE UNKNOWN - --")) == (3, "", True)
        return
    assert (code, lines, said.count("\n")) == (2, [], 1), said
    assert said.startswith("ed-ping: ")
    assert sentence in said


# --- the rest -------------------------------------------------------------------------------------


def test_nobody_reads_what_is_printed(tmp_path: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            words_of("ed-ping", "-c", "1", "unix:none.sock"),
            cwd=tmp_path,
            env=variables_of(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "ed-ping: standard output: No space left on device\n"


def test_it_is_quick(tmp_path: Path) -> None:
    words = ("-c", "1", "unix:none.sock")
    assert min(cpu_seconds("ed-ping", *words, folder=tmp_path) for _ in range(3)) < 0.4


def test_the_manual_page_has_each_option(tmp_path: Path) -> None:
    check_man_page("ed-ping", tmp_path)


def test_the_commands_of_the_pages_run_as_they_stand(
    tmp_path: Path, own_namespaces: Callable[..., list[str]]
) -> None:
    lines = [line.replace(".venv/bin/", "") for line in readme_lines("shell")]
    assert lines == examples_of("ed-shell")
    lines += examples_of("ed-ping")
    assert readme_lines("ping") == examples_of("ed-ping")
    done = run_lines(lines, own_namespaces("-n"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("ABSOLUTELY from") == 4
    assert "ALIVE OK - udp://127.0.0.1:3001: 5 of 5 answered" in done.stdout
    assert "SUM value=42\n" in done.stdout
