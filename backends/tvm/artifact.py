"""A program as libraries with a header, its weights beside them.

libmodel.so    exports the functions of model.h, and needs libc alone
libmodel.a     the same, to link into a program; several models may go into one
model.h        the functions, and names, shapes and types of inputs and outputs
weights.bin    the constants, as kernels read them, where the libraries do not hold them
model.json     the same facts for programs that load the library
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graphpress.backends.tvm.c_names import as_json
from graphpress.backends.tvm.codegen.extent import Extent, RunTimeSize
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.emit import ModelCode, text
from graphpress.backends.tvm.kernels.kernel import symbol, title
from graphpress.backends.tvm.kernels.shared_code import NUMBERS, shared
from graphpress.backends.tvm.object_files import write_objects
from graphpress.backends.tvm.plan import plan_memory
from graphpress.backends.tvm.program import CallerTensor, Constant, Program, Step
from graphpress.backends.tvm.toolchain import CToolchain, find_c_toolchain
from graphpress.backends.tvm.weights import gather_weights
from graphpress.cache import NO_CACHE, ContentCache
from graphpress.errors import BackendError
from graphpress.runtime.compiled import ABI, DESCRIPTION, LIBRARY, WEIGHTS
from graphpress.runtime.environment import library_versions

HEADER, ARCHIVE = "model.h", "libmodel.a"
EXAMPLES = ("examples/CMakeLists.txt", "examples/example.c", "examples/example.cpp")
WEIGHTS_SOURCE = "examples/weights.S"
"""Puts the weights into a program, or into the library."""
MOST_INSIDE = 1 << 30
"""Bytes of weights to which the code of a library surely reaches, wherever they lie in it."""
RUNTIME = (
    "graphpress_codes.h",
    "graphpress_platform.h",
    "graphpress_processor.h",
    "graphpress_runtime.c",
    "graphpress_runtime.h",
)
TEMPLATES = {
    "runtime/model.c.j2": "model.c",
    "runtime/model.h.j2": HEADER,
    **{f"{name}.j2": name for name in (*EXAMPLES, WEIGHTS_SOURCE)},
}
"""What is written of each of them."""
COMPILING = (
    "-std=gnu11",
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-asynchronous-unwind-tables",
    "-pthread",
)
EXPORTS = "exports.map"
LINKING = (
    "-shared",
    "-pthread",
    "-s",
    "-Wl,--gc-sections",
    "-Wl,-z,defs",
    "-Wl,-z,noexecstack",
    "-Wl,-z,noseparate-code",
    f"-Wl,--version-script={EXPORTS}",
)


@dataclass(frozen=True)
class LibraryOptions:
    """How a library presents itself.

    Args:
        name: of the model: names of functions begin with it.
        batched: whether the first axis of inputs and outputs takes any number of samples.
        weights_inside: whether it has its weights in it.
    """

    name: str = "model"
    batched: bool = True
    weights_inside: bool = False


def delivered(options: LibraryOptions) -> Sequence[str]:
    """Of what ``write_library`` writes, the files for users."""
    weights = () if options.weights_inside else (WEIGHTS, WEIGHTS_SOURCE)
    return LIBRARY, HEADER, ARCHIVE, DESCRIPTION, *weights, *EXAMPLES


def write_library(
    program: Program,
    isa: Isa,
    out: Path,
    cache: ContentCache = NO_CACHE,
    options: LibraryOptions = LibraryOptions(),
) -> Path:
    """Compile and link a program.

    Args:
        program: the steps.
        isa: for what they were lowered.
        out: a folder; what is ``delivered``, objects and sources are written there.
        cache: of compiled kernels.
        options: how it presents itself.

    Returns:
        The library.

    Raises:
        BackendError: there is no C compiler for the instruction set, it fails, or the weights are too large to go
            inside.
    """
    toolchain = find_c_toolchain(isa.triple)
    program = _sharing_code(program)
    code = _code(program, isa, options)
    objects = write_objects({symbol(step.kernel, isa): step.kernel for step in program.steps}, isa, out, cache)
    code.weights.write(out / WEIGHTS)
    for name in RUNTIME:
        (out / name).write_text(text(f"runtime/{name}"), encoding="utf-8")
    (out / "examples").mkdir(exist_ok=True)
    for template, file in TEMPLATES.items():
        (out / file).write_text(code.render(template), encoding="utf-8")
    (out / EXPORTS).write_text(f"{{ global: {code.prefix}_*; local: *; }};\n", encoding="utf-8")
    sources = ["model.c", *([WEIGHTS_SOURCE] if options.weights_inside else [])]
    _link(toolchain, sources, [file.name for file in objects], out)
    (out / DESCRIPTION).write_text(as_json(_description(code, out / LIBRARY)), encoding="utf-8")
    return out / LIBRARY


def _sharing_code(program: Program) -> Program:
    """Its kernels read the numbers in which they differ."""
    return program.with_steps({step: _reading_numbers(step) for step in program.steps})


def _reading_numbers(step: Step) -> Step:
    kernel, numbers = shared(step.kernel)
    return (
        replace(step, kernel=kernel, operands={**step.operands, NUMBERS: Constant(numbers)}) if numbers.size else step
    )


def _code(program: Program, isa: Isa, options: LibraryOptions) -> ModelCode:
    weights = gather_weights(program)
    if options.weights_inside and weights.bytes > MOST_INSIDE:
        what = f"{weights.bytes >> 20} MiB of weights do not go into a library"
        raise BackendError(what, where="--weights inside", fix="leave it out: they lie beside it then")
    return ModelCode(program, plan_memory(program), weights, isa, options.name, options.batched, options.weights_inside)


def _link(toolchain: CToolchain, sources: Sequence[str], kernels: Sequence[str], folder: Path) -> None:
    objects = [*(f"{Path(source).stem}.o" for source in sources), *kernels]
    for source, written in zip(sources, objects, strict=False):
        toolchain.run([*COMPILING, f'-DWEIGHTS_FILE="{WEIGHTS}"', "-c", source, "-o", written], folder)
    toolchain.run([*LINKING, "-o", LIBRARY, *objects, "-lm"], folder)
    toolchain.archive(ARCHIVE, objects, folder)


def _description(code: ModelCode, library: Path) -> dict[str, Any]:
    program, isa = code.program, code.isa
    names = {size.size: size.name for size in program.sizes}
    return {
        "name": code.name,
        "prefix": code.prefix,
        "abi": ABI,
        "graphpress": library_versions(("graphpress",))["graphpress"],
        "isa": {"name": isa.name, "architecture": isa.family, "features": list(isa.needs)},
        "batch": "open" if code.batched else "fixed",
        "weights": "inside" if code.weights_inside else "beside",
        "sizes": [{"name": size.name, "minimum": size.minimum, "maximum": size.size.maximum} for size in program.sizes],
        "inputs": [_tensor(port, names) for port in program.inputs],
        "outputs": [_tensor(port, names) for port in program.outputs],
        "memory": {
            "arena_bytes_per_sample": code.plan.bytes,
            "scratch_bytes_per_thread": code.plan.scratch_bytes,
            "weights_bytes": code.weights.bytes,
        },
        "library_sha256": hashlib.sha256(library.read_bytes()).hexdigest(),
        "weights_checksum": f"{code.weights.checksum:016x}",
        "steps": [
            {
                "kernels": [title(step.kernel) for step in scheduled.steps],
                "symbols": [symbol(step.kernel, isa) for step in scheduled.steps],
                "nodes": list(scheduled.nodes),
                "tasks": scheduled.tasks(isa),
            }
            for scheduled in program.schedule()
        ],
    }


def _tensor(port: CallerTensor, names: Mapping[RunTimeSize, str]) -> dict[str, Any]:
    """A tensor; each open axis with how often it has which size, and what it has beside them (without a name)."""
    opened = {
        str(axis): {"".join(names[size] for size in monomial): times for monomial, times in extent.terms.items()}
        for axis, extent in enumerate(port.shape)
        if isinstance(extent, Extent)
    }
    shape = [int(extent) for extent in port.shape]
    return {"name": port.name, "dtype": port.dtype, "shape": shape, **({"open": opened} if opened else {})}
