"""The files of scripts/systemd/: systemd's own programs and logrotate take them as they are."""

from __future__ import annotations

import configparser
import os
import pwd
import re
import shlex
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from running import LIMIT, ROOT
from tool_ground import variables_of, words_of

from edgevent.communicatord.link_settings import PLAIN_NAME
from edgevent.fluidsettings.options import DEFAULT_LISTEN
from edgevent.snaplogger.protocol import DEFAULT_PORT

FOLDER = ROOT / "scripts" / "systemd"
UNITS = sorted(path.name for path in (FOLDER / "system").iterdir())
SERVICES = [name for name in UNITS if name.endswith(".service")]
ROTATED = sorted(path.name for path in (FOLDER / "logrotate.d").iterdir())

NeedTool = Callable[..., str]


def run(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, words)],
        cwd=folder,
        env=variables_of(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def unit_text(name: str) -> str:
    return (FOLDER / "system" / name).read_text(encoding="utf-8")


def settings_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line[:1] not in ("", "#")]


def verify(analyze: str, folder: Path, units: dict[str, str]) -> None:
    """Has systemd judge units, with programs that are there in place of those they start."""
    program = folder / "program"
    program.write_text("#!/bin/sh\n", encoding="ascii")
    program.chmod(0o755)
    paths = []
    for name, text in units.items():
        paths.append(folder / name.replace("@.", "@hello."))
        text = re.sub(r"^ExecStart=[^/\s]\S*", f"ExecStart={program}", text, flags=re.MULTILINE)
        paths[-1].write_text(text, encoding="utf-8")
    done = run(analyze, "verify", "--man=no", *paths, folder=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_takes_every_unit(tmp_path: Path, need_tool: NeedTool) -> None:
    assert len(UNITS) >= 5
    analyze = need_tool("systemd-analyze", package="systemd")
    verify(analyze, tmp_path, {name: unit_text(name) for name in UNITS})


def test_systemd_finds_every_service_well_shut_in(tmp_path: Path, need_tool: NeedTool) -> None:
    analyze = need_tool("systemd-analyze", package="systemd")
    paths = []
    for name in SERVICES:
        paths.append(tmp_path / name.replace("@.", "@hello."))
        paths[-1].write_text(unit_text(name), encoding="utf-8")
    words = ["--offline=yes", "--no-pager", "--threshold=20"]  # of 100: "OK", as systemd says
    done = run(analyze, "security", *words, *paths, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_services_differ_only_in_who_they_are() -> None:
    known = {"Description", "After", "Wants", "ExecStart", "User", "Group", "DynamicUser"}
    known |= {"SupplementaryGroups", "RuntimeDirectoryPreserve", "Also"}
    known |= {f"{kind}Directory" for kind in ("Runtime", "State", "Logs", "Configuration")}
    kept = [
        [one for one in settings_of(unit_text(name)) if one.partition("=")[0] not in known]
        for name in SERVICES
    ]
    assert all(one == kept[0] for one in kept)
    assert {"Type=notify", "WatchdogSec=30s", "NoNewPrivileges=yes"} < set(kept[0])


def test_users_and_folders_are_made(tmp_path: Path, need_tool: NeedTool) -> None:
    sysusers = need_tool("systemd-sysusers", package="systemd")
    tmpfiles = need_tool("systemd-tmpfiles", package="systemd")
    if os.geteuid():
        pytest.skip("this user may not give files to others")
    (tmp_path / "etc").mkdir()
    (tmp_path / "run").mkdir()
    files = {kind: FOLDER / kind / "edgevent.conf" for kind in ("sysusers.d", "tmpfiles.d")}
    done = run(sysusers, f"--root={tmp_path}", files["sysusers.d"], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run(tmpfiles, f"--root={tmp_path}", "--create", files["tmpfiles.d"], folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = (tmp_path / "etc/passwd").read_text(encoding="utf-8").splitlines()
    users = {line.split(":")[0]: line.split(":") for line in lines}
    groups = (tmp_path / "etc/group").read_text(encoding="utf-8")
    found = (tmp_path / "run/communicator").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (int(users["communicator"][2]), 0o755)
    assert (tmp_path / "etc/edgevent").stat().st_uid == pwd.getpwnam("root").pw_uid
    named = set()
    for name in UNITS:
        for line in settings_of(unit_text(name)):
            key, _, value = line.partition("=")
            if key in ("User", "SocketUser"):
                assert value in users, name
                named.add(value)
            elif key in ("Group", "SocketGroup", "SupplementaryGroups"):
                assert re.search(rf"^{value}:", groups, re.MULTILINE), name
    assert named == set(users)


def test_the_socket_unit_names_the_ports_of_the_daemon() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read_string(unit_text("communicatord.socket"))
    assert parser["Socket"]["ListenDatagram"] == "127.0.0.1:4041"  # where ed-signal sends
    service = unit_text("communicatord.service")
    assert "RuntimeDirectory=communicator\nRuntimeDirectoryPreserve=yes\n" in service


def test_other_socket_units_name_the_addresses_of_their_daemons() -> None:
    endpoint = DEFAULT_LISTEN.partition("//")[2]
    assert f"\nListenStream={endpoint}\n" in unit_text("fluid-settings.socket")
    for kind in ("Stream", "Datagram"):
        assert f"\nListen{kind}=127.0.0.1:{DEFAULT_PORT}\n" in unit_text("snaploggerd.socket")
    assert f"\nFileDescriptorName={PLAIN_NAME}\n" in unit_text("communicatord-remote.socket")


# --- log files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROTATED)
def test_logrotate_takes_the_file(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    logrotate = need_tool("logrotate", package="logrotate")
    own = tmp_path / name
    text = (FOLDER / "logrotate.d" / name).read_text(encoding="utf-8")
    own.write_text(re.sub(r"^    (su|create).*\n", "", text, flags=re.MULTILINE), encoding="utf-8")
    own.chmod(0o644)
    done = run(logrotate, "--debug", "--state", tmp_path / "state", own, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ROTATED)
def test_the_users_of_the_logs_are_those_of_the_units(name: str) -> None:
    text = (FOLDER / "logrotate.d" / name).read_text(encoding="utf-8")
    unit = unit_text(f"{name}.service")
    user = re.search(r"^User=(.*)$", unit, re.MULTILINE)
    logs = re.search(r"^LogsDirectory=(.*)$", unit, re.MULTILINE)
    assert user is not None
    assert logs is not None
    assert text.startswith(f"/var/log/{logs[1]}/*.log {{\n")
    assert f"    su {user[1]} {user[1]}\n" in text
    assert f"    create 0640 {user[1]} {user[1]}\n" in text


def test_ed_signal_takes_the_lines_that_reopen_logs(
    tmp_path: Path, need_tool: NeedTool, own_namespaces: Callable[..., list[str]]
) -> None:
    ip = need_tool("ip", package="iproute2")
    lines = []
    for name in ROTATED:
        text = (FOLDER / "logrotate.d" / name).read_text(encoding="utf-8")
        [found] = re.findall(r"^ +(ed-signal .*) \|\| true$", text, re.MULTILINE)
        lines.append(shlex.join(words_of(*shlex.split(found))) + "; echo $?")
    # Nobody is there, which is told apart from bad usage, and nothing is sent to this machine.
    script = "\n".join([f"{ip} link set lo up", *lines])
    done = run(*own_namespaces("-n"), "sh", "-c", script, folder=tmp_path)
    assert done.stdout.split() == ["1"] * len(ROTATED), done.stderr
    assert done.stderr.count("127.0.0.1:4041") == 2, done.stderr
    assert done.stderr.count("127.0.0.1:4988") == 1, done.stderr


# --- the whole ------------------------------------------------------------------------------------


def test_every_file_is_installed() -> None:
    config = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert len(files) == len(UNITS) + len(ROTATED) + 2
    for path in files:
        kind = path.parent.name
        block = config.partition(f"\nshare/edgevent/systemd/{kind} =\n")[2].partition("\nshare")[0]
        assert f"    {path.relative_to(ROOT)}" in block.partition("\n[")[0].splitlines(), path
