"""ed-signal: sends one message to a service, and prints what comes back if that is wanted."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

from ..errors import (
    AddressError,
    CertificateFileError,
    EdgeventError,
    MessageError,
    OptionError,
    SigningKeyError,
    UsageError,
)
from ..message import Message
from ..options import OptionParser
from .output import output_failed, parse_count, print_bytes, shown
from .peer_options import add_peer_options, read_peer
from .recording import DIRECTIONS
from .replaying import Replay, Replayer, parse_pace
from .sending import NoAnswerError, Sender, open_sender, own_name

_NAME: Final = "ed-signal"
_SERVICE: Final = "ed_signal"
_PORT: Final = 4041
_HOST: Final = "127.0.0.1"
_FORM: Final = "[[SERVER:]SERVICE/]COMMAND"
_REFUSALS: Final = ("UNKNOWN", "INVALID")
_OF_MESSAGES: Final = ("message", "param", "server", "service", "repeat", "interval")
_OF_REPLAYS: Final = ("pace", "direction")
_BAD_USAGE: Final = (
    AddressError, CertificateFileError, MessageError, OptionError, SigningKeyError, UsageError,
)  # fmt: skip


def _parser() -> OptionParser:
    parser = OptionParser(
        _NAME,
        "Send a message to a service: by UDP to port 4041 of this machine, or to any address.",
        other_folders=["/etc/eventdispatcher"],
        variable="ED_SIGNAL",
        examples=[
            "ed-signal snap:cluckd/STOP",
            "ed-signal --host tcp://127.0.0.1:3001 --reply HELP",
            "ed-signal --host unix:hello.sock --reply --param a=2 --param b=40 ADD",
            "ed-signal --host unix:hello.sock --reply --replay hello.jsonl --pace 10",
        ],
    )
    add = parser.add
    add("words", nargs="*", metavar=_FORM, help="the command, and for whom it is")
    add(
        "-H",
        "--host",
        default=_HOST,
        metavar="ADDRESS",
        help="where to: IP or IP:PORT (see --type), an address such as tcp://127.0.0.1:3001 or"
        " unix:/run/hello.sock, or FILE@NAME: the variable NAME (or SECTION::NAME) of a file that"
        f" begins with / or ./; port {_PORT} when it says none (default: {_HOST})",
    )
    add("-m", "--message", metavar=_FORM, help="the same as without --message")
    add(
        "-p",
        "--param",
        action="append",
        metavar="NAME[=VALUE]",
        help="a parameter of the message; may be repeated",
    )
    add("-s", "--server", help="for which server it is")
    add("-S", "--service", help="for which service it is")
    add("-r", "--reply", action="store_true", help="wait for an answer, and print it")
    add(
        "--replies",
        type=parse_count,
        metavar="N",
        help="wait for so many messages, and print them (default: with --reply 1)",
    )
    parser.add_duration(
        "--timeout",
        default="5s",
        minimum=0.01,
        help="the limit of connecting, and of the wait for all answers",
    )
    add("--json", action="store_true", help="print answers in their JSON form")
    add(
        "--repeat",
        type=parse_count,
        default=1,
        metavar="N",
        help="send it so many times (default: 1)",
    )
    parser.add_duration("--interval", default="1s", help="from one time to the next")
    add("--replay", metavar="FILE", help="send what ed-listen --record has written, not a command")
    add(
        "--pace",
        type=parse_pace,
        default=1.0,
        metavar="original|N|0",
        help="how many times as fast as it was recorded; 0 without pauses (default: original)",
    )
    add(
        "--direction",
        choices=DIRECTIONS,
        default="in",
        help="what of a recording is sent: what came in (default), or what went out",
    )
    add_peer_options(parser, secret_flags=["-c"])
    return parser


# --- what is sent ---------------------------------------------------------------------------------


def _read_target(text: str) -> Message:
    if any(character.isspace() for character in text) or text.startswith(("<", "{")):
        raise UsageError(f"{text!r}: expected {_FORM}; parameters are given by --param NAME=VALUE")
    try:
        return Message.parse(text)
    except MessageError as error:
        place, slash, command = text.rpartition("/")
        hint = ""
        try:
            Message.parse(f"{place}{slash}{command.upper()}")
            hint = f"; did you mean {place + slash + command.upper()!r}?"
        except MessageError:
            pass
        raise UsageError(f"{text!r}: expected {_FORM}: {error}{hint}") from None


def _read_message(options: argparse.Namespace, parser: OptionParser) -> Message:
    """Puts the message together; what stands on the command line wins."""
    words: list[str] = options.words
    if len(words) > 1:
        raise UsageError(f"argument {words[1]!r}: expected one command, and {words[0]!r} is before")
    if words and options.message is not None and parser.source("message") == "command line":
        raise UsageError(f"the command is given twice: {words[0]!r}, and by --message")
    if not words and options.message is None:
        raise UsageError(f"expected a command: {_FORM}; --help tells more")
    text = words[0] if words else options.message
    rank = 1 if words else _rank(parser, "message")
    found = _read_target(text)
    place = {}
    for name, inside in (("server", found.server), ("service", found.service)):
        beside = getattr(options, name) or ""
        if inside and beside and rank == _rank(parser, name):
            raise UsageError(
                f"the {name} is given twice: {inside!r} in {text!r}, and {beside!r} by --{name}"
            )
        beside_wins = beside and (not inside or rank < _rank(parser, name))
        place[name] = beside if beside_wins else inside
    if place["server"] and not place["service"]:
        raise UsageError(
            f"server {place['server']!r}: expected a service of it too: --service, or {_FORM}"
        )
    parameters = dict(_read_parameter(one) for one in options.param or ())
    return Message(
        found.command,
        parameters,
        sent_from_server=own_name(),
        sent_from_service=_SERVICE,
        **place,
    )


def _rank(parser: OptionParser, option: str) -> int:
    return int(parser.source(option) == "command line")


def _read_parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name:
        raise UsageError(f"parameter {text!r}: expected NAME or NAME=VALUE")
    return name, value


# --- recordings -----------------------------------------------------------------------------------


def _read_replay(options: argparse.Namespace, parser: OptionParser) -> Replay | None:
    given = [name for name in (*_OF_MESSAGES, *_OF_REPLAYS) if _rank(parser, name)]
    if options.replay is None:
        if unfit := [name for name in given if name in _OF_REPLAYS]:
            raise UsageError(f"--{unfit[0]} is for --replay")
        return None
    if options.words:
        raise UsageError(f"{options.words[0]!r}: with --replay, all messages are in the recording")
    if unfit := [name for name in given if name in _OF_MESSAGES]:
        raise UsageError(f"--{unfit[0]} and --replay contradict each other")
    replay = Replay(options.replay, options.direction, options.pace)
    replay.check()
    return replay


def _replay(sender: Sender, replay: Replay, options: argparse.Namespace) -> bool:
    """Sends a recording; returns whether all of it went out, and no answer was a refusal."""
    asks = options.reply or options.replies is not None

    def show(message: Message) -> None:
        if asks:
            print_bytes(shown(message, as_json=options.json, escape=sys.stdout.isatty()))

    replayer = Replayer(replay, sender, show, _say)
    try:
        replayer.run(asks=options.reply, wanted=options.replies or 0, timeout=options.timeout)
    finally:
        refused = f", {replayer.refused} refused" if replayer.refused else ""
        _say(f"{replayer.sent} sent, {replayer.back} came back{refused}")
    return not (replayer.skipped or (asks and replayer.refused))


def _say(text: str) -> None:
    print(f"{_NAME}: {text}", file=sys.stderr)


# --- the work -------------------------------------------------------------------------------------


def _signal(sender: Sender, message: Message, options: argparse.Namespace) -> bool:
    """Sends as often as asked; returns whether no answer was a refusal."""
    wanted = options.replies or int(options.reply)
    accepted = True
    start = time.monotonic()
    for number in range(options.repeat):
        sender.pause(start + number * options.interval - time.monotonic())
        sender.send(message)
        for answer in sender.answers(wanted, options.timeout):
            print_bytes(shown(answer, as_json=options.json, escape=sys.stdout.isatty()))
            accepted &= answer.command not in _REFUSALS
            if answer.command in _REFUSALS:
                print(f"{_NAME}: {message.command} was refused: {answer.command}", file=sys.stderr)
    return accepted


def main(argv: Sequence[str] | None = None) -> int:
    """Sends what the command line asks for.

    Returns:
        0 when it was sent, and answered where an answer was asked for; 1 when nobody is there, no
        answer came or it was a refusal; 2 after bad usage.
    """
    if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # The hub of gevent would tell of a KeyboardInterrupt in its own words.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = _parser()
    options = parser.parse(argv)
    try:
        replay = _read_replay(options, parser)
        message = None if replay else _read_message(options, parser)
        peer = read_peer(options.host, options, parser, default_port=_PORT)
        with open_sender(
            peer.address,
            timeout=options.timeout,
            tls=peer.tls,
            secret_code=peer.secret_code,
            auth=peer.auth,
        ) as sender:
            if replay is not None:
                return 0 if _replay(sender, replay, options) else 1
            assert message is not None
            return 0 if _signal(sender, message, options) else 1
    except (EdgeventError, NoAnswerError) as error:
        print(f"{_NAME}: {error}".replace("\n", " "), file=sys.stderr)
        return 2 if isinstance(error, _BAD_USAGE) else 1
    except OSError as error:
        output_failed(_NAME, error)
        return 1
