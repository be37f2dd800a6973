"""communicatord as its administrator sees it: options, files, systemd, the start and the end."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from daemon_ground import SERVER, Line, RunningDaemon, settings_of
from network_ground import until
from running import EXAMPLES
from service_ground import Running
from tool_ground import SCRIPTS, run, words_of

from edgevent import Communicator, Dispatcher, Message
from edgevent.communicatord.naming import own_name, socket_path, socket_paths
from edgevent.communicatord.options import listeners_of
from edgevent.communicatord.program import Program
from edgevent.service_listeners import Listeners
from edgevent.service_places import Place
from edgevent.systemd import InheritedSocket
from edgevent.testing.starting import StartedService

Start = Callable[..., StartedService]
FROM = f"<{SERVER}:communicatord "
FREE = ("--local-listen=off", "--signal=off")

# A service with the client's class, which prints what it is told to.
SERVICE = """
import sys
from edgevent import Communicator, CommunicatorConnection, Dispatcher

class Control:
    def reopen_logs(self):
        print("reopened", flush=True)
    def stop(self, quitting):
        print("stopped", flush=True)
        communicator.stop()

with Communicator() as communicator:
    link = CommunicatorConnection(
        sys.argv[2], Dispatcher(control=Control()), address="unix:" + sys.argv[1]
    )
    link.on_ready(lambda link: print("ready", flush=True))
    communicator.add_connection(link)
    communicator.run()
"""


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("Snap-1.example.com", "snap_1"),
        ("snap", "snap"),
        ("9lives", "_9lives"),
        ("", "localhost"),
        ("\xe4.b", "_"),
    ],
)
def test_the_name_of_a_computer(monkeypatch: pytest.MonkeyPatch, host: str, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert own_name() == name


def test_where_the_unix_socket_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert socket_path() == "/run/communicator/communicatord.sock"
    assert socket_paths() == (socket_path(),)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    own = "/run/user/1000/communicator/communicatord.sock"
    assert socket_paths() == ("/run/communicator/communicatord.sock", own)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setenv("HOME", "/home/a")
    assert socket_path() == "/home/a/.local/state/communicator/communicatord.sock"
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/one:/run/two")
    assert socket_path() == "/run/one/communicatord.sock"


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("--local-listen=10.0.0.5", "a TCP address of this computer alone was expected"),
        ("--local-listen=udp://127.0.0.1:1", "a TCP address of this computer alone was expected"),
        ("--unix-listen=tcp://127.0.0.1:1", "the path of a Unix socket was expected"),
        ("--signal=tcp://127.0.0.1:1", "an address of datagrams was expected"),
        ("--server-name=a-b", "'a-b' is no name of a server"),
        ("--known-service=9", "'9' is no name of a service"),
        ("--my-address=example.com", "a numeric address was expected"),
        ("--max-connections=4", "'4': a number from 5 to 100000 was expected"),
        ("--held-ttl=1s", "expected 10s to 1d"),
        ("--local-lisen=off", "did you mean '--local-listen'?"),
    ],
)
def test_a_wrong_option_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, why: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        Program(config_folder=tmp_path, other_folders=()).service.main([word])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1


# The values of the file that comes with the C++ daemon, and of options that are empty there.
SHIPPED = """\
server_name=
neighbors=
local_listen=127.0.0.1:0
remote_listen=127.0.0.1:4042
unix-group=
signal=127.0.0.1:0
signal_secret=
certificate=/etc/communicator/keys/communicatord.crt
private-key=/etc/communicator/keys/communicatord.key
my_address=127.0.0.1
max_connections=100
max_pending_connections=25
max_gossip_timeout=1h
services=/usr/share/communicator/services
user_name=communicator
group_name=communicator
communicator_plugin_paths=/usr/lib/communicator/plugins
"""


def test_the_file_that_comes_with_the_cpp_daemon_starts_this_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "communicatord.conf").write_text(SHIPPED)
    program = Program(config_folder=tmp_path / "no", other_folders=(tmp_path,))
    words = (f"--unix-listen={tmp_path}/cd.sock", "--debug-all-messages", "--settle=0s")
    with Running(program.service, *words):
        assert program.daemon is not None
        assert program.daemon.router.server == own_name()
        assert not program.daemon.links.servers
        line = Line(f"{tmp_path}/cd.sock")
        line.says("REGISTER service=svca;version=1")
        answer = f"<{own_name()}:communicatord READY my_address=127.0.0.1:4042"
        assert line.hears_lines(2)[1] == answer
        line.close()
    assert "remote-listen: tcp://127.0.0.1:4042 is left out" in caplog.text
    assert "certificate: it is not used" in caplog.text


def test_the_file_of_the_cpp_daemon_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    services = tmp_path / "services"
    services.mkdir()
    for name in ("cluckd.service", "no-name.service", "readme.txt"):
        (services / name).touch()
    (tmp_path / "communicatord.conf").write_text(
        "server_name=monster\n"
        f"services={services}\n"
        "local_listen=127.0.0.1:0\n"
        "signal=127.0.0.1:0\n"
        "signal_secret=abc\n"
        "my_address=10.0.0.5\n"
        "max_connections=200\n"
        "max_pending_connections=25\n"
        "debug_all_messages=true\n"
        "user_name=communicator\n"
    )
    program = Program(config_folder=tmp_path / "no", other_folders=(tmp_path,))
    options = program.service.options.read([f"--unix-listen={tmp_path}/cd", "--unix-group=0"])
    assert options.server_name == "monster"
    places = listeners_of(options)
    assert places["local"].settings == {"max_connections": 200, "backlog": 25}
    assert places["unix"].settings == {**places["local"].settings, "mode": 0o660, "group": 0}
    assert places["signal"].settings == {"secret_code": "abc"}
    with RunningDaemon(tmp_path, f"--config={tmp_path}/communicatord.conf") as cd:
        assert cd.router.known == {"cluckd"}
        assert cd.daemon.services.my_address == "10.0.0.5:4042"
        assert settings_of(cd).max_connections == 200
        for text in (
            "debug-all-messages: this daemon has no use for it",
            "user-name: this daemon has no use for it",
            "'no-name.service' is no name of a service",
        ):
            assert text in caplog.text


def test_listeners_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def places(*words: str) -> dict[str, Place]:
        read = Program(config_folder=tmp_path, other_folders=()).service.options.read
        return listeners_of(read(list(words)))

    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    assert places(*FREE, "--unix-listen=off") == {}
    usual = places("--signal-keys=/etc/keys", "--unix-group=staff")
    assert {name: str(place.address) for name, place in usual.items()} == {
        "local": "tcp://127.0.0.1:4040",
        "unix": f"unix:{tmp_path}/communicatord.sock",
        "signal": "udp://127.0.0.1:4041",
    }
    assert usual["unix"].settings["group"] == "staff"
    assert places()["unix"].settings["mode"] == 0o600
    assert usual["signal"].settings == {"auth": "/etc/keys"}


def test_a_folder_of_services_that_cannot_be_read_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "services").touch()
    with RunningDaemon(tmp_path):
        assert f"services {tmp_path}/services: it cannot be read: Not a directory" in caplog.text


def test_what_is_written_out_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "written.conf"
    options = Program(config_folder=tmp_path, other_folders=()).service.options
    words = ["--server-name=snap", "--signal=off", "--my-address=10.0.0.5"]
    with pytest.raises(SystemExit) as ended:
        options.parse([*words, f"--write-out-config-file={file}"])
    assert ended.value.code == 0
    again = options.read([f"--config={file}"])
    assert (again.server_name, again.signal) == ("snap", False)
    assert again.my_address.endpoint == "10.0.0.5:4042"
    assert str(again.local_listen) == "tcp://127.0.0.1:4040"


def test_secret_and_keys_contradict_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--check-config", "--signal-secret=a", "--signal-keys=b", *FREE]
    with pytest.raises(SystemExit) as ended:
        Program(config_folder=tmp_path, other_folders=()).service.main(words)
    assert ended.value.code == 2
    assert "signal-secret, signal-keys: one of them was expected" in capsys.readouterr().err


def test_the_example_of_a_configuration_is_right(tmp_path: Path) -> None:
    text = (EXAMPLES / "communicatord.conf").read_text("utf-8")
    (tmp_path / "communicatord.conf").write_text(
        text.replace("communicator-user", "root").replace(":4041", ":0")
    )
    words = [f"--unix-listen={tmp_path}/cd", "--local-listen=off"]
    program = Program(config_folder=tmp_path, other_folders=())
    options = program.service.options.read(words)
    assert (options.server_name, options.known_service) == ("snap", ["cluckd"])
    with pytest.raises(SystemExit) as ended:
        program.service.main([*words, "--check-config"])
    assert ended.value.code == 0


def test_a_reload_takes_new_services_and_listeners(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "communicatord.conf"
    file.write_text("known_service = one\n")
    with RunningDaemon(tmp_path) as cd:
        assert cd.router.known == {"one"}
        file.write_text("known_service = two\nheld_ttl = 30s\n")
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: cd.router.known == {"one", "two"})
        until(lambda: "the new value of held_ttl needs a restart" in caplog.text)
        assert cd.service("svca").quiet() == []  # the listeners have stayed


# --- the start ------------------------------------------------------------------------------------


def test_it_starts_without_any_configuration(
    tmp_path: Path, own_namespaces: Callable[..., list[str]], start_service: Start
) -> None:
    # A network of its own has the ports of the C++ daemon free.
    words = words_of("communicatord")
    script = f"ip link set lo up && exec {' '.join(words)}"
    service = start_service(
        [*own_namespaces("-n"), "sh", "-c", script],
        ready="receiving at udp:",  # systemd's socket is in the other network
        env={"RUNTIME_DIRECTORY": str(tmp_path), "STATE_DIRECTORY": str(tmp_path)},
    )
    assert service.stop() == 0
    for text in ("tcp://127.0.0.1:4040", "udp://127.0.0.1:4041", f"unix:{tmp_path}/communicatord"):
        assert text in service.output


def test_sockets_of_systemd_take_the_place_of_its_own(tmp_path: Path, start_service: Start) -> None:
    path = f"{tmp_path}/communicatord.sock"
    service = start_service(
        words_of("communicatord"),
        f"--server-name={SERVER}",
        "--signal-secret=abc",
        ready="notify",
        sockets={
            "communicatord": f"unix:{path}",
            "local": "tcp://127.0.0.1:0",
            "signal": "udp://127.0.0.1:0",
        },
        env={"RUNTIME_DIRECTORY": str(tmp_path)},
    )
    assert "unix: listening on" in service.output
    line = Line(path)
    line.says("REGISTER service=svca;version=1")
    assert line.hears_lines(2)[1].startswith(f"{FROM}READY ")
    endpoint = next(one for one in service.addresses if one.startswith("udp://"))
    host, _, port = endpoint.removeprefix("udp://").partition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"svca/PING a=1", (host, int(port)))  # without the code
        sock.sendto(b"svca/PING a=2;secret_code=abc", (host, int(port)))
    assert "a=2" in line.hears()
    line.close()


def test_all_sockets_of_one_unit_have_one_name(tmp_path: Path) -> None:
    # As those of communicatord.socket: each takes the place of the listener at its address.
    path = f"{tmp_path}/cd.sock"
    with (
        socket.socket(socket.AF_UNIX) as unix,
        socket.create_server(("127.0.0.1", 0)) as local,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        unix.bind(path)
        unix.listen()
        datagrams.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in (local, datagrams)]
        options = Program(config_folder=tmp_path, other_folders=()).service.options.read(
            [
                f"--unix-listen={path}",
                f"--local-listen=127.0.0.1:{ports[0]}",
                f"--signal=127.0.0.1:{ports[1]}",
            ]
        )
        given = [InheritedSocket(os.dup(one.fileno()), "cd") for one in (unix, local, datagrams)]
        with Communicator() as communicator:
            listeners = Listeners(communicator, Dispatcher(), None, given)
            found = listeners.with_inherited(listeners_of(options))
            listeners.close()
    assert set(found) == {"unix", "local", "signal"}


def test_the_table_of_permissions_holds_for_the_daemon(tmp_path: Path) -> None:
    (tmp_path / "communicatord.conf").write_text("[allow]\nSTOP = none\n")
    with RunningDaemon(tmp_path) as cd:
        service = cd.service("svca")
        service.says("communicatord/STOP")
        assert "STOP is not accepted from this peer" in service.hears()


# --- the end --------------------------------------------------------------------------------------


def test_the_end_is_told(cd: RunningDaemon) -> None:
    told = cd.service("told", ["DISCONNECTING", "STATUS"])
    other, last = cd.service("other", ["STATUS"]), cd.service("last")
    told.quiet()
    gone = cd.service("gone")
    last.says("communicatord/STOP", "other/PING a=1", "other/PING a=2")
    gone.says("UNREGISTER service=gone")  # which is not answered
    assert gone.hears() == ""
    assert told.hears_until("DISCONNECTING") == f"{FROM}DISCONNECTING"
    assert told.hears() == ""
    assert last.hears_until("QUITTING") == f"{FROM}QUITTING"
    assert last.hears() == ""
    assert not any("PING" in line for line in iter(other.hears, ""))
    assert cd.wait() == 0
    assert cd.router.counts["quitting"] == 1
    assert not os.path.exists(cd.path)


@pytest.mark.parametrize("text", ["communicatord/STOP", "SHUTDOWN", f"{SERVER}:communicatord/STOP"])
def test_a_datagram_ends_it(cd: RunningDaemon, text: str) -> None:
    service = cd.service("svca")
    cd.datagram(text)
    assert service.hears() == ""
    assert cd.wait() == 0


def test_a_restart_ends_it_for_the_service_manager(cd: RunningDaemon) -> None:
    service = cd.service("svca", ["DISCONNECTING"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings_of(cd), "on_restart", "exit")
        service.says("communicatord/RESTART reason=upgrade")
        assert service.hears() == f"{FROM}DISCONNECTING"
        assert cd.wait() == 75


def test_a_folder_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/file/folder")
    program = Program(config_folder=tmp_path, other_folders=())
    assert program.service.main([*FREE, "--no-log"]) == 1
    assert "its folder cannot be made: Not a directory" in capsys.readouterr().err


def test_logs_are_reopened(cd: RunningDaemon, caplog: pytest.LogCaptureFixture) -> None:
    cd.datagram("communicatord/LOG_ROTATE")
    until(lambda: "LOG_ROTATE: the log files were reopened" in caplog.text)


# --- whole programs -------------------------------------------------------------------------------


def test_services_are_told_by_ed_signal_and_come_back_to_a_daemon_that_was_killed(
    tmp_path: Path, start_service: Start
) -> None:
    path = f"{tmp_path}/cd"
    words = [
        *words_of("communicatord"),
        "--server-name=snap",
        f"--unix-listen={path}",
        "--local-listen=off",
        "--known-service=later",
        f"--services={tmp_path}/none",
        f"--data-path={tmp_path}",
    ]
    daemon = start_service([*words, "--signal=127.0.0.1:{port}"], ready="notify")
    script = tmp_path / "service.py"
    script.write_text(SERVICE)
    cluckd = start_service(script, path, "cluckd", ready="ready")
    snaprfs = start_service(script, path, "snaprfs", ready="ready")
    host = f"--host=127.0.0.1:{daemon.port}"

    def signalled(what: str) -> None:
        done = run("ed-signal", host, what, folder=tmp_path)
        assert done.returncode == 0, done.stderr

    signalled("snaprfs/LOG_ROTATE")
    snaprfs.wait_until("reopened")
    signalled("later/PING")
    line = Line(path)
    line.says("later/PING transmission_report=failure")
    assert "status=cached" in line.hears()
    line.close()

    daemon.kill()
    again = start_service([*words, f"--signal=127.0.0.1:{daemon.port}"], ready="notify")
    for name in ("cluckd", "snaprfs"):
        again.wait_until(f"registered as {name}")
    later = Line(path)
    later.says("REGISTER service=later;version=1", "SERVICE_STATUS service=later")
    assert "STATUS" in later.hears_lines(3)[2]  # nothing of what was held came before
    later.close()

    signalled("snap:cluckd/STOP")
    assert cluckd.wait() == 0
    assert "stopped" in cluckd.output
    assert snaprfs.is_alive


def test_the_script_starts_fast_and_is_small() -> None:
    assert len((SCRIPTS / "communicatord").read_text().splitlines()) <= 7


def test_it_can_be_ended_before_it_has_begun() -> None:
    program = Program()
    with program.service.communicator as communicator:  # which main() would end at once
        program.ready(Message("READY"))  # which is for services
        program.stop(False)
        assert program.daemon is None
        assert communicator.run()
