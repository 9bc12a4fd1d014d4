"""Kernels as object files, each compiled once: what another model or an earlier run needed comes from the cache.

Kernels compile side by side in threads, since TVM's code generator runs outside of Python's lock; the bytes of an
object depend on nothing but its kernel. They do so in a copy of this process, for LLVM ends the one that it fails in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.objects import write_object
from graphpress.backends.tvm.kernels.kernel import Kernel, code_version, function
from graphpress.cache import ContentCache
from graphpress.forked import in_a_fork

ObjectKey = tuple[str, ...]
"""Everything that decides the bytes of an object."""


def write_objects(kernels: Mapping[str, Kernel], isa: Isa, folder: Path, cache: ContentCache) -> list[Path]:
    """One object file a kernel.

    Args:
        kernels: by their symbols.
        isa: for what they are compiled.
        folder: where the files go.
        cache: of objects; those that it lacks are put there.

    Returns:
        The files, in the order of the kernels.
    """
    files = {name: folder / f"{name}.o" for name in kernels}
    missing = {}
    for name, kernel in kernels.items():
        key = _key(kernel, isa)
        if (known := cache.get_bytes(*key)) is None:
            missing[key] = name
        else:
            files[name].write_bytes(known)
    if missing:
        in_a_fork(partial(_compile, [(kernels[name], files[name]) for name in missing.values()], isa))
        cache.put_bytes({key: files[name].read_bytes() for key, name in missing.items()})
    return list(files.values())


def _compile(tasks: Sequence[tuple[Kernel, Path]], isa: Isa) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda task: write_object([function(task[0], isa)], isa, task[1]), tasks):
            pass


def _key(kernel: Kernel, isa: Isa) -> ObjectKey:
    return "tvm object", code_version(), repr(isa), repr(kernel)
