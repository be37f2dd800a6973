"""edgevent: Linux service scripts that exchange short text messages, in plain blocking style.

See README.md. Nothing happens on import; nothing is ever patched.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from .address import Address
from .answers import Peer
from .backoff import Backoff
from .communicator import Communicator
from .connection import Connection
from .definitions import Definition, Definitions, ParameterRule
from .dispatcher import Dispatcher, Match
from .errors import (
    AddressError,
    CertificateError,
    CertificateFileError,
    ClosedError,
    CommandError,
    CommandTimeout,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    DeadlineError,
    DefinitionError,
    DescriptorError,
    DuplicateMatchError,
    DurationError,
    EdgeventError,
    FileWatchError,
    ForkedError,
    HandshakeError,
    IdentityError,
    InvalidMessageError,
    LineTooLongError,
    ListenError,
    MessageError,
    NetworkError,
    NotConnectedError,
    OptionError,
    PidFileError,
    QueueFullError,
    ReceiveTimeout,
    RegistrationError,
    RemoteError,
    RequestTimeout,
    ServiceUnavailableError,
    SettingError,
    SettingNotSetError,
    SettingsCopyError,
    SettingsStoreError,
    SigningKeyError,
    SlowConsumerError,
    ThreadStartError,
    ThreadTimeout,
    TransmissionError,
    TruncatedError,
    UnknownCommandError,
    UnknownSettingError,
    UsageError,
    WrongThreadError,
)
from .links.client import Client
from .links.many import broadcast, request_many
from .links.message import MessageConnection
from .links.permanent import PermanentConnection
from .links.plain import Stream, connect
from .links.raw import LineConnection, StreamConnection
from .links.ready import ReadyConnection
from .links.server import Server
from .links.undelivered import Undelivered
from .message import Message
from .runtime.clock import Clock
from .runtime.signal_names import signal_name, signal_number
from .runtime.signals import ReceivedSignal
from .runtime.waits import deadline
from .timer import Timer
from .tls import TlsOptions
from .transport.base import Credentials

if TYPE_CHECKING:
    from .allow import Allow
    from .certificate import Certificate
    from .communicatord.client import CommunicatorConnection
    from .communicatord.script import CommunicatorClient
    from .communicatord.statuses import ClusterStatus, ServiceStatus
    from .counter_values import ConnectionCounters, Counters, HandlerCounters
    from .counters import snapshot
    from .keymaking import make_authority, make_certificate
    from .keypair import KeyPair
    from .links.datagram import DatagramServer
    from .links.datagram_client import DatagramClient
    from .links.datagram_peer import DatagramPeer
    from .links.send_datagram import largest_payload, path_mtu, send_datagram
    from .logrotate import LogRotateListener
    from .metrics import MetricsListener
    from .pid_file import PidFile
    from .service import Service
    from .signing import SigningKeys
    from .snaplogger.handlers import AlertLogHandler, TcpLogHandler, UdpLogHandler
    from .sources.children import ChildWatch
    from .sources.connector import ProcessEvent
    from .sources.deadly import Dispositions, ignore_signals, report_deadly_signals
    from .sources.file_event import FileEvent
    from .sources.files import FileWatch
    from .sources.listening import ListeningEvent, ListeningWatch
    from .sources.process import Process
    from .sources.process_events import ProcessEvents
    from .sources.reaping import ChildEvent, ChildUsage
    from .sources.signals import SignalSource
    from .sources.thread_end import ThreadEnd
    from .sources.thread_link import ThreadLink
    from .sources.threads import ThreadDone, ThreadOutcome, run_in_thread
    from .systemd import InheritedSocket, Notifier, inherited_sockets
    from .transport.pipe import Pipe

__version__ = "0.1.0"

__all__ = [
    "Address",
    "AddressError",
    "AlertLogHandler",
    "Allow",
    "Backoff",
    "Certificate",
    "CertificateError",
    "CertificateFileError",
    "ChildEvent",
    "ChildUsage",
    "ChildWatch",
    "Client",
    "Clock",
    "ClosedError",
    "ClusterStatus",
    "CommandError",
    "CommandTimeout",
    "Communicator",
    "CommunicatorClient",
    "CommunicatorConnection",
    "ConnectError",
    "ConnectTimeoutError",
    "Connection",
    "ConnectionCounters",
    "ConnectionLostError",
    "Counters",
    "Credentials",
    "DatagramClient",
    "DatagramPeer",
    "DatagramServer",
    "DeadlineError",
    "Definition",
    "DefinitionError",
    "Definitions",
    "DescriptorError",
    "Dispatcher",
    "Dispositions",
    "DuplicateMatchError",
    "DurationError",
    "EdgeventError",
    "FileEvent",
    "FileWatch",
    "FileWatchError",
    "ForkedError",
    "HandlerCounters",
    "HandshakeError",
    "IdentityError",
    "InheritedSocket",
    "InvalidMessageError",
    "KeyPair",
    "LineConnection",
    "LineTooLongError",
    "ListenError",
    "ListeningEvent",
    "ListeningWatch",
    "LogRotateListener",
    "Match",
    "Message",
    "MessageConnection",
    "MessageError",
    "MetricsListener",
    "NetworkError",
    "NotConnectedError",
    "Notifier",
    "OptionError",
    "ParameterRule",
    "Peer",
    "PermanentConnection",
    "PidFile",
    "PidFileError",
    "Pipe",
    "Process",
    "ProcessEvent",
    "ProcessEvents",
    "QueueFullError",
    "ReadyConnection",
    "ReceiveTimeout",
    "ReceivedSignal",
    "RegistrationError",
    "RemoteError",
    "RequestTimeout",
    "Server",
    "Service",
    "ServiceStatus",
    "ServiceUnavailableError",
    "SettingError",
    "SettingNotSetError",
    "SettingsCopyError",
    "SettingsStoreError",
    "SignalSource",
    "SigningKeyError",
    "SigningKeys",
    "SlowConsumerError",
    "Stream",
    "StreamConnection",
    "TcpLogHandler",
    "ThreadDone",
    "ThreadEnd",
    "ThreadLink",
    "ThreadOutcome",
    "ThreadStartError",
    "ThreadTimeout",
    "Timer",
    "TlsOptions",
    "TransmissionError",
    "TruncatedError",
    "UdpLogHandler",
    "Undelivered",
    "UnknownCommandError",
    "UnknownSettingError",
    "UsageError",
    "WrongThreadError",
    "__version__",
    "broadcast",
    "connect",
    "deadline",
    "ignore_signals",
    "inherited_sockets",
    "largest_payload",
    "make_authority",
    "make_certificate",
    "path_mtu",
    "report_deadly_signals",
    "request_many",
    "run_in_thread",
    "send_datagram",
    "signal_name",
    "signal_number",
    "snapshot",
]

_LATER: Final = {
    "AlertLogHandler": "snaplogger.handlers",
    "Allow": "allow",
    "Certificate": "certificate",
    "ChildEvent": "sources.reaping",
    "ChildUsage": "sources.reaping",
    "ChildWatch": "sources.children",
    "ClusterStatus": "communicatord.statuses",
    "CommunicatorClient": "communicatord.script",
    "CommunicatorConnection": "communicatord.client",
    "ConnectionCounters": "counter_values",
    "Counters": "counter_values",
    "DatagramClient": "links.datagram_client",
    "DatagramPeer": "links.datagram_peer",
    "DatagramServer": "links.datagram",
    "Dispositions": "sources.deadly",
    "FileEvent": "sources.file_event",
    "FileWatch": "sources.files",
    "HandlerCounters": "counter_values",
    "InheritedSocket": "systemd",
    "KeyPair": "keypair",
    "ListeningEvent": "sources.listening",
    "ListeningWatch": "sources.listening",
    "LogRotateListener": "logrotate",
    "MetricsListener": "metrics",
    "Notifier": "systemd",
    "PidFile": "pid_file",
    "Pipe": "transport.pipe",
    "Process": "sources.process",
    "ProcessEvent": "sources.connector",
    "ProcessEvents": "sources.process_events",
    "Service": "service",
    "ServiceStatus": "communicatord.statuses",
    "SignalSource": "sources.signals",
    "SigningKeys": "signing",
    "TcpLogHandler": "snaplogger.handlers",
    "ThreadDone": "sources.threads",
    "ThreadEnd": "sources.thread_end",
    "ThreadLink": "sources.thread_link",
    "ThreadOutcome": "sources.threads",
    "UdpLogHandler": "snaplogger.handlers",
    "ignore_signals": "sources.deadly",
    "inherited_sockets": "systemd",
    "largest_payload": "links.send_datagram",
    "make_authority": "keymaking",
    "make_certificate": "keymaking",
    "path_mtu": "links.send_datagram",
    "report_deadly_signals": "sources.deadly",
    "run_in_thread": "sources.threads",
    "send_datagram": "links.send_datagram",
    "snapshot": "counters",
}
"""The modules of what not every program uses: each is imported when its name is first asked for."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Imports what :data:`_LATER` lists."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_LATER[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        """Lists them too."""
        return sorted({*globals(), *_LATER})
