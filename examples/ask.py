"""A blocking client; needs no communicator."""

from edgevent import Client, Message

with Client("tcp://127.0.0.1:3001", connect_timeout=2.0) as client:
    reply = client.request(Message("ADD", {"a": 2, "b": 40}), reply="SUM", timeout=1.0)
    print(reply["value"])
