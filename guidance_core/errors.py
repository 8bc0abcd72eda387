"""The one error type: a sentence that says what was given, why it is wrong and what to do."""


class GuidanceError(ValueError):
    """Raised for every refused input; its text is meant to be read by the user as it stands."""


class OwnError(GuidanceError):
    """What one process of several meets by itself, and therefore says itself."""


def shortened(text: str, most: int = 100) -> str:
    """A text of any length, as it is quoted or shown: its first `most` letters, and three dots where it has more."""
    return text if len(text) <= most else f"{text[:most].rstrip()}..."


def printable(name: str) -> str:
    """A file's name as text: bytes of it that are no UTF-8, which Python keeps as surrogates, are written out."""
    return name.encode("utf-8", "backslashreplace").decode()
