"""ed-shell: messages to a service from the terminal, line by line, and all that it sends."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import termios
import threading
from collections.abc import Sequence
from typing import Final

from ..definitions import Definitions
from ..errors import (
    AddressError,
    CertificateFileError,
    EdgeventError,
    NetworkError,
    OptionError,
    RequestTimeout,
    SigningKeyError,
    UsageError,
)
from ..options import OptionParser
from .output import output_failed, print_bytes
from .peer_options import Peer, add_peer_options, read_peer
from .shell_history import History, history_path
from .shell_input import Completer
from .shell_link import ShellLink
from .shell_session import OWN, Session
from .shell_terminal import Terminal, open_terminal

_NAME: Final = "ed-shell"
_PORT: Final = 4040
_BAD_USAGE: Final = (
    AddressError, CertificateFileError, OptionError, SigningKeyError, UsageError,
)  # fmt: skip


def _parser() -> OptionParser:
    parser = OptionParser(
        _NAME,
        "Send messages to a service, a line each, and show all that it sends. On a terminal lines"
        " are edited, with a history, and TAB completes commands; /help shows what else there is.",
        examples=[
            "ed-shell tcp://127.0.0.1:3001",
            "echo 'ADD a=2;b=40' | ed-shell unix:hello.sock",
        ],
    )
    add = parser.add
    add(
        "address",
        metavar="ADDRESS",
        help="where the service is: an address such as tcp://127.0.0.1:3001 or"
        " unix:/run/hello.sock; IP or IP:PORT (see --type); or FILE@NAME: the variable NAME (or"
        " SECTION::NAME) of a file that begins with / or ./;"
        f" port {_PORT} when it says none",
    )
    parser.add_duration(
        "--timeout", default="5s", minimum=0.01, help="the limit of connecting, and of /wait"
    )
    parser.add_duration(
        "-w",
        "--wait",
        default="5s",
        help="when standard input is no terminal: how long to wait for an answer to each line; 0"
        " for not at all",
    )
    add("--json", action="store_true", help="print messages in their JSON form")
    add("--time", action="store_true", help="print when each message came")
    add("--no-history", action="store_true", help="neither read nor keep what was typed")
    add("--plain", action="store_true", help="edit with readline although prompt_toolkit is there")
    add(
        "--path-to-message-definitions",
        default="",
        metavar="FOLDERS",
        help="where the parameters of commands are known from; several folders are separated by"
        " ':'",
    )
    add_peer_options(parser, default_type="tcp")
    return parser


# --- on a terminal --------------------------------------------------------------------------------


def _end_in_order() -> None:
    """Lets SIGTERM end the program only after the modes of the terminal are as before.

    A handler in Python would not do: it may run a long time after the signal, when the line editor
    is about to wait, and what it raises is caught by some of prompt_toolkit.
    """
    modes = termios.tcgetattr(sys.stdin.fileno())
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # in threads to come, too

    def wait() -> None:
        signal.sigwait([signal.SIGTERM])
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, modes)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="ed-shell SIGTERM", daemon=True).start()


class _Interactive:
    """Lines from a user."""

    def __init__(self, options: argparse.Namespace, peer: Peer) -> None:
        self._history = None if options.no_history else History(history_path(_NAME))
        troubles = ""
        try:
            if self._history is not None:
                self._history.load()
        except OSError as error:
            troubles = f"{history_path(_NAME)}: {error.strerror}"
        completer = Completer(Definitions(options.path_to_message_definitions), OWN)
        history = self._history or History(history_path(_NAME))
        self._terminal: Terminal = open_terminal(history, completer, plain=options.plain)
        self._session = Session(
            lambda session: _link(session, peer, options.timeout),
            show=lambda data: self._terminal.show(data.decode()),
            tell=self._tell,
            tell_link=self._tell,
            completer=completer,
            escape=True,
            asks_for_help=True,
            as_json=options.json,
            with_time=options.time,
            wait_timeout=options.timeout,
        )
        if troubles:
            self._tell(troubles)

    def _tell(self, text: str) -> None:
        self._terminal.show(f"-- {text}")

    def run(self) -> None:
        """Goes on until the end of the input, or /quit."""
        session = self._session
        try:
            session.start()
            while True:
                try:
                    line = self._terminal.read_line(session.prompt)
                    self._keep(line)
                    if not session.handle(line):
                        return
                except EOFError:
                    print()
                    return
                except KeyboardInterrupt:
                    print()
                except EdgeventError as error:
                    self._tell(str(error))
        finally:
            session.close()
            self._terminal.close()

    def _keep(self, line: str) -> None:
        history = self._history
        if history is None:
            return
        try:
            history.add(line)
        except OSError as error:
            self._tell(f"{history.path}: {error.strerror}: what is typed is not kept")
            self._history = None


# --- from a pipe or a file ------------------------------------------------------------------------


class _Piped:
    """Lines from a program."""

    def __init__(self, options: argparse.Namespace, peer: Peer) -> None:
        self._options = options
        self._broken: OSError | None = None
        self._session = Session(
            lambda session: _link(session, peer, options.timeout),
            show=self._show,
            tell=self._tell,
            completer=Completer(Definitions(), ()),
            escape=sys.stdout.isatty(),
            as_json=options.json,
            with_time=options.time,
            wait_timeout=options.timeout,
        )

    def _show(self, data: bytes) -> None:
        try:
            print_bytes(data)
        except OSError as error:
            self._broken = error

    def _tell(self, text: str) -> None:
        print(f"{_NAME}: {text}", file=sys.stderr)

    def run(self) -> int:
        """Goes on until the end of the input; returns the exit code."""
        session = self._session
        session.start()
        code = 0
        try:
            session.wait_until_up(self._options.timeout)
            for number, line in enumerate(sys.stdin.buffer, 1):
                text = line.decode("utf-8", "surrogateescape").strip()
                try:
                    if text.startswith(("/", "#")) or not text:
                        if not session.handle(text):
                            break
                    elif not session.ask(text, self._options.wait):
                        code = 1
                except (NetworkError, RequestTimeout) as error:
                    print(f"{_NAME}: line {number}: {error}", file=sys.stderr)
                    return 1
                except EdgeventError as error:
                    print(f"{_NAME}: line {number}: {error}", file=sys.stderr)
                    code = 1
                if self._broken is not None:
                    break
        finally:
            session.close()
        if self._broken is not None:
            raise self._broken
        return code


def _link(session: Session, peer: Peer, timeout: float) -> ShellLink:
    return ShellLink(
        peer,
        timeout,
        received=session.received,
        told=session.tell_link,
        warned=session.tell,
        connected=session.connected,
        lost=session.lost,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Hands lines to a service, and shows what comes back.

    Returns:
        0 at the end; 1 when standard input is no terminal, and a line could not be sent, was
        refused, or was not answered; 2 after bad usage.
    """
    parser = _parser()
    options = parser.parse(argv)
    try:
        peer = read_peer(options.address, options, parser, default_type="tcp", default_port=_PORT)
        if sys.stdin.isatty() and sys.stdout.isatty():
            _end_in_order()
            _Interactive(options, peer).run()
            return 0
        return _Piped(options, peer).run()
    except KeyboardInterrupt:
        return 130
    except EdgeventError as error:
        print(f"{_NAME}: {error}".replace("\n", " "), file=sys.stderr)
        return 2 if isinstance(error, _BAD_USAGE) else 1
    except OSError as error:
        output_failed(_NAME, error)
        return 1
