"""Changes of nodes, their edges and attributes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from mutants.draft import Draft, InapplicableError, Mutation

_OPERATORS = (
    "Relu", "Neg", "Identity", "Add", "Mul", "Sub", "Div", "MatMul", "Gemm", "Conv", "Transpose", "Reshape", "Concat",
    "Softmax", "Shape", "Cast", "Clip", "Pad", "Slice", "Gather", "Expand", "ReduceMean", "LayerNormalization", "LSTM",
    "BatchNormalization", "QuantizeLinear", "DequantizeLinear", "Dropout", "If", "Loop", "Scan", "Constant",
    "ConstantOfShape", "Range", "Einsum", "Split", "Squeeze", "Unsqueeze", "Where", "TopK", "NonZero", "Frobnicate",
)  # fmt: skip
_HARMLESS = ("Identity", "Relu", "Neg", "Abs", "Sigmoid", "Tanh", "Floor", "Softmax", "Dropout")
_ATTRIBUTES = (
    "axis", "axes", "perm", "to", "group", "pads", "strides", "kernel_shape", "dilations", "auto_pad", "keepdims",
    "alpha", "epsilon", "transA", "transB", "mode", "value", "body", "then_branch", "hidden_size", "direction",
    "block_size", "equation", "training_mode", "allowzero",
)  # fmt: skip
_TEXTS = (
    "",
    "SAME_UPPER",
    "VALID",
    "NOTSET",
    "nearest",
    "linear",
    "ij,jk->ik",
    "reverse",
    "\x1b[31m",
    "\n",
    "x" * 9999,
)


def drop_node(draft: Draft) -> str:
    """Its results are then missing."""
    owner = draft.owner()
    index = draft.index(owner.node)
    name = owner.node[index].op_type
    del owner.node[index]
    return f"drop {name}"


def bypass_node(draft: Draft) -> str:
    """Its readers read its first input."""
    owner = draft.owner()
    index = draft.pick([i for i, node in enumerate(owner.node) if node.input and node.output])
    node = owner.node[index]
    given, result = node.input[0], node.output[0]
    for other in owner.node:
        other.input[:] = [given if name == result else name for name in other.input]
    return f"bypass {node.op_type}"


def duplicate_node(draft: Draft) -> str:
    """With the same results, or with others that nobody reads."""
    owner = draft.owner()
    copy = onnx.NodeProto()
    copy.CopyFrom(draft.pick(owner.node))
    if draft.random.random() < 0.6:
        copy.output[:] = [f"{name}/again" for name in copy.output]
    owner.node.insert(draft.index(owner.node), copy)
    return f"duplicate {copy.op_type}"


def swap_nodes(draft: Draft) -> str:
    """Two nodes change places in the list."""
    owner = draft.owner()
    first, second = draft.index(owner.node), draft.index(owner.node)
    nodes = list(owner.node)
    nodes[first], nodes[second] = nodes[second], nodes[first]
    del owner.node[:]
    owner.node.extend(nodes)
    return f"swap {first} and {second}"


def shuffle_nodes(draft: Draft) -> str:
    """No order is left."""
    owner = draft.owner()
    nodes = list(owner.node)
    draft.random.shuffle(nodes)
    del owner.node[:]
    owner.node.extend(nodes)
    return "shuffle the nodes"


def retype_node(draft: Draft) -> str:
    """Another operator."""
    node = draft.node()
    before, node.op_type = node.op_type, draft.pick(_OPERATORS)
    return f"{before} becomes {node.op_type}"


def change_domain(draft: Draft) -> str:
    """Another operator set."""
    node = draft.node()
    node.domain = draft.pick(("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "graphpress.example", "nowhere", "\x1b[1m"))
    return f"{node.op_type} of {node.domain!r}"


def rewire_input(draft: Draft) -> str:
    """One input reads another value: perhaps one of another type, one that comes later, or none."""
    node = draft.pick([node for owner in draft.owners() for node in owner.node if node.input])
    index = draft.index(node.input)
    node.input[index] = draft.name()
    return f"input {index} of {node.op_type} reads {node.input[index][:40]!r}"


def number_of_inputs(draft: Draft) -> str:
    """One more, one fewer, or two in turn."""
    node = draft.node()
    inputs = list(node.input)
    match draft.random.randrange(3):
        case 0:
            inputs.append(draft.name())
        case 1:
            inputs = inputs[:-1]
        case _:
            inputs.reverse()
    node.input[:] = inputs
    return f"{node.op_type} reads {[name[:40] for name in inputs]}"


def number_of_outputs(draft: Draft) -> str:
    """One more, or one fewer."""
    node = draft.node()
    outputs = list(node.output)
    node.output[:] = [*outputs, draft.name()] if draft.random.random() < 0.5 else outputs[:-1]
    return f"{node.op_type} gives {len(node.output)} results"


def rename_output(draft: Draft) -> str:
    """A result takes a new name, of which its readers know or not."""
    owner = draft.owner()
    node = draft.pick([node for node in owner.node if node.output])
    index, name = draft.index(node.output), draft.name()
    before, node.output[index] = node.output[index], name
    if draft.random.random() < 0.5:
        for other in owner.node:
            other.input[:] = [name if read == before else read for read in other.input]
    return f"result {before!r} becomes {name[:40]!r}"


def rename_node(draft: Draft) -> str:
    """Names of nodes mean nothing, and are shown everywhere."""
    node = draft.node()
    node.name = draft.name()
    return f"{node.op_type} is called {node.name[:40]!r}"


def insert_node(draft: Draft) -> str:
    """One more node on an edge; it changes numbers, no shape."""
    owner = draft.owner()
    index = draft.pick([i for i, node in enumerate(owner.node) if any(node.input)])
    node = owner.node[index]
    position = draft.pick([i for i, name in enumerate(node.input) if name])
    fresh = f"inserted{draft.random.randrange(10**6)}"
    owner.node.insert(index, helper.make_node(draft.pick(_HARMLESS), [node.input[position]], [fresh]))
    owner.node[index + 1].input[position] = fresh
    return f"{owner.node[index].op_type} before {owner.node[index + 1].op_type}"


def drop_attribute(draft: Draft) -> str:
    """The default takes its place, if there is one."""
    node = draft.pick([node for owner in draft.owners() for node in owner.node if node.attribute])
    index = draft.index(node.attribute)
    name = node.attribute[index].name
    del node.attribute[index]
    return f"{node.op_type} without {name}"


def add_attribute(draft: Draft) -> str:
    """One that the node has already, one that it may have, or one that it must not have."""
    node = draft.node()
    item = node.attribute.add(name=draft.pick(_ATTRIBUTES))
    _fill(draft, item, draft.random.randrange(9))
    return f"{node.op_type} with {item.name}"


def change_attribute(draft: Draft) -> str:
    """Another value of the same type."""
    item = draft.attribute()
    if item.type == AttributeProto.INT:
        item.i = draft.number()
    elif item.type == AttributeProto.INTS and item.ints:
        item.ints[draft.index(item.ints)] = draft.number()
    elif item.type == AttributeProto.FLOAT:
        item.f = draft.pick((0.0, -1.0, 1e-30, 1e30, float("inf"), float("nan")))
    elif item.type == AttributeProto.STRING:
        item.s = draft.pick((*(text.encode() for text in _TEXTS), b"\xff\xfe"))
    else:
        raise InapplicableError
    return f"another {item.name}"


def retype_attribute(draft: Draft) -> str:
    """A value of another type, or a type that the value is not of."""
    item = draft.attribute()
    if draft.random.random() < 0.3:
        item.type = draft.random.randrange(15)
        return f"{item.name} says that it is {item.type}"
    name = item.name
    item.Clear()
    item.name = name
    _fill(draft, item, draft.random.randrange(9))
    return f"{name} of type {item.type}"


def refer_to_attribute(draft: Draft) -> str:
    """To an attribute of the function, in a function or not."""
    item = draft.attribute()
    item.ref_attr_name = draft.pick(("alpha", "nowhere", item.name))
    return f"{item.name} refers to {item.ref_attr_name}"


def empty_body(draft: Draft) -> str:
    """A subgraph without nodes, outputs or anything."""
    item = draft.pick([i for owner in draft.owners() for node in owner.node for i in node.attribute if i.HasField("g")])
    match draft.random.randrange(4):
        case 0:
            item.g.Clear()
        case 1:
            del item.g.output[:]
        case 2:
            item.ClearField("g")
        case _:
            item.graphs.add().CopyFrom(item.g)
    return f"an empty {item.name}"


def long_loop(draft: Draft) -> str:
    """A loop over nothing much, of very many steps."""
    value = draft.pick([name for node in draft.model.graph.node for name in node.output if name] or ["nowhere"])
    trips = draft.pick((0, 3, 1000, 10**9, 2**62))
    boolean = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("lo.go", "lo.on")]
    step = helper.make_tensor_value_info("lo.step", TensorProto.INT64, [])
    state = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("lo.in", "lo.out")]
    nodes = [helper.make_node("Identity", ["lo.go"], ["lo.on"]), helper.make_node("Neg", ["lo.in"], ["lo.out"])]
    body = helper.make_graph(nodes, "lo", [step, boolean[0], state[0]], [boolean[1], state[1]])
    draft.model.graph.initializer.extend(
        numpy_helper.from_array(array, name)
        for name, array in {"lo.trips": np.array(trips), "lo.true": np.array(True), "lo.one": np.float32(1)}.items()
    )
    draft.model.graph.node.append(helper.make_node("Loop", ["lo.trips", "lo.true", "lo.one"], ["lo.end"], body=body))
    draft.model.graph.output.append(helper.make_tensor_value_info("lo.end", TensorProto.FLOAT, []))
    return f"a loop of {trips} steps beside {value[:40]!r}"


def wrap_in_if(draft: Draft) -> str:
    """A node moves into both branches of a condition that is constant or not."""
    graph = draft.model.graph
    index = draft.pick([i for i, node in enumerate(graph.node) if len(node.output) == 1])
    node = graph.node[index]
    branches = {}
    for branch in ("then_branch", "else_branch"):
        inner = onnx.NodeProto()
        inner.CopyFrom(node)
        inner.output[0] = f"{branch}/result"
        output = onnx.ValueInfoProto(name=inner.output[0])
        branches[branch] = helper.make_graph([inner], branch, [], [output])
    condition = numpy_helper.from_array(np.array(draft.random.random() < 0.5), f"condition{index}")
    graph.initializer.append(condition)
    wrapped = helper.make_node("If", [condition.name], list(node.output), **branches)
    graph.node[index].CopyFrom(wrapped)
    return f"{node.op_type} inside an If"


def _fill(draft: Draft, item: AttributeProto, kind: int) -> None:
    match kind:
        case 0:
            item.type, item.i = AttributeProto.INT, draft.number()
        case 1:
            item.type = AttributeProto.INTS
            item.ints.extend(draft.number() for _ in range(draft.random.randrange(5)))
        case 2:
            item.type, item.f = AttributeProto.FLOAT, draft.random.uniform(-2, 2)
        case 3:
            item.type, item.s = AttributeProto.STRING, draft.pick(_TEXTS).encode()
        case 4:
            item.type = AttributeProto.TENSOR
            item.t.CopyFrom(draft.tensor())
        case 5:
            item.type = AttributeProto.GRAPH
            item.g.name = "empty"
        case 6:
            item.type = AttributeProto.GRAPHS
        case 7:
            item.type = AttributeProto.TYPE_PROTO
        case _:
            item.type = AttributeProto.SPARSE_TENSOR


MUTATIONS: tuple[Mutation, ...] = (
    drop_node, bypass_node, duplicate_node, swap_nodes, shuffle_nodes, retype_node, change_domain, rewire_input,
    number_of_inputs, number_of_outputs, rename_output, rename_node, insert_node, insert_node, drop_attribute,
    add_attribute, change_attribute, change_attribute, retype_attribute, refer_to_attribute, empty_body, long_loop,
    wrap_in_if,
)  # fmt: skip
