"""Records whose attributes are odd: what can be told of them is told, and nothing is raised."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from log_ground import LogDaemon, fields_of
from log_server_ground import Kept, LogServer, arrive, logger_to, until_seen
from network_ground import Ground

from edgevent.log_journal import KEPT, JournalHandler
from edgevent.log_text import STANDARD_FORMAT, LineFormatter
from edgevent.snaplogger.collected import read_fields
from edgevent.snaplogger.handlers import AlertLogHandler, TcpLogHandler
from edgevent.snaplogger.network_handler import NetworkLogHandler

AWAY = "unix:/nonexistent/log.sock"


class Textless:
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class TextlessError(Exception):
    """Neither can this."""

    def __str__(self) -> str:
        raise TextlessError


class Failing:
    """Raises it."""

    def __str__(self) -> str:
        raise TextlessError


ERROR = ValueError("the cause")


def odd(leave_out: str = "", **values: Any) -> logging.LogRecord:
    """A record as another program may have made it."""
    usual = {"msg": "text", "name": "a", "levelno": 20, "levelname": "INFO", "pathname": "/a.py"}
    record = logging.makeLogRecord({**usual, **values})
    if leave_out:
        delattr(record, leave_out)
    return record


@pytest.fixture
def handler(server: LogServer) -> Iterator[NetworkLogHandler]:
    found = TcpLogHandler(server.address, close_timeout=0.0, complain=print)
    yield found
    found.close()


@pytest.fixture
def server(ground: Ground, tmp_path: Path) -> LogServer:
    return LogServer(ground, f"unix:{tmp_path}/log")


TOLD = [
    (odd(name=None), {"message": "text", "fields": "id:{},logger"}),
    (odd(name=["a"]), {"fields": "id:{},logger:['a']"}),
    (odd("name"), {"fields": "id:{},logger"}),
    (odd(levelno=None), {"severity": "information"}),
    (odd(levelno="30"), {"severity": "warning"}),
    (odd("levelno", levelname="WARNING"), {"severity": "warning"}),
    (odd("levelno", levelname="of mine"), {"severity": "error"}),
    (odd(levelno=float("inf")), {"severity": "off"}),
    (odd(levelno="inf"), {"severity": "information"}),
    (odd("levelname"), {"severity": "information"}),
    (odd(msg="%d", args=("b",)), {"message": "'%d' of /a.py:0 cannot be formatted: %d format: a"}),
    (odd(msg="%s", args=(Failing(),)), {"message": "'%s' of /a.py:0 cannot be formatted: <Textl"}),
    (
        odd(msg=Textless()),
        {"message": "'<Textless without a text>' of /a.py:0 cannot be formatted"},
    ),
    (odd("msg"), {"message": "a record without a text"}),
    (odd(exc_info=ERROR), {"message": "text\nValueError: the cause"}),
    (odd(exc_info=True), {"message": "text\nexc_info: True"}),
    (odd(exc_info=(ValueError, ERROR)), {"message": "text\nexc_info: (<class 'ValueError'>"}),
    (odd("exc_info", exc_text="its traceback"), {"message": "text\nits traceback"}),
    (odd("stack_info"), {"message": "text"}),
    (odd(stack_info=7), {"message": "text\n7"}),
    (odd(pathname=Textless()), {"filename": "<Textless without a text>"}),
    (odd(pathname="/a\0b"), {"filename": "/a\\x00b"}),
    (odd(funcName=5), {"function": "5"}),
    (odd(lineno=Textless()), {"message": "text"}),
    (odd("created"), {"message": "text"}),
    (odd(created="5"), {"timestamp": "5.000000"}),
    (odd(created=float("nan")), {"timestamp": "1"}),
    (odd(created=-1e300), {"timestamp": "1"}),
    (odd(id="mine", logger="mine"), {"fields": "id:{},logger:a,extra_id:mine,extra_logger:mine"}),
    (odd(severity="high"), {"fields": "id:{},logger:a,extra_severity:high"}),
    (odd(of_mine=Textless()), {"fields": "id:{},logger:a,of_mine:<Textless without a text>"}),
    (odd(connection=Textless()), {"fields": "id:{},logger:a,connection:<Textless without a text>"}),
    (odd(components=7), {"components": "7"}),
    (odd(components=["b", Textless()]), {"components": "b,<Textless without a text>"}),
]


def test_what_can_be_told_is_told(server: LogServer, handler: NetworkLogHandler) -> None:
    for record, _ in TOLD:
        handler.handle(record)
    arrive(handler)
    assert handler.lost == 0
    for number, (message, (record, wanted)) in enumerate(
        zip(server.messages, TOLD, strict=True), 1
    ):
        for name, text in wanted.items():
            assert message[name].startswith(text.format(number)), (vars(record), message)


def test_a_handler_that_shows_the_severity_leaves_the_one_of_the_user() -> None:
    shown = LineFormatter("%(severity)s")
    given, plain = odd(severity="high"), odd()
    assert (shown.format(given), shown.format(plain)) == ("information", "information")
    assert vars(given)["severity"] == "high"
    assert "severity" not in vars(plain)


def test_a_key_that_is_no_text(server: LogServer, handler: NetworkLogHandler) -> None:
    record = odd()
    vars(record)[5] = "five"  # type: ignore[index]
    handler.handle(record)
    arrive(handler)
    assert read_fields(server.messages[0]["fields"])["5"] == "five"


def test_a_record_of_another_process(server: LogServer, handler: NetworkLogHandler) -> None:
    there = odd(msg="a %s", args=("b",), exc_info=(ValueError, ERROR, None))
    prepared = QueueHandler(SimpleQueue()).prepare(there)
    handler.handle(pickle.loads(pickle.dumps(prepared)))
    arrive(handler)
    assert server.texts == ["a b\nValueError: the cause"]


def test_an_odd_record_counts_once_for_alerts(server: LogServer) -> None:
    handler = AlertLogHandler(server.address, standard=2, complain=print)
    for number in range(4):
        handler.handle(odd(msg=f"{number}", name=None))
    arrive(handler)
    handler.close()
    assert server.texts == ["1", "3"]


def test_the_other_handler_has_it_too(handler: NetworkLogHandler) -> None:
    kept = Kept()
    away = TcpLogHandler(AWAY, fallback=kept, close_timeout=0.0, complain=print)
    away.handle(odd(msg=Textless(), exc_info=ERROR))
    until_seen(lambda: kept.texts)
    away.close()
    assert kept.texts[0].endswith("cannot be formatted: no text\nValueError: the cause")


def test_what_the_user_gave_may_fail(ground: Ground, tmp_path: Path) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("broken")

    told: list[str] = []

    def complain(text: str) -> None:
        told.append(text)
        raise RuntimeError("nobody listens")

    path = f"unix:{tmp_path}/log"
    settings: dict[str, Any] = {"pauses": "0.02", "max_records": 2, "close_timeout": 0.0}
    handler = TcpLogHandler(path, fallback=Broken(), complain=complain, **settings)
    logger = logger_to(handler)
    logger.info("a")
    until_seen(lambda: told)
    assert told == [f"{path}: the handler to fall back to has failed: broken"]
    logger.info("b")
    logger.info("one too many")
    assert handler.lost == 1
    server = LogServer(ground, path)
    arrive(handler)
    assert server.texts == ["a", "b"]
    handler.close()


def test_every_handler_tells_what_can_be_told() -> None:
    with LogDaemon() as daemon:
        handler = JournalHandler("me", LineFormatter("%(message)s", keep=KEPT), path=daemon.path)
        handler.handle(odd("exc_info", name=None, pathname=Path("/a.py")))
        handler.handle(odd(created=1e18, name=None))
        found = [fields_of(daemon.receive()) for _ in range(2)]
        handler.close()
    assert [one["MESSAGE"] for one in found] == ["text", "text"]
    assert found[0]["CODE_FILE"] == "/a.py"
    assert handler.lost == 0


def test_a_time_that_localtime_does_not_take(capfd: pytest.CaptureFixture[str]) -> None:
    from edgevent.log_stream import StderrHandler

    handler = StderrHandler(LineFormatter(STANDARD_FORMAT))
    handler.handle(odd(created=1e18))
    handler.close()
    assert capfd.readouterr().err.endswith(" information a: text\n")
