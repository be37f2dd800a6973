"""What a router does with a message: the behaviour that any engine behind it has to keep."""

import pytest
from router_ground import Peer, service

from edgevent import Address, Message, MessageError
from edgevent.communicatord import held, presence, station
from edgevent.communicatord.router import NameTakenError, Router


class Time:
    """Both clocks of a router."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def router(time: Time) -> Router:
    return Router("snap", known=["later"], own_address="10.0.0.1", now=time, monotonic=time)


def daemon(router: Router, server: str, address: str, *services: str) -> Peer:
    peer = Peer(router, server, address=Address.parse(address))
    router.connect(peer.station, server)
    peer.station.services = frozenset(services)
    router.changed()
    return peer


# --- one for one ----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["b", "snap:b", ".:b", "?:b"])
def test_a_message_goes_to_the_service_of_this_computer(router: Router, target: str) -> None:
    a, b = service(router, "a"), service(router, "b")
    a.says(f"{target}/PING seq=1")
    assert b.got() == [f"<snap:a {target}/PING seq=1"]
    assert a.got() == []


@pytest.mark.parametrize(
    ("came", "goes"),
    [
        ("b/PING", "<snap:a b/PING"),
        ("<x:y b/PING", "<snap:a b/PING"),
        ("<snap:c b/PING x=1", "<snap:a b/PING x=1"),
        ("b/PING z=1;a=2", "<snap:a b/PING z=1;a=2"),
        ('b/PING a=";";b="\\"x\\\\";', '<snap:a b/PING a=";";b="\\"x\\\\";'),
        ("  b/PING a=1  ", "<snap:a b/PING a=1"),
        ("b/PING a=1\r", "<snap:a b/PING a=1"),
        ('{"command":"PING","service":"b","parameters":{"n":1}}', "<snap:a b/PING n=1"),
        ("b/PING a=\udcff", "<snap:a b/PING a=\udcff"),
    ],
)
def test_the_body_goes_on_as_it_came_and_the_sender_as_he_is_known(
    router: Router, came: str, goes: str
) -> None:
    a, b = service(router, "a"), service(router, "b")
    for _ in range(12):  # the parser, and the table of ways, take other roads later on
        a.says(came)
        assert b.got() == [goes]


def test_a_nameless_sender_keeps_his_name_unless_it_is_anothers(router: Router) -> None:
    a, nobody = service(router, "a"), Peer(router)
    nobody.says("<vm:ed_signal a/STOP")
    nobody.says("<snap:a a/STOP")
    nobody.says("<:communicatord a/STOP")
    assert a.got() == ["<vm:ed_signal a/STOP", "a/STOP", "a/STOP"]
    assert router.counts["forged"] == 2


@pytest.mark.parametrize(
    "text", ["HELLO", "communicatord/HELLO", "snap:communicatord/HELLO", ".:communicatord/HELLO"]
)
def test_what_is_for_the_daemon_comes_to_it_signed(router: Router, text: str) -> None:
    a = service(router, "a")
    a.says(f"<x:y {text}")
    assert [str(message) for message in a.handled] == [f"<snap:a {text}"]


def test_a_command_that_the_target_has_not_listed_is_answered_unknown(router: Router) -> None:
    a, b = service(router, "a"), service(router, "b", "PING")
    a.says("b/PONG serial=3;x=1")
    assert a.got() == ["<snap:communicatord snap:a/UNKNOWN command=PONG;serial=3"]
    a.says("b/" + "P" * 65_000)
    assert a.got() == [f"<snap:communicatord snap:a/UNKNOWN command={'P' * 253}..."]
    assert b.got() == []
    b.station.add_commands(["PONG"])
    router.changed()
    a.says("b/PONG")
    assert b.got() == ["<snap:a b/PONG"]


def test_an_answer_need_not_be_listed(router: Router) -> None:
    a, b = service(router, "a", "HELP"), service(router, "b", "ADD")
    a.says("b/ADD serial=3")
    b.says("snap:a/SUM serial=3;value=4")
    b.says("snap:a/SUM serial=4;value=4")
    assert a.got() == ["<snap:b snap:a/SUM serial=3;value=4"]
    assert b.got() == [
        "<snap:a b/ADD serial=3",
        "<snap:communicatord snap:b/UNKNOWN command=SUM;serial=4",
    ]


def test_of_so_many_requests_it_is_known_that_they_were_asked(router: Router) -> None:
    asker = service(router, "asker").station
    assert repr(asker) == "<Station local snap:asker>"
    for number in range(station.MAX_ASKED + 2):
        asker.note_asked(str(number))
    assert asker.has_asked("0")
    for number in range(station.MAX_ASKED + 2):
        asker.note_asked(f"later {number}")
    assert asker.has_asked("later 0")
    assert not asker.has_asked("0")


def test_an_error_about_an_unlisted_error_is_not_answered(router: Router) -> None:
    a, b = service(router, "a", "HELP"), service(router, "b", "ADD")
    b.says("a/UNKNOWN command=X")
    b.says("a/INVALID command=X")
    assert (a.got(), b.got()) == ([], [])
    assert router.counts["unknown"] == 2


# --- one for nobody -------------------------------------------------------------------------------

NOBODY = ["nosuch/PING", "snap:nosuch/PING", "other:b/PING", "other:later/PING", "*:nosuch/PING"]


@pytest.mark.parametrize("text", NOBODY)
def test_what_reaches_nobody_is_answered_as_its_sender_asks(router: Router, text: str) -> None:
    a = service(router, "a")
    seen = []
    router.on_undelivered.append(lambda message, source, why: seen.append(message.command))
    a.says(text)
    assert a.got() == []
    wanted = text.rpartition("/")[0].rpartition(":")[2]
    a.says(f'{text} cache="no;reply"')
    a.says(f"{text} transmission_report=failure;serial=8")
    assert a.got() == [
        f"<snap:communicatord SERVICE_UNAVAILABLE destination_service={wanted};unsent_command=PING",
        "<snap:communicatord TRANSMISSION_REPORT command=PING;serial=8;status=failed",
    ]
    assert seen == ["PING"] * 3
    assert router.counts["undelivered"] == 3


def test_what_a_service_sends_to_itself_is_told(router: Router) -> None:
    a = service(router, "a")
    a.says("a/PING transmission_report=failure")
    assert a.got() == ["<snap:communicatord TRANSMISSION_REPORT command=PING;status=failed"]


def test_a_peer_that_does_not_read_gets_no_more_and_the_sender_is_told(router: Router) -> None:
    a, b, c = service(router, "a"), service(router, "b"), service(router, "c")
    b.reads = False
    a.says("b/PING transmission_report=failure")
    a.says("c/PING")
    assert a.got() == ["<snap:communicatord TRANSMISSION_REPORT command=PING;status=failed"]
    assert c.got() == ["<snap:a c/PING"]


def test_a_line_that_its_senders_name_makes_too_long_is_refused(router: Router) -> None:
    a, b = service(router, "a"), service(router, "b")
    a.says("b/PING x=" + "x" * (64 * 1024 - 12))
    assert b.got() == []
    (answer,) = a.got()
    assert answer.startswith(
        "<snap:communicatord snap:a/INVALID command=PING;message=with its sender"
    )


# --- held for later -------------------------------------------------------------------------------


def test_messages_for_a_known_service_wait_for_it_in_order(router: Router, time: Time) -> None:
    a = service(router, "a")
    a.says("later/ONE")
    a.says("later/TWO cache=ttl=20;transmission_report=failure")
    a.says("later/NEVER cache=no")
    a.says('later/TOLD cache="no;reply"')
    a.says('later/SOON cache="ttl=10;reply"')
    assert a.got() == [
        "<snap:communicatord TRANSMISSION_REPORT command=TWO;status=cached",
        "<snap:communicatord SERVICE_UNAVAILABLE destination_service=later;unsent_command=TOLD",
    ]
    time.seconds += 15
    later = service(router, "later")
    assert router.release(later.station) == 2
    assert later.got() == [
        "<snap:a later/ONE",
        "<snap:a later/TWO cache=ttl=20;transmission_report=failure",
    ]
    assert router.counts["expired"] == 1
    assert router.release(later.station) == 0


def test_a_service_that_was_here_is_known_afterwards(router: Router) -> None:
    a, b = service(router, "a"), service(router, "b")
    assert router.remove(b.station)
    a.says("b/PING")
    assert router.held.waiting("b") == 1
    again = service(router, "b")
    router.release(again.station)
    assert again.got() == ["<snap:a b/PING"]


def test_after_the_start_messages_are_held_for_services_of_any_name(time: Time) -> None:
    router = Router("snap", settling=5.0, monotonic=time)
    a = service(router, "a")
    a.says("new/ONE")
    router.is_linked = True  # it may be on another computer
    a.says("new/TWO transmission_report=failure")
    a.says("snap:new/THREE")
    a.says("new/NEVER cache=no;transmission_report=failure")
    time.seconds += 5
    a.says("other/LATE transmission_report=failure")
    report = "<snap:communicatord TRANSMISSION_REPORT command="
    assert a.got() == [f"{report}{name};status=failed" for name in ("TWO", "NEVER", "LATE")]
    new = service(router, "new")
    assert router.release(new.station) == 2
    assert new.got() == ["<snap:a new/ONE", "<snap:a snap:new/THREE"]


def test_scripts_that_come_once_do_not_take_the_place_of_services(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "MAX_KNOWN", 3)
    stays, gone = service(router, "stays"), service(router, "gone")
    router.remove(gone.station)
    for number in range(5):
        router.remove(service(router, f"script_{number}").station)
    names = ("stays", "gone", "script_2", "script_3", "script_4", "later")
    assert list(filter(router.may_come, names)) == ["stays", "script_3", "script_4", "later"]
    router.remove(stays.station)
    for number in range(3):  # all are in use: one more is not remembered
        service(router, f"used_{number}")
    service(router, "more")
    assert not router.may_come("more")


def test_messages_are_held_for_so_many_services(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "MAX_SERVICES", 1)
    assert router.held.put("one", b"ONE\n", 60.0)
    assert router.held.put("one", b"TWO\n", 60.0)
    assert not router.held.put("two", b"ONE\n", 60.0)


def test_what_was_held_for_a_service_that_is_gone_again_is_counted(
    router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    a = service(router, "a")
    a.says("later/ONE")
    a.says("later/TWO")
    later = service(router, "later")
    later.reads = False
    assert router.release(later.station) == 0
    assert router.counts["undelivered"] == 2
    assert "later: it does not read, and 2 messages held for it are lost" in caplog.text


def test_what_is_held_is_bounded(router: Router) -> None:
    a = service(router, "a")
    for number in range(1_001):
        a.says(f"later/PING serial={number};transmission_report=failure")
    assert a.got()[-1] == (
        "<snap:communicatord TRANSMISSION_REPORT command=PING;serial=1000;status=failed"
    )
    assert len(router.held) == 1_000
    for _ in range(40):
        a.says("later/BIG x=" + "x" * 60_000)
    assert router.held.size < 2 * 1024 * 1024


def test_what_has_grown_too_old_is_forgotten_and_counted(router: Router, time: Time) -> None:
    a = service(router, "a")
    a.says("later/ONE")
    a.says("later/TWO cache=ttl=1h")
    time.seconds += 61
    router.held.drop_expired()
    assert (len(router.held), router.counts["expired"]) == (1, 1)
    time.seconds += 3_600
    router.held.drop_expired()
    assert (len(router.held), router.held.size, router.counts["expired"]) == (0, 0, 2)


@pytest.mark.parametrize("ttl", ["5s", "25h", "rubbish", "", "-1"])
def test_a_time_to_live_that_is_none_is_the_default(router: Router, time: Time, ttl: str) -> None:
    a = service(router, "a")
    a.says(f"later/ONE cache=ttl={ttl}")
    time.seconds += 59
    router.held.drop_expired()
    assert len(router.held) == 1
    time.seconds += 2
    router.held.drop_expired()
    assert len(router.held) == 0


# --- one for many ---------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [".", "?", "*"])
def test_a_broadcast_goes_to_all_that_listed_it(router: Router, target: str) -> None:
    a = service(router, "a", "PING")
    b, c, d = service(router, "b", "PING"), service(router, "c", "PONG"), service(router, "d")
    a.says(f"{target}/PING x=1")
    line = [f"<snap:a {target}/PING x=1"]
    assert (a.got(), b.got(), c.got(), d.got()) == (line, line, [], [])


@pytest.mark.parametrize(("target", "private", "public"), [(".", 0, 0), ("?", 1, 0), ("*", 1, 1)])
def test_how_far_a_broadcast_goes_is_said_by_its_service(
    router: Router, target: str, private: int, public: int
) -> None:
    a = service(router, "a")
    near = daemon(router, "near", "tcp://10.0.0.2:4042")
    far = daemon(router, "far", "tcp://203.0.113.5:4042")
    a.says(f"{target}/PING x=1")
    assert (len(near.got()), len(far.got())) == (private, public)


def test_the_copy_for_other_daemons_carries_what_they_need(router: Router) -> None:
    a = service(router, "a")
    near = daemon(router, "near", "tcp://10.0.0.2:4042")
    a.says("*/PING x=1")
    assert near.got() == [
        "<snap:a */PING broadcast_hops=1;broadcast_informed_neighbors=10.0.0.2,10.0.0.1;"
        "broadcast_msgid=snap-1000000000001;broadcast_originator=10.0.0.1;broadcast_timeout=1000010;"
        "secure_remote=false;x=1"
    ]


RELAYED = (
    "<big:cluckd */PING broadcast_hops={hops};broadcast_informed_neighbors=10.0.0.3;"
    "broadcast_msgid=big-12;broadcast_originator=10.0.0.9;broadcast_timeout={end};"
    "secure_remote=false;x=1"
)


def test_a_copy_is_handled_once_and_goes_on_to_those_that_do_not_know_it(router: Router) -> None:
    a = service(router, "a", "PING")
    big = daemon(router, "big", "tcp://10.0.0.9:4042")
    third = daemon(router, "third", "tcp://10.0.0.3:4042")
    fourth = daemon(router, "fourth", "tcp://10.0.0.4:4042")
    text = RELAYED.format(hops=2, end=1_000_005)
    big.says(text)
    third.says(text)
    assert a.got() == [text]
    assert (big.got(), third.got()) == ([], [])
    (copy,) = fourth.got()
    assert "broadcast_hops=3;broadcast_informed_neighbors=10.0.0.3,10.0.0.4,10.0.0.1;" in copy
    assert "broadcast_msgid=big-12;broadcast_originator=10.0.0.1;" in copy
    assert router.counts["duplicate"] == 1


@pytest.mark.parametrize(
    ("hops", "end", "here", "further"),
    [(4, 1_000_005, 1, 1), (5, 1_000_005, 1, 0), (1, 999_999, 0, 0)],
)
def test_the_limits_of_hops_and_time_are_kept(
    router: Router, hops: int, end: int, here: int, further: int
) -> None:
    a = service(router, "a", "PING")
    big = daemon(router, "big", "tcp://10.0.0.9:4042")
    fourth = daemon(router, "fourth", "tcp://10.0.0.4:4042")
    big.says(RELAYED.format(hops=hops, end=end))
    assert (len(a.got()), len(fourth.got())) == (here, further)


def test_a_broadcast_of_a_computer_whose_clock_is_slow_is_told_of(
    router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    big = daemon(router, "big", "tcp://10.0.0.9:4042")
    big.says(RELAYED.format(hops=1, end=999_940))
    assert router.counts["too_old"] == 1
    (record,) = caplog.records
    assert record.getMessage() == (
        "big: PING is dropped: it is 60 s too old: is the time of day the same on both computers?"
    )


def test_a_copy_that_cannot_be_read_is_an_error(router: Router) -> None:
    big = daemon(router, "big", "tcp://10.0.0.9:4042")
    with pytest.raises(MessageError, match="broadcast_timeout is missing"):
        big.says("*/PING broadcast_msgid=big-1")


def test_its_own_broadcast_that_comes_back_is_not_delivered_again(router: Router) -> None:
    a = service(router, "a", "PING")
    near = daemon(router, "near", "tcp://10.0.0.2:4042")
    a.says("*/PING")
    (copy,) = near.got()
    a.got()
    near.says(copy)
    assert a.got() == []


def test_a_broadcast_to_one_server_is_refused(router: Router) -> None:
    a = service(router, "a", "PING")
    a.says("other:*/PING")
    (answer,) = a.got()
    assert answer.startswith(
        "<snap:communicatord snap:a/INVALID command=PING;message=a broadcast to *"
    )


# --- other computers ------------------------------------------------------------------------------


def test_a_message_goes_to_the_computer_that_has_its_service(router: Router) -> None:
    a = service(router, "a")
    near = daemon(router, "near", "tcp://10.0.0.2:4042", "cluckd")
    far = daemon(router, "far", "tcp://10.0.0.3:4042", "other")
    a.says("cluckd/LOCK")
    a.says("far:b/PING")
    a.says("?:other/PING")
    assert near.got() == ["<snap:a cluckd/LOCK"]
    assert far.got() == ["<snap:a far:b/PING", "<snap:a ?:other/PING"]


def test_a_message_from_another_computer_keeps_its_sender(router: Router) -> None:
    a, near = service(router, "a"), daemon(router, "near", "tcp://10.0.0.2:4042")
    near.says("<near:cluckd snap:a/LOCKED x=1")
    assert a.got() == ["<near:cluckd snap:a/LOCKED x=1"]
    near.says('<near:cluckd snap:nosuch/LOCKED cache="no;reply"')
    assert near.got() == [
        "<snap:communicatord near:cluckd/SERVICE_UNAVAILABLE"
        " destination_service=nosuch;unsent_command=LOCKED"
    ]


def test_one_service_by_name_is_reached_on_every_computer(router: Router) -> None:
    a, b = service(router, "a"), service(router, "b")
    near = daemon(router, "near", "tcp://10.0.0.2:4042")
    a.says("*:b/GOSSIP x=1")
    assert b.got() == ["<snap:a *:b/GOSSIP x=1"]
    (copy,) = near.got()
    assert copy.startswith("<snap:a *:b/GOSSIP broadcast_hops=1;")
    a.says("*:a/GOSSIP x=2")
    assert a.got() == []
    assert "x=2" in near.got()[0]


def test_a_message_for_one_service_everywhere_waits_for_that_of_this_computer(
    router: Router,
) -> None:
    a = service(router, "a")
    a.says("*:later/NEWS number=1;transmission_report=failure")
    a.says("*:later/NEWS number=2;cache=no;transmission_report=failure")
    report = "<snap:communicatord TRANSMISSION_REPORT command=NEWS;status="
    assert a.got() == [f"{report}cached", f"{report}failed"]
    later = service(router, "later")
    assert router.release(later.station) == 1
    assert later.got() == ["<snap:a *:later/NEWS number=1;transmission_report=failure"]


# --- names ----------------------------------------------------------------------------------------


def test_a_name_belongs_to_one_peer(router: Router) -> None:
    a, other = service(router, "a"), Peer(router)
    for peer, name in ((other, "a"), (a, "a"), (a, "b"), (other, "communicatord")):
        with pytest.raises(NameTakenError):
            router.register(peer.station, name)
    daemon(router, "near", "tcp://10.0.0.2:4042")
    for name in ("near", "snap"):
        with pytest.raises(NameTakenError):
            router.connect(other.station, name)
    assert router.services() == ["a"]


def test_who_has_gone_is_told_once_and_reached_no_more(router: Router) -> None:
    a, b = service(router, "a"), service(router, "b")
    left = []
    router.on_left.append(lambda station: left.append(station.service))
    assert router.remove(b.station)
    assert not router.remove(b.station)
    assert left == ["b"]
    a.says("snap:b/PING cache=no")
    assert b.got() == []
    near = daemon(router, "near", "tcp://10.0.0.2:4042")
    router.remove(near.station)
    a.says("near:b/PING")
    assert near.got() == []


def test_everything_that_passes_can_be_seen(router: Router) -> None:
    a = service(router, "a", "PING")
    service(router, "b", "PING")
    seen = []
    router.on_seen = lambda source, target, line: seen.append(
        (source.name, target and target.name, Message.parse(line).command)
    )
    a.says("b/PING")
    a.says("./PING")
    a.says("HELLO")
    a.says("later/PONG")
    assert seen == [
        ("a", "b", "PING"),
        ("a", "a", "PING"),
        ("a", "b", "PING"),
        ("a", None, "HELLO"),
        ("a", None, "PONG"),
    ]
