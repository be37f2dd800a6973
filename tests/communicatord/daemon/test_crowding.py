"""Peers that do not read, do not stop, do not answer, and lines that take the shortcut."""

from __future__ import annotations

from pathlib import Path

import gevent
import pytest
from daemon_ground import SERVER, Line, RunningDaemon
from network_ground import until

BLOCK = 100
PAYLOAD = "x" * 900


def exchange(one: Line, other: Line, names: tuple[str, str], count: int) -> None:
    """Two services that ask each other, and get their answers."""
    for number in range(count):
        one.says(f"{names[1]}/PING serial={number}")
        assert other.hears() == f"<{SERVER}:{names[0]} {names[1]}/PING serial={number}"


def test_a_service_that_does_not_read_holds_up_nobody_for_long(cd: RunningDaemon) -> None:
    deaf = cd.service("deaf")
    loud, good, other = cd.service("loud"), cd.service("good"), cd.service("other")
    # More than the sockets and the daemon's queue for it hold.
    flood = f"deaf/NOISE text={PAYLOAD}"
    writer = gevent.spawn(loud.says, *[flood] * 3_000, "other/AFTER")
    exchange(good, other, ("good", "other"), 200)
    writer.get(timeout=30.0)
    assert other.hears() == f"<{SERVER}:loud other/AFTER"
    exchange(loud, other, ("loud", "other"), 10)
    assert cd.router.counts["undelivered"] > 0
    deaf.close()


def test_a_flood_waits_behind_itself_alone(cd: RunningDaemon) -> None:
    loud, slow = cd.service("loud"), cd.service("slow")
    good, other = cd.service("good"), cd.service("other")
    count = 5_000
    writer = gevent.spawn(loud.says, *[f"slow/NOISE text={PAYLOAD}"] * count)
    exchange(good, other, ("good", "other"), 100)

    def read() -> None:
        for _ in range(count):
            assert slow.hears()

    reader = gevent.spawn(read)  # one that reads gets all, however late it begins
    exchange(good, other, ("good", "other"), 100)
    reader.get(timeout=30.0)
    writer.get(timeout=30.0)
    assert cd.router.counts["undelivered"] == 0


def test_a_silent_service_is_asked_whether_it_lives(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, "--alive-after=500ms") as cd:
        alive, gone = cd.service("alive", ["ALIVE"]), cd.service("gone", ["ALIVE"])
        quiet = cd.service("quiet")  # which has not said that it would answer

        def answer() -> None:
            while line := alive.hears():
                serial = line.partition("serial=")[2].partition(";")[0]
                alive.says(f"communicatord/ABSOLUTELY serial={serial}")

        answering = gevent.spawn(answer)
        assert gone.hears_until("ALIVE serial=communicatord-")
        while gone.hears():
            pass
        until(lambda: cd.daemon.alive.lost == 1)
        assert cd.router.services() == ["alive", "quiet"]
        assert quiet.quiet() == []
        answering.kill()


# --- the shortcut ---------------------------------------------------------------------------------

# To a line that is sent: what of it arrives, when it differs.
LINES = {
    b"svcb/PING a=1;serial=5": None,
    b"svcb/PING a=;serial=": None,
    b"svcb/PING a=1;serial=5;": None,
    b"<x:y svcb/PING a=1;serial=5": None,
    b"svcb/PING a=1;serial=5 ": b"svcb/PING a=1;serial=5",
    b"svcb/PING a=1;serial=5\r": b"svcb/PING a=1;serial=5",
    b"svcb/PING a=1 ;serial=5": None,
    b"svcb/PING a=\xff\xc3\xa4;serial=\xfe": None,
    b'svcb/PING a="1;2";serial=5': None,
    b"svcb/PING a=1\\n2;serial=5": None,
    b"svcb/PING serial=5;a=1": None,
    b"svcb/PING a=1;serial=5;b=2": None,
    b"svcb/PING a=1": None,
    b"svcb/PING": None,
}
REFUSED = (b"svcb/PING a=1;serial=\x005", b"svcb/PING a=1;;serial=5", b"svcb/PING a=1;b-=5")


@pytest.mark.parametrize("sent", [*LINES, *REFUSED], ids=ascii)
def test_a_line_of_a_known_kind_goes_on_as_any_other(cd: RunningDaemon, sent: bytes) -> None:
    svca, svcb = cd.service("svca"), cd.service("svcb")
    for number in range(20):  # from some on, they take the shortcut
        svca.says(f"svcb/PING a={number};serial={number}")
        assert svcb.hears() == f"<{SERVER}:svca svcb/PING a={number};serial={number}"
    assert cd.router.stations["svca"].shortcuts
    svca.says(sent)
    if sent in REFUSED:
        assert "INVALID" in svca.hears()
        return
    expected = (LINES[sent] or sent).removeprefix(b"<x:y ")
    assert svcb.hears().encode("utf-8", "surrogateescape") == b"<testhost:svca " + expected
    # In pieces, and with the next one.
    svca.sock.sendall(sent[:11])
    svca.sock.sendall(sent[11:] + b"\nsvcb/LAST a=1\n")
    assert svcb.hears().encode("utf-8", "surrogateescape") == b"<testhost:svca " + expected
    assert svcb.hears() == "<testhost:svca svcb/LAST a=1"


def test_shortcuts_lead_nowhere_once_their_target_is_another(cd: RunningDaemon) -> None:
    svca, svcb = cd.service("svca"), cd.service("svcb")
    for number in range(20):
        svca.says(f"svcb/PING a={number}")
        svcb.hears()
    svcb.says("COMMANDS list=PONG")
    svcb.quiet()
    svca.says("svcb/PING a=1")
    assert "UNKNOWN command=PING" in svca.hears()
    svcb.says("UNREGISTER service=svcb")
    assert svcb.hears() == ""
    again = cd.service("svcb")
    svca.says("svcb/PING a=2")
    assert again.hears() == f"<{SERVER}:svca svcb/PING a=2"


def test_only_answers_that_were_asked_for_take_the_shortcut(cd: RunningDaemon) -> None:
    svca, svcb = cd.service("svca", ["HELP"]), cd.service("svcb", ["PING"])
    for number in range(20):
        svca.says(f"svcb/PING a=1;serial={number}")
        svcb.hears()
        svcb.says(f"svca/PONG a=1;serial={number}")
        assert svca.hears() == f"<{SERVER}:svcb svca/PONG a=1;serial={number}"
    svcb.says("svca/PONG a=1;serial=100")
    assert "UNKNOWN command=PONG" in svcb.hears()
    assert svca.quiet() == []


def test_what_takes_the_shortcut_is_seen_and_counted(cd: RunningDaemon) -> None:
    svca, svcb = cd.service("svca"), cd.service("svcb")
    seen: list[bytes] = []
    cd.router.on_seen = lambda source, target, line: seen.append(line)
    for number in range(20):
        svca.says(f"svcb/PING a={number}")
        svcb.hears()
    assert seen == [b"<testhost:svca svcb/PING a=%d\n" % number for number in range(20)]
    one, other = cd.router.stations["svca"], cd.router.stations["svcb"]
    assert (one.forwarded, other.received) == (20, 20)
