"""Under what conditions a training runs: threads, repeatable arithmetic, and an error for memory that runs out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

import torch

from graphpress.errors import NO_MEMORY, ResourceError, resource_fault
from graphpress.scratch import scratch_folder

_COMPILER: Final = "torch._inductor"
_COMPILED: Final = "TORCHINDUCTOR_CACHE_DIR"


@contextmanager
def exact(threads: int) -> Iterator[None]:
    """Torch with this many threads and repeatable algorithms; both as before at the end."""
    _import_compiler()
    deterministic: Any = torch.utils.deterministic  # a module with a property, which type stubs do not know
    threads_before, was_exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = deterministic.fill_uninitialized_memory
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(was_exact, warn_only=warned)
        deterministic.fill_uninitialized_memory = filled


def _import_compiler() -> None:
    """Repeatable algorithms are a setting of PyTorch's compiler too, whose import makes a folder for what it compiles:
    nothing, here.
    """
    if _COMPILER in sys.modules or _COMPILED in os.environ:
        return
    with scratch_folder() as folder:
        os.environ[_COMPILED] = str(folder)
        try:
            import_module(_COMPILER)
        finally:
            os.environ.pop(_COMPILED, None)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Report memory that runs out as an error with the remedy of a training."""
    try:
        yield
    except Exception as error:
        fault = resource_fault(error)
        if fault is None or fault.what != NO_MEMORY:
            raise
        raise ResourceError(NO_MEMORY, where="training", fix="lower batch_size") from error
