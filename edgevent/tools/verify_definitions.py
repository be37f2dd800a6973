"""verify-message-definitions: loads message definition files and says what is wrong with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..definitions import Definition, Definitions, ParameterRule, load_definition
from ..errors import DefinitionError
from ..option_output import escape_output
from ..options import OptionParser
from .output import output_failed


def _load(name: str, folders: Definitions) -> Definition | None:
    """Loads a file, or looks a command up in the folders."""
    return load_definition(name) if os.sep in name or name.endswith(".conf") else folders.get(name)


def _show(rule: ParameterRule) -> str:
    presence = "forbidden" if rule.forbidden else "required" if rule.required else "optional"
    empty = ", may be empty" if rule.may_be_empty and not rule.forbidden else ""
    return f"{rule.name}: {rule.type}, {presence}{empty}"


def _parser() -> OptionParser:
    parser = OptionParser(
        "verify-message-definitions",
        "Load the definitions of messages, and say what is wrong with them.",
        examples=[
            "verify-message-definitions messages/*.conf",
            "verify-message-definitions --path-to-message-definitions messages -v REGISTER",
        ],
    )
    parser.add("names", nargs="+", metavar="FILE|COMMAND", help="a file, or a command to look up")
    parser.add("-v", "--verbose", action="store_true", help="show what each one says")
    parser.add(
        "--path-to-message-definitions",
        default="",
        metavar="FOLDERS",
        help="where commands are looked up; several folders are separated by ':'",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Checks each definition that is named.

    Returns:
        0 when all are right, 1 when one is wrong, 2 when one cannot be found or read; bad usage
        ends with 2 as well.
    """
    options = _parser().parse(argv)
    escape_output()
    folders = Definitions(options.path_to_message_definitions)
    status = 0
    for name in options.names:
        try:
            definition = _load(name, folders)
            if definition is None:
                raise FileNotFoundError(f"{name}: no definition of this command was found")
        except (DefinitionError, OSError) as error:
            print(f"verify-message-definitions: {error}", file=sys.stderr)
            is_there = not isinstance(error.__cause__ or error, OSError)
            status = max(status, 1 if is_there else 2)
            continue
        if options.verbose:
            lines = [f"{name}: {definition.command}"]
            lines += [f"  {_show(rule)}" for rule in definition.rules]
            try:
                print(*lines, sep="\n", flush=True)
            except OSError as error:
                output_failed("verify-message-definitions", error)
                return 1
    return status
