"""The work of all rows: the message of 100 bytes, and the commands that both servers know."""

from edgevent import Message

HEADER = b"<cli:bench srv:target/"
NAMES = {
    "server": "srv",
    "service": "target",
    "sent_from_server": "cli",
    "sent_from_service": "bench",
}
SERIAL = b"123456"
_FIXED = len(HEADER + b"PUT cache=no;name=temperature;payload=;serial=" + SERIAL + b"\n")
PAYLOAD = "x" * (100 - _FIXED)
SERIAL_DIGITS_OF_REQUEST = 16
SHORT_PAYLOAD = PAYLOAD[SERIAL_DIGITS_OF_REQUEST - len(SERIAL) :]


def line(command: str, serial: bytes = SERIAL) -> bytes:
    """Returns the message as 100 bytes, newline included.

    PUT is answered, SET is not, END is answered and follows many SET.
    """
    fields = f"cache=no;name=temperature;payload={PAYLOAD};serial=".encode()
    return HEADER + command.encode() + b" " + fields + serial + b"\n"


def fields(serial: str) -> dict[str, str]:
    """Returns the parameters of the message."""
    return {"cache": "no", "name": "temperature", "payload": PAYLOAD, "serial": serial}


def message(command: str, serial: str) -> Message:
    """Returns the same as an edgevent message, built as a user would build it."""
    return Message(
        command,
        {"cache": "no", "name": "temperature", "payload": PAYLOAD, "serial": serial},
        server="srv",
        service="target",
        sent_from_server="cli",
        sent_from_service="bench",
    )


def request() -> Message:
    """Returns a PUT that is 100 bytes long once the client has added its serial."""
    return Message(
        "PUT",
        {"cache": "no", "name": "temperature", "payload": SHORT_PAYLOAD},
        server="srv",
        service="target",
        sent_from_server="cli",
        sent_from_service="bench",
    )


LINE = line("PUT")
assert len(LINE) == 100
assert len(bytes(message("PUT", "123456"))) == 99
