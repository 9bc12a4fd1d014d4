"""Which instruction set a target gets kernels for."""

from __future__ import annotations

import platform

from graphpress.backends.tvm.codegen.features import known_processors
from graphpress.backends.tvm.codegen.isa import Isa, newest_isa
from graphpress.errors import BackendError, did_you_mean
from graphpress.runtime.environment import cpu_flags
from graphpress.targets import Processor, Target


def isa_of(target: Target) -> Isa:
    """The newest instruction set of a target's processor.

    Raises:
        BackendError: nothing is known of the processor, or there are no kernels for it.
    """
    processor, where = processor_of(target), f"--target {target.called}"
    if not processor.architecture:
        fix = "state [processor] in its file (docs/targets.md), or use --backend onnxruntime"
        raise BackendError("the target does not say which processor it has", where=where, fix=fix)
    isa = newest_isa(processor.architecture, processor.features, processor.model)
    if isa is None:
        what = f"there are no kernels for this {processor.architecture} processor"
        raise BackendError(what, where=where, fix="use --backend onnxruntime")
    if isa.processor not in (known := known_processors(isa.family)):
        fix = did_you_mean(isa.processor, known)
        raise BackendError(f"LLVM knows no processor {isa.processor!r}", where=where, fix=fix)
    return isa


def processor_of(target: Target) -> Processor:
    """What code is generated for: what the target says, or this machine's where it is meant."""
    return this_processor() if target.this_machine else target.processor


def this_processor() -> Processor:
    """That of this machine."""
    return Processor(platform.machine(), features=tuple(sorted(cpu_flags())))


def runs_natively(isa: Isa) -> bool:
    """Whether this machine has an instruction set."""
    here = this_processor()
    return isa.family == here.architecture and set(isa.needs) <= set(here.features)
