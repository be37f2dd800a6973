"""Completion of the tools' command lines in bash and zsh, made from their options.

``python -m edgevent.tools.completion SCRIPTS`` writes ``SCRIPTS/completion/bash/NAME`` and
``SCRIPTS/completion/zsh/_NAME`` for each tool in the folder SCRIPTS, and removes those of tools
that are gone.

Sources: bash(1), "Programmable Completion"; zshcompsys(1), ``_arguments``.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import UsageError
from ..options import OptionParser

_IMPORT: Final = re.compile(r"^from (edgevent\.[\w.]+) import main$", re.MULTILINE)
_SHOWN: Final = 72  # so many characters of a help text
_FILES: Final = frozenset({"FILE", "PATH", "SCRIPT"})
_FOLDERS: Final = frozenset({"FOLDER", "FOLDERS", "DIR", "DIRECTORY"})


@dataclass(frozen=True)
class Completed:
    """One option or argument, as far as completion has to do with it.

    Attributes:
        flags: The names of an option; none for an argument.
        metavar: What stands for the value in the help; empty when there is none.
        text: What the help says, shortened.
        words: The values, as far as they are known.
        files: Whether the value may be a file.
        folders: Whether it may be a folder.
        optional: Whether the value may be left out.
        repeats: Whether it may stand there several times.
    """

    flags: tuple[str, ...]
    metavar: str
    text: str
    words: tuple[str, ...]
    files: bool
    folders: bool
    optional: bool
    repeats: bool


def find_tools(scripts: Path) -> dict[str, OptionParser]:
    """Returns the parser of each tool, by the name of its script in a folder.

    Raises:
        UsageError: A script does not import a ``main``, or its module has no ``_parser``.
    """
    found = {}
    for path in sorted(path for path in scripts.iterdir() if path.is_file()):
        match = _IMPORT.search(path.read_text(encoding="utf-8"))
        if match is None:
            raise UsageError(f"{path}: a line 'from edgevent.MODULE import main' was expected")
        module = importlib.import_module(match[1])
        make = getattr(module, "_parser", None)
        if make is None:
            raise UsageError(f"{path}: {match[1]} has no function _parser()")
        found[path.name] = make()
    return found


def completed(parser: OptionParser) -> list[Completed]:
    """Returns the options and arguments of a tool, in the order of its help."""
    shown = [action for action in parser.actions if action.help != argparse.SUPPRESS]
    return [_read(action, parser.name) for action in shown]


def _read(action: argparse.Action, name: str) -> Completed:
    metavar = ""
    if action.nargs != 0:
        shown = action.metavar if isinstance(action.metavar, str) else None
        metavar = shown or action.dest.upper().replace("_", "-")
    parts, kinds = re.split(r"[^\w-]+", metavar), re.split("[^A-Z]+", metavar)
    words = [str(choice) for choice in action.choices or ()]
    # "ca|server|NAME": what is in lower case is meant as it stands.
    words += [part for part in parts if re.fullmatch(r"[a-z][a-z-]*", part) and not action.choices]
    text = (action.help or "") % {**vars(action), "prog": name}
    return Completed(
        tuple(action.option_strings),
        metavar,
        textwrap.shorten(text, _SHOWN, placeholder=" ..."),
        tuple(words),
        not _FILES.isdisjoint(kinds),
        not _FOLDERS.isdisjoint(kinds),
        action.nargs in ("?", "*"),
        isinstance(action, argparse._AppendAction) or action.nargs in ("*", "+"),
    )


# --- bash -----------------------------------------------------------------------------------------


def _bash_reply(one: Completed) -> str:
    """The commands that fill COMPREPLY with the values of an option or argument."""
    given = []
    if one.words:
        given.append(f'compgen -W {shlex.quote(" ".join(one.words))} -- "$cur"')
    if one.files or one.folders:
        given.append(f'compgen -{"f" if one.files else "d"} -- "$cur"')
    if not given:
        return ""
    reply = f"mapfile -t COMPREPLY < <({'; '.join(given)})"
    # Fails where no completion is under way: when a test calls the function.
    names = "compopt -o filenames 2>/dev/null; " if one.files or one.folders else ""
    return names + reply


def bash_completion(name: str, parser: OptionParser) -> str:
    """Returns the file for ``share/bash-completion/completions``; it needs no other file."""
    options = completed(parser)
    function = f"_{name.replace('-', '_')}"
    cases: dict[str, list[str]] = {}
    loose: dict[str, list[str]] = {}
    for one in options:
        if one.flags and one.metavar:
            (loose if one.optional else cases).setdefault(_bash_reply(one), []).extend(one.flags)
    flags = " ".join(flag for one in options for flag in one.flags)
    arguments = [one for one in options if not one.flags]
    lines = [
        f"# bash completion for {name}: made from its options, see edgevent/tools/completion.py",
        "",
        f"{function}() {{",
        '    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" word only=',
        "    COMPREPLY=()",
        "    # The equals sign of --option=value is a word of its own.",
        '    if [[ $cur == "=" ]]; then',
        "        cur=",
        '    elif [[ $prev == "=" ]]; then',
        '        prev="${COMP_WORDS[COMP_CWORD-2]}"',
        "    fi",
        '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        '        [[ $word == "--" ]] && only=1',
        "    done",
        "    if [[ -z $only ]]; then",
    ]
    if cases:
        lines += ['        case "$prev" in', *_bash_cases(cases), "        esac"]
    lines += [
        "        if [[ $cur == -* ]]; then",
        f'            mapfile -t COMPREPLY < <(compgen -W {shlex.quote(flags)} -- "$cur")',
        "            return",
        "        fi",
    ]
    if loose:
        lines += ['        case "$prev" in', *_bash_cases(loose), "        esac"]
    lines.append("    fi")
    lines += [f"    {reply}" for one in arguments[:1] if (reply := _bash_reply(one))]
    return "\n".join([*lines, "}", "", f"complete -F {function} {name}", ""])


def _bash_cases(cases: dict[str, list[str]]) -> list[str]:
    lines = []
    for reply, flags in cases.items():
        lines.append(f"            {'|'.join(flags)})")
        lines += [f"                {reply}"] if reply else []
        lines += ["                return", "                ;;"]
    return lines


# --- zsh ------------------------------------------------------------------------------------------


def _zsh_escape(text: str) -> str:
    return re.sub(r"([\\\[\]:])", r"\\\1", text)


def _zsh_value(one: Completed) -> str:
    """What stands behind the description: the value's name and what completes it."""
    if not one.metavar:
        return ""
    ways = []
    if one.words:
        ways.append(f"words\\:word\\:({' '.join(map(_zsh_escape, one.words))})")
    if one.files or one.folders:
        ways.append(f"files\\:file\\:_files{'' if one.files else ' -/'}")
    if not ways:
        # Told what is expected, zsh would insert nothing: no option either, where one is begun.
        action = " " if one.flags else f'_guard "^-*" "{_zsh_escape(one.metavar)}"'
    elif len(ways) == 2:
        quoted = " ".join(f'"{way}"' for way in ways)
        action = f"_alternative {quoted}"
    elif one.words:
        action = f"({' '.join(map(_zsh_escape, one.words))})"
    else:
        action = f"_files{'' if one.files else ' -/'}"
    return f"{'::' if one.optional and one.flags else ':'}{_zsh_escape(one.metavar)}:{action}"


def zsh_completion(name: str, parser: OptionParser) -> str:
    """Returns the file for ``share/zsh/site-functions``."""
    specs = []
    for one in completed(parser):
        value = _zsh_value(one)
        if not one.flags:
            specs.append(shlex.quote(f"{'*' if one.repeats else '1'}{value}"))
            continue
        others = "" if one.repeats or len(one.flags) == 1 else f"({' '.join(one.flags)})"
        for flag in one.flags:
            # "=" and "+": the value stands in the same word or in the next one.
            joint = ("=" if flag.startswith("--") else "+") if one.metavar else ""
            star = "*" if one.repeats else ""
            text = _zsh_escape(one.text)
            specs.append(shlex.quote(f"{star}{others}{flag}{joint}[{text}]{value}"))
    return "\n".join(
        [
            f"#compdef {name}",
            f"# zsh completion for {name}: made from its options, see edgevent/tools/completion.py",
            "",
            "_arguments -S \\",
            " \\\n".join(f"    {spec}" for spec in specs),
            "",
        ]
    )


# --- the files ------------------------------------------------------------------------------------


def completion_files(scripts: Path) -> dict[Path, str]:
    """Returns what is to stand in which file, for all tools in a folder; errors as above."""
    folder = scripts / "completion"
    files = {}
    for name, parser in find_tools(scripts).items():
        files[folder / "bash" / name] = bash_completion(name, parser)
        files[folder / "zsh" / f"_{name}"] = zsh_completion(name, parser)
    return files


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the files of a folder of tools; returns 0, or 2 after bad usage."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        if len(words) != 1 or not Path(words[0]).is_dir():
            raise UsageError(f"{' '.join(words)!r}: the folder of the tools was expected")
        files = completion_files(Path(words[0]))
    except UsageError as error:
        print(f"completion: {error}", file=sys.stderr)
        return 2
    folder = Path(words[0]) / "completion"
    for path in folder.glob("*/*"):
        if path not in files:
            path.unlink()
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
