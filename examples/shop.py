"""A service that asks another one, tells all who want to know, and sees who is there."""

from edgevent import Message, Service, ServiceUnavailableError

service = Service("shop", "Sells what is in stock.", communicatord=True)


@service.on("ORDER")
def order(message, peer, item: str, count: int):
    asked = Message("TAKE", {"item": item, "count": count})
    try:
        answer = service.communicatord.request("stock", asked, timeout=2.0)
    except ServiceUnavailableError:
        return message.reply("CLOSED")
    if answer.command == "TAKEN":  # those that have listed SOLD are told
        service.communicatord.broadcast(Message("SOLD", {"item": item, "count": count}))
    return message.reply(answer.command, {"left": answer["left"]})


@service.on_start
def start(options):
    @service.communicatord.on_status
    def told(link, status):
        print(f"{status.service} is {status.state}", flush=True)


if __name__ == "__main__":
    raise SystemExit(service.main())
