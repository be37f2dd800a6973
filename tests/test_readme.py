"""README.md says what is true: its programs are the examples, its commands those of .ci/run."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI_SCRIPT = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

# A fenced block and the HTML comment on the line right before it, if there is one.
BLOCK = re.compile(
    r"(?:^<!-- (?P<kind>file|command): (?P<name>\S+) -->\n)?^```(?P<language>\w*)\n"
    r"(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MARK = re.compile(r"^<!-- (?:file|command): ", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block, with its mark: ``<!-- file: path -->`` or ``<!-- command: name -->``."""

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


def test_python_outside_the_files_can_at_least_be_read() -> None:
    for block in BLOCKS:
        if block.language == "python":
            compile(block.text, "README.md", "exec")


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
