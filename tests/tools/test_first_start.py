"""What new users meet first: folders that are not there, daemons that are not, a full disk."""

import sys
from pathlib import Path

import pytest

from edgevent.errors import CertificateError, ConnectError
from edgevent.fluidsettings import program as settings_program
from edgevent.options import OptionParser
from edgevent.snaplogger import program as log_program
from edgevent.tools.output import not_there


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/not/there")
    monkeypatch.setenv("LOGS_DIRECTORY", f"{tmp_path}/logs")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_what_cannot_be_written_is_told(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as caught:
            OptionParser("tree", "Grows.").parse([option])
        monkeypatch.undo()
    assert caught.value.code == 1
    assert capsys.readouterr().err == "tree: standard output: No space left on device\n"


def test_an_export_to_a_full_disk_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        assert settings_program.main(["--export=-"]) == 1
    said = capsys.readouterr().err
    assert said == "fluid-settings: standard output: No space left on device\n"
    assert (tmp_path / "not/there/settings.db").exists()


def test_the_folder_of_the_settings_is_made_or_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as caught:
        settings_program.main(["--check-config", "--communicator-listen=off"])
    assert caught.value.code == 0, capsys.readouterr().err
    (tmp_path / "not").write_text("", encoding="ascii")
    assert settings_program.main(["--export=-"]) == 1
    told = f"{tmp_path}/not/there/settings.db: its folder cannot be made: "
    assert told in capsys.readouterr().err
    assert settings_program.main(["--export=-", f"--database={tmp_path}/no/settings.db"]) == 1
    assert not (tmp_path / "no").exists()  # what is named is not made


def test_a_failed_start_counts_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    off = ("--tcp-listen=off", "--udp-listen=off", "--logrotate-listen=127.0.0.1:0")
    assert log_program.main([*off, f"--unix-listen={tmp_path}/no/socket"]) == 1
    said = capfd.readouterr().err
    assert "No such file or directory" in said
    assert "records 0" not in said


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectError("unix:/x: No such file", 2), "no hello listens at unix:/x: No such file"),
        (ConnectError("unix:/x: Permission denied", 13), "unix:/x: Permission denied"),
        (CertificateError("tls://x: it is expired"), "tls://x: it is expired"),
    ],
)
def test_a_daemon_that_is_not_there_is_named(error: ConnectError, text: str) -> None:
    assert not_there(error, "hello") == text
