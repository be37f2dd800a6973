"""Signals that nobody waits for, a thousand a second, break nothing: a profiler's, above all."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from running import Program
from tls_ground import authority, server_pair

# Numbered messages go both ways over every transport, files are written and watched, children are
# started and waited for, in this process and in gevent's threads.
PROGRAM = """
    import cProfile, ctypes, logging, os, signal, subprocess, sys, time
    import gevent
    from gevent import subprocess as green
    from edgevent import *

    logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
    rounds, way = int(sys.argv[1]), sys.argv[2]
    fired, tls = 0, TlsOptions("server.crt", "server.key", "ca.crt")
    counts = {}

    def note(*_):
        global fired
        fired += 1

    def sample(number, frame):  # as a sampling profiler does
        note()
        while frame is not None:
            counts[frame.f_code] = counts.get(frame.f_code, 0) + 1
            frame = frame.f_back

    profile = cProfile.Profile()
    real = signal.ITIMER_REAL, signal.SIGALRM
    prof = signal.ITIMER_PROF, signal.SIGPROF
    timer, number = real if way.startswith("real") else prof
    if way.endswith("python"):
        signal.signal(number, note)
    elif way.endswith("sampling"):
        signal.signal(number, sample)
    elif way.endswith("ignored"):
        signal.signal(number, signal.SIG_IGN)
    elif way.endswith("native"):  # a handler of C that interrupts system calls
        libc = ctypes.CDLL(None)
        libc.signal(number, ctypes.cast(libc.abs, ctypes.c_void_p))
        signal.siginterrupt(number, True)
    elif way.endswith("profile"):
        signal.signal(number, note)
        profile.enable()
    if not way.endswith("source"):
        signal.setitimer(timer, 0.001, 0.001)

    service, events = Dispatcher(), []

    @service.on("ADD")
    def add(message, peer, a: int):
        return message.reply("SUM", {"value": a + 1, "filler": "x" * 3000})

    @service.on("ONE_WAY")
    def one_way(message, peer, number: int, to: str):
        received.setdefault(to, []).append(number)

    received, failed = {}, []

    def check(name, function):
        try:
            function()
        except BaseException as error:
            failed.append(f"{name}: {error!r}")
            raise

    def talk(address, **settings):
        with Client(address, wait=True, **settings) as client:
            for number in range(rounds):
                client.send(Message("ONE_WAY", {"number": number, "to": address}))
                reply = client.request(Message("ADD", {"a": number, "filler": "y" * 3000}))
                assert reply.integer("value") == number + 1

    def flood(address, **settings):  # more than the kernel takes at once
        with Client(address, wait=True, **settings) as client:
            for number in range(rounds, rounds + 5000):
                client.send(Message("ONE_WAY", {"number": number, "to": address}))
            client.request(Message("ADD", {"a": 0}))

    def write():
        for number in range(rounds // 4):
            with open(f"watched/{number}", "w") as file:
                file.write("text")
            gevent.sleep(0.001)

    def children():
        for number in range(8):
            assert green.call(["sh", "-c", f"exit {number}"]) == number
            assert subprocess.run(["echo", str(number)], stdout=-1).stdout == b"%d\\n" % number
            look = gevent.get_hub().threadpool.apply(subprocess.check_output, (["echo", "there"],))
            assert look == b"there\\n"

    os.mkdir("watched")
    with Communicator() as communicator:
        places = {
            "tcp": {}, "tls": {"tls": tls}, "unix": {}, "fifo": {},
        }
        servers = {
            "tcp": Server("tcp://127.0.0.1:0", service),
            "tls": Server("tls://127.0.0.1:0", service, tls=tls),
            "unix": Server("unix:socket", service),
        }
        for server in servers.values():
            communicator.add_connection(server)
        fifo = communicator.add_connection(Server("fifo:requests,answers", service))
        communicator.add_connection(FileWatch("watched", events.append, events="updated"))
        ticks = []
        communicator.every(0.01, lambda: ticks.append(time.monotonic()))
        own = communicator.add_connection(SignalSource("SIGUSR1", events.append))
        if way.endswith("source"):
            communicator.add_connection(SignalSource(number, note, with_sender="sender" in way))
            signal.setitimer(timer, 0.001, 0.001)

        def work():
            jobs = [gevent.spawn(check, "files", write), gevent.spawn(check, "children", children)]
            addresses = []
            for name, server in servers.items():
                address = server.addresses[0].replace("127.0.0.1", "localhost")
                settings = places[name]
                addresses.append(address)
                jobs.append(gevent.spawn(check, name, lambda a=address, s=settings: talk(a, **s)))
            gevent.joinall(jobs)
            for address, settings in zip(addresses, places.values()):
                check(address, lambda: flood(address, **settings))
            check("fifo", lambda: talk("fifo:answers,requests"))
            check("fifo", lambda: flood("fifo:answers,requests"))
            addresses.append("fifo:answers,requests")
            os.kill(os.getpid(), signal.SIGUSR1)
            while len(ticks) < 100 or len(events) < rounds // 4 + 1:
                gevent.sleep(0.01)
            assert [received[address] == list(range(rounds + 5000)) for address in addresses] == [
                True] * 4, {key: len(value) for key, value in received.items()}
            if way.endswith("source"):  # its default, which comes back, would end the program
                signal.setitimer(timer, 0.0)
            communicator.stop()

        communicator.after(0, lambda: check("work", work))
        communicator.after(
            25.0, lambda: (print("too slow", failed), os._exit(3)), keep_running=False)
        print("run returned", communicator.run())
    signal.setitimer(timer, 0.0)
    profile.disable()
    names = {os.path.basename(str(event.path)) for event in events if isinstance(event, FileEvent)}
    assert names == {str(number) for number in range(rounds // 4)}, names
    assert sum(isinstance(event, ReceivedSignal) for event in events) == 1
    print("fired", fired, "failed", failed, "handler errors", own.handler_errors)
"""

WAYS = [
    *("python", "sampling", "native", "ignored", "profile", "source", "sender source"),
    *("real python", "real native", "real source"),
]


@pytest.mark.parametrize("rounds", [200, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("way", WAYS)
def test_a_busy_exchange_loses_nothing_under_a_thousand_signals_a_second(
    tmp_path: Path, way: str, rounds: int
) -> None:
    pair = server_pair()
    for name, text in (
        ("server.crt", pair.certificate_pem),
        ("server.key", pair.key_pem),
        ("ca.crt", authority().certificate_pem),
    ):
        path = tmp_path / name
        path.touch(0o600)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    with Program(tmp_path / "program.py", str(rounds), way, folder=tmp_path) as program:
        assert program.end() == 0, program.printed
    returned, counted = program.lines
    assert returned == "run returned True"
    found = re.fullmatch(r"fired (\d+) failed \[\] handler errors 0", counted)
    assert found is not None, counted
    if not way.endswith(("native", "ignored")):  # which count none
        assert int(found[1]) > 50
