"""ed-listen: what it answers, and what it records."""

from __future__ import annotations

import socket
import stat
import subprocess
from pathlib import Path

import pytest
from listen_ground import Listening, failed, read_all
from tool_ground import PATIENCE, run, variables_of, words_of

from edgevent.tools.recording import read_recording

# --- answers --------------------------------------------------------------------------------------

TABLE = """\
# What is asked, and what is answered.
ADD = SUM value=$a+${b};text="a $$ b"
LOCK_* = LOCKED

LOCK_OLD = NEVER
QUIET =
ROUTED = snap:other/SEEN
"""


def test_a_table_answers(tmp_path: Path) -> None:
    (tmp_path / "table").write_text(TABLE)
    words = ["--reply=table", "tcp://127.0.0.1:0", "udp://127.0.0.1:0"]
    with Listening(tmp_path, *words, "--record=out") as tool:
        peer = tool.dial()
        peer.sendall(b"<home:me ADD a=1;b=x y;serial=7\nLOCK_OLD\nQUIET\nROUTED\nOTHER\nADD b=1\n")
        peer.shutdown(socket.SHUT_WR)
        assert read_all(peer).decode().splitlines() == [
            'home:me/SUM serial=7;text="a $ b";value=1+x y'.replace('"a $ b"', "a $ b"),
            "LOCKED",
            "snap:other/SEEN",
            "INVALID command=ADD;message=ADD: parameter a is missing",
        ]
        sender = tool.dial(1)
        sender.send(b"LOCK_A")
        assert sender.recv(100) == b"LOCKED"
        assert tool.end()[0] == 0
    assert "refused ADD: ADD: parameter a is missing" in tool.told
    out = [one.data for one in read_recording(str(tmp_path / "out"), "out")]
    assert [data[:6] for data in out] == [b"home:m", b"LOCKED", b"snap:o", b"INVALI", b"LOCKED"]


def test_an_answer_that_cannot_be_sent_is_told_and_an_error_is_not_answered(
    tmp_path: Path,
) -> None:
    (tmp_path / "table").write_text("A = B text=$a$a\nINVALID = B text=$a\nC = C\n")
    words = ["--reply=table", "--max-line-bytes=20", "tcp://127.0.0.1:0"]
    with Listening(tmp_path, *words) as tool:
        peer = tool.dial()
        peer.sendall(b"A a=abcdefgh\nINVALID\nC\n")
        assert peer.recv(100) == b"C\n"
        assert tool.end()[0] == 0
    assert "A was not answered: B: a line of 23 bytes is over the limit of 20" in tool.told
    assert "refused INVALID: INVALID: parameter a is missing" in tool.told


def test_help_and_alive_are_answered_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("ADD = SUM\nLOCK_* = LOCKED\nALIVE = DEAD\n")
    with Listening(tmp_path, "--default-commands", "tcp://127.0.0.1:0") as tool:
        done = run("ed-signal", "-H", tool.addresses[0], "--reply", "ALIVE", folder=tmp_path)
        assert (done.returncode, "ABSOLUTELY reply_timestamp=" in done.stdout) == (0, True)
        assert tool.end()[0] == 0
    words = ["--default-commands", "--reply=table", "--allow-control", "tcp://127.0.0.1:0"]
    with Listening(tmp_path, *words) as tool:
        peer = tool.dial()
        peer.sendall(b"HELP\nALIVE\nSTOP\n")
        assert read_all(peer) == b"COMMANDS list=ADD,ALIVE,HELP,QUITTING,STOP\nDEAD\n"
        assert tool.end(None) == (0, "HELP\nALIVE\nSTOP\n")


def test_stop_is_a_message_as_others_are(tmp_path: Path) -> None:
    with Listening(tmp_path, "--default-commands", "tcp://127.0.0.1:0") as tool:
        peer = tool.dial()
        peer.sendall(b"STOP\nQUITTING\nALIVE\n")
        assert peer.recv(100).startswith(b"ABSOLUTELY ")
        assert tool.end() == (0, "STOP\nQUITTING\nALIVE\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A = B\nADD\n", "table:2: 'ADD': expected COMMAND = ANSWER"),
        ("add = B\n", "table:1: 'add' is no command or shell pattern; did you mean 'ADD'?"),
        ("A-é = B\n", "table:1: 'A-é' is no command or shell pattern"),
        ("# x\n\nA = b\n", "table:3: the answer is no message: "),
        ("A = B c=5$\n", "table:1: c: a lone $: expected $name, ${name} or $$"),
        ("A = B\nC=D\nA = E\n", "table:3: A is answered in line 1"),
        ("A = B\xff", "table: expected UTF-8 text"),
        ("#" * (1024 * 1024 + 1), "table: is longer than 1048576 bytes"),
    ],
)
def test_a_table_that_is_wrong_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    coding = "latin-1" if text.endswith("\xff") else "utf-8"
    (tmp_path / "table").write_text(text, encoding=coding)
    said = failed(capsys, "--reply", str(tmp_path / "table"), "tcp://127.0.0.1:0")
    assert said.startswith(f"{tmp_path}/{told}")


# --- recordings -----------------------------------------------------------------------------------


def test_a_recording_has_the_bytes_as_they_came(tmp_path: Path) -> None:
    words = ["--record=out", "--raw"]
    with Listening(tmp_path, *words, "tcp://127.0.0.1:0", "udp://127.0.0.1:0") as tool:
        tool.send(b"ADD a=1\r\nB \xff\n\nhalf")
        assert [tool.line() for _ in range(3)] == ["ADD a=1", "! B \\xff", "! half"]
        tool.send(b"DATAGRAM", 1)
        assert tool.line() == "DATAGRAM"
        path = tmp_path / "out"
        # It is there while the tool runs.
        found = list(read_recording(str(path)))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert tool.end()[0] == 0
    streams = [one.data for one in found if one.connection == found[0].connection]
    assert streams == [b"ADD a=1\r\n", b"B \xff\n", b"\n", b"half"]
    assert found[-1].data == b"DATAGRAM"
    assert [one.offset for one in found] == sorted(one.offset for one in found)
    assert {one.direction for one in found} == {"in"}


def test_a_recording_that_is_there_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out"
    path.write_text("precious")
    said = failed(capsys, "--record", str(path), "tcp://127.0.0.1:0")
    assert said == f"recording {path}: there is such a file already; expected a new one"
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("path", "why"),
    [("/dev/full", "No space left on device"), ("/no/such/out", "No such file or directory")],
)
def test_a_recording_that_cannot_be_begun(
    capsys: pytest.CaptureFixture[str], path: str, why: str
) -> None:
    said = failed(capsys, "--record", path, "tcp://127.0.0.1:0")
    assert said == f"recording {path}: {why}"


def test_a_full_disk_ends_the_recording_and_nothing_else(tmp_path: Path) -> None:
    limited = ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh"]
    # The limit is for all files that it writes: those of a coverage measurement, for example.
    variables = {
        name: value
        for name, value in variables_of(tmp_path, PYTHONDONTWRITEBYTECODE="1").items()
        if not name.startswith("COV")
    }
    tool = subprocess.Popen(
        [*limited, *words_of("ed-listen", "--record=out", "fd:0")],
        cwd=tmp_path,
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = "".join(f"LONG text={'x' * 200};n={number}\n" for number in range(10))
    printed, told = tool.communicate(lines, timeout=PATIENCE)
    assert len(printed.splitlines()) == 10
    assert tool.returncode == 1
    assert told.count("recording out: File too large; nothing more is recorded") == 1, told
    found = list(read_recording(str(tmp_path / "out")))  # no line is half-written
    assert 0 < len(found) < 10
