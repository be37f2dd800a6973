"""Floor 7: what tests of edgevent, and of programs that use it, stand on."""
