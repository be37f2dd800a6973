"""Starting commands: one, or several with pipes of the kernel between them."""

from __future__ import annotations

import errno
import functools
import importlib.util
import os
import shlex
import signal
import subprocess
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, NoReturn

from gevent.monkey import get_original, is_module_patched

from ..errors import CommandError, UsageError
from ..transport.base import close_quietly
from .reaping import Reaper

Word = str | bytes | os.PathLike[str]
"""A word of a command."""
Command = Sequence[Word]
"""A command and its arguments; no shell reads them."""
Redirection = int | Any
"""A descriptor, or a file object that has one."""

Way = Literal["lines", "inherit", "discard", "merge"]
"""What stands for a redirection: a pipe, this process's own, none at all, standard output."""

MERGE: Final = object()
_WAYS: Final = {"lines": None, "discard": subprocess.DEVNULL, "merge": MERGE}


@functools.cache
def _popen(patched: bool) -> Any:
    """Returns the ``Popen`` of the standard library, which waits for the exec and for no more.

    gevent's own waits in the hub, and other greenlets run meanwhile. In a patched program the
    module's one is no more to be called, so a copy of the module is made, with the system's calls.
    """
    if not patched:
        return subprocess.Popen
    system = types.ModuleType("os")
    system.__dict__.update(vars(os))
    for name in ("close", "waitpid"):
        setattr(system, name, get_original("os", name))
    spec = importlib.util.spec_from_file_location("edgevent_subprocess", subprocess.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.os = system  # type: ignore[attr-defined]
    return module.Popen


def check_command(command: Command) -> list[str]:
    """Returns the words of a command as text.

    Raises:
        UsageError: It is no list of words, or an empty one.
    """
    if isinstance(command, str | bytes) or not isinstance(command, Sequence):
        try:
            nearest = repr(shlex.split(os.fsdecode(command)))
        except (TypeError, ValueError):
            nearest = '["ls", "-l"]'
        raise UsageError(f"{command!r} is no command: a list was expected, such as {nearest}")
    try:
        words = [os.fsdecode(word) for word in command]
    except TypeError:
        raise UsageError(f"{command!r} is no command: its words are to be text") from None
    if not words or not words[0]:
        raise UsageError(f"{command!r} is no command: it has no first word")
    if any("\0" in word for word in words):
        raise UsageError(f"{words[0]!r}: a word of the command has a NUL in it")
    return words


def redirection(name: str, way: Way | Redirection | None, inherited: int) -> Redirection | None:
    """Returns what :func:`spawn` takes for a way, a descriptor or a file.

    Args:
        name: ``stdin``, ``stdout`` or ``stderr``.
        inherited: The descriptor that this process has for it.

    Raises:
        UsageError: It is none of these.
    """
    if way == "inherit":
        return inherited
    if isinstance(way, str):
        if way in _WAYS and (way != "merge" or name == "stderr"):
            return _WAYS[way]
    elif hasattr(way, "fileno") or (type(way) is int and way >= 0):
        return way
    ways = "'lines', 'discard', 'inherit'" + ", 'merge'" * (name == "stderr")
    raise UsageError(f"{name}={way!r}: {ways} or a file was expected")


class Spawned:
    """The children of one chain, and this side's ends of their pipes.

    Attributes:
        pids: The children, the first command's first.
        input: What the first one reads from is written here; -1 without a pipe.
        output: What the last one writes is read here; -1 without a pipe.
        errors: What they write to standard error is read here; -1 without a pipe.
    """

    __slots__ = ("errors", "input", "output", "pids")

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.input = self.output = self.errors = -1

    def give_up(self) -> None:
        """Ends all that was started."""
        for descriptor in (self.input, self.output, self.errors):
            if descriptor >= 0:
                close_quietly(descriptor)
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            Reaper.current().collect(pid)


def spawn(
    commands: list[list[str]],
    *,
    stdin: Redirection | None,
    stdout: Redirection | None,
    stderr: Redirection | None,
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | None,
    pass_fds: Sequence[int],
    new_session: bool,
) -> Spawned:
    """Starts commands, each one's output being the next one's input.

    Args:
        stdin: The input of the first one; ``None`` makes a pipe.
        stdout: The output of the last one; ``None`` makes a pipe.
        stderr: For all of them; ``None`` makes one pipe.

    Raises:
        CommandError: One of them could not be started, and so none was.
    """
    popen = _popen(is_module_patched("subprocess"))
    spawned = Spawned()
    theirs: list[int] = []  # what only the children need

    def pipe() -> tuple[int, int]:
        try:
            return os.pipe()
        except OSError as error:
            raise CommandError(f"no pipe for {commands[0][0]!r}: {error.strerror}") from error

    try:
        if stdin is None:
            stdin, spawned.input = pipe()
            theirs.append(stdin)
        if stdout is None:
            spawned.output, stdout = pipe()
            theirs.append(stdout)
        if stderr is None:
            spawned.errors, stderr = pipe()
            theirs.append(stderr)
        elif stderr is MERGE:  # with the last one's, not with what the next one reads
            stderr = stdout
        for index, words in enumerate(commands):
            following = -1
            output = stdout
            if index < len(commands) - 1:
                following, output = pipe()
                theirs += (following, output)
            try:
                started = popen(
                    words,
                    stdin=stdin,
                    stdout=output,
                    stderr=stderr,
                    cwd=cwd,
                    env=env,
                    pass_fds=pass_fds,
                    start_new_session=new_session,
                )
            except OSError as error:
                _refuse(words, error, cwd, env)
            spawned.pids.append(started.pid)
            started.returncode = 0  # it is not to be waited for when the object goes
            stdin = following
    except BaseException:
        spawned.give_up()
        raise
    finally:
        for descriptor in theirs:
            close_quietly(descriptor)
    for descriptor in (spawned.input, spawned.output, spawned.errors):
        if descriptor >= 0:
            os.set_blocking(descriptor, False)
    return spawned


def _refuse(
    words: list[str],
    error: OSError,
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | None,
) -> NoReturn:
    """Says why a command could not be started."""
    import shutil  # which takes a while, and is seldom needed

    name, number = words[0], error.errno
    reason = error.strerror or str(error)
    if cwd is not None and error.filename == cwd:
        text = f"cannot run {name!r} in the folder {os.fspath(cwd)!r}: {reason}"
    elif number == errno.ENOENT and os.path.dirname(name):
        there = os.path.exists(os.path.join(cwd or "", name))
        missing = (
            "the interpreter of its first line is missing" if there else "there is no such file"
        )
        text = f"cannot run {name!r}: {missing}"
    elif number == errno.ENOENT:
        path = (os.environ if env is None else env).get("PATH", os.defpath)
        found = shutil.which(name, os.F_OK, path)
        missing = (
            "the interpreter of its first line is missing" if found else f"not in PATH ({path})"
        )
        text = f"cannot run {name!r}: {missing}"
    elif number == errno.ENOEXEC:
        text = f"cannot run {name!r}: no program, and no script that begins with #!"
    elif number == errno.E2BIG:
        size = sum(len(os.fsencode(word)) for word in words)
        text = f"cannot run {name!r}: {size} bytes of arguments and the environment are too long"
    else:
        text = f"cannot run {name!r}: {reason}"
    raise CommandError(text, number) from error
