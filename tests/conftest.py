"""What every test may use."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

pytest_plugins = ["edgevent.testing.plugin"]

# The options meant for this run must not reach a pytest that a test starts.
os.environ.pop("PYTEST_ADDOPTS", None)


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have daemons that a test starts keep their files where pytest clears up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATE_DIRECTORY", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_ignored_signals() -> None:
    """Have programs that a test starts heed what nohup, or a shell for its background, ignores."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # a program that is run gets the default back


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have programs not compile all modules anew where Python may not write beside its sources.

    That is a third of what the start of a program takes, and the tests start some two thousand.
    """
    with pytest.MonkeyPatch.context() as patch:
        if os.environ.get("PYTHONDONTWRITEBYTECODE"):
            patch.delenv("PYTHONDONTWRITEBYTECODE")
            patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture(scope="session")
def need_tool() -> Callable[..., str]:
    """Give ``need_tool("socat", package="socat")``: the tool's path, or no test.

    Without the tool the test is skipped with the Debian package as the reason; where ``CI=true``
    is in the environment it fails, for there nothing may be left out without a word.
    """

    def find(tool: str, *, package: str) -> str:
        path = shutil.which(tool, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        if path is not None:
            return path
        reason = f"needs {tool} of the Debian package {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    return find


@pytest.fixture(scope="session")
def own_namespaces(need_tool: Callable[..., str]) -> Callable[..., list[str]]:
    """Give ``own_namespaces("-n")``: the words before a command that has such ones, or no test.

    The options are those of unshare(1).
    """

    def words(options: str) -> list[str]:
        found = [need_tool("unshare", package="util-linux"), options]
        if "n" in options:  # its loopback interface is to be set up
            need_tool("ip", package="iproute2")
        if "m" in options:
            need_tool("mount", package="mount")
        if subprocess.run([*found, "true"], capture_output=True, check=False).returncode:
            pytest.skip(f"needs the right to make namespaces: unshare {options}")
        return found

    return words
