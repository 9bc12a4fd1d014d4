"""Products inside If, Loop and Scan: integer weights, arithmetic in float.

What flows through a body is not observed, so that its activations have no ranges. Weights need none. The integers lie
in the body that reads them, also those of a weight that several bodies capture: ONNX Runtime 1.32 decodes a captured
weight anew each time, and does not load one that is decoded inside.
"""

from __future__ import annotations

from graphpress.ir import Editor, Graph, Model, Node, Refusal, constant, graphs, has_one_use, input_of
from graphpress.ir.encoding import WEIGHT_ONLY, AffineEncoding, request_compute, set_encoding
from graphpress.manager.contract import Context
from graphpress.passes.quantize.quantize_weights import WEIGHT, QuantizeWeights

SMALLEST = 1 << 18
"""Numbers from which on a product by integers that are expanded is not slower, whether it has one row or 128."""


def encode_bodies(model: Model, context: Context) -> tuple[int, list[Refusal]]:
    """Encode the weights of products in bodies as far as the target expands them on the fly.

    Returns:
        How many there were, and why others stay float.
    """
    edit, count, refusals = Editor(model), 0, list[Refusal]()
    bodies = [graph for graph in graphs(model) if isinstance(graph, Graph) and graph is not model.graph]
    for node in [node for body in bodies for node in body]:
        encoding = _encoding(node, context) if node.op_type in context.target.quantization.body_ops else None
        if isinstance(encoding, Refusal):
            refusals.append(encoding)
        elif encoding is not None:
            _encode(node, encoding, edit)
            count += 1
    return count, refusals


def _encoding(node: Node, context: Context) -> AffineEncoding | Refusal | None:
    """The encoding of a constant weight, or why it stays float; None where there is none."""
    array = constant(input_of(node, WEIGHT))
    encoding = None if array is None else QuantizeWeights(dtype="int8").encoding(node, context)
    if array is None or not isinstance(encoding, AffineEncoding) or array.size >= SMALLEST:
        return encoding
    why = f"inside another node weights alone can be integers, and to expand {array.size} numbers would take longer"
    return Refusal.at(node, why, "move it into the main graph, or leave it float")


def _encode(node: Node, encoding: AffineEncoding, edit: Editor) -> None:
    weight = node.inputs[WEIGHT]
    array = constant(weight)
    assert weight is not None
    assert array is not None
    if weight.graph is not node.graph or not has_one_use(weight):
        own = edit.add_constant_for(node, array, f"{weight.name}_{node.name}")
        edit.set_input(node, WEIGHT, own)
        edit.drop_if_unused(weight)
        weight = own
    set_encoding(weight, encoding)
    request_compute(node, WEIGHT_ONLY)
