"""Short text messages between Linux service scripts, in plain blocking style."""

__version__ = "0.1.0"

__all__ = ["__version__"]
