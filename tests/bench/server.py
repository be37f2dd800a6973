"""The servers, each a process of its own: ``python -m tests.bench.server KIND FOLDER``.

The kinds: raw, own, tls; daemon, a router, and target, a service that registers with it.

Each prints its addresses as ``HOST PORT PATH`` and runs until it is killed.
"""

import gc
import socket
import sys
from collections.abc import Callable


def run_raw(folder: str) -> None:
    """The baseline: recv(65536), split on newline, dictionary dispatch, no parsing, sendall."""
    from gevent.server import StreamServer

    listeners: list = []

    def put(line, sock):
        return line + b"\n"

    def set_(line, sock):
        return None

    def subscribe(line, sock):
        listeners.append(sock)
        return line + b"\n"

    def all_(line, sock):
        for _ in range(int(line.rpartition(b"=")[2])):
            for listener in listeners:
                listener.sendall(SET)

    def clean(line, sock):
        listeners.clear()
        gc.collect()
        return line + b"\n"

    from .work import line as make_line

    SET = make_line("SET")
    handlers: dict[bytes, Callable] = {
        b"srv:target/PUT": put,
        b"srv:target/SET": set_,
        b"srv:target/END": put,
        b"srv:target/SUB": subscribe,
        b"srv:target/ALL": all_,
        b"srv:target/GCC": clean,
    }

    def handle(sock, address):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        rest = b""
        while data := sock.recv(65536):
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            for line in lines:
                answer = handlers[line.split(b" ", 2)[1]](line, sock)
                if answer is not None:
                    sock.sendall(answer)

    server = StreamServer(("127.0.0.1", 0), handle, backlog=1024)
    server.start()
    print("127.0.0.1", server.server_port, "-", flush=True)
    server.serve_forever()


def own_service():
    """Returns edgevent's table: read a parameter, build, answer."""
    from edgevent import Dispatcher, broadcast

    from .work import message as make_message

    service = Dispatcher()
    listeners: list = []

    @service.on("PUT")
    def put(message, peer):
        return message.reply("DONE", {"payload": message["payload"]})

    @service.on("SET")
    def set_(message, peer):
        message["payload"]

    @service.on("END")
    def end(message, peer):
        return message.reply("DONE")

    @service.on("SUB")
    def subscribe(message, peer):
        listeners.append(peer)
        return message.reply("DONE")

    @service.on("ALL")
    def all_(message, peer):
        for number in range(message.integer("serial")):
            broadcast(listeners, make_message("SET", str(100_000 + number)))

    @service.on("GCC")
    def clean(message, peer):
        listeners.clear()
        gc.collect()
        return message.reply("DONE")

    return service


def run_own(folder: str, encrypted: bool = False) -> None:
    """edgevent: read, parse into a Message, dispatch, build, write."""
    from edgevent import Communicator, Server, TlsOptions

    service = own_service()
    with Communicator() as communicator:
        many = {"max_connections": 100_000}
        if encrypted:
            tls = TlsOptions(f"{folder}/server.crt", f"{folder}/server.key")
            server = communicator.add_connection(
                Server("tls://127.0.0.1:0", service, tls=tls, **many)
            )
            print("127.0.0.1", server.port, "-", flush=True)
            communicator.run()
            return
        tcp = communicator.add_connection(Server("tcp://127.0.0.1:0", service, **many))
        communicator.add_connection(Server(f"unix:{folder}/own.sock", service, **many))
        print("127.0.0.1", tcp.port, f"{folder}/own.sock", flush=True)
        communicator.run()


def run_daemon(folder: str) -> None:
    """The router of communicatord."""
    from edgevent import Communicator, Server
    from edgevent.communicatord.daemon import Daemon

    daemon = Daemon("srv")
    with Communicator() as communicator:
        address = f"unix:{folder}/daemon.sock"
        communicator.add_connection(
            Server(address, daemon.relay, dispatcher=daemon.dispatcher, max_connections=100_000)
        )
        print("127.0.0.1", 0, f"{folder}/daemon.sock", flush=True)
        communicator.run()


def run_target(folder: str) -> None:
    """The same service as edgevent's own, registered with the daemon."""
    from edgevent import Communicator, CommunicatorConnection

    with Communicator() as communicator:
        address = f"unix:{folder}/daemon.sock"
        link = CommunicatorConnection("target", own_service(), address=address)

        @link.on_ready
        def ready(link):
            print("127.0.0.1", 0, f"{folder}/daemon.sock", flush=True)

        communicator.add_connection(link)
        communicator.run()


if __name__ == "__main__":
    run = {
        "raw": run_raw,
        "own": run_own,
        "tls": lambda folder: run_own(folder, True),
        "daemon": run_daemon,
        "target": run_target,
    }
    run[sys.argv[1]](sys.argv[2])
