"""Whether weights can be trained and whether that fits into memory; the kernel's answer, later, would be a kill.

weights · (gradient + two moments + best + average + state) + activations of a batch · (value + gradient)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphpress.analysis.shapes import concrete_shapes
from graphpress.errors import UsageError
from graphpress.ir import Model, dims_of, is_constant

FLOAT_BYTES = 4
COPIES_OF_WEIGHTS = 6
COPIES_OF_ACTIVATIONS = 2
MEMORY_FILE = Path("/proc/meminfo")
GROUP_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))


def check_memory(model: Model, batch: int, parameters: Mapping[str, Any], where: str) -> None:
    """Check that training with this many samples at a time fits.

    Raises:
        UsageError: it does not.
    """
    free = available_memory()
    needed = COPIES_OF_WEIGHTS * sum(parameter.numel() * parameter.element_size() for parameter in parameters.values())
    needed += COPIES_OF_ACTIVATIONS * _activation_bytes(model, batch)
    if free is not None and needed > free:
        raise UsageError(
            f"training with {batch} samples at a time needs about {_gigabytes(needed)}, {_gigabytes(free)} are free",
            where=where,
            fix=f"lower batch_size (now {batch})" if batch > 1 else "use a machine with more memory",
        )


def check_precision(parameters: Mapping[str, Any], where: str) -> None:
    """Check that weights can take small steps.

    Raises:
        UsageError: some are in half precision, where most steps round to nothing.
    """
    half = [name for name, parameter in parameters.items() if parameter.element_size() < FLOAT_BYTES]
    if half:
        raise UsageError(
            f"{len(half)} weights are in half precision, {half[0]!r} for one",
            where=where,
            fix="train before the pass that makes them so, or start from the float32 model",
        )


def available_memory() -> int | None:
    """Bytes that are free, to this process's control group too; None where the system does not report it."""
    free = []
    try:
        entries = dict(line.split(":", 1) for line in MEMORY_FILE.read_text(encoding="ascii").splitlines())
        free.append(int(entries["MemAvailable"].split()[0]) * 1024)
        most, used = (file.read_text(encoding="ascii").strip() for file in GROUP_FILES)
        free.append(int(most) - int(used))
    except (OSError, KeyError, ValueError):
        pass
    return min(free, default=None)


def _activation_bytes(model: Model, batch: int) -> int:
    """Bytes of everything that is computed for a batch, as far as shapes are known."""
    shapes: dict[str, tuple[int, ...]] = {}
    for value in model.graph.inputs:
        dims = dims_of(value)
        if not is_constant(value) and dims and all(dim is not None for dim in dims[1:]):
            shapes[value.name or ""] = (dims[0] or batch, *(dim for dim in dims[1:] if dim is not None))
    concrete = concrete_shapes(model, shapes)
    return sum(
        math.prod(concrete[value.name]) * ((value.dtype.bitwidth + 7) // 8 if value.dtype else 4)
        for node in model.graph
        for value in node.outputs
        if value.name in concrete and not is_constant(value)
    )


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
