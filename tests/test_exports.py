"""What ``import edgevent`` gives, and what it must not do."""

import ast
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path

import pytest

import edgevent

ROOT = Path(__file__).resolve().parent.parent

TOP_LEVEL = {
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "edgevent",
    "examples",
    "scripts",
    "setup.cfg",
    "setup.py",
    "tests",
}
TOP_LEVEL_DOT_NAMES = {".ci", ".gitignore", ".ruff.toml"}

# What the package itself uses to do its imports.
OF_OTHERS = {"TYPE_CHECKING", "Any", "Final", "annotations", "import_module"}
# Names that are plain values, which cannot carry a docstring.
VALUES = {"__version__"}


def own_docstring(value: object) -> str:
    """The docstring written for this object: not one inherited, nor one that dataclass makes."""
    text = vars(value).get("__doc__") if hasattr(value, "__dict__") else None
    if text is None and not inspect.isclass(value):
        text = getattr(value, "__doc__", None)
    if not isinstance(text, str) or text.startswith(f"{getattr(value, '__name__', '')}("):
        return ""
    return text.strip()


def public_members(value: type) -> Iterator[tuple[str, object]]:
    """The public functions and properties that a class defines itself."""
    for name, member in vars(value).items():
        if name.startswith("_"):
            continue
        if isinstance(member, staticmethod | classmethod):
            member = member.__func__
        if inspect.isfunction(member) or isinstance(member, property):
            yield name, member


def test_every_exported_name_exists() -> None:
    assert set(edgevent.__all__) > VALUES
    assert [name for name in edgevent.__all__ if not hasattr(edgevent, name)] == []


def test_the_exported_names_are_sorted_and_single() -> None:
    assert list(edgevent.__all__) == sorted(set(edgevent.__all__))


def test_every_public_name_is_exported() -> None:
    public = {
        name
        for name, value in vars(edgevent).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    } - OF_OTHERS
    assert public - set(edgevent.__all__) == set()


def test_what_is_imported_when_first_used_is_what_type_checkers_see() -> None:
    tree = ast.parse((ROOT / "edgevent/__init__.py").read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in blocks[0].body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == edgevent._LATER
    assert set(seen) < set(edgevent.__all__) <= set(dir(edgevent))


def test_a_name_that_is_none_is_said_to_be_none() -> None:
    with pytest.raises(AttributeError, match="module 'edgevent' has no attribute 'Nothing'"):
        attrgetter("Nothing")(edgevent)


@pytest.mark.parametrize("name", [name for name in edgevent.__all__ if name not in VALUES])
def test_an_exported_name_is_documented(name: str) -> None:
    value = getattr(edgevent, name)
    assert own_docstring(value), f"edgevent.{name} has no docstring"
    if inspect.isclass(value):
        # An overriding method may stand on the docstring of what it overrides.
        bare = [
            member
            for member, _ in public_members(value)
            if not inspect.getdoc(getattr(value, member))
        ]
        assert bare == [], f"edgevent.{name}: no docstring on {bare}"


IMPORT_PROBE = """
import gc, os, signal, sys, threading
import greenlet, gevent, gevent.hub, gevent.monkey  # what edgevent needs may be there already

def state():
    return (
        sorted(os.listdir("/proc/self/fd")),
        [signal.getsignal(number) for number in sorted(signal.valid_signals())],
        dict(os.environ),
    )

before = state()
import edgevent
few = len(sys.modules)
for name in edgevent.__all__:
    getattr(edgevent, name)
assert len(sys.modules) > few, "nothing is imported when it is first used"
assert state() == before, "import edgevent opened a descriptor or touched signals or environment"

heavy = {"OpenSSL", "configargparse", "cryptography", "service_identity"} & set(sys.modules)
assert not heavy, f"import edgevent imports {sorted(heavy)}"

patchable = sorted({*sys.modules, "builtins", "queue", "select", "socket", "ssl", "subprocess"})
patched = [name for name in patchable if gevent.monkey.is_module_patched(name)]
assert not patched, f"import edgevent patches {patched}"

assert threading.active_count() == 1 and len(os.listdir("/proc/self/task")) == 1, "a thread"
main = greenlet.getcurrent()
alive = [o for o in gc.get_objects() if issubclass(type(o), greenlet.greenlet) and o is not main]
assert not alive, f"import edgevent makes greenlets or a hub: {alive}"
print("clean")
"""


def test_import_has_no_side_effects() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_PROBE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("clean\n", 0), done.stderr


def top_level(need_tool: Callable[..., str]) -> set[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout: nothing tells our files from others")
    git = need_tool("git", package="git")
    listing = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    return {path.partition("/")[0] for path in listing.split("\0") if path}


def test_the_top_level_holds_nothing_else(need_tool: Callable[..., str]) -> None:
    names = top_level(need_tool)
    assert "setup.cfg" in names
    assert names - TOP_LEVEL - TOP_LEVEL_DOT_NAMES == set()
