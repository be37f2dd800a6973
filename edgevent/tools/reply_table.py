"""A table of commands and what they are answered with: ``ed-listen --reply FILE``.

Each line is ``COMMAND = ANSWER``. The command may be a shell pattern; the first line that fits
counts. The answer is a message, in the values of which ``$name`` or ``${name}`` stands for a
parameter of the question, and ``$$`` for a dollar sign; an empty one answers nothing. A line that
begins with ``#`` or ``;`` is a comment.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import MessageError, OptionError
from ..message import Message

_MAX_FILE_BYTES: Final = 1024 * 1024
_COMMAND: Final = re.compile(r"[A-Z_*?\[][A-Z0-9_*?\[\]!-]*", re.ASCII)
_WILD: Final = re.compile(r"[*?\[]")
_PLACE: Final = re.compile(r"\$(?:(\$)|([A-Za-z0-9_]+)|\{([A-Za-z0-9_]+)\}|)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table.

    Attributes:
        command: A command or a shell pattern.
        answer: The message to answer with, its places not filled; ``None`` for no answer.
    """

    command: str
    answer: Message | None

    @property
    def is_exact(self) -> bool:
        """Whether it is for one command."""
        return not _WILD.search(self.command)

    def fits(self, command: str) -> bool:
        """Whether it is for this command."""
        return fnmatch.fnmatchcase(command, self.command)

    def fill(self, question: Message) -> Message | None:
        """Makes the answer to a question: to its sender, with its ``serial``.

        Raises:
            MessageError: The question has not all parameters that the answer needs; the error
                names the first that is missing.
        """
        answer = self.answer
        if answer is None:
            return None
        filled = {name: _fill(value, question) for name, value in answer.parameters.items()}
        reply = question.reply(answer.command, filled)
        if answer.service:
            reply = reply.with_target(answer.server, answer.service)
        if answer.sent_from_service:
            reply = reply.with_sender(answer.sent_from_server, answer.sent_from_service)
        return reply


class ReplyTable:
    """Rules, of which the first one that fits counts.

    Args:
        rules: In their order.
    """

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._rules = tuple(rules)

    @classmethod
    def read(cls, path: str) -> ReplyTable:
        """Reads a file.

        Raises:
            OptionError: It cannot be read, or a line is wrong; the sentence names file and line.
        """
        rules: list[Rule] = []
        lines: dict[str, int] = {}
        for number, line in enumerate(_read_text(path).split("\n"), 1):
            text = line.strip()
            if not text or text[0] in "#;":
                continue
            rule = _read_rule(f"{path}:{number}", text)
            if rule.command in lines:
                before = lines[rule.command]
                raise OptionError(f"{path}:{number}: {rule.command} is answered in line {before}")
            lines[rule.command] = number
            rules.append(rule)
        return cls(rules)

    @property
    def commands(self) -> list[str]:
        """The commands that are answered, without those of patterns."""
        return [rule.command for rule in self._rules if rule.is_exact and rule.answer is not None]

    def find(self, command: str) -> Rule | None:
        """Returns the rule for a command."""
        return next((rule for rule in self._rules if rule.fits(command)), None)


def _read_text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise OptionError(f"{path}: is longer than {_MAX_FILE_BYTES} bytes")
        return data.decode("utf-8")
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise OptionError(f"{path}: expected UTF-8 text") from None


def _read_rule(where: str, text: str) -> Rule:
    command, equals, answer = (part.strip() for part in text.partition("="))
    if not equals:
        raise OptionError(f"{where}: {text!r}: expected COMMAND = ANSWER")
    if not _COMMAND.fullmatch(command):
        near = command.upper() if _COMMAND.fullmatch(command.upper()) else ""
        hint = f"; did you mean {near!r}?" if near else ""
        raise OptionError(f"{where}: {command!r} is no command or shell pattern{hint}")
    if not answer:
        return Rule(command, None)
    try:
        message = Message.parse(answer)
    except MessageError as error:
        raise OptionError(f"{where}: the answer is no message: {error}") from None
    for name, value in message.parameters.items():
        if any(not any(found.groups()) for found in _PLACE.finditer(value)):
            raise OptionError(f"{where}: {name}: a lone $: expected $name, ${{name}} or $$")
    return Rule(command, message)


def _fill(value: str, question: Message) -> str:
    def one(found: re.Match[str]) -> str:
        return "$" if found[1] else question[found[2] or found[3]]

    return _PLACE.sub(one, value) if "$" in value else value
