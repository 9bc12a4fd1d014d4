"""Sound operators on an edge between two nodes: what clean-up, fusion and quantization look for, and its edge cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, TensorProto, helper, numpy_helper

from mutants.draft import Draft, Mutation

SCALARS = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 1e-3, 6.0, float("inf"), float("-inf"), float("nan"), 1e30)
AXES_ARE_INPUTS = 18
"""From this operator set on, of all reductions."""


class Edge:
    """A float value of a graph, and the nodes that will stand between it and those that read it.

    Args:
        draft: the model.
        graph: where the value is.
        name: of the value.
        rank: of the value.
    """

    def __init__(self, draft: Draft, graph: GraphProto, name: str, rank: int) -> None:
        self.draft, self.graph, self.rank = draft, graph, rank
        self.value, self._source = name, name
        self._nodes: list[Any] = []
        self._stem = f"pattern{draft.random.randrange(10**6)}"

    def add(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node; what it makes is the value from now on."""
        names = [f"{self._stem}/{len(self._nodes)}" + (f".{index}" if index else "") for index in range(outputs)]
        self._nodes.append(helper.make_node(op_type, inputs or [self.value], names, **attributes))
        self.value = names[0]
        return names[0]

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        """A constant, as an initializer or as a node."""
        tensor = numpy_helper.from_array(np.asarray(array, dtype), f"{self._stem}/c{len(self.graph.initializer)}")
        if self.draft.random.random() < 0.5:
            self.graph.initializer.append(tensor)
            return tensor.name
        return self._beside("Constant", value=tensor)

    def _beside(self, op_type: str, **attributes: Any) -> str:
        value, made = self.value, self.add(op_type, "", **attributes)
        self._nodes[-1].input[:] = []
        self.value = value
        return made

    def reduce(self, op_type: str, value: str, axis: int) -> str:
        """Along one axis, which an attribute or an input names."""
        versions = {item.domain: item.version for item in self.draft.model.opset_import}
        if op_type != "ReduceSum" and versions.get("", 0) < AXES_ARE_INPUTS:
            return self.add(op_type, value, axes=[axis])
        return self.add(op_type, value, self.constant([axis], np.int64))

    def scalar(self) -> str:
        """A number, at some edge or ordinary."""
        return self.constant(self.draft.pick(SCALARS))

    def splice(self) -> None:
        """Put the nodes in, before one reader or before all."""
        readers = [
            (node, index) for node in self.graph.node for index, name in enumerate(node.input) if name == self._source
        ]
        chosen = readers if self.draft.random.random() < 0.5 else [self.draft.pick(readers)]
        first = min(list(self.graph.node).index(node) for node, _ in chosen)
        for node, index in chosen:
            node.input[index] = self.value
        nodes = [*list(self.graph.node)[:first], *self._nodes, *list(self.graph.node)[first:]]
        del self.graph.node[:]
        self.graph.node.extend(nodes)


def transposes(edge: Edge) -> None:
    """Two that cancel, or nearly."""
    order = edge.draft.random.sample(range(edge.rank), edge.rank)
    edge.add("Transpose", perm=order)
    if edge.draft.random.random() < 0.5:
        edge.add("Relu")
    edge.add("Transpose", perm=np.argsort(order).tolist())


def reshape_to_itself(edge: Edge) -> None:
    """By its own shape, by zeros, or through one axis."""
    value = edge.value
    word = edge.draft.pick(("shape", "zeros", "flat"))
    if word == "zeros":
        edge.add("Reshape", value, edge.constant([0] * edge.rank, np.int64))
        return
    shape = edge.add("Shape", value)
    if word == "flat":
        value = edge.add("Reshape", value, edge.constant([-1], np.int64))
    edge.add("Reshape", value, shape)


def arithmetic(edge: Edge) -> None:
    """A chain with constants, neutral or not."""
    for _ in range(edge.draft.random.randrange(1, 4)):
        operands = [edge.value, edge.scalar()]
        if edge.draft.random.random() < 0.3:
            operands.reverse()
        edge.add(edge.draft.pick(("Add", "Sub", "Mul", "Div", "Mul", "Min", "Max")), *operands)


def clips(edge: Edge) -> None:
    """One or two, with bounds in any order, or missing."""
    for _ in range(edge.draft.random.randrange(1, 3)):
        bounds = [edge.scalar() if edge.draft.random.random() < 0.8 else "" for _ in range(2)]
        edge.add("Clip", edge.value, *bounds)


def rectified(edge: Edge) -> None:
    """Relu around others, and twice."""
    for op_type in edge.draft.random.sample(("Relu", "Relu", "Abs", "Neg", "Neg", "LeakyRelu", "Sqrt"), 3):
        edge.add(op_type)


def casts(edge: Edge) -> None:
    """There and back, with a loss or without."""
    kinds = (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.FLOAT, TensorProto.BOOL)
    for kind in (edge.draft.pick(kinds), edge.draft.pick(kinds), TensorProto.FLOAT):
        edge.add("Cast", to=kind)


def concat_and_slice(edge: Edge) -> None:
    """Beside itself, and its first or second half again."""
    axis = edge.draft.random.randrange(edge.rank)
    value = edge.value
    size = edge.add("Shape", value)
    axes = edge.constant([axis], np.int64)
    width = edge.add("Gather", size, axes)
    both = edge.add("Concat", value, value, axis=axis - edge.rank)
    zero, far = edge.constant([0], np.int64), edge.constant([np.iinfo(np.int64).max], np.int64)
    ends = edge.draft.pick(((zero, width), (width, far)))
    edge.add("Slice", both, *ends, axes)


def pad_and_slice(edge: Edge) -> None:
    """A border that goes again."""
    before = [edge.draft.random.randrange(3) for _ in range(edge.rank)]
    after = [edge.draft.random.randrange(1, 3) for _ in range(edge.rank)]
    edge.add("Pad", edge.value, edge.constant([*before, *after], np.int64))
    starts, ends = edge.constant(before, np.int64), edge.constant([-size for size in after], np.int64)
    edge.add("Slice", edge.value, starts, ends)


def swish(edge: Edge) -> None:
    """x sigmoid(a x), hard or not, with a neutral factor or another."""
    value = edge.value
    if edge.draft.random.random() < 0.5:
        edge.add("Mul", value, edge.scalar())
    gate = edge.add(edge.draft.pick(("Sigmoid", "HardSigmoid", "Tanh", "Softplus")))
    edge.add("Mul", *edge.draft.pick(((value, gate), (gate, value))))


def gelu(edge: Edge) -> None:
    """x (1 + erf(x / s)) / 2, with the right numbers or nearly."""
    value = edge.value
    edge.add("Div", value, edge.constant(edge.draft.pick((np.sqrt(2), np.sqrt(2), 1.4142, 2.0))))
    edge.add("Add", edge.add("Erf"), edge.constant(1.0))
    edge.add("Mul", value, edge.value)
    edge.add("Mul", edge.value, edge.constant(edge.draft.pick((0.5, 0.5, 0.25))))


def normalization(edge: Edge) -> None:
    """Of layers, over the last axis or another, written out."""
    value, axis = edge.value, edge.draft.pick((-1, -1, -1, 0, edge.rank - 1))
    mean = edge.reduce("ReduceMean", value, axis)
    centered = edge.add("Sub", value, mean)
    square = edge.add("Pow", centered, edge.constant(edge.draft.pick((2.0, 2.0, 3.0))))
    variance = edge.reduce("ReduceMean", square, axis)
    deviation = edge.add("Sqrt", edge.add("Add", variance, edge.constant(1e-5)))
    edge.add("Div", centered, deviation)


def softmax(edge: Edge) -> None:
    """Written out or not, along any axis."""
    value, axis = edge.value, edge.draft.random.randrange(-edge.rank, edge.rank)
    if edge.draft.random.random() < 0.3:
        edge.add("Softmax", axis=axis)
        return
    exponential = edge.add("Exp", edge.add("Sub", value, edge.reduce("ReduceMax", value, axis)))
    edge.add("Div", exponential, edge.reduce("ReduceSum", exponential, axis))


def quantize(edge: Edge) -> None:
    """A pair of Q and DQ; once in a while the two do not agree."""
    scales = [edge.constant(edge.draft.pick((0.05, 0.05, 0.05, 1.0))) for _ in range(2)]
    kind = edge.draft.pick((np.uint8, np.int8))
    zeros = [edge.constant(edge.draft.pick((0, 0, 7)), kind) for _ in range(2)]
    edge.add("QuantizeLinear", edge.value, scales[0], zeros[0])
    if edge.draft.random.random() < 0.8:
        scales[1], zeros[1] = scales[0], zeros[0]
    edge.add("DequantizeLinear", edge.value, scales[1], zeros[1])


def select(edge: Edge) -> None:
    """One of two by a constant condition."""
    value = edge.value
    other = edge.add(edge.draft.pick(("Neg", "Identity", "Relu")))
    condition = edge.constant(edge.draft.pick((True, False)), np.bool_)
    edge.add("Where", condition, value, other)


def axes_and_back(edge: Edge) -> None:
    """One axis more, and gone again."""
    axis = edge.constant([edge.draft.random.randrange(-edge.rank - 1, edge.rank + 1)], np.int64)
    edge.add("Unsqueeze", edge.value, axis)
    edge.add("Squeeze", edge.value, axis)


def dropout(edge: Edge) -> None:
    """As exporters leave it: not in training."""
    edge.add("Dropout", edge.value, edge.constant(0.5), edge.constant(False, np.bool_), outputs=edge.draft.pick((1, 2)))


def twice(edge: Edge) -> None:
    """The same expression two times, added."""
    value, op_type = edge.value, edge.draft.pick(("Relu", "Sigmoid", "Exp", "Neg"))
    edge.add("Add", edge.add(op_type, value), edge.add(op_type, value))


PATTERNS: Sequence[Callable[[Edge], None]] = (
    transposes, reshape_to_itself, arithmetic, arithmetic, clips, rectified, casts, concat_and_slice, pad_and_slice,
    swish, gelu, normalization, softmax, quantize, select, axes_and_back, dropout, twice,
)  # fmt: skip


def insert_pattern(draft: Draft) -> str:
    """One of the patterns on some edge."""
    graph = draft.graph()
    read = {name for node in graph.node for name in node.input}
    ranks = {
        info.name: len(info.type.tensor_type.shape.dim)
        for info in (*graph.input, *graph.value_info)
        if info.type.tensor_type.elem_type == TensorProto.FLOAT and info.type.tensor_type.HasField("shape")
    }
    constants = {tensor.name for tensor in graph.initializer}
    name = draft.pick([name for name, rank in ranks.items() if name in read - constants and rank])
    pattern, edge = draft.pick(PATTERNS), Edge(draft, graph, name, ranks[name])
    pattern(edge)
    edge.splice()
    return f"{pattern.__name__} behind {name!r}"


def share_weight(draft: Draft) -> str:
    """Two nodes read one constant of that shape."""
    graph = draft.pick([graph for graph in draft.graphs() if graph.initializer])
    shapes = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer}
    pairs = [(a, b) for a, kind in shapes.items() for b, other in shapes.items() if a != b and kind == other]
    kept, dropped = draft.pick(pairs)
    for node in graph.node:
        node.input[:] = [kept if name == dropped else name for name in node.input]
    return f"{kept!r} in place of {dropped!r}"


MUTATIONS: tuple[Mutation, ...] = (insert_pattern, insert_pattern, insert_pattern, share_weight)
