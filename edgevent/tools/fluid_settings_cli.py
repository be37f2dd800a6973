"""fluid-settings-cli: reads and sets settings of all computers, and waits for changes."""

from __future__ import annotations

import argparse
import difflib
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import gevent

from ..address import Address
from ..communicatord.client_options import (
    add_communicator_options,
    communicator_address,
    communicator_tls,
)
from ..errors import (
    AddressError,
    CertificateFileError,
    ConnectionLostError,
    EdgeventError,
    OptionError,
    SettingError,
    SettingNotSetError,
    TransmissionError,
    UnknownCommandError,
    UsageError,
)
from ..fluidsettings.client import (
    DEFAULT_ADDRESS,
    TIMEOUT,
    Client,
    own_service_name,
)
from ..fluidsettings.described import Described, entry_fields
from ..fluidsettings.names import ADMINISTRATOR, check_priority
from ..fluidsettings.values import read_lines
from ..fluidsettings.watch import SettingChange
from ..option_groups import add_tls_options, tls_from_options
from ..option_output import escape_output
from ..options import OptionParser
from . import settings_output as output
from .ending import until_signal
from .output import not_there, output_failed, parse_count

_NAME: Final = "fluid-settings-cli"
_SERVICE: Final = "fluid_settings_cli"
_PORT: Final = 4049
_SILENT: Final = logging.NullHandler()
_BAD_USAGE: Final = (AddressError, CertificateFileError, OptionError, UsageError)
_FOREVER: Final = 10.0 * 365 * 86400
"""How long a watch waits for a daemon that went away, in seconds."""
_PAUSE: Final = 0.5
"""Between its questions to communicatord whether the daemon is back, in seconds."""

# The command, and how many words it takes: at least, at most.
_COMMANDS: Final = {
    "get": (1, 1),
    "set": (2, 2),
    "delete": (1, 1),
    "list": (0, 1),
    "options": (0, 1),
    "watch": (1, 1_000_000),
    "history": (1, 1),
    "export": (0, 1),
    "import": (1, 1),
}
_WORDS: Final = {
    "get": "NAME",
    "set": "NAME VALUE",
    "delete": "NAME",
    "list": "[NAMESPACE]",
    "options": "[NAMESPACE]",
    "watch": "NAME...",
    "history": "NAME",
    "export": "[FILE]",
    "import": "FILE",
}
# The spellings of the C++ tool, and what each takes.
_OPTIONS: Final[dict[str, tuple[tuple[str, ...], dict[str, Any], str]]] = {
    "get": (("-g", "--get"), {"metavar": "NAME"}, "as get, but print NAME=VALUE"),
    "get_default": (("-G", "--get-default"), {"metavar": "NAME"}, "print the default"),
    "set": (("-s", "--set", "-p", "--put"), {"metavar": "NAME", "nargs": 2}, "as set"),
    "delete": (("-D", "--delete"), {"metavar": "NAME"}, "as delete"),
    "list_all": (("-a", "--list-all"), {"action": "store_true"}, "print the names alone"),
    "list_options": (
        ("-l", "--list-options"),
        {"metavar": "SERVICE"},
        "print the names of a service without its own",
    ),
    "list_services": (
        ("-L", "--list-services"),
        {"action": "store_true"},
        "print the services that have settings",
    ),
    "watch": (("-w", "--watch"), {"metavar": "NAME", "nargs": "+"}, "as watch"),
    "watch_if_up": (
        ("-W", "--watch-if-up"),
        {"metavar": "NAME", "nargs": "+"},
        "as watch, but end when the daemon goes down",
    ),
}


def _parser() -> OptionParser:
    parser = OptionParser(
        _NAME,
        "Read and set the settings of all computers, and wait for changes of them.",
        other_folders=("/etc/fluid-settings",),
        variable="FLUID_SETTINGS_CLI",
        examples=[
            "fluid-settings-cli set hello::greeting 'Good morning'",
            "fluid-settings-cli get hello::greeting",
            "fluid-settings-cli watch hello::greeting",
        ],
    )
    add = parser.add
    add(
        "command",
        nargs="?",
        metavar="|".join(_COMMANDS),
        help="what to do: get NAME, set NAME VALUE, delete NAME, list [NAMESPACE], options"
        " [NAMESPACE], watch NAME..., history NAME, export [FILE], import FILE",
    )
    add("words", nargs="*", metavar="WORD", help="what the command takes")
    for name, (flags, settings, text) in _OPTIONS.items():
        add(*flags, dest=f"do_{name}", help=text, **settings)
    add(
        "--address",
        type=_address,
        default=_address(DEFAULT_ADDRESS),
        metavar="ADDRESS",
        help=f"where the daemon listens (default: {DEFAULT_ADDRESS})",
    )
    add(
        "--priority",
        type=_priority,
        metavar="N",
        help=f"of set and delete: 0 to 99 ({ADMINISTRATOR}, the administrator's); of get: ask for"
        " this one alone",
    )
    add("--limit", type=parse_count, default=100, metavar="N", help="of history: the most lines")
    parser.add_duration(
        "-t", "--timeout", default=TIMEOUT, minimum=0.001, help="the limit of each answer"
    )
    add("--json", action="store_true", help="print an object a line")
    add("-v", "--verbose", action="store_true", help="of list: the values of all priorities")
    add_tls_options(parser, server_side=False)
    add_communicator_options(parser)
    return parser


def _address(text: str) -> Address:
    return Address.parse(text, default_port=_PORT)


def _priority(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise OptionError(f"priority {text[:32]!r}: a number from 0 to 99 was expected")
    try:
        return check_priority(int(text))
    except SettingError as error:
        raise OptionError(str(error)) from None


def _choose(options: argparse.Namespace) -> tuple[str, list[str]]:
    """Gives the command, in words or in the spelling of C++, and what it takes."""
    given: list[tuple[str, Any]] = []
    for name in _OPTIONS:
        value = getattr(options, f"do_{name}")
        if value:
            given.append((name, value))
    if options.command is not None:
        name, words = options.command, options.words
        if given:
            flag = _OPTIONS[given[0][0]][0][1]
            raise UsageError(f"{name} with {flag}: expected one of them")
        if name not in _COMMANDS:
            near = difflib.get_close_matches(name, _COMMANDS, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"command {name!r}: expected one of {', '.join(_COMMANDS)}{hint}")
        least, most = _COMMANDS[name]
        if not least <= len(words) <= most:
            raise UsageError(f"expected {name} {_WORDS[name]}")
        return name, words
    if len(given) != 1:
        what = " and ".join(_OPTIONS[name][0][1] for name, _ in given)
        raise UsageError(
            f"{what}: expected one of them" if given else f"expected one of {', '.join(_COMMANDS)}"
        )
    name, value = given[0]
    return f"--{name}", [] if value is True else [value] if isinstance(value, str) else value


# --- the work -------------------------------------------------------------------------------------


class _Work:
    """The commands, each over one client."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.json: bool = options.json

    def connect(self, *, wait: float = 0.0) -> Client:
        """Connects to the daemon, or to communicatord; ``wait`` seconds until it is there."""
        options = self.options
        limit = wait or options.timeout
        if options.communicator_listen:
            from ..communicatord.script import CommunicatorClient

            address = communicator_address(options)
            assert address is not None
            link = CommunicatorClient(
                own_service_name(_SERVICE),
                address=address,
                connect_timeout=limit,
                commands=("FLUID_SETTINGS_VALUE_UPDATED", "FLUID_SETTINGS_READY", "STATUS"),
                tls=communicator_tls(options, address),
            )
            return Client(link=link, timeout=options.timeout)
        return Client(
            options.address,
            name=own_service_name(_SERVICE),
            timeout=options.timeout,
            connect_timeout=limit,
            wait=bool(wait),
            tls=tls_from_options(options, server_side=False) if options.address.is_tls else None,
        )

    def get(self, client: Client, name: str, *, pair: bool = False, default: bool = False) -> None:
        """get, --get and --get-default."""
        if default:
            value = client.get_default(name)
            if value is None:
                raise SettingNotSetError(f"{name}: this setting has no default")
        else:
            value = client.get(name, priority=self.options.priority)
        if self.json:
            output.print_json({"name": name, "value": value})
        elif pair:
            output.print_pair(name, value)
        else:
            output.print_value(value)

    def set(self, client: Client, name: str, value: str) -> None:
        """set; what it has done is said to those who ask."""
        reason = client.set(name, value, priority=self._own_priority())
        if self.json:
            output.print_json({"name": name, "reason": reason})
        elif self.options.verbose:
            print(f"{name}: {reason}")

    def delete(self, client: Client, name: str) -> int:
        """delete; 1 when there was nothing."""
        deleted = client.delete(name, priority=self._own_priority())
        if self.json:
            output.print_json({"name": name, "deleted": deleted})
        elif not deleted:
            print(f"{_NAME}: {name}: nothing was deleted", file=sys.stderr)
        return 0 if deleted else 1

    def _own_priority(self) -> int:
        priority: int | None = self.options.priority
        return ADMINISTRATOR if priority is None else priority

    def list(self, client: Client, namespace: str = "") -> int:
        """list; 1 when there is nothing of that name."""
        found = self._described(client, namespace)
        if self.json:
            for setting in found:
                output.print_json(output.setting_fields(setting))
        else:
            output.print_settings(found, verbose=self.options.verbose)
        return self._check_found(found, namespace)

    def define(self, client: Client, namespace: str = "") -> int:
        """options; 1 when there is nothing of that name."""
        found = client.list(namespace)
        if self.json:
            for setting in found:
                output.print_json(output.setting_fields(setting))
        else:
            output.print_definitions(found)
        return self._check_found(found, namespace)

    def _check_found(self, found: Sequence[object], namespace: str) -> int:
        if not found and namespace:
            raise SettingError(f"{namespace[:64]!a}: there are no settings of this name")
        return 0

    def _described(self, client: Client, namespace: str) -> Sequence[Described]:
        try:
            return client.list(namespace)
        except UnknownCommandError:  # the C++ daemon
            names = [one for one in client.names() if one.startswith(namespace)]
            return [Described(name, default=client.get(name, None)) for name in names]

    def names(self, client: Client, *, service: str = "", services: bool = False) -> None:
        """--list-all, --list-options and --list-services."""
        names = client.names()
        if services:
            names = list(dict.fromkeys(name.partition("::")[0] for name in names))
        elif service:
            prefix = f"{service.replace('_', '-')}::"
            names = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        for name in names:
            if self.json:
                output.print_json(name)
            else:
                print(name)

    def history(self, client: Client, name: str) -> None:
        """history."""
        entries = client.history(name, limit=self.options.limit)
        if self.json:
            for entry in entries:
                output.print_json({"name": entry.name, **entry_fields(entry)})
        else:
            output.print_history(entries)

    def export(self, client: Client, path: str = "-") -> None:
        """export."""
        output.write_lines(path, client.export())

    def take(self, client: Client, path: str) -> int:
        """import: the whole file is read before the first value is set; 1 when one is refused."""
        entries = list(read_lines(output.read_file(path), path))
        refused: list[str] = []
        changed = 0
        for entry in entries:
            assert entry.value is not None
            try:
                reason = client.set(
                    entry.name, entry.value, priority=entry.priority, timestamp=entry.timestamp
                )
            except SettingError as error:
                refused.append(str(error))
            else:
                changed += reason not in ("unchanged", "newer")
        if self.json:
            counts = {"read": len(entries), "changed": changed, "refused": len(refused)}
            output.print_json(counts)
        elif not refused:
            print(f"{len(entries)} values read, {changed} changed")
        if refused:
            raise SettingError(
                f"{len(refused)} of {len(entries)} values were refused, first: {refused[0]}"
            )
        return 0

    def watch(self, names: Sequence[str], *, if_up: bool) -> None:
        """watch: values, then changes; after a loss it connects anew, and tells what is new."""
        known: dict[str, str | None] = {}
        client = self.connect()
        told = False  # whether the loss was
        while True:
            try:
                with client, client.watch(*names) as watch:
                    told = False
                    for change in watch:
                        self._show(change, known)
            except (ConnectionLostError, TransmissionError) as error:
                if if_up or not known:
                    raise
                if not told:
                    said = f"{_NAME}: {error}; waiting for it".replace("\n", " ")
                    print(said, file=sys.stderr, flush=True)
                told = True
            if self.options.communicator_listen:
                gevent.sleep(_PAUSE)  # communicatord may be there, and the daemon not
            client = self.connect(wait=_FOREVER)

    def _show(self, change: SettingChange, known: dict[str, str | None]) -> None:
        """Prints a value, if it is not the one that was printed last."""
        if change.name in known and known[change.name] == change.value:
            return
        known[change.name] = change.value
        if self.json:
            output.print_json(output.change_fields(change))
        else:
            output.print_pair(change.name, change.value)


def _watch(work: _Work, words: Sequence[str], *, if_up: bool) -> None:
    errors: list[EdgeventError | OSError] = []

    def watch() -> None:
        try:
            work.watch(words, if_up=if_up)
        except (EdgeventError, OSError) as error:  # raised, the hub would print it, too
            errors.append(error)

    until_signal(watch)
    if errors:
        raise errors[0]


def _work(options: argparse.Namespace) -> int:
    command, words = _choose(options)
    work = _Work(options)
    if command in ("watch", "--watch", "--watch_if_up"):
        _watch(work, words, if_up=command == "--watch_if_up")
        return 0
    table: dict[str, Callable[..., int | None]] = {
        "get": work.get,
        "set": work.set,
        "delete": work.delete,
        "list": work.list,
        "options": work.define,
        "history": work.history,
        "export": work.export,
        "import": work.take,
        "--get": lambda client, name: work.get(client, name, pair=True),
        "--get_default": lambda client, name: work.get(client, name, pair=True, default=True),
        "--set": work.set,
        "--delete": work.delete,
        "--list_all": work.names,
        "--list_options": lambda client, name: work.names(client, service=name),
        "--list_services": lambda client: work.names(client, services=True),
    }
    with work.connect() as client:
        return table[command](client, *words) or 0


def main(argv: Sequence[str] | None = None) -> int:
    """Reads, sets and watches settings.

    Returns:
        0 when it was done, 1 when it was not, 2 after bad usage.
    """
    if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # The hub of gevent would tell of a KeyboardInterrupt in its own words.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.getLogger("edgevent").addHandler(_SILENT)  # what has failed is told here
    options = _parser().parse(sys.argv[1:] if argv is None else argv)
    escape_output()
    try:
        return _work(options)
    except EdgeventError as error:
        who = "communicatord" if options.communicator_listen else "fluid-settings"
        print(f"{_NAME}: {not_there(error, who)}".replace("\n", " "), file=sys.stderr)
        return 2 if isinstance(error, _BAD_USAGE) else 1
    except OSError as error:
        output_failed(_NAME, error)
        return 1
