"""The interface of a model: names, order, types and shapes of its inputs and outputs, declared and computed.

A pass may leave a shape more exactly known than it was. It may change nothing else of what a caller sees.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphpress.ir import Model, Refusal, Shape, TensorType, Value, dims_of, label
from graphpress.ir.values import dims_text


def declared_fault(model: Model, wanted: Model) -> str | None:
    """What a model declares otherwise than another whose interface it must have, in words, or None.

    Inputs take what they took: no size that was open is fixed. Outputs may be declared more exactly.
    """
    for kind, values, before in (
        ("input", model.graph.inputs, wanted.graph.inputs),
        ("output", model.graph.outputs, wanted.graph.outputs),
    ):
        if (names := _names(values)) != (expected := _names(before)):
            return f"{kind}s are {names}, not {expected}"
        for value, old in zip(values, before, strict=True):
            if not _declares_as(value, old, exactly=kind == "input"):
                return f"{kind} {value.name!r} is declared {_declaration(value)}, not {_declaration(old)}"
    return None


def computed_fault(outputs: Mapping[str, Any], model: Model) -> str | None:
    """What of computed outputs is not as the model declares it, in words, or None."""
    if sorted(outputs) != sorted(names := _names(model.graph.outputs)):
        return f"outputs are {sorted(outputs)}, not {names}"
    for value in model.graph.outputs:
        if not _computes_as(result := outputs[value.name or ""], value):
            return f"output {value.name!r} is {_kind(result)}, and is declared {_declaration(value)}"
    return None


def unlike(outputs: Mapping[str, Any], wanted: Mapping[str, Any], of_any_size: Collection[str] = ()) -> str | None:
    """What of computed outputs is not of the type and shape that another model computes, in words, or None.

    Args:
        outputs: by name.
        wanted: those of the other, from the same inputs. Numbers are not compared.
        of_any_size: outputs whose sizes depend on numbers: of them the number of axes alone has to be the same.
    """
    if sorted(outputs) != sorted(wanted):
        return f"outputs are {sorted(outputs)}, not {sorted(wanted)}"
    for name, other in wanted.items():
        if not _alike(outputs[name], other, in_size=name not in of_any_size):
            return f"output {name!r} is {_kind(outputs[name])}, not {_kind(other)}"
    return None


def correct_outputs(model: Model, outputs: Mapping[str, Any]) -> list[Refusal]:
    """Leave open, in place, what outputs declare and do not compute; says which."""
    corrected = []
    for value in model.graph.outputs:
        result, dims = outputs.get(value.name or ""), dims_of(value)
        if not isinstance(result, np.ndarray) or dims is None or _has_dims(result, dims):
            continue
        why = f"its declared shape {dims_text(value.shape or ())} is not believed: it is computed as {_kind(result)}"
        corrected.append(Refusal(label(value), why, "declare what is computed, or no shape at all"))
        sizes = dims if len(dims) == result.ndim else (None,) * result.ndim
        value.shape = Shape([dim if dim == size else None for dim, size in zip(sizes, result.shape, strict=True)])
    return corrected


def _names(values: Iterable[Value]) -> list[str]:
    return [value.name or "" for value in values]


def _declares_as(value: Value, old: Value, *, exactly: bool) -> bool:
    if old.type is not None and value.type != old.type:
        return False
    dims, before = dims_of(value), dims_of(old)
    if exactly or before is None:
        return not exactly or dims == before
    return (
        dims is not None
        and len(dims) == len(before)
        and all(was in (None, now) for was, now in zip(before, dims, strict=True))
    )


def _computes_as(result: Any, value: Value) -> bool:
    if not isinstance(result, np.ndarray):
        return not isinstance(value.type, TensorType)
    if isinstance(value.type, TensorType) and result.dtype != object and result.dtype != value.type.dtype.numpy():
        return False
    dims = dims_of(value)
    return dims is None or _has_dims(result, dims)


def _has_dims(array: np.ndarray, dims: Sequence[int | None]) -> bool:
    return len(dims) == array.ndim and all(dim in (None, size) for dim, size in zip(dims, array.shape, strict=True))


def _alike(result: Any, other: Any, *, in_size: bool) -> bool:
    if not isinstance(result, np.ndarray) or not isinstance(other, np.ndarray):
        return type(result) is type(other)
    same = result.shape == other.shape if in_size else result.ndim == other.ndim
    return same and result.dtype == other.dtype


def _kind(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__


def _declaration(value: Value) -> str:
    kind = "of no type" if value.dtype is None else value.dtype.name.lower()
    return f"{kind}{'' if value.shape is None else dims_text(value.shape)}"
