"""ed-new: writes a service that runs, its configuration, its unit of systemd and its test."""

from __future__ import annotations

import errno
import importlib.util
import re
import shlex
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..drafts import write_together
from ..errors import UsageError
from ..option_output import escape_output
from ..options import OptionParser
from .output import output_failed, printable
from .skeleton import make_files, next_steps

_NAME: Final = "ed-new"
_GOOD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
_MOST: Final = 64
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})  # the second is Debian's
_ELSE: Final = "hello"


def _parser() -> OptionParser:
    parser = OptionParser(
        _NAME,
        "Write a new service: NAME.py, NAME.conf, NAME.service and test_NAME.py.",
        examples=["ed-new greeter", "ed-new --folder services/greeter greeter"],
    )
    parser.add("name", metavar="NAME", help="the service's name: letters, digits, '-' and '_'")
    parser.add(
        "--folder",
        default=".",
        metavar="DIR",
        help="where the files are written; it is made if need be (default: the current folder)",
    )
    parser.add("--force", action="store_true", help="replace files that are there")
    return parser


def check_name(name: str) -> None:
    """Looks whether a service may have this name.

    Raises:
        UsageError: It may not; the sentence has the nearest one that may.
    """
    if not _GOOD.fullmatch(name):
        expected = f"expected a letter, then letters, digits, '-' and '_', {_MOST} at most"
        raise UsageError(f"name {_shown(name)}: {expected}; did you mean {_nearest(name)!r}?")
    if is_taken(name):
        hidden = f"{name}.py would hide the module {name!r} that is installed"
        raise UsageError(f"name {name!r}: {hidden}; did you mean {_nearest(name)!r}?")


def is_taken(name: str) -> bool:
    """Whether scripts that are in the same folder would import a file of this name by mistake."""
    if name in sys.stdlib_module_names or name == "edgevent":
        return True
    found = importlib.util.find_spec(name)
    folders = () if found is None else Path(found.origin or "").parts
    return not _INSTALLED.isdisjoint(folders)  # a script of the user's, which is seen too, is none


def _nearest(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_-")[:_MOST] or _ELSE
    if not words[0].isalpha():
        words = f"service_{words}"[:_MOST]
    return f"{words}_service" if is_taken(words) else words


def _shown(name: str) -> str:
    return repr(name if len(name) <= _MOST else f"{name[:_MOST]}...")


def _write(folder: Path, name: str, *, force: bool) -> list[str]:
    """Writes the files, all or none; returns their names."""
    files = make_files(name, sys.executable)
    if not force:
        there = [path for path in files if (folder / path).is_symlink() or (folder / path).exists()]
        if there:
            raise FileExistsError(
                errno.EEXIST, "is there; --force replaces it", str(folder / there[0])
            )
    folder.mkdir(parents=True, exist_ok=True)
    contents = {folder / path: (text.encode(), mode) for path, (text, mode) in files.items()}
    write_together(contents, replace=force)
    return list(files)


def _signal() -> str:
    """Names ed-signal as a shell finds it: by its folder, when that is not among the usual ones."""
    beside = Path(sys.argv[0]).with_name("ed-signal")
    if shutil.which(beside.name) or not beside.is_file():
        return beside.name
    return str(beside.absolute())


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a new service.

    Returns:
        0 when all is written, 1 when it cannot be, 2 after bad usage.
    """
    options = _parser().parse(argv)
    escape_output()
    folder = Path(options.folder)
    try:
        check_name(options.name)
        written = _write(folder, options.name, force=options.force)
    except UsageError as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = printable(str(error.filename or folder))
        print(f"{_NAME}: {where}: {error.strerror}", file=sys.stderr)
        return 1
    try:
        print("Written:", *written)
        print()
        if folder != Path("."):
            print("Go there:", f"  cd {shlex.quote(str(folder))}", "", sep="\n")
        steps = next_steps(options.name, shlex.quote(sys.executable), shlex.quote(_signal()))
        print(steps, end="", flush=True)
    except OSError as error:  # all is written; only the way on was not told
        output_failed(_NAME, error)
    return 0
