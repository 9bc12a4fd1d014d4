"""Changes of tensors: their shape, type, and how their elements are held."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, numpy_helper

from mutants.draft import TYPES, Draft, InapplicableError, Mutation


def drop_tensor(draft: Draft) -> str:
    """What reads it reads nothing."""
    graph, index = draft.initializer()
    name = graph.initializer[index].name
    del graph.initializer[index]
    return f"drop constant {name!r}"


def duplicate_tensor(draft: Draft) -> str:
    """Under the same name, or another."""
    graph, index = draft.initializer()
    graph.initializer.add().CopyFrom(graph.initializer[index])
    if draft.random.random() < 0.5:
        graph.initializer[-1].name = draft.name()
    return f"constant {graph.initializer[-1].name[:40]!r} twice"


def rename_tensor(draft: Draft) -> str:
    """Its readers do not know."""
    graph, index = draft.initializer()
    before, graph.initializer[index].name = graph.initializer[index].name, draft.name()
    return f"constant {before!r} becomes {graph.initializer[index].name[:40]!r}"


def reshape(draft: Draft) -> str:
    """A size, a rank or an order that fits the elements or not."""
    tensor = draft.tensor()
    dims = list(tensor.dims)
    match draft.random.randrange(4):
        case 0 if dims:
            dims[draft.index(dims)] = draft.number()
        case 1:
            dims.append(draft.pick((1, 1, 0, draft.number())))
        case 2:
            dims = dims[::-1]
        case _:
            dims = dims[:-1]
    tensor.dims[:] = dims
    return f"{tensor.name!r} is {dims}"


def retype(draft: Draft) -> str:
    """The same bytes as another type."""
    tensor = draft.tensor()
    before, tensor.data_type = tensor.data_type, draft.pick(TYPES)
    return f"{tensor.name!r} is {tensor.data_type}, not {before}"


def convert(draft: Draft) -> str:
    """The same numbers in another type."""
    tensor = draft.tensor()
    kind = draft.pick((np.float16, np.float32, np.float64, np.int32, np.int64, np.int8, np.bool_))
    with np.errstate(all="ignore"):
        tensor.CopyFrom(numpy_helper.from_array(_array(tensor).astype(kind), tensor.name))
    return f"{tensor.name!r} as {kind.__name__}"


def cut(draft: Draft) -> str:
    """Too few or too many bytes."""
    tensor = draft.tensor()
    data = tensor.raw_data
    if not data:
        raise InapplicableError
    tensor.raw_data = draft.pick((data[:-1], data[: len(data) // 2], b"", data + b"\0", data * 2))
    return f"{tensor.name!r} holds {len(tensor.raw_data)} bytes of {len(data)}"


def typed(draft: Draft) -> str:
    """Elements in a typed field: in its place, in a wrong one, or beside the bytes."""
    tensor = draft.tensor()
    array = _array(tensor)
    if array.dtype.kind not in "fiu" or array.size > 4096:
        raise InapplicableError
    with np.errstate(all="ignore"):
        field = draft.pick(("float_data", "int32_data", "int64_data", "double_data", "uint64_data"))
        limits = {"int32_data": np.int32, "int64_data": np.int64, "uint64_data": np.uint64}
        getattr(tensor, field).extend(np.nan_to_num(array).astype(limits.get(field, np.float64)).ravel().tolist())
    if draft.random.random() < 0.7:
        tensor.ClearField("raw_data")
    return f"{tensor.name!r} in {field}"


def segment(draft: Draft) -> str:
    """A part of a tensor, which nobody reads."""
    tensor = draft.tensor()
    tensor.segment.begin, tensor.segment.end = draft.number(), draft.number()
    return f"{tensor.name!r} is a segment"


def strings(draft: Draft) -> str:
    """Texts where numbers were."""
    tensor = draft.tensor()
    tensor.ClearField("raw_data")
    if draft.random.random() < 0.7:
        tensor.data_type = TensorProto.STRING
    tensor.string_data.extend([b"a", b"\xff", "é".encode()][: draft.random.randrange(4)])
    return f"{tensor.name!r} of texts"


def contents(draft: Draft) -> str:
    """Other numbers: equal ones, none that is finite, huge ones, or one that is far off."""
    tensor = draft.tensor()
    array = _array(tensor).copy()
    if not array.size:
        raise InapplicableError
    if array.dtype.kind == "f":
        with np.errstate(all="ignore"):
            number = draft.pick((0.0, 1.0, -1.0, 1e-30, 1e30, float("inf"), float("nan")))
            array = draft.pick((np.full_like(array, number), array * array.dtype.type(number)))
    elif array.dtype.kind == "i":
        limits = np.iinfo(array.dtype)
        array.ravel()[draft.random.randrange(array.size)] = min(max(draft.number(), limits.min), limits.max)
    else:
        raise InapplicableError
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return f"other numbers in {tensor.name!r}"


def packed(draft: Draft) -> str:
    """As four or two bits an element, well packed or not."""
    tensor = draft.tensor()
    size = int(np.prod(np.array(tensor.dims, dtype=object))) if tensor.dims else 1
    if not 0 <= size < 4096:
        raise InapplicableError
    tensor.ClearField("raw_data")
    kinds = (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1, TensorProto.FLOAT8E4M3FN, 25, 26)
    tensor.data_type = draft.pick(kinds)
    tensor.raw_data = draft.random.randbytes(draft.pick(((size + 1) // 2, size // 2, size, (size + 3) // 4)))
    return f"{tensor.name!r} packed as {tensor.data_type}"


def sparse(draft: Draft) -> str:
    """A sparse initializer, sound or not."""
    graph, index = draft.initializer()
    tensor = graph.initializer[index]
    values = numpy_helper.from_array(np.ones(2, np.float32), tensor.name)
    places = numpy_helper.from_array(np.array(draft.pick(([0, 1], [1, 0], [5, 10**9], [-1, 0]))), "places")
    item = graph.sparse_initializer.add(dims=list(tensor.dims))
    item.values.CopyFrom(values)
    item.indices.CopyFrom(places)
    if draft.random.random() < 0.7:
        del graph.initializer[index]
    return f"{values.name!r} is sparse"


def _array(tensor: TensorProto) -> np.ndarray:
    """The elements, where they can be read."""
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # a tensor that was spoiled before
        raise InapplicableError from error


MUTATIONS: tuple[Mutation, ...] = (
    drop_tensor, duplicate_tensor, rename_tensor, reshape, reshape, retype, convert, cut, typed, segment, strings,
    contents, contents, packed, sparse,
)  # fmt: skip
