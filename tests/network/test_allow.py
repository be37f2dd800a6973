"""Who may send what: the table of a service, against real peers of each kind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from network_ground import Ground, read_lines, run_program
from tls_ground import client_options, client_pair, server_options

from edgevent import (
    Allow,
    Client,
    DatagramServer,
    Dispatcher,
    InvalidMessageError,
    Message,
    OptionError,
    PermanentConnection,
    Server,
)

KNOCK = """
import os, pwd, socket, sys
user = pwd.getpwnam("nobody")
os.setgroups([int(group) for group in sys.argv[2:]])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    sock.sendall(b"SET\\n")
    print(sock.recv(1000).decode(), end="")
"""
REFUSED = "INVALID command=SET;message=SET is not accepted from this peer"


class Stopped:
    """What STOP reaches."""

    def __init__(self) -> None:
        self.stops: list[bool] = []

    def stop(self, quitting: bool) -> None:
        self.stops.append(quitting)


def settable(**lines: str) -> Dispatcher:
    """A service that answers SET and is guarded by these lines."""
    service = Dispatcher(control=Stopped())
    service.on("SET")(lambda message, peer: message.reply("DONE"))
    service.permits = Allow(lines)
    return service


def may_set(client: Client) -> bool:
    """Whether SET is taken from a client; what is refused is answered with the reason."""
    try:
        return client.request(Message("SET")).command == "DONE"
    except InvalidMessageError as error:
        return "SET is not accepted from this peer" not in str(error)


# --- the kinds of entries -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "groups", "allowed"),
    [
        ("uid:nobody", (), True),
        ("uid:root", (), False),
        ("uid:0, uid:65534", (), True),
        ("group:nogroup", (), True),
        ("group:4", (), False),
        ("group:4", (3, 4), True),
        ("local", (), True),
        ("none", (), False),
        ("net:0.0.0.0/0", (), False),
        ("name:nobody", (), False),
    ],
)
def test_the_user_of_a_unix_socket_is_known(
    ground: Ground,
    open_folder: Path,
    nobody: Any,
    entry: str,
    groups: tuple[int, ...],
    allowed: bool,
) -> None:
    server = ground.serve(settable(SET=entry), f"unix:{open_folder}/s", mode=0o666)
    answer = run_program(KNOCK, server.address.path, *groups)
    assert answer == ("DONE\n" if allowed else f"{REFUSED}\n")


@pytest.mark.parametrize(
    ("entry", "allowed"),
    [
        ("name:alice", True),
        ("name:ALICE", True),
        ("name:bob, name:alice", True),
        ("name:bob", False),
        ("net:127.0.0.0/8", True),
        ("local", True),
        ("uid:0", False),
    ],
)
def test_the_name_of_a_checked_certificate_is_known(
    ground: Ground, entry: str, allowed: bool
) -> None:
    tls = server_options(mutual=True)
    server = ground.serve(settable(SET=entry), "tls://127.0.0.1:0", tls=tls)
    with Client(server.addresses[0], tls=client_options(client_pair("alice"))) as client:
        assert may_set(client) is allowed


def test_the_name_of_a_certificate_that_nobody_has_checked_counts_for_nothing(
    ground: Ground,
) -> None:
    server = ground.serve(settable(SET="name:alice"), "tls://127.0.0.1:0", tls=server_options())
    with Client(server.addresses[0], tls=client_options(client_pair("alice"))) as client:
        assert not may_set(client)


@pytest.mark.parametrize(
    ("address", "entry", "allowed"),
    [
        ("tcp://127.0.0.1:0", "net:127.0.0.0/8", True),
        ("tcp://127.0.0.1:0", "net:10.0.0.0/8, net:127.0.0.1", True),
        ("tcp://127.0.0.1:0", "net:10.0.0.0/8", False),
        ("tcp://[::1]:0", "net:::1", True),
        ("tcp://[::1]:0", "net:127.0.0.0/8", False),
        ("udp://127.0.0.1:0", "net:127.0.0.0/8", True),
        ("udp://127.0.0.1:0", "net:fd00::/8", False),
        ("udp://127.0.0.1:0", "local", True),
        ("udp://127.0.0.1:0", "name:alice", False),
        ("tcp://127.0.0.1:0", "group:0", False),
        ("tcp://127.0.0.1:0", "all", True),
    ],
)
def test_the_network_of_a_peer_is_known(
    ground: Ground, address: str, entry: str, allowed: bool
) -> None:
    service = settable(SET=entry)
    server: Server | DatagramServer
    if address.startswith("udp"):
        server = ground.communicator.add_connection(DatagramServer(address, service))
    else:
        server = ground.serve(service, address)
    with Client(server.addresses[0]) as client:
        assert may_set(client) is allowed


@pytest.mark.parametrize(
    ("entry", "allowed"), [(f"uid:{os.getuid()}", True), (f"group:{os.getgid() + 1}", False)]
)
def test_the_user_of_a_datagram_is_known(
    ground: Ground, tmp_path: Path, entry: str, allowed: bool
) -> None:
    server = DatagramServer(f"unixgram:{tmp_path}/s", settable(SET=entry))
    ground.communicator.add_connection(server)
    with Client(f"unixgram:{tmp_path}/s") as client:
        assert may_set(client) is allowed


def test_a_unix_socket_whose_name_looks_like_an_address_is_of_no_network(
    ground: Ground, tmp_path: Path
) -> None:
    server = ground.communicator.add_connection(
        DatagramServer(f"unixgram:{tmp_path}/s", settable(SET="net:10.0.0.0/8"))
    )
    program = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.bind("\\0x://10.0.0.1:80")
    sock.sendto(b"SET", sys.argv[1])
    print(sock.recv(1000).decode())
"""
    assert run_program(program, server.address.path) == f"{REFUSED}\n"


def test_the_server_at_the_other_end_of_a_link_is_known_by_its_certificate(ground: Ground) -> None:
    received: list[str] = []
    ours = settable(SET="name:localhost", GET="name:elsewhere")
    ours.on("GET")(lambda message, peer: message.reply("DONE"))
    theirs = Dispatcher()

    @theirs.on("ASK")
    def ask(message: Message, peer: Any) -> Message:
        for command in ("SET", "GET"):
            try:
                received.append(peer.request(Message(command), timeout=20.0).command)
            except InvalidMessageError:
                received.append("INVALID")
        return message.reply("ASKED")

    server = ground.serve(theirs, "tls://127.0.0.1:0", tls=server_options())
    address = server.addresses[0].replace("127.0.0.1", "localhost")
    link = PermanentConnection(address, ours, tls=client_options())
    ground.communicator.add_connection(link)
    link.wait_until_up(20.0)
    link.request(Message("ASK"), timeout=20.0)
    assert received == ["DONE", "INVALID"]


# --- the table ------------------------------------------------------------------------------------


def test_stop_is_obeyed_from_whom_the_table_admits_and_from_nobody_else(ground: Ground) -> None:
    refused, obeyed = settable(STOP="none"), settable(STOP="net:127.0.0.0/8")
    for service, stops in ((refused, []), (obeyed, [False])):
        server = ground.serve(service)
        sock = ground.dial(server)
        sock.sendall(b"STOP\nALIVE\n")
        answers = [line.partition(b" ")[0] for line in read_lines(sock, 1 if stops else 2)]
        assert answers == ([] if stops else [b"INVALID"]) + [b"ABSOLUTELY"]
        assert isinstance(service.control, Stopped)
        assert service.control.stops == stops


def test_stop_takes_the_place_of_the_listeners_rule(own_network: Any) -> None:
    program = """
import gevent
from edgevent import Allow, Client, Communicator, Dispatcher, Message, Server
class Control:
    def stop(self, quitting):
        print("stopped", flush=True)
for lines in ({}, {"STOP": "net:10.9.0.0/16"}):
    service = Dispatcher(control=Control())
    service.permits = Allow(lines)
    with Communicator() as communicator:
        server = communicator.add_connection(Server("tcp://10.9.0.1:0", service))
        with Client(server.addresses[0]) as client:
            client.send(Message("STOP"))
            print(client.request(Message("ALIVE"), reply="ABSOLUTELY").command)
"""
    found = own_network(program, "ip addr add 10.9.0.1/24 dev lo")
    assert found == "ABSOLUTELY\nstopped\nABSOLUTELY\n"


def test_an_exact_command_goes_before_a_pattern_and_the_first_pattern_counts(
    ground: Ground,
) -> None:
    service = settable(**{"SET": "all", "S*": "none", "STO?": "all", "*": "local"})
    sock = ground.dial(ground.serve(service))
    sock.sendall(b"SET\nSHOW\nSTOP\nALIVE\n")
    answers = [line.partition(b" ")[0] for line in read_lines(sock, 4)]
    assert answers == [b"DONE", b"INVALID", b"INVALID", b"ABSOLUTELY"]


def test_a_permission_is_looked_at_before_the_definition(ground: Ground) -> None:
    service = settable(ABSOLUTELY="none")
    service.on("ABSOLUTELY")(lambda message, peer: None)
    sock = ground.dial(ground.serve(service))
    sock.sendall(b"ABSOLUTELY\nSET\n")  # its definition would miss a parameter
    first, second = read_lines(sock, 2)
    assert b"message=ABSOLUTELY is not accepted from this peer" in first
    assert second == b"DONE"


def test_a_command_that_is_allowed_is_checked_against_its_definition(ground: Ground) -> None:
    service = settable(ABSOLUTELY="all", NOTHING="all")
    service.on("ABSOLUTELY")(lambda message, peer: None)
    sock = ground.dial(ground.serve(service))
    sock.sendall(b"ABSOLUTELY\nNOTHING\n")
    first, second = read_lines(sock, 2)
    assert b"parameter reply_timestamp of ABSOLUTELY is missing" in first
    assert second == b"UNKNOWN command=NOTHING"


def test_a_table_can_be_exchanged_while_peers_are_connected(ground: Ground) -> None:
    service = settable(SET="none")
    sock = ground.dial(ground.serve(service))
    for permits, answer in ((None, b"DONE"), (Allow({"SET": "none"}), REFUSED.encode())):
        service.permits = permits
        sock.sendall(b"SET\n")
        assert read_lines(sock, 1) == [answer]
    assert not service.guards("HELP")
    assert service.guards("SET")


@pytest.mark.parametrize(
    ("command", "text", "sentence"),
    [
        ("stop", "all", "'stop': a command was expected, or a pattern"),
        ("STOP", "", "STOP = '': an entry is empty; 'none' admits nobody"),
        ("STOP", "all,", "an entry is empty"),
        ("STOP", "none, all", "'none' stands alone"),
        ("STOP", "root", "'root': uid:USER, group:GROUP"),
        ("STOP", "grup:ops", "did you mean 'group:'?"),
        ("STOP", "lokal", "did you mean 'local'?"),
        ("STOP", "uid:", "'uid:': uid:USER"),
        ("STOP", "all:x", "'all:x': uid:USER"),
        ("STOP", "uid:no-such-user", "there is no user 'no-such-user'"),
        ("STOP", "group:no-such-group", "there is no group 'no-such-group'"),
        ("STOP", "net:10.0.0.0/33", "a network such as 10.0.0.0/8"),
        ("STOP", "net:10.0.0.1/8", "has host bits set"),
    ],
)
def test_a_line_that_is_none_is_said_to_be_none(command: str, text: str, sentence: str) -> None:
    with pytest.raises(OptionError) as caught:
        Allow({command: text})
    assert sentence in str(caught.value)


def test_an_empty_table_is_false_and_says_so() -> None:
    assert not Allow({})
    assert Allow({"STOP": "all"})
    assert (repr(Allow({})), repr(Allow({"STOP": "all"}))) == ("<Allow nothing>", "<Allow STOP>")
