"""Every error that edgevent raises, in one tree.

Three ends of a connection are three errors: closed by this side (:class:`ClosedError`), ended or
broken by the peer (:class:`ConnectionLostError`), never there (:class:`ConnectError`). What this
program did wrong (:class:`MessageError` at construction, :class:`UsageError`) is apart from what
the peer answered (:class:`RemoteError`).
"""

from __future__ import annotations

from typing import Final

# The name of a command may be as long as a line, and errors are logged and sent back.
_MESSAGE_ERROR_HALF: Final = 200

NOT_MADE: Final = object()
"""Stands for the message that could not be built or parsed, in a :class:`MessageError`."""


class EdgeventError(Exception):
    """The base of all errors of this package."""


class UsageError(EdgeventError, RuntimeError):
    """A call that can never be right where it stands: a mistake in the program."""


class WrongThreadError(UsageError):
    """An object of one thread's hub was used from another thread; see ``call_threadsafe``."""


class ForkedError(UsageError):
    """An object that belongs to the parent process was used in a forked child."""


def no_message(found: object) -> UsageError:
    """Makes the error for what is no message, where one was to be sent."""
    made = "Message.parse(...) makes one of a line" if isinstance(found, (str, bytes)) else ""
    text = f"a Message was expected, not a {type(found).__name__}"
    return UsageError(f"{text}; {made}" if made else text)


class DuplicateMatchError(UsageError):
    """The same exact command was registered twice at the same priority."""


class MessageError(EdgeventError, ValueError):
    """A message that cannot be built or read, with the command and the parameter if known.

    Attributes:
        command: The command of the message, or an empty string.
        parameter: The name of the parameter at fault, or an empty string.
        message: The message that was read; :data:`NOT_MADE` when it could not be made, ``None``
            when whoever raised this did not say.
    """

    def __init__(
        self, text: str, *, command: str = "", parameter: str = "", message: object = None
    ) -> None:
        if len(text) > 2 * _MESSAGE_ERROR_HALF:
            text = f"{text[:_MESSAGE_ERROR_HALF]}...{text[-_MESSAGE_ERROR_HALF:]}"
        super().__init__(text)
        self.command = command
        self.parameter = parameter
        self.message = message


class AddressError(EdgeventError, ValueError):
    """A text that is no address; the sentence holds the text and what was expected."""


class DurationError(EdgeventError, ValueError):
    """A text that is no duration or no time; the sentence holds the text and what was expected."""


class DefinitionError(EdgeventError, ValueError):
    """A message definition file that cannot be used; the sentence names file, section and key."""


class OptionError(EdgeventError, ValueError):
    """A bad option; the sentence names where it stands, its key, its value and the nearest key."""


class CertificateFileError(EdgeventError, ValueError):
    """A file of certificates or keys that cannot be used; the sentence names it and the reason."""


class SigningKeyError(EdgeventError, ValueError):
    """Keys for signed datagrams that cannot be used; the sentence names file and reason."""


class CommandError(EdgeventError, OSError):
    """A command could not be started; the sentence names it and the reason.

    ``errno`` is that of the system call that failed, or ``None``.
    """

    def __init__(self, text: str, errno: int | None = None) -> None:
        super().__init__(text)
        self.errno = errno


class CommandTimeout(EdgeventError, TimeoutError):  # a pair with RequestTimeout
    """A command has not ended in time."""


class FileWatchError(EdgeventError, OSError):
    """A file or folder cannot be watched; the sentence names it, and the sysctl of a limit.

    ``errno`` is that of the system call that failed.
    """

    def __init__(self, text: str, errno: int | None = None) -> None:
        super().__init__(text)
        self.errno = errno


class PidFileError(EdgeventError, OSError):
    """A file with a process id cannot be written, or a process that lives has it.

    ``errno`` is that of the system call that failed, or ``None``.
    """

    def __init__(self, text: str, errno: int | None = None) -> None:
        super().__init__(text)
        self.errno = errno


class SettingError(EdgeventError, ValueError):
    """A name, value, priority or time that no setting can have; the sentence says what is wrong."""


class UnknownSettingError(SettingError):
    """No definition has a setting of this name."""


class SettingNotSetError(SettingError):
    """A setting has no value, and its definition has none for it."""


class SettingsCopyError(EdgeventError, OSError):
    """The copy of settings on the disk cannot be read or written; the sentence names it and why.

    ``errno`` is that of the system call that failed, or ``None``.
    """

    def __init__(self, text: str, errno: int | None = None) -> None:
        super().__init__(text)
        self.errno = errno


class SettingsStoreError(EdgeventError, OSError):
    """The database of settings cannot be read or written; the sentence names it and the reason.

    ``errno`` is that of the system call that failed, or ``None``.
    """

    def __init__(self, text: str, errno: int | None = None) -> None:
        super().__init__(text)
        self.errno = errno


class ThreadStartError(EdgeventError, RuntimeError):
    """The system has no further thread for this process."""


class ThreadTimeout(EdgeventError, TimeoutError):  # a pair with RequestTimeout
    """A thread has not ended in time."""


class NetworkError(EdgeventError, OSError):
    """The base of what goes wrong between this process and a peer.

    ``errno`` is that of the system call that failed, or ``None``.
    """

    def __init__(self, text: str, errno: int | None = None) -> None:
        super().__init__(text)
        self.errno = errno


class ListenError(NetworkError):
    """A listening socket could not be made; the sentence names the address and the reason."""


class ConnectError(NetworkError):
    """No connection could be made to any address of the peer within the limit."""


class ConnectTimeoutError(ConnectError, TimeoutError):
    """The peer did not take the connection within the limit."""


class HandshakeError(ConnectError):
    """The two sides could not agree on TLS, or not in time."""


class CertificateError(HandshakeError):
    """The certificate of the other side is not accepted, or it does not accept this side's."""


class IdentityError(CertificateError):
    """The certificate of the other side is valid, but is another one's."""


class ConnectionLostError(NetworkError):
    """The peer ended the connection, or it broke, while something was expected of it."""


class TruncatedError(ConnectionLostError):
    """An encrypted stream ended without its end mark: what is missing was cut off on the way."""


def connection_lost(peer: str, doing: str, error: OSError) -> ConnectionLostError:
    """Turns what a system call said of a connection into this package's error.

    Args:
        peer: The other side, as text.
        doing: What was done: ``sending to`` or ``receiving from``.
        error: What the system call raised; an error of this package's is returned as it is.
    """
    if isinstance(error, ConnectionLostError):
        return error.with_traceback(None)  # whose frames would keep the connection that keeps it
    reason = error.strerror or str(error)
    return ConnectionLostError(f"{doing} {peer} failed: {reason}", error.errno)


class LineTooLongError(ConnectionLostError):
    """The peer sent more bytes without a newline than the line limit allows, and was closed."""


class DescriptorError(ConnectionLostError):
    """The peer's messages and the file descriptors that came do not agree, and it was closed."""


class SlowConsumerError(ConnectionLostError):
    """The peer did not read what was sent to it, so this side closed the connection."""


class ClosedError(NetworkError):
    """The connection was closed by this side before the call, or while the call waited."""


class QueueFullError(NetworkError):
    """What was to be sent does not fit the queue, and the caller cannot or will not wait."""


class NotConnectedError(NetworkError):
    """A permanent connection is down, and the message was not to be kept."""


class RegistrationError(NotConnectedError):
    """The communicatord did not register a service; the sentence names it and the reason."""


class ReceiveTimeout(EdgeventError, TimeoutError):  # a pair with RequestTimeout
    """Nothing was received in time."""


class RequestTimeout(EdgeventError, TimeoutError):  # the public name of the design
    """No answer came in time."""


class DeadlineError(EdgeventError, TimeoutError):
    """A wait inside ``with deadline(...)`` ran into its limit."""


class RemoteError(EdgeventError):
    """The peer answered that it failed.

    Attributes:
        command: The command that was asked for.
        id: The identifier under which the peer logged the traceback, or an empty string.
    """

    def __init__(self, text: str, *, command: str = "", id: str = "") -> None:
        super().__init__(text)
        self.command = command
        self.id = id


class UnknownCommandError(RemoteError):
    """The peer answered ``UNKNOWN``: it has no handler for the command."""


class InvalidMessageError(RemoteError):
    """The peer answered ``INVALID``: a parameter is missing or wrong."""


class TransmissionError(RemoteError):
    """A communicatord could not deliver the message: nobody has handled it."""


class ServiceUnavailableError(TransmissionError):
    """The service is not there, and the message is not held for it."""
