"""Changes of what a model declares about its values, right or wrong; none changes what it computes."""

from __future__ import annotations

from onnx import TensorProto, helper

from mutants.draft import TYPES, Draft, Mutation

_WORDS = ("N", "batch", "", "a", "\x1b[7m", "-1", "N*2")


def forget_all(draft: Draft) -> str:
    """Nothing is declared of inner values."""
    for graph in draft.graphs():
        del graph.value_info[:]
    return "no inner shapes"


def forget_shape(draft: Draft) -> str:
    """A type without a shape; of inputs, outputs or all."""
    items = draft.pick([items for graph in draft.graphs() for items in (graph.input, graph.output, graph.value_info)])
    for item in items:
        if item.type.HasField("tensor_type"):
            item.type.tensor_type.ClearField("shape")
    return f"{len(items)} values without shape"


def forget_size(draft: Draft) -> str:
    """One size is free, has a name, or another number."""
    info = draft.info()
    dim = draft.pick(info.type.tensor_type.shape.dim)
    match draft.random.randrange(3):
        case 0:
            dim.Clear()
        case 1:
            dim.dim_param = draft.pick(_WORDS)
        case _:
            dim.dim_value = draft.number()
    return f"a size of {info.name[:40]!r} is {dim.dim_value or dim.dim_param!r}"


def rank(draft: Draft) -> str:
    """One axis more, or fewer."""
    info = draft.info()
    dims = info.type.tensor_type.shape.dim
    if dims and draft.random.random() < 0.5:
        del dims[draft.index(dims)]
    else:
        dims.add(dim_value=draft.number())
    return f"{info.name[:40]!r} has {len(dims)} axes"


def permuted(draft: Draft) -> str:
    """Sizes in another order."""
    info = draft.info()
    dims = [type(dim).FromString(dim.SerializeToString()) for dim in info.type.tensor_type.shape.dim]
    draft.random.shuffle(dims)
    del info.type.tensor_type.shape.dim[:]
    info.type.tensor_type.shape.dim.extend(dims)
    return f"sizes of {info.name[:40]!r} in another order"


def element_type(draft: Draft) -> str:
    """An inner value says that it is of another type, or of none."""
    info = draft.pick([info for graph in draft.graphs() for info in graph.value_info])
    info.type.tensor_type.elem_type = draft.pick(TYPES)
    return f"{info.name[:40]!r} is {info.type.tensor_type.elem_type}"


def declare_constant(draft: Draft) -> str:
    """A shape of an initializer beside the tensor's own: symbolic, wrong or of another type."""
    graph, index = draft.initializer()
    tensor = graph.initializer[index]
    dims = [draft.pick((*_WORDS[:4], draft.number(), size)) for size in tensor.dims] + [3] * draft.pick((0, 0, 0, 1))
    shape = draft.pick((dims, ["a"] * len(tensor.dims), None))
    kind = tensor.data_type if draft.random.random() < 0.8 else draft.pick(TYPES)
    graph.value_info.append(helper.make_tensor_value_info(tensor.name, max(kind, 0), shape))
    return f"constant {tensor.name[:40]!r} is declared {shape}"


def declare_twice(draft: Draft) -> str:
    """A value of another type or shape than before, or one that nobody defines."""
    graph = draft.graph()
    graph.value_info.append(
        helper.make_tensor_value_info(draft.name(), TensorProto.FLOAT, [draft.number() for _ in range(3)])
    )
    return f"{graph.value_info[-1].name[:40]!r} is declared once more"


def denote(draft: Draft) -> str:
    """Denotations and annotations of others."""
    annotation = draft.model.graph.quantization_annotation.add(tensor_name=draft.name())
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=draft.name())
    return "an annotation of quantization"


MUTATIONS: tuple[Mutation, ...] = (
    forget_all, forget_shape, forget_size, forget_size, rank, permuted, element_type, declare_constant,
    declare_constant, declare_twice, denote,
)  # fmt: skip
