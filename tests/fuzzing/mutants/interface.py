"""Changes of what a model shows to the world, and of what it says about itself."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import GraphProto, TensorProto, helper

from mutants.draft import TYPES, Draft, Mutation


def drop_interface(draft: Draft) -> str:
    """An input or output fewer."""
    items = _interface(draft)
    index = draft.index(items)
    name = items[index].name
    del items[index]
    return f"drop {name!r} from the interface"


def duplicate_interface(draft: Draft) -> str:
    """The same input or output twice."""
    items = _interface(draft)
    items.add().CopyFrom(draft.pick(items))
    return f"{items[-1].name!r} twice"


def rename_interface(draft: Draft) -> str:
    """An input or output takes a name that nothing else knows, or that something else has."""
    item = draft.pick(_interface(draft))
    before, item.name = item.name, draft.name()
    return f"{before!r} becomes {item.name[:40]!r}"


def rename_everywhere(draft: Draft) -> str:
    """A value takes a name that is hard to print, and everybody knows."""
    before, after = draft.pick(draft.values()), draft.name()
    for graph in draft.graphs():
        for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            item.name = after if item.name == before else item.name
    for owner in draft.owners():
        for node in owner.node:
            node.input[:] = [after if name == before else name for name in node.input]
            node.output[:] = [after if name == before else name for name in node.output]
    return f"{before!r} is called {after[:40]!r}"


def reverse_interface(draft: Draft) -> str:
    """Another order of inputs or outputs."""
    items = _interface(draft)
    turned = [onnx.ValueInfoProto.FromString(item.SerializeToString()) for item in reversed(items)]
    del items[:]
    items.extend(turned)
    return "the interface reversed"


def show_inner_value(draft: Draft) -> str:
    """An inner value, an input or a constant becomes an output, of which nothing is said."""
    graph = draft.graph()
    names = [name for node in graph.node for name in node.output if name]
    names += [item.name for item in (*graph.initializer, *graph.input)]
    graph.output.add(name=draft.pick(names))
    return f"{graph.output[-1].name!r} is an output"


def show_constant(draft: Draft) -> str:
    """An initializer becomes an input that may be left out."""
    graph, index = draft.initializer()
    tensor = graph.initializer[index]
    graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return f"constant {tensor.name!r} is an input"


def graph_name(draft: Draft) -> str:
    """Names and remarks mean nothing."""
    model, graph, word = draft.model, draft.graph(), draft.name()
    places = [(graph, "name"), (graph, "doc_string"), (draft.node(), "doc_string")]
    places += [(model, field) for field in ("producer_name", "doc_string", "domain")]
    message, field = draft.pick(places)
    setattr(message, field, word)
    return f"a remark says {word[:40]!r}"


def operator_sets(draft: Draft) -> str:
    """Another version, none, two, or one of a stranger."""
    imports = draft.model.opset_import
    match draft.random.randrange(5):
        case 0:
            del imports[:]
        case 1:
            imports.add(domain="", version=draft.random.randrange(1, 26))
        case 2:
            imports.add(domain=draft.name(), version=draft.number())
        case 3:
            draft.pick(imports).version = draft.number()
        case _:
            draft.pick(imports).version = draft.random.randrange(1, 26)
    return f"operator sets {[(item.domain[:20], item.version) for item in imports]}"


def format_version(draft: Draft) -> str:
    """Another version of the format; below 4, initializers are inputs."""
    draft.model.ir_version = draft.pick((0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13, 99, -1))
    return f"format {draft.model.ir_version}"


def functions(draft: Draft) -> str:
    """A function is missing, calls itself, comes twice or hides an operator."""
    model = draft.model
    word = draft.pick(("drop", "recursion", "twice", "hide", "attribute", "input", "opset"))
    if word == "hide":
        node = draft.pick([node for node in model.graph.node if node.input and node.output])
        copy = helper.make_node("Neg", ["p"], ["q"])
        names = [f"p{index}" if index else "p" for index in range(len(node.input))]
        body = helper.make_function(node.domain, node.op_type, names, ["q"], [copy], list(model.opset_import))
        model.functions.append(body)
        return f"a function {node.op_type}"
    index = draft.index(model.functions)
    function = model.functions[index]
    match word:
        case "drop":
            del model.functions[index]
        case "recursion":
            inner = helper.make_node(function.name, list(function.input), list(function.output))
            inner.domain = function.domain
            function.node.append(inner)
        case "twice":
            model.functions.add().CopyFrom(function)
        case "attribute":
            function.attribute.append(draft.name())
        case "input":
            function.input.append(draft.name())
        case _:
            del function.opset_import[:]
    return f"functions: {word}"


def training(draft: Draft) -> str:
    """What belongs to training."""
    draft.model.training_info.add().algorithm.name = "step"
    return "training information"


def empty_graph(draft: Draft) -> str:
    """No nodes, no graph."""
    if draft.random.random() < 0.5:
        draft.model.ClearField("graph")
    else:
        del draft.model.graph.node[:]
    return "an empty graph"


def element_type(draft: Draft) -> str:
    """An input or output says that it is of another type."""
    item = draft.pick(_interface(draft))
    item.type.tensor_type.elem_type = draft.pick(TYPES)
    return f"{item.name[:40]!r} is {item.type.tensor_type.elem_type}"


def kind_of_value(draft: Draft) -> str:
    """An input or output says that it is a sequence, a map, sparse or nothing."""
    item = draft.pick(_interface(draft))
    tensor = onnx.TypeProto.FromString(item.type.SerializeToString())
    match draft.random.randrange(6):
        case 0:
            item.type.sequence_type.elem_type.CopyFrom(tensor)
        case 1:
            item.type.optional_type.elem_type.CopyFrom(tensor)
        case 2:
            item.type.map_type.key_type = TensorProto.INT64
        case 3:
            item.type.sparse_tensor_type.elem_type = TensorProto.FLOAT
        case 4:
            item.ClearField("type")
        case _:
            item.type.ClearField("tensor_type")
    return f"{item.name[:40]!r} is a {item.type.WhichOneof('value')}"


def _interface(draft: Draft) -> Any:
    """Inputs or outputs of a graph."""
    graph: GraphProto = draft.graph()
    return draft.pick([items for items in (graph.input, graph.output) if items])


MUTATIONS: tuple[Mutation, ...] = (
    drop_interface, duplicate_interface, rename_interface, rename_everywhere, rename_everywhere, reverse_interface,
    show_inner_value, show_constant, graph_name, operator_sets, format_version, functions, training, empty_graph,
    element_type, kind_of_value,
)  # fmt: skip
