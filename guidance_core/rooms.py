"""Modules that are imported when they are first asked for, as attributes of the package that they are in."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def as_attribute(package: str, name: str) -> Iterator[None]:
    """Inside, a package's module is imported by name; raises AttributeError where the package has none of that name."""
    missing = AttributeError(f"module '{package}' has no attribute '{name}'")
    if name.startswith("_"):
        raise missing
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != f"{package}.{name}":  # a module is there, and lacks something
            raise
        raise missing from None
