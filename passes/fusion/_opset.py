"""Whether a node keeps its meaning in a newer operator set, and the change of form that it needs there.

Each version of an operator is compared with the next by its schema: operands and attributes must keep their names,
types and defaults, and what is new must be optional. The few versions that changed the meaning behind an unchanged
signature, and those that turned an attribute into an input, are data below.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx.defs

from graphpress.ir import Editor, Node, input_of, int_attribute, rank_of

BEHAVES_DIFFERENTLY = {
    ("BatchNormalization", 7),  # without is_test it trained before
    ("DFT", 20),  # the default axis is the last but one, not the first
    ("Dropout", 7),  # without is_test it trained before
    ("GridSample", 20),  # the modes have other names
    ("GroupNormalization", 21),  # a scale for each channel, not for each group
    ("Hardmax", 13),  # along one axis, not along all from it on
    ("PRelu", 7),  # the slope is aligned at the end, not with the channels
    ("Resize", 11),  # pixels have centers
    ("RoiAlign", 16),  # likewise
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
    **{(f"Reduce{kind}", 18): {"axes": 1} for kind in REDUCTIONS},
}
"""Attributes that are inputs from a version on: the index of the input, by name."""

FLATTENING = ("Softmax", "LogSoftmax")
"""Operators that until version 13 work on all axes from theirs on."""

Change = Callable[[Editor], None]


def carry_over(node: Node, old: int, new: int) -> list[Change] | str:
    """The changes that express ``node``, written for operator set ``old``, in ``new``; or why there are none."""
    versions = [version for version in _versions(node.op_type) if version <= new]
    if not versions:
        return f"{node.op_type} is no standard operator"
    current = max((version for version in versions if version <= old), default=None)
    if current is None:
        return f"{node.op_type} is newer than the operator set {old} of the model"
    changes: list[Change] = []
    attributes = set(node.attributes)
    for version in (version for version in versions if version > current):
        step = _step(node, attributes, current, version)
        if isinstance(step, str):
            return f"{node.op_type} {step} in operator set {version}"
        changes, current = [*changes, *step], version
        attributes -= set(BECAME_INPUTS.get((node.op_type, version), ()))
    return changes


def _step(node: Node, attributes: set[str], old: int, new: int) -> list[Change] | str:
    """The changes from one version of the operator to the next, for a node that has these attributes by then."""
    before, after = (onnx.defs.get_schema(node.op_type, version, "") for version in (old, new))
    if after.deprecated:
        return "was removed"
    if (node.op_type, new) in BEHAVES_DIFFERENTLY:
        return "changed its meaning"
    if node.op_type in FLATTENING and new == 13:
        return _single_axis(node)
    moved = BECAME_INPUTS.get((node.op_type, new), {})
    why = _attributes_changed(attributes - set(moved), before, after) or _operands_changed(node, before, after)
    if why is not None:
        return why
    changes = [_move(node, name, index) for name, index in moved.items() if name in attributes]
    return [*changes, _count_outputs(node)] if (node.op_type, new) == ("Split", 18) else changes


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
    for kind, count, old, new in (
        ("input", len(node.inputs), before.inputs, after.inputs),
        ("output", len(node.outputs), before.outputs, after.outputs),
    ):
        for index in range(min(count, len(old))):
            if index >= len(new) or not set(old[index].types) <= set(new[index].types):
                return f"changed its {kind} {old[index].name}"
    return None


def _single_axis(node: Node) -> list[Change] | str:
    axis, rank = int_attribute(node, "axis", 1), rank_of(node.inputs[0])
    if axis != -1 and (rank is None or axis % rank != rank - 1):
        return "stops flattening the axes behind its own"
    return [lambda edit: edit.set_attributes(node, axis=-1)]


def _count_outputs(node: Node) -> Change:
    """The change that states the number of parts of a Split into equal ones."""

    def change(edit: Editor) -> None:
        if input_of(node, 1) is None:
            edit.set_attributes(node, num_outputs=len(node.outputs))

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
    if not isinstance(value, float):
        return np.dtype(np.int64)
    source = node.inputs[0]
    known = None if source is None or node.op_type == "Dropout" else source.dtype
    return np.dtype(np.float32) if known is None else np.dtype(known.numpy())


@cache
def _history() -> dict[str, tuple[int, ...]]:
    history: dict[str, set[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            history.setdefault(schema.name, set()).add(schema.since_version)
    return {name: tuple(sorted(versions)) for name, versions in history.items()}


def _versions(op_type: str) -> tuple[int, ...]:
    return _history().get(op_type, ())
