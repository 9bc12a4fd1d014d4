"""Trained parameters back into the initializers of a model, with the encodings that go with them.

A weight that is held as integers is encoded anew: its scales follow its magnitude as they did while it trained
(``fake_quantize``), and so do derived scales of the biases beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from graphpress import ops
from graphpress.ir import Editor, Graph, Model, Node, Value, constant, graphs, input_of, readers
from graphpress.ir.encoding import AffineEncoding, encoding_of, override_use, read_encoding, set_encoding, static_affine
from graphpress.torch_bridge.errors import BridgeError
from graphpress.torch_bridge.fake_quantize import leader_of, renewed
from graphpress.torch_bridge.tensors import to_array

_FIX = "write back into the model that the parameters came from, or a clone of it"


@dataclass(frozen=True)
class _Change:
    """One weight before and after."""

    before: np.ndarray
    after: np.ndarray


@dataclass(frozen=True)
class _Renewal:
    """An encoding to be set again: of a value, or of the use of it by ``node`` at ``index``."""

    value: Value
    encoding: AffineEncoding
    node: Node | None = None
    index: int = 0


def write_parameters(parameters: Mapping[str, Tensor], model: Model) -> int:
    """Write parameters that changed, in place.

    Returns:
        How many constants were written.

    Raises:
        BridgeError: an initializer is missing or has another shape, or a parameter is not finite; nothing is written.
    """
    owners = {
        name: value for graph in graphs(model) if isinstance(graph, Graph) for name, value in graph.initializers.items()
    }
    changes = {}
    for name in sorted(parameters):
        change = _change(name, parameters[name], owners.get(name))
        if not np.array_equal(change.before, change.after):
            changes[owners[name]] = change
    renewals = _renewals(changes)
    edit = Editor(model)
    for value, change in changes.items():
        edit.set_constant(value, change.after)
    for renewal in renewals:
        if renewal.node is None:
            set_encoding(renewal.value, renewal.encoding)
        else:
            override_use(renewal.node, renewal.index, renewal.encoding)
    return len(changes)


def _change(name: str, parameter: Tensor, owner: Value | None) -> _Change:
    before = constant(owner)
    if before is None:
        raise BridgeError("the model has no initializer of this name", where=name, fix=_FIX)
    after = to_array(parameter)
    if after.shape != before.shape:
        raise BridgeError(f"it is {before.shape} in the model and {after.shape} in PyTorch", where=name, fix=_FIX)
    after = after.astype(before.dtype)
    if not np.isfinite(after.astype(np.float64)).all():
        raise BridgeError("it is not finite after training", where=name, fix="train with a lower learning rate")
    return _Change(before, after)


def _renewals(changes: Mapping[Value, _Change]) -> list[_Renewal]:
    """Encodings of what changed, and derived ones that follow it."""
    renewals: list[_Renewal] = []
    for value in dict.fromkeys([*changes, *_biases(changes)]):
        default, overridden = static_affine(encoding_of(value)), []
        for use in value.uses():
            encoding = static_affine(read_encoding(use.node, use.idx))
            if encoding is not None and encoding != default:
                overridden.append(_Renewal(value, _renewed(value, encoding, [use.node], changes), use.node, use.idx))
        if default is not None:
            renewals.append(_Renewal(value, _renewed(value, default, readers(value), changes)))
        renewals += overridden
    return renewals


def _biases(changes: Mapping[Value, _Change]) -> list[Value]:
    """Biases whose scale is derived from that of a weight that changed."""
    biases = []
    for value in changes:
        for use in value.uses():
            spec = ops.lookup(use.node.op_type, use.node.domain)
            if spec is None or spec.quantization.weight != use.idx or spec.quantization.bias is None:
                continue
            bias = input_of(use.node, spec.quantization.bias)
            encoding = None if bias is None else read_encoding(use.node, spec.quantization.bias)
            if bias is not None and encoding is not None and encoding.derived:
                biases.append(bias)
    return biases


def _renewed(
    value: Value, encoding: AffineEncoding, nodes: list[Node], changes: Mapping[Value, _Change]
) -> AffineEncoding:
    leaders = (leader_of(value, encoding, node) for node in nodes)
    leader = next((leader for leader in leaders if leader is not None), None)
    if leader is None or leader[0] not in changes:
        return encoding
    change = changes[leader[0]]
    return renewed(encoding, leader[1], change.before, change.after)
