"""What the log says of permanent connections, and that they do not all come at once."""

from __future__ import annotations

import logging
import random

import pytest
from link_ground import add, up
from network_ground import Ground, MovedClock
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import (
    Backoff,
)
from edgevent import PermanentConnection as Link
from edgevent.testing.clock import settle

# --- the log --------------------------------------------------------------------------------------


def lines_of(caplog: pytest.LogCaptureFixture, link: Link) -> list[str]:
    """What the log says of a link, without debugging."""
    return [
        record.getMessage().removeprefix(f"{link.name}: ")
        for record in caplog.records
        if record.levelno > logging.DEBUG and record.getMessage().startswith(f"{link.name}: ")
    ]


def test_a_link_that_is_down_is_told_of_once_a_minute(
    moved: Ground, clock: MovedClock, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edgevent")
    link = add(moved, f"unix:{path}", pauses="1")
    settle()
    assert lines_of(caplog, link) == [f"cannot connect: unix:{path}: No such file or directory"]
    for _ in range(50):
        clock.advance(6.0)
    assert link.attempts == 301
    assert len(lines_of(caplog, link)) == 6


def test_the_first_connection_is_told_at_once(
    moved: Ground, clock: MovedClock, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edgevent")
    link = add(moved, f"unix:{path}", pauses="1")
    settle()
    with scripted_peer(f"unix:{path}") as peer:
        clock.advance(1.0)
        peer.accept()
        settle()
        assert lines_of(caplog, link)[1:] == [f"connected to unix:{path}"]


def test_a_loss_is_told_at_once_and_the_return_within_a_minute(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edgevent")
    link = up(moved, peer, pauses="1")
    clock.advance(10.0)
    peer.close()
    settle()
    told = [
        f"connected to {peer.address}",
        f"lost the link to {peer.address}: the peer has ended it",
    ]
    assert lines_of(caplog, link) == told
    clock.advance(1.0)
    peer.accept()
    settle()
    assert lines_of(caplog, link) == told
    clock.advance(60.0)
    assert lines_of(caplog, link) == [*told, f"connected to {peer.address}"]
    clock.advance(600.0)
    assert len(lines_of(caplog, link)) == 3


def test_a_link_that_comes_and_goes_is_told_of_once_a_minute(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edgevent")
    link = up(moved, peer, pauses="1")
    for _ in range(300):
        peer.close()
        settle()
        clock.advance(1.0)
        peer.accept()
        settle()
    told = lines_of(caplog, link)
    assert len(told) <= 8
    assert any("changes before that were not logged" in line for line in told)
    link.close()
    clock.advance(60.0)
    assert lines_of(caplog, link) == told


# --- many of them ---------------------------------------------------------------------------------


def test_a_thousand_links_do_not_come_back_at_one_instant() -> None:
    # The pauses of the real thing, by a seed: 20 seconds after the loss the service is up again.
    chance = random.Random(7).random
    back = []
    for _ in range(1000):
        backoff, at = Backoff(random=chance), 0.0
        while at < 20.0:
            at += backoff.next()
        back.append(at)
    back.sort()
    most = max(sum(1 for other in back if at <= other < at + 0.1) for at in back)
    assert most <= 150
    assert back[-1] <= 20.0 + 32.0
