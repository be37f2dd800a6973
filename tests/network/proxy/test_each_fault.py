"""Each fault does what it says, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from network_ground import until
from proxy_ground import (
    Between,
    Line,
)

from edgevent import (
    Address,
    ConnectError,
)
from edgevent.testing.clock import ManualClock, settle
from edgevent.testing.exchange import fill, push
from edgevent.testing.proxy import reset
from edgevent.transport.dial import dial


def test_each_direction_is_delayed_by_its_own_time(line: Line, clock: ManualClock) -> None:
    line.proxy.delay(0.5, "up")
    push(line.client, b"question")
    push(line.server, b"answer")
    line.at_client.wait_for(b"answer")
    clock.advance(0.4)
    push(line.client, b", and more")
    clock.advance(0.09)
    assert bytes(line.at_server.data) == b""
    clock.advance(0.01)
    line.at_server.wait_for(b"question")
    clock.advance(0.3)
    assert bytes(line.at_server.data) == b"question"
    clock.advance(0.1)
    line.at_server.wait_for(b"question, and more")
    assert clock.alarms == []


def test_the_end_is_delayed_behind_the_bytes(line: Line, clock: ManualClock) -> None:
    line.proxy.delay(0.5)
    push(line.client, b"last words")
    line.client.close()
    clock.advance(0.4)
    assert (bytes(line.at_server.data), line.at_server.ends) == (b"", 0)
    clock.advance(0.1)
    line.at_server.wait_for_end()
    assert (bytes(line.at_server.data), line.at_server.error) == (b"last words", None)


def test_healed_delays_let_go_what_they_hold(line: Line, clock: ManualClock) -> None:
    line.proxy.delay(3600.0)
    push(line.client, b"held")
    settle()
    line.proxy.heal()
    line.at_server.wait_for(b"held")
    assert clock.alarms == []


@pytest.mark.parametrize(("rate", "seconds"), [(1, 19.0), (2.5, 7.6), (40, 0.45)])
def test_a_throttle_lets_so_many_bytes_a_second_leave(
    line: Line, clock: ManualClock, rate: float, seconds: float
) -> None:
    line.proxy.throttle(rate, "down")
    data = bytes(range(20))
    push(line.server, data)
    clock.advance(seconds / 2)
    assert len(line.at_client.data) == pytest.approx(10, abs=2)
    clock.advance(seconds / 2 - 0.01)
    assert len(line.at_client.data) < 20
    clock.advance(0.02)
    line.at_client.wait_for(data)
    assert (line.connection.down.arrived, line.connection.down.passed) == (20, 20)


def test_a_throttled_line_holds_its_sender(line: Line, clock: ManualClock) -> None:
    line.proxy.throttle(1)
    taken, refused = fill(line.client)
    connection = line.connection
    assert connection.up.arrived - connection.up.passed < 128 * 1024
    assert connection.up.passed == 1
    line.proxy.throttle(None)
    push(line.client, refused)
    line.at_server.wait_for(taken + refused)


def test_a_cut_ends_both_sides_now(line: Line) -> None:
    push(line.client, b"x")
    line.at_server.wait_for(b"x")
    line.proxy.cut()
    line.at_client.wait_for_end()
    line.at_server.wait_for_end()
    assert (line.at_client.error, line.at_server.error) == (None, None)
    assert not line.connection.is_open
    assert line.proxy.connections == ()


def test_a_cut_comes_behind_so_many_bytes_of_one_direction(line: Line) -> None:
    push(line.client, b"before")
    line.at_server.wait_for(b"before")
    line.proxy.cut(after=5, direction="up")
    push(line.server, b"this is no concern of it")
    line.at_client.wait_for(b"this is no concern of it")
    push(line.client, b"123")
    settle()
    push(line.client, b"45678")
    line.at_server.wait_for_end()
    assert (bytes(line.at_server.data), line.at_server.error) == (b"before12345", None)
    line.at_client.wait_for_end()
    assert line.connection.up.swallowed == 3


def test_a_cut_is_meant_for_connections_to_come_too(between: Callable[..., Between]) -> None:
    made = between()
    made.proxy.cut(after=2, direction="up")
    for _ in range(2):
        line = Line(made)
        push(line.client, b"abc")
        line.at_server.wait_for_end()
        assert bytes(line.at_server.data) == b"ab"
        line.close()
    made.proxy.heal()
    line = Line(made)
    push(line.client, b"abc")
    line.at_server.wait_for(b"abc")
    made.proxy.cut(after=0)
    line.at_server.wait_for_end()
    line.close()


def test_one_connection_may_be_cut_alone(between: Callable[..., Between]) -> None:
    made = between()
    one, other = Line(made), Line(made)
    assert made.proxy.connections == (one.connection, other.connection)
    one.connection.cut()
    one.at_server.wait_for_end()
    push(other.client, b"still here")
    other.at_server.wait_for(b"still here")
    assert made.proxy.connections == (other.connection,)
    for line in (one, other):
        line.close()


@pytest.mark.parametrize("after", [None, 3])
def test_a_reset_breaks_both_sides(between: Callable[..., Between], after: int | None) -> None:
    line = Line(between("tcp", "tcp"))
    push(line.server, b"x")
    line.at_client.wait_for(b"x")
    line.proxy.reset(after, "up")
    if after is not None:
        push(line.client, b"1234")
    line.at_client.wait_for_end()
    line.at_server.wait_for_end()
    assert isinstance(line.at_client.error, ConnectionResetError)
    assert isinstance(line.at_server.error, ConnectionResetError)
    assert bytes(line.at_server.data) == (b"" if after is None else b"123")
    line.close()


def test_a_reset_on_one_side_passes_behind_the_bytes_before_it(
    between: Callable[..., Between], clock: ManualClock
) -> None:
    line = Line(between("tcp", "tcp", clock=clock))
    line.proxy.delay(1.0)
    push(line.client, b"last words")
    settle()
    reset(line.client)
    clock.advance(0.9)
    assert not line.at_server.has_ended
    clock.advance(0.2)
    line.at_server.wait_for_end()
    assert bytes(line.at_server.data) == b"last words"
    assert isinstance(line.at_server.error, ConnectionResetError)
    line.close()


def test_what_the_server_said_before_it_broke_still_arrives(line: Line, clock: ManualClock) -> None:
    line.proxy.delay(1.0, "down")
    line.server.unwatch_read()
    push(line.client, b"never read")
    push(line.server, b"go away")
    settle()
    line.server.close()  # with unread input: the client's side is broken
    settle()
    push(line.client, b"more")
    clock.advance(1.0)
    line.at_client.wait_for_end()
    assert bytes(line.at_client.data) == b"go away"


def test_swallowed_bytes_are_gone_and_counted(line: Line) -> None:
    line.proxy.swallow("up")
    push(line.client, b"forgotten")
    push(line.server, b"answer")
    line.at_client.wait_for(b"answer")
    settle()
    line.proxy.heal()
    push(line.client, b"kept")
    line.at_server.wait_for(b"kept")
    up = line.connection.up
    assert (up.arrived, up.passed, up.swallowed) == (13, 4, 9)
    line.proxy.swallow()
    line.client.shutdown_write()
    line.at_server.wait_for_end()
    assert line.at_server.error is None


@pytest.mark.parametrize("after", [None, 4])
def test_a_half_close_ends_one_direction(line: Line, after: int | None) -> None:
    line.proxy.half_close("up", after)
    push(line.client, b"12345")
    line.at_server.wait_for_end()
    assert bytes(line.at_server.data) == (b"" if after is None else b"1234")
    push(line.server, b"answer")
    line.at_client.wait_for(b"answer")
    push(line.client, b"to nobody")
    line.server.close()
    line.at_client.wait_for_end()
    assert line.connection.is_open
    line.client.close()
    until(lambda: not line.connection.is_open)


def test_chosen_bytes_are_corrupted(line: Line) -> None:
    push(line.client, b"before ")
    line.at_server.wait_for(b"before ")
    line.proxy.corrupt([0, 3, 9], "up", mask=0xFF)
    for part in (b"ab", b"cd", b"efghijkl"):
        push(line.client, part)
        settle()
    expected = bytearray(b"before abcdefghijkl")
    for at in (0, 3, 9):
        expected[7 + at] ^= 0xFF
    line.at_server.wait_for(bytes(expected))
    assert line.connection.up.corrupted == 3


def test_the_next_byte_has_one_bit_flipped_by_default(line: Line) -> None:
    line.proxy.corrupt()
    push(line.server, b"\0\0")
    line.at_client.wait(lambda: len(line.at_client.data) == 2)
    first, second = line.at_client.data
    assert (first.bit_count(), second) == (1, 0)


def test_random_corruption_is_the_same_with_the_same_seed(between: Callable[..., Between]) -> None:
    found = []
    for seed in (7, 7, 8):
        line = Line(between(seed=seed))
        line.proxy.corrupt(chance=0.05)
        push(line.client, bytes(1000))
        line.at_server.wait(lambda line=line: len(line.at_server.data) == 1000)
        assert 20 < line.connection.up.corrupted < 100
        found.append(bytes(line.at_server.data))
        line.close()
    assert found[0] == found[1] != found[2]


def test_a_deaf_proxy_takes_connections_and_reads_nothing(between: Callable[..., Between]) -> None:
    made = between()
    made.proxy.deafen("up")
    line = Line(made)
    taken, refused = fill(line.client)
    push(line.server, b"down goes on")
    line.at_client.wait_for(b"down goes on")
    assert (line.connection.up.arrived, bytes(line.at_server.data)) == (0, b"")
    made.proxy.heal()
    push(line.client, refused)
    line.at_server.wait_for(taken + refused)
    line.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_proxy_that_refuses_comes_back_at_the_same_address(
    between: Callable[..., Between], kind: str
) -> None:
    made = between(kind, kind)
    line = Line(made)
    address = made.proxy.address
    for _ in range(3):
        made.proxy.refuse()
        made.proxy.refuse()
        with pytest.raises(ConnectError):
            dial(Address.parse(address))
        push(line.client, b"x")  # what stands goes on
        line.at_server.wait(lambda: bool(line.at_server.data))
        made.proxy.heal()
        assert made.proxy.address == address
        again = Line(made)
        push(again.client, b"again")
        again.at_server.wait_for(b"again")
        again.close()
    line.close()


def read_sizes(line: Line, count: int) -> list[int]:
    """The sizes of the pieces in which so many bytes come."""
    sizes: list[int] = []
    line.server.watch_read(lambda: sizes.append(len(line.server.receive(65536))))
    push(line.client, bytes(count))
    until(lambda: sum(sizes) == count)
    line.server.unwatch_read()
    return sizes


def test_a_stream_is_split_into_pieces_of_a_size(line: Line) -> None:
    line.proxy.split(3, "up")
    assert read_sizes(line, 10) == [3, 3, 3, 1]


def test_a_stream_is_split_into_pieces_of_given_sizes(line: Line) -> None:
    line.proxy.split([1, 5, 2], "up")
    assert read_sizes(line, 12) == [1, 5, 2, 2, 2]
    line.proxy.split([7, 65536], "up")
    assert read_sizes(line, 1000) == [7, 993]


def test_a_stream_is_split_into_pieces_of_random_sizes(line: Line) -> None:
    line.proxy.split(9, "up", randomly=True)
    sizes = read_sizes(line, 500)
    assert set(sizes) == set(range(1, 10))
