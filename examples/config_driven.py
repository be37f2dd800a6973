"""The hello service, driven by a file: config_driven.py --config hello.conf.

The file says where it listens, where its link goes, how often it greets, and who may stop it.
"""

from edgevent import Message, Service

service = Service("hello", "Adds numbers.")


@service.on("ADD")
def add(message, peer, a: int, b: int):
    return message.reply("SUM", {"value": a + b})


@service.link("backup", optional=True)
def connected(link):  # each time that the link is up
    link.send(Message("HELLO", {"service": service.name}))


@service.timer("greet", "10s")  # how often, when the file does not say it
def greet():
    for link in service.links.values():
        if link.is_connected:
            link.send(Message("GREET", {"from": service.name}))


@service.on_reload
def reloaded(options, changed):  # after SIGHUP
    print("changed:", ", ".join(sorted(changed)) or "nothing", flush=True)


if __name__ == "__main__":
    raise SystemExit(service.main())
