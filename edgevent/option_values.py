"""The values of options as text: converted, checked, and written as they can be read again."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from .errors import EdgeventError, OptionError

BOOLEANS: Final = ("true", "on", "yes", "1", "false", "off", "no", "0")
"""What a file or variable may say of an option without a value."""

SPECIALS: Final = ("show_config", "check_config", "write_out_config_file")
"""The options that show, check or write the others, by their names in the result."""

_OFF: Final = ("off", "no", "none")
_SHOWN: Final = 100
_NUMBER: Final = re.compile(r"-\d*\.?\d+", re.ASCII)
_MAX_COUNT: Final = 100
_WITHOUT_KEY: Final = ("help", "version", "config_file", *SPECIALS)
# Words that the values of sections may have among others: an option of a listener, say.
_SECRET_WORD: Final = re.compile(r"\b((?:\w+[_-])?(?:secret(?:[_-]code)?|password))=(\S+)")


class Place(NamedTuple):
    """Where a value stands.

    Attributes:
        text: For people: ``FILE:LINE``, ``environment variable NAME``, ``command line`` and others.
        rank: Which place wins: the higher one. Files begin with 0, in the order of reading.
    """

    text: str
    rank: int

    @property
    def file(self) -> str:
        """The path of the file, or an empty string."""
        return self.text.rpartition(":")[0] if 0 <= self.rank < CREDENTIAL else ""


CREDENTIAL: Final = 1_000_000
"""The rank of systemd's credentials, above all files."""
ENVIRONMENT: Final = CREDENTIAL + 1
PIECE: Final = CREDENTIAL + 2
"""The rank of a piece of command line in an environment variable."""
COMMAND_LINE: Final = CREDENTIAL + 3

DEFAULT_PLACE: Final = Place("default", -1)
COMMAND_LINE_PLACE: Final = Place("command line", COMMAND_LINE)


class Converter:
    """A conversion whose errors reach the user: those of this package as they are.

    Args:
        convert: Turns a text into a value.
    """

    def __init__(self, convert: Callable[[str], object]) -> None:
        self._convert = convert

    def __call__(self, text: str) -> object:
        """Convert a text.

        Raises:
            argparse.ArgumentTypeError: It is none of what was expected.
        """
        try:
            return self._convert(text)
        except EdgeventError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        except (TypeError, ValueError):
            kind = getattr(self._convert, "__name__", "another value")
            raise argparse.ArgumentTypeError(f"value {shown(text)}: expected {kind}") from None


def shown(text: str) -> str:
    """Give a text of a user in quotes for an error, and of a long one the beginning."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def long_names(action: argparse.Action) -> list[str]:
    """Give the names by which files and the environment may set an option, with ``-`` in them."""
    if action.dest in _WITHOUT_KEY:
        return []
    names = [flag[2:].replace("_", "-") for flag in action.option_strings if flag[:2] == "--"]
    # The second name of a boolean option is its negation.
    return names[:1] if isinstance(action, argparse.BooleanOptionalAction) else names


def takes_several(action: argparse.Action) -> bool:
    """Tell whether one occurrence of an option takes a list of words."""
    nargs = action.nargs
    return nargs in ("+", "*") or (isinstance(nargs, int) and nargs > 1)


def split_words(where: str, text: str) -> list[str]:
    """Split a value into words, as a shell does.

    Args:
        where: The place, for errors.
        text: The words, in the shell's quotes.

    Raises:
        OptionError: A quote is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise OptionError(f"{where}: {error}") from None


def check_value(where: str, action: argparse.Action, value: str) -> None:
    """Convert a value for its error alone, which can name the place only here.

    Args:
        where: The place and the key.
        action: The option.
        value: What is given for it.

    Raises:
        OptionError: The value is wrong; the sentence begins with the place.
    """
    if action.nargs == 0:
        if value.lower() in BOOLEANS:
            return
        if not isinstance(action, argparse._CountAction):
            raise OptionError(
                f"{where}: value {shown(value)}: expected one of {', '.join(BOOLEANS)}"
            )
        if not (value.isascii() and value.isdigit() and len(value) <= len(str(_MAX_COUNT)) - 1):
            raise OptionError(
                f"{where}: value {shown(value)}: expected a number below {_MAX_COUNT}"
            )
        return
    words = split_words(where, value) if takes_several(action) else [value]
    if takes_several(action):
        _check_words(f"{where}: value {shown(value)}", action, words)
    for word in words:
        _check_word(where, action, word)


def _check_words(where: str, action: argparse.Action, words: list[str]) -> None:
    if any(word.startswith("-") and not _NUMBER.fullmatch(word) for word in words):
        raise OptionError(f"{where}: expected words that do not begin with '-'")
    if action.nargs == "+" and not words:
        raise OptionError(f"{where}: expected a word or several")
    if isinstance(action.nargs, int) and len(words) != action.nargs:
        raise OptionError(f"{where}: expected {action.nargs} words")


def _check_word(where: str, action: argparse.Action, word: str) -> None:
    converted: object = word
    if isinstance(action.type, Converter):
        try:
            converted = action.type(word)
        except argparse.ArgumentTypeError as error:
            raise OptionError(f"{where}: {error}") from None
    if action.choices is not None and converted not in action.choices:
        choices = [str(choice) for choice in action.choices]
        raise OptionError(
            f"{where}: value {shown(word)}: expected one of {', '.join(choices)}"
            f"{nearest(word, choices)}"
        )


def default_texts(
    action: argparse.Action, value: object, to_text: Callable[[object], str]
) -> list[str]:
    """Write the value that an option has without any text: its default.

    Args:
        action: The option.
        value: The value.
        to_text: Writes one value.

    Returns:
        A text for each time that the option would be given; none for ``None``.
    """
    if value is None or value is argparse.SUPPRESS:
        return []
    if isinstance(action, argparse._StoreConstAction):
        return ["true" if value is action.const else "false"]
    if takes_several(action) and isinstance(value, (list, tuple)):
        return [shlex.join(map(to_text, value))]
    if isinstance(value, bool):
        return [str(value).lower()]
    return [to_text(one) for one in value] if isinstance(value, (list, tuple)) else [to_text(value)]


def reads_back(action: argparse.Action, texts: Iterable[str], value: object) -> bool:
    """Tell whether texts stand for a value: that of a default may be of a form of its own."""
    if not isinstance(action.type, Converter) or isinstance(value, str):
        return True
    convert = action.type
    try:
        if takes_several(action):
            return [[convert(word) for word in shlex.split(text)] for text in texts] == [value]
        found = [convert(text) for text in texts]
    except (argparse.ArgumentTypeError, ValueError):
        return False
    return found == (list(value) if isinstance(value, (list, tuple)) else [value])


def masked(text: str) -> str:
    """Hide what stands for a secret among the words of a value, such as ``secret_code=...``."""
    return _SECRET_WORD.sub(r"\1=***", text)


def with_default(text: str, default: str) -> str:
    """Put a default behind a text for ``--help``."""
    # argparse formats help with "%", which the scope of an IPv6 address holds as well.
    return f"{text} (default: {default.replace('%', '%%')})" if default else text


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Give the end of an error with the known word that is most like a wrong one, if one is."""
    near = difflib.get_close_matches(word[:_SHOWN], list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def is_off(text: str) -> bool:
    """Whether a value says that there is to be none: a listener that is not wanted, for example."""
    return text.lower() in _OFF


def text_or_off(value: object) -> str:
    """Writes a value so that it can be read again, where there may be none."""
    return str(value) if value else _OFF[0]


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Makes a conversion of whole numbers within limits."""

    def read(text: str) -> int:
        if text.isascii() and text.isdecimal() and least <= int(text) <= most:
            return int(text)
        raise OptionError(f"{text[:32]!r}: a number from {least} to {most} was expected")

    return read
