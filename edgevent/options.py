"""The options of a program: configuration files, environment variables, command line.

Later ones win: ``/etc/edgevent/NAME.conf``, ``/etc/edgevent/NAME.d/NN-*.conf`` in order,
``~/.config/edgevent/NAME.conf``, the file of ``--config``, the environment variables
``EDGEVENT_NAME_OPTION``, the command line. An error is one line on the error output that names
where the option stands, and exit status 2. A tool may have files in another folder before them,
and a variable that holds a piece of command line.
"""

from __future__ import annotations

import argparse
import difflib
import glob
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Any, Final, NoReturn

import configargparse

from .address import Address
from .definitions import read_ini
from .durations import format_duration, parse_duration
from .errors import DefinitionError, DurationError, EdgeventError, OptionError

_BOOLEANS: Final = ("true", "on", "yes", "1", "false", "off", "no", "0")


class OptionParser:
    """The options of one program.

    Args:
        name: The program's name, as in the names of its files.
        description: One sentence for ``--help``.
        config_folder: The folder of ``NAME.conf`` and ``NAME.d``.
        version: What ``--version`` prints behind the name; by default the version of this package.
        other_folders: Further folders of ``NAME.conf`` and ``NAME.d``, which are read first.
        variable: An environment variable that holds a piece of command line, in the shell's quotes;
            it stands before the words of the command line.
        examples: Command lines for the end of ``--help``.

    Example:
        >>> parser = OptionParser("hello", "Greets.")
        >>> parser.add_duration("--patience", default="1m", help="how long to wait")
        >>> parser.parse(["--patience=90s"]).patience
        90.0
    """

    def __init__(
        self,
        name: str,
        description: str,
        *,
        config_folder: str | os.PathLike[str] = "/etc/edgevent",
        version: str | None = None,
        other_folders: Sequence[str | os.PathLike[str]] = (),
        variable: str = "",
        examples: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._lists: dict[str, list[Address]] = {}
        self._piece = variable
        self._place = ""  # of what is parsed at the moment, for errors
        # ConfigArgParse has no types: this is the one place that knows.
        self._parser: Any = configargparse.ArgumentParser(
            prog=name,
            description=description,
            allow_abbrev=False,
            default_config_files=[
                glob.escape(file) for file in _files(name, [*other_folders, config_folder])
            ],
            epilog="Examples: " + "; ".join(examples) if examples else None,
            args_for_setting_config_path=["--config"],
            config_arg_help_message="a configuration file, read after the default ones",
            # It wants a class, to be called without arguments.
            config_file_parser_class=type(
                "FileParser",
                (_FileParser, configargparse.ConfigFileParser),
                {"keys": staticmethod(self._keys)},
            ),
            config_file_open_func=self._open,
            auto_env_var_prefix=self._variable(""),
        )
        self._parser.error = self._fail
        if version is None:
            # The package itself stands on a floor above this module.
            version = getattr(sys.modules.get(__package__ or ""), "__version__", "")
        self._parser.add_argument(
            "--version", action="version", version=f"{name} {version}".strip()
        )

    def add(self, *flags: str, **settings: object) -> argparse.Action:
        """Add an option or argument.

        Args:
            flags: The option's names, or the argument's one name.
            settings: As of ``argparse.ArgumentParser.add_argument``. Of an error of this package
                that ``type`` raises, the user sees the sentence.

        Returns:
            What argparse made of it.
        """
        convert = settings.get("type")
        if callable(convert):
            settings["type"] = _Converter(convert)
        action: argparse.Action = self._parser.add_argument(*flags, **settings)
        return action

    def add_address(
        self,
        flag: str,
        *,
        default: str | Sequence[str] | None = None,
        default_scheme: str = "tcp",
        default_port: int | None = None,
        help: str = "",
        multiple: bool = False,
    ) -> None:
        """Add an option whose value is an :class:`Address`.

        Args:
            flag: The option's name.
            default: The value when none is given; of a multiple option it may be several.
            default_scheme: The scheme of a text without one.
            default_port: The port of a text without one.
            help: A text for ``--help``.
            multiple: The option may be repeated, and its value is a list; a place that wins
                replaces the whole list.

        Raises:
            AddressError: The default is no address.
        """

        def convert(text: str) -> Address:
            return Address.parse(text, default_scheme=default_scheme, default_port=default_port)

        texts = (default,) if isinstance(default, str) else default or ()
        defaults = [convert(text) for text in texts]
        shown = _with_default(help, ", ".join(map(str, defaults)))
        if multiple:
            action = self.add(flag, type=convert, help=shown, metavar="ADDRESS", action="append")
            # argparse would append to a default list instead of replacing it.
            self._lists[action.dest] = defaults
        else:
            value = defaults[0] if defaults else None
            self.add(flag, type=convert, help=shown, metavar="ADDRESS", default=value)

    def add_duration(
        self,
        *flags: str,
        default: str | float | None = None,
        help: str = "",
        minimum: float = 0.0,
        maximum: float | None = None,
    ) -> None:
        """Add an option whose value is a duration, in float seconds.

        Args:
            flags: The option's names.
            default: The value when none is given, in seconds or as text.
            help: A text for ``--help``.
            minimum: The least value, in seconds.
            maximum: The greatest value, in seconds; ``None`` for no limit.

        Raises:
            DurationError: The default is no duration, or outside the limits.
        """

        def convert(text: str | float) -> float:
            seconds = parse_duration(text)
            if seconds < minimum or (maximum is not None and seconds > maximum):
                least = format_duration(minimum)
                most = "or more" if maximum is None else f"to {format_duration(maximum)}"
                raise DurationError(f"duration {text!r}: expected {least} {most}")
            return seconds

        value = None if default is None else convert(default)
        shown = _with_default(help, "" if value is None else format_duration(value))
        self.add(*flags, type=convert, help=shown, metavar="DURATION", default=value)

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Read all places.

        The words of an argument that takes any number may stand on both sides of an option.

        Args:
            argv: The command line without the program's name; that of the process by default.

        Returns:
            The values by option name, ``_`` between words.

        Raises:
            SystemExit: With status 2 after an error, 0 after ``--help`` and ``--version``.
        """
        arguments = list(sys.argv[1:] if argv is None else argv)
        namespace: argparse.Namespace
        try:
            self._check_environment()
            arguments = [*self._read_piece(), *arguments]
            namespace, unknown = self._parser.parse_known_args(arguments)
        except OptionError as error:
            self._fail(str(error))
        self._add_rest(namespace, unknown)
        for name, defaults in self._lists.items():
            if getattr(namespace, name) is None:
                setattr(namespace, name, list(defaults))
        return namespace

    def source(self, option: str) -> str:
        """Tell where the value of an option came from, after :meth:`parse`.

        Args:
            option: Its name in the result of :meth:`parse`.

        Returns:
            ``command line``, ``environment variable NAME``, the path of a file, or ``default``.
        """
        sources = self._parser.get_source_to_settings_dict()
        _, words = sources.get("command_line", {}).get("", (None, ()))
        if any(self._sets(option, word) for word in words):
            return "command line"
        for source, settings in sources.items():
            for key, (action, _) in settings.items():
                if action is not None and action.dest == option and source != "defaults":
                    kind, _, path = source.partition("|")
                    return path if kind == "config_file" else f"environment variable {key}"
        return "default"

    def _sets(self, option: str, word: str) -> bool:
        flags = [
            flag
            for action in self._parser._actions
            if action.dest == option
            for flag in action.option_strings
        ]
        # The value of a short option may stand right behind it.
        short = tuple(flag for flag in flags if flag[:2] != "--")
        return word.partition("=")[0] in flags or bool(short and word.startswith(short))

    def _read_piece(self) -> list[str]:
        """Give the words of the variable that holds a piece of command line."""
        place = f"environment variable {self._piece}"
        try:
            words = shlex.split(os.environ.get(self._piece, "") if self._piece else "")
        except ValueError as error:
            raise OptionError(f"{place}: {error}") from None
        if words:
            # By itself first, for its errors alone, so that they name the place.
            self._place = f"{place}: "
            _, unknown = argparse.ArgumentParser.parse_known_args(self._parser, words)
            self._add_rest(argparse.Namespace(), unknown)
            self._place = ""
        return words

    def _add_rest(self, namespace: argparse.Namespace, unknown: list[str]) -> None:
        """Put what argparse left over where it belongs, or say that it belongs nowhere."""
        options = [word for word in unknown if word.startswith("-") and word != "--"]
        many = [one for one in self._parser._get_positional_actions() if one.nargs in ("*", "+")]
        if unknown and (options or not many):
            known = [flag for action in self._parser._actions for flag in action.option_strings]
            word = (options or unknown)[0].partition("=")[0]
            self._fail(f"argument {word!r} is unknown{_nearest(word, known)}")
        try:
            for word in unknown:
                if word != "--":
                    values = getattr(namespace, many[0].dest, None) or []
                    value = self._parser._get_value(many[0], word)
                    setattr(namespace, many[0].dest, [*values, value])
        except argparse.ArgumentError as error:
            self._fail(str(error))

    def _keys(self) -> dict[str, argparse.Action]:
        """Give the options that files may set, by each long name, with ``-`` between words."""
        return {name: action for action in self._parser._actions for name in _long_names(action)}

    def _check_environment(self) -> None:
        # ConfigArgParse would name the option, but not the variable.
        for action in self._parser._actions:
            for variable in map(self._variable, _long_names(action)[:1]):
                if variable in os.environ:
                    _check(f"environment variable {variable}", action, os.environ[variable])

    def _variable(self, option: str) -> str:
        return f"edgevent_{self.name}_{option}".replace("-", "_").upper()

    def _open(self, path: str) -> IO[str]:
        try:
            return open(path, encoding="utf-8")
        except OSError as error:
            self._fail(f"{path}: {error.strerror}")

    def _fail(self, message: str) -> NoReturn:
        print(f"{self.name}: {self._place}{message}".replace("\n", " "), file=sys.stderr)
        raise SystemExit(2)


class _Converter:
    """A conversion whose errors reach the user: those of this package as they are."""

    def __init__(self, convert: Callable[[str], object]) -> None:
        self._convert = convert

    def __call__(self, text: str) -> object:
        try:
            return self._convert(text)
        except EdgeventError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        except (TypeError, ValueError):
            kind = getattr(self._convert, "__name__", "another value")
            raise argparse.ArgumentTypeError(f"value {text!r}: expected {kind}") from None


class _FileParser:
    """What ConfigArgParse takes for a file format: the INI format of the C++ library."""

    keys: Callable[[], dict[str, argparse.Action]]

    def get_syntax_description(self) -> str:
        return "Files hold lines of name = value; a comment begins with # or ;."

    def parse(self, stream: IO[str]) -> dict[str, str | list[str]]:
        known = self.keys()
        items: dict[str, str | list[str]] = {}
        lists: dict[str, list[str]] = {}
        try:
            for where, section, key, value in read_ini(stream.read(), stream.name):
                name = f"{section}::{key}" if section else key
                action = known.get(name.replace("_", "-"))
                if action is None:
                    near = _nearest(name.replace("_", "-"), known)
                    raise OptionError(f"{where}: key {name!r} is unknown: expected an option{near}")
                _check(f"{where}: key {key!r}", action, value)
                option = _long_names(action)[0]
                if isinstance(action, argparse._AppendAction):
                    items[option] = lists.setdefault(option, [])
                    lists[option].append(value)
                else:
                    items[option] = value
        except UnicodeDecodeError:
            raise OptionError(f"{stream.name}: expected UTF-8 text") from None
        except DefinitionError as error:
            raise OptionError(str(error)) from None
        return items


def _files(name: str, folders: Iterable[str | os.PathLike[str]]) -> list[str]:
    files = []
    for path in folders:
        folder = os.fspath(path)
        pattern = os.path.join(glob.escape(folder), f"{name}.d", "[0-9][0-9]-*.conf")
        files += [os.path.join(folder, f"{name}.conf"), *sorted(glob.glob(pattern))]
    return [*files, os.path.expanduser(f"~/.config/edgevent/{name}.conf")]


def _long_names(action: argparse.Action) -> list[str]:
    """Give the names by which files and the environment may set an option."""
    if action.dest in ("help", "version", "config_file"):
        return []
    names = [flag[2:].replace("_", "-") for flag in action.option_strings if flag[:2] == "--"]
    # The second name of a boolean option is its negation.
    return names[:1] if isinstance(action, argparse.BooleanOptionalAction) else names


def _check(where: str, action: argparse.Action, value: str) -> None:
    """Convert a value for its error alone, which can name the place only here."""
    if action.nargs == 0:
        if value.lower() not in _BOOLEANS:
            raise OptionError(f"{where}: value {value!r}: expected one of {', '.join(_BOOLEANS)}")
        return
    converted: object = value
    if isinstance(action.type, _Converter):
        try:
            converted = action.type(value)
        except argparse.ArgumentTypeError as error:
            raise OptionError(f"{where}: {error}") from None
    if action.choices is not None and converted not in action.choices:
        choices = [str(choice) for choice in action.choices]
        near = _nearest(value, choices)
        raise OptionError(f"{where}: value {value!r}: expected one of {', '.join(choices)}{near}")


def _with_default(text: str, default: str) -> str:
    # argparse formats help with "%", which the scope of an IPv6 address holds as well.
    return f"{text} (default: {default.replace('%', '%%')})" if default else text


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
