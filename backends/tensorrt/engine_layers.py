"""The layers of an engine as TensorRT lists them while it builds, and in which types they compute.

A node of the model rarely is one layer. Its product runs in a kernel from a library (``correlation``, ``gemm``), its
bias and activation in a generated one (``kgen``) that it shares with its neighbors; three projections of one input
become a single product. So a node's type is that of the layer which does its arithmetic:

    library kernel       multiplies in the type that it reads: Int8 in, Int8 weights, Float scales for the result
    runtime_fusion       a product generated together with what stands before it. Float constants beside narrow ones
                         are scales that come before the product: it multiplies in float
    kgen                 everything else; attention whole, too, which multiplies in the type that it reads

What is no product counts as narrow when what it reads, or what it moves, is stored so. Kernels' names are not
reliable and are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from graphpress.backends.tensorrt.device.verify import names_in, nodes_of, type_of

HEADING: Final = "Layers:"
"""How the message begins in which the builder lists an engine's layers."""

TYPES: Final = {
    "BFloat16": "bfloat16",
    "Bool": "bool",
    "FP4": "float4e2m1",
    "FP8": "float8e4m3fn",
    "Float": "float32",
    "Half": "float16",
    "Int32": "int32",
    "Int4": "int4",
    "Int64": "int64",
    "Int8": "int8",
    "UInt8": "uint8",
}
"""ONNX's name of each of TensorRT's types."""

ARITHMETIC: Final = ("FP4", "FP8", "Int8")
"""Narrow types that kernels multiply in."""

STORAGE: Final = ("FP4", "Int4")
"""Types of weights whose name alone shows that nothing but the weights is stored in them."""

FLOATS: Final = ("Half", "BFloat16", "Float")

_GENERATED = ("kgen", "runtime_fusion")
_AUXILIARY = ("cast", "memset", "move", "noop", "reformat", "reshape", "shape_call", "shuffle")
_NAMES = {dtype: name for name, dtype in TYPES.items()}
_FIELD = re.compile(r", (LayerType|Inputs|Constants|Outputs|TacticName|StreamId|Metadata): ")
_TYPE = re.compile(r"Datatype: (\w+)")


@dataclass(frozen=True)
class EngineLayer:
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

    @property
    def generated(self) -> bool:
        """Whether its code was generated for this engine, of several nodes perhaps, and is no library's kernel."""
        return self.kind in _GENERATED


@dataclass(frozen=True)
class QuantizationRole:
    """What the model itself shows about a node, to settle what its layers leave open.

    Args:
        kind: ``product`` (multiplies by weights, or two activations), ``mover`` (only moves values), or ``other``.
        operands: for each operand, the narrow type it is dequantized from (``int8``), "" where it is float.
        float_type: the float type of the results as declared, "" where unknown.
    """

    kind: Literal["product", "mover", "other"] = "other"
    operands: tuple[str, ...] = ()
    float_type: str = ""

    @property
    def may_be_narrow(self) -> bool:
        """Whether it could compute in a narrow type: a product needs all of its operands in it, others one."""
        every = all if self.kind == "product" else any
        return bool(self.operands) and every(self.operands)


def parse_layers(dump: str) -> list[EngineLayer]:
    """The layers of the message that begins ``Layers:``; what else it holds is left out."""
    return [_layer(line) for line in dump.split("\n") if line.startswith("Name: ") and ", LayerType: " in line]


def layers_of_engine(table: Sequence[Mapping[str, Any]]) -> list[EngineLayer]:
    """The layers that an engine's inspector lists on the device; those without types are left out.

    Blocks have none (``ForeignNode``), nor has anything where shapes are open and none were set, nor an engine that
    was built to list names alone.
    """
    layers = [_inspected(dict(entry)) for entry in table if "ForeignNode" not in str(entry.get("Name"))]
    return [layer for layer in layers if layer.inputs or layer.outputs]


def types_of_nodes(
    layers: Sequence[EngineLayer], roles: Mapping[str, QuantizationRole] | None = None
) -> dict[str, str]:
    """In which type each ONNX node computes, by name, by ONNX's names of types; nodes that no layer names are left out.

    A kernel that multiplies float activations by narrow weights computes in float: a product in it is called after
    its weights where nothing computes in their type (``int4``), else ``int8-weights`` or ``float8e4m3fn-weights``.

    Args:
        layers: the engine's.
        roles: by node name, what the strongly typed model shows about it. Without, only the layers count: a node that
            shares a generated kernel with others is taken to compute in the narrowest type that the kernel reads.
    """
    layers_of: dict[str, list[EngineLayer]] = {}
    for layer in layers:
        for node in layer.nodes:
            layers_of.setdefault(node, []).append(layer)
    return {node: _type(_arithmetic(computing), (roles or {}).get(node)) for node, computing in layers_of.items()}


def _layer(line: str) -> EngineLayer:
    name, *rest = _FIELD.split(line.removeprefix("Name: "))
    fields = dict(zip(rest[::2], rest[1::2], strict=True))
    types = {key: tuple(_TYPE.findall(fields.get(key, ""))) for key in ("Inputs", "Constants", "Outputs")}
    nodes = names_in(fields.get("Metadata", ""))
    return EngineLayer(name, fields["LayerType"], types["Inputs"], types["Constants"], types["Outputs"], tuple(nodes))


def _inspected(entry: dict[str, Any]) -> EngineLayer:
    def types(key: str) -> tuple[str, ...]:
        texts = (str(tensor.get("Format/Datatype") or tensor.get("Datatype")) for tensor in entry.get(key) or ())
        return tuple(_NAMES[dtype] for text in texts if (dtype := type_of(text)) in _NAMES)

    weights = entry.get("Weights")
    stored = type_of(str(weights.get("Type"))) if isinstance(weights, dict) else None
    constants = (*types("Constants"), *([_NAMES[stored]] if stored in _NAMES else []))
    return EngineLayer(
        name=str(entry.get("Name", "")),
        kind=str(entry.get("LayerType", "")),
        inputs=types("Inputs"),
        constants=constants,
        outputs=types("Outputs"),
        nodes=tuple(nodes_of(entry)),
    )


def _arithmetic(layers: Sequence[EngineLayer]) -> EngineLayer:
    """Of the layers that name a node, the one that does its arithmetic; the others prepare it, or finish it off."""
    last = ("runtime_fusion", "kgen", *_AUXILIARY)
    return min(layers, key=lambda layer: last.index(layer.kind.lower()) + 1 if layer.kind.lower() in last else 0)


def _type(layer: EngineLayer, role: QuantizationRole | None) -> str:
    if role is None:
        return _computed(layer) or _weights(layer) or _float(layer)
    own = role.float_type or _float(layer)
    if not role.may_be_narrow:
        return (_weights(layer) if role.kind == "product" and any(role.operands) else "") or own
    if role.kind == "mover":
        return _first(ARITHMETIC, [*layer.inputs, *layer.outputs]) or own
    return _computed(layer) or own


def _computed(layer: EngineLayer) -> str:
    """The narrow type that the layer computes in, "" where that is a float."""
    if layer.kind == "runtime_fusion" and _first(FLOATS, [*layer.inputs, *layer.constants]):
        return ""
    return _first(ARITHMETIC, layer.inputs)


def _weights(layer: EngineLayer) -> str:
    """What the product is called that reads float activations and narrow weights, "" where it does not."""
    if _first(ARITHMETIC, layer.inputs) or layer.kind == "kgen":
        return ""
    return _first(STORAGE, layer.constants) or (
        f"{narrow}-weights" if (narrow := _first(ARITHMETIC, layer.constants)) else ""
    )


def _float(layer: EngineLayer) -> str:
    """The type that a layer computes in if in none that is narrow.

    A library's kernel reads it. A generated one may begin at a product's Float accumulators and end in integers: the
    narrowest float that it handles is the network's.
    """
    if layer.generated:
        dtype = _first(FLOATS, [*layer.inputs, *layer.constants, *layer.outputs])
    else:
        dtype = _first(FLOATS, layer.inputs)
    other = next(iter([*layer.inputs, *layer.outputs]), "")
    return dtype or TYPES.get(other, other.lower())


def _first(wanted: Iterable[str], present: Iterable[str]) -> str:
    """The first of the wanted types that is present, by its ONNX name."""
    here = set(present)
    return next((TYPES[name] for name in wanted if name in here), "")
