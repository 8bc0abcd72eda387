"""Text that may come from a file of others, shown by the front end letter by letter.

Of its two renderers one takes what nodes say for HTML with links, the other for Markdown: both read HTML's character
references as letters, and as nothing else.
"""

import re
import unicodedata

_MARKUP = re.compile(
    r"[&<>\[\]*`~\\@]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside of a word it is a letter
    r"|:(?=//)|(?<=www)\."  # what would become a link by itself
    r"|^[ \t]*[-+=#|]|(?<=\d)[.)](?=\s)",  # lists, headings, tables
    re.IGNORECASE | re.MULTILINE,
)
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # letters that show nothing
_JOINERS = frozenset("\u200c\u200d")  # parts of Persian and Indian writing, and of emoji


def plain(text: str) -> str:
    """Text as it is to be read: neither markup nor link, and no character unseen."""
    return _MARKUP.sub(lambda found: "".join(f"&#{ord(letter)};" for letter in found[0]), visible(text))


def visible(text: str) -> str:
    """Text in which characters that show nothing or turn the direction of others are named, as [U+202E]."""
    if text.replace("\n", "").isprintable() and _FILLERS.isdisjoint(text):
        return text  # nearly always
    return "".join(
        f"[U+{ord(letter):04X}]" if _unseen(letter, text[i - 1 : i], text[i + 1 : i + 2]) else letter
        for i, letter in enumerate(text)
    )


def _unseen(letter: str, before: str, after: str) -> bool:
    if letter in _JOINERS:
        joins = before and unicodedata.bidirectional(before) in ("R", "AL", "NSM")
        return not joins and not (after and unicodedata.category(after) == "So")
    category = unicodedata.category(letter)
    return category in ("Cf", "Zl", "Zp", "Cs", "Co") or category == "Cc" and letter != "\n" or letter in _FILLERS
