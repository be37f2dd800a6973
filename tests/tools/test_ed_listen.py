"""ed-listen: what it prints, answers and records, and how it ends."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from listen_ground import Listening, failed, fill, read_all
from tls_ground import authority, client_pair, server_pair
from tool_ground import (
    PATIENCE,
    check_man_page,
    cpu_seconds,
    examples_of,
    readme_lines,
    run,
    variables_of,
    words_of,
)

from edgevent.tools.ed_listen import main

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


# --- what is printed ------------------------------------------------------------------------------


def test_messages_of_all_kinds_of_addresses_are_printed_one_a_line(tmp_path: Path) -> None:
    places = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"]
    places += [f"{kind}:{kind}.sock" for kind in ("unix", "unixgram", "unixseq")]
    with Listening(tmp_path, *places) as tool:
        assert len(tool.addresses) == 5
        for index, address in enumerate(tool.addresses):
            tool.addresses[index] = address.replace(":unix", f":{tmp_path}/unix")
            tool.send(b'<home:me you/ADD b=2;a="1"\n', index)
            assert tool.line() == "<home:me you/ADD a=1;b=2"
        tool.send(b'{"command":"IN_JSON"}\n\nSECOND\n')
        assert (tool.line(), tool.line()) == ("IN_JSON", "SECOND")
        assert tool.end() == (0, "")
    assert tool.told.splitlines()[-1] == "ed-listen: 7 messages, 6 connections"
    assert not list(tmp_path.iterdir())  # the files of the sockets have gone


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_while_peers_are_connected(tmp_path: Path, number: int) -> None:
    with Listening(tmp_path, "unix:a.sock") as tool:
        tool.addresses = [f"unix:{tmp_path}/a.sock"]
        peer = tool.dial()
        peer.sendall(b"HERE\n")
        assert tool.line() == "HERE"
        assert tool.end(number) == (0, "")
        assert read_all(peer) == b""
    assert tool.told.endswith("ed-listen: 1 message, 1 connection\n")


def test_json_says_when_where_and_what(tmp_path: Path) -> None:
    with Listening(tmp_path, "--json", "--raw", "tcp://127.0.0.1:0") as tool:
        tool.send(b"A text=x\\ny\xff\nnone\x1b\n\xff\xfe")
        first, second, third = (json.loads(tool.line()) for _ in range(3))
        assert tool.end() == (0, "")
    assert re.fullmatch(TIME, first.pop("time"))
    assert re.fullmatch(r"tcp://127\.0\.0\.1:\d+", first.pop("peer"))
    assert first == {
        "listener": tool.addresses[0],
        "connection": 1,
        "direction": "in",
        "message": {"command": "A", "parameters": {"text": "x\ny\udcff"}},
    }
    assert (second["raw"], third["raw"]) == ("none\\x1b", "\\xff\\xfe")
    assert "message" not in second
    assert tool.told.endswith("1 message, 2 lines that were none, 1 connection\n")


def test_time_and_raw_lines_are_marked(tmp_path: Path) -> None:
    with Listening(tmp_path, "--time", "--raw", "tcp://127.0.0.1:0") as tool:
        tool.send(b"GOOD\nGET / HTTP/1.1\r\n\0\n")
        assert re.fullmatch(f"{TIME} GOOD", tool.line())
        assert re.fullmatch(rf"{TIME} ! GET / HTTP/1\.1\\r", tool.line())
        assert re.fullmatch(rf"{TIME} ! \\x00", tool.line())
        assert tool.end()[0] == 0


def test_a_line_that_is_no_message_is_told_once_and_counted(tmp_path: Path) -> None:
    with Listening(tmp_path, "tcp://127.0.0.1:0") as tool:
        tool.send(b"one\ntwo\x1b\nGOOD\n")
        assert tool.line() == "GOOD"
        assert tool.end() == (0, "")
    told = tool.told.splitlines()[1:]
    assert len(told) == 2
    assert re.match(r"ed-listen: tcp://127\.0\.0\.1:\d+: no message came, see --raw: ", told[0])
    assert told[1] == "ed-listen: 1 message, 2 lines that were none, 1 connection"


def test_a_line_over_the_limit_closes_that_peer_alone(tmp_path: Path) -> None:
    with Listening(tmp_path, "--max-line-bytes=100", "tcp://127.0.0.1:0") as tool:
        bad, good = tool.dial(), tool.dial()
        bad.sendall(b"A" * 101)
        assert read_all(bad) == b""
        good.sendall(b"GOOD\n")
        assert tool.line() == "GOOD"
        assert tool.end() == (0, "")
    assert "a line over the limit" in tool.told


# --- the end --------------------------------------------------------------------------------------


def test_it_ends_after_so_many_messages_and_the_last_one_is_answered(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("* = YES\n")
    with Listening(tmp_path, "--count=2", "--reply=table", "tcp://127.0.0.1:0") as tool:
        peer = tool.dial()
        peer.sendall(b"A\nB\nC\n")
        assert read_all(peer) == b"YES\nYES\n"
        assert tool.end(None) == (0, "A\nB\n")
    assert tool.told.endswith("ed-listen: 2 messages, 2 back, 1 connection\n")


@pytest.mark.parametrize(("words", "code"), [([], 0), (["-n", "1"], 1)])
def test_it_ends_after_the_time(tmp_path: Path, words: list[str], code: int) -> None:
    with Listening(tmp_path, "--timeout=50ms", *words, "tcp://127.0.0.1:0") as tool:
        assert tool.end(None) == (code, "")
    last = tool.told.splitlines()[-1]
    expected = "fewer than 1 message came within 50ms" if code else "0 messages, 0 connections"
    assert last == f"ed-listen: {expected}"


def test_a_descriptor_is_read_to_its_end(tmp_path: Path) -> None:
    done = subprocess.run(
        words_of("ed-listen", "--raw", "fd:0"),
        cwd=tmp_path,
        env=variables_of(tmp_path),
        input=b"A\nB x=1\nhalf",
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"A\nB x=1\n! half\n"), done.stderr


def test_nobody_reads_what_is_printed_any_more(tmp_path: Path) -> None:
    with Listening(tmp_path, "tcp://127.0.0.1:0") as tool:
        peer = tool.dial()
        peer.sendall(b"A\n")
        assert tool.line() == "A"
        assert tool.process.stdout is not None
        tool.process.stdout.close()
        peer.sendall(b"B\n")
        assert tool.process.wait(PATIENCE) == 0
        assert tool.process.stderr is not None
        assert tool.process.stderr.read() == ""


def test_a_full_disk_under_the_output_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        tool = subprocess.Popen(
            words_of("ed-listen", "fd:0"),
            cwd=tmp_path,
            env=variables_of(tmp_path),
            stdin=subprocess.PIPE,
            stdout=full,
            stderr=subprocess.PIPE,
        )
        _, told = tool.communicate(b"A\nB\n", timeout=PATIENCE)
    assert tool.returncode == 1
    assert told.splitlines()[-1] == b"ed-listen: standard output: No space left on device"


def test_a_signal_ends_it_although_nobody_reads_what_it_prints(tmp_path: Path) -> None:
    with Listening(tmp_path, "--reply=/dev/null", "unix:a.sock") as tool:
        tool.addresses = [f"unix:{tmp_path}/a.sock"]
        peer = tool.dial()
        peer.sendall(b"FIRST\n")
        assert tool.line() == "FIRST"
        fill(peer, b"LONG text=" + b"x" * 50_000 + b"\n")
        code, printed = tool.end()
    assert code == 0
    assert printed.startswith("LONG text=xxx")


# --- TLS ------------------------------------------------------------------------------------------


def write_keys(folder: Path) -> None:
    (folder / "ca.pem").write_bytes(authority().certificate_pem)
    for name, pair in (("server", server_pair()), ("client", client_pair())):
        (folder / f"{name}.pem").write_bytes(pair.certificate_pem)
        (folder / f"{name}.key").write_bytes(pair.key_pem)
        (folder / f"{name}.key").chmod(0o600)


def client_context(folder: Path, *, with_certificate: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if with_certificate:
        context.load_cert_chain(folder / "client.pem", folder / "client.key")
    return context


def test_tls_is_listened_to_and_clients_may_need_a_certificate(tmp_path: Path) -> None:
    write_keys(tmp_path)
    words = ["--certificate=server.pem", "--key=server.key", "--ca=ca.pem"]
    with Listening(tmp_path, *words, "--mutual", "tls://127.0.0.1:0") as tool:
        assert tool.addresses[0].startswith("tls://127.0.0.1:")
        context = client_context(tmp_path, with_certificate=True)
        with context.wrap_socket(tool.dial(), server_hostname="localhost") as peer:
            peer.sendall(b"SECRET\n")
            assert tool.line() == "SECRET"
        context = client_context(tmp_path, with_certificate=False)
        with (
            context.wrap_socket(tool.dial(), server_hostname="localhost") as peer,
            pytest.raises(ssl.SSLError),
        ):
            peer.recv(1)
        assert tool.end()[0] == 0
    assert "no TLS with" in tool.told


# --- bad usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "the following arguments are required: ADDRESS"),
        (["127.0.0.1"], "argument ADDRESS: address '127.0.0.1': expected tcp://host:port"),
        (["tcq://1.2.3.4:1"], "did you mean tcp?"),
        (["--jsno", "unix:a"], "argument '--jsno' is unknown; did you mean '--json'?"),
        (["--count=0", "unix:a"], "argument -n/--count: value '0': expected a number from 1 on"),
        (["--timeout=0", "unix:a"], "duration '0': expected 10ms or more"),
        (["--max-line-bytes=0", "unix:a"], "value '0': expected a number of bytes, 1 to 16777216"),
        (["--reply=/no/such", "unix:a"], "/no/such: No such file or directory"),
        (["tls://127.0.0.1:0"], "--certificate and --key are expected"),
        (["--certificate=a", "unix:a"], "--certificate is for TLS: expected a tls: address"),
        (["--ca=a", "unix:a"], "--ca is for TLS: expected a tls: address to listen on"),
        (["--forward-no-verify", "unix:a"], "--forward-no-verify is for TLS: expected a tls: a"),
        (["--certificate=/no/such", "tls://127.0.0.1:0"], "/no/such"),
        (["--forward=unix:b", "--reply=x", "unix:a"], "--reply and --forward contradict"),
        (["--forward=unix:b", "udp://127.0.0.1:0"], "cannot be forwarded to unix:b"),
        (["--forward=unixseq:b", "unix:a"], "cannot be forwarded to unixseq:b"),
        (["--forward=fd:0", "unix:a"], "fd:0 has one peer"),
        (["--forward=fifo:/b", "unix:a"], "fifo:/b goes one way: --forward expects"),
        (
            [
                "--forward=tls://localhost:1",
                "--forward-no-verify",
                "--forward-ca=x",
                "unix:a",
            ],
            "--forward-no-verify and --forward-ca contradict each other",
        ),
    ],
)
def test_bad_usage_is_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert told in failed(capsys, *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--reply=table"], "table:1: 'ADD': expected COMMAND = ANSWER"),
        (["--record=no/such"], "no/such: there is no folder "),
        (["--forward=tcp://127.0.0.1:1", "--json"], ""),
        (["--certificate=x"], "x: No such file or directory"),
    ],
)
def test_the_configuration_can_be_checked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table").write_text("ADD\n")
    with pytest.raises(SystemExit) as caught:
        main(["--check-config", *words, "unix:a.sock"])
    printed, said = capsys.readouterr()
    assert caught.value.code == (2 if told else 0)
    assert told in said
    assert bool(printed) is not bool(told)


def test_an_address_that_is_taken_ends_it_and_the_others_are_let_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--record=out", "unix:a.sock", f"tcp://127.0.0.1:{port}"]) == 1
        assert main(["--forward=unix:b", "unix:a.sock", f"tcp://127.0.0.1:{port}"]) == 1
    told = capsys.readouterr().err
    assert told == f"ed-listen: tcp://127.0.0.1:{port}: Address already in use\n" * 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "udp://0.0.0.0:0"])
def test_where_others_can_reach_it_it_listens_only_when_told_so(
    capsys: pytest.CaptureFixture[str], address: str
) -> None:
    assert main([address]) == 1
    told = f"{address} can be reached by others, unencrypted: --allow-remote was expected"
    assert capsys.readouterr().err == f"ed-listen: {told}\n"


# --- how it is found ------------------------------------------------------------------------------


def test_the_manual_page_has_each_option(tmp_path: Path) -> None:
    check_man_page("ed-listen", tmp_path)


def test_it_starts_and_ends_quickly(tmp_path: Path) -> None:
    assert min(cpu_seconds("ed-listen", "--version", folder=tmp_path) for _ in range(3)) < 0.4


def with_free_port(line: str) -> list[str]:
    return [re.sub(r":\d{4}$", ":0", word) for word in shlex.split(line)][1:]


def test_the_command_lines_that_are_shown_do_what_is_said(tmp_path: Path) -> None:
    (tmp_path / "answers.conf").write_text("ADD = SUM value=42\n")
    shown, answering, forwarding, replaying = readme_lines("listen")
    assert examples_of("ed-listen") == [shown, answering, forwarding]
    with Listening(tmp_path, *with_free_port(shown)) as tool:
        tool.send(b"ADD a=2\n")
        assert tool.line().endswith("Z ADD a=2")
    with Listening(tmp_path, *with_free_port(answering)) as tool:
        peer = tool.dial()
        peer.send(b"ADD a=2")
        assert peer.recv(100) == b"SUM value=42"
    with Listening(tmp_path, "--reply=answers.conf", "unix:hello.sock") as service:
        with Listening(tmp_path, *with_free_port(forwarding)) as tool:
            peer = tool.dial()
            peer.sendall(b"ADD a=2\n")
            assert peer.recv(100) == b"SUM value=42\n"
            assert tool.line().endswith("Z #1 > ADD a=2")
            assert tool.line().endswith("Z #1 < SUM value=42")
            assert tool.end()[0] == 0
        done = run(*shlex.split(replaying), folder=tmp_path)
        assert (done.returncode, done.stdout) == (0, "SUM value=42\n"), done.stderr
        assert service.end() == (0, "ADD a=2\nADD a=2\n")
