"""Floor 2: turns, waits and writes on gevent's hub."""
