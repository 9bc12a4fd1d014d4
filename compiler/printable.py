"""Text from elsewhere, as terminals, logs, pages and JSON may be given it.

Names in a model, names of files and messages of libraries may hold line breaks, escape codes that a terminal obeys,
marks that turn the direction of text, or halves of characters that no encoding has. What shows itself is left as it is.
"""

from __future__ import annotations

import re
import shlex


def printable(text: str) -> str:
    r"""One line of text with every character written out that does not show itself.

    >>> print(printable("conv\x1b[2J\n\u202eé"))
    conv\x1b[2J\n\u202eé
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def printable_json(text: str) -> str:
    r"""JSON with the same characters written as JSON writes them; it stays the same JSON.

    >>> print(printable_json('{"name": "\x9b\u202e😀\udc80"}'))
    {"name": "\u009b\u202e😀\udc80"}
    """
    return _CHARACTER.sub(lambda match: match[0] if match[0].isprintable() else _units(match[0]), text)


def shell_word(text: str) -> str:
    r"""One word of a command; with such characters in the notation of bash.

    >>> print(shell_word("--shapes=x:1x3"), shell_word("it's\n"))
    --shapes=x:1x3 $'it\x27s\x0a'
    """
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(char if char.isprintable() and char not in "'\\" else _bytes(char) for char in text) + "'"


_CHARACTER = re.compile(r"[^\n -~]")


def _bytes(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))


def _units(char: str) -> str:
    """A character by its code units of UTF-16."""
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
