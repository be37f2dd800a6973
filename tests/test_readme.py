"""README.md says what is true: its programs, commands, tables and links are compared or run."""

import doctest
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import Program, environment, terminate
from tls_ground import client_options, server_options

import edgevent
from edgevent import Client, Communicator, EdgeventError, limits
from edgevent.errors import NetworkError

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI_SCRIPT = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

# A fenced block and the HTML comment on the line right before it, if there is one.
BLOCK = re.compile(
    r"(?:^<!-- (?P<kind>\w+): (?P<name>\S+) -->\n)?^```(?P<language>\w*)\n"
    r"(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MARK = re.compile(r"^<!-- ", re.MULTILINE)
KINDS = {
    "file": "the block is that file, word for word",
    "command": "one of the two commands, which .ci/run runs as well",
    "beside": "shell lines that run beside that example, and print the block after them",
    "run": "shell lines that run by themselves",
    "test": "a test file of the reader's",
}


@dataclass(frozen=True)
class Block:
    """One fenced block, with its mark, such as ``<!-- file: path -->``."""

    kind: str
    name: str
    language: str
    text: str


def read_blocks(text: str) -> list[Block]:
    return [
        Block(found["kind"] or "", found["name"] or "", found["language"], found["text"])
        for found in BLOCK.finditer(text)
    ]


BLOCKS = read_blocks(README)
FILES = [block for block in BLOCKS if block.kind == "file"]
COMMANDS = {block.name: block.text for block in BLOCKS if block.kind == "command"}


def test_blocks_and_marks_are_read() -> None:
    text = "<!-- file: a.py -->\n```python\nx = 1\n```\n\n```sh\nls\n```\n"
    assert read_blocks(text) == [
        Block("file", "a.py", "python", "x = 1\n"),
        Block("", "", "sh", "ls\n"),
    ]


def test_every_mark_of_the_readme_stands_before_a_block() -> None:
    assert len(MARK.findall(README)) == len([block for block in BLOCKS if block.kind])


def test_the_first_program_is_the_hello_service() -> None:
    programs = [(block.kind, block.name) for block in BLOCKS if block.language == "python"]
    assert programs[:1] == [("file", "examples/hello_service.py")]


@pytest.mark.parametrize("block", FILES, ids=lambda block: block.name)
def test_a_program_of_the_readme_is_its_file_word_for_word(block: Block) -> None:
    assert block.text == (ROOT / block.name).read_text(encoding="utf-8")


def test_every_block_is_compared_or_run() -> None:
    for before, block in zip([None, *BLOCKS], BLOCKS, strict=False):
        if block.kind:
            assert block.kind in KINDS
        elif block.language == "text":
            assert before is not None
            assert before.kind == "beside"  # what the lines above print
        else:
            assert block.language in ("python", "pycon")


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language == "python" and not block.kind],
    ids=lambda block: block.text.splitlines()[0],
)
def test_a_program_that_is_no_file_runs(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(block.text, encoding="utf-8")
    with Program(path, folder=tmp_path) as program:
        assert program.end() == 0, program.printed
        assert "pings: listening on unix:debugged.sock" in program.printed
        assert "PING -> ping" in program.printed


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language == "pycon"],
    ids=lambda block: block.text.splitlines()[0],
)
def test_a_session_prints_what_it_shows(block: Block) -> None:
    session = doctest.DocTestParser().get_doctest(block.text, {}, "README.md", "README.md", 0)
    found = doctest.DocTestRunner().run(session)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "test"])
def test_the_readers_test_file_passes(block: Block, tmp_path: Path) -> None:
    (tmp_path / block.name).write_text(block.text, encoding="utf-8")
    for example in re.findall(r'"(\w+\.py)"', block.text):
        shutil.copy(ROOT / "examples" / example, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", block.name],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


# --- shell lines ----------------------------------------------------------------------------------


def pattern(text: str) -> re.Pattern[str]:
    """What a text block shows, in which ``...`` stands for anything on its line."""
    return re.compile(re.escape(text).replace(re.escape("..."), ".*"))


def test_the_lines_beside_the_hello_service_print_what_is_shown(
    tmp_path: Path, need_tool: Callable[..., str]
) -> None:
    netcat = need_tool("nc.openbsd", package="netcat-openbsd")
    number = [block.kind for block in BLOCKS].index("beside")
    block, shown = BLOCKS[number], BLOCKS[number + 1]
    assert shown.language == "text"
    addresses = ("tcp://127.0.0.1:0", "unix:hello.sock", "udp://127.0.0.1:0")
    with Program(ROOT / block.name, *addresses, folder=tmp_path) as service:
        tcp, _, udp = (service.listening_on().rpartition(":")[2] for _ in addresses)
        lines = block.text.replace("-u -w 1 127.0.0.1 3001", f"-u -w 1 127.0.0.1 {udp}")
        lines = lines.replace("127.0.0.1 3001", f"127.0.0.1 {tcp}")
        assert "3001" not in lines.replace(tcp, "").replace(udp, "")
        done = subprocess.run(
            ["bash", "-e", "-c", lines.replace("| nc ", f"| {shlex.quote(netcat)} ")],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        # A datagram has no newline, and nc adds none.
        assert pattern(shown.text).fullmatch(done.stdout + "\n"), done.stdout
        assert terminate(service) == 0


def test_the_lines_beside_the_fifo_service_print_what_is_shown(tmp_path: Path) -> None:
    number = [block.name for block in BLOCKS if block.kind != "file"].index(
        "examples/fifo_service.py"
    )
    block, shown = [block for block in BLOCKS if block.kind != "file"][number : number + 2]
    with Program(ROOT / block.name, folder=tmp_path) as service:
        service.listening_on()
        done = subprocess.run(
            ["sh", "-e", "-c", block.text],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert done.stdout == shown.text
        assert terminate(service) == 0


def test_the_lines_of_the_benchmarks_run() -> None:
    lines = next(block.text for block in BLOCKS if block.name == "bench").splitlines()
    for line in lines:
        assert line.startswith(".venv-test/bin/python -m tests.bench")
        words = [sys.executable, *shlex.split(line)[1:]]
        if len(words) > 3:
            words += ["--size=0.01", "--pin=no"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stderr
        assert "request" in done.stdout


def test_the_lines_that_check_definitions_run(tmp_path: Path) -> None:
    block = next(block for block in BLOCKS if block.name == "verify")
    for line in block.text.splitlines():
        program, *words = shlex.split(line)
        script = ROOT / "scripts" / Path(program).name
        done = subprocess.run(
            [sys.executable, script, *words],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        assert "serial: string, optional" in done.stdout


def test_the_lines_that_make_keys_run(tmp_path: Path) -> None:
    block = next(block for block in BLOCKS if block.name == "keys")
    printed = ""
    for line in block.text.splitlines():
        program, *words = shlex.split(line)
        done = subprocess.run(
            [sys.executable, ROOT / "scripts" / Path(program).name, *words],
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    assert "keys/client.crt: alice; valid until" in printed
    assert "names: localhost, 127.0.0.1, ::1" in printed


def test_the_lines_that_check_certificates_run(tmp_path: Path) -> None:
    block = next(block for block in BLOCKS if block.name == "check")
    variables = {**environment(tmp_path), "SSL_CERT_FILE": "keys/ca.crt"}

    def run(program: str, *words: str) -> str:
        command = [sys.executable, ROOT / "scripts" / program, *words]
        settings = {"cwd": tmp_path, "env": variables, "text": True, "timeout": 30}
        done = subprocess.run(command, capture_output=True, **settings)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    for words in (["ca"], ["server", "localhost", "127.0.0.1", "www.example.com"]):
        run("ed-keys", *words)
    server = ROOT / "examples" / "tls_server.py"
    with Program(server, "tls://127.0.0.1:0", folder=tmp_path) as service:
        there = "127.0.0.1:" + service.listening_on().rpartition(":")[2]
        first, second = block.text.splitlines()
        assert first.endswith(" www.example.com")  # its name is checked, in place of a look-up
        first = first.replace("www.example.com", f"--server-name www.example.com {there}")
        second = second.replace("localhost:3002", there)
        lines = map(shlex.split, (first, second))
        shown = [run(Path(program).name, *words) for program, *words in lines]
        assert f"domain: {there}\n" in shown[0]
        assert shown[1].count(": valid until ") == 2
        assert terminate(service) == 0


# --- tables and links -----------------------------------------------------------------------------


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def names(text: str) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"`([^`]+)`", text)


def in_words(value: float) -> str:
    """A limit as the table writes it."""
    if isinstance(value, float):
        return f"{value:g} s"
    for size, unit in ((2**20, "MiB"), (2**10, "KiB")):
        if value >= size and value % size == 0:
            return f"{value // size} {unit}"
    return f"{value:,}"


def test_the_limits_are_those_of_the_code() -> None:
    found = {names(cells[0])[0]: cells[1] for cells in rows("Limits")}
    assert len(found) >= 15
    for name, shown in found.items():
        value = getattr(limits, name)
        assert shown in (in_words(value), f"{value:,}"), name


def test_every_error_is_in_the_table() -> None:
    found = [name for cells in rows("Errors") for name in names(cells[0])]
    assert len(found) == len(set(found))
    errors = {
        name
        for name, value in vars(edgevent).items()
        if isinstance(value, type) and issubclass(value, EdgeventError)
    }
    assert set(found) == errors - {"EdgeventError", "NetworkError"}
    assert issubclass(NetworkError, OSError)
    for name in ("RequestTimeout", "ReceiveTimeout", "DeadlineError", "ConnectTimeoutError"):
        assert issubclass(getattr(edgevent, name), TimeoutError)


ADDRESSES = [(address, cells[2]) for cells in rows("Addresses") for address in names(cells[0])]


@pytest.mark.parametrize(("address", "server"), ADDRESSES)
def test_an_address_works(
    address: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = address.replace("/run", str(tmp_path)).replace(":3001", ":0")
    place = place.replace("@", f"@{os.getpid()}-")
    # Not every machine has IPv6.
    place = place.replace("//host:", "//localhost:").replace("[::1]", "127.0.0.1")
    if not server:
        one, other = socket.socketpair()
        with other, Client(place.replace("0", str(one.detach()))) as client:
            client.send(edgevent.Message("ALIVE"))
            assert other.recv(100) == b"ALIVE\n"
        return
    serve = getattr(edgevent, server.strip("`"))
    theirs = {"tls": server_options()} if place.startswith("tls") else {}
    ours = {"tls": client_options()} if theirs else {}
    with Communicator() as communicator:
        found = communicator.add_connection(serve(place, **theirs))
        there = edgevent.Address.parse(found.addresses[0])
        if there.second_path:  # the other side swaps them
            there = edgevent.Address.parse(f"fifo:{there.second_path},{there.path}")
        with Client(there, **ours) as client:
            if there.scheme == "fifo" and not there.second_path:
                client.send(edgevent.Message("ALIVE"))  # one way: there is no answer
                return
            assert client.request(edgevent.Message("ALIVE")).command == "ABSOLUTELY"


def test_the_names_are_there_or_come_later() -> None:
    later = set()
    for cells in rows("Names for those who come from C++"):
        come_later = re.findall(r"\*`(\w+)", cells[1])
        later.update(come_later)
        for name in names(cells[1]):
            word = re.match(r"\w+", name)
            assert word is not None
            if name != "x":
                assert (word[0] in come_later) != hasattr(edgevent, word[0]), name
    assert later == set()


def test_what_the_text_names_exists() -> None:
    text = BLOCK.sub("", README)
    titles = re.findall(r"^##+ (.*)$", text, re.MULTILINE)
    # What pages that show Markdown make of a title.
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors
    for path in re.findall(r"(?<![\w/.])(?:examples|edgevent|tests)/[\w/.]+\w/?", text):
        assert (ROOT / path).exists(), path


# --- the two commands -----------------------------------------------------------------------------


def test_the_readme_opens_with_the_two_commands() -> None:
    assert list(COMMANDS) == ["quickstart", "tests"]
    for text in COMMANDS.values():
        assert text.count("\n") == 1
        assert text.startswith("python3 -m venv ")
    assert "examples/quickstart.py" in COMMANDS["quickstart"]
    assert "-m pytest\n" in COMMANDS["tests"]


@pytest.mark.parametrize("name", ["quickstart", "tests"])
def test_ci_runs_the_commands_of_the_readme(name: str) -> None:
    printed = subprocess.run(
        ["bash", ".ci/run", "--print", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert printed == COMMANDS[name]
    assert f'{name}="$(readme_command {name})"\n' in CI_SCRIPT
    assert re.search(rf'^(PYTEST_ADDOPTS="[^"]*" )?bash -c "\${name}"$', CI_SCRIPT, re.MULTILINE)


def test_ci_refuses_a_command_that_the_readme_lacks() -> None:
    done = subprocess.run(
        ["bash", ".ci/run", "--print", "nothing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "no one-line block" in done.stderr
