"""The options of a program: configuration files, environment variables, command line.

Later ones win: ``/etc/edgevent/NAME.conf``, ``/etc/edgevent/NAME.d/NN-*.conf`` in order,
``~/.config/edgevent/NAME.conf``, the file of ``--config``, the environment variables
``EDGEVENT_NAME_OPTION``, the command line. An error is one line on the error output that names
where the option stands, and exit status 2. A tool may have files in another folder before them,
and a variable that holds a piece of command line. edgevent.conf(5) describes the files.

Nothing here switches greenlets, but what looks names up for ``--check-config``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .address import Address
from .arguments import checks_arguments
from .durations import format_duration, parse_duration
from .errors import DurationError, EdgeventError, OptionError, UsageError
from .option_checks import address_problems
from .option_output import Writer, discard_output, escape_output, open_closed_streams
from .option_parsing import PlaceParser
from .option_reading import Reading
from .option_secrets import others_can_read
from .option_sections import Section
from .option_values import SPECIALS, Converter, is_off, long_names, text_or_off, with_default

Check = Callable[[argparse.Namespace], Iterable[str]]
"""Looks at the values without a start, and yields a sentence for each thing that is wrong."""

_SHOW, _CHECK, _WRITE = SPECIALS


@checks_arguments
class OptionParser:
    """The options of one program.

    Args:
        name: The program's name, as in the names of its files.
        description: One sentence for ``--help``.
        config_folder: The folder of ``NAME.conf`` and ``NAME.d``.
        version: What ``--version`` prints behind the name; by default the version of this package.
        other_folders: Further folders of ``NAME.conf`` and ``NAME.d``, which are read first, with
            the ``G.d/NN-NAME.conf`` of the C++ library, where ``G`` is the name of the folder.
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
        self._to_text: dict[str, Callable[[Any], str]] = {}
        self._checks: list[Check] = [self._check_secrets]
        self._reading = Reading(argparse.Namespace())
        if version is None:
            # The package itself stands on a floor above this module.
            version = getattr(sys.modules.get(__package__ or ""), "__version__", "")
        self._places = PlaceParser(
            name,
            description,
            version=version,
            folders=(config_folder, other_folders),
            variable=variable,
            examples=examples,
        )
        self._places.print_by(self._print)

    # --- what there is ----------------------------------------------------------------------------

    def add(
        self, *flags: str, to_text: Callable[[Any], str] | None = None, **settings: object
    ) -> argparse.Action:
        """Add an option or argument.

        Args:
            flags: The option's names, or the argument's one name.
            to_text: Writes a default in the form in which ``type`` reads it; ``str`` by default.
            settings: As of ``argparse.ArgumentParser.add_argument``. Of an error of this package
                that ``type`` raises, the user sees the sentence.

        Returns:
            What argparse made of it.
        """
        convert = settings.get("type")
        if callable(convert):
            settings["type"] = Converter(convert)
        action = self._places.add(*flags, **settings)
        if to_text is not None:
            self._to_text[action.dest] = to_text
        return action

    @property
    def actions(self) -> list[argparse.Action]:
        """All options and arguments, as argparse made them."""
        return self._places.actions

    def add_address(
        self,
        *flags: str,
        default: str | Sequence[str] | None = None,
        default_scheme: str = "tcp",
        default_port: int | None = None,
        help: str = "",
        multiple: bool = False,
        listens: bool | None = None,
        may_be_off: bool = False,
    ) -> None:
        """Add an option whose value is an :class:`Address`.

        Args:
            flags: The option's names.
            default: The value when none is given; of a multiple option it may be several.
            default_scheme: The scheme of a text without one.
            default_port: The port of a text without one.
            help: A text for ``--help``.
            multiple: The option may be repeated, and its value is a list; a place that wins
                replaces the whole list.
            listens: What ``--check-config`` tries: with ``True`` whether the address can be
                listened on, with ``False`` whether its host can be found, by default nothing.
            may_be_off: Whether ``off`` stands for no address, ``None``; not of a multiple option.

        Raises:
            AddressError: The default is no address.
        """

        def convert(text: str) -> Address:
            return Address.parse(text, default_scheme=default_scheme, default_port=default_port)

        def convert_unless_off(text: str) -> Address | None:
            return None if is_off(text) else convert(text)

        texts = (default,) if isinstance(default, str) else default or ()
        defaults = [convert(text) for text in texts]
        shown = with_default(help, ", ".join(map(str, defaults)))
        if multiple:
            action = self.add(*flags, type=convert, help=shown, metavar="ADDRESS", action="append")
            # argparse would append to a default list instead of replacing it.
            self._lists[action.dest] = defaults
        else:
            action = self.add(
                *flags,
                type=convert_unless_off if may_be_off else convert,
                to_text=text_or_off if may_be_off else None,
                help=shown,
                metavar="ADDRESS|off" if may_be_off else "ADDRESS",
                default=defaults[0] if defaults else None,
            )
        if listens is not None:
            self.add_check(lambda options: self._check_addresses(options, action.dest, listens))

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
        shown = with_default(help, "" if value is None else format_duration(value))
        self.add(
            *flags,
            type=convert,
            help=shown,
            metavar="DURATION",
            default=value,
            to_text=format_duration,
        )

    def add_section(self, name: str, convert: Callable[[str, str], Any], *, help: str = "") -> None:
        """Add a section of the files, ``[name]``, whose keys are the user's own.

        The value in the result is a ``dict`` by key. A later place replaces single keys. On the
        command line it is ``--name KEY=VALUE``, in the environment such words in the shell's
        quotes.

        Args:
            name: The section's name.
            convert: Turns a key and its text into a value; of an error of this package that it
                raises, the user sees the sentence.
            help: A text for ``--help``.
        """
        section = Section(name.replace("_", "-"), convert, help)
        self.add(f"--{section.name}", action="append", metavar="KEY=VALUE", help=help)
        self._places.sections[section.name] = section

    def add_secret(self, *flags: str, help: str = "", metavar: str = "SECRET") -> None:
        """Add an option whose value is never shown, with its companion ``--...-file``.

        The file is one that its owner alone can read. A credential of systemd's (a file
        ``PROGRAM.OPTION``, or ``OPTION``, in ``$CREDENTIALS_DIRECTORY``) wins over configuration
        files. The value is a text, or ``None``.

        Args:
            flags: The option's names; a long one among them.
            help: A text for ``--help``.
            metavar: What ``--help`` shows for the value.

        Raises:
            UsageError: There is no long name.
        """
        secret = self.add(*flags, help=help, metavar=metavar)
        names = long_names(secret)
        if not names:
            raise UsageError(f"{', '.join(flags)}: expected a name that begins with --")
        file = self.add(
            f"--{names[0]}-file", metavar="FILE", help=f"a file with --{names[0]}, for nobody else"
        )
        self._places.secrets[secret] = file

    def add_check(self, check: Check) -> None:
        """Add to what ``--check-config`` looks at.

        Args:
            check: Gets the values, and yields a sentence for each thing that is wrong. An error of
                this package that it raises is one more.
        """
        self._checks.append(check)

    # --- reading ----------------------------------------------------------------------------------

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Read all places, or do what ``--show-config`` and its like ask for.

        The words of an argument that takes any number may stand on both sides of an option.

        Args:
            argv: The command line without the program's name; that of the process by default.

        Returns:
            The values by option name, ``_`` between words.

        Raises:
            SystemExit: With status 2 after an error, 0 after ``--help``, ``--version`` and what
                else ends the program; 1 when a file cannot be written.
        """
        open_closed_streams()
        arguments = list(sys.argv[1:] if argv is None else argv)
        try:
            asked = self._places.find_asked(arguments)
            if _CHECK in asked:
                raise SystemExit(self._check(arguments))
            namespace = self.read(arguments)
            if _SHOW in asked:
                self._print(self._writer().show())
            elif _WRITE in asked:
                path = os.path.expanduser(self._reading.asked[_WRITE])
                try:
                    self._writer().write(path)
                except OSError as error:
                    self._say(f"{path}: {error.strerror}")
                    raise SystemExit(1) from None
        except OptionError as error:
            self._say(str(error))
            raise SystemExit(2) from None
        if asked:
            raise SystemExit(0)
        return namespace

    def read(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Read all places; a service may do so again, and finds new and changed files.

        Args:
            argv: As of :meth:`parse`.

        Returns:
            As of :meth:`parse`.

        Raises:
            OptionError: One line that names the place. :meth:`source` goes on telling of the
                reading before.
            SystemExit: After ``--help`` and ``--version``.
        """
        self._reading = self._read(list(sys.argv[1:] if argv is None else argv))
        return self._reading.namespace

    @property
    def files(self) -> list[str]:
        """The files that were read last, the first one first."""
        return list(self._reading.files)

    def source(self, option: str) -> str:
        """Tell where the value of an option came from, after it was read.

        Args:
            option: Its name in the result of :meth:`read`.

        Returns:
            ``command line``, ``environment variable NAME``, ``FILE:LINE``, or ``default``; of a
            section that of each key, with commas between.
        """
        section = self._places.sections.get(option.replace("_", "-"))
        if section is not None:
            places = [one.place.text for one in self._reading.entries.get(section.name, ())]
            return ", ".join(dict.fromkeys(places)) or "default"
        for action, given in self._reading.given.items():
            if action.dest == option:
                return given[-1].place.text
        return "default"

    def _read(self, argv: Sequence[str], mistakes: list[str] | None = None) -> Reading:
        reading = self._places.read(argv, mistakes)
        for name, defaults in self._lists.items():
            if getattr(reading.namespace, name) is None:
                setattr(reading.namespace, name, list(defaults))
        return reading

    def _writer(self) -> Writer:
        places = self._places
        return Writer(
            self.name,
            places.actions,
            places.sections,
            places.secrets,
            self._to_text,
            self._reading,
        )

    # --- checks -----------------------------------------------------------------------------------

    def _check(self, arguments: Sequence[str]) -> int:
        """Print each mistake; return the exit status."""
        mistakes: list[str] = []
        try:
            self._reading = self._read(arguments, mistakes)
        except OptionError as error:
            mistakes.append(str(error))
        else:
            for check in self._checks:
                try:
                    mistakes += check(self._reading.namespace)
                except EdgeventError as error:
                    mistakes.append(str(error))
        for mistake in dict.fromkeys(mistakes):
            self._say(mistake)
        if not mistakes:
            self._print(f"{self.name}: the options are right\n")
        return 2 if mistakes else 0

    def _check_addresses(
        self, options: argparse.Namespace, option: str, listens: bool
    ) -> Iterator[str]:
        found = getattr(options, option)
        for address in found if isinstance(found, list) else [found]:
            if address is not None:
                for problem in address_problems(address, listens=listens):
                    yield f"{option.replace('_', '-')} ({self.source(option)}): {problem}"

    def _check_secrets(self, options: argparse.Namespace) -> Iterator[str]:
        for secret in self._places.secrets:
            path = self._reading.place(secret).file
            problem = path and self._reading.given[secret][-1].text and others_can_read(path)
            if problem:
                yield f"{path}: {long_names(secret)[0]}: {problem}"

    def _print(self, text: str) -> None:
        escape_output()  # the program ends after it
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as error:
            discard_output()
            if not isinstance(error, BrokenPipeError):
                self._say(f"standard output: {error.strerror}")
            raise SystemExit(1) from None

    def _say(self, message: str) -> None:
        print(f"{self.name}: {message}".replace("\n", " "), file=sys.stderr)
