"""Event sources: what a communicator waits for beside sockets."""
