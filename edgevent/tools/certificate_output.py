"""What check-certificate prints: sentences, fields or JSON; and the display of its progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Final, TextIO

from ..certificate import Certificate
from .certificate_check import UNREADABLE, Outcome, in_words, span

# The names that the tool of the C++ library has for the parts of a name, in its order.
_PARTS: Final = {
    "common-name": "common_name",
    "country-name": "country",
    "locality-name": "locality",
    "state-or-province-name": "state",
    "organization-name": "organization",
    "organizational-unit": "organizational_unit",
    "email-address": "email_address",
}
_CLEAR: Final = "\r\x1b[K"
_DAY: Final = 86_400


def sentences(outcome: Outcome) -> list[str]:
    """Says what was found: one sentence when all is good, else one for each problem."""
    if outcome.error:
        return [outcome.error]
    if outcome.problems or outcome.until is None:
        return list(outcome.problems)
    left = (outcome.until - datetime.now(timezone.utc)).total_seconds()
    return [f"valid until {in_words(outcome.until)}, {span(left)} left"]


def fields(outcome: Outcome) -> list[tuple[str, str]]:
    """Gives the names and values of ``--info``; a value that is missing is left out."""
    own, *above = outcome.chain
    pairs = [
        ("domain", outcome.target),
        ("not-before", _slashed(own.not_before)),
        ("not-after", _slashed(own.not_after)),
        *((name, value) for name, value in _names(own)),
        ("alternative-names", ", ".join(_alternatives(own))),
        ("key", own.key),
        ("serial-number", f"{own.serial_number:x}"),
        ("fingerprint", own.fingerprint),
        *(
            ("chain", f"{one.subject}; issuer {one.issuer}; not after {_slashed(one.not_after)}")
            for one in above
        ),
    ]
    return [(name, printable(value)) for name, value in pairs if value]


def as_json(outcome: Outcome) -> str:
    """Writes all of it as one line of JSON."""
    found: dict[str, object] = {
        "domain": outcome.target,
        "status": outcome.status,
        "problems": list(outcome.problems),
    }
    if outcome.status == UNREADABLE:
        found["error"] = outcome.error
    else:
        own = outcome.chain[0]
        found["days_left"] = round(own.remaining() / _DAY, 3)
        found.update(_dates(own))
        found.update((name.replace("-", "_"), value) for name, value in _names(own) if value)
        found["alternative_names"] = _alternatives(own)
        found["key"] = own.key
        found["serial_number"] = f"{own.serial_number:x}"
        found["fingerprint"] = own.fingerprint
        found["chain"] = [
            {
                "subject": one.subject,
                "issuer": one.issuer,
                **_dates(one),
                "fingerprint": one.fingerprint,
            }
            for one in outcome.chain[1:]
        ]
    return json.dumps(found)


def printable(text: str) -> str:
    """Escapes what a terminal would obey: a certificate of somebody else's may hold anything."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


def _names(found: Certificate) -> Iterator[tuple[str, str]]:
    for whose, parts in (("issuer", found.issuer_fields), ("subject", found.subject_fields)):
        for name, part in _PARTS.items():
            yield f"{whose}-{name}", parts.get(part, "")


def _alternatives(found: Certificate) -> list[str]:
    return [*found.names, *map(str, found.addresses)]


def _dates(found: Certificate) -> dict[str, str]:
    return {
        "not_before": f"{found.not_before.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
        "not_after": f"{found.not_after.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
    }


def _slashed(when: datetime) -> str:
    return f"{when.astimezone(timezone.utc):%Y/%m/%d %H:%M:%S}"


class Progress:
    """Says on a terminal how many targets are done; elsewhere it does nothing.

    Args:
        total: How many there are; of a single one nothing is said.
        stream: Where it is shown; the error output by default.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._total = total
        self._done = 0
        self._is_shown = total > 1 and self._stream.isatty()

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        self.show()

    def show(self) -> None:
        """Shows it, over what was shown before."""
        if self._is_shown:
            text = f"{_CLEAR}{self._done} of {self._total} checked"
            print(text, end="", file=self._stream, flush=True)

    def clear(self) -> None:
        """Takes it away, before something else is printed."""
        if self._is_shown:
            print(_CLEAR, end="", file=self._stream, flush=True)
