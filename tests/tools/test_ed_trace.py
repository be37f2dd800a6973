"""ed-trace: what passes the daemon, as a user sees it, and what is in a recording."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from network_ground import PATIENCE, Ground
from running import Program, terminate
from tool_ground import (
    SCRIPTS,
    begin,
    examples_of,
    failed,
    readme_lines,
    run,
    variables_of,
    words_of,
)

from edgevent import Communicator, CommunicatorClient, Dispatcher, Message
from edgevent.tools.diagram import MAX_PARTIES, MAX_STEPS, Diagram
from edgevent.tools.ed_trace import main
from edgevent.tools.recording import Recorder, Source
from edgevent.tools.trace_events import Passed, read_traced
from edgevent.tools.trace_output import TraceOutput

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
SAID = "snap:till > snap:stock TAKE item=pen;secret_code=***"


class Running:
    """A communicatord as a process, and the address of its Unix socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix:{folder}/cd.sock"
        self.program = Program(
            SCRIPTS / "communicatord",
            "--server-name=snap",
            "--local-listen=off",
            "--signal=off",
            f"--unix-listen={self.address}",
            "--known-service=later",
            "--settle=0s",
            folder=folder,
        )
        self.program.wait_for("listening on unix:")

    def trace(self, *words: str) -> subprocess.Popen[str]:
        """Starts ed-trace, and waits until it sees what passes."""
        tool = begin("ed-trace", "--communicator-listen", self.address, *words, folder=self.folder)
        self.program.wait_for("a trace begins")
        return tool

    def talk(self) -> None:
        """Something that passes."""
        with (
            CommunicatorClient("till", address=self.address) as till,
            CommunicatorClient("stock", address=self.address) as stock,
        ):
            fields = {"item": "pen", "secret_code": "hunter2"}
            till.send(Message("TAKE", fields, service="stock"))
            stock.send(stock.receive().reply("TAKEN", {"left": 3}))
            till.receive()
            till.send(Message("NEWS", service="later"))
            till.send(Message("NEWS", service="nobody"))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all tests of this file."""
    running = Running(tmp_path_factory.mktemp("daemon"))
    with running.program:
        yield running
        assert terminate(running.program) == 0


def output_of(tool: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """What it has printed at its end."""
    out, err = tool.communicate(timeout=PATIENCE)
    assert tool.returncode == code, err
    return out, err


# --- as it passes ---------------------------------------------------------------------------------


def test_messages_are_printed_as_they_pass_and_recorded(daemon: Running, tmp_path: Path) -> None:
    file = f"{tmp_path}/trace.jsonl"
    lines = daemon.trace("till", "--record", file)
    objects = daemon.trace("stock/TAKE*", "/NEWS", "--json", "--no-values", "--count", "4")
    daemon.talk()
    found = [json.loads(line) for line in output_of(objects)[0].splitlines()]
    assert [(one["command"], one["to"]) for one in found] == [
        ("TAKE", "snap:stock"),
        ("TAKEN", "snap:till"),
        ("NEWS", "snap:later"),
        ("NEWS", "snap:nobody"),
    ]
    assert found[0]["parameters"]["item"] == "..."
    assert found[2]["held"] is True
    assert "no service nobody" in found[3]["lost"]
    lines.send_signal(signal.SIGINT)
    printed = output_of(lines)[0]
    shown = [re.sub(f"^{TIME} ", "", line) for line in printed.splitlines()]
    assert shown[0] == SAID
    assert "hunter2" not in printed + Path(file).read_text("utf-8")
    assert [line for line in shown if "NEWS" in line] == [
        "snap:till > snap:later (held) NEWS",
        "snap:till > snap:nobody (lost: no service nobody is known here) NEWS",
    ]
    again = run("ed-trace", "--from", file, "--time", "none", "till", folder=tmp_path)
    assert again.stdout.splitlines() == shown


def test_it_ends_after_a_time_and_tells_what_did_not_come(daemon: Running) -> None:
    words = ("--duration", "50ms", "--count", "2")
    out, err = output_of(daemon.trace(*words), 1)
    assert (out, err) == ("", "ed-trace: 0 of 2 messages came within 50ms\n")
    assert output_of(daemon.trace("--duration", "10ms", "--diagram")) == ("", "")


def test_nobody_reads_what_is_printed(daemon: Running) -> None:
    words = [*words_of("ed-trace", "--communicator-listen", daemon.address), "till"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tool:
        daemon.program.wait_for("a trace begins")
        assert tool.stdout is not None
        tool.stdout.close()
        daemon.talk()
        assert tool.wait(PATIENCE) == 1
        assert tool.stderr is not None
        assert tool.stderr.read() == b""


def test_a_daemon_that_ends(tmp_path: Path) -> None:
    running = Running(tmp_path)
    with running.program as program:
        tool = running.trace("nobody")
        assert terminate(program) == 0
    err = output_of(tool, 1)[1]
    assert err.startswith("ed-trace: the communicatord has ended the connection: ")


def test_the_lines_of_the_readme_and_the_pages_do_what_they_say(
    daemon: Running, tmp_path: Path
) -> None:
    lines = readme_lines("trace")
    assert lines == examples_of("ed-trace") + examples_of("ed-top")
    first, drawing, recording, *others = lines

    def start(line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["sh", "-c", f"exec {line}"],
            cwd=tmp_path,
            env=variables_of(
                tmp_path,
                PATH=f"{SCRIPTS}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                COMMUNICATOR_LISTEN=daemon.address,
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    # They are to end before their time.
    drawing = drawing.replace(" > ", " --count 2 > ")
    until_ended = [start(line) for line in (first, drawing, f"{recording} --count 6")]
    for _ in until_ended:
        daemon.program.wait_for("a trace begins")
    daemon.talk()
    assert until_ended[0].stdout is not None
    assert SAID in until_ended[0].stdout.readline()
    until_ended[0].terminate()
    for tool in until_ended:
        output_of(tool)
    assert "p0->>p1: TAKE" in (tmp_path / "stock.mmd").read_text("utf-8")
    from_file, live, once = map(start, others)
    assert "---TAKE" in output_of(from_file)[0]
    assert json.loads(output_of(once)[0])["daemon"]["server"] == "snap"
    assert live.stdout is not None
    assert live.stdout.readline().startswith("communicatord on snap")
    live.terminate()
    output_of(live)


# --- what is refused ------------------------------------------------------------------------------

Tool = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tool(capfd: pytest.CaptureFixture[str]) -> Tool:
    """Runs it in this process: gives the exit code, and both outputs."""

    def call(*words: str) -> tuple[int, str, str]:
        code = main(words)
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a/b/c"], "SERVER:SERVICE/COMMAND"),
        (["--json", "--mermaid"], "--json with --mermaid"),
        (["--diagram", "--mermaid"], "--diagram with --mermaid"),
        (["--from", "a", "--record", "b"], "--from with --record"),
        (["--from", "a", "--duration", "1s"], "--from with --duration"),
        (["--from", "no-such-file"], "No such file"),
        (["--communicator-listen", "off"], "expected the address"),
    ],
)
def test_bad_usage(tool: Tool, words: list[str], sentence: str) -> None:
    code, out, err = tool(*words)
    assert (code, out) == (2, "")
    assert err.startswith("ed-trace: ")
    assert sentence in err
    assert err.count("\n") == 1


def test_nobody_is_there(tmp_path: Path) -> None:
    done = run("ed-trace", "--communicator-listen", f"unix:{tmp_path}/none", folder=tmp_path)
    assert "none" in failed("ed-trace", done, 1)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("UNKNOWN command=TRACE_ON", "knows no TRACE_ON"),
        ('INVALID command=TRACE_ON;message="not you"', "not you"),
    ],
)
def test_a_daemon_that_does_not_show_anything(tool: Tool, answer: str, sentence: str) -> None:
    table = Dispatcher()
    table.on("TRACE_ON")(
        lambda message, peer: Message.parse(answer).with_parameters(serial=message["serial"])
    )
    with Ground(Communicator()) as ground:
        server = ground.serve(table)
        code, _, err = tool("--communicator-listen", str(server.addresses[0]))
    assert code == 1
    assert sentence in err


# --- recordings -----------------------------------------------------------------------------------


def test_a_recording_of_ed_listen_is_read(tool: Tool, tmp_path: Path) -> None:
    path = f"{tmp_path}/listen.jsonl"
    tcp = Source("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", 1)
    with Recorder(path) as recorder:
        recorder.write(tcp, "in", b"<snap:a b/ADD passw")
        recorder.write(tcp, "out", b"SUM value=4\n")
        recorder.write(tcp, "in", b"ord=x;a=1\n\nADD\nrest")
        recorder.write(Source("udp://127.0.0.1:1", "udp://127.0.0.1:2", 2), "in", b"STOP")
        recorder.write(Source("ed-trace", "communicatord", 3), "in", b"TRACE_MISSED count=4\n")
    code, out, err = tool("--from", path, "--time=none")
    assert (code, out.splitlines()) == (
        0,
        [
            "tcp://127.0.0.1:1 > tcp://127.0.0.1:2 SUM value=4",
            "snap:a > b ADD password=***;a=1",
            "tcp://127.0.0.1:2 > tcp://127.0.0.1:1 ADD",
            "udp://127.0.0.1:2 > udp://127.0.0.1:1 STOP",
            "--- 4 missed ---",
            "tcp://127.0.0.1:2 > tcp://127.0.0.1:1 rest",
        ],
    )
    assert err == "ed-trace: 4 of 9 messages were missed\n"
    code, out, _ = tool("--from", path, "--json", "--count", "2")
    assert [json.loads(line)["command"] for line in out.splitlines()] == ["SUM", "ADD"]
    assert (
        tool("--from", path, "--time=delta", "--no-values")[1]
        .splitlines()[1]
        .endswith(" snap:a > b ADD a=...;password=...")
    )


@pytest.mark.parametrize("began", [None, "yesterday", "2026-01-31T12:00:00"])
def test_a_recording_without_a_date(tool: Tool, tmp_path: Path, began: str | None) -> None:
    path = tmp_path / "file"
    path.write_text(json.dumps({"recording": "edgevent", "version": 1, "began": began}) + "\n")
    code, _, err = tool("--from", str(path))
    assert code == 2
    assert "expected a date" in err


def test_what_is_no_message_of_a_tap_is_left_out() -> None:
    assert read_traced(Message("HELP"), lambda: 5) is None
    assert read_traced(Message("TRACE_MISSED", {"count": 2}), lambda: 5) == Passed(5, missed=2)


def test_objects_of_gaps_and_of_what_is_cut() -> None:
    output = TraceOutput("json")
    (gap,) = output.add(Passed(0, missed=3))
    assert json.loads(gap) == {"time": "1970-01-01T00:00:00.000000Z", "missed": 3}
    (cut,) = output.add(Passed(0, "a", "b", 'b/SET x="begin', size=20_000))
    assert json.loads(cut)["text"] == 'b/SET x="begin'
    assert json.loads(cut)["bytes"] == 20_000
    assert TraceOutput("text", times="none").add(Passed(0, "a", "b", "b/SET x=1", size=9)) == [
        b"a > b SET x=1... (9 bytes)"
    ]


def test_gaps_are_recorded(tool: Tool, tmp_path: Path) -> None:
    path = f"{tmp_path}/trace.jsonl"
    with Recorder(path) as recorder:
        assert TraceOutput("diagram", recorder=recorder).add(Passed(0, missed=3)) == []
    assert tool("--from", path, "--time=none")[1] == "--- 3 missed ---\n"


def test_a_terminal_is_sent_no_escapes() -> None:
    output = TraceOutput("text", times="none", escape=True)
    assert output.add(Passed(0, "a", "b", "SET x=\x1b[2J")) == [b"a > b SET x=\\x1b[2J"]


# --- diagrams -------------------------------------------------------------------------------------


def drawn(*steps: Passed) -> tuple[list[str], list[str]]:
    """Both forms of a diagram."""
    diagram = Diagram()
    for step in steps:
        diagram.add(step)
    return list(diagram.text()), list(diagram.mermaid())


def test_a_diagram_of_what_has_passed() -> None:
    text, mermaid = drawn(
        Passed(1, "snap:till", "snap:stock", "stock/TAKE item=pen"),
        Passed(2, "snap:stock", "snap:till", "till/TAKEN"),
        Passed(3, missed=7),
        Passed(4, "snap:till", "snap:later", "later/NEWS", held=True),
        Passed(5, "snap:stock", "x#y;z", "A", lost="why"),
        Passed(6, "snap:stock", "snap:stock", "ECHO"),
    )
    assert text == [
        "snap:till  snap:stock   snap:later   x#y;z",
        "    |---TAKE--->|            |         |",
        "    |<--TAKEN---|            |         |",
        "    |           |            |         | 7 missed",
        "    |----------NEWS---------o|         |",
        "    |           |----------A----------x|",
        "    |           |<-ECHO-.    |         |",
    ]
    assert mermaid == [
        "sequenceDiagram",
        "    participant p0 as snap:till",
        "    participant p1 as snap:stock",
        "    participant p2 as snap:later",
        "    participant p3 as x#35;y#59;z",
        "    p0->>p1: TAKE",
        "    p1->>p0: TAKEN",
        "    Note over p0,p3: 7 missed",
        "    p0-)p2: NEWS",
        "    p1-xp3: A",
        "    p1->>p1: ECHO",
    ]


def test_a_long_command_has_room() -> None:
    text, _ = drawn(Passed(1, "a", "b", "X" * 100))
    assert text[1] == f"|--{'X' * 29}...->|"


def test_a_diagram_does_not_grow_without_end() -> None:
    text, mermaid = drawn(*[Passed(1, "a", "b", "NEWS")] * (MAX_STEPS + 5))
    assert len(text) == MAX_STEPS + 2
    assert text[-1] == "... and 5 more"
    assert mermaid[-1] == "    Note over p0,p1: and 5 more"
    text, _ = drawn(*[Passed(1, f"a{n}", f"b{n}", "NEWS") for n in range(MAX_PARTIES)])
    assert len(text) == 1 + MAX_PARTIES // 2 + 1


def test_a_diagram_of_nothing() -> None:
    assert drawn() == ([], ["sequenceDiagram"])
    assert drawn(Passed(1, missed=3)) == ([], ["sequenceDiagram"])
    text, mermaid = drawn(Passed(1, "a", "a", "NEWS"), Passed(2, missed=1))
    assert text == ["a", "|<-NEWS-.", "| 1 missed"]
    assert mermaid[-1] == "    Note over p0: 1 missed"
