"""What cannot be right is refused where it is written, with the name of what was called."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from edgevent import (
    Backoff,
    ChildWatch,
    Client,
    Communicator,
    CommunicatorClient,
    DatagramClient,
    DatagramServer,
    Dispatcher,
    EdgeventError,
    FileWatch,
    Match,
    Message,
    PermanentConnection,
    ReadyConnection,
    Server,
    Service,
    SignalSource,
    StreamConnection,
    ThreadLink,
    Timer,
    TlsOptions,
    UsageError,
    connect,
    deadline,
)
from edgevent.arguments import refuse_names

NOWHERE = "unix:@edgevent-nobody-is-here"
loose: Any = None  # what follows is refused by a type checker too


class Own(PermanentConnection):
    """A class of a user's own, with an argument of its own."""

    def __init__(self, address: str, *, colour: str = "", **settings: Any) -> None:
        super().__init__(address, **settings)


class Fraction:
    """A number of another package."""

    def __float__(self) -> float:
        return 0.5


def call(function: Any, *arguments: Any, **named: Any) -> Callable[[], Any]:
    return functools.partial(function, *arguments, **named)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (call(Client, NOWHERE, connect_timeout="2s"), "Client: connect_timeout: .* mean 2.0?"),
        (call(Client, NOWHERE, connect_timeout="x"), "connect_timeout: a number was .*'x'$"),
        (call(Client, NOWHERE, timout=1), "Client: .*'timout'; .*connect_timeout"),
        (call(Client, NOWHERE, wait="no"), "Client: wait: True or False was expected, not 'no'"),
        (call(Client), "Client: missing: 'address'"),
        (call(Client, NOWHERE, None, 3), "Client: too many .*address, dispatcher"),
        (call(Client, NOWHERE, address=NOWHERE), "Client: the argument 'address' is given twice"),
        (call(Own, NOWHERE, colr="red"), "Own: .*'colr'; did you mean colour?"),
        (call(Own, NOWHERE, connect_tmeout=1), "Own: .*connect_timeout?"),
        (call(PermanentConnection, NOWHERE, 5), "PermanentConnection: dispatcher: a Dispatcher or"),
        (call(PermanentConnection, NOWHERE, pauses=5), 'pauses 5: expected a list, such as "5"'),
        (call(Server, NOWHERE, alow_remote=True), "Server: .*did you mean allow_remote"),
        (call(Server, NOWHERE, max_connections="5"), "Server: max_connections: an integer"),
        (call(Server, NOWHERE, max_connections=True), "max_connections: an integer .*not True"),
        (call(DatagramServer, NOWHERE, secret=1), "DatagramServer: .*secret_code"),
        (call(DatagramClient, "udp://127.0.0.1:1", secret_code=b"xyz"), "text .*, not bytes$"),
        (call(Timer, "5s", print), "Timer: delay: .*did you mean 5.0?"),
        (call(Backoff, 5), "pauses 5: expected a list"),
        (call(Backoff, zzz=1), "'zzz'; there are pauses, jitter"),
        (call(TlsOptions, certificat="x"), "TlsOptions: .*did you mean certificate?"),
        (call(Match, 5), "Match: missing: 'callback'"),
        (call(Match, "HI", print, priority="7"), "Match: priority: an integer .*'7'"),
        (call(Service, 5), "Service: name: text was expected, not int"),
        (call(Service, "x", "", versio="1"), "OptionParser: .*did you mean version?"),
        (call(CommunicatorClient, 5), "CommunicatorClient: service_name: text"),
        (call(FileWatch, "/", evnts=1), "FileWatch: .*did you mean events?"),
        (call(FileWatch, "/", events=5), "5 is no kind of file event"),
        (call(ChildWatch, "1", print), "ChildWatch: pid: an integer or None"),
        (call(ThreadLink, nme=1), "ThreadLink: .*did you mean name?"),
        (call(Communicator, monitor="yes"), "Communicator: monitor: True or False"),
        (call(Dispatcher, 5), "Dispatcher: too many arguments .*: none$"),
        (call(connect, NOWHERE, timeout=1), "connect: .*did you mean connect_timeout?"),
        (call(connect, 5), "an address is text"),
        (call(connect, NOWHERE, connect_timeout=1, timout=1), "connect: .*'timout'"),
        (call(StreamConnection, 5), "an address is text"),
        (call(StreamConnection, NOWHERE, timout=1), "StreamConnection: .*connect_timeout"),
        (call(StreamConnection, NOWHERE, connect_timeout="2s"), "StreamConnection: .* mean 2.0?"),
        (call(ReadyConnection, "x"), "'x' is no descriptor"),
        (call(deadline, "3s"), "deadline: a number of seconds was expected, not '3s'"),
        (call(Message, "A", 5), "A: the parameters are a mapping .*not a int"),
    ],
)
def test_what_is_wrong_is_named(made: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(EdgeventError, match=sentence) as raised:
        made()
    assert "\n" not in str(raised.value)
    assert "xyz" not in str(raised.value)  # it may be a secret


def test_a_text_of_a_class_of_its_own_is_a_text() -> None:
    assert Timer(1.0, print, name=type("Name", (str,), {})("tick")).name == "tick"


def test_a_class_that_takes_any_name_says_which_it_knows() -> None:
    class Loose:
        def __init__(self, colour: str = "", **rest: object) -> None:
            refuse_names(Loose, rest)

    with pytest.raises(UsageError, match=r"Loose: .*'colur'; did you mean colour\?"):
        Loose(colur="red")


def test_numbers_of_other_packages_are_numbers() -> None:
    assert PermanentConnection(NOWHERE, connect_timeout=loose or Fraction()).close() is None


def test_an_error_inside_a_constructor_is_left_alone() -> None:
    with pytest.raises(TypeError, match="lambda"):
        ReadyConnection(type("File", (), {"fileno": lambda: 1})())  # of the program that calls


def nothing() -> None: ...


async def later(_: object) -> None: ...


def generating(_: object) -> Any:
    yield


class Methods:
    """Functions that are bound to an object."""

    def one(self, _: object) -> None: ...

    def none(self) -> None: ...

    def __call__(self, _: object) -> None: ...


SOURCES: dict[str, Callable[[Any], Any]] = {
    "on_connected": lambda function: PermanentConnection(NOWHERE).on_connected(function),
    "on_disconnected": lambda function: PermanentConnection(NOWHERE).on_disconnected(function),
    "timer": lambda function: Timer(5.0, function),
    "signal": lambda function: SignalSource("SIGUSR1", function),
    "child": lambda function: ChildWatch(None, function),
    "server": lambda function: Server(NOWHERE, function),
    "worker": lambda function: ThreadLink(function),
    "start": lambda function: Service("x", "").on_start(function),
    "link": lambda function: Service("x", "").link("peer")(function),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "wrong",
    [5, nothing, later, generating, Methods().none, lambda a, b: None, functools.partial(nothing)],
    ids=["number", "nothing", "coroutine", "generator", "method", "two", "partial"],
)
def test_a_hook_that_cannot_be_called_is_refused(source: str, wrong: object) -> None:
    with pytest.raises(UsageError, match="function"):
        SOURCES[source](wrong)


@pytest.mark.parametrize(
    "right",
    [
        print,
        Methods().one,
        Methods(),
        lambda link, more=None: None,
        lambda *all: None,
        functools.partial(lambda kept, link: None, 1),
        dict.fromkeys,
    ],
)
def test_a_hook_that_can_be_called_is_taken(right: Any) -> None:
    PermanentConnection(NOWHERE).on_connected(right)


@pytest.mark.parametrize("kind", ["on_end", "on_reload", "on_ready", "on_stop"])
def test_a_hook_of_a_service_says_what_it_takes(kind: str) -> None:
    with pytest.raises(UsageError, match=rf"{kind}: a function of \("):
        getattr(Service("x", ""), kind)(lambda a, b, c: None)


def test_calls_without_arguments_are_checked(communicator: Communicator) -> None:
    for add in (communicator.every, communicator.after):
        with pytest.raises(UsageError, match=r"a function of \(\) was expected"):
            add(1.0, loose or Methods().one)
    with pytest.raises(UsageError, match="a function was expected, not 5"):
        communicator.call_threadsafe(loose or 5)
