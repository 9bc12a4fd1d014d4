"""Whether a node keeps its meaning in a newer operator set, and the change of form that it needs there.

Each version of an operator is compared with the next by its schema: operands and attributes must keep their names,
types and defaults, and what is new must be optional. The few versions that changed the meaning behind an unchanged
signature, those that turned an attribute into an input, and the operators that go on under another name are data below.
Where the newer set says exactly the same in another way, it is said so:

    Softmax over the axes from k on   =  Softmax over the only one of them that is not 1,
                                         else Reshape(Softmax(Flatten(x, k), axis=−1), Shape(x))
    Upsample(x, scales)               =  Resize(x, scales) at i ↦ i / scale, rounded down
    GroupNormalization(x, s, b)       =  the same with every element of s and b once for each channel of its group
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import onnx.defs

from graphpress.ir import Editor, Node, TensorType, Value, constant, dims_of, input_of, int_attribute, string_attribute

BEHAVES_DIFFERENTLY = {
    ("BatchNormalization", 7),  # without is_test it trained before
    ("DFT", 20),  # the default axis is the last but one, not the first
    ("Dropout", 7),  # without is_test it trained before
    ("PRelu", 7),  # the slope is aligned at the end, not with the channels
}
"""Versions with the signature of the one before and another meaning."""

REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
BECAME_INPUTS: dict[tuple[str, int], dict[str, int]] = {
    ("Clip", 11): {"min": 1, "max": 2},
    ("Dropout", 12): {"ratio": 1},
    ("Pad", 11): {"pads": 1, "value": 2},
    ("ReduceSum", 13): {"axes": 1},
    ("Reshape", 5): {"shape": 1},
    ("Slice", 10): {"starts": 1, "ends": 2, "axes": 3},
    ("Split", 13): {"split": 1},
    ("Squeeze", 13): {"axes": 1},
    ("TopK", 10): {"k": 1},
    ("Unsqueeze", 13): {"axes": 1},
    ("Upsample", 9): {"scales": 1},
    **{(f"Reduce{kind}", 18): {"axes": 1} for kind in REDUCTIONS},
}
"""Attributes that are inputs from a version on: the index of the input, by name."""

RENAMED = {("Scatter", 11): "ScatterElements", ("Upsample", 10): "Resize"}
"""Operators that go on under another name from a version on."""

FLOAT32_SETTINGS = ("Dropout", "Upsample")
"""Operators whose numbers that became inputs are float32, whatever they work on."""

Change = Callable[[Editor], None]


def carry_over(node: Node, old: int, new: int) -> list[Change] | str:
    """The changes that express ``node``, written for operator set ``old``, in ``new``; or why there are none.

    A plugin, which no operator set of the standard has, is in all of them what it is.
    """
    op_type = node.op_type
    if not _versions(op_type):
        return []
    current = max((version for version in _versions(op_type) if version <= old), default=None)
    if current is None:
        return f"{op_type} is newer than the operator set {old} of the model"
    changes: list[Change] = []
    attributes = set(node.attributes)
    while (version := _next_version(op_type, current)) <= new:
        renamed = RENAMED.get((op_type, version))
        step = [_rename(node, renamed)] if renamed else _step(node, op_type, attributes, (current, version))
        if isinstance(step, str):
            return f"{node.op_type} {step} in operator set {version}"
        attributes -= set(BECAME_INPUTS.get((op_type, version), ()))
        changes, current, op_type = [*changes, *step], version, renamed or op_type
    return changes


def _step(node: Node, op_type: str, attributes: set[str], versions: tuple[int, int]) -> list[Change] | str:
    """The changes from one version of the operator to the next.

    Args:
        node: as it is before all changes.
        op_type: the operator that it is by then.
        attributes: those that it has by then.
        versions: the one and the next.
    """
    before, after = (onnx.defs.get_schema(op_type, version, "") for version in versions)
    if after.deprecated:
        return "was removed"
    if (op_type, versions[1]) in BEHAVES_DIFFERENTLY:
        return "changed its meaning"
    if convert := CONVERSIONS.get((op_type, versions[1])):
        return convert(node)
    moved = BECAME_INPUTS.get((op_type, versions[1]), {})
    why = _attributes_changed(attributes - set(moved), before, after) or _operands_changed(node, before, after)
    if why is not None:
        return why
    changes = [_move(node, name, index) for name, index in moved.items() if name in attributes]
    return [*changes, *_forget_unread(node, before, after)]


def _attributes_changed(given: set[str], before: onnx.defs.OpSchema, after: onnx.defs.OpSchema) -> str | None:
    """Which attribute that the node has, or whose default it relies on, did not stay."""
    for name in sorted(given - set(after.attributes)):
        return f"lost its attribute {name}"
    for name, attribute in after.attributes.items():
        known = before.attributes.get(name)
        if name in given:
            if known is not None and known.type != attribute.type:
                return f"expresses its attribute {name} in another type"
            continue
        if attribute.required and (known is None or not known.required):
            return f"requires the attribute {name}"
        if known is not None and known.default_value != attribute.default_value:
            return f"changed the default of its attribute {name}"
    return None


def _operands_changed(node: Node, before: onnx.defs.OpSchema, after: onnx.defs.OpSchema) -> str | None:
    """Which operand that counts is not, or not of its type, in the newer version."""
    for kind, values, old, new in (
        ("input", node.inputs, before.inputs, after.inputs),
        ("output", node.outputs, before.outputs, after.outputs),
    ):
        for index, value in enumerate(values[: len(old)]):
            if value is None or (kind == "output" and not _is_read(value)):
                continue
            if index >= len(new) or not _types_of(value, old[index]) <= set(new[index].types):
                return f"changed its {kind} {old[index].name}"
    return None


def _is_read(value: Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _types_of(value: Value, formal: onnx.defs.OpSchema.FormalParameter) -> set[str]:
    """The type that a value has, or all that it may have."""
    known = value.type if value.const_value is None else TensorType(value.const_value.dtype)
    types = set(formal.types)
    return types & {f"tensor({known.dtype.name.lower()})"} or types if isinstance(known, TensorType) else types


def _forget_unread(node: Node, before: onnx.defs.OpSchema, after: onnx.defs.OpSchema) -> list[Change]:
    """The change that forgets the type of what nobody reads, where the newer version makes another."""
    unread = [
        value
        for value, old, new in zip(node.outputs, before.outputs, after.outputs, strict=False)
        if not _is_read(value) and set(old.types) != set(new.types)
    ]

    def change(edit: Editor) -> None:
        for value in unread:
            value.type = None

    return [change] if unread else []


def _rename(node: Node, op_type: str) -> Change:
    def change(edit: Editor) -> None:
        node.op_type = op_type

    return change


def _move(node: Node, name: str, index: int) -> Change:
    """The change that turns an attribute into the constant input at ``index``."""

    def change(edit: Editor) -> None:
        value = node.attributes[name].value
        array = np.array([value] if name == "k" else value, dtype=_dtype(node, value))
        constant = edit.add_constant_for(node, array, f"{node.name or node.op_type}_{name}")
        edit.set_attributes(node, **{name: None})
        edit.set_input(node, index, constant)

    return change


def _dtype(node: Node, value: object) -> np.dtype:
    """Integers are int64; a limit or fill is of the type of the first input, which float32 is where that is unknown."""
    if not isinstance(value[0] if isinstance(value, Sequence) and value else value, float):
        return np.dtype(np.int64)
    source = node.inputs[0]
    known = None if source is None or node.op_type in FLOAT32_SETTINGS else source.dtype
    return np.dtype(np.float32) if known is None else np.dtype(known.numpy())


# -- the same in another way ----------------------------------------------------------------------------------


def _single_axis(node: Node) -> list[Change]:
    """Work along one axis, where until now all axes from one on were one."""
    axis, dims = int_attribute(node, "axis", 1), dims_of(node.inputs[0])
    if axis == -1:
        return [lambda edit: edit.set_attributes(node, axis=-1)]
    if dims is None:
        return [lambda edit: _flatten(node, axis, edit)]
    start = axis % len(dims) if dims else 0
    long = [index for index in range(start, len(dims)) if dims[index] != 1]
    if len(long) > 1:
        return [lambda edit: _flatten(node, start, edit)]
    only = long[0] if long else -1
    return [lambda edit: edit.set_attributes(node, axis=-1 if only == len(dims) - 1 else only)]


def _flatten(node: Node, axis: int, edit: Editor) -> None:
    source, result = node.inputs[0], node.outputs[0]
    shape = edit.add_node("Shape", [source], before=node)
    flat = edit.add_node("Flatten", [source], {"axis": axis}, before=node)
    flat.outputs[0].type = result.type
    edit.set_input(node, 0, flat.outputs[0])
    edit.set_attributes(node, axis=-1)
    back = edit.add_node("Reshape", [result, shape.outputs[0]], after=node)
    edit.replace(result, back.outputs[0])
    edit.set_input(back, 0, result)
    result.shape = None


def _between_pixels(node: Node) -> list[Change] | str:
    """State where a Resize of before set 11 takes its samples: at i / scale, rounded down where it enlarges."""
    scales = node.attributes["scales"].as_floats() if "scales" in node.attributes else constant(input_of(node, 1))
    enlarges = node.op_type == "Upsample" or (scales is not None and bool(np.all(np.asarray(scales) >= 1)))
    if string_attribute(node, "mode", "nearest") == "nearest" and not enlarges:
        return "rounds positions otherwise"

    def change(edit: Editor) -> None:
        edit.set_input(node, 2, node.inputs[1])
        edit.set_input(node, 1, edit.add_constant_for(node, np.zeros(0, np.float32), f"{node.name}_roi"))
        edit.set_attributes(node, coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    return [change]


def _per_channel(node: Node) -> list[Change] | str:
    """Give every channel the scale and bias of its group."""
    dims, groups = dims_of(node.inputs[0]), int_attribute(node, "num_groups", 0)
    operands = [constant(input_of(node, index)) for index in (1, 2)]
    channels = None if dims is None or len(dims) < 2 else dims[1]
    if channels is None or not groups or any(operand is None for operand in operands):
        return "takes a scale for each channel instead of each group"

    def change(edit: Editor) -> None:
        for index, operand in enumerate(operands, 1):
            assert operand is not None
            edit.own_constant(node, index, np.repeat(operand, channels // groups))

    return [change]


def _renamed_modes(node: Node) -> list[Change]:
    mode = string_attribute(node, "mode", "bilinear")
    return [lambda edit: edit.set_attributes(node, mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))]


def _count_outputs(node: Node) -> list[Change]:
    """State the number of parts of a Split into equal ones."""

    def change(edit: Editor) -> None:
        if input_of(node, 1) is None:
            edit.set_attributes(node, num_outputs=len(node.outputs))

    return [change]


CONVERSIONS: dict[tuple[str, int], Callable[[Node], list[Change] | str]] = {
    ("GridSample", 20): _renamed_modes,
    ("GroupNormalization", 21): _per_channel,
    ("Hardmax", 13): _single_axis,
    ("LogSoftmax", 13): _single_axis,
    ("Resize", 11): _between_pixels,
    ("RoiAlign", 16): lambda node: [
        lambda edit: edit.set_attributes(node, coordinate_transformation_mode="output_half_pixel")
    ],
    ("Softmax", 13): _single_axis,
    ("Split", 18): _count_outputs,
}
"""Versions that say the same in another way."""


def _next_version(op_type: str, version: int) -> int:
    """The version of an operator behind one, or one that no model has."""
    return min((newer for newer in _versions(op_type) if newer > version), default=sys.maxsize)


@cache
def _history() -> dict[str, tuple[int, ...]]:
    history: dict[str, set[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            history.setdefault(schema.name, set()).add(schema.since_version)
    return {name: tuple(sorted(versions)) for name, versions in history.items()}


def _versions(op_type: str) -> tuple[int, ...]:
    return _history().get(op_type, ())
