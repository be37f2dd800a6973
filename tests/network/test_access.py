"""Servers on Unix sockets: who the peer is, and whom they let in."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from gevent import socket
from network_ground import (
    Ground,
    ask,
    echo,
    read_lines,
    run_program,
)

from edgevent import (
    Dispatcher,
    ListenError,
    Message,
    Server,
    UsageError,
    limits,
)

KNOCK = """
import os, pwd, socket, sys
user = pwd.getpwnam("nobody")
os.setgroups([int(group) for group in sys.argv[2:]])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    try:
        sock.sendall(b"WHO\\n")
        print(sock.recv(1000).decode(), end="")
    except ConnectionError:
        pass
"""


def whoami() -> Dispatcher:
    service = Dispatcher()

    @service.on("WHO")
    def who(message: Message, peer: Any) -> Message:
        found = peer.credentials
        return Message("YOU", {"uid": found.uid, "gid": found.gid, "safe": peer.authenticated})

    return service


def knock(server: Server, *groups: int) -> str:
    return run_program(KNOCK, server.address.path, *groups)


def test_the_kernel_tells_who_the_peer_is(ground: Ground, open_folder: Path, nobody: Any) -> None:
    server = ground.serve(whoami(), f"unix:{open_folder}/s", mode=0o666)
    assert knock(server) == f"YOU gid={nobody.pw_gid};safe=true;uid={nobody.pw_uid}\n"
    sock = ground.dial(server)
    sock.sendall(b"WHO\n")
    assert read_lines(sock, 1) == [f"YOU gid={os.getgid()};safe=true;uid=0".encode()]


@pytest.mark.parametrize(
    ("settings", "groups", "allowed"),
    [
        ({"allow_users": ["nobody"]}, (), True),
        ({"allow_users": [0, 65534]}, (), True),
        ({"allow_users": ["root"]}, (), False),
        ({"allow_users": []}, (), False),
        ({"allow_groups": ["nogroup"]}, (), True),
        ({"allow_groups": [4]}, (), False),
        ({"allow_groups": [4]}, (3, 4), True),
        ({"allow_groups": [4]}, tuple(range(300)), False),  # more than the kernel tells
        ({"allow_groups": ["nogroup"]}, tuple(range(300)), True),
        ({"allow_users": ["root"], "allow_groups": [4]}, (4,), True),
        ({"allow_users": ["nobody"], "allow_groups": [4]}, (), True),
    ],
)
def test_users_and_groups_that_are_let_in(
    ground: Ground,
    open_folder: Path,
    nobody: Any,
    settings: dict[str, Any],
    groups: tuple[int, ...],
    allowed: bool,
    logged: Callable[[str], list[str]],
) -> None:
    server = ground.serve(whoami(), f"unix:{open_folder}/s", mode=0o666, **settings)
    assert knock(server, *groups).startswith("YOU") is allowed
    assert server.counts["refused"] == (0 if allowed else 1)
    assert server.counts["accepted"] == (1 if allowed else 0)
    assert len(logged("refused unix:")) == (0 if allowed else 1)


def test_all_who_wait_are_refused_before_a_server_is_replaced(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ACCEPTS_PER_TURN", 2)
    server = ground.serve(echo(), f"unix:{tmp_path}/s", allow_users=[])
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(f"{tmp_path}/s")
        server.accept_waiting()
    assert server.counts["refused"] == 5


@pytest.mark.parametrize("setting", ["allow_users", "allow_groups"])
def test_users_and_groups_need_a_unix_socket_and_must_exist(setting: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="known of Unix sockets only"):
        Server("tcp://127.0.0.1:0", **{setting: [0]})
    with pytest.raises(ListenError, match=r"there is no (user|group) 'nosuchname'"):
        Server(f"unix:{tmp_path}/s", **{setting: ["nosuchname"]})
    assert not (tmp_path / "s").exists()


def test_the_name_of_a_peer_cannot_break_a_log_line(ground: Ground) -> None:
    server = ground.serve(echo(), f"unix:@edgevent-{os.getpid()}-{id(ground)}")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0edgevent\n\x1b[2Jfake-{id(ground)}")
        sock.connect("\0" + server.address.path[1:])
        ask(sock, "x")
        assert server.peers[0].address == rf"unix:@edgevent\n\x1b[2Jfake-{id(ground)}"
