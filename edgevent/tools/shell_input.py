"""What is typed into ed-shell: messages, commands of its own, and how both are completed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ..definitions import Definitions
from ..errors import DefinitionError, MessageError
from ..message import Message

_TARGET: Final = re.compile(r"(?:<\S*\s+)?(?:[^\s/]*/)?")
"""What may stand before the command: who sends, and for whom it is."""
_WORD: Final = re.compile(r"[^ ;]*\Z")


def read_message(line: str, *, server: str = "", service: str = "") -> Message:
    """Reads a message that was typed.

    Args:
        line: The text, or its JSON form.
        server: For which server it is, when a service is not named in the line.
        service: For which service, likewise.

    Raises:
        MessageError: It is no message.
    """
    try:
        message = Message.parse(line)
    except MessageError as error:
        hint = _upper(line)
        raise MessageError(f"{error}; did you mean {hint}?" if hint else str(error)) from None
    if message.service or not service:
        return message
    return Message(
        message.command,
        message.parameters,
        server=message.server or server,
        service=service,
        sent_from_server=message.sent_from_server,
        sent_from_service=message.sent_from_service,
    )


def _upper(line: str) -> str:
    """Gives the target and the command in upper case, if that makes it a message."""
    target = _TARGET.match(line)
    start = target.end() if target else 0
    command, _, rest = line[start:].partition(" ")
    upper = command.upper()
    if upper == command:
        return ""
    try:
        Message.parse(f"{line[:start]}{upper} {rest}")
    except MessageError:
        return ""
    return f"{line[:start]}{upper}"


class Completer:
    """Completes what is typed, up to the cursor.

    Args:
        definitions: Where the parameters of commands are known from.
        own: The commands of the shell, with their ``/``.
    """

    def __init__(self, definitions: Definitions, own: Iterable[str]) -> None:
        self._definitions = definitions
        self._own = sorted(own)
        self.commands: tuple[str, ...] = ()

    def learn(self, commands: Iterable[str]) -> None:
        """Takes the commands of the service, as HELP has told them; callable from any thread."""
        self.commands = tuple(sorted({one for one in commands if one}))

    def complete(self, text: str) -> tuple[int, list[str]]:
        """Finds how a text may go on.

        Args:
            text: What stands before the cursor.

        Returns:
            Where the word begins that is completed, and what may stand in its place.
        """
        found = _WORD.search(text)
        begin = found.start() if found else len(text)
        word = text[begin:]
        before = text[:begin]
        if not before.strip():
            if word.startswith("/"):
                return begin, [one for one in self._own if one.startswith(word)]
            return begin, self._targets(word)
        if before.lstrip().startswith("/"):
            is_wait = before.split()[:1] == ["/wait"]
            names = self.commands if is_wait and len(before.split()) == 1 else ()
            return begin, [one for one in names if one.startswith(word)]
        if before.lstrip().startswith("<") and len(before.split()) == 1:
            return begin, self._targets(word)
        return begin, self._names(before, word)

    def _targets(self, word: str) -> list[str]:
        target, slash, start = word.rpartition("/")
        return [f"{target}{slash}{one} " for one in self.commands if one.startswith(start.upper())]

    def _names(self, before: str, word: str) -> list[str]:
        if "=" in word:
            return []
        words = before.split()
        place = 1 if words[0].startswith("<") else 0
        command = words[place].rpartition("/")[2] if len(words) > place else ""
        used = {one.partition("=")[0].strip() for one in re.split("[; ]", before)}
        return [
            f"{one}=" for one in self._rules(command) if one.startswith(word) and one not in used
        ]

    def _rules(self, command: str) -> list[str]:
        try:
            definition = self._definitions.get(command)
        except DefinitionError:  # a file that cannot be used: the service tells of it
            return []
        return [one.name for one in definition.rules if not one.forbidden] if definition else []
