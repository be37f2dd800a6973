"""ed-signal --replay: what was recorded is sent again, at any pace, and answers are counted."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from listen_ground import Listening, read_all
from tool_ground import PATIENCE, begin, run, variables_of, words_of

from edgevent import Address, OptionError
from edgevent.tools.ed_signal import main
from edgevent.tools.recording import Recorder, Source, read_recording
from edgevent.tools.replaying import Replay, Replayer, parse_pace
from edgevent.tools.sending import Sender, open_sender

HEADER = '{"recording": "edgevent", "version": 1, "began": "2026-01-31T12:00:00.000000Z"}\n'


def entry(data: bytes, offset: int = 0, direction: str = "in", **more: object) -> str:
    fields: dict[str, object] = {"offset": offset, "connection": 1, "direction": direction}
    try:
        fields["text"] = data.decode()
    except UnicodeDecodeError:
        fields["base64"] = base64.b64encode(data).decode()
    return json.dumps({**fields, **more}) + "\n"


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., str]:
    def make(*entries: str) -> str:
        path = tmp_path / "recorded"
        path.write_text(HEADER + "".join(entries))
        return str(path)

    return make


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(PATIENCE)
        yield sock


def address_of(sock: socket.socket) -> str:
    kind = "tcp" if sock.type == socket.SOCK_STREAM else "udp"
    return f"{kind}://127.0.0.1:{sock.getsockname()[1]}"


# --- recordings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"A\n", b"", b"\xff\x00\n", "é\u2028\n".encode(), b"\r\n"])
def test_what_was_recorded_is_read_back(tmp_path: Path, data: bytes) -> None:
    path = str(tmp_path / "out")
    with Recorder(path) as recorder:
        recorder.write(Source("unix:a", "unix:b", 3), "out", data)
        recorder.write(Source("unix:a", "unix:b", 4), "in", b"LAST")
    recorder.close()
    recorder.write(Source("unix:a", "unix:b", 4), "in", b"after its end")
    first, last = read_recording(path)
    assert (first.connection, first.direction, first.data, first.line) == (3, "out", data, 2)
    assert [one.data for one in read_recording(path, "in")] == [b"LAST"]
    assert 0 <= first.offset <= last.offset


GOOD = entry(b"A\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ":1: expected an object of JSON on one line"),
        ("[]\n", ":1: expected an object of JSON on one line"),
        ("{}\n", ":1: expected a recording of ed-listen, as --record makes it"),
        (HEADER.replace("1,", "2,"), ":1: version 2 of the format: expected 1"),
        (HEADER + GOOD + "x\n", ":3: expected an object of JSON on one line"),
        (HEADER + GOOD + GOOD[:20], ":3: expected an object of JSON on one line"),
        (HEADER + entry(b"A", -1), ":2: offset -1: expected nanoseconds, 0 or more"),
        (HEADER + entry(b"A", offset=True), ":2: offset True: expected nanoseconds, 0 or more"),
        (HEADER + entry(b"A", direction="up"), ":2: direction 'up': expected 'in' or 'out'"),
        (HEADER + entry(b"A", connection=0), ":2: connection 0: expected a number from 1 on"),
        (HEADER + entry(b"A", text=7), ":2: expected what was sent, as text or as base64"),
        (HEADER + entry(b"A", base64=""), ":2: expected what was sent, as text or as base64"),
        (HEADER + entry(b"A", text=None, base64="?"), ":2: what was sent is neither"),
        (HEADER + entry(b"A", text="\ud800"), ":2: what was sent is neither UTF-8 nor base64"),
    ],
)
def test_a_malformed_recording_is_named_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "recorded"
    path.write_text(text)
    with pytest.raises(OptionError) as caught:
        list(read_recording(str(path)))
    assert str(caught.value).startswith(f"{path}{told}")


# --- what is sent ---------------------------------------------------------------------------------


def test_one_direction_goes_to_a_stream_as_it_came(
    tmp_path: Path, recording: Callable[..., str], listener: socket.socket
) -> None:
    path = recording(
        entry(b'A  x="1"\n'),
        entry(b"BACK\n", direction="out"),
        entry(b"\xff\r\n", 10),
        entry(b"\n"),
        entry(b"DATAGRAM"),
    )
    words = ["--host", address_of(listener), "--replay", path]
    with begin("ed-signal", *words, folder=tmp_path) as tool:
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(PATIENCE)
            assert read_all(peer) == b'A  x="1"\n\xff\r\nDATAGRAM\n'
        assert tool.communicate() == ("", "ed-signal: 3 sent, 0 came back\n")
    assert tool.returncode == 0
    with begin("ed-signal", *words, "--direction=out", folder=tmp_path) as tool:
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(PATIENCE)
            assert read_all(peer) == b"BACK\n"


def test_datagrams_are_messages_and_may_be_signed(
    tmp_path: Path, recording: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = recording(entry(b"A\n"), entry(b"no message\n"), entry(b"B"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("127.0.0.1", 0))
        service.settimeout(PATIENCE)
        words = ["--host", address_of(service), "--replay", path, "--secret-code=shh"]
        assert main(words) == 1
        received = [service.recv(100) for _ in range(2)]
    assert received == [b"A secret_code=shh", b"B secret_code=shh"]
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(f"ed-signal: {path}:3: not sent: no message: ")
    assert told[1:] == ["ed-signal: 2 sent, 0 came back"]


def test_a_recording_of_ed_listen_is_answered_by_ed_listen(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("ASK = TOLD n=$n\nBAD = INVALID\n")
    with Listening(tmp_path, "--record=first", "--count=3", "tcp://127.0.0.1:0") as tool:
        tool.send(b"ASK n=1;serial=5\nASK n=2\nBAD\n")
        assert tool.end(None)[0] == 0
    with Listening(tmp_path, "--reply=table", "tcp://127.0.0.1:0", "udp://127.0.0.1:0") as tool:
        words = ["--replay=first", "--pace=0", "--host"]
        done = run("ed-signal", *words, tool.addresses[0], "--reply", folder=tmp_path)
        assert done.stdout == "TOLD n=1;serial=5\nTOLD n=2\nINVALID\n"
        assert done.stderr == "ed-signal: 3 sent, 3 came back, 1 refused\n"
        assert done.returncode == 1
        done = run("ed-signal", *words, tool.addresses[1], "--replies=2", "--json", folder=tmp_path)
        assert json.loads(done.stdout.splitlines()[1]) == {
            "command": "TOLD",
            "parameters": {"n": "2"},
        }
        assert tool.end()[0] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--reply"], "no answer within 50ms"),
        (["--replies=2"], "no answer within 50ms"),
    ],
)
def test_too_few_answers(
    recording: Callable[..., str],
    listener: socket.socket,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    address = address_of(listener)
    words = [*words, "--host", address, "--timeout=50ms", "--replay", recording(entry(b"A\n"))]
    assert main(words) == 1
    assert capsys.readouterr().err.splitlines() == [
        "ed-signal: 1 sent, 0 came back",
        f"ed-signal: {address}: {told}",
    ]


def test_nobody_reads_the_answers_that_are_printed(tmp_path: Path) -> None:
    (tmp_path / "recorded").write_text(HEADER + entry(b"A\n") * 3)
    (tmp_path / "table").write_text("A = B\n")
    with Listening(tmp_path, "--reply=table", "tcp://127.0.0.1:0") as tool:
        words = ["--host", tool.addresses[0], "--reply", "--replay=recorded"]
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                words_of("ed-signal", *words),
                cwd=tmp_path,
                env=variables_of(tmp_path),
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=PATIENCE,
                check=False,
            )
        assert tool.end()[0] == 0
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == b"ed-signal: standard output: No space left on device"


def test_some_of_the_answers_are_there_before_the_end(
    tmp_path: Path, recording: Callable[..., str], listener: socket.socket
) -> None:
    words = ["--host", address_of(listener), "--replies=2", "--replay", recording(entry(b"A\n"))]
    with begin("ed-signal", *words, folder=tmp_path) as tool:
        peer, _ = listener.accept()
        with peer:
            peer.sendall(b"B\n")
        printed, told = tool.communicate()
    assert (tool.returncode, printed) == (1, "B\n")
    assert ": 1 of 2 answers: " in told.splitlines()[-1]


def test_nobody_is_there(recording: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    path = recording(entry(b"A\n"), entry(b"B\n"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        address = address_of(unused)
    assert main(["--host", address, "--pace=0", "--replay", path]) == 1
    assert capsys.readouterr().err.endswith("Connection refused\n")


# --- the pace -------------------------------------------------------------------------------------


class Unhurried(Sender):
    """Notes the pauses, and makes none."""

    def __init__(self, sender: Sender) -> None:
        super().__init__(sender._link, sender.where, lambda: None, lambda: "")
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.mark.parametrize(("pace", "hours"), [("original", [0, 10, 30]), ("10", [0, 1, 3])])
def test_the_pace_is_that_of_the_recording_or_a_multiple(
    recording: Callable[..., str], listener: socket.socket, pace: str, hours: list[int]
) -> None:
    hour = 3600 * 10**9
    begin = 5 * hour  # what was before the first one sent is no pause
    path = recording(*(entry(b"A\n", begin + after * hour) for after in (0, 10, 30)))
    with open_sender(Address.parse(address_of(listener)), timeout=PATIENCE) as sender:
        unhurried = Unhurried(sender)
        replayer = Replayer(Replay(path, pace=parse_pace(pace)), unhurried, print, print)
        replayer.run(asks=False, wanted=0, timeout=1.0)
    assert replayer.sent == 3
    assert [round(pause / 3600) for pause in unhurried.pauses] == hours


# --- bad usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["STOP", "--replay", "{}"], "'STOP': with --replay, all messages are in the recording"),
        (["--replay", "{}", "-p", "a=1"], "--param and --replay contradict each other"),
        (["--replay", "{}", "--repeat=2"], "--repeat and --replay contradict each other"),
        (["STOP", "--pace=2"], "--pace is for --replay"),
        (["STOP", "--direction=in"], "--direction is for --replay"),
        (["--replay", "{}", "--pace=-1"], "argument --pace: value '-1': expected 'original', how"),
        (["--replay", "{}", "--pace=fast"], "argument --pace: value 'fast': expected 'original'"),
        (["--replay", "{}", "--direction=up"], "argument --direction: invalid choice: 'up'"),
        (["--replay", "{}", "--direction=out"], "nothing was recorded of direction 'out'"),
        (["--replay", "/no/such"], "/no/such: No such file or directory"),
        (["--replay", "/dev/null"], "/dev/null: expected a file: a recording of ed-listen"),
    ],
)
def test_bad_usage_is_one_line_and_nothing_is_sent(
    recording: Callable[..., str], capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    path = recording(entry(b"A\n"))
    code: object
    try:
        code = main(["--host=127.0.0.1:1", *(word.replace("{}", path) for word in words)])
    except SystemExit as error:
        code = error.code
    printed, said = capsys.readouterr()
    assert (code, printed) == (2, "")
    assert said.startswith("ed-signal: ")
    assert told in said
    assert said.count("\n") == 1
