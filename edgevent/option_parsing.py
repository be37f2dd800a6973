"""The reading of all places at once, by ConfigArgParse, with where each value stands."""

from __future__ import annotations

import argparse
import glob
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, Final, NoReturn

import configargparse

from .errors import OptionError
from .option_files import FileReader, config_files, read_text, unusable_folders
from .option_reading import Finder, Reading, find_entries, settle_secret
from .option_sections import Entry, Section
from .option_values import (
    ENVIRONMENT,
    SPECIALS,
    Place,
    check_value,
    long_names,
    nearest,
    split_words,
    takes_several,
)

# A variable of another program may begin like ours: only what is very like an option is a mistake.
_CUTOFF: Final = 0.8


class _Special(argparse._HelpAction):
    """An option that files and variables cannot set, as ``--help`` is one for ConfigArgParse."""

    def __init__(self, **settings: Any) -> None:
        argparse.Action.__init__(self, **settings)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values if self.nargs is None else True)


class PlaceParser:
    """Parses what stands in all places.

    Args:
        name: The program's name.
        description: One sentence for ``--help``.
        version: What ``--version`` prints behind the name.
        folders: The folder of the program's files, and further ones that are read before.
        variable: An environment variable that holds a piece of command line, or an empty string.
        examples: Command lines for the end of ``--help``.
    """

    def __init__(
        self,
        name: str,
        description: str,
        *,
        version: str,
        folders: tuple[str | os.PathLike[str], Sequence[str | os.PathLike[str]]],
        variable: str,
        examples: Sequence[str],
    ) -> None:
        self.name = name
        self.sections: dict[str, Section] = {}
        self.secrets: dict[argparse.Action, argparse.Action] = {}
        self._folders = folders
        self._piece = variable
        # Of the reading at the moment: what its errors begin with, the mistakes when all are
        # collected, what could not be opened, and the words of each option.
        self._place = ""
        self._mistakes: list[str] | None = None
        self._not_opened: OptionError | None = None
        self._recorded: dict[argparse.Action, list[list[str]]] = {}
        self._files = FileReader(self._keys, self.sections, self._report)
        # ConfigArgParse has no types: this is the one place that knows.
        self._parser: Any = configargparse.ArgumentParser(
            prog=name,
            description=description,
            allow_abbrev=False,
            default_config_files=self._default_files(),
            epilog="Examples: " + "; ".join(examples) if examples else None,
            args_for_setting_config_path=["--config"],
            config_arg_help_message="a configuration file, read after the default ones",
            # It wants a class, to be called without arguments.
            config_file_parser_class=type(
                "FileParser",
                (configargparse.ConfigFileParser,),
                {
                    "parse": lambda _, stream: self._files.parse(stream),
                    "get_syntax_description": lambda _: self._files.get_syntax_description(),
                },
            ),
            config_file_open_func=self._open,
            auto_env_var_prefix=self._variable(""),
        )
        self._parser.error = self._raise
        self._get_values = self._parser._get_values
        self._parser._get_values = self._record
        self.add("--version", action="version", version=f"{name} {version}".strip())
        for dest, nargs, metavar, text in (
            (SPECIALS[0], 0, None, "print all values and where they come from, and end"),
            (SPECIALS[1], 0, None, "say what is wrong with options, files and so on, and end"),
            (SPECIALS[2], None, "FILE", "write all values into a configuration file, and end"),
        ):
            flag = f"--{dest.replace('_', '-')}"
            self.add(flag, action=_Special, dest=dest, nargs=nargs, metavar=metavar, help=text)

    @property
    def actions(self) -> list[argparse.Action]:
        """All options and arguments."""
        actions: list[argparse.Action] = self._parser._actions
        return actions

    def add(self, *flags: str, **settings: object) -> argparse.Action:
        """Add an option or argument, as ``argparse.ArgumentParser.add_argument`` does."""
        action: argparse.Action = self._parser.add_argument(*flags, **settings)
        return action

    def find_asked(self, argv: Sequence[str]) -> set[str]:
        """Tell which of ``--show-config`` and its like a command line has.

        Raises:
            OptionError: The variable with a piece of command line has a quote that is not closed.
        """
        flags = {f"--{dest.replace('_', '-')}": dest for dest in SPECIALS}
        words = [*self._piece_words(), *argv]
        words = words[: words.index("--")] if "--" in words else words
        return {flags[flag] for word in words if (flag := word.partition("=")[0]) in flags}

    def read(self, argv: Sequence[str], mistakes: list[str] | None = None) -> Reading:
        """Read all places.

        Args:
            argv: The command line without the program's name.
            mistakes: Gets all mistakes that do not end the reading, in place of the first error.

        Raises:
            OptionError: One line that names the place.
            SystemExit: After ``--help`` and ``--version``.
        """
        self._mistakes, self._not_opened, self._place = mistakes, None, ""
        self._files.contents.clear()
        self._parser._default_config_files = self._default_files()
        for error in unusable_folders(self.name, *self._folders):
            self._report(error)
        variables, entries = self._read_environment()
        with self._relaxed(self.find_asked(argv)):
            piece, counts = self._read_piece()
            words = [*piece, *self._spell_out(argv)]
            self._recorded.clear()
            namespace, unknown = self._parser.parse_known_args(words, env_vars=variables)
        self._add_rest(namespace, unknown)
        return self._finish(namespace, counts, entries)

    def _finish(
        self,
        namespace: argparse.Namespace,
        counts: Mapping[argparse.Action, int],
        entries: Mapping[str, list[Entry]],
    ) -> Reading:
        contents = self._files.contents[::-1]
        settings = self._parser.get_source_to_settings_dict()
        for action in self.actions:
            # ConfigArgParse would read the last one alone, without a word.
            times = len(self._recorded.get(action, ())) - counts.get(action, 0)
            if action.dest == "config_file" and times > 1:
                self._raise("argument --config is given twice: expected it once")
            if action.dest == "config_file" and getattr(namespace, action.dest) == "":
                self._raise("argument --config: expected the name of a file")
        finder = Finder(self._recorded, counts, settings, contents, self._piece)
        reading = Reading(namespace, [content.path for content in contents])
        for dest in SPECIALS:
            reading.asked[dest] = vars(namespace).pop(dest)
        for action in self.actions:
            given = finder.find(action, getattr(namespace, action.dest, None))
            if given and long_names(action):
                reading.given[action] = given
        for section in self.sections.values():
            dest = section.dest
            action = next(one for one in self.actions if one.dest == dest)
            words = reading.given.pop(action, [])
            found = find_entries(
                section, contents, entries.get(section.name, ()), words, self._report
            )
            reading.entries[section.name] = found
            setattr(namespace, dest, {entry.key: entry.value for entry in found})
        for secret, file in self.secrets.items():
            try:
                settle_secret(reading, self.name, secret, file)
            except OptionError as error:
                self._report(error)
        return reading

    # --- the environment --------------------------------------------------------------------------

    def _read_environment(self) -> tuple[dict[str, str], dict[str, list[Entry]]]:
        """Check the variables; give those of options for ConfigArgParse, and those of sections."""
        # ConfigArgParse would name the option, but not the variable.
        variables: dict[str, str] = {}
        entries: dict[str, list[Entry]] = {}
        known = {
            self._variable(names[0]): (names[0], action)
            for action in self.actions
            if (names := long_names(action))
        }
        for variable in sorted(os.environ):
            where = f"environment variable {variable}"
            try:
                if variable not in known:
                    self._check_unknown(variable, known)
                    continue
                name, action = known[variable]
                text = os.environ[variable]
                if name in self.sections:
                    place = Place(where, ENVIRONMENT)
                    entries[name] = [
                        self.sections[name].read_pair(word, place, where)
                        for word in split_words(where, text)
                    ]
                else:
                    variables[variable] = _check_variable(where, action, text)
            except OptionError as error:
                self._report(error)
        return variables, entries

    def _check_unknown(self, variable: str, known: Mapping[str, object]) -> None:
        prefix = self._variable("")
        if not variable.startswith(prefix) or variable == self._piece:
            return
        near = nearest(
            variable.removeprefix(prefix), [one.removeprefix(prefix) for one in known], _CUTOFF
        )
        if near:
            near = near.replace("did you mean '", f"did you mean '{prefix}")
            raise OptionError(f"environment variable {variable} is unknown{near}")

    def _variable(self, option: str) -> str:
        return f"edgevent_{self.name}_{option}".replace("-", "_").upper()

    def _piece_words(self) -> list[str]:
        text = os.environ.get(self._piece, "") if self._piece else ""
        return split_words(f"environment variable {self._piece}", text)

    def _read_piece(self) -> tuple[list[str], dict[argparse.Action, int]]:
        """Give the words of the piece of command line, and how often each option stands in it."""
        words = self._spell_out(self._piece_words())
        if not words:
            return [], {}
        # By itself first, for its errors alone, so that they name the place.
        self._place = f"environment variable {self._piece}: "
        self._recorded.clear()
        with self._relaxed(set(SPECIALS)):
            _, unknown = argparse.ArgumentParser.parse_known_args(self._parser, words)
        self._add_rest(argparse.Namespace(), unknown)
        self._place = ""
        return words, {action: len(found) for action, found in self._recorded.items()}

    def print_by(self, write: Callable[[str], None]) -> None:
        """Has ``--help`` and ``--version`` write by a function; argparse hides that it cannot."""
        self._parser._print_message = lambda text, _=None: write(text)

    # --- the command line -------------------------------------------------------------------------

    def _spell_out(self, words: Sequence[str]) -> list[str]:
        """Write ``-nVALUE`` as ``--name=VALUE``, which ConfigArgParse knows for what it is."""
        flags: dict[str, argparse.Action] = self._parser._option_string_actions
        spelt = list(words)
        for index, word in enumerate(words):
            if word == "--":
                break
            action = flags.get(word[:2])
            if len(word) < 3 or word[1] == "-" or word in flags or action is None:
                continue
            if action.nargs is None and (names := long_names(action)):
                spelt[index] = f"--{names[0]}={word[2:].removeprefix('=')}"
        return spelt

    def _record(self, action: argparse.Action, words: list[str]) -> object:
        self._recorded.setdefault(action, []).append(list(words))
        if action.option_strings and action.nargs is None and words == ["--"]:
            # Some releases of argparse take it away, and are left with no value at all.
            value: object = self._parser._get_value(action, words[0])
            self._parser._check_value(action, value)
            return value
        return self._get_values(action, words)

    @contextmanager
    def _relaxed(self, asked: set[str]) -> Iterator[None]:
        """Do without arguments where no work is to be done, and without required options."""
        required = [action for action in self.actions if action.required]
        if asked:
            only_check = asked == {SPECIALS[1]}
            for action in required:
                action.required = only_check and bool(action.option_strings)
        try:
            yield
        finally:
            for action in required:
                action.required = True

    def _add_rest(self, namespace: argparse.Namespace, unknown: list[str]) -> None:
        """Put what argparse left over where it belongs, or say that it belongs nowhere."""
        options = [word for word in unknown if word.startswith("-") and word != "--"]
        many = [one for one in self._parser._get_positional_actions() if one.nargs in ("*", "+")]
        if unknown and (options or not many):
            known = [flag for action in self.actions for flag in action.option_strings]
            word = (options or unknown)[0].partition("=")[0]
            self._raise(f"argument {word!r} is unknown{nearest(word, known)}")
        try:
            for word in unknown:
                if word != "--":
                    values = getattr(namespace, many[0].dest, None) or []
                    value = self._parser._get_value(many[0], word)
                    setattr(namespace, many[0].dest, [*values, value])
        except argparse.ArgumentError as error:
            self._raise(str(error))

    # --- files ------------------------------------------------------------------------------------

    def _default_files(self) -> list[str]:
        return [glob.escape(file) for file in config_files(self.name, *self._folders)]

    def _keys(self) -> dict[str, argparse.Action]:
        """Give the options that files may set, by each long name, with ``-`` between words."""
        return {
            name: action
            for action in self.actions
            for name in long_names(action)
            if name not in self.sections
        }

    def _open(self, path: str) -> IO[str]:
        # Not every release of ConfigArgParse closes its files after an error.
        text = ""
        try:
            text = read_text(path)
        except OptionError as error:
            # ConfigArgParse would put it into other words.
            self._not_opened = error
            self._report(error)
            self._not_opened = None
        stream = io.StringIO(text)
        stream.name = path
        return stream

    # --- errors -----------------------------------------------------------------------------------

    def _report(self, error: OptionError) -> None:
        """Collect a mistake, or raise it."""
        if self._mistakes is None:
            raise error
        self._mistakes.append(str(error))

    def _raise(self, message: str) -> NoReturn:
        raise self._not_opened or OptionError(f"{self._place}{message}")


def _check_variable(where: str, action: argparse.Action, text: str) -> str:
    """Check a variable, and give it in the form in which ConfigArgParse takes several values."""
    if not isinstance(action, argparse._AppendAction):
        check_value(where, action, text)
        return json.dumps(split_words(where, text)) if takes_several(action) else text
    words = split_words(where, text)
    for word in words:
        check_value(where, action, word)
    return json.dumps(words)
