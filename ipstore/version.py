"""The version of ipstore, stated once."""

__version__ = "0.1.0"
