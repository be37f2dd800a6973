"""verify-message-definitions: loads message definition files and says what is wrong with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..definitions import Definition, Definitions, ParameterRule, load_definition
from ..errors import DefinitionError
from ..options import OptionParser


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
        0 when all are right, 1 when one is wrong or cannot be found; bad usage ends with 2.
    """
    options = _parser().parse(argv)
    folders = Definitions(options.path_to_message_definitions)
    failed = False
    for name in options.names:
        try:
            definition = _load(name, folders)
            if definition is None:
                raise DefinitionError(f"{name}: no definition of this command was found")
        except (DefinitionError, OSError) as error:
            print(f"verify-message-definitions: {error}", file=sys.stderr)
            failed = True
            continue
        if options.verbose:
            print(f"{name}: {definition.command}")
            for rule in definition.rules:
                print(f"  {_show(rule)}")
    return 1 if failed else 0
