"""The options of a service for its settings, and the start while no daemon is there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from network_ground import PATIENCE
from running import EXAMPLES

from edgevent import OptionError, Service, SettingError, UsageError
from edgevent.testing.starting import StartedService

GREETER = [sys.executable, str(EXAMPLES / "greeter.py"), "--fluid-settings=unix:settings.sock"]


def service(folder: Path) -> Service:
    made = Service("greeter", "Greets.", config_folder=folder)
    made.setting("pause", 5)
    made.setting("others::name", "x")
    return made


def test_a_service_has_options_for_its_settings(tmp_path: Path) -> None:
    options = service(tmp_path).options
    assert str(options.read([]).fluid_settings) == "tcp://127.0.0.1:4049"
    assert str(options.read(["--fluid-settings=10.0.0.5"]).fluid_settings) == "tcp://10.0.0.5:4049"
    assert options.read(["--fluid-settings=communicatord"]).fluid_settings == "communicatord"
    (tmp_path / "greeter.conf").write_text("[settings]\npause = 9\nothers::name = y\n")
    assert options.read([]).settings == {"pause": "9", "others::name": "y"}
    assert not hasattr(Service("other", "Has none.").options.read([]), "fluid_settings")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--fluid-settings=nonsense://x"], "nonsense"),
        (["--fluid-settings-timeout=2h"], "100ms to 1h"),
        (["--settings=pause=x"], "setting 'pause': invalid literal"),
        (["--settings=puase=1"], "no setting 'puase'"),
    ],
)
def test_options_that_are_none_are_named(tmp_path: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        service(tmp_path).options.read(words)


def test_a_setting_is_declared_once(tmp_path: Path) -> None:
    made = service(tmp_path)
    with pytest.raises(UsageError, match="is there already"):
        made.setting("greeter::pause", 3)
    with pytest.raises(SettingError):
        made.setting("no name", 3)


def test_the_way_through_communicatord_needs_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Service("greeter", "Greets.", config_folder=tmp_path, communicatord=True)
    made.setting("pause", 5)
    words = ["--communicator-listen=off", "--fluid-settings=communicatord"]
    assert made.main(words) == 2
    assert "with --communicator-listen=off: expected one of them" in capsys.readouterr().err
    # Where it is says the option; nobody is there.
    words = ["--communicator-listen=unix:no.sock", "--fluid-settings-timeout=100ms", words[1]]
    made.on_start(lambda options: made.stop())
    assert made.main(words) == 0


def test_without_a_daemon_it_starts_with_the_copy_and_the_options(tmp_path: Path) -> None:
    values = {"greeter::greeting": "Moin", "greeter::pause": "7"}
    copy = tmp_path / "copy.json"
    copy.write_text(json.dumps({"settings": values}))
    copy.chmod(0o600)
    words = [*GREETER, "--settings-copy=copy.json", "--settings=pause=9"]
    with StartedService(words, ready="notify", folder=tmp_path, timeout=PATIENCE) as greeter:
        assert "starting with Moin and 9" in greeter.output
        assert "the values are those of the copy" in greeter.output
    assert greeter.exit_code == 0
    words = [*GREETER, "--fluid-settings-timeout=100ms"]
    with StartedService(words, ready="notify", folder=tmp_path, timeout=PATIENCE) as greeter:
        assert "starting with Hello and 5" in greeter.output
        assert "the values are those of the program" in greeter.output
