"""Services that tests start as processes: when they are ready, where they are, how they end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import EXAMPLES, ROOT, environment

from edgevent import Address, AddressError, Client, CommandError, Message, UsageError
from edgevent.testing.certificates import Certificates
from edgevent.testing.places import Places, bind, listening_addresses
from edgevent.testing.starting import StartedService

HELLO = EXAMPLES / "hello_service.py"
HERE = {"PYTHONPATH": str(ROOT)}  # where the examples find this package, installed or not

# A service without this package: it starts fast, and does what its arguments say.
PLAIN = """
import os, signal, socket, sys
way, *rest = sys.argv[1:]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

def tell(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text, os.environ["NOTIFY_SOCKET"].replace("@", "\\0", 1))

if way == "notify":
    tell(b"READY=1\\nSTATUS=all is well")
    for line in sys.argv:
        print("given", line)
    print("MODE", os.environ["MODE"], os.environ["HOME"] == os.getcwd())
    signal.sigwait([signal.SIGUSR1])
    tell(b"STOPPING=1")
    signal.pause()
elif way == "listen":
    sock = socket.create_server(("127.0.0.1", int(rest[0])))
    print("listening on it")
    signal.pause()
elif way == "inherit":
    assert os.environ["LISTEN_PID"] == str(os.getpid())
    names = os.environ["LISTEN_FDNAMES"].split(":")
    count = int(os.environ["LISTEN_FDS"])
    socks = [socket.socket(fileno=number) for number in range(3, 3 + count)]
    assert sorted(map(int, os.listdir("/proc/self/fd")))[:-1] == list(range(3 + count))
    for name, sock in zip(names, socks):
        print(name, sock.type == socket.SOCK_DGRAM, flush=True)
    signal.pause()
elif way == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("up")
    while True:
        signal.pause()
elif way == "fail":
    signal.signal(signal.SIGTERM, lambda *which: os._exit(5))
    print("up", flush=True)
    signal.pause()
elif way == "exit":
    print("last words")
    sys.exit(int(rest[0]))
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scripts") / "plain.py"
    path.write_text(PLAIN, encoding="utf-8")
    return path


def command(plain: Path, *words: object) -> list[str]:
    """The plain service without the time that Python's site takes."""
    return [sys.executable, "-S", str(plain), *map(str, words)]


def failure(call: Callable[[], Any]) -> str:
    with pytest.raises(AssertionError) as caught:
        call()
    return str(caught.value)


Start = Callable[..., StartedService]


def test_a_service_is_asked_and_stopped(start_service: Start) -> None:
    words = ("tcp://127.0.0.1:{port}", "unix:hello.sock", "udp://127.0.0.1:0")
    service = start_service(HELLO, *words, ready="unix:{folder}/hello.sock", env=HERE)
    service.wait_until("on udp")
    tcp, unix, udp = service.addresses
    assert tcp == service.address == f"tcp://127.0.0.1:{service.port}"
    assert unix == f"unix:{service.folder}/hello.sock"
    for address in (None, unix, udp):
        answer = service.client(address).request(Message("ADD", {"a": 1, "b": 2}))
        assert answer["value"] == "3"
    assert service.is_alive
    assert repr(service) == f"<StartedService hello_service.py pid {service.pid}>"
    assert service.stop() == 0
    assert not service.is_alive
    assert service.exit_code == 0
    assert service.output.count("listening on ") == 3
    assert repr(service) == "<StartedService hello_service.py ended with exit code 0>"
    assert "listens nowhere" in failure(lambda: service.address)


def test_a_service_behind_tls_is_asked(
    start_service: Start, certificates: Certificates, tmp_path: Path
) -> None:
    keys = certificates.server()
    folder = _with_keys(tmp_path, keys)
    address = "tls://127.0.0.1:{port}"
    service = start_service(HELLO, address, folder=folder, ready=address, env=HERE)
    with service.client(tls=certificates.options()) as client:
        assert client.address == f"tls://127.0.0.1:{service.port}"
        assert client.request(Message("ALIVE")).command == "ABSOLUTELY"


def _with_keys(folder: Path, keys: Any) -> Path:
    """A folder in which the hello service finds its keys."""
    (folder / "keys").mkdir()
    for kind, path in (("crt", keys.certificate), ("key", keys.key)):
        target = folder / "keys" / f"server.{kind}"
        target.touch(0o600)
        target.write_bytes(Path(path).read_bytes())
    return folder


def test_it_is_ready_when_it_tells_systemd(start_service: Start, plain: Path) -> None:
    service = start_service(
        command(plain, "notify"),
        "x{port2}",
        ready="notify",
        env={"MODE": "fast{port}"},
        config="[listen]\nat = {port}\nin = {folder}\n",
    )
    assert service.notified == ["READY=1", "STATUS=all is well"]
    service.wait_until(re.compile("MODE.*True"))
    config = Path(service.folder, "plain.conf")
    assert config.read_text() == f"[listen]\nat = {service.port}\nin = {service.folder}\n"
    assert config.stat().st_mode & 0o777 == 0o600
    given = re.findall(r"given (.*)", service.output)[2:]
    assert re.fullmatch(r"x\d+", given[0])
    assert given[0] != f"x{service.port}"
    assert given[1:] == ["--config", str(config)]
    assert f"MODE fast{service.port} True" in service.output
    service.signal("SIGUSR1")
    service.wait_until(lambda service: "STOPPING=1" in service.notified)
    assert service.stop() == -signal.SIGTERM


@pytest.mark.parametrize(
    "ready",
    [
        None,
        "listening",
        "tcp://127.0.0.1:{port}",
        "tcp://localhost:{port}",
        "listening on",
        "started",
    ],
)
def test_it_is_ready_when_something_holds(
    start_service: Start, plain: Path, ready: str | None
) -> None:
    service = start_service(command(plain, "listen", "{port}"), ready=ready)
    service.wait_until("listening on it")
    assert service.addresses == [f"tcp://127.0.0.1:{service.port}"]


def test_a_service_of_this_package_tells_by_itself_that_it_is_ready(start_service: Start) -> None:
    text = (EXAMPLES / "hello.conf").read_text(encoding="utf-8").replace("3001", "{port}")
    service = start_service(EXAMPLES / "config_driven.py", config=text, env=HERE)
    assert "READY=1" in service.notified
    assert service.address == f"tcp://127.0.0.1:{service.port}"
    assert service.client().request(Message("ADD", {"a": 2, "b": 3}))["value"] == "5"
    assert service.stop() == 0
    assert "STOPPING=1" in service.notified


def test_sockets_are_handed_over(start_service: Start, plain: Path) -> None:
    addresses = {
        "web": "tcp://127.0.0.1:0",
        "six": "tcp://[::1]:0" if Path("/proc/net/if_inet6").exists() else "tcp://127.0.0.1:0",
        "log": "udp://127.0.0.1:{port}",
        "local": "unix:{folder}/local",
        "hidden": "unix:@edgevent-{port2}",
        "records": "unixseq:{folder}/records",
        "grams": "unixgram:{folder}/grams",
    }
    service = start_service(command(plain, "inherit"), sockets=addresses, ready="grams True")
    found = service.addresses
    kinds = [Address.parse(address).scheme for address in found]
    assert kinds == ["tcp", "tcp", "udp", "unix", "unix", "unixseq", "unixgram"]
    assert found[2] == f"udp://127.0.0.1:{service.port}"
    assert found[3] == f"unix:{service.folder}/local"
    assert found[4].startswith("unix:@edgevent-")
    assert "log True\nlocal False\n" in service.output
    with socket.create_connection(("127.0.0.1", int(found[0].rpartition(":")[2])), timeout=30):
        pass  # the kernel has taken the connection: there is no moment in which it is refused
    with pytest.raises(UsageError, match="expected an address of a socket"):
        bind("fifo:/x")


@pytest.mark.parametrize(
    ("words", "ready", "what"),
    [
        (("exit", 3), None, "plain.py ended with exit code 3 before a socket that listens; it has"),
        (("exit", 0), "notify", "ended with exit code 0 before READY=1 for systemd"),
        (("exit", 0), "no such line", "before a line with 'no such line'; it has written:\nlast"),
        (("exit", 0), re.compile("^x$"), "before a line that '^x$' matches"),
        (("exit", 0), "tcp://127.0.0.1:9", "before listening on tcp://127.0.0.1:9"),
        (("exit", 0), bool.__call__, "before "),
        (("deaf",), "notify", "plain.py has run for 0.3 s without this: READY=1 for systemd; it"),
    ],
)
def test_a_service_that_is_not_ready_fails(
    start_service: Start, plain: Path, words: tuple[object, ...], ready: Any, what: str
) -> None:
    if callable(ready):
        ready = _never
    limit = 0.3 if words == ("deaf",) else 30.0
    assert what in failure(
        lambda: start_service(command(plain, *words), ready=ready, timeout=limit)
    )


def _never(service: StartedService) -> bool:
    return False


def test_the_end_is_waited_for(start_service: Start, plain: Path) -> None:
    service = start_service(command(plain, "exit", 7), ready="last words")
    assert service.wait() == 7
    service = start_service(command(plain, "deaf"), ready="up")
    assert "plain.py has not ended within 0.01 s; it has written:\nup" in failure(
        lambda: service.wait(within=0.01)
    )
    assert "has not ended within 0.01 s" in failure(lambda: service.stop(within=0.01))
    assert service.exit_code == -signal.SIGKILL
    assert repr(service).endswith(" ended with signal 9>")


def test_a_death_that_nobody_looked_at_fails_the_end(plain: Path) -> None:
    def die() -> None:
        with StartedService(command(plain, "exit", 7), ready="last words") as service:
            service.wait_until(lambda service: not service.is_alive)

    assert "plain.py had ended with exit code 7 before it was stopped" in failure(die)

    def fail() -> None:
        with StartedService(command(plain, "fail"), ready="up"):
            pass

    assert "plain.py has ended with exit code 5; it has written:\nup" in failure(fail)
    with StartedService(command(plain, "exit", 0), ready="last words"):
        pass
    with (
        pytest.raises(ZeroDivisionError),
        StartedService(command(plain, "exit", 7), ready="last words"),
    ):
        raise ZeroDivisionError  # the first failure is the one to see


def test_what_cannot_be_started_is_told(
    start_service: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"'no\.py': there is no such script in "):
        start_service("no.py")
    with pytest.raises(UsageError, match="a command without a word"):
        start_service([])
    with pytest.raises(CommandError, match="no-such-program"):  # and its folder is gone
        start_service(["no-such-program"])


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["tcp", "tls", "udp", "unix", "unixgram", "fifo"])
def test_a_free_address_is_nobody_elses(free_address: Callable[..., str], scheme: str) -> None:
    first, second = free_address(scheme), free_address(scheme)
    assert first != second
    assert Address.parse(first).scheme == scheme
    if scheme in ("unix", "unixgram"):
        with bind(first):
            assert first in listening_addresses(os.getpid())


def test_a_free_address_of_no_kind_is_an_error(free_address: Callable[..., str]) -> None:
    for scheme in ("fd", "http"):
        with pytest.raises(AddressError, match=f"no free address of '{scheme}': expected one of"):
            free_address(scheme)


def test_a_named_port_is_one_and_the_same() -> None:
    places = Places()
    first, again, other = places.fill("{port} {port} {portb}").split()
    assert first == again != other
    assert places.named_port("b") == int(other)
    places.close()
    places.close()


def test_of_nobody_nothing_listens() -> None:
    assert listening_addresses(2**22) == []


# --- the fixtures, as a test of a user's meets them -----------------------------------------------

TESTS = """
import pytest
pytest_plugins = ["edgevent.testing.plugin"]
DIES = "import sys, os; print('went wrong', flush=True); sys.exit(4)"

def test_dies(start_service):
    import sys
    service = start_service([sys.executable, "-S", "-c", DIES], ready="went wrong")
    service.wait_until(lambda service: not service.is_alive)

def test_fine(start_service, scripted_peer, free_address, certificates):
    peer = scripted_peer(free_address("unix"))
    other = scripted_peer(dial=peer.address)
    other.send("HI")
    peer.expect("HI")

def test_differs(scripted_peer):
    peer = scripted_peer()
    scripted_peer(dial=peer.address).send("MOM")
    peer.expect("DAD")
"""


def test_the_fixtures_of_the_plugin_fail_what_is_to_fail(tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text(TESTS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "-rA"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "2 passed, 1 failed, 1 error" in done.stdout.replace(
        "1 failed, 2 passed, 1 error", "2 passed, 1 failed, 1 error"
    ), done.stdout
    assert "had ended with exit code 4 before it was stopped; it has written:\nwent wrong" in (
        done.stdout
    )
    assert "expected 'DAD', but this has come: MOM" in done.stdout
    assert 'peer.expect("DAD")' in done.stdout
    assert "scripted.py" not in done.stdout.partition("test_differs")[2].partition("PASSED")[0]


# --- certificates ---------------------------------------------------------------------------------


def test_certificates_are_made_once_and_good(certificates: Certificates) -> None:
    server = certificates.server()
    assert certificates.server() is server
    assert certificates.server("a.example") is not server
    assert server.pair.certificate.names == ("localhost",)
    assert repr(server) == "<IssuedCertificate of localhost>"
    for path in (server.key, certificates.authority_key):
        assert Path(path).stat().st_mode & 0o777 == 0o600
    alice = certificates.client()
    assert certificates.client("alice") is alice
    other = certificates.other_authority()
    assert certificates.other_authority() is other
    assert other.authority != certificates.authority
    assert server.certificate == server.certificate


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda found: found.expired(), "it has expired on"),
        (lambda found: found.early(), "it is not valid before"),
        (lambda found: found.self_signed(), "it is self-signed"),
        (lambda found: found.other_authority().server(), "is not among the trusted authorities"),
        (lambda found: found.server("a.example"), "is of a.example, not of "),
        (lambda found: found.ending(5), ""),
        (lambda found: found.server(authority=found.middle_authority()), ""),
    ],
)
def test_bad_certificates_are_bad_in_their_way(
    communicator: Any, certificates: Certificates, make: Any, sentence: str
) -> None:
    from edgevent import CertificateError, Server

    options = make(certificates).options()
    server = communicator.add_connection(Server("tls://127.0.0.1:0", tls=options))

    def ask() -> None:
        with Client(server.addresses[0], tls=certificates.options()) as client:
            client.request(Message("ALIVE"))

    if sentence:
        with pytest.raises(CertificateError, match=sentence):
            ask()
    else:
        ask()


def test_certificates_leave_no_files() -> None:
    made = Certificates("brief")
    other = made.other_authority()
    paths = [made.authority, made.server("a").key, other.authority]
    assert all(map(os.path.exists, paths))
    made.close()
    assert not any(map(os.path.exists, paths))
    made.close()


def test_a_weak_key_is_weak() -> None:
    made = Certificates()
    assert "1024" in str(made.weak("a").pair.certificate.key)
    made.close()
