"""Kernels as object files, through TVM's LLVM code generator.

No calling convention of TVM's is used: a kernel's parameters are C pointers and integers, and its object file needs
nothing but itself.
"""

from __future__ import annotations

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
    _compile(functions, isa).write_to_file(str(path))


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
