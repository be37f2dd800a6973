"""The house rule: a module imports only from floors below, or from its left on its own floor.

``python tests/test_layers.py 0 1`` prints the files of those floors, for the coverage gate.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "edgevent"

# Floors from the ground up, each from left to right; "." and the package's own name left out.
# A package's __init__ stands right of its last module unless it is listed; edgevent/__init__.py
# stands above all.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "limits",
        "folders",
        "durations",
        "arguments",
        "address",
        "values",
        "wire",
        "json_form",
        "message",
    ),
    (
        "definitions",
        "binding",
        "answers",
        "handler_times",
        "defaults",
        "dispatcher",
        "framing",
        "backoff",
        "signing",
        "certificate",
        "drafts",
        "keypair",
        "keymaking",
        "tls_files",
        "conditions",
        "tls",
        "tls_verify",
        "tls_session",
    ),
    (
        "runtime.native",
        "runtime.guards",
        "runtime.closing",
        "runtime.clock",
        "runtime.watchers",
        "runtime.traffic",
        "runtime.turns",
        "runtime.lag",
        "runtime.waits",
        "runtime.inbox",
        "runtime.attached",
        "runtime.room",
        "runtime.outbox",
        "runtime.record_outbox",
        "runtime.datagram_outbox",
        "runtime.signal_names",
        "runtime.signalfd",
        "runtime.masking",
        "runtime.signals",
        "runtime.monitor",
    ),
    (
        "transport.base",
        "transport.files",
        "transport.resolve",
        "transport.everywhere",
        "transport.socket_file",
        "transport.stream",
        "transport.record",
        "transport.rights",
        "transport.fd",
        "transport.fifo",
        "transport.fifo_listen",
        "transport.adopt",
        "transport.pipe",
        "transport.memory",
        "transport.secure",
        "transport.handshake",
        "transport.datagram",
        "transport.inherited",
        "transport.multicast",
        "transport.datagram_open",
        "transport.datagram_record",
        "transport.datagram_send",
        "transport.dial",
        "transport.listen",
    ),
    (
        "turn_limits",
        "timeouts",
        "connection",
        "timer",
        "inspect_alive",
        "calls",
        "debugging",
        "counting",
        "communicator",
    ),
    (
        "links",  # the package itself, which holds nothing
        "communicatord",  # likewise
        "snaplogger",  # likewise
        "snaplogger.protocol",
        "sources.deadly",
        "sources.signals",
        "sources.queued",
        "sources.reaping",
        "sources.children",
        "sources.connector",
        "sources.process_events",
        "sources.inotify",
        "sources.file_event",
        "sources.file_path",
        "sources.file_ledger",
        "sources.file_folders",
        "sources.file_tree",
        "sources.file_roots",
        "sources.file_changes",
        "sources.files",
        "sources.sock_diag",
        "sources.socket_files",
        "sources.listening_poll",
        "sources.listening",
        "sources.doorbell",
        "sources.native_threads",
        "sources.threads",
        "links.undelivered",
        "links.identity",
        "links.counted",
        "links.ending",
        "links.flow",
        "links.stream",
        "links.raw",
        "sources.spawning",
        "sources.commands",
        "sources.process_pipes",
        "sources.process",
        "links.request",
        "sources.thread_end",
        "sources.thread_link",
        "links.fds",
        "links.carrying",
        "links.asking",
        "links.malformed",
        "links.message",
        "links.senders",
        "links.resending",
        "links.many",
        "links.ready",
        "links.plain",
        "links.admission",
        "links.greeting",
        "links.handler",
        "links.reserve",
        "links.accepting",
        "links.server",
        "links.send_datagram",
        "links.datagram_client",
        "links.datagram_flow",
        "links.datagram_peer",
        "links.datagram",
        "links.report",
        "links.listener_wait",
        "links.dialled",
        "links.permanent",
        "links.client",
        "communicatord.naming",
        "fluidsettings.names",
        "fluidsettings.values",
        "fluidsettings.dates",
        "fluidsettings.described",
        "fluidsettings.watch",
        "fluidsettings.client",
        "fluidsettings.local_copy",
        "fluidsettings.listening",
        "fluidsettings",  # the package itself, which imports when it is asked
        "communicatord.places",
        "communicatord.arrivals",
        "communicatord.statuses",
        "communicatord.calls",
        "communicatord.registering",
        "communicatord.client",
        "communicatord.script",
    ),
    (
        "systemd",
        "pid_file",
        "option_values",
        "option_sections",
        "option_files",
        "option_secrets",
        "option_reading",
        "option_parsing",
        "option_output",
        "option_checks",
        "options",
        "option_groups",
        "communicatord.client_options",
        "log_levels",
        "log_text",
        "log_record",
        "log_handler",
        "log_stream",
        "log_file",
        "log_syslog",
        "log_journal",
        "snaplogger.entries",
        "snaplogger.way",
        "snaplogger.stream_way",
        "snaplogger.datagram_way",
        "snaplogger.sender",
        "snaplogger.network_handler",
        "snaplogger.handlers",
        "snaplogger.handler_options",
        "log_options",
        "logs",
        "logrotate",
        "exposition",
        "counter_values",
        "counters",
        "metrics",
        "allow",
        "service_places",
        "service_sets",
        "service_parts",
        "service_listeners",
        "service_links",
        "service_declared",
        "service_run",
        "service_settings",
        "service_with_settings",
        "service",
    ),
    (
        "communicatord.station",
        "communicatord.ways",
        "communicatord.conditions",
        "communicatord.held",
        "communicatord.broadcasting",
        "communicatord.reports",
        "communicatord.presence",
        "communicatord.shortcut",
        "communicatord.router",
        "communicatord.departures",
        "communicatord.relay",
        "communicatord.tracing",
        "communicatord.tap",
        "communicatord.taps",
        "communicatord.traffic",
        "communicatord.alive",
        "communicatord.clock_status",
        "communicatord.neighbors",
        "communicatord.load_file",
        "communicatord.load_average",
        "communicatord.computer",
        "communicatord.commands",
        "communicatord.cluster",
        "communicatord.routes",
        "communicatord.remote",
        "communicatord.link_settings",
        "communicatord.crossings",
        "communicatord.links",
        "communicatord.remote_commands",
        "communicatord.link_options",
        "communicatord.daemon",
        "communicatord.options",
        "communicatord.program",
        "snaplogger.collected",
        "snaplogger.line_form",
        "snaplogger.log_files",
        "snaplogger.store",
        "snaplogger.durable",
        "snaplogger.repeats",
        "snaplogger.repeats_file",
        "snaplogger.sender_limits",
        "snaplogger.collector",
        "snaplogger.ordering",
        "snaplogger.streams",
        "snaplogger.log_stream",
        "snaplogger.server_options",
        "snaplogger.program",
        "fluidsettings.validators",
        "fluidsettings.definitions",
        "fluidsettings.database",
        "fluidsettings.committing",
        "fluidsettings.deletions",
        "fluidsettings.store",
        "fluidsettings.transfer",
        "fluidsettings.peer",
        "fluidsettings.listeners",
        "fluidsettings.commands",
        "fluidsettings.replication",
        "fluidsettings.options",
        "fluidsettings.page_files",
        "fluidsettings.http_access",
        "fluidsettings.http_events",
        "fluidsettings.http_server",
        "fluidsettings.page",
        "fluidsettings.web",
        "fluidsettings.http_options",
        "fluidsettings.program",
        "tools",
        "testing",
    ),
)
# A package named here without its modules holds them all, in any order among themselves.
WHOLE = {"tools", "testing"}

# What floors 0 and 1 never import, and what some of their modules import when first used.
PURE_FLOORS = (0, 1)
FORBIDDEN = {"gevent", "greenlet", "socket", "_socket", "ssl", "_ssl", "select", "selectors"}
FORBIDDEN_UNLESS_LAZY = {"OpenSSL", "cryptography", "service_identity"}
LAZY = {"certificate", "keypair", "keymaking", "tls_files", "tls", "tls_verify", "tls_session"}


@dataclass(frozen=True)
class Import:
    """One import found: who, what (dotted), which names of it, where, and whether at run time."""

    module: str
    target: str
    names: tuple[str, ...]
    line: int
    lazy: bool


def find_modules(root: Path) -> dict[str, Path]:
    """Map the dotted name of every module under root/edgevent to its file."""
    modules = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def place(module: str) -> tuple[int, int] | None:
    """The floor and the place on it, or None for a module that no floor lists."""
    if module == PACKAGE:
        return (len(FLOORS), 0)
    name = module.removeprefix(f"{PACKAGE}.")
    last = None
    for floor, names in enumerate(FLOORS):
        for index, listed in enumerate(names):
            if name == listed or (listed in WHOLE and name.startswith(f"{listed}.")):
                return (floor, 2 * index)
            if listed.startswith(f"{name}."):
                last = (floor, 2 * index + 1)
    return last


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk(node: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, with whether it lies in a function or under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        inner = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        child_lazy = lazy or inner or is_type_checking(child)
        yield child, child_lazy
        yield from walk(child, child_lazy)


def called_import(node: ast.Call) -> str | None:
    """The module of ``import_module("x")`` or ``__import__("x")``."""
    name = ast.unparse(node.func).rpartition(".")[2]
    if name not in ("import_module", "__import__") or not node.args:
        return None
    first = node.args[0]
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first.value
    return None


def read_imports(module: str, path: Path) -> Iterator[Import]:
    """Every import of one file, wherever it stands."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node, lazy in walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, (), node.lineno, lazy)
        elif isinstance(node, ast.ImportFrom):
            target = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                target = ".".join([*base, target] if target else base)
            yield Import(module, target, tuple(a.name for a in node.names), node.lineno, lazy)
        elif isinstance(node, ast.Call) and (called := called_import(node)):
            yield Import(module, called, (), node.lineno, lazy)


def reached(found: Import, modules: dict[str, Path]) -> set[str]:
    """The modules of ours that an import runs: those it names and the packages around them."""
    targets = {
        f"{found.target}.{name}" if f"{found.target}.{name}" in modules else found.target
        for name in found.names
    } or {found.target}
    with_packages = set(targets)
    for target in targets:
        while "." in target:
            target = target.rpartition(".")[0]
            with_packages.add(target)
    # The packages around the importer itself are half-run already; they are not asked for again,
    # unless by name.
    around = {a for a in with_packages - targets if f"{found.module}.".startswith(f"{a}.")}
    return {name for name in with_packages - around if name.partition(".")[0] == PACKAGE}


def complain_about(found: Import, modules: dict[str, Path]) -> Iterator[str]:
    own = place(found.module)
    if own is None:
        return
    where = f"{modules[found.module].name}:{found.line}: {found.module}"
    top = found.target.partition(".")[0]
    if own[0] in PURE_FLOORS:
        may_be_lazy = found.lazy and found.module.removeprefix(f"{PACKAGE}.") in LAZY
        if top in FORBIDDEN or (top in FORBIDDEN_UNLESS_LAZY and not may_be_lazy):
            yield f"{where} on floor {own[0]} imports {found.target}"
    for target in sorted(reached(found, modules)):
        theirs = place(target)
        if target == found.module or theirs is None:
            continue
        if theirs[0] > own[0]:
            yield f"{where} on floor {own[0]} imports {target} of floor {theirs[0]}"
        elif theirs[0] == own[0] and theirs[1] > own[1]:
            yield f"{where} imports {target} from its right on floor {own[0]}"


def violations(root: Path) -> list[str]:
    """Every breach of the rule under root/edgevent, one sentence each."""
    modules = find_modules(root)
    found = [f"{name} is on no floor" for name in modules if place(name) is None]
    for module, path in modules.items():
        for one in read_imports(module, path):
            found.extend(complain_about(one, modules))
    return found


def files_of(floors: list[int]) -> list[str]:
    """The existing files of some floors, relative to the checkout."""
    return [
        str(path.relative_to(ROOT))
        for module, path in find_modules(ROOT).items()
        if (where := place(module)) is not None and where[0] in floors
    ]


def test_imports_go_down_the_floors_only() -> None:
    assert PACKAGE in find_modules(ROOT)
    assert violations(ROOT) == []


def test_the_floors_list_no_module_twice() -> None:
    listed = [name for names in FLOORS for name in names]
    assert sorted(set(listed)) == sorted(listed)


def test_the_coverage_gate_finds_the_files_of_floors_0_and_1() -> None:
    assert "edgevent/errors.py" in files_of([0, 1])
    assert "edgevent/__init__.py" not in files_of([0, 1])


def make_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"__init__.py": "", **files}.items():
        path = root / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


GOOD = {
    "errors.py": "import logging\n",
    "message.py": "from . import errors\nfrom .address import parse\n",
    "address.py": "from edgevent.errors import AddressError\n",
    "tls.py": "def context():\n    from OpenSSL import SSL\n    return SSL\n",
    "runtime/__init__.py": "from .turns import Turns\nfrom . import clock\n",
    "runtime/clock.py": "import gevent\n",
    "runtime/turns.py": "from edgevent.runtime.clock import Clock\nfrom .. import errors\n",
    "connection.py": "from edgevent.runtime import Turns, clock\nimport edgevent.message\n",
    "testing/__init__.py": "from . import moved\n",
    "testing/moved.py": "from edgevent.testing.other import x\n",
    "testing/other.py": "import edgevent.connection\n",
    "__init__.py": "from .connection import Connection\nfrom .testing import moved\n",
}


def test_the_checker_accepts_a_tree_that_keeps_the_rule(tmp_path: Path) -> None:
    assert violations(make_tree(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("errors.py", "import edgevent.message", "imports edgevent.message from its right"),
        ("errors.py", "from edgevent import message", "imports edgevent.message from its right"),
        ("errors.py", "from . import connection", "imports edgevent.connection of floor 4"),
        ("errors.py", "from .connection import x", "imports edgevent.connection of floor 4"),
        ("errors.py", "from edgevent import Message", "imports edgevent of floor"),
        ("errors.py", "def f():\n    from . import tls", "imports edgevent.tls of floor 1"),
        (
            "errors.py",
            "if TYPE_CHECKING:\n    from edgevent.runtime.clock import Clock",
            "imports edgevent.runtime.clock of floor 2",
        ),
        ("errors.py", "__import__('edgevent.tls')", "imports edgevent.tls of floor 1"),
        ("errors.py", "importlib.import_module('edgevent.tls')", "imports edgevent.tls of floor"),
        ("errors.py", "import gevent.socket", "on floor 0 imports gevent.socket"),
        ("address.py", "def f():\n    import socket", "on floor 0 imports socket"),
        ("tls.py", "from ssl import SSLError", "on floor 1 imports ssl"),
        ("tls.py", "from OpenSSL import SSL", "on floor 1 imports OpenSSL"),
        ("framing.py", "def f():\n    import OpenSSL", "on floor 1 imports OpenSSL"),
        (
            "runtime/clock.py",
            "from . import turns",
            "imports edgevent.runtime.turns from its right",
        ),
        ("runtime/clock.py", "from . import Turns", "imports edgevent.runtime from its right"),
        ("runtime/clock.py", "from ..testing import x", "imports edgevent.testing of floor 7"),
        ("new.py", "", "edgevent.new is on no floor"),
        ("runtime/new.py", "", "edgevent.runtime.new is on no floor"),
    ],
)
def test_the_checker_names_a_breach(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    found = violations(make_tree(tmp_path, {**GOOD, name: text + "\n"}))
    assert [one for one in found if sentence in one], found
    module = f"{PACKAGE}.{name.removesuffix('.py').replace('/', '.')}"
    assert all(module in one for one in found)


def test_a_package_counts_as_imported_with_its_module(tmp_path: Path) -> None:
    tree = {
        "runtime/__init__.py": "",
        "runtime/clock.py": "",
        "limits.py": "import edgevent.runtime",
    }
    assert len(violations(make_tree(tmp_path / "a", tree))) == 1
    tree["limits.py"] = "import edgevent.runtime.clock"
    assert len(violations(make_tree(tmp_path / "b", tree))) == 2


if __name__ == "__main__":
    print(",".join(files_of([int(floor) for floor in sys.argv[1:]])))
