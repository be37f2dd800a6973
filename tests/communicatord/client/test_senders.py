"""A handler that waits holds up its own sender alone: other services are handled meanwhile."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from network_ground import PATIENCE, ROOT, Ground, MovedClock, until
from running import Program, terminate
from scripted_peer import ScriptedPeer

from edgevent import (
    Communicator,
    CommunicatorClient,
    CommunicatorConnection,
    Dispatcher,
    Message,
    UsageError,
    snapshot,
)
from edgevent.communicatord.daemon import Daemon
from edgevent.inspect_alive import describe_alive
from edgevent.runtime.turns import IDLE

Connect = Callable[..., CommunicatorConnection]


class Work:
    """A service whose handler of WORK waits until the test lets it go on, for each sender."""

    def __init__(self) -> None:
        self.table = Dispatcher()
        self.begun: list[str] = []
        self.gates: dict[str, Event] = {}
        self.table.on("WORK")(self._work)
        self.table.on("NOTE")(self._note)

    def _work(self, message: Message, peer: Any, n: int) -> Message:
        sender = message.sent_from_service
        self.begun.append(f"{sender}{n}")
        gate = self.gates.get(f"{sender}{n}") or self.gate(sender)
        assert gate.wait(PATIENCE)
        return message.reply("DONE", {"n": n})

    def _note(self, message: Message, peer: Any, n: int) -> None:
        self.begun.append(f"{message.sent_from_service}{n}")

    def gate(self, sender: str) -> Event:
        """What the handlers of a sender, or that of one message, wait for."""
        return self.gates.setdefault(sender, Event())

    def go(self, *senders: str) -> None:
        """Has the handlers of these go on, those to come as well."""
        for sender in senders:
            self.gate(sender).set()


@pytest.fixture
def work() -> Iterator[Work]:
    """The service, whose handlers all end with the test."""
    work = Work()
    yield work
    work.go(*work.gates)


def said(*texts: str, command: str = "WORK", pad: str = "") -> list[str]:
    """Lines that services send: ``b1`` is the first one of the service ``b``."""
    more = f";pad={pad}" if pad else ""
    return [f"<snap:{text[0]} snap:svca/{command} n={text[1:]}{more}" for text in texts]


def registered(
    ground: Ground,
    peer: ScriptedPeer,
    table: Dispatcher,
    kind: type[CommunicatorConnection] = CommunicatorConnection,
    **settings: Any,
) -> Any:
    """A service that is registered with a daemon of which the test says each word."""
    link = kind("svca", table, address=peer.address, **settings)
    ground.communicator.add_connection(link)
    welcome(peer)
    link.wait_until_ready(PATIENCE)
    return link


def welcome(peer: ScriptedPeer) -> None:
    """The whole registration."""
    assert peer.read_line() == "REGISTER service=svca;version=1"
    peer.send("<snap:communicatord HELP", "<snap:communicatord READY")
    assert "/COMMANDS list=" in peer.read_line()


def done(*texts: str) -> list[str]:
    """The answers to such lines."""
    return [f"<:svca snap:{text[0]}/DONE n={text[1:]}" for text in texts]


# --- who waits for whom ---------------------------------------------------------------------------


def test_two_services_ask_each_other_by_way_of_the_program(ground: Ground, tmp_path: Path) -> None:
    path = f"{tmp_path}/cd.sock"
    words = ("--local-listen=off", f"--unix-listen={path}", "--signal=off", "--settle=0s")
    program = Program(
        ROOT / "scripts/communicatord",
        *words,
        folder=tmp_path,
        RUNTIME_DIRECTORY=str(tmp_path),
        EDGEVENT_COMMUNICATORD_SERVER_NAME="snap",
    )
    first, second = Dispatcher(), Dispatcher()
    links = [
        CommunicatorConnection(name, table, address=f"unix:{path}")
        for name, table in (("first", first), ("second", second))
    ]

    @first.on("PRICE")
    def price(message: Message, peer: Any) -> Message:
        answer = links[0].request("second", Message("TOTAL"), timeout=PATIENCE)
        return message.reply("COSTS", {"value": answer["value"]})

    @second.on("TOTAL")
    def total(message: Message, peer: Any) -> Message:
        rate = links[1].request("first", Message("RATE"), timeout=PATIENCE)
        return message.reply("SUM", {"value": rate.integer("value") * 2})

    @first.on("RATE")
    def rate(message: Message, peer: Any) -> Message:
        return message.reply("IS", {"value": 21})

    with program:
        program.wait_for("listening")
        for link in links:
            ground.communicator.add_connection(link)
            link.wait_until_ready(PATIENCE)
        with CommunicatorClient(address=f"unix:{path}") as caller:
            assert caller.request("first", Message("PRICE"), timeout=PATIENCE)["value"] == "42"
        assert terminate(program) == 0


@pytest.mark.parametrize("at_once", [True, False])
def test_each_sender_has_its_own_order(
    ground: Ground, peer: ScriptedPeer, work: Work, at_once: bool
) -> None:
    link = registered(ground, peer, work.table)
    lines = said("b1", "b2", "c1", "b3", "d1", "c2")
    if at_once:
        peer.send(*lines)
    else:
        before = link.traffic.messages_in
        for count, line in enumerate(lines, 1):
            peer.send(line)
            until(lambda count=count: link.traffic.messages_in == before + count)
    until(lambda: work.begun == ["b1", "c1", "d1"])
    work.go("c")
    assert [peer.read_line() for _ in range(2)] == done("c1", "c2")
    assert work.begun == ["b1", "c1", "d1", "c2"]
    work.go("b")
    assert [peer.read_line() for _ in range(3)] == done("b1", "b2", "b3")
    peer.send(*said("b4", "c3"))
    assert [peer.read_line() for _ in range(2)] == done("b4", "c3")


def test_while_none_waits_all_keep_their_order_in_one_turn(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = registered(ground, peer, work.table)
    texts = [f"{sender}{number}" for number in range(50) for sender in "bcd"]
    peer.send(*said(*texts, command="NOTE"))
    until(lambda: len(work.begun) == len(texts))
    assert work.begun == texts
    assert not link.senders


def test_what_the_daemon_says_is_of_a_sender_like_others(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = registered(ground, peer, work.table)
    told = list[str]()
    link.on_status(lambda link, status: told.append(status.state))
    peer.send(*said("b1"), "<snap:communicatord snap:svca/STATUS service=x;status=up", "WORK n=1")
    until(lambda: told == ["up"])
    until(lambda: work.begun == ["b1", "1"])  # one that names no sender is one as well
    assert link.command == "WORK"
    work.go("b", "")
    assert peer.read_line() == done("b1")[0]
    assert peer.read_line() == "<:svca DONE n=1"


def test_the_daemon_hears_from_a_service_whose_handler_of_its_words_waits(
    peer: ScriptedPeer, moved: Ground, clock: MovedClock, work: Work
) -> None:
    registered(moved, peer, work.table)
    peer.send("<snap:communicatord snap:svca/WORK n=1")
    until(lambda: work.begun == ["communicatord1"])
    clock.advance(5.0)
    peer.send("<snap:communicatord snap:svca/ALIVE serial=2")
    assert "communicatord/ABSOLUTELY" in peer.read_line()


def test_a_script_with_a_dispatcher_does_the_same(
    daemon: Daemon, connect: Connect, path: str, work: Work
) -> None:
    one, other = connect("b"), connect("c")
    with CommunicatorClient("svca", work.table, address=f"unix:{path}"):
        first = gevent.spawn(one.request, "svca", Message("WORK", {"n": 1}), timeout=PATIENCE)
        until(lambda: work.begun == ["b1"])
        work.go("c")
        assert other.request("svca", Message("WORK", {"n": 1}), timeout=PATIENCE)["n"] == "1"
        work.go("b")
        assert first.get(timeout=PATIENCE)["n"] == "1"


def test_a_script_answers_before_its_end(peer: ScriptedPeer, work: Work) -> None:
    def script() -> None:
        with CommunicatorClient("svca", work.table, address=peer.address) as client:
            client.run()

    running = gevent.spawn(script)
    assert peer.read_line() == "REGISTER service=svca;version=1"
    peer.send("<snap:communicatord READY", *said("b1", "b2", "c1"))
    until(lambda: work.begun == ["b1", "c1"])
    peer.half_close()
    work.go("b", "c")
    assert sorted(peer.read_line() for _ in range(3)) == sorted(done("b1", "b2", "c1"))
    running.get(timeout=PATIENCE)


def test_no_context_passes_from_one_sender_to_the_next(ground: Ground, peer: ScriptedPeer) -> None:
    table, found = Dispatcher(), list[str]()
    variable = contextvars.ContextVar("variable", default="")

    @table.on("NOTE")
    def note(message: Message, peer: Any) -> None:
        found.append(variable.get())
        variable.set(message.sent_from_service)

    registered(ground, peer, table)
    peer.send(*said("b1", "c1", "d1", command="NOTE"))
    until(lambda: len(found) == 3)
    assert found == [""] * 3


def test_who_receives_gets_all_in_order_though_a_handler_waits(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = registered(ground, peer, work.table)
    peer.send(*said("b1", "c1"))
    until(lambda: work.begun == ["b1", "c1"])
    receiving = gevent.spawn(lambda: [link.receive(PATIENCE)["n"] for _ in range(4)])
    until(lambda: link._parked)
    peer.send(*said("b2", "d3", "c4", "b5"))
    assert receiving.get(timeout=PATIENCE) == ["2", "3", "4", "5"]
    assert work.begun == ["b1", "c1"]


def test_a_sender_with_much_that_waits_does_not_starve_the_others(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = registered(ground, peer, work.table)
    link.event_limit = 2
    peer.send(*said("b1"), *said(*(f"b{n}" for n in range(2, 300)), command="NOTE"), *said("c1"))
    until(lambda: work.begun == ["b1", "c1"])
    ground.communicator.after(0.0, lambda: work.begun.append("between"))
    until(lambda: "between" in work.begun)
    link.processing_time_limit = 0.0  # each of them has a turn
    ticks = list[int]()
    work.go("b")
    until(lambda: ticks.append(len(work.begun)) or len(work.begun) == 301)
    assert len(set(ticks)) > 100
    assert work.begun[3:] == [f"b{n}" for n in range(2, 300)]


def test_a_handler_may_hand_on_what_others_have_sent(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = registered(ground, peer, work.table)

    @work.table.on("HAND_ON")
    def hand_on(message: Message, peer: Any) -> None:
        link.dispatch(Message("NOTE", {"n": 0}, sent_from_service="c"))
        work.gate("b").wait(PATIENCE)

    peer.send(*said("b1", command="HAND_ON"), *said("b2", "c1", command="NOTE"))
    until(lambda: work.begun == ["c0", "c1"])
    work.go("b")
    until(lambda: work.begun == ["c0", "c1", "b2"])


def test_a_line_that_is_none_holds_up_all_while_its_record_is_written(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "malformed" in record.getMessage():
                work.begun.append("malformed")
                assert work.gate("log").wait(PATIENCE)

    link = registered(ground, peer, work.table)
    logger, slow = logging.getLogger("edgevent"), Slow()
    logger.addHandler(slow)
    try:
        peer.send("no message", *said("c1", "f1"))
        until(lambda: work.begun == ["malformed"])
        assert not link.senders
        work.go("log")
        until(lambda: work.begun == ["malformed", "c1", "f1"])  # each sender is on its own again
        work.go("c", "f")
        until(lambda: not link.senders)
        peer.send(*said("b1"), "no message", *said("c2", command="NOTE"))
        until(lambda: work.begun[3:] == ["b1", "malformed", "c2"])
        del work.gates["log"]
        peer.send("no message", *said("d1", "e1"))
        until(lambda: work.begun[6:] == ["malformed"])
        work.go("log")
        until(lambda: work.begun[7:] == ["d1", "e1"])
    finally:
        logger.removeHandler(slow)


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "begun"),
    [
        ({"max_senders": 2}, ["b1", "c1"]),
        ({"max_senders": 1}, ["b1"]),
        ({"max_sender_bytes": 0}, ["b1"]),
        ({"max_sender_bytes": 1000}, ["b1", "c1"]),
    ],
)
def test_past_its_bounds_the_link_takes_no_more_but_answers(
    ground: Ground, peer: ScriptedPeer, work: Work, settings: Any, begun: list[str]
) -> None:
    link = registered(ground, peer, work.table, **settings)
    texts = ["b1", "b2", "c1", "b3", "d1", "c2", "e1"]
    peer.send(*said(*texts))
    until(lambda: work.begun == begun and link.senders.is_full)
    asking = gevent.spawn(link.request, "x", Message("ASK"), "IS", timeout=PATIENCE)
    assert "/COMMANDS list=" in peer.read_line()
    serial = peer.read_line().partition("serial=")[2].partition(";")[0]
    peer.send(*said("f1"), f"<snap:x snap:svca/IS serial={serial}")
    assert asking.get(timeout=PATIENCE).command == "IS"
    assert work.begun == begun
    work.go(*"bcdef")
    answers = [peer.read_line() for _ in range(8)]
    assert sorted(answers) == sorted(done(*texts, "f1"))
    for sender in "bc":
        mine = [text for text in (*texts, "f1") if text[0] == sender]
        assert [line for line in answers if line in done(*mine)] == done(*mine)
    until(lambda: not link.senders)
    assert link.queued_bytes[0] == link.senders.size == 0


def test_past_them_it_soon_reads_no_more_and_then_loses_nothing(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = registered(ground, peer, work.table, max_sender_bytes=100_000)
    count = 1500
    lines = said(*(f"b{n}" for n in range(count)), pad="x" * 1000)
    sending = gevent.spawn(peer.send, *lines)
    until(lambda: link.senders.is_full and link._paused)
    waiting = link.senders.waiting
    assert waiting < 100
    assert link.queued_bytes[0] < 500_000
    work.go("b")
    answers = [peer.read_line() for _ in range(count)]
    assert answers == done(*(f"b{n}" for n in range(count)))
    sending.get(timeout=PATIENCE)
    assert not link._paused


def test_one_that_comes_alone_waits_in_the_inbox_when_there_is_no_room(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = registered(ground, peer, work.table, max_senders=1)
    peer.send(*said("b1"))
    until(lambda: work.begun == ["b1"])
    for text in ("c1", "d1"):
        before = link.traffic.messages_in
        peer.send(*said(text))
        until(lambda before=before: link.traffic.messages_in > before)
    assert work.begun == ["b1"]
    work.go(*"bcd")
    assert [peer.read_line() for _ in range(3)] == done("b1", "c1", "d1")


def test_where_there_is_room_again_the_others_go_on_at_once(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = registered(ground, peer, work.table, max_sender_bytes=0)
    work.gate("b2")
    peer.send(*said("b1", "b2", "c1"))
    until(lambda: link.senders.is_full)
    work.go("b")
    until(lambda: work.begun == ["b1", "b2", "c1"])


def test_it_reads_on_when_the_last_one_that_came_waits(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = registered(ground, peer, work.table, max_senders=1)
    link._inbox.mark = 0  # anything that waits there is too much
    peer.send(*said("b1"))
    until(lambda: link.senders.is_full)
    peer.send(*said("c1", command="NOTE"), *said("d1"))
    until(lambda: link._paused)
    work.go("b")
    until(lambda: work.begun == ["b1", "c1", "d1"])
    peer.send(*said("e1", command="NOTE"))
    work.go("d")
    until(lambda: work.begun[3:] == ["e1"])


def test_what_cannot_be_handled_yet_costs_no_turns(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = registered(ground, peer, work.table, max_senders=1)
    peer.send(*said("b1", "c1"))
    peer.close()
    until(lambda: link._eof and link.ticket == IDLE)
    assert work.begun == ["b1"]
    work.go("b", "c")
    until(lambda: work.begun == ["b1", "c1"])
    welcome(peer)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_senders": 0}, "max_senders=0: 1 at least was expected"),
        ({"max_sender_bytes": -1}, "max_sender_bytes=-1: 0 to 8388608 was expected"),
        ({"max_sender_bytes": 8388609}, "max_sender_bytes=8388609: 0 to 8388608 was expected"),
    ],
)
def test_bounds_that_are_none_are_refused(settings: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        CommunicatorConnection("svca", address="unix:/x", **settings)


# --- the end, the middle, and failures ------------------------------------------------------------


def test_a_hook_of_the_link_holds_up_all_but_handlers_that_have_begun(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer, work: Work
) -> None:
    class Hooked(CommunicatorConnection):
        def process_timeout(self) -> None:
            work.begun.append("hook")
            assert work.gate("hook").wait(PATIENCE)

    link = registered(moved, peer, work.table, kind=Hooked)
    peer.send(*said("b1"))
    until(lambda: work.begun == ["b1"])
    link.timeout_delay = 3600.0
    clock.advance(3600.0)
    until(lambda: work.begun == ["b1", "hook"])
    peer.send(*said("c1", command="NOTE"))
    until(lambda: link._inbox.left == 1)
    work.go("b")
    assert peer.read_line() == done("b1")[0]
    until(lambda: not link.senders)
    assert work.begun == ["b1", "hook"]
    work.go("hook")
    until(lambda: work.begun == ["b1", "hook", "c1"])


def test_behind_a_hook_that_has_waited_each_sender_is_on_its_own(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = CommunicatorConnection("svca", work.table, address=peer.address)

    @link.on_ready
    def ready(link: CommunicatorConnection) -> None:
        work.begun.append("ready")
        assert work.gate("ready").wait(PATIENCE)

    ground.communicator.add_connection(link)
    welcome(peer)
    until(lambda: work.begun == ["ready"])
    peer.send(*said("b1", "c1"))
    until(lambda: link._inbox.left == 2)
    work.go("ready")
    until(lambda: work.begun == ["ready", "b1", "c1"])


def set_running(ground: Ground, link: Any, by: str, *, running: bool) -> None:
    """Takes a link out, in one of two ways, or back in."""
    if by == "disable":
        link.enabled = running
    elif running:
        ground.communicator.add_connection(link)
    else:
        ground.communicator.remove_connection(link)


@pytest.mark.parametrize("by", ["remove", "disable"])
def test_what_is_taken_out_keeps_what_waits_and_goes_on_later(
    ground: Ground, peer: ScriptedPeer, work: Work, by: str
) -> None:
    link = registered(ground, peer, work.table)
    peer.send(*said("b1", "b2", "c1", "c2"), *said("b3", command="NOTE"))
    until(lambda: link.senders.waiting == 3)
    set_running(ground, link, by, running=False)
    work.go("b")
    assert peer.read_line() == done("b1")[0]
    assert work.begun == ["b1", "c1"]
    assert link.senders.waiting == 3
    set_running(ground, link, by, running=True)
    work.go("c")
    assert sorted(peer.read_line() for _ in range(3)) == sorted(done("b2", "c1", "c2"))
    assert sorted(work.begun) == ["b1", "b2", "b3", "c1", "c2"]


@pytest.mark.parametrize("by", ["remove", "disable"])
def test_a_turn_that_is_due_does_not_begin_while_it_is_out(
    ground: Ground, peer: ScriptedPeer, work: Work, by: str
) -> None:
    link = registered(ground, peer, work.table)

    @work.table.on("OFF")
    def off(message: Message, peer: Any) -> None:
        set_running(ground, link, by, running=False)
        work.begun.append("off")

    peer.send(*said("b1", "c1"), *said("b2", command="OFF"), *said("c2", command="NOTE"))
    until(lambda: link.senders.waiting == 2)
    work.go("b", "c")
    until(lambda: work.begun[2:] == ["off"])
    until(lambda: [one.key[1] for one in link.senders] == ["c"])
    assert work.begun[2:] == ["off"]
    set_running(ground, link, by, running=True)
    until(lambda: work.begun[2:] == ["off", "c2"])


@pytest.mark.parametrize("how", ["STOP", "stop"])
def test_a_stop_lets_all_that_came_be_handled_and_answered(
    peer: ScriptedPeer, work: Work, how: str
) -> None:
    with Communicator() as communicator:
        running = gevent.spawn(communicator.run)
        link = CommunicatorConnection("svca", work.table, address=peer.address)
        communicator.add_connection(link)
        welcome(peer)
        link.wait_until_ready(PATIENCE)
        peer.send(*said("b1", "b2", "c1"))
        until(lambda: work.begun == ["b1", "c1"])
        if how == "STOP":
            peer.send("<snap:communicatord snap:svca/STOP")
            until(lambda: link._draining)
        else:
            communicator.stop()
            link.unregister()
        work.go("c")
        assert peer.read_line() == done("c1")[0]
        assert not running.ready()
        work.go("b")
        assert [peer.read_line() for _ in range(2)] == done("b1", "b2")
        assert peer.read_line() == "UNREGISTER service=svca"
        assert running.get(timeout=PATIENCE)


def test_what_is_not_handled_by_the_end_is_told(
    ground: Ground, peer: ScriptedPeer, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    link = registered(ground, peer, work.table)
    peer.send(*said("b1", "b2", "c1", "c2", "c3"))
    until(lambda: link.senders.waiting == 3)
    link.enabled = False
    work.go("b")
    until(lambda: peer.read_line() == done("b1")[0])
    with caplog.at_level(logging.WARNING):
        link.close()
        assert f"{link.name} for snap:b: closed, 1 messages were not handled" in caplog.text
        work.go("c")
        until(lambda: f"{link.name} for snap:c: closed, 2 messages were not" in caplog.text)
    assert work.begun == ["b1", "c1"]
    assert not link.senders


def test_a_lost_link_does_not_wait_for_handlers_and_answers_leave_by_the_next(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = registered(ground, peer, work.table, pauses="0.01")
    peer.send(*said("b1", "b2"))
    until(lambda: link.senders.waiting == 1)
    peer.close()
    welcome(peer)
    link.wait_until_ready(PATIENCE)
    peer.send(*said("b3"))
    work.go("b")
    assert [peer.read_line() for _ in range(3)] == done("b1", "b2", "b3")


def test_handlers_that_wait_for_the_next_link_do_not_hold_it_up(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = registered(ground, peer, work.table, max_senders=1, pauses="0.01")

    @work.table.on("RELAY")
    def relay(message: Message, peer: Any) -> None:
        asked = Message("ASK", {"serial": 7})
        answer = link.request("x", asked, "IS", timeout=PATIENCE, idempotent=True)
        work.begun.append(answer.command)

    peer.send(*said("b1", command="RELAY"), *said("c1", command="NOTE"))
    assert "/COMMANDS list=" in peer.read_line()
    assert "/ASK " in peer.read_line()
    until(lambda: link._inbox.left == 1)
    peer.close()
    welcome(peer)
    assert "/ASK " in peer.read_line()
    peer.send("<snap:x snap:svca/IS serial=7")
    until(lambda: work.begun == ["IS", "c1"])


def test_a_handler_that_is_ended_while_it_waits_leaves_the_others_alone(
    ground: Ground, peer: ScriptedPeer, work: Work
) -> None:
    link = registered(ground, peer, work.table)
    waiting = list[gevent.Greenlet]()

    @work.table.on("END")
    def end(message: Message, peer: Any) -> None:
        waiting.append(gevent.getcurrent())
        work.gate("end").wait(PATIENCE)

    peer.send(*said("b1", command="END"), *said("b2"), *said("c1", command="NOTE"))
    until(lambda: work.begun == ["c1"])
    gevent.get_hub().loop.run_callback(waiting[0].throw, gevent.GreenletExit())
    work.go("b")
    assert peer.read_line() == done("b2")[0]
    until(lambda: not link.senders)


def test_leak_and_counters_show_what_waits(ground: Ground, peer: ScriptedPeer, work: Work) -> None:
    link = registered(ground, peer, work.table, name="link")
    peer.send(*said("b1", "b2", "c1", "b3"))
    until(lambda: link.senders.waiting == 2)
    turns = ground.communicator.turns
    alive = "\n".join(describe_alive(turns, ground.communicator.connections))
    assert "greenlet: link for snap:b, command WORK, for " in alive
    assert "greenlet: link for snap:c, command WORK, for " in alive
    assert f"<link up {peer.address}, 2 senders at work, 2 messages wait>" in alive
    (one,) = (one for one in snapshot(ground.communicator).connections if one.name == "link")
    assert one.queued_in == link.senders.size > 0
