"""ed-signal: sends one message to a service, and prints what comes back if that is wanted."""

from __future__ import annotations

import argparse
import difflib
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

from ..address import Address
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
from ..tls import TlsOptions
from .addresses import read_place, with_tls
from .sending import NoAnswerError, Sender, open_sender, own_name

_NAME: Final = "ed-signal"
_SERVICE: Final = "ed_signal"
_PORT: Final = 4041
_HOST: Final = "127.0.0.1"
_TYPES: Final = ("udp", "tcp", "unix", "unixgram", "tls")
_FORM: Final = "[[SERVER:]SERVICE/]COMMAND"
_OF_TLS: Final = ("ca", "no_verify", "server_name", "certificate", "key")
_OF_DATAGRAMS: Final = ("secret_code", "auth_key_file")
_REFUSALS: Final = ("UNKNOWN", "INVALID")
_BAD_USAGE: Final = (
    AddressError, CertificateFileError, MessageError, OptionError, SigningKeyError, UsageError,
)  # fmt: skip


def _parse_type(text: str) -> str:
    if text not in _TYPES:
        near = difflib.get_close_matches(text.lower(), _TYPES, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"type {text!r}: expected one of {', '.join(_TYPES)}{hint}")
    return text


def _parse_count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text)):
        raise OptionError(f"value {text!r}: expected a number from 1 on")
    return int(text)


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
    add(
        "-t",
        "--type",
        type=_parse_type,
        metavar="TYPE",
        help=f"what a host without a scheme is: {', '.join(_TYPES)} (default: udp)",
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
    add("-c", "--secret-code", metavar="CODE", help="the code that the receiver of datagrams wants")
    add("--auth-key-file", metavar="FILE", help="sign datagrams with the first key in this file")
    add("-r", "--reply", action="store_true", help="wait for an answer, and print it")
    add(
        "--replies",
        type=_parse_count,
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
        type=_parse_count,
        default=1,
        metavar="N",
        help="send it so many times (default: 1)",
    )
    parser.add_duration("--interval", default="1s", help="from one time to the next")
    add("-e", "--encrypt", action="store_true", help="by TLS; a host without --type is tls then")
    add("--ca", metavar="FILE|DIR", help="trust these authorities, not the system's")
    add("--no-verify", action="store_true", help="take any certificate of anybody")
    add("--server-name", metavar="NAME", help="the name that the certificate must have")
    add("--certificate", metavar="FILE", help="this side's certificate")
    add("--key", metavar="FILE", help="its private key")
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


# --- where to -------------------------------------------------------------------------------------


def _read_address(options: argparse.Namespace) -> Address:
    scheme = options.type or ("tls" if options.encrypt else "udp")
    address = read_place(options.host, default_scheme=scheme, default_port=_PORT)
    return with_tls(address) if options.encrypt else address


def _read_tls(
    options: argparse.Namespace, parser: OptionParser, address: Address
) -> TlsOptions | None:
    _check_use(parser, _OF_DATAGRAMS, address.is_datagram, f"is for datagrams, not for {address}")
    _check_use(parser, _OF_TLS, address.is_tls, "is for TLS: expected --encrypt, or a tls: address")
    if not address.is_tls:
        return None
    if options.no_verify and options.ca:
        raise UsageError("--no-verify and --ca contradict each other: expected one of them")
    return TlsOptions(
        options.certificate,
        options.key,
        authorities=options.ca,
        verify="none" if options.no_verify else "required",
        server_name=options.server_name or "",
    )


def _check_use(parser: OptionParser, options: Sequence[str], fits: bool, why: str) -> None:
    for option in options:
        # Those of a file are for all addresses, and count where they fit.
        if not fits and parser.source(option) == "command line":
            raise UsageError(f"--{option.replace('_', '-')} {why}")


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
            _show(answer, options.json)
            accepted &= answer.command not in _REFUSALS
            if answer.command in _REFUSALS:
                print(f"{_NAME}: {message.command} was refused: {answer.command}", file=sys.stderr)
    return accepted


def _show(message: Message, as_json: bool) -> None:
    data = message.to_json().encode() if as_json else bytes(message)
    if sys.stdout.isatty():  # no escape sequence of a peer's gets to the terminal
        text = data.decode("utf-8", "backslashreplace")
        data = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text).encode()
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.flush()


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
        message = _read_message(options, parser)
        address = _read_address(options)
        tls = _read_tls(options, parser, address)
        with open_sender(
            address,
            timeout=options.timeout,
            tls=tls,
            secret_code=options.secret_code,
            auth=options.auth_key_file,
        ) as sender:
            return 0 if _signal(sender, message, options) else 1
    except (EdgeventError, NoAnswerError) as error:
        print(f"{_NAME}: {error}".replace("\n", " "), file=sys.stderr)
        return 2 if isinstance(error, _BAD_USAGE) else 1
    except OSError as error:
        # Python would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"{_NAME}: standard output: {error.strerror}", file=sys.stderr)
        return 1
