"""The service that a file drives, as a user runs it: the example, its file, and the tools."""

from __future__ import annotations

import os
import re
import shlex
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from running import EXAMPLES
from tool_ground import readme_lines, run

from edgevent import Client, Communicator, Dispatcher, Message, Server
from edgevent.testing.starting import StartedService

EXAMPLE = EXAMPLES / "config_driven.py"
CONFIG = (EXAMPLES / "hello.conf").read_text(encoding="utf-8")
LIMIT = 30.0


def start(folder: Path, config: str, *words: str) -> StartedService:
    return StartedService(EXAMPLE, *words, config=config, folder=folder, timeout=LIMIT)


def of_scheme(service: StartedService, scheme: str) -> str:
    (found,) = [one for one in service.addresses if one.startswith(f"{scheme}:")]
    return found


def adds(address: str) -> bool:
    with Client(address, connect_timeout=LIMIT) as client:
        reply = client.request(Message("ADD", {"a": 2, "b": 40}), timeout=LIMIT)
        return reply["value"] == "42"


def test_the_example_answers_where_its_file_says_and_the_tools_end_it(tmp_path: Path) -> None:
    assert CONFIG.count("://127.0.0.1:3001") == 2
    config = CONFIG.replace("127.0.0.1:3001", "127.0.0.1:0")
    with start(tmp_path, config) as service:
        for address in (of_scheme(service, "tcp"), f"unix:{tmp_path}/hello.sock"):
            assert adds(address)
        assert stat.S_IMODE((tmp_path / "hello.sock").stat().st_mode) == 0o660
        said = []
        for line in readme_lines("driven"):
            tool, *words = shlex.split(line)
            place = words.index("--host") + 1
            assert words[place] in ("tcp://127.0.0.1:3001", "udp://127.0.0.1:3001")
            words[place] = of_scheme(service, words[place][:3])
            found = run(tool, *words, folder=tmp_path)
            assert found.returncode == 0, found.stderr
            said.append(found.stdout)
        assert "ADD,ALIVE,COUNTERS,HELP" in said[0]
        assert "/COUNTS bytes_in=" in said[1]
        assert service.wait() == 0
    with start(tmp_path, config) as service:
        assert run("ed-stop", str(service.pid), folder=tmp_path).returncode == 0
        assert service.wait() == 0
    assert not (tmp_path / "hello.sock").exists()


def test_the_link_and_the_timer_of_the_example_change_with_its_file(tmp_path: Path) -> None:
    heard: list[str] = []
    others = Dispatcher()

    def hear(message: Message, peer: Any) -> None:
        heard.append(message.command)
        if len(heard) == 3:
            peer.communicator.stop()

    for command in ("HELLO", "GREET"):
        others.on(command)(hear)
    with start(tmp_path, CONFIG.replace("127.0.0.1:3001", "127.0.0.1:0")) as service:
        service.wait_until("backup: cannot connect")
        path = tmp_path / "config_driven.conf"
        text = path.read_text(encoding="utf-8").replace("backup.sock", "elsewhere")
        path.write_text(text.replace("greet = 10s", "greet = 20ms"), encoding="utf-8")
        with Communicator() as communicator:
            communicator.add_connection(Server(f"unix:{tmp_path}/elsewhere", others))
            service.signal("SIGHUP")
            communicator.run()
        assert heard == ["HELLO", "GREET", "GREET"]
        service.wait_until("changed: links, timers")


@pytest.mark.parametrize("choice", ["auto", "exec"])
def test_restart_begins_anew(tmp_path: Path, choice: str) -> None:
    with StartedService(
        EXAMPLE,
        *("--on-restart", choice),
        folder=tmp_path,
        sockets={"local": "unix:{folder}/s"},
        timeout=LIMIT,
    ) as service:
        run("ed-signal", "--host", f"unix:{tmp_path}/s", "RESTART", folder=tmp_path)
        if choice == "auto":  # there is a manager, which does it
            assert service.wait() == 75
            assert "STOPPING=1" in service.notified
        else:
            pid = service.pid
            service.wait_until(lambda service: service.notified.count("READY=1") == 2)
            assert adds(f"unix:{tmp_path}/s")
            assert service.stop() == 0
            assert service.pid == pid
            assert service.notified.count("STOPPING=1") == 1


def test_restart_without_a_manager_begins_anew(tmp_path: Path) -> None:
    config = "[listeners]\nlocal = unix:{folder}/s\n"
    env = {"NOTIFY_SOCKET": ""}
    with StartedService(
        EXAMPLE, config=config, folder=tmp_path, env=env, ready="listening on", timeout=LIMIT
    ) as service:
        run("ed-signal", "--host", f"unix:{tmp_path}/s", "RESTART", folder=tmp_path)
        service.wait_until(lambda service: service.output.count("listening on") == 2)
        assert adds(f"unix:{tmp_path}/s")


def test_sockets_that_are_handed_over_take_the_place_of_the_listeners_they_are_named_after(
    tmp_path: Path,
) -> None:
    sockets = {
        "tcp": "tcp://127.0.0.1:0",
        "hello.socket": "unix:{folder}/here",
        "more": "udp://127.0.0.1:0",
    }
    config = "[listeners]\ntcp = tcp://127.0.0.1:1\nlocal = unix:{folder}/here max_connections=5\n"
    with StartedService(
        EXAMPLE, config=config, folder=tmp_path, sockets=sockets, timeout=LIMIT
    ) as service:
        for scheme in ("tcp", "unix", "udp"):
            assert adds(of_scheme(service, scheme))
        shown = re.findall(r"(\S+): (?:listening on|receiving at)", service.output)
        assert shown == ["tcp", "local", "more"]
        (tmp_path / "config_driven.conf").write_text(
            config.replace("{folder}", str(tmp_path)).replace("=5", "=5 backlog=7"), "utf-8"
        )
        service.signal("SIGHUP")  # a listener that is made anew has the same socket
        service.wait_until("listeners changed: local")
        assert adds(f"unix:{tmp_path}/here")
        assert service.stop() == 0
    assert (tmp_path / "here").exists()  # it is the manager's


def test_wrong_usage_is_one_line(tmp_path: Path) -> None:
    for words, sentence in (
        (["--listen", "tcq:x"], "--listen"),
        (["--timers", "great=1s"], "no such timer; did you mean 'greet'?"),
        (["--on-restart", "never"], "--on-restart"),
    ):
        service = StartedService(
            EXAMPLE, *words, folder=tmp_path, ready=lambda service: not service.is_alive
        )
        with service:
            assert service.wait() == 2
            (line,) = service.output.splitlines()
            assert line.startswith("hello: ")
            assert sentence in line


def test_signals_of_the_terminal_end_it(tmp_path: Path) -> None:
    with start(tmp_path, "[listeners]\nlocal = unix:{folder}/s\n") as service:
        os.kill(service.pid, signal.SIGINT)
        assert service.wait() == 0
