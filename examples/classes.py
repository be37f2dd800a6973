"""A class of connections, for those who come from the C++ library: override what you need."""

from edgevent import Communicator, Message, MessageConnection, Server


class Sensor(MessageConnection):
    """Answers READ, and sends TICK once a second: one object for each peer."""

    def process_connected(self):
        self.count = 0
        self.timeout_delay = 1.0

    def process_message(self, message):  # what the dispatcher did not take
        if message.command != "READ":
            return False  # somebody else may know it, else it is answered UNKNOWN
        self.send(message.reply("VALUE", {"celsius": "21.5"}))
        return True

    def process_timeout(self):
        self.count += 1
        self.send(Message("TICK", {"count": self.count}))

    def process_hup(self):
        print(f"{self.name}: gone after {self.count} ticks", flush=True)


with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    communicator.add_connection(Server("tcp://127.0.0.1:3001", Sensor))
    communicator.run()
