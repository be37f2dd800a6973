"""fluid-settings-cli: reads and sets settings of all computers, and waits for changes."""

from __future__ import annotations

import argparse
import difflib
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from ..address import Address
from ..communicatord.client_options import add_communicator_options
from ..errors import (
    AddressError,
    CertificateFileError,
    EdgeventError,
    OptionError,
    SettingError,
    UsageError,
)
from ..fluidsettings.client import DEFAULT_ADDRESS, TIMEOUT
from ..fluidsettings.names import ADMINISTRATOR, check_priority
from ..option_groups import add_tls_options
from ..option_output import escape_output
from ..options import OptionParser
from .ending import until_signal
from .fluid_settings_commands import NAME, Commands
from .output import not_there, output_failed, parse_count

_PORT: Final = 4049
_SILENT: Final = logging.NullHandler()
_BAD_USAGE: Final = (AddressError, CertificateFileError, OptionError, UsageError)

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
        NAME,
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


def _watch(work: Commands, words: Sequence[str], *, if_up: bool) -> None:
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
    work = Commands(options)
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
        print(f"{NAME}: {not_there(error, who)}".replace("\n", " "), file=sys.stderr)
        return 2 if isinstance(error, _BAD_USAGE) else 1
    except OSError as error:
        output_failed(NAME, error)
        return 1
