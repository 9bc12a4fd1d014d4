"""Names of a model and its tensors as identifiers and text of C."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence

from graphpress.printable import printable

RESERVED = frozenset(
    """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const constexpr
    continue decltype default delete do double else enum explicit export extern false float for friend goto if
    inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public
    register reinterpret_cast requires restrict return short signed sizeof static static_assert struct switch
    template this thread_local throw true try typedef typeid typename union unsigned using virtual void volatile
    wchar_t while xor xor_eq
    """.split()  # noqa: SIM905  (a list of them is three times as long)
)
"""Keywords of C and C++."""
TAKEN = frozenset(("graphpress", "pthread", "timer"))
"""What functions of a C library, or of the runtime, begin with."""
LONGEST = 63
"""Characters that compilers of C tell apart."""


def identifier(name: str) -> str:
    """A name in lower case as an identifier that is no keyword, and that no library begins its names with.

    >>> identifier("ResNet-18 (é)"), identifier("images:0"), identifier("2"), identifier("int"), identifier("模型")
    ('resnet_18_e', 'images_0', 'x2', 'int_', 'x')
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    word = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:LONGEST].rstrip("_")
    if not word[:1].isalpha():
        word = f"x{word}"
    return f"{word}_" if word in RESERVED | TAKEN else word


def identifiers(names: Sequence[str]) -> list[str]:
    """As many different identifiers, each like its name.

    >>> identifiers(["a.b", "a_b", "c"])
    ['a_b', 'a_b_2', 'c']
    """
    chosen: dict[str, None] = {}
    for word in map(identifier, names):
        numbered = (f"{word}_{number}" for number in range(2, len(names) + 2))
        chosen[next(each for each in (word, *numbered) if each not in chosen)] = None
    return list(chosen)


def comment(text: str) -> str:
    r"""Text from elsewhere within a comment, which it cannot end.

    >>> comment("conv*/ #include \\")
    'conv* / #include /'
    """
    return printable(text).replace("\\", "/").replace("*/", "* /").replace("/*", "/ *")


def string(text: str) -> str:
    r"""Text as a literal of C, whatever is in it; beyond ASCII as UTF-8.

    >>> print(string('a"\n?é'))
    "a\"\012\?\303\251"
    """
    plain = {ord('"'): '\\"', ord("\\"): "\\\\", ord("?"): "\\?"}  # ?? begins a trigraph
    data = text.encode("utf-8", "surrogatepass")
    return '"' + "".join(plain.get(byte, chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in data) + '"'


def as_json(value: object) -> str:
    """Readable JSON in ASCII."""
    return json.dumps(value, indent=1) + "\n"
