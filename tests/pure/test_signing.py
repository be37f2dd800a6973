"""Secret codes and signatures: what proves a sender, and what is dropped for which reason."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevent import Message, MessageError, SigningKeyError, SigningKeys
from edgevent.signing import REASONS, Guard, ReplayCache

OLD = b"an old key of 16"
NEW = b"a new key of sixteen bytes"
START = 1_700_000_000.0


class Dates:
    """Two clocks that the test sets."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.wall = START

    def now(self) -> float:
        return self.monotonic

    def date(self) -> float:
        return self.wall

    def pass_time(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


@pytest.fixture
def dates() -> Dates:
    return Dates()


def signed(message: Message, key: bytes = OLD, at: float = START, nonce: str = "n" * 16) -> bytes:
    """Signs by the text of the module alone, without its code."""
    text = bytes(message.with_parameters(auth_time=int(at * 1000), auth_nonce=nonce))
    signature = hmac.new(key, text, hashlib.sha256).hexdigest()
    return bytes(Message.parse(text).with_parameters(auth_signature=signature))


MESSAGE = Message("ADD", {"a": 2, "b": "x;y "}, service="sums")


# --- keys -----------------------------------------------------------------------------------------


def key_file(folder: Path, text: bytes, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_the_first_key_signs_and_all_verify(tmp_path: Path) -> None:
    keys = SigningKeys.read(key_file(tmp_path, b"  %s \r\n\n%s" % (NEW, OLD)))
    assert len(keys) == 2
    assert keys.sign(b"text") == SigningKeys(NEW).sign(b"text")
    for key in (OLD, NEW):
        assert keys.verify(b"text", SigningKeys(key).sign(b"text"))
    assert not keys.verify(b"text", SigningKeys(b"another key of 16").sign(b"text"))
    assert not keys.verify(b"text", "")
    assert not keys.verify(b"text", "\udcff" * 64)


def test_text_stands_for_its_bytes() -> None:
    assert SigningKeys("k" * 15 + "\xe9").sign(b"") == SigningKeys(b"k" * 15 + b"\xc3\xa9").sign(
        b""
    )


@pytest.mark.parametrize(
    ("text", "mode", "sentence"),
    [
        (b"", 0o600, "0 keys: 1 to 8 were expected"),
        (b"k" * 15, 0o600, "key 1 has 15 bytes: at least 16 were expected"),
        (OLD + b"\nshort", 0o600, "key 2 has 5 bytes"),
        ((OLD + b"\n") * 9, 0o600, "9 keys: 1 to 8"),
        (OLD, 0o640, "mode 0640"),
        (OLD, 0o604, "0600 was expected"),
        (b"k" * 65537, 0o600, "65536 bytes at most"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, text: bytes, mode: int, sentence: str
) -> None:
    path = key_file(tmp_path, text, mode)
    with pytest.raises(SigningKeyError, match=sentence) as caught:
        SigningKeys.read(path)
    assert str(path) in str(caught.value)
    assert "kkkk" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, sentence in (
        ("fifo", "a regular file"),
        (".", "a regular file"),
        ("missing", "No such file"),
        ("a\0b", "null"),
    ):
        with pytest.raises(SigningKeyError, match=sentence):
            SigningKeys.read(tmp_path / name)


def test_keys_are_never_shown() -> None:
    assert repr(SigningKeys(OLD, NEW)) == "<SigningKeys 2 keys>"


# --- the secret code ------------------------------------------------------------------------------


def test_the_code_is_added_and_taken_away() -> None:
    guard = Guard(secret_code="open; sesame\xe9")
    data = guard.seal(MESSAGE)
    assert Message.parse(data)["secret_code"] == "open; sesame\xe9"
    assert guard.open(data) == (MESSAGE, True, "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"A", "no_secret"),
        (b"A secret_code=", "wrong_secret"),
        (b"A secret_code=sesam", "wrong_secret"),
        (b"A secret_code=\xff", "wrong_secret"),
        (b"a", "malformed"),
        (b"", "malformed"),
    ],
)
def test_without_the_code_it_is_dropped(line: bytes, reason: str) -> None:
    assert Guard(secret_code="sesame").open(line) == (None, False, reason)
    assert reason in REASONS


def test_who_asks_for_nothing_warns_once_of_a_code(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(name="beacon")
    assert not guard.asks
    for _ in range(3):
        assert guard.open(b"A secret_code=sesame;x=1") == (Message("A", {"x": 1}), False, "")
    assert guard.open(signed(MESSAGE)) == (MESSAGE, False, "")
    (record,) = caplog.records
    assert record.getMessage().startswith("beacon: a secret code or a signature came")
    assert "sesame" not in caplog.text


def test_who_asks_for_nothing_adds_nothing() -> None:
    assert Guard(secret_code="").seal(MESSAGE) == bytes(MESSAGE)


# --- signatures -----------------------------------------------------------------------------------


def test_a_signature_is_what_the_text_says(dates: Dates) -> None:
    guard = Guard(auth=SigningKeys(OLD), dates=dates)
    assert guard.asks
    assert guard.open(signed(MESSAGE)) == (MESSAGE, True, "")
    sealed = Message.parse(guard.seal(MESSAGE))
    assert sealed["auth_time"] == "1700000000000"
    assert len(sealed["auth_nonce"]) == 32
    assert bytes(sealed) == signed(MESSAGE, nonce=sealed["auth_nonce"])


def test_the_known_answer_of_the_readme() -> None:
    """Computed with ``openssl dgst -sha256 -hmac``."""
    text = b"ADD a=2;auth_nonce=00112233445566778899aabbccddeeff;auth_time=1700000000000;b=40"
    assert SigningKeys("0123456789abcdef").sign(text) == (
        "77885797c2aa6a31716bd78e454fd054fd9e7fd31de2b31c46abc196c188a5e6"
    )


def test_the_order_and_the_form_of_what_came_do_not_matter(dates: Dates) -> None:
    guard = Guard(auth=SigningKeys(OLD), dates=dates)
    message = Message.parse(signed(MESSAGE))
    pairs = ";".join(f'{name}="{text}"' for name, text in reversed(message.parameters.items()))
    assert guard.open(f" sums/ADD {pairs}\n".encode()) == (MESSAGE, True, "")
    message = Message.parse(signed(MESSAGE, nonce="m" * 16))
    assert guard.open(message.to_json().encode()) == (MESSAGE, True, "")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"a": "3"}, "forged"),
        ({"c": ""}, "forged"),
        ({"auth_nonce": "m" * 16}, "forged"),
        ({"auth_nonce": "short"}, "forged"),
        ({"auth_nonce": "n" * 65}, "forged"),
        ({"auth_time": "1700000000001"}, "forged"),
        ({"auth_time": "-1"}, "forged"),
        ({"auth_time": "9" * 16}, "forged"),
        ({"auth_time": ""}, "forged"),
        ({"auth_signature": ""}, "forged"),
        ({"auth_signature": "0" * 64}, "forged"),
        ({"auth_signature": None}, "unsigned"),
        ({"auth_nonce": None}, "unsigned"),
        ({"auth_time": None}, "unsigned"),
    ],
)
def test_what_was_changed_is_not_accepted(
    dates: Dates, change: dict[str, str | None], reason: str
) -> None:
    message = Message.parse(signed(MESSAGE))
    for name, text in change.items():
        message = message.without_parameters(name)
        message = message if text is None else message.with_parameters({name: text})
    guard = Guard(auth=SigningKeys(OLD), dates=dates)
    assert guard.open(bytes(message))[2] == reason
    assert guard.open(signed(MESSAGE, key=NEW))[2] == "forged"


def test_upper_case_is_another_signature(dates: Dates) -> None:
    message = Message.parse(signed(MESSAGE))
    shouted = message.with_parameters(auth_signature=message["auth_signature"].upper())
    assert Guard(auth=SigningKeys(OLD), dates=dates).open(bytes(shouted))[2] == "forged"


@pytest.mark.parametrize("way", [1, -1])
def test_the_window_is_thirty_seconds_to_both_sides(dates: Dates, way: int) -> None:
    guard = Guard(auth=SigningKeys(OLD), dates=dates)
    assert guard.open(signed(MESSAGE, at=START + way * 30.0))[1]
    assert guard.open(signed(MESSAGE, at=START + way * 30.001)) == (None, False, "expired")


def test_old_and_new_key_are_valid_during_a_change(dates: Dates) -> None:
    old, new, both = (
        Guard(auth=SigningKeys(*keys), dates=dates) for keys in ((OLD,), (NEW,), (NEW, OLD))
    )
    assert both.open(old.seal(MESSAGE))[1]
    assert both.open(new.seal(MESSAGE))[1]
    assert new.open(both.seal(MESSAGE))[1]
    assert old.open(both.seal(MESSAGE))[2] == "forged"
    old.rekey(SigningKeys(OLD, NEW))
    assert old.open(both.seal(MESSAGE))[1]


def test_a_key_and_a_code_are_both_asked_for(dates: Dates) -> None:
    guard = Guard(auth=SigningKeys(OLD), secret_code="sesame", dates=dates)
    assert guard.open(b"A secret_code=sesame")[2] == "unsigned"
    assert guard.open(signed(MESSAGE))[2] == "no_secret"
    coded = MESSAGE.with_parameters(secret_code="sesame")
    assert guard.open(signed(coded, nonce="m" * 16)) == (MESSAGE, True, "")
    sealed = guard.seal(MESSAGE)
    assert b"secret_code=sesame" in sealed
    assert Guard(auth=SigningKeys(OLD), secret_code="sesame", dates=dates).open(sealed)[1]


def test_too_many_parameters_leave_no_room_for_a_signature() -> None:
    message = Message("A", {f"p{number}": "" for number in range(254)})
    with pytest.raises(MessageError, match="256"):
        Guard(auth=SigningKeys(OLD)).seal(message)


def test_a_message_can_be_signed_again(dates: Dates) -> None:
    guard, other = (Guard(auth=SigningKeys(OLD), dates=dates) for _ in range(2))
    forwarded = Message.parse(guard.seal(MESSAGE))
    assert other.open(guard.seal(forwarded)) == (MESSAGE, True, "")


def test_what_was_signed_before_the_start_is_refused(dates: Dates) -> None:
    dates.wall += 0.0005  # less than the times on the wire tell
    guard = Guard(auth=SigningKeys(OLD), only_new=True, dates=dates)
    assert guard.open(signed(MESSAGE, at=START - 0.001))[2] == "expired"
    assert guard.open(signed(MESSAGE, at=START))[1]


def test_the_clock_of_the_system_is_asked_when_no_other_is_given() -> None:
    a, b = (Guard(auth=SigningKeys(OLD)) for _ in range(2))
    assert b.open(a.seal(MESSAGE)) == (MESSAGE, True, "")


# --- replays --------------------------------------------------------------------------------------


def test_nothing_is_accepted_twice(dates: Dates) -> None:
    guard, other = (Guard(auth=SigningKeys(OLD), dates=dates) for _ in range(2))
    data = other.seal(MESSAGE)
    assert guard.open(data)[1]
    assert guard.open(data)[2] == "replayed"
    assert guard.open(b" " + data + b"\n")[2] == "replayed"
    assert other.open(data)[2] == "replayed"  # one's own, sent back
    assert guard.open(other.seal(MESSAGE))[1]


@pytest.mark.parametrize("offset", [-30.0, 0.0, 30.0])
def test_it_stays_so_for_as_long_as_the_time_is_in_the_window(dates: Dates, offset: float) -> None:
    guard = Guard(auth=SigningKeys(OLD), dates=dates)
    data = signed(MESSAGE, at=START + offset)
    assert guard.open(data)[1]
    while guard.open(data)[2] == "replayed":
        dates.pass_time(0.25)
        guard.open(signed(MESSAGE, at=dates.wall, nonce=f"{int(dates.wall * 4):016}"))
    assert guard.open(data)[2] == "expired"
    assert dates.wall - START == offset + 30.25


def test_a_date_that_jumps_and_comes_back_lets_no_replay_in(dates: Dates) -> None:
    guard = Guard(auth=SigningKeys(OLD), dates=dates)
    data = signed(MESSAGE)
    assert guard.open(data)[1]
    dates.wall += 3600.0
    dates.monotonic += 2.0
    assert guard.open(signed(MESSAGE, at=dates.wall))[1]
    dates.wall -= 3598.0
    assert guard.open(data)[2] == "replayed"
    dates.wall -= 10.0  # and back further
    assert guard.open(data)[2] == "replayed"


def test_a_full_cache_refuses_rather_than_forgets(dates: Dates) -> None:
    cache = ReplayCache(3, 30.0, dates)
    for number in range(3):
        assert cache.add(bytes([number]), dates.wall) is True
    assert cache.add(b"more", dates.wall) is None
    assert cache.add(b"\0", dates.wall) is False
    dates.pass_time(31.5)
    assert cache.add(b"more", dates.wall) is True
    assert cache.count == 1


def test_a_full_cache_is_a_reason(dates: Dates) -> None:
    guard = Guard(auth=SigningKeys(OLD), max_signatures=1, dates=dates)
    assert guard.open(signed(MESSAGE))[1]
    assert guard.open(signed(MESSAGE, nonce="m" * 16)) == (None, False, "too_many")


def test_ten_thousand_forged_ones_are_none_of_them_accepted(dates: Dates) -> None:
    rng = random.Random(3)
    guard = Guard(auth=SigningKeys(OLD, NEW), dates=dates)
    seen = signed(MESSAGE)
    assert guard.open(seen)[1]
    for number in range(10_000):
        data = bytearray(signed(MESSAGE, nonce=f"{number:016}"))
        kind = number % 4
        if kind == 0:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data = bytearray(seen)
        elif kind == 2:
            data = bytearray(signed(MESSAGE, at=START - 31 - number))
        else:
            del data[rng.randrange(len(data)) :]
        # An odd change may leave the message what it was, as " " for "\n" at its end would.
        opened = guard.open(bytes(data))
        assert opened.message is None or opened.message == MESSAGE, bytes(data)
        assert opened.message is None or kind == 0
    assert guard._replays.count < 10


# --- any message ----------------------------------------------------------------------------------

NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: not name.startswith("auth_") and name != "secret_code"
)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(NAMES, TEXTS, max_size=6), TEXTS.filter(bool))
@settings(max_examples=150, deadline=None)
def test_any_message_survives_a_seal(parameters: dict[str, str], code: str) -> None:
    message = Message("ANY", parameters)
    for settings_ in ({"secret_code": code}, {"auth": SigningKeys(OLD)}):
        a, b = Guard(**settings_), Guard(**settings_)  # type: ignore[arg-type]
        data = a.seal(message)
        assert b.open(data) == (message, True, "")
        assert Guard(auth=SigningKeys(NEW)).open(data)[0] is None


@given(st.binary(max_size=100) | st.text(max_size=60).map(lambda text: json.dumps(text).encode()))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_judged_and_raise_nothing(data: bytes) -> None:
    for settings_ in ({}, {"secret_code": "x"}, {"auth": SigningKeys(OLD)}):
        opened = Guard(**settings_).open(data)  # type: ignore[arg-type]
        assert (opened.message is None) == (opened.reason in REASONS)
