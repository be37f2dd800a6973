"""The README's first command runs examples/quickstart.py: it is right, and notices what is not."""

import signal
from pathlib import Path

import pytest
from running import EXAMPLES, Program, unmeasured

QUICKSTART = EXAMPLES / "quickstart.py"
SERVICE = EXAMPLES / "hello_service.py"


def broken(folder: Path, right: str, wrong: str) -> str:
    """Writes a hello service with a mistake in it."""
    text = SERVICE.read_text(encoding="utf-8")
    assert right in text
    path = folder / "broken_service.py"
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    return str(path)


def test_it_prints_the_conversation_and_leaves_nothing_behind(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with Program(QUICKSTART, folder=tmp_path, TMPDIR=str(temporary)) as program:
        # end() reads up to the end of the output, which the service shares: it is gone as well.
        assert program.end() == 0
        assert program.printed.splitlines() == [
            f"{who} over {where} {what}"
            for where in ("TCP", "TLS", "Unix", "UDP")
            for who, a, b in (("permanent link", 1, 2), ("blocking client", 20, 22))
            if (who, where) != ("permanent link", "UDP")  # datagrams have no links
            for what in (f"asks: ADD a={a};b={b}", f"gets: SUM value={a + b}")
        ]
    assert list(temporary.iterdir()) == []


def waiting(folder: Path) -> str:
    """Writes a hello service that answers once the file ``go`` is in this folder, not its own."""
    go = f"while not os.path.exists('{folder}/go'): gevent.sleep(0.01)"
    loop = f"import gevent, os\n    {go}\n    return"
    return broken(folder, "return", loop)


def test_the_conversation_is_printed_as_it_happens(tmp_path: Path) -> None:
    with Program(QUICKSTART, waiting(tmp_path), folder=tmp_path) as program:
        program.wait_for("permanent link over TCP asks: ADD a=1;b=2")
        assert "gets" not in program.printed
        (tmp_path / "go").touch()
        assert program.end() == 0


def test_an_interrupt_ends_the_service_too(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    service = waiting(tmp_path)
    variables = {"TMPDIR": str(temporary), **unmeasured()}
    with Program(QUICKSTART, service, folder=tmp_path, **variables) as program:
        program.wait_for("asks")
        program.process.send_signal(signal.SIGINT)
        (tmp_path / "go").touch()
        assert program.end() != 0
        assert "KeyboardInterrupt" in program.printed
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("a + b}", "a + b + (peer.address[:3] == 'uni')}"),  # one wrong answer of seven
        ("a + b}", "a * b}"),
        ('"value"', '"other"'),
        ('service.on("ADD")', 'service.on("MULTIPLY")'),
        ("return message", "sys.exit(3)  # message"),
        ("communicator.run()", "communicator.run(); sys.exit(3)"),
        ('"ADD"', "None("),  # it does not even start
    ],
)
def test_it_fails_when_an_answer_is_not_right(tmp_path: Path, right: str, wrong: str) -> None:
    with Program(QUICKSTART, broken(tmp_path, right, wrong), folder=tmp_path) as program:
        assert program.end() == 1, program.printed
