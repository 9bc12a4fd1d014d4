"""What is added to the scores of attention, in the form that the operator takes.

ONNX Runtime takes the lowest number of the type for "sees nothing at all": a query all of whose keys it hides weighs
none of them, where the softmax weighs all alike. So the lowest number becomes one that is nearly as low.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from graphpress.ir import DataType, Editor, Node, Value, constant, input_of, is_standard, producer, rank_of, readers
from graphpress.passes.fusion._operands import number, orders, size

Mask = Value | np.ndarray
"""A value that is added to scores, or truth values: what a query may see."""
HIDDEN = -1e30
"""A score so low that its weight is zero beside any other."""
LIMITS = {DataType.FLOAT16: -60000.0}
"""The lowest number that a mask may hold, where that is not ``LIMIT``."""
LIMIT = -3e38


def maskings(node: Node) -> Iterator[tuple[Value, Mask]]:
    """What the node may mask, with what: a value that is added, or a constant choice of what softmax makes zero."""
    if node.op_type == "Add":
        yield from orders(node)
        return
    condition, (_, yes, no) = constant(node.inputs[0]), node.inputs
    if condition is None or yes is None or no is None:
        return
    for scores, other, seen in ((yes, no, condition), (no, yes, np.logical_not(condition))):
        limit = number(other, scores)
        if limit is not None and limit <= HIDDEN and seen.ndim >= 2 and seen.any(-1).all():
            yield scores, seen


def mask_refusal_reason(mask: Mask, queries: Value, transposed: Value, values: Value, *, guarded: bool) -> str | None:
    """Why the operator would not take the mask, or make something else of it.

    A mask whose width is not known broadcasts to the keys: were it wider than a lone key, the values would not fit.

    Args:
        mask: what is added to the scores.
        queries: [batch, heads, length, size], or without heads.
        transposed: the keys, the last two axes swapped.
        values: as many as keys.
        guarded: whether the weights of a query that sees no key are made zero.
    """
    rank, sizes = rank_of(queries) or 0, _sizes(mask)
    mask_rank = len(sizes)
    if not 2 <= mask_rank <= (4 if rank == 4 else 2):
        return "the mask has another rank than the operator takes"
    for axis, length in enumerate(sizes[:-2]):
        if length is None or length not in (1, size(queries, axis + 4 - mask_rank)):
            return "the mask may broadcast batch or heads"
    if sizes[-2] is None or sizes[-2] not in (1, size(queries, -2)):
        return "the mask is not known to have one row, or one for each query"
    keys = size(transposed, -1)
    if sizes[-1] not in (1, keys) and (isinstance(sizes[-1], int) or keys is None or keys != size(values, -2)):
        return "the mask is not known to be as wide as there are keys"
    hidden = _lowest_numbers(mask)
    if guarded and not _is_exact(hidden, queries) and (hidden is None or np.isneginf(hidden).any()):
        return "the mask may hide by the lowest number where the guard tells -inf from it"
    return None


def fitted(mask: Mask, queries: Value, values: Value, end: Node, edit: Editor) -> Value:
    """The mask as a value with a row for each query and a column for each key, of which no number is the lowest."""
    if isinstance(mask, np.ndarray):
        value = edit.add_constant_for(end, mask, "attention_mask")
    else:
        value = mask if _is_exact(_lowest_numbers(mask), queries) else _limited(mask, _limit(queries), end, edit)
    rows, columns = _sizes(mask)[-2:]
    if rows is not None and rows == size(queries, -2) and columns is not None and columns == size(values, -2):
        return value
    return _expanded(value, queries, values, end, edit)


def _sizes(mask: Mask) -> list[int | str | None]:
    if isinstance(mask, np.ndarray):
        return list(mask.shape)
    return [size(mask, axis) for axis in range(rank_of(mask) or 0)]


def _lowest_numbers(mask: Mask) -> np.ndarray | None:
    """The numbers of which a mask is made, where that can be told: it is constant, or chosen from constants."""
    if isinstance(mask, np.ndarray):
        return mask
    contents = constant(mask)
    choice = producer(mask, "Where")
    if contents is not None or choice is None:
        return contents
    branches = [constant(value) for value in choice.inputs[1:]]
    known = [branch.reshape(-1) for branch in branches if branch is not None]
    return np.concatenate(known) if len(known) == len(branches) else None


def _limit(queries: Value) -> float:
    return LIMIT if queries.dtype is None else LIMITS.get(queries.dtype, LIMIT)


def _is_exact(numbers: np.ndarray | None, queries: Value) -> bool:
    """Whether the operator makes of the numbers what the softmax makes of them."""
    if numbers is None:
        return False
    return bool(numbers.dtype == bool or np.all((numbers > _limit(queries)) | np.isneginf(numbers)))


def _limited(mask: Value, limit: float, end: Node, edit: Editor) -> Value:
    """No number lower than the limit: once for all layers that read the mask."""
    for reader in readers(mask):
        given = number(input_of(reader, 1), mask) if is_standard(reader, "Max") and reader.graph is end.graph else None
        if given is not None and math.isclose(given, limit, rel_tol=0.01):
            return reader.outputs[0]
    lowest = edit.add_constant_for(
        end, np.array(limit, mask.dtype.numpy() if mask.dtype else np.float32), "attention_lowest"
    )
    return edit.add_node("Max", [mask, lowest], before=end).outputs[0]


def _expanded(mask: Value, queries: Value, values: Value, end: Node, edit: Editor) -> Value:
    """The mask with a row for each query and a column for each key."""
    lengths = [size(queries, -2), size(values, -2)]
    if all(isinstance(length, int) for length in lengths):
        shape = edit.add_constant_for(end, np.array(lengths), "attention_mask_shape")
    else:
        parts = [
            edit.add_node("Shape", [value], {"start": -2, "end": -1}, before=end).outputs[0]
            for value in (queries, values)
        ]
        shape = edit.add_node("Concat", parts, {"axis": 0}, before=end).outputs[0]
    return edit.add_node("Expand", [mask, shape], before=end).outputs[0]
