"""Scaling and shifting the channels of a layer that is linear in a constant weight.

    layer(x, W, b)·s + t = layer(x, W·s, b·s + t)          per output channel
    layer(x·s + t, W, b) = layer(x, W·s, b + Σ W·t)        per input channel

A layer is a Conv, ConvTranspose, Gemm or MatMul. Whatever its kind, its weight is viewed as
[group, channels in, channels out, kernel positions], and the two lines above are written once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphpress.ir import (
    Editor,
    Match,
    Node,
    Refusal,
    Value,
    constant,
    float_attribute,
    has_one_use,
    input_of,
    int_attribute,
    ints_attribute,
    is_constant,
    is_standard,
    only_reader,
    producer,
    rank_of,
    string_attribute,
)
from graphpress.ir.encoding import read_encoding
from graphpress.passes.operands import is_annotated, is_encoded, is_overridden

CONVOLUTIONS = ("Conv", "ConvTranspose")
LINEAR = (*CONVOLUTIONS, "Gemm", "MatMul")


@dataclass(frozen=True)
class Affine:
    """``x·scale + shift`` by channel: float64 arrays of one element a channel, or of one for all of them."""

    scale: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Layer:
    """A linear node with its constants.

    Args:
        node: the Conv, ConvTranspose, Gemm or MatMul.
        weight: as stored in the model.
        bias: one element for each output channel in float64, all zero when there is none.
        groups: of a convolution, else 1.
    """

    node: Node
    weight: np.ndarray
    bias: np.ndarray
    groups: int = 1

    @property
    def rank(self) -> int | None:
        """The number of axes of its result."""
        return self.weight.ndim if self.node.op_type != "MatMul" else rank_of(self.node.inputs[0])

    @property
    def channel_axis(self) -> int:
        """The axis of the channels, in its input and in its result alike."""
        return 1 if self.node.op_type in CONVOLUTIONS else -1

    @property
    def channels_in(self) -> int:
        """The number of channels that it reads."""
        view = _view(self.weight, self)
        return int(view.shape[0] * view.shape[1])

    @property
    def channels_out(self) -> int:
        """The number of channels of its result."""
        view = _view(self.weight, self)
        return int(view.shape[0] * view.shape[2])


@dataclass(frozen=True)
class Folded:
    """A layer's new constants: the weight as the model stores it, the bias in the weight's dtype or None."""

    layer: Layer
    weight: np.ndarray
    bias: np.ndarray | None


def fold(node: Node, source: Value, affine_for: Callable[[Layer], Affine | Refusal | None]) -> Match | Refusal | None:
    """How the affine ``node`` can go into the layer that computes its ``source``, or else into the one that reads it.

    ``affine_for`` says what the node does to the channels of that layer; the match is for ``rewrite``.
    """
    refusal = None
    for feeds, layer in ((True, layer_before(node, source)), (False, layer_after(node))):
        affine = affine_for(layer) if isinstance(layer, Layer) else layer
        if isinstance(layer, Layer) and isinstance(affine, Affine):
            found = scale_outputs(layer, affine) if feeds else scale_inputs(layer, affine)
            if isinstance(found, Folded) and is_annotated(node):
                return Refusal.at(
                    node, "it is quantised already, or says how it reads an input", "fuse before quantising"
                )
            if isinstance(found, Folded):
                return Match(node=node, source=source, folded=found, feeds=feeds)
            refusal = refusal or found
        elif isinstance(affine, Refusal):
            refusal = refusal or affine
    return refusal


def rewrite(match: Match, edit: Editor) -> None:
    """Change the layer's constants and drop the node that they now stand for."""
    result = write(edit, match.folded, match.node)
    edit.replace(match.node.outputs[0], result if match.feeds else match.source)
    edit.remove(match.node)


def layer_before(node: Node, value: Value | None) -> Layer | Refusal | None:
    """The linear layer that computes ``value`` for ``node`` alone; None when another kind of node does."""
    layer = producer(value, *LINEAR)
    if layer is None or value is None or layer.graph is not node.graph:
        return None
    found = read_layer(layer)
    if isinstance(found, Layer) and not only_reader(value, node):
        return Refusal.at(layer, "its result has another reader, which would see the changed values")
    return _unless_quantised(value, found)


def layer_after(node: Node) -> Layer | Refusal | None:
    """The linear layer that alone reads the result of ``node``, as its first input; None when there is none."""
    result = node.outputs[0]
    if not has_one_use(result):
        return None
    (use,) = result.uses()
    if use.idx != 0 or not is_standard(use.node, *LINEAR) or use.node.graph is not node.graph:
        return None
    return _unless_quantised(result, read_layer(use.node))


def _unless_quantised(between: Value, found: Layer | Refusal | None) -> Layer | Refusal | None:
    """The layer, refused where the value between it and the node is rounded: that happens between the two."""
    if isinstance(found, Layer) and (is_encoded(between) or is_overridden(between)):
        return Refusal.at(between, "it is quantised between the two", "fuse before quantising")
    return found


def read_layer(node: Node) -> Layer | Refusal | None:
    """The layer with its constants, a refusal when they cannot be changed, None for a product of two variables."""
    if node.op_type == "MatMul" and rank_of(node.inputs[1]) != 2:
        return None
    stored = input_of(node, 1)
    weight = constant(stored)
    if weight is None or stored is None:
        if node.op_type in CONVOLUTIONS:
            return Refusal.at(stored, "the weight is not constant", "run fold_constants first")
        return None
    if any(read_encoding(node, index) is not None for index in range(1, len(node.inputs))):
        return Refusal.at(node, "its weight or its bias is quantised", "fuse before quantising")
    if not is_floating(weight):
        return Refusal.at(stored, f"the weight is of type {weight.dtype}, which holds no fractions")
    if not has_one_use(stored):
        return Refusal.at(stored, "the weight has another reader, and a changed copy would make the model larger")
    bias = _bias(node, weight)
    return bias if isinstance(bias, Refusal) else Layer(node, weight, bias, int_attribute(node, "group", 1))


def scale_outputs(layer: Layer, affine: Affine) -> Folded | Refusal:
    """Let the layer compute what ``affine`` makes of its result."""
    view = _view(layer.weight, layer)
    groups, _, per_group, _ = view.shape
    scale = np.broadcast_to(affine.scale, (groups * per_group,))
    with np.errstate(invalid="ignore"):
        bias = layer.bias * affine.scale + affine.shift
    return _folded(layer, _times(view, scale.reshape(groups, 1, per_group, 1)), bias)


def scale_inputs(layer: Layer, affine: Affine) -> Folded | Refusal:
    """Let the layer read what ``affine`` is applied to; exact only where no padding hides the shift."""
    node, shifts = layer.node, bool(np.any(affine.shift != 0))
    if int_attribute(node, "transA", 0):
        return Refusal.at(node, "it reads its input transposed, so that the channels are not where they seem")
    if shifts and not _sees_every_input_alike(node):
        return Refusal.at(node, "its padding is zero, not the shift, so that the border would change")
    if shifts and node.op_type == "MatMul":
        return Refusal.at(node, "it has no bias that could take the shift")
    view = _view(layer.weight, layer)
    groups, per_group, _, _ = view.shape
    scale, shift = (
        np.broadcast_to(array, (groups * per_group,)).reshape(groups, per_group)
        for array in (affine.scale, affine.shift)
    )
    bias = layer.bias
    if shifts:
        bias = bias + np.einsum("giok,gi->go", view, shift).reshape(-1) * float_attribute(node, "alpha", 1.0)
    return _folded(layer, _times(view, scale[:, :, None, None]), bias)


def write(edit: Editor, folded: Folded, before: Node) -> Value:
    """Give the layer its new constants and return its result; a MatMul's bias becomes an Add ahead of ``before``."""
    node, bias = folded.layer.node, folded.bias
    edit.own_constant(node, 1, folded.weight)
    if bias is None:
        return node.outputs[0]
    if node.op_type == "MatMul":
        shift = edit.add_constant_for(before, bias, f"{node.name or 'MatMul'}_bias")
        return edit.add_node("Add", [node.outputs[0], shift], before=before).outputs[0]
    edit.own_constant(node, 2, bias, None if input_of(node, 2) is not None else f"{node.name or node.op_type}_bias")
    if node.op_type == "Gemm":
        edit.set_attributes(node, beta=None)
    return node.outputs[0]


def is_floating(array: np.ndarray) -> bool:
    """Whether the array is of a float type that arithmetic is done in, bfloat16 included."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _bias(node: Node, weight: np.ndarray) -> np.ndarray | Refusal:
    """The bias as one float64 for each output channel."""
    channels = _channels_out(node, weight)
    stored = input_of(node, 2)
    if stored is None or node.op_type == "MatMul":
        return np.zeros(channels)
    if not is_constant(stored):
        return Refusal.at(stored, "the bias is not constant", "run fold_constants first")
    array = constant(stored)
    assert array is not None
    if array.size != 1 and (array.size != channels or array.shape[-1] != channels):
        return Refusal.at(stored, f"the bias of shape {list(array.shape)} is not one number for each channel")
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,)) * float_attribute(node, "beta", 1.0)


def _channels_out(node: Node, weight: np.ndarray) -> int:
    if node.op_type == "ConvTranspose":
        return int(weight.shape[1]) * int_attribute(node, "group", 1)
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not int_attribute(node, "transB", 0)):
        return int(weight.shape[1])
    return int(weight.shape[0])


def _view(weight: np.ndarray, layer: Layer) -> np.ndarray:
    """The stored weight as [group, channels in, channels out, kernel positions], without copying where possible."""
    node, groups = layer.node, layer.groups
    if node.op_type == "Conv":
        return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1).transpose(0, 2, 1, 3)
    if node.op_type == "ConvTranspose":
        return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    matrix = weight.T if int_attribute(node, "transB", 0) else weight
    return matrix[None, :, :, None]


def _stored(view: np.ndarray, layer: Layer) -> np.ndarray:
    """The inverse of ``_view``."""
    if layer.node.op_type == "Conv" or int_attribute(layer.node, "transB", 0):
        view = view.transpose(0, 2, 1, 3)
    stored: np.ndarray = np.ascontiguousarray(view).reshape(layer.weight.shape)
    return stored


def _times(view: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The product in float32, or in float64 for a float64 weight: one rounding more than the exact result."""
    wide = np.float64 if view.dtype == np.float64 else np.float32
    with np.errstate(invalid="ignore", over="ignore"):
        product: np.ndarray = view.astype(wide, copy=False) * scale.astype(wide)
    return product


def _folded(layer: Layer, view: np.ndarray, bias: np.ndarray) -> Folded | Refusal:
    dtype = layer.weight.dtype
    with np.errstate(over="ignore"):
        weight, rounded = _stored(view, layer).astype(dtype, copy=False), bias.astype(dtype)
    if not (np.isfinite(weight).all() and np.isfinite(rounded).all()):
        return Refusal.at(layer.node, f"the folded weights leave the range of {dtype}")
    present = input_of(layer.node, 2) is not None or bool(np.any(rounded != 0))
    return Folded(layer, weight, rounded if present else None)


def _sees_every_input_alike(node: Node) -> bool:
    """Whether each result is a sum over the same weights: no zero padding, no partial overlap."""
    if node.op_type == "ConvTranspose":
        return False
    if node.op_type != "Conv":
        return True
    return string_attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID") and not any(
        ints_attribute(node, "pads") or ()
    )
