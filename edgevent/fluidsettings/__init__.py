"""Settings that are the same on all computers: the client, and the daemon that keeps them."""
