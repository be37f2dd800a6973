"""Logs over the network: handlers that send them, and the daemon that keeps them."""
