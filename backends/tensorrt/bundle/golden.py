"""Golden samples: what the device is fed, and what it should return, within a bound that the compression itself sets.

The device does not repeat ONNX Runtime bit by bit: it sums in another order and in another float type, and a value next
to the edge of a quantization step falls on the other side. How much that moves an output is of the size of what
quantization has moved it already, so that is the measure:

    moved = |delivered - original| / |delivered|            over all samples, Frobenius norms
    bound = 2 moved,  but at least the rounding of the float types in use, and at most one half

where *original* is the model in float and *delivered* what ONNX Runtime makes of the compressed one. (Measured there:
float16 in place of float32 around the same int8 grid moves ResNet-20 by 0.65 of what quantization moved it, and
MobileNet by 0.32; integer kernels in place of separate Q/DQ nodes move ResNet-20 by 0.48.) A wrong layout, a lost scale
or a swapped weight moves an output by about its whole norm. A relative distance of e leaves a cosine of at least
sqrt(1 - e^2), so that no bound of its own is set on it. Integers and truth values are compared by the share that
differs, under the same rule. Outputs that look like class scores must also agree on the class wherever that is no close
call: where the margin is more than twice what the compression has moved the scores.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphpress.backend import ShapeRange
from graphpress.data import Feed
from graphpress.data.inputs import is_floating, is_text
from graphpress.evaluation.outputs import Predictions, class_output

MAX_SAMPLES = 4
MAX_BYTES = 16 << 20
"""Samples beyond the first are left out where all together would be larger."""

MAX_BOUND = 0.5
ROUNDING = {"float32": 0.005, "int8": 0.01, "float16": 0.01, "bfloat16": 0.05, "float8e4m3fn": 0.1}
"""Relative distance that rounding alone explains after many layers, by the types that were requested.

Float32 products may run in TF32, of 10 bits; beside int8 the rest may run in float16.
"""
DLA_ROUNDING = 0.1
"""The accelerator rounds weights per tensor or per channel as it likes, on scales of its own."""


@dataclass(frozen=True)
class Golden:
    """One sample.

    Args:
        feed: what goes in.
        delivered: what the compressed model makes of it in ONNX Runtime.
        original: what the float model makes of it.
    """

    feed: Feed
    delivered: Feed
    original: Feed

    @property
    def nbytes(self) -> int:
        """Size of all arrays."""
        return sum(array.nbytes for part in (self.feed, self.delivered, self.original) for array in part.values())

    def packed(self) -> bytes:
        """The file: arrays ``input.0``, ``delivered.0``, ``original.0``, … in the order of the names."""
        parts = {"input": self.feed, "delivered": self.delivered, "original": self.original}
        arrays = {
            f"{part}.{index}": plain(array)
            for part, named in parts.items()
            for index, array in enumerate(named.values())
        }
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
        return stream.getvalue()


@dataclass(frozen=True)
class ExpectedOutput:
    """How near one output of the device comes.

    Args:
        name: the output.
        measure: ``relative`` distance of floats, ``share`` of integers that differ, or ``none`` where compression has
            moved its very size (of a list of detections, say): nothing can be expected then.
        moved: what the compression itself has moved, in that measure.
        bound: what passes.
        classes: it looks like class scores.
    """

    name: str
    measure: Literal["relative", "share", "none"]
    moved: float
    bound: float
    classes: bool = False


def portions(feed: Feed, profile: Mapping[str, ShapeRange]) -> list[Feed]:
    """The feed in pieces of the optimum batch, where every input has an open first axis; else whole."""
    rows = {len(array) for array in feed.values() if array.ndim}
    optimum = {profile[name].opt[0] for name in feed if name in profile and profile[name].opt}
    if len(rows) != 1 or len(optimum) != 1 or not all(name in profile and array.ndim for name, array in feed.items()):
        return [feed]
    count, size = rows.pop(), optimum.pop()
    starts = range(0, count - size + 1, size)
    return [{name: array[start : start + size] for name, array in feed.items()} for start in starts] or [feed]


def few(samples: Sequence[Golden]) -> list[Golden]:
    """As many as stay small together, at least one."""
    kept, total = list[Golden](), 0
    for sample in samples[:MAX_SAMPLES]:
        total += sample.nbytes
        if kept and total > MAX_BYTES:
            break
        kept.append(sample)
    return kept


def expected_outputs(samples: Sequence[Golden], types: Collection[str], *, dla: bool = False) -> list[ExpectedOutput]:
    """One for every output that holds numbers.

    Args:
        samples: the golden samples.
        types: float types that the model computes in.
        dla: it runs on the deep learning accelerator.
    """
    if not samples:
        return []
    floor = max([ROUNDING["float32"], *(ROUNDING.get(name, 0.0) for name in types), DLA_ROUNDING if dla else 0.0])
    classes = _class_output(samples[0])
    names = [name for name, array in samples[0].delivered.items() if not is_text(array.dtype)]
    return [_expected_output(name, samples, floor, name == classes) for name in names]


def _expected_output(name: str, samples: Sequence[Golden], floor: float, classes: bool) -> ExpectedOutput:
    pairs = [(sample.delivered[name], sample.original[name]) for sample in samples]
    if not all(delivered.shape == original.shape for delivered, original in pairs):
        return ExpectedOutput(name, "none", 0.0, 0.0)
    delivered, original = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    floating = is_floating(delivered.dtype)
    moved = (_relative if floating else _share)(delivered, original)
    bound = min(max(2 * moved, floor), MAX_BOUND)
    return ExpectedOutput(name, "relative" if floating else "share", moved, bound, classes)


def _relative(reference: np.ndarray, other: np.ndarray) -> float:
    wide, moved = reference.astype(np.float64), other.astype(np.float64)
    usable = np.isfinite(wide) & np.isfinite(moved)
    norm = float(np.linalg.norm(wide[usable]))
    return float(np.linalg.norm(wide[usable] - moved[usable])) / norm if norm else 0.0


def _share(reference: np.ndarray, other: np.ndarray) -> float:
    return float(np.mean(reference != other)) if reference.size else 0.0


def _class_output(sample: Golden) -> str | None:
    rows = next((len(array) for array in sample.feed.values() if array.ndim), 1)
    name = class_output(Predictions(sample.delivered, None, None, rows, rows), None)
    return name if name is not None and is_floating(sample.delivered[name].dtype) else None


def plain(array: np.ndarray) -> np.ndarray:
    """The array in a type that numpy alone reads: float32 for the float types that it does not know."""
    return array.astype(np.float32) if array.dtype.kind == "V" else array
