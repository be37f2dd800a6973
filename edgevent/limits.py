"""The limits and default durations of the package, in one place.

Each is a security or safety limit: it bounds what a peer, or a mistake, can make this process
hold or wait for. Each is also a parameter of the object that it governs; these are the defaults.
Sizes are in bytes, durations in seconds.
"""

from __future__ import annotations

from typing import Final

# --- what a peer may send -----------------------------------------------------------------------
MAX_LINE_BYTES: Final = 64 * 1024
"""The longest line of a stream, newline not counted."""
MAX_CONFIGURABLE_LINE_BYTES: Final = 16 * 1024 * 1024
"""The largest value that ``max_line_bytes`` may be given."""
MAX_PARAMETERS: Final = 256
"""The most parameters that one message may have."""
MAX_MESSAGE_FDS: Final = 253
"""The most file descriptors that one message may carry (Linux, SCM_MAX_FD)."""
MAX_UDP_BYTES: Final = 1024
"""The longest UDP message (the C++ library's ``DATAGRAM_MAX_SIZE``)."""
MAX_UNIX_DATAGRAM_BYTES: Final = 64 * 1024
"""The longest Unix datagram message."""
MALFORMED_LIMIT: Final = 10
"""So many malformed lines within :data:`MALFORMED_INTERVAL` close their connection."""
MALFORMED_INTERVAL: Final = 60.0
"""The time over which malformed lines are counted."""
LOGGED_LINE_BYTES: Final = 32
"""So many bytes of a malformed line are shown in the log, escaped."""

# --- what is held for a peer ---------------------------------------------------------------------
READ_BYTES: Final = 64 * 1024
"""The most that one read takes. Above 128 KiB, malloc maps and unmaps memory at every read."""
INBOX_BYTES: Final = 128 * 1024
"""Past this mark (or two lines, if that is more) reading from the peer stops."""
INBOX_HARD_BYTES: Final = 8 * 1024 * 1024
"""While an answer is awaited, reading goes on past the mark; so much piled up ends the wait."""
MAX_SENDERS: Final = 1_000
"""Of so many senders behind one connection a handler may wait at a time."""
SENDER_BYTES: Final = 1024 * 1024
"""So much may wait for the handler of one of them, and :data:`INBOX_HARD_BYTES` of all."""
FD_BYTES: Final = 4096
"""A descriptor that waits in the inbox counts as so many bytes."""
OUTBOX_BYTES: Final = 1024 * 1024
"""Past this mark (or two lines, if that is more) a sender waits, or is refused."""
OUTBOX_HARD_BYTES: Final = 8 * 1024 * 1024
"""So much piled up by senders that cannot wait closes the peer as a slow consumer."""
JOIN_BYTES: Final = 64 * 1024
"""Messages sent in one pass are joined up to this size before they are written."""
TOTAL_QUEUED_BYTES: Final = 512 * 1024 * 1024
"""All inboxes and outboxes of a thread together; past it each is held to one line."""
SLOW_CONSUMER_TIMEOUT: Final = 10.0
"""A peer that takes nothing of what waits for it for so long is closed."""
OFFLINE_MESSAGES: Final = 1_000
"""The most messages that a permanent connection keeps while it is down."""
OFFLINE_BYTES: Final = 2 * 1024 * 1024
"""The most bytes of messages that a permanent connection keeps while it is down."""
UNDELIVERED_MESSAGES: Final = 10_000
"""The most messages of which a permanent connection remembers that they may be lost."""
UNDELIVERED_BYTES: Final = 8 * 1024 * 1024
"""The most bytes of such messages."""
LATE_ANSWERS: Final = 64
"""The most requests without a serial, given up, whose late answer is still swallowed."""
LATE_ANSWER_TIMEOUT: Final = 60.0
"""For so long a late answer to a request without a serial is still swallowed."""

# --- turns ---------------------------------------------------------------------------------------
EVENT_LIMIT: Final = 5
"""The most messages that a connection handles in one turn while others wait."""
PROCESSING_TIME_LIMIT: Final = 0.5
"""A turn ends after so long, looked at between messages."""
SOLE_TURN_TIME: Final = 0.001
"""A connection that nobody else waits for goes on for so long before the next poll."""
MAX_PENDING_SIGNALS: Final = 1_000
"""With so many that wait in a signal source the kernel keeps those that follow."""
MAX_EVENTS: Final = 10_000
"""The most events that wait in a source for its turn; see each source for what follows."""
PROCESS_EVENTS_BYTES: Final = 4 * 1024 * 1024
"""So much of what processes do may wait in the kernel; past it events are lost."""
MAX_IDLE_WORKERS: Final = 64
"""The most greenlets that are kept for later turns."""
HUB_BUSY_WARNING: Final = 0.1
"""A handler that keeps the hub from running for so long is named in a warning."""
DEFAULT_PRIORITY: Final = 100
"""The priority of a connection that was given none; 0 is served first, 255 last."""
MAX_PRIORITY: Final = 255
"""The last priority of a connection."""

# --- waits ---------------------------------------------------------------------------------------
CONNECT_TIMEOUT: Final = 5.0
"""How long a dial may take, over all addresses of a name."""
TLS_HANDSHAKE_TIMEOUT: Final = 5.0
"""How long a server lets the TLS handshake of a peer take."""
GOODBYE_TIMEOUT: Final = 1.0
"""How long a peer whose handshake failed may take to see why, before it is closed."""
REQUEST_TIMEOUT: Final = 10.0
"""How long a request waits for its answer when it says nothing else."""
INTRODUCTION_TIMEOUT: Final = 10.0
"""How long the first line of an accepted peer may take, from its first byte to its newline."""
DRAIN_TIMEOUT: Final = 5.0
"""How long ``stop`` lets handlers end and outboxes empty before it closes what is left."""
DATAGRAM_SEND_TIMEOUT: Final = 1.0
"""How long a datagram waits for room in its receiver's queue (Unix) or in the kernel's (UDP)."""
RESEND_INTERVAL: Final = 1.0
"""A datagram that may be sent again is sent again after so long without an answer."""
CLOSE_TIMEOUT: Final = 5.0
"""How long the close of a blocking client waits until what was sent has left."""
STILL_THERE_WARNING: Final = 5.0
"""A connection that is still there so long after ``stop`` is named in the log."""
LINK_STABLE_TIME: Final = 10.0
"""A permanent connection that was up for so long starts its pauses anew."""
MAX_PAUSE: Final = 3600.0
"""The longest default pause between two attempts of a permanent connection."""
LINK_LISTENING_INTERVAL: Final = 0.2
"""A permanent connection that is down looks so often whether its service listens again."""
LINK_RETURN_TIME: Final = 0.75
"""Over so long the links spread their attempts that have seen their service listen again."""

# --- threads and listening sockets ---------------------------------------------------------------
LISTENING_INTERVAL: Final = 0.5
"""A listening watch looks at the kernel's tables so often."""
MIN_LISTENING_INTERVAL: Final = 0.01
"""The shortest interval between two such looks."""
MAX_THREADS: Final = 100
"""The most threads that ``run_in_thread`` runs at a time; further calls wait for one to end."""
THREAD_MESSAGES: Final = 1_000
"""So many messages wait in each direction of a link with a thread; then senders wait."""
THREAD_MESSAGES_HARD: Final = 10_000
"""So many may wait while an answer is waited for, which may stand behind them."""
THREAD_SEND_TIMEOUT: Final = 10.0
"""A message to or from a thread that cannot be queued within so long is refused."""

# --- servers and sockets -------------------------------------------------------------------------
BACKLOG: Final = 1024
"""The length of a listening socket's queue."""
MAX_CONNECTIONS: Final = 1_000
"""The most connections that one server has at a time."""
RESERVED_DESCRIPTORS: Final = 32
"""So many descriptors are held back: no peer is accepted into the last ones."""
ACCEPTS_PER_TURN: Final = 64
"""The most peers that are accepted between two polls."""
ACCEPT_PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
"""The pauses of an accept that failed for want of descriptors or memory; the last one repeats."""
LOGGED_PEERS: Final = 1_000
"""Of so many peers a server remembers when it last logged a condition of theirs."""
LOG_INTERVAL: Final = 60.0
"""A condition that lasts is logged once in so long."""
KEEPALIVE_IDLE: Final = 20
"""TCP keep-alive: seconds of silence before the first probe."""
KEEPALIVE_INTERVAL: Final = 5
"""TCP keep-alive: seconds between probes."""
KEEPALIVE_PROBES: Final = 3
"""TCP keep-alive: probes without an answer that end the connection."""
TCP_USER_TIMEOUT: Final = 30.0
"""TCP: how long sent data may stay unacknowledged."""
TLS_VERIFY_DEPTH: Final = 5
"""TLS: so many authorities may stand between a certificate and a trusted one."""
TLS_SESSIONS: Final = 100
"""TLS: with so many servers a session is kept, to be resumed."""
UNIX_SOCKET_MODE: Final = 0o600
"""The mode of a Unix socket's file."""
UNIX_GROUP_SOCKET_MODE: Final = 0o660
"""The mode of a Unix socket's file that is given a group."""

# --- datagrams -----------------------------------------------------------------------------------
SIGNATURE_WINDOW: Final = 30.0
"""A signed datagram whose time is off by more is not accepted."""
MAX_SIGNATURES: Final = 250_000
"""The signatures of the window that are remembered (31 MiB); past it no signed one is accepted."""
MIN_SIGNING_KEY_BYTES: Final = 16
"""The shortest key that datagrams may be signed with."""
MAX_SIGNING_KEYS: Final = 8
"""The most keys that are tried for one datagram."""
MAX_CONCURRENCY: Final = 1_000
"""The most handlers that one datagram server runs at a time."""
KEPT_DATAGRAMS: Final = 1_000
"""The most messages that a datagram client keeps for ``receive`` while a request waits."""
DATAGRAM_LOG_INTERVAL: Final = 1.0
"""Datagrams that are dropped for one reason are logged once in so long."""

# --- files ---------------------------------------------------------------------------------------
FILE_PAIR_TIMEOUT: Final = 0.01
"""How long the second half of a rename is waited for; without it the file has moved away."""
FILE_QUIET_TIME: Final = 0.1
"""A file that was found changed is told as updated when it was not written for so long."""

# --- logs ----------------------------------------------------------------------------------------
LOG_WAIT: Final = 0.5
"""How long a log record waits for the reader of the error output, once; then records are lost."""
