"""A script that asks a service by its name: order.py ITEM COUNT."""

import sys

from edgevent import CommunicatorClient, Message, ServiceUnavailableError

item, count = sys.argv[1:]
with CommunicatorClient() as client:
    try:
        answer = client.request("shop", Message("ORDER", {"item": item, "count": count}))
    except ServiceUnavailableError as error:
        raise SystemExit(str(error)) from None
    print(f"{answer.command} {answer.get('left', '')}".strip())
