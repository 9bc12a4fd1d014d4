"""The C of a model: its table of steps, with the places of what they read and write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.kernel import Kernel, symbol
from graphpress.backends.tvm.plan import MemoryPlan
from graphpress.backends.tvm.program import Buffer, CallerTensor, Constant, Program, Source, Step
from graphpress.backends.tvm.weights import Weights

SECOND_WORD = ("i8mm",)
"""Features of Arm processors that the first word of what the kernel tells has no room for."""
C_TYPES: Mapping[str, str] = {
    "float32": "float",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int32": "int32_t",
    "int64": "int64_t",
}


def model_source(program: Program, plan: MemoryPlan, weights: Weights, isa: Isa) -> str:
    """The file ``model.c``."""
    buffers = {buffer: number for number, buffer in enumerate(plan.offsets)}
    kernels = {symbol(step.kernel, isa): step.kernel for step in program.steps}
    ports = {port: f"m->inputs[{number}]" for number, port in enumerate(program.inputs)}
    ports |= {port: f"m->outputs[{number}]" for number, port in enumerate(program.outputs)}
    where = _Places(buffers, weights.offsets, ports)
    steps = [_step(number, step, where, isa) for number, step in enumerate(program.steps)]
    table = [
        f"    {{step_{number}, {step.images * step.kernel.tasks(isa)}}}," for number, step in enumerate(program.steps)
    ]
    places = [f"    {{{plan.offsets[buffer]}, {buffer.bytes}, {buffer.fill & 255}}}," for buffer in buffers]
    return "\n".join(
        [
            '#include "graphpress_runtime.h"',
            *(["#include <sys/auxv.h>"] if isa.family == "aarch64" else []),
            "",
            *(_declaration(name, kernel) for name, kernel in kernels.items()),
            "",
            *steps,
            "static const graphpress_step STEPS[] = {",
            *table,
            "};",
            "",
            "static const graphpress_buffer BUFFERS[] = {",
            *places,
            "};",
            "",
            "static int processor_fits(void) {",
            f"    return {_processor_check(isa)};",
            "}",
            "",
            "const graphpress_model graphpress_compiled = {",
            "    .steps = STEPS,",
            "    .buffers = BUFFERS,",
            f"    .arena_bytes = {plan.bytes},",
            f"    .weights_bytes = {weights.bytes},",
            f"    .weights_checksum = {weights.checksum}ull,",
            f"    .step_count = {len(steps)},",
            f"    .buffer_count = {len(buffers)},",
            f"    .input_count = {len(program.inputs)},",
            f"    .output_count = {len(program.outputs)},",
            "    .processor_fits = processor_fits,",
            "};",
            "",
        ]
    )


@dataclass(frozen=True)
class _Places:
    """C expressions for what operands point to."""

    buffers: Mapping[Buffer, int]
    constants: Mapping[Constant, int]
    ports: Mapping[CallerTensor, str]

    def of(self, source: Source) -> str:
        if isinstance(source, Buffer):
            return f"m->buffers[{self.buffers[source]}]"
        if isinstance(source, Constant):
            return f"m->weights + {self.constants[source]}"
        return self.ports[source]


def _declaration(name: str, kernel: Kernel) -> str:
    *reads, result = kernel.operands
    parameters = [*(f"const {C_TYPES[operand.dtype]} *" for operand in reads), f"{C_TYPES[result.dtype]} *"]
    return f"void {name}({', '.join(parameters)}, int32_t, int32_t);"


def _step(number: int, step: Step, where: _Places, isa: Isa) -> str:
    *reads, result = step.kernel.operands
    arguments = [f"(const {C_TYPES[operand.dtype]} *)({where.of(step.operands[operand.name])})" for operand in reads]
    arguments.append(f"({C_TYPES[result.dtype]} *)({where.of(step.operands[result.name])})")
    return "\n".join(
        [
            f"/* {', '.join(step.nodes).replace('*/', '* /') or type(step.kernel).__name__} */",
            f"static void step_{number}(const graphpress_instance *m, int32_t first, int32_t last) {{",
            f"    {symbol(step.kernel, isa)}({', '.join(arguments)}, first, last);",
            "}",
            "",
        ]
    )


def _processor_check(isa: Isa) -> str:
    """In C: whether the processor has all features that the kernels use."""
    supports = _arm_supports if isa.family == "aarch64" else _x86_supports
    return " && ".join(map(supports, isa.needs)) or "1"


def _x86_supports(feature: str) -> str:
    """GCC writes the names of features without underscores."""
    return f'__builtin_cpu_supports("{feature.replace("_", "")}")'


def _arm_supports(feature: str) -> str:
    """The kernel tells features in two words, by the names of /proc/cpuinfo."""
    word = "HWCAP2" if feature in SECOND_WORD else "HWCAP"
    return f"(getauxval(AT_{word}) & {word}_{feature.upper()})"
