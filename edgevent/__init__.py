"""edgevent: Linux service scripts that exchange short text messages, in plain blocking style.

See README.md. Nothing happens on import; nothing is ever patched.
"""

from __future__ import annotations

from .address import Address
from .backoff import Backoff
from .communicator import Communicator
from .connection import Connection
from .definitions import Definition, Definitions, ParameterRule
from .dispatcher import Dispatcher, Match
from .answers import Peer
from .errors import *
from .links.client import Client
from .links.message import MessageConnection, broadcast, request_many
from .links.permanent import PermanentConnection
from .links.plain import Stream, connect
from .links.raw import LineConnection, StreamConnection
from .links.ready import ReadyConnection
from .links.server import Server
from .links.undelivered import Undelivered
from .message import Message
from .runtime.clock import Clock
from .runtime.waits import deadline
from .timer import Timer
from .transport.base import Credentials

__version__ = "0.1.0"
