"""Names that a file can have on every system alike, whichever one it is chosen on."""

import re
import unicodedata

from .errors import GuidanceError, printable, shortened

MAX_LETTERS = 100
MAX_BYTES = 200  # in UTF-8; most disks take 255, of which endings and numbers need some
MAX_FOLDERS = 16
MARKS = frozenset(" .,()+-_")
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
"""Names of Windows' devices, with whatever ending."""


def name_parts(name: str, what: str, place: str) -> list[str]:
    """The folders of a name, which `/` separates, and the name itself, without spaces around them.

    what, place: what is named, and where it is kept, for the sentence of the GuidanceError that refuses other names.
    """
    parts = [part.strip() for part in name.split("/")]
    reason = next(filter(None, map(_wrong, parts)), "")
    if len(parts) > MAX_FOLDERS + 1:
        reason = f"it has {len(parts) - 1} folders, and {MAX_FOLDERS} are the most."
    if reason == FOREIGN:
        reason += f", and / for a folder in {place}."
    if reason:
        raise GuidanceError(f"'{shortened(printable(name))}' cannot be the name of {what}: {reason}")
    return parts


FOREIGN = "use letters, digits, spaces and - _ . , ( ) +"


def _wrong(part: str) -> str:
    """Why one part cannot be a name; "" when it can."""
    if not part or not _begins(part[0]) or not all(letter in MARKS or _belongs(letter) for letter in part):
        return FOREIGN
    if len(part) > MAX_LETTERS or len(part.encode()) > MAX_BYTES:
        return f"it is too long; {MAX_LETTERS} letters fit, of other scripts than Latin from {MAX_BYTES // 4} on."
    if part.endswith("."):
        return "on Windows no name ends with a dot."
    if RESERVED.fullmatch(part):
        return f"'{part}' is the name of a device on Windows."
    return ""


def _begins(letter: str) -> bool:
    return letter == "_" or unicodedata.category(letter)[0] in "LN"


def _belongs(letter: str) -> bool:
    """Letters, digits, and the signs that combine with them: the vowels of Hindi and Thai, accents written apart."""
    return unicodedata.category(letter)[0] in "LNM"
