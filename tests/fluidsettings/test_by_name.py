"""Settings by way of communicatord: a service and the tool, and a daemon that goes and comes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from network_ground import PATIENCE
from running import EXAMPLES
from settings_ground import words_of as daemon_words
from tool_ground import SCRIPTS, begin, run

from edgevent.communicatord.script import CommunicatorClient
from edgevent.errors import ServiceUnavailableError, SettingError
from edgevent.fluidsettings import Client
from edgevent.testing.starting import StartedService

ROUTER = "--communicator-listen=unix:cd.sock"


@pytest.fixture
def router(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartedService]:
    monkeypatch.chdir(tmp_path)
    words = ("--server-name=vm", "--unix-listen=unix:cd.sock", "--local-listen=127.0.0.1:0")
    command = [sys.executable, str(SCRIPTS / "communicatord"), *words, "--signal=127.0.0.1:0"]
    with StartedService(command, ready="notify", folder=tmp_path, timeout=PATIENCE) as router:
        yield router


@contextmanager
def started_daemon(router: StartedService, *, times: int) -> Iterator[StartedService]:
    """Starts the daemon, and waits until it is registered, for the first or a further time."""
    folder = router.folder
    words = [one for one in daemon_words(folder) if not one.startswith("--definitions")]
    words += [f"--definitions={EXAMPLES}", ROUTER, "--listen=unix:settings.sock"]
    registered = "registered as fluid_settings\n"
    with StartedService(words, ready="notify", folder=folder, timeout=PATIENCE) as daemon:
        router.wait_until(lambda router: router.output.count(registered) == times)
        yield daemon


def test_values_come_by_way_of_communicatord(router: StartedService) -> None:
    folder = router.folder
    name = "greeter::greeting"
    variables = {"COMMUNICATOR_LISTEN": "unix:cd.sock"}
    with ExitStack() as stack:
        daemon = stack.enter_context(started_daemon(router, times=1))
        greeter = stack.enter_context(
            StartedService(
                [sys.executable, str(EXAMPLES / "greeter.py"), "--fluid-settings=communicatord"],
                ready="notify",
                folder=folder,
                env=variables,
                timeout=PATIENCE,
            )
        )
        assert "starting with Good day and 5" in greeter.output
        watching = begin("fluid-settings-cli", ROUTER, "--json", "watch", name, folder=folder)
        stack.callback(end, watching)
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["value"] == "Good day"
        with Client(link=CommunicatorClient("tester", address="unix:cd.sock")) as client:
            assert client.set(name, "Moin") == "new"
            assert client.get(name) == "Moin"
            with pytest.raises(SettingError, match="no parameter named"):
                client.set("no::such", "x")
            assert client.history(name)[0].who == "vm:tester"
        assert json.loads(watching.stdout.readline())["value"] == "Moin"
        greeter.wait_until(re.compile("greeting: Moin"), within=PATIENCE)
        # The connection to communicatord stays while the daemon is not there.
        daemon.stop()
        done = run("fluid-settings-cli", ROUTER, "get", name, folder=folder)
        assert (done.returncode, done.stdout) == (1, "")
        assert "no service fluid_settings" in done.stderr
        link = CommunicatorClient(address="unix:cd.sock")
        with Client(link=link) as client, pytest.raises(ServiceUnavailableError):
            client.get(name)
        stack.enter_context(started_daemon(router, times=2))
        done = run("fluid-settings-cli", ROUTER, "set", name, "Servus", folder=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(watching.stdout.readline())["value"] == "Servus"
        greeter.wait_until(re.compile("greeting: Servus"), within=PATIENCE)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
