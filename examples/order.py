"""A script that asks a service by its name: order.py ITEM COUNT."""

import sys

from edgevent import CommunicatorClient, EdgeventError, Message

item, count = sys.argv[1:]
try:
    with CommunicatorClient() as client:
        answer = client.request("shop", Message("ORDER", {"item": item, "count": count}))
except EdgeventError as error:  # no communicatord, no shop, or no answer in time
    raise SystemExit(str(error)) from None
print(f"{answer.command} {answer.get('left', '')}".strip())
