"""Where a program keeps what it has: by systemd's variables, as root, and as a user."""

import os

import pytest

from edgevent.folders import Kind, own_folder

KINDS: list[tuple[Kind, str, str]] = [
    ("runtime", "RUNTIME_DIRECTORY", "/run/tree"),
    ("state", "STATE_DIRECTORY", "/var/lib/tree"),
    ("logs", "LOGS_DIRECTORY", "/var/log/tree"),
]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", *(variable for _, variable, _ in KINDS)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/a")


@pytest.mark.parametrize(("kind", "variable", "system"), KINDS)
def test_the_folder_of_a_unit_comes_before_that_of_the_superuser(
    kind: Kind, variable: str, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert own_folder(kind, "tree") == system
    monkeypatch.setenv(variable, "/of/the/unit:/another")
    assert own_folder(kind, "tree") == "/of/the/unit"


def test_a_user_has_folders_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert own_folder("runtime", "tree") == "/home/a/.local/state/tree"
    assert own_folder("state", "tree") == "/home/a/.local/state/tree"
    assert own_folder("logs", "tree") == "/home/a/.local/state/log/tree"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert own_folder("runtime", "tree") == "/run/user/1000/tree"
    assert own_folder("state", "tree") == "/state/tree"
    assert own_folder("logs", "tree") == "/state/log/tree"
