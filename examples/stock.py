"""A service that others find by its name: it knows how much there is of what."""

from edgevent import Service

service = Service("stock", "Knows how much there is of what.", communicatord=True)
stock = {"pen": 10, "ink": 2}


@service.on("TAKE")
def take(message, peer, item: str, count: int):
    left = stock.get(item, 0)
    if count < 1 or count > left:
        return message.reply("TOO_FEW", {"left": left})
    stock[item] = left - count
    return message.reply("TAKEN", {"left": stock[item]})


if __name__ == "__main__":
    raise SystemExit(service.main())
