"""ed-shell: on a real terminal with both line editors, from a pipe, and its parts."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import pty
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from network_ground import PATIENCE
from running import EXAMPLES, ROOT, Program
from tls_ground import authority, server_pair
from tool_ground import check_man_page, cpu_seconds, variables_of, words_of

from edgevent import Definitions, Message, MessageError
from edgevent.tools.ed_shell import main
from edgevent.tools.shell_history import MAX_LINES, History, history_path
from edgevent.tools.shell_input import Completer, read_message
from edgevent.tools.shell_terminal import ReadlineTerminal

COMMANDS = (
    "ADD,ALIVE,HELP,INVALID,LEAK,LOG_ROTATE,QUITTING,READY,RESTART,SERVICE_UNAVAILABLE,STOP,UNKNOWN"
)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A plain socket that listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(PATIENCE)
        yield sock


def address_of(sock: socket.socket) -> str:
    return f"tcp://127.0.0.1:{sock.getsockname()[1]}"


class Service:
    """The service, played by the test."""

    def __init__(self, listener: socket.socket) -> None:
        self.sock, _ = listener.accept()
        self.sock.settimeout(PATIENCE)
        self._file = self.sock.makefile("rb")

    def receive(self) -> str:
        """The next line."""
        return self._file.readline().decode().removesuffix("\n")

    def send(self, text: str) -> None:
        self.sock.sendall(f"{text}\n".encode())

    def close(self) -> None:
        self._file.close()
        self.sock.close()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- on a terminal --------------------------------------------------------------------------------

CONTROL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Shell:
    """The tool on a terminal of its own, 24 rows of 80 columns."""

    def __init__(self, folder: Path, *words: str, **variables: str) -> None:
        self._fd, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.modes = termios.tcgetattr(terminal)
        self._terminal = terminal
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONTROL, *words_of("ed-shell", *words)],
            cwd=folder,
            env=variables_of(
                folder,
                **{
                    "TERM": "xterm",
                    "PROMPT_TOOLKIT_NO_CPR": "1",
                    "XDG_STATE_HOME": "",
                    **variables,
                },
            ),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, text: str) -> None:
        """Reads on until the terminal was sent a text; control sequences do not count."""
        end = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} was never shown, but {self.shown!r}"
            self._read(PATIENCE)
        self.shown = self.shown.partition(text)[2]

    def wait_until_editing(self) -> None:
        """Waits for the line editor: before it, control characters are for the terminal itself."""
        end = time.monotonic() + PATIENCE
        while termios.tcgetattr(self._terminal)[3] & termios.ICANON:
            assert time.monotonic() < end, f"no line is edited, but {self.shown!r}"
            self._read(0.01)

    def wait_until_idle(self) -> None:
        """Waits until the main thread sleeps: Python misses a signal right before it does."""
        end = time.monotonic() + PATIENCE
        status = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/stat")
        while status.read_text("utf-8").rpartition(")")[2].split()[0] != "S":
            assert time.monotonic() < end, "it is never idle"
            self._read(0.01)

    def _read(self, timeout: float) -> None:
        if select.select([self._fd], [], [], timeout)[0]:
            data = os.read(self._fd, 65536).decode("utf-8", "replace")
            self.shown += re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[78DM=>])|\x07", "", data)

    def end(self, text: str = "") -> int:
        """Types the last thing, and waits for the end; the modes of the terminal are as before."""
        self.type(text)
        code = self.process.wait(PATIENCE)
        assert termios.tcgetattr(self._terminal) == self.modes
        return code

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._read(0.1)
            print(f"{self.shown!r}")
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)
        os.close(self._fd)


has_prompt_toolkit = importlib.util.find_spec("prompt_toolkit") is not None
editors = pytest.mark.parametrize(
    "editor",
    [
        "--plain",
        pytest.param(
            "--timeout=5s",  # which changes nothing: prompt_toolkit is taken when it is there
            marks=pytest.mark.skipif(not has_prompt_toolkit, reason="needs prompt_toolkit"),
            id="prompt_toolkit",
        ),
    ],
)


@editors
def test_a_conversation(tmp_path: Path, listener: socket.socket, editor: str) -> None:
    there = address_of(listener)
    with Shell(tmp_path, editor, there) as shell:
        with Service(listener) as service:
            assert service.receive() == "HELP serial=ed_shell_help"
            service.send("COMMANDS list=MULTIPLY,ALIVE,ADD;serial=ed_shell_help")
            service.send("HI")  # behind the answer to its own question, which is not shown
            shell.wait_for(f"-- connected to {there}")
            shell.wait_for("HI")
            shell.type("/commands\r")
            shell.wait_for("-- ADD ALIVE MULTIPLY")
            shell.type("READY\r")
            assert service.receive() == "READY"
            shell.wait_until_editing()
            for typed, echo in (("MUL", "MUL"), ("\t", "TIPLY"), ("a=2", "a=2")):
                shell.type(typed)
                shell.wait_for(echo)
            service.send('NEWS text="while it; is typed"')
            shell.wait_for('NEWS text="while it; is typed"')
            shell.type("0;b=1\r")
            assert service.receive() == "MULTIPLY a=20;b=1"
            service.send("PRODUCT value=20\x1b[31m")
            shell.wait_for("PRODUCT value=20\\x1b[31m")
            # It is a peer like others, but obeys nobody.
            service.send("STOP")
            shell.wait_for("STOP")
            service.send("ALIVE serial=7")
            assert service.receive().startswith("ABSOLUTELY reply_timestamp=")
            shell.type("/service sums\r")
            shell.wait_for("sums>")
            shell.type("/json on\radd a=1\r/josn\r/service a-b\r/wait\r/json x\r/wait X soon\r")
            for text in (
                "did you mean ADD?",
                "/josn: there is no such command; did you mean /json?",
                "service 'a-b': expected letters, digits and underscores",
                "expected /wait COMMAND [DURATION]",
                "'x': expected on or off",
                "duration 'soon'",
            ):
                shell.wait_for(text)
            shell.type("HELP\r")
            assert service.receive() == "sums/HELP"
            service.send("COMMANDS list=X")
            shell.wait_for('{"command":"COMMANDS","parameters":{"list":"X"}}')
            shell.type("/wait READY\r")
            service.send("READY")
            shell.wait_for('{"command":"READY"}')
        shell.wait_for(f"-- lost the connection to {there}; it is dialled again")
        shell.type("STOP\r")
        shell.wait_for(f"-- not connected to {there}")
        with Service(listener) as service:
            shell.wait_for(f"-- connected to {there}")
            assert service.receive() == "sums/HELP serial=ed_shell_help"
            shell.type("/service\r/server\r/time\rREADY\r")
            assert service.receive() == "READY"
            shell.wait_until_editing()
            shell.type("PI")
            shell.wait_for("PI")
            shell.wait_until_idle()
            shell.type("\x03")  # Ctrl-C gives the line up
            shell.wait_for(">")
            shell.type("STOP\r")
            assert service.receive() == "STOP"
            service.send("BYE")
            shell.wait_for('{"command":"BYE"}')
            shell.wait_until_editing()
            assert shell.end("\x04") == 0  # Ctrl-D
            assert service.receive() == ""


@editors
def test_the_history(tmp_path: Path, listener: socket.socket, editor: str) -> None:
    there = address_of(listener)
    with Shell(tmp_path, editor, there) as shell, Service(listener) as service:
        service.receive()
        shell.wait_until_editing()
        for line in ("FIRST", "SECOND", "SECOND", " HIDDEN", "THIRD secret_code=x"):
            shell.type(f"{line}\r")
            assert service.receive() == line.strip()
        assert shell.end("/quit\r") == 0
    path = tmp_path / ".local/state/edgevent/ed-shell_history"
    assert path.read_text(encoding="utf-8") == "FIRST\nSECOND\n/quit\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Shell(tmp_path, editor, there) as shell, Service(listener) as service:
        service.receive()
        shell.wait_until_editing()
        shell.type("\x1b[A\x1b[A\r")
        assert service.receive() == "SECOND"
        shell.wait_until_editing()
        shell.wait_until_idle()
        shell.process.send_signal(signal.SIGTERM)
        assert shell.end() == -signal.SIGTERM
    path.unlink()
    path.mkdir()
    with Shell(tmp_path, editor, there) as shell, Service(listener) as service:
        service.receive()
        shell.type("FOURTH\r")
        shell.wait_for("ed-shell_history: Is a directory: what is typed is not kept")
        assert service.receive() == "FOURTH"
        assert shell.end("/quit\r") == 0


def test_a_service_that_comes_later(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(PATIENCE)
        there = address_of(listener)
        with Shell(tmp_path, "--plain", "--no-history", there, TERM="dumb") as shell:
            shell.wait_for(f"-- cannot connect to {there}: Connection refused; it is tried again")
            listener.listen()
            with Service(listener) as service:
                service.receive()
                service.send("UNKNOWN command=HELP")  # of a service without it: is not shown
                shell.wait_for(f"-- connected to {there}")
                shell.type("/commands\r")
                shell.wait_for("-- HELP has told no commands yet")
                assert "UNKNOWN" not in shell.shown
                service.send("UNKNOWN command=HELP")
                shell.wait_for("UNKNOWN command=HELP")
                service.send("no message")
                shell.wait_for("dropped a malformed line")
                shell.type("/help\r")
                shell.wait_for("-- all else is a message")
                assert shell.end("/quit\r") == 0
    assert not (tmp_path / ".local").exists()


class Screen:
    """A terminal of a few rows, with what the shell uses (ECMA-48, and DEC's save and restore)."""

    def __init__(self, rows: int, columns: int) -> None:
        self.cells = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.saved = (0, 0)

    def write(self, text: str) -> None:
        for sequence, one in re.findall(r"(\x1b\[\d*[A-Z]|\x1b.)|(.)", text, re.DOTALL):
            if sequence[:2] == "\x1b[":
                self._control(sequence[-1], int(sequence[2:-1] or 1))
            elif sequence == "\x1bD" or one == "\n":  # the line discipline adds the return
                self.column = 0 if one else self.column
                self._down()
            elif sequence == "\x1b7":
                self.saved = (self.row, self.column)
            elif sequence == "\x1b8":
                self.row, self.column = self.saved
            elif one == "\r":
                self.column = 0
            else:
                assert one, sequence
                if self.column == len(self.cells[0]):
                    self.column = 0
                    self._down()
                self.cells[self.row][self.column] = one
                self.column += 1

    def _control(self, kind: str, count: int) -> None:
        if kind == "L":
            for _ in range(count):
                self.cells.insert(self.row, [" "] * len(self.cells[0]))
                self.cells.pop()
            return
        assert kind in "AB"
        self.row += count if kind == "B" else -count
        assert 0 <= self.row < len(self.cells)

    def _down(self) -> None:
        if self.row == len(self.cells) - 1:
            self.cells.append([" "] * len(self.cells[0]))
            self.cells.pop(0)
        else:
            self.row += 1

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.cells]


class Edited:
    """A readline that is editing a line."""

    def __init__(self, text: str) -> None:
        self.get_line_buffer = lambda: text


@pytest.mark.parametrize("first", [0, 3, 7])
@pytest.mark.parametrize("typed", ["", "ADD a=2", "A" * 19])
@pytest.mark.parametrize("text", ["SUM value=42", "NEWS " + "x" * 30, "漢" * 10, "e\u0301" * 20])
def test_what_comes_stands_above_the_line_that_is_edited(
    monkeypatch: pytest.MonkeyPatch, first: int, typed: str, text: str
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "8")
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(8, 20)
    screen.write("\n" * first + "> " + typed)
    column = screen.column
    terminal = ReadlineTerminal(History(Path("none")), Completer(Definitions(), ()))
    monkeypatch.setattr(terminal, "_readline", Edited(typed))
    shown = text.replace("漢", "Kk").replace("\u0301", "")  # a cell of the screen is one column
    screen.write(terminal._around(text, "> ").replace(text, shown))
    lines = [line for line in screen.lines if line]
    edited = [f"> {typed}"[at : at + 20].rstrip() for at in range(0, len(f"> {typed}"), 20)]
    rows = [shown[at : at + 20] for at in range(0, len(shown), 20)]
    assert lines == [*rows, *edited]
    assert screen.column == column  # where readline left it
    assert screen.lines[screen.row] == edited[-1]


def test_without_a_clever_terminal_the_line_is_drawn_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = ReadlineTerminal(History(Path("none")), Completer(Definitions(), ()))
    monkeypatch.setattr(terminal, "_readline", Edited("ADD"))
    assert terminal._around("SUM", "> ") == "\r\nSUM\n> ADD"


# --- from a pipe ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The hello service."""
    folder = tmp_path_factory.mktemp("service")
    addresses = ("tcp://127.0.0.1:0", "unix:hello.sock", "udp://127.0.0.1:0", "tls://127.0.0.1:0")
    server_pair().write(folder / "keys", "server")
    (folder / "ca.crt").write_bytes(authority().certificate_pem)
    with Program(EXAMPLES / "hello_service.py", *addresses, folder=folder, limit=600) as program:
        tcp, _, udp, tls = (program.listening_on() for _ in addresses)
        yield {"tcp": tcp, "udp": udp, "tls": tls, "folder": str(folder)}


def piped(folder: Path, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words_of("ed-shell", *words),
        cwd=folder,
        env=variables_of(folder),
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    "words", [["{tcp}"], ["unix:hello.sock"], ["{udp}"], ["--ca", "ca.crt", "{tls}"]]
)
def test_each_line_is_answered(service: dict[str, str], words: list[str]) -> None:
    found = [word.format(**service) for word in words]
    text = "# sums\nADD a=2;b=3\n\nADD a=20;b=3\n/json\nHELP"
    done = piped(Path(service["folder"]), text, *found)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "SUM value=5",
        "SUM value=23",
        json.dumps(
            {"command": "COMMANDS", "parameters": {"list": COMMANDS}}, separators=(",", ":")
        ),
    ]


def test_a_refusal_or_a_bad_line_ends_with_1(service: dict[str, str]) -> None:
    text = f"FOO\nadd a=1\nADD a=1;b=2\nX x={'x' * 70_000}\n"
    done = piped(Path(service["folder"]), text, service["tcp"])
    assert done.returncode == 1
    assert done.stdout == "UNKNOWN command=FOO\nSUM value=3\n"
    second, fourth = done.stderr.splitlines()
    assert second.startswith("ed-shell: line 2: 'add' is no command")
    assert fourth.startswith("ed-shell: line 4: X: ")


def test_lines_need_not_be_answered(service: dict[str, str]) -> None:
    text = "ADD a=1;b=2\n/wait SUM\nADD a=1;b=3\n/wait SUM 20s\n/quit\nFOO\n"
    done = piped(Path(service["folder"]), text, "--wait", "0", "--time", service["tcp"])
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["SUM value=3", "SUM value=4"]
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} SUM value=3", lines[0])


def test_what_was_sent_last_leaves(tmp_path: Path, listener: socket.socket) -> None:
    with subprocess.Popen(
        words_of("ed-shell", "--wait", "0", address_of(listener)),
        env=variables_of(tmp_path),
        stdin=subprocess.PIPE,
        text=True,
    ) as tool:
        assert tool.stdin is not None
        tool.stdin.write("".join(f"N n={n}\n" for n in range(100)))
        tool.stdin.close()
        with Service(listener) as peer:
            assert [peer.receive() for _ in range(101)] == [*(f"N n={n}" for n in range(100)), ""]
    assert tool.returncode == 0


@pytest.mark.parametrize(
    ("answer", "line", "code", "said"),
    [
        (b"", "ASK", 1, "the connection ended before an answer came"),
        (b"", "STOP", 0, ""),
        (None, "ASK", 1, "no answer within 0.1 s"),
    ],
)
def test_no_answer(
    tmp_path: Path,
    listener: socket.socket,
    answer: bytes | None,
    line: str,
    code: int,
    said: str,
) -> None:
    words = words_of("ed-shell", "--wait", "0.1s" if answer is None else "30s")
    with subprocess.Popen(
        [*words, address_of(listener)],
        env=variables_of(tmp_path),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as tool:
        assert tool.stdin is not None
        tool.stdin.write(f"{line}\n")
        tool.stdin.flush()
        with Service(listener) as peer:
            assert peer.receive() == line
            if answer is not None:
                peer.close()
            _, errors = tool.communicate(timeout=PATIENCE)
    assert tool.returncode == code
    assert errors == (f"ed-shell: line 1: {said}\n" if said else "")


def test_nobody_is_there(tmp_path: Path) -> None:
    done = piped(tmp_path, "STOP\n", "unix:none.sock")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ed-shell: unix:none.sock: No such file or directory\n"


def test_nobody_reads_what_is_printed(service: dict[str, str]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            words_of("ed-shell", service["tcp"]),
            env=variables_of(Path(service["folder"])),
            input="ADD a=1;b=2\nADD a=1;b=3\n",
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "ed-shell: standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "required: ADDRESS"),
        (["tcp://h:x"], "port 'x'"),
        (["fd:3"], "an address of scheme"),
        (["--jsn", "h"], "did you mean '--json'?"),
        (["--ca", "none.crt", "tls://127.0.0.1"], "none.crt: No such file"),
        (["--auth-key-file", "none.key", "udp://127.0.0.1"], "none.key': No such file"),
        (["--wait", "soon", "h"], "duration 'soon'"),
    ],
)
def test_bad_usage_ends_with_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    try:
        code = main(words)
    except SystemExit as ended:
        code = int(str(ended.code))
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (2, "", 1), said.err
    assert said.err.startswith("ed-shell: ")
    assert sentence in said.err


def test_it_is_quick(tmp_path: Path) -> None:
    assert min(cpu_seconds("ed-shell", "unix:none.sock", folder=tmp_path) for _ in range(3)) < 0.4


def test_the_manual_page_has_each_option(tmp_path: Path) -> None:
    check_man_page("ed-shell", tmp_path)


# --- completion -----------------------------------------------------------------------------------


@pytest.fixture
def completer(tmp_path: Path) -> Completer:
    """It knows three commands, and the parameters of one that is not built in."""
    (tmp_path / "ADD.conf").write_text(
        "[a]\ntype=integer\n[b]\ntype=string\n[old]\nflags=forbidden\n"
    )
    (tmp_path / "BAD.conf").write_text("[a\n")
    found = Completer(Definitions([tmp_path]), ["/json", "/wait", "/help"])
    found.learn(["STOP", "ADD", "ALIVE", "", "BAD"])
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["ADD ", "ALIVE ", "BAD ", "STOP "]),
        ("A", ["ADD ", "ALIVE "]),
        ("al", ["ALIVE "]),
        ("X", []),
        ("sums/A", ["sums/ADD ", "sums/ALIVE "]),
        ("<a:b sums/S", ["sums/STOP "]),
        ("<a:b ADD a=2;", ["b="]),
        ("ADD ", ["a=", "b="]),
        ("sums/ADD b=2;", ["a="]),
        ("ADD a=", []),
        ("ALIVE ", ["serial=", "timestamp="]),
        ("ALIVE t", ["timestamp="]),
        ("BAD ", []),
        ("STOP ", []),
        ("/", ["/help", "/json", "/wait"]),
        ("/w", ["/wait"]),
        ("/wait A", ["ADD", "ALIVE"]),
        ("/wait ADD ", []),
        ("/json o", []),
    ],
)
def test_completion(completer: Completer, text: str, found: list[str]) -> None:
    begin, offered = completer.complete(text)
    assert offered == found
    assert begin == max(text.rfind(" "), text.rfind(";")) + 1


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("STOP", "alpha:sums/STOP"),
        ("other/STOP", "other/STOP"),
        ("<a:b ADD a=1", "<a:b alpha:sums/ADD a=1"),
        ('{"command":"STOP"}', "alpha:sums/STOP"),
    ],
)
def test_messages_are_for_the_service_that_was_chosen(line: str, sent: str) -> None:
    assert str(read_message(line, server="alpha", service="sums")) == sent


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("stop", "STOP"),
        ("<a:b x:sums/add a=1", "<a:b x:sums/ADD"),
        ("STOP  a", ""),
        ("stop a", ""),
    ],
)
def test_a_command_in_lower_case_is_recognized(line: str, hint: str) -> None:
    with pytest.raises(MessageError) as raised:
        read_message(line)
    assert str(raised.value).partition("; did you mean ")[2].removesuffix("?") == hint


# --- the history ----------------------------------------------------------------------------------


def test_a_long_history_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("".join(f"LINE n={n}\n" for n in range(3 * MAX_LINES)), encoding="utf-8")
    path.chmod(0o644)
    history = History(path)
    history.load()
    assert history.lines == [f"LINE n={n}" for n in range(2 * MAX_LINES, 3 * MAX_LINES)]
    assert path.read_text(encoding="utf-8").splitlines() == history.lines
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["history"]


def test_a_history_that_is_a_link_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "history").symlink_to("elsewhere")
    history = History(tmp_path / "history")
    history.load()
    with pytest.raises(OSError, match="symbolic links"):
        history.add("STOP")
    assert history.lines == ["STOP"]


@pytest.mark.parametrize(
    ("state", "path"),
    [
        ("/state", "/state/edgevent/x_history"),
        ("relative", "{home}/.local/state/edgevent/x_history"),
    ],
)
def test_where_the_history_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, path: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", state)
    assert str(history_path("x")) == path.format(home=tmp_path)


# --- edgevent-message(7) --------------------------------------------------------------------------

PAGE = ROOT / "scripts" / "man" / "edgevent-message.7"


def page_examples(heading: str) -> list[str]:
    """The lines of the examples below a heading, as a terminal shows them."""
    text = PAGE.read_text(encoding="utf-8").partition(".SH EXAMPLES")[2].partition(heading)[2]
    lines = text.partition(".RS\n")[2].partition(".RE\n")[0].splitlines()
    return [line.removeprefix("\\&").replace("\\e", "\\").replace("\\-", "-") for line in lines]


def test_the_messages_of_the_page_are_messages() -> None:
    lines = page_examples("Messages:")
    assert len(lines) > 10
    for line in lines:
        message = Message.parse(line)
        assert str(message) == line or line.startswith("{")
    assert Message.parse(lines[7])["text"] == 'two lines:\n"quoted"'
    assert Message.parse(lines[8])["text"] == 'one; and "two"'
    assert Message.parse(lines[9])["path"] == r"C:\new"
    assert str(Message.parse(lines[-1])) == "sums/ADD a=2;b=40"


@pytest.mark.parametrize("line", page_examples("No messages:"))
def test_what_the_page_calls_no_message_is_none(line: str) -> None:
    with pytest.raises(MessageError):
        Message.parse(line)


def test_the_page_is_installed() -> None:
    assert "    scripts/man/edgevent-message.7\n" in (ROOT / "setup.cfg").read_text("utf-8")
