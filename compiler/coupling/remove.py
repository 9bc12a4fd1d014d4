"""Removal: cut every constant along the axes that lose units, and let every node that counts positions follow.

Names of values stay, so that what was removed can be stated position by position. Numbers that nodes carry follow by
the rules of the operator table. Constants of external data are cut one at a time, when the model is saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphpress.analysis.views import view_of
from graphpress.coupling.groups import Coupling
from graphpress.coupling.kept import Kept
from graphpress.errors import GraphpressError
from graphpress.ir import (
    Editor,
    ExternalTensor,
    Model,
    Node,
    Shape,
    Tensor,
    Value,
    constant,
    is_constant,
)
from graphpress.ir.encoding import (
    EncodedTensor,
    compress,
    encoding_of,
    override_of,
    override_use,
    set_encoding,
    sliced_encoding,
    sliced_tensor,
)
from graphpress.ops import lookup
from graphpress.ops.shrink import Masks, Shrink

Keep = Mapping[str, np.ndarray]
"""For groups by name: which units stay, boolean. Groups that are not named stay whole."""


def remove(model: Model, coupling: Coupling, keep: Keep) -> dict[str, Kept]:
    """Remove units, in place.

    Args:
        model: the model that was coupled; its graph has not changed since.
        coupling: its groups.
        keep: what stays of which group.

    Returns:
        For each value that lost positions, by name, the kept positions of each axis.

    Raises:
        GraphpressError: a mask does not fit its group, or leaves nothing of it.
    """
    masks = _masks(coupling, keep)
    edit = Editor(model)
    for node in list(model.graph):
        reads = tuple(None if value is None else masks.get(value) for value in node.inputs)
        writes = tuple(masks.get(value) for value in node.outputs)
        _cut_overrides(node, reads)
        spec = lookup(node.op_type, node.domain)
        if spec is not None and spec.shrink is not None and any(cut is not None for cut in (*reads, *writes)):
            spec.shrink(Shrink(view_of(node, coupling.shapes), reads, writes, edit))
    for value, cut in masks.items():
        if is_constant(value):
            _cut(value, cut, edit)
        else:
            _declare(value, cut)
    return {value.name or "": tuple(map(_positions, cut)) for value, cut in masks.items()}


def _masks(coupling: Coupling, keep: Keep) -> dict[Value, Masks]:
    """Which positions of which axes stay; values that lose nothing are left out."""
    cuts: dict[Value, list[np.ndarray | None]] = {}
    groups = {group.name: group for group in coupling.groups}
    for name, units in keep.items():
        group = groups.get(name)
        if group is None or units.dtype != bool or units.shape != (group.size,) or not units.any():
            raise GraphpressError(
                "the units to keep do not fit the group",
                where=name,
                fix="give one boolean per unit, and keep at least one",
            )
        if units.all():
            continue
        stays = np.append(units, True)  # position -1: not of this group
        for place in (*group.constants, *group.features):
            masks = cuts.setdefault(place.value, [None] * len(coupling.channels.axes[place.value]))
            before, mask = masks[place.axis], stays[place.units]
            masks[place.axis] = mask if before is None else before & mask  # an axis may hold several groups
    return {value: tuple(masks) for value, masks in cuts.items()}


def _positions(mask: np.ndarray | None) -> np.ndarray | None:
    return None if mask is None else np.flatnonzero(mask)


# -- constants and shapes -------------------------------------------------------------------------------------


def _cut(value: Value, masks: Masks, edit: Editor) -> None:
    """Keep what stays of a constant, of its codes where it has some, and of the scales of its encoding."""
    encoding = encoding_of(value)
    node, tensor = value.producer(), value.const_value
    if node is not None:
        _cut_node(node, masks, edit)
    elif isinstance(tensor, (EncodedTensor, ExternalTensor)):
        edit.set_constant(value, sliced_tensor(tensor, masks))
    else:
        array = constant(value)
        assert array is not None
        edit.set_constant(value, compress(array, masks))
    if encoding is not None:
        set_encoding(value, sliced_encoding(encoding, masks))


def _cut_node(node: Node, masks: Masks, edit: Editor) -> None:
    """The same for a Constant node, which stays: whatever attribute held the numbers, ``value`` does now."""
    result = node.outputs[0]
    array = constant(result)
    assert array is not None
    attributes: dict[str, Any] = {**dict.fromkeys(node.attributes), "value": Tensor(compress(array, masks))}
    edit.set_attributes(node, **attributes)
    result.shape = Shape(attributes["value"].shape.numpy())


def _cut_overrides(node: Node, reads: Sequence[Masks | None]) -> None:
    """The same for the encodings in which this node alone reads its inputs."""
    for index, (value, masks) in enumerate(zip(node.inputs, reads, strict=True)):
        if value is None or masks is None:
            continue
        override = override_of(node, index)
        if override is not None and not isinstance(override, str):
            override_use(node, index, sliced_encoding(override, masks))


def _declare(value: Value, masks: Masks) -> None:
    """The scales and new sizes of an activation, where its sizes were declared as numbers; an axis of symbolic size
    becomes open, for it may hold the batch as well.
    """
    if (encoding := encoding_of(value)) is not None:
        set_encoding(value, sliced_encoding(encoding, masks))
    if value.shape is not None:
        known = value.shape if len(value.shape) == len(masks) else [None] * len(masks)  # what is declared may be wrong
        pairs = zip(known, masks, strict=True)
        open_or = [dim if mask is None else int(mask.sum()) if isinstance(dim, int) else None for dim, mask in pairs]
        value.shape = Shape(open_or)
