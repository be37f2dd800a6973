"""What ed-new writes: a service, its configuration, its unit of systemd and its test."""

from __future__ import annotations

from typing import Final

PORT: Final = 3001
"""Where a new service listens."""

_SCRIPT: Final = '''\
#!/usr/bin/env python3
"""@NAME@: greets whoever asks. To be replaced by what it is to do."""

from edgevent import Service

service = Service("@NAME@", "Greet whoever asks.")


@service.on("GREET")
def greet(message, peer, name: str):
    return message.reply("GREETING", {"text": f"Hello, {name}!"})


if __name__ == "__main__":
    raise SystemExit(service.main())
'''

_CONFIGURATION: Final = """\
# The configuration of @NAME@. "@NAME@.py --help" lists the options, "--show-config" what is in
# force; SIGHUP ("systemctl reload @NAME@") has a service that runs read this file again.

# Where it listens: NAME = ADDRESS, and settings behind it, such as mode=0660 for a Unix socket.
[listeners]
main = tcp://127.0.0.1:@PORT@
# local = unix:/run/@NAME@/@NAME@.sock mode=0660

# Who may send which command, where that is not for all. Without a line, STOP and its like are
# obeyed from this machine only.
[allow]
# STOP = uid:root
"""

_UNIT: Final = """\
[Unit]
Description=@NAME@
After=network.target

[Service]
Type=notify
ExecStart=@PYTHON@ /usr/local/lib/edgevent/@NAME@.py
ExecReload=/bin/kill -HUP $MAINPID
# SIGTERM goes to the service alone: it lets handlers end and answers leave, and ends its children.
KillMode=mixed
TimeoutStopSec=15s
WatchdogSec=30s
Restart=on-failure
RestartSec=1s
# With this status it ends after the command RESTART.
RestartForceExitStatus=75
LimitNOFILE=65536
DynamicUser=yes
RuntimeDirectory=@NAME@
StateDirectory=@NAME@
LogsDirectory=@NAME@
ConfigurationDirectory=edgevent

# Nothing is written but the folders above, and no right is gained.
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateDevices=yes
PrivateTmp=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0027

[Install]
WantedBy=multi-user.target
"""

_TEST: Final = '''\
"""What @NAME@ answers, run as a process of its own: python3 -m pytest test_@NAME@.py"""

from pathlib import Path

import pytest

from edgevent import InvalidMessageError, Message

pytest_plugins = ["edgevent.testing.plugin"]  # in a conftest.py, if there are more files

SCRIPT = Path(__file__).with_name("@NAME@.py")
CONFIG = "[listeners]\\nmain = tcp://127.0.0.1:{port}\\n"  # {port} is a free one


@pytest.fixture
def client(start_service):
    return start_service(SCRIPT, config=CONFIG).client()


def test_it_greets_by_name(client):
    reply = client.request(Message("GREET", {"name": "Anna"}), reply="GREETING", timeout=5.0)
    assert reply["text"] == "Hello, Anna!"


def test_a_name_is_needed(client):
    with pytest.raises(InvalidMessageError, match="parameter name is missing"):
        client.request(Message("GREET"), timeout=5.0)
'''

_STEPS: Final = """\
Try it:
  @PYTHON@ @NAME@.py --config @NAME@.conf
and from another shell:
  @SIGNAL@ --host tcp://127.0.0.1:@PORT@ --reply --param name=you GREET
  @SIGNAL@ --host tcp://127.0.0.1:@PORT@ STOP

Test it, with pytest installed beside edgevent:
  @PYTHON@ -m pytest test_@NAME@.py

Run it under systemd, as root:
  install -D -m 755 @NAME@.py /usr/local/lib/edgevent/@NAME@.py
  install -D -m 644 @NAME@.conf /etc/edgevent/@NAME@.conf
  install -m 644 @NAME@.service /etc/systemd/system/
  systemctl daemon-reload
  systemctl enable --now @NAME@
"""


def make_files(name: str, python: str) -> dict[str, tuple[str, int]]:
    """Makes the files of a new service.

    Args:
        name: The service's name.
        python: The path of the Python that is to run it.

    Returns:
        To the name of each file its text and its mode.
    """
    # systemd reads "%" and quotes in a command line, man 5 systemd.service.
    quoted = python.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    unit = _UNIT.replace("@PYTHON@", f'"{quoted}"' if quoted != python or " " in python else python)
    texts = {
        f"{name}.py": (_SCRIPT, 0o755),
        f"{name}.conf": (_CONFIGURATION, 0o644),
        f"{name}.service": (unit, 0o644),
        f"test_{name}.py": (_TEST, 0o644),
    }
    return {path: (_fill(text, name), mode) for path, (text, mode) in texts.items()}


def next_steps(name: str, python: str, signal: str) -> str:
    """Gives the lines that try, test and install a new service, as a shell takes them.

    Args:
        name: The name of the service.
        python: The interpreter.
        signal: The program ed-signal, as the shell finds it.
    """
    return _fill(_STEPS, name).replace("@PYTHON@", python).replace("@SIGNAL@", signal)


def _fill(text: str, name: str) -> str:
    return text.replace("@NAME@", name).replace("@PORT@", str(PORT))
