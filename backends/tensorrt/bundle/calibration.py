"""The calibration cache of TensorRT, with which a float model is quantized implicitly.

    TRT-100300-EntropyCalibration2          the version that reads it, and the algorithm
    input: 3c010204                         a tensor, and its scale: the bytes of a float32, the highest first

One scale a tensor, symmetric, eight bits. Tensors without such an encoding are left out: TensorRT reports them and
computes them in float. Weights are not in it: TensorRT finds their scales itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from graphpress.ir import Model, Value, is_constant
from graphpress.ir.encoding import AffineEncoding, encoding_of, override_of, static_affine


def calibration_cache(model: Model, annotated: Model, tensorrt: str) -> str:
    """The text of ``calibration.cache``.

    Args:
        model: the float model that will be built.
        annotated: the same graph with its encodings, by the same names.
        tensorrt: the version that reads it, such as ``10.3``.
    """
    scales = {value.name: scale for value in _activations(annotated) if (scale := _scale(value)) is not None}
    present = dict.fromkeys(value.name for value in _activations(model) if value.name in scales)
    lines = [f"{name}: {struct.pack('>f', scales[name]).hex()}" for name in present]
    return "\n".join([f"TRT-{version_number(tensorrt)}-EntropyCalibration2", *lines, ""])


def version_number(version: str) -> int:
    """NVIDIA's one number for a version: its parts in two digits each from 10 on, in one before.

    >>> version_number("8.5.2"), version_number("10.3")
    (8502, 100300)
    """
    major, minor, patch, *_ = (*(int(part) for part in version.split(".")), 0, 0)
    return major * 1000 + minor * 100 + patch if major < 10 else major * 10000 + minor * 100 + patch


def _activations(model: Model) -> Iterator[Value]:
    """What is computed or fed in the main graph, in order."""
    yield from (value for value in model.graph.inputs if value.name)
    for node in model.graph:
        yield from (value for value in node.outputs if value.name and not is_constant(value))


def _scale(value: Value) -> float | None:
    """The scale in which the value is read: its own, else that of the first reader that has one."""
    overrides = (override_of(use.node, use.idx) for use in value.uses())
    encodings = (encoding_of(value), *(override for override in overrides if not isinstance(override, str)))
    encoding = static_affine(next((encoding for encoding in encodings if encoding is not None), None))
    return float(encoding.scale) if encoding is not None and _fits(encoding) else None


def _fits(encoding: AffineEncoding) -> bool:
    return encoding.dtype == "int8" and encoding.axis is None and not encoding.zero_point.any()
