"""Kernels as object files, through TVM's LLVM code generator.

No calling convention of TVM's is used: a kernel's parameters are C pointers and integers, and its object file needs
nothing but itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import tvm
from tvm import tirx

from graphpress.backends.tvm.codegen.builder import Expr
from graphpress.backends.tvm.codegen.isa import Isa


def write_object(functions: Sequence[Expr], isa: Isa, path: Path) -> None:
    """Compile functions, each with its C symbol, into one object file.

    Args:
        functions: of ``KernelBuilder.function``.
        isa: for what they were built.
        path: the file to write.
    """
    path.write_bytes(_object(_compile(functions, isa)))


def _object(module: Expr) -> bytes:
    """An object file in memory: where LLVM cannot write to a disk, it ends the process."""
    descriptor = os.memfd_create("object")
    try:
        module.write_to_file(f"/proc/self/fd/{descriptor}", "o")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def assembly(functions: Sequence[Expr], isa: Isa) -> str:
    """The same as text, to see which instructions came out."""
    return str(_compile(functions, isa).inspect_source("asm"))


def _compile(functions: Sequence[Expr], isa: Isa) -> Expr:
    module = tvm.IRModule({function.attrs["global_symbol"]: function for function in functions})
    passes = tirx.transform
    lowered = tvm.ir.transform.Sequential(
        [
            passes.FlattenBuffer(),  # before anything is simplified: thirteen times faster, with the same result
            passes.VectorizeLoop(True),
            passes.UnrollLoop(),
            passes.StmtSimplify(),
            passes.LowerIntrin(),
        ]
    )(module)
    return tvm.get_global_func("target.build.llvm")(lowered, isa.target)
