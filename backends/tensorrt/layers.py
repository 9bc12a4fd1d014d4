"""The layers of an engine as TensorRT lists them while it builds, and in which types they compute."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

HEADING: Final = "Layers:"
"""How the message begins in which the builder lists an engine's layers."""

TYPES: Final = {
    "Int8": "int8",
    "UInt8": "uint8",
    "Int4": "int4",
    "FP4": "float4e2m1",
    "FP8": "float8e4m3fn",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Float": "float32",
    "Int32": "int32",
    "Int64": "int64",
    "Bool": "bool",
}
"""TensorRT's names of types, in ONNX's words."""

_FIELD = re.compile(r", (LayerType|Inputs|Constants|Outputs|TacticName|StreamId|Metadata): ")
_TYPE = re.compile(r"Datatype: (\w+)")
_NODE = "[ONNX Layer: "


@dataclass(frozen=True)
class Layer:
    """One layer of an engine.

    Args:
        name: TensorRT's own.
        kind: ``correlation``, ``gemm``, ``kgen``, …: the kind of kernel.
        inputs, constants, outputs: types of what it reads and writes, by TensorRT's names (``Int8``, ``Half``, …).
        nodes: names of the ONNX nodes that it does.
    """

    name: str
    kind: str
    inputs: Sequence[str]
    constants: Sequence[str]
    outputs: Sequence[str]
    nodes: Sequence[str]


def parse_layers(dump: str) -> list[Layer]:
    """The layers of the message that begins ``Layers:``; what else it says is left out."""
    return [_layer(line) for line in dump.splitlines() if line.startswith("Name: ") and ", LayerType: " in line]


def _layer(line: str) -> Layer:
    name, *rest = _FIELD.split(line.removeprefix("Name: "))
    fields = dict(zip(rest[::2], rest[1::2], strict=True))
    types = {key: tuple(_TYPE.findall(fields.get(key, ""))) for key in ("Inputs", "Constants", "Outputs")}
    nodes = _nodes(fields.get("Metadata", ""))
    return Layer(name, fields["LayerType"], types["Inputs"], types["Constants"], types["Outputs"], nodes)


def _nodes(metadata: str) -> tuple[str, ...]:
    """Names between ``[ONNX Layer: `` and the bracket before the next; names may hold brackets themselves."""
    first, *rest = metadata.replace("\x1e", "").split(_NODE)
    return tuple(one.rstrip().removesuffix("]") for one in rest)


def types_of_nodes(layers: Sequence[Layer]) -> dict[str, str]:
    """In which type each ONNX node computes, by name; nodes that vanished are left out."""
    doing: dict[str, list[Layer]] = {}
    for layer in layers:
        for node in layer.nodes:
            doing.setdefault(node, []).append(layer)
    return {node: _type(_arithmetic(found)) for node, found in doing.items()}


def _arithmetic(layers: Sequence[Layer]) -> Layer:
    """Of the layers that share a node, the one that does its contraction."""
    return next((layer for layer in layers if layer.kind != "kgen"), layers[0])


def _type(layer: Layer) -> str:
    read = {*layer.inputs, *layer.constants}
    for name in ("FP4", "Int4", "FP8", "Int8"):
        if name in read:
            return TYPES[name]
    widest = _floats(layer.inputs) or _floats(layer.outputs) or list(layer.inputs) or list(layer.outputs)
    return TYPES.get(widest[0], widest[0].lower()) if widest else "unknown"


def _floats(names: Iterable[str]) -> list[str]:
    return [name for name in names if name in ("Half", "BFloat16", "Float")]
