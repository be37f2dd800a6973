"""snaploggerd as its senders see it: what is written, in which form, in which order, once."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from snaploggerd_ground import OFF, Daemon, Sender, record
from tool_ground import PATIENCE, readme_lines, variables_of, words_of

from edgevent import Client, Message
from edgevent.log_levels import SEVERITIES
from edgevent.testing.certificates import Certificates
from edgevent.testing.starting import StartedService

FORM = "--form=${severity}|${protocol}|${source_ip}|${serial}|${components}|${fields}|${message}"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    words = ("--tcp-listen=127.0.0.1:{port}", "--udp-listen=127.0.0.1:{port2}")
    with Daemon(FORM, *words, "--logrotate-listen=127.0.0.1:0", "--order-wait=0") as daemon:
        yield daemon


@pytest.fixture
def sender(daemon: Daemon) -> Iterator[Sender]:
    with Sender(daemon) as sender:
        yield sender


def port_of(daemon: Daemon, scheme: str) -> tuple[str, int]:
    [address] = [one for one in daemon.addresses if one.startswith(f"{scheme}://127.0.0.1:")][:1]
    return "127.0.0.1", int(address.rpartition(":")[2])


def written(daemon: Daemon, text: str) -> list[str]:
    """The fields of the line that ends with this text."""
    [line] = [line for line in daemon.lines() if line.endswith(f"|{text}")]
    return line.split("|")


# --- a record -------------------------------------------------------------------------------------


def test_a_record_of_the_cpp_appender_is_written(daemon: Daemon, sender: Sender) -> None:
    sender.send(
        "LOG column=48;components=normal,snaplog;fields=id:3;filename=snaplog.cpp;"
        "function=int snaplog::run();line=248;message=hello from snaplog;severity=error;"
        "timestamp=1795452159.416212459"
    )
    assert sender.log("behind it") == "LOG_ACKNOWLEDGE"
    assert written(daemon, "hello from snaplog") == [
        *("error", "unix", "local", "-", "normal,snaplog", "id:3", "hello from snaplog")
    ]


@pytest.mark.parametrize("protocol", ["tcp", "unix", "udp"])
def test_it_comes_by_every_protocol_and_is_acknowledged(daemon: Daemon, protocol: str) -> None:
    place = daemon if protocol == "unix" else port_of(daemon, protocol)
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with Sender(place, kind) as sender:
        message = record(f"by {protocol}", serial=f"a;{protocol}", acknowledge=True)
        answer = sender.ask(message)
    assert str(answer) == str(Message("LOG_ACKNOWLEDGE", {"serial": f"a;{protocol}"}))
    ip = "local" if protocol == "unix" else "127.0.0.1"
    assert written(daemon, f"by {protocol}")[1:4] == [protocol, ip, f"a;{protocol}"]


def test_it_comes_by_tls(certificates: Certificates) -> None:
    keys = certificates.server()
    place = f"tls://127.0.0.1:{{port}} certificate={keys.certificate} key={keys.key}"
    with Daemon(*OFF, FORM, "--tls-listen", place) as daemon:
        [address] = [one for one in daemon.addresses if one.startswith("tcp:")]
        with daemon.client(address.replace("tcp:", "tls:"), tls=certificates.options()) as client:
            answer = client.request(record("by TLS", acknowledge=True), timeout=PATIENCE)
        assert answer.command == "LOG_ACKNOWLEDGE"
        assert written(daemon, "by TLS")[1:3] == ["tls", "127.0.0.1"]


def test_the_name_of_the_cpp_daemon_is_taken_too(daemon: Daemon, sender: Sender) -> None:
    message = Message("LOGGER", {"message": "as LOGGER", "acknowledge": "yes"})
    assert sender.ask(message).command == "LOG_ACKNOWLEDGE"
    assert written(daemon, "as LOGGER")[0] == "error"


@pytest.mark.parametrize(
    ("severity", "name"),
    [
        *((name, name) for name in SEVERITIES),
        ("WARN", "warning"),
        ("err", "error"),
        ("140", "warning"),
        ("141", "warning"),
        ("fatal_error", "fatal"),
        ("loud", "error"),
    ],
)
def test_a_severity_is_a_name_or_a_number(
    daemon: Daemon, sender: Sender, severity: str, name: str
) -> None:
    assert sender.log(f"is {severity}", severity=severity) == "LOG_ACKNOWLEDGE"
    assert written(daemon, f"is {severity}")[0] == name


def test_any_bytes_are_one_escaped_record(daemon: Daemon, sender: Sender) -> None:
    chosen = random.Random(5)
    before = len(daemon.lines())
    texts = ["a\nb\r\n", "\x1b[31mred", "\u202egnirts", "\\n", "tab\t", "x" * 60_000]
    texts += [bytes(chosen.randbytes(40)).decode("utf-8", "surrogateescape") for _ in range(200)]
    for text in texts:
        assert sender.log(text.replace("\0", "") or "x", components=text[:3].replace("\0", ""))
    lines = daemon.lines()
    assert len(lines) == before + len(texts)
    assert all(line.isprintable() for line in lines)
    assert lines[before].endswith(r"|a\nb\r\n")
    assert lines[before + 1].endswith(r"|\x1b[31mred")


def test_secrets_are_masked(daemon: Daemon, sender: Sender) -> None:
    sender.log("login with password=hunter2", fields="id:1")
    assert written(daemon, "login with password=***")


# --- what is no record ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("LOG severity=error", "LOG: parameter message is missing"),
        ("LOG message=;severity=error", "LOG: parameter message is empty"),
        ("LOG message=a;timestamp=soon", "parameter timestamp is no time"),
        ("LOG message=a;timestamp=-5", "parameter timestamp is no time after 1970"),
        ("LOGGER severity=error", "LOGGER: parameter message is missing"),
        ("LOG message", "malformed line: "),
        ('LOG message="a', "malformed line: "),
    ],
)
def test_what_is_no_record_is_refused_and_counted(
    daemon: Daemon, sender: Sender, line: str, why: str
) -> None:
    before = daemon.counts()
    answer = sender.ask(line)
    assert answer.command == "INVALID"
    assert why in answer["message"]
    after = daemon.counts()
    wrong = [after[name] - before[name] for name in ("refused", "malformed")]
    assert wrong == ([0, 1] if "malformed" in why else [1, 0])
    assert after["records"] == before["records"]
    assert sender.log("goes on") == "LOG_ACKNOWLEDGE"


def test_what_is_none_by_datagram_is_answered_here_too(daemon: Daemon) -> None:
    with Sender(port_of(daemon, "udp"), socket.SOCK_DGRAM) as sender:
        answer = sender.ask("LOG serial=5;instance=me;severity=error")
        assert (answer.command, answer["serial"]) == ("INVALID", "5")


# --- once, and in order ---------------------------------------------------------------------------


def test_what_comes_again_is_acknowledged_and_not_written(daemon: Daemon) -> None:
    before = daemon.counts()
    for _ in range(3):  # each by another connection
        with Sender(daemon) as sender:
            assert sender.log("only once", serial=7, instance="one", timestamp=5)
    written(daemon, "only once")
    with Sender(daemon) as sender:  # counts from the beginning again: not the same record
        assert sender.log("another one", serial=7, instance="one", timestamp=5)
        assert sender.log("only once more", serial=7, instance="two", timestamp=5)
    assert written(daemon, "another one")
    assert written(daemon, "only once more")
    assert daemon.counts()["repeats"] == before["repeats"] + 2


def test_datagrams_are_known_again_by_their_sender(daemon: Daemon) -> None:
    with Sender(port_of(daemon, "udp"), socket.SOCK_DGRAM) as sender:
        for _ in range(2):
            assert sender.log("one datagram", serial=1) == "LOG_ACKNOWLEDGE"
    written(daemon, "one datagram")


def test_ten_senders_lose_nothing_and_keep_their_order(daemon: Daemon) -> None:
    count = 1_000
    senders = [Sender(daemon if number % 2 else port_of(daemon, "tcp")) for number in range(10)]
    for first in range(0, count, 100):
        for number, one in enumerate(senders):
            one.send(*(record(f"from {number}: {first + index}") for index in range(100)))
    for one in senders:
        assert one.log("end of a sender") == "LOG_ACKNOWLEDGE"
        one.sock.close()
    found = [re.search(r"\|from (\d): (\d+)$", line) for line in daemon.lines()]
    by_sender: dict[str, list[int]] = {}
    for one in filter(None, found):
        by_sender.setdefault(one[1], []).append(int(one[2]))
    assert len(by_sender) == 10
    assert all(numbers == list(range(count)) for numbers in by_sender.values())


# --- other commands -------------------------------------------------------------------------------


def test_senders_are_told_to_pause(daemon: Daemon, sender: Sender) -> None:
    sender.log("is there")
    with Client(f"unix:{daemon.folder}/s.sock") as control:
        assert control.request(Message("PAUSE"), timeout=PATIENCE).command == "PAUSED"
        assert sender.receive().command == "PAUSE"
        with Sender(daemon) as late:
            assert late.receive().command == "PAUSE"
        assert sender.log("in spite of it") == "LOG_ACKNOWLEDGE"
        assert control.request(Message("UNPAUSE"), timeout=PATIENCE).command == "UNPAUSED"
    assert sender.receive().command == "UNPAUSE"


def test_it_answers_as_every_service(sender: Sender) -> None:
    answer = sender.ask("HELP")
    assert {"LOG", "LOGGER", "LOG_STATUS", "PAUSE", "UNPAUSE"} < set(answer["list"].split(","))
    assert sender.ask("WHAT").command == "UNKNOWN"


# --- other forms ----------------------------------------------------------------------------------


def test_json_lines_have_everything() -> None:
    with Daemon(*OFF, "--form=json") as daemon, Sender(daemon) as sender:
        sender.log(
            "a\n\u00e4",
            severity="warn",
            timestamp="1795452159.4162",
            components="normal,net",
            fields=r"id:3,a\,b:c\:d,secret_code:hunter2,last",
            filename="a.py",
            line=7,
            column="x",
            function="f",
            recursive=True,
            host="there",
            serial=9,
            instance="i",
        )
        [line] = daemon.lines()
    assert line.isascii()
    found = json.loads(line)
    assert re.fullmatch(r"2026-11-2\dT\d\d:\d\d:39\.416200[+-]\d\d:\d\d", found.pop("timestamp"))
    assert found.pop("source").startswith("unix:")
    assert found == {
        "severity": "warning",
        "severity_number": 140,
        "message": "a\n\u00e4",
        "components": ["normal", "net"],
        "fields": {"id": "3", "a,b": "c:d", "secret_code": "***", "last": ""},
        "filename": "a.py",
        "function": "f",
        "line": 7,
        "column": "x",
        "serial": "9",
        "instance": "i",
        "recursive": True,
        "host": "there",
        "source_ip": "local",
        "protocol": "unix",
    }


def test_each_sender_or_component_has_its_file(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon("--path-template=${component}/${source_ip}.log")
    with Sender(daemon) as sender:
        for component in (
            "normal,a",
            "b",
            "..",
            "../..",
            "%2e%2e/x",
            ".hidden",
            "a/b",
            "",
            "c" * 300,
        ):
            assert sender.log("text", components=component) == "LOG_ACKNOWLEDGE"
    found = sorted(str(one.relative_to(daemon.folder)) for one in daemon.logs.rglob("*.log"))
    assert found == sorted(
        f"logs/{name}/local.log"
        for name in ("a", "b", "_.", "_._..", "_2e_2e_x", "_hidden", "a_b", "normal", "c" * 100)
    )


@pytest.fixture
def start_daemon() -> Iterator[Callable[..., Daemon]]:
    daemons: list[Daemon] = []

    def start(*words: str, **settings: object) -> Daemon:
        daemons.append(Daemon(*OFF, *words, **settings))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.close()


def test_standard_handlers_get_records_as_well(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon("--path-template=off", "--also-to=stderr", "--min-severity=warning")
    with Sender(daemon) as sender:
        assert sender.log("to stderr", severity="warning", host="h", fields="id:1")
        assert sender.log("to nobody", severity="debug") == "LOG_ACKNOWLEDGE"
    assert " warning h.normal: to stderr\n" in daemon.output
    assert "to nobody" not in daemon.output
    assert not daemon.logs.exists()


def test_who_may_log_is_in_the_file(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon("--allow=LOG=none")
    with Sender(daemon) as sender:
        assert sender.log("not allowed") == "INVALID"
        assert sender.ask(Message("LOGGER", {"message": "is", "acknowledge": "1"}))
    assert len(daemon.lines()) == 1


# --- as a new user has it -------------------------------------------------------------------------


def test_the_lines_of_the_readme_show_what_has_come(
    own_namespaces: Callable[[str], list[str]], need_tool: Callable[..., str], tmp_path: Path
) -> None:
    nsenter = need_tool("nsenter", package="util-linux")
    start, send, show = readme_lines("collecting")
    network = [*own_namespaces("-n"), "sh", "-ec", 'ip link set lo up; exec "$@"', "sh"]
    daemon = StartedService(
        [*network, *words_of(*shlex.split(start))],
        folder=tmp_path,
        env={"RUNTIME_DIRECTORY": "{folder}"},
        ready=re.compile("receiving at udp://127.0.0.1:4988"),
        timeout=PATIENCE,
    )
    with daemon:
        words = [nsenter, f"--target={daemon.pid}", "--net", *words_of(*shlex.split(send))]
        subprocess.run(words, env=variables_of(tmp_path), check=True, timeout=PATIENCE)
        shown = subprocess.check_output(shlex.split(show), cwd=tmp_path, text=True)
        assert shown.count("\n") == 1
        assert " 127.0.0.1 warning disk " in shown
        assert ": nearly full [" in shown


def test_it_starts_as_systemd_starts_it(tmp_path: Path) -> None:
    words = [*OFF[::2], "--udp-listen=unixgram:d.sock", f"--unix-group={os.getgid()}"]
    words += ["--controller-listen=127.0.0.1:4040", "--also-to=journal", "--also-to=syslog"]
    folders = {"RUNTIME_DIRECTORY": f"{tmp_path}/run", "LOGS_DIRECTORY": f"{tmp_path}/logs"}
    command = [*words_of("snaploggerd"), *words]
    with StartedService(command, ready="notify", env=folders, timeout=PATIENCE) as daemon:
        path = tmp_path / "run" / "snaploggerd.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert "option controller-listen: this daemon has no use for it" in daemon.output
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE)
            sock.bind("")
            sock.sendto(bytes(record("hi", acknowledge=1)), f"{daemon.folder}/d.sock")
            assert sock.recv(1000) == b"LOG_ACKNOWLEDGE"
        assert "error" in (tmp_path / "logs" / "snaplogger.log").read_text(encoding="utf-8")
