"""The version of Guidance Kit."""

__version__ = "0.1.0"
