"""Encodings: compression as an annotation of values and uses, not as extra nodes.

A value has a default encoding, which every reader sees; a *use* (node, input index) may override it, with another
encoding or with plain float. The graph stays a float graph: passes that fuse, prune or search need not know.

Annotations live in ``metadata_props`` under versioned keys, so they survive cloning, saving and loading:

    value  graphpress.encoding.v1        the default encoding (JSON)
    value  graphpress.output.v1          "float" when a graph output is read as float in spite of it
    node   graphpress.use.v1.<index>     the override of one use (JSON, or "float")
    node   graphpress.compute.v1         the compute request, such as "int8": what "asked" means in the report
    node   graphpress.float.v1           the float type of whatever the node does not do in integers, such as "float16"
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Final, Literal

from graphpress.errors import ModelError
from graphpress.ir.types import Model, Node, Value
from graphpress.ir.values import graphs

ENCODING_KEY: Final = "graphpress.encoding.v1"
OUTPUT_KEY: Final = "graphpress.output.v1"
USE_KEY: Final = "graphpress.use.v1."
COMPUTE_KEY: Final = "graphpress.compute.v1"
FLOAT_TYPE_KEY: Final = "graphpress.float.v1"
INVALIDATED_KEY: Final = "graphpress.invalidated.v1"
PREFIX: Final = "graphpress."

FLOAT: Final = "float"
WEIGHT_ONLY: Final = "weight-only"
"""Request for compressed weights with arithmetic in floats."""
FLOAT8: Final = "float8e4m3fn"
Override = Literal["float"]


@dataclass(frozen=True)
class Quantized:
    """Affine quantisation: real = (number of the grid - zero_point) * scale.

    Args:
        dtype: type of the grid, by its ONNX name in lower case: integers (``int8``, ``uint8``, ``int4``, ``int32``, …)
            or ``float8e4m3fn``, whose zero-point is 0.
        scale: one number, one per index of ``axis``, or row-major blocks when ``block`` is set.
        zero_point: as many integers as there are scales.
        axis: the axis along which scales differ; None for one scale a tensor.
        block: elements along ``axis`` that share a scale; 0 for none.
        scale_shape: shape of the scales when blocked, else empty.
        shared: name of the value whose range this encoding shares (both ends of a Reshape or MaxPool), or "".
        derived: whether the scale follows from others (a bias: input scale times weight scale).
        pinned: came as Q/DQ nodes with the model; spelt back unchanged.
    """

    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None
    block: int = 0
    scale_shape: tuple[int, ...] = ()
    shared: str = ""
    derived: bool = False
    pinned: bool = False

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest number of the grid."""
        return integer_bounds(self.dtype)

    @property
    def representable(self) -> tuple[float, float]:
        """Smallest and largest real number that a per-tensor encoding can hold."""
        low, high = self.bounds
        return (low - self.zero_point[0]) * self.scale[0], (high - self.zero_point[0]) * self.scale[0]


def integer_bounds(dtype: str) -> tuple[int, int]:
    """Smallest and largest number of an ONNX integer type, or of an 8-bit float (which are integers too).

    >>> integer_bounds("int4"), integer_bounds("uint8"), integer_bounds("float8e4m3fn")
    ((-8, 7), (0, 255), (-448, 448))
    """
    if dtype == FLOAT8:
        return -448, 448
    bits = int(dtype.lstrip("uint"))
    return (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def encoding_of(value: Value) -> Quantized | None:
    """The default encoding of a value, or None where it is plain float."""
    text = value.metadata_props.get(ENCODING_KEY)
    return None if text is None else _parse(text)


def set_encoding(value: Value, encoding: Quantized | None) -> None:
    """Annotate a value, or clear its annotation."""
    value.metadata_props.pop(INVALIDATED_KEY, None)
    if encoding is None:
        value.metadata_props.pop(ENCODING_KEY, None)
    else:
        value.metadata_props[ENCODING_KEY] = _print(encoding)


def invalidate_encoding(value: Value, reason: str) -> None:
    """Drop the encodings of a value that changed, also those of its uses; whoever spells the graph out will say so."""
    stale = value.metadata_props.pop(ENCODING_KEY, None) is not None
    for use in value.uses():
        key = f"{USE_KEY}{use.idx}"
        if use.node.metadata_props.get(key, FLOAT) != FLOAT:
            del use.node.metadata_props[key]
            stale = True
    if stale:
        value.metadata_props[INVALIDATED_KEY] = reason


def invalidation_of(value: Value) -> str | None:
    """Why the value lost its encoding, if it did."""
    return value.metadata_props.get(INVALIDATED_KEY)


def read_encoding(node: Node, index: int) -> Quantized | None:
    """The encoding in which ``node`` reads its input at ``index``: the override of the use, else the default."""
    value = node.inputs[index]
    if value is None:
        return None
    text = node.metadata_props.get(f"{USE_KEY}{index}")
    if text == FLOAT:
        return None
    return encoding_of(value) if text is None else _parse(text)


def override_use(node: Node, index: int, encoding: Quantized | Override | None) -> None:
    """Let one use read another encoding, or float; None removes the override."""
    key = f"{USE_KEY}{index}"
    if encoding is None:
        node.metadata_props.pop(key, None)
    else:
        node.metadata_props[key] = encoding if isinstance(encoding, str) else _print(encoding)


def hand_over_encoding(old: Value, new: Value) -> None:
    """Before ``new`` takes the place of ``old``: what read ``old`` in its encoding will read ``new`` in it.

    Other readers of ``new`` keep what they read, by an override of their use. Where ``old`` is plain float, there is
    nothing to hand over.
    """
    if reason := invalidation_of(old):
        new.metadata_props[INVALIDATED_KEY] = reason
    encoding, own = encoding_of(old), encoding_of(new)
    if encoding is None or encoding == own:
        return
    if new.is_graph_output() and own is not None:
        for use in old.uses():
            _keep_reading(use.node, use.idx, encoding)
        return
    for use in new.uses():
        _keep_reading(use.node, use.idx, FLOAT if own is None else own)
    if new.is_graph_output() or (old.is_graph_output() and OUTPUT_KEY in old.metadata_props):
        override_output(new, FLOAT)
    set_encoding(new, encoding)


def _keep_reading(node: Node, index: int, encoding: Quantized | Override) -> None:
    if f"{USE_KEY}{index}" not in node.metadata_props:
        override_use(node, index, encoding)


def output_encoding(value: Value) -> Quantized | None:
    """The encoding in which the world outside reads a graph output."""
    return None if value.metadata_props.get(OUTPUT_KEY) == FLOAT else encoding_of(value)


def override_output(value: Value, encoding: Override | None) -> None:
    """Let the world outside read a graph output as float; None removes the override."""
    if encoding is None:
        value.metadata_props.pop(OUTPUT_KEY, None)
    else:
        value.metadata_props[OUTPUT_KEY] = encoding


def compute_request(node: Node) -> str | None:
    """What the node was asked to compute in (``int8``, ``weight-only``, ``float16``, …), or None."""
    return node.metadata_props.get(COMPUTE_KEY)


def compute_requests(model: Model) -> dict[str, str]:
    """What nodes were asked to compute in, by name; those that were asked for nothing are left out."""
    found = ((node.name or "", compute_request(node)) for graph in graphs(model) for node in graph)
    return {name: request for name, request in found if request is not None}


def request_compute(node: Node, kind: str | None) -> None:
    """Ask for a kind of arithmetic; None withdraws the request."""
    if kind is None:
        node.metadata_props.pop(COMPUTE_KEY, None)
    else:
        node.metadata_props[COMPUTE_KEY] = kind


def float_type(node: Node) -> str | None:
    """The float type that the node was asked to use (``float16``, ``bfloat16``); None for that of its values."""
    return node.metadata_props.get(FLOAT_TYPE_KEY)


def set_float_type(node: Node, dtype: str | None) -> None:
    """Ask for a float type by its ONNX name in lower case; None withdraws the request."""
    if dtype is None:
        node.metadata_props.pop(FLOAT_TYPE_KEY, None)
    else:
        node.metadata_props[FLOAT_TYPE_KEY] = dtype


def clear_annotations(item: Node | Value) -> None:
    """Remove everything of ours from a node or value."""
    for key in [key for key in item.metadata_props if key.startswith(PREFIX)]:
        del item.metadata_props[key]


def _print(encoding: Quantized) -> str:
    defaults = {"axis": None, "block": 0, "scale_shape": (), "shared": "", "derived": False, "pinned": False}
    said = {name: value for name, value in asdict(encoding).items() if name not in defaults or value != defaults[name]}
    return json.dumps({"kind": "quantized", **said}, separators=(",", ":"))


@lru_cache(maxsize=65536)
def _parse(text: str) -> Quantized:
    try:
        fields = json.loads(text)
        if fields.pop("kind") != "quantized":
            raise ValueError("unknown kind of encoding")
        for name in ("scale", "zero_point", "scale_shape"):
            if name in fields:
                fields[name] = tuple(fields[name])
        return Quantized(**fields)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"unreadable encoding {text[:80]!r} ({error})",
            where="metadata_props",
            fix="the model was annotated by another version: start from the original model",
        ) from error
