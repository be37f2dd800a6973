"""Messages from one service to another keep their order, whichever way each of them takes."""

from __future__ import annotations

import json
import random

import gevent
import pytest
from daemon_ground import Line, RunningDaemon

TARGETS = ("one", "two")
SEEDS = (1, 2, 3)


def _line(chance: random.Random, number: int, target: str) -> tuple[str, tuple[str, ...]]:
    """A line with its number, and who is to get it."""
    kind = chance.randrange(9)
    if kind == 0:  # too long for the shortcut
        return f"{target}/NEWS n={number};text={'x' * chance.randrange(15_000, 40_000)}", (target,)
    if kind == 1:
        value = {"n": number, "text": "in JSON"}
        line = {"service": target, "command": "NEWS", "parameters": value}
        return json.dumps(line), (target,)
    if kind == 2:  # to be unescaped
        return f'{target}/NEWS n={number};text="a;b\\"c\\\\n"', (target,)
    if kind == 3:  # not listed: answered
        return f"{target}/OLDS n={number}", ()
    if kind == 4:
        return f"./NEWS n={number}", TARGETS
    if kind == 5:  # for the daemon itself
        return "SERVICE_STATUS service=nobody", ()
    if kind == 6:  # a blank at the end is to be trimmed
        return f"{target}/NEWS n={number};text=x ", (target,)
    if kind == 7:
        return f"*:{target}/NEWS n={number}", (target,)
    return f"{target}/NEWS n={number};text=short", (target,)


def _send(chance: random.Random, sender: Line, lines: list[str]) -> None:
    """Sends lines: alone, several at once, or cut in the middle."""
    data = "".join(f"{line}\n" for line in lines).encode()
    while data:
        end = data.index(b"\n") + 1
        choice = chance.randrange(3)
        if choice == 1:
            end = chance.randrange(1, len(data) + 1)
        elif choice == 2:
            end = min(len(data), chance.randrange(1, 5000))
        sender.sock.sendall(data[:end])
        data = data[end:]
        if chance.random() < 0.5:
            gevent.sleep(0)  # the daemon reads what has come so far


def _numbers(target: Line, count: int) -> list[int]:
    numbers: list[int] = []
    while len(numbers) < count:
        line = target.hears()
        assert line, f"it ended after {len(numbers)} of {count}"
        found = line.partition("n=")[2] if "NEWS" in line else ""
        if found:
            numbers.append(int(found.partition(";")[0]))
    return numbers


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seed", SEEDS)
def test_order_is_kept_whatever_way_each_line_takes(
    cd: RunningDaemon, seed: int, count: int
) -> None:
    chance = random.Random(seed)
    targets = {name: cd.service(name, ["NEWS"], "local") for name in TARGETS}
    expected: dict[str, list[int]] = {name: [] for name in TARGETS}
    lines = []
    for number in range(count):
        line, reached = _line(chance, number, chance.choice(TARGETS))
        lines.append(line)
        for name in reached:
            expected[name].append(number)
    sender = cd.service("sender")
    greenlets = [
        gevent.spawn(_numbers, line, len(expected[name])) for name, line in targets.items()
    ]
    drain = gevent.spawn(lambda: sender.hears_until("never"))  # it reads what it is answered
    try:
        _send(chance, sender, lines)
        for greenlet, name in zip(greenlets, TARGETS, strict=True):
            assert greenlet.get(timeout=30) == expected[name]
    finally:
        gevent.killall([*greenlets, drain])
