"""Waits for everything at once, and says what came: every_source.py FOLDER ADDRESS."""

import os
import signal
import sys
import time

from edgevent import (
    ChildWatch,
    Communicator,
    Dispatcher,
    FileWatch,
    ListenError,
    ListeningWatch,
    Message,
    Process,
    ProcessEvents,
    Server,
    SignalSource,
    ThreadLink,
    Timer,
    run_in_thread,
)

service = Dispatcher()


def say(*words):
    print(*words, flush=True)


@service.on("ASK")
def ask(message, peer):
    link.send(Message("GREET"))
    run_in_thread(sum, range(10), done=lambda outcome: say("sum", outcome.get()))
    run = Process(["echo", "hello"], lambda process, line: say("line", line.decode()))
    communicator.add_connection(run)
    return message.reply("ASKED")


@service.on("GREETING")
def greeting(message, peer):
    say("thread")


def work(worker):  # in a thread of its own
    for _ in worker:
        worker.send(Message("GREETING"))


def forked(event):
    if event.parent == os.getpid():
        say("fork")


signal.signal(signal.SIGPROF, lambda number, frame: None)
signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
with Communicator(dispatcher=service) as communicator:
    communicator.stop_on("SIGTERM")
    try:
        communicator.add_connection(ProcessEvents(forked, kinds=["fork"]))
    except ListenError as error:
        say("no process events:", error)
    server = communicator.add_connection(Server("tcp://127.0.0.1:0"))
    link = communicator.add_connection(ThreadLink(work))
    for source in (
        SignalSource("SIGUSR1", lambda received: say("signal")),
        ChildWatch(None, lambda event: say("child", event.kind, event.exit_code)),
        FileWatch(sys.argv[1], lambda event: say("file", event.path), events="updated"),
        ListeningWatch(sys.argv[2], lambda event: say("listens", event.is_listening), interval=0.1),
        Timer(None, lambda timer: say("date"), date=time.time() + 1.0),
        Timer(2.0, lambda timer: say("tick")),
    ):
        communicator.add_connection(source)
    say("listening on", *server.addresses)
    communicator.run()
signal.setitimer(signal.ITIMER_PROF, 0.0)
