"""The C of a model: its header, its table of steps, and the places of what they read and write."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from graphpress.backends.tvm.c_names import comment, identifier, identifiers, string
from graphpress.backends.tvm.codegen.extent import Extent, RunTimeSize, is_open
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.kernel import Kernel, grid_of, sizes_of, slack_of, symbol, title
from graphpress.backends.tvm.plan import MemoryPlan, scratch_places
from graphpress.backends.tvm.program import (
    Buffer,
    CallerTensor,
    Constant,
    OpenSize,
    Program,
    Source,
    Step,
    Stripes,
    StripeStage,
)
from graphpress.backends.tvm.weights import Weights
from graphpress.runtime.compiled import ABI
from graphpress.runtime.environment import library_versions

if TYPE_CHECKING:
    import jinja2

C_TYPES: Mapping[str, str] = {
    "float32": "float",
    "float64": "double",
    "float16": "uint16_t",
    "bool": "uint8_t",
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True)
class ModelCode:
    """Everything that the C of a model is made of.

    Args:
        program: the steps.
        plan: where its buffers lie.
        weights: where its constants lie.
        isa: for what it is compiled.
        name: of the model.
        batched: whether the number of samples is open.
        weights_inside: whether the library has its weights in it.
    """

    program: Program
    plan: MemoryPlan
    weights: Weights
    isa: Isa
    name: str
    batched: bool
    weights_inside: bool

    @property
    def prefix(self) -> str:
        """What the names of all functions begin with."""
        return identifier(self.name)

    def render(self, template: str) -> str:
        """One of the templates, filled in."""
        return _template(template).render(self._words())

    def _words(self) -> dict[str, Any]:
        version = library_versions(("graphpress",))["graphpress"]
        inputs, outputs, sizes = self.program.inputs, self.program.outputs, self.program.sizes
        tensors = [
            _tensor(port, field, self._slack(port))
            for port, field in zip([*inputs, *outputs], identifiers([p.name for p in (*inputs, *outputs)]), strict=True)
        ]
        return {
            "title": f"{comment(self.name)}, compiled by graphpress {version} for {self.isa.name} ({self.isa.triple})",
            "prefix": self.prefix,
            "macro": self.prefix.upper(),
            "abi": ABI,
            "codes": text("runtime/graphpress_codes.h"),
            "batched": self.batched,
            "sizes": [
                _size(size, field) for size, field in zip(sizes, identifiers([s.name for s in sizes]), strict=True)
            ],
            "extents": [
                _extent(extent) for port in (*inputs, *outputs) if is_open(port.shape) for extent in port.shape
            ],
            "inputs": tensors[: len(inputs)],
            "outputs": tensors[len(inputs) :],
            "kernels": _kernels(self.program.steps, self.isa),
            "steps": self._steps(),
            "buffers": [[offset, buffer.bytes, buffer.fill & 255] for buffer, offset in self.plan.offsets.items()],
            "features": self.isa.needs,
            "arena_bytes": self.plan.bytes,
            "scratch_bytes": self.plan.scratch_bytes,
            "weights_bytes": self.weights.bytes,
            "weights_inside": self.weights_inside,
            "weights_checksum": self.weights.checksum,
        }

    def _slack(self, port: CallerTensor) -> int:
        """What kernels read behind its end."""
        return max((slack_of(step.kernel) for step in self.program.steps if port in step.operands.values()), default=0)

    def _steps(self) -> list[dict[str, Any]]:
        ports = {port: f"m->inputs[{number}]" for number, port in enumerate(self.program.inputs)}
        ports |= {port: f"m->outputs[{number}]" for number, port in enumerate(self.program.outputs)}
        buffers = {buffer: number for number, buffer in enumerate(self.plan.offsets)}
        where = _Places(buffers, self.weights.offsets, ports)
        return [self._step(scheduled, where) for scheduled in self.program.schedule()]

    def _step(self, scheduled: Step | Stripes, where: _Places) -> dict[str, Any]:
        stripes = scheduled if isinstance(scheduled, Stripes) else None
        rows = {} if stripes is None else {result: number for number, result in enumerate(stripes.kept)}
        calls = [_call(step, replace(where, rows=rows), self.isa) for step in scheduled.steps]
        return {
            "comment": comment(", ".join(scheduled.nodes)) or title(scheduled.steps[0].kernel),
            "calls": calls,
            "stages": [] if stripes is None else _stages(stripes),
            "tasks": scheduled.tasks(self.isa),
            "run_tasks": "" if stripes is not None else _run_tasks(scheduled.steps[0], self.isa),
        }


def text(name: str) -> str:
    """A file of the runtime, or of the examples."""
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


@cache
def _template(name: str) -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text(name))


@dataclass(frozen=True)
class _Places:
    """C expressions for what operands point to."""

    buffers: Mapping[Buffer, int]
    constants: Mapping[Constant, int]
    ports: Mapping[CallerTensor, str]
    rows: Mapping[Source, int] = field(default_factory=dict)

    def of(self, source: Source) -> str:
        if source in self.rows:
            return f"rows[{self.rows[source]}]"
        if isinstance(source, Buffer):
            return f"m->buffers[{self.buffers[source]}]"
        if isinstance(source, Constant):
            return f"m->weights + {self.constants[source]}"
        return self.ports[source]


def _tensor(port: CallerTensor, field: str, slack: int) -> dict[str, Any]:
    elements = int(math.prod(port.shape))
    return {
        "name": string(port.name),
        "field": field,
        "macro": field.upper(),
        "type": C_TYPES[port.plane.dtype],
        "dtype": port.dtype,
        "shape": [int(extent) for extent in port.shape],
        "open": is_open(port.shape),
        "element": np.dtype(port.dtype).itemsize,
        "elements": elements,
        "slack": slack,
        "bytes": elements * np.dtype(port.dtype).itemsize,
    }


def _kernels(steps: Sequence[Step], isa: Isa) -> list[dict[str, str]]:
    kernels = {symbol(step.kernel, isa): step.kernel for step in steps}
    return [{"symbol": name, "parameters": _parameters(kernel)} for name, kernel in kernels.items()]


def _parameters(kernel: Kernel) -> str:
    *reads, result = kernel.operands
    pointers = [*(f"const {C_TYPES[operand.dtype]} *" for operand in reads), f"{C_TYPES[result.dtype]} *"]
    return ", ".join([*pointers, *("int32_t" for _ in sizes_of(kernel))])


def _call(step: Step, where: _Places, isa: Isa) -> str:
    return f"{symbol(step.kernel, isa)}({_arguments(step, where)}, first, last)"


def _stages(stripes: Stripes) -> list[list[int]]:
    """Fields of ``graphpress_stage`` behind the function."""
    places = scratch_places(stripes)
    return [_stage(stage, place) for stage, place in zip(stripes.stages, places, strict=False)]


def _stage(stage: StripeStage, place: int) -> list[int]:
    work, plane, result = stage.work, stage.work.result, stage.step.result
    halo, element = plane.halo, np.dtype(plane.dtype).itemsize
    pixel, row = plane.stride * element, plane.row * element
    sizes = [row, plane.size * element, halo.top * row, halo.left * pixel, halo.right * pixel]
    fill = result.fill & 255 if isinstance(result, Buffer) else 0
    return [plane.height, work.rows, work.tasks, *work.window, stage.room, place, *sizes, fill]


def _arguments(step: Step, where: _Places) -> str:
    *reads, result = step.kernel.operands
    arguments = [f"(const {C_TYPES[operand.dtype]} *)({where.of(step.operands[operand.name])})" for operand in reads]
    sizes = [f"m->{_run_size(size)}" for size in sizes_of(step.kernel)]
    return ", ".join([*arguments, f"({C_TYPES[result.dtype]} *)({where.of(step.operands[result.name])})", *sizes])


def _run_tasks(step: Step, isa: Isa) -> str:
    """How many tasks a step has in a run, where that depends on its sizes; else an empty text."""
    grid = grid_of(step.kernel, isa)
    return " * ".join([str(step.images), *map(_extent, grid)]) if is_open(grid) else ""


def _extent(extent: int) -> str:
    """An extent, given the sizes of a run."""
    return extent.text(_run_size) if isinstance(extent, Extent) else str(extent)


def _run_size(size: RunTimeSize) -> str:
    return f"sizes[{size.number}]"


def _size(size: OpenSize, field: str) -> dict[str, Any]:
    limits = {"minimum": size.minimum, "maximum": size.size.maximum}
    return {"comment": comment(size.name), "field": field, **limits}
