"""Encodings as text: small facts as JSON, arrays by the names under which a file keeps them.

    {"kind":"affine","dtype":"int4","scale":"graphpress.numbers/0","axis":0,"block":32}
    {"kind":"affine","dtype":"uint8","axis":1}                                                dynamic: no scale
    {"kind":"codebook","dtype":"uint4","table":"graphpress.numbers/1","scale":"graphpress.numbers/2","axis":0}
    {"kind":"cast","dtype":"bfloat16"}

Zero-points that are all 0 are left out. Where the text is:

    value  graphpress.encoding.v2        the default encoding
    node   graphpress.use.v2.<index>     the override of one use; "float" for none
    node   graphpress.stored.v2          the node decodes a constant from its codes: it becomes that constant again
    value  graphpress.codes.v2           codes that no operator could decode, kept beside the floats (JSON of both)

Version 1 held the numbers themselves; it is still read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from graphpress.ir.annotation_text import facts_of
from graphpress.ir.encoding.affine import AffineEncoding, dynamic_encoding
from graphpress.ir.encoding.cast import CastEncoding
from graphpress.ir.encoding.codebook import CodebookEncoding
from graphpress.ir.encoding.grids import INTEGERS, integer_dtype
from graphpress.ir.encoding.kinds import Encoding

ENCODING_KEY: Final = "graphpress.encoding.v2"
USE_KEY: Final = "graphpress.use.v2."
STORED_KEY: Final = "graphpress.stored.v2"
CODES_KEY: Final = "graphpress.codes.v2"
VERSION_1: Final = {"graphpress.encoding.v1": ENCODING_KEY, "graphpress.use.v1.": USE_KEY}
"""Keys of the version before, and of what they are now."""

Keep = Callable[[np.ndarray], str]
"""Takes an array into keeping and returns its name."""
Find = Callable[[str], np.ndarray]
"""Returns the array of a name; raises ValueError where there is none."""

_MAX_INTEGER: Final = 2**31 - 1
_MAX_SCALE: Final = 3e38
_TYPES: Final[Mapping[str, type]] = {
    "dtype": str, "scale": str, "zero_point": str, "table": str, "axis": int, "block": int, "imported": bool,
    "derived": bool,
}  # fmt: skip
_FIELDS: Final = {
    "affine": {"dtype", "scale", "zero_point", "axis", "block", "imported", "derived"},
    "codebook": {"dtype", "table", "scale", "axis", "block"},
    "cast": {"dtype"},
}


def to_text(encoding: Encoding, keep: Keep) -> str:
    """The encoding as JSON, its arrays handed into keeping."""
    if isinstance(encoding, CastEncoding):
        facts: dict[str, Any] = {"kind": "cast", "dtype": encoding.dtype}
    elif isinstance(encoding, CodebookEncoding):
        facts = {"kind": "codebook", "dtype": encoding.dtype, "table": keep(encoding.table)}
        if encoding.scale.ndim or encoding.scale != 1:
            facts["scale"] = keep(encoding.scale)
    else:
        facts = {"kind": "affine", "dtype": encoding.dtype, **_affine_numbers(encoding, keep)}
    for name in ("axis", "block", "imported", "derived"):
        if (fact := getattr(encoding, name)) is not None and fact is not False and (fact or name == "axis"):
            facts[name] = fact
    return json.dumps(facts, separators=(",", ":"))


def _affine_numbers(encoding: AffineEncoding, keep: Keep) -> dict[str, str]:
    if encoding.is_dynamic:
        return {}
    numbers = {"scale": keep(encoding.scale)}
    if encoding.zero_point.any():
        numbers["zero_point"] = keep(zero_points(encoding))
    return numbers


def zero_points(encoding: AffineEncoding) -> np.ndarray:
    """The zero-points in the type of the codes, as Q/DQ nodes read them."""
    return np.ascontiguousarray(encoding.zero_point).astype(integer_dtype(encoding.dtype)).reshape(encoding.scale.shape)


def from_text(text: str, find: Find) -> Encoding:
    """The encoding that ``to_text`` wrote. Its ``fault`` states whether it is sound.

    Raises:
        ValueError: the text is none, or an array is missing or of another type.
    """
    facts = facts_of(text)
    kind = facts.pop("kind", None)
    if kind == "quantized":
        return _from_version_1(facts)
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise ValueError(f"the unknown kind {kind!r}")
    for name, fact in facts.items():
        if name not in _FIELDS[kind] or type(fact) is not _TYPES[name]:
            raise ValueError(f"{name} is {fact!r}")
        if isinstance(fact, int) and abs(fact) > _MAX_INTEGER:
            raise ValueError(f"{name} is {fact!r}")
    if "dtype" not in facts:
        raise ValueError("it has no dtype")
    return _of_kind(kind, facts, find)


def _of_kind(kind: str, facts: dict[str, Any], find: Find) -> Encoding:
    if kind == "cast":
        return CastEncoding(**facts)
    for name in ("scale", "table"):
        if name in facts:
            facts[name] = _typed(facts[name], find, np.float32)
    if kind == "codebook":
        if "table" not in facts:
            raise ValueError("it has no table")
        return CodebookEncoding(**facts)
    if "scale" not in facts:
        if facts.keys() - {"dtype", "axis"}:
            raise ValueError("it has no scale")
        return dynamic_encoding(**facts)
    if not facts["scale"].size:
        raise ValueError("it has no numbers for a scale")
    if "zero_point" in facts:
        if facts["dtype"] not in INTEGERS:
            raise ValueError(f"it has zero-points of type {facts['dtype']}")
        facts["zero_point"] = _typed(facts["zero_point"], find, integer_dtype(facts["dtype"]))
    return AffineEncoding(**facts)


def _typed(name: str, find: Find, dtype: type | np.dtype) -> np.ndarray:
    array = find(name)
    if array.dtype != dtype:
        raise ValueError(f"{name!r} holds {array.dtype}, not {np.dtype(dtype)}")
    return array


def _from_version_1(facts: dict[str, Any]) -> AffineEncoding:
    """The encoding in a file of version 1: ``shared`` is gone, ``pinned`` is now ``imported``."""
    shape = facts.pop("scale_shape", ())
    facts.pop("shared", None)
    try:
        blocked = shape or (-1 if facts.get("axis") is not None else ())
        numbers = {name: np.array(facts.pop(name)).reshape(blocked) for name in ("scale", "zero_point")}
        if numbers["scale"].dtype.kind not in "iuf" or np.abs(numbers["scale"]).max(initial=0) > _MAX_SCALE:
            raise ValueError("its scales are no numbers")
        if numbers["zero_point"].dtype.kind != "i" or np.abs(numbers["zero_point"]).max(initial=0) > _MAX_INTEGER:
            raise ValueError("its zero-points are no integers")
        axis, block, dtype = facts.pop("axis", None), facts.pop("block", 0), facts.pop("dtype")
        flags = {name: bool(facts.pop(old, False)) for name, old in (("imported", "pinned"), ("derived", "derived"))}
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]} (version 1)") from error
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError("its scales or zero-points cannot be read (version 1)") from error
    if facts or type(dtype) is not str or type(block) is not int or type(axis) not in (int, type(None)):
        raise ValueError("it is no encoding of version 1")
    return AffineEncoding(dtype, numbers["scale"].astype(np.float32), numbers["zero_point"], axis, block, **flags)
