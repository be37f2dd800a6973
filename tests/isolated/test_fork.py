"""A forked child holds nothing of its parent's and runs none of its turns."""

from __future__ import annotations

import textwrap
from pathlib import Path

from running import FORKING, Program

BEGIN = """
    import logging, os, signal, socket, sys, warnings
    import gevent
    from gevent.event import Event
    from edgevent import *

    warnings.simplefilter("ignore", DeprecationWarning)
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout)

    def in_child(work):
        child = os.fork()
        if not child:
            try:
                work()
                say("child done")
            except BaseException as error:
                say("child failed", repr(error))
            finally:
                os._exit(0)
        gevent.os.waitpid(child, 0)
"""


def run(folder: Path, text: str) -> list[str]:
    path = folder / "program.py"
    path.write_text(FORKING + textwrap.dedent(BEGIN) + textwrap.dedent(text), encoding="utf-8")
    with Program(path, folder=folder) as program:
        assert program.end() == 0, program.printed
        return program.lines


def test_a_child_holds_none_of_the_descriptors(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        def sockets():
            return sum(one.startswith("socket:") for one in open_files())

        with Communicator() as communicator:
            before = sockets()
            servers = [communicator.add_connection(Server(address))
                       for address in ("tcp://127.0.0.1:0", "unix:here.sock")]
            clients = [Client(server.addresses[0]) for server in servers]
            link = communicator.add_connection(PermanentConnection(servers[0].addresses[0]))
            link.wait_until_up(20.0)
            for client in clients:
                client.request(Message("ALIVE"), reply="ABSOLUTELY")
            say(sockets() - before)
            in_child(lambda: say("in the child:", sockets() - before, os.path.exists("here.sock")))
            # The parent's peers have seen nothing of it.
            for client in clients:
                say(client.request(Message("ALIVE"), reply="ABSOLUTELY").command)
                client.close()
            say(link.is_connected)
        """,
    )
    assert printed == [
        "8",
        "in the child: 0 True",
        "child done",
        "ABSOLUTELY",
        "ABSOLUTELY",
        "True",
    ]


def test_the_end_of_a_connection_is_seen_though_a_child_lives_on(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        with Communicator() as communicator:
            server = communicator.add_connection(Server("tcp://127.0.0.1:0"))
            client = Client(server.addresses[0])
            client.request(Message("ALIVE"), reply="ABSOLUTELY")
            ends, starts = os.pipe()
            child = os.fork()
            if not child:
                os.close(starts)
                os.read(ends, 1)  # until the parent closes
                os._exit(0)
            for peer in server.peers:
                peer.close()
            try:
                client.receive(20.0)
            except ConnectionLostError:
                say("the end was seen")
            client.close()
            server.close()
            try:
                socket.create_connection(("127.0.0.1", int(server.address.port or 1)))
            except OSError:
                say("nobody listens")
            os.close(starts)
            os.waitpid(child, 0)
        """,
    )
    assert printed == ["the end was seen", "nobody listens"]


def test_handlers_that_wait_go_on_in_the_parent_alone(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        service, gate, begun = Dispatcher(), Event(), []
        parent = os.getpid()
        waits = {
            "sleep": lambda peer: gevent.sleep(0.05),
            "event": lambda peer: gate.wait(),
            "event with a limit": lambda peer: gate.wait(0.05),
            "greenlet": lambda peer: gevent.spawn(gevent.sleep, 0.05).join(),
            "answer": lambda peer: peer.request(Message("ASK"), timeout=0.05),
            "message": lambda peer: peer.receive(0.05),
        }

        @service.on("WAIT")
        def wait(message, peer):
            begun.append(message["how"])
            try:
                waits[message["how"]](peer)
            except EdgeventError:
                pass
            finally:
                say(message["how"], os.getpid() == parent)

        def use_the_hub():
            gevent.sleep(0.2)
            gate.set()
            gevent.sleep(0.1)

        with Communicator() as communicator:
            server = communicator.add_connection(Server("tcp://127.0.0.1:0", service))
            clients = [Client(server.addresses[0]) for how in waits]
            for how, client in zip(waits, clients):
                client.send(Message("WAIT", {"how": how}))
            while len(begun) < len(waits):
                gevent.sleep(0)
            in_child(use_the_hub)
            gate.set()
            gevent.sleep(0.1)
            for client in clients:
                client.close()
        """,
    )
    hows = ["answer", "event", "event with a limit", "greenlet", "message", "sleep"]
    assert sorted(printed) == sorted(["child done", *(f"{how} True" for how in hows)])


def test_a_child_that_ends_as_programs_do_runs_no_handler_either(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        begun, parent = Event(), os.getpid()

        def collect():
            begun.set()
            try:
                gevent.sleep(0.1)
            finally:
                say("ended in", "parent" if os.getpid() == parent else "child")

        with Communicator() as communicator:
            communicator.after(0, collect)
            begun.wait(20.0)
            child = os.fork()
            if not child:
                communicator.close()
                sys.exit(0)  # with all that the interpreter does at its end
            gevent.os.waitpid(child, 0)
            say("run returned", communicator.run())
        """,
    )
    assert printed == ["ended in parent", "run returned True"]


def test_no_timer_of_the_parent_fires_in_a_child(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        parent = os.getpid()
        with Communicator() as communicator:
            ticks = []
            timer = communicator.every(0.01, lambda: ticks.append(os.getpid()))
            communicator.call_threadsafe(ticks.append, "call")
            timer.timeout_date = communicator.clock.date() + 0.05
            in_child(lambda: (gevent.sleep(0.2), say("ticks in the child:", len(ticks))))
            communicator.after(0.05, communicator.stop)
            communicator.run()
            say(set(ticks) == {parent, "call"})
        """,
    )
    assert printed == ["ticks in the child: 0", "child done", "True"]


def test_no_link_of_the_parent_dials_in_a_child(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        with Communicator() as communicator:
            link = communicator.add_connection(
                PermanentConnection("unix:nobody.sock", pauses="0.05"))
            while not link.attempts:
                gevent.sleep(0.001)

            def wait():
                before = link.attempts
                gevent.sleep(0.3)
                say("attempts in the child:", link.attempts - before)

            in_child(wait)
        """,
    )
    assert printed[-2:] == ["attempts in the child: 0", "child done"]


def test_a_handler_that_nobody_refers_to_is_not_unwound_in_a_child(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        import gc

        parent, begun = os.getpid(), Event()

        def collect():
            begun.set()
            try:
                Event().wait()
            finally:
                say("unwound in", "parent" if os.getpid() == parent else "child")

        def forget():
            del globals()["communicator"]
            Communicator().close()
            for _ in range(3):
                gc.collect()

        communicator = Communicator()
        communicator.after(0, collect)
        begun.wait(20.0)
        in_child(forget)
        os._exit(0)
        """,
    )
    assert printed == ["child done"]


def test_use_of_what_is_the_parents_is_an_error(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        def use():
            calls = {
                "add": lambda: communicator.add_connection(Timer(1.0)),
                "remove": lambda: communicator.remove_connection(server),
                "run": communicator.run,
                "stop": communicator.stop,
                "call": lambda: communicator.call_threadsafe(int),
                "enable": lambda: setattr(server, "enabled", False),
                "delay": lambda: setattr(server, "timeout_delay", 1.0),
                "send": lambda: client.send(Message("ALIVE")),
                "request": lambda: client.request(Message("ALIVE")),
                "receive": lambda: client.receive(1.0),
                "client run": client.run,
                "link send": lambda: link.send(Message("ALIVE"), cache=True),
                "stream": lambda: stream.write(b"x"),
                "stream read": lambda: stream.read(1, 1.0),
            }
            for name, call in calls.items():
                try:
                    call()
                except ForkedError as error:
                    assert "belongs to the parent of this forked process" in str(error)
                else:
                    say(name, "did not raise")
            for held in (client, link, stream, server, communicator):
                for _ in range(2):
                    try:
                        held.close()
                    except Exception as error:
                        say("closing", held, "raised", repr(error))

        with Communicator() as communicator:
            server = communicator.add_connection(Server("tcp://127.0.0.1:0"))
            client = Client(server.addresses[0])
            link = communicator.add_connection(PermanentConnection(server.addresses[0]))
            stream = connect(server.addresses[0])
            link.wait_until_up(20.0)
            in_child(use)
            say(client.request(Message("ALIVE"), reply="ABSOLUTELY").command, link.is_connected)
            client.close()
            stream.close()
        """,
    )
    assert printed == ["child done", "ABSOLUTELY True"]


def test_a_child_may_have_a_communicator_of_its_own(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        def serve():
            service = Dispatcher()
            service.on("WHO")(lambda message, peer: message.reply("ME", {"pid": os.getpid()}))
            with Communicator() as own:
                server = own.add_connection(Server("tcp://127.0.0.1:0", service))
                own.after(0.01, lambda: ask(server.addresses[0], own))
                say("run returned", own.run())
            assert Communicator.instance() is not mine

        def ask(address, own):
            with Client(address) as client:
                reply = client.request(Message("WHO"))
                say("asked", reply.integer("pid") == os.getpid())
            own.stop()

        mine = Communicator.instance()
        mine.stop_on("SIGTERM")
        server = mine.add_connection(Server("tcp://127.0.0.1:0"))
        in_child(serve)
        mine.close()
        """,
    )
    assert printed == ["asked True", "run returned True", "child done"]


def test_a_fork_in_a_handler_leaves_the_child_its_own_greenlet(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        def work():
            gevent.sleep(0.01)
            with Communicator() as own:
                own.after(0.01, lambda: say("own timer"))
                say("run returned", own.run())

        with Communicator() as communicator:
            communicator.after(0.01, lambda: in_child(work))
            communicator.every(0.001, int)
            communicator.after(0.02, communicator.stop)
            say("parent", communicator.run())
        """,
    )
    assert printed == ["own timer", "run returned True", "child done", "parent True"]


def test_a_handler_that_forks_and_forgets_to_end_the_child_is_told(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        def fork():
            child.append(os.fork())

        child = []
        with Communicator() as communicator:
            communicator.add_connection(Server("tcp://127.0.0.1:0"))
            communicator.after(0.01, fork)
            communicator.after(0.02, communicator.stop)
            try:
                say("parent", communicator.run())
            except ForkedError as error:
                say("child", error)
                os._exit(3)
        say(os.waitstatus_to_exitcode(os.waitpid(child[0], 0)[1]))
        """,
    )
    assert sorted(printed) == [
        "3",
        "child this object belongs to the parent of this forked process",
        "parent True",
    ]


def test_signals_do_in_a_child_what_they_did_before(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        with Communicator() as communicator:
            communicator.stop_on("SIGTERM")
            communicator.every(1000.0, int)
            child = os.fork()
            if not child:
                while True:
                    signal.pause()
            os.kill(child, signal.SIGTERM)
            _, status = os.waitpid(child, 0)
            say(os.WTERMSIG(status))
            os.kill(os.getpid(), signal.SIGTERM)
            say("run returned", communicator.run())
        """,
    )
    assert printed == ["15", "run returned True"]


def test_programs_that_are_started_hold_nothing(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        import subprocess
        from gevent import subprocess as gevent_subprocess

        with Communicator(monitor=True) as communicator:
            server = communicator.add_connection(Server("tcp://127.0.0.1:0"))
            client = Client(server.addresses[0])
            client.request(Message("ALIVE"), reply="ABSOLUTELY")
            listing = ["ls", "-l", "/proc/self/fd"]
            for module in (subprocess, gevent_subprocess):
                for close_fds in (True, False):
                    text = module.check_output(listing, close_fds=close_fds, text=True)
                    say("socket:" in text)
            say(client.request(Message("ALIVE"), reply="ABSOLUTELY").command)
            client.close()
        """,
    )
    assert printed == ["False"] * 4 + ["ABSOLUTELY"]


def test_a_monitor_is_left_behind_without_a_wait(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
        with Communicator(monitor=True) as communicator:
            in_child(communicator.close)
        say("closed")
        """,
    )
    assert printed == ["child done", "closed"]
