"""Floor 7: the command line tools. Each module has ``main(argv=None) -> int``."""
